// Absolute recomputation of keys, in step with what has been applied.
#pragma once
#include "events/slot.hpp"

namespace events {

// Recomputes the rows of the given keys (a tuplestore of key columns) as of the checkpoint, which moves up to now:
// events that are decided, or logged changes, are applied first. Failed, skipped and resolved events are left out.
// Inline projections are recomputed from the sources. Returns the rows written. Holds all slots to the end of the
// transaction.
int64 refresh_keys(catalog::Projection &projection, Tuplestorestate *keys, TupleDesc desc);

// The same for the rows that events of positions in [from, to] belong to; a query projection over events.
int64 recompute_events(catalog::Projection &projection, int64 from, int64 to);

} // namespace events
