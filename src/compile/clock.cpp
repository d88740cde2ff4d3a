// The clock.
//
// Input functions of dates and times read the clock: 'now', 'today' and 'tomorrow' are values to them, and a time with
// a zone takes today's offset. So text that is cast to such a type, or to an array, range, domain or row of them, gives
// another value tomorrow without any source row having changed. Literals are refused beside (see functions.cpp): they
// are constants by the time a query is analyzed.
#include "compile/clock.hpp"

namespace compile {
namespace {

bool any_field_reads_clock(Oid type) {
    TupleDesc fields = lookup_rowtype_tupdesc_copy(type, -1);
    for (int i = 0; i < fields->natts; i++) {
        Form_pg_attribute field = TupleDescAttr(fields, i);
        if (!field->attisdropped && reads_clock(field->atttypid)) return true;
    }
    return false;
}

// Functions that convert text by the input function of a type that an argument tells.
bool fills_by_type(std::string_view function) {
    return function.ends_with("populate_record") || function.ends_with("populate_recordset") ||
           function.ends_with("to_record") || function.ends_with("to_recordset");
}

bool is_input_function(Oid function) {
    return get_func_namespace(function) == PG_CATALOG_NAMESPACE && get_func_nargs(function) > 0 && [&] {
        Oid *types;
        int count;
        get_func_signature(function, &types, &count);
        return types[0] == CSTRINGOID;
    }();
}

bool is_container(Oid type) {
    switch (type) {
    case ANYOID:
    case ANYARRAYOID:
    case ANYRANGEOID:
    case ANYMULTIRANGEOID:
    case RECORDOID: return true;
    default: return false;
    }
}

const char *function_reason(const FuncExpr *call) {
    const char *name = get_func_name(call->funcid);
    if (name == nullptr) return nullptr;
    std::string_view function(name);
    Oid type = call->funcresulttype;
    if (fills_by_type(function) && (reads_clock(type) || is_container(type)))
        return psprintf("%s() takes words such as 'now' for dates and times", name);
    if (is_input_function(call->funcid) && (reads_clock(type) || is_container(type)))
        return psprintf("%s() takes words such as 'now' for a date or time", name);
    Oid first = call->args ? exprType(static_cast<Node *>(linitial(call->args))) : InvalidOid;
    if (call->funcid >= FirstNormalObjectId) return nullptr;
    if (function == "timetz" && first == TIMEOID) return "a time becomes one with a time zone by today's offset";
    if (function == "timezone" && exprType(static_cast<Node *>(llast(call->args))) == TIMETZOID && first != INTERVALOID)
        return "the time zone of a time without a date is today's";
    return nullptr;
}

} // namespace

bool reads_clock(Oid type) {
    type = getBaseType(type);
    switch (type) {
    case DATEOID:
    case TIMESTAMPOID:
    case TIMESTAMPTZOID:
    case TIMEOID:
    case TIMETZOID: return true;
    default: break;
    }
    if (Oid element = get_element_type(type); OidIsValid(element)) return reads_clock(element);
    if (Oid range = get_multirange_range(type); OidIsValid(range)) return reads_clock(range);
    if (Oid subtype = get_range_subtype(type); OidIsValid(subtype)) return reads_clock(subtype);
    return get_typtype(type) == TYPTYPE_COMPOSITE && any_field_reads_clock(type);
}

const char *clock_reason(Node *node) {
    if (IsA(node, CoerceViaIO) && reads_clock(reinterpret_cast<CoerceViaIO *>(node)->resulttype))
        return psprintf("text that is cast to %s may be 'now' or 'today', which the clock decides",
                        format_type_be(reinterpret_cast<CoerceViaIO *>(node)->resulttype));
    if (pg::is_json_query(node) && reads_clock(exprType(node)))
        return psprintf("text that is cast to %s may be 'now' or 'today', which the clock decides",
                        format_type_be(exprType(node)));
    if (IsA(node, FuncExpr)) return function_reason(reinterpret_cast<FuncExpr *>(node));
    if (IsA(node, OpExpr)) { // hstore's #= fills a row
        auto *operation = reinterpret_cast<OpExpr *>(node);
        const char *name = get_func_name(get_opcode(operation->opno));
        if (name && fills_by_type(name) && reads_clock(operation->opresulttype))
            return psprintf("operator %s takes words such as 'now' for dates and times", get_opname(operation->opno));
    }
    return nullptr;
}

} // namespace compile
