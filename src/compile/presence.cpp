// Presence: conditions that ask whether some row of a table matches. EXISTS is 1 or 0 for a row of the arm's FROM, one
// more factor of its weight; NOT EXISTS is the other of the two. IN and op ANY with a subquery are EXISTS with the
// comparison as a condition, as they stand where NULL is as good as false. (How a change of the table is followed:
// compile/terms.cpp.)
#include "compile/analysis.hpp"
#include "compile/canonical.hpp"
#include "compile/expressions.hpp"
#include "compile/rewrite.hpp"
#include "pg/own_schema.hpp"
#include "pg/query.hpp"

namespace compile {
namespace {

// The subquery of a conjunct that asks for presence; null where it is none.
SubLink *link_of(Node *conjunct, bool *negated) {
    *negated = false;
    if (is_notclause(conjunct)) {
        conjunct = reinterpret_cast<Node *>(get_notclausearg(conjunct));
        *negated = true;
    }
    if (conjunct == nullptr || !IsA(conjunct, SubLink)) return nullptr;
    auto *link = reinterpret_cast<SubLink *>(conjunct);
    if (link->subLinkType == EXISTS_SUBLINK) return link;
    return link->subLinkType == ANY_SUBLINK && !*negated ? link : nullptr;
}

// x <> ALL, and NOT (x = ANY): whether a row is out depends on NULLs among the others.
bool is_not_in(Node *conjunct) {
    bool negated = is_notclause(conjunct);
    if (negated) conjunct = reinterpret_cast<Node *>(get_notclausearg(conjunct));
    if (!IsA(conjunct, SubLink)) return false;
    SubLinkType type = reinterpret_cast<SubLink *>(conjunct)->subLinkType;
    return negated ? type == ANY_SUBLINK : type == ALL_SUBLINK;
}

template <class Use>
void each_conjunct(Node *condition, Use &&use) {
    check_stack_depth();
    if (condition == nullptr) return;
    if (is_andclause(condition)) {
        for (Node *each : pg::each<Node>(reinterpret_cast<BoolExpr *>(condition)->args)) each_conjunct(each, use);
        return;
    }
    use(condition);
}

template <class Use>
void each_quals(Node *item, Use &&use) {
    if (IsA(item, FromExpr)) {
        for (Node *each : pg::each<Node>(castNode(FromExpr, item)->fromlist)) each_quals(each, use);
        use(castNode(FromExpr, item)->quals);
    } else if (IsA(item, JoinExpr)) {
        each_quals(castNode(JoinExpr, item)->larg, use);
        each_quals(castNode(JoinExpr, item)->rarg, use);
        use(castNode(JoinExpr, item)->quals);
    }
}

} // namespace

bool has_other_sublinks(const Query *query) {
    if (!query->hasSubLinks) return false;
    int all = 0, presences = 0;
    each_sublink(const_cast<Query *>(query), [&](SubLink *) { all++; });
    each_quals(reinterpret_cast<Node *>(query->jointree), [&](Node *condition) {
        each_conjunct(condition, [&](Node *conjunct) {
            bool negated;
            presences += link_of(conjunct, &negated) != nullptr;
        });
    });
    return presences < all;
}

List *conjuncts(Node *condition) {
    List *all = NIL;
    each_conjunct(condition, [&](Node *conjunct) { all = lappend(all, conjunct); });
    return all;
}

Node *put_compared(Node *node, Query *subquery) {
    if (node == nullptr) return nullptr;
    if (IsA(node, Param) && reinterpret_cast<Param *>(node)->paramkind == PARAM_SUBLINK) {
        int number = reinterpret_cast<Param *>(node)->paramid;
        auto *target = static_cast<TargetEntry *>(list_nth(subquery->targetList, number - 1));
        return pg::copy(target->expr);
    }
    return pg::mutate_children(node, put_compared, subquery);
}

void forget_limit(Query *subquery) {
    if (subquery->limitOffset || subquery->limitCount == nullptr) return;
    auto *count = reinterpret_cast<Const *>(computed(subquery->limitCount));
    if (!IsA(count, Const) || count->constisnull || DatumGetInt64(count->constvalue) < 1) return;
    subquery->limitCount = nullptr;
    subquery->sortClause = NIL;
}

List *take_presences(Analysis &a, Node *condition) {
    List *rest = NIL;
    each_conjunct(condition, [&](Node *conjunct) {
        bool negated;
        if (is_not_in(conjunct)) a.place.refuse(Construct::not_in, exprLocation(conjunct));
        if (link_of(conjunct, &negated))
            a.presences = lappend(a.presences, conjunct);
        else
            rest = lappend(rest, conjunct);
    });
    return rest;
}

namespace {

const char *obstacle_of_presence(const Query *subquery) {
    if (const char *found = obstacle(subquery)) return found;
    if (subquery->hasSubLinks) return "have subqueries in expressions";
    if (subquery->jointree == nullptr || list_length(subquery->jointree->fromlist) != 1) return "read several tables";
    return nullptr;
}

// The only table that a FROM of plain joins reads; 0 where there are several.
int only_entry(Node *item, List **conditions) {
    if (IsA(item, RangeTblRef)) return reinterpret_cast<RangeTblRef *>(item)->rtindex;
    if (!IsA(item, FromExpr)) return 0;
    auto *from = castNode(FromExpr, item);
    if (from->quals) *conditions = lappend(*conditions, from->quals);
    return list_length(from->fromlist) == 1 ? only_entry(static_cast<Node *>(linitial(from->fromlist)), conditions) : 0;
}

// Vars of the subquery → those of its only table; Vars of the query around it → the arm's.
Node *renumber(Node *node, Analysis *a) {
    if (node == nullptr) return nullptr;
    if (IsA(node, SubLink)) a->place.refuse(Construct::sublink, reinterpret_cast<SubLink *>(node)->location);
    if (!IsA(node, Var)) return pg::mutate_children(node, renumber, a);
    Var *var = pg::copy<Var>(node);
    if (var->varattno <= 0)
        a->place.refuse(var->varattno == 0 ? Construct::whole_row : Construct::system_column, var->location);
    var->varno = var->varlevelsup ? a->renumbered[var->varno] : 1;
    if (var->varlevelsup && !a->over_union)
        note_used(a->block->sources[a->block->occurrence_source[a->before + var->varno - 1]], var->varattno);
    pg::forget_nulling(var);
    var->varnosyn = 0;
    var->varattnosyn = 0;
    return reinterpret_cast<Node *>(var);
}

// Columns of joins, of the subquery and of the query around it, become columns of tables.
Node *flatten_outer(Node *node, Query *outer) {
    if (node == nullptr) return nullptr;
    if (!IsA(node, Var)) return pg::mutate_children(node, flatten_outer, outer);
    if (reinterpret_cast<Var *>(node)->varlevelsup != 1) return node;
    auto *var = pg::copy(node);
    IncrementVarSublevelsUp(var, -1, 1);
    var = pg::flatten_joins(outer, var);
    IncrementVarSublevelsUp(var, 1, 0);
    return var;
}

Query *rows_of(const RangeTblEntry *entry) {
    auto *copy = pg::copy<RangeTblEntry>(entry);
    copy->inFromCl = true;
    pg::forget_privileges(copy);
    return pg::select_from(copy);
}

// A presence of the arm whose FROM `a` analyses, still of no occurrence.
Presence made_of(Analysis &a, Node *conjunct) {
    Presence presence{};
    SubLink *link = link_of(conjunct, &presence.negated);
    auto *subquery = castNode(Query, link->subselect);
    if (link->subLinkType == EXISTS_SUBLINK) forget_limit(subquery);
    if (!subquery->hasDistinctOn) subquery->distinctClause = NIL; // a row is there, or it is not
    if (const char *found = obstacle_of_presence(subquery))
        a.place.refuse(Construct::presence_rows, link->location, found);
    List *conditions = NIL;
    int index = only_entry(reinterpret_cast<Node *>(subquery->jointree), &conditions);
    if (index == 0) a.place.refuse(Construct::presence_rows, link->location, "read several tables");
    if (link->testexpr) {
        auto *compared = pg::copy(link->testexpr);
        IncrementVarSublevelsUp(compared, 1, 0); // as a condition of the subquery
        conditions = lappend(conditions, put_compared(compared, subquery));
    }
    RangeTblEntry *entry = rt_fetch(index, subquery->rtable);
    check_entry(a, entry);
    presence.rows = rows_of(entry);
    List *quals = NIL;
    for (Node *each : pg::each<Node>(conditions)) {
        Node *condition = renumber(canonical(flatten_outer(each, a.query), a.place), &a);
        quals = list_concat(quals, conjuncts(condition));
    }
    presence.rows->jointree->quals = quals ? reinterpret_cast<Node *>(make_ands_explicit(quals)) : nullptr;
    return presence;
}

bool note_inner(Node *node, Source *source) {
    if (node == nullptr) return false;
    if (IsA(node, Var) && reinterpret_cast<Var *>(node)->varlevelsup == 0)
        note_used(*source, reinterpret_cast<Var *>(node)->varattno);
    return pg::walk_children(node, note_inner, source);
}

void add(const Analysis &a, Arm &arm, Presence presence) {
    Block *block = a.block;
    if (arm.entries() + static_cast<int>(arm.presences.size()) == max_sources)
        a.place.refuse(Construct::too_many_sources, -1, psprintf("%d", max_sources));
    int source = source_index(a.place, block, rt_fetch(1, presence.rows->rtable)->relid);
    note_inner(presence.rows->jointree->quals, &block->sources[source]);
    block->occurrence_source.push_back(source);
    presence.occurrence = static_cast<int>(block->occurrence_source.size());
    arm.presences.push_back(presence);
}

// Columns of a union, one level up, become an arm's expressions.
Node *put_arm(Node *node, List *columns) {
    if (node == nullptr) return nullptr;
    if (!IsA(node, Var) || reinterpret_cast<Var *>(node)->varlevelsup == 0)
        return pg::mutate_children(node, put_arm, columns);
    auto *column = static_cast<TargetEntry *>(list_nth(columns, reinterpret_cast<Var *>(node)->varattno - 1));
    auto *expression = pg::copy(column->expr);
    IncrementVarSublevelsUp(expression, 1, 0);
    return expression;
}

} // namespace

void add_presences(Analysis &a, Arm &arm) {
    for (Node *each : pg::each<Node>(a.presences)) add(a, arm, made_of(a, each));
}

void distribute_presences(Analysis &a, Arm &arm) {
    for (Node *each : pg::each<Node>(a.presences)) {
        Presence presence = made_of(a, each);
        presence.rows->jointree->quals = put_arm(presence.rows->jointree->quals, arm.query->targetList);
        add(a, arm, presence);
    }
}

Node *presence_test(const Presence &presence) { return exists(pg::copy<Query>(presence.rows), presence.negated); }

void set_quals(const Arm &arm) {
    List *quals = list_copy(arm.conditions);
    for (const Presence &each : arm.presences) quals = lappend(quals, presence_test(each));
    arm.query->jointree->quals = quals ? reinterpret_cast<Node *>(make_ands_explicit(quals)) : nullptr;
    arm.query->hasSubLinks = !arm.presences.empty();
}

Query *presence_within(const Arm &arm, Query *query, int number) {
    List *quals = make_ands_implicit(reinterpret_cast<Expr *>(query->jointree->quals));
    bool negated;
    auto *test = static_cast<Node *>(list_nth(quals, list_length(arm.conditions) + number));
    return castNode(Query, link_of(test, &negated)->subselect);
}

} // namespace compile
