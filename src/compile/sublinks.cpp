// Subqueries in expressions. One that is an aggregate is a part of one row, or of a row for each value that it is
// correlated by, which the query joins: where there is no such row, the aggregates are those of no rows. EXISTS and IN
// over more than one table ask for the presence of rows of a part; NOT IN and ALL, for the absence of rows for which
// the comparison is not what it should be.
#include "compile/analysis.hpp"
#include "compile/expressions.hpp"
#include "compile/parts.hpp"
#include "compile/rewrite.hpp"
#include "pg/query.hpp"

namespace compile {
namespace {

using pg::copy;

bool reads_level(Node *node, int level) { return contain_vars_of_level(node, level); }

// Takes the conditions of the subquery's FROM, inner joins', apart.
void take_conditions(Node *item, List **conditions) {
    if (IsA(item, FromExpr)) {
        auto *from = castNode(FromExpr, item);
        for (Node *each : pg::each<Node>(from->fromlist)) take_conditions(each, conditions);
        *conditions = list_concat(*conditions, conjuncts(from->quals));
        from->quals = nullptr;
    } else if (IsA(item, JoinExpr) && castNode(JoinExpr, item)->jointype == JOIN_INNER) {
        auto *join = castNode(JoinExpr, item);
        take_conditions(join->larg, conditions);
        take_conditions(join->rarg, conditions);
        *conditions = list_concat(*conditions, conjuncts(join->quals));
        join->quals = nullptr;
    }
}

// ---------------------------------------------------------------------------------------------------------- aggregates

struct Correlation {
    Node *inner, *outer; // the outer one as the query around has it
    OpExpr *comparison;
    bool inner_first;
};

// Whether what is equal by one collation is equal by the other.
bool same_equality(Oid a, Oid b) {
    return a == b || !OidIsValid(a) || !OidIsValid(b) ||
           (get_collation_isdeterministic(a) && get_collation_isdeterministic(b));
}

// A key that is grouped as it is compared.
Node *as_compared(Node *key, Oid collation) {
    if (same_equality(exprCollation(key), collation)) return key;
    CollateExpr *collate = makeNode(CollateExpr);
    collate->arg = reinterpret_cast<Expr *>(key);
    collate->collOid = collation;
    collate->location = -1;
    return reinterpret_cast<Node *>(collate);
}

// inner = outer, by an equality that groups as the inner type's own does.
bool correlates(Node *condition, Correlation *found) {
    if (!IsA(condition, OpExpr)) return false;
    auto *comparison = reinterpret_cast<OpExpr *>(condition);
    if (list_length(comparison->args) != 2) return false;
    for (int i = 0; i < 2; i++) {
        auto *inner = static_cast<Node *>(list_nth(comparison->args, i));
        auto *outer = static_cast<Node *>(list_nth(comparison->args, 1 - i));
        if (reads_level(inner, 1) || reads_level(outer, 0) || checkExprHasSubLink(condition)) continue;
        TypeCacheEntry *type = lookup_type_cache(exprType(inner), TYPECACHE_BTREE_OPFAMILY);
        if (!OidIsValid(type->btree_opf) || !op_in_opfamily(comparison->opno, type->btree_opf) ||
            get_op_opfamily_strategy(comparison->opno, type->btree_opf) != BTEqualStrategyNumber)
            return false;
        outer = copy(outer);
        IncrementVarSublevelsUp(outer, -1, 1);
        *found = {as_compared(copy(inner), comparison->inputcollid), outer, comparison, i == 0};
        return true;
    }
    return false;
}

struct Aggregates {
    const RangeTblEntry *entry;
    int index;
    List *aggregates; // whose numbers are their columns of the part
    bool always;      // there is a row
};

Node *of_part(Node *node, Aggregates *of) {
    if (node == nullptr) return nullptr;
    if (!IsA(node, Aggref)) return pg::mutate_children(node, of_part, of);
    int number = 0;
    for (Node *each : pg::each<Node>(of->aggregates)) {
        number++;
        if (equal(each, node)) break;
    }
    auto *column = reinterpret_cast<Node *>(column_of(of->entry, of->index, number));
    Oid function = reinterpret_cast<Aggref *>(node)->aggfnoid;
    bool counts = function == F_COUNT_ || function == F_COUNT_ANY || function == F_REGR_COUNT;
    if (of->always || !counts) return column;
    return coalesce(column, bigint_constant(0));
}

bool collect_aggregates(Node *node, List **aggregates) {
    if (node == nullptr) return false;
    if (!IsA(node, Aggref)) return pg::walk_children(node, collect_aggregates, aggregates);
    for (Node *each : pg::each<Node>(*aggregates))
        if (equal(each, node)) return false;
    *aggregates = lappend(*aggregates, node);
    return false;
}

// Whether nothing but conditions says which rows it has.
bool is_plain(const Query *subquery) {
    return !subquery->setOperations && !subquery->limitCount && !subquery->limitOffset && !subquery->groupClause &&
           !subquery->groupingSets && !subquery->hasAggs && !subquery->havingQual && !subquery->hasWindowFuncs &&
           !subquery->hasTargetSRFs && !subquery->hasDistinctOn && !subquery->rowMarks && !subquery->cteList;
}

// Whether it is an aggregate of rows, and nothing else.
bool is_aggregate(const Query *subquery) {
    return subquery->hasAggs && !subquery->setOperations && !subquery->groupClause && !subquery->groupingSets &&
           !subquery->havingQual && !subquery->limitCount && !subquery->limitOffset && !subquery->hasWindowFuncs &&
           !subquery->hasTargetSRFs && !subquery->rowMarks && !subquery->cteList;
}

struct Scalars {
    const Cutting &cutting;
    Query *query;
};

// Joins the part, by LEFT JOIN where it may have no row.
int join(Query *query, RangeTblEntry *entry, Node *condition) {
    int index = add_entry(query, entry);
    RangeTblRef *reference = pg::reference_to(index);
    if (condition == nullptr) {
        query->jointree->fromlist = lappend(query->jointree->fromlist, reference);
        return index;
    }
    JoinExpr *made = makeNode(JoinExpr);
    made->jointype = JOIN_LEFT;
    List *from = query->jointree->fromlist;
    made->larg = list_length(from) == 1 ? static_cast<Node *>(linitial(from))
                                        : reinterpret_cast<Node *>(makeFromExpr(from, nullptr));
    made->rarg = reinterpret_cast<Node *>(reference);
    made->quals = condition;
    query->jointree->fromlist = list_make1(made);
    return index;
}

// The subquery's aggregates as columns of a part that the query joins; null where they cannot be.
Node *join_aggregates(Scalars *to, Query *subquery, Node *expression) {
    List *conditions = NIL;
    take_conditions(reinterpret_cast<Node *>(subquery->jointree), &conditions);
    pg::vector<Correlation> correlations;
    List *inner = NIL;
    for (Node *each : pg::each<Node>(conditions)) {
        Correlation correlation{};
        if (!reads_level(each, 1))
            inner = lappend(inner, each);
        else if (correlates(each, &correlation))
            correlations.push_back(correlation);
        else
            return nullptr;
    }
    subquery->jointree->quals = inner ? reinterpret_cast<Node *>(make_ands_explicit(inner)) : nullptr;
    List *aggregates = NIL;
    collect_aggregates(expression, &aggregates);
    subquery->targetList = NIL;
    for (Node *each : pg::each<Node>(aggregates))
        pg::add_target(subquery, copy(each), get_func_name(reinterpret_cast<Aggref *>(each)->aggfnoid));
    for (const Correlation &each : correlations)
        group_by(to->cutting, subquery, pg::add_target(subquery, each.inner, "key"));
    if (reads_outside(subquery)) return nullptr;
    note_sublinks(subquery);

    RangeTblEntry *entry = part_entry(to->cutting, subquery, "part");
    int index = list_length(to->query->rtable) + 1;
    List *match = NIL;
    int column = list_length(aggregates);
    for (const Correlation &each : correlations) {
        column++;
        auto *comparison = reinterpret_cast<OpExpr *>(copy(each.comparison));
        auto *key = reinterpret_cast<Node *>(column_of(entry, index, column));
        comparison->args = each.inner_first ? list_make2(key, each.outer) : list_make2(each.outer, key);
        comparison->location = -1;
        match = lappend(match, comparison);
    }
    join(to->query, entry, match ? reinterpret_cast<Node *>(make_ands_explicit(match)) : nullptr);
    Aggregates of{entry, index, aggregates, match == NIL};
    Node *value = of_part(expression, &of);
    IncrementVarSublevelsUp(value, -1, 1); // what it reads of the query around, it stands in now
    return value;
}

// EXISTS where it is no condition of its own: there are some.
Node *join_existence(Scalars *to, SubLink *link) {
    auto *subquery = reinterpret_cast<Query *>(copy(link->subselect));
    if (!is_plain(subquery)) return nullptr;
    subquery->targetList = subquery->distinctClause = NIL;
    subquery->hasAggs = true;
    Node *counted = join_aggregates(to, subquery, count_rows());
    if (counted == nullptr) return nullptr;
    return operation(">", counted, bigint_constant(0));
}

Node *join_scalars(Node *node, Scalars *to) {
    if (node == nullptr) return nullptr;
    if (!IsA(node, SubLink)) return pg::mutate_children(node, join_scalars, to);
    auto *link = reinterpret_cast<SubLink *>(node);
    auto *subquery = castNode(Query, link->subselect);
    Node *joined = nullptr;
    if (link->subLinkType == EXPR_SUBLINK && is_aggregate(subquery)) {
        auto *changed = reinterpret_cast<Query *>(copy(subquery));
        changed->distinctClause = changed->sortClause = NIL; // of one row
        auto *target = static_cast<TargetEntry *>(linitial(changed->targetList));
        joined = join_aggregates(to, changed, reinterpret_cast<Node *>(target->expr));
    } else if (link->subLinkType == EXISTS_SUBLINK)
        joined = join_existence(to, link);
    return joined ? joined : node;
}

// ----------------------------------------------------------------------------------------------------------- presences

// Columns of the subquery's tables that its conditions on what is outside, and its own columns, need.
struct Needed {
    List *vars = NIL;
    bool told_apart = false;
};

bool collect_needed(Node *node, Needed *needed) {
    if (node == nullptr) return false;
    if (!IsA(node, Var)) return pg::walk_children(node, collect_needed, needed);
    auto *var = reinterpret_cast<Var *>(node);
    if (var->varlevelsup > 0) return false;
    if (pg::number_of(needed->vars, var)) return false;
    needed->vars = lappend(needed->vars, copy(var));
    needed->told_apart |= is_told_apart(var->vartype, var->vartypmod, var->varcollid);
    return false;
}

Node *of_needed(Node *node, Needed *needed) {
    if (node == nullptr) return nullptr;
    if (!IsA(node, Var) || reinterpret_cast<Var *>(node)->varlevelsup > 0)
        return pg::mutate_children(node, of_needed, needed);
    auto *var = reinterpret_cast<Var *>(node);
    auto number = static_cast<AttrNumber>(pg::number_of(needed->vars, var));
    return reinterpret_cast<Node *>(makeVar(1, number, var->vartype, var->vartypmod, var->varcollid, 0));
}

void select_distinct(const Cutting &cutting, Query *query) {
    for (int column = 1; column <= list_length(query->targetList); column++) group_by(cutting, query, column);
}

bool is_one_table(Query *subquery) {
    return !obstacle(subquery) && !subquery->hasSubLinks && reads_one_table(subquery);
}

// A plain subquery over several tables, or with subqueries of its own: the distinct values that its conditions on what
// is outside need are a part.
Query *plain_presence(const Cutting &cutting, Query *subquery) {
    List *conditions = NIL, *inner = NIL, *outer = NIL;
    take_conditions(reinterpret_cast<Node *>(subquery->jointree), &conditions);
    for (Node *each : pg::each<Node>(conditions))
        if (reads_level(each, 1))
            outer = lappend(outer, each);
        else
            inner = lappend(inner, each);
    if (checkExprHasSubLink(reinterpret_cast<Node *>(outer))) return nullptr;
    Needed needed;
    collect_needed(reinterpret_cast<Node *>(outer), &needed);
    collect_needed(reinterpret_cast<Node *>(subquery->targetList), &needed);
    if (needed.vars == NIL) return nullptr;

    auto *part = reinterpret_cast<Query *>(copy(subquery));
    part->targetList = part->distinctClause = NIL;
    for (Var *each : pg::each<Var>(needed.vars))
        pg::add_target(part, copy(each),
                       get_rte_attribute_name(rt_fetch(each->varno, subquery->rtable), each->varattno));
    part->jointree->quals = inner ? reinterpret_cast<Node *>(make_ands_explicit(inner)) : nullptr;
    note_sublinks(part);
    if (reads_outside(part)) return nullptr;
    if (!needed.told_apart) select_distinct(cutting, part);
    Query *rows = pg::select_from(part_entry(cutting, part, "part"));
    rows->targetList = reinterpret_cast<List *>(of_needed(reinterpret_cast<Node *>(subquery->targetList), &needed));
    rows->jointree->quals = of_needed(outer ? reinterpret_cast<Node *>(make_ands_explicit(outer)) : nullptr, &needed);
    return rows;
}

// What a presence asks for as rows of one table; itself where it cannot be.
Query *one_table(const Cutting &cutting, SubLink *link) {
    auto *subquery = castNode(Query, link->subselect);
    if (link->subLinkType == EXISTS_SUBLINK) forget_limit(subquery);
    if (is_plain(subquery)) subquery->distinctClause = NIL; // a row is there, or it is not
    if (is_one_table(subquery)) return subquery;
    auto *changed = reinterpret_cast<Query *>(copy(subquery));
    if (link->subLinkType == EXISTS_SUBLINK && is_plain(subquery)) changed->targetList = NIL;
    Query *rows = nullptr;
    if (is_plain(changed))
        rows = plain_presence(cutting, changed);
    else if (!reads_outside(changed))
        rows = select_all(cutting, changed);
    return rows ? rows : subquery;
}

// None of the rows meets the condition.
Node *none(Query *rows, Node *condition) {
    auto *subquery = reinterpret_cast<Query *>(copy(rows));
    subquery->jointree->quals = make_and_qual(subquery->jointree->quals, condition);
    subquery->targetList = NIL;
    return exists(subquery, true);
}

// NOT IN: no row is equal, none is NULL, and, if the value is NULL, there is none at all. Each is a condition that an
// index serves.
Node *not_in(Query *rows, OpExpr *equality, bool *done) {
    auto *value = static_cast<Node *>(linitial(equality->args)), *row = static_cast<Node *>(lsecond(equality->args));
    *done = !reads_level(value, 0) && !reads_level(row, 1);
    if (!*done) return nullptr;
    return reinterpret_cast<Node *>(
        make_ands_explicit(list_make3(none(rows, reinterpret_cast<Node *>(equality)), none(rows, is_null(copy(row))),
                                      none(rows, is_null(copy(value))))));
}

// x op ALL and NOT (x op ANY): no row for which the comparison is not true, or not false.
Node *absence(const Cutting &cutting, SubLink *link, bool all) {
    Query *rows = one_table(cutting, link);
    auto *compared = copy(link->testexpr);
    IncrementVarSublevelsUp(compared, 1, 0);
    compared = put_compared(compared, rows);
    if (IsA(compared, OpExpr) && list_length(rows->targetList) == 1) {
        auto *comparison = reinterpret_cast<OpExpr *>(compared);
        Oid equality = all ? get_negator(comparison->opno) : comparison->opno;
        if (OidIsValid(equality) && op_strict(equality) &&
            op_hashjoinable(equality, exprType(static_cast<Node *>(linitial(comparison->args))))) {
            auto *equal = reinterpret_cast<OpExpr *>(copy(comparison));
            equal->opno = equality;
            equal->opfuncid = get_opcode(equality);
            bool done;
            if (Node *made = not_in(rows, equal, &done)) return made;
        }
    }
    return none(rows, boolean_test(compared, all ? IS_NOT_TRUE : IS_NOT_FALSE));
}

Node *cut_presence(const Cutting &cutting, Node *conjunct) {
    bool negated = is_notclause(conjunct);
    auto *asked = negated ? reinterpret_cast<Node *>(get_notclausearg(conjunct)) : conjunct;
    if (asked == nullptr || !IsA(asked, SubLink)) return conjunct;
    auto *link = reinterpret_cast<SubLink *>(asked);
    if (link->subLinkType == ALL_SUBLINK && !negated) return absence(cutting, link, true);
    if (link->subLinkType == ANY_SUBLINK && negated) return absence(cutting, link, false);
    if (link->subLinkType != EXISTS_SUBLINK && link->subLinkType != ANY_SUBLINK) return conjunct;
    link->subselect = reinterpret_cast<Node *>(one_table(cutting, link));
    return conjunct;
}

bool is_presence(Node *conjunct) {
    if (is_notclause(conjunct)) conjunct = reinterpret_cast<Node *>(get_notclausearg(conjunct));
    return conjunct && IsA(conjunct, SubLink) && reinterpret_cast<SubLink *>(conjunct)->subLinkType != EXPR_SUBLINK;
}

// Conditions of inner joins and WHERE; those of outer joins stay.
void cut_conditions(const Cutting &cutting, Query *query) {
    List *conditions = NIL, *changed = NIL, *plain = NIL;
    take_conditions(reinterpret_cast<Node *>(query->jointree), &conditions);
    for (Node *each : pg::each<Node>(conditions))
        if (is_presence(each))
            changed = lappend(changed, cut_presence(cutting, each));
        else
            plain = lappend(plain, each);
    Scalars to{cutting, query};
    List *joined = NIL;
    for (Node *each : pg::each<Node>(plain)) joined = lappend(joined, join_scalars(each, &to));
    joined = list_concat(joined, changed);
    query->jointree->quals = joined ? reinterpret_cast<Node *>(make_ands_explicit(joined)) : nullptr;
}

} // namespace

void cut_sublinks(const Cutting &cutting, Query *query) {
    if (!query->hasSubLinks) return;
    cut_conditions(cutting, query);
    Scalars to{cutting, query};
    query->targetList = reinterpret_cast<List *>(join_scalars(reinterpret_cast<Node *>(query->targetList), &to));
    note_sublinks(query);
}

} // namespace compile
