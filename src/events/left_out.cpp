// The rules are in the header; here they are texts.
#include "events/left_out.hpp"

#include "events/declared.hpp"
#include "pg/scope.hpp"

namespace events {

const char *still_to_come(const char *projection) {
    return psprintf("(SELECT slot, position, keys, false AS parked, sqlstate, error FROM projections_internal.failure "
                    "WHERE projection = %s AND %s UNION ALL "
                    "SELECT slot, position, keys, true, NULL, NULL FROM projections_internal.parked_event "
                    "WHERE projection = %s)",
                    projection, open_failure, projection);
}

const char *left_out(const char *projection) {
    return psprintf("(SELECT position FROM projections_internal.failure WHERE projection = %s AND (%s OR %s) UNION "
                    "SELECT position FROM projections_internal.parked_event WHERE projection = %s)",
                    projection, open_failure, decided_failure, projection);
}

const char *of_slot(const char *number, const char *slots) {
    return psprintf("(slot = %s OR %s = 0 AND slot >= %s)", number, number, slots);
}

pg::vector<int64> left_out_positions(Oid projection, Snapshot snapshot, int64 from, int64 to) {
    const char *text = psprintf("SELECT u.position FROM %s AS u WHERE u.position BETWEEN '" INT64_FORMAT
                                "'::bigint AND '" INT64_FORMAT "'::bigint ORDER BY 1",
                                left_out(psprintf("%u::pg_catalog.regclass", projection)), from, to);
    pg::vector<int64> positions;
    pg::as_superuser([&] {
        pg::with_spi([&] {
            if (snapshot)
                pg::spi_execute_under(snapshot, text);
            else
                pg::spi_execute(text);
            positions = pg::bigints();
        });
    });
    return positions;
}

bool contains(const pg::vector<int64> &positions, int64 position) {
    return std::binary_search(positions.begin(), positions.end(), position);
}

static constinit SPIPlanPtr decided = nullptr, due = nullptr;

pg::vector<int64> decided_positions(Oid projection, int64 after, int64 to) {
    static constexpr Oid types[] = {REGCLASSOID, INT8OID, INT8OID};
    Datum values[] = {ObjectIdGetDatum(projection), Int64GetDatum(after), Int64GetDatum(to)};
    pg::vector<int64> positions;
    pg::as_superuser([&] {
        pg::with_spi([&] {
            const char *text =
                psprintf("SELECT DISTINCT position FROM projections_internal.failure WHERE projection = $1 "
                         "AND position > $2 AND position <= $3 AND %s ORDER BY position",
                         decided_failure);
            run(prepared(decided, text, types), values, nullptr, Effect::write);
            positions = pg::bigints();
        });
    });
    return positions;
}

pg::vector<int64> due_failures(const Slot &slot, bool stops) {
    static constexpr Oid types[] = {REGCLASSOID, INT4OID, INT4OID, INT8OID, BOOLOID};
    Datum values[] = {ObjectIdGetDatum(slot.projection.relation), Int32GetDatum(slot.number), Int32GetDatum(slot.count),
                      Int64GetDatum(slot.position), BoolGetDatum(stops)};
    pg::vector<int64> positions;
    pg::as_superuser([&] {
        pg::with_spi([&] {
            const char *text = psprintf("SELECT position FROM projections_internal.failure WHERE projection = $1 AND "
                                        "%s AND %s AND %s AND (position <= $4 OR NOT $5) ORDER BY position LIMIT 1000",
                                        of_slot("$2", "$3"), open_failure, due_failure);
            run(prepared(due, text, types), values, nullptr, Effect::write);
            positions = pg::bigints();
        });
    });
    return positions;
}

} // namespace events
