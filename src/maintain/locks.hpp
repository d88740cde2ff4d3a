// Locks of maintenance, in the order in which they are taken. All are held to the end of the transaction.
//
//  1. relations, by OID: sources AccessShare, projections RowExclusive;
//  2. per block, upstream first: its source tags;
//  3. rows of the projection, in key order; of a reducer, its keys in the order of their hashes.
#pragma once
#include "catalog/projection.hpp"

namespace maintain {

// Locks everything that flushing `roots` and what lies below them may touch; with `applied`, also the tables of those
// that a flush only logs for: their logs are to be applied.
void lock_relations(std::span<catalog::Projection *const> roots, bool applied = true);

// Keeps writers of different sources of one block apart, and lets writers of one source run side by side.
//
// Each row of a join is owed to one row of each source. Two transactions that each add one of them see neither the
// other's, so neither would add the joined row: test/isolation/specs/join_two_sides.spec. The n sources share ⌈log2 n⌉
// tags; on each, a source takes one of two modes that conflict with each other and not with themselves, by the bits of
// its number: any two sources differ in a bit. `exclusive` is for a transaction that changed several sources, or that
// may go on to do so.
void lock_sources(const compile::Block &block, int source, bool exclusive);

// Keeps writers of the same keys of a reducer apart, whether the keys have rows or not. Many keys are locked as one:
// all. (test/isolation/specs/inline_keys.spec)
void lock_keys(Oid projection, pg::vector<uint32> &hashes);

// Removals from a bag choose physical rows, which two transactions must not both choose.
void lock_block(const compile::Block &block);

} // namespace maintain
