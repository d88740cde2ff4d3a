// How sessions tell workers that there is something to do. Without shared memory every call is a no-op.
#pragma once
#include "pg/pg.hpp"

namespace shared {

// This transaction appended events or logged changes: when it has ended, a worker of this database looks.
void note_work();

// This transaction changed the catalog: when it has committed, workers look, and one is started where there is none.
void announce_work();

// Notes work if the statement, or COPY, writes an event source.
void statement_wrote(const PlannedStmt *statement);
void relation_written(Oid relation);

// Wakes one worker of this database now.
void wake();

// A command that needs a database without sessions: its workers end, and none starts until this transaction has ended.
void before_utility(const Node *command);

// For the transaction's callbacks: what is still to be found out while catalogs can be read, and waking workers.
void before_commit();
void transaction_ended(bool committed);
// Only now are workers woken. Before, they would not yet have been told that their caches are out of date, and the
// positions that the transaction drew would not count as decided while it holds its lock on the sequence.
void locks_released();

} // namespace shared
