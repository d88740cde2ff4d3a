// Keys of inline reducers that an earlier position has come to late.
//
// Folding a key anew from the first event would read the whole source each time, and the keys that many write are those
// that events come late to. So a session remembers how such a key stood at a position below which all is decided, and
// goes on from there the next time: what has been added since is read once. What it remembers holds until any DDL, a
// TRUNCATE of the source included, and for keys that nobody has set by hand: not for state machines.
#include "catalog/settings.hpp"
#include "events/batch.hpp"
#include "events/events.hpp"
#include "events/source.hpp"
#include "maintain/locks.hpp"
#include "maintain/maintaining.hpp"
#include "pg/scope.hpp"
#include "verify/refold.hpp"

namespace verify {
namespace {

using catalog::Projection;
using events::Batch;
using events::Event;
using events::Key;
using events::KeyTable;
using events::State;

constexpr int64 chunk_events = 5000;
constexpr std::size_t most_keys = 10000;

struct Base {
    int64 position; // all events up to here are in the state
    State state;
};

// What a session remembers of one projection.
struct Bases {
    MemoryContext memory;
    uint64 made_at;
    std::size_t count;
    KeyTable<Base> keys;

    explicit Bases(MemoryContext in) : memory(in), made_at(catalog::generation()), count(0), keys(in) {}
};

constinit pg::flat_map<Oid, Bases *> *remembered = nullptr;

Bases &bases_of(Oid projection) {
    if (remembered == nullptr) remembered = pg::make<pg::flat_map<Oid, Bases *>>(TopMemoryContext);
    return *pg::within(TopMemoryContext, [&] {
        Bases *&bases = (*remembered)[projection];
        if (bases && (bases->made_at != catalog::generation() || bases->count > most_keys)) {
            MemoryContextDelete(bases->memory);
            bases = nullptr;
        }
        if (bases == nullptr) {
            MemoryContext memory = AllocSetContextCreate(TopMemoryContext, "late keys", ALLOCSET_SMALL_SIZES);
            bases = pg::make<Bases>(memory, memory);
        }
        return bases;
    });
}

std::string_view view(Datum key) {
    text *bytes = DatumGetTextPP(key);
    return {VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes)};
}

struct Work {
    Projection &projection;
    Datum keys;   // text[]
    int64 lowest; // of the positions that came late
    int64 safe;   // all up to here is decided
    Bases &bases;
    KeyTable<int64> after; // by key: where its fold goes on
    bool noted = false;
};

void execute_with(Work &work, const char *sql) {
    Oid type = TEXTARRAYOID;
    int code = pg::spi_execute_with_args(sql, 1, &type, &work.keys, nullptr, false, 0);
    if (code < 0) elog(ERROR, "SPI_execute_with_args failed: %s", SPI_result_code_string(code));
    CommandCounterIncrement();
}

template <class Body>
void as_maintenance(Projection &projection, Body &&body) {
    pg::as_owner(projection.owner(), [&] { maintain::writing_as(projection.relation, body); });
}

void insert(Projection &projection, const State &state) {
    Oid types[] = {TEXTOID, JSONBOID, INT8OID, INT8OID, TIMESTAMPTZOID};
    Datum values[] = {state.key, state.value, Int64GetDatum(state.version), Int64GetDatum(state.position),
                      TimestampTzGetDatum(state.time)};
    const char nulls[] = {' ', ' ', ' ', ' ', state.has_time ? ' ' : 'n'};
    if (pg::spi_execute_with_args(
            psprintf("INSERT INTO %s (key, state, version, position, updated_at) VALUES ($1, $2, $3, $4, $5)",
                     projection.name()),
            lengthof(types), types, values, nulls, false, 0) != SPI_OK_INSERT)
        elog(ERROR, "writing a state failed");
}

// Puts the rows back to where the keys' folds go on. Returns the position after which events are to be read.
int64 go_back(Work &work, std::span<const Datum> keys) {
    int64 from = PG_INT64_MAX;
    as_maintenance(work.projection, [&] {
        execute_with(work, psprintf("DELETE FROM %s WHERE key = ANY ($1)", work.projection.name()));
        for (Datum key : keys) {
            const Base *base = work.bases.keys.find(view(key));
            bool use = base && base->position < work.lowest;
            if (use && base->state.present) insert(work.projection, base->state);
            work.after.add(view(key), use ? base->position : -1);
            from = std::min(from, use ? base->position : -1);
        }
    });
    CommandCounterIncrement();
    return from;
}

void remember(Work &work, Datum key, State state) {
    Bases &bases = work.bases;
    MemoryContext before = MemoryContextSwitchTo(bases.memory);
    state.key = datumCopy(key, false, -1);
    if (state.present) state.value = datumCopy(state.value, false, -1);
    bool added;
    Base &base = bases.keys.add(view(state.key), Base{work.safe, state}, &added);
    if (added)
        bases.count++;
    else {
        if (base.state.present) pfree(DatumGetPointer(base.state.value));
        Datum kept = base.state.key;
        pfree(DatumGetPointer(state.key));
        state.key = kept;
        base = Base{work.safe, state};
    }
    MemoryContextSwitchTo(before);
}

// The rows as they stand when all that is decided is folded.
void note(Work &work, std::span<const Datum> keys) {
    work.noted = true;
    for (Datum key : keys) { // without a row
        State state{key, 0, false, false, false, 0, 0, 0, false};
        remember(work, key, state);
    }
    pg::as_owner(work.projection.owner(), [&] {
        execute_with(work, psprintf("SELECT key, state, version, position, updated_at FROM %s WHERE key = ANY ($1)",
                                    work.projection.name()));
    });
    for (uint64 i = 0; i < SPI_processed; i++) {
        pg::Row row(i);
        State state{0, 0, true, true, false, 0, 0, 0, false};
        state.value = PointerGetDatum(PG_DETOAST_DATUM_COPY(row.datum(2)));
        state.version = row.bigint(3);
        state.position = row.bigint(4);
        state.time = row.timestamp(5);
        state.has_time = !row.is_null(5);
        remember(work, PointerGetDatum(DatumGetTextPCopy(row.datum(1))), state);
    }
    SPI_freetuptable(SPI_tuptable);
}

// Leaves the event with the keys that it is late for. In the chunk's memory.
void restrict_keys(Work &work, Event &event) {
    auto *kept = static_cast<Key *>(palloc(sizeof(Key) * std::max<std::size_t>(event.keys.size(), 1)));
    std::size_t count = 0;
    for (const Key &key : event.keys)
        if (const int64 *after = work.after.find(key.name); after && event.position > *after) kept[count++] = key;
    event.keys = {kept, count};
}

void fold_chunk(Work &work, Batch &batch, std::span<const Datum> keys) {
    std::size_t decided = 0, size = batch.chunk.size();
    pg::within(batch.chunk.memory, [&] {
        for (Event &event : *batch.chunk.events) restrict_keys(work, event);
    });
    while (decided < size && batch.chunk[decided].position <= work.safe) decided++;
    if (decided > 0) events::apply(batch, 0, decided, events::Pace::to_the_end);
    if (decided == size) return;
    if (!work.noted) note(work, keys);
    events::apply(batch, decided, size, events::Pace::to_the_end);
}

void fold_on(Work &work, Batch &batch, int64 after, std::span<const Datum> keys) {
    for (bool all = false; !all;) {
        CHECK_FOR_INTERRUPTS();
        batch.chunk.clear();
        pg::as_owner(work.projection.owner(), [&] {
            all = events::read_events_of(work.projection, work.keys, after, chunk_events, batch.chunk);
        });
        if (batch.chunk.size() > 0) after = batch.chunk[batch.chunk.size() - 1].position;
        pg::within(batch.scratch, [&] { fold_chunk(work, batch, keys); });
        MemoryContextReset(batch.scratch);
    }
}

} // namespace

void refold_late(Projection &projection, std::span<const Datum> keys, int64 lowest) {
    const events::EventSource *source = events::event_source(projection.sources.front());
    if (projection.kind != catalog::Kind::reducer || source == nullptr) {
        refold_keys(projection, keys);
        return;
    }
    Datum names = PointerGetDatum(construct_array(const_cast<Datum *>(keys.data()), static_cast<int>(keys.size()),
                                                  TEXTOID, -1, false, TYPALIGN_INT));
    int64 safe = events::safe_position(*source).position;
    pg::as_superuser([&] {
        pg::with_spi([&] {
            catalog::with_pinned(projection.settings, [&] {
                events::Slot slot{projection, 0, 1, PG_INT64_MAX};
                Batch &batch = *pg::make<Batch>(CurrentMemoryContext, slot, false);
                Work &work = *pg::make<Work>(CurrentMemoryContext, projection, names, lowest, safe,
                                             bases_of(projection.relation), KeyTable<int64>(CurrentMemoryContext));
                fold_on(work, batch, go_back(work, keys), keys);
            });
        });
    });
}

} // namespace verify
