// What fails as a whole, and when it is tried again. Shared memory has it for all workers of the database.
#pragma once
#include "workers/worker.hpp"

namespace workers {

// What may fail beside the batches of slots.
constexpr events::Work finding{InvalidOid, -1}, cleaning{InvalidOid, -2}, counting{InvalidOid, -3},
    measuring{InvalidOid, -4}, auditing{InvalidOid, -5}, scrubbing{InvalidOid, -9};

// A conflict with another transaction says nothing about the projection.
bool transient(int sqlstate);

// Records and logs it, unless it is a conflict and there were not many in a row. Returns when to try again.
TimestampTz after_failure(events::Work work, const ErrorData *error, int conflicts = 0);

// Whether it failed and is not to be tried again yet.
bool put_off(events::Work work);

} // namespace workers
