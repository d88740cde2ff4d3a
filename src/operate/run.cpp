// Run: what users call to operate projections.
//
// A call is checked here, where the current user is the caller: a SECURITY DEFINER function could only ask for the
// session's user, who may be a superuser inside a function that somebody else wrote. What the call does is then done by
// the internal SQL function of the same name with a leading underscore (src/schema/44_run.sql, 46_failures.sql), as a
// superuser; it gets what was checked, the caller's name, and the arguments. Code of users runs as its owner again.
#include "operate/run.hpp"

#include "async/background.hpp"
#include "async/slot.hpp"
#include "operate/audit.hpp"
#include "pg/scope.hpp"
#include "rebuild/rebuild.hpp"

namespace operate {

using catalog::Projection;

static const char *caller_name() { return GetUserNameFromId(GetUserId(), false); }

Projection &named_projection(FunctionCallInfo fcinfo) {
    if (PG_ARGISNULL(0))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument \"name\" must not be null"),
                        errhint("Give the name of a projection.")));
    text *name = PG_GETARG_TEXT_PP(0);
    Oid relation = RangeVarGetRelid(makeRangeVarFromNameList(textToQualifiedNameList(name)), NoLock, false);
    Projection *projection = catalog::projection(relation);
    if (projection == nullptr)
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("\"%s\" is not a projection", text_to_cstring(name)),
                        errdetail("It is a relation that nothing maintains."),
                        errhint("projections.definitions lists the projections.")));
    return *projection;
}

Projection &projection_of(Oid relation) {
    Projection *projection = catalog::projection(relation);
    if (projection == nullptr)
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("relation %u is not a projection", relation),
                        errdetail("It was dropped, or is a relation that nothing maintains."),
                        errhint("projections.definitions lists the projections.")));
    return *projection;
}

void require_owner(Projection &projection) {
    if (pg::owns_relation(projection.relation, GetUserId())) return;
    ereport(ERROR,
            (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("must be owner of projection %s", projection.name()),
             errdetail("%s is not a member of its owner, %s.", quote_identifier(caller_name()),
                       quote_identifier(GetUserNameFromId(projection.owner(), false))),
             errhint("SET ROLE to the owner, or ask the owner to do it.")));
}

void require_filled(Projection &projection) {
    if (projection.flow != catalog::Flow::none) return;
    ereport(ERROR,
            (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
             errmsg("projection %s is being filled", projection.name()), errdetail("It is right once it is complete."),
             errhint("projections.rebuilds shows how far it is.")));
}

namespace {

// A rebuild replaces what is done by hand to the contents, and copies what was decided before it began. What ends a
// pause or a rebuild must be possible.
void refuse_during_rebuild(FunctionCallInfo fcinfo, Projection &projection) {
    std::string_view function = get_func_name(fcinfo->flinfo->fn_oid);
    if (function == "resume" || function == "schedule_rebuild" || function == "cancel_rebuild") return;
    rebuild::hold_off_rebuild(projection);
    require_filled(projection); // a pause before its rebuild has begun would keep it from being filled
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

struct Argument {
    Oid type;
    Datum value;
    bool null = false;
};

// Runs projections._NAME(checked, caller, the call's arguments from `first` on), NAME being the called function's.
// `receive` gets each row while the SPI connection is open.
template <class Receive>
void run_internal(FunctionCallInfo fcinfo, Argument checked, int first, Receive &&receive) {
    pg::vector<Argument> arguments;
    arguments.push_back(checked);
    arguments.push_back({TEXTOID, CStringGetTextDatum(caller_name())});
    Oid *types;
    int count;
    get_func_signature(fcinfo->flinfo->fn_oid, &types, &count);
    for (int i = first; i < count; i++) arguments.push_back({types[i], fcinfo->args[i].value, fcinfo->args[i].isnull});

    pg::vector<Oid> argument_types;
    pg::vector<Datum> values;
    pg::vector<char> nulls;
    StringInfoData call;
    initStringInfo(&call);
    appendStringInfo(&call, "SELECT * FROM projections.%s(",
                     quote_identifier(psprintf("_%s", get_func_name(fcinfo->flinfo->fn_oid))));
    for (const Argument &each : arguments) {
        argument_types.push_back(each.type);
        values.push_back(each.value);
        nulls.push_back(each.null ? 'n' : ' ');
        appendStringInfo(&call, "%s$%zu", values.size() > 1 ? ", " : "", values.size());
    }
    appendStringInfoChar(&call, ')');
    pg::as_superuser([&] {
        pg::with_spi([&] {
            int code = SPI_execute_with_args(call.data, static_cast<int>(values.size()), argument_types.data(),
                                             values.data(), nulls.data(), false, 0);
            if (code < 0) elog(ERROR, "SPI_execute_with_args failed: %s", SPI_result_code_string(code));
            for (uint64 i = 0; i < SPI_processed; i++) receive(SPI_tuptable->vals[i], SPI_tuptable->tupdesc);
        });
    });
}

Datum run_internal(FunctionCallInfo fcinfo, Argument checked, int first) {
    Datum result = 0;
    bool null = true;
    run_internal(fcinfo, checked, first, [&](HeapTuple row, TupleDesc desc) {
        result = SPI_getbinval(row, desc, 1, &null);
        Form_pg_attribute column = TupleDescAttr(desc, 0);
        if (!null) result = SPI_datumTransfer(result, column->attbyval, column->attlen);
    });
    fcinfo->isnull = null && get_func_rettype(fcinfo->flinfo->fn_oid) != VOIDOID;
    return result;
}

Oid projection_of_failure(int64 id) {
    Oid projection = InvalidOid;
    pg::as_superuser([&] {
        pg::with_spi([&] {
            const char *query =
                psprintf("SELECT projection::pg_catalog.oid FROM projections.failure WHERE id = " INT64_FORMAT, id);
            if (SPI_execute(query, false, 1) != SPI_OK_SELECT) elog(ERROR, "reading failures failed");
            bool null;
            if (SPI_processed > 0)
                projection = DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &null));
        });
    });
    return projection;
}

// The expression of the feed's keys, over its source; null for a handler without partitions.
const char *key_expression(Projection &projection) {
    Relation feed = relation_open(projection.definition, AccessShareLock);
    auto *query = static_cast<Query *>(copyObjectImpl(get_view_query(feed)));
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

using operate::Argument;

PG_FUNCTION_INFO_V1(projections_operate);
// f(name, …): for the projection's owner.
AUDITED(projections_operate) {
    async::refuse_while_applying();
    catalog::Projection &projection = operate::named_projection(fcinfo);
    operate::require_owner(projection);
    operate::refuse_during_rebuild(fcinfo, projection);
    return operate::run_internal(fcinfo, {OIDOID, ObjectIdGetDatum(projection.relation)}, 1);
}

PG_FUNCTION_INFO_V1(projections_operate_all);
// f(…): for the projections that the caller owns.
AUDITED(projections_operate_all) {
    async::refuse_while_applying();
    return operate::run_internal(fcinfo, {OIDOID, ObjectIdGetDatum(GetUserId())}, 0);
}

PG_FUNCTION_INFO_V1(projections_operate_failure);
// f(failure_id, …): for the owner of the failure's projection.
AUDITED(projections_operate_failure) {
    async::refuse_while_applying();
    if (PG_ARGISNULL(0))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument \"failure_id\" must not be null"),
                        errhint("Give the id of a row of projections.failures.")));
    Oid relation = operate::projection_of_failure(PG_GETARG_INT64(0));
    if (!OidIsValid(relation))
        ereport(ERROR, (errcode(ERRCODE_NO_DATA_FOUND), errmsg("there is no failure " INT64_FORMAT, PG_GETARG_INT64(0)),
                        errdetail("Resolved failures are kept for pg_projections.history_retention."),
                        errhint("projections.failures lists them.")));
    operate::audit_about(relation);
    operate::require_owner(operate::projection_of(relation));
    operate::refuse_during_rebuild(fcinfo, operate::projection_of(relation));
    return operate::run_internal(fcinfo, {OIDOID, ObjectIdGetDatum(relation)}, 0);
}

PG_FUNCTION_INFO_V1(projections_restart_worker);
AUDITED(projections_restart_worker) {
    Oid projection = async::restart_worker(PG_GETARG_INT32(0));
    if (OidIsValid(projection)) operate::audit_about(projection);
    PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(projections_health);
// Rows of what the caller may look at; what is asked for by name must be among it.
Datum projections_health(PG_FUNCTION_ARGS) {
    Argument only{OIDOID, 0, true};
    if (!PG_ARGISNULL(0)) {
        catalog::Projection &projection = operate::named_projection(fcinfo);
        if (!has_privs_of_role(GetUserId(), ROLE_PG_MONITOR)) operate::require_owner(projection);
        only = {OIDOID, ObjectIdGetDatum(projection.relation)};
    }
    InitMaterializedSRF(fcinfo, 0);
    auto *result = reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo);
    Datum values[] = {only.value, ObjectIdGetDatum(GetUserId())};
    Oid types[] = {OIDOID, OIDOID};
    char nulls[] = {only.null ? 'n' : ' ', ' '};
    pg::as_superuser([&] {
        pg::with_spi([&] {
            int code =
                SPI_execute_with_args("SELECT * FROM projections._health($1, $2)", 2, types, values, nulls, false, 0);
            if (code < 0) elog(ERROR, "SPI_execute_with_args failed: %s", SPI_result_code_string(code));
            for (uint64 i = 0; i < SPI_processed; i++) tuplestore_puttuple(result->setResult, SPI_tuptable->vals[i]);
        });
    });
    return 0;
}

PG_FUNCTION_INFO_V1(projections_read_as_owner);
// Under the caller's snapshot.
Datum projections_read_as_owner(PG_FUNCTION_ARGS) {
    HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(PG_GETARG_OID(0)));
    if (!HeapTupleIsValid(tuple)) PG_RETURN_NULL(); // dropped meanwhile
    Oid owner = reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple))->relowner;
    ReleaseSysCache(tuple);
    // An owner who has taken the right from himself must not keep everybody from seeing how things are.
    if (pg_class_aclcheck(PG_GETARG_OID(0), owner, ACL_SELECT) != ACLCHECK_OK) owner = GetUserId();
    const char *query = text_to_cstring(PG_GETARG_TEXT_PP(1));
    MemoryContext outside = CurrentMemoryContext;
    text *result = nullptr;
    pg::as_owner(owner, [&] {
        pg::with_spi([&] {
            int code = SPI_execute(query, true, 1);
            if (code < 0) elog(ERROR, "SPI_execute failed: %s", SPI_result_code_string(code));
            const char *value =
                SPI_processed > 0 ? SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1) : nullptr;
            if (value) pg::within(outside, [&] { result = cstring_to_text(value); });
        });
    });
    if (result == nullptr) PG_RETURN_NULL();
    PG_RETURN_TEXT_P(result);
}

PG_FUNCTION_INFO_V1(projections_key_expression);
// As the feed has it: over the source's columns, without what the feed wraps around it.
Datum projections_key_expression(PG_FUNCTION_ARGS) {
    catalog::Projection &projection = operate::projection_of(PG_GETARG_OID(0));
    const char *expression = projection.kind == catalog::Kind::query ? nullptr : operate::key_expression(projection);
    if (expression == nullptr) PG_RETURN_NULL();
    PG_RETURN_TEXT_P(cstring_to_text(expression));
}

} // extern "C"
