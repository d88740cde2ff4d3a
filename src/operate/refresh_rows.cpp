// projections.refresh_rows(): the rows that the caller names, recomputed.
//
// What names them is JSON of the caller's, read as the projection's owner: a domain's CHECK is run on what the JSON
// says.
#include "catalog/settings.hpp"
#include "compile/terms.hpp"
#include "events/recompute.hpp"
#include "operate/named_rows.hpp"
#include "pg/scope.hpp"
#include "rights/audit.hpp"
#include "rights/caller.hpp"

namespace operate {
namespace {

using catalog::Projection;

void refuse_without_key(Projection &projection) {
    if (projection.kind != catalog::Kind::query)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("rows of projection %s do not follow from a query", projection.name()),
                        errdetail("They follow from events, one after the other."),
                        errhint("Use projections.replay() with the positions of the events behind the rows.")));
    if (projection.block().counts_equal_rows())
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("projection %s has no key", projection.name()),
                        errdetail("A source has no primary key, so its rows cannot be addressed."),
                        errhint("Drop and create it to recompute all of it.")));
}

// The one key of aggregates without GROUP BY.
events::Keys only_key() {
    events::Keys keys{tuplestore_begin_heap(true, false, work_mem), CreateTemplateTupleDesc(1)};
    TupleDescInitEntry(keys.desc, 1, "ordinal", INT8OID, -1, 0);
    Datum zero = Int64GetDatum(0);
    bool null = false;
    tuplestore_putvalues(keys.rows, keys.desc, &zero, &null);
    return keys;
}

// The keys of rows that are there, in the table or by the definition: what is wrong may be in either alone.
events::Keys find_keys(Projection &projection, Snapshot snapshot, const char *rows, void *context) {
    const auto &named = *static_cast<const NamedRows *>(context);
    if (projection.block().row_key.empty()) return only_key();
    events::Keys keys{tuplestore_begin_heap(true, false, work_mem), nullptr};
    MemoryContext outside = CurrentMemoryContext;
    auto find = [&] {
        const char *definition = rows ? compile::definition_text(projection.block(), rows)
                                      : compile::definition_over(projection.block(), {});
        run_keys_query(named, keys_query(projection, named, definition, Among::definition_and_table), snapshot);
        pg::within(outside, [&] {
            keys.desc = CreateTupleDescCopy(SPI_tuptable->tupdesc);
            pg::put_rows(keys.rows);
        });
    };
    pg::as_owner(projection.owner(), [&] { catalog::with_pinned(projection.settings, [&] { pg::with_spi(find); }); });
    return keys;
}

} // namespace
} // namespace operate

extern "C" {

PG_FUNCTION_INFO_V1(projections_refresh_rows);
// Recomputes the rows that the given objects determine; returns how many it wrote.
AUDITED(projections_refresh_rows) {
    rights::text_argument(fcinfo, 0, "name");
    if (PG_ARGISNULL(1))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument \"keys\" must not be null"),
                        errhint("Pass an array of {column: value} objects.")));
    events::refuse_while_applying();
    catalog::Projection *projection = &rights::own_projection(fcinfo, catalog::Hold::all);
    operate::refuse_without_key(*projection);
    operate::NamedRows named = operate::named_rows(*projection, PG_GETARG_DATUM(1));
    if (named.namings.empty()) PG_RETURN_INT64(0);
    PG_RETURN_INT64(events::refresh_found(*projection, operate::find_keys, &named));
}

} // extern "C"
