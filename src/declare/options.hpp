// Options: one check for every kind of projection.
#pragma once
#include "pg/pg.hpp"

namespace declare {

// What an option may have an effect on.
struct Use {
    const char *kind;
    bool async;
    bool events;      // what it reads is an event source
    bool one_order;   // its events cannot be dealt out to slots
    bool keyed;       // although they have keys
    const char *name; // of the projection; null where it is still to be
};

// Raises 22023 for an option that is unknown, has no effect on such a projection, or has no such value; 0A000 for one
// that this version does not support. Returns the options as they are stored: on_dead_letter is looked up, the names of
// a normalizing state machine are in upper case. Whoever makes or changes a projection passes here: create and alter of
// a query by plan_flow(), the others' create by declare(), alter(options) and a change of slots in 45_alter.sql.
Datum check_options(const Use &use, Datum options);

// The part of it that is about several slots.
void check_slots(const Use &use, Datum options);

} // namespace declare
