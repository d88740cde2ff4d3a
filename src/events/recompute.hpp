// Absolute recomputation of keys, in step with what has been applied.
#pragma once
#include "events/slot.hpp"

namespace events {

// Recomputes the rows of the given keys (a tuplestore of key columns) as of the checkpoint, which moves up to now:
// events that are decided, or logged changes, are applied first. Failed, skipped and resolved events are left out.
// Inline projections are recomputed from the sources. Returns the rows written. Holds all slots to the end of the
// transaction.
int64 refresh_keys(catalog::Projection &projection, Tuplestorestate *keys, TupleDesc desc);

// Keys, each once and in the order in which writers lock them; in the current memory context.
struct Keys {
    Tuplestorestate *rows;
    TupleDesc desc;
};

// Finds keys in what a snapshot sees, with the rows of the source that count as compile::definition_text takes them;
// null: all rows of all sources.
using FindKeys = Keys (*)(catalog::Projection &projection, Snapshot snapshot, const char *rows, void *context);

// The same for keys that are found once all that is to be applied is applied, under the snapshot that they are
// recomputed as of; of an inline projection, a new one.
int64 refresh_found(catalog::Projection &projection, FindKeys find, void *context);

// The same for the rows that events of positions in [from, to] belong to; a query projection over events.
int64 recompute_events(catalog::Projection &projection, int64 from, int64 to);

} // namespace events
