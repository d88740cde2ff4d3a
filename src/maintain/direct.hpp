// The short way to add a delta to a group's row: by the table and index access methods, without a plan.
#pragma once
#include "maintain/changes.hpp"

namespace maintain {

// Open for the apply of one fold; null where the table needs what only the executor does for it.
struct DirectWriter;

// Needs an active snapshot, and to run as the owner. Returns null where the table asks for the executor (direct.cpp has
// the list), or has no plain unique index on its key.
DirectWriter *open_direct(catalog::Projection &projection, MemoryContext memory);
void close_direct(DirectWriter *writer);

enum class Added {
    yes,
    no, // the row is not there, or the delta would empty the group: the statements decide
};

// Adds a group's deltas to its row, waiting for a concurrent writer of the row and adding to what it committed.
// Raises a serialization failure instead in REPEATABLE READ and SERIALIZABLE.
Added add_direct(DirectWriter &writer, const capture::Group &group);

enum class Maker {
    nobody,
    awaited, // another transaction was making or removing the group's row, and has ended
    ended    // has ended before: the row is there
};

// Whether somebody else has made the row of a group that a statement has not found. To be asked before a new group is
// inserted: its CHECKs are not to see a delta where they would see the sum of two a moment later.
// (test/isolation/specs/check.spec)
Maker find_maker(catalog::Projection &projection, const capture::Group &group);

// Frees what the direct way keeps for a projection: it is made anew.
void discard_direct(catalog::Projection &projection);

} // namespace maintain
