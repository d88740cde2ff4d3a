// Subqueries that are grouped, and correlated by equality: the groups for all values that they may be correlated by are
// a part, and the query reads those that are equal. An aggregate without GROUP BY has a row where there is no group, so
// its part is LEFT JOINed, and its counts are 0 then.
#include "compile/correlated.hpp"

#include "compile/expressions.hpp"
#include "compile/rewrite.hpp"
#include "pg/query.hpp"

namespace compile {
namespace {

Node *copy(const void *node) { return static_cast<Node *>(copyObjectImpl(node)); }

Node *all_of(List *conditions) {
    return conditions ? reinterpret_cast<Node *>(make_ands_explicit(conditions)) : nullptr;
}

// ------------------------------------------------------------------------------------------------------- correlations

struct Correlation {
    Node *inner, *outer; // the outer one as the subquery has it
    OpExpr *comparison;
    bool inner_first;
};

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
    if (!IsA(condition, OpExpr) || checkExprHasSubLink(condition)) return false;
    auto *comparison = reinterpret_cast<OpExpr *>(condition);
    if (list_length(comparison->args) != 2) return false;
    for (int i = 0; i < 2; i++) {
        auto *inner = static_cast<Node *>(list_nth(comparison->args, i));
        auto *outer = static_cast<Node *>(list_nth(comparison->args, 1 - i));
        if (contain_vars_of_level(inner, 1) || contain_vars_of_level(outer, 0)) continue;
        TypeCacheEntry *type = lookup_type_cache(exprType(inner), TYPECACHE_BTREE_OPFAMILY);
        if (!OidIsValid(type->btree_opf) || !op_in_opfamily(comparison->opno, type->btree_opf) ||
            get_op_opfamily_strategy(comparison->opno, type->btree_opf) != BTEqualStrategyNumber)
            return false;
        *found = {as_compared(copy(inner), comparison->inputcollid), copy(outer), comparison, i == 0};
        return true;
    }
    return false;
}

// Takes the conditions on what is outside from the subquery. False where one is no equality.
bool take_correlations(Query *subquery, pg::vector<Correlation> *correlations) {
    List *conditions = NIL, *inner = NIL;
    take_conditions(reinterpret_cast<Node *>(subquery->jointree), &conditions);
    for (Node *each : pg::each<Node>(conditions)) {
        Correlation correlation{};
        if (!contain_vars_of_level(each, 1))
            inner = lappend(inner, each);
        else if (correlates(each, &correlation))
            correlations->push_back(correlation);
        else
            return false;
    }
    subquery->jointree->quals = all_of(inner);
    return true;
}

// The part's keys, columns `before` + 1 and on, equal what is outside.
Node *match(const pg::vector<Correlation> &correlations, const RangeTblEntry *entry, int index, int before) {
    List *all = NIL;
    for (const Correlation &each : correlations) {
        auto *comparison = reinterpret_cast<OpExpr *>(copy(each.comparison));
        auto *key = reinterpret_cast<Node *>(column_of(entry, index, ++before));
        comparison->args = each.inner_first ? list_make2(key, each.outer) : list_make2(each.outer, key);
        comparison->location = -1;
        all = lappend(all, comparison);
    }
    return all_of(all);
}

// What the subquery has of the query around it, as that query has it.
Node *out(Node *node) {
    if (node) IncrementVarSublevelsUp(node, -1, 1);
    return node;
}

// --------------------------------------------------------------------------------------------------------- aggregates

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

// A part of a subquery's aggregates, among the query's entries: where to find them, and by which condition their row;
// null where there is one row. False where the subquery is correlated otherwise than by equality.
bool make_aggregates(const Cutting &cutting, Query *query, Query *subquery, Node *expressions, Aggregates *made,
                     Node **condition) {
    pg::vector<Correlation> correlations;
    if (!take_correlations(subquery, &correlations)) return false;
    collect_aggregates(expressions, &made->aggregates);
    subquery->targetList = subquery->distinctClause = subquery->sortClause = NIL; // of one row
    for (Node *each : pg::each<Node>(made->aggregates))
        pg::add_target(subquery, copy(each), get_func_name(reinterpret_cast<Aggref *>(each)->aggfnoid));
    for (const Correlation &each : correlations)
        group_by(cutting, subquery, pg::add_target(subquery, each.inner, "key"));
    if (reads_outside(subquery)) return false;
    note_sublinks(subquery);

    RangeTblEntry *entry = part_entry(cutting, subquery, "part");
    made->entry = entry;
    made->index = add_entry(query, entry);
    *condition = out(match(correlations, entry, made->index, list_length(made->aggregates)));
    made->always = *condition == nullptr;
    return true;
}

} // namespace

bool is_aggregate(const Query *subquery) {
    return subquery->hasAggs && !subquery->setOperations && !subquery->groupClause && !subquery->groupingSets &&
           !subquery->havingQual && !subquery->limitCount && !subquery->limitOffset && !subquery->hasWindowFuncs &&
           !subquery->hasTargetSRFs && !subquery->rowMarks && !subquery->cteList;
}

Node *join_aggregates(const Cutting &cutting, Query *query, Query *subquery, Node *expression) {
    Aggregates of{};
    Node *condition;
    if (!make_aggregates(cutting, query, subquery, expression, &of, &condition)) return nullptr;
    if (condition)
        left_join(query, of.index, condition);
    else
        query->jointree->fromlist = lappend(query->jointree->fromlist, pg::reference_to(of.index));
    return out(of_part(expression, &of));
}

// ------------------------------------------------------------------------------------------------------------- groups

namespace {

// Whether it has no row where it has no group, and its rows are said by nothing but groups.
bool is_of_groups(const Query *subquery) {
    bool plain = !subquery->hasAggs && !subquery->havingQual;
    return (subquery->groupClause || (subquery->distinctClause && plain)) && !subquery->setOperations &&
           !subquery->groupingSets && !subquery->hasDistinctOn && !subquery->limitCount && !subquery->limitOffset &&
           !subquery->hasWindowFuncs && !subquery->hasTargetSRFs && !subquery->rowMarks && !subquery->cteList;
}

// Tells the groups, and the distinct rows, of each value of the key apart, too.
void add_key(const Cutting &cutting, Query *subquery, Node *inner) {
    bool distinct = subquery->distinctClause != NIL, grouped = subquery->groupClause || subquery->hasAggs;
    int column = pg::add_target(subquery, inner, "key");
    auto *target = static_cast<TargetEntry *>(list_nth(subquery->targetList, column - 1));
    List *groups = subquery->groupClause;
    group_by(cutting, subquery, column);
    if (distinct)
        for (SortGroupClause *each : pg::each<SortGroupClause>(subquery->groupClause))
            if (each->tleSortGroupRef == target->ressortgroupref)
                subquery->distinctClause = lappend(subquery->distinctClause, copy(each));
    if (!grouped) subquery->groupClause = groups;
}

// A part of the subquery's rows for all values of its keys, whose first columns are the subquery's. Null where it is
// correlated otherwise than by equality.
RangeTblEntry *make_groups(const Cutting &cutting, Query *subquery, pg::vector<Correlation> *correlations,
                           int *columns) {
    if (!is_of_groups(subquery) || !take_correlations(subquery, correlations)) return nullptr;
    forget_order(subquery);
    List *visible = NIL, *hidden = NIL; // the keys come after what is visible
    for (TargetEntry *each : pg::each<TargetEntry>(subquery->targetList))
        if (each->resjunk)
            hidden = lappend(hidden, each);
        else
            visible = lappend(visible, each);
    *columns = list_length(visible);
    subquery->targetList = list_concat(visible, hidden);
    for (const Correlation &each : *correlations) add_key(cutting, subquery, each.inner);
    if (reads_outside(subquery)) return nullptr;
    return part_entry(cutting, subquery, "part");
}

} // namespace

Query *correlated_rows(const Cutting &cutting, Query *subquery) {
    pg::vector<Correlation> correlations;
    int columns;
    List *targets = subquery->targetList;
    RangeTblEntry *entry = make_groups(cutting, subquery, &correlations, &columns);
    if (entry == nullptr) return nullptr;
    Query *rows = pg::select_from(entry);
    int number = 0;
    for (TargetEntry *each : pg::each<TargetEntry>(targets))
        if (!each->resjunk)
            pg::add_target(rows, reinterpret_cast<Node *>(column_of(entry, 1, ++number)), each->resname);
    rows->jointree->quals = match(correlations, entry, 1, columns);
    return rows;
}

// ------------------------------------------------------------------------------------------------------------ LATERAL
namespace {

// A subquery in FROM, with its place there.
struct Lateral {
    int entry = 0;
    FromExpr *list = nullptr; // it is one of these,
    JoinExpr *join = nullptr; // or its right side
};

bool is_cut(Query *subquery) { return reads_outside(subquery) && (is_aggregate(subquery) || is_of_groups(subquery)); }

bool find_lateral(Query *query, Node *item, Lateral *found) {
    check_stack_depth();
    auto is_found = [&](Node *each) {
        if (!IsA(each, RangeTblRef)) return false;
        found->entry = reinterpret_cast<RangeTblRef *>(each)->rtindex;
        RangeTblEntry *entry = rt_fetch(found->entry, query->rtable);
        return entry->rtekind == RTE_SUBQUERY && is_cut(entry->subquery);
    };
    if (IsA(item, FromExpr)) {
        found->join = nullptr;
        for (Node *each : pg::each<Node>(castNode(FromExpr, item)->fromlist)) {
            if (find_lateral(query, each, found)) return true;
            found->list = castNode(FromExpr, item);
            found->join = nullptr;
            if (is_found(each)) return true;
        }
        return false;
    }
    if (!IsA(item, JoinExpr)) return false;
    auto *join = castNode(JoinExpr, item);
    if (find_lateral(query, join->larg, found) || find_lateral(query, join->rarg, found)) return true;
    found->list = nullptr;
    found->join = join;
    return (join->jointype == JOIN_INNER || join->jointype == JOIN_LEFT) && is_found(join->rarg);
}

Node *from_of(List *items) {
    return list_length(items) == 1 ? static_cast<Node *>(linitial(items))
                                   : reinterpret_cast<Node *>(makeFromExpr(items, nullptr));
}

// What stands before it in FROM, which it may be joined with; null where nothing does.
Node *before(const Lateral &lateral, List **after) {
    *after = NIL;
    if (lateral.join) return lateral.join->larg;
    List *items = NIL;
    bool passed = false;
    for (Node *each : pg::each<Node>(lateral.list->fromlist)) {
        if (IsA(each, RangeTblRef) && reinterpret_cast<RangeTblRef *>(each)->rtindex == lateral.entry)
            passed = true;
        else if (passed)
            *after = lappend(*after, each);
        else
            items = lappend(items, each);
    }
    return items ? from_of(items) : nullptr;
}

// Whether a condition reads nothing but what stands there, and the part.
bool is_known(Node *condition, Node *from, int part) {
    Bitmapset *entries = nullptr;
    add_entries(from, &entries);
    return bms_is_subset(pull_varnos(nullptr, condition), bms_add_member(entries, part));
}

// The columns of the subquery, in expressions over what is joined in its place. With `unless`, they are NULL where that
// condition, over those columns, is not true.
Query *put_columns(Query *query, int entry, List *targets, Node *unless) {
    if (unless) {
        Query *asked = makeNode(Query); // for its condition
        asked->commandType = CMD_SELECT;
        asked->rtable = query->rtable;
        asked->jointree = makeFromExpr(NIL, unless);
        Node *condition = pg::replace_columns(asked, entry, targets)->jointree->quals;
        for (TargetEntry *each : pg::each<TargetEntry>(targets))
            each->expr = reinterpret_cast<Expr *>(when(copy(condition), reinterpret_cast<Node *>(each->expr)));
    }
    RangeTblEntry *gone = rt_fetch(entry, query->rtable);
    gone->subquery = makeNode(Query); // nobody reads it any more
    gone->subquery->commandType = CMD_SELECT;
    gone->lateral = false;
    return pg::replace_columns(query, entry, targets);
}

// Of one row: its columns are expressions over aggregates, which are LEFT JOINed.
bool join_row(const Cutting &cutting, Query *query, const Lateral &lateral) {
    auto *subquery = reinterpret_cast<Query *>(copy(rt_fetch(lateral.entry, query->rtable)->subquery));
    List *targets = NIL, *after, *written = subquery->targetList;
    for (TargetEntry *each : pg::each<TargetEntry>(written))
        if (!each->resjunk) targets = lappend(targets, each);
    Aggregates of{};
    Node *condition;
    if (!make_aggregates(cutting, query, subquery, reinterpret_cast<Node *>(targets), &of, &condition)) return false;
    Node *from = before(lateral, &after);
    if (from == nullptr || !is_known(condition, from, of.index)) return false;
    targets = reinterpret_cast<List *>(out(of_part(reinterpret_cast<Node *>(targets), &of)));

    auto *part = reinterpret_cast<Node *>(pg::reference_to(of.index));
    Node *joined = reinterpret_cast<Node *>(makeFromExpr(list_make2(from, part), nullptr));
    if (condition) {
        JoinExpr *made = makeNode(JoinExpr);
        made->jointype = JOIN_LEFT;
        made->larg = from;
        made->rarg = part;
        made->quals = condition;
        joined = reinterpret_cast<Node *>(made);
    }
    Node *unless = nullptr;
    if (lateral.join) {
        bool left = lateral.join->jointype == JOIN_LEFT;
        Node *on = lateral.join->quals;
        if (left && on && !(IsA(on, Const) && DatumGetBool(reinterpret_cast<Const *>(on)->constvalue))) unless = on;
        lateral.join->jointype = JOIN_INNER; // with the condition, where it was one
        if (left) lateral.join->quals = nullptr;
        lateral.join->larg = joined;
        lateral.join->rarg = reinterpret_cast<Node *>(makeFromExpr(NIL, nullptr));
    } else
        lateral.list->fromlist = lcons(joined, after);
    *query = *put_columns(query, lateral.entry, targets, unless);
    return true;
}

// Of groups: a part that is joined by its keys.
bool join_groups(const Cutting &cutting, Query *query, const Lateral &lateral) {
    auto *subquery = reinterpret_cast<Query *>(copy(rt_fetch(lateral.entry, query->rtable)->subquery));
    pg::vector<Correlation> correlations;
    int columns;
    RangeTblEntry *entry = make_groups(cutting, subquery, &correlations, &columns);
    if (entry == nullptr) return false;
    int index = add_entry(query, entry);
    Node *condition = out(match(correlations, entry, index, columns));
    List *after, *targets = NIL;
    Node *from = before(lateral, &after);
    if (from == nullptr || !is_known(condition, from, index)) return false;
    for (int i = 1; i <= columns; i++)
        targets = lappend(targets, makeTargetEntry(reinterpret_cast<Expr *>(column_of(entry, index, i)),
                                                   static_cast<AttrNumber>(i), nullptr, false));
    auto *reference = reinterpret_cast<Node *>(pg::reference_to(index));
    if (lateral.join) {
        lateral.join->rarg = reference;
        lateral.join->quals = make_and_qual(condition, lateral.join->quals);
    } else {
        lateral.list->fromlist = list_concat(list_make2(from, reference), after);
        lateral.list->quals = make_and_qual(condition, lateral.list->quals);
    }
    *query = *put_columns(query, lateral.entry, targets, nullptr);
    return true;
}

} // namespace

void cut_laterals(const Cutting &cutting, Query *query) {
    Lateral found;
    while (find_lateral(query, reinterpret_cast<Node *>(query->jointree), &found)) {
        bool row = is_aggregate(rt_fetch(found.entry, query->rtable)->subquery);
        if (row ? join_row(cutting, query, found) : join_groups(cutting, query, found)) continue;
        cutting.place.refuse(Construct::derived_table, -1, "read columns of what stands beside them in FROM");
    }
}

} // namespace compile
