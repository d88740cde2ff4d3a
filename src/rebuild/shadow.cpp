// Shadow.
//
// A shadow is a projection like any other, except that users do not see it and workers leave it alone. A query over
// tables is fed through change logs, as a paused projection is: what its writers log and what the tables hold are
// always in step, so it can be filled under any snapshot and brought up to any later one. What reads events has slots
// of its own that start from nothing.
#include "rebuild/shadow.hpp"
#include "catalog/hidden.hpp"
#include "declare/declare.hpp"
#include "declare/hidden_view.hpp"
#include "events/left_out.hpp"
#include "maintain/log.hpp"
#include "pg/scope.hpp"
#include "rebuild/handler.hpp"
#include "rebuild/swap.hpp"

namespace rebuild {

using catalog::Flow;
using catalog::Kind;
using catalog::Projection;

namespace {

// A copy of the definition, under another name and of the same owner.
Oid copy_definition(Projection &projection, const char *suffix) {
    const char *name = declare::hidden_name(get_rel_name(projection.relation), psprintf("%s_definition", suffix));
    const char *query =
        TextDatumGetCString(OidFunctionCall1(F_PG_GET_VIEWDEF_OID, ObjectIdGetDatum(projection.definition)));
    Oid copy = declare::make_hidden_view(name, NIL, query, projection.owner());
    catalog::mark_hidden(psprintf("VIEW %s", pg::qualified_name(copy)), "definition", projection.name());
    return copy;
}

void record(const Projection &projection, Oid table, Oid definition, const pg::vector<Oid> &changes,
            const HandlerShadow &handler) {
    bool events = projection.kind != Kind::query || projection.flow == Flow::events;
    pg::spi_execute(psprintf(
        "INSERT INTO projections_internal.projection (relation, definition, kind, mode, user_columns, shape, sources, "
        "changes, "
        "settings, options, function, tables, event_types, initial, transitions, one_order, shadow_of) "
        "SELECT %u, %u, kind, CASE WHEN %s THEN 'async' ELSE mode END, user_columns, shape, sources, %s, %s, options - "
        "'{max_rate,on_dead_letter}'::pg_catalog.text[] - CASE mode WHEN 'inline' THEN 'retention' ELSE '' END, "
        "function, %s, event_types, initial, transitions, one_order, "
        "relation FROM projections_internal.projection WHERE relation = %u",
        table, definition, events ? "true" : "false", declare::oid_list({changes.data(), changes.size()}),
        handler.settings, handler.tables, projection.relation));
    if (!events) return;
    pg::spi_execute(psprintf("INSERT INTO projections_internal.slot (projection, slot) SELECT %u, n FROM "
                             "pg_catalog.generate_series(0, (SELECT greatest(pg_catalog.count(*), 1) FROM "
                             "projections_internal.slot WHERE projection = %u)::int - 1) AS n",
                             table, projection.relation));
    // What somebody decided about single events holds for the next generation.
    pg::spi_execute(psprintf(
        "INSERT INTO projections_internal.failure (projection, slot, position, event_id, event_type, event_time, keys, "
        "error, "
        "sqlstate, category, context, retry_count, first_failed_at, failed_at, resolved_at, resolution, resolved_by, "
        "note) "
        "SELECT %u, slot, position, event_id, event_type, event_time, keys, error, sqlstate, category, context, "
        "retry_count, first_failed_at, failed_at, resolved_at, resolution, resolved_by, note FROM "
        "projections_internal.failure "
        "WHERE projection = %u AND %s",
        table, projection.relation, events::decided_failure));
    pg::spi_execute(
        psprintf("INSERT INTO projections_internal.override (projection, key, position, state, reason, set_by, "
                 "set_at) SELECT %u, key, position, state, reason, set_by, set_at FROM projections_internal.override "
                 "WHERE projection = %u ORDER BY id",
                 table, projection.relation));
}

} // namespace

Oid make_shadow(Projection &projection, const char *suffix) {
    const char *name = get_rel_name(projection.relation);
    Oid definition = copy_definition(projection, suffix);
    HandlerShadow handler{InvalidOid, "tables", "settings"};
    if (projection.kind == Kind::handler) {
        handler = make_handler_shadow(projection, definition, suffix);
        record(projection, handler.view, definition, {}, handler);
        CommandCounterIncrement();
        return handler.view;
    }
    const char *hidden = declare::hidden_name(name, suffix);
    bool tables = projection.kind == Kind::query && projection.flow != Flow::events;
    Oid table = tables ? make_twin(projection.relation, hidden) : make_reducer_twin(projection, hidden);
    pg::vector<Oid> changes;
    if (tables) changes = maintain::make_change_logs(projection.block(), get_rel_name(table), projection.owner());
    record(projection, table, definition, changes, handler);
    CommandCounterIncrement();
    return table;
}

void drop_shadow(Oid shadow) {
    LockRelationOid(shadow, AccessExclusiveLock);
    if (get_rel_name(shadow) == nullptr) return; // it went with its projection
    bool view = get_rel_relkind(shadow) == RELKIND_VIEW; // of a handler
    // What somebody has made over it must not keep it.
    pg::spi_execute(psprintf("DROP %s %s CASCADE", view ? "VIEW" : "TABLE", pg::qualified_name(shadow)));
    CommandCounterIncrement();
}

void drop_shadows(Oid projection) {
    pg::as_superuser([&] {
        pg::with_spi([&] {
            for (Oid shadow : shadows_of(projection)) drop_shadow(shadow);
        });
    });
}

pg::vector<Oid> shadows_of(Oid projection) {
    pg::vector<Oid> shadows;
    for (Projection *each : catalog::all())
        if (each->shadow_of == projection) shadows.push_back(each->relation);
    return shadows;
}

} // namespace rebuild
