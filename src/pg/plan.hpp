// Kept plans of statements that find rows by key.
#pragma once
#include "pg/scope.hpp"

namespace pg {

// Plans a kept statement, where it is not planned or an invalidation has outdated its plan, so that rows are found by
// index whatever the statistics say: those of a table that was analyzed while it was nearly empty would have the plan
// read all of it for each row, also once it has grown.
// `reads`: of what reads only the first rows that match, no bitmap of all of them is made.
// In an SPI connection. The statement is one command, and was prepared with CURSOR_OPT_GENERIC_PLAN.
enum class Reads { all, first };
SPIPlanPtr planned_by_index(SPIPlanPtr plan, bool fresh = false, Reads reads = Reads::all);

} // namespace pg
