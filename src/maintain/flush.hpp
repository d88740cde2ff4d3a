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

// After each statement: inline state machines, so that the statement fails whose event is not allowed, and a savepoint
// around it can take it back (test: sql/state_machines); with pg_projections.flush = statement, all.
void flush_after_statement(bool all);

// Applies what can be applied and appends to change logs, so that who consumes those in this transaction finds it.
void flush_logs();

// Puts the transaction's own changes of a projection where the next snapshot sees them: in its table, or in its change
// log. Whatever recomputes or compares rows under a snapshot calls it before it takes that snapshot; else those changes
// are in what it reads, and are added once more. Raises 55006, "cannot ACTION projection …", where that cannot be done,
// for a statement is writing its sources, or the projection itself is being written. (test: sql/savepoints)
void settle(catalog::Projection &projection, const char *action);

// Applies events that were kept for a reducer or a state machine; set by the module.
using ApplyQueued = void (*)(catalog::Projection &projection, Tuplestorestate *events, TupleDesc desc);
extern ApplyQueued apply_queued;

// Is told that a flush of a projection has ended, and with which error; set by the module. Never raises.
using FlushEnded = void (*)(Oid projection, const ErrorData *error);
extern FlushEnded flush_ended;

// Told of an inline projection that was read again as a whole. Set by the module.
using Refreshed = void (*)(Oid projection, TimestampTz began);
extern Refreshed refreshed;

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
