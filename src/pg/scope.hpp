// Brackets around things that must be put back, also when an ERROR passes through.
#pragma once
#include "pg/own_schema.hpp"
#include "pg/pg.hpp"
#include "pg/result.hpp"

namespace pg {

// Runs `body` as `user` in a security-restricted operation, and at a level of settings that is rolled back, as core
// does for REFRESH and index builds: what the code in it SETs would else go on in the session of whoever made it run,
// and RESET ROLE would lead to the session's user. (Tests: sql/rights_writers, sql/rights_declare.) An ERROR inside is
// undone by the (sub)transaction's abort, which restores user, context and settings itself.
template <class Body>
void restricted_as(Oid as, int also, Body &&body) {
    Oid user;
    int context;
    GetUserIdAndSecContext(&user, &context);
    SetUserIdAndSecContext(as, context | SECURITY_RESTRICTED_OPERATION | also);
    int level = NewGUCNestLevel();
    body();
    AtEOXact_GUC(false, level);
    SetUserIdAndSecContext(user, context);
}

// As the owner of a projection or table, whom row-level security does not filter there.
template <class Body>
void as_owner(Oid owner, Body &&body) {
    restricted_as(owner, SECURITY_NOFORCE_RLS, body);
}

// As the caller, around what others wrote and he only names.
template <class Body>
void as_caller_restricted(Body &&body) {
    restricted_as(GetUserId(), 0, body);
}

// Of a relation, which there is.
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

// Until the current level of settings ends, whoever may set it.
inline void set_locally(const char *name, const char *value) {
    set_config_option(name, value, PGC_SUSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

// Runs `body` with one setting changed. Nothing that it SETs survives, either. An ERROR inside is undone by the
// (sub)transaction's abort.
template <class Body>
void with_setting(const char *name, const char *value, Body &&body) {
    int level = NewGUCNestLevel();
    set_locally(name, value);
    body();
    AtEOXact_GUC(false, level);
}

// Runs `body`, which makes SQL text or parses what was made so, under settings in which a text means the same in every
// session: names outside pg_catalog are qualified, strings have no escapes, values keep all their digits.
template <class Body>
void with_plain_text(Body &&body) {
    static constexpr const char *plain[][2] = {{"search_path", "pg_catalog"},
                                               {"standard_conforming_strings", "on"},
                                               {"quote_all_identifiers", "off"},
                                               {"transform_null_equals", "off"},
                                               {"array_nulls", "on"},
                                               {"DateStyle", "ISO, YMD"},
                                               {"IntervalStyle", "postgres"},
                                               {"extra_float_digits", "3"},
                                               {"bytea_output", "hex"}};
    int level = NewGUCNestLevel();
    for (const auto &setting : plain) {
        const char *now = GetConfigOption(setting[0], true, false);
        if (now == nullptr || strcmp(now, setting[1]) != 0) set_locally(setting[0], setting[1]);
    }
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

// Runs `body` in a subtransaction, and undoes all that it did to the database: no lock of it stays.
template <class Body>
void undoing(Body &&body) {
    MemoryContext before = CurrentMemoryContext;
    ResourceOwner owner = CurrentResourceOwner;
    ErrorData *volatile error = nullptr;
    BeginInternalSubTransaction(nullptr);
    MemoryContextSwitchTo(before); // what is reported outlives it
    PG_TRY();
    { body(); }
    PG_CATCH();
    {
        MemoryContextSwitchTo(before);
        error = CopyErrorData();
        FlushErrorState();
    }
    PG_END_TRY();
    RollbackAndReleaseCurrentSubTransaction();
    MemoryContextSwitchTo(before);
    CurrentResourceOwner = owner;
    if (error) pg::rethrow(error);
}

// Runs `body` in a subtransaction. Returns null, or the error after the subtransaction is rolled back, in the memory
// context that is current at the call; `before_undoing` runs first then.
template <class Body, class Before>
ErrorData *attempt(Body &&body, Before &&before_undoing) {
    MemoryContext memory = CurrentMemoryContext;
    ResourceOwner owner = CurrentResourceOwner;
    ErrorData *volatile error = nullptr;
    BeginInternalSubTransaction(nullptr);
    MemoryContextSwitchTo(memory);
    PG_TRY();
    {
        body();
        ReleaseCurrentSubTransaction();
    }
    PG_CATCH();
    {
        before_undoing();
        MemoryContextSwitchTo(memory);
        error = CopyErrorData();
        FlushErrorState();
        RollbackAndReleaseCurrentSubTransaction();
    }
    PG_END_TRY();
    MemoryContextSwitchTo(memory);
    CurrentResourceOwner = owner;
    return error;
}

// Runs `body` with `snapshot` active.
template <class Body>
void with_snapshot(Snapshot snapshot, Body &&body) {
    PushActiveSnapshot(snapshot);
    body();
    PopActiveSnapshot();
}

// What SPI does with a text, for texts that name what is ours.
inline int spi_execute(const char *sql, bool read_only, long count) {
    return SPI_execute(placed(sql), read_only, count);
}

inline int spi_execute_with_args(const char *sql, int count, const Oid *types, const Datum *values, const char *nulls,
                                 bool read_only, long limit) {
    return SPI_execute_with_args(placed(sql), count, const_cast<Oid *>(types), const_cast<Datum *>(values), nulls,
                                 read_only, limit);
}

inline SPIPlanPtr spi_prepare(const char *sql, int count, Oid *types) { return SPI_prepare(placed(sql), count, types); }

inline SPIPlanPtr spi_prepare_cursor(const char *sql, int count, Oid *types, int options) {
    return SPI_prepare_cursor(placed(sql), count, types, options);
}

// Prepares a text in the current SPI connection; raises unless SPI reports success.
inline SPIPlanPtr spi_prepare(const char *sql) {
    SPIPlanPtr plan = spi_prepare(sql, 0, nullptr);
    if (plan == nullptr) elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
    return plan;
}

// Executes a query that only reads, in the current SPI connection, under a snapshot. At most `count` rows; 0: all.
inline void spi_execute_under(Snapshot snapshot, const char *sql, long count = 0, int arguments = 0,
                              Oid *types = nullptr, Datum *values = nullptr, const char *nulls = nullptr) {
    SPIPlanPtr plan = spi_prepare(sql, arguments, types);
    if (plan == nullptr) elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
    int code = SPI_execute_snapshot(plan, values, nulls, snapshot, InvalidSnapshot, true, false, count);
    if (code < 0) elog(ERROR, "SPI_execute_snapshot failed: %s", SPI_result_code_string(code));
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
    int code = spi_execute(sql, false, 0);
    if (code < 0) elog(ERROR, "SPI_execute failed: %s", SPI_result_code_string(code));
}

} // namespace pg
