// Parts of a projection that is filled online or altered.
#pragma once
#include "rebuild/session.hpp"

namespace rebuild {

// Fills those that hold nothing yet, inner first, each by a rebuild of its own. What reads them is not filled before.
void fill_parts(Rebuild &rebuild);

// Drops those that neither the definition nor another part of it reads: of another definition than today's.
void drop_idle_parts(Rebuild &rebuild);
// The same once, where nobody must be waited for; else a WARNING says that they are there.
void try_to_drop_idle_parts(Rebuild &rebuild);

} // namespace rebuild
