// The states that a reducer's or state machine's events lead to, in memory: what its table should hold.
#pragma once
#include "events/batch.hpp"

namespace verify {

// A share of the keys, by hash: so that not all of them have to be in memory at once.
struct Part {
    int number, count;
    bool has(std::string_view key) const;
};

// The states after the events that had been applied when `snapshot` was taken: of an async projection those up to each
// slot's checkpoint, without failed, parked and skipped ones; states that were set by hand come at their positions.
// States of keys that have been deleted are there, and not present. In the current memory context, within an SPI
// connection, as the owner. Raises what the reducer raises.
pg::vector<events::State> fold_states(catalog::Projection &projection, Part part, Snapshot snapshot);

} // namespace verify
