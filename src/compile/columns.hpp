// What a table can hold as columns.
#pragma once
#include "compile/block.hpp"
#include "compile/refuse.hpp"

namespace compile {

// Whether every table has a column of that name.
bool is_system_column(const char *name);

// Raises PJ002 for a query whose first `count` columns no table can have.
void check_columns(const Query *core, int count, const Place &place);

// Raises PJ002 where an index cannot hold the key.
void check_key_columns(const Block &block, const Place &place);

} // namespace compile
