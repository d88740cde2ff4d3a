// Keeps projections from being written by anything but maintenance.
#pragma once
#include "pg/pg.hpp"

namespace declare {

// pg_projections.allow_direct_writes
extern bool allow_direct_writes;

void end_transaction();

} // namespace declare
