// Subqueries in expressions. One that finds a row by its key is a LEFT JOIN (lookups.cpp). One that is an aggregate is
// a part of one row, or of a row for each value that it is correlated by, which the query joins: where there is no such
// row, the aggregates are those of no rows. EXISTS and IN over more than one table ask for the presence of rows of a
// part; NOT IN and ALL, for the absence of rows for which the comparison is not what it should be.
#include "compile/analysis.hpp"
#include "compile/correlated.hpp"
#include "compile/expressions.hpp"
#include "compile/lookups.hpp"
#include "compile/parts.hpp"
#include "compile/rewrite.hpp"
#include "pg/query.hpp"

namespace compile {

using pg::copy;

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

bool is_plain(const Query *subquery) {
    return !subquery->setOperations && !subquery->limitCount && !subquery->limitOffset && !subquery->groupClause &&
           !subquery->groupingSets && !subquery->hasAggs && !subquery->havingQual && !subquery->hasWindowFuncs &&
           !subquery->hasTargetSRFs && !subquery->hasDistinctOn && !subquery->rowMarks && !subquery->cteList;
}

void left_join(Query *query, int entry, Node *condition) {
    JoinExpr *made = makeNode(JoinExpr);
    made->jointype = JOIN_LEFT;
    List *from = query->jointree->fromlist;
    made->larg = list_length(from) == 1 ? static_cast<Node *>(linitial(from))
                                        : reinterpret_cast<Node *>(makeFromExpr(from, nullptr));
    made->rarg = reinterpret_cast<Node *>(pg::reference_to(entry));
    made->quals = condition;
    query->jointree->fromlist = list_make1(made);
}

namespace {

Node *copy(const void *node) { return static_cast<Node *>(copyObjectImpl(node)); }

bool reads_level(Node *node, int level) { return contain_vars_of_level(node, level); }

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
    if (is_values(subquery)) cutting.place.refuse(Construct::values, link->location);
    if (is_plain(subquery)) subquery->distinctClause = NIL; // a row is there, or it is not
    if (is_one_table(subquery)) return subquery;
    auto *changed = reinterpret_cast<Query *>(copy(subquery));
    if (link->subLinkType == EXISTS_SUBLINK && is_plain(subquery)) changed->targetList = NIL;
    Query *rows = nullptr;
    if (is_plain(changed))
        rows = plain_presence(cutting, changed);
    else if (!reads_outside(changed))
        rows = select_all(cutting, changed);
    else
        rows = correlated_rows(cutting, changed);
    return rows ? rows : subquery;
}

Node *null_test(Node *value, NullTestType type) {
    NullTest *test = makeNode(NullTest);
    test->arg = reinterpret_cast<Expr *>(value);
    test->nulltesttype = type;
    test->location = -1;
    return reinterpret_cast<Node *>(test);
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
    return reinterpret_cast<Node *>(make_ands_explicit(list_make3(none(rows, reinterpret_cast<Node *>(equality)),
                                                                  none(rows, null_test(copy(row), IS_NULL)),
                                                                  none(rows, null_test(copy(value), IS_NULL)))));
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

// ------------------------------------------------------------------------------------------------------------ scalars

struct Joined {
    Node *link, *value;
};

struct Scalars {
    const Cutting &cutting;
    Query *query;
    pg::vector<Joined> joined = {}; // what is grouped by is the same wherever it is written again
};

// EXISTS where it is no condition of its own: bool_or(true) is not NULL. It stays what it is as long as there are some,
// and what reads the part has no change to follow then; a count would.
Node *join_existence(Scalars *to, SubLink *link) {
    auto *subquery = reinterpret_cast<Query *>(copy(link->subselect));
    if (!is_plain(subquery)) return nullptr;
    subquery->targetList = subquery->distinctClause = NIL;
    subquery->hasAggs = true;
    Node *some = join_aggregates(to->cutting, to->query, subquery, aggregate("bool_or", makeBoolConst(true, false)));
    return some ? null_test(some, IS_NOT_NULL) : nullptr;
}

// The rows that a comparison with ANY is about, and the comparison with one of them.
Query *compared_rows(const Cutting &cutting, SubLink *link, Node **comparison) {
    auto *rows = reinterpret_cast<Query *>(copy(one_table(cutting, link)));
    auto *compared = copy(link->testexpr);
    IncrementVarSublevelsUp(compared, 1, 0);
    *comparison = put_compared(compared, rows);
    return rows;
}

// x = ANY, where NULL is not false: true where a row is equal, and else NULL where x or a row is.
Node *join_membership(Scalars *to, SubLink *link) {
    Node *compared;
    Query *rows = compared_rows(to->cutting, link, &compared);
    if (!is_plain(rows) || !IsA(compared, OpExpr) || !op_strict(reinterpret_cast<OpExpr *>(compared)->opno))
        return nullptr;
    List *args = reinterpret_cast<OpExpr *>(compared)->args;
    auto *value = static_cast<Node *>(linitial(args)), *row = static_cast<Node *>(lsecond(args));
    if (reads_level(value, 0) || reads_level(row, 1)) return nullptr;
    auto *equal = reinterpret_cast<Query *>(copy(rows));
    equal->jointree->quals = make_and_qual(equal->jointree->quals, compared);
    Node *found = join_existence(to, reinterpret_cast<SubLink *>(exists(equal, false)));
    if (found == nullptr) return nullptr;

    // NULL where there is no row.
    Node *some_null = aggregate("bool_or", null_test(copy(row), IS_NULL));
    Node *otherwise = choice({{null_test(copy(some_null), IS_NULL), makeBoolConst(false, false)},
                              {either(null_test(copy(value), IS_NULL), some_null), makeBoolConst(false, true)}},
                             makeBoolConst(false, false));
    rows->targetList = rows->distinctClause = NIL;
    rows->hasAggs = true;
    otherwise = join_aggregates(to->cutting, to->query, rows, otherwise);
    return otherwise ? choice({{found, makeBoolConst(true, false)}}, otherwise) : nullptr;
}

// x <> ALL is NOT (x = ANY).
Node *join_absence(Scalars *to, SubLink *link) {
    if (!IsA(link->testexpr, OpExpr)) return nullptr;
    auto *asked = reinterpret_cast<SubLink *>(copy(link));
    auto *comparison = reinterpret_cast<OpExpr *>(asked->testexpr);
    comparison->opno = get_negator(comparison->opno);
    if (!OidIsValid(comparison->opno)) return nullptr;
    comparison->opfuncid = get_opcode(comparison->opno);
    asked->subLinkType = ANY_SUBLINK;
    Node *member = join_membership(to, asked);
    return member ? reinterpret_cast<Node *>(makeBoolExpr(NOT_EXPR, list_make1(member), -1)) : nullptr;
}

// Comparisons with ANY for which NULL is as good as false, as those of conditions that AND and OR connect: EXISTS.
Node *ask_existence(Node *node, Scalars *to) {
    if (IsA(node, List) || (IsA(node, BoolExpr) && !is_notclause(node)))
        return pg::mutate_children(node, ask_existence, to);
    if (!IsA(node, SubLink) || reinterpret_cast<SubLink *>(node)->subLinkType != ANY_SUBLINK) return node;
    Node *compared;
    Query *rows = compared_rows(to->cutting, reinterpret_cast<SubLink *>(node), &compared);
    if (!is_plain(rows)) return node;
    rows->jointree->quals = make_and_qual(rows->jointree->quals, compared);
    rows->targetList = NIL;
    return exists(rows, false);
}

Node *join_scalars(Node *node, Scalars *to);

// Null where it stays a subquery.
Node *join_scalar(SubLink *link, Scalars *to) {
    auto *subquery = castNode(Query, link->subselect);
    Node *joined = nullptr;
    if (link->subLinkType == EXPR_SUBLINK && is_aggregate(subquery)) {
        auto *changed = reinterpret_cast<Query *>(copy(subquery));
        changed->distinctClause = changed->sortClause = NIL; // of one row
        auto *target = static_cast<TargetEntry *>(linitial(changed->targetList));
        joined = join_aggregates(to->cutting, to->query, changed, reinterpret_cast<Node *>(target->expr));
    } else if (link->subLinkType == EXPR_SUBLINK) {
        joined = join_scalars(join_lookup(to->cutting, to->query, subquery), to);
        if (joined == nullptr && is_plain(subquery)) to->cutting.place.refuse(Construct::scalar_rows, link->location);
    } else if (link->subLinkType == EXISTS_SUBLINK)
        joined = join_existence(to, link);
    else if (link->subLinkType == ANY_SUBLINK)
        joined = join_membership(to, link);
    else if (link->subLinkType == ALL_SUBLINK)
        joined = join_absence(to, link);
    return joined;
}

// Each subquery is joined once.
Node *join_scalars(Node *node, Scalars *to) {
    if (node == nullptr) return nullptr;
    if (!IsA(node, SubLink)) return pg::mutate_children(node, join_scalars, to);
    for (const Joined &each : to->joined)
        if (equal(each.link, node)) return copy(each.value);
    Node *link = copy(node);
    Node *value = join_scalar(reinterpret_cast<SubLink *>(node), to);
    if (value == nullptr) return node;
    to->joined.push_back({link, copy(value)});
    return value;
}

// Conditions of inner joins and WHERE; those of outer joins stay.
void cut_conditions(Scalars *to) {
    Query *query = to->query;
    List *conditions = NIL, *changed = NIL, *plain = NIL;
    take_conditions(reinterpret_cast<Node *>(query->jointree), &conditions);
    for (Node *each : pg::each<Node>(conditions))
        if (is_presence(each))
            changed = lappend(changed, cut_presence(to->cutting, each));
        else
            plain = lappend(plain, each);
    List *joined = NIL;
    for (Node *each : pg::each<Node>(plain)) joined = lappend(joined, join_scalars(ask_existence(each, to), to));
    joined = list_concat(joined, changed);
    query->jointree->quals = joined ? reinterpret_cast<Node *>(make_ands_explicit(joined)) : nullptr;
}

} // namespace

void cut_sublinks(const Cutting &cutting, Query *query) {
    if (!query->hasSubLinks) return;
    Scalars to{cutting, query};
    cut_conditions(&to);
    query->targetList = reinterpret_cast<List *>(join_scalars(reinterpret_cast<Node *>(query->targetList), &to));
    note_sublinks(query);
}

} // namespace compile
