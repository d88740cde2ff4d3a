// Capture: what happens at each changed row of a source.
//
// For a block of one source the row is folded at once (condition, keys and arguments are evaluated here, as the
// projection's owner and under its pinned settings where they matter); for the others its used columns are logged. An
// UPDATE that changes no used column costs a comparison. What maintenance writes without a statement it hands on by
// itself (`row_changed`): a projection that others read is a source like any other.
#include "capture/trigger.hpp"

#include "capture/members.hpp"
#include "capture/missed.hpp"
#include "catalog/lineage.hpp"
#include "catalog/own_trigger.hpp"
#include "catalog/settings.hpp"
#include "pg/query.hpp"
#include "pg/scope.hpp"

namespace capture {

constinit EarlyFlush flush_early = nullptr;
constinit ApplyEvent apply_event = nullptr, note_removed = nullptr;

namespace {

struct Statement {
    const void
        *writer; // a QueryDesc, or as in writing_begins; null: a statement that began before the library was loaded
    Oid relation;
    int level;         // of the transaction
    int trigger_depth; // of unknown statements
    bool unknown;
};

constinit List *statements = NIL; // of Statement, in TopMemoryContext

void push_one(Statement statement) {
    pg::within(TopMemoryContext, [&] {
        auto *copy = static_cast<Statement *>(palloc(sizeof(Statement)));
        *copy = statement;
        statements = lappend(statements, copy);
    });
}

bool is_known(const Statement &statement) {
    for (const Statement *each : pg::each<Statement>(statements))
        if (each->writer == statement.writer && each->relation == statement.relation) return true;
    return false;
}

// Who writes a partition or a child writes what is above it.
void push(Statement statement) {
    push_one(statement);
    if (!catalog::may_be_below(statement.relation) || !catalog::is_readable()) return; // whoever captures says so
    for (const catalog::Ancestor &above : catalog::ancestors_read(statement.relation)) {
        statement.relation = above.relation;
        if (!is_known(statement)) push_one(statement);
    }
}

template <class Matches>
void remove_if(Matches &&matches) {
    ListCell *cell;
    foreach (cell, statements) {
        auto *statement = static_cast<Statement *>(lfirst(cell));
        if (!matches(*statement)) continue;
        pfree(statement);
        statements = foreach_delete_current(statements, cell);
    }
}

// The session's first captured statement began before our hooks were there.
void note_unknown_statement(Oid relation) {
    for (Statement *statement : pg::each<Statement>(statements))
        if (statement->relation == relation) return;
    push(Statement{nullptr, relation, GetCurrentTransactionNestLevel(), pg::trigger_depth(), true});
}

// ---------------------------------------------------------------------------------------------------------------
// evaluation

Evaluator *make_evaluator(const compile::Block &block, MemoryContext parent) {
    MemoryContext memory = AllocSetContextCreate(parent, "projection evaluator", ALLOCSET_SMALL_SIZES);
    MemoryContext before = MemoryContextSwitchTo(memory);
    Evaluator *evaluator = pg::make<Evaluator>(memory);
    evaluator->memory = memory;
    evaluator->context = CreateStandaloneExprContext();
    List *conditions = make_ands_implicit(pg::copy<Expr>(block.core->jointree->quals));
    conditions = reinterpret_cast<List *>(expression_planner(reinterpret_cast<Expr *>(conditions)));
    evaluator->condition = conditions ? ExecInitQual(conditions, nullptr) : nullptr;
    for (Node *times : pg::each<Node>(block.arms.front().repeats))
        evaluator->repeats.push_back(ExecInitExpr(expression_planner(pg::copy<Expr>(times)), nullptr));

    List *targets = NIL;
    AttrNumber number = 0;
    auto add = [&](Node *expression) {
        Expr *planned = expression_planner(pg::copy<Expr>(expression));
        targets = lappend(targets, makeTargetEntry(planned, ++number, nullptr, false));
    };
    for (Node *expression : pg::each<Node>(block.feed())) add(expression);
    evaluator->result = MakeSingleTupleTableSlot(ExecTypeFromTL(targets), &TTSOpsVirtual);
    evaluator->values = ExecBuildProjectionInfo(targets, evaluator->context, evaluator->result, nullptr, nullptr);
    MemoryContextSwitchTo(before);
    return evaluator;
}

// As the owner: functions that are called IMMUTABLE are called when an expression is planned. (Test:
// sql/rights_writers)
Evaluator &evaluator(catalog::Projection &projection) {
    if (projection.evaluator_made_at != catalog::generation()) discard_evaluator(projection);
    if (projection.evaluator == nullptr) {
        projection.evaluator_made_at = catalog::generation();
        catalog::with_pinned(projection.settings,
                             [&] { projection.evaluator = make_evaluator(projection.block(), projection.memory); });
        projection.grew();
    }
    return *projection.evaluator;
}

void fold_row(Evaluator &evaluator, Fold &fold, TupleTableSlot *row, int64 weight) {
    ResetExprContext(evaluator.context);
    evaluator.context->ecxt_scantuple = row;
    MemoryContext before = MemoryContextSwitchTo(evaluator.context->ecxt_per_tuple_memory);
    if (evaluator.condition == nullptr || ExecQual(evaluator.condition, evaluator.context)) {
        for (ExprState *times : evaluator.repeats) {
            bool null; // never
            weight *= DatumGetInt64(ExecEvalExpr(times, evaluator.context, &null));
        }
    } else {
        weight = 0;
    }
    if (weight != 0) { // else its values are not what the definition evaluates, and may raise
        ExecProject(evaluator.values);
        fold.add(evaluator.result->tts_values, evaluator.result->tts_isnull, weight);
    }
    MemoryContextSwitchTo(before);
}

void log_row(Log &log, const compile::Source &source, TupleTableSlot *row, int64 weight) {
    std::size_t columns = source.used.size();
    Datum values[MaxHeapAttributeNumber];
    bool nulls[MaxHeapAttributeNumber];
    slot_getallattrs(row);
    for (std::size_t i = 0; i < columns; i++) {
        values[i] = row->tts_values[source.used[i] - 1];
        nulls[i] = row->tts_isnull[source.used[i] - 1];
    }
    values[columns] = Int64GetDatum(weight);
    nulls[columns] = false;
    append(log, values, nulls);
}

bool same_used_columns(const compile::Source &source, TupleTableSlot *a, TupleTableSlot *b) {
    TupleDesc desc = a->tts_tupleDescriptor;
    for (AttrNumber column : source.used) {
        bool a_null, b_null;
        Datum x = slot_getattr(a, column, &a_null);
        Datum y = slot_getattr(b, column, &b_null);
        if (a_null != b_null) return false;
        Form_pg_attribute attribute = TupleDescAttr(desc, column - 1);
        if (!a_null && !datum_image_eq(x, y, attribute->attbyval, attribute->attlen)) return false;
    }
    return true;
}

const compile::Source &source_of(const compile::Block &block, Oid relation, std::size_t *index) {
    for (*index = 0; *index < block.sources.size(); ++*index)
        if (block.sources[*index].relation == relation) return block.sources[*index];
    elog(ERROR, "relation %u is not a source of projection %u", relation, block.projection);
}

// A rebuild drops its shadow without waiting for those who have captured for it, so it may be gone: then nobody asks
// for the change. Else it stays until it is released (test: test/rebuild_stress).
bool hold(const catalog::Projection &projection) {
    if (!OidIsValid(projection.shadow_of)) return true;
    LockRelationOid(projection.definition, AccessShareLock);
    if (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(projection.definition))) return true;
    UnlockRelationOid(projection.definition, AccessShareLock);
    return false;
}

void release(const catalog::Projection &projection) {
    if (OidIsValid(projection.shadow_of)) UnlockRelationOid(projection.definition, AccessShareLock);
}

// Captures one changed row for one projection; `before` and `after` are null where there is no such image. Returns the
// fold that has taken it, or null.
const Fold *capture_row(catalog::Projection &projection, Oid relation, TupleTableSlot *before, TupleTableSlot *after) {
    const compile::Block &block = projection.block();
    std::size_t index;
    const compile::Source &source = source_of(block, relation, &index);
    if (before && after && same_used_columns(source, before, after)) return nullptr;

    Pending &delta = pending(&projection);
    if (!delta.folded) {
        before_more(delta);
        if (before) log_row(delta.logs[index], source, before, -1);
        if (after) log_row(delta.logs[index], source, after, 1);
        return nullptr;
    }
    projection.refuse_changed();
    Fold *open = nullptr;
    // A function in the definition runs as the projection's owner: he must not get at the writer's rights.
    pg::as_owner(projection.owner(), [&] {
        Evaluator &rows = evaluator(projection);
        open = &open_fold(delta);
        auto capture = [&] {
            if (before) fold_row(rows, *open, before, -1);
            if (after) fold_row(rows, *open, after, 1);
        };
        if (block.settings_dependent)
            catalog::with_pinned(projection.settings, capture);
        else
            capture();
    });
    return open;
}

// Applies what has grown over its memory. Half-written sources are no obstacle to a fold that reads none.
void flush_if_grown(catalog::Projection &projection, const Fold &fold) {
    if (fold.bytes() > static_cast<std::size_t>(delta_memory) * 1024 && !projection.block().reads_sources())
        flush_early(projection.relation);
}

void clear(catalog::Projection &projection) {
    Pending &delta = pending(&projection);
    before_more(delta);
    delta.cleared = true;
}

bool is_query(const catalog::Projection *projection) { return projection->kind == catalog::Kind::query; }

// Hands a change to a projection, unless that is a dropped shadow, or its owner has lost the right to read the source.
template <class Body>
void reach(catalog::Projection &projection, Body &&body) {
    if (!hold(projection)) return;
    if (projection.may_read())
        body(projection);
    else
        miss(projection.relation);
    release(projection);
}

void events_changed(catalog::Projection &projection, TupleTableSlot *before, TupleTableSlot *after) {
    if (before && after) return; // the event stays
    if (after)
        apply_event(projection, after);
    else
        note_removed(projection, before);
}

// `relation` is the table that the projections read; the row has its layout.
void row_captured(const Readers &readers, Oid relation, TupleTableSlot *before, TupleTableSlot *after) {
    for (catalog::Projection *projection : readers)
        if (projection->kind == catalog::Kind::query)
            reach(*projection, [&](catalog::Projection &reached) {
                const Fold *fold = capture_row(reached, relation, before, after);
                if (fold && (fold->additions() & 1023) == 0) flush_if_grown(reached, *fold);
            });
}

void row_captured_below(const catalog::Ancestor &above, TupleTableSlot *before, TupleTableSlot *after) {
    Readers readers = readers_of(above.relation);
    row_captured(readers, above.relation, catalog::as_row_of(above, before), catalog::as_row_of(above, after));
    if (std::all_of(readers.begin(), readers.end(), is_query)) return;
    TupleTableSlot *gone = catalog::as_whole_row_of(above, before), *came = catalog::as_whole_row_of(above, after);
    for (catalog::Projection *projection : readers)
        if (!is_query(projection))
            reach(*projection, [&](catalog::Projection &reached) { events_changed(reached, gone, came); });
}

constexpr char truncating = 0; // its address is the writer

void truncated(Relation relation, bool before) {
    Oid oid = RelationGetRelid(relation);
    for (catalog::Projection *projection : readers_of(oid))
        if (is_query(projection)) reach(*projection, clear);
    if (!before) return writing_ends(&truncating); // all tables of the statement are empty by now
    writing_begins(&truncating, oid);
    for (const catalog::Ancestor &above : catalog::ancestors_read(relation)) {
        Readers readers = readers_of(above.relation);
        Readers left;
        // What is going to be filled anew need not know what went.
        for (catalog::Projection *projection : readers)
            if (is_query(projection) && !pending(projection).cleared) left.push_back(projection);
        capture_table(relation, above.relation, left, -1);
    }
}

} // namespace

Readers readers_of(Oid relation) {
    auto found = catalog::over(relation);
    return Readers(found.begin(), found.end());
}

Readers query_readers_of(Oid relation) {
    Readers readers;
    for (catalog::Projection *projection : catalog::over(relation))
        if (is_query(projection)) readers.push_back(projection);
    return readers;
}

void row_came_or_went(const Readers &readers, Oid table, TupleTableSlot *row, int64 weight) {
    row_captured(readers, table, weight < 0 ? row : nullptr, weight < 0 ? nullptr : row);
}

void discard_evaluator(catalog::Projection &projection) {
    if (projection.evaluator == nullptr) return;
    // Without the context's callbacks, which only functions that return sets have: the transaction may have failed.
    MemoryContextDelete(projection.evaluator->memory);
    projection.evaluator = nullptr;
}

void row_changed(Oid relation, TupleTableSlot *before, TupleTableSlot *after) {
    for (catalog::Projection *projection : readers_of(relation))
        if (projection->kind == catalog::Kind::query) // the others take events, which are not changed
            reach(*projection, [&](catalog::Projection &reached) { capture_row(reached, relation, before, after); });
}

void rows_changed(Oid relation) {
    for (catalog::Projection *projection : readers_of(relation))
        for (Pending *delta : all_pending())
            if (delta->projection == projection && delta->flushed_folds < delta->folds.size() && !delta->flushing) {
                flush_if_grown(*projection, *delta->folds.back());
                break; // what was pending may have moved
            }
}

void statement_begins(QueryDesc *query, bool triggers_later) {
    int depth = -1;
    remove_if([&](const Statement &statement) {
        if (!statement.unknown) return false;
        if (depth < 0) depth = pg::trigger_depth();
        return depth < statement.trigger_depth;
    });
    for (int i = 0; i < list_length(query->plannedstmt->resultRelations); i++) {
        auto *entry = rt_fetch(list_nth_int(query->plannedstmt->resultRelations, i), query->plannedstmt->rtable);
        Statement statement{query, entry->relid, GetCurrentTransactionNestLevel(), 0, false};
        if (triggers_later && statements != NIL) {
            statement = *static_cast<Statement *>(llast(statements));
            statement.relation = entry->relid;
            if (is_known(statement)) continue;
        }
        push(statement);
    }
}

void statement_ends(QueryDesc *query) {
    if (statements == NIL) return;
    remove_if([&](const Statement &statement) {
        if (statement.writer == query) return true;
        if (!statement.unknown) return false;
        for (int i = 0; i < list_length(query->plannedstmt->resultRelations); i++)
            if (rt_fetch(list_nth_int(query->plannedstmt->resultRelations, i), query->plannedstmt->rtable)->relid ==
                    statement.relation &&
                pg::trigger_depth() < statement.trigger_depth)
                return true;
        return false;
    });
}

void writing_begins(const void *writer, Oid relation) {
    push(Statement{writer, relation, GetCurrentTransactionNestLevel(), 0, false});
}

void writing_ends(const void *writer) {
    remove_if([&](const Statement &statement) { return statement.writer == writer; });
}

bool half_written(Oid relation) {
    for (Statement *statement : pg::each<Statement>(statements))
        if (statement->relation == relation && !(statement->unknown && pg::trigger_depth() < statement->trigger_depth))
            return true;
    return false;
}

void statements_aborted(int level) {
    remove_if([&](const Statement &statement) { return statement.level >= level; });
}

} // namespace capture

extern "C" {

PG_FUNCTION_INFO_V1(projections_capture);

// AFTER ROW INSERT, UPDATE, DELETE and BEFORE and AFTER STATEMENT TRUNCATE on a source and what is below it.
Datum projections_capture(PG_FUNCTION_ARGS) {
    static constexpr catalog::OwnTrigger forms[] = {catalog::capture_rows, catalog::capture_truncate,
                                                    catalog::capture_truncating};
    TriggerData *event = &catalog::called_by(fcinfo, "capture", forms);
    Oid relation = RelationGetRelid(event->tg_relation);
    if (TRIGGER_FIRED_BY_TRUNCATE(event->tg_event)) {
        capture::truncated(event->tg_relation, TRIGGER_FIRED_BEFORE(event->tg_event));
        PG_RETURN_POINTER(nullptr);
    }
    capture::note_unknown_statement(relation);
    TupleTableSlot *before = TRIGGER_FIRED_BY_INSERT(event->tg_event) ? nullptr : event->tg_trigslot;
    TupleTableSlot *after = TRIGGER_FIRED_BY_INSERT(event->tg_event)   ? event->tg_trigslot
                            : TRIGGER_FIRED_BY_UPDATE(event->tg_event) ? event->tg_newslot
                                                                       : nullptr;
    capture::Readers readers = capture::readers_of(relation);
    capture::row_captured(readers, relation, before, after);
    for (catalog::Projection *projection : readers)
        if (!capture::is_query(projection))
            capture::reach(*projection,
                           [&](catalog::Projection &reached) { capture::events_changed(reached, before, after); });
    // The rows of a partition or a child are those of the tables above it.
    for (const catalog::Ancestor &above : catalog::ancestors_read(event->tg_relation))
        capture::row_captured_below(above, before, after);
    PG_RETURN_POINTER(nullptr);
}

} // extern "C"
