// Events whose code does not end when it is cancelled: it ends with the process that applies them, and whoever applies
// them next records that they failed, without calling them again.
#pragma once
#include "pg/pg.hpp"

namespace shared {

// An event that has ended its process.
struct Overrun {
    Oid database; // InvalidOid: unused
    Oid owner;    // of the projection
    Oid projection;
    int64 position;
    int milliseconds; // that it may take
    TimestampTz at;
};

// At the end of the process that the event ends.
void note_overrun(Oid projection, Oid owner, int64 position, int milliseconds);

// Reads which events of the projection have; with the slot's row locked, which those that applied them held.
void load_overruns(Oid projection);

// How long the event may take, if it is one of those; else 0. From then on this transaction settles it: at its commit
// it is one no more.
int settle_overrun(Oid projection, int64 position);

// A worker has settled one: it commits before it calls another, which may end the process, too.
bool settled_overrun();

} // namespace shared
