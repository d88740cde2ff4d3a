// A worker: serves the slots of one database's async projections.
//
// In rounds: it asks which slots have work (find_work), the longest unserved first, and applies one batch of each that
// no other worker is at. Each batch is one transaction, so a worker may be killed anywhere; what makes it exactly once
// is the slot's row (slot.hpp), not this file. Claims in shared memory only keep workers from queueing for one slot.
// A worker that leaves work behind wakes another one, which does the same: as many run as there is work for.
//
// A batch that fails as a whole (not at one event: those are recorded, failure.hpp) is put off, with a growing pause,
// and the worker goes on with the other slots.
#include "async/background.hpp"
#include "async/conflict.hpp"
#include "async/failed_call.hpp"
#include "async/shared.hpp"
#include "async/slot.hpp"
#include "async/throughput.hpp"
#include "async/wake.hpp"
#include "catalog/projection.hpp"
#include "pg/scope.hpp"

namespace async {
namespace {

constexpr int batch_milliseconds_aim = 100;
constexpr int64 first_batch = 1000, smallest_batch = 10;
constexpr int rest_milliseconds = 20;
constexpr int yield_after = 1000;
constexpr int64 surplus_after = 30 * 1000; // milliseconds without work
constexpr int64 longest_pause = 60 * 1000;
constexpr int64 remember_slow = 600 * 1000;
constexpr size_t most_paces = 4096;

// How much to take at once; what this worker has learned about a slot.
struct Pace {
    int64 events = first_batch;
    TimestampTz not_before = 0; // after a conflict with somebody else
    int conflicts = 0;          // in a row
};

// A conflict that does not go away is told: somebody holds a lock, or an event raises it every time.
constexpr int conflicts_to_tell = 20;

constinit Worker *me = nullptr;
constinit MemoryContext round_memory = nullptr; // reset before each round
constinit MemoryContext pace_memory = nullptr;
constinit pg::flat_map<uint64, Pace> *paces = nullptr;
constinit TimestampTz last_useful = 0;
constinit TimestampTz look_again = 0; // after looking for work has failed
constinit TimestampTz next_cleaning = 0, next_launching = 0;
constinit TimestampTz next_scrub = 0;
constinit long patience = 1;        // milliseconds
constinit int projection_count = 0; // async ones, as of the last look
constinit char activity[NAMEDATALEN * 4];

// What may fail beside the batches of slots.
constexpr Work finding{InvalidOid, -1}, cleaning{InvalidOid, -2}, counting{InvalidOid, -3}, measuring{InvalidOid, -4},
    auditing{InvalidOid, -5}, scrubbing{InvalidOid, -9};

volatile sig_atomic_t terminated = false, yielding = false;
constinit TimeoutId yield_timeout = MAX_TIMEOUTS, scrub_timeout = MAX_TIMEOUTS;
constinit bool finished = false; // leaves because nothing is left to do here

TimestampTz after(TimestampTz now, int64 milliseconds) { return TimestampTzPlusMilliseconds(now, milliseconds); }

Pace &pace(Work work) {
    if (paces == nullptr || paces->size() > most_paces) {
        MemoryContextReset(pace_memory);
        paces = pg::make<pg::flat_map<uint64, Pace>>(pace_memory);
    }
    return (*paces)[static_cast<uint64>(work.projection) << 32 | static_cast<uint32>(work.slot)];
}

// -------------------------------------------------------------------------------------------------------- problems

bool is(const Problem &problem, Work work) {
    return problem.database == MyDatabaseId && problem.projection == work.projection && problem.slot == work.slot;
}

// A worker of the same database may have met the problem first: the pause holds for all. Returns the next try.
TimestampTz record_problem(Work work, const ErrorData *error) {
    TimestampTz now = GetCurrentTimestamp();
    return with_shared(LW_EXCLUSIVE, [&] {
        auto &all = shared->problems;
        Problem *problem =
            std::find_if(std::begin(all), std::end(all), [&](const Problem &each) { return is(each, work); });
        if (problem == std::end(all)) {
            // An unused one has the least time.
            problem = std::min_element(std::begin(all), std::end(all),
                                       [](const Problem &a, const Problem &b) { return a.last < b.last; });
            *problem = {};
            problem->database = MyDatabaseId;
            problem->projection = work.projection;
            problem->slot = work.slot;
            problem->since = now;
        }
        problem->sqlstate = error->sqlerrcode;
        strlcpy(problem->message, error->message ? error->message : "", sizeof problem->message);
        problem->message[pg_mbcliplen(problem->message, strlen(problem->message), sizeof problem->message - 1)] = '\0';
        problem->last = now;
        int64 pause = int64{1000} << std::min(problem->failures++, 6);
        return problem->retry = after(now, std::min(pause, longest_pause));
    });
}

void forget_problem(Work work) {
    with_shared(LW_EXCLUSIVE, [&] {
        for (Problem &each : shared->problems)
            if (is(each, work)) each = {};
    });
}

bool put_off(Work work) {
    TimestampTz now = GetCurrentTimestamp();
    return with_shared(LW_SHARED, [&] {
        return std::any_of(std::begin(shared->problems), std::end(shared->problems),
                           [&](const Problem &each) { return is(each, work) && each.retry > now; });
    });
}

// A conflict with another transaction says nothing about the projection.
bool transient(int sqlstate) {
    return sqlstate == ERRCODE_T_R_SERIALIZATION_FAILURE || sqlstate == ERRCODE_T_R_DEADLOCK_DETECTED ||
           sqlstate == ERRCODE_LOCK_NOT_AVAILABLE;
}

// Returns when to try again.
TimestampTz after_failure(Work work, const ErrorData *error) {
    if (yielding && error->sqlerrcode == ERRCODE_QUERY_CANCELED) return GetCurrentTimestamp();
    if (transient(error->sqlerrcode) && pace(work).conflicts < conflicts_to_tell)
        return after(GetCurrentTimestamp(), pg_prng_uint64_range(&pg_global_prng_state, 5, 50));
    TimestampTz retry = record_problem(work, error);
    ereport(LOG,
            (errcode(error->sqlerrcode),
             errmsg("pg_projections: %s failed: %s", activity[0] ? activity : "looking for work",
                    error->message ? error->message : "no message"),
             error->detail ? errdetail_internal("%s", error->detail) : 0, error->hint ? errhint("%s", error->hint) : 0,
             error->context ? errcontext("%s", error->context) : 0, errhidestmt(true)));
    return retry;
}

// ---------------------------------------------------------------------------------------------------------- claims

bool marked_slow(Oid projection, TimestampTz now) {
    return std::any_of(std::begin(shared->slow), std::end(shared->slow), [&](const Slow &each) {
        return each.database == MyDatabaseId && each.projection == projection && each.until > now;
    });
}

// Slow projections together leave one worker to the others.
bool must_leave_room(Oid projection, TimestampTz now) {
    if (max_workers < 2 || !marked_slow(projection, now)) return false;
    int occupied = 0;
    for (Worker &worker : shared->all())
        if (&worker != me && serves(worker, MyDatabaseId) && OidIsValid(worker.projection) &&
            (marked_slow(worker.projection, now) || batch_milliseconds(worker, now) > slow_after))
            occupied++;
    return occupied >= max_workers - 1;
}

// Slow projections may not have been known as such, and have taken all workers: then the one that began last gives up
// its batch. A signal handler, so without the lock: it may err, at the cost of a batch.
void yield_if_all_are_slow() {
    TimestampTz now = GetCurrentTimestamp();
    int occupied = 0;
    for (Worker &worker : shared->all()) {
        if (!serves(worker, MyDatabaseId) || batch_milliseconds(worker, now) <= slow_after) continue;
        if (worker.since > me->since) return;
        occupied++;
    }
    if (occupied < max_workers) return;
    yielding = true;
    QueryCancelPending = true;
    InterruptPending = true;
    SetLatch(MyLatch);
}

// Takes the slot for the next batch. If not, *again is lowered to the milliseconds after which it may be possible.
bool claim(Work work, int64 limit, long *again) {
    TimestampTz now = GetCurrentTimestamp();
    auto wait_until = [&](TimestampTz time) {
        long wait = TimestampDifferenceMilliseconds(now, time) + 1;
        *again = *again < 0 ? wait : std::min(*again, wait);
    };
    if (TimestampTz not_before = pace(work).not_before; not_before > now) {
        wait_until(not_before);
        return false;
    }
    return with_shared(LW_EXCLUSIVE, [&] {
        for (Worker &worker : shared->all())
            if (&worker != me && serves(worker, MyDatabaseId) && worker.projection == work.projection &&
                worker.slot == work.slot)
                return false;
        for (Problem &problem : shared->problems)
            if (is(problem, work) && problem.retry > now) {
                wait_until(problem.retry);
                return false;
            }
        if (projection_count > 1 && must_leave_room(work.projection, now)) return false;
        me->projection = work.projection;
        me->slot = work.slot;
        me->limit = limit;
        me->since = now;
        return true;
    });
}

void end_claim(Work work, int64 events, int64 milliseconds) {
    TimestampTz now = GetCurrentTimestamp();
    with_shared(LW_EXCLUSIVE, [&] {
        me->projection = InvalidOid;
        me->since = now;
        me->events += events;
        if (milliseconds <= slow_after) return;
        auto &all = shared->slow;
        Slow *slow = std::find_if(std::begin(all), std::end(all), [&](const Slow &each) {
            return each.database == MyDatabaseId && each.projection == work.projection;
        });
        if (slow == std::end(all))
            slow = std::min_element(std::begin(all), std::end(all),
                                    [](const Slow &a, const Slow &b) { return a.until < b.until; });
        *slow = {MyDatabaseId, work.projection, after(now, remember_slow)};
    });
}

// --------------------------------------------------------------------------------------------------------- batches

void say(const char *what) {
    strlcpy(activity, what, sizeof activity);
    debug_query_string = activity[0] ? activity : nullptr;
    pgstat_report_activity(activity[0] ? STATE_RUNNING : STATE_IDLE, debug_query_string);
}

// Runs `body`; what it raises is returned, after the transaction is rolled back. Not in a transaction.
template <class Body>
ErrorData *caught(Body &&body) {
    ErrorData *volatile error = nullptr;
    PG_TRY();
    { body(); }
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

void apply(Work work, Limits limits, Progress &progress) {
    yielding = false;
    if (max_workers > 1 && projection_count > 1)
        enable_timeout_every(yield_timeout, after(GetCurrentTimestamp(), yield_after), yield_after);
    SetCurrentStatementStartTimestamp();
    StartTransactionCommand();
    if (catalog::Projection *projection = catalog::projection(work.projection)) {
        say(psprintf("applying events to %s, slot %d", projection->name(), work.slot));
        pg::with_snapshot(GetTransactionSnapshot(), [&] { progress = advance(*projection, work.slot, limits, false); });
    }
    CommitTransactionCommand();
    disable_timeout(yield_timeout, false);
    if (yielding) QueryCancelPending = false;
}

// Towards the time that a batch should take, from what this one took.
void adapt(Pace &p, int64 taken, int64 milliseconds) {
    if (milliseconds > 2 * batch_milliseconds_aim)
        p.events = p.events / 2;
    else if (taken >= p.events && milliseconds < batch_milliseconds_aim)
        p.events = milliseconds * 4 < batch_milliseconds_aim ? p.events * 4 : p.events * 2;
    p.events = std::min<int64>(std::max(p.events, smallest_batch), max_batch);
}

// One batch of a slot that is claimed. Returns whether it got anywhere.
bool run_batch(Work work) {
    Limits limits{std::min<int64>(pace(work).events, max_batch), batch_milliseconds_aim};
    Progress progress;
    TimestampTz began = GetCurrentTimestamp();
    ErrorData *error = caught([&] { apply(work, limits, progress); });
    int64 milliseconds = (GetCurrentTimestamp() - began) / 1000;
    end_claim(work, error ? 0 : progress.events, milliseconds);
    Pace &p = pace(work);
    if (error) {
        if (!transient(error->sqlerrcode)) count_failed_batch(work.projection, began);
        p.not_before = after_failure(work, error);
        p.conflicts = transient(error->sqlerrcode) ? p.conflicts + 1 : 0;
        // What comes before the event that conflicts gets through: in the end it is alone.
        p.events = std::max(p.events / 2, p.conflicts ? 1 : smallest_batch);
    } else if (progress.busy) {
        p.not_before = after(GetCurrentTimestamp(), 2 * rest_milliseconds); // a session is at it
    } else {
        forget_problem(work);
        p.conflicts = 0;
        adapt(p, progress.events, milliseconds);
    }
    say("");
    pgstat_report_stat(false);
    return !error && !progress.busy && (progress.events > 0 || progress.more);
}

// ---------------------------------------------------------------------------------------------------------- rounds

struct Found {
    std::span<Work> work;
    long again = -1;
    bool installed = false;
    bool current = false; // the SQL objects are of the library's version
    bool any = false;     // projections, also inline ones
};

bool is_async(const catalog::Projection *projection) { return projection->async && !OidIsValid(projection->shadow_of); }

void look(Found &found) {
    SetCurrentStatementStartTimestamp();
    StartTransactionCommand();
    found.installed = OidIsValid(catalog::catalog_relation());
    found.current = found.installed && catalog::sql_is_current();
    auto all = catalog::all();
    found.any = !all.empty();
    projection_count = std::count_if(all.begin(), all.end(), is_async);
    if (projection_count > 0) {
        pg::vector<Work> work = find_work(&found.again);
        auto *kept = static_cast<Work *>(MemoryContextAlloc(round_memory, sizeof(Work) * (work.size() + 1)));
        std::copy(work.begin(), work.end(), kept);
        found.work = {kept, work.size()};
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

// Whether another worker has to be told that there is more than this one takes; at most one is.
bool anything_unclaimed(std::span<Work> rest) {
    return with_shared(LW_SHARED, [&] {
        return std::any_of(rest.begin(), rest.end(), [](const Work &work) {
            for (Worker &worker : shared->all())
                if (serves(worker, MyDatabaseId) && worker.projection == work.projection && worker.slot == work.slot)
                    return false;
            return true;
        });
    });
}

void call_for_company() {
    bool called = with_shared(LW_EXCLUSIVE, [] {
        for (Worker &worker : shared->all()) {
            if (!serves(worker, MyDatabaseId)) continue;
            Phase phase = phase_of(worker);
            // One between batches takes what it finds, too.
            bool looking = &worker != me && phase == Phase::busy && !OidIsValid(worker.projection);
            if (phase == Phase::woken || phase == Phase::starting || looking) return true;
            auto idle = static_cast<uint32>(Phase::idle), resting = static_cast<uint32>(Phase::resting);
            auto woken = static_cast<uint32>(Phase::woken);
            if (pg_atomic_compare_exchange_u32(&worker.phase, &idle, woken) ||
                pg_atomic_compare_exchange_u32(&worker.phase, &resting, woken)) {
                SetLatch(&worker.process->procLatch);
                return true;
            }
        }
        return count_workers(MyDatabaseId) >= max_workers;
    });
    if (!called) with_shared(LW_EXCLUSIVE, [] { announce(MyDatabaseId, false); });
}

// More workers than allowed: the youngest leave.
bool too_many() {
    return with_shared(LW_SHARED, [] {
        int older = 0;
        for (Worker &worker : shared->all())
            older += serves(worker, MyDatabaseId) && worker.generation < me->generation;
        return older >= max_workers;
    });
}

bool idle_surplus(TimestampTz now) {
    if (now - last_useful < surplus_after * 1000) return false;
    return with_shared(LW_SHARED, [] {
        for (Worker &worker : shared->all())
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

// What the extension does now and then in SQL. A failure is told, and does not stop the worker.
void run_chore(const char *what, const char *query) {
    ErrorData *error = caught([&] {
        SetCurrentStatementStartTimestamp();
        StartTransactionCommand();
        say(what);
        pg::with_snapshot(GetTransactionSnapshot(), [&] { pg::with_spi([&] { pg::spi_execute(query); }); });
        CommitTransactionCommand();
    });
    if (error) after_failure(cleaning, error);
    say("");
}

void clean_history() {
    TimestampTz now = GetCurrentTimestamp();
    if (history_retention == 0 || now < next_cleaning) return;
    next_cleaning = after(now, 3600 * 1000);
    run_chore("removing old history", "SELECT projections._expire_history()");
}

// Requests that outlived whoever was to carry them out.
void launch_rebuilds(const Found &found) {
    TimestampTz now = GetCurrentTimestamp();
    if (now < next_launching || !found.current) return;
    next_launching = after(now, 10 * 1000);
    run_chore("starting rebuilds", "SELECT projections._launch_waiting_rebuilds()");
}

// Writes what was counted in shared memory. A failure is told and put off.
template <class Body>
void write_counted(Work problem, const char *what, Body &&body) {
    ErrorData *error = caught([&] {
        say(what);
        body();
    });
    if (error)
        after_failure(problem, error);
    else
        forget_problem(problem);
    say("");
}

void write_counted_conflicts() {
    if (conflicts_counted() && !put_off(counting)) write_counted(counting, "counting conflicts", write_conflicts);
}

void write_noted_calls() {
    if (failed_calls_noted()) write_counted(auditing, "writing failed calls", write_failed_calls);
}

// Who has events for this worker alone interrupts a scrub. A signal handler, so without the lock: it may err, at the
// cost of a scrub.
void interrupt_scrub() {
    if (pg_atomic_read_u32(&me->signalled) == 0) return;
    for (Worker &worker : shared->all())
        if (&worker != me && serves(worker, MyDatabaseId)) return;
    QueryCancelPending = true;
    InterruptPending = true;
    SetLatch(MyLatch);
}

int64 scrub_next() {
    int64 rows = -1;
    SetCurrentStatementStartTimestamp();
    StartTransactionCommand();
    say("verifying a projection");
    pg::with_snapshot(GetTransactionSnapshot(), [&] {
        pg::with_spi([&] {
            pg::spi_execute("SELECT projections._scrub()");
            bool null;
            rows = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &null));
        });
    });
    CommitTransactionCommand();
    return rows;
}

// Verifies one projection, and rests so long that the rate holds. When the last one was interrupted, there is work that
// another worker could do meanwhile.
void scrub(const Found &found) {
    static constinit bool interrupted = false;
    TimestampTz now = GetCurrentTimestamp();
    if (scrub_rate == 0 || !found.current || now < next_scrub) return;
    if (interrupted) call_for_company();
    int64 rows = 0;
    enable_timeout_every(scrub_timeout, after(now, 20), 20);
    ErrorData *error = caught([&] { rows = scrub_next(); });
    disable_timeout(scrub_timeout, false);
    interrupted = error && error->sqlerrcode == ERRCODE_QUERY_CANCELED && pg_atomic_read_u32(&me->signalled) != 0;
    if (interrupted)
        QueryCancelPending = false;
    else if (error)
        after_failure(scrubbing, error);
    say("");
    int64 pause = rows < 0 ? 60 * 1000 : std::max<int64>(1000, rows * 1000 / scrub_rate);
    next_scrub = after(GetCurrentTimestamp(), pause);
}

// The last worker to leave writes what there is.
void write_measured() {
    bool last = projection_count == 0;
    if ((!throughput_due() && !last) || put_off(measuring)) return;
    write_counted(measuring, "writing throughput", [&] {
        SetCurrentStatementStartTimestamp();
        write_throughput(last ? Minutes::all : Minutes::complete);
    });
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
    forget_problem(finding);
    if (!found.installed) forget_conflicts();
    if (found.current) {
        write_counted_conflicts();
        write_measured();
        write_noted_calls();
    } else { // there are no such tables
        forget_throughput();
        forget_failed_calls();
    }
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
        Work work = found.work[i];
        if (!claim(work, pace(work).events, &found.again)) continue;
        if (anything_unclaimed(found.work.subspan(i + 1))) call_for_company();
        useful |= run_batch(work);
        // What conflicted is to be tried again soon, not when somebody wakes us.
        long pause = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), pace(work).not_before);
        if (pause > 0) found.again = found.again < 0 ? pause : std::min(found.again, pause);
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
        free_entry(*me);
        if (!finished) announce(database, !terminated);
    });
}

// Takes the entry that the launcher has reserved. False if it is not awaited any more.
bool enter(int entry, uint64 generation, Oid *database) {
    return with_shared(LW_EXCLUSIVE, [&] {
        Worker &worker = shared->workers[entry];
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
} // namespace async

extern "C" {

PGDLLEXPORT void projections_worker_main(Datum entry);

void projections_worker_main(Datum entry) {
    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    pqsignal(SIGTERM, async::die_soon);
    uint64 generation;
    memcpy(&generation, MyBgworkerEntry->bgw_extra, sizeof generation);
    Oid database;
    if (!async::enter(DatumGetInt32(entry), generation, &database)) proc_exit(0);
    on_shmem_exit(async::end, 0);
    BackgroundWorkerUnblockSignals();
    BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
    async::yield_timeout = RegisterTimeout(USER_TIMEOUT, async::yield_if_all_are_slow);
    async::scrub_timeout = RegisterTimeout(USER_TIMEOUT, async::interrupt_scrub);
    async::pin_settings();
    async::limit_memory();
    async::round_memory = AllocSetContextCreate(TopMemoryContext, "projections round", ALLOCSET_DEFAULT_SIZES);
    async::pace_memory = AllocSetContextCreate(TopMemoryContext, "projections paces", ALLOCSET_SMALL_SIZES);
    async::run();
}

} // extern "C"
