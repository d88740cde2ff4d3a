// Hidden views.
//
// Their owners may not create in the extension's schema, so a superuser does. But analyzing a query calls functions:
// '{1}'::some_domain[] is checked by the domain's, which is the owner's. So the query is analyzed as the owner, and the
// view made with columns of the same types and then given the query, as CREATE OR REPLACE VIEW would.
#include "operate/hidden_view.hpp"

#include "pg/scope.hpp"

extern "C" {
#include "commands/view.h"
}

namespace operate {
namespace {

Query *analyze_as(Oid owner, const char *text) {
    auto *raw = static_cast<RawStmt *>(linitial(pg_parse_query(text)));
    Query *query = nullptr;
    pg::with_setting("search_path", "pg_catalog", [&] {
        pg::as_owner(owner, [&] { query = parse_analyze_fixedparams(raw, text, nullptr, 0, nullptr); });
    });
    return query;
}

void name_columns(Query *query, List *columns) {
    ListCell *name = list_head(columns);
    for (TargetEntry *entry : pg::each<TargetEntry>(query->targetList)) {
        if (entry->resjunk || name == nullptr) continue;
        entry->resname = pstrdup(strVal(lfirst(name)));
        name = lnext(columns, name);
    }
}

// "NULL::type AS name, …"
const char *empty_columns(Query *query) {
    StringInfoData text;
    initStringInfo(&text);
    for (TargetEntry *entry : pg::each<TargetEntry>(query->targetList)) {
        if (entry->resjunk) continue;
        auto *expression = reinterpret_cast<Node *>(entry->expr);
        Oid type = exprType(expression), collation = exprCollation(expression);
        appendStringInfo(
            &text, "%sNULL::%s", text.len ? ", " : "",
            format_type_extended(type, exprTypmod(expression), FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY));
        if (OidIsValid(collation) && collation != get_typcollation(type))
            appendStringInfo(&text, " COLLATE %s",
                             DatumGetCString(DirectFunctionCall1(regcollationout, ObjectIdGetDatum(collation))));
        appendStringInfo(&text, " AS %s", quote_identifier(entry->resname));
    }
    return text.data;
}

} // namespace

Oid make_hidden_view(const char *name, List *columns, const char *text, Oid owner) {
    Query *query = analyze_as(owner, text);
    name_columns(query, columns);
    const char *view = quote_qualified_identifier("projections", name);
    Oid made = InvalidOid;
    pg::as_superuser([&] {
        pg::spi_execute(psprintf("CREATE VIEW %s AS SELECT %s", view, empty_columns(query)));
        CommandCounterIncrement();
        made = get_relname_relid(name, get_namespace_oid("projections", false));
        StoreViewQuery(made, query, true);
        CommandCounterIncrement();
        pg::spi_execute(psprintf("ALTER VIEW %s OWNER TO %s", view, quote_identifier(GetUserNameFromId(owner, false))));
    });
    CommandCounterIncrement();
    return made;
}

} // namespace operate
