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
// The same by chains, after find_chains(); as the owner, outside with_statements().
void apply_chained(Taken &taken);
// Replaces all rows by what the definition gives now.
void refill(Taken &taken);
// What a fold's keys are about, read again. As the owner.
void apply_slices(Taken &taken);
// The same of slices of rows, for given keys, which may be there more than once. Returns the rows written.
int64 recompute_slices(catalog::Projection &projection, Tuplestorestate *keys, TupleDesc desc, const Recompute &how);
// Of slices: keeps other writers of the keys away, whether there are rows of them or not. Before what is read.
void lock_slices(catalog::Projection &projection, Tuplestorestate *keys, TupleDesc desc);
// The keys of rows, as columns k0… and their number; and one of them.
TupleDesc affected_desc(const compile::Block &block);
void put_key(Tuplestorestate *store, TupleDesc desc, const Datum *keys, const bool *key_nulls, int64 ordinal);
// The keys, which come first in the columns `from`, apart by which of them are NULL: as `to`, of affected_desc(), has
// them, each with its place among its like. One pass of a recomputation each.
pg::flat_map<NullMask, Tuplestorestate *> by_null_pattern(Tuplestorestate *keys, TupleDesc from, TupleDesc to);
// Locks the rows of the given keys that are there, in the order given.
void lock_rows(catalog::Projection &projection, Tuplestorestate *keys, TupleDesc desc);
// Recomputes keys whose rows are locked. Returns the rows written.
int64 apply_recomputed(catalog::Projection &projection, MemoryContext memory, Tuplestorestate *keys, TupleDesc desc,
                       Recompute how = {});

} // namespace maintain
