// Query projections over events: ranges of positions, folded in memory.
#pragma once
#include "async/slot.hpp"
#include "async/source.hpp"

namespace async {

// Positions are dealt to the slots of a query projection in stripes: sums do not depend on the order of events.
inline constexpr int64 stripe = 8192;

// Applies the slot's events after its position, up to `to` or about limits.events positions further. An event that
// cannot be applied is recorded as a failure and the others go on; what says nothing about events is raised.
Progress apply_query(const Slot &slot, const EventSource &source, int64 to, Limits limits);

// Retries failed events that are due. Returns how many.
int64 retry_query(const Slot &slot, const EventSource &source);

// SELECT of the used columns of events, each with a weight of 1, without a condition.
const char *rows_select(const catalog::Projection &projection, const EventSource &source);

} // namespace async
