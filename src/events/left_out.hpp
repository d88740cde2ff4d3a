// Which events of a projection do not count.
//
// Two tables of ours tell. A row of `failure` is an event that could not be applied: open until somebody retries, skips
// or resolves it, and due when a retry is. Skipped and resolved by hand, it is decided: left out for good, by replays,
// too. A row of `parked_event` waits behind an open failure of one of its keys. So what a projection lacks of the
// events up to its checkpoints, its left out events, are those that are still to come (open or parked) and those
// decided.
//
// Each rule is one text, which everybody uses who asks, joins or copies. In them, `projection` is SQL: an OID, or a
// parameter.
#pragma once
#include "events/slot.hpp"

namespace events {

// Conditions over a row of `failure`.
constexpr const char *open_failure = "resolved_at IS NULL";
constexpr const char *due_failure = "coalesce(next_retry_at <= pg_catalog.clock_timestamp(), false)"; // if open
constexpr const char *decided_failure = "resolution IN ('skipped', 'resolved')";

// Relations, in parentheses: (slot, position, keys, parked, sqlstate, error) of the events that are still to come, the
// last two of failures only; (position) of those that are left out.
const char *still_to_come(const char *projection);
const char *left_out(const char *projection);

// The positions of events in [from, to] that are left out, ascending; as a snapshot has them or, without one, as they
// are now, which may be old where the slots are not locked.
pg::vector<int64> left_out_positions(Oid projection, Snapshot snapshot = InvalidSnapshot, int64 from = PG_INT64_MIN,
                                     int64 to = PG_INT64_MAX);

// The positions in (after, to] that are decided, ascending: whoever applies the range again passes them, too.
pg::vector<int64> decided_positions(Oid projection, int64 after, int64 to);

// Whether a position is among some, which are ascending.
bool contains(const pg::vector<int64> &positions, int64 position);

// The positions of a slot's failures that are due, ascending, within reason. `stops`: not those that it has stopped
// before, which are tried again in their place.
pg::vector<int64> due_failures(const Slot &slot, bool stops);

// Whose a row of either table is: the slot's or, of a slot that there is no more, the first one's. A condition over two
// parameters, the slot's number and how many there are.
const char *of_slot(const char *number, const char *slots);

} // namespace events
