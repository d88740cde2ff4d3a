// Slices: the rows of the keys that changed rows tell are read from the sources again, and written where they differ.
//
// Two writers of rows with one key would each read without the other's. So each locks the keys first, by hash, in
// ascending order, and then reads under a new snapshot: a commit is visible before its locks go. Rows of the table are
// no substitute: one may not be there yet. (test/isolation/specs/slices.spec)
//
// In REPEATABLE READ and above the own and a new snapshot must read the same. What they read may be the same while the
// table's row, made of what others have committed since, is not: a row that need not be written is locked, which core
// refuses then (write_row).
// Slices of rows that nothing tells apart are compared as a whole: what the table has of them and what they should be.
// The locks on their keys keep others from writing either meanwhile. Of each row only a hash is kept in memory.
#include "compile/terms.hpp"
#include "maintain/apply.hpp"
#include "maintain/apply_values.hpp"
#include "maintain/locks.hpp"
#include "maintain/statements.hpp"
#include "pg/list.hpp"

namespace maintain {

namespace {
constexpr uint32 class_of_slices = 0x736C6963; // no presence's, which are numbered
} // namespace

void lock_slices(catalog::Projection &projection, Tuplestorestate *keys, TupleDesc desc) {
    if (!projection.block().slices()) return;
    pg::vector<uint32> hashes;
    TupleTableSlot *key = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
    tuplestore_rescan(keys);
    while (tuplestore_gettupleslot(keys, true, false, key)) {
        slot_getallattrs(key);
        hashes.push_back(
            key_of_class(class_of_slices, capture::hash_of_key(projection.block(), key->tts_values, key->tts_isnull)));
    }
    ExecDropSingleTupleTableSlot(key);
    lock_keys(projection.relation, hashes, most_reducer_keys);
}

namespace {

// Rows as they were read.
struct Rows {
    TupleDesc desc; // without what was read beside them
    Tuplestorestate *store;
    TupleTableSlot *slot; // by which they are put there
    Fingerprint fingerprint = {};
};

void receive_row(TupleTableSlot *row, void *context) {
    auto &rows = *static_cast<Rows *>(context);
    slot_getallattrs(row);
    MinimalTuple image = image_of(row, rows.desc);
    ExecStoreMinimalTuple(image, rows.slot, false);
    tuplestore_puttupleslot(rows.store, rows.slot);
    ExecClearTuple(rows.slot);
    rows.fingerprint.add(image, 1);
    heap_free_minimal_tuple(image);
}

// The rows of the table that are of the affected keys.
const char *table_text(catalog::Projection &projection, NullMask nulls) {
    const compile::Block &block = projection.block();
    const char *columns =
        pg::joined(block.columns(), ", ", [&](int i) { return psprintf("t.%s", column_name(projection, i)); });
    if (block.keys.empty()) return psprintf("SELECT %s FROM ONLY %s AS t", columns, table_name(projection));
    const char *match = key_condition(projection, block.keys, nulls, [](int i) { return psprintf("a.k%d", i); });
    return psprintf("SELECT %s FROM affected AS a, ONLY %s AS t WHERE %s", columns, table_name(projection), match);
}

// What the query that `text()` gives reads, under each of the snapshots that have to agree.
template <class Text>
Rows read_both(Taken &taken, TupleDesc desc, int kind, NullMask nulls, int64 keys, Snapshot given, Text &&text) {
    auto read = [&](Snapshot snapshot) {
        Rows rows{desc, tuplestore_begin_heap(true, false, work_mem),
                  MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple)};
        Snapshot registered = as_of(snapshot, taken.command);
        if (keys <= large_delta)
            read_rows(cached_query(taken.projection, kind, nulls, text), registered, receive_row, &rows);
        else {
            SPIPlanPtr once = pg::spi_prepare(text());
            read_rows(once, registered, receive_row, &rows);
            SPI_freeplan(once);
        }
        UnregisterSnapshot(registered);
        ExecDropSingleTupleTableSlot(rows.slot);
        return rows;
    };
    if (given) return read(given);
    Rows fresh = read(GetLatestSnapshot());
    if (IsolationUsesXactSnapshot()) {
        Rows own = read(GetTransactionSnapshot());
        if (!(own.fingerprint == fresh.fingerprint)) fail_serialization();
        tuplestore_end(own.store);
    }
    return fresh;
}

struct Net { // of the rows of one look
    RowHash hash;
    int64 count;
};

// Counts the rows by their looks.
void count_rows(HTAB *nets, const Rows &rows, int64 weight) {
    TupleTableSlot *slot = MakeSingleTupleTableSlot(rows.desc, &TTSOpsMinimalTuple);
    tuplestore_rescan(rows.store);
    while (tuplestore_gettupleslot(rows.store, true, false, slot)) {
        bool free, found;
        MinimalTuple image = ExecFetchSlotMinimalTuple(slot, &free);
        RowHash hash = RowHash::of(image);
        auto *net = static_cast<Net *>(hash_search(nets, &hash, HASH_ENTER, &found));
        if (!found) net->count = 0;
        net->count += weight;
        if (free) heap_free_minimal_tuple(image);
    }
    ExecDropSingleTupleTableSlot(slot);
}

// Takes those rows over whose looks one side has more of.
void take_different(Taken &taken, HTAB *nets, const Rows &rows, int64 weight) {
    TupleTableSlot *slot = MakeSingleTupleTableSlot(rows.desc, &TTSOpsMinimalTuple);
    tuplestore_rescan(rows.store);
    while (tuplestore_gettupleslot(rows.store, true, false, slot)) {
        bool free;
        MinimalTuple image = ExecFetchSlotMinimalTuple(slot, &free);
        RowHash hash = RowHash::of(image);
        auto *net = static_cast<Net *>(hash_search(nets, &hash, HASH_FIND, nullptr));
        if (net->count * weight > 0) {
            net->count -= weight;
            add_image(*taken.images, image, weight);
        }
        if (free) heap_free_minimal_tuple(image);
    }
    ExecDropSingleTupleTableSlot(slot);
    tuplestore_end(rows.store);
}

// Of keys of one null pattern.
void compare_slices(Taken &taken, Tuplestorestate *keys, TupleDesc key_desc, NullMask nulls) {
    catalog::Projection &projection = taken.projection;
    const compile::Block &block = taken.block;
    int64 count = tuplestore_tuple_count(keys);
    if (!block.keys.empty()) name_relation("affected", key_desc, keys);
    CommandCounterIncrement();
    Rows should = read_both(taken, taken.images->desc, -2, nulls, count, taken.snapshot,
                            [&] { return compile::recompute_text(block, nulls); });
    // Of what a worker applies he alone writes the table.
    Rows has = read_both(taken, taken.images->desc, -4, nulls, count, taken.snapshot ? GetLatestSnapshot() : nullptr,
                         [&] { return table_text(projection, nulls); });
    HASHCTL control{};
    control.keysize = sizeof(RowHash);
    control.entrysize = sizeof(Net);
    control.hcxt = CurrentMemoryContext;
    HTAB *nets = hash_create("projection rows compared", 256, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
    count_rows(nets, should, 1);
    count_rows(nets, has, -1);
    take_different(taken, nets, should, 1);
    take_different(taken, nets, has, -1);
    hash_destroy(nets);
}

int64 apply_slices_of_rows(Taken &taken, Tuplestorestate *keys, TupleDesc desc) {
    taken.images = pg::within(
        taken.memory, [&] { return make_images(ExecCleanTypeFromTL(taken.block.core->targetList), taken.memory); });
    pg::flat_map<NullMask, Tuplestorestate *> patterns = by_null_pattern(keys, desc, desc);
    for (auto [nulls, store] : patterns) {
        compare_slices(taken, store, desc, nulls);
        tuplestore_end(store);
    }
    apply_images(taken);
    return static_cast<int64>(taken.images->list.size());
}

} // namespace

// Three statements, however many rows there are: to write them one by one takes four times as long. A row that is
// right is not written; in REPEATABLE READ and above, where it would have to be locked, they are written one by one.
int64 write_slices(catalog::Projection &projection, FreshRows fresh, NullMask nulls) {
    const compile::Block &block = projection.block();
    auto name = [&](int column) { return column_name(projection, column); };
    auto columns = [&](const char *format) {
        return pg::joined(block.columns(), ", ", [&](int i) { return psprintf("%s%s", format, name(i)); });
    };
    auto match = [&](auto &&value) { return key_condition(projection, block.row_key, nulls, value); };
    const char *of_fresh = match([&](int i) { return psprintf("f.%s", name(block.row_key[i].column)); });
    const char *of_key = match([&](int i) { return psprintf("a.k%d", i); });

    for (int i = 0; i < block.columns(); i++)
        namestrcpy(&TupleDescAttr(fresh.desc, i)->attname,
                   get_attname(projection.relation, static_cast<AttrNumber>(i + 1), false));
    namestrcpy(&TupleDescAttr(fresh.desc, block.columns())->attname, "_projections_ordinal");
    name_relation("fresh", fresh.desc, fresh.store);
    const char *table = table_name(projection);
    int64 written = 0;
    auto run = [&](const char *text) {
        SPIPlanPtr once = pg::spi_prepare(text);
        written += run_plan(once);
        SPI_freeplan(once);
        CommandCounterIncrement();
    };
    run(psprintf("UPDATE ONLY %s AS t SET (%s) = ROW(%s) FROM fresh AS f WHERE %s AND NOT (ROW(%s)::record "
                 "OPERATOR(pg_catalog.*=) ROW(%s)::record)",
                 table, columns(""), columns("f."), of_fresh, columns("t."), columns("f.")));
    run(psprintf("INSERT INTO %s (%s) SELECT %s FROM fresh AS f WHERE NOT EXISTS (SELECT FROM ONLY %s AS t WHERE %s)",
                 table, columns(""), columns("f."), table, of_fresh));
    run(psprintf("DELETE FROM ONLY %s AS t USING affected AS a WHERE %s AND NOT EXISTS (SELECT FROM fresh AS f WHERE "
                 "f._projections_ordinal OPERATOR(pg_catalog.=) a.ordinal)",
                 table, of_key));
    return written;
}

static int64 read_slices_again(Taken &taken) {
    pg::vector<capture::Group *> groups = taken.fold->sorted();
    int64 written = 0;
    if (groups.empty()) return written;
    catalog::Projection &projection = taken.projection;
    TupleDesc desc = affected_desc(taken.block);
    Tuplestorestate *keys = tuplestore_begin_heap(true, false, work_mem);
    for (const capture::Group *group : groups) put_key(keys, desc, group->key, group->key_nulls, 0);
    lock_slices(projection, keys, desc);
    with_statements(projection, [&] {
        written = taken.block.slices_of_rows() ? apply_slices_of_rows(taken, keys, desc)
                                               : apply_recomputed(projection, taken.memory, keys, desc,
                                                                  {taken.snapshot, nullptr, taken.command});
    });
    tuplestore_end(keys);
    return written;
}

void apply_slices(Taken &taken) { read_slices_again(taken); }

int64 recompute_slices(catalog::Projection &projection, Tuplestorestate *keys, TupleDesc desc, const Recompute &how) {
    MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext, "projection slices", ALLOCSET_DEFAULT_SIZES);
    int64 written = 0;
    pg::within(memory, [&] {
        auto &taken = *new (palloc(sizeof(Taken))) Taken{projection, projection.block(), memory};
        taken.fold = pg::make<capture::Fold>(memory, taken.block, memory);
        taken.snapshot = how.snapshot;
        TupleTableSlot *key = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
        tuplestore_rescan(keys);
        while (tuplestore_gettupleslot(keys, true, false, key)) {
            slot_getallattrs(key);
            taken.fold->add(key->tts_values, key->tts_isnull, 1);
        }
        ExecDropSingleTupleTableSlot(key);
        CommandCounterIncrement();
        written = read_slices_again(taken);
    });
    MemoryContextDelete(memory);
    return written;
}

} // namespace maintain
