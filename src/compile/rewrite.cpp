// Rules that bring a query into normal form. Each keeps the rows that the query returns (test: sql/plan runs both).
//
// Core's prepjointree does the same and more, but what it makes cannot be deparsed and changes with each major version.
#include "compile/rewrite.hpp"

#include "pg/query.hpp"

namespace compile {
namespace {

bool forget_all_nulling(Node *node, void *context) {
    if (node == nullptr) return false;
    if (IsA(node, Query)) return pg::walk_query(castNode(Query, node), forget_all_nulling, context, 0);
    if (IsA(node, Var)) pg::forget_nulling(reinterpret_cast<Var *>(node));
    return pg::walk_children(node, forget_all_nulling, context);
}

template <class Change>
void each_condition(Node *item, Change &&change) {
    if (IsA(item, FromExpr)) {
        auto *from = castNode(FromExpr, item);
        for (Node *each : pg::each<Node>(from->fromlist)) each_condition(each, change);
        from->quals = change(from->quals);
    } else if (IsA(item, JoinExpr)) {
        auto *join = castNode(JoinExpr, item);
        each_condition(join->larg, change);
        each_condition(join->rarg, change);
        join->quals = change(join->quals);
    }
}

// Columns of joins, which USING merges, become columns of what is joined.
void name_joined_columns(Query *query) {
    query->targetList = reinterpret_cast<List *>(pg::flatten_joins(query, reinterpret_cast<Node *>(query->targetList)));
    each_condition(reinterpret_cast<Node *>(query->jointree),
                   [&](Node *condition) { return condition ? pg::flatten_joins(query, condition) : nullptr; });
}

bool is_rejected(Node *side, Relids not_null) {
    Bitmapset *entries = nullptr;
    add_entries(side, &entries);
    return bms_overlap(entries, not_null);
}

// An outer join is as good as an inner one on a side whose NULLs a condition above it rejects. `not_null`: entries
// whose columns such conditions need.
void reduce_outer_joins(Node *item, Relids not_null) {
    if (IsA(item, FromExpr)) {
        auto *from = castNode(FromExpr, item);
        if (from->quals) not_null = bms_union(not_null, find_nonnullable_rels(from->quals));
        for (Node *each : pg::each<Node>(from->fromlist)) reduce_outer_joins(each, not_null);
        return;
    }
    if (!IsA(item, JoinExpr)) return;
    auto *join = castNode(JoinExpr, item);
    bool left = is_rejected(join->larg, not_null), right = is_rejected(join->rarg, not_null);
    switch (join->jointype) {
    case JOIN_LEFT: join->jointype = right ? JOIN_INNER : JOIN_LEFT; break;
    case JOIN_RIGHT: join->jointype = left ? JOIN_INNER : JOIN_RIGHT; break;
    case JOIN_FULL:
        join->jointype = left && right ? JOIN_INNER : left ? JOIN_LEFT : right ? JOIN_RIGHT : JOIN_FULL;
        break;
    default: break;
    }
    Relids here = bms_copy(not_null);
    if (join->quals && join->jointype != JOIN_FULL) here = bms_union(here, find_nonnullable_rels(join->quals));
    // What ON needs of the side that is kept rejects none of its rows.
    bool inner = join->jointype == JOIN_INNER;
    reduce_outer_joins(join->larg, inner || join->jointype == JOIN_RIGHT ? here : not_null);
    reduce_outer_joins(join->rarg, inner || join->jointype == JOIN_LEFT ? here : not_null);
}

// Whether more than ORDER BY refers to it.
bool is_referred_to(const Query *query, const TargetEntry *entry) {
    return is_among(entry, query->groupClause) || is_among(entry, query->distinctClause) || is_of_window(entry, query);
}

} // namespace

bool is_among(const TargetEntry *entry, List *clauses) {
    for (SortGroupClause *clause : pg::each<SortGroupClause>(clauses))
        if (clause->tleSortGroupRef == entry->ressortgroupref) return true;
    return false;
}

bool is_of_window(const TargetEntry *entry, const Query *query) {
    for (WindowClause *window : pg::each<WindowClause>(query->windowClause))
        if (is_among(entry, window->partitionClause) || is_among(entry, window->orderClause)) return true;
    return false;
}

void add_entries(Node *item, Bitmapset **entries) {
    if (IsA(item, RangeTblRef)) {
        *entries = bms_add_member(*entries, reinterpret_cast<RangeTblRef *>(item)->rtindex);
    } else if (IsA(item, JoinExpr)) {
        add_entries(castNode(JoinExpr, item)->larg, entries);
        add_entries(castNode(JoinExpr, item)->rarg, entries);
    } else {
        for (Node *each : pg::each<Node>(castNode(FromExpr, item)->fromlist)) add_entries(each, entries);
    }
}

void group_by(Query *query, TargetEntry *column, const Place &place) {
    Index reference = 0;
    for (TargetEntry *each : pg::each<TargetEntry>(query->targetList))
        reference = std::max(reference, each->ressortgroupref);
    for (SortGroupClause *clause : pg::each<SortGroupClause>(query->groupClause))
        if (clause->tleSortGroupRef == column->ressortgroupref) return;
    if (column->ressortgroupref == 0) column->ressortgroupref = reference + 1;
    auto *expression = reinterpret_cast<Node *>(column->expr);
    Oid type = exprType(expression);
    TypeCacheEntry *cache = lookup_type_cache(type, TYPECACHE_EQ_OPR | TYPECACHE_LT_OPR | TYPECACHE_HASH_PROC);
    if (!OidIsValid(cache->eq_opr) || !OidIsValid(cache->lt_opr))
        place.refuse(Construct::unhashable_key, exprLocation(expression), format_type_be(type),
                     column->resname ? column->resname : "");
    SortGroupClause *clause = makeNode(SortGroupClause);
    clause->tleSortGroupRef = column->ressortgroupref;
    clause->eqop = cache->eq_opr;
    clause->sortop = cache->lt_opr;
    clause->hashable = OidIsValid(cache->hash_proc);
    query->groupClause = lappend(query->groupClause, clause);
}

bool forget_order(Query *query) {
    if (query->sortClause == NIL || query->limitCount || query->limitOffset || query->hasDistinctOn) return false;
    query->sortClause = NIL;
    List *kept = NIL;
    for (TargetEntry *entry : pg::each<TargetEntry>(query->targetList))
        if (!entry->resjunk || is_referred_to(query, entry)) kept = lappend(kept, entry);
    query->targetList = kept;
    return true;
}

void renew_joins(Query *query) {
    name_joined_columns(query);
    reduce_outer_joins(reinterpret_cast<Node *>(query->jointree), nullptr);
}

Query *rewrite_level(Query *query, const Place &place, Oid as, bool user) {
    check_stack_depth();
    if (query->commandType != CMD_SELECT || query->jointree == nullptr) return query;
    query = select_from_union(query);
    if (query->setOperations) return rewrite_arms(query, place, as, user);
    pg::forget_groups(query);
    query = unite_grouping_sets(query);
    renew_joins(query);
    query = inline_subqueries(query, place, as, user);
    compare_with_values(query);
    return query;
}

Query *rewrite(const Query *query, const Place &place, bool user) {
    auto *copy = pg::copy<Query>(query);
    if (copy->commandType != CMD_SELECT || copy->hasModifyingCTE) return copy;
    forget_all_nulling(reinterpret_cast<Node *>(copy), nullptr);
    if (forget_order(copy) && place.text)
        ereport(NOTICE, (errmsg("ORDER BY is ignored: a table has no order"),
                         errhint("Apply it when reading the projection.")));
    inline_with(copy, place);
    return rewrite_level(select_from_union(copy, true), place, GetUserId(), user);
}

} // namespace compile
