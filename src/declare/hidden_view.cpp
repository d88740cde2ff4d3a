// Hidden views.
//
// They belong to a superuser, as everything in the extension's schema does: what their users owned there they could
// alter under the library. The projection's owner may read them, and what they read is read with his rights and not
// with theirs (security_invoker). Analyzing a query calls functions: '{1}'::some_domain[] is checked by the domain's,
// which is the owner's. So the query is analyzed as the owner, and the view made with columns of the same types and
// then given the query, as CREATE OR REPLACE VIEW would.
#include "declare/hidden_view.hpp"

#include "compile/deparse.hpp"
#include "pg/list.hpp"
#include "pg/scope.hpp"

extern "C" {
#include "commands/view.h"
}

namespace declare {
namespace {

Query *analyze_as(Oid owner, const char *text) {
    Query *query = nullptr;
    pg::with_plain_text([&] {
        auto *raw = static_cast<RawStmt *>(linitial(pg_parse_query(text)));
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
    pg::TextList columns;
    for (TargetEntry *entry : pg::each<TargetEntry>(query->targetList))
        if (!entry->resjunk)
            columns.add("NULL::%s AS %s", compile::type_and_collation(entry), quote_identifier(entry->resname));
    return columns.text();
}

} // namespace

Oid make_hidden_view(const char *name, List *columns, const char *text, Oid owner) {
    Query *query = analyze_as(owner, text);
    name_columns(query, columns);
    const char *view = quote_qualified_identifier(pg::own_schema(), name);
    Oid made = InvalidOid;
    pg::as_superuser([&] {
        pg::spi_execute(
            psprintf("CREATE VIEW %s WITH (security_invoker = true) AS SELECT %s", view, empty_columns(query)));
        CommandCounterIncrement();
        made = get_relname_relid(name, pg::own_schema_oid());
        StoreViewQuery(made, query, true);
        CommandCounterIncrement();
        pg::spi_execute(psprintf("GRANT SELECT ON %s TO %s", view, quote_identifier(GetUserNameFromId(owner, false))));
    });
    CommandCounterIncrement();
    return made;
}

void unbind_hidden_view(Oid view) {
    Query *query = makeNode(Query);
    query->commandType = CMD_SELECT;
    query->canSetTag = true;
    query->jointree = makeFromExpr(NIL, nullptr);
    Relation opened = relation_open(view, AccessExclusiveLock);
    for (int i = 0; i < RelationGetDescr(opened)->natts; i++) {
        Form_pg_attribute column = TupleDescAttr(RelationGetDescr(opened), i);
        Const *null = makeNullConst(column->atttypid, column->atttypmod, column->attcollation);
        query->targetList =
            lappend(query->targetList, makeTargetEntry(reinterpret_cast<Expr *>(null), static_cast<AttrNumber>(i + 1),
                                                       pstrdup(NameStr(column->attname)), false));
    }
    relation_close(opened, NoLock);
    StoreViewQuery(view, query, true);
    CommandCounterIncrement();
}

} // namespace declare
