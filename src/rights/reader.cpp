// Who may look, then reading as the owner, then what subscriptions hand out.
#include "rights/reader.hpp"

#include "catalog/settings.hpp"
#include "events/source.hpp"
#include "rights/caller.hpp"

namespace rights {

static bool may_select(Oid relation, Oid role) {
    return pg_class_aclcheck(relation, role, ACL_SELECT) == ACLCHECK_OK ||
           pg_attribute_aclcheck_all(relation, role, ACL_SELECT, ACLMASK_ALL) == ACLCHECK_OK;
}

bool may_read(Oid relation, Oid role) {
    return may_select(relation, role) && check_enable_rls(relation, role, true) != RLS_ENABLED;
}

void require_readable(Oid relation) {
    const char *name = pg::qualified_name(relation), *role = quote_identifier(GetUserNameFromId(GetUserId(), false));
    if (!may_select(relation, GetUserId()))
        ereport(ERROR,
                (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                 errmsg("permission denied for table %s", get_rel_name(relation)),
                 errdetail("%s may not select from it.", role), errhint("GRANT SELECT ON %s TO %s;", name, role)));
    if (check_enable_rls(relation, GetUserId(), true) == RLS_ENABLED)
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                        errmsg("row-level security of table %s applies to %s", get_rel_name(relation), role),
                        errdetail("What is looked up here is read as the table's owner, to whom no policy applies."),
                        errhint("SELECT from %s itself, or have a role that sees every row do it.", name)));
}

Oid named_relation(FunctionCallInfo fcinfo, int argument) {
    if (PG_ARGISNULL(argument))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument \"source\" must not be null"),
                        errhint("Give the name of a table.")));
    RangeVar *name = makeRangeVarFromNameList(textToQualifiedNameList(PG_GETARG_TEXT_PP(argument)));
    return RangeVarGetRelid(name, NoLock, false);
}

bool last_position(Oid relation, int64 *position) {
    const events::EventSource *source = events::event_source(relation);
    if (source == nullptr) return false; // unregistered meanwhile
    Oid read = OidIsValid(source->arrivals) ? source->arrivals : relation;
    const char *column = OidIsValid(source->arrivals) ? "arrival" : source->position_column;
    const char *text = psprintf("SELECT pg_catalog.max(%s)::pg_catalog.int8 FROM %s", column, pg::qualified_name(read));
    bool null = true;
    reading_as_owner(read, [&] {
        pg::with_snapshot(GetLatestSnapshot(), [&] {
            if (pg::spi_execute(text, true, 1) != SPI_OK_SELECT) elog(ERROR, "reading the last position failed");
        });
        *position = DatumGetInt64(pg::Row().datum(1, &null));
        SPI_freetuptable(SPI_tuptable);
    });
    return !null;
}

namespace {

// Arguments from the third on, as a query's parameters.
struct Parameters {
    pg::vector<Oid> types;
    pg::vector<Datum> values;
    pg::vector<char> nulls;

    Parameters(FunctionCallInfo fcinfo, int first) {
        for (int i = first; i < PG_NARGS(); i++) {
            types.push_back(get_fn_expr_argtype(fcinfo->flinfo, i));
            values.push_back(fcinfo->args[i].value);
            nulls.push_back(PG_ARGISNULL(i) ? 'n' : ' ');
        }
    }

    // Within an SPI connection; returns what SPI does.
    int run(const char *query, bool read_only) {
        return pg::spi_execute_with_args(query, static_cast<int>(values.size()), types.data(), values.data(),
                                         nulls.data(), read_only, 0);
    }
};

// A row is taken as what it is said to be only where it is that.
void require_columns(TupleDesc found, TupleDesc expected) {
    bool same = found->natts == expected->natts;
    for (int i = 0; same && i < found->natts; i++)
        same = TupleDescAttr(found, i)->atttypid == TupleDescAttr(expected, i)->atttypid;
    if (!same)
        ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH), errmsg("a query returned other columns than expected"),
                        errdetail("It was to return %d columns of the expected types.", expected->natts),
                        errhint("Please report this.")));
}

// Runs `body` as the owner of a relation, under the settings that its definition has if it is a projection.
template <class Body>
void as_owner_of(Oid relation, Body &&body) {
    catalog::Projection *projection = catalog::projection(relation);
    if (projection == nullptr) return reading_as_owner(relation, body);
    pg::as_owner(projection->owner(), [&] { catalog::with_pinned(projection->settings, body); });
}

// A value as its cast to text gives it. A cast that somebody has made is passed over: it would run as the caller.
Datum as_text(Datum value, Oid type) {
    Oid base = getBaseType(type), function = InvalidOid;
    if (base == TEXTOID) return value;
    CoercionPathType path = find_coercion_pathway(TEXTOID, base, COERCION_EXPLICIT, &function);
    if (path == COERCION_PATH_RELABELTYPE) return value;
    if (path == COERCION_PATH_FUNC && function < FirstGenbkiObjectId && get_func_nargs(function) == 1)
        return OidFunctionCall1(function, value);
    Oid output;
    bool varlena;
    getTypeOutputInfo(base, &output, &varlena);
    return CStringGetTextDatum(OidOutputFunctionCall(output, value));
}

// What a subscription hands out, in the order of positions.
enum Column { position_column = 1, type_column, event_column, time_column, row_column };

void refuse_partition(const char *partition_by) {
    ereport(ERROR,
            (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("partition_by does not give one value for each event"),
             errdetail("It is (%s).", partition_by), errhint("Use an expression over the event's columns.")));
}

// Each row's key: partition_by is an expression of the subscription's owner over the row, and runs as him, after the
// rows have been read as the source's owner. In an SPI connection; the texts are in the current memory context.
void compute_keys(Oid owner, const char *partition_by, Oid row_type, std::span<const Datum> rows, Datum *keys,
                  bool *nulls) {
    Oid array_type = get_array_type(row_type);
    if (!OidIsValid(array_type)) elog(ERROR, "type %u has no array", row_type);
    auto *elements = const_cast<Datum *>(rows.data());
    Datum array =
        PointerGetDatum(construct_array(elements, static_cast<int>(rows.size()), row_type, -1, false, TYPALIGN_DOUBLE));
    // A newline before the parenthesis: a comment must not swallow it.
    const char *query = psprintf("SELECT (%s\n) FROM pg_catalog.unnest($1) AS e", partition_by);
    MemoryContext outside = CurrentMemoryContext;
    pg::as_owner(owner, [&] {
        pg::with_setting("search_path", "pg_catalog, pg_temp", [&] {
            SPIPlanPtr plan = pg::spi_prepare(query, 1, &array_type);
            if (plan == nullptr) elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
            if (list_length(SPI_plan_get_plan_sources(plan)) != 1) refuse_partition(partition_by);
            if (SPI_execute_plan(plan, &array, nullptr, true, 0) != SPI_OK_SELECT) refuse_partition(partition_by);
        });
    });
    if (SPI_processed != rows.size() || SPI_tuptable->tupdesc->natts != 1) refuse_partition(partition_by);
    Oid type = SPI_gettypeid(SPI_tuptable->tupdesc, 1);
    for (std::size_t i = 0; i < rows.size(); i++) {
        Datum value = pg::Row(i).datum(1, &nulls[i]);
        if (nulls[i]) continue;
        pg::within(outside, [&] { keys[i] = datumCopy(as_text(value, type), false, -1); });
    }
}

} // namespace
} // namespace rights

extern "C" {

PG_FUNCTION_INFO_V1(projections_may_read);
Datum projections_may_read(PG_FUNCTION_ARGS) {
    if (get_rel_name(PG_GETARG_OID(0)) == nullptr) PG_RETURN_BOOL(false);
    PG_RETURN_BOOL(rights::may_read(PG_GETARG_OID(0), PG_GETARG_OID(1)));
}

PG_FUNCTION_INFO_V1(projections_rows_as_owner);
// f(relation, query, argument…) RETURNS SETOF record: its rows, read as the relation's owner under the caller's
// snapshot.
Datum projections_rows_as_owner(PG_FUNCTION_ARGS) {
    InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
    auto *result = reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo);
    const char *query = rights::text_argument(fcinfo, 1, "query");
    rights::Parameters parameters(fcinfo, 2);
    pg::with_spi([&] {
        rights::as_owner_of(PG_GETARG_OID(0), [&] {
            int code = parameters.run(query, true);
            if (code != SPI_OK_SELECT) elog(ERROR, "SPI_execute_with_args failed: %s", SPI_result_code_string(code));
        });
        rights::require_columns(SPI_tuptable->tupdesc, result->setDesc);
        pg::put_rows(result->setResult);
    });
    return 0;
}

PG_FUNCTION_INFO_V1(projections_execute_as_owner);
// f(relation, caller, command, argument…): runs a command as the relation's owner; returns how many rows it wrote. What
// the owner himself has called may queue deferred triggers, which a security-restricted operation cannot.
Datum projections_execute_as_owner(PG_FUNCTION_ARGS) {
    const char *command = rights::text_argument(fcinfo, 2, "command");
    Oid owner = pg::owner_of(PG_GETARG_OID(0)), user;
    rights::Parameters parameters(fcinfo, 3);
    int context;
    uint64 rows = 0;
    auto run = [&] {
        int code = parameters.run(command, false);
        if (code < 0) elog(ERROR, "SPI_execute_with_args failed: %s", SPI_result_code_string(code));
        rows = SPI_processed;
    };
    pg::with_spi([&] {
        if (owner != PG_GETARG_OID(1)) return rights::reading_as_owner(PG_GETARG_OID(0), run);
        GetUserIdAndSecContext(&user, &context);
        SetUserIdAndSecContext(owner, context | SECURITY_LOCAL_USERID_CHANGE);
        run();
        SetUserIdAndSecContext(user, context);
    });
    PG_RETURN_INT64(static_cast<int64>(rows));
}

PG_FUNCTION_INFO_V1(projections_poll_rows);
// f(source, reader, partition_by, query, argument…): the rows of a query over the source, (position, type, event, time,
// row), with the row's key in its place.
Datum projections_poll_rows(PG_FUNCTION_ARGS) {
    InitMaterializedSRF(fcinfo, 0);
    auto *result = reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo);
    const char *query = rights::text_argument(fcinfo, 3, "query");
    rights::Parameters parameters(fcinfo, 4);
    pg::with_spi([&] {
        rights::reading_as_owner(PG_GETARG_OID(0), [&] {
            int code = parameters.run(query, true);
            if (code != SPI_OK_SELECT) elog(ERROR, "SPI_execute_with_args failed: %s", SPI_result_code_string(code));
        });
        SPITupleTable *events = SPI_tuptable;
        uint64 count = SPI_processed;
        if (events->tupdesc->natts != rights::row_column)
            elog(ERROR, "the query has %d columns", events->tupdesc->natts);
        auto column = [&](uint64 i, int number, bool *null) { return pg::Row(events, i).datum(number, null); };
        pg::vector<Datum> rows(count), keys(count);
        auto *no_key = static_cast<bool *>(palloc(sizeof(bool) * (count + 1)));
        memset(no_key, true, sizeof(bool) * (count + 1));
        bool null;
        for (uint64 i = 0; i < count; i++) rows[i] = column(i, rights::row_column, &null);
        if (!PG_ARGISNULL(2))
            rights::compute_keys(PG_GETARG_OID(1), text_to_cstring(PG_GETARG_TEXT_PP(2)),
                                 get_rel_type_id(PG_GETARG_OID(0)), {rows.data(), rows.size()}, keys.data(), no_key);
        for (uint64 i = 0; i < count; i++) {
            bool nulls[5];
            Datum values[] = {column(i, rights::position_column, &nulls[0]), column(i, rights::type_column, &nulls[1]),
                              keys[i], column(i, rights::event_column, &nulls[3]),
                              column(i, rights::time_column, &nulls[4])};
            nulls[2] = no_key[i];
            tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
        }
    });
    return 0;
}

PG_FUNCTION_INFO_V1(projections_look_at_source);
// f(source, …): for who may read the source.
Datum projections_look_at_source(PG_FUNCTION_ARGS) {
    Oid source = rights::named_relation(fcinfo, 0);
    rights::require_readable(source);
    return rights::call_internal(fcinfo, REGCLASSOID, source, 1);
}

PG_FUNCTION_INFO_V1(projections_look_as);
// f(…): told who calls.
Datum projections_look_as(PG_FUNCTION_ARGS) { return rights::call_internal(fcinfo, OIDOID, GetUserId(), 0); }

PG_FUNCTION_INFO_V1(projections_create_subscription);
// f(name, source, …): for who may read the source.
Datum projections_create_subscription(PG_FUNCTION_ARGS) {
    Oid source = rights::named_relation(fcinfo, 1);
    rights::require_readable(source);
    std::swap(fcinfo->args[0], fcinfo->args[1]);
    Datum result = rights::call_internal(fcinfo, REGCLASSOID, source, 1);
    return result;
}

} // extern "C"
