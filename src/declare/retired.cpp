// Functions in C that version 0.2.0 had: its script finds them, so that a database can be restored with it and updated.
// Those that read as the caller, or hand out values of unchecked types, refuse now; health, which reads as the owner of
// what it looks at, goes on, but never as somebody else.
#include "rights/reader.hpp"

static void refuse() {
    ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                    errmsg("this function of an older version of pg_projections is not there any more"),
                    errdetail("The library is of version %s, and the SQL objects are older.", PROJECTIONS_VERSION),
                    errhint("ALTER EXTENSION pg_projections UPDATE;")));
}

extern "C" {

PG_FUNCTION_INFO_V1(projections_owner_rows);
Datum projections_owner_rows(PG_FUNCTION_ARGS) {
    refuse();
    PG_RETURN_NULL();
}

PG_FUNCTION_INFO_V1(projections_read_as_owner);
// One value as text, under the caller's snapshot; NULL where the relation is gone or its owner may not read it.
Datum projections_read_as_owner(PG_FUNCTION_ARGS) {
    Oid relation = PG_GETARG_OID(0);
    if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relation))) PG_RETURN_NULL();
    if (!rights::may_read(relation, pg::owner_of(relation))) PG_RETURN_NULL();
    const char *query = text_to_cstring(PG_GETARG_TEXT_PP(1));
    MemoryContext outside = CurrentMemoryContext;
    text *result = nullptr;
    rights::reading_as_owner(relation, [&] {
        pg::with_spi([&] {
            if (SPI_execute(query, true, 1) != SPI_OK_SELECT || SPI_processed == 0) return;
            const char *value = pg::Row().text(1);
            if (value) result = pg::within(outside, [&] { return cstring_to_text(value); });
        });
    });
    if (result == nullptr) PG_RETURN_NULL();
    PG_RETURN_TEXT_P(result);
}

PG_FUNCTION_INFO_V1(projections_resolve);
Datum projections_resolve(PG_FUNCTION_ARGS) {
    refuse();
    PG_RETURN_NULL();
}

} // extern "C"
