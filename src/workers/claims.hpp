// Who takes which slot: claims in shared memory keep workers from queueing for one, and the slow from taking all.
#pragma once
#include "workers/worker.hpp"

namespace workers {

// How many workers apply events to projections of the owner. Under the lock, or where an error is harmless.
int held_by(Oid owner);

// Takes the slot for the next batch, not before `not_before`. If not, *again is lowered to the milliseconds after which
// it may be possible.
bool claim(events::Work work, TimestampTz not_before, int64 limit, long *again);
void end_claim(const events::Work &work, int64 events, int64 milliseconds);

inline constexpr int64 remember_at_most = 600 * 1000; // milliseconds
// A batch of the projection was slow, and took so long. Under the lock.
void mark_slow(const events::Work &work, TimestampTz now, int64 milliseconds);

// The handler of yield_timeout.
void yield_if_all_are_slow();

// Whether another worker has to be told that there is more than this one takes; at most one is.
bool anything_unclaimed(std::span<events::Work> rest);
void call_for_company();

} // namespace workers
