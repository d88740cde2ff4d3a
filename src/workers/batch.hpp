// One batch of a slot, and how much to take at once.
#pragma once
#include "workers/worker.hpp"

namespace workers {

constexpr int rest_milliseconds = 20;

// What this worker has learned about a slot.
struct Pace {
    int64 events = 1000;        // to take at once
    TimestampTz not_before = 0; // after a conflict with somebody else
    int conflicts = 0;          // in a row
};
Pace &pace(events::Work work);
void start_paces();

// One batch of a slot that is claimed; ends the claim. Returns whether it got anywhere.
bool run_batch(events::Work work);

} // namespace workers
