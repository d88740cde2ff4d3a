// Schedule.
//
// A request is a row (projections_internal.rebuild_request); its transaction's commit starts a background process for
// it, with or without shared_preload_libraries. A row outlives crashes: workers start a process for what nobody carries
// out.
//
// A rebuild may take hours, and its process is one of max_worker_processes, which workers need, too: a quarter of them
// is for rebuilds, and one of these is for others than the owner who has the rest. What finds no place waits; a process
// that ends starts what waits, first that of the owners who have the fewest. (Test: test/t/031_fair_workers.)
#include "rebuild/schedule.hpp"
#include "pg/scope.hpp"
#include "rebuild/rebuild.hpp"
#include "rebuild/session.hpp"
#include "rights/caller.hpp"
#include "shared/memory.hpp"
#include "workers/background.hpp"

namespace rebuild {
namespace {

using shared::RebuildPlace;

struct Wanted {
    Oid projection, owner;
};
constinit List *to_launch = NIL; // of Wanted; in TopTransactionContext

struct Address {
    Oid database, projection;
    int place; // -1: there is no shared memory
    TimestampTz since;
};

// -------------------------------------------------------------------------------------------------------------- places

constexpr int64 coming_up = 60 * 1000; // milliseconds that a process may take to come up

bool is_taken(const RebuildPlace &place) {
    return place.since != 0 &&
           (place.pid != 0 || place.since > TimestampTzPlusMilliseconds(GetCurrentTimestamp(), -coming_up));
}

int place_count() {
    return std::min<int>(std::max(2, max_worker_processes / 4), static_cast<int>(std::size(shared::memory->rebuilds)));
}

template <class Which>
int count_places(Which &&which) {
    return static_cast<int>(std::count_if(std::begin(shared::memory->rebuilds), std::end(shared::memory->rebuilds),
                                          [&](const RebuildPlace &each) { return is_taken(each) && which(each); }));
}

int held_by(Oid owner) {
    return count_places([&](const RebuildPlace &each) { return each.owner == owner; });
}

bool is_under_way(Oid projection) {
    return count_places([&](const RebuildPlace &each) {
               return each.database == MyDatabaseId && each.projection == projection;
           }) > 0;
}

// The place, or -1 where none is to be had now.
int take_place(const Wanted &wanted) {
    return shared::with_shared(LW_EXCLUSIVE, [&] {
        if (count_places([](const RebuildPlace &) { return true; }) >= place_count() ||
            held_by(wanted.owner) >= place_count() - 1 || is_under_way(wanted.projection))
            return -1;
        RebuildPlace *place = std::find_if(std::begin(shared::memory->rebuilds), std::end(shared::memory->rebuilds),
                                           [](const RebuildPlace &each) { return !is_taken(each); });
        *place = {GetCurrentTimestamp(), 0, MyDatabaseId, wanted.projection, wanted.owner};
        return static_cast<int>(place - shared::memory->rebuilds);
    });
}

void give_back(int place, TimestampTz since) {
    shared::with_shared(LW_EXCLUSIVE, [&] {
        if (shared::memory->rebuilds[place].since == since) shared::memory->rebuilds[place] = {};
    });
}

constinit Address mine = {};

void leave(int, Datum) {
    if (mine.place >= 0) give_back(std::exchange(mine.place, -1), mine.since);
}

void come_up() {
    if (mine.place < 0) return;
    shared::with_shared(LW_EXCLUSIVE, [] {
        RebuildPlace &place = shared::memory->rebuilds[mine.place];
        if (place.since == mine.since)
            place.pid = MyProcPid;
        else
            mine.place = -1; // came too late
    });
    on_shmem_exit(leave, 0);
}

// ------------------------------------------------------------------------------------------------------------
// processes

void launch(const Wanted &wanted) {
    int place = shared::memory ? take_place(wanted) : -1;
    if (shared::memory && place < 0) return; // it waits
    Oid projection = wanted.projection;
    char name[BGW_MAXLEN];
    snprintf(name, sizeof name, "pg_projections rebuild of %u", projection);
    BackgroundWorker process = workers::background_process(name, "pg_projections rebuild", "projections_rebuild_main");
    Address address{MyDatabaseId, projection, place, place < 0 ? 0 : shared::memory->rebuilds[place].since};
    memcpy(process.bgw_extra, &address, sizeof address);
    if (RegisterDynamicBackgroundWorker(&process, nullptr)) return;
    if (place >= 0) give_back(place, address.since);
    ereport(WARNING,
            (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED), errmsg("no process is free for the scheduled rebuild"),
             errdetail("All %d places for background workers are taken.", max_worker_processes),
             errhint("A worker of pg_projections starts it later; or CALL projections.rebuild().")));
}

// What waits for a place, the oldest first.
pg::vector<Wanted> waiting() {
    pg::vector<Wanted> found;
    pg::with_spi([&] {
        pg::spi_execute(
            "SELECT c.oid, c.relowner FROM projections_internal.rebuild_request r JOIN pg_catalog.pg_class c ON c.oid "
            "= "
            "r.projection WHERE projections_internal._rebuild_holder(r.projection) IS NULL ORDER BY r.requested_at");
        for (uint64 i = 0; i < SPI_processed; i++) found.push_back({pg::Row(i).oid(1), pg::Row(i).oid(2)});
    });
    return found;
}

void launch_waiting() {
    pg::with_snapshot(GetTransactionSnapshot(), [] {
        pg::vector<Wanted> left = waiting();
        auto fewer = [](const Wanted &a, const Wanted &b) { return held_by(a.owner) < held_by(b.owner); };
        while (!left.empty()) {
            auto next =
                shared::with_shared(LW_SHARED, [&] { return std::min_element(left.begin(), left.end(), fewer); });
            launch(*next);
            left.erase(next);
        }
    });
}

// The role that asked for it; null where the request is gone.
const char *requester(Oid projection) {
    return ask_text(
        psprintf("SELECT requested_by FROM projections_internal.rebuild_request WHERE projection = %u", projection));
}

void carry_out(Oid projection) {
    SPI_connect_ext(SPI_OPT_NONATOMIC);
    const char *by = nullptr;
    pg::with_snapshot(GetTransactionSnapshot(), [&] { by = requester(projection); });
    if (by) run_rebuild(projection, by);
    SPI_finish();
}

// What failed before the rebuild had a row of its own is told by the log.
void carry_out_and_tell(Oid projection) {
    MemoryContext outside = CurrentMemoryContext;
    PG_TRY();
    { carry_out(projection); }
    PG_CATCH();
    {
        MemoryContextSwitchTo(outside);
        EmitErrorReport();
        FlushErrorState();
        AbortOutOfAnyTransaction();
        StartTransactionCommand();
        pg::with_snapshot(GetTransactionSnapshot(), [&] { forget_request(projection); });
    }
    PG_END_TRY();
}

} // namespace

void transaction_ended(bool committed) {
    if (committed)
        for (const Wanted *each : pg::each<Wanted>(to_launch)) launch(*each);
    to_launch = NIL;
}

} // namespace rebuild

extern "C" {

PG_FUNCTION_INFO_V1(projections_launch_rebuild);
// When this transaction has committed.
Datum projections_launch_rebuild(PG_FUNCTION_ARGS) {
    Oid projection = PG_GETARG_OID(0);
    pg::within(TopTransactionContext, [&] {
        auto *wanted = static_cast<rebuild::Wanted *>(palloc(sizeof(rebuild::Wanted)));
        *wanted = {projection, pg::owner_of(projection)};
        rebuild::to_launch = lappend(rebuild::to_launch, wanted);
    });
    PG_RETURN_VOID();
}

PGDLLEXPORT void projections_rebuild_main(Datum);

void projections_rebuild_main(Datum) {
    rebuild::Address &address = rebuild::mine;
    memcpy(&address, MyBgworkerEntry->bgw_extra, sizeof address);
    rebuild::come_up();
    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    pqsignal(SIGTERM, die);
    BackgroundWorkerUnblockSignals();
    BackgroundWorkerInitializeConnectionByOid(address.database, InvalidOid, 0);
    SetCurrentStatementStartTimestamp();
    StartTransactionCommand();
    pgstat_report_activity(STATE_RUNNING, "scheduled rebuild");
    rebuild::carry_out_and_tell(address.projection);
    CommitTransactionCommand();
    if (address.place >= 0) {
        rebuild::leave(0, 0);
        StartTransactionCommand();
        rebuild::launch_waiting();
        CommitTransactionCommand();
    }
    pgstat_report_activity(STATE_IDLE, nullptr);
}

} // extern "C"
