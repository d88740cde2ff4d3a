// A list in shared memory, until a worker has written it.
#include "shared/failed_call.hpp"

#include "pg/scope.hpp"
#include "shared/memory.hpp"
#include "shared/wake.hpp"

namespace shared {
namespace {

bool ours(const Call &call) { return call.database == MyDatabaseId; }

Datum name_or_null(const char *name, char *null) {
    *null = name[0] == '\0' ? 'n' : ' ';
    return CStringGetTextDatum(name);
}

// How many failed without a place of their own, told by the first that is written after them.
const char *with_lost(const Call &call, int64 lost) {
    return lost == 0
               ? call.message
               : psprintf("%s (" INT64_FORMAT " more calls have failed that nothing is kept of)", call.message, lost);
}

} // namespace

void insert_call(const Call &call, const char *arguments, bool failed) {
    Oid types[] = {TIMESTAMPTZOID, FLOAT8OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID};
    char nulls[] = "          ";
    Datum values[] = {TimestampTzGetDatum(call.started),
                      Float8GetDatum(static_cast<double>(call.duration) / 1e6),
                      CStringGetTextDatum(call.login),
                      CStringGetTextDatum(call.role),
                      CStringGetTextDatum(call.operation),
                      name_or_null(call.projection, &nulls[5]),
                      name_or_null(call.owner, &nulls[6]),
                      CStringGetTextDatum(arguments),
                      failed ? CStringGetTextDatum(unpack_sql_state(call.sqlstate)) : 0,
                      failed ? CStringGetTextDatum(call.message) : 0};
    if (!failed) nulls[8] = nulls[9] = 'n';
    pg::with_spi([&] {
        int code = pg::spi_execute_with_args(
            "INSERT INTO projections_internal.audit (started_at, duration, login, role, operation, projection, owner, "
            "arguments, sqlstate, error) VALUES ($1, pg_catalog.make_interval(secs => $2), $3, $4, $5, $6, $7, "
            "$8::pg_catalog.jsonb, $9, $10)",
            lengthof(types), types, values, nulls, false, 0);
        if (code != SPI_OK_INSERT) elog(ERROR, "SPI_execute failed: %s", SPI_result_code_string(code));
    });
}

void note_failed_call(Call &call) {
    // The error may have been raised under the lock.
    if (memory == nullptr || LWLockHeldByMe(memory->lock)) return;
    call.database = MyDatabaseId;
    call.caller = GetSessionUserId();
    with_shared(LW_EXCLUSIVE, [&] {
        Call *place = place_in(memory->failed_calls, &Call::caller, &Call::started);
        memory->lost_calls += OidIsValid(place->database);
        *place = call;
        call_for_worker(MyDatabaseId);
    });
    wake();
}

bool failed_calls_noted() {
    return with_shared(
        LW_SHARED, [] { return std::any_of(std::begin(memory->failed_calls), std::end(memory->failed_calls), ours); });
}

void forget_failed_calls() {
    with_shared(LW_EXCLUSIVE, [] {
        for (Call &each : memory->failed_calls)
            if (ours(each)) each.database = InvalidOid;
    });
}

// What is taken is lost if the transaction fails, as it would fail again and again: a table that somebody has altered
// must not keep the worker from its work.
void write_failed_calls() {
    auto *taken = static_cast<Call *>(palloc(sizeof memory->failed_calls));
    int64 lost = 0;
    int count = with_shared(LW_EXCLUSIVE, [&] {
        int n = 0;
        for (Call &each : memory->failed_calls)
            if (ours(each)) {
                taken[n++] = each;
                each.database = InvalidOid;
            }
        if (n > 0) lost = std::exchange(memory->lost_calls, 0);
        return n;
    });
    if (count == 0) return;
    StartTransactionCommand();
    pg::with_snapshot(GetTransactionSnapshot(), [&] {
        for (int i = 0; i < count; i++) {
            strlcpy(taken[i].message, with_lost(taken[i], i == 0 ? lost : 0), sizeof taken[i].message);
            insert_call(taken[i], taken[i].arguments, true);
        }
    });
    CommitTransactionCommand();
}

} // namespace shared
