// Keeps projections from being written by anything but maintenance.
#pragma once
#include "pg/pg.hpp"

namespace declare {

// pg_projections.allow_direct_writes
extern bool allow_direct_writes;

// Forgets which projections the transaction has marked stale.
void end_transaction();

} // namespace declare
