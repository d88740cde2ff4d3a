// Each batch is one transaction, so a worker may be killed anywhere; what makes it exactly once is the slot's row
// (events/slot.hpp), not this file. A batch that fails as a whole (not at one event: those are recorded,
// events/failure.hpp) is put off, with a growing pause.
#include "workers/batch.hpp"

#include "events/problem.hpp"
#include "pg/scope.hpp"
#include "shared/throughput.hpp"
#include "workers/background.hpp"
#include "workers/claims.hpp"
#include "workers/problems.hpp"

namespace workers {
namespace {

constexpr int batch_milliseconds_aim = 100;
constexpr int64 smallest_batch = 10;
constexpr int yield_after = 700; // milliseconds
constexpr size_t most_paces = 4096;

constinit MemoryContext pace_memory = nullptr;
constinit pg::flat_map<uint64, Pace> *paces = nullptr;

void apply(events::Work work, events::Limits limits, events::Progress &progress) {
    yielding = false;
    if (max_workers > 1 && projection_count > 1)
        enable_timeout_every(yield_timeout, after(GetCurrentTimestamp(), yield_after), yield_after);
    SetCurrentStatementStartTimestamp();
    StartTransactionCommand();
    if (catalog::Projection *projection = catalog::projection(work.projection)) {
        say(psprintf("applying events to %s, slot %d", projection->name(), work.slot));
        pg::with_snapshot(GetTransactionSnapshot(),
                          [&] { progress = events::advance(*projection, work.slot, limits, false); });
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

} // namespace

Pace &pace(events::Work work) {
    if (paces == nullptr || paces->size() > most_paces) {
        MemoryContextReset(pace_memory);
        paces = pg::make<pg::flat_map<uint64, Pace>>(pace_memory);
    }
    return (*paces)[static_cast<uint64>(work.projection) << 32 | static_cast<uint32>(work.slot)];
}

void start_paces() { pace_memory = AllocSetContextCreate(TopMemoryContext, "projections paces", ALLOCSET_SMALL_SIZES); }

bool run_batch(events::Work work) {
    events::Limits limits{std::min<int64>(pace(work).events, max_batch), batch_milliseconds_aim};
    events::Progress progress;
    TimestampTz began = GetCurrentTimestamp();
    ErrorData *error = caught([&] { apply(work, limits, progress); });
    int64 milliseconds = (GetCurrentTimestamp() - began) / 1000;
    end_claim(work, error ? 0 : progress.events, milliseconds);
    Pace &p = pace(work);
    if (error) {
        if (!transient(error->sqlerrcode)) count_failed_batch(work.projection, began);
        p.not_before = after_failure(work, error, p.conflicts);
        p.conflicts = transient(error->sqlerrcode) ? p.conflicts + 1 : 0;
        // What comes before the event that conflicts gets through: in the end it is alone.
        p.events = std::max(p.events / 2, p.conflicts ? 1 : smallest_batch);
    } else if (progress.busy) {
        p.not_before = after(GetCurrentTimestamp(), 2 * rest_milliseconds); // a session is at it
    } else {
        events::forget_problem(work);
        p.conflicts = 0;
        adapt(p, progress.events, milliseconds);
    }
    say("");
    pgstat_report_stat(false);
    return !error && !progress.busy && (progress.events > 0 || progress.more);
}

} // namespace workers
