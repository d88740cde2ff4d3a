// What reads events is rebuilt by applying them from the first one on.
#pragma once
#include "events/source.hpp"
#include "rebuild/session.hpp"

namespace rebuild {

// Whether that is how the projection is rebuilt; else its definition is copied.
bool replays(Rebuild &rebuild);

// Applies events to the shadow, each slot in turn, until all that is decided has been applied. Gives up where the first
// events are archived away (PJ006), or where one cannot be passed.
void replay(Rebuild &rebuild);
// The same again, for those that have come meanwhile.
void replay_more(Rebuild &rebuild);

// To the end of the transaction, and for the session, nothing is applied to the live projection.
void hold_events_still(Rebuild &rebuild);
// With the live projection held still: brings the shadow at least as far. Returns false where the time does not
// suffice.
bool replay_to_live(Rebuild &rebuild, TimestampTz deadline);
// To be called when that is committed.
void note_replayed(Rebuild &rebuild);

// In ACCESS EXCLUSIVE mode: what is to change places.
void lock_tables(Rebuild &rebuild);

// The shadow's slots, where it is to be async, failures and histories become the projection's.
void adopt_events(Rebuild &rebuild, bool async);

// What a replay consists of.
const events::EventSource &source_of(Rebuild &rebuild);
void refuse_archived(Rebuild &rebuild);
// Raises 55000 with the event that keeps the shadow from being what the live projection is, if there is one.
void refuse_failed(Rebuild &rebuild, const char *condition, const char *hint);
void analyze(Rebuild &rebuild);

} // namespace rebuild
