// Run: what users call to operate projections. The rest of each is the internal function of the same name in
// src/schema (44_run.sql, 45_alter.sql, 46_failures.sql).
#include "operate/run.hpp"

#include "events/slot.hpp"
#include "pg/query.hpp"
#include "pg/scope.hpp"
#include "rebuild/rebuild.hpp"
#include "rights/audit.hpp"
#include "rights/caller.hpp"
#include "workers/background.hpp"

namespace operate {

using catalog::Projection;

namespace {

// What may be called while a rebuild runs, which may hold the table: it waits for nobody.
bool is_about_rebuild(std::string_view function) {
    return function == "schedule_rebuild" || function == "cancel_rebuild";
}

// A rebuild replaces what is done by hand to the contents, and copies what was decided before it began. What ends a
// pause or a rebuild must be possible.
void refuse_during_rebuild(std::string_view function, Projection &projection) {
    if (function == "resume" || is_about_rebuild(function)) return;
    rebuild::hold_off_rebuild(projection);
    rights::require_filled(projection); // a pause before its rebuild has begun would keep it from being filled
}

// SQL reads the settings by name.
struct Threshold {
    const char *name, *description;
    int value;
    int unit;
};
constinit Threshold thresholds[] = {
    {"pg_projections.lag_degraded", "A projection that is longer behind than this is degraded.", 10, GUC_UNIT_S},
    {"pg_projections.lag_critical", "A projection that is longer behind than this is critical.", 60, GUC_UNIT_S},
    {"pg_projections.lag_events_degraded", "A projection more positions behind than this is degraded.", 1000, 0},
    {"pg_projections.lag_events_critical", "A projection more positions behind than this is critical.", 10000, 0},
    {"pg_projections.failures_degraded", "A projection with as many failed events as this is degraded.", 1, 0},
    {"pg_projections.failures_critical", "A projection with as many failed events as this is critical.", 10, 0},
    {"pg_projections.failures_offline", "A projection with as many failed events as this is offline.", 50, 0},
};
constinit bool allow_regression = false;

Oid projection_of_failure(int64 id) {
    Oid projection = InvalidOid;
    pg::as_superuser([&] {
        pg::with_spi([&] {
            const char *query = psprintf(
                "SELECT projection::pg_catalog.oid FROM projections_internal.failure WHERE id = " INT64_FORMAT, id);
            if (pg::spi_execute(query, false, 1) != SPI_OK_SELECT) elog(ERROR, "reading failures failed");
            if (SPI_processed > 0) projection = pg::Row().oid(1);
        });
    });
    return projection;
}

// The expression of the feed's keys, over its source; null for a handler without partitions.
const char *key_expression(Projection &projection) {
    Relation feed = try_relation_open(projection.definition, AccessShareLock);
    if (feed == nullptr) // the reader's snapshot still has the projection's row (Test: test/fuzz, seed 102)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
                        errmsg("the projection with OID %u has been dropped meanwhile", projection.relation),
                        errhint("Look again.")));
    auto *query = pg::copy<Query>(get_view_query(feed));
    relation_close(feed, NoLock);
    Node *keys = nullptr;
    for (TargetEntry *entry : pg::each<TargetEntry>(query->targetList))
        if (strcmp(entry->resname, "keys") == 0) keys = reinterpret_cast<Node *>(entry->expr);
    if (keys == nullptr) elog(ERROR, "feed %s has no keys", get_rel_name(projection.definition));
    if (IsA(keys, ArrayExpr) && list_length(castNode(ArrayExpr, keys)->elements) == 1)
        keys = static_cast<Node *>(linitial(castNode(ArrayExpr, keys)->elements));
    // A handler's partition may be NULL, which is a partition of its own.
    if (projection.kind == catalog::Kind::handler && IsA(keys, CoalesceExpr))
        keys = static_cast<Node *>(linitial(castNode(CoalesceExpr, keys)->args));
    if (!contain_var_clause(keys)) return nullptr;
    int number = 0;
    for (RangeTblEntry *entry : pg::each<RangeTblEntry>(query->rtable)) {
        number++;
        if (entry->rtekind == RTE_RELATION && entry->relid == projection.sources.front())
            ChangeVarNodes(keys, number, 1, 0);
    }
    return deparse_expression(
        keys, deparse_context_for(get_rel_name(projection.sources.front()), projection.sources.front()), false, false);
}

} // namespace

void define_settings() {
    for (Threshold &each : thresholds)
        DefineCustomIntVariable(each.name, each.description, nullptr, &each.value, each.value, each.unit ? 0 : 1,
                                INT_MAX, PGC_USERSET, each.unit, nullptr, nullptr, nullptr);
    DefineCustomBoolVariable("pg_projections._allow_regression", "Lets a checkpoint go back.", nullptr,
                             &allow_regression, false, PGC_SUSET, GUC_NO_SHOW_ALL | GUC_NOT_IN_SAMPLE, nullptr, nullptr,
                             nullptr);
}

} // namespace operate

extern "C" {

PG_FUNCTION_INFO_V1(projections_operate);
// f(name, …): for the projection's owner.
AUDITED(projections_operate) {
    events::refuse_while_applying();
    const char *function = get_func_name(fcinfo->flinfo->fn_oid);
    // Refused before anything is waited for.
    operate::refuse_during_rebuild(function, rights::own_projection(fcinfo, catalog::Hold::nothing));
    catalog::Hold hold = operate::is_about_rebuild(function) ? catalog::Hold::nothing : catalog::Hold::all;
    catalog::Projection &projection = rights::own_projection(fcinfo, hold);
    operate::refuse_during_rebuild(function, projection);
    return rights::call_internal(fcinfo, OIDOID, projection.relation, 1);
}

PG_FUNCTION_INFO_V1(projections_hold);
// _hold(projection): false where it was dropped.
Datum projections_hold(PG_FUNCTION_ARGS) {
    for (;;) {
        catalog::Projection *projection = catalog::projection(PG_GETARG_OID(0));
        if (projection == nullptr) PG_RETURN_BOOL(false);
        if (catalog::hold(*projection, catalog::Hold::all)) PG_RETURN_BOOL(true);
    }
}

PG_FUNCTION_INFO_V1(projections_let_go);
// _let_go(projection), which _hold() held.
Datum projections_let_go(PG_FUNCTION_ARGS) {
    catalog::let_go(rights::projection_of(PG_GETARG_OID(0)));
    PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(projections_operate_all);
// f(…): for the projections that the caller owns.
AUDITED(projections_operate_all) {
    events::refuse_while_applying();
    return rights::call_internal(fcinfo, OIDOID, GetUserId(), 0);
}

PG_FUNCTION_INFO_V1(projections_operate_failure);
// f(failure_id, …): for the owner of the failure's projection.
AUDITED(projections_operate_failure) {
    events::refuse_while_applying();
    if (PG_ARGISNULL(0))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument \"failure_id\" must not be null"),
                        errhint("Give the id of a row of projections.failures.")));
    Oid relation = operate::projection_of_failure(PG_GETARG_INT64(0));
    if (!OidIsValid(relation))
        ereport(ERROR, (errcode(ERRCODE_NO_DATA_FOUND), errmsg("there is no failure " INT64_FORMAT, PG_GETARG_INT64(0)),
                        errdetail("Resolved failures are kept for pg_projections.history_retention."),
                        errhint("projections.failures lists them.")));
    rights::audit_about(relation);
    rights::require_owner(rights::projection_of(relation));
    operate::refuse_during_rebuild(get_func_name(fcinfo->flinfo->fn_oid), rights::projection_of(relation));
    return rights::call_internal(fcinfo, OIDOID, relation, 0);
}

PG_FUNCTION_INFO_V1(projections_restart_worker);
AUDITED(projections_restart_worker) {
    Oid projection = workers::restart_worker(PG_GETARG_INT32(0));
    if (OidIsValid(projection)) rights::audit_about(projection);
    PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(projections_health);
// Rows of what the caller may look at; what is asked for by name must be among it.
Datum projections_health(PG_FUNCTION_ARGS) {
    Oid only = InvalidOid;
    if (!PG_ARGISNULL(0)) only = rights::monitored_projection(fcinfo).relation;
    InitMaterializedSRF(fcinfo, 0);
    auto *result = reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo);
    Datum values[] = {ObjectIdGetDatum(only), ObjectIdGetDatum(GetUserId())};
    Oid types[] = {OIDOID, OIDOID};
    char nulls[] = {!OidIsValid(only) ? 'n' : ' ', ' '};
    pg::as_superuser([&] {
        pg::with_spi([&] {
            int code = pg::spi_execute_with_args("SELECT * FROM projections_internal._health($1, $2) "
                                                 "ORDER BY projections_internal._severity(status), projection",
                                                 2, types, values, nulls, false, 0);
            if (code < 0) elog(ERROR, "SPI_execute_with_args failed: %s", SPI_result_code_string(code));
            pg::put_rows(result->setResult);
        });
    });
    return 0;
}

PG_FUNCTION_INFO_V1(projections_key_expression);
// As the feed has it: over the source's columns, without what the feed wraps around it.
Datum projections_key_expression(PG_FUNCTION_ARGS) {
    catalog::Projection &projection = rights::projection_of(PG_GETARG_OID(0));
    const char *expression = projection.kind == catalog::Kind::query ? nullptr : operate::key_expression(projection);
    if (expression == nullptr) PG_RETURN_NULL();
    PG_RETURN_TEXT_P(cstring_to_text(expression));
}

} // extern "C"
