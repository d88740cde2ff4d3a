// Conflicting appends, counted although their transactions abort: through shared memory, by a worker.
#pragma once
#include "pg/pg.hpp"

namespace shared {

// Never raises; does nothing without shared memory.
void count_conflict(const char *stream, int length);

// Whether there are conflicts of this database to be written.
bool conflicts_counted();

// Writes them to projections_internal.conflict, in a transaction of its own. Not in a transaction.
void write_conflicts();

// The extension is not there any more.
void forget_conflicts();

} // namespace shared
