// The source rows behind a projection's rows.
#include "compile/deparse.hpp"
#include "pg/scope.hpp"
#include "rights/caller.hpp"

namespace operate {
namespace {

// SELECT <keys> AS k1, …, <each table's whole row> AS r1, … FROM … WHERE …: the definition before it is grouped.
const char *rows_query(const compile::Block &block) {
    Query *query = static_cast<Query *>(copyObjectImpl(block.core));
    List *targets = NIL;
    auto add = [&](Expr *expression, const char *name) {
        targets = lappend(targets, makeTargetEntry(expression, static_cast<AttrNumber>(list_length(targets) + 1),
                                                   pstrdup(name), false));
    };
    int number = 0;
    for (const compile::Key &key : block.row_key)
        add(static_cast<Expr *>(copyObjectImpl(block.column(key.column)->expr)), psprintf("k%d", ++number));
    number = 0;
    for (RangeTblEntry *entry : pg::each<RangeTblEntry>(query->rtable)) {
        if (entry->rtekind != RTE_RELATION) continue;
        number++;
        add(reinterpret_cast<Expr *>(makeWholeRowVar(entry, number, 0, false)), psprintf("r%d", number));
    }
    query->targetList = targets;
    query->groupClause = query->distinctClause = query->sortClause = NIL;
    query->hasAggs = query->hasDistinctOn = false;
    query->havingQual = nullptr;
    return compile::deparse(query);
}

} // namespace
} // namespace operate

extern "C" {

PG_FUNCTION_INFO_V1(projections_rows_query);
// The text of the query, and the table of each r column.
Datum projections_rows_query(PG_FUNCTION_ARGS) {
    catalog::Projection *projection = catalog::projection(PG_GETARG_OID(0));
    if (projection == nullptr || projection->kind != catalog::Kind::query) PG_RETURN_NULL();
    const compile::Block &block = projection->block();
    pg::vector<Datum> tables;
    for (int source : block.occurrence_source) tables.push_back(ObjectIdGetDatum(block.sources[source].relation));
    TupleDesc descriptor;
    if (get_call_result_type(fcinfo, nullptr, &descriptor) != TYPEFUNC_COMPOSITE)
        elog(ERROR, "return type must be a row type");
    Datum values[] = {CStringGetTextDatum(operate::rows_query(block)),
                      PointerGetDatum(construct_array(tables.data(), static_cast<int>(tables.size()), REGCLASSOID,
                                                      sizeof(Oid), true, TYPALIGN_INT))};
    bool nulls[] = {false, false};
    PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(descriptor), values, nulls)));
}

PG_FUNCTION_INFO_V1(projections_history);
// For the projection's owner.
Datum projections_history(PG_FUNCTION_ARGS) {
    catalog::Projection &projection = rights::named_projection(fcinfo);
    rights::require_owner(projection);
    return rights::call_internal(fcinfo, OIDOID, projection.relation, 1);
}

} // extern "C"
