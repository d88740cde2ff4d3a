// Two trigger functions: the guard of each projection's table, and the catalog's announcement of its changes.
#include "declare/guard.hpp"

#include "catalog/own_trigger.hpp"
#include "catalog/projection.hpp"
#include "maintain/flush.hpp"
#include "pg/scope.hpp"
#include "shared/wake.hpp"

namespace declare {

constinit bool allow_direct_writes = false;

namespace {

constinit List *marked_stale = NIL; // in this transaction

void mark_stale(Oid projection) {
    if (list_member_oid(marked_stale, projection)) return;
    pg::within(TopTransactionContext, [&] { marked_stale = lappend_oid(marked_stale, projection); });
    pg::as_superuser([&] {
        pg::with_spi([&] {
            pg::spi_execute(psprintf("UPDATE projections_internal.projection SET stale_since = pg_catalog.now(), "
                                     "stale_reason = 'written directly' "
                                     "WHERE relation = %u::pg_catalog.regclass AND stale_since IS NULL",
                                     projection));
        });
    });
}

} // namespace

void end_transaction() { marked_stale = NIL; }

} // namespace declare

extern "C" {

PG_FUNCTION_INFO_V1(projections_guard);

// BEFORE ROW and BEFORE TRUNCATE on a projection: only maintenance writes it.
Datum projections_guard(PG_FUNCTION_ARGS) {
    static constexpr catalog::OwnTrigger forms[] = {catalog::guard_rows, catalog::guard_truncate};
    TriggerData *event = &catalog::called_by(fcinfo, "guard", forms);
    HeapTuple result = TRIGGER_FIRED_BY_UPDATE(event->tg_event) ? event->tg_newtuple : event->tg_trigtuple;
    Oid relation = RelationGetRelid(event->tg_relation);
    int depth = pg::trigger_depth();
    if (maintain::writing(relation, depth)) return PointerGetDatum(result);
    catalog::Projection *projection = catalog::projection(relation);
    if (projection == nullptr) return PointerGetDatum(result); // being restored, or no longer ours
    if (declare::allow_direct_writes) {
        declare::mark_stale(relation);
        return PointerGetDatum(result);
    }
    ereport(ERROR, (errcode(pg::error::direct_write), errmsg("cannot write projection %s directly", projection->name()),
                    errdetail("It is kept equal to its definition; only its maintenance writes it."),
                    errhint("Write its sources. A superuser may set pg_projections.allow_direct_writes, which marks "
                            "the projection stale.")));
    pg_unreachable();
}

PG_FUNCTION_INFO_V1(projections_announce_change);

// AFTER STATEMENT on the catalog table: sessions read it anew, also after a restore has filled it.
Datum projections_announce_change(PG_FUNCTION_ARGS) {
    static constexpr catalog::OwnTrigger forms[] = {
        {"announce_change", "_announce_change",
         TRIGGER_TYPE_INSERT | TRIGGER_TYPE_UPDATE | TRIGGER_TYPE_DELETE | TRIGGER_TYPE_TRUNCATE, 0, nullptr}};
    catalog::called_by(fcinfo, "_announce_change", forms);
    catalog::announce_change();
    shared::announce_work();
    PG_RETURN_POINTER(nullptr);
}

} // extern "C"
