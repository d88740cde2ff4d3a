// What keeps projections from being brought up to date: the last batch of a slot, or the last flush, failed as a whole.
// Told by health(). It is noted outside of the transaction, which is rolled back: in shared memory, or without that for
// the session alone.
#pragma once
#include "events/slot.hpp"
#include "shared/memory.hpp"

namespace events {

constexpr int flush_slot = -1; // of a flush

// Notes the failure, and returns when a worker tries again: of one database, the pause holds for all workers.
TimestampTz record_problem(Work work, const ErrorData *error);
void forget_problem(Work work);
// Until when workers leave the slot alone; 0: not at all.
TimestampTz put_off_until(Work work);
// Under the lock; null: there is none.
shared::Problem *find_problem(Work work);
// All there are, in the current memory context.
std::span<const shared::Problem> all_problems();

// A flush has ended, with this error or without one. What the writer, his data or the environment are to blame for is
// not noted: violated constraints, values out of range, conflicts, full disks.
void flush_ended(Oid projection, const ErrorData *error);

// The same for a batch by hand.
void batch_ended(Oid projection, int slot, const ErrorData *error);

} // namespace events
