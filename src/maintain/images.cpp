// Whole rows put into the table: those of joins without groups, known by their sources' keys, and of bags.
#include "maintain/apply.hpp"
#include "maintain/apply_values.hpp"
#include "maintain/parameters.hpp"

namespace maintain {

using compile::Block;

namespace {

void hash_key(const Block &block, TupleTableSlot *row, uint64 *hash) {
    slot_getallattrs(row);
    hash[0] = hash[1] = 0;
    for (const compile::Key &key : block.row_key) {
        if (row->tts_isnull[key.column]) { // a group's, which may have no value
            for (uint64 *each : {&hash[0], &hash[1]}) *each = hash_combine64(*each, 0);
            continue;
        }
        Datum value = row->tts_values[key.column];
        const void *bytes = key.by_value ? static_cast<const void *>(&value) : DatumGetPointer(value);
        auto size = static_cast<int>(key.by_value ? sizeof value : datumGetSize(value, false, key.length));
        for (int i = 0; i < 2; i++)
            hash[i] = hash_combine64(
                hash[i], DatumGetUInt64(hash_any_extended(static_cast<const unsigned char *>(bytes), size, i + 1)));
    }
}

// The keys of images that came. Equal keys of unequal bytes are taken for different ones, which costs a deletion before
// the insertion.
HTAB *keys_that_came(const Block &block, const Images &images, TupleTableSlot *slot) {
    HASHCTL control{};
    control.keysize = control.entrysize = 2 * sizeof(uint64);
    control.hcxt = CurrentMemoryContext;
    HTAB *keys = hash_create("projection keys that came", 256, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
    for (const Images::Image &image : images.list) {
        if (image.net <= 0) continue;
        uint64 hash[2];
        ExecStoreMinimalTuple(image.row, slot, false);
        hash_key(block, slot, hash);
        hash_search(keys, hash, HASH_ENTER, nullptr);
    }
    return keys;
}

// INSERT … ON CONFLICT DO UPDATE is not asked for the replica identity that an UPDATE needs.
void check_identity(const catalog::Projection &projection) {
    Relation table = table_open(projection.relation, RowExclusiveLock);
    CheckCmdReplicaIdentity(table, CMD_UPDATE);
    table_close(table, NoLock);
}

int64 execute_over(Taken &taken, Statement statement, int64 rows, NullMask nulls = 0) {
    Parameters none;
    none.mask = nulls;
    if (rows <= large_delta) return execute(taken.projection, statement, none);
    SPIPlanPtr once = plan_once(taken.projection, statement, nulls);
    int64 processed = run_plan(once);
    SPI_freeplan(once);
    return processed;
}

// Which values of the row's key are NULL: what is equal to them, no index finds together with the others.
NullMask key_nulls(const pg::vector<compile::Key> &keys, TupleTableSlot *row) {
    slot_getallattrs(row);
    NullMask nulls = 0;
    for (std::size_t i = 0; i < keys.size(); i++)
        if (row->tts_isnull[keys[i].column]) nulls |= UINT64CONST(1) << i;
    return nulls;
}

void drop_equal_rows(Taken &taken, TupleTableSlot *row, int64 count) {
    Parameters parameters;
    slot_getallattrs(row);
    for (int i = 0; i < taken.block.columns(); i++) parameters.add(row->tts_values[i], row->tts_isnull[i]);
    parameters.add(Int64GetDatum(count), false);
    if (taken.block.slices()) parameters.mask = key_nulls(taken.block.keys, row);
    if (execute(taken.projection, Statement::drop_equal, parameters) == count) return;
    fail_missing(taken.projection, "A row that maintenance has to remove is not there.");
}

} // namespace

void apply_images(Taken &taken) {
    const Block &block = taken.block;
    Images &images = *taken.images;
    Tuplestorestate *came = tuplestore_begin_heap(true, false, work_mem);
    pg::flat_map<NullMask, Tuplestorestate *> gone;
    TupleTableSlot *slot = MakeSingleTupleTableSlot(images.desc, &TTSOpsMinimalTuple);
    HTAB *kept = block.has_key() ? keys_that_came(block, images, slot) : nullptr;
    bool changed = false;
    for (const Images::Image &image : images.list) {
        if (image.net == 0) continue;
        if (kept && (image.net > 1 || image.net < -1))
            elog(ERROR, "a row of projection %s changed by " INT64_FORMAT, taken.projection.name(), image.net);
        ExecStoreMinimalTuple(image.row, slot, false);
        if (image.net > 0) {
            for (int64 i = 0; i < image.net; i++) tuplestore_puttupleslot(came, slot);
        } else if (kept) {
            uint64 hash[2];
            hash_key(block, slot, hash);
            bool stays = hash_search(kept, hash, HASH_FIND, nullptr);
            changed |= stays;
            if (stays) continue;
            Tuplestorestate *&store = gone[key_nulls(block.row_key, slot)];
            if (store == nullptr) store = tuplestore_begin_heap(true, false, work_mem);
            tuplestore_puttupleslot(store, slot);
        } else {
            drop_equal_rows(taken, slot, -image.net);
        }
    }
    ExecDropSingleTupleTableSlot(slot);

    // Names as the statements know the columns: the table's.
    TupleDesc desc = CreateTupleDescCopy(images.desc);
    for (int i = 0; i < desc->natts; i++)
        namestrcpy(&TupleDescAttr(desc, i)->attname,
                   get_attname(taken.projection.relation, static_cast<AttrNumber>(i + 1), false));
    for (auto [nulls, store] : gone) {
        int64 rows = tuplestore_tuple_count(store);
        name_relation("gone", desc, store);
        if (execute_over(taken, Statement::withdraw, rows, nulls) < rows && IsolationUsesXactSnapshot())
            fail_serialization(); // made since the transaction's snapshot: see fail_missing
        tuplestore_end(store);
    }
    int64 came_rows = tuplestore_tuple_count(came);
    if (came_rows > 0) {
        name_relation("came", desc, came);
        if (changed) check_identity(taken.projection);
        execute_over(taken, block.counts_equal_rows() ? Statement::copy : Statement::upsert, came_rows);
    }
    tuplestore_end(came);
}

} // namespace maintain
