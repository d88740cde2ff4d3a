// What the launcher, the workers and all sessions share: who works on what, who is wanted, what fails.
//
// One lock guards everything but what a commit touches to wake a worker (`Worker::database`, `phase`, `signalled`): a
// commit takes no lock of ours. A worker that has found nothing says so (phase idle) and then looks once more at
// `signalled`; a committer sets `signalled` and then looks for an idle worker. One of the two sees the other, so no
// wake-up is lost; the poll interval is only the net under events that no session of ours wrote.
#pragma once
#include "shared/failed_call.hpp"
#include "shared/overrun.hpp"

namespace shared {

enum class Phase : uint32 {
    free,     // the entry is nobody's
    starting, // the launcher has asked for the process
    busy,     // looks for work, or applies it
    resting,  // found nothing to do although it was woken: looks again in some milliseconds
    idle,     // sleeps
    woken     // was idle, and has not looked since
};

struct Worker {
    pg_atomic_uint32 database, phase, signalled;
    PGPROC *process; // null while starting
    pid_t pid;
    uint64 generation; // grows with every worker: the lower one is older
    TimestampTz started;
    bool announced; // the catalog changed since its last look: it must not leave
    bool noted;     // why it ends has been said
    // The batch that is being applied; projection is InvalidOid between batches.
    Oid projection, owner;
    int slot;
    int64 limit;
    TimestampTz since; // of the batch, or of the last one's end
    int64 events;      // applied since it started
};

// A database that wants one more worker.
struct Announcement {
    Oid database;
    bool failed; // its last worker ended with an error
};

// A command that needs a database without sessions; no worker starts there until its transaction has ended.
struct Hold {
    Oid database;
    pid_t pid; // 0: unused
};

// A slot whose batch failed as a whole.
struct Problem {
    Oid database; // InvalidOid: unused
    Oid projection, owner;
    int slot;
    int sqlstate;
    int failures;
    TimestampTz since, last, retry;
    char message[256];
};

// A projection whose batches have been slow lately.
struct Slow {
    Oid database; // InvalidOid: unused
    Oid projection, owner;
    TimestampTz until;
    int64 milliseconds; // for how long it was remembered
    int slot;           // whose batch it was
};

constexpr int stream_bytes = 200;
struct Conflict {
    Oid database; // InvalidOid: unused
    Oid caller;
    int64 count;
    TimestampTz last;
    char stream[stream_bytes + 1];
};

// A session that applies by hand, until its transaction ends.
struct Session {
    pid_t pid; // 0: unused
    Oid database, projection, caller;
    TimestampTz since;
};

// A rebuild in the background.
struct RebuildPlace {
    TimestampTz since; // 0: unused
    pid_t pid;         // 0: has not come up yet
    Oid database, projection, owner;
};

struct Shared {
    LWLock *lock;
    PGPROC *launcher;
    pid_t launcher_pid;
    uint64 next_generation;
    bool rescan;    // databases came or went
    bool exhausted; // max_worker_processes
    bool all_announced;
    int announcement_count;
    Announcement announcements[64];
    Hold holds[64];
    Problem problems[128];
    bool flush_failed; // one of them is of a flush
    Slow slow[64];
    Conflict conflicts[256];
    Call failed_calls[64];
    int64 lost_calls; // that found no place, of any database
    Session sessions[128];
    Overrun overruns[64];
    RebuildPlace rebuilds[64];
    int worker_count;
    Worker workers[FLEXIBLE_ARRAY_MEMBER];

    std::span<Worker> all() { return {workers, static_cast<size_t>(worker_count)}; }
};

extern int max_workers; // the setting pg_projections.workers; per database

// Null where the library is not in shared_preload_libraries.
extern Shared *memory;

// Asks for the memory and sets it up; in _PG_init.
void request_shared_memory();

constexpr int stuck_after = 60 * 1000; // milliseconds of one batch
constexpr int slow_after = 500;

inline Phase phase_of(Worker &worker) { return static_cast<Phase>(pg_atomic_read_u32(&worker.phase)); }
inline void set_phase(Worker &worker, Phase phase) { pg_atomic_write_u32(&worker.phase, static_cast<uint32>(phase)); }
inline bool serves(Worker &worker, Oid database) {
    return pg_atomic_read_u32(&worker.database) == database && phase_of(worker) != Phase::free;
}

// Runs `body` under the lock, which must not be held.
template <class Body>
auto with_shared(LWLockMode mode, Body &&body) {
    LWLockAcquire(memory->lock, mode);
    if constexpr (std::is_void_v<decltype(body())>) {
        body();
        LWLockRelease(memory->lock);
    } else {
        auto result = body();
        LWLockRelease(memory->lock);
        return result;
    }
}

// Each of the following is called under the lock.

// A place for one more entry. In a full table that is the oldest entry of whoever has most, so that nobody pushes out
// what others have. (Test: test/t/031_fair_workers.)
template <class Entry, std::size_t n>
Entry *place_in(Entry (&all)[n], Oid Entry::*owner, TimestampTz Entry::*age) {
    auto held = [&](const Entry &entry) {
        return std::count_if(all, all + n, [&](const Entry &each) { return each.*owner == entry.*owner; });
    };
    Entry *place = all;
    std::ptrdiff_t most = 0;
    for (Entry &each : all) {
        if (!OidIsValid(each.database)) return &each;
        std::ptrdiff_t count = each.*owner == place->*owner && most > 0 ? most : held(each);
        if (count < most || (count == most && !(each.*age < place->*age))) continue;
        place = &each;
        most = count;
    }
    return place;
}

// Under the lock: how many workers a database has, and whether a command needs it without any.
int count_workers(Oid database);
bool is_held(Oid database);
void announce(Oid database, bool failed); // to the launcher
void call_for_worker(Oid database);       // something is to be written, whether or not there are events
void wake_launcher();
void free_entry(Worker &worker); // of a worker that has ended, under the lock

// How long a batch has been running; 0 between batches.
int64 batch_milliseconds(const Worker &worker, TimestampTz now);

} // namespace shared
