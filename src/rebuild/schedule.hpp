// Rebuilds in the background.
#pragma once
#include "pg/pg.hpp"

namespace rebuild {

// A rebuild that was scheduled begins in a process of its own when its transaction has committed.
void transaction_ended(bool committed);

} // namespace rebuild
