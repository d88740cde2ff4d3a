// The launcher: one process for the server, which starts workers and is connected to no database.
//
// It does not know which databases have async projections: at its start, and when a database appears, it starts a
// worker there, which leaves again if it has nothing to serve. From then on it is told: a session that changed the
// catalog, a worker that finds more work than it can do, and a worker that ended otherwise than by itself announce the
// database (shared.hpp). A worker is a dynamic background worker that the postmaster never restarts; who needs it back
// is the launcher, with a growing pause where workers end at once.
#include "pg/scope.hpp"
#include "shared/memory.hpp"
#include "shared/throughput.hpp"
#include "workers/background.hpp"

namespace workers {

using namespace shared;

constinit int max_batch = 100000;
constinit int poll_interval = 1000;
constinit int worker_memory = 512 * 1024;
constinit int history_retention = 7 * 24 * 60;
constinit int scrub_rate = 0;

namespace {

constexpr int64 second = 1000; // milliseconds
constexpr int64 scan_interval = 60 * second, longest_pause = 60 * second, retry_interval = 5 * second;

struct Database {
    Oid oid;
    bool wanted = true;
    bool seen = true;
    int failures = 0;      // in a row
    TimestampTz ready = 0; // not before
};

// A process that was asked for and has not come up: if it never does, its entry is freed.
struct Start {
    BackgroundWorkerHandle *handle;
    int entry;
    uint64 generation;
};

struct Launcher {
    pg::vector<Database> databases;
    pg::vector<Start> starts;
    TimestampTz next_scan = 0;
    bool exhaustion_logged = false;

    Database *find(Oid oid) {
        auto found =
            std::find_if(databases.begin(), databases.end(), [&](const Database &each) { return each.oid == oid; });
        return found == databases.end() ? nullptr : &*found;
    }
};

TimestampTz after(TimestampTz now, int64 milliseconds) { return TimestampTzPlusMilliseconds(now, milliseconds); }

// ------------------------------------------------------------------------------------------------------ databases

// Where workers may go: template databases are to be copied, and have none.
bool servable(Form_pg_database database) {
    return database->datallowconn && !database->datistemplate && !database_is_invalid_form(database);
}

void scan(Launcher &launcher) {
    for (Database &each : launcher.databases) each.seen = false;
    MemoryContext memory = CurrentMemoryContext;
    StartTransactionCommand();
    pg::with_snapshot(GetTransactionSnapshot(), [&] {
        Relation table = table_open(DatabaseRelationId, AccessShareLock);
        TableScanDesc rows = table_beginscan_catalog(table, 0, nullptr);
        while (HeapTuple row = heap_getnext(rows, ForwardScanDirection)) {
            auto database = reinterpret_cast<Form_pg_database>(GETSTRUCT(row));
            if (!servable(database)) continue;
            if (Database *known = launcher.find(database->oid))
                known->seen = true;
            else
                launcher.databases.push_back({database->oid});
        }
        table_endscan(rows);
        table_close(table, AccessShareLock);
    });
    CommitTransactionCommand();
    MemoryContextSwitchTo(memory);
    auto gone = std::remove_if(launcher.databases.begin(), launcher.databases.end(),
                               [](const Database &each) { return !each.seen; });
    launcher.databases.erase(gone, launcher.databases.end());
}

// A database that has become a template, or takes no connections any more, is left.
void leave_others(Launcher &launcher) {
    with_shared(LW_SHARED, [&] {
        for (Worker &worker : shared::memory->all())
            if (phase_of(worker) != Phase::free && worker.pid != 0 &&
                launcher.find(pg_atomic_read_u32(&worker.database)) == nullptr)
                kill(worker.pid, SIGTERM);
    });
}

void listen(Launcher &launcher, TimestampTz now) {
    Announcement heard[lengthof(shared::memory->announcements)];
    bool all = false, rescan = false;
    int count = with_shared(LW_EXCLUSIVE, [&] {
        std::copy_n(shared::memory->announcements, shared::memory->announcement_count, heard);
        all = std::exchange(shared::memory->all_announced, false);
        rescan = std::exchange(shared::memory->rescan, false);
        return std::exchange(shared::memory->announcement_count, 0);
    });
    rescan |= now >= launcher.next_scan;
    for (int i = 0; i < count; i++) rescan |= launcher.find(heard[i].database) == nullptr;
    if (rescan) {
        scan(launcher);
        leave_others(launcher);
        launcher.next_scan = after(now, scan_interval);
    }
    for (Database &each : launcher.databases) each.wanted |= all;
    for (int i = 0; i < count; i++) {
        Database *database = launcher.find(heard[i].database);
        if (database == nullptr) continue;
        database->wanted = true;
        if (!heard[i].failed) continue;
        int64 pause = second << std::min(database->failures++, 6);
        database->ready = after(now, std::min(pause, longest_pause));
    }
}

// A batch that lasts keeps its worker from seeing what else there is: another one looks.
void help_the_busy(Launcher &launcher, TimestampTz now) {
    with_shared(LW_SHARED, [&] {
        for (Database &each : launcher.databases) {
            int busy = 0, others = 0;
            for (Worker &worker : shared::memory->all())
                if (serves(worker, each.oid)) (batch_milliseconds(worker, now) > slow_after ? busy : others)++;
            if (busy > 0 && others == 0 && busy < max_workers) each.wanted = true;
        }
    });
}

// --------------------------------------------------------------------------------------------------------- starts

// The entry for a new worker of the database, or -1 where none is to be started now.
int reserve(Database &database) {
    return with_shared(LW_EXCLUSIVE, [&] {
        if (is_held(database.oid)) return -1; // stays wanted: the end of the hold wakes us
        int running = count_workers(database.oid);
        bool starting = false;
        for (Worker &worker : shared::memory->all())
            starting |= serves(worker, database.oid) && phase_of(worker) == Phase::starting;
        if (starting || running >= max_workers) {
            database.wanted = false; // who runs there will say so if it needs company
            return -1;
        }
        auto all = shared::memory->all();
        auto unused = std::find_if(all.begin(), all.end(), [](Worker &each) { return phase_of(each) == Phase::free; });
        if (unused == all.end()) return -1;
        unused->generation = ++shared::memory->next_generation;
        unused->started = unused->since = GetCurrentTimestamp();
        unused->announced = unused->noted = false;
        unused->events = 0;
        unused->projection = InvalidOid;
        pg_atomic_write_u32(&unused->database, database.oid);
        set_phase(*unused, Phase::starting);
        return static_cast<int>(unused - all.begin());
    });
}

BackgroundWorkerHandle *request_process(Oid database, int entry, uint64 generation) {
    char name[BGW_MAXLEN];
    snprintf(name, sizeof name, "pg_projections worker for database %u", database);
    BackgroundWorker process = background_process(name, "pg_projections worker", "projections_worker_main");
    process.bgw_main_arg = Int32GetDatum(entry);
    memcpy(process.bgw_extra, &generation, sizeof generation);
    process.bgw_notify_pid = MyProcPid;
    BackgroundWorkerHandle *handle;
    return RegisterDynamicBackgroundWorker(&process, &handle) ? handle : nullptr;
}

void report_exhaustion(Launcher &launcher) {
    with_shared(LW_EXCLUSIVE, [] { shared::memory->exhausted = true; });
    if (std::exchange(launcher.exhaustion_logged, true)) return;
    ereport(LOG, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
                  errmsg("pg_projections cannot start a worker: too many background workers"),
                  errdetail("All %d places for background workers are taken.", max_worker_processes),
                  errhint("Consider increasing the configuration parameter \"max_worker_processes\".")));
}

// Starts workers where they are wanted. Returns for how many milliseconds nothing is to be done.
int64 start(Launcher &launcher, TimestampTz now) {
    int64 wait = scan_interval;
    bool exhausted = false;
    for (Database &database : launcher.databases) {
        if (!database.wanted) continue;
        if (now < database.ready) {
            wait = std::min(wait, TimestampDifferenceMilliseconds(now, database.ready) + 1);
            continue;
        }
        int entry = exhausted ? -1 : reserve(database);
        if (entry < 0) continue;
        uint64 generation = shared::memory->workers[entry].generation;
        if (BackgroundWorkerHandle *handle = request_process(database.oid, entry, generation)) {
            launcher.starts.push_back({handle, entry, generation});
            database.wanted = false;
            continue;
        }
        exhausted = true;
        with_shared(LW_EXCLUSIVE, [&] { free_entry(shared::memory->workers[entry]); });
    }
    if (exhausted) {
        report_exhaustion(launcher);
        // The first shall not always be the first: places that come free go round.
        std::rotate(launcher.databases.begin(), launcher.databases.begin() + 1, launcher.databases.end());
        return std::min(wait, retry_interval);
    }
    if (std::exchange(launcher.exhaustion_logged, false))
        with_shared(LW_EXCLUSIVE, [] { shared::memory->exhausted = false; });
    return wait;
}

// Forgets the starts that have come up, and frees the entries of those that never will.
void follow_starts(Launcher &launcher) {
    auto over = [&](const Start &each) {
        pid_t pid;
        BgwHandleStatus status = GetBackgroundWorkerPid(each.handle, &pid);
        bool settled = with_shared(LW_EXCLUSIVE, [&] {
            Worker &worker = shared::memory->workers[each.entry];
            bool waiting = worker.generation == each.generation && phase_of(worker) == Phase::starting;
            if (!waiting) return true;
            if (status != BGWH_STOPPED) return false;
            announce(pg_atomic_read_u32(&worker.database), true);
            free_entry(worker);
            return true;
        });
        if (settled) pfree(each.handle);
        return settled;
    };
    auto end = std::remove_if(launcher.starts.begin(), launcher.starts.end(), over);
    launcher.starts.erase(end, launcher.starts.end());
}

// A database whose worker has lasted starts the next one without a pause.
void forgive(Launcher &launcher, TimestampTz now) {
    with_shared(LW_SHARED, [&] {
        for (Worker &worker : shared::memory->all())
            if (phase_of(worker) != Phase::free && now - worker.started > scan_interval * 1000)
                if (Database *database = launcher.find(pg_atomic_read_u32(&worker.database))) database->failures = 0;
    });
}

// ------------------------------------------------------------------------------------------------------- process

// The processes that an earlier launcher asked for: those that run do so without us, the others are not awaited.
void take_over() {
    with_shared(LW_EXCLUSIVE, [] {
        for (Worker &worker : shared::memory->all())
            if (phase_of(worker) == Phase::starting) free_entry(worker);
        shared::memory->launcher = MyProc;
        shared::memory->launcher_pid = MyProcPid;
        shared::memory->exhausted = false;
    });
}

void leave(int, Datum) {
    with_shared(LW_EXCLUSIVE, [] {
        shared::memory->launcher = nullptr;
        shared::memory->launcher_pid = 0;
    });
}

void reload(Launcher &launcher) {
    if (!ConfigReloadPending) return;
    ConfigReloadPending = false;
    int before = max_workers;
    ProcessConfigFile(PGC_SIGHUP);
    // Those that left for want of room will not announce themselves.
    if (max_workers > before)
        for (Database &each : launcher.databases) each.wanted = true;
}

[[noreturn]] void run() {
    Launcher &launcher = *pg::make<Launcher>(TopMemoryContext);
    for (;;) {
        ResetLatch(MyLatch);
        CHECK_FOR_INTERRUPTS();
        reload(launcher);
        TimestampTz now = GetCurrentTimestamp();
        follow_starts(launcher);
        listen(launcher, now);
        forgive(launcher, now);
        help_the_busy(launcher, now);
        int64 wait = start(launcher, now);
        bool any = with_shared(LW_SHARED, [] {
            auto all = shared::memory->all();
            return std::any_of(all.begin(), all.end(), [](Worker &each) { return phase_of(each) != Phase::free; });
        });
        if (any) wait = std::min(wait, second);
        pgstat_report_activity(STATE_IDLE, nullptr);
        WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, wait, PG_WAIT_EXTENSION);
    }
}

void define_settings() {
    DefineCustomIntVariable("pg_projections.workers", "Background workers for each database, at most.",
                            "Workers start as there is work for them, out of max_worker_processes. 0: none.",
                            &max_workers, 4, 0, 1024, PGC_SIGHUP, 0, nullptr, nullptr, nullptr);
    DefineCustomIntVariable("pg_projections.batch_size", "Events that are applied in one transaction, at most.",
                            "Within this, batches follow the backlog and the time that events take.", &max_batch,
                            100000, 1, 10000000, PGC_SIGHUP, 0, nullptr, nullptr, nullptr);
    DefineCustomIntVariable("pg_projections.poll_interval", "How often workers look for work without being woken.",
                            "A commit that appends events wakes a worker; events that are replicated do not.",
                            &poll_interval, 1000, 10, 3600 * 1000, PGC_SIGHUP, GUC_UNIT_MS, nullptr, nullptr, nullptr);
    DefineCustomIntVariable("pg_projections.worker_memory", "Memory that a worker may allocate.",
                            "Beyond it, the event at hand fails for lack of memory. 0: no limit.", &worker_memory,
                            512 * 1024, 0, MAX_KILOBYTES, PGC_SIGHUP, GUC_UNIT_KB, nullptr, nullptr, nullptr);
    DefineCustomIntVariable("pg_projections.history_retention", "How long workers keep what is over.",
                            "Resolved failures, changes of checkpoints by hand, streams with conflicts. 0: for ever.",
                            &history_retention, 7 * 24 * 60, 0, INT_MAX / 60, PGC_SIGHUP, GUC_UNIT_MIN, nullptr,
                            nullptr, nullptr);
    DefineCustomIntVariable(
        "pg_projections.scrub_rate", "How many rows a second workers verify when they have nothing else to do.",
        "Projections are compared with their definitions one after the other; rows of both count. One that differs is "
        "marked stale. 0: none.",
        &scrub_rate, 0, 0, INT_MAX, PGC_SIGHUP, 0, nullptr, nullptr, nullptr);
    DefineCustomIntVariable("pg_projections.throughput_retention", "How long the minutes of throughput are kept.",
                            "0: for ever.", &throughput_retention, 24 * 60, 0, INT_MAX / 60, PGC_SIGHUP, GUC_UNIT_MIN,
                            nullptr, nullptr, nullptr);
}

} // namespace

BackgroundWorker background_process(const char *name, const char *type, const char *entry) {
    BackgroundWorker process{};
    strlcpy(process.bgw_name, name, BGW_MAXLEN);
    strlcpy(process.bgw_type, type, BGW_MAXLEN);
    process.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
    process.bgw_start_time = BgWorkerStart_RecoveryFinished;
    process.bgw_restart_time = BGW_NEVER_RESTART;
    strlcpy(process.bgw_library_name, "pg_projections", sizeof process.bgw_library_name);
    strlcpy(process.bgw_function_name, entry, BGW_MAXLEN);
    return process;
}

void start_background() {
    define_settings();
    if (!process_shared_preload_libraries_in_progress || IsBinaryUpgrade) return;
    request_shared_memory();
    BackgroundWorker process{};
    strlcpy(process.bgw_name, "pg_projections launcher", BGW_MAXLEN);
    strlcpy(process.bgw_type, "pg_projections launcher", BGW_MAXLEN);
    process.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
    process.bgw_start_time = BgWorkerStart_RecoveryFinished;
    process.bgw_restart_time = 1;
    strlcpy(process.bgw_library_name, "pg_projections", sizeof process.bgw_library_name);
    strlcpy(process.bgw_function_name, "projections_launcher_main", BGW_MAXLEN);
    RegisterBackgroundWorker(&process);
}

const char *no_workers_because(const char **hint) {
    *hint = nullptr;
    if (shared::memory == nullptr) {
        *hint = "Add pg_projections to shared_preload_libraries and restart the server.";
        return "The library is not in shared_preload_libraries.";
    }
    if (RecoveryInProgress()) return "The server is in recovery.";
    if (max_workers == 0) {
        *hint = "ALTER SYSTEM RESET pg_projections.workers; SELECT pg_reload_conf();";
        return "The setting pg_projections.workers is 0.";
    }
    int running = with_shared(LW_SHARED, [] { return count_workers(MyDatabaseId); });
    if (running > 0) return nullptr;
    if (shared::memory->launcher_pid == 0) {
        *hint = "See the server's log, and max_worker_processes.";
        return "The launcher is not running.";
    }
    if (shared::memory->exhausted) {
        *hint = "ALTER SYSTEM SET max_worker_processes to more, and restart the server.";
        return "All places for background workers are taken (max_worker_processes).";
    }
    HeapTuple row = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(MyDatabaseId));
    bool here = HeapTupleIsValid(row) && servable(reinterpret_cast<Form_pg_database>(GETSTRUCT(row)));
    if (HeapTupleIsValid(row)) ReleaseSysCache(row);
    if (!here) return "The database is a template, or takes no connections.";
    return nullptr;
}

} // namespace workers

extern "C" {

PGDLLEXPORT void projections_launcher_main(Datum);

void projections_launcher_main(Datum) {
    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    pqsignal(SIGTERM, die);
    BackgroundWorkerUnblockSignals();
    BackgroundWorkerInitializeConnection(nullptr, nullptr, 0);
    on_shmem_exit(workers::leave, 0);
    workers::take_over();
    workers::run();
}

} // extern "C"
