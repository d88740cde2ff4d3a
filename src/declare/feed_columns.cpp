// Columns that a source is registered with later: feeds that were made without them show them from then on.
#include "declare/hidden_view.hpp"

#include "catalog/projection.hpp"
#include "pg/query.hpp"
#include "pg/scope.hpp"

extern "C" {
#include "commands/view.h"
}

namespace declare {
namespace {

// "SELECT alias.column::type FROM source AS alias", as its owner reads it.
Node *column_of(Oid source, const char *column, const char *type, Oid reader) {
    Query *query = nullptr;
    const char *text = psprintf("SELECT event.%s::pg_catalog.%s FROM %s AS event", quote_identifier(column), type,
                                pg::qualified_name(source));
    pg::with_plain_text([&] {
        auto *raw = static_cast<RawStmt *>(linitial(pg_parse_query(text)));
        pg::as_owner(reader, [&] { query = parse_analyze_fixedparams(raw, text, nullptr, 0, nullptr); });
    });
    return reinterpret_cast<Node *>(static_cast<TargetEntry *>(linitial(query->targetList))->expr);
}

int entry_of(const Query *query, Oid source) {
    int number = 0;
    for (RangeTblEntry *entry : pg::each<RangeTblEntry>(query->rtable)) {
        number++;
        // An old view has entries for itself, which it does not read.
        if (entry->rtekind == RTE_RELATION && entry->relid == source) return number;
    }
    elog(ERROR, "a feed does not read relation %u", source);
}

Query *query_of(Oid view) {
    Relation opened = relation_open(view, AccessExclusiveLock);
    Query *query = pg::copy<Query>(get_view_query(opened));
    relation_close(opened, NoLock);
    return query;
}

// One that was missing is NULL.
void show_column(Query *query, const char *name, Oid source, const char *column, const char *type, Oid reader) {
    for (TargetEntry *entry : pg::each<TargetEntry>(query->targetList)) {
        if (entry->resjunk || strcmp(entry->resname, name) != 0 || !IsA(entry->expr, Const)) continue;
        Node *expression = column_of(source, column, type, reader);
        ChangeVarNodes(expression, 1, entry_of(query, source), 0);
        entry->expr = reinterpret_cast<Expr *>(expression);
    }
}

} // namespace
} // namespace declare

extern "C" {

PG_FUNCTION_INFO_V1(projections_show_columns);
// The columns of types, times and identifiers, or null.
Datum projections_show_columns(PG_FUNCTION_ARGS) {
    using namespace declare;
    catalog::Projection *projection = catalog::projection(PG_GETARG_OID(0));
    if (projection == nullptr || projection->kind == catalog::Kind::query) PG_RETURN_VOID();
    static constexpr const char *shown[][2] = {{"type", "text"}, {"event_time", "timestamptz"}, {"event_id", "text"}};
    Query *query = query_of(projection->definition);
    for (int i = 0; i < static_cast<int>(lengthof(shown)); i++)
        if (!PG_ARGISNULL(i + 1))
            show_column(query, shown[i][0], projection->sources.front(), NameStr(*PG_GETARG_NAME(i + 1)), shown[i][1],
                        projection->owner());
    StoreViewQuery(projection->definition, query, true);
    CommandCounterIncrement();
    PG_RETURN_VOID();
}

} // extern "C"
