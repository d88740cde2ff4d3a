// Callbacks at the end of transactions set latches; the cheap questions come first, as every commit that appends asks
// them.
#include "shared/wake.hpp"

#include "catalog/projection.hpp"
#include "shared/memory.hpp"

namespace shared {
namespace {

constinit bool work_noted = false, catalog_changed = false, databases_changed = false, holding = false;
constinit bool wake_due = false, announcement_due = false, needs_workers = false;

// ------------------------------------------------------------------------------------------------- event sources

// Whether a table that was written is an event source, a partition of one, or a change log. Forgotten with any change
// of those tables.
struct Written {
    Oid relation;
    bool source;
};
constinit Written written[64] = {};
constinit int written_count = 0;
constinit bool callback_registered = false;
constinit Oid catalog_at = InvalidOid;

void relation_changed(Datum, Oid changed) {
    if (written_count == 0) return;
    auto *end = written + written_count;
    if (!OidIsValid(changed) || changed == catalog_at ||
        std::any_of(written, end, [&](const Written &each) { return each.relation == changed; }))
        written_count = 0;
}

bool is_change_log(Oid relation) {
    for (const catalog::Projection *each : catalog::all())
        if (each->async && std::find(each->changes.begin(), each->changes.end(), relation) != each->changes.end())
            return true;
    return false;
}

bool leads_to_source(Oid relation) {
    if (catalog::is_event_source(relation) || is_change_log(relation)) return true;
    if (!get_rel_relispartition(relation)) return false;
    bool found = false;
    List *ancestors = get_partition_ancestors(relation);
    ListCell *cell;
    foreach (cell, ancestors) found |= catalog::is_event_source(lfirst_oid(cell));
    list_free(ancestors);
    return found;
}

bool is_source(Oid relation) {
    for (int i = 0; i < written_count; i++)
        if (written[i].relation == relation) return written[i].source;
    if (relation < FirstNormalObjectId) return false;
    if (!callback_registered) CacheRegisterRelcacheCallback(relation_changed, 0);
    callback_registered = true;
    Oid catalog_now = catalog::catalog_relation();
    // What a library too old for the catalog does not apply need not wake it.
    bool source = OidIsValid(catalog_now) && catalog::is_readable() && leads_to_source(relation);
    catalog_at = catalog_now;
    if (written_count == lengthof(written)) written_count = 0;
    written[written_count++] = {relation, source};
    return source;
}

// ------------------------------------------------------------------------------------------------------- workers

// Every commit that appended comes by here. While a worker is about to look, or one of those that found nothing will
// look again in a moment, no other needs to be woken for the same events.
void wake_one(Oid database) {
    bool on_its_way = false, any = false, slow = false;
    pg_memory_barrier();
    for (Worker &worker : memory->all())
        if (serves(worker, database) && pg_atomic_read_u32(&worker.signalled) == 0)
            pg_atomic_write_u32(&worker.signalled, 1);
    pg_memory_barrier();
    for (Worker &worker : memory->all()) {
        if (!serves(worker, database)) continue;
        Phase phase = phase_of(worker);
        any = true;
        on_its_way |= phase == Phase::woken || phase == Phase::resting || phase == Phase::starting;
    }
    if (on_its_way || !any) return;
    for (Worker &worker : memory->all()) {
        auto idle = static_cast<uint32>(Phase::idle);
        if (serves(worker, database) &&
            pg_atomic_compare_exchange_u32(&worker.phase, &idle, static_cast<uint32>(Phase::woken))) {
            PGPROC *process = worker.process;
            if (process) SetLatch(&process->procLatch);
            return;
        }
    }
    // All are busy and will look after their batches, unless those are long.
    TimestampTz now = GetCurrentTimestamp();
    for (Worker &worker : memory->all())
        slow |= serves(worker, database) && batch_milliseconds(worker, now) > slow_after;
    if (slow)
        with_shared(LW_EXCLUSIVE, [&] {
            if (count_workers(database) < max_workers) announce(database, false);
        });
}

void announce_to_all(Oid database) {
    with_shared(LW_EXCLUSIVE, [&] {
        for (Worker &worker : memory->all())
            if (serves(worker, database)) worker.announced = true;
        if (needs_workers && count_workers(database) == 0) announce(database, false);
    });
    wake_one(database);
}

bool any_async() {
    auto all = catalog::all();
    return std::any_of(all.begin(), all.end(), [](const catalog::Projection *each) { return each->async; });
}

// --------------------------------------------------------------------------------------------------------- holds

// The database that a command needs without other sessions; null if it is none of those commands.
const char *database_needed(const Node *command) {
    switch (nodeTag(command)) {
    case T_DropdbStmt: return reinterpret_cast<const DropdbStmt *>(command)->dbname;
    case T_RenameStmt: {
        auto *rename = reinterpret_cast<const RenameStmt *>(command);
        return rename->renameType == OBJECT_DATABASE ? rename->subname : nullptr;
    }
    case T_AlterDatabaseStmt: {
        auto *alter = reinterpret_cast<const AlterDatabaseStmt *>(command);
        for (DefElem *option : pg::each<DefElem>(alter->options))
            if (strcmp(option->defname, "tablespace") == 0) return alter->dbname;
        return nullptr;
    }
    case T_CreatedbStmt: {
        for (DefElem *option : pg::each<DefElem>(reinterpret_cast<const CreatedbStmt *>(command)->options))
            if (strcmp(option->defname, "template") == 0 && option->arg) return defGetString(option);
        return "template1";
    }
    default: return nullptr;
    }
}

// Whether a command locks one table of ours after the other, in an order that no worker follows. (test: 021_update)
bool changes_extension(const Node *command) {
    constexpr const char *ours = "pg_projections";
    if (IsA(command, AlterExtensionStmt))
        return strcmp(reinterpret_cast<const AlterExtensionStmt *>(command)->extname, ours) == 0;
    if (!IsA(command, DropStmt)) return false;
    auto *drop = reinterpret_cast<const DropStmt *>(command);
    if (drop->removeType != OBJECT_EXTENSION) return false;
    for (Node *name : pg::each<Node>(drop->objects))
        if (strcmp(strVal(name), ours) == 0) return true;
    return false;
}

void put_hold(Oid database) {
    bool put = with_shared(LW_EXCLUSIVE, [&] {
        Hold *unused = std::find_if(std::begin(memory->holds), std::end(memory->holds),
                                    [](const Hold &hold) { return hold.pid == 0; });
        if (unused == std::end(memory->holds)) return false;
        *unused = {database, MyProcPid};
        return true;
    });
    if (!put)
        ereport(ERROR, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
                        errmsg("too many databases are being created, dropped or moved at once"),
                        errdetail("Workers of pg_projections are held off from %d of them.",
                                  static_cast<int>(lengthof(memory->holds))),
                        errhint("Try again when some of these commands have ended.")));
    holding = true;
}

// Ends the database's workers. If they do not go in time, the command itself says that the database is in use.
void end_workers(Oid database) {
    constexpr int patience = 5000, step = 10;
    for (int waited = 0; waited < patience; waited += step) {
        bool gone = with_shared(LW_SHARED, [&] {
            for (Worker &worker : memory->all())
                if (serves(worker, database) && worker.pid != 0 && waited % 1000 == 0) kill(worker.pid, SIGTERM);
            return count_workers(database) == 0;
        });
        if (gone) return;
        CHECK_FOR_INTERRUPTS();
        WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, step, PG_WAIT_EXTENSION);
        ResetLatch(MyLatch);
    }
}

} // namespace

// ------------------------------------------------------------------------------------------------------- sessions

void note_work() {
    if (memory) work_noted = true;
}

void announce_work() {
    if (memory) catalog_changed = true;
}

void relation_written(Oid relation) {
    if (memory && !work_noted && is_source(relation)) work_noted = true;
}

void statement_wrote(const PlannedStmt *statement) {
    if (memory == nullptr || work_noted) return;
    bool appends = statement->commandType != CMD_UPDATE && statement->commandType != CMD_DELETE;
    if (!appends && !statement->hasModifyingCTE) return;
    ListCell *cell;
    foreach (cell, statement->resultRelations) relation_written(rt_fetch(lfirst_int(cell), statement->rtable)->relid);
}

void wake() {
    if (memory) wake_one(MyDatabaseId);
}

void before_utility(const Node *command) {
    if (memory == nullptr || !IsTransactionState()) return;
    if (IsA(command, TransactionStmt)) {
        // The transaction was another session's: what it appended is not known.
        auto kind = reinterpret_cast<const TransactionStmt *>(command)->kind;
        if (kind == TRANS_STMT_COMMIT_PREPARED || kind == TRANS_STMT_ROLLBACK_PREPARED) work_noted = true;
        return;
    }
    if (IsA(command, AlterDatabaseStmt)) databases_changed = true;
    if (changes_extension(command) && superuser()) {
        put_hold(MyDatabaseId);
        end_workers(MyDatabaseId);
        return;
    }
    const char *name = database_needed(command);
    if (name == nullptr) return;
    databases_changed = true;
    Oid database = get_database_oid(name, true);
    // Who may not do it must not be able to stop the workers either.
    if (!OidIsValid(database) || (database == MyDatabaseId && !IsA(command, CreatedbStmt))) return;
    if (!pg::owns_database(database, GetUserId())) return;
    put_hold(database);
    end_workers(database);
}

void before_commit() {
    // Inline projections need no worker; but one that is there must hear that it has nothing left to do.
    if (catalog_changed) needs_workers = any_async();
}

void locks_released() {
    if (std::exchange(announcement_due, false))
        announce_to_all(MyDatabaseId);
    else if (wake_due)
        wake_one(MyDatabaseId);
    wake_due = false;
}

void transaction_ended(bool committed) {
    if (memory == nullptr) return;
    // An abort, too, decides positions that the transaction had drawn.
    wake_due |= work_noted;
    announcement_due |= catalog_changed && committed;
    if (holding || databases_changed)
        with_shared(LW_EXCLUSIVE, [&] {
            for (Hold &hold : memory->holds)
                if (hold.pid == MyProcPid) hold = {};
            memory->rescan = true;
            wake_launcher();
        });
    work_noted = catalog_changed = databases_changed = holding = false;
}

} // namespace shared
