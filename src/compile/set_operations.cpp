// Set operations as SELECTs. UNION is DISTINCT over UNION ALL. INTERSECT and EXCEPT count the rows of both sides and
// keep what has some here and some, or none, there; with ALL, as many copies as both have, or as there are more here
// (repeats.cpp). Which of equal rows that can be told apart is copied, SQL leaves open: here it is one of either side.
// GROUPING SETS are a union of queries that group by one set each.
#include "compile/expressions.hpp"
#include "compile/rewrite.hpp"
#include "pg/query.hpp"

extern "C" {
#include "parser/parse_agg.h"
}

namespace compile {
namespace {

using pg::copy;

// A query one level further in: what it reads of queries around it is one level further out.
Query *deeper(Query *query) {
    IncrementVarSublevelsUp(reinterpret_cast<Node *>(query), 1, 1);
    return query;
}

bool is_all_union(const Node *item) {
    check_stack_depth();
    if (IsA(item, RangeTblRef)) return true;
    auto *operation = castNode(SetOperationStmt, item);
    return operation->op == SETOP_UNION && operation->all && is_all_union(operation->larg) &&
           is_all_union(operation->rarg);
}

// SELECT the columns of a subquery, as those of the operation.
Query *select_columns(Query *from, const SetOperationStmt *like, List *names) {
    Query *query = pg::select_from(pg::subquery_entry(deeper(from), "side", names));
    int column = 0;
    for (TargetEntry *each : pg::each<TargetEntry>(from->targetList)) {
        if (each->resjunk) continue;
        auto *value = reinterpret_cast<Node *>(each->expr);
        auto *var = reinterpret_cast<Node *>(
            makeVar(1, each->resno, exprType(value), exprTypmod(value), exprCollation(value), 0));
        var =
            coerce_to_target_type(nullptr, var, exprType(var), list_nth_oid(like->colTypes, column),
                                  list_nth_int(like->colTypmods, column), COERCION_IMPLICIT, COERCE_IMPLICIT_CAST, -1);
        pg::add_target(query, var, strVal(list_nth(names, column)));
        column++;
    }
    return query;
}

void distinguish(List *targets, const SetOperationStmt *operation, List **clauses) {
    Index reference = 0;
    for (SortGroupClause *each : pg::each<SortGroupClause>(operation->groupClauses)) {
        auto *clause = reinterpret_cast<SortGroupClause *>(copy(each));
        auto *target = static_cast<TargetEntry *>(list_nth(targets, static_cast<int>(reference)));
        target->ressortgroupref = clause->tleSortGroupRef = ++reference;
        *clauses = lappend(*clauses, clause);
    }
}

// The united SELECTs' columns, as those of a query that reads them.
Query *read_union(Query *united, const SetOperationStmt *like, List *names) {
    Query *query = pg::select_from(pg::subquery_entry(united, "union", names));
    for (int i = 0; i < list_length(like->colTypes); i++)
        pg::add_target(query,
                       reinterpret_cast<Node *>(
                           makeVar(1, static_cast<AttrNumber>(i + 1), list_nth_oid(like->colTypes, i),
                                   list_nth_int(like->colTypmods, i), list_nth_oid(like->colCollations, i), 0)),
                       strVal(list_nth(names, i)));
    return query;
}

Query *query_of(const Query *query, Node *item, List *names);

void add_sides(Query *united, const Query *query, Node *item, const SetOperationStmt *like, List *names) {
    if (IsA(item, SetOperationStmt)) {
        auto *operation = castNode(SetOperationStmt, item);
        if (operation->op == SETOP_UNION && operation->all) {
            add_sides(united, query, operation->larg, like, names);
            add_sides(united, query, operation->rarg, like, names);
            return;
        }
    }
    pg::add_to_union(united, deeper(query_of(query, item, names)), "branch", names, like);
}

Query *union_query(const Query *query, SetOperationStmt *operation, List *names) {
    Query *united = pg::make_union();
    add_sides(united, query, operation->larg, operation, names);
    add_sides(united, query, operation->rarg, operation, names);
    united->targetList = pg::copy<List>(read_union(united, operation, names)->targetList);
    return united;
}

struct Counted {
    Query *groups;
    List *names;
    Node *here, *there; // how many rows of either side a group has
};

// SELECT columns FROM (SELECT columns, 1, 0 FROM left UNION ALL SELECT columns, 0, 1 FROM right) GROUP BY columns
Counted count_sides(const Query *query, SetOperationStmt *stated, List *names) {
    auto *like = reinterpret_cast<SetOperationStmt *>(copy(stated));
    List *all = list_copy(names);
    for (const char *each : {"here", "there"}) {
        pg::add_column_type(like, int_constant(0));
        all = lappend(all, makeString(pstrdup(each)));
    }
    Query *united = pg::make_union();
    for (Node *side : {stated->larg, stated->rarg}) {
        Query *arm = select_columns(query_of(query, side, names), stated, names);
        bool left = side == stated->larg;
        pg::add_target(arm, int_constant(left ? 1 : 0), "here");
        pg::add_target(arm, int_constant(left ? 0 : 1), "there");
        pg::add_to_union(united, deeper(arm), "side", all, like);
    }
    united->targetList = pg::copy<List>(read_union(united, like, all)->targetList);
    Query *groups = read_union(deeper(united), like, all);
    Node *sums[2];
    int columns = list_length(names);
    for (int i = 0; i < 2; i++)
        sums[i] = aggregate("sum", reinterpret_cast<Node *>(
                                       static_cast<TargetEntry *>(list_nth(groups->targetList, columns + i))->expr));
    groups->targetList = list_copy_head(groups->targetList, columns);
    distinguish(groups->targetList, stated, &groups->groupClause);
    groups->hasAggs = true;
    return {groups, all, sums[0], sums[1]};
}

// The groups HAVING sum(of the left) > 0 AND sum(of the right) > 0, or = 0.
Query *once(const Counted &counted, SetOperation kind) {
    const char *there = kind == SETOP_EXCEPT ? "=" : ">";
    counted.groups->havingQual =
        both(operation(">", counted.here, bigint_constant(0)), operation(there, counted.there, bigint_constant(0)));
    return counted.groups;
}

// SELECT columns FROM the groups with both sums, generate_series(1, least(here, there)), or (1, here - there).
Query *as_often(const Counted &counted, const SetOperationStmt *stated) {
    Query *made = select_columns(counted.groups, stated, list_copy_head(counted.names, list_length(stated->colTypes)));
    pg::add_target(counted.groups, counted.here, "here");
    pg::add_target(counted.groups, counted.there, "there");
    auto *entry = static_cast<RangeTblEntry *>(linitial(made->rtable));
    entry->alias = entry->eref = makeAlias("counted", counted.names);
    auto sum = [&](int after) {
        auto column = static_cast<AttrNumber>(list_length(stated->colTypes) + after);
        return reinterpret_cast<Node *>(makeVar(1, column, INT8OID, -1, InvalidOid, 0));
    };
    return repeat_rows(made, stated->op == SETOP_INTERSECT ? extreme(IS_LEAST, sum(1), sum(2))
                                                           : operation("-", sum(1), sum(2)));
}

Query *query_of(const Query *query, Node *item, List *names) {
    check_stack_depth();
    if (IsA(item, RangeTblRef)) {
        Node *side = copy(rt_fetch(reinterpret_cast<RangeTblRef *>(item)->rtindex, query->rtable)->subquery);
        IncrementVarSublevelsUp(side, -1, 1);
        return reinterpret_cast<Query *>(side);
    }
    auto *operation = castNode(SetOperationStmt, item);
    if (operation->op != SETOP_UNION) {
        Counted counted = count_sides(query, operation, names);
        return operation->all ? as_often(counted, operation) : once(counted, operation->op);
    }
    Query *united = union_query(query, operation, names);
    if (operation->all) return united;
    Query *made = read_union(deeper(united), operation, names);
    distinguish(made->targetList, operation, &made->distinctClause);
    return made;
}

} // namespace

namespace {

struct Spread {
    const Query *branch; // which reads
    int entry;           // its only entry,
    Query *united;       // this union
    List *names;
};

Query *over_side(const Spread &spread, Node *item) {
    Query *made = pg::copy<Query>(spread.branch);
    auto *side =
        pg::copy<Query>(rt_fetch(reinterpret_cast<RangeTblRef *>(item)->rtindex, spread.united->rtable)->subquery);
    IncrementVarSublevelsUp(reinterpret_cast<Node *>(side), -1, 1);
    rt_fetch(spread.entry, made->rtable)->subquery =
        select_columns(side, castNode(SetOperationStmt, spread.united->setOperations), spread.names);
    return made;
}

void spread_sides(const Spread &spread, Node *item, SetOperationStmt *types, Query *to) {
    check_stack_depth();
    if (IsA(item, RangeTblRef)) {
        pg::add_to_union(to, over_side(spread, item), "branch", pg::column_names(spread.branch), types);
        return;
    }
    spread_sides(spread, castNode(SetOperationStmt, item)->larg, types, to);
    spread_sides(spread, castNode(SetOperationStmt, item)->rarg, types, to);
}

} // namespace

Query *spread_over_union(const Query *branch) {
    if (obstacle(branch) || branch->jointree == nullptr || list_length(branch->jointree->fromlist) != 1) return nullptr;
    auto *item = static_cast<Node *>(linitial(branch->jointree->fromlist));
    if (!IsA(item, RangeTblRef)) return nullptr;
    int entry = reinterpret_cast<RangeTblRef *>(item)->rtindex;
    const RangeTblEntry *read = rt_fetch(entry, branch->rtable);
    if (read->rtekind != RTE_SUBQUERY || !read->subquery->setOperations || obstacle_of_union(read->subquery) ||
        !is_all_union(read->subquery->setOperations))
        return nullptr;
    Query *made = pg::make_union();
    SetOperationStmt *types = pg::column_types(branch->targetList);
    spread_sides({branch, entry, read->subquery, read->eref->colnames}, read->subquery->setOperations, types, made);
    made->targetList = pg::copy<List>(read_union(made, types, pg::column_names(branch))->targetList);
    return made;
}

Query *select_from_union(Query *query, bool all) {
    if (query->setOperations == nullptr || obstacle_of_union(query)) return query;
    List *names = pg::column_names(query);
    if (is_all_union(query->setOperations))
        return all ? read_union(deeper(query), castNode(SetOperationStmt, query->setOperations), names) : query;
    Query *made = query_of(query, query->setOperations, names);
    made->sortClause = NIL;
    if (made->setOperations == nullptr || !all) return made;
    return read_union(deeper(made), castNode(SetOperationStmt, query->setOperations), names);
}

// --------------------------------------------------------------------------------------------------------- grouping
// sets
namespace {

struct GroupingSet {
    const Query *query;
    List *columns; // references of the set's columns
};

// Over one set: what is grouped by another is NULL, and GROUPING() says so.
Node *over_set(Node *node, GroupingSet *set) {
    if (node == nullptr) return nullptr;
    if (IsA(node, GroupingFunc)) {
        int bits = 0;
        ListCell *cell;
        foreach (cell, reinterpret_cast<GroupingFunc *>(node)->refs)
            bits = bits << 1 | !list_member_int(set->columns, lfirst_int(cell));
        return int_constant(bits);
    }
    for (SortGroupClause *clause : pg::each<SortGroupClause>(set->query->groupClause)) {
        Node *grouped = get_sortgroupclause_expr(clause, set->query->targetList);
        if (!equal(grouped, node)) continue;
        if (list_member_int(set->columns, static_cast<int>(clause->tleSortGroupRef))) return copy(node);
        return typed_null(exprType(node), exprTypmod(node), exprCollation(node));
    }
    if (IsA(node, Aggref)) return copy(node);
    return pg::mutate_children(node, over_set, set);
}

Query *arm_of_set(const Query *query, List *columns) {
    auto *arm = reinterpret_cast<Query *>(copy(query));
    arm->groupingSets = arm->groupClause = arm->distinctClause = arm->targetList = NIL;
    GroupingSet set{query, columns};
    for (SortGroupClause *clause : pg::each<SortGroupClause>(query->groupClause))
        if (list_member_int(columns, static_cast<int>(clause->tleSortGroupRef)))
            arm->groupClause = lappend(arm->groupClause, copy(clause));
    for (TargetEntry *entry : pg::each<TargetEntry>(query->targetList)) {
        bool grouped = list_member_int(columns, static_cast<int>(entry->ressortgroupref));
        if (entry->resjunk && !grouped) continue;
        auto *target = static_cast<TargetEntry *>(palloc(sizeof(TargetEntry)));
        *target = *entry;
        target->expr = reinterpret_cast<Expr *>(over_set(reinterpret_cast<Node *>(entry->expr), &set));
        target->resno = static_cast<AttrNumber>(list_length(arm->targetList) + 1);
        if (!grouped) target->ressortgroupref = 0;
        arm->targetList = lappend(arm->targetList, target);
    }
    arm->havingQual = over_set(query->havingQual, &set);
    // One row, also of none, and also where it shows no aggregate.
    if (columns == NIL && arm->havingQual == nullptr) arm->havingQual = makeBoolConst(true, false);
    return arm;
}

} // namespace

Query *unite_grouping_sets(Query *query) {
    if (query->groupingSets == NIL || query->hasWindowFuncs || query->hasDistinctOn || query->limitCount ||
        query->limitOffset || query->hasTargetSRFs || query->rowMarks)
        return query;
    constexpr int most_sets = 64;
    List *sets = expand_grouping_sets(query->groupingSets, query->groupDistinct, most_sets);
    if (sets == NIL) return query; // more than that
    SetOperationStmt *types = pg::column_types(query->targetList);
    List *names = pg::column_names(query);
    Query *united = pg::make_union();
    for (List *columns : pg::each<List>(sets))
        pg::add_to_union(united, deeper(deeper(arm_of_set(query, columns))), "sets", names, types);
    Query *made = read_union(united, types, names);
    united->targetList = pg::copy<List>(made->targetList);
    int column = 0;
    for (TargetEntry *each : pg::each<TargetEntry>(query->targetList)) {
        if (each->resjunk) continue;
        static_cast<TargetEntry *>(list_nth(made->targetList, column++))->ressortgroupref =
            query->distinctClause ? each->ressortgroupref : 0;
    }
    made->distinctClause = query->distinctClause;
    return made;
}

} // namespace compile
