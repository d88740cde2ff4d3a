// Flush: brings projections up to date with what the transaction changed.
#pragma once
#include "maintain/apply.hpp"

namespace maintain {

// At commit (or prepare): applies everything, until triggers on projections change nothing more.
void flush_at_commit();

// Before a statement reads `relations`: applies what they and the projections above them lack. Blocks whose sources are
// half-written wait. Returns whether anything was applied.
bool flush_for_read(std::span<const Oid> relations);
// The same for every projection: where it is not known what will be read.
bool flush_for_any_read();

// Applies what can be applied and appends to change logs, so that who consumes those in this transaction finds it.
void flush_logs();

// Within a statement, when a delta grows over its memory.
void flush_early(Oid projection);

// Recomputes groups or rows by key from the sources, in `affected` (a tuplestore of keys). Returns the rows written.
int64 recompute_keys(catalog::Projection &projection, Tuplestorestate *keys, TupleDesc desc, Recompute how = {});

// Whether the row that a trigger sees is being written by maintenance itself, not by a user's trigger within it.
bool writing(Oid projection, int trigger_depth);

// A rebuild that swapped the table's file wrote rows which the transaction's snapshot does not see: removals would find
// nothing to remove. That, like any DDL on the table, shows in its row of pg_class. Raises 40001 then.
void refuse_swapped(Oid relation);

} // namespace maintain
