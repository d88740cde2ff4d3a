// Which functions a definition may call.
//
// Immutable ones, and stable built-ins that depend on nothing but their arguments and the settings that are pinned. A
// stable built-in that looks at the clock, the session, the catalog or other tables would change its result without any
// source row changing, and the projection could not follow.
#include "compile/refuse.hpp"

namespace compile {
namespace {

struct Check {
    const Place *place;
    bool settings_dependent = false;
    int location = -1;
};

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
                                                 "loread"};
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

bool check_function(Oid function, void *context) {
    auto *check = static_cast<Check *>(context);
    char volatility = func_volatile(function);
    if (volatility == PROVOLATILE_IMMUTABLE) {
        // The body of a user's function finds what it calls by search_path.
        check->settings_dependent |=
            function >= FirstNormalObjectId && get_func_namespace(function) != get_namespace_oid("projections", true);
        return false;
    }

    const char *name = get_func_name(function);
    if (volatility == PROVOLATILE_VOLATILE)
        check->place->refuse(psprintf("function %s is volatile", name), check->location,
                             "Compute the value when the source row is written, in a column of the source.");
    if (function >= FirstNormalObjectId)
        check->place->refuse(
            psprintf("function %s is STABLE, so its result may change without a source row changing", name),
            check->location, "Declare the function IMMUTABLE if its result depends on its arguments only.");
    if (reads_more_than_settings(name, get_func_nargs(function)))
        check->place->refuse(
            psprintf("the result of %s changes without a source row changing", name), check->location,
            "Leave it out of the definition and apply it when reading, in a view over the projection.");
    check->settings_dependent = true;
    return false;
}

// 'today'::date is a constant by the time the query is analyzed; only its text tells.
void check_clock_literal(const Const *constant, const Check &check) {
    if (constant->constisnull || constant->location < 0 || check.place->text == nullptr) return;
    switch (constant->consttype) {
    case DATEOID:
    case TIMESTAMPOID:
    case TIMESTAMPTZOID:
    case TIMEOID:
    case TIMETZOID: break;
    default: return;
    }
    // The location is the literal's, or for DATE 'today' the type name's.
    const char *literal = strchr(check.place->text + constant->location, '\'');
    if (literal == nullptr) return;
    const char *end = strchr(literal + 1, '\'');
    if (end == nullptr) return;
    char *word = str_tolower(literal + 1, end - literal - 1, C_COLLATION_OID);
    for (const char *clock : {"now", "today", "tomorrow", "yesterday"})
        if (strstr(word, clock) != nullptr)
            check.place->refuse(psprintf("'%s' means the moment at which the query is analyzed", clock),
                                constant->location,
                                "Write the date itself, or apply the condition in a view over the projection.");
}

bool walk(Node *node, Check *check) {
    if (node == nullptr) return false;
    int location = exprLocation(node);
    if (location >= 0) check->location = location;

    if (IsA(node, SQLValueFunction))
        check->place->refuse(
            "the clock and the session's user change without a source row changing",
            reinterpret_cast<SQLValueFunction *>(node)->location,
            "Leave it out of the definition and apply it when reading, in a view over the projection.");
    if (IsA(node, NextValueExpr)) check->place->refuse("it draws from a sequence", location, nullptr);
    if (IsA(node, CurrentOfExpr)) check->place->refuse("it names a cursor", location, nullptr);
    if (IsA(node, Const)) check_clock_literal(reinterpret_cast<Const *>(node), *check);
    if (IsA(node, XmlExpr)) check->settings_dependent = true;
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
        std::string_view each = words.substr(begin, end - begin);
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

bool check_functions(Node *node, const Place &place) {
    Check check{&place};
    walk(node, &check);
    return check.settings_dependent;
}

} // namespace compile
