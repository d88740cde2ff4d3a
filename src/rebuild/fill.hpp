// Filling a shadow from its definition, in steps: what courses are made of (course.cpp).
#pragma once
#include "rebuild/session.hpp"

namespace rebuild {

inline constexpr long least_pause = 50, longest_pause = 1000; // ms, between attempts

// The shadow, in a step that removes what earlier rebuilds left; as the projection is, or altered.
void make(Rebuild &rebuild);
void make_altered(Rebuild &rebuild);

// Transactions that write what the shadow reads and may have begun before it was there.
void wait_for_writers(Rebuild &rebuild);

// What one snapshot sees is copied, and what it sees of the change logs thrown away.
void copy(Rebuild &rebuild);

// Indexes as the live table's, and statistics; within a step: whether one has come since.
void build_indexes(Rebuild &rebuild);
bool has_all_indexes(Rebuild &rebuild);

// The logs are applied until little is left; once; and with the live table held still. The last returns false where too
// much is left for a lock.
void catch_up(Rebuild &rebuild);
void follow_log(Rebuild &rebuild);
bool apply_rest_of_log(Rebuild &rebuild, TimestampTz deadline);

} // namespace rebuild
