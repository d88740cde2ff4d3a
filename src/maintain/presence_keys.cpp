// Locks for presence.
//
// Two transactions that each take away one of the last two matches of a row would each see the other's, and two that
// each bring a first one would both bring the row: test/isolation/specs/presence_keys.spec. All matches of a row have
// equal keys (what of the table is equal to something of the row), so it is enough that writers of one key go one at a
// time. Each presence has its class of keys; presences of one table with the same keys share one. A presence without an
// equality has one key, the empty one.
//
// No lock is needed (test/isolation/specs/presence_beside.spec)
//  - for keys that are NULL: they match nothing;
//  - for what nets to nothing, by all columns that decide about a match: no row has more matches or fewer;
//  - where a unique index is over some of the keys: then a key has one row. Two writers that change whether it is there
//    change the same row, or the second puts its own in the place of the first's, which the index does not let it do
//    before the first has ended. So the second writer's snapshot is younger than the first's commit. A deferrable index
//    would not hold the second one up at its statement; a partial one, or one over expressions, does not have all rows.
#include "maintain/presence_keys.hpp"

#include "maintain/locks.hpp"
#include "maintain/statements.hpp"
#include "pg/index.hpp"

namespace maintain {
namespace {

using compile::MatchKey;
using compile::Presence;

// Whether rows that match by all of the keys are equal in the index, which then has one of them at most.
bool tells_apart(const Presence &presence, Form_pg_index index, const oidvector *classes, const oidvector *collations) {
    if (!index->indisunique || !index->indimmediate || !index->indisvalid || !index->indisready) return false;
    for (int i = 0; i < index->indnkeyatts; i++) {
        bool matched = false;
        for (const MatchKey &key : presence.keys)
            matched |=
                key.column != 0 && key.column == index->indkey.values[i] && key.collation == collations->values[i] &&
                get_op_opfamily_strategy(key.equality, get_opclass_family(classes->values[i])) == BTEqualStrategyNumber;
        if (!matched) return false;
    }
    return true;
}

const oidvector *vector_of(HeapTuple tuple, AttrNumber column) {
    bool is_null;
    return reinterpret_cast<oidvector *>(DatumGetPointer(SysCacheGetAttr(INDEXRELID, tuple, column, &is_null)));
}

bool is_kept_apart(const Presence &presence, Oid index) {
    HeapTuple tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(index));
    if (!HeapTupleIsValid(tuple)) return false;
    bool apart = pg::is_of_columns(tuple) &&
                 tells_apart(presence, reinterpret_cast<Form_pg_index>(GETSTRUCT(tuple)),
                             vector_of(tuple, Anum_pg_index_indclass), vector_of(tuple, Anum_pg_index_indcollation));
    ReleaseSysCache(tuple);
    return apart;
}

// Asked at the flush: the transaction's own lock on the table keeps an index that it has written with.
bool is_kept_apart(const Presence &presence) {
    Oid relation = rt_fetch(1, presence.rows->rtable)->relid;
    // A table below may have the key, too. (Test: isolation/inherited)
    if (get_rel_relkind(relation) == RELKIND_RELATION && has_subclass(relation)) return false;
    Relation table = relation_open(relation, AccessShareLock);
    bool apart = false;
    ListCell *cell;
    foreach (cell, RelationGetIndexList(table)) apart = apart || is_kept_apart(presence, lfirst_oid(cell));
    relation_close(table, NoLock);
    return apart;
}

// What is asked, as columns of the changed rows; none where it is anything else.
pg::vector<int> asked_columns(const Taken &taken, const Presence &presence, int source) {
    const pg::vector<AttrNumber> &used = taken.block.sources[source].used;
    if (presence.asked->jointree->quals || taken.descs[source]->natts != static_cast<int>(used.size()) + 1) return {};
    pg::vector<int> columns;
    for (TargetEntry *entry : pg::each<TargetEntry>(presence.asked->targetList)) {
        auto *var = reinterpret_cast<Var *>(entry->expr);
        auto at = IsA(var, Var) ? std::find(used.begin(), used.end(), var->varattno) : used.end();
        if (at == used.end()) return {};
        columns.push_back(static_cast<int>(at - used.begin()));
    }
    return columns;
}

// The same as the query would give, which takes longer to begin than to end.
void add_columns(const Taken &taken, int source, const pg::vector<int> &columns, Images &images) {
    Tuplestorestate *rows = taken.rows[source];
    TupleDesc desc = taken.descs[source];
    TupleTableSlot *row = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple),
                   *asked = MakeSingleTupleTableSlot(images.desc, &TTSOpsVirtual);
    tuplestore_select_read_pointer(rows, 0);
    tuplestore_rescan(rows);
    while (tuplestore_gettupleslot(rows, true, false, row)) {
        slot_getallattrs(row);
        for (std::size_t i = 0; i < columns.size(); i++) {
            asked->tts_values[i] = row->tts_values[columns[i]];
            asked->tts_isnull[i] = row->tts_isnull[columns[i]];
        }
        MinimalTuple image = image_of(asked, images.desc);
        add_image(images, image, DatumGetInt64(row->tts_values[desc->natts - 1]));
        heap_free_minimal_tuple(image);
    }
    ExecDropSingleTupleTableSlot(asked);
    ExecDropSingleTupleTableSlot(row);
}

void receive_asked(TupleTableSlot *row, void *context) {
    auto &images = *static_cast<Images *>(context);
    slot_getallattrs(row);
    int64 weight = DatumGetInt64(row->tts_values[images.desc->natts]);
    MinimalTuple image = image_of(row, images.desc);
    add_image(images, image, weight);
    heap_free_minimal_tuple(image);
}

// The hash of a row's keys, if none is NULL.
bool hash_of(const Presence &presence, TupleTableSlot *row, uint32 *hash) {
    *hash = 0;
    int column = 0;
    for (const MatchKey &key : presence.keys) {
        if (row->tts_isnull[column]) return false;
        Datum value = FunctionCall1Coll(&key.hash, key.collation, row->tts_values[column++]);
        *hash = hash_combine(*hash, DatumGetUInt32(value));
    }
    return true;
}

// Adds the keys of the presence whose matches have become more or fewer.
void add_keys(Taken &taken, const Presence &presence, int source, pg::vector<uint32> &hashes) {
    TupleDesc desc = ExecTypeFromTL(presence.asked->targetList);
    Images *images = make_images(desc, taken.memory);
    auto variant = static_cast<uint64>(presence.occurrence);
    if (pg::vector<int> columns = asked_columns(taken, presence, source); !columns.empty()) {
        add_columns(taken, source, columns, *images);
    } else {
        SPIPlanPtr plan = cached_query(taken.projection, -4, variant,
                                       [&] { return compile::presence_keys_text(taken.block, presence); });
        read_rows(plan, GetTransactionSnapshot(), receive_asked, images); // it reads no table
    }
    TupleTableSlot *slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
    for (const Images::Image &image : images->list) {
        if (image.net == 0) continue;
        ExecStoreMinimalTuple(image.row, slot, false);
        slot_getallattrs(slot);
        uint32 hash;
        if (hash_of(presence, slot, &hash))
            hashes.push_back(key_of_class(static_cast<uint32>(presence.lock_class), hash));
    }
    ExecDropSingleTupleTableSlot(slot);
}

} // namespace

void lock_presence_keys(Taken &taken, int source) {
    const compile::Block &block = taken.block;
    pg::vector<uint32> hashes;
    for (const compile::Arm &arm : block.arms)
        for (const Presence &presence : arm.presences) {
            if (block.occurrence_source[presence.occurrence - 1] != source || presence.asked_before) continue;
            if (is_kept_apart(presence)) continue;
            if (taken.row_counts[source] > large_delta) return lock_all_keys(block.projection);
            add_keys(taken, presence, source, hashes);
        }
    lock_keys(block.projection, hashes, most_block_keys);
}

} // namespace maintain
