// Rows of projections_internal.parked_event, and the keys that wait.
#include "events/parked.hpp"

#include "events/left_out.hpp"

namespace events {

static constinit SPIPlanPtr blocked = nullptr, insertion = nullptr, deletion = nullptr;

void block(Batch &batch, std::string_view key, int64 position) {
    if (batch.blocked.find(key) == nullptr) { // its bytes must outlive the chunk they came from
        char *copy = static_cast<char *>(MemoryContextAlloc(batch.memory, std::max<std::size_t>(key.size(), 1)));
        memcpy(copy, key.data(), key.size());
        key = {copy, key.size()};
    }
    int64 &from = batch.blocked.add(key, position);
    from = std::min(from, position);
}

void load_blocked(Batch &batch, bool failures_only) {
    static constexpr Oid types[] = {REGCLASSOID, BOOLOID, BOOLOID};
    Datum values[] = {projection_datum(batch.slot), BoolGetDatum(batch.declared.on_failure == OnFailure::park_key),
                      BoolGetDatum(!failures_only)};
    pg::as_superuser([&] {
        run(prepared(blocked,
                     psprintf("SELECT k, min(b.position) FROM %s AS b, unnest(b.keys) AS k WHERE (b.parked OR $2) AND "
                              "(NOT b.parked OR $3) GROUP BY k",
                              still_to_come("$1")),
                     types),
            values, nullptr, Effect::write);
    });
    for (uint64 i = 0; i < SPI_processed; i++) {
        pg::Row row(i);
        text *key = DatumGetTextPP(row.datum(1));
        block(batch, {VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key)}, row.bigint(2));
    }
    SPI_freetuptable(SPI_tuptable);
}

void park(const Slot &slot, const Event &event) {
    static constexpr Oid types[] = {REGCLASSOID, INT4OID, INT8OID, TEXTOID, TIMESTAMPTZOID, TEXTARRAYOID};
    Datum values[] = {projection_datum(slot),          Int32GetDatum(slot.number),
                      Int64GetDatum(event.position),   event.type ? CStringGetTextDatum(event.type) : 0,
                      TimestampTzGetDatum(event.time), key_array(event.keys)};
    const char nulls[] = {' ', ' ', ' ', event.type ? ' ' : 'n', event.has_time ? ' ' : 'n', ' '};
    pg::as_superuser([&] {
        run(prepared(insertion,
                     "INSERT INTO projections_internal.parked_event (projection, slot, position, event_type, "
                     "event_time, keys) "
                     "VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
                     types),
            values, nulls, Effect::write);
    });
}

void unpark(const Slot &slot, const pg::vector<int64> &positions) {
    static constexpr Oid types[] = {REGCLASSOID, INT8ARRAYOID};
    if (positions.empty()) return;
    Datum values[] = {projection_datum(slot), bigint_array({positions.data(), positions.size()})};
    pg::as_superuser([&] {
        run(prepared_by_key(
                deletion, "DELETE FROM projections_internal.parked_event WHERE projection = $1 AND position = ANY ($2)",
                types),
            values, nullptr, Effect::write);
    });
}

} // namespace events
