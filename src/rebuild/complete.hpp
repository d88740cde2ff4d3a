// Nothing is put in place that lacks an event which the live projection has applied.
#pragma once
#include "rebuild/session.hpp"

namespace rebuild {

// Tries again what failed in the replay and not in the live projection: what it needed may have come with a later
// event. In steps.
void retry_lacking(Rebuild &rebuild);

// Raises 55000 with the first event that the live projection has applied and the shadow has not, if there is one.
// Within a step; final where nothing is applied to the live projection meanwhile.
void refuse_lacking(Rebuild &rebuild);

} // namespace rebuild
