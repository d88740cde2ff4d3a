// Which numerics all show the same number of digits after the point: what is computed of them needs no look at what is
// left when one goes, and as keys they are equal only where they look the same. Only what is true of every value
// counts; NULL has any scale, and NaN and the infinities are looked after where they are met.
#include "compile/analysis.hpp"

namespace compile {
namespace {

constexpr int unknown = -1; // or there is more than one
constexpr int any = -2;     // of NULL
constexpr int most = 1000;  // of a numeric that is declared; a product of more may be cut

int scale_of(Node *value);

int common(int a, int b) { return a == b || b == any ? a : a == any ? b : unknown; }

int common_scale(const List *values) {
    int scale = any;
    for (Node *value : pg::each<Node>(values)) scale = common(scale, value ? scale_of(value) : any);
    return scale;
}

int scale_of_case(const CaseExpr *choice) {
    int scale = choice->defresult ? scale_of(reinterpret_cast<Node *>(choice->defresult)) : any;
    for (CaseWhen *when : pg::each<CaseWhen>(choice->args))
        scale = common(scale, scale_of(reinterpret_cast<Node *>(when->result)));
    return scale;
}

int scale_of_constant(const Const *constant) {
    if (constant->constisnull) return any;
    Numeric number = DatumGetNumeric(constant->constvalue);
    if (numeric_is_nan(number) || numeric_is_inf(number)) return unknown;
    return DatumGetInt32(DirectFunctionCall1(numeric_scale, constant->constvalue));
}

// EXTRACT of what is a whole number.
int scale_of_field(Node *field) {
    if (!IsA(field, Const) || reinterpret_cast<Const *>(field)->constisnull) return unknown;
    char *name = TextDatumGetCString(reinterpret_cast<Const *>(field)->constvalue);
    for (std::string_view whole : {"year", "month", "day", "hour", "minute", "quarter", "week", "isoyear", "dow",
                                   "isodow", "doy", "decade", "century", "millennium", "microseconds"})
        if (whole == name) return 0;
    return unknown;
}

int rounded_to(Node *digits) {
    if (!IsA(digits, Const) || reinterpret_cast<Const *>(digits)->constisnull) return unknown;
    int scale = DatumGetInt32(reinterpret_cast<Const *>(digits)->constvalue);
    return scale > most ? unknown : std::max(scale, 0);
}

int scale_of_call(Oid function, const List *arguments) {
    auto argument = [&](int i) { return static_cast<Node *>(list_nth(arguments, i)); };
    switch (function) {
    case F_NUMERIC_INT2:
    case F_NUMERIC_INT4:
    case F_NUMERIC_INT8:
    case F_ROUND_NUMERIC:
    case F_TRUNC_NUMERIC:
    case F_CEIL_NUMERIC:
    case F_CEILING_NUMERIC:
    case F_FLOOR_NUMERIC: return 0;
    case F_ROUND_NUMERIC_INT4:
    case F_TRUNC_NUMERIC_INT4: return rounded_to(argument(1));
    case F_ABS_NUMERIC:
    case F_NUMERIC_ABS:
    case F_NUMERIC_UMINUS:
    case F_NUMERIC_UPLUS: return scale_of(argument(0));
    case F_EXTRACT_TEXT_DATE:
    case F_EXTRACT_TEXT_TIME:
    case F_EXTRACT_TEXT_TIMETZ:
    case F_EXTRACT_TEXT_TIMESTAMP:
    case F_EXTRACT_TEXT_TIMESTAMPTZ:
    case F_EXTRACT_TEXT_INTERVAL: return scale_of_field(argument(0));
    case F_NUMERIC_ADD:
    case F_NUMERIC_SUB:
    case F_NUMERIC_MUL: break;
    default: return unknown;
    }
    int left = scale_of(argument(0)), right = scale_of(argument(1));
    if (left == any || right == any) return any;
    if (left == unknown || right == unknown) return unknown;
    if (function != F_NUMERIC_MUL) return std::max(left, right);
    return left + right > most ? unknown : left + right;
}

// As numeric's own typmod says; one below 0 rounds to more than units.
int scale_of_typmod(int32 typmod) { return std::max((((typmod - VARHDRSZ) & 0x7ff) ^ 1024) - 1024, 0); }

int scale_of(Node *value) {
    int32 typmod = exprTypmod(value);
    if (getBaseTypeAndTypmod(exprType(value), &typmod) != NUMERICOID) return unknown;
    switch (nodeTag(value)) {
    case T_Const: return scale_of_constant(reinterpret_cast<Const *>(value));
    case T_CaseExpr: return scale_of_case(reinterpret_cast<CaseExpr *>(value));
    case T_CoalesceExpr: return common_scale(reinterpret_cast<CoalesceExpr *>(value)->args);
    case T_MinMaxExpr: return common_scale(reinterpret_cast<MinMaxExpr *>(value)->args);
    default: break;
    }
    if (typmod >= VARHDRSZ) return scale_of_typmod(typmod);
    switch (nodeTag(value)) {
    case T_RelabelType: return scale_of(reinterpret_cast<Node *>(reinterpret_cast<RelabelType *>(value)->arg));
    case T_OpExpr: {
        auto *operation = reinterpret_cast<OpExpr *>(value);
        return scale_of_call(get_opcode(operation->opno), operation->args);
    }
    case T_FuncExpr: {
        auto *call = reinterpret_cast<FuncExpr *>(value);
        return scale_of_call(call->funcid, call->args);
    }
    default: return unknown;
    }
}

} // namespace

bool has_fixed_scale(Node *value) { return scale_of(value) != unknown; }

namespace {

struct Choices {
    int scale = any; // of what is chosen, but for zeros
    int zero = any;  // the greatest of constants that are zero
};

bool is_zero(Node *value) {
    if (IsA(value, FuncExpr) && reinterpret_cast<FuncExpr *>(value)->funcid == F_NUMERIC_INT4) {
        auto *number = static_cast<Node *>(linitial(reinterpret_cast<FuncExpr *>(value)->args));
        if (!IsA(number, Const) || reinterpret_cast<Const *>(number)->constisnull) return false;
        return DatumGetInt32(reinterpret_cast<Const *>(number)->constvalue) == 0;
    }
    if (!IsA(value, Const) || exprType(value) != NUMERICOID || reinterpret_cast<Const *>(value)->constisnull)
        return false;
    Datum zero = DirectFunctionCall1(int4_numeric, Int32GetDatum(0));
    return DatumGetBool(DirectFunctionCall2(numeric_eq, reinterpret_cast<Const *>(value)->constvalue, zero));
}

void add_choices(Node *value, Choices *choices) {
    if (value == nullptr) return;
    if (IsA(value, CaseExpr)) {
        add_choices(reinterpret_cast<Node *>(reinterpret_cast<CaseExpr *>(value)->defresult), choices);
        for (CaseWhen *when : pg::each<CaseWhen>(reinterpret_cast<CaseExpr *>(value)->args))
            add_choices(reinterpret_cast<Node *>(when->result), choices);
    } else if (IsA(value, CoalesceExpr)) {
        for (Node *each : pg::each<Node>(reinterpret_cast<CoalesceExpr *>(value)->args)) add_choices(each, choices);
    } else if (is_zero(value)) {
        choices->zero = std::max(choices->zero, scale_of(value));
    } else {
        choices->scale = common(choices->scale, scale_of(value));
    }
}

} // namespace

bool is_fixed_but_for_zero(Node *value) {
    if (getBaseType(exprType(value)) != NUMERICOID || has_fixed_scale(value)) return false;
    Choices choices;
    add_choices(value, &choices);
    return choices.scale != unknown && choices.zero <= choices.scale;
}

} // namespace compile
