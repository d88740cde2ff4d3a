// Drop, by name and by DROP TABLE: sources first, then the projection, as writers lock them.
#include "declare/removal.hpp"
#include "events/slot.hpp"
#include "maintain/flush.hpp"
#include "pg/scope.hpp"
#include "rights/audit.hpp"
#include "rights/caller.hpp"

namespace declare {
namespace {

// Holds off the sources' writers before the projection is locked: they lock in this order too. Who appends events locks
// nothing of the projection. Who applies them to a handler's tables locks its feed first.
void lock_for_drop(const catalog::Projection &projection) {
    if (projection.flow != catalog::Flow::events)
        for (Oid table : catalog::tables_below(projection)) LockRelationOid(table, AccessExclusiveLock);
    if (projection.kind == catalog::Kind::handler) LockRelationOid(projection.definition, AccessExclusiveLock);
}

// The projection of that name, which nobody else uses; null where there is none. Another session may drop it first.
catalog::Projection *locked_for_drop(text *name, bool missing_ok) {
    for (;;) {
        catalog::Projection *projection = rights::find_own_projection(name, catalog::Hold::nothing, missing_ok);
        if (projection == nullptr) return nullptr;
        lock_for_drop(*projection);
        LockRelationOid(projection->relation, AccessExclusiveLock);
        if (rights::find_own_projection(name, catalog::Hold::nothing, missing_ok) == projection) return projection;
    }
}

void drop(catalog::Projection &projection, bool keep_table) {
    if (keep_table && projection.kind == catalog::Kind::query) maintain::settle(projection, "release");
    const char *table = projection.name();
    pg::with_spi([&] {
        if (!keep_table) {
            // The rest follows by the event trigger.
            bool view = get_rel_relkind(projection.relation) == RELKIND_VIEW;
            bool owned = view || projection.kind != catalog::Kind::handler;
            if (owned) {
                pg::spi_execute(psprintf("DROP %s %s", view ? "VIEW" : "TABLE", table));
                return;
            }
        }
        if (keep_table && !catalog::over(projection.relation).empty()) {
            catalog::Projection *below = catalog::over(projection.relation).front();
            ereport(ERROR, (errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
                            errmsg("cannot release %s: projection %s reads it", table, below->name()),
                            errdetail("As an ordinary table it would have other guards."),
                            errhint("Drop %s first.", below->name())));
        }
        pg::as_superuser(
            [&] { pg::spi_execute(psprintf("SELECT projections_internal._release(%u)", projection.relation)); });
    });
}

void before_drop_table(const DropStmt *statement) {
    for (Node *object : pg::each<Node>(statement->objects)) {
        Oid relation = RangeVarGetRelid(makeRangeVarFromNameList(castNode(List, object)), NoLock, true);
        catalog::Projection *projection = OidIsValid(relation) ? catalog::projection(relation) : nullptr;
        // A shadow's writers hold its own locks; its projection's writers go on.
        if (projection && !OidIsValid(projection->shadow_of) && pg::owns_relation(relation, GetUserId()))
            lock_for_drop(*projection);
    }
}

} // namespace
} // namespace declare

extern "C" {

PG_FUNCTION_INFO_V1(projections_drop);
AUDITED(projections_drop) {
    bool keep_table = !PG_ARGISNULL(1) && PG_GETARG_BOOL(1), if_exists = !PG_ARGISNULL(2) && PG_GETARG_BOOL(2);
    rights::text_argument(fcinfo, 0, "name");
    events::refuse_while_applying();
    catalog::Projection *projection = declare::locked_for_drop(PG_GETARG_TEXT_PP(0), if_exists);
    if (projection == nullptr) {
        ereport(NOTICE, (errmsg("projection \"%s\" does not exist, skipping", text_to_cstring(PG_GETARG_TEXT_PP(0)))));
        PG_RETURN_VOID();
    }
    declare::drop(*projection, keep_table);
    PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(projections_before_ddl);
// Event trigger, ddl_command_start.
Datum projections_before_ddl(PG_FUNCTION_ARGS) {
    if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
        ereport(ERROR, (errcode(ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED),
                        errmsg("projections_internal._before_ddl() is an event trigger function")));
    Node *command = reinterpret_cast<EventTriggerData *>(fcinfo->context)->parsetree;
    if (!IsA(command, DropStmt)) PG_RETURN_NULL();
    auto *drop = reinterpret_cast<DropStmt *>(command);
    if (drop->removeType == OBJECT_EXTENSION) declare::before_removal(command); // with the SQL objects of 0.2.0
    if (drop->removeType == OBJECT_TABLE) declare::before_drop_table(drop);
    PG_RETURN_NULL();
}

} // extern "C"
