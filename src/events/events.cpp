// Events one by one.
//
// apply_events reads the feed by the chunk and applies each chunk as batch.hpp says. What it may not apply it parks:
// under on_failure = park_key an event behind a failed or parked one of the same key waits in
// projections_internal.parked_event until that is gone; retry_due and apply_unblocked then apply what nothing holds
// back any more, in position order.
//
// on_failure = stop needs no parking: the slot does not go past the failed event, which is tried again in place. So a
// retry there is an ordinary batch that begins with the event once it is due.
#include "events/events.hpp"

#include "catalog/settings.hpp"
#include "events/batch.hpp"
#include "events/left_out.hpp"
#include "events/parked.hpp"
#include "maintain/maintaining.hpp"

namespace events {

using catalog::Projection;

namespace {

constexpr int64 handler_chunk = 1000, reducer_chunk = 5000;
// How many positions are looked at in one go, at least and at most: a sort in the feed's plan may have to hold them.
constexpr int64 least_window = 1000, most_window = 200000;
constexpr int retry_milliseconds = 100;
// To find one that gets through, where the first ones fail and all may.
constexpr int64 most_in_doubt = 1000, few_more = 10;

struct Plans {
    SPIPlanPtr overrides, open, parked;
};
constinit Plans plans{};

// Runs `body` with SPI, under the projection's pinned settings.
template <class Body>
void in_batch(const Slot &slot, Body &&body) {
    pg::with_spi([&] { catalog::with_pinned(slot.projection.settings, body); });
}

// ------------------------------------------------------------------------------------------------------- what to read

// States set by hand at positions after the slot's: only a replay comes by them again.
void add_overrides(Batch &batch, int64 after, int64 to) {
    static constexpr Oid types[] = {REGCLASSOID, INT8OID, INT8OID, INT4OID, INT4OID};
    if (!batch.declared.machine) return;
    Datum values[] = {projection_datum(batch.slot), Int64GetDatum(after == 0 ? -1 : after), Int64GetDatum(to),
                      Int32GetDatum(batch.slot.count), Int32GetDatum(batch.slot.number)};
    pg::as_superuser([&] {
        run(prepared(plans.overrides,
                     psprintf("SELECT position, state, ARRAY[key], set_at FROM projections_internal.override WHERE "
                              "projection = $1 AND position > $2 AND position <= $3 AND %s = $5 ORDER BY id",
                              slot_text("key", "$4")),
                     types),
            values, nullptr, Effect::write);
    });
    if (SPI_processed == 0) return;
    pg::within(batch.chunk.memory, [&] {
        for (uint64 i = 0; i < SPI_processed; i++) batch.chunk.events->push_back(override_of(pg::Row(i)));
        // After the events of the same position, in the order in which they were set.
        order(*batch.chunk.events);
    });
    SPI_freetuptable(SPI_tuptable);
}

// Fills the chunk with what comes after `after`. Returns the position up to which nothing else comes.
int64 read_after(Batch &batch, int64 after, int64 to, int64 limit) {
    bool all = false;
    pg::as_owner(batch.projection.owner(),
                 [&] { all = read_events(batch.projection, &batch.slot, after, to, limit, batch.chunk); });
    return all ? to : (*batch.chunk.events).back().position;
}

ErrorData *attempt_read(Batch &batch, int64 after, int64 to, int64 limit, int64 *reached) {
    batch.chunk.clear();
    return attempt([&] { *reached = read_after(batch, after, to, limit); });
}

// The feed's own expressions, such as the key's, fail for some event: the events before it are read, or it is recorded
// if it is the next. Its keys are unknown, so nothing waits behind it.
int64 read_up_to_error(Batch &batch, int64 after, int64 to, int64 limit, ErrorData *error) {
    pg::vector<int64> positions;
    pg::as_owner(batch.projection.owner(), [&] { positions = read_positions(batch.projection, after, to, limit); });
    if (positions.empty()) pg::rethrow(error);
    std::size_t good = 0, bad = positions.size(); // reading positions[0, good) succeeds, [0, bad) fails
    int64 reached = after;
    while (bad - good > 1) {
        std::size_t middle = good + (bad - good) / 2;
        if (ErrorData *again = attempt_read(batch, after, positions[middle - 1], limit, &reached)) {
            error = again;
            bad = middle;
        } else
            good = middle;
    }
    if (good > 0) {
        if (ErrorData *again = attempt_read(batch, after, positions[good - 1], limit, &reached)) pg::rethrow(again);
        return reached;
    }
    batch.chunk.clear();
    pg::within(batch.chunk.memory, [&] {
        Event event{};
        event.position = positions[0];
        batch.chunk.events->push_back(event);
        // Whose slot it is cannot be told, either.
        if (batch.slot.number == 0)
            fail(batch, batch.chunk[0], error);
        else
            batch.chunk[0].outcome = Outcome::applied;
    });
    return positions[0];
}

void pass_decided(Batch &batch, const pg::vector<int64> &decided) {
    if (decided.empty()) return;
    for (Event &event : *batch.chunk.events)
        if (!event.override_ && contains(decided, event.position)) event.keys = {}; // delivered to nobody
}

// on_failure = stop: the position before which the slot has to stay for now, and whether that is a failed event that is
// due.
struct Stop {
    int64 position;
    bool due;
};
Stop next_stop(Batch &batch) {
    static constexpr Oid types[] = {REGCLASSOID, INT4OID, INT8OID};
    if (batch.declared.on_failure != OnFailure::stop) return {0, false};
    Datum values[] = {projection_datum(batch.slot), Int32GetDatum(batch.slot.number),
                      Int64GetDatum(batch.slot.position)};
    pg::as_superuser([&] {
        run(prepared(plans.open,
                     psprintf("SELECT position, %s FROM projections_internal.failure WHERE projection = $1 AND slot = "
                              "$2 AND position > $3 AND %s ORDER BY position LIMIT 1",
                              due_failure, open_failure),
                     types),
            values, nullptr, Effect::write);
    });
    if (SPI_processed == 0) return {0, false};
    return {pg::Row().bigint(1), pg::Row().boolean(2)};
}

// Keys of a state machine that have been at their end for longer than options.retention.
void expire_keys(Batch &batch) {
    StateMachine *machine = batch.declared.machine;
    if (!machine || !machine->retention || machine->terminal.empty()) return;
    static constexpr Oid types[] = {TEXTARRAYOID, INTERVALOID, INT4OID, INT4OID};
    Oid table = batch.projection.relation;
    const char *name = pg::qualified_name(table);
    const char *text = psprintf("DELETE FROM %s WHERE key IN (SELECT key FROM %s WHERE state OPERATOR(pg_catalog.#>>) "
                                "'{}' = ANY ($1) AND updated_at < "
                                "pg_catalog.clock_timestamp() - $2 AND %s = $4 ORDER BY updated_at LIMIT 1000)",
                                name, name, slot_text("key", "$3"));
    auto *names = static_cast<Datum *>(palloc(sizeof(Datum) * machine->terminal.size()));
    for (std::size_t i = 0; i < machine->terminal.size(); i++) names[i] = CStringGetTextDatum(machine->terminal[i]);
    Datum values[] = {PointerGetDatum(construct_array(names, static_cast<int>(machine->terminal.size()), TEXTOID, -1,
                                                      false, TYPALIGN_INT)),
                      machine->retention, Int32GetDatum(batch.slot.count), Int32GetDatum(batch.slot.number)};
    // Analyzed by the owner, too: the names are those of his search_path.
    pg::as_owner(batch.projection.owner(), [&] {
        SPIPlanPtr plan = prepared(batch.declared.expire, text, types);
        maintain::writing_as(table, [&] { run(plan, values, nullptr, Effect::write); });
    });
}

// Applies the whole chunk as far as time allows. Returns how many of its events are done.
std::size_t apply_chunk(Batch &batch, Progress &progress) {
    std::size_t done = apply(batch, 0, batch.chunk.size(), Pace::until_deadline);
    for (std::size_t i = 0; i < done; i++) {
        Event &event = batch.chunk[i];
        if (event.outcome == Outcome::parked) park(batch.slot, event);
        batch.any_applied |= event.outcome == Outcome::applied && !event.override_ && !event.keys.empty();
        if (event.override_) continue;
        progress.events++;
        if (event.has_time) progress.event_time = event.time;
    }
    return done;
}

// How many positions to look at next, after those from `after` to `until` held so many events and were read up to
// `reached`. The planner cannot know how many of a range are the slot's, and may read and sort all of it for a part: so
// about as many as a chunk took. (Test: sql/cliffs)
int64 next_window(std::size_t events, int64 after, int64 reached, int64 until) {
    if (events == 0) return std::min<int64>(until - after, PG_INT64_MAX / 8) * 4;
    return std::clamp(reached < until ? 2 * (reached - after) : 4 * (until - after), least_window, most_window);
}

void apply_batch(Batch &batch, int64 to, Limits limits, Progress &progress) {
    progress.position = batch.slot.position;
    load_blocked(batch, false);
    Stop stop = next_stop(batch);
    if (stop.position && !stop.due) to = std::min(to, stop.position - 1);
    pg::vector<int64> decided = decided_positions(batch.projection.relation, batch.slot.position, to);
    int64 chunk = batch.projection.kind == catalog::Kind::handler ? handler_chunk : reducer_chunk;
    int64 window = std::clamp(4 * batch.slot.count * std::min(chunk, limits.events), least_window, most_window);
    // Who is to blame is told by the events that follow: as many are tried as that takes, within reason.
    auto enough = [&] {
        if (batch.in_doubt() && batch.failures < most_in_doubt && !shared::settled_overrun()) return false;
        return progress.events >= limits.events || batch.late();
    };
    auto unfinished = [&] { return progress.position < to && !batch.stopped && !enough(); };
    auto step = [&] {
        int64 after = progress.position, until = to - after > window ? after + window : to, reached;
        int64 left = limits.events - progress.events;
        int64 limit = std::min(chunk, batch.in_doubt() ? std::max(left, few_more) : left);
        ErrorData *error = attempt_read(batch, after, until, limit, &reached);
        if (error) reached = read_up_to_error(batch, after, until, limit, error);
        window = next_window(batch.chunk.size(), after, reached, until);
        pass_decided(batch, decided);
        add_overrides(batch, after, reached);
        std::size_t done = batch.stopped ? 0 : apply_chunk(batch, progress);
        if (done == batch.chunk.size())
            progress.position = reached;
        else
            progress.position = std::max(after, batch.chunk[done].position - 1);
        if (stop.position && stop.due && !batch.stopped && progress.position >= stop.position) {
            resolve_failure(batch.slot, stop.position, "retried");
            stop = {0, false};
        }
    };
    while (unfinished()) {
        pg::within(batch.scratch, step);
        MemoryContextReset(batch.scratch);
    }
    if (batch.in_doubt() && !shared::settled_overrun()) pg::rethrow(batch.doubtful);
    expire_keys(batch);
    progress.more = progress.position < to && !batch.stopped;
}

// --------------------------------------------------------------------------------------------------------------
// retries

bool is_blocked(const Batch &batch, std::span<const Key> keys, int64 position) {
    return std::any_of(keys.begin(), keys.end(), [&](const Key &key) {
        const int64 *from = batch.blocked.find(key.name);
        return from && *from < position;
    });
}

// The next parked events, after `after`, that nothing holds back; what still has to wait holds back what comes later.
// Returns whether there may be more.
bool next_unblocked(Batch &batch, int64 *after, pg::vector<int64> &positions) {
    static constexpr Oid types[] = {REGCLASSOID, INT4OID, INT4OID, INT8OID};
    static constexpr uint64 page = 10000;
    Datum values[] = {projection_datum(batch.slot), Int32GetDatum(batch.slot.number), Int32GetDatum(batch.slot.count),
                      Int64GetDatum(*after)};
    pg::as_superuser([&] {
        run(prepared(plans.parked,
                     psprintf("SELECT position, keys FROM projections_internal.parked_event WHERE projection = $1 AND "
                              "%s AND position > $4 ORDER BY position LIMIT 10000",
                              of_slot("$2", "$3")),
                     types),
            values, nullptr, Effect::write);
    });
    uint64 count = SPI_processed;
    SPITupleTable *rows = SPI_tuptable;
    uint64 i = 0;
    for (; i < count && positions.size() < handler_chunk; i++) {
        pg::Row row(rows, i);
        *after = row.bigint(1);
        std::span<const Key> keys = keys_of(row.datum(2));
        if (is_blocked(batch, keys, *after))
            for (const Key &key : keys) block(batch, key.name, *after);
        else
            positions.push_back(*after);
    }
    SPI_freetuptable(rows);
    return i < count || count == page;
}

// As far as a chunk has room; `all`: they all had.
ErrorData *attempt_read_at(Batch &batch, const pg::vector<int64> &positions, bool *all) {
    batch.chunk.clear();
    return attempt([&] {
        pg::as_owner(batch.projection.owner(), [&] {
            *all = read_events_at(batch.projection, bigint_array({positions.data(), positions.size()}), batch.chunk);
        });
    });
}

// Applies the events at these positions. Those that must wait behind one that failed just now stay parked.
int64 apply_unparked(Batch &batch, const pg::vector<int64> &positions) {
    int64 applied = 0;
    for (std::size_t from = 0; from < positions.size();) {
        pg::vector<int64> rest(positions.begin() + static_cast<std::ptrdiff_t>(from), positions.end());
        bool all = false;
        if (ErrorData *error = attempt_read_at(batch, rest, &all)) pg::rethrow(error);
        apply(batch, 0, batch.chunk.size(), Pace::to_the_end);
        int64 last = all ? rest.back() : (*batch.chunk.events).back().position;
        pg::vector<int64> done; // an event that was deleted waits for nothing
        Event *event = batch.chunk.events->data(), *end = event + batch.chunk.size();
        for (; from < positions.size() && positions[from] <= last; from++) {
            while (event < end && event->position < positions[from]) event++;
            bool waits = event < end && event->position == positions[from] && event->outcome == Outcome::parked;
            if (!waits) done.push_back(positions[from]);
        }
        unpark(batch.slot, done);
        applied += static_cast<int64>(done.size());
    }
    return applied;
}

// Applies the parked events that nothing holds back, in order.
int64 apply_parked(Batch &batch) {
    batch.blocked = KeyTable<int64>(batch.memory);
    load_blocked(batch, true);
    int64 applied = 0, after = PG_INT64_MIN;
    for (bool more = true; more;) {
        pg::within(batch.scratch, [&] {
            pg::vector<int64> positions;
            more = next_unblocked(batch, &after, positions);
            applied += apply_unparked(batch, positions);
        });
        MemoryContextReset(batch.scratch);
    }
    return applied;
}

// One failure again. Returns whether it is resolved.
bool retry(Batch &batch, int64 position) {
    batch.chunk.clear();
    pg::vector<int64> positions;
    positions.push_back(position);
    bool all;
    if (ErrorData *error = attempt_read_at(batch, positions, &all)) {
        pg::within(batch.chunk.memory, [&] {
            batch.chunk.clear();
            Event event{};
            event.position = position;
            batch.chunk.events->push_back(event);
        });
        fail(batch, batch.chunk[0], error);
        return false;
    }
    if (batch.chunk.size() == 0) {
        resolve_failure(batch.slot, position, "skipped", "The feed delivers no such event any more.");
        return true;
    }
    apply(batch, 0, 1, Pace::to_the_end);
    if (batch.chunk[0].outcome != Outcome::applied) return false;
    resolve_failure(batch.slot, position, "retried");
    return true;
}

} // namespace

Batch::Batch(const Slot &of, bool record)
    : slot(of), projection(of.projection), declared(events::declared(of.projection)),
      memory(AllocSetContextCreate(CurrentMemoryContext, "batch", ALLOCSET_DEFAULT_SIZES)),
      scratch(AllocSetContextCreate(memory, "batch scratch", ALLOCSET_DEFAULT_SIZES)), chunk(memory), blocked(memory),
      recording(record) {
    if (record) shared::load_overruns(of.projection.relation);
}

bool parks(Batch &batch, Event &event) {
    if (batch.blocked.empty() || !is_blocked(batch, event.keys, event.position)) return false;
    for (const Key &key : event.keys) block(batch, key.name, event.position);
    return true;
}

void fail(Batch &batch, Event &event, ErrorData *error) {
    if (!batch.recording) pg::rethrow(error);
    FailedEvent failed{event.position, event.id, event.type, event.has_time ? event.time : 0, {}};
    for (const Key &key : event.keys) failed.keys.push_back(TextDatumGetCString(key.text));
    batch.failures++;
    if (batch.doubtful == nullptr && blame(error) == Blame::either)
        batch.doubtful = pg::copy_error(error, batch.memory);
    record_failure(batch.slot, failed, error);
    event.outcome = Outcome::failed;
    switch (batch.declared.on_failure) {
    case OnFailure::park_key:
        for (const Key &key : event.keys) block(batch, key.name, event.position);
        break;
    case OnFailure::stop: batch.stopped = true; break;
    case OnFailure::skip: break;
    }
}

Progress apply_events(const Slot &slot, int64 to, Limits limits) {
    Progress progress;
    in_batch(slot, [&] {
        Batch &batch = *pg::make<Batch>(CurrentMemoryContext, slot, true);
        if (limits.milliseconds > 0)
            batch.deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), limits.milliseconds);
        apply_batch(batch, to, limits, progress);
    });
    return progress;
}

int64 apply_unblocked(const Slot &slot) {
    int64 applied = 0;
    in_batch(slot, [&] { applied = apply_parked(*pg::make<Batch>(CurrentMemoryContext, slot, true)); });
    return applied;
}

int64 retry_due(const Slot &slot) {
    int64 events = 0;
    in_batch(slot, [&] {
        Batch &batch = *pg::make<Batch>(CurrentMemoryContext, slot, true);
        TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), retry_milliseconds);
        // What was parked before on_failure changed waits for nothing any more.
        bool freed = batch.declared.on_failure != OnFailure::park_key;
        for (int64 position : due_failures(slot, batch.declared.on_failure == OnFailure::stop)) {
            freed |= retry(batch, position);
            events++;
            if (GetCurrentTimestamp() >= end || shared::settled_overrun()) break;
        }
        if (freed) events += apply_parked(batch);
    });
    return events;
}

bool retry_now(const Slot &slot, int64 position) {
    bool resolved = false;
    in_batch(slot, [&] {
        Batch &batch = *pg::make<Batch>(CurrentMemoryContext, slot, true);
        resolved = retry(batch, position);
        if (resolved) apply_parked(batch);
    });
    return resolved;
}

} // namespace events
