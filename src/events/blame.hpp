// What an error is about: the event that was being applied, or what was in the way.
#pragma once
#include "pg/pg.hpp"

namespace events {

enum class Blame {
    event,       // its data, or what is done with data like it
    either,      // the event, or all there is: it is told by whether another event gets through
    environment, // a full disk, a lost connection, somebody else's lock: the same event may succeed in a moment
};

// The one place that decides. Who applies an event raises what the environment is to blame for, so that the batch, and
// with it the slot, is put off; it never counts against an event.
Blame blame(const ErrorData *error);

// Of a query, which treats all events alike: whether its definition cannot run at all.
bool blames_definition(const ErrorData *error);

} // namespace events
