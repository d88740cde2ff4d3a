// Slices: the rows of the keys that changed rows tell are read from the sources again, and written where they differ.
//
// Two writers of rows with one key would each read without the other's. So each locks the keys first, by hash, in
// ascending order, and then reads under a new snapshot: a commit is visible before its locks go. Rows of the table are
// no substitute: one may not be there yet. (test/isolation/specs/slices.spec)
//
// In REPEATABLE READ and above the own and a new snapshot must read the same. What they read may be the same while the
// table's row, made of what others have committed since, is not: a row that need not be written is locked, which core
// refuses then (write_row).
#include "maintain/apply.hpp"
#include "maintain/apply_values.hpp"
#include "maintain/locks.hpp"
#include "maintain/statements.hpp"

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

void apply_slices(Taken &taken) {
    pg::vector<capture::Group *> groups = taken.fold->sorted();
    if (groups.empty()) return;
    catalog::Projection &projection = taken.projection;
    TupleDesc desc = affected_desc(taken.block);
    Tuplestorestate *keys = tuplestore_begin_heap(true, false, work_mem);
    for (const capture::Group *group : groups) put_key(keys, desc, group->key, group->key_nulls, 0);
    lock_slices(projection, keys, desc);
    with_statements(projection, [&] {
        apply_recomputed(projection, taken.memory, keys, desc, {taken.snapshot, nullptr, taken.command});
    });
    tuplestore_end(keys);
}

} // namespace maintain
