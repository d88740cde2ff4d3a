// Repeats: generate_series(1, n) beside a table, whose values nobody reads. Such a query has each row of the table n
// times, which is a factor of the row's weight and nothing that rows have to be made for: where n goes from 100,000 to
// 100,001, one row comes. INTERSECT ALL and EXCEPT ALL are written so (set_operations.cpp).
#include "compile/analysis.hpp"
#include "compile/expressions.hpp"
#include "compile/rewrite.hpp"
#include "compile/term_parts.hpp"
#include "pg/query.hpp"

namespace compile {
namespace {

struct Reading {
    int entry;
    int level = 0;
};

bool find_reading(Node *node, Reading *reading) {
    if (node == nullptr) return false;
    if (IsA(node, Query)) {
        reading->level++;
        bool found = pg::walk_query(castNode(Query, node), find_reading, reading, QTW_IGNORE_JOINALIASES);
        reading->level--;
        return found;
    }
    if (!IsA(node, Var)) return pg::walk_children(node, find_reading, reading);
    auto *var = reinterpret_cast<Var *>(node);
    return static_cast<int>(var->varlevelsup) == reading->level && static_cast<int>(var->varno) == reading->entry;
}

bool is_read(Query *query, int entry) {
    Reading reading{entry};
    return pg::walk_query(query, find_reading, &reading, QTW_IGNORE_JOINALIASES);
}

// generate_series(1, n); null where it is another function.
FuncExpr *series_of(const RangeTblEntry *entry) {
    if (entry->rtekind != RTE_FUNCTION || entry->funcordinality || list_length(entry->functions) != 1) return nullptr;
    auto *series = reinterpret_cast<FuncExpr *>(linitial_node(RangeTblFunction, entry->functions)->funcexpr);
    if (!IsA(series, FuncExpr)) return nullptr;
    bool known = series->funcid == F_GENERATE_SERIES_INT4_INT4 || series->funcid == F_GENERATE_SERIES_INT8_INT8;
    if (!known || contain_var_clause(static_cast<Node *>(linitial(series->args)))) return nullptr;
    auto *from = reinterpret_cast<Const *>(computed(static_cast<Node *>(linitial(series->args))));
    if (!IsA(from, Const) || from->constisnull) return nullptr;
    int64 first = from->consttype == INT4OID ? DatumGetInt32(from->constvalue) : DatumGetInt64(from->constvalue);
    return first == 1 ? series : nullptr;
}

// Whether an expression reads tables beside it, and nothing else.
bool reads_tables(const Query *query, Node *expression) {
    if (checkExprHasSubLink(expression) || contain_vars_of_level(expression, 1)) return false;
    Relids read = pull_varnos(nullptr, expression);
    bool tables = !bms_is_empty(read);
    for (int entry = -1; (entry = bms_next_member(read, entry)) >= 0;)
        tables &= !gives_rows(rt_fetch(entry, query->rtable));
    return tables;
}

} // namespace

bool is_repeat(const Query *query, int entry) {
    const FuncExpr *series = series_of(rt_fetch(entry, query->rtable));
    return series && reads_tables(query, static_cast<Node *>(lsecond(series->args))) && !has_outer_join(query) &&
           !is_read(const_cast<Query *>(query), entry);
}

bool has_repeats(const Query *query) {
    Bitmapset *read = nullptr;
    add_entries(reinterpret_cast<Node *>(query->jointree), &read);
    for (int entry = -1; (entry = bms_next_member(read, entry)) >= 0;)
        if (is_repeat(query, entry)) return true;
    return false;
}

Query *repeat_rows(Query *query, Node *times) {
    auto *one = reinterpret_cast<Node *>(bigint_constant(1));
    FuncExpr *series = makeFuncExpr(F_GENERATE_SERIES_INT8_INT8, INT8OID, list_make2(one, times), InvalidOid,
                                    InvalidOid, COERCE_EXPLICIT_CALL);
    series->funcretset = true;
    RangeTblFunction *function = makeNode(RangeTblFunction);
    function->funcexpr = reinterpret_cast<Node *>(series);
    function->funccolcount = 1;
    RangeTblEntry *entry = makeNode(RangeTblEntry);
    entry->rtekind = RTE_FUNCTION;
    entry->functions = list_make1(function);
    entry->lateral = true;
    entry->inFromCl = true;
    entry->alias = entry->eref = makeAlias("copy", list_make1(makeString(pstrdup("copy"))));
    query->rtable = lappend(query->rtable, entry);
    query->jointree->fromlist = lappend(query->jointree->fromlist, pg::reference_to(list_length(query->rtable)));
    return query;
}

void add_repeats(Analysis &a) {
    ListCell *cell;
    foreach (cell, a.repeats) {
        auto *entry = pg::copy<RangeTblEntry>(rt_fetch(lfirst_int(cell), a.query->rtable));
        FuncExpr *series = series_of(entry);
        lsecond(series->args) = normalize(a, static_cast<Node *>(lsecond(series->args)));
        a.core->rtable = lappend(a.core->rtable, entry);
        a.core->jointree->fromlist = lappend(a.core->jointree->fromlist, pg::reference_to(list_length(a.core->rtable)));
    }
}

List *repeats_of(const Query *core) {
    List *repeats = NIL;
    for (RangeTblEntry *entry : pg::each<RangeTblEntry>(core->rtable)) {
        if (entry->rtekind != RTE_FUNCTION) continue;
        auto *times = static_cast<Node *>(lsecond(series_of(entry)->args));
        repeats = lappend(repeats, extreme(IS_GREATEST, cast_to(pg::copy(times), INT8OID), bigint_constant(0)));
    }
    return repeats;
}

void forget_repeats(Query *query, const Arm &arm) {
    query->rtable = list_truncate(list_copy(query->rtable), arm.entries());
    List *kept = NIL;
    for (RangeTblRef *each : pg::each<RangeTblRef>(query->jointree->fromlist))
        if (each->rtindex <= arm.entries()) kept = lappend(kept, each);
    query->jointree->fromlist = kept;
}

void leave_out_none(Query *query, const Arm &arm) {
    for (Node *times : pg::each<Node>(arm.repeats)) {
        Node *some = operation(">", pg::copy(times), bigint_constant(0));
        query->jointree->quals = make_and_qual(query->jointree->quals, some);
    }
}

} // namespace compile
