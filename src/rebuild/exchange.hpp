// How a shadow and the live table change places, by what they are: what courses end with (course.cpp).
#pragma once
#include "rebuild/session.hpp"

namespace rebuild {

// The live table is held still for the session, in the order in which maintenance locks. Where it is fed in another way
// than its shadow, or not at all, what transactions have captured for one generation would be lost to the other: there
// must be none, so the sources are held, too.
void hold_fed_alike(Rebuild &rebuild);
void hold_fed_otherwise(Rebuild &rebuild);

// Both tables in ACCESS EXCLUSIVE mode.
void lock_pair(Rebuild &rebuild);

// Contents, with logs or slots and what else is a generation's. Within a step.
void exchange(Rebuild &rebuild);
void exchange_altered(Rebuild &rebuild);
void exchange_replayed(Rebuild &rebuild);
void merge_replayed(Rebuild &rebuild); // rows written, rather than files exchanged

} // namespace rebuild
