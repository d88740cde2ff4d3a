// Each chore has a transaction of its own, and a problem of its own where it fails.
#include "workers/chores.hpp"

#include "events/problem.hpp"
#include "pg/scope.hpp"
#include "shared/conflict.hpp"
#include "shared/failed_call.hpp"
#include "shared/throughput.hpp"
#include "workers/background.hpp"
#include "workers/claims.hpp"
#include "workers/problems.hpp"

namespace workers {
namespace {

constinit TimestampTz next_cleaning = 0, next_launching = 0, next_scrub = 0;

// What the extension does now and then in SQL.
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

// Writes what was counted in shared memory. A failure is told and put off.
template <class Body>
void write_counted(events::Work problem, const char *what, Body &&body) {
    ErrorData *error = caught([&] {
        say(what);
        body();
    });
    if (error)
        after_failure(problem, error);
    else
        events::forget_problem(problem);
    say("");
}

void write_counted_conflicts() {
    if (conflicts_counted() && !put_off(counting)) write_counted(counting, "counting conflicts", write_conflicts);
}

void write_noted_calls() {
    if (failed_calls_noted()) write_counted(auditing, "writing failed calls", write_failed_calls);
}

int64 scrub_next() {
    int64 rows = -1;
    SetCurrentStatementStartTimestamp();
    StartTransactionCommand();
    say("verifying a projection");
    pg::with_snapshot(GetTransactionSnapshot(), [&] {
        pg::with_spi([&] {
            pg::spi_execute("SELECT projections_internal._scrub()");
            rows = pg::Row().bigint(1);
        });
    });
    CommitTransactionCommand();
    return rows;
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

} // namespace

void write_counts(const Found &found) {
    if (!found.installed) forget_conflicts();
    if (found.current) {
        write_counted_conflicts();
        write_measured();
        write_noted_calls();
    } else { // there are no such tables
        forget_throughput();
        forget_failed_calls();
    }
}

void clean_history() {
    TimestampTz now = GetCurrentTimestamp();
    if (history_retention == 0 || now < next_cleaning) return;
    next_cleaning = after(now, 3600 * 1000);
    run_chore("removing old history", "SELECT projections_internal._expire_history()");
}

// Requests that outlived whoever was to carry them out.
void launch_rebuilds(const Found &found) {
    TimestampTz now = GetCurrentTimestamp();
    if (now < next_launching || !found.current) return;
    next_launching = after(now, 10 * 1000);
    run_chore("starting rebuilds", "SELECT projections_internal._launch_waiting_rebuilds()");
}

// Who has events for this worker alone interrupts a scrub. A signal handler, so without the lock: it may err, at the
// cost of a scrub.
void interrupt_scrub() {
    if (pg_atomic_read_u32(&me->signalled) == 0) return;
    for (Worker &worker : shared::memory->all())
        if (&worker != me && serves(worker, MyDatabaseId)) return;
    QueryCancelPending = true;
    InterruptPending = true;
    SetLatch(MyLatch);
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

} // namespace workers
