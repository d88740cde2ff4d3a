// The feed is a hidden view. It is read by kept plans, into a chunk that bounds how much is held, and as its owner: its
// expressions are a user's.
#include "events/feed.hpp"
#include "pg/list.hpp"
#include "pg/scope.hpp"

namespace events {

constinit Snapshot events_as_of = nullptr;

namespace {

Snapshot reading_snapshot() { return events_as_of ? events_as_of : GetLatestSnapshot(); }

// What a chunk may hold in memory, whatever the events' size.
constexpr Size chunk_bytes = 8 * 1024 * 1024;

enum Column { position_column, event_column, keys_column, type_column, time_column, id_column };

struct Receiver {
    DestReceiver receiver;
    Chunk *chunk;
    bool full;
};

bool receive(TupleTableSlot *row, DestReceiver *self) {
    auto *receiver = reinterpret_cast<Receiver *>(self);
    bool room = receiver->chunk->add(row);
    receiver->full |= !room;
    return room;
}

int64 integer(Datum value, Oid type) {
    switch (type) {
    case INT2OID: return DatumGetInt16(value);
    case INT4OID: return DatumGetInt32(value);
    default: return DatumGetInt64(value);
    }
}

// Runs a plan over the feed. Returns whether the chunk was filled.
bool read_into(SPIPlanPtr plan, std::span<const Datum> values, std::span<const Oid> types, Chunk &chunk) {
    ParamListInfo parameters = makeParamList(static_cast<int>(values.size()));
    for (std::size_t i = 0; i < values.size(); i++)
        parameters->params[i] = {values[i], false, PARAM_FLAG_CONST, types[i]};
    Receiver receiver{};
    receiver.receiver.receiveSlot = receive;
    receiver.receiver.rStartup = [](DestReceiver *, int, TupleDesc) {};
    receiver.receiver.rShutdown = [](DestReceiver *) {};
    receiver.receiver.rDestroy = [](DestReceiver *) {};
    receiver.receiver.mydest = DestTuplestore;
    receiver.chunk = &chunk;
    SPIExecuteOptions options{};
    options.params = parameters;
    options.read_only = true;
    options.dest = &receiver.receiver;
    int code = 0;
    pg::with_snapshot(reading_snapshot(), [&] { code = SPI_execute_plan_extended(plan, &options); });
    if (code < 0) elog(ERROR, "SPI_execute_plan_extended failed: %s", SPI_result_code_string(code));
    return receiver.full;
}

const char *feed_select(catalog::Projection &projection, const char *condition) {
    return psprintf("SELECT position, event, keys, type, event_time, event_id FROM %s WHERE %s ORDER BY position",
                    pg::qualified_name(projection.definition), condition);
}

} // namespace

void Chunk::clear() {
    MemoryContextReset(memory);
    events = pg::make<pg::vector<Event>>(memory);
    bytes = 0;
}

std::span<const Key> keys_of(Datum array) {
    Datum *elements;
    bool *nulls;
    int count;
    deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &count);
    auto *keys = static_cast<Key *>(palloc(sizeof(Key) * std::max(count, 1)));
    std::size_t distinct = 0;
    for (int i = 0; i < count; i++) {
        if (nulls[i]) continue;
        text *value = DatumGetTextPP(elements[i]);
        std::string_view name(VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value));
        bool repeated = std::any_of(keys, keys + distinct, [&](const Key &each) { return each.name == name; });
        if (!repeated) keys[distinct++] = Key{name, PointerGetDatum(value)};
    }
    return {keys, distinct};
}

bool Chunk::add(TupleTableSlot *row) {
    slot_getallattrs(row);
    pg::within(memory, [&] {
        Event event{};
        Oid position_type = TupleDescAttr(row->tts_tupleDescriptor, position_column)->atttypid;
        event.position = integer(row->tts_values[position_column], position_type);
        event.row = datumCopy(row->tts_values[event_column], false, -1);
        if (!row->tts_isnull[keys_column]) event.keys = keys_of(datumCopy(row->tts_values[keys_column], false, -1));
        if (!row->tts_isnull[type_column]) event.type = TextDatumGetCString(row->tts_values[type_column]);
        if (!row->tts_isnull[id_column]) event.id = TextDatumGetCString(row->tts_values[id_column]);
        event.has_time = !row->tts_isnull[time_column];
        if (event.has_time) event.time = DatumGetTimestampTz(row->tts_values[time_column]);
        events->push_back(event);
        bytes += VARSIZE_ANY(DatumGetPointer(event.row)) + sizeof(Event);
    });
    return bytes < chunk_bytes;
}

bool read_events(catalog::Projection &projection, const Slot *slot, int64 after, int64 to, int64 limit, Chunk &chunk) {
    static constexpr Oid types[] = {INT8OID, INT8OID, INT8OID, INT4OID, INT4OID};
    Declared &d = declared(projection);
    bool part = slot && slot->count > 1;
    std::size_t before = chunk.size();
    // Planned each time: only the actual range and limit tell an index on the event type from one on the position.
    SPIPlanPtr plan =
        part ? prepared(d.read_slot,
                        psprintf("%s LIMIT $3",
                                 feed_select(projection, psprintf("position > $1 AND position <= $2 AND %s = $5",
                                                                  slot_text("keys[1]", "$4")))),
                        types, CURSOR_OPT_CUSTOM_PLAN)
             : prepared(d.read, psprintf("%s LIMIT $3", feed_select(projection, "position > $1 AND position <= $2")),
                        std::span(types).first(3), CURSOR_OPT_CUSTOM_PLAN);
    Datum values[] = {Int64GetDatum(after), Int64GetDatum(to), Int64GetDatum(limit),
                      Int32GetDatum(slot ? slot->count : 1), Int32GetDatum(slot ? slot->number : 0)};
    std::size_t count = part ? 5 : 3;
    bool full = read_into(plan, std::span(values).first(count), std::span(types).first(count), chunk);
    return !full && static_cast<int64>(chunk.size() - before) < limit;
}

bool read_events_of(catalog::Projection &projection, Datum keys, int64 after, int64 limit, Chunk &chunk) {
    static constexpr Oid types[] = {INT8OID, TEXTARRAYOID, INT8OID};
    std::size_t before = chunk.size();
    SPIPlanPtr plan =
        prepared(declared(projection).read_of,
                 psprintf("%s LIMIT $3", feed_select(projection, "position > $1 AND keys OPERATOR(pg_catalog.&&) $2")),
                 types, CURSOR_OPT_CUSTOM_PLAN);
    const Datum values[] = {Int64GetDatum(after), keys, Int64GetDatum(limit)};
    bool full = read_into(plan, values, types, chunk);
    return !full && static_cast<int64>(chunk.size() - before) < limit;
}

bool read_events_at(catalog::Projection &projection, Datum positions, Chunk &chunk) {
    static constexpr Oid types[] = {INT8ARRAYOID};
    Declared &d = declared(projection);
    SPIPlanPtr plan =
        prepared(d.read_at, feed_select(projection, "position = ANY ($1)"), types, CURSOR_OPT_CUSTOM_PLAN);
    return !read_into(plan, std::span(&positions, 1), types, chunk);
}

pg::vector<int64> read_positions(catalog::Projection &projection, int64 after, int64 to, int64 limit) {
    static constexpr Oid types[] = {INT8OID, INT8OID, INT8OID};
    Declared &d = declared(projection);
    SPIPlanPtr plan =
        prepared(d.read_positions,
                 psprintf("SELECT position::bigint FROM %s WHERE position > $1 AND position <= $2 ORDER BY "
                          "1 LIMIT $3",
                          pg::qualified_name(projection.definition)),
                 types, CURSOR_OPT_CUSTOM_PLAN);
    Datum values[] = {Int64GetDatum(after), Int64GetDatum(to), Int64GetDatum(limit)};
    pg::with_snapshot(reading_snapshot(), [&] { run(plan, values, nullptr, Effect::read); });
    pg::vector<int64> positions = pg::bigints();
    SPI_freetuptable(SPI_tuptable);
    return positions;
}

Datum bigint_array(std::span<const int64> values) {
    auto *datums = static_cast<Datum *>(palloc(sizeof(Datum) * std::max<std::size_t>(values.size(), 1)));
    for (std::size_t i = 0; i < values.size(); i++) datums[i] = Int64GetDatum(values[i]);
    return PointerGetDatum(construct_array(datums, static_cast<int>(values.size()), INT8OID, sizeof(int64),
                                           FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

const char *positions_text(std::span<const int64> positions) {
    pg::TextList text(",");
    for (int64 position : positions) text.add(INT64_FORMAT, position);
    return psprintf("'{%s}'::bigint[]", text.text());
}

Datum key_array(std::span<const Key> keys) {
    auto *datums = static_cast<Datum *>(palloc(sizeof(Datum) * std::max<std::size_t>(keys.size(), 1)));
    for (std::size_t i = 0; i < keys.size(); i++) datums[i] = keys[i].text;
    return PointerGetDatum(construct_array(datums, static_cast<int>(keys.size()), TEXTOID, -1, false, TYPALIGN_INT));
}

Event override_of(const pg::Row &row) {
    Event event{};
    event.position = row.bigint(1);
    event.row = datumCopy(row.datum(2), false, -1);
    event.keys = keys_of(datumCopy(row.datum(3), false, -1));
    event.time = row.timestamp(4);
    event.has_time = event.override_ = true;
    return event;
}

void order(pg::vector<Event> &events) {
    auto before = [](const Event &a, const Event &b) {
        return a.position != b.position ? a.position < b.position : a.override_ < b.override_;
    };
    for (auto next = events.begin(); next != events.end(); ++next) {
        if (next == events.begin() || !before(*next, *(next - 1))) continue;
        std::rotate(std::upper_bound(events.begin(), next, *next, before), next, next + 1);
    }
}

} // namespace events
