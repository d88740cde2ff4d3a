// Brackets around things that must be put back, also when an ERROR passes through.
#pragma once
#include "pg/pg.hpp"

namespace pg {

// Runs `body` as `owner` in a security-restricted operation that row-level security does not filter for the owner.
// An ERROR inside is undone by the (sub)transaction's abort, which restores user and context itself.
template <class Body>
void as_owner(Oid owner, Body &&body) {
    Oid user;
    int context;
    GetUserIdAndSecContext(&user, &context);
    SetUserIdAndSecContext(owner, context | SECURITY_RESTRICTED_OPERATION | SECURITY_NOFORCE_RLS);
    body();
    SetUserIdAndSecContext(user, context);
}

inline Oid owner_of(Oid relation) {
    HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation));
    if (!HeapTupleIsValid(tuple)) elog(ERROR, "cache lookup failed for relation %u", relation);
    Oid owner = reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple))->relowner;
    ReleaseSysCache(tuple);
    return owner;
}

// Runs `body` between SPI_connect and SPI_finish.
template <class Body>
void with_spi(Body &&body) {
    if (SPI_connect() != SPI_OK_CONNECT) elog(ERROR, "SPI_connect failed");
    body();
    SPI_finish();
}

inline void set_locally(const char *name, const char *value) {
    set_config_option(name, value, PGC_SUSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

// Runs `body` with one setting changed; an ERROR inside is undone by the (sub)transaction's abort.
template <class Body>
void with_setting(const char *name, const char *value, Body &&body) {
    int level = NewGUCNestLevel();
    set_locally(name, value);
    body();
    AtEOXact_GUC(true, level);
}

// Runs `body` as the bootstrap superuser: for catalog objects that users may not make themselves. Under a search_path
// in which nobody else can put an operator or a function that fits better than ours. (Test: sql/run.)
template <class Body>
void as_superuser(Body &&body) {
    Oid user;
    int context;
    GetUserIdAndSecContext(&user, &context);
    SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID, context | SECURITY_LOCAL_USERID_CHANGE);
    with_setting("search_path", "pg_catalog, pg_temp", body);
    SetUserIdAndSecContext(user, context);
}

// Runs `body` with `snapshot` active.
template <class Body>
void with_snapshot(Snapshot snapshot, Body &&body) {
    PushActiveSnapshot(snapshot);
    body();
    PopActiveSnapshot();
}

// Prepares a text in the current SPI connection; raises unless SPI reports success.
inline SPIPlanPtr spi_prepare(const char *sql) {
    SPIPlanPtr plan = SPI_prepare(sql, 0, nullptr);
    if (plan == nullptr) elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
    return plan;
}

// How many triggers deep the session is.
inline int trigger_depth() { return DatumGetInt32(DirectFunctionCall1(pg_trigger_depth, 0)); }

// A relation's name, schema-qualified and quoted where needed, in the current memory context.
inline const char *qualified_name(Oid relation) {
    if (get_rel_name(relation) == nullptr) return psprintf("with OID %u, which is gone,", relation);
    return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relation)), get_rel_name(relation));
}

// Executes one command text in the current SPI connection; raises unless SPI reports success.
inline void spi_execute(const char *sql) {
    ereport(DEBUG1, (errmsg_internal("%s", sql), errhidestmt(true)));
    int code = SPI_execute(sql, false, 0);
    if (code < 0) elog(ERROR, "SPI_execute failed: %s", SPI_result_code_string(code));
}

} // namespace pg
