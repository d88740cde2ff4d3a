// Rebuild: a projection computed anew, beside it, and put in its place.
#pragma once
#include "catalog/projection.hpp"

namespace rebuild {

// Keeps a second rebuild, and what is done by hand to the contents, away from one that runs. Raises PJ003 with the
// holder. To the end of the transaction.
void hold_off_rebuild(catalog::Projection &projection);

void define_settings();

} // namespace rebuild
