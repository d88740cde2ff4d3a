// Sessions that apply by hand (catch_up, replay, refresh_rows), as projections.activity shows them.
#pragma once
#include "pg/pg.hpp"

namespace shared {

// This session applies to the projection until its transaction ends. Does nothing without shared memory, or in a
// process of ours.
void session_applies(Oid projection);
void session_ended();

} // namespace shared
