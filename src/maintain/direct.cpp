// Direct writes.
//
// Most flushes add to a few groups that exist. Running an UPDATE for each costs several times what the change itself
// costs: a plan's nodes and expressions are set up and torn down at every commit. Here they are set up once a session:
// the row is found in the unique index, its states are added up, its outputs evaluated, and the table access method
// updates it.
//
// The look-up uses an MVCC snapshot. When the version found has been updated meanwhile, the access method follows the
// row to its latest version, as the executor does (a key never changes in place, so that version has the same key), and
// the delta is added to that one. Whatever is not this simple case is left to the statements: a row not found, a group
// that empties.
//
// A table that other projections read has our trigger, for what is written by statements. Here each row is handed to
// capture in its place, so that what reads it costs its writers no queue of events and no plan.
#include "maintain/direct.hpp"

#include "capture/trigger.hpp"
#include "catalog/own_trigger.hpp"
#include "maintain/apply_values.hpp"
#include "maintain/statements.hpp"
#include "pg/index.hpp"
#include "pg/query.hpp"

namespace maintain {

using catalog::Projection;
using compile::Block;
using compile::State;
using compile::StateKind;

// What a session keeps between transactions.
struct DirectPlan {
    MemoryContext memory;
    Oid index = InvalidOid;     // the key's; none: rows are found by statements only
    bool direct = false;        // nothing asks for the executor
    bool captured = false;      // other projections read the table
    pg::vector<int> index_keys; // for each index column, the key it holds
    pg::vector<ScanKeyData> scan_keys;
    ExprContext *context = nullptr;
    pg::vector<ExprState *> outputs;
    pg::vector<FmgrInfo> adders; // of totals: their type's addition
};

struct DirectWriter {
    Projection &projection;
    const Block &block;
    DirectPlan &plan;
    Relation table;
    Relation index;
    IndexScanDesc scan;
    MemoryContext memory;
    EState *estate; // with target, for indexes and constraints: null until needed
    ResultRelInfo *target;
    TupleTableSlot *found;
    TupleTableSlot *changed;
    Snapshot snapshot;
};

namespace {

// Our trigger on what other projections read, while it fires. What it would be told it is told here, row by row.
bool captures(const Trigger &trigger) {
    return trigger.tgenabled == TRIGGER_FIRES_ALWAYS && catalog::is_as_made(trigger, catalog::capture_rows);
}

bool is_captured(Relation table) {
    TriggerDesc *triggers = table->trigdesc;
    return triggers && std::any_of(triggers->triggers, triggers->triggers + triggers->numtriggers, captures);
}

// What the executor does for a table and direct writes do not. Each makes its projection go by statements; what changes
// one of them is DDL, after which the plan is made again. (test: sql/constraints, sql/ordinary_table)
bool has_triggers(Projection &, Relation table) { // foreign keys to it and deferrable constraints are triggers, too
    TriggerDesc *triggers = table->trigdesc;
    if (triggers == nullptr) return false;
    if (triggers->trig_update_before_statement || triggers->trig_update_after_statement) return true;
    for (int i = 0; i < triggers->numtriggers; i++) {
        const Trigger &trigger = triggers->triggers[i];
        if (TRIGGER_FOR_ROW(trigger.tgtype) && TRIGGER_FOR_UPDATE(trigger.tgtype) && !captures(trigger) &&
            !catalog::is_as_made(trigger, catalog::guard_rows))
            return true;
    }
    return false;
}

// NOT NULL is left to ExecConstraints; CHECKs are prepared at each use, which is what a statement is for.
bool has_expressions(Projection &, Relation table) {
    TupleConstr *constraints = RelationGetDescr(table)->constr;
    return constraints && (constraints->num_check > 0 || pg::has_generated_columns(constraints));
}

bool is_rewritten(Projection &, Relation table) { return table->rd_rules != nullptr; }

bool is_routed(Projection &, Relation table) {
    return table->rd_rel->relkind != RELKIND_RELATION || table->rd_rel->relispartition;
}

// A value is stored as it is computed: without the cast to a domain or to a length that an assignment has.
bool has_other_types(Projection &projection, Relation table) {
    const Block &block = projection.block();
    for (int i = 0; i < block.columns(); i++) {
        Node *expression = reinterpret_cast<Node *>(block.column(i)->expr);
        Form_pg_attribute column = TupleDescAttr(RelationGetDescr(table), i);
        if (column->atttypid != exprType(expression) || column->atttypmod != exprTypmod(expression)) return true;
    }
    for (const State &state : block.states)
        if (TupleDescAttr(RelationGetDescr(table), state.column)->atttypid != state.type) return true;
    return false;
}

bool is_forbidden(Projection &projection, Relation table) {
    return pg_class_aclmask(RelationGetRelid(table), projection.owner(), ACL_SELECT | ACL_UPDATE, ACLMASK_ALL) !=
           (ACL_SELECT | ACL_UPDATE);
}

constexpr bool (*asks_for_executor[])(Projection &, Relation) = {has_triggers, has_expressions, is_rewritten,
                                                                 is_routed,    has_other_types, is_forbidden};

bool needs_executor(Projection &projection, Relation table) {
    for (auto asks : asks_for_executor)
        if (asks(projection, table)) return true;
    return false;
}

// What the executor checks at each statement.
void check_as_executor(Relation table) {
    PreventCommandIfReadOnly("UPDATE");
    CheckCmdReplicaIdentity(table, CMD_UPDATE); // subscribers could not find the row (test: sql/constraints)
}

// The key's unique index, with the key that each of its columns holds.
bool find_index(Relation table, const Block &block, DirectPlan &plan) {
    ListCell *cell;
    foreach (cell, RelationGetIndexList(table)) {
        Relation index = index_open(lfirst_oid(cell), AccessShareLock);
        Form_pg_index form = index->rd_index;
        bool fits = pg::tells_rows_apart(index) && form->indnkeyatts == static_cast<int>(block.row_key.size());
        plan.index_keys.clear();
        plan.scan_keys.clear();
        for (int i = 0; fits && i < form->indnkeyatts; i++) {
            int key = 0;
            while (key < static_cast<int>(block.row_key.size()) &&
                   block.row_key[key].column + 1 != form->indkey.values[i])
                key++;
            fits = key < static_cast<int>(block.row_key.size()) &&
                   index->rd_indcollation[i] == block.row_key[key].collation;
            if (!fits) break;
            Oid equal = get_opfamily_member(index->rd_opfamily[i], index->rd_opcintype[i], index->rd_opcintype[i],
                                            BTEqualStrategyNumber);
            ScanKeyData scan_key;
            ScanKeyEntryInitialize(&scan_key, 0, static_cast<AttrNumber>(i + 1), BTEqualStrategyNumber, InvalidOid,
                                   index->rd_indcollation[i], get_opcode(equal), 0);
            plan.index_keys.push_back(key);
            plan.scan_keys.push_back(scan_key);
        }
        Oid oid = RelationGetRelid(index);
        index_close(index, AccessShareLock);
        if (fits) {
            plan.index = oid;
            return true;
        }
    }
    return false;
}

// The outputs are expressions over the row that holds the new states.
void compile_outputs(Projection &projection, DirectPlan &plan) {
    plan.context = CreateStandaloneExprContext();
    for (const compile::Output &output : projection.block().outputs) {
        Expr *expression = expression_planner(pg::copy<Expr>(output.expression));
        if (exprType(reinterpret_cast<Node *>(expression)) !=
            get_atttype(projection.relation, static_cast<AttrNumber>(output.column + 1)))
            elog(ERROR, "column %d of projection %s has an unexpected type", output.column, projection.name());
        plan.outputs.push_back(ExecInitExpr(expression, nullptr));
    }
}

DirectPlan *make_plan(Projection &projection, Relation table) {
    const Block &block = projection.block();
    MemoryContext memory = AllocSetContextCreate(projection.memory, "projection direct write", ALLOCSET_SMALL_SIZES);
    MemoryContext before = MemoryContextSwitchTo(memory);
    DirectPlan *plan = pg::make<DirectPlan>(memory);
    plan->memory = memory;
    if (!find_index(table, block, *plan)) plan->index = InvalidOid;
    if (OidIsValid(plan->index) && !block.settings_dependent && !needs_executor(projection, table)) {
        plan->direct = true;
        plan->captured = is_captured(table);
        catalog::with_pinned(projection.settings, [&] { compile_outputs(projection, *plan); });
        for (const State &state : block.states) {
            FmgrInfo adder{};
            if (state.kind == StateKind::total)
                fmgr_info_cxt(state.type == NUMERICOID ? F_NUMERIC_ADD
                              : state.type == CASHOID  ? F_CASH_PL
                                                       : F_INT8PL,
                              &adder, memory);
            plan->adders.push_back(adder);
        }
    }
    MemoryContextSwitchTo(before);
    return plan;
}

DirectPlan &plan_of(Projection &projection, Relation table) {
    if (projection.direct == nullptr) {
        projection.direct = make_plan(projection, table);
        projection.grew();
    }
    return *projection.direct;
}

// The first row of the key that the scan's snapshot sees.
bool find_row(const DirectPlan &plan, IndexScanDesc scan, const capture::Group &group, TupleTableSlot *found) {
    ScanKeyData scan_keys[INDEX_MAX_KEYS];
    for (std::size_t i = 0; i < plan.scan_keys.size(); i++) {
        scan_keys[i] = plan.scan_keys[i];
        int key = plan.index_keys[i];
        if (group.key_nulls[key]) scan_keys[i].sk_flags = SK_ISNULL | SK_SEARCHNULL;
        scan_keys[i].sk_argument = group.key_nulls[key] ? 0 : group.key[key];
    }
    index_rescan(scan, scan_keys, static_cast<int>(plan.scan_keys.size()), nullptr, 0);
    return index_getnext_slot(scan, ForwardScanDirection, found);
}

// The row's next version in writer.changed. False where its group would empty.
bool change_row(DirectWriter &writer, const capture::Group &group) {
    const Block &block = writer.block;
    TupleTableSlot *found = writer.found, *changed = writer.changed;
    slot_getallattrs(found);
    ExecClearTuple(changed);
    int columns = found->tts_tupleDescriptor->natts;
    memcpy(changed->tts_values, found->tts_values, sizeof(Datum) * columns);
    memcpy(changed->tts_isnull, found->tts_isnull, sizeof(bool) * columns);

    for (std::size_t i = 0; i < block.states.size(); i++) {
        const State &state = block.states[i];
        const capture::Cell &cell = group.cells[i];
        Datum &value = changed->tts_values[state.column];
        bool &null = changed->tts_isnull[state.column];
        switch (state.kind) {
        case StateKind::count:
            value = Int64GetDatum(DatumGetInt64(found->tts_values[state.column]) + cell.count);
            break;
        case StateKind::total: {
            // A total without values is NULL; its count is a state of the same row.
            const State &count = block.states[state.validity];
            if (DatumGetInt64(found->tts_values[count.column]) + group.cells[state.validity].count == 0) {
                null = true;
                break;
            }
            Datum delta = total_delta(state, cell);
            value = null ? delta : FunctionCall2(&writer.plan.adders[i], value, delta);
            null = false;
            break;
        }
        case StateKind::extremum: {
            if (!cell.has_added) break;
            int order = null ? 0 : DatumGetInt32(FunctionCall2Coll(&state.compare, state.collation, cell.added, value));
            if (null || (state.is_max ? order > 0 : order < 0)) value = cell.added;
            null = false;
            break;
        }
        }
    }
    ExecStoreVirtualTuple(changed);
    changed->tts_tableOid = RelationGetRelid(writer.table);
    if (DatumGetInt64(changed->tts_values[block.states[block.row_count].column]) <= 0) return false;

    writer.plan.context->ecxt_scantuple = changed;
    for (std::size_t i = 0; i < block.outputs.size(); i++) {
        int column = block.outputs[i].column;
        changed->tts_values[column] =
            ExecEvalExpr(writer.plan.outputs[i], writer.plan.context, &changed->tts_isnull[column]);
    }
    return true;
}

void need_target(DirectWriter &writer) {
    if (writer.estate) return;
    pg::within(writer.memory, [&] {
        writer.estate = CreateExecutorState();
        writer.target = makeNode(ResultRelInfo);
        InitResultRelInfo(writer.target, writer.table, 0, nullptr, 0);
        ExecOpenIndices(writer.target, false);
    });
}

// As the executor words it.
[[noreturn]] void fail_concurrent(const char *what) {
    ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
                    errmsg("could not serialize access due to concurrent %s", what)));
    pg_unreachable();
}

// Waits for the row's writer and finds the version it left. False where it is gone.
bool follow_row(DirectWriter &writer, ItemPointer tid) {
    TM_FailureData failure;
    ItemPointerData at = *tid;
    TM_Result result =
        table_tuple_lock(writer.table, &at, writer.snapshot, writer.found, GetCurrentCommandId(true),
                         LockTupleNoKeyExclusive, LockWaitBlock, TUPLE_LOCK_FLAG_FIND_LAST_VERSION, &failure);
    if (result == TM_Ok) return true;
    if (result == TM_Deleted) return false;
    elog(ERROR, "unexpected result of table_tuple_lock: %d", result);
}

} // namespace

DirectWriter *open_direct(Projection &projection, MemoryContext memory) {
    const Block &block = projection.block();
    if (block.row_key.empty() || block.settings_dependent) return nullptr;
    Relation table = table_open(projection.relation, RowExclusiveLock);
    DirectPlan &plan = plan_of(projection, table);
    if (!plan.direct) {
        table_close(table, NoLock);
        return nullptr;
    }
    check_as_executor(table);
    return pg::within(memory, [&] {
        Relation index = index_open(plan.index, RowExclusiveLock);
        Snapshot snapshot = GetActiveSnapshot();
        IndexScanDesc scan = pg::begin_index_scan(table, index, snapshot, static_cast<int>(plan.scan_keys.size()));
        TupleTableSlot *found = table_slot_create(table, nullptr);
        TupleTableSlot *changed = MakeSingleTupleTableSlot(RelationGetDescr(table), &TTSOpsVirtual);
        auto *writer = new (palloc(sizeof(DirectWriter))) DirectWriter{
            projection, block, plan, table, index, scan, memory, nullptr, nullptr, found, changed, snapshot};
        if (plan.captured) capture::writing_begins(writer, projection.relation);
        return writer;
    });
}

void close_direct(DirectWriter *writer) {
    if (writer->plan.captured) capture::writing_ends(writer);
    ExecDropSingleTupleTableSlot(writer->found);
    ExecDropSingleTupleTableSlot(writer->changed);
    index_endscan(writer->scan);
    if (writer->estate) {
        ExecCloseIndices(writer->target);
        FreeExecutorState(writer->estate);
    }
    index_close(writer->index, NoLock);
    table_close(writer->table, NoLock);
    if (writer->plan.captured) capture::rows_changed(writer->projection.relation);
}

Added add_direct(DirectWriter &writer, const capture::Group &group) {
    // The scan keeps what it allocates until it ends.
    if (!pg::within(writer.memory, [&] { return find_row(writer.plan, writer.scan, group, writer.found); }))
        return Added::no;
    for (;;) {
        CHECK_FOR_INTERRUPTS();
        ResetExprContext(writer.plan.context);
        bool kept = pg::within(writer.plan.context->ecxt_per_tuple_memory, [&] { return change_row(writer, group); });
        if (!kept) return Added::no;
        if (RelationGetDescr(writer.table)->constr) {
            need_target(writer);
            ExecConstraints(writer.target, writer.changed, writer.estate);
        }
        ItemPointerData tid = writer.found->tts_tid;
        pg::IndexesToUpdate indexes{};
        TM_FailureData failure;
        LockTupleMode mode;
        TM_Result result = table_tuple_update(writer.table, &tid, writer.changed, GetCurrentCommandId(true),
                                              writer.snapshot, InvalidSnapshot, true, &failure, &mode, &indexes);
        switch (result) {
        case TM_Ok:
            if (pg::any_index(indexes)) {
                need_target(writer);
                pg::insert_index_tuples(writer.target, writer.changed, writer.estate, indexes);
                ResetPerTupleExprContext(writer.estate);
            }
            // The version that was locked, and what is in its place.
            if (writer.plan.captured)
                pg::within(writer.plan.context->ecxt_per_tuple_memory,
                           [&] { capture::row_changed(writer.projection.relation, writer.found, writer.changed); });
            return Added::yes;
        case TM_Updated:
            if (IsolationUsesXactSnapshot()) fail_concurrent("update");
            if (!follow_row(writer, &tid)) return Added::no;
            break;
        case TM_Deleted:
            if (IsolationUsesXactSnapshot()) fail_concurrent("delete");
            return Added::no;
        default: elog(ERROR, "unexpected result of table_tuple_update: %d", result);
        }
    }
}

Maker find_maker(Projection &projection, const capture::Group &group) {
    Relation table = table_open(projection.relation, RowExclusiveLock);
    DirectPlan &plan = plan_of(projection, table);
    Maker maker = Maker::nobody;
    if (OidIsValid(plan.index)) {
        Relation index = index_open(plan.index, RowExclusiveLock);
        SnapshotData dirty;
        InitDirtySnapshot(dirty);
        TupleTableSlot *found = table_slot_create(table, nullptr);
        IndexScanDesc scan = pg::begin_index_scan(table, index, &dirty, static_cast<int>(plan.scan_keys.size()));
        if (find_row(plan, scan, group, found)) maker = Maker::ended;
        TransactionId other = TransactionIdIsValid(dirty.xmin) ? dirty.xmin : dirty.xmax;
        index_endscan(scan);
        if (maker == Maker::ended && TransactionIdIsValid(other)) {
            maker = Maker::awaited;
            if (dirty.speculativeToken)
                SpeculativeInsertionWait(other, dirty.speculativeToken);
            else
                XactLockTableWait(other, table, &found->tts_tid, XLTW_InsertIndex);
        }
        ExecDropSingleTupleTableSlot(found);
        index_close(index, NoLock);
    }
    table_close(table, NoLock);
    return maker;
}

void discard_direct(Projection &projection) {
    if (projection.direct == nullptr) return;
    MemoryContextDelete(projection.direct->memory);
    projection.direct = nullptr;
}

} // namespace maintain
