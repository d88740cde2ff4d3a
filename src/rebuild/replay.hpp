// What reads events is rebuilt by applying them from the first one on.
#pragma once
#include "rebuild/session.hpp"

namespace rebuild {

// Whether that is how the projection is rebuilt; else its definition is copied.
bool replays(Rebuild &rebuild);

// Applies events to the shadow, each slot in turn, until all that is decided has been applied.
void replay(Rebuild &rebuild);

// With the live projection held still: brings the shadow at least as far. Returns false where the time does not
// suffice.
bool replay_to_live(Rebuild &rebuild, TimestampTz deadline);

// The shadow's slots, where it is to be async, failures and histories become the projection's.
void adopt_events(Rebuild &rebuild, bool async);

} // namespace rebuild
