// The stages of a compilation as text.
#pragma once
#include "compile/block.hpp"

namespace compile {

// After the rewriting, before columns are appended.
void print_normal_form(StringInfo out, Query *core);

// The join tree, the block, and the query for each changed occurrence, where all sources have changed.
void print_block(StringInfo out, const Block &block);

} // namespace compile
