// Some constructs find an operator by its name `=` or `<` when their text is parsed: IS DISTINCT FROM, NULLIF, CASE x
// WHEN y, comparisons of rows. Deparsed text cannot say which operator was meant, so over a type whose operators are
// not in pg_catalog it would read back with another one (citext's becomes text's) or with none. They become
// expressions that name the operator. (Test: sql/definitions.)
#include "compile/canonical.hpp"

#include "compile/analysis.hpp"
#include "compile/deparse.hpp"
#include "compile/expressions.hpp"
#include "pg/query.hpp"

namespace compile {
namespace {

bool is_built_in(Oid operation) { return get_func_namespace(get_opcode(operation)) == PG_CATALOG_NAMESPACE; }

Node *negated(Node *condition) { return reinterpret_cast<Node *>(makeBoolExpr(NOT_EXPR, list_make1(condition), -1)); }

Node *is_null(const Place &place, Node *value) {
    if (type_is_rowtype(exprType(value))) place.refuse(Construct::row_comparison_nulls, exprLocation(value));
    return compile::is_null(value);
}

// DistinctExpr, NullIfExpr and OpExpr are one struct; only the operator's result is a boolean in all three.
Node *comparison(const OpExpr *of, List *arguments) {
    OpExpr *plain = makeNode(OpExpr);
    plain->opno = of->opno;
    plain->opfuncid = of->opfuncid;
    plain->opresulttype = BOOLOID;
    plain->inputcollid = of->inputcollid;
    plain->args = arguments;
    plain->location = -1;
    return reinterpret_cast<Node *>(plain);
}

using pg::copy;

// (a = b) IS NOT TRUE AND NOT (a IS NULL AND b IS NULL)
Node *distinct(const Place &place, const OpExpr *of) {
    auto *a = static_cast<Node *>(linitial(of->args)), *b = static_cast<Node *>(lsecond(of->args));
    Node *both_null = reinterpret_cast<Node *>(
        makeBoolExpr(AND_EXPR, list_make2(is_null(place, copy(a)), is_null(place, copy(b))), -1));
    return reinterpret_cast<Node *>(makeBoolExpr(
        AND_EXPR, list_make2(boolean_test(comparison(of, list_make2(a, b)), IS_NOT_TRUE), negated(both_null)), -1));
}

// CASE WHEN a = b THEN NULL ELSE a END
Node *null_if(const OpExpr *of) {
    auto *a = static_cast<Node *>(linitial(of->args));
    CaseWhen *when = makeNode(CaseWhen);
    when->expr = reinterpret_cast<Expr *>(comparison(of, of->args));
    when->result = reinterpret_cast<Expr *>(null_like(a));
    when->location = -1;
    CaseExpr *choice = makeNode(CaseExpr);
    choice->casetype = exprType(a);
    choice->casecollid = exprCollation(a);
    choice->args = list_make1(when);
    choice->defresult = copy<Expr>(a);
    choice->location = -1;
    return reinterpret_cast<Node *>(choice);
}

Node *put_tested(Node *node, Node *tested) {
    if (node == nullptr) return nullptr;
    if (IsA(node, CaseTestExpr)) return copy(tested);
    if (IsA(node, CaseExpr) && reinterpret_cast<CaseExpr *>(node)->arg) return node; // has a test of its own
    if (IsA(node, ArrayCoerceExpr)) {                                                // so has its element expression
        auto *array = reinterpret_cast<ArrayCoerceExpr *>(node);
        array->arg = reinterpret_cast<Expr *>(put_tested(reinterpret_cast<Node *>(array->arg), tested));
        return node;
    }
    return pg::mutate_children(node, put_tested, tested);
}

struct FindOperators {
    bool foreign = false;
};

bool find_operators(Node *node, FindOperators *found) {
    if (node == nullptr) return false;
    if (IsA(node, OpExpr)) found->foreign |= !is_built_in(reinterpret_cast<OpExpr *>(node)->opno);
    return pg::walk_children(node, find_operators, found);
}

// CASE x WHEN y: the tests become conditions of their own.
Node *searched_case(CaseExpr *choice) {
    FindOperators found;
    for (CaseWhen *when : pg::each<CaseWhen>(choice->args))
        find_operators(reinterpret_cast<Node *>(when->expr), &found);
    if (!found.foreign) return reinterpret_cast<Node *>(choice);
    for (CaseWhen *when : pg::each<CaseWhen>(choice->args))
        when->expr = reinterpret_cast<Expr *>(
            put_tested(reinterpret_cast<Node *>(when->expr), reinterpret_cast<Node *>(choice->arg)));
    choice->arg = nullptr;
    return reinterpret_cast<Node *>(choice);
}

void check_row_comparison(const Place &place, const RowCompareExpr *rows) {
    ListCell *cell;
    foreach (cell, rows->opnos)
        if (!is_built_in(lfirst_oid(cell)))
            place.refuse(Construct::row_comparison, exprLocation(reinterpret_cast<const Node *>(rows)));
}

// ARRAY[a, b]::t[] is parsed as ARRAY[a::t, b::t]; where the parser itself has put the cast around the array, its text
// would read back so.
Node *push_cast_down(ArrayCoerceExpr *cast) {
    auto *array = reinterpret_cast<ArrayExpr *>(cast->arg);
    if (!IsA(array, ArrayExpr) || array->multidims) return reinterpret_cast<Node *>(cast);
    Oid element = get_element_type(cast->resulttype);
    List *elements = NIL;
    for (Node *each : pg::each<Node>(array->elements)) {
        Node *cast_element = coerce_to_target_type(nullptr, each, exprType(each), element, cast->resulttypmod,
                                                   COERCION_EXPLICIT, COERCE_EXPLICIT_CAST, -1);
        if (cast_element == nullptr) return reinterpret_cast<Node *>(cast);
        elements = lappend(elements, cast_element);
    }
    array->elements = elements;
    array->element_typeid = element;
    array->array_typeid = cast->resulttype;
    array->array_collid = cast->resultcollid;
    return reinterpret_cast<Node *>(array);
}

// (a AND b) AND c is parsed as a AND b AND c, and so is OR.
Node *flat(BoolExpr *expression) {
    auto *first = static_cast<BoolExpr *>(linitial(expression->args));
    if (expression->boolop != NOT_EXPR && IsA(first, BoolExpr) && first->boolop == expression->boolop)
        expression->args = list_concat(list_copy(first->args), list_copy_tail(expression->args, 1));
    return reinterpret_cast<Node *>(expression);
}

Node *rewrite(Node *node, Place *place) {
    if (node == nullptr) return nullptr;
    if (IsA(node, Query)) return reinterpret_cast<Node *>(pg::mutate_query(castNode(Query, node), rewrite, place));
    // With a plain GROUP BY it has nothing to tell.
    if (IsA(node, GroupingFunc))
        return reinterpret_cast<Node *>(
            makeConst(INT4OID, -1, InvalidOid, sizeof(int32), Int32GetDatum(0), false, true));
    Node *copied = pg::mutate_children(node, rewrite, place);
    auto *operation = reinterpret_cast<OpExpr *>(copied);
    if (IsA(copied, DistinctExpr) && !is_built_in(operation->opno)) return distinct(*place, operation);
    if (IsA(copied, NullIfExpr) && !is_built_in(operation->opno)) return null_if(operation);
    if (IsA(copied, CaseExpr) && reinterpret_cast<CaseExpr *>(copied)->arg)
        return searched_case(reinterpret_cast<CaseExpr *>(copied));
    if (IsA(copied, RowCompareExpr)) check_row_comparison(*place, reinterpret_cast<RowCompareExpr *>(copied));
    if (IsA(copied, BoolExpr)) return flat(reinterpret_cast<BoolExpr *>(copied));
    if (IsA(copied, ArrayCoerceExpr)) return push_cast_down(reinterpret_cast<ArrayCoerceExpr *>(copied));
    return copied;
}

// -----------------------------------------------------------------------------------------------------------
// comparison

// The parser puts some casts of constants elsewhere when it reads its own text; folded, they are the same constant.
bool same(Node *a, Node *b) { return equal(a, b) || equal(computed(a), computed(b)); }

const char *type_of(Node *node) {
    Oid type = exprType(node), collation = exprCollation(node);
    const char *name = format_type_with_typemod(type, exprTypmod(node));
    if (!OidIsValid(collation) || collation == get_typcollation(type)) return name;
    return psprintf("%s COLLATE %s", name, generate_collation_name(collation));
}

// Both as text; where that is the same, by what it does not show.
Difference different(const Arm &declared, Node *a, const Arm &stored, Node *b) {
    const char *x = a ? deparse_among(a, declared.query) : "nothing",
               *y = b ? deparse_among(b, stored.query) : "nothing";
    if (strcmp(x, y) != 0) return {x, y};
    const char *type = type_of(a), *other = type_of(b);
    if (strcmp(type, other) == 0) return {x, "the same with other types or operators"};
    return {psprintf("%s of type %s", x, type), psprintf("%s of type %s", y, other)};
}

// A table whose presence is asked for may have got another alias, so that it is not one of those around it.
bool same_presence(const Presence &a, const Presence &b) {
    return a.negated == b.negated && a.occurrence == b.occurrence &&
           rt_fetch(1, a.rows->rtable)->relid == rt_fetch(1, b.rows->rtable)->relid &&
           same(a.rows->jointree->quals, b.rows->jointree->quals);
}

Difference difference_of_presences(const Arm &declared, const Arm &stored) {
    for (std::size_t i = 0; i < std::max(declared.presences.size(), stored.presences.size()); i++) {
        const Presence *x = i < declared.presences.size() ? &declared.presences[i] : nullptr;
        const Presence *y = i < stored.presences.size() ? &stored.presences[i] : nullptr;
        if (x == nullptr || y == nullptr || !same_presence(*x, *y))
            return different(declared, x ? presence_test(*x) : nullptr, stored, y ? presence_test(*y) : nullptr);
    }
    return {nullptr, nullptr};
}

// Conditions, how often rows are there, and a union's columns.
Difference difference_of(const Arm &declared, const Arm &stored, bool columns) {
    List *a = list_concat_copy(declared.conditions, declared.repeats),
         *b = list_concat_copy(stored.conditions, stored.repeats);
    for (int i = 0; columns && i < list_length(declared.query->targetList); i++) {
        auto expression = [&](const Arm &arm) {
            return reinterpret_cast<Node *>(static_cast<TargetEntry *>(list_nth(arm.query->targetList, i))->expr);
        };
        a = lappend(a, expression(declared));
        b = lappend(b, expression(stored));
    }
    for (int i = 0; i < std::max(list_length(a), list_length(b)); i++) {
        auto *x = static_cast<Node *>(i < list_length(a) ? list_nth(a, i) : nullptr);
        auto *y = static_cast<Node *>(i < list_length(b) ? list_nth(b, i) : nullptr);
        if (x == nullptr || y == nullptr || !same(x, y)) return different(declared, x, stored, y);
    }
    return difference_of_presences(declared, stored);
}

// Whether each expression that `a` groups by is one that `b` groups by: one that is returned twice is read back as one.
bool groups_by_all(const Query *a, const Query *b) {
    for (SortGroupClause *x : pg::each<SortGroupClause>(a->groupClause)) {
        bool found = false;
        for (SortGroupClause *y : pg::each<SortGroupClause>(b->groupClause))
            found |= x->eqop == y->eqop &&
                     same(get_sortgroupclause_expr(x, a->targetList), get_sortgroupclause_expr(y, b->targetList));
        if (!found) return false;
    }
    return true;
}

bool same_groups(const Query *a, const Query *b) { return groups_by_all(a, b) && groups_by_all(b, a); }

bool same_sources(const Block &a, const Block &b) {
    if (a.occurrence_source.size() != b.occurrence_source.size() || a.sources.size() != b.sources.size()) return false;
    for (std::size_t i = 0; i < a.occurrence_source.size(); i++)
        if (a.occurrence_source[i] != b.occurrence_source[i]) return false;
    for (std::size_t i = 0; i < a.sources.size(); i++)
        if (a.sources[i].relation != b.sources[i].relation || a.sources[i].used != b.sources[i].used) return false;
    return true;
}

bool tell(Node *node, StringInfo out);

// Windows in the order of the functions that use them, with what they are over: read back, they and what is not
// returned of that may stand in another order.
bool tell_windows(const Query *query, StringInfo out) {
    Query rest = *query;
    rest.targetList = rest.windowClause = NIL;
    for (TargetEntry *each : pg::each<TargetEntry>(query->targetList))
        if (!each->resjunk) rest.targetList = lappend(rest.targetList, each);
    for (WindowFunc *function : window_functions(query)) {
        const WindowClause *window = window_of(query, function);
        for (List *clauses : {window->partitionClause, window->orderClause})
            for (SortGroupClause *each : pg::each<SortGroupClause>(clauses)) {
                tell(reinterpret_cast<Node *>(each), out);
                tell(get_sortgroupclause_expr(each, query->targetList), out);
            }
        tell(window->startOffset, out);
        tell(window->endOffset, out);
    }
    return pg::walk_query(&rest, tell, out, QTW_IGNORE_JOINALIASES);
}

// What text does not tell of an expression: types of constants and casts, which functions and operators, collations.
bool tell(Node *node, StringInfo out) {
    if (node == nullptr) return false;
    if (IsA(node, Query) && castNode(Query, node)->hasWindowFuncs) return tell_windows(castNode(Query, node), out);
    if (IsA(node, Query)) return pg::walk_query(castNode(Query, node), tell, out, QTW_IGNORE_JOINALIASES);
    switch (nodeTag(node)) {
    case T_Const: {
        auto *constant = reinterpret_cast<Const *>(node);
        appendStringInfo(out, "c%u:%d:%u", constant->consttype, constant->consttypmod, constant->constcollid);
        break;
    }
    case T_OpExpr:
    case T_DistinctExpr:
    case T_NullIfExpr: {
        auto *operation = reinterpret_cast<OpExpr *>(node);
        appendStringInfo(out, "o%u:%u", operation->opno, operation->inputcollid);
        break;
    }
    case T_ScalarArrayOpExpr: appendStringInfo(out, "a%u", reinterpret_cast<ScalarArrayOpExpr *>(node)->opno); break;
    case T_FuncExpr: appendStringInfo(out, "f%u", reinterpret_cast<FuncExpr *>(node)->funcid); break;
    case T_WindowFunc: appendStringInfo(out, "w%u", reinterpret_cast<WindowFunc *>(node)->winfnoid); break;
    case T_Aggref: appendStringInfo(out, "g%u", reinterpret_cast<Aggref *>(node)->aggfnoid); break;
    case T_SortGroupClause: {
        auto *clause = reinterpret_cast<SortGroupClause *>(node);
        appendStringInfo(out, "s%u:%d", clause->sortop, clause->nulls_first);
        break;
    }
    case T_Var: {
        auto *var = reinterpret_cast<Var *>(node);
        appendStringInfo(out, "v%u:%d", var->vartype, var->varattno);
        break;
    }
    default: break;
    }
    return pg::walk_children(node, tell, out);
}

// Constant expressions as constants: the parser puts casts elsewhere when it reads its own text.
Node *fold(Node *node, void *) {
    if (node == nullptr) return nullptr;
    if (IsA(node, Query))
        return reinterpret_cast<Node *>(pg::mutate_query(castNode(Query, node), fold, static_cast<void *>(nullptr)));
    Node *children = pg::mutate_children(node, fold, static_cast<void *>(nullptr));
    if (!IsA(children, FuncExpr) && !IsA(children, OpExpr) && !IsA(children, RelabelType) &&
        !IsA(children, CoerceViaIO))
        return children;
    return computed(children);
}

const char *told(const Query *query) {
    StringInfoData out;
    initStringInfo(&out);
    tell(fold(reinterpret_cast<Node *>(const_cast<Query *>(query)), nullptr), &out);
    return out.data;
}

// Of a query that keeps its form, its text is compared, and what that does not tell.
Difference difference_of_whole(const Block &declared, const Block &stored) {
    const char *a = deparse_qualified(declared.core), *b = deparse_qualified(stored.core);
    if (strcmp(a, b) != 0) return {a, b};
    if (strcmp(told(declared.core), told(stored.core)) != 0) return {a, "the same with other types or operators"};
    return {nullptr, nullptr};
}

bool same_keys(const Block &a, const Block &b) {
    if (a.row_key.size() != b.row_key.size() || a.identity != b.identity || a.way != b.way) return false;
    for (std::size_t i = 0; i < a.row_key.size(); i++)
        if (a.row_key[i].column != b.row_key[i].column || a.row_key[i].equality != b.row_key[i].equality) return false;
    return std::equal(a.keys.begin(), a.keys.end(), b.keys.begin(), b.keys.end(),
                      [](const Key &x, const Key &y) { return x.column == y.column && x.equality == y.equality; });
}

bool same_states(const Block &a, const Block &b) {
    if (a.states.size() != b.states.size()) return false;
    for (const State &x : a.states) {
        bool found = false;
        for (const State &y : b.states)
            found |= x.kind == y.kind && x.is_max == y.is_max && x.column == y.column && x.type == y.type;
        if (!found) return false;
    }
    return true;
}

// The columns computed after the states, whose numbers may differ.
bool same_outputs(const Block &a, const Block &b) {
    return a.outputs.size() == b.outputs.size() &&
           std::equal(a.outputs.begin(), a.outputs.end(), b.outputs.begin(),
                      [](const Output &x, const Output &y) { return x.column == y.column; });
}

} // namespace

Node *canonical(Node *expression, const Place &place) {
    Place copied = place;
    return rewrite(expression, &copied);
}

Query *canonical_query(Query *query, const Place &place) {
    Place copied = place;
    return castNode(Query, rewrite(reinterpret_cast<Node *>(query), &copied));
}

Difference difference(const Block &declared, const Block &stored) {
    if (declared.columns() != stored.columns()) return {"its columns", "others"};
    if (declared.is_whole() && stored.is_whole()) {
        Difference found = difference_of_whole(declared, stored);
        if (found.declared) return found;
        if (!same_sources(declared, stored)) return {"its tables", "others"};
        return same_keys(declared, stored) ? Difference{nullptr, nullptr} : Difference{"its key", "another"};
    }
    for (int i = 0; i < declared.columns(); i++) {
        auto *a = reinterpret_cast<Node *>(declared.column(i)->expr);
        auto *b = reinterpret_cast<Node *>(stored.column(i)->expr);
        if (same(a, b)) continue;
        const Arm &x = declared.arms.front(), &y = stored.arms.front(); // what is said of a union is to be found there
        return different(x, declared.over(x, a), y, stored.over(y, b));
    }
    if (declared.arms.size() != stored.arms.size()) return {"its union", "another"};
    for (std::size_t i = 0; i < declared.arms.size(); i++) {
        Difference found = difference_of(declared.arms[i], stored.arms[i], declared.unites());
        if (found.declared) return found;
    }
    if (!same_sources(declared, stored)) return {"its tables", "others"};
    if (!same_groups(declared.core, stored.core) || !same_keys(declared, stored)) return {"its key", "another"};
    if (!same_states(declared, stored)) return {"its aggregates", "others"};
    if (!same_outputs(declared, stored)) return {"its outputs", "others"};
    return {nullptr, nullptr};
}

} // namespace compile
