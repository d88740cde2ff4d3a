// Validate: what is broken, missing or set so that it cannot work.
//
// The checks are SQL over the catalogs (src/schema: 61_validate_projections.sql, 62_validate.sql), run as a superuser
// for whoever asks, who gets what is about his own projections. Nothing of a user's is called by them: definitions are
// compiled, not run.
#include "catalog/projection.hpp"
#include "declare/declare.hpp"
#include "pg/scope.hpp"
#include "rights/audit.hpp"
#include "rights/caller.hpp"

namespace operate {
namespace {

// The required names that no projection has, as the caller's search_path finds them.
Datum absent_names(ArrayType *required) {
    Datum *names;
    bool *nulls;
    int count, absent = 0;
    deconstruct_array(required, TEXTOID, -1, false, TYPALIGN_INT, &names, &nulls, &count);
    for (int i = 0; i < count; i++) {
        if (nulls[i])
            ereport(ERROR,
                    (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument \"required\" must not hold nulls"),
                     errdetail("Each of its elements is the name of a projection."),
                     errhint("Leave the element out.")));
        Oid relation = rights::relation_by_name(DatumGetTextPP(names[i]));
        catalog::Projection *projection = OidIsValid(relation) ? catalog::projection(relation) : nullptr;
        if (projection == nullptr || OidIsValid(projection->shadow_of)) names[absent++] = names[i];
    }
    return PointerGetDatum(construct_array(names, absent, TEXTOID, -1, false, TYPALIGN_INT));
}

struct Errors {
    StringInfoData list;
    int count = 0;
};

void note_error(Errors &errors, const pg::Row &row) {
    if (strcmp(row.text(1), "ERROR") != 0) return;
    errors.count++;
    appendStringInfo(&errors.list, "%s%s: %s.", errors.list.len ? "\n" : "", row.text(2), row.text(3));
}

} // namespace
} // namespace operate

extern "C" {

PG_FUNCTION_INFO_V1(projections_look);
// f(…) RETURNS TABLE: the rows of projections_internal._f(the caller, …), read as a superuser.
AUDITED(projections_look) {
    InitMaterializedSRF(fcinfo, 0);
    auto *result = reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo);
    const char *name = quote_identifier(psprintf("_%s", get_func_name(fcinfo->flinfo->fn_oid)));
    Oid type = OIDOID;
    Datum caller = ObjectIdGetDatum(GetUserId());
    pg::as_superuser([&] {
        pg::with_spi([&] {
            int code = pg::spi_execute_with_args(psprintf("SELECT * FROM projections_internal.%s($1)", name), 1, &type,
                                                 &caller, nullptr, false, 0);
            if (code < 0) elog(ERROR, "SPI_execute_with_args failed: %s", SPI_result_code_string(code));
            pg::put_rows(result->setResult);
        });
    });
    return 0;
}

PG_FUNCTION_INFO_V1(projections_validate);
Datum projections_validate(PG_FUNCTION_ARGS) {
    InitMaterializedSRF(fcinfo, 0);
    auto *result = reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo);
    Oid types[] = {OIDOID, TEXTARRAYOID};
    Datum absent = PG_ARGISNULL(0) ? PointerGetDatum(construct_empty_array(TEXTOID))
                                   : operate::absent_names(PG_GETARG_ARRAYTYPE_P(0));
    Datum values[] = {ObjectIdGetDatum(GetUserId()), absent};
    operate::Errors errors;
    initStringInfo(&errors.list);
    MemoryContext outside = CurrentMemoryContext;
    pg::as_superuser([&] {
        pg::with_spi([&] {
            // After a restore there is nothing to compare with: what there is now counts from here on.
            if (!XactReadOnly && catalog::is_readable() && catalog::sql_is_current()) {
                pg::spi_execute("SELECT projections_internal._record_relied(u.missing) FROM (SELECT "
                                "pg_catalog.array_agg(u) AS missing "
                                "FROM projections_internal._unrecorded() AS u) AS u WHERE u.missing IS NOT NULL");
                pg::spi_execute("SELECT projections_internal._note_told()");
            }
            int code = pg::spi_execute_with_args("SELECT * FROM projections_internal._validate($1, $2)", 2, types,
                                                 values, nullptr, false, 0);
            if (code < 0) elog(ERROR, "SPI_execute_with_args failed: %s", SPI_result_code_string(code));
            pg::put_rows(result->setResult);
            for (uint64 i = 0; i < SPI_processed; i++)
                pg::within(outside, [&] { operate::note_error(errors, pg::Row(i)); });
        });
    });
    bool raise = !PG_ARGISNULL(1) && PG_GETARG_BOOL(1);
    if (raise && errors.count > 0)
        ereport(ERROR,
                (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                 errmsg_plural("validation found %d error", "validation found %d errors", errors.count, errors.count),
                 errdetail("%s", errors.list.data),
                 errhint("SELECT * FROM projections.validate(); shows each with SQL that mends it.")));
    return 0;
}

} // extern "C"
