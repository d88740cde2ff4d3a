// The rows of a partition that is attached, detached, dropped or truncated.
#pragma once
#include "capture/trigger.hpp"

namespace capture {

// Captures all rows of `member` as they are now, for query projections that read `table`, above it: weight 1 for rows
// that come, -1 for such as go. Nobody else may write it meanwhile.
void capture_table(Relation member, Oid table, const Readers &readers, int64 weight);

} // namespace capture
