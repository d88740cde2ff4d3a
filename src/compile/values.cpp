// VALUES: rows that never change. What FROM reads of them is a branch for each row (outer_joins.cpp), in which its
// columns are constants; a SELECT of nothing else is a union of constant SELECTs, which are arms without tables.
// A comparison with ANY or ALL of them is one with each of them.
#include "compile/analysis.hpp"
#include "compile/expressions.hpp"
#include "compile/parts.hpp"
#include "compile/rewrite.hpp"
#include "pg/query.hpp"

namespace compile {
namespace {

Node *copy(const void *node) { return static_cast<Node *>(copyObjectImpl(node)); }

List *targets_of(List *expressions) {
    List *targets = NIL;
    for (Node *each : pg::each<Node>(expressions))
        targets = lappend(targets, makeTargetEntry(reinterpret_cast<Expr *>(copy(each)),
                                                   static_cast<AttrNumber>(list_length(targets) + 1), nullptr, false));
    return targets;
}

// The only entry of a FROM that is VALUES and nothing else; 0 where it is not.
int only_values(const Query *query) {
    Bitmapset *read = nullptr;
    add_entries(reinterpret_cast<Node *>(query->jointree), &read);
    int entry;
    if (!bms_get_singleton_member(read, &entry)) return 0;
    return rt_fetch(entry, query->rtable)->rtekind == RTE_VALUES ? entry : 0;
}

// SELECT what the query does of one of the rows.
Query *of_row(const Query *query, int entry, List *row) {
    auto *made = reinterpret_cast<Query *>(copy(query));
    made->jointree->fromlist = NIL;
    return pg::replace_columns(made, entry, targets_of(row));
}

} // namespace

bool is_values(const Query *query) { return !obstacle(query) && !query->hasSubLinks && only_values(query) != 0; }

List *rows_of(const RangeTblEntry *entry) {
    List *rows = NIL;
    if (entry->rtekind == RTE_VALUES)
        for (List *each : pg::each<List>(entry->values_lists)) rows = lappend(rows, targets_of(each));
    if (entry->rtekind != RTE_SUBQUERY || !is_values(entry->subquery) || entry->subquery->jointree->quals) return rows;
    int values = only_values(entry->subquery);
    for (List *each : pg::each<List>(rt_fetch(values, entry->subquery->rtable)->values_lists)) {
        Query *row = of_row(entry->subquery, values, each);
        IncrementVarSublevelsUp(reinterpret_cast<Node *>(row->targetList), -1, 1); // LATERAL
        rows = lappend(rows, row->targetList);
    }
    return rows;
}

bool reads_values(const Query *query) {
    Bitmapset *read = nullptr;
    if (query->jointree) add_entries(reinterpret_cast<Node *>(query->jointree), &read);
    for (int entry = -1; (entry = bms_next_member(read, entry)) >= 0;)
        if (rows_of(rt_fetch(entry, query->rtable))) return true;
    return false;
}

namespace {

// x op ANY (VALUES …) as x op the first OR x op the second …; ALL with AND.
Node *compare_each(Node *node, void *context) {
    if (node == nullptr) return nullptr;
    if (!IsA(node, SubLink)) return pg::mutate_children(node, compare_each, context);
    auto *link = reinterpret_cast<SubLink *>(node);
    if (link->subLinkType != ANY_SUBLINK && link->subLinkType != ALL_SUBLINK) return node;
    RangeTblEntry *read = pg::subquery_entry(castNode(Query, link->subselect), "values", NIL);
    Node *all = nullptr;
    for (List *row : pg::each<List>(rows_of(read))) {
        Query *compared = makeNode(Query);
        compared->targetList = row;
        Node *test = put_compared(compare_each(copy(link->testexpr), context), compared);
        if (all == nullptr)
            all = test;
        else
            all = link->subLinkType == ANY_SUBLINK ? either(all, test) : both(all, test);
    }
    return all ? all : node;
}

} // namespace

void compare_with_values(Query *query) {
    if (!query->hasSubLinks) return;
    query->targetList = reinterpret_cast<List *>(compare_each(reinterpret_cast<Node *>(query->targetList), nullptr));
    query->havingQual = compare_each(query->havingQual, nullptr);
    query->jointree = castNode(FromExpr, compare_each(reinterpret_cast<Node *>(query->jointree), nullptr));
    note_sublinks(query);
}

Query *union_of_values(Query *query) {
    int entry = only_values(query);
    List *lists = rt_fetch(entry, query->rtable)->values_lists;
    if (list_length(lists) == 1) return of_row(query, entry, static_cast<List *>(linitial(lists)));
    SetOperationStmt *types = makeNode(SetOperationStmt);
    List *names = NIL;
    for (TargetEntry *each : pg::each<TargetEntry>(query->targetList)) {
        auto *expression = reinterpret_cast<Node *>(each->expr);
        types->colTypes = lappend_oid(types->colTypes, exprType(expression));
        types->colTypmods = lappend_int(types->colTypmods, exprTypmod(expression));
        types->colCollations = lappend_oid(types->colCollations, exprCollation(expression));
        names = lappend(names, makeString(pstrdup(each->resname ? each->resname : "?column?")));
    }
    Query *united = pg::make_union();
    for (List *each : pg::each<List>(lists)) {
        Query *row = of_row(query, entry, each);
        IncrementVarSublevelsUp(reinterpret_cast<Node *>(row), 1, 1);
        pg::add_to_union(united, row, "values", names, types);
    }
    united->targetList = static_cast<List *>(copyObjectImpl(query->targetList));
    return united;
}

} // namespace compile
