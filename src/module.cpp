// The library's entry: settings, hooks and transaction callbacks.
#include "capture/trigger.hpp"
#include "catalog/projection.hpp"
#include "catalog/settings.hpp"
#include "declare/guard.hpp"
#include "declare/hidden_ddl.hpp"
#include "declare/install.hpp"
#include "declare/removal.hpp"
#include "events/confinement.hpp"
#include "events/events.hpp"
#include "events/failure.hpp"
#include "events/moved.hpp"
#include "events/problem.hpp"
#include "maintain/flush.hpp"
#include "maintain/kept.hpp"
#include "operate/run.hpp"
#include "pg/scope.hpp"
#include "pg/utility.hpp"
#include "rebuild/rebuild.hpp"
#include "rebuild/schedule.hpp"
#include "shared/session.hpp"
#include "shared/throughput.hpp"
#include "shared/wake.hpp"
#include "verify/refold.hpp"
#include "workers/background.hpp"

extern "C" {
PG_MODULE_MAGIC;
PGDLLEXPORT void _PG_init();
}

namespace {

enum FlushAt { at_commit, at_statement };
constexpr config_enum_entry flush_values[] = {
    {"commit", at_commit, false}, {"statement", at_statement, false}, {nullptr, 0, false}};
constinit int flush_at = at_commit;

constinit ExecutorStart_hook_type next_executor_start = nullptr;
constinit ExecutorRun_hook_type next_executor_run = nullptr;
constinit ExecutorFinish_hook_type next_executor_finish = nullptr;
constinit ExecutorEnd_hook_type next_executor_end = nullptr;
constinit ProcessUtility_hook_type next_process_utility = nullptr;

// Queries whose snapshot we replaced: it has to be the active one while they run, for functions and parallel workers.
constinit List *renewed = NIL;

// --------------------------------------------------------------------------------------------------------- before a
// read

// Whether a query may read projections that its range table does not show: parallel workers see nothing of what is
// pending here, so functions that they may call are taken to read everything.
bool may_read_unseen(const PlannedStmt *plan) { return plan->parallelModeNeeded && plan->invalItems != NIL; }

bool flush_before(const PlannedStmt *plan) {
    if (!capture::anything_pending()) return false;
    if (may_read_unseen(plan)) return maintain::flush_for_any_read();
    boost::container::small_vector<Oid, 16, pg::Allocator<Oid>> read;
    ListCell *cell;
    foreach (cell, plan->relationOids) read.push_back(lfirst_oid(cell));
    return maintain::flush_for_read({read.data(), read.size()});
}

// A query whose flush had to wait for another writer must see what that writer committed: its statement snapshot is
// older. In REPEATABLE READ and SERIALIZABLE it keeps its snapshot and only learns of our own new rows.
void renew_snapshot(QueryDesc *query) {
    Snapshot fresh;
    if (IsolationUsesXactSnapshot()) {
        PushCopiedSnapshot(query->snapshot);
        UpdateActiveSnapshotCommandId();
        fresh = RegisterSnapshot(GetActiveSnapshot());
        PopActiveSnapshot();
    } else {
        fresh = RegisterSnapshot(GetTransactionSnapshot());
    }
    UnregisterSnapshot(query->snapshot);
    query->snapshot = fresh;
    pg::within(TopTransactionContext, [&] { renewed = lappend(renewed, query); });
}

void executor_start(QueryDesc *query, int flags) {
    if (!(flags & EXEC_FLAG_EXPLAIN_ONLY)) events::confine_plan(query->plannedstmt);
    if (!(flags & EXEC_FLAG_EXPLAIN_ONLY) && query->snapshot != nullptr && query->snapshot != InvalidSnapshot &&
        flush_before(query->plannedstmt))
        renew_snapshot(query);
    if (!(flags & EXEC_FLAG_EXPLAIN_ONLY) && query->plannedstmt->resultRelations != NIL)
        capture::statement_begins(query, flags & EXEC_FLAG_SKIP_TRIGGERS);
    if (next_executor_start)
        next_executor_start(query, flags);
    else
        standard_ExecutorStart(query, flags);
}

template <class Body>
void under_renewed(QueryDesc *query, Body &&body) {
    if (list_member_ptr(renewed, query))
        pg::with_snapshot(query->snapshot, body);
    else
        body();
}

void executor_run(PJ_EXECUTOR_RUN_ARGS) {
    under_renewed(query, [&] {
        if (next_executor_run)
            next_executor_run(PJ_EXECUTOR_RUN_PASS);
        else
            standard_ExecutorRun(PJ_EXECUTOR_RUN_PASS);
    });
}

void executor_finish(QueryDesc *query) {
    under_renewed(query, [&] {
        if (next_executor_finish)
            next_executor_finish(query);
        else
            standard_ExecutorFinish(query);
    });
    if (query->plannedstmt->resultRelations == NIL) return;
    capture::statement_ends(query);
    shared::statement_wrote(query->plannedstmt);
    maintain::flush_after_statement(flush_at == at_statement);
}

void executor_end(QueryDesc *query) {
    renewed = list_delete_ptr(renewed, query);
    capture::statement_ends(query);
    if (next_executor_end)
        next_executor_end(query);
    else
        standard_ExecutorEnd(query);
}

// -------------------------------------------------------------------------------------------------------------
// utilities

// Utility commands that read no table's rows, or whose queries pass through the executor's hooks.
bool reads_nothing(const Node *command) {
    if (pg::touches_no_rows(command)) return true;
    switch (nodeTag(command)) {
    case T_ListenStmt:
    case T_UnlistenStmt:
    case T_DiscardStmt:
    case T_LoadStmt:
    case T_CreateTableAsStmt:
    case T_CheckPointStmt: return true;
    case T_CopyStmt: {
        auto *copy = reinterpret_cast<const CopyStmt *>(command);
        return copy->is_from || copy->query != nullptr;
    }
    default: return false;
    }
}

// What was changed before a transaction is made read-only can be written no later.
bool forbids_writing(const Node *command) {
    if (!IsA(command, VariableSetStmt)) return false;
    auto *set = reinterpret_cast<const VariableSetStmt *>(command);
    return set->kind == VAR_SET_MULTI || (set->name && strcmp(set->name, "transaction_read_only") == 0);
}

void run_utility(PlannedStmt *statement, const char *text, bool read_only_tree, ProcessUtilityContext context,
                 ParamListInfo parameters, QueryEnvironment *environment, DestReceiver *receiver,
                 QueryCompletion *completion) {
    if (next_process_utility)
        next_process_utility(statement, text, read_only_tree, context, parameters, environment, receiver, completion);
    else
        standard_ProcessUtility(statement, text, read_only_tree, context, parameters, environment, receiver,
                                completion);
}

void process_utility(PlannedStmt *statement, const char *text, bool read_only_tree, ProcessUtilityContext context,
                     ParamListInfo parameters, QueryEnvironment *environment, DestReceiver *receiver,
                     QueryCompletion *completion) {
    statement = declare::installing_here(statement);
    Node *command = statement->utilityStmt;
    auto run = [&] {
        declare::with_utility_depth([&] {
            run_utility(statement, text, read_only_tree, context, parameters, environment, receiver, completion);
        });
        // No event trigger tells of it.
        if (IsA(command, ReassignOwnedStmt)) declare::secure_all();
    };
    events::confine_utility(command);
    shared::before_utility(command);
    bool copy = IsA(command, CopyStmt);
    if (forbids_writing(command) && IsTransactionState() && capture::anything_pending() && !XactReadOnly)
        maintain::flush_logs();
    if (!reads_nothing(command) && IsTransactionState() && capture::anything_pending() &&
        maintain::flush_for_any_read()) {
        // COPY TO reads under the snapshot that was taken before the flush.
        if (copy && ActiveSnapshotSet() && !IsolationUsesXactSnapshot()) {
            pg::with_snapshot(GetTransactionSnapshot(), run);
            return;
        }
        if (copy && ActiveSnapshotSet()) {
            PushCopiedSnapshot(GetActiveSnapshot());
            UpdateActiveSnapshotCommandId();
            run();
            PopActiveSnapshot();
            return;
        }
    }
    auto *from = copy ? reinterpret_cast<CopyStmt *>(command) : nullptr;
    Oid target = from && from->is_from && from->relation ? RangeVarGetRelid(from->relation, NoLock, true) : InvalidOid;
    if (OidIsValid(target)) capture::writing_begins(from, target);
    if (IsA(command, TruncateStmt)) declare::before_truncate(reinterpret_cast<TruncateStmt *>(command));
    run();
    if (OidIsValid(target)) {
        capture::writing_ends(from);
        shared::relation_written(target);
        maintain::flush_after_statement(flush_at == at_statement);
    }
}

// ------------------------------------------------------------------------------------------------------------
// transactions

void transaction_event(XactEvent event, void *) {
    switch (event) {
    case XACT_EVENT_PRE_COMMIT:
    case XACT_EVENT_PRE_PREPARE:
        maintain::flush_at_commit();
        shared::before_commit();
        break;
    case XACT_EVENT_COMMIT:
    case XACT_EVENT_ABORT:
    case XACT_EVENT_PREPARE:
        capture::transaction_ended();
        events::forget_deleted();
        capture::statements_aborted(0);
        renewed = NIL;
        maintain::limit_kept();
        catalog::end_transaction(maintain::discard_kept);
        declare::end_transaction();
        shared::count_noted(event == XACT_EVENT_COMMIT);
        shared::session_ended();
        shared::transaction_ended(event == XACT_EVENT_COMMIT);
        rebuild::transaction_ended(event == XACT_EVENT_COMMIT);
        break;
    default: break;
    }
}

void resources_released(ResourceReleasePhase phase, bool, bool top_level, void *) {
    if (phase == RESOURCE_RELEASE_AFTER_LOCKS && top_level) shared::locks_released();
}

void subtransaction_event(SubXactEvent event, SubTransactionId sub, SubTransactionId parent, void *) {
    switch (event) {
    case SUBXACT_EVENT_PRE_COMMIT_SUB: break;
    case SUBXACT_EVENT_COMMIT_SUB:
        capture::subtransaction_committed(sub, parent);
        events::deleted_in_committed(sub, parent);
        break;
    case SUBXACT_EVENT_ABORT_SUB:
        capture::subtransaction_aborted(sub);
        events::deleted_in_aborted(sub);
        capture::statements_aborted(GetCurrentTransactionNestLevel());
        break;
    default: break;
    }
}

} // namespace

void _PG_init() {
    DefineCustomEnumVariable(
        "pg_projections.flush", "When inline projections are brought up to date.",
        "commit: once, at the end of the transaction, and before a read in it. statement: after each statement too.",
        &flush_at, at_commit, flush_values, PGC_USERSET, 0, nullptr, nullptr, nullptr);
    DefineCustomIntVariable(
        "pg_projections.delta_memory", "Memory for a transaction's pending changes of one projection.",
        "Beyond it, changes are applied early where that is possible and spilled to disk elsewhere.",
        &capture::delta_memory, 65536, 64, MAX_KILOBYTES, PGC_USERSET, GUC_UNIT_KB, nullptr, nullptr, nullptr);
    DefineCustomIntVariable(
        "pg_projections.session_memory", "Memory that a session keeps for its projections between transactions.",
        "Beyond it, the plans and expressions of the projections that were used least recently are "
        "given up at the end of a transaction, and made anew when they are needed.",
        &maintain::session_memory, 65536, 0, MAX_KILOBYTES, PGC_USERSET, GUC_UNIT_KB, nullptr, nullptr, nullptr);
    DefineCustomBoolVariable("pg_projections.allow_direct_writes", "Lets statements write projection tables.",
                             "A projection that is written so is marked stale until it is repaired.",
                             &declare::allow_direct_writes, false, PGC_SUSET, 0, nullptr, nullptr, nullptr);
    workers::start_background();
    declare::refuse_removal_in_use();
    operate::define_settings();
    rebuild::define_settings();
    DefineCustomIntVariable("pg_projections.max_retries", "Retries of a failed event before it is a dead letter.",
                            "After 1, 2, 4, 8, 16 … seconds. A projection's option of that name comes first.",
                            &events::max_retries, 5, 0, 100, PGC_SUSET, 0, nullptr, nullptr, nullptr);
    DefineCustomIntVariable("pg_projections.event_timeout", "How long a handler or reducer may take for one event.",
                            "Then the event fails. A projection's option of that name comes first.",
                            &events::event_timeout, 30000, 1, INT_MAX, PGC_SUSET, GUC_UNIT_MS, nullptr, nullptr,
                            nullptr);
    MarkGUCPrefixReserved("pg_projections");

    next_executor_start = ExecutorStart_hook;
    ExecutorStart_hook = executor_start;
    next_executor_run = ExecutorRun_hook;
    ExecutorRun_hook = executor_run;
    next_executor_finish = ExecutorFinish_hook;
    ExecutorFinish_hook = executor_finish;
    next_executor_end = ExecutorEnd_hook;
    ExecutorEnd_hook = executor_end;
    next_process_utility = ProcessUtility_hook;
    ProcessUtility_hook = process_utility;
    catalog::register_callbacks();
    capture::flush_early = maintain::flush_early;
    capture::apply_event = events::apply_inline;
    capture::note_removed = events::note_removed;
    maintain::apply_queued = events::apply_queued;
    maintain::flush_ended = events::flush_ended;
    maintain::refreshed = shared::note_refresh;
    events::refold_late = verify::refold_late;
    RegisterXactCallback(transaction_event, nullptr);
    RegisterSubXactCallback(subtransaction_event, nullptr);
    RegisterResourceReleaseCallback(resources_released, nullptr);
}
