// Rebuild: a projection computed anew, beside it, and put in its place.
#pragma once
#include "catalog/projection.hpp"

namespace rebuild {

// Keeps a second rebuild, and what is done by hand to the contents, away from one that runs. Raises PJ003 with the
// holder. To the end of the transaction.
void hold_off_rebuild(catalog::Projection &projection);

// Rebuilds a projection in this session, in a connection to SPI that may commit. `by`: who asked for it. Raises PJ003
// where it is being rebuilt, 55000 where it is paused, and what the rebuild raises.
// `alteration`: what it is to become, in memory that survives transactions.
struct Alteration;
void run_rebuild(Oid projection, const char *by, Alteration *alteration = nullptr);

// When the library is loaded.
void define_settings();

} // namespace rebuild
