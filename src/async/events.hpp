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

// Applies the slot's parked events that nothing holds back (any more), in order. Returns how many.
int64 apply_unblocked(const Slot &slot);

// Tries one failure again, whether due or not, and what was parked behind it. Returns whether it is resolved.
bool retry_now(const Slot &slot, int64 position);

// A new inline projection's: all events there are. Raises what the handler or reducer raises.
int64 apply_history(catalog::Projection &projection);

// An inline projection's: one new event, in the writer's transaction. Raises what the handler or reducer raises.
void apply_inline(catalog::Projection &projection, TupleTableSlot *event);

} // namespace async
