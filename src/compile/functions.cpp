// Which functions a definition may call.
//
// Immutable ones, and stable built-ins that depend on nothing but their arguments and the settings that are pinned. A
// stable built-in that looks at the clock, the session, the catalog or other tables would change its result without any
// source row changing, and the projection could not follow.
#include "compile/clock.hpp"
#include "compile/refuse.hpp"
#include "pg/own_schema.hpp"

namespace compile {
namespace {

struct Check {
    const Place *place;
    bool settings_dependent = false;
    int location = -1;
    const char *changed = nullptr;
    const Node *typed = nullptr; // a call whose columns' types are said beside it

    bool stored() const { return place->text == nullptr; }
};

// Immutable built-ins that nevertheless read a setting (those that casts to and from text call are known by the cast).
bool reads_setting(std::string_view function) {
    return function == "timezone" || function == "quote_ident" || function.starts_with("xml");
}

bool reads_more_than_settings(const char *name, int arguments) {
    static constexpr std::string_view exact[] = {"now",
                                                 "transaction_timestamp",
                                                 "statement_timestamp",
                                                 "timenow",
                                                 "current_setting",
                                                 "current_user",
                                                 "session_user",
                                                 "current_schema",
                                                 "current_schemas",
                                                 "current_database",
                                                 "current_query",
                                                 "version",
                                                 "getpgusername",
                                                 "set_config",
                                                 "obj_description",
                                                 "col_description",
                                                 "shobj_description",
                                                 "row_security_active",
                                                 "currval",
                                                 "lastval",
                                                 "format_type",
                                                 "cursor_to_xml",
                                                 "cursor_to_xmlschema",
                                                 "loread",
                                                 "mxid_age",
                                                 "oidvectortypes",
                                                 "aclitemin",
                                                 "aclitemout",
                                                 "enum_first",
                                                 "enum_last",
                                                 "enum_range"};
    static constexpr std::string_view prefixes[] = {
        "pg_",          "has_",           "inet_client",   "inet_server",
        "txid_",        "to_reg",         "reg",           "lo_",
        "query_to_xml", "table_to_xml",   "schema_to_xml", "database_to_xml",
        "ts_stat",      "satisfies_hash", "binary_upgrade"};
    std::string_view function(name);
    if (function == "age" && arguments == 1) return true; // against current_date
    for (std::string_view each : exact)
        if (function == each) return true;
    for (std::string_view prefix : prefixes)
        if (function.starts_with(prefix)) return true;
    return false;
}

// Types whose text no setting has a say in.
bool has_one_text(Oid type) {
    switch (getBaseType(type)) {
    case BOOLOID:
    case CHAROID:
    case INT2OID:
    case INT4OID:
    case INT8OID:
    case OIDOID:
    case NUMERICOID:
    case NAMEOID:
    case TEXTOID:
    case VARCHAROID:
    case BPCHAROID:
    case UUIDOID:
    case JSONOID:
    case JSONBOID: return true;
    default: return false;
    }
}

bool is_plain_cast(Node *node) {
    auto *cast = reinterpret_cast<CoerceViaIO *>(node);
    return has_one_text(exprType(reinterpret_cast<Node *>(cast->arg))) && has_one_text(cast->resulttype);
}

bool check_function(Oid function, void *context) {
    auto *check = static_cast<Check *>(context);
    char volatility = func_volatile(function);
    if (volatility == PROVOLATILE_IMMUTABLE) {
        // The body of a user's function finds what it calls by search_path.
        check->settings_dependent |= function >= FirstNormalObjectId ? !pg::is_own_schema(get_func_namespace(function))
                                                                     : reads_setting(get_func_name(function));
        return false;
    }

    const char *name = get_func_name(function);
    if (check->stored() && (volatility == PROVOLATILE_VOLATILE || function >= FirstNormalObjectId)) {
        check->changed = psprintf("function %s is no longer IMMUTABLE", format_procedure(function));
        return false;
    }
    if (volatility == PROVOLATILE_VOLATILE) check->place->refuse(Construct::volatile_function, check->location, name);
    if (function >= FirstNormalObjectId) check->place->refuse(Construct::stable_function, check->location, name);
    if (!check->stored() && reads_more_than_settings(name, get_func_nargs(function)))
        check->place->refuse(Construct::changing_function, check->location, name);
    check->settings_dependent = true;
    return false;
}

// 'today'::date is a constant by the time the query is analyzed; only its text tells.
void check_clock_literal(const Const *constant, const Check &check) {
    if (constant->constisnull || constant->location < 0 || check.place->text == nullptr) return;
    if (!reads_clock(constant->consttype) || get_typtype(getBaseType(constant->consttype)) == TYPTYPE_COMPOSITE) return;
    // The location is the literal's, or for DATE 'today' the type name's.
    const char *literal = strchr(check.place->text + constant->location, '\'');
    if (literal == nullptr) return;
    const char *end = strchr(literal + 1, '\'');
    if (end == nullptr) return;
    char *word = str_tolower(literal + 1, end - literal - 1, C_COLLATION_OID);
    for (const char *clock : {"now", "today", "tomorrow", "yesterday"})
        if (strstr(word, clock) != nullptr) check.place->refuse(Construct::clock_literal, constant->location, clock);
}

// Columns that text is converted to.
void check_types(List *types, const Check &check) {
    ListCell *cell;
    foreach (cell, types)
        if (!check.stored() && reads_clock(lfirst_oid(cell)))
            check.place->refuse(Construct::clock_cast, check.location,
                                psprintf("text that is cast to %s may be 'now' or 'today', which the clock decides",
                                         format_type_be(lfirst_oid(cell))));
}

// A function whose columns are said beside it, AS r(a int, …): those tell what it does with text.
void check_row_types(const RangeTblFunction *function, Check *check) {
    if (function->funccoltypes == NIL) return;
    check_types(function->funccoltypes, *check);
    check->typed = function->funcexpr;
}

bool walk(Node *node, Check *check) {
    if (node == nullptr) return false;
    int location = exprLocation(node);
    if (location >= 0) check->location = location;

    if (IsA(node, SQLValueFunction))
        check->place->refuse(Construct::session_value, reinterpret_cast<SQLValueFunction *>(node)->location);
    if (IsA(node, NextValueExpr)) check->place->refuse(Construct::sequence, location);
    if (IsA(node, CurrentOfExpr)) check->place->refuse(Construct::cursor, location);
    if (IsA(node, Const)) check_clock_literal(reinterpret_cast<Const *>(node), *check);
    if (IsA(node, RangeTblFunction)) check_row_types(reinterpret_cast<RangeTblFunction *>(node), check);
    if (IsA(node, TableFunc)) check_types(reinterpret_cast<TableFunc *>(node)->coltypes, *check);
    if (!check->stored() && node != check->typed)
        if (const char *reason = clock_reason(node)) check->place->refuse(Construct::clock_cast, location, reason);
    // Values as text are as DateStyle, extra_float_digits and others have them, whatever the type's functions say of
    // themselves; a domain's conditions find their functions by search_path.
    check->settings_dependent |=
        IsA(node, XmlExpr) || IsA(node, CoerceToDomain) || (IsA(node, CoerceViaIO) && !is_plain_cast(node));
    check_functions_in_node(node, check_function, check);
    return pg::walk_children(node, walk, check);
}

} // namespace

namespace {

// The end of a quoted string, identifier or comment that begins at `at`; `at` itself where none does.
const char *skip_quoted(const char *at) {
    const char *end = nullptr;
    if (*at == '\'' || *at == '"')
        end = strchr(at + 1, *at);
    else if (at[0] == '-' && at[1] == '-')
        end = strchr(at, '\n');
    else if (at[0] == '/' && at[1] == '*' && (end = strstr(at + 2, "*/")) != nullptr)
        end++;
    else
        return at;
    return end ? end + 1 : at + strlen(at);
}

bool is_listed(std::string_view word, std::string_view words) {
    for (std::size_t begin = 0; begin < words.size();) {
        std::size_t end = std::min(words.find(' ', begin), words.size());
        std::string_view each(words.data() + begin, end - begin);
        if (each.size() == word.size() && pg_strncasecmp(each.data(), word.data(), word.size()) == 0) return true;
        begin = end + 1;
    }
    return false;
}

} // namespace

int Place::of(const char *words) const {
    for (const char *at = text; at && *at;) {
        const char *after = skip_quoted(at);
        if (after != at) {
            at = after;
            continue;
        }
        const char *end = at;
        while (isalnum(static_cast<unsigned char>(*end)) || *end == '_') end++;
        if (end > at && is_listed({at, static_cast<std::size_t>(end - at)}, words)) return static_cast<int>(at - text);
        at = end > at ? end : at + 1;
    }
    return -1;
}

Functions check_functions(Node *node, const Place &place) {
    Check check{&place};
    walk(node, &check);
    return {check.settings_dependent, check.changed};
}

} // namespace compile
