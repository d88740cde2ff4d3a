// Scalar subqueries that find a row by a unique key.
#pragma once
#include "compile/block.hpp"
#include "compile/parts.hpp"

namespace compile {

// Joins the tables of a scalar subquery that has one row at most, because each is found by a unique key; returns its
// value. Null where it may have several rows, or is something else.
Node *join_lookup(const Cutting &cutting, Query *query, const Query *scalar);

// Renames aliases of a user's query that read like those of look-ups.
void free_aliases(Query *query);

// Whether an entry is the table of a look-up; and whether the index tells its rows apart, too.
bool is_found_by_key(const RangeTblEntry *entry);
bool finds_one_row(const RangeTblEntry *entry, Relation index);

// A table of a definition that a scalar subquery read.
struct FoundByKey {
    Oid table, index;               // the unique index by which a row of it is found; 0: there is none any more
    pg::vector<AttrNumber> columns; // its columns, or those that are compared
};
void each_lookup(const Block &block, void (*use)(const FoundByKey &, void *), void *context);

} // namespace compile
