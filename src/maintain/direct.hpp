// The short way to add a delta to a group's row: by the table and index access methods, without a plan.
#pragma once
#include "maintain/changes.hpp"

namespace maintain {

// Open for the apply of one fold; null where the table needs what only the executor does for it.
struct DirectWriter;

// Needs an active snapshot, and to run as the owner. Returns null where the projection has triggers on UPDATE besides
// the guard, CHECK constraints, generated columns, or no plain unique index on its key.
DirectWriter *open_direct(catalog::Projection &projection, MemoryContext memory);
void close_direct(DirectWriter *writer);

enum class Added {
    yes,
    no, // the row is not there, or the delta would empty the group: the statements decide
};

// Adds a group's deltas to its row, waiting for a concurrent writer of the row and adding to what it committed.
// Raises a serialization failure instead in REPEATABLE READ and SERIALIZABLE.
Added add_direct(DirectWriter &writer, const capture::Group &group);

void discard_direct(catalog::Projection &projection);

} // namespace maintain
