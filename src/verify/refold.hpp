// Reducers and state machines, folded again from the first event.
#pragma once
#include "catalog/projection.hpp"

namespace verify {

// Computes the keys that the events of positions in [from, to] touch anew, each up to its slot's checkpoint. The slots
// are locked. Returns how many keys. Raises what the reducer raises.
int64 refold(catalog::Projection &projection, int64 from, int64 to);

// The same for keys by name (text), whatever events they have had; a key without any loses its row. Of an
// inline projection, whose writers are held off, all events count. Returns how many keys.
int64 refold_keys(catalog::Projection &projection, std::span<const Datum> keys);

// Keys of an inline reducer or state machine that have come further than `lowest`, a position of this transaction's:
// folded anew. Their locks are held.
void refold_late(catalog::Projection &projection, std::span<const Datum> keys, int64 lowest);

// Calls a handler again for its events of positions in [from, to], as far as its slots have come. The slots are locked.
// Returns how many events. Raises what the handler raises.
int64 repeat(catalog::Projection &projection, int64 from, int64 to);

// The row of a key as it will be when all events that are there now are folded, as JSON in the current memory context;
// false where there is none. Writes nothing.
bool fold_ahead(catalog::Projection &projection, Datum key, Datum *row);

} // namespace verify
