// Events stream from the feed, in the order of positions, and are folded one by one. Nothing is locked: a batch changes
// states, checkpoint, failures and parked events in one transaction, so a snapshot sees them in step; and events up to
// a checkpoint do not change.
#include "verify/fold_states.hpp"

#include "events/left_out.hpp"
#include "maintain/changes.hpp"

namespace verify {
namespace {

using catalog::Projection;
using events::Event;
using events::Key;
using events::State;

uint64 hash_of(std::string_view key, uint64 seed) {
    return DatumGetUInt64(
        hash_any_extended(reinterpret_cast<const unsigned char *>(key.data()), static_cast<int>(key.size()), seed));
}

struct Folding {
    Projection &projection;
    events::Declared &declared;
    Part part;
    MemoryContext memory; // states
    events::Chunk chunk;  // one event
    events::Call call;
    events::KeyTable<int> index;
    pg::vector<State> states;
    pg::vector<int64> checkpoints; // by slot; empty for an inline projection
    pg::vector<int64> left_out;    // positions, ascending
    pg::vector<Event> overrides;   // by position
    std::size_t next_override = 0;

    Folding(Projection &of, Part share)
        : projection(of), declared(events::declared(of)), part(share), memory(CurrentMemoryContext),
          chunk(CurrentMemoryContext), call{}, index(CurrentMemoryContext) {}
};

template <class Receive>
void read_catalog(const char *text, Snapshot snapshot, Receive &&receive) {
    pg::as_superuser([&] {
        pg::spi_execute_under(snapshot, text);
        for (uint64 i = 0; i < SPI_processed; i++) receive(pg::Row(i));
        SPI_freetuptable(SPI_tuptable);
    });
}

void read_standing(Folding &folding, Snapshot snapshot) {
    Oid relation = folding.projection.relation;
    if (folding.projection.async) folding.checkpoints = events::known_checkpoints(folding.projection, snapshot);
    folding.left_out = events::left_out_positions(relation, snapshot);
    read_catalog(
        psprintf("SELECT position, state, ARRAY[key], set_at FROM projections_internal.override WHERE projection = %u "
                 "ORDER BY position, id",
                 relation),
        snapshot, [&](pg::Row row) {
            pg::within(folding.memory, [&] { folding.overrides.push_back(events::override_of(row)); });
        });
}

// Keys are dealt out to slots by this hash.
bool applied(const Folding &folding, std::string_view key, int64 position) {
    if (folding.checkpoints.empty()) return true;
    std::size_t slot = 0;
    if (folding.checkpoints.size() > 1)
        slot = (hash_of(key, 0) & UINT64CONST(0x7fffffffffffffff)) % folding.checkpoints.size();
    return position <= folding.checkpoints[slot];
}

State &state_of(Folding &folding, const Key &key) {
    if (const int *known = folding.index.find(key.name)) return folding.states[*known];
    return *pg::within(folding.memory, [&] { // its bytes outlive the event that it came with
        Datum copy = datumCopy(key.text, false, -1);
        text *name = DatumGetTextPP(copy);
        folding.index.add({VARDATA_ANY(name), VARSIZE_ANY_EXHDR(name)}, static_cast<int>(folding.states.size()));
        folding.states.push_back(State{copy, 0, false, false, false, 0, 0, 0, false});
        return &folding.states.back();
    });
}

void fold_key(Folding &folding, const Event &event, const Key &key) {
    State &state = state_of(folding, key);
    events::forget_expired(folding.declared, event, state);
    events::Folded folded = events::fold(folding.projection, folding.declared,
                                         folding.declared.machine ? nullptr : &folding.call, event, key, state);
    Datum value = 0;
    if (!folded.null)
        value = pg::within(folding.memory, [&] { return PointerGetDatum(PG_DETOAST_DATUM_COPY(folded.value)); });
    bool repeated = event.override_ && state.present && datum_image_eq(state.value, value, false, -1);
    if (state.present) pfree(DatumGetPointer(state.value));
    state.value = value;
    state.present = !folded.null;
    state.version = state.present ? state.version + (repeated ? 0 : 1) : 0;
    state.position = std::max(state.position, event.position);
    state.time = event.time;
    state.has_time = event.has_time;
    if (folding.call.context) ResetExprContext(folding.call.context);
}

void fold_event(Folding &folding, const Event &event) {
    if (event.keys.empty() || !applied(folding, event.keys.front().name, event.position)) return;
    for (const Key &key : event.keys)
        if (folding.part.has(key.name)) fold_key(folding, event, key);
}

// States set by hand come after the events of their position.
void fold_overrides(Folding &folding, int64 before) {
    for (; folding.next_override < folding.overrides.size(); folding.next_override++) {
        const Event &event = folding.overrides[folding.next_override];
        if (event.position >= before) return;
        fold_event(folding, event);
    }
}

void receive_event(TupleTableSlot *row, void *context) {
    auto &folding = *static_cast<Folding *>(context);
    CHECK_FOR_INTERRUPTS();
    folding.chunk.clear();
    pg::within(folding.chunk.memory, [&] {
        folding.chunk.add(row);
        const Event &event = folding.chunk[0];
        if (events::contains(folding.left_out, event.position)) return;
        fold_overrides(folding, event.position);
        fold_event(folding, event);
    });
}

} // namespace

bool Part::has(std::string_view key) const {
    return count == 1 || hash_of(key, 1) % count == static_cast<uint64>(number);
}

pg::vector<State> fold_states(Projection &projection, Part part, Snapshot snapshot) {
    Folding &folding = *pg::make<Folding>(CurrentMemoryContext, projection, part);
    read_standing(folding, snapshot);
    int64 until = PG_INT64_MAX;
    if (!folding.checkpoints.empty()) until = *std::max_element(folding.checkpoints.begin(), folding.checkpoints.end());
    if (!folding.declared.machine) folding.call = events::call_of(projection, folding.declared);
    SPIPlanPtr plan = pg::spi_prepare(
        psprintf("SELECT position, event, keys, type, event_time, event_id FROM %s WHERE position <= " INT64_FORMAT
                 " ORDER BY position",
                 pg::qualified_name(projection.definition), until));
    maintain::read_rows(plan, snapshot, receive_event, &folding);
    SPI_freeplan(plan);
    folding.chunk.clear();
    pg::within(folding.chunk.memory, [&] { fold_overrides(folding, PG_INT64_MAX); });
    return std::move(folding.states);
}

} // namespace verify
