// projections.refresh_rows(): the rows of keys that the caller names, recomputed.
//
// The keys are JSON of the caller's, read as the projection's owner: a domain's CHECK is run on what the JSON says.
#include "catalog/settings.hpp"
#include "declare/describe.hpp"
#include "events/recompute.hpp"
#include "maintain/statements.hpp"
#include "pg/list.hpp"
#include "rights/audit.hpp"
#include "rights/caller.hpp"
#include "rights/reader.hpp"

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

// What reads the keys from $1, a jsonb: an object, or an array of objects.
constexpr const char *elements =
    "pg_catalog.jsonb_array_elements(CASE pg_catalog.jsonb_typeof($1) WHEN 'array' THEN $1 "
    "ELSE pg_catalog.jsonb_build_array($1) END) AS e(key)";

// Finds an element that does not name every key column and nothing else.
const char *wrong_key_query(Projection &projection) {
    pg::TextList names;
    for (const compile::Key &key : projection.block().row_key)
        names.add("%s",
                  quote_literal_cstr(get_attname(projection.relation, static_cast<AttrNumber>(key.column + 1), false)));
    return psprintf("SELECT e.key FROM %s WHERE pg_catalog.jsonb_typeof(e.key) <> 'object' OR "
                    "ARRAY(SELECT k COLLATE \"C\" FROM pg_catalog.jsonb_object_keys(e.key) AS k ORDER BY 1) <> "
                    "ARRAY(SELECT k COLLATE \"C\" FROM pg_catalog.unnest(ARRAY[%s]::text[]) AS k ORDER BY 1)",
                    elements, names.text());
}

// The keys, each once, in the order in which writers lock them.
const char *keys_query(Projection &projection) {
    const auto &keys = projection.block().row_key;
    pg::TextList columns, order;
    for (std::size_t i = 0; i < keys.size(); i++) {
        columns.add("r.%s", maintain::column_name(projection, keys[i].column));
        order.add("%zu", i + 1);
    }
    return psprintf("SELECT DISTINCT %s FROM %s, LATERAL pg_catalog.jsonb_populate_record(NULL::%s, e.key) AS r "
                    "ORDER BY %s",
                    columns.text(), elements, projection.name(), order.text());
}

void run_over(Projection &projection, const char *query, Datum keys, long limit) {
    Oid type = JSONBOID;
    rights::reading_as_owner(projection.relation, [&] {
        if (pg::spi_execute_with_args(query, 1, &type, &keys, nullptr, true, limit) != SPI_OK_SELECT)
            elog(ERROR, "reading keys failed");
    });
}

void check_keys(Projection &projection, Datum keys) {
    run_over(projection, wrong_key_query(projection), keys, 1);
    if (SPI_processed == 0) return;
    const char *columns = declare::key_text(projection.block());
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                    errmsg("%s is not a key of projection %s", pg::Row().text(1), projection.name()),
                    errdetail("Its key columns are (%s).", columns ? columns : ""),
                    errhint("Give each key as an object with exactly these columns.")));
}

// The one key of aggregates without GROUP BY.
TupleDesc put_only_key(Tuplestorestate *keys) {
    TupleDesc desc = CreateTemplateTupleDesc(1);
    TupleDescInitEntry(desc, 1, "ordinal", INT8OID, -1, 0);
    Datum zero = Int64GetDatum(0);
    bool null = false;
    tuplestore_putvalues(keys, desc, &zero, &null);
    return desc;
}

// Puts the keys into the store; returns their columns. Both are in the current memory context.
TupleDesc read_keys(Projection &projection, Datum json, Tuplestorestate *keys) {
    TupleDesc desc = nullptr;
    MemoryContext outside = CurrentMemoryContext;
    auto read = [&] {
        check_keys(projection, json);
        if (projection.block().row_key.empty()) return;
        run_over(projection, keys_query(projection), json, 0);
        pg::within(outside, [&] {
            desc = CreateTupleDescCopy(SPI_tuptable->tupdesc);
            pg::put_rows(keys);
        });
    };
    pg::as_owner(projection.owner(), [&] { catalog::with_pinned(projection.settings, [&] { pg::with_spi(read); }); });
    return desc ? desc : put_only_key(keys);
}

} // namespace
} // namespace operate

extern "C" {

PG_FUNCTION_INFO_V1(projections_refresh_rows);
// Recomputes the rows of the given keys; returns how many it wrote.
AUDITED(projections_refresh_rows) {
    rights::text_argument(fcinfo, 0, "name");
    if (PG_ARGISNULL(1))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument \"keys\" must not be null"),
                        errhint("Pass an array of {column: value} objects.")));
    events::refuse_while_applying();
    catalog::Projection *projection = &rights::own_projection(fcinfo, catalog::Hold::all);
    operate::refuse_without_key(*projection);
    Tuplestorestate *keys = tuplestore_begin_heap(true, false, work_mem);
    TupleDesc desc = operate::read_keys(*projection, PG_GETARG_DATUM(1), keys);
    PG_RETURN_INT64(events::refresh_keys(*projection, keys, desc));
}

} // extern "C"
