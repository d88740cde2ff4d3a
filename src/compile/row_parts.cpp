// Rows in slices, below what is made of them: DISTINCT or DISTINCT ON over windows, groups and distinct values over
// rows that functions or LATERAL subqueries give. The rows become a part, and the rest a query over it.
#include "compile/analysis.hpp"
#include "compile/parts.hpp"
#include "compile/rewrite.hpp"
#include "pg/query.hpp"

namespace compile {
namespace {

struct Reading {
    Query *rows;      // the part
    Index level = 0;  // of the subquery that is visited
    List *read = NIL; // of its FROM, as Vars
};

// Columns of FROM become columns of the part.
Node *over_rows(Node *node, Reading *reading) {
    if (node == nullptr) return nullptr;
    if (IsA(node, Query)) {
        reading->level++;
        auto *changed = reinterpret_cast<Node *>(pg::mutate_query(castNode(Query, node), over_rows, reading));
        reading->level--;
        return changed;
    }
    if (!IsA(node, Var) || reinterpret_cast<Var *>(node)->varlevelsup != reading->level)
        return pg::mutate_children(node, over_rows, reading);
    auto *var = pg::copy<Var>(node);
    var->varlevelsup = 0;
    int column = pg::number_of(reading->read, var);
    if (column == 0) {
        reading->read = lappend(reading->read, var);
        const char *name = get_rte_attribute_name(rt_fetch(var->varno, reading->rows->rtable), var->varattno);
        column = pg::add_target(reading->rows, pg::copy(var), name);
    }
    return reinterpret_cast<Node *>(
        makeVar(1, static_cast<AttrNumber>(column), var->vartype, var->vartypmod, var->varcollid, reading->level));
}

// Groups over rows that come in slices: those become the part.
Query *groups_over_rows(const Query *query) {
    auto *rows = pg::select_from(nullptr);
    rows->rtable = query->rtable;
    rows->jointree = query->jointree;
    pg::add_target(rows, reinterpret_cast<Node *>(makeConst(INT4OID, -1, InvalidOid, 4, Int32GetDatum(1), false, true)),
                   "one");
    note_sublinks(rows);
    if (!reads_slices(rows, query)) return nullptr;
    rows->targetList = NIL;
    Reading reading{rows};
    auto *outer = pg::copy<Query>(query);
    outer->rtable = NIL;
    outer->jointree = makeFromExpr(NIL, nullptr);
    outer = pg::mutate_query(outer, over_rows, &reading);
    if (rows->targetList == NIL)
        pg::add_target(rows,
                       reinterpret_cast<Node *>(makeConst(INT4OID, -1, InvalidOid, 4, Int32GetDatum(1), false, true)),
                       "one");
    outer->rtable = list_make1(pg::subquery_entry(rows, "rows", pg::column_names(rows)));
    outer->jointree = makeFromExpr(list_make1(pg::reference_to(1)), nullptr);
    note_sublinks(outer);
    return outer;
}

// DISTINCT over windows, or over rows that the SELECT list makes.
Query *distinct_over_rows(const Query *query) {
    auto *rows = pg::copy<Query>(query);
    rows->distinctClause = NIL;
    rows->hasDistinctOn = false;
    rows->sortClause = NIL;
    Query *outer = pg::select_from(nullptr);
    List *visible = NIL, *hidden = NIL;
    for (TargetEntry *each : pg::each<TargetEntry>(rows->targetList)) {
        bool wanted = !each->resjunk || (query->hasDistinctOn &&
                                         (is_among(each, query->distinctClause) || is_among(each, query->sortClause)));
        List *&list = wanted ? visible : hidden; // what windows alone refer to stays one of the rows' own
        list = lappend(list, each);
        if (!wanted) continue;
        auto *column = pg::copy<TargetEntry>(each);
        each->resjunk = false;
        column->resno = static_cast<AttrNumber>(list_length(outer->targetList) + 1);
        column->expr = reinterpret_cast<Expr *>(makeVar(
            1, static_cast<AttrNumber>(list_length(visible)), exprType(reinterpret_cast<Node *>(each->expr)),
            exprTypmod(reinterpret_cast<Node *>(each->expr)), exprCollation(reinterpret_cast<Node *>(each->expr)), 0));
        outer->targetList = lappend(outer->targetList, column);
        if (each->resname == nullptr) each->resname = pstrdup("value");
    }
    rows->targetList = list_concat(visible, hidden);
    AttrNumber number = 0;
    for (TargetEntry *each : pg::each<TargetEntry>(rows->targetList)) each->resno = ++number;
    outer->distinctClause = query->distinctClause;
    outer->hasDistinctOn = query->hasDistinctOn;
    if (query->hasDistinctOn) outer->sortClause = query->sortClause;
    outer->rtable = list_make1(pg::subquery_entry(rows, "rows", pg::column_names(rows)));
    return outer;
}

} // namespace

Query *split_rows(Query *query) {
    if (query->setOperations || query->groupingSets || query->limitCount || query->limitOffset || query->rowMarks ||
        query->cteList)
        return nullptr;
    bool grouped = query->groupClause || query->hasAggs || query->havingQual;
    if (!grouped && query->distinctClause && (query->hasWindowFuncs || query->hasTargetSRFs))
        return distinct_over_rows(query);
    if (grouped || query->distinctClause) return groups_over_rows(query);
    return nullptr;
}

} // namespace compile
