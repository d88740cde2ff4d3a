// Who may register a table as an event source. The catalog and the table of arrivals belong to the extension, so a
// superuser writes them, after the caller's right is checked here; SECURITY DEFINER would hide who the caller is.
#include "pg/scope.hpp"
#include "rights/audit.hpp"
#include "rights/caller.hpp"
#include "rights/reader.hpp"

namespace operate {
namespace {

Oid owned_table(FunctionCallInfo fcinfo) {
    if (PG_ARGISNULL(0))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument \"source\" must not be null"),
                        errhint("Give the name of a table.")));
    RangeVar *name = makeRangeVarFromNameList(textToQualifiedNameList(PG_GETARG_TEXT_PP(0)));
    Oid relation = RangeVarGetRelid(name, AccessShareLock, false);
    if (!pg::owns_relation(relation, GetUserId()))
        ereport(ERROR,
                (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("must be owner of %s", pg::qualified_name(relation)),
                 errdetail("A table's owner decides what reads its rows as events."),
                 errhint("Have the owner, or a member of its role, do it.")));
    return relation;
}

// Calls the internal function of the same arguments, the first of which is the table.
void call(const char *text, FunctionCallInfo fcinfo, std::span<Oid> types) {
    constexpr int most = 10;
    Datum values[most];
    char nulls[most];
    values[0] = ObjectIdGetDatum(owned_table(fcinfo));
    nulls[0] = ' ';
    for (std::size_t i = 1; i < types.size(); i++) {
        values[i] = fcinfo->args[i].value;
        nulls[i] = PG_ARGISNULL(i) ? 'n' : ' ';
    }
    pg::as_superuser([&] {
        pg::with_spi([&] {
            int code =
                pg::spi_execute_with_args(text, static_cast<int>(types.size()), types.data(), values, nulls, false, 0);
            if (code < 0) elog(ERROR, "SPI_execute_with_args failed: %s", SPI_result_code_string(code));
        });
    });
}

} // namespace
} // namespace operate

extern "C" {

PG_FUNCTION_INFO_V1(projections_register_source);
AUDITED(projections_register_source) {
    Oid types[] = {REGCLASSOID, NAMEOID, NAMEOID, NAMEOID, NAMEOID, NAMEOID, NAMEOID, NAMEOID, TEXTOID, TEXTOID};
    operate::call("SELECT projections_internal._register_source($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)", fcinfo,
                  types);
    PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(projections_unregister_source);
AUDITED(projections_unregister_source) {
    Oid types[] = {REGCLASSOID};
    operate::call("SELECT projections_internal._unregister_source($1)", fcinfo, types);
    PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(projections_archive_events);
AUDITED(projections_archive_events) {
    Oid source = rights::named_relation(fcinfo, 0);
    rights::require_readable(source);
    return rights::call_internal(fcinfo, REGCLASSOID, source, 1);
}

} // extern "C"
