// Order. An array, a string, a document of several rows has them in some order, and a sum of floats depends on it: what
// ORDER BY leaves open, the server decides as it happens to read the rows. A projection has one content, so each such
// aggregate is ordered by what is written, and then by its values: an order that the query allows.
#include "compile/analysis.hpp"
#include "pg/index.hpp"
#include "pg/query.hpp"

namespace compile {
namespace {

bool is_exact(Oid type) {
    return type == INT2OID || type == INT4OID || type == INT8OID || type == NUMERICOID || type == CASHOID ||
           type == INTERVALOID;
}

bool is_free(const Aggref *aggregate) {
    return is_free_of_order(aggregate->aggfnoid,
                            aggregate->aggargtypes ? linitial_oid(aggregate->aggargtypes) : InvalidOid,
                            aggregate->inputcollid);
}

// An aggregate that has a sort operator returns the first of its values, whatever order they come in.
bool is_extremum(const Aggref *aggregate) {
    HeapTuple tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(aggregate->aggfnoid));
    if (!HeapTupleIsValid(tuple)) elog(ERROR, "cache lookup failed for aggregate %u", aggregate->aggfnoid);
    bool sorted = OidIsValid(reinterpret_cast<Form_pg_aggregate>(GETSTRUCT(tuple))->aggsortop);
    ReleaseSysCache(tuple);
    return sorted;
}

// Whether the result shows the order, and not only by its last digits or by which of equal values it is.
bool shows_order(const Aggref *aggregate) {
    Oid type = aggregate->aggtype;
    return type != FLOAT4OID && type != FLOAT8OID && !is_extremum(aggregate);
}

// An implicit cast is not written; over it stands another, which would be read back as one of what is below.
void write_out(Node *cast) {
    if (IsA(cast, FuncExpr) && reinterpret_cast<FuncExpr *>(cast)->funcformat == COERCE_IMPLICIT_CAST)
        reinterpret_cast<FuncExpr *>(cast)->funcformat = COERCE_EXPLICIT_CAST;
    if (IsA(cast, RelabelType) && reinterpret_cast<RelabelType *>(cast)->relabelformat == COERCE_IMPLICIT_CAST)
        reinterpret_cast<RelabelType *>(cast)->relabelformat = COERCE_EXPLICIT_CAST;
    if (IsA(cast, CoerceViaIO) && reinterpret_cast<CoerceViaIO *>(cast)->coerceformat == COERCE_IMPLICIT_CAST)
        reinterpret_cast<CoerceViaIO *>(cast)->coerceformat = COERCE_EXPLICIT_CAST;
}

// x::text COLLATE "C": what tells equal values apart, and orders those of a type without an order. Null where the type
// has no text.
Node *text_of(Node *value) {
    auto *copy = pg::copy<Node>(value);
    write_out(copy);
    Node *text =
        coerce_to_target_type(nullptr, copy, exprType(copy), TEXTOID, -1, COERCION_EXPLICIT, COERCE_EXPLICIT_CAST, -1);
    if (text == nullptr) return nullptr;
    assign_expr_collations(nullptr, text);
    CollateExpr *collated = makeNode(CollateExpr);
    collated->arg = reinterpret_cast<Expr *>(text);
    collated->collOid = C_COLLATION_OID;
    collated->location = -1;
    return reinterpret_cast<Node *>(collated);
}

} // namespace

// Of pg_catalog.
bool is_free_of_order(Oid function, Oid argument_type, Oid collation) {
    if (function >= FirstNormalObjectId) return false;
    std::string_view name(get_func_name(function));
    for (std::string_view each : {"count", "bool_and", "bool_or", "every", "bit_and", "bit_or", "bit_xor", "range_agg",
                                  "range_intersect_agg", "regr_count"})
        if (name == each) return true;
    if (name == "min" || name == "max") return !is_told_apart(argument_type, -1, collation);
    return is_exact(argument_type) &&
           (name == "sum" || name == "avg" || name.starts_with("stddev") || name.starts_with("var"));
}

bool Ordering::has(Node *expression) const {
    for (SortGroupClause *each : pg::each<SortGroupClause>(*clauses))
        if (equal(get_sortgroupclause_expr(each, *targets), expression)) return true;
    return false;
}

void Ordering::add(TargetEntry *argument) {
    auto *expression = reinterpret_cast<Node *>(argument->expr);
    if (has(expression)) return;
    TypeCacheEntry *type =
        lookup_type_cache(exprType(expression), TYPECACHE_EQ_OPR | TYPECACHE_LT_OPR | TYPECACHE_HASH_PROC);
    if (argument->ressortgroupref == 0) argument->ressortgroupref = ++last;
    SortGroupClause *clause = makeNode(SortGroupClause);
    clause->tleSortGroupRef = argument->ressortgroupref;
    clause->eqop = type->eq_opr;
    clause->sortop = type->lt_opr;
    clause->hashable = OidIsValid(type->hash_proc);
    *clauses = lappend(*clauses, clause);
}

void Ordering::add_value(TargetEntry *argument) {
    auto *value = reinterpret_cast<Node *>(argument->expr);
    if (IsA(value, Const)) return;
    TypeCacheEntry *type = lookup_type_cache(exprType(value), TYPECACHE_EQ_OPR | TYPECACHE_LT_OPR);
    bool sorted = OidIsValid(type->lt_opr) && OidIsValid(type->eq_opr);
    if (sorted) add(argument);
    if (sorted && !is_told_apart(value)) return;
    Node *text = only_returned ? nullptr : text_of(value);
    if (text == nullptr || has(text)) return;
    TargetEntry *added = makeTargetEntry(reinterpret_cast<Expr *>(text),
                                         static_cast<AttrNumber>(list_length(*targets) + 1), nullptr, true);
    *targets = lappend(*targets, added);
    add(added);
}

bool is_total_order(List *clauses, List *targets, const Query *query) {
    for (int i = 1; i <= list_length(query->rtable); i++) {
        const RangeTblEntry *entry = rt_fetch(i, query->rtable);
        if (entry->rtekind != RTE_RELATION || pg::has_children(entry->relid)) return false;
        Oid constraint;
        Bitmapset *key = get_primary_key_attnos(entry->relid, false, &constraint);
        if (bms_is_empty(key)) return false;
        int column = -1;
        while ((column = bms_next_member(key, column)) >= 0) {
            bool ordered = false;
            for (SortGroupClause *each : pg::each<SortGroupClause>(clauses)) {
                auto *var = reinterpret_cast<Var *>(get_sortgroupclause_expr(each, targets));
                ordered |= IsA(var, Var) && static_cast<int>(var->varno) == i && var->varlevelsup == 0 &&
                           var->varattno == column + FirstLowInvalidHeapAttributeNumber;
            }
            if (!ordered) return false;
        }
    }
    return true;
}

namespace {

bool is_total(const Aggref *aggregate, const Query *query) {
    return is_total_order(aggregate->aggorder, aggregate->args, query);
}

// ORDER BY of a query whose rows it chooses, or whose order is shown: what it leaves open, the values decide.
void complete_order(Query *query) {
    Index last = 0;
    for (TargetEntry *each : pg::each<TargetEntry>(query->targetList)) last = std::max(last, each->ressortgroupref);
    bool merged = query->setOperations || (query->distinctClause && !query->hasDistinctOn);
    Ordering ordering{&query->targetList, &query->sortClause, last, merged};
    for (int i = 0, columns = list_length(query->targetList); i < columns; i++) {
        auto *entry = static_cast<TargetEntry *>(list_nth(query->targetList, i));
        if (!entry->resjunk) ordering.add_value(entry);
    }
}

struct Walk {
    Query *query;
    const Place &place;
};

bool order(Node *node, Walk *walk) {
    if (node == nullptr) return false;
    if (IsA(node, Query)) {
        determine_order(castNode(Query, node), walk->place);
        return false;
    }
    if (IsA(node, SubLink) && reinterpret_cast<SubLink *>(node)->subLinkType == ARRAY_SUBLINK)
        complete_order(castNode(Query, reinterpret_cast<SubLink *>(node)->subselect));
    if (!IsA(node, Aggref)) return pg::walk_children(node, order, walk);
    auto *aggregate = reinterpret_cast<Aggref *>(node);
    if (aggregate->aggkind != AGGKIND_NORMAL || aggregate->aggdistinct || is_free(aggregate) ||
        is_total(aggregate, walk->query))
        return pg::walk_children(node, order, walk);
    if (aggregate->aggorder == NIL && walk->place.text && shows_order(aggregate))
        ereport(NOTICE,
                (errmsg("%s has no ORDER BY: its values are in their own order", get_func_name(aggregate->aggfnoid)),
                 errhint("Write %s(… ORDER BY …) to choose another.", get_func_name(aggregate->aggfnoid))));
    Ordering ordering{&aggregate->args, &aggregate->aggorder, 0};
    for (TargetEntry *each : pg::each<TargetEntry>(aggregate->args))
        ordering.last = std::max(ordering.last, each->ressortgroupref);
    int arguments = list_length(aggregate->aggargtypes);
    for (int i = 0; i < arguments; i++) ordering.add_value(static_cast<TargetEntry *>(list_nth(aggregate->args, i)));
    return pg::walk_children(node, order, walk); // subqueries in its arguments
}

} // namespace

void determine_order(Query *query, const Place &place) {
    check_stack_depth();
    if (query->hasWindowFuncs) determine_windows(query, place);
    if (query->hasDistinctOn || query->limitCount || query->limitOffset) complete_order(query);
    Walk walk{query, place};
    pg::walk_query(query, order, &walk, QTW_IGNORE_JOINALIASES);
}

} // namespace compile
