// A projection's table, made within an SPI connection.
#pragma once
#include "declare/declare.hpp"
#include "declare/describe.hpp"

namespace declare {

// The table with the index of its key: the current user's; a part's is in our schema, and hidden. Raises what CREATE
// TABLE does.
Oid make_table(const Request &request, const compile::Block &block);
// Inserts what the definition returns, or, with `empty`, what it gives for no source rows at all: aggregates without
// GROUP BY then have a row. As the current user. Returns how many rows.
uint64 fill(Oid table, Oid definition, const compile::Block &block, bool empty);
// Lets the pages of a table that has been filled become full.
void forget_spread(Oid table);
// The indexes on parts that the block would be maintained faster with. Nobody else could make them.
void index_parts(const compile::Block &block);

} // namespace declare
