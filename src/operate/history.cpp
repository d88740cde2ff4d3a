// The source rows behind a projection's rows.
#include "compile/deparse.hpp"
#include "compile/term_parts.hpp"
#include "operate/named_rows.hpp"
#include "pg/list.hpp"
#include "pg/query.hpp"
#include "pg/scope.hpp"
#include "rights/caller.hpp"

namespace operate {
namespace {

// SELECT <keys> AS k1, …, <each table's whole row> AS r1, … FROM … WHERE …: the definition before it is grouped, with
// the rows of its FROM or, with `present`, those whose presence it asks for, and NULLs for other tables.
const char *rows_query(const compile::Block &block, const compile::Arm &arm, const compile::Presence *present) {
    Query *query = pg::copy<Query>(arm.query);
    List *targets = NIL;
    auto add = [&](Node *expression, const char *name) {
        targets =
            lappend(targets, makeTargetEntry(reinterpret_cast<Expr *>(expression),
                                             static_cast<AttrNumber>(list_length(targets) + 1), pstrdup(name), false));
    };
    int number = 0;
    for (const compile::Key &key : block.row_key)
        add(pg::copy(block.over(arm, reinterpret_cast<Node *>(block.column(key.column)->expr))),
            psprintf("k%d", ++number));
    compile::forget_repeats(query, arm);
    int entries = arm.entries(), matched = 0;
    if (present)
        matched = compile::add_rows(query, arm, *present, pg::copy<RangeTblEntry>(rt_fetch(1, present->rows->rtable)));
    compile::leave_out_none(query, arm);
    for (int i = 1; i <= static_cast<int>(block.occurrence_source.size()); i++) {
        int entry = present ? (i == present->occurrence ? matched : 0) : arm.entry(i);
        bool here = entry >= 1 && entry <= std::max(entries, matched);
        Oid type = get_rel_type_id(block.entry(i)->relid);
        add(here ? reinterpret_cast<Node *>(makeWholeRowVar(rt_fetch(entry, query->rtable), entry, 0, false))
                 : reinterpret_cast<Node *>(makeNullConst(type, -1, InvalidOid)),
            psprintf("r%d", i));
    }
    query->targetList = targets;
    query->groupClause = query->distinctClause = query->sortClause = NIL;
    query->hasAggs = query->hasDistinctOn = false;
    query->havingQual = nullptr;
    return compile::deparse(query);
}

// Of a definition that is read again as a whole: the rows of one of its tables, with the keys that they concern.
const char *traced_rows_query(const compile::Block &block, int occurrence) {
    const compile::Trace &trace = block.traces[occurrence - 1];
    auto *query = pg::copy<Query>(trace.query);
    for (int i = 1; i <= static_cast<int>(block.occurrence_source.size()); i++) {
        Oid type = get_rel_type_id(block.entry(i)->relid);
        pg::add_target(query,
                       i == occurrence ? reinterpret_cast<Node *>(makeWholeRowVar(rt_fetch(trace.entry, query->rtable),
                                                                                  trace.entry, 0, false))
                                       : reinterpret_cast<Node *>(makeNullConst(type, -1, InvalidOid)),
                       psprintf("r%d", i));
    }
    int number = 0;
    for (TargetEntry *each : pg::each<TargetEntry>(query->targetList))
        if (++number <= static_cast<int>(block.keys.size())) each->resname = psprintf("k%d", number);
    return compile::deparse(query);
}

// Of each arm of a union, and of what EXISTS asks for.
const char *rows_query(const compile::Block &block) {
    pg::TextList text(" UNION ALL ");
    for (int i = 1; block.is_whole() && i <= static_cast<int>(block.occurrence_source.size()); i++)
        text.add("%s", traced_rows_query(block, i));
    if (block.is_whole()) return text.text();
    for (const compile::Arm &arm : block.arms) {
        text.add("%s", rows_query(block, arm, nullptr));
        for (const compile::Presence &presence : arm.presences)
            if (!presence.negated) text.add("%s", rows_query(block, arm, &presence));
    }
    return text.text();
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
    catalog::Projection &projection = rights::own_projection(fcinfo, catalog::Hold::all);
    if (projection.kind == catalog::Kind::query) {
        if (PG_ARGISNULL(1))
            ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument \"key\" must not be null"),
                            errhint("Pass an object {column: value}.")));
        if (!operate::whole_key(projection, PG_GETARG_DATUM(1), &fcinfo->args[1].value)) {
            InitMaterializedSRF(fcinfo, 0); // nothing is behind what is not there
            PG_RETURN_NULL();
        }
    }
    return rights::call_internal(fcinfo, OIDOID, projection.relation, 1);
}

} // extern "C"
