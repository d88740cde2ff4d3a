// Events that wait behind a failed one of the same key.
#pragma once
#include "events/batch.hpp"

namespace events {

inline Datum projection_datum(const Slot &slot) { return ObjectIdGetDatum(slot.projection.relation); }

// A key that is blocked by an event at `position` holds back what comes after it.
void block(Batch &batch, std::string_view key, int64 position);
// The keys of open failures (where those block) and, unless `failures_only`, of parked events.
void load_blocked(Batch &batch, bool failures_only);

// Puts the event away, which may be there already; takes events out that are applied or gone.
void park(const Slot &slot, const Event &event);
void unpark(const Slot &slot, const pg::vector<int64> &positions);

} // namespace events
