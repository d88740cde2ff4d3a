// Refold.
//
// The fold itself is async's: a batch that records nothing, so that errors are raised and the replay is undone with its
// transaction. What an ordinary batch would not apply is left out here, too: events that have failed, were skipped or
// resolved, or are parked. States set by hand are folded in at their positions.
#include "verify/refold.hpp"

#include "catalog/settings.hpp"
#include "events/batch.hpp"
#include "events/events.hpp"
#include "events/left_out.hpp"
#include "maintain/locks.hpp"
#include "maintain/maintaining.hpp"

namespace verify {
namespace {

using catalog::Projection;
using events::Batch;
using events::Event;
using events::Key;
using events::Slot;

constexpr int64 chunk_events = 5000;

// Hands the slot's events of (after, to] to `take(batch)` by the chunk.
template <class Take>
void each_chunk(Batch &batch, int64 after, int64 to, Take &&take) {
    bool all = false;
    while (!all && after < to) {
        CHECK_FOR_INTERRUPTS();
        batch.chunk.clear();
        pg::as_owner(batch.projection.owner(), [&] {
            all = events::read_events(batch.projection, &batch.slot, after, to, chunk_events, batch.chunk);
        });
        if (batch.chunk.size() > 0) after = batch.chunk[batch.chunk.size() - 1].position;
        pg::within(batch.scratch, [&] { take(after); });
        MemoryContextReset(batch.scratch);
    }
}

// The keys to be computed anew; a name lives as long as the batch.
using Affected = events::KeyTable<Datum>;

Affected affected_keys(Batch &batch, int64 from, int64 to) {
    Affected affected(batch.memory);
    each_chunk(batch, from - 1, to, [&](int64) {
        for (Event &event : *batch.chunk.events)
            for (const Key &key : event.keys) {
                if (affected.find(key.name)) continue;
                Datum copy = pg::within(batch.memory, [&] { return datumCopy(key.text, false, -1); });
                text *name = DatumGetTextPP(copy);
                affected.add({VARDATA_ANY(name), VARSIZE_ANY_EXHDR(name)}, copy);
            }
    });
    return affected;
}

Datum array_of(const Affected &affected, int64 *count) {
    pg::vector<Datum> keys;
    affected.each([&](std::string_view, Datum key) { keys.push_back(key); });
    *count = static_cast<int64>(keys.size());
    return PointerGetDatum(
        construct_array(keys.data(), static_cast<int>(keys.size()), TEXTOID, -1, false, TYPALIGN_INT));
}

void execute_with(const char *text, Datum keys) {
    Oid type = TEXTARRAYOID;
    int code = pg::spi_execute_with_args(text, 1, &type, &keys, nullptr, false, 0);
    if (code < 0) elog(ERROR, "SPI_execute_with_args failed: %s", SPI_result_code_string(code));
}

// What was set by hand stays in the history: the fold does not write it again.
void forget_keys(Projection &projection, Datum keys) {
    pg::as_owner(projection.owner(), [&] {
        maintain::writing_as(projection.relation, [&] {
            execute_with(psprintf("DELETE FROM %s WHERE key = ANY ($1)", projection.name()), keys);
        });
    });
    pg::as_superuser([&] {
        execute_with(psprintf("DELETE FROM projections_internal.transition WHERE projection = %u AND key = ANY ($1) "
                              "AND set_by IS NULL",
                              projection.relation),
                     keys);
    });
    CommandCounterIncrement();
}

// States set by hand, as events, ascending.
pg::vector<Event> overrides_of(Batch &batch, Datum keys, int64 to) {
    pg::vector<Event> events;
    pg::as_superuser([&] {
        execute_with(
            psprintf(
                "SELECT position, state, ARRAY[key], set_at FROM projections_internal.override WHERE projection = %u "
                "AND key = ANY ($1) AND position <= " INT64_FORMAT " ORDER BY position, id",
                batch.projection.relation, to),
            keys);
    });
    for (uint64 i = 0; i < SPI_processed; i++) events.push_back(events::override_of(pg::Row(i)));
    SPI_freetuptable(SPI_tuptable);
    return events;
}

// Leaves the event with the keys that are affected. In the chunk's memory.
void restrict_keys(Event &event, const Affected &affected) {
    auto *kept = static_cast<Key *>(palloc(sizeof(Key) * std::max<std::size_t>(event.keys.size(), 1)));
    std::size_t count = 0;
    for (const Key &key : event.keys)
        if (affected.find(key.name)) kept[count++] = key;
    event.keys = {kept, count};
}

// Folds the affected keys, whose rows are gone, from the first event to the slot's checkpoint.
void fold_again(Batch &batch, const Affected &affected, Datum keys) {
    const Slot &slot = batch.slot;
    pg::vector<int64> out = events::left_out_positions(slot.projection.relation, InvalidSnapshot, 0, slot.position);
    pg::vector<Event> overrides = overrides_of(batch, keys, slot.position);
    std::size_t next_override = 0;
    auto add_overrides = [&](int64 until) {
        for (; next_override < overrides.size() && overrides[next_override].position <= until; next_override++)
            batch.chunk.events->push_back(overrides[next_override]);
    };
    auto fold = [&](int64 until) {
        auto &events = *batch.chunk.events;
        pg::within(batch.chunk.memory, [&] {
            for (Event &event : events) restrict_keys(event, affected);
            auto idle = [&](const Event &event) { return event.keys.empty() || events::contains(out, event.position); };
            events.erase(std::remove_if(events.begin(), events.end(), idle), events.end());
            add_overrides(until);
            events::order(events);
        });
        events::apply(batch, 0, events.size(), events::Pace::to_the_end);
    };
    each_chunk(batch, -1, slot.position, fold);
    batch.chunk.clear();
    fold(slot.position); // states set after the last event
}

int64 refold_slot(const Slot &slot, int64 from, int64 to) {
    Batch &batch = *pg::make<Batch>(CurrentMemoryContext, slot, false);
    Affected affected = affected_keys(batch, from, std::min(to, slot.position));
    if (affected.empty()) return 0;
    int64 count;
    Datum keys = array_of(affected, &count);
    forget_keys(slot.projection, keys);
    fold_again(batch, affected, keys);
    return count;
}

// The keys that are dealt out to a slot.
Affected keys_of_slot(const Slot &slot, std::span<const Datum> keys) {
    Affected affected(CurrentMemoryContext);
    for (Datum key : keys) {
        text *name = DatumGetTextPP(key);
        if (events::slot_of(name, slot.count) == slot.number)
            affected.add({VARDATA_ANY(name), VARSIZE_ANY_EXHDR(name)}, PointerGetDatum(name));
    }
    return affected;
}

// The projection is locked as a batch would, and what is run is run as in one.
template <class Body>
void in_batch(Projection &projection, Body &&body) {
    Projection *root = &projection;
    maintain::lock_relations({&root, 1});
    pg::as_superuser([&] { pg::with_spi([&] { catalog::with_pinned(projection.settings, body); }); });
}

} // namespace

int64 refold(Projection &projection, int64 from, int64 to) {
    int64 keys = 0;
    in_batch(projection, [&] {
        for (const Slot &slot : events::slots_of(projection)) keys += refold_slot(slot, from, to);
    });
    return keys;
}

int64 refold_keys(Projection &projection, std::span<const Datum> keys) {
    int64 refolded = 0;
    in_batch(projection, [&] {
        pg::vector<Slot> slots = events::slots_of(projection);
        if (!projection.async) slots.push_back(Slot{projection, 0, 1, PG_INT64_MAX});
        for (const Slot &slot : slots) {
            Affected affected = keys_of_slot(slot, keys);
            if (affected.empty()) continue;
            int64 count;
            Datum names = array_of(affected, &count);
            refolded += count;
            forget_keys(projection, names);
            fold_again(*pg::make<Batch>(CurrentMemoryContext, slot, false), affected, names);
        }
    });
    return refolded;
}

int64 repeat(Projection &projection, int64 from, int64 to) {
    int64 events = 0;
    in_batch(projection, [&] {
        for (const Slot &slot : events::slots_of(projection)) {
            int64 until = std::min(to, slot.position);
            Batch &batch = *pg::make<Batch>(CurrentMemoryContext, slot, false);
            pg::vector<int64> out = events::left_out_positions(projection.relation, InvalidSnapshot, from, until);
            each_chunk(batch, from - 1, until, [&](int64) {
                auto &list = *batch.chunk.events;
                auto idle = [&](const Event &event) {
                    return event.keys.empty() || events::contains(out, event.position);
                };
                list.erase(std::remove_if(list.begin(), list.end(), idle), list.end());
                events += static_cast<int64>(list.size());
                events::apply(batch, 0, list.size(), events::Pace::to_the_end);
            });
        }
    });
    return events;
}

namespace {

// A key's row and its slot's checkpoint, as one snapshot has them.
struct Standing {
    events::State state;
    Slot slot;
    bool blocked; // behind a failure
};

void read_under(const char *query, std::span<const Oid> types, std::span<const Datum> values, Snapshot snapshot) {
    pg::with_snapshot(snapshot, [&] {
        int code = pg::spi_execute_with_args(query, static_cast<int>(types.size()), const_cast<Oid *>(types.data()),
                                             const_cast<Datum *>(values.data()), nullptr, true, 1);
        if (code != SPI_OK_SELECT) elog(ERROR, "SPI_execute_with_args failed: %s", SPI_result_code_string(code));
    });
}

// From our own tables.
void read_slot(Standing &standing, std::span<const Oid> types, std::span<const Datum> values, Snapshot snapshot) {
    pg::as_superuser([&] {
        const char *text =
            psprintf("SELECT s.slot, n.slots, s.position, "
                     "coalesce(p.options ->> 'on_failure', 'park_key') = 'park_key' AND "
                     "EXISTS (SELECT FROM %s AS u WHERE $1 = ANY (u.keys)) "
                     "FROM projections_internal.projection AS p, "
                     "(SELECT %s AS slots) AS n "
                     "JOIN projections_internal.slot AS s ON s.projection = $2 AND s.slot = %s WHERE p.relation = $2",
                     events::still_to_come("$2"), events::slot_count_text("$2"), events::slot_text("$1", "n.slots"));
        read_under(text, types, values, snapshot);
    });
    if (SPI_processed != 1) elog(ERROR, "reading a slot of %s failed", standing.slot.projection.name());
    pg::Row row;
    standing.slot.number = row.integer(1);
    standing.slot.count = row.integer(2);
    standing.slot.position = row.bigint(3);
    standing.blocked = row.boolean(4);
}

// From the projection's table, as its owner.
void read_state(events::State &state, Projection &projection, std::span<const Oid> types, std::span<const Datum> values,
                Snapshot snapshot) {
    const char *query = psprintf("SELECT t.state, t.version, t.position, t.updated_at FROM %s AS t WHERE t.key "
                                 "OPERATOR(pg_catalog.=) $1",
                                 projection.name());
    pg::as_owner(projection.owner(), [&] { read_under(query, types, values, snapshot); });
    state.present = state.exists = SPI_processed > 0;
    if (!state.exists) return;
    pg::Row row;
    state.value = PointerGetDatum(PG_DETOAST_DATUM_COPY(row.datum(1)));
    state.version = row.bigint(2);
    state.position = row.bigint(3);
    state.time = row.timestamp(4);
    state.has_time = !row.is_null(4);
}

// Both under one snapshot.
Standing standing_of(Projection &projection, Datum key) {
    Standing standing{events::State{key, 0, false, false, false, 0, 0, 0, false}, Slot{projection, 0, 1, 0}, false};
    const Oid types[] = {TEXTOID, REGCLASSOID};
    const Datum values[] = {key, ObjectIdGetDatum(projection.relation)};
    Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
    read_slot(standing, types, values, snapshot);
    read_state(standing.state, projection, std::span(types).first(1), std::span(values).first(1), snapshot);
    UnregisterSnapshot(snapshot);
    return standing;
}

void fold_one(Projection &projection, events::Declared &declared, events::Call *call, const Event &event,
              events::State &state) {
    for (const Key &key : event.keys) {
        text *wanted = DatumGetTextPP(state.key);
        if (key.name != std::string_view(VARDATA_ANY(wanted), VARSIZE_ANY_EXHDR(wanted))) continue;
        events::forget_expired(declared, event, state);
        events::Folded folded = events::fold(projection, declared, call, event, key, state);
        state.present = !folded.null;
        // Out of the reducer's memory.
        if (state.present) state.value = PointerGetDatum(PG_DETOAST_DATUM_COPY(folded.value));
        state.version = state.present ? state.version + 1 : 0;
        state.position = event.position;
        state.time = event.time;
        state.has_time = event.has_time;
        if (call) ResetExprContext(call->context);
    }
}

Datum row_of(const events::State &state, MemoryContext memory) {
    Oid types[] = {TEXTOID, JSONBOID, INT8OID, INT8OID, TIMESTAMPTZOID};
    Datum values[] = {state.key, state.value, Int64GetDatum(state.version), Int64GetDatum(state.position),
                      TimestampTzGetDatum(state.time)};
    const char nulls[] = {' ', ' ', ' ', ' ', state.has_time ? ' ' : 'n'};
    int code = pg::spi_execute_with_args(
        "SELECT pg_catalog.jsonb_build_object('key', $1, 'state', $2, 'version', $3, 'position', $4, "
        "'updated_at', $5)",
        5, types, values, nulls, true, 1);
    if (code != SPI_OK_SELECT) elog(ERROR, "building a row failed");
    return pg::within(memory, [&] { return PointerGetDatum(PG_DETOAST_DATUM_COPY(pg::Row().datum(1))); });
}

} // namespace

bool fold_ahead(Projection &projection, Datum key, Datum *row) {
    MemoryContext outside = CurrentMemoryContext;
    bool found = false;
    in_batch(projection, [&] {
        Standing standing = standing_of(projection, key);
        events::State &state = standing.state;
        if (!standing.blocked) {
            Batch &batch = *pg::make<Batch>(CurrentMemoryContext, standing.slot, false);
            pg::vector<int64> out =
                events::left_out_positions(projection.relation, InvalidSnapshot, standing.slot.position);
            pg::as_owner(projection.owner(), [&] {
                pg::with_snapshot(GetLatestSnapshot(), [&] {
                    events::Call call{};
                    if (!batch.declared.machine) call = events::call_of(projection, batch.declared);
                    MemoryContext keep = CurrentMemoryContext;
                    each_chunk(batch, standing.slot.position, PG_INT64_MAX, [&](int64) {
                        pg::within(keep, [&] {
                            for (const Event &event : *batch.chunk.events)
                                if (!events::contains(out, event.position))
                                    fold_one(projection, batch.declared, batch.declared.machine ? nullptr : &call,
                                             event, state);
                        });
                    });
                });
            });
        }
        found = state.present;
        if (found) *row = row_of(state, outside);
    });
    return found;
}

} // namespace verify
