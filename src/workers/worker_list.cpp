// What SQL shows of the workers, and the functions by which SQL reaches them.
#include "events/problem.hpp"
#include "pg/scope.hpp"
#include "shared/conflict.hpp"
#include "shared/memory.hpp"
#include "workers/background.hpp"

namespace workers {

using namespace shared;

namespace {

const char *state_of(Worker &worker, TimestampTz now) {
    if (phase_of(worker) == Phase::starting) return "starting";
    if (!OidIsValid(worker.projection)) return "idle";
    return batch_milliseconds(worker, now) > stuck_after ? "stuck" : "working";
}

// Error texts may show data: they are for the projection's owner and for who may read everything.
bool may_read_errors(Oid projection) {
    return has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_DATA) ||
           (OidIsValid(projection) && pg::owns_relation(projection, GetUserId()));
}

// Of the worker that process `pid` is, what it works on here; false if it is none.
bool working_on(pid_t pid, Oid *projection) {
    return with_shared(LW_SHARED, [&] {
        for (Worker &worker : shared::memory->all())
            if (phase_of(worker) != Phase::free && worker.pid == pid) {
                *projection = serves(worker, MyDatabaseId) ? worker.projection : InvalidOid;
                return true;
            }
        return false;
    });
}

} // namespace

Oid restart_worker(pid_t pid) {
    Oid projection = InvalidOid;
    if (shared::memory == nullptr || !working_on(pid, &projection))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("process %d is not a worker", pid),
                        errdetail("It has ended, or is a process of another kind."),
                        errhint("SELECT * FROM projections.workers;")));
    if (!has_privs_of_role(GetUserId(), ROLE_PG_SIGNAL_BACKEND) &&
        !(OidIsValid(projection) && pg::owns_relation(projection, GetUserId())))
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("permission denied to restart a worker"),
                        errdetail("It takes a member of pg_signal_backend, or the owner of the projection that the "
                                  "worker works on."),
                        errhint("Ask one of them.")));
    // Looked up again under the lock, where it cannot end and its number be reused.
    with_shared(LW_EXCLUSIVE, [&] {
        for (Worker &worker : shared::memory->all())
            if (phase_of(worker) != Phase::free && worker.pid == pid) kill(pid, SIGTERM);
    });
    return projection;
}

} // namespace workers

extern "C" {

using namespace workers;

PG_FUNCTION_INFO_V1(projections_worker_list);
PG_FUNCTION_INFO_V1(projections_worker_problems);
PG_FUNCTION_INFO_V1(projections_workers_available);
PG_FUNCTION_INFO_V1(projections_worker_problem);
PG_FUNCTION_INFO_V1(projections_count_conflict);

// pid, database, state, projection, slot, since, events, batch_events
Datum projections_worker_list(PG_FUNCTION_ARGS) {
    InitMaterializedSRF(fcinfo, 0);
    if (shared::memory == nullptr) PG_RETURN_NULL();
    auto *result = reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo);
    // Copied, as rows cannot be made under the lock.
    auto *copy = static_cast<Worker *>(palloc(sizeof(Worker) * shared::memory->worker_count));
    with_shared(LW_SHARED, [&] {
        memcpy(static_cast<void *>(copy), shared::memory->workers, sizeof(Worker) * shared::memory->worker_count);
    });
    TimestampTz now = GetCurrentTimestamp();
    for (Worker &worker : std::span(copy, shared::memory->worker_count)) {
        if (phase_of(worker) == Phase::free) continue;
        bool between = !OidIsValid(worker.projection);
        Datum values[] = {Int32GetDatum(worker.pid),
                          ObjectIdGetDatum(pg_atomic_read_u32(&worker.database)),
                          CStringGetTextDatum(state_of(worker, now)),
                          ObjectIdGetDatum(worker.projection),
                          Int32GetDatum(worker.slot),
                          TimestampTzGetDatum(worker.since),
                          Int64GetDatum(worker.events),
                          Int64GetDatum(worker.limit)};
        bool nulls[] = {worker.pid == 0, false, false, between, between, false, false, between};
        tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
    }
    PG_RETURN_NULL();
}

// projection, slot, since, failed_at, next_retry_at, failures, sqlstate, message; of this database
Datum projections_worker_problems(PG_FUNCTION_ARGS) {
    InitMaterializedSRF(fcinfo, 0);
    auto *result = reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo);
    for (const Problem &problem : events::all_problems()) {
        if (problem.database != MyDatabaseId) continue;
        bool general = !OidIsValid(problem.projection);
        Datum values[] = {ObjectIdGetDatum(problem.projection),
                          Int32GetDatum(problem.slot),
                          TimestampTzGetDatum(problem.since),
                          TimestampTzGetDatum(problem.last),
                          TimestampTzGetDatum(problem.retry),
                          Int32GetDatum(problem.failures),
                          CStringGetTextDatum(unpack_sql_state(problem.sqlstate)),
                          CStringGetTextDatum(problem.message)};
        bool nulls[] = {general, general, false, false, false, false, false, !may_read_errors(problem.projection)};
        tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
    }
    PG_RETURN_NULL();
}

Datum projections_workers_available(PG_FUNCTION_ARGS) {
    const char *hint;
    PG_RETURN_BOOL(no_workers_because(&hint) == nullptr);
}

Datum projections_worker_problem(PG_FUNCTION_ARGS) {
    const char *hint;
    const char *reason = no_workers_because(&hint);
    if (reason == nullptr) PG_RETURN_NULL();
    PG_RETURN_TEXT_P(cstring_to_text(hint ? psprintf("%s %s", reason, hint) : reason));
}

Datum projections_count_conflict(PG_FUNCTION_ARGS) {
    text *stream = PG_GETARG_TEXT_PP(0);
    count_conflict(VARDATA_ANY(stream), VARSIZE_ANY_EXHDR(stream));
    PG_RETURN_VOID();
}

} // extern "C"
