// What is transient is tried again at once, some times; else after a pause that doubles.
#include "workers/problems.hpp"

#include "events/problem.hpp"

namespace workers {

// A conflict that does not go away is told: somebody holds a lock, or an event raises it every time.
constexpr int conflicts_to_tell = 20;

bool put_off(events::Work work) { return events::put_off_until(work) > GetCurrentTimestamp(); }

bool transient(int sqlstate) {
    return sqlstate == ERRCODE_T_R_SERIALIZATION_FAILURE || sqlstate == ERRCODE_T_R_DEADLOCK_DETECTED ||
           sqlstate == ERRCODE_LOCK_NOT_AVAILABLE;
}

TimestampTz after_failure(events::Work work, const ErrorData *error, int conflicts) {
    if (yielding && error->sqlerrcode == ERRCODE_QUERY_CANCELED) return GetCurrentTimestamp();
    if (transient(error->sqlerrcode) && conflicts < conflicts_to_tell)
        return after(GetCurrentTimestamp(), pg_prng_uint64_range(&pg_global_prng_state, 5, 50));
    TimestampTz retry = events::record_problem(work, error);
    ereport(LOG,
            (errcode(error->sqlerrcode),
             errmsg("pg_projections: %s failed: %s", said()[0] ? said() : "looking for work",
                    error->message ? error->message : "no message"),
             error->detail ? errdetail_internal("%s", error->detail) : 0, error->hint ? errhint("%s", error->hint) : 0,
             error->context ? errcontext("%s", error->context) : 0, errhidestmt(true)));
    return retry;
}

} // namespace workers
