// Events one by one: handlers, reducers and state machines.
#pragma once
#include "events/slot.hpp"

namespace events {

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

// An inline projection's: one new event, in the writer's transaction. A handler is called, and what it raises is
// raised; for a reducer or a state machine the event is kept for the flush.
void apply_inline(catalog::Projection &projection, TupleTableSlot *event);
// One that is deleted may come back, and is not new then.
void note_removed(catalog::Projection &projection, TupleTableSlot *event);

// At the flush: rows of the source, as `desc` has them. Raises what the reducer raises.
void apply_queued(catalog::Projection &projection, Tuplestorestate *rows, TupleDesc desc);

// Folds keys anew that have come further than an event; set by the module.
using Refold = void (*)(catalog::Projection &projection, std::span<const Datum> keys, int64 lowest);
extern Refold refold_late;

} // namespace events
