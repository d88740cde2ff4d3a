// Run: what users call to operate projections.
//
// A call is checked here, where the current user is the caller: a SECURITY DEFINER function could only ask for the
// session's user, who may be a superuser inside a function that somebody else wrote. What the call does is then done by
// the internal SQL function of the same name with a leading underscore (src/schema/44_run.sql, 46_failures.sql), as a
// superuser; it gets what was checked, the caller's name, and the arguments. Code of users runs as its owner again.
#include "capture/trigger.hpp"
#include "catalog/settings.hpp"
#include "maintain/flush.hpp"
#include "operate/describe.hpp"
#include "pg/scope.hpp"

namespace operate {
namespace {

using catalog::Flow;
using catalog::Kind;
using catalog::Projection;

const char *caller_name() { return GetUserNameFromId(GetUserId(), false); }

// ------------------------------------------------------------------------------------------------------------- who may

Projection &resolve(FunctionCallInfo fcinfo) {
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

Projection &by_oid(Oid relation) {
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

// ------------------------------------------------------------------------------------------------- the internal function

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
    appendStringInfo(&call, "SELECT * FROM projections.%s(", quote_identifier(psprintf("_%s", get_func_name(fcinfo->flinfo->fn_oid))));
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

// ---------------------------------------------------------------------------------------------------------------- waiting

// A query that is repeated under ever newer snapshots, as a role that may read what it reads.
struct Watch {
    SPIPlanPtr plan;
    Oid role;

    Watch(const char *query, Oid as) : plan(nullptr), role(as) { plan = pg::spi_prepare(query); }

    // The first value of the first row; what a transaction in REPEATABLE READ would not see included.
    bool read(int64 *value) const {
        bool null = true;
        pg::as_owner(role, [&] {
            int code =
                SPI_execute_snapshot(plan, nullptr, nullptr, GetLatestSnapshot(), InvalidSnapshot, true, false, 1);
            if (code < 0) elog(ERROR, "SPI_execute_snapshot failed: %s", SPI_result_code_string(code));
            if (SPI_processed > 0)
                *value = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &null));
            SPI_freetuptable(SPI_tuptable);
        });
        return !null;
    }
};

// Whether this transaction holds what an append takes, so that nobody can apply beyond before it ends.
bool holds_writers_lock(Oid relation) {
    Relation opened = relation_open(relation, AccessShareLock);
    bool held = CheckRelationLockedByMe(opened, RowExclusiveLock, false);
    relation_close(opened, NoLock);
    return held;
}

void refuse_own_events(Projection &projection, bool own) {
    if (!own) return;
    ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                    errmsg("cannot wait for projection %s in a transaction that has written its source",
                           projection.name()),
                    errdetail("What is not committed cannot be applied, nor what comes after it."),
                    errhint("COMMIT first, and then wait.")));
}

template <class Reached>
bool wait_until(TimestampTz deadline, Reached &&reached) {
    for (long pause = 1;; pause = std::min(pause * 2, 20L)) {
        if (reached()) return true;
        TimestampTz now = GetCurrentTimestamp();
        if (now >= deadline) return false;
        long left = TimestampDifferenceMilliseconds(now, deadline);
        if (WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, std::clamp(left, 1L, pause),
                      PG_WAIT_EXTENSION) &
            WL_LATCH_SET)
            ResetLatch(MyLatch);
        CHECK_FOR_INTERRUPTS();
    }
}

Oid sequence_of(Oid source) {
    int64 sequence = InvalidOid;
    Watch(psprintf("SELECT sequence::pg_catalog.oid::pg_catalog.int8 FROM projections.source WHERE relation = %u::pg_catalog.regclass", source),
          BOOTSTRAP_SUPERUSERID)
        .read(&sequence);
    return static_cast<Oid>(sequence);
}

// Within an SPI connection. `target` < 0: the head.
bool wait_for_events(Projection &projection, int64 target, TimestampTz deadline) {
    Oid source = projection.sources[0];
    if (target < 0 && !Watch(psprintf("SELECT projections._head(%u)", source), BOOTSTRAP_SUPERUSERID).read(&target))
        return true; // an empty source
    Watch checkpoint(psprintf("SELECT pg_catalog.min(position) FROM projections.slot WHERE projection = %u::pg_catalog.regclass",
                              projection.relation),
                     BOOTSTRAP_SUPERUSERID);
    bool first = true;
    return wait_until(deadline, [&] {
        int64 reached;
        if (!checkpoint.read(&reached))
            ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("the projection has no checkpoint"),
                            errdetail("It was dropped, or its mode changed, while waiting."),
                            errhint("projections.definitions lists the projections.")));
        if (reached >= target) return true;
        if (first) refuse_own_events(projection, holds_writers_lock(sequence_of(source)));
        first = false;
        return false;
    });
}

// Within an SPI connection. What waits in a log is not applied; what is not there is.
bool wait_for_changes(Projection &projection, int64 target, TimestampTz deadline) {
    for (Oid log : projection.changes) {
        refuse_own_events(projection, holds_writers_lock(log));
        const char *name = pg::qualified_name(log);
        int64 last = target;
        if (last < 0 && !Watch(psprintf("SELECT pg_catalog.max(change) FROM %s", name), projection.owner()).read(&last))
            continue;
        Watch waiting(psprintf("SELECT change FROM %s WHERE change <= " INT64_FORMAT " LIMIT 1", name, last),
                      projection.owner());
        bool done = wait_until(deadline, [&] {
            int64 change;
            return !waiting.read(&change);
        });
        if (!done) return false;
    }
    return true;
}

bool wait_for(Projection &projection, int64 target, TimestampTz deadline) {
    if (projection.flow == Flow::inline_) return true;
    bool reached = false;
    pg::with_spi([&] {
        reached = projection.flow == Flow::events ? wait_for_events(projection, target, deadline)
                                                  : wait_for_changes(projection, target, deadline);
    });
    return reached;
}

TimestampTz deadline_after(FunctionCallInfo fcinfo, int argument) {
    if (PG_ARGISNULL(argument)) return DT_NOEND;
    return DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval, TimestampTzGetDatum(GetCurrentTimestamp()),
                                                   PG_GETARG_DATUM(argument)));
}

// ---------------------------------------------------------------------------------------------------------------- one row

List *key_column_names(Projection &projection) {
    if (projection.kind != Kind::query) return list_make1(pstrdup("key"));
    List *names = NIL;
    for (const compile::Key &key : projection.block().keys)
        names = lappend(names, get_attname(projection.relation, static_cast<AttrNumber>(key.column + 1), false));
    return names;
}

void refuse_without_key(Projection &projection) {
    if (projection.kind == Kind::handler)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("handler %s has no rows of its own", projection.name()),
                        errdetail("What it writes is up to its function."),
                        errhint("Call projections.wait_for(), and then read its tables.")));
    if (projection.kind == Kind::query && projection.block().shape == compile::Shape::bag)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("projection %s has no key", projection.name()),
                        errdetail("A source has no primary key, so its rows cannot be addressed."),
                        errhint("Call projections.wait_for(), and then read its table.")));
}

// A key's values, as parameters of a condition.
struct KeyValues {
    const char *condition; // over the columns of t
    pg::vector<Oid> types;
    pg::vector<Datum> values;
};

const char *equality(Oid type) {
    TypeCacheEntry *entry = lookup_type_cache(type, TYPECACHE_EQ_OPR);
    HeapTuple tuple = SearchSysCache1(OPEROID, ObjectIdGetDatum(entry->eq_opr));
    if (!HeapTupleIsValid(tuple)) elog(ERROR, "type %u has no equality", type);
    auto *form = reinterpret_cast<Form_pg_operator>(GETSTRUCT(tuple));
    const char *text =
        psprintf("OPERATOR(%s.%s)", quote_identifier(get_namespace_name(form->oprnamespace)), NameStr(form->oprname));
    ReleaseSysCache(tuple);
    return text;
}

void fail_key(Projection &projection, Datum key, List *names) {
    StringInfoData columns;
    initStringInfo(&columns);
    for (char *name : pg::each<char>(names)) appendStringInfo(&columns, "%s%s", columns.len ? ", " : "", quote_identifier(name));
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                    errmsg("%s is not a key of projection %s", DatumGetCString(DirectFunctionCall1(jsonb_out, key)), projection.name()),
                    errdetail("Its key columns are (%s).", columns.data),
                    errhint("Give the key as an object with exactly these columns.")));
}

// Within an SPI connection.
KeyValues key_values(Projection &projection, Datum key) {
    List *names = key_column_names(projection);
    if (!JB_ROOT_IS_OBJECT(DatumGetJsonbP(key)) || JB_ROOT_COUNT(DatumGetJsonbP(key)) != static_cast<uint32>(list_length(names)))
        fail_key(projection, key, names);
    StringInfoData query, condition;
    initStringInfo(&query);
    initStringInfo(&condition);
    for (char *name : pg::each<char>(names)) {
        appendStringInfo(&query, "%sr.%s", query.len ? ", " : "SELECT ", quote_identifier(name));
        if (getKeyJsonValueFromContainer(&DatumGetJsonbP(key)->root, name, static_cast<int>(strlen(name)), nullptr) == nullptr)
            fail_key(projection, key, names);
    }
    KeyValues result{"true", {}, {}};
    if (names == NIL) return result;
    appendStringInfo(&query, " FROM pg_catalog.jsonb_populate_record(NULL::%s, $1) AS r", projection.name());
    Oid type = JSONBOID;
    if (SPI_execute_with_args(query.data, 1, &type, &key, nullptr, true, 1) != SPI_OK_SELECT) elog(ERROR, "reading the key failed");
    int i = 0;
    for (char *name : pg::each<char>(names)) {
        bool null;
        Datum value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, ++i, &null);
        Oid column = SPI_gettypeid(SPI_tuptable->tupdesc, i);
        appendStringInfo(&condition, "%st.%s ", i > 1 ? " AND " : "", quote_identifier(name));
        if (null) {
            appendStringInfoString(&condition, "IS NULL");
            continue;
        }
        result.types.push_back(column);
        result.values.push_back(value);
        appendStringInfo(&condition, "%s $%zu", equality(column), result.values.size());
    }
    result.condition = condition.data;
    return result;
}

// The first value of a query under a snapshot taken now, in `memory`.
bool read_json(const char *query, pg::vector<Oid> &types, pg::vector<Datum> &values, MemoryContext memory, Datum *json) {
    SPIPlanPtr plan = SPI_prepare(query, static_cast<int>(values.size()), types.data());
    if (plan == nullptr) elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
    int code = SPI_execute_snapshot(plan, values.data(), nullptr, GetLatestSnapshot(), InvalidSnapshot, true, false, 1);
    if (code < 0) elog(ERROR, "SPI_execute_snapshot failed: %s", SPI_result_code_string(code));
    if (SPI_processed == 0) return false;
    bool null;
    Datum value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &null);
    if (!null) pg::within(memory, [&] { *json = PointerGetDatum(PG_DETOAST_DATUM_COPY(value)); });
    return !null;
}

// "SELECT to_jsonb" of the columns that a user knows, from `relation`.
const char *row_query(Projection &projection, Oid relation, const char *condition) {
    StringInfoData columns;
    initStringInfo(&columns);
    int count = projection.kind == Kind::query ? projection.user_columns : get_relnatts(projection.relation);
    for (AttrNumber i = 1; i <= count; i++)
        if (const char *name = get_attname(projection.relation, i, true))
            appendStringInfo(&columns, "%st.%s", columns.len ? ", " : "", quote_identifier(name));
    return psprintf("SELECT pg_catalog.to_jsonb(r) FROM (SELECT %s FROM %s AS t WHERE %s) AS r", columns.data,
                    pg::qualified_name(relation), condition);
}

} // namespace
} // namespace operate

extern "C" {

using operate::Argument;

PG_FUNCTION_INFO_V1(projections_operate);
// f(name, …): for the projection's owner.
Datum projections_operate(PG_FUNCTION_ARGS) {
    catalog::Projection &projection = operate::resolve(fcinfo);
    operate::require_owner(projection);
    return operate::run_internal(fcinfo, {OIDOID, ObjectIdGetDatum(projection.relation)}, 1);
}

PG_FUNCTION_INFO_V1(projections_operate_all);
// f(…): for the projections that the caller owns.
Datum projections_operate_all(PG_FUNCTION_ARGS) {
    return operate::run_internal(fcinfo, {OIDOID, ObjectIdGetDatum(GetUserId())}, 0);
}

PG_FUNCTION_INFO_V1(projections_operate_failure);
// f(failure_id, …): for the owner of the failure's projection.
Datum projections_operate_failure(PG_FUNCTION_ARGS) {
    if (PG_ARGISNULL(0))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument \"failure_id\" must not be null"),
                        errhint("Give the id of a row of projections.failures.")));
    Oid relation = operate::projection_of_failure(PG_GETARG_INT64(0));
    if (!OidIsValid(relation))
        ereport(ERROR, (errcode(ERRCODE_NO_DATA_FOUND), errmsg("there is no failure " INT64_FORMAT, PG_GETARG_INT64(0)),
                        errdetail("Resolved failures are kept for pg_projections.history_retention."),
                        errhint("projections.failures lists them.")));
    operate::require_owner(operate::by_oid(relation));
    return operate::run_internal(fcinfo, {OIDOID, ObjectIdGetDatum(relation)}, 0);
}

PG_FUNCTION_INFO_V1(projections_require_owner);
Datum projections_require_owner(PG_FUNCTION_ARGS) {
    operate::require_owner(operate::by_oid(PG_GETARG_OID(0)));
    PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(projections_health);
// Rows of what the caller may look at; what is asked for by name must be among it.
Datum projections_health(PG_FUNCTION_ARGS) {
    Argument only{OIDOID, 0, true};
    if (!PG_ARGISNULL(0)) {
        catalog::Projection &projection = operate::resolve(fcinfo);
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
            int code = SPI_execute_with_args("SELECT * FROM projections._health($1, $2)", 2, types, values, nulls, false, 0);
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

PG_FUNCTION_INFO_V1(projections_wait_for);
Datum projections_wait_for(PG_FUNCTION_ARGS) {
    catalog::Projection &projection = operate::resolve(fcinfo);
    int64 target = PG_ARGISNULL(1) ? -1 : std::max<int64>(PG_GETARG_INT64(1), 0);
    PG_RETURN_BOOL(operate::wait_for(projection, target, operate::deadline_after(fcinfo, 2)));
}

} // extern "C"
