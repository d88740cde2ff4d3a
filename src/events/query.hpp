// Query projections over events: ranges of positions, folded in memory.
#pragma once
#include "events/slot.hpp"
#include "events/source.hpp"

namespace events {

// Positions are dealt to the slots of a query projection in stripes of 8192: sums do not depend on the order of events.
// The slot of a position, as SQL, whatever the search_path, over an expression of type bigint. SQL says the same in
// _stripe_of().
const char *stripe_text(const char *position, const char *slots);

// Applies the slot's events after its position, up to `to` or about limits.events positions further. An event that
// cannot be applied is recorded as a failure and the others go on; what says nothing about events is raised.
Progress apply_query(const Slot &slot, const EventSource &source, int64 to, Limits limits);

// Retries failed events that are due. Returns how many.
int64 retry_query(const Slot &slot, const EventSource &source);

// SELECT of the used columns of events, each with a weight of 1, without a condition.
const char *rows_select(const catalog::Projection &projection, const EventSource &source);

} // namespace events
