// Whether a group's new row follows from its old one and the delta.
#pragma once
#include "maintain/apply_values.hpp"
#include "maintain/parameters.hpp"

namespace maintain {

enum class Row {
    tells,  // the group's new row follows from its old one and the delta
    locked, // it does not: the group is to be recomputed, and its row is locked
    absent, // as locked, but there is no row to lock
};

// Locks the group's row.
Row judge_row(Taken &taken, const capture::Group &group, Parameters &parameters);

// Whether it may not follow, so that the row has to be judged.
bool fragile(const compile::Block &block, const capture::Group &group);

} // namespace maintain
