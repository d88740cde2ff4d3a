// Events one by one: handlers, reducers and state machines.
#pragma once
#include "async/slot.hpp"

namespace async {

// Applies the slot's events after its position and up to `to`, in order, as limits say. Failing events are recorded,
// events behind them parked. Returns what it did; position is how far it came (`to` where nothing is left).
Progress apply_events(const Slot &slot, int64 to, Limits limits);

// Retries the slot's failures that are due, and applies what was parked behind those that succeed. Returns how many
// events.
int64 retry_due(const Slot &slot);

// An inline projection's: one new event, in the writer's transaction. Raises what the handler or reducer raises.
void apply_inline(catalog::Projection &projection, TupleTableSlot *event);

} // namespace async
