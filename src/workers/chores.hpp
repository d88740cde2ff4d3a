// What a worker does between batches: writes what was counted in shared memory, removes what is old, starts rebuilds
// that wait, and verifies. A failure is told, and does not stop the worker.
#pragma once
#include "workers/worker.hpp"

namespace workers {

// What was counted in shared memory; it is forgotten where there are no tables for it.
void write_counts(const Found &found);

// Removes what is older than settings say, from time to time.
void clean_history();
// Starts the rebuilds that wait for a process.
void launch_rebuilds(const Found &found);
// Verifies one projection, where it is time to.
void scrub(const Found &found);

// The handler of scrub_timeout.
void interrupt_scrub();

} // namespace workers
