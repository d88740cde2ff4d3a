// Keeps the extension from being dropped while it is in use, and notes events that go.
#pragma once
#include "pg/pg.hpp"

namespace declare {

void refuse_removal_in_use(); // from now on, in this session

// Before a command that may drop the extension: refuses, or notes that it says so by name and with CASCADE.
void before_removal(const Node *command);

// Before TRUNCATE, of which no event trigger tells: partitions of event sources lose events (drop.cpp).
void before_truncate(const TruncateStmt *statement);

} // namespace declare
