// A call is checked here, where the current user is the caller: a SECURITY DEFINER function could only ask for the
// session's user, who may be a superuser inside a function that somebody else wrote. What the call does is then done by
// the internal SQL function of the same name with a leading underscore, as a superuser; it gets what was checked, the
// caller's name, and the arguments. Code of users runs as its owner again.
#include "rights/caller.hpp"

#include "pg/list.hpp"
#include "pg/scope.hpp"

namespace rights {

using catalog::Projection;

const char *text_argument(FunctionCallInfo fcinfo, int number, const char *name) {
    if (PG_ARGISNULL(number))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument \"%s\" must not be null", name),
                        errhint("Give a value for it.")));
    return text_to_cstring(PG_GETARG_TEXT_PP(number));
}

namespace {

[[noreturn]] void refuse_part(const Projection &part) {
    ereport(ERROR,
            (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("%s is a part of a projection", part.name()),
             errdetail("What is done to projection %s is done to its parts, too.", pg::qualified_name(part.part_of)),
             errhint("Name the projection.")));
    pg_unreachable();
}

Projection *find(text *name, catalog::Hold hold, bool owned, bool missing_ok) {
    RangeVar *range = makeRangeVarFromNameList(textToQualifiedNameList(name));
    for (;;) {
        Oid relation = RangeVarGetRelid(range, NoLock, missing_ok);
        if (!OidIsValid(relation)) return nullptr;
        Projection *projection = catalog::projection(relation);
        if (projection == nullptr)
            ereport(ERROR,
                    (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("\"%s\" is not a projection", text_to_cstring(name)),
                     errdetail("It is a relation that nothing maintains."),
                     errhint("projections.definitions lists the projections.")));
        if (OidIsValid(projection->part_of)) refuse_part(*projection);
        if (owned) require_owner(*projection);
        // After a wait the name may be another one's.
        if (catalog::hold(*projection, hold) && RangeVarGetRelid(range, NoLock, true) == relation) return projection;
    }
}

Projection &named(FunctionCallInfo fcinfo, catalog::Hold hold, bool owned) {
    if (PG_ARGISNULL(0))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument \"name\" must not be null"),
                        errhint("Give the name of a projection.")));
    return *find(PG_GETARG_TEXT_PP(0), hold, owned, false);
}

} // namespace

Projection *find_own_projection(text *name, catalog::Hold hold, bool missing_ok) {
    return find(name, hold, true, missing_ok);
}

Projection &named_projection(FunctionCallInfo fcinfo, catalog::Hold hold) { return named(fcinfo, hold, false); }

Projection &own_projection(FunctionCallInfo fcinfo, catalog::Hold hold) { return named(fcinfo, hold, true); }

Oid relation_by_name(text *name) {
    RangeVar *range = makeRangeVarFromNameList(textToQualifiedNameList(name));
    if (range->schemaname == nullptr || !has_privs_of_role(GetUserId(), ROLE_PG_MONITOR))
        return RangeVarGetRelid(range, NoLock, true);
    Oid schema = get_namespace_oid(range->schemaname, true);
    return OidIsValid(schema) ? get_relname_relid(range->relname, schema) : InvalidOid;
}

Projection &monitored_projection(FunctionCallInfo fcinfo) {
    bool monitors = has_privs_of_role(GetUserId(), ROLE_PG_MONITOR);
    Oid relation = monitors && !PG_ARGISNULL(0) ? relation_by_name(PG_GETARG_TEXT_PP(0)) : InvalidOid;
    Projection *projection = OidIsValid(relation) ? catalog::projection(relation) : nullptr;
    if (projection && !OidIsValid(projection->part_of)) return *projection;
    return named(fcinfo, catalog::Hold::nothing, !monitors);
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
             errdetail("%s is not a member of its owner, %s.", quote_identifier(GetUserNameFromId(GetUserId(), false)),
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

const char *caller_name() { return GetUserNameFromId(GetUserId(), false); }

struct Argument {
    Oid type;
    Datum value;
    bool null = false;
};

// Runs projections_internal._NAME(checked, caller, the call's arguments from `first` on), NAME being the called
// function's. `receive` gets each row while the SPI connection is open.
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
    pg::TextList parameters;
    for (const Argument &each : arguments) {
        argument_types.push_back(each.type);
        values.push_back(each.value);
        nulls.push_back(each.null ? 'n' : ' ');
        parameters.add("$%zu", values.size());
    }
    const char *call =
        psprintf("SELECT * FROM projections_internal.%s(%s)",
                 quote_identifier(psprintf("_%s", get_func_name(fcinfo->flinfo->fn_oid))), parameters.text());
    pg::as_superuser([&] {
        pg::with_spi([&] {
            bool read_only = func_volatile(fcinfo->flinfo->fn_oid) != PROVOLATILE_VOLATILE;
            int code = pg::spi_execute_with_args(call, static_cast<int>(values.size()), argument_types.data(),
                                                 values.data(), nulls.data(), read_only, 0);
            if (code < 0) elog(ERROR, "SPI_execute_with_args failed: %s", SPI_result_code_string(code));
            for (uint64 i = 0; i < SPI_processed; i++) receive(pg::Row(i));
        });
    });
}

Datum run_internal(FunctionCallInfo fcinfo, Argument checked, int first) {
    Datum result = 0;
    bool null = true;
    run_internal(fcinfo, checked, first, [&](pg::Row row) {
        result = row.datum(1, &null);
        Form_pg_attribute column = TupleDescAttr(SPI_tuptable->tupdesc, 0);
        if (!null) result = SPI_datumTransfer(result, column->attbyval, column->attlen);
    });
    fcinfo->isnull = null && get_func_rettype(fcinfo->flinfo->fn_oid) != VOIDOID;
    return result;
}

Datum internal_rows(FunctionCallInfo fcinfo, Argument checked, int first) {
    InitMaterializedSRF(fcinfo, 0);
    auto *result = reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo);
    run_internal(fcinfo, checked, first, [&](pg::Row row) { tuplestore_puttuple(result->setResult, row.tuple()); });
    return 0;
}

} // namespace

Datum call_internal(FunctionCallInfo fcinfo, Oid type, Oid checked, int first) {
    Argument argument{type, ObjectIdGetDatum(checked)};
    return fcinfo->flinfo->fn_retset ? internal_rows(fcinfo, argument, first) : run_internal(fcinfo, argument, first);
}

} // namespace rights
