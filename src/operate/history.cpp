// The source rows behind a projection's rows.
#include "catalog/projection.hpp"
#include "catalog/settings.hpp"
#include "compile/deparse.hpp"
#include "pg/scope.hpp"

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
    for (const compile::Key &key : block.keys)
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

// Runs a query over $1 and keeps its rows for the caller. Definitions and feeds call functions of the owner's, so they
// run with its rights and not with those of a superuser who looks.
void owner_rows(catalog::Projection &projection, const char *query, Datum key, ReturnSetInfo *result) {
    if (!pg::owns_relation(projection.relation, GetUserId()))
        ereport(ERROR,
                (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("must be owner of projection %s", projection.name()),
                 errdetail("What is behind its rows is shown to its owner."),
                 errhint("Have its owner, or a member of that role, do it.")));
    Oid type = JSONBOID;
    pg::with_spi([&] {
        pg::as_owner(projection.owner(), [&] {
            catalog::with_pinned(projection.settings, [&] {
                if (SPI_execute_with_args(query, 1, &type, &key, nullptr, true, 0) != SPI_OK_SELECT)
                    elog(ERROR, "reading what is behind %s failed", projection.name());
            });
        });
        for (uint64 i = 0; i < SPI_processed; i++) tuplestore_puttuple(result->setResult, SPI_tuptable->vals[i]);
    });
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

PG_FUNCTION_INFO_V1(projections_owner_rows);
Datum projections_owner_rows(PG_FUNCTION_ARGS) {
    catalog::Projection *projection = catalog::projection(PG_GETARG_OID(0));
    InitMaterializedSRF(fcinfo, 0);
    auto *result = reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo);
    if (projection != nullptr)
        operate::owner_rows(*projection, text_to_cstring(PG_GETARG_TEXT_PP(1)), PG_GETARG_DATUM(2), result);
    PG_RETURN_NULL();
}

} // extern "C"
