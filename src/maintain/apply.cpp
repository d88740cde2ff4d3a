// Apply.
//
// Groups are visited in key order, each by its own UPDATE, INSERT or DELETE: every writer locks group rows in the same
// order, so transactions that flush at commit only never deadlock on them, and a row that a user's CHECK constraint
// sees is a row that the table will hold (a single INSERT … ON CONFLICT would show it a bare delta). Sums commute: the
// row lock is all that two writers of a group need.
//
// A group that lost rows may have to be recomputed (its extremum left). Its row is locked first and the source is read
// under a snapshot taken after that: writers that applied before have committed and are seen, those that come later
// wait for the row and add to what is written here (test/isolation/specs/extremum.spec).
#include "maintain/apply.hpp"

#include "maintain/apply_values.hpp"
#include "maintain/direct.hpp"
#include "maintain/judge.hpp"
#include "maintain/statements.hpp"
#include "pg/list.hpp"
#include "pg/scope.hpp"

namespace maintain {

using capture::Cell;
using capture::Group;
using compile::Block;
using compile::State;
using compile::StateKind;

Datum total_delta(const State &state, const Cell &cell) {
    if (state.argument_type == NUMERICOID) return NumericGetDatum(cell.sum.value());
    if (state.type == NUMERICOID) return NumericGetDatum(capture::numeric_from(cell.whole));
    if (cell.whole < PG_INT64_MIN || cell.whole > PG_INT64_MAX)
        ereport(ERROR,
                (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE), errmsg("%s out of range", format_type_be(state.type))));
    return Int64GetDatum(static_cast<int64>(cell.whole));
}

[[noreturn]] void fail_stale(const catalog::Projection &projection, const char *detail) {
    ereport(ERROR, (errcode(pg::error::projection_stale),
                    errmsg("projection %s differs from its definition", projection.name()), errdetail("%s", detail),
                    errhint("SELECT projections.repair(%s);", quote_literal_cstr(projection.known_name()))));
    pg_unreachable();
}

// A resume, or create, may have made the row since the snapshot of a transaction that sees the source's.
// (test/isolation/specs/async_pause.spec)
[[noreturn]] void fail_missing(const catalog::Projection &projection, const char *detail) {
    if (IsolationUsesXactSnapshot()) fail_serialization();
    fail_stale(projection, detail);
}

namespace {

Parameters delta_parameters(Taken &taken, const Group &group) {
    const Block &block = taken.block;
    Parameters parameters;
    for (std::size_t i = 0; i < block.row_key.size(); i++) {
        parameters.add(group.key[i], group.key_nulls[i]);
        if (group.key_nulls[i]) parameters.mask |= UINT64CONST(1) << i;
    }
    for (std::size_t i = 0; i < block.states.size(); i++) {
        const State &state = block.states[i];
        const Cell &cell = group.cells[i];
        switch (state.kind) {
        case StateKind::count: parameters.add(Int64GetDatum(cell.count), false); break;
        case StateKind::total: parameters.add(total_delta(state, cell), false); break;
        case StateKind::extremum: parameters.add(cell.added, !cell.has_added); break;
        }
    }
    return parameters;
}

// So often may other transactions come between: a row is made or removed by them each time.
constexpr int attempts = 100;

// Rows came on balance, or stayed as many: the row is there, or is to be made. Where another transaction is making it,
// that is waited for, and its row added to: a CHECK would refuse what only our part of the change is.
void add_to_group(Taken &taken, const Group &group, int64 count, Parameters &parameters) {
    for (int attempt = 0; attempt < attempts; attempt++) {
        CHECK_FOR_INTERRUPTS();
        if (execute(taken.projection, Statement::add, parameters) > 0) return;
        if (count <= 0 || taken.block.always_has_row()) break;
        Maker maker = find_maker(taken.projection, group);
        if (maker == Maker::nobody) {
            execute(taken.projection, Statement::insert, parameters);
            return;
        }
        if (maker == Maker::ended && IsolationUsesXactSnapshot()) fail_serialization();
    }
    fail_missing(taken.projection, "A row that maintenance has to change is not there.");
}

// Rows went on balance. Which of the two statements applies may change while it waits for another writer of the row.
void remove_from_group(Taken &taken, Parameters &parameters) {
    for (int attempt = 0; attempt < attempts; attempt++) {
        CHECK_FOR_INTERRUPTS();
        if (execute(taken.projection, Statement::add, parameters) > 0) return;
        if (execute(taken.projection, Statement::remove, parameters) > 0) return;
    }
    fail_missing(taken.projection, "A row that maintenance has to change is not there.");
}

[[noreturn]] void fail_busy(const catalog::Projection &projection) {
    ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
                    errmsg("could not lock rows of projection %s", projection.name()),
                    errdetail("Other transactions have made or removed them %d times meanwhile.", attempts),
                    errhint("Retry the transaction.")));
    pg_unreachable();
}

} // namespace

TupleDesc affected_desc(const Block &block) {
    int keys = static_cast<int>(block.told_keys().size());
    TupleDesc desc = CreateTemplateTupleDesc(keys + 1);
    for (int i = 0; i < keys; i++) {
        TupleDescInitEntry(desc, static_cast<AttrNumber>(i + 1), psprintf("k%d", i), block.told_keys()[i].type, -1, 0);
        TupleDescInitEntryCollation(desc, static_cast<AttrNumber>(i + 1), block.told_keys()[i].collation);
    }
    TupleDescInitEntry(desc, static_cast<AttrNumber>(keys + 1), "ordinal", INT8OID, -1, 0);
    return desc;
}

// ----------------------------------------------------------------------------------------------------------------
// recompute

namespace {

struct Recomputed {
    Tuplestorestate *rows;
    Fingerprint fingerprint = {};
};

void receive_recomputed(TupleTableSlot *row, void *context) {
    auto &to = *static_cast<Recomputed *>(context);
    tuplestore_puttupleslot(to.rows, row);
    slot_getallattrs(row);
    MinimalTuple tuple = pg::form_minimal_tuple(row->tts_tupleDescriptor, row->tts_values, row->tts_isnull);
    to.fingerprint.add(tuple, 1);
    heap_free_minimal_tuple(tuple);
}

constexpr int64 many_keys = 100;

Recomputed read_definition(catalog::Projection &projection, NullMask mask, int64 keys, const Recompute &how) {
    auto read = [&](Snapshot snapshot) {
        Recomputed result{tuplestore_begin_heap(true, false, work_mem)};
        Snapshot registered = as_of(snapshot, how.command);
        if (keys <= many_keys && how.rows == nullptr) {
            read_rows(
                cached_query(projection, -2, mask, [&] { return compile::recompute_text(projection.block(), mask); }),
                registered, receive_recomputed, &result);
        } else {
            SPIPlanPtr once = pg::spi_prepare(compile::recompute_text(projection.block(), mask, how.rows));
            read_rows(once, registered, receive_recomputed, &result);
            SPI_freeplan(once);
        }
        UnregisterSnapshot(registered);
        return result;
    };
    CommandCounterIncrement();
    if (how.snapshot) return read(how.snapshot);
    AcceptInvalidationMessages(); // a partition of whoever the rows were waited for
    Recomputed fresh = read(GetLatestSnapshot());
    if (IsolationUsesXactSnapshot()) {
        Recomputed own = read(GetTransactionSnapshot());
        if (!(own.fingerprint == fresh.fingerprint)) fail_serialization();
        tuplestore_end(own.rows);
    }
    return fresh;
}

Parameters key_parameters(const Block &block, const Datum *keys, const bool *nulls) {
    Parameters parameters;
    for (std::size_t i = 0; i < block.row_key.size(); i++) {
        parameters.add(keys[i], nulls[i]);
        if (nulls[i]) parameters.mask |= UINT64CONST(1) << i;
    }
    for (std::size_t i = 0; i < block.states.size(); i++) parameters.add(0, true);
    return parameters;
}

Parameters key_of(const Block &block, TupleTableSlot *row) {
    Datum keys[INDEX_MAX_KEYS];
    bool nulls[INDEX_MAX_KEYS];
    for (std::size_t i = 0; i < block.row_key.size(); i++) {
        keys[i] = row->tts_values[block.row_key[i].column];
        nulls[i] = row->tts_isnull[block.row_key[i].column];
    }
    return key_parameters(block, keys, nulls);
}

enum class Written {
    yes,
    same, // the row was right
    busy  // a concurrent writer made the row meanwhile: it has to be locked first
};

// Writes one row as it is.
Written write_row(catalog::Projection &projection, TupleTableSlot *row, NullMask mask) {
    const Block &block = projection.block();
    Parameters parameters;
    parameters.mask = mask;
    for (int i = 0; i < block.columns(); i++) parameters.add(row->tts_values[i], row->tts_isnull[i]);
    if (execute(projection, Statement::replace, parameters) > 0) return Written::yes;

    Parameters key = key_of(block, row);
    if (execute(projection, Statement::lock, key) > 0) return Written::same;
    return execute(projection, Statement::place, parameters) > 0 ? Written::yes : Written::busy;
}

// Recomputes keys of one null pattern; those that another writer was making are left in `again`.
int64 recompute_pattern(catalog::Projection &projection, Tuplestorestate *keys, TupleDesc desc, NullMask mask,
                        Tuplestorestate *again, const Recompute &how) {
    const Block &block = projection.block();
    int64 count = tuplestore_tuple_count(keys);
    if (!block.row_key.empty()) name_relation("affected", desc, keys);
    Recomputed fresh = read_definition(projection, mask, count, how);

    pg::vector<bool> found(count, false);
    pg::vector<bool> retry(count, false);
    TupleDesc row_desc = CreateTemplateTupleDesc(block.columns() + 1);
    for (int i = 0; i < block.columns(); i++) {
        Node *expression = reinterpret_cast<Node *>(block.column(i)->expr);
        TupleDescInitEntry(row_desc, static_cast<AttrNumber>(i + 1), nullptr, exprType(expression),
                           exprTypmod(expression), 0);
    }
    TupleDescInitEntry(row_desc, static_cast<AttrNumber>(block.columns() + 1), "ordinal", INT8OID, -1, 0);
    if (count > many_keys && block.slices() && !IsolationUsesXactSnapshot()) {
        int64 changed = write_slices(projection, {fresh.rows, row_desc}, mask);
        tuplestore_end(fresh.rows);
        return changed;
    }
    TupleTableSlot *row = MakeSingleTupleTableSlot(row_desc, &TTSOpsMinimalTuple);
    int64 written = 0;
    while (tuplestore_gettupleslot(fresh.rows, true, false, row)) {
        slot_getallattrs(row);
        int64 ordinal = DatumGetInt64(row->tts_values[block.columns()]);
        found[ordinal] = true;
        Written result = write_row(projection, row, mask);
        written += result == Written::yes;
        retry[ordinal] = result == Written::busy;
    }
    ExecDropSingleTupleTableSlot(row);
    tuplestore_end(fresh.rows);

    TupleTableSlot *key = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
    tuplestore_rescan(keys);
    for (int64 i = 0; tuplestore_gettupleslot(keys, true, false, key); i++) {
        if (retry[i]) tuplestore_puttupleslot(again, key);
        if (found[i]) continue;
        slot_getallattrs(key);
        Parameters parameters = key_parameters(block, key->tts_values, key->tts_isnull);
        written += execute(projection, Statement::discard, parameters);
    }
    ExecDropSingleTupleTableSlot(key);
    return written;
}

NullMask mask_of(TupleTableSlot *key, std::size_t keys) {
    slot_getallattrs(key);
    NullMask mask = 0;
    for (std::size_t i = 0; i < keys; i++)
        if (key->tts_isnull[i]) mask |= UINT64CONST(1) << i;
    return mask;
}

} // namespace

pg::flat_map<NullMask, Tuplestorestate *> by_null_pattern(Tuplestorestate *keys, TupleDesc from, TupleDesc to) {
    pg::flat_map<NullMask, Tuplestorestate *> patterns;
    TupleTableSlot *key = MakeSingleTupleTableSlot(from, &TTSOpsMinimalTuple);
    tuplestore_rescan(keys);
    while (tuplestore_gettupleslot(keys, true, false, key)) {
        Tuplestorestate *&store = patterns[mask_of(key, to->natts - 1)];
        if (store == nullptr) store = tuplestore_begin_heap(true, false, work_mem);
        put_key(store, to, key->tts_values, key->tts_isnull, tuplestore_tuple_count(store));
    }
    ExecDropSingleTupleTableSlot(key);
    return patterns;
}

void put_key(Tuplestorestate *store, TupleDesc desc, const Datum *keys, const bool *key_nulls, int64 ordinal) {
    std::size_t count = desc->natts - 1;
    Datum values[MaxHeapAttributeNumber];
    bool nulls[MaxHeapAttributeNumber];
    memcpy(values, keys, sizeof(Datum) * count);
    memcpy(nulls, key_nulls, sizeof(bool) * count);
    values[count] = Int64GetDatum(ordinal);
    nulls[count] = false;
    tuplestore_putvalues(store, desc, values, nulls);
}

void lock_rows(catalog::Projection &projection, Tuplestorestate *keys, TupleDesc desc) {
    TupleTableSlot *key = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
    tuplestore_rescan(keys);
    while (tuplestore_gettupleslot(keys, true, false, key)) {
        slot_getallattrs(key);
        Parameters parameters = key_parameters(projection.block(), key->tts_values, key->tts_isnull);
        execute(projection, Statement::lock, parameters);
    }
    ExecDropSingleTupleTableSlot(key);
}

int64 apply_recomputed(catalog::Projection &projection, MemoryContext memory, Tuplestorestate *keys, TupleDesc key_desc,
                       Recompute how) {
    const Block &block = projection.block();
    TupleDesc desc = pg::within(memory, [&] { return affected_desc(block); });
    int64 written = 0;
    Tuplestorestate *given = keys;
    for (int attempt = 0; tuplestore_tuple_count(keys) > 0; attempt++) {
        CHECK_FOR_INTERRUPTS();
        if (attempt == attempts) fail_busy(projection);
        pg::flat_map<NullMask, Tuplestorestate *> patterns = by_null_pattern(keys, key_desc, desc);
        Tuplestorestate *again = tuplestore_begin_heap(true, false, work_mem);
        for (auto [mask, store] : patterns) written += recompute_pattern(projection, store, desc, mask, again, how);
        for (auto [mask, store] : patterns) tuplestore_end(store);
        if (keys != given) tuplestore_end(keys);
        keys = again;
        key_desc = desc;
        lock_rows(projection, keys, desc); // what was in the making is there now, and the next reading sees it
    }
    if (keys != given) tuplestore_end(keys);
    return written;
}

// Applies one group's delta by statements. Returns false where the group has to be recomputed and its row is locked for
// that.
static bool apply_group(Taken &taken, const Group &group, TupleDesc desc) {
    const Block &block = taken.block;
    Parameters parameters = delta_parameters(taken, group);
    if (fragile(block, group)) {
        Row row = judge_row(taken, group, parameters);
        if (row == Row::locked) return false;
        if (row == Row::absent) {
            // Its row is made here, in its place in the order of keys: put off, it would be waited for out of order.
            Tuplestorestate *key = tuplestore_begin_heap(true, false, work_mem);
            put_key(key, desc, group.key, group.key_nulls, 0);
            apply_recomputed(taken.projection, CurrentMemoryContext, key, desc,
                             {taken.snapshot, nullptr, taken.command});
            tuplestore_end(key);
            return true;
        }
    }
    int64 count = group.cells[block.row_count].count;
    if (count < 0 && !block.always_has_row())
        remove_from_group(taken, parameters);
    else
        add_to_group(taken, group, block.always_has_row() ? 1 : count, parameters);
    return true;
}

// Applies groups in order; those whose rows are locked to be recomputed are recomputed together at the end.
static void apply_groups(Taken &taken, std::span<Group *const> groups, DirectWriter *direct) {
    const Block &block = taken.block;
    TupleDesc desc = affected_desc(block);
    Tuplestorestate *recompute = nullptr;
    MemoryContext row_memory = AllocSetContextCreate(taken.memory, "projection group", ALLOCSET_SMALL_SIZES);
    for (const Group *each : groups) {
        const Group &group = *each;
        CHECK_FOR_INTERRUPTS();
        bool applied = pg::within(row_memory, [&] {
            if (direct && !fragile(block, group) && add_direct(*direct, group) == Added::yes) return true;
            return apply_group(taken, group, desc);
        });
        SPI_freetuptable(SPI_tuptable);
        MemoryContextReset(row_memory);
        if (applied) continue;
        if (recompute == nullptr) recompute = tuplestore_begin_heap(true, false, work_mem);
        put_key(recompute, desc, group.key, group.key_nulls, 0);
    }
    if (recompute == nullptr) return;
    apply_recomputed(taken.projection, taken.memory, recompute, desc, {taken.snapshot, nullptr, taken.command});
    tuplestore_end(recompute);
}

void apply_fold(Taken &taken) {
    if (taken.block.slices()) return apply_slices(taken);
    pg::vector<Group *> groups = taken.fold->sorted();
    if (groups.empty()) return;
    // Newer than every commit that locks made us wait for.
    pg::with_snapshot(GetTransactionSnapshot(), [&] {
        DirectWriter *direct = open_direct(taken.projection, taken.memory);
        std::size_t done = 0;
        while (direct && done < groups.size() && !fragile(taken.block, *groups[done]) &&
               add_direct(*direct, *groups[done]) == Added::yes)
            done++;
        // The order of keys is kept: what follows the first group that needs a statement follows it here too.
        if (done < groups.size())
            with_statements(taken.projection, [&] {
                apply_groups(taken, {groups.data() + done, groups.size() - done}, direct);
            });
        if (direct) close_direct(direct);
    });
}

void apply_logged(Taken &taken) {
    if (taken.cleared) {
        refill(taken);
        return;
    }
    compute_changes(taken);
    if (taken.fold)
        apply_fold(taken);
    else
        apply_images(taken);
}

void apply_chained(Taken &taken) {
    compute_changes(taken);
    if (taken.fold) return apply_fold(taken);
    for (const Images::Image &image : taken.images->list)
        if (image.net != 0) return with_statements(taken.projection, [&] { apply_images(taken); });
}

void refill(Taken &taken) {
    catalog::Projection &projection = taken.projection;
    const char *table = table_name(projection);
    pg::TextList columns;
    for (int i = 0; i < taken.block.columns(); i++) columns.add("%s", column_name(projection, i));
    const char *definition = pg::qualified_name(taken.block.definition);

    SPIPlanPtr empty = pg::spi_prepare(psprintf("DELETE FROM ONLY %s", table));
    CommandCounterIncrement();
    run_plan(empty);
    SPI_freeplan(empty);
    if (IsolationUsesXactSnapshot()) {
        // Rows that the transaction's snapshot does not see are still there.
        SPIPlanPtr rest = pg::spi_prepare(psprintf("SELECT 1 FROM ONLY %s LIMIT 1", table));
        CommandCounterIncrement();
        int code = SPI_execute_snapshot(rest, nullptr, nullptr, GetLatestSnapshot(), InvalidSnapshot, true, false, 1);
        if (code < 0) elog(ERROR, "SPI_execute_snapshot failed: %s", SPI_result_code_string(code));
        if (SPI_processed > 0) fail_serialization();
    }
    // The truncated source is locked against everybody else; other sources are read as of now.
    SPIPlanPtr fill =
        pg::spi_prepare(psprintf("INSERT INTO %s (%s) SELECT * FROM %s", table, columns.text(), definition));
    CommandCounterIncrement();
    Snapshot snapshot = as_of(taken.snapshot ? taken.snapshot : GetLatestSnapshot(), taken.command);
    run_plan(fill, nullptr, nullptr, snapshot);
    UnregisterSnapshot(snapshot);
}

} // namespace maintain
