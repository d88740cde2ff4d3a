// Writes a block's changes into its table. The only writer of projections.
#pragma once
#include "maintain/changes.hpp"

namespace maintain {

// How a recomputation reads the definition.
struct Recompute {
    Snapshot snapshot = nullptr;          // null: a new one, compared with the transaction's own where that is kept
    const char *rows = nullptr;           // of the single source, as for additions_text; null: all
    CommandId command = InvalidCommandId; // as in Taken
};

// As the owner.
void apply_fold(Taken &taken);
// As the owner, inside with_statements().
void apply_images(Taken &taken);
// What was logged: computes its changes and applies them; inside with_statements().
void apply_logged(Taken &taken);
// Replaces all rows by what the definition gives now.
void refill(Taken &taken);
// Locks the rows of the given keys that are there, in the order given.
void lock_rows(catalog::Projection &projection, Tuplestorestate *keys, TupleDesc desc);
// Recomputes keys whose rows are locked. Returns the rows written.
int64 apply_recomputed(catalog::Projection &projection, MemoryContext memory, Tuplestorestate *keys, TupleDesc desc,
                       Recompute how = {});

} // namespace maintain
