// Keeps the extension from being dropped while it is in use.
#pragma once
#include "pg/pg.hpp"

namespace declare {

void refuse_removal_in_use(); // from now on, in this session

// Before a command that may drop the extension: refuses, or notes that it says so by name and with CASCADE.
void before_removal(const Node *command);

} // namespace declare
