// What reads the clock although it looks like a cast.
#pragma once
#include "pg/pg.hpp"

namespace compile {

// Whether the type's input function takes 'now', 'today' and their like: dates and times, and what holds them.
bool reads_clock(Oid type);

// Why the result of this node changes with the clock; null where it does not. Of this node only, not of its children.
const char *clock_reason(Node *node);

} // namespace compile
