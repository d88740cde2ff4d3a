// Schedule.
//
// A request is a row (projections.rebuild_request); its transaction's commit starts a background process for it, with
// or without shared_preload_libraries. A row outlives crashes: workers start a process for what nobody carries out.
#include "rebuild/schedule.hpp"
#include "async/background.hpp"
#include "operate/run.hpp"
#include "pg/scope.hpp"
#include "rebuild/rebuild.hpp"
#include "rebuild/session.hpp"

namespace rebuild {
namespace {

constinit List *to_launch = NIL; // projections; in TopTransactionContext

struct Address {
    Oid database, projection;
};

void launch(Oid projection) {
    char name[BGW_MAXLEN];
    snprintf(name, sizeof name, "pg_projections rebuild of %u", projection);
    BackgroundWorker process = async::background_process(name, "pg_projections rebuild", "projections_rebuild_main");
    Address address{MyDatabaseId, projection};
    memcpy(process.bgw_extra, &address, sizeof address);
    if (!RegisterDynamicBackgroundWorker(&process, nullptr))
        ereport(WARNING,
                (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED), errmsg("no process is free for the scheduled rebuild"),
                 errdetail("All %d places for background workers are taken.", max_worker_processes),
                 errhint("A worker of pg_projections starts it later; or CALL projections.rebuild().")));
}

// The role that asked for it; null where the request is gone.
const char *requester(Oid projection) {
    return ask_text(psprintf("SELECT requested_by FROM projections.rebuild_request WHERE projection = %u", projection));
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
        for (ListCell *cell = list_head(to_launch); cell; cell = lnext(to_launch, cell)) launch(lfirst_oid(cell));
    to_launch = NIL;
}

} // namespace rebuild

extern "C" {

PG_FUNCTION_INFO_V1(projections_launch_rebuild);
// When this transaction has committed.
Datum projections_launch_rebuild(PG_FUNCTION_ARGS) {
    pg::within(TopTransactionContext,
               [&] { rebuild::to_launch = list_append_unique_oid(rebuild::to_launch, PG_GETARG_OID(0)); });
    PG_RETURN_VOID();
}

PGDLLEXPORT void projections_rebuild_main(Datum);

void projections_rebuild_main(Datum) {
    rebuild::Address address;
    memcpy(&address, MyBgworkerEntry->bgw_extra, sizeof address);
    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    pqsignal(SIGTERM, die);
    BackgroundWorkerUnblockSignals();
    BackgroundWorkerInitializeConnectionByOid(address.database, InvalidOid, 0);
    SetCurrentStatementStartTimestamp();
    StartTransactionCommand();
    pgstat_report_activity(STATE_RUNNING, "scheduled rebuild");
    rebuild::carry_out_and_tell(address.projection);
    CommitTransactionCommand();
    pgstat_report_activity(STATE_IDLE, nullptr);
}

} // extern "C"
