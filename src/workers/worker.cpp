// A worker: serves the slots of one database's async projections.
//
// In rounds: it asks which slots have work (find_work), the longest unserved first, and applies one batch of each that
// no other worker is at. Each batch is one transaction, so a worker may be killed anywhere; what makes it exactly once
// is the slot's row (slot.hpp), not this file. Claims in shared memory only keep workers from queueing for one slot.
// A worker that leaves work behind wakes another one, which does the same: as many run as there is work for.
//
// A batch that fails as a whole (not at one event: those are recorded, failure.hpp) is put off, with a growing pause,
// and the worker goes on with the other slots.
#include "catalog/projection.hpp"
#include "events/failure.hpp"
#include "events/problem.hpp"
#include "pg/scope.hpp"
#include "workers/background.hpp"
#include "workers/batch.hpp"
#include "workers/chores.hpp"
#include "workers/claims.hpp"
#include "workers/problems.hpp"

namespace workers {

constinit Worker *me = nullptr;
constinit MemoryContext round_memory = nullptr;
constinit int projection_count = 0, owner_count = 0;
constinit TimeoutId yield_timeout = MAX_TIMEOUTS, scrub_timeout = MAX_TIMEOUTS;
volatile sig_atomic_t yielding = false, ousted = false;

namespace {

constexpr int64 surplus_after = 30 * 1000; // milliseconds without work

constinit pg::flat_map<Oid, TimestampTz> *served = nullptr; // by owner, when the last batch ended
constinit TimestampTz last_useful = 0;
constinit TimestampTz look_again = 0; // after looking for work has failed
constinit long patience = 1;          // milliseconds
constinit char activity[NAMEDATALEN * 4];
volatile sig_atomic_t terminated = false;
constinit bool finished = false; // leaves because nothing is left to do here

} // namespace

const char *said() { return activity; }

void say(const char *what) {
    strlcpy(activity, what, sizeof activity);
    debug_query_string = activity[0] ? activity : nullptr;
    pgstat_report_activity(activity[0] ? STATE_RUNNING : STATE_IDLE, debug_query_string);
}

ErrorData *catch_error(void (*body)(void *self), void *self) {
    ErrorData *volatile error = nullptr;
    PG_TRY();
    { body(self); }
    PG_CATCH();
    {
        MemoryContextSwitchTo(round_memory);
        error = CopyErrorData();
        FlushErrorState();
        // A timeout that was armed for what failed must not strike what comes next.
        disable_all_timeouts(false);
        QueryCancelPending = false;
        AbortOutOfAnyTransaction();
    }
    PG_END_TRY();
    MemoryContextSwitchTo(round_memory);
    return error;
}

namespace {

// ---------------------------------------------------------------------------------------------------------- rounds

bool is_async(const catalog::Projection *projection) { return projection->async && !OidIsValid(projection->shadow_of); }

int count_owners() {
    pg::vector<Oid> owners;
    for (catalog::Projection *each : catalog::all())
        if (is_async(each)) owners.push_back(each->owner());
    std::sort(owners.begin(), owners.end());
    return static_cast<int>(std::unique(owners.begin(), owners.end()) - owners.begin());
}

// In turns of the owners, those first who hold the fewest workers; what is one owner's stays in its order. Among those
// who hold as many, the one first whom this worker has not served for longest.
void take_turns(std::span<events::Work> work) {
    struct Turn {
        int round, held;
        TimestampTz served;
        std::size_t place; // in the order that was
        events::Work work;
    };
    pg::flat_map<Oid, int> rounds;
    pg::vector<Turn> turns;
    with_shared(LW_SHARED, [&] {
        for (const events::Work &each : work) {
            auto known = served->find(each.owner);
            turns.push_back({rounds[each.owner]++, held_by(each.owner), known == served->end() ? 0 : known->second,
                             turns.size(), each});
        }
    });
    std::sort(turns.begin(), turns.end(), [](const Turn &a, const Turn &b) {
        if (a.round != b.round) return a.round < b.round;
        if (a.held != b.held) return a.held < b.held;
        return a.served != b.served ? a.served < b.served : a.place < b.place;
    });
    for (std::size_t i = 0; i < work.size(); i++) work[i] = turns[i].work;
}

void look(Found &found) {
    SetCurrentStatementStartTimestamp();
    StartTransactionCommand();
    found.installed = OidIsValid(catalog::catalog_relation());
    found.current = found.installed && catalog::sql_is_current();
    auto all = catalog::all();
    found.any = !all.empty();
    projection_count = std::count_if(all.begin(), all.end(), is_async);
    owner_count = count_owners();
    if (projection_count > 0) {
        pg::vector<events::Work> work = events::find_work(&found.again);
        auto *kept =
            static_cast<events::Work *>(MemoryContextAlloc(round_memory, sizeof(events::Work) * (work.size() + 1)));
        std::copy(work.begin(), work.end(), kept);
        found.work = {kept, work.size()};
        take_turns(found.work);
    }
    CommitTransactionCommand();
}

void check_signals() {
    if (terminated) proc_exit(0);
    CHECK_FOR_INTERRUPTS();
}

// A limit that this process can raise again: the setting may change.
void limit_memory() {
    rlimit limit;
    if (getrlimit(RLIMIT_DATA, &limit) != 0) return;
    limit.rlim_cur =
        worker_memory == 0 ? limit.rlim_max : std::min<rlim_t>(rlim_t{1024} * worker_memory, limit.rlim_max);
    if (setrlimit(RLIMIT_DATA, &limit) != 0)
        ereport(LOG, (errmsg("pg_projections: could not limit a worker's memory: %m")));
}

void reload() {
    if (!ConfigReloadPending) return;
    ConfigReloadPending = false;
    ProcessConfigFile(PGC_SIGHUP);
    limit_memory();
}

// More workers than allowed: the youngest leave.
bool too_many() {
    return with_shared(LW_SHARED, [] {
        int older = 0;
        for (Worker &worker : shared::memory->all())
            older += serves(worker, MyDatabaseId) && worker.generation < me->generation;
        return older >= max_workers;
    });
}

bool idle_surplus(TimestampTz now) {
    if (now - last_useful < surplus_after * 1000) return false;
    return with_shared(LW_SHARED, [] {
        for (Worker &worker : shared::memory->all())
            if (&worker != me && serves(worker, MyDatabaseId) && worker.generation < me->generation &&
                phase_of(worker) == Phase::idle)
                return true;
        return false;
    });
}

// Leaves, unless something has been announced or counted since this round looked: the last worker would have missed it.
void leave_unless_announced() {
    finished = with_shared(LW_EXCLUSIVE, [] {
        if (me->announced) return false;
        free_entry(*me);
        return true;
    });
    if (finished) proc_exit(0);
}

// Looks for work once and does it. Returns the milliseconds until there may be more; 0: look again at once.
long round() {
    MemoryContextReset(round_memory);
    MemoryContextSwitchTo(round_memory);
    set_phase(*me, Phase::busy);
    pg_atomic_write_u32(&me->signalled, 0);
    with_shared(LW_EXCLUSIVE, [] { me->announced = false; });
    pg_memory_barrier();

    Found found;
    if (ErrorData *error = caught([&] { look(found); })) {
        look_again = after_failure(finding, error);
        return poll_interval;
    }
    events::forget_problem(finding);
    write_counts(found);
    if (projection_count == 0 && !(scrub_rate > 0 && found.any)) {
        if (found.current) {
            clean_history();
            launch_rebuilds(found);
        }
        leave_unless_announced();
        return 0;
    }
    bool useful = false;
    for (size_t i = 0; i < found.work.size(); i++) {
        check_signals();
        reload();
        if (too_many()) break;
        events::Work work = found.work[i];
        if (!claim(work, pace(work).not_before, pace(work).events, &found.again)) continue;
        if (anything_unclaimed(found.work.subspan(i + 1))) call_for_company();
        TimestampTz began = GetCurrentTimestamp();
        useful |= run_batch(work);
        TimestampTz ended = GetCurrentTimestamp();
        (*served)[work.owner] = ended;
        // What conflicted is to be tried again soon, not when somebody wakes us.
        long pause = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), pace(work).not_before);
        if (pause > 0) found.again = found.again < 0 ? pause : std::min(found.again, pause);
        // Meanwhile others have got something to do.
        if (owner_count > 1 && ended - began > slow_after * 1000) {
            last_useful = ended;
            return 0;
        }
    }
    if (useful) {
        last_useful = GetCurrentTimestamp();
        patience = 1;
        return 0;
    }
    clean_history();
    launch_rebuilds(found);
    scrub(found);
    // What is undecided is asked again, ever less often while it lasts: the end of the transaction wakes us as a rule.
    patience = found.again < 0 ? 1 : std::min<long>(patience * 2, 100);
    return found.again < 0 ? poll_interval : std::min<long>(std::max(found.again, patience), poll_interval);
}

// Waits for the latch. Returns whether time ran out.
bool wait_for_latch(long milliseconds) {
    int events = WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, milliseconds, PG_WAIT_EXTENSION);
    ResetLatch(MyLatch);
    return events & WL_TIMEOUT;
}

bool signalled() { return pg_atomic_read_u32(&me->signalled) != 0; }

// What fails to find work is not to be tried at every commit.
void sleep_off_failure() {
    set_phase(*me, Phase::busy);
    for (;;) {
        check_signals();
        reload();
        TimestampTz now = GetCurrentTimestamp();
        if (now >= look_again) return;
        wait_for_latch(TimestampDifferenceMilliseconds(now, look_again) + 1);
    }
}

// A worker that was woken for nothing, as another one is at the slot whose events woke it, is not woken for each of
// them: it looks again in a moment. Returns the milliseconds that are left to sleep.
long rest(long milliseconds) {
    set_phase(*me, Phase::resting);
    long moment = std::min<long>(milliseconds, rest_milliseconds);
    wait_for_latch(moment);
    return signalled() || phase_of(*me) != Phase::resting ? 0 : milliseconds - moment;
}

void sleep(long milliseconds) {
    set_phase(*me, Phase::idle);
    pg_memory_barrier();
    if (signalled()) return;
    if (wait_for_latch(milliseconds)) pgstat_report_stat(true);
}

[[noreturn]] void run() {
    bool woken = false;
    last_useful = GetCurrentTimestamp();
    for (;;) {
        check_signals();
        reload();
        if (too_many()) {
            finished = true;
            proc_exit(0);
        }
        sleep_off_failure();
        long wait = round();
        TimestampTz now = GetCurrentTimestamp();
        if (idle_surplus(now)) leave_unless_announced();
        bool for_nothing = woken && now - last_useful > 5000 * rest_milliseconds;
        if (wait > 0 && for_nothing) wait = rest(wait);
        if (wait > 0) sleep(wait);
        woken = phase_of(*me) == Phase::woken || signalled();
    }
}

// --------------------------------------------------------------------------------------------------------- process

void die_soon(SIGNAL_ARGS) {
    terminated = true;
    die(postgres_signal_arg);
}

// Runs when this process no longer counts as a session of its database, whose commands may be waiting for that.
void end(int, Datum) {
    with_shared(LW_EXCLUSIVE, [] {
        if (phase_of(*me) == Phase::free) return;
        Oid database = pg_atomic_read_u32(&me->database);
        bool ended = ousted || events::ended_by_event();
        if (ended && OidIsValid(me->projection))
            mark_slow({me->projection, me->slot, me->owner}, GetCurrentTimestamp(), remember_at_most);
        free_entry(*me);
        if (!finished) announce(database, !terminated && !ended);
    });
}

// Takes the entry that the launcher has reserved. False if it is not awaited any more.
bool enter(int entry, uint64 generation, Oid *database) {
    return with_shared(LW_EXCLUSIVE, [&] {
        Worker &worker = shared::memory->workers[entry];
        if (worker.generation != generation || phase_of(worker) != Phase::starting) return false;
        *database = pg_atomic_read_u32(&worker.database);
        if (is_held(*database)) {
            free_entry(worker);
            announce(*database, false);
            return false;
        }
        worker.process = MyProc;
        worker.pid = MyProcPid;
        me = &worker;
        return true;
    });
}

// What ALTER DATABASE or ALTER ROLE set for sessions is not for us.
void pin_settings() {
    constexpr const char *values[][2] = {
        {"application_name", "pg_projections worker"},
        {"search_path", "pg_catalog, pg_temp"},
        {"statement_timeout", "0"},
        {"lock_timeout", "0"},
        {"idle_in_transaction_session_timeout", "0"},
        {"idle_session_timeout", "0"},
        {"transaction_timeout", "0"},
        {"default_transaction_isolation", "read committed"},
        {"default_transaction_read_only", "off"},
        {"default_transaction_deferrable", "off"},
        {"session_replication_role", "origin"},
        {"row_security", "on"},
    };
    for (auto &[name, value] : values)
        if (GetConfigOption(name, true, false)) SetConfigOption(name, value, PGC_SUSET, PGC_S_OVERRIDE);
}

} // namespace
} // namespace workers

extern "C" {

PGDLLEXPORT void projections_worker_main(Datum entry);

void projections_worker_main(Datum entry) {
    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    pqsignal(SIGTERM, workers::die_soon);
    uint64 generation;
    memcpy(&generation, MyBgworkerEntry->bgw_extra, sizeof generation);
    Oid database;
    if (!workers::enter(DatumGetInt32(entry), generation, &database)) proc_exit(0);
    on_shmem_exit(workers::end, 0);
    BackgroundWorkerUnblockSignals();
    BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
    workers::yield_timeout = RegisterTimeout(USER_TIMEOUT, workers::yield_if_all_are_slow);
    workers::scrub_timeout = RegisterTimeout(USER_TIMEOUT, workers::interrupt_scrub);
    workers::pin_settings();
    workers::limit_memory();
    workers::round_memory = AllocSetContextCreate(TopMemoryContext, "projections round", ALLOCSET_DEFAULT_SIZES);
    workers::start_paces();
    workers::served = pg::make<pg::flat_map<Oid, TimestampTz>>(
        AllocSetContextCreate(TopMemoryContext, "projections owners", ALLOCSET_SMALL_SIZES));
    workers::run();
}

} // extern "C"
