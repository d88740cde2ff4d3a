// What a handler may touch while a rebuild or a verification replays events into tables beside the live ones.
#pragma once
#include "pg/pg.hpp"

namespace events {

struct Confinement {
    Oid handler;              // the projection
    pg::vector<Oid> live;     // its tables: must not be touched at all
    pg::vector<Oid> writable; // their shadows: nothing else must be written
    bool calling = false;     // the function runs
    int64 position = 0;       // of the event that it was called for
    // The first breach. The function may have caught the error, which must end the rebuild all the same.
    ErrorData *breach = nullptr;
};

// Null where handlers write what they write.
extern Confinement *confinement;

// To be called before a plan, and before a utility command, is run.
void confine_plan(const PlannedStmt *plan);
void confine_utility(Node *command);

// Raises the breach, if there was one.
void raise_breach();

} // namespace events
