// Options: one check for every kind of projection.
#pragma once
#include "pg/pg.hpp"

namespace operate {

// Raises 22023 for an option that is unknown, has no effect on such a projection, or has no such value; 0A000 for one
// that this version does not support. Returns the options as they are stored: on_dead_letter is looked up, the names of
// a normalizing state machine are in upper case.
Datum check_options(const char *kind, const char *mode, Datum options);

} // namespace operate
