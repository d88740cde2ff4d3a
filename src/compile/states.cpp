// States: plain aggregates that move by addition (count, sum) or by comparison (min, max), and the columns that hold
// them.
#include "compile/analysis.hpp"
#include "compile/expressions.hpp"

namespace compile {
namespace {

Oid aggregate_oid(const char *name, int arguments, Oid type) {
    return LookupFuncName(list_make2(makeString(pstrdup("pg_catalog")), makeString(pstrdup(name))), arguments, &type,
                          false);
}

// A value of a domain as one of its base type, which NULL always belongs to.
Node *without_domain(Node *value) {
    Oid base = getBaseType(exprType(value));
    if (base == exprType(value)) return value;
    RelabelType *relabel =
        makeRelabelType(reinterpret_cast<Expr *>(value), base, -1, exprCollation(value), COERCE_EXPLICIT_CAST);
    relabel->location = -1;
    return reinterpret_cast<Node *>(relabel);
}

bool is_constant(Node *value) { return value && IsA(value, Const) && !reinterpret_cast<Const *>(value)->constisnull; }

} // namespace

Node *folded_argument(const Aggref *aggregate) {
    Node *argument = aggregate->args
                         ? reinterpret_cast<Node *>(static_cast<TargetEntry *>(linitial(aggregate->args))->expr)
                         : nullptr;
    if (aggregate->aggfnoid == F_COUNT_ANY && is_constant(argument)) argument = nullptr; // count(1) is count(*)
    if (aggregate->aggfilter == nullptr) return argument;
    if (argument == nullptr) argument = makeBoolConst(true, false);
    return when(reinterpret_cast<Node *>(aggregate->aggfilter), without_domain(argument));
}

bool is_plain(const Aggref *aggregate, Plain *plain) {
    if (aggregate->aggdistinct != NIL || aggregate->aggorder != NIL || aggregate->aggkind != AGGKIND_NORMAL)
        return false;
    if (aggregate->aggfnoid >= FirstNormalObjectId) return false;
    std::string_view name(get_func_name(aggregate->aggfnoid));
    if (name == "count")
        *plain = {StateKind::count, false, folded_argument(aggregate)};
    else if (name == "sum")
        *plain = {StateKind::total, false, folded_argument(aggregate)};
    else if (name == "min" || name == "max")
        *plain = {StateKind::extremum, name == "max", folded_argument(aggregate), aggregate->aggfnoid};
    else
        return false;
    return true;
}

namespace {

Aggref *make_plain(const Plain &plain) {
    const char *name = plain.kind == StateKind::count   ? "count"
                       : plain.kind == StateKind::total ? "sum"
                       : plain.is_max                   ? "max"
                                                        : "min";
    Oid type = plain.argument ? exprType(plain.argument) : InvalidOid;
    Aggref *aggregate = makeNode(Aggref);
    aggregate->aggfnoid = plain.argument == nullptr        ? F_COUNT_
                          : plain.kind == StateKind::count ? F_COUNT_ANY
                          : OidIsValid(plain.function)     ? plain.function
                                                           : aggregate_oid(name, 1, type);
    aggregate->aggtype = get_func_rettype(aggregate->aggfnoid);
    if (IsPolymorphicType(aggregate->aggtype)) aggregate->aggtype = type;
    aggregate->aggcollid = plain.kind == StateKind::extremum ? exprCollation(plain.argument) : InvalidOid;
    aggregate->inputcollid = plain.argument ? exprCollation(plain.argument) : InvalidOid;
    aggregate->aggargtypes = plain.argument ? list_make1_oid(type) : NIL;
    aggregate->args =
        plain.argument ? list_make1(makeTargetEntry(reinterpret_cast<Expr *>(plain.argument), 1, nullptr, false)) : NIL;
    aggregate->aggstar = plain.argument == nullptr;
    aggregate->aggkind = AGGKIND_NORMAL;
    aggregate->aggsplit = AGGSPLIT_SIMPLE;
    aggregate->aggno = aggregate->aggtransno = -1;
    aggregate->location = -1;
    return aggregate;
}

int argument_index(Block *block, Node *argument) {
    if (argument == nullptr) return -1;
    int i = 0;
    for (Node *known : pg::each<Node>(block->arguments)) {
        if (equal(known, argument)) return i;
        i++;
    }
    block->arguments = lappend(block->arguments, argument);
    return i;
}

} // namespace

// The state for a plain aggregate: known already, a column that returns it, or an appended column.
int need_state(Analysis &a, const Plain &plain, int validity, const char *name) {
    Block *block = a.block;
    int argument = argument_index(block, plain.argument);
    for (std::size_t i = 0; i < block->states.size(); i++) {
        const State &state = block->states[i];
        if (state.kind == plain.kind && state.is_max == plain.is_max && state.argument == argument)
            return static_cast<int>(i);
    }
    int column = -1;
    for (int i = 0; column < 0 && i < list_length(a.core->targetList); i++) {
        Plain found;
        Node *expression = reinterpret_cast<Node *>(block->column(i)->expr);
        if (IsA(expression, Aggref) && is_plain(reinterpret_cast<Aggref *>(expression), &found) &&
            found.kind == plain.kind && found.is_max == plain.is_max && equal(found.argument, plain.argument))
            column = i;
    }
    if (column < 0) column = append_column(a, reinterpret_cast<Expr *>(make_plain(plain)), name);

    Node *expression = reinterpret_cast<Node *>(block->column(column)->expr);
    State state{plain.kind,
                plain.is_max,
                argument,
                validity,
                column,
                exprType(expression),
                exprCollation(expression),
                plain.argument ? exprType(plain.argument) : InvalidOid,
                0,
                false,
                {},
                plain.kind == StateKind::total && is_fixed_but_for_zero(plain.argument)};
    get_typlenbyval(state.type, &state.length, &state.by_value);
    if (plain.kind == StateKind::extremum) {
        block->has_extremum = true;
        Oid comparison = lookup_type_cache(state.type, TYPECACHE_CMP_PROC)->cmp_proc;
        if (!OidIsValid(comparison)) a.place.refuse(Construct::unordered_extremum, -1, format_type_be(state.type));
        fmgr_info_cxt(comparison, &state.compare, block->memory);
    }
    block->states.push_back(state);
    return static_cast<int>(block->states.size()) - 1;
}

int need_count(Analysis &a, Node *argument, const char *name) {
    if (is_constant(argument)) argument = nullptr;
    return need_state(a, {StateKind::count, false, argument}, -1, name);
}

void note_digits(Block *block, Node *value) {
    if (exprType(value) != NUMERICOID || has_fixed_scale(value)) return;
    if (is_fixed_but_for_zero(value))
        block->recompute_zeros = true;
    else
        block->recompute_on_removal = true;
}

bool is_unfixed_sum(const Aggref *aggregate) {
    Plain plain;
    return is_plain(aggregate, &plain) && plain.kind == StateKind::total && exprType(plain.argument) == NUMERICOID &&
           !has_fixed_scale(plain.argument);
}

} // namespace compile
