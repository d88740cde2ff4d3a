// The structure's beginning, and what is done under its lock.
#include "shared/memory.hpp"

#include "shared/throughput.hpp"

namespace shared {

constinit Shared *memory = nullptr;
constinit int max_workers = 4;

namespace {

constexpr char tranche[] = "pg_projections";

constinit shmem_request_hook_type next_request = nullptr;
constinit shmem_startup_hook_type next_startup = nullptr;

Size size() { return add_size(offsetof(Shared, workers), mul_size(max_worker_processes, sizeof(Worker))); }

void request() {
    if (next_request) next_request();
    RequestAddinShmemSpace(add_size(size(), throughput_size()));
    RequestNamedLWLockTranche(tranche, 2);
}

// Also after a crash, when all of it is made anew.
void startup() {
    if (next_startup) next_startup();
    bool found;
    LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
    memory = static_cast<Shared *>(ShmemInitStruct("pg_projections", size(), &found));
    if (!found) {
        memset(static_cast<void *>(memory), 0, size());
        memory->lock = &GetNamedLWLockTranche(tranche)->lock;
        memory->worker_count = max_worker_processes;
        for (Worker &worker : memory->all()) {
            pg_atomic_init_u32(&worker.database, InvalidOid);
            pg_atomic_init_u32(&worker.phase, static_cast<uint32>(Phase::free));
            pg_atomic_init_u32(&worker.signalled, 0);
        }
    }
    start_throughput(&GetNamedLWLockTranche(tranche)[1].lock);
    LWLockRelease(AddinShmemInitLock);
}

} // namespace

void request_shared_memory() {
    next_request = shmem_request_hook;
    shmem_request_hook = request;
    next_startup = shmem_startup_hook;
    shmem_startup_hook = startup;
}

int count_workers(Oid database) {
    auto all = memory->all();
    return std::count_if(all.begin(), all.end(), [&](Worker &worker) { return serves(worker, database); });
}

bool is_held(Oid database) {
    return std::any_of(std::begin(memory->holds), std::end(memory->holds),
                       [&](const Hold &hold) { return hold.pid != 0 && hold.database == database; });
}

void wake_launcher() {
    if (memory->launcher) SetLatch(&memory->launcher->procLatch);
}

void announce(Oid database, bool failed) {
    Announcement *end = memory->announcements + memory->announcement_count;
    Announcement *known =
        std::find_if(memory->announcements, end, [&](const Announcement &each) { return each.database == database; });
    if (known != end)
        known->failed &= failed;
    else if (memory->announcement_count < static_cast<int>(lengthof(memory->announcements)))
        memory->announcements[memory->announcement_count++] = {database, failed};
    else
        memory->all_announced = true;
    wake_launcher();
}

void call_for_worker(Oid database) {
    for (Worker &worker : memory->all())
        if (serves(worker, database)) worker.announced = true;
    if (count_workers(database) == 0) announce(database, false);
}

void free_entry(Worker &worker) {
    set_phase(worker, Phase::free);
    pg_atomic_write_u32(&worker.database, InvalidOid);
    worker.process = nullptr;
    worker.pid = 0;
    worker.projection = InvalidOid;
}

int64 batch_milliseconds(const Worker &worker, TimestampTz now) {
    return OidIsValid(worker.projection) ? (now - worker.since) / 1000 : 0;
}

} // namespace shared
