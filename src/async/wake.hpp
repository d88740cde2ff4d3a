// How sessions tell workers that there is something to do. Without shared memory every call is a no-op.
#pragma once
#include "pg/pg.hpp"

namespace async {

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

void before_commit();
void transaction_ended(bool committed);
// While the transaction holds its lock on the sequence, the positions that it drew do not count as decided.
void locks_released();

} // namespace async
