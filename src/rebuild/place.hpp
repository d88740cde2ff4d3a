// The shadow changes places with the live table.
#pragma once
#include "rebuild/session.hpp"

namespace rebuild {

extern int swap_lock_timeout; // ms

// One attempt at steps 6 and 7 of a rebuild. Returns whether the shadow is in place; if not, all locks are given back.
// Gives up on errors other than a lock's.
bool try_to_finish(Rebuild &rebuild);

} // namespace rebuild
