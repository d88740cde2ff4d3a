// Expressions made by the compiler, as the parser would make them of the same text: they are deparsed and read again.
#include "compile/expressions.hpp"

#include "pg/query.hpp"
#include "pg/scope.hpp"

namespace compile {

Node *int_constant(int value) {
    return reinterpret_cast<Node *>(
        makeConst(INT4OID, -1, InvalidOid, sizeof(int32), Int32GetDatum(value), false, true));
}

Node *bigint_constant(int64 value) {
    return reinterpret_cast<Node *>(
        makeConst(INT8OID, -1, InvalidOid, 8, Int64GetDatum(value), false, FLOAT8PASSBYVAL));
}

Node *float_constant(const char *value) {
    return reinterpret_cast<Node *>(makeConst(FLOAT8OID, -1, InvalidOid, sizeof(float8),
                                              DirectFunctionCall1(float8in, CStringGetDatum(value)), false,
                                              FLOAT8PASSBYVAL));
}

Node *null_like(Node *like) { return typed_null(exprType(like), exprTypmod(like), exprCollation(like)); }

Node *computed(Node *expression) {
    Node *made = nullptr;
    pg::as_caller_restricted([&] { made = eval_const_expressions(nullptr, pg::copy(expression)); });
    return made;
}

Node *cast_to(Node *expression, Oid type) {
    return coerce_to_target_type(nullptr, expression, exprType(expression), type, -1, COERCION_EXPLICIT,
                                 COERCE_EXPLICIT_CAST, -1);
}

Node *operation(const char *name, Node *left, Node *right) {
    ParseState *state = make_parsestate(nullptr);
    return reinterpret_cast<Node *>(make_op(state,
                                            list_make2(makeString(pstrdup("pg_catalog")), makeString(pstrdup(name))),
                                            pg::copy(left), pg::copy(right), nullptr, -1));
}

Node *both(Node *left, Node *right) {
    return reinterpret_cast<Node *>(makeBoolExpr(AND_EXPR, list_make2(left, right), -1));
}

Node *either(Node *left, Node *right) {
    return reinterpret_cast<Node *>(makeBoolExpr(OR_EXPR, list_make2(left, right), -1));
}

Node *is_null(Node *value) {
    NullTest *test = makeNode(NullTest);
    test->arg = reinterpret_cast<Expr *>(value);
    test->nulltesttype = IS_NULL;
    test->location = -1;
    return reinterpret_cast<Node *>(test);
}

Node *boolean_test(Node *condition, BoolTestType type) {
    BooleanTest *test = makeNode(BooleanTest);
    test->arg = reinterpret_cast<Expr *>(condition);
    test->booltesttype = type;
    test->location = -1;
    return reinterpret_cast<Node *>(test);
}

Node *call(const char *schema, const char *function, Node *argument) {
    Oid type = exprType(argument);
    Oid found = LookupFuncName(list_make2(makeString(pstrdup(schema)), makeString(pstrdup(function))), 1, &type, false);
    return reinterpret_cast<Node *>(makeFuncExpr(found, get_func_rettype(found), list_make1(pg::copy(argument)),
                                                 InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL));
}

Node *aggregate(const char *name, Node *argument) {
    FuncCall *made = makeFuncCall(list_make2(makeString(pstrdup("pg_catalog")), makeString(pstrdup(name))), NIL,
                                  COERCE_EXPLICIT_CALL, -1);
    ParseState *state = make_parsestate(nullptr);
    state->p_expr_kind = EXPR_KIND_SELECT_TARGET;
    Node *parsed = ParseFuncOrColumn(state, made->funcname, list_make1(pg::copy(argument)), nullptr, made, false, -1);
    free_parsestate(state);
    assign_expr_collations(nullptr, parsed);
    return parsed;
}

namespace {

// What an outer join gives in the place of a domain's value: NULL, though the domain may forbid it. A cast would check.
Node *null_of_domain(Oid domain, Oid collation) {
    Oid array = get_array_type(domain);
    auto *none =
        makeConst(array, -1, get_typcollation(array), -1, PointerGetDatum(construct_empty_array(domain)), false, false);
    SubscriptingRef *element = makeNode(SubscriptingRef);
    element->refcontainertype = array;
    element->refelemtype = element->refrestype = domain;
    element->reftypmod = -1;
    element->refcollid = collation;
    element->refupperindexpr = list_make1(int_constant(1));
    element->refexpr = reinterpret_cast<Expr *>(none);
    return reinterpret_cast<Node *>(element);
}

bool is_element_of_none(const Node *node) {
    if (!IsA(node, SubscriptingRef)) return false;
    auto *array = reinterpret_cast<const Const *>(reinterpret_cast<const SubscriptingRef *>(node)->refexpr);
    return IsA(array, Const) && !array->constisnull && ARR_NDIM(DatumGetArrayTypeP(array->constvalue)) == 0;
}

} // namespace

bool is_typed_null(const Node *node) {
    if (IsA(node, CollateExpr))
        return is_typed_null(reinterpret_cast<Node *>(reinterpret_cast<const CollateExpr *>(node)->arg));
    if (IsA(node, RelabelType))
        return is_typed_null(reinterpret_cast<Node *>(reinterpret_cast<const RelabelType *>(node)->arg));
    if (IsA(node, FuncExpr)) { // of a length
        auto *cast = reinterpret_cast<const FuncExpr *>(node);
        return cast->funcformat != COERCE_EXPLICIT_CALL && func_strict(cast->funcid) &&
               is_typed_null(static_cast<Node *>(linitial(cast->args)));
    }
    return (IsA(node, Const) && reinterpret_cast<const Const *>(node)->constisnull) || is_element_of_none(node);
}

Node *typed_null(Oid type, int32 typmod, Oid collation) {
    if (get_typtype(type) == TYPTYPE_DOMAIN) return null_of_domain(type, collation);
    auto *null = reinterpret_cast<Node *>(makeNullConst(type, -1, collation));
    Node *cast = coerce_to_target_type(nullptr, null, type, type, typmod, COERCION_EXPLICIT, COERCE_EXPLICIT_CAST, -1);
    if (cast == null) return null;
    assign_expr_collations(nullptr, cast);
    if (collation == get_typcollation(type)) return cast;
    // The text of a cast constant does not tell its collation, as that of a constant does.
    CollateExpr *collated = makeNode(CollateExpr);
    collated->arg = reinterpret_cast<Expr *>(cast);
    collated->collOid = collation;
    collated->location = -1;
    return reinterpret_cast<Node *>(collated);
}

Node *exists(Query *rows, bool negated) {
    SubLink *link = makeNode(SubLink);
    link->subLinkType = EXISTS_SUBLINK;
    link->subselect = reinterpret_cast<Node *>(rows);
    link->location = -1;
    auto *test = reinterpret_cast<Node *>(link);
    return negated ? reinterpret_cast<Node *>(makeBoolExpr(NOT_EXPR, list_make1(test), -1)) : test;
}

Node *count_rows() {
    Aggref *count = makeNode(Aggref);
    count->aggfnoid = F_COUNT_;
    count->aggtype = INT8OID;
    count->aggstar = true;
    count->aggkind = AGGKIND_NORMAL;
    count->aggsplit = AGGSPLIT_SIMPLE;
    count->aggno = count->aggtransno = -1;
    count->location = -1;
    return reinterpret_cast<Node *>(count);
}

Node *extreme(MinMaxOp which, Node *first, Node *second) {
    MinMaxExpr *made = makeNode(MinMaxExpr);
    made->minmaxtype = exprType(first);
    made->op = which;
    made->args = list_make2(first, second);
    made->location = -1;
    return reinterpret_cast<Node *>(made);
}

Node *coalesce(Node *first, Node *second) {
    CoalesceExpr *made = makeNode(CoalesceExpr);
    made->coalescetype = exprType(first);
    made->coalescecollid = exprCollation(first);
    made->args = list_make2(pg::copy(first), pg::copy(second));
    made->location = -1;
    return reinterpret_cast<Node *>(made);
}

Node *branch(Node *condition, Node *result) {
    CaseWhen *made = makeNode(CaseWhen);
    made->expr = reinterpret_cast<Expr *>(condition);
    made->result = reinterpret_cast<Expr *>(result);
    made->location = -1;
    return reinterpret_cast<Node *>(made);
}

Node *choice(List *whens, Node *otherwise) {
    Node *like = otherwise;
    for (CaseWhen *each : pg::each<CaseWhen>(whens))
        if (like == nullptr || IsA(like, Const)) like = reinterpret_cast<Node *>(each->result);
    CaseExpr *made = makeNode(CaseExpr);
    made->casetype = exprType(like);
    made->casecollid = exprCollation(like);
    made->args = whens;
    made->defresult = reinterpret_cast<Expr *>(otherwise ? otherwise : null_like(like));
    made->location = -1;
    return reinterpret_cast<Node *>(made);
}

Node *choice(std::initializer_list<Branch> branches, Node *otherwise) {
    List *whens = NIL;
    for (const Branch &each : branches) whens = lappend(whens, branch(each.condition, each.result));
    return choice(whens, otherwise);
}

Node *when(Node *condition, Node *result) { return choice({{condition, result}}, nullptr); }

} // namespace compile
