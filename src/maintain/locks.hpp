// Locks of maintenance, in the order in which they are taken. All are held to the end of the transaction.
//
//  1. relations, by OID: sources AccessShare, projections RowExclusive;
//  2. per block, upstream first: the tag of early flushes, and its source tags;
//  3. keys, of one flush all at once, in the order of their hashes: what a block asks about by key, or a reducer's;
//  4. rows of the projection, in key order.
#pragma once
#include "catalog/projection.hpp"

namespace maintain {

// Locks everything that flushing `roots` and what lies below them may touch; with `applied`, also the tables of those
// that a flush only logs for: their logs are to be applied.
void lock_relations(std::span<catalog::Projection *const> roots, bool applied = true);

// Keeps transactions apart that flush a block before they commit, before anything else of it. Each may go on to change
// another source, and has the tags of the first then: two of them would wait for each other
// (test/isolation/specs/write_read_write.spec). Who flushes at its commit asks for no other tags later, and goes on
// beside one of them as its source's tags and keys allow.
void lock_early(const compile::Block &block);

// Keeps writers of different sources of one block apart, and lets writers of one source run side by side.
//
// Each row of a join is owed to one row of each source. Two transactions that each add one of them see neither the
// other's, so neither would add the joined row: test/isolation/specs/join_two_sides.spec. The n sources share ⌈log2 n⌉
// tags; on each, a source takes one of two modes that conflict with each other and not with themselves, by the bits of
// its number: any two sources differ in a bit. `exclusive` is for what changed several sources, or one that a term
// reads again.
void lock_sources(const compile::Block &block, int source, bool exclusive);

// Keeps writers of the same keys of a projection apart, whether the keys have rows or not. A reducer has one class of
// keys; a block may have several, and one flush locks those of all classes in one call. Equal keys have equal hashes,
// by the hash function of the operator that compares them. More than `most` are locked as one: all, which meets whoever
// locks single ones. Whoever reads what the keys are about takes a new snapshot after this.
// (test/isolation/specs: inline_keys.spec, presence_beside.spec)
inline constexpr std::size_t most_reducer_keys = 256, most_block_keys = 32; // each takes room in the lock table
void lock_keys(Oid projection, pg::vector<uint32> &hashes, std::size_t most);
// Of one class of a block's.
void lock_keys(Oid projection, uint32 lock_class, std::span<const uint32> hashes);
// All that a block or reducer may lock.
void lock_all_keys(Oid projection);
// What the key of a class counts as among those of all classes.
uint32 key_of_class(uint32 lock_class, uint32 hash);

// Removals from a bag choose physical rows, which two transactions must not both choose. Of one that is written by
// slices: keeps all of them.
void lock_block(const compile::Block &block);

} // namespace maintain
