// Which tables hold rows of which: partitions and the partitioned tables above them, children and the tables that they
// inherit from, cached for the session.
#pragma once
#include "pg/pg.hpp"

namespace catalog {

// A table above another that projections read, and how the other's rows become its own.
struct Ancestor {
    Oid relation;
    TupleDesc desc;
    TupleConversionMap *map; // null: columns lie alike
};

// Those above `table` that projections read, nearest first, each once. What is being detached is not below any more.
// Holds until the end of the transaction, as a Projection * does.
std::span<const Ancestor> ancestors_read(Relation table);

// Whether there may be any; asks the relcache only.
bool may_be_below(Oid table);

// The same by OID, without layouts, for what only marks or looks.
std::span<const Ancestor> ancestors_read(Oid table);

// The tables below a source that hold rows of it; none for a table without partitions or children, nor for our own
// store, whose archive is a child of it.
std::span<const Oid> members(Oid source);

// Which tables are below the sources now, as one number; 0 where there are none. Queries read the partitions that
// there are, whatever their snapshot: what reads a log and its sources under one snapshot asks before it takes that and
// when it is done. Raises 40001 where partitions have come or gone meanwhile.
uint64 partitions_of(std::span<const Oid> sources);
void refuse_other_partitions(std::span<const Oid> sources, uint64 before);

// Locks a table, then those below it, as statements do.
void lock_tree(Oid table, LOCKMODE mode);

// A row of a table below as one of the ancestor's, in the current memory context; null for null.
TupleTableSlot *as_row_of(const Ancestor &ancestor, TupleTableSlot *row);
// In a slot of the ancestor's own, for what looks at the row as a whole.
TupleTableSlot *as_whole_row_of(const Ancestor &ancestor, TupleTableSlot *row);

// An invalidation has come. Whether a source's plans and facts are outdated by it.
bool lineage_changed(Oid table);

// Frees what was replaced during the transaction.
void end_lineage_transaction();

} // namespace catalog
