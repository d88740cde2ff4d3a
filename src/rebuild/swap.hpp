// Exchanging the files of a table and its next generation.
#pragma once
#include "catalog/projection.hpp"

namespace rebuild {

// An index of the live table and its counterpart of the shadow.
struct IndexPair {
    Oid index, shadow;
};

// An index of a shadow says by its name which index it is made for: indexes come and go while a rebuild runs.
const char *counterpart_name(Oid index, Oid shadow);

// A table's indexes, each with what `counterpart(index)` finds for it.
template <class Counterpart>
pg::vector<IndexPair> pair_indexes(Oid table, Counterpart &&counterpart) {
    Relation opened = table_open(table, AccessShareLock);
    List *indexes = RelationGetIndexList(opened);
    table_close(opened, NoLock);
    pg::vector<IndexPair> pairs;
    ListCell *cell;
    foreach (cell, indexes) pairs.push_back({lfirst_oid(cell), counterpart(lfirst_oid(cell))});
    return pairs;
}

// The live table's indexes with those of the shadow that are made for them; `shadow` is InvalidOid where one is
// missing.
// Those in `without` are left out.
pg::vector<IndexPair> index_pairs(Oid table, Oid shadow, const pg::vector<Oid> &without = {});

// The indexes that tell the rows of a query projection apart, as create() makes them.
pg::vector<Oid> identity_indexes(catalog::Projection &projection);

// Makes the indexes that the shadow lacks, as the live table has them now. Returns how many. In an SPI connection.
int copy_indexes(Oid table, Oid shadow, const pg::vector<Oid> &without = {});

// An empty table with the live one's columns, options and owner, in the extension's schema under `name`. It is marked
// as the rewritten form of the live one, so that publications FOR ALL TABLES pass over it.
Oid make_twin(Oid table, const char *name);

// Exchanges heap, TOAST table and indexes of the two. Both are locked in ACCESS EXCLUSIVE mode; every index has its
// pair. The table keeps its OID and with it all that refers to it.
void swap_storage(Oid table, Oid shadow);

// Whether two tables store their rows alike: one could be read by what the other says of itself. A live table's columns
// may be renamed while a rebuild runs.
enum class Names { may_differ, same };
bool same_layout(Oid a, Oid b, Names names);

} // namespace rebuild
