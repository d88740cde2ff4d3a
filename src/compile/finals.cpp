// Finals: an aggregate computed from its states. avg is a sum over a count, bool_and compares two counts. They are
// expressions over the projection's row as it will be, whose Vars are columns of its table.
#include "compile/analysis.hpp"
#include "compile/expressions.hpp"
#include "pg/own_schema.hpp"

namespace compile {

Node *row_column(const Block *block, int column) {
    auto *expression = reinterpret_cast<Node *>(block->column(column)->expr);
    return reinterpret_cast<Node *>(makeVar(1, static_cast<AttrNumber>(column + 1), exprType(expression),
                                            exprTypmod(expression), exprCollation(expression), 0));
}

namespace {

Node *state_value(const Analysis &a, int state) { return row_column(a.block, a.block->states[state].column); }

int need_total(Analysis &a, Node *argument, int validity, const char *name) {
    return need_state(a, {StateKind::total, false, argument}, validity, name);
}

Node *square(Node *expression) { return operation("*", expression, expression); }

Node *when_equal(Node *expression, const char *value) {
    return when(operation("=", expression, float_constant(value)), makeBoolConst(true, false));
}

Node *is_zero(Node *count) { return operation("=", count, int_constant(0)); }
Node *is_positive(Node *count) { return operation(">", count, int_constant(0)); }
Node *sum_of(Node *a, Node *b) { return operation("+", a, b); }
Node *as_numeric(Node *value) { return cast_to(value, NUMERICOID); }

// Sums that a final value is computed from: of values, and of squares where a variance needs them.
struct Sums {
    Node *count, *total, *squares;
    List *special; // WHENs that are the float result where NaN or infinities are present
};

// Floats are summed as exact numerics, with NaN and infinities counted beside: addition of floats depends on the order
// and cannot be undone.
Sums float_sums(Analysis &a, Node *argument, bool squares, bool infinity_is_nan, const char *name) {
    Node *value = cast_to(argument, FLOAT8OID);
    Node *exact = call(pg::own_schema(), "exact_numeric", value);
    int finite = need_count(a, exact, psprintf("_%s_count", name));
    int total = need_total(a, exact, finite, psprintf("_%s_sum", name));
    int square_total = squares ? need_total(a, square(exact), finite, psprintf("_%s_squares", name)) : -1;
    Node *nan = state_value(a, need_count(a, when_equal(value, "NaN"), psprintf("_%s_nan", name)));
    Node *up = state_value(a, need_count(a, when_equal(value, "Infinity"), psprintf("_%s_infinity", name)));
    Node *down = state_value(a, need_count(a, when_equal(value, "-Infinity"), psprintf("_%s_neg_infinity", name)));
    List *special = infinity_is_nan
                        ? list_make1(branch(is_positive(sum_of(sum_of(nan, up), down)), float_constant("NaN")))
                        : list_make3(branch(either(is_positive(nan), both(is_positive(up), is_positive(down))),
                                            float_constant("NaN")),
                                     branch(is_positive(up), float_constant("Infinity")),
                                     branch(is_positive(down), float_constant("-Infinity")));
    return {sum_of(sum_of(sum_of(state_value(a, finite), nan), up), down), state_value(a, total),
            square_total < 0 ? nullptr : state_value(a, square_total), special};
}

Sums exact_sums(Analysis &a, Node *argument, bool squares, const char *name) {
    Oid type = exprType(argument);
    int count = need_count(a, argument, psprintf("_%s_count", name));
    // The variance's sums are numeric for every type; an average adds as sum() does.
    Node *value = squares && type != NUMERICOID ? as_numeric(argument) : argument;
    int total = need_total(a, value, count, psprintf("_%s_sum", name));
    int square_total = squares ? need_total(a, square(value), count, psprintf("_%s_squares", name)) : -1;
    // The number of digits of core's quotient follows the largest scale among the group's values, which a removal may
    // lower.
    note_digits(a.block, argument);
    return {state_value(a, count), as_numeric(state_value(a, total)),
            square_total < 0 ? nullptr : state_value(a, square_total), NIL};
}

// CASE WHEN without values THEN NULL, the special ones, ELSE value END
Node *final_choice(Node *without, const Sums &sums, Node *value) {
    return choice(list_concat(list_make1(branch(without, null_like(value))), sums.special), value);
}

Node *average(const Sums &sums) {
    Node *quotient = operation("/", sums.total, as_numeric(sums.count));
    return final_choice(is_zero(sums.count), sums, sums.special ? cast_to(quotient, FLOAT8OID) : quotient);
}

Node *variance(const Sums &sums, bool sample, bool root) {
    Node *n = as_numeric(sums.count), *one = as_numeric(int_constant(1));
    Node *numerator = operation("-", operation("*", n, sums.squares), operation("*", sums.total, sums.total));
    Node *value = operation("/", numerator, operation("*", n, sample ? operation("-", n, one) : n));
    if (sums.special) {
        value = cast_to(value, FLOAT8OID);
        if (root) value = call("pg_catalog", "sqrt", value);
    } else { // without digits, as core
        Node *zero = as_numeric(int_constant(0));
        value = choice({{operation("<=", numerator, zero), zero}}, value);
        if (root) value = call(pg::own_schema(), "square_root", value);
    }
    return final_choice(operation("<=", sums.count, int_constant(sample ? 1 : 0)), sums, value);
}

Node *boolean(Analysis &a, Node *argument, bool any, const char *name) {
    Node *true_only = when(argument, makeBoolConst(true, false));
    Node *known = state_value(a, need_count(a, argument, psprintf("_%s_count", name)));
    Node *yes = state_value(a, need_count(a, true_only, psprintf("_%s_true", name)));
    Node *value = any ? is_positive(yes) : operation("=", yes, known);
    return choice({{is_zero(known), null_like(value)}}, value);
}

// Raises PJ002 for an aggregate that cannot be taken apart.
void check_aggregate(const Analysis &a, const Aggref *aggregate, const char *what) {
    if (aggregate->aggfnoid >= FirstNormalObjectId)
        a.place.refuse(Construct::users_aggregate, aggregate->location, what);
    if (aggregate->aggorder != NIL) a.place.refuse(Construct::ordered_aggregate, aggregate->location);
    if (aggregate->aggdistinct != NIL) a.place.refuse(Construct::distinct_aggregate, aggregate->location, what);
}

// The sums of floats and of exact numbers; null for other types.
Node *final_value(Analysis &a, const Aggref *aggregate, const char *what, const char *name) {
    std::string_view function(what);
    Node *argument = folded_argument(aggregate);
    Oid type = argument ? exprType(argument) : InvalidOid;
    bool floating = type == FLOAT4OID || type == FLOAT8OID;
    bool exact = type == INT2OID || type == INT4OID || type == INT8OID || type == NUMERICOID;
    auto sums = [&](bool squares) {
        return floating ? float_sums(a, argument, squares, squares, name) : exact_sums(a, argument, squares, name);
    };

    if (function == "count" || function == "min" || function == "max" ||
        (function == "sum" && (exact || type == CASHOID))) {
        Plain plain;
        is_plain(aggregate, &plain);
        int validity = plain.kind == StateKind::total ? need_count(a, argument, psprintf("_%s_count", name)) : -1;
        return state_value(a, need_state(a, plain, validity, psprintf("_%s", name)));
    }
    if (function == "sum" && floating) {
        Sums added = sums(false);
        return final_choice(is_zero(added.count), added, cast_to(added.total, FLOAT8OID));
    }
    if (function == "avg" && (exact || floating)) return average(sums(false));
    bool root = function.starts_with("stddev");
    if ((root || function.starts_with("var")) && (exact || floating))
        return variance(sums(true), !function.ends_with("_pop"), root);
    if (function == "bool_and" || function == "bool_or" || function == "every")
        return boolean(a, argument, function == "bool_or", name);
    a.place.refuse(Construct::other_aggregate, aggregate->location, what, type ? format_type_be(type) : "");
}

} // namespace

bool adds_up(const Aggref *aggregate) {
    if (aggregate->aggfnoid >= FirstNormalObjectId || aggregate->aggkind != AGGKIND_NORMAL || aggregate->aggorder)
        return false;
    std::string_view name(get_func_name(aggregate->aggfnoid));
    for (std::string_view each : {"count", "min", "max", "bool_and", "bool_or", "every"})
        if (name == each) return true;
    Oid type = aggregate->aggargtypes ? linitial_oid(aggregate->aggargtypes) : InvalidOid;
    bool number = type == INT2OID || type == INT4OID || type == INT8OID || type == NUMERICOID || type == FLOAT4OID ||
                  type == FLOAT8OID;
    if (name == "sum") return number || type == CASHOID;
    return number && (name == "avg" || name.starts_with("stddev") || name.starts_with("var"));
}

Node *final_of(Analysis &a, const Aggref *aggregate, const char *name) {
    const char *what = get_func_name(aggregate->aggfnoid);
    check_aggregate(a, aggregate, what);
    Node *value = final_value(a, aggregate, what, name);
    return exprType(value) == aggregate->aggtype ? value : cast_to(value, aggregate->aggtype);
}

} // namespace compile
