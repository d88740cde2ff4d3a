// The launcher and the workers, as the module and the rest of the extension know them.
#pragma once
#include "pg/pg.hpp"

namespace workers {

extern int max_batch;         // events
extern int poll_interval;     // milliseconds
extern int worker_memory;     // kilobytes; 0: no limit
extern int history_retention; // minutes
extern int scrub_rate;        // rows a second; 0: off

// Defines the settings; with shared_preload_libraries, asks for shared memory and registers the launcher. In _PG_init.
void start_background();

// A process of ours that may be started at any time after recovery: its name, kind, and entry in this library. What it
// is told is the caller's to fill in.
BackgroundWorker background_process(const char *name, const char *type, const char *entry);

// Why no worker would serve this database, in a sentence, or null. *hint: what to do.
const char *no_workers_because(const char **hint);

// Ends a worker; another one takes its place. Returns the projection that it worked on here, if any. Raises 22023,
// 42501.
Oid restart_worker(pid_t pid);

} // namespace workers
