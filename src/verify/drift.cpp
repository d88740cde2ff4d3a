// Verify.
//
// The snapshot decides what "applied" means. A worker's batch changes table, checkpoint, failures and change log in one
// transaction, so any snapshot sees them in step, and no slot has to be locked: over events the definition is read over
// those up to the checkpoints as the snapshot has them; over a change log, over what the sources were before the
// changes that are still in the log. (test/isolation/specs/verify.spec)
#include "verify/drift.hpp"

#include "capture/pending.hpp"
#include "events/declared.hpp"
#include "events/feed.hpp"
#include "events/left_out.hpp"
#include "events/query.hpp"
#include "events/source.hpp"
#include "maintain/apply.hpp"
#include "maintain/flush.hpp"
#include "maintain/locks.hpp"
#include "maintain/maintaining.hpp"
#include "pg/list.hpp"
#include "rights/caller.hpp"
#include "verify/fold_states.hpp"
#include "verify/looks.hpp"

namespace verify {

using catalog::Flow;
using catalog::Kind;
using catalog::Projection;

namespace {

// ---------------------------------------------------------------------------------------------------------- definition

// One row of texts, read under `snapshot` as a superuser, in the current memory context.
pg::vector<const char *> read_texts(const char *query, Snapshot snapshot) {
    pg::vector<const char *> texts;
    MemoryContext outside = CurrentMemoryContext;
    pg::as_superuser([&] {
        pg::spi_execute_under(snapshot, query, 1);
        for (int i = 1; SPI_processed > 0 && i <= SPI_tuptable->tupdesc->natts; i++)
            texts.push_back(pg::Row().text(i, outside));
    });
    return texts;
}

// The rows of a source as they were before the changes that are in its log. Rows are known by their text, which tells
// apart what `=` may not, and which every type has.
const char *rows_before_log(Projection &projection, std::size_t index) {
    const compile::Source &source = projection.block().sources[index];
    pg::vector<const char *> logged, named, renamed;
    for (std::size_t i = 0; i < source.used.size(); i++) {
        const char *name = quote_identifier(get_attname(source.relation, source.used[i], false));
        logged.push_back(psprintf("c%zu", i + 1));
        named.push_back(name);
        renamed.push_back(psprintf("n.c%zu AS %s", i + 1, name));
    }
    const char *log = pg::qualified_name(projection.changes[index]), *table = pg::qualified_name(source.relation);
    const char *changed = pg::joined(logged), *columns = pg::joined(named);
    const char *comma = logged.empty() ? "" : ", ";
    return psprintf(
        "WITH net AS MATERIALIZED (SELECT * FROM (SELECT DISTINCT ON (l.image) l.image%s%s, pg_catalog.sum(l.weight) "
        "OVER (PARTITION BY l.image)::bigint AS weight FROM (SELECT ROW(%s)::text COLLATE \"C\" AS image%s%s, weight "
        "FROM ONLY %s) AS l) AS n WHERE n.weight <> 0), "
        "there AS MATERIALIZED (SELECT s.image, pg_catalog.count(*) AS rows FROM (SELECT ROW(%s)::text COLLATE \"C\" "
        "AS image FROM ONLY %s) AS s WHERE s.image IN (SELECT net.image FROM net) GROUP BY s.image) "
        "SELECT %s FROM ONLY %s AS s WHERE ROW(%s)::text COLLATE \"C\" NOT IN (SELECT net.image FROM net) UNION ALL "
        "SELECT %s FROM net AS n LEFT JOIN there AS t ON t.image = n.image CROSS JOIN LATERAL "
        "pg_catalog.generate_series(1, coalesce(t.rows, 0) - n.weight)",
        comma, changed, changed, comma, changed, log, columns, table, columns, table, columns, pg::joined(renamed));
}

enum class Logged { nothing, changes, truncation };

Logged read_log(Oid log, Snapshot snapshot) {
    const char *name = pg::qualified_name(log);
    pg::vector<const char *> found = read_texts(
        psprintf("SELECT EXISTS (SELECT FROM ONLY %s), EXISTS (SELECT FROM ONLY %s WHERE weight IS NULL)", name, name),
        snapshot);
    return found[1][0] == 't' ? Logged::truncation : found[0][0] == 't' ? Logged::changes : Logged::nothing;
}

// Rows of each source as of what has been applied, null for the table itself; false where all of the projection is to
// be replaced anyway.
bool applied_rows(Projection &projection, Snapshot snapshot, bool with_log, pg::vector<const char *> &rows) {
    rows.assign(projection.block().sources.size(), nullptr);
    if (projection.flow == Flow::events) rows[0] = applied_events(projection, snapshot);
    for (std::size_t i = 0; projection.flow == Flow::log && !with_log && i < rows.size(); i++)
        switch (read_log(projection.changes[i], snapshot)) {
        case Logged::nothing: break;
        case Logged::changes: rows[i] = rows_before_log(projection, i); break;
        case Logged::truncation: return false;
        }
    return true;
}

const char *found_text(Projection &projection, int columns) {
    pg::vector<const char *> names;
    for (int i = 0; i < columns; i++) names.push_back(maintain::column_name(projection, i));
    return psprintf("SELECT %s FROM ONLY %s", pg::joined(names), projection.name());
}

// ------------------------------------------------------------------------------------------------------------- reading

void prepare(Projection &projection) {
    rights::require_filled(projection);
    maintain::settle(projection, "verify");
}

void name_projection(void *argument) {
    errcontext("verification of projection %s", static_cast<Projection *>(argument)->name());
}

// Runs `body(snapshot)` as the owner, in an SPI connection, under the pinned settings.
template <class Body>
void verifying(Projection &projection, Snapshot given, Body &&body) {
    LockRelationOid(projection.relation, AccessShareLock);
    ErrorContextCallback context{error_context_stack, name_projection, &projection};
    error_context_stack = &context;
    Snapshot snapshot = RegisterSnapshot(given ? given : GetLatestSnapshot());
    pg::as_owner(projection.owner(),
                 [&] { catalog::with_pinned(projection.settings, [&] { pg::with_spi([&] { body(snapshot); }); }); });
    UnregisterSnapshot(snapshot);
    error_context_stack = context.previous;
}

Compared compare_query(Projection &projection, Scope scope, Snapshot snapshot, bool with_log,
                       void (*report)(const Difference &, void *), void *context) {
    pg::vector<const char *> rows;
    if (!applied_rows(projection, snapshot, with_log, rows)) {
        ereport(NOTICE, (errmsg("projection %s is about to be filled anew", projection.name()),
                         errdetail("A source was truncated, which has not been applied yet.")));
        return {};
    }
    const char *definition = compile::definition_over(projection.block(), {rows.data(), rows.size()});
    Layout layout = layout_of(projection);
    Looks looks{projection, snapshot, {rows.data(), rows.size()}};
    if (projection.block().keys_told_apart && projection.block().grouped()) {
        for (const compile::Key &key : projection.block().row_key)
            if (key.told_apart) layout.looks.push_back(key.column);
        layout.may_differ = is_another_look;
        layout.context = &looks;
    }
    const char *table = found_text(projection, layout.desc->natts);
    auto reader = [&](const char *text) {
        return [&, text](ReceiveRow receive, void *to) {
            SPIPlanPtr plan = pg::spi_prepare(text);
            maintain::read_rows(plan, snapshot, receive, to);
            SPI_freeplan(plan);
        };
    };
    auto expected = reader(definition), found = reader(table);
    return compare(layout, scope, side(expected), side(found), report, context);
}

// ------------------------------------------------------------------------------------------------------------ reducers

std::string_view key_of(TupleTableSlot *row) {
    text *key = DatumGetTextPP(row->tts_values[0]);
    return {VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key)};
}

// So that about maintenance_work_mem holds the states of a part.
int parts_of(Projection &projection) {
    Relation table = table_open(projection.relation, AccessShareLock);
    auto bytes = static_cast<double>(RelationGetNumberOfBlocks(table)) * BLCKSZ;
    table_close(table, NoLock);
    return 1 + static_cast<int>(2 * bytes / (1024.0 * maintenance_work_mem));
}

void hand_over(const pg::vector<events::State> &states, TupleDesc desc, ReceiveRow receive, void *to) {
    TupleTableSlot *slot = MakeSingleTupleTableSlot(desc, &TTSOpsVirtual);
    std::fill_n(slot->tts_isnull, events::reducer_columns, false);
    for (const events::State &state : states) {
        if (!state.present) continue;
        ExecClearTuple(slot);
        slot->tts_values[0] = state.key;
        slot->tts_values[1] = state.value;
        slot->tts_values[2] = Int64GetDatum(state.version);
        slot->tts_values[3] = Int64GetDatum(state.position);
        slot->tts_values[4] = TimestampTzGetDatum(state.time);
        slot->tts_isnull[4] = !state.has_time;
        receive(ExecStoreVirtualTuple(slot), to);
    }
    ExecDropSingleTupleTableSlot(slot);
}

// Keys of a state machine at their end are deleted some time after options.retention.
struct Forgiving {
    const events::StateMachine *machine;
    void (*report)(const Difference &, void *);
    void *context;
    int64 forgiven = 0;
};

bool may_be_gone(const events::StateMachine &machine, TupleTableSlot *row) {
    if (!machine.retention || machine.terminal.empty() || row->tts_isnull[4]) return false;
    Datum gone = DirectFunctionCall2(timestamptz_pl_interval, row->tts_values[4], machine.retention);
    if (DatumGetTimestampTz(gone) > GetCurrentTimestamp()) return false;
    const char *state = TextDatumGetCString(DirectFunctionCall2(jsonb_extract_path_text, row->tts_values[1],
                                                                PointerGetDatum(construct_empty_array(TEXTOID))));
    return std::any_of(machine.terminal.begin(), machine.terminal.end(),
                       [&](const char *each) { return strcmp(each, state) == 0; });
}

void forgive(const Difference &difference, void *context) {
    auto &to = *static_cast<Forgiving *>(context);
    if (to.machine && difference.problem == Problem::missing && may_be_gone(*to.machine, difference.expected))
        to.forgiven++;
    else
        to.report(difference, to.context);
}

Compared compare_part(Projection &projection, Scope scope, Snapshot snapshot, Part part, Forgiving &report) {
    Layout layout = layout_of(projection);
    pg::vector<events::State> states = fold_states(projection, part, snapshot);
    auto expected = [&](ReceiveRow receive, void *to) { hand_over(states, layout.desc, receive, to); };
    struct Filter {
        Part part;
        ReceiveRow receive;
        void *to;
    };
    auto found = [&](ReceiveRow receive, void *to) {
        Filter filter{part, receive, to};
        SPIPlanPtr plan = pg::spi_prepare(found_text(projection, layout.desc->natts));
        auto pass = [](TupleTableSlot *row, void *context) {
            auto &of = *static_cast<Filter *>(context);
            slot_getallattrs(row);
            if (of.part.has(key_of(row))) of.receive(row, of.to);
        };
        maintain::read_rows(plan, snapshot, pass, &filter);
        SPI_freeplan(plan);
    };
    return compare(layout, scope, side(expected), side(found), forgive, &report);
}

Compared compare_states(Projection &projection, Scope scope, Snapshot snapshot,
                        void (*report)(const Difference &, void *), void *context) {
    require_history(projection);
    Forgiving forgiving{events::declared(projection).machine, report, context};
    Compared total;
    int parts = parts_of(projection);
    for (int i = 0; i < parts && !total.more; i++) {
        MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext, "folded states", ALLOCSET_DEFAULT_SIZES);
        Compared part;
        pg::within(memory, [&] { part = compare_part(projection, scope, snapshot, Part{i, parts}, forgiving); });
        MemoryContextDelete(memory);
        total.differences += part.differences;
        total.expected += part.expected;
        total.found += part.found;
        total.more = part.more;
        scope.limit -= part.differences;
    }
    total.differences -= forgiving.forgiven;
    return total;
}

} // namespace

const char *applied_events(Projection &projection, Snapshot snapshot) {
    MemoryContext outside = CurrentMemoryContext; // SPI leaves another one current
    const events::EventSource &source = events::source_of(projection);
    require_history(projection);
    pg::vector<int64> checkpoints = events::known_checkpoints(projection, snapshot);
    pg::vector<int64> out = events::left_out_positions(projection.relation, snapshot);
    projection.block();
    const char *position = events::position_expression(source);
    return pg::within(outside, [&] {
        return psprintf("%s WHERE %s <= " INT64_FORMAT " AND %s <= (%s)[%s::int + 1] AND %s <> ALL (%s)",
                        events::rows_select(projection, source), position,
                        *std::max_element(checkpoints.begin(), checkpoints.end()), position,
                        events::positions_text({checkpoints.data(), checkpoints.size()}),
                        events::stripe_text(position, psprintf("%zu", checkpoints.size())), position,
                        events::positions_text({out.data(), out.size()}));
    });
}

void require_history(Projection &projection) {
    int64 kept = events::kept_history(projection);
    if (kept == 0) return;
    ereport(ERROR, (errcode(pg::error::history_archived),
                    errmsg("projection %s cannot be compared with its events", projection.name()),
                    errdetail("Events of %s up to position " INT64_FORMAT " are archived.",
                              pg::qualified_name(projection.sources.front()), kept),
                    errhint("Restore the events, and register the source anew; or set option \"detached\" to "
                            "\"remove\", with which what they contributed is taken away.")));
}

void require_reader(Projection &projection) {
    if (!has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_DATA)) rights::require_owner(projection);
}

Layout layout_of(Projection &projection) {
    Layout layout{nullptr, {}, false, false};
    int columns = events::reducer_columns;
    if (projection.kind == Kind::query) {
        const compile::Block &block = projection.block();
        columns = block.columns();
        for (const compile::Key &key : block.row_key) layout.keys.push_back(key.column);
        layout.counted = block.counts_equal_rows();
        layout.close_floats = block.grouped();
        for (int i = 0; layout.counted && i < columns; i++) layout.keys.push_back(i);
    } else {
        layout.keys.push_back(0);
    }
    Relation table = table_open(projection.relation, AccessShareLock);
    layout.desc = CreateTemplateTupleDesc(columns);
    for (int i = 0; i < columns; i++)
        TupleDescCopyEntry(layout.desc, static_cast<AttrNumber>(i + 1), RelationGetDescr(table),
                           static_cast<AttrNumber>(i + 1));
    table_close(table, NoLock);
    return layout;
}

Compared compare_projection(Projection &projection, Scope scope, void (*report)(const Difference &, void *),
                            void *context, Basis basis) {
    if (projection.kind == Kind::handler) elog(ERROR, "handler %s has rows of several kinds", projection.name());
    projection.require_rights(); // else what its owner does not see would be missing (test: sql/rights_roles)
    prepare(projection);
    Compared compared;
    verifying(projection, basis.snapshot, [&](Snapshot snapshot) {
        compared = projection.kind == Kind::query
                       ? compare_query(projection, scope, snapshot, basis.with_log, report, context)
                       : compare_states(projection, scope, snapshot, report, context);
    });
    return compared;
}

// --------------------------------------------------------------------------------------------------------------- drift

namespace {

struct Collecting {
    const pg::vector<int> &columns; // of keys
    Drift &drift;
    MemoryContext memory;
    Tuplesortstate *keys;
    TupleTableSlot *key;
};

void collect(const Difference &difference, void *context) {
    auto &to = *static_cast<Collecting *>(context);
    to.drift.duplicates |= difference.problem == Problem::duplicate;
    TupleTableSlot *row = difference.expected ? difference.expected : difference.found;
    pg::within(to.memory, [&] {
        if (to.keys == nullptr) {
            tuplestore_puttupleslot(difference.expected ? to.drift.missing : to.drift.extra, row);
            return;
        }
        ExecClearTuple(to.key);
        int i = 0;
        for (int column : to.columns) {
            to.key->tts_values[i] = row->tts_values[column];
            to.key->tts_isnull[i++] = row->tts_isnull[column];
        }
        if (to.columns.empty()) {
            to.key->tts_values[0] = Int64GetDatum(0);
            to.key->tts_isnull[0] = false;
        }
        tuplesort_puttupleslot(to.keys, ExecStoreVirtualTuple(to.key));
    });
}

TupleDesc key_desc_of(const Layout &layout, const pg::vector<int> &columns) {
    auto count = static_cast<int>(columns.size());
    TupleDesc desc = CreateTemplateTupleDesc(std::max(count, 1));
    for (int i = 0; i < count; i++)
        TupleDescCopyEntry(desc, static_cast<AttrNumber>(i + 1), layout.desc, static_cast<AttrNumber>(columns[i] + 1));
    if (count == 0) TupleDescInitEntry(desc, 1, "ordinal", INT8OID, -1, 0);
    return desc;
}

// As writers order them: ascending, NULLs last.
Tuplesortstate *begin_key_sort(TupleDesc desc) {
    pg::vector<AttrNumber> columns;
    pg::vector<Oid> operators, collations;
    for (int i = 0; i < desc->natts; i++) {
        Form_pg_attribute column = TupleDescAttr(desc, i);
        columns.push_back(static_cast<AttrNumber>(i + 1));
        operators.push_back(lookup_type_cache(column->atttypid, TYPECACHE_LT_OPR)->lt_opr);
        collations.push_back(column->attcollation);
        if (!OidIsValid(operators.back())) elog(ERROR, "type %u has no order", column->atttypid);
    }
    auto *nulls_first = static_cast<bool *>(palloc0(sizeof(bool) * columns.size()));
    return tuplesort_begin_heap(desc, desc->natts, columns.data(), operators.data(), collations.data(), nulls_first,
                                work_mem, nullptr, 0);
}

void end_key_sort(Collecting &collecting) {
    tuplesort_performsort(collecting.keys);
    TupleTableSlot *slot = MakeSingleTupleTableSlot(collecting.drift.key_desc, &TTSOpsMinimalTuple);
    while (tuplesort_gettupleslot(collecting.keys, true, false, slot, nullptr))
        tuplestore_puttupleslot(collecting.drift.keys, slot);
    ExecDropSingleTupleTableSlot(slot);
    tuplesort_end(collecting.keys);
    ExecDropSingleTupleTableSlot(collecting.key);
}

} // namespace

Drift find_drift(Projection &projection, Scope scope, Basis basis) {
    if (projection.kind != Kind::query) elog(ERROR, "projection %s is no query", projection.name());
    Drift drift;
    Layout layout = layout_of(projection);
    pg::vector<int> columns; // rows without a key of their own are told by their slice's
    for (const compile::Key &key : projection.block().told_keys()) columns.push_back(key.column);
    Collecting collecting{columns, drift, CurrentMemoryContext, nullptr, nullptr};
    if (projection.block().is_bag()) {
        drift.row_desc = layout.desc;
        drift.missing = tuplestore_begin_heap(true, false, work_mem);
        drift.extra = tuplestore_begin_heap(true, false, work_mem);
    } else {
        drift.key_desc = key_desc_of(layout, columns);
        drift.keys = tuplestore_begin_heap(true, false, work_mem);
        collecting.keys = begin_key_sort(drift.key_desc);
        collecting.key = MakeSingleTupleTableSlot(drift.key_desc, &TTSOpsVirtual);
    }
    drift.compared = compare_projection(projection, scope, collect, &collecting, basis);
    // Types of users are compared.
    if (collecting.keys) pg::as_owner(projection.owner(), [&] { end_key_sort(collecting); });
    return drift;
}

int64 apply_row_drift(Projection &projection, const Drift &drift) {
    Projection *root = &projection;
    maintain::lock_relations({&root, 1});
    maintain::renew_statements(projection);
    maintain::lock_block(projection.block());
    MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext, "projection drift", ALLOCSET_DEFAULT_SIZES);
    MemoryContext before = MemoryContextSwitchTo(memory);
    auto &taken = *new (palloc(sizeof(maintain::Taken))) maintain::Taken{projection, projection.block(), memory};
    taken.images = maintain::make_images(drift.row_desc, memory);
    TupleTableSlot *slot = MakeSingleTupleTableSlot(drift.row_desc, &TTSOpsMinimalTuple);
    for (auto [rows, net] : {std::pair{drift.missing, 1}, std::pair{drift.extra, -1}}) {
        tuplestore_rescan(rows);
        while (tuplestore_gettupleslot(rows, true, false, slot))
            taken.images->list.push_back({ExecCopySlotMinimalTuple(slot), net});
    }
    ExecDropSingleTupleTableSlot(slot);
    auto written = static_cast<int64>(taken.images->list.size());
    CommandCounterIncrement();
    maintain::maintaining(projection,
                          [&] { maintain::with_statements(projection, [&] { maintain::apply_images(taken); }); });
    CommandCounterIncrement();
    MemoryContextSwitchTo(before);
    MemoryContextDelete(memory);
    return written;
}

} // namespace verify
