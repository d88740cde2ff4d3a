// What a definition is, in words: for NOTICEs, explain and the definitions view.
#pragma once
#include "catalog/projection.hpp"
#include "compile/parts.hpp"

namespace declare {

// The text of the user's query as it reads today, without the columns that maintenance appended.
const char *user_query(const compile::Block &block);

// The same as a tree, which follows renames.
Query *users_query(const compile::Block &block);

// The definition, with all columns of the table, over the tables that users know: parts are subqueries.
const char *whole_definition(const compile::Block &block);

// "column, column", or null where there is no key.
const char *key_text(const compile::Block &block);
// The same, not quoted.
List *key_names(const compile::Block &block);
ArrayType *key_array(const compile::Block &block);

// The CREATE INDEX statements that maintenance of the block would be faster with, for one of its range table entries. A
// join looks rows up by the columns it equates; a group that lost its extremum is read by its key.
List *index_advice(const compile::Block &block, int occurrence);

// Analyzes a user's query text (one SELECT) and compiles it. `maker` makes its parts.
// `stages`: where to print what the compiler makes of it, step by step.
// The same of a query that compile_text() refuses, to be read again as a whole for each change.
compile::Block *compile_text_refreshed(const char *text);
compile::Block *compile_text(const char *text, const compile::PartMaker &maker, StringInfo stages = nullptr);
// A query in normal form, whose parts have been cut out.
compile::Block *compile_normal(Query *query, const char *text, List *parts, StringInfo stages = nullptr);

} // namespace declare
