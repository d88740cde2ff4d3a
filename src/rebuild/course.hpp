// What a rebuild by shadow does, for each kind of projection, as data: rebuild.cpp and place.cpp follow it.
#pragma once
#include "rebuild/session.hpp"

namespace rebuild {

struct Course {
    void (*fill[4])(Rebuild &); // from the shadow's making to the first attempt to put it in place; null at the end

    // Until an attempt succeeds: what has come meanwhile. Indexes, constraints and statistics, where some are missing.
    void (*follow)(Rebuild &);
    bool (*is_complete)(Rebuild &); // within a step
    void (*complete)(Rebuild &);

    // An attempt: the live projection held still for the session, what is left applied (false where that takes too
    // long), all locked in ACCESS EXCLUSIVE mode, and exchanged. Without the lock it is done in one transaction.
    void (*hold_still)(Rebuild &);
    bool (*apply_rest)(Rebuild &, TimestampTz deadline);
    void (*lock)(Rebuild &);
    void (*exchange)(Rebuild &);
};

// That of a rebuild whose shadow has been made.
const Course &course_of(Rebuild &rebuild);

} // namespace rebuild
