// Drop, by name and by DROP TABLE: sources first, then the projection, as writers lock them.
#include "capture/members.hpp"
#include "catalog/lineage.hpp"
#include "declare/in_use.hpp"
#include "declare/removal.hpp"
#include "events/slot.hpp"
#include "maintain/flush.hpp"
#include "pg/list.hpp"
#include "pg/scope.hpp"
#include "rights/audit.hpp"
#include "rights/caller.hpp"

namespace declare {
namespace {

// Holds off the sources' writers before the projection is locked: they lock in this order too. Who appends events locks
// nothing of the projection. Who applies them to a handler's tables locks its feed first.
void lock_for_drop(const catalog::Projection &projection) {
    if (projection.flow != catalog::Flow::events)
        for (Oid table : catalog::tables_below(projection)) catalog::lock_tree(table, AccessExclusiveLock);
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

void execute(const char *text) {
    pg::as_superuser([&] { pg::with_spi([&] { pg::spi_execute(text); }); });
}

// As DETACH and DROP lock them, the parent first. Whoever writes the partition by its own name has not locked the
// parent yet, and will at his commit: he is waited for with nothing held. (Test: isolation/partitions)
void lock_from_above(Oid parent, Oid partition) {
    for (;;) {
        LockRelationOid(parent, AccessExclusiveLock);
        if (ConditionalLockRelationOid(partition, AccessExclusiveLock)) return;
        UnlockRelationOid(parent, AccessExclusiveLock);
        LOCKTAG tag;
        SET_LOCKTAG_RELATION(tag, MyDatabaseId, partition);
        WaitForLockers(tag, AccessExclusiveLock, false);
    }
}

constexpr char dropping = 0; // its address is the writer

// A table and those below it, and what rows of each of them are rows of, that stays.
struct Going {
    Oid table;
    pg::vector<catalog::Ancestor> above = {};
};

pg::vector<Going> what_goes(Oid relation) {
    List *tree = find_all_inheritors(relation, NoLock, nullptr);
    pg::vector<Going> going;
    ListCell *cell;
    foreach (cell, tree) {
        Going each{lfirst_oid(cell)};
        if (get_rel_relkind(each.table) == RELKIND_PARTITIONED_TABLE) continue;
        for (const catalog::Ancestor &above : catalog::ancestors_read(each.table))
            if (!list_member_oid(tree, above.relation)) each.above.push_back(above);
        if (!each.above.empty()) going.push_back(each);
    }
    return going;
}

// The rows of a partition or a child are captured before it goes, under the locks with which it will: a partition's
// parent first. Until it has gone, what is above counts as half-written.
void before_drop_of_member(Oid relation) {
    if (what_goes(relation).empty() || !pg::owns_relation(relation, GetUserId())) return;
    if (get_rel_relispartition(relation)) lock_from_above(get_partition_parent(relation, true), relation);
    catalog::lock_tree(relation, AccessExclusiveLock);
    pg::vector<Oid> members;
    for (const Going &each : what_goes(relation)) {
        members.push_back(each.table);
        Relation table = table_open(each.table, NoLock);
        for (const catalog::Ancestor &above : each.above) {
            capture::writing_begins(&dropping, above.relation);
            capture::capture_table(table, above.relation, capture::query_readers_of(above.relation), -1);
        }
        table_close(table, NoLock);
    }
    execute(
        psprintf("SELECT projections_internal._forget_members(%s)", pg::oid_array({members.data(), members.size()})));
}

bool holds_events(Oid partition) {
    bool found = false;
    ListCell *cell;
    if (get_rel_relispartition(partition))
        foreach (cell, get_partition_ancestors(partition)) found |= catalog::is_event_source(lfirst_oid(cell));
    return found;
}

// Events that go with a partition. Where that locks it, it is locked before: what is written to it until then goes,
// too.
void note_archived(Oid partition) {
    if (pg::owns_relation(partition, GetUserId()) && holds_events(partition))
        execute(psprintf("SELECT projections_internal._note_archived(%u)", partition));
}

void before_drop_of_tables(const DropStmt *statement) {
    if (!catalog::sql_is_current()) return;
    for (Node *object : pg::each<Node>(statement->objects)) {
        Oid relation = RangeVarGetRelid(makeRangeVarFromNameList(castNode(List, object)), NoLock, true);
        if (!OidIsValid(relation) || get_rel_relkind(relation) == RELKIND_FOREIGN_TABLE) continue;
        before_drop_of_member(relation);
        if (holds_events(relation) && pg::owns_relation(relation, GetUserId()))
            lock_from_above(get_partition_parent(relation, true), relation);
        note_archived(relation);
    }
}

// DETACH PARTITION, … CONCURRENTLY, and FINALIZE of one that was given up.
void before_alter_table(const AlterTableStmt *statement) {
    for (AlterTableCmd *command : pg::each<AlterTableCmd>(statement->cmds)) {
        if (command->subtype != AT_DetachPartition && command->subtype != AT_DetachPartitionFinalize) continue;
        auto *detached = castNode(PartitionCmd, command->def);
        Oid parent = RangeVarGetRelid(statement->relation, NoLock, true);
        Oid partition = RangeVarGetRelid(detached->name, NoLock, true);
        if (!OidIsValid(parent) || !OidIsValid(partition) || !pg::owns_relation(parent, GetUserId()) ||
            !catalog::sql_is_current())
            continue;
        bool at_once = command->subtype == AT_DetachPartition && !detached->concurrent;
        if (at_once && (holds_events(partition) || !catalog::ancestors_read(partition).empty()))
            lock_from_above(parent, partition);
        if (command->subtype == AT_DetachPartition) note_archived(partition);
        if (at_once) continue;
        execute(psprintf("SELECT projections_internal._note_detaching(%u, %u)", parent, partition));
    }
}

} // namespace

void before_truncate(const TruncateStmt *statement) {
    for (RangeVar *table : pg::each<RangeVar>(statement->relations)) {
        Oid relation = RangeVarGetRelid(table, NoLock, true);
        if (!OidIsValid(relation) || !get_rel_relispartition(relation) || !catalog::is_readable() ||
            !catalog::sql_is_current() || !holds_events(relation) ||
            pg_class_aclcheck(relation, GetUserId(), ACL_TRUNCATE) != ACLCHECK_OK)
            continue;
        catalog::lock_tree(relation, AccessExclusiveLock);
        execute(psprintf("SELECT projections_internal._note_archived(%u)", relation));
    }
}

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
    if (IsA(command, AlterTableStmt)) {
        declare::refuse_used(reinterpret_cast<AlterTableStmt *>(command));
        declare::before_alter_table(reinterpret_cast<AlterTableStmt *>(command));
    }
    if (!IsA(command, DropStmt)) PG_RETURN_NULL();
    auto *drop = reinterpret_cast<DropStmt *>(command);
    if (drop->removeType == OBJECT_EXTENSION) declare::before_removal(command); // with the SQL objects of 0.2.0
    if (drop->removeType == OBJECT_TABLE) {
        declare::refuse_used(drop);
        declare::before_drop_table(drop);
        declare::before_drop_of_tables(drop);
    }
    PG_RETURN_NULL();
}

PG_FUNCTION_INFO_V1(projections_members_followed);
Datum projections_members_followed(PG_FUNCTION_ARGS) {
    capture::writing_ends(&declare::dropping);
    PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(projections_capture_members);
Datum projections_capture_members(PG_FUNCTION_ARGS) {
    Oid source = PG_GETARG_OID(1), member = PG_GETARG_OID(2);
    Datum *oids;
    int count;
    deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), OIDOID, sizeof(Oid), true, TYPALIGN_INT, &oids, nullptr, &count);
    capture::Readers readers;
    for (int i = 0; i < count; i++)
        if (catalog::Projection *reader = catalog::projection(DatumGetObjectId(oids[i]))) readers.push_back(reader);
    // NO INHERIT tells of the child only. A plan that is made without it, until it is rolled back to a savepoint, does
    // not depend on it. (Test: sql/inherited)
    CacheInvalidateRelcacheByRelid(source);
    Relation table = table_open(member, AccessShareLock);
    capture::capture_table(table, source, readers, PG_GETARG_INT32(3));
    table_close(table, NoLock);
    PG_RETURN_VOID();
}

} // extern "C"
