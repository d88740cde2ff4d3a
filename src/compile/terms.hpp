// Queries over a block's sources, as text: with changed rows, old states or other rows in the place of tables.
#pragma once
#include "compile/block.hpp"

namespace compile {

// The column of a delta that counts: 1 for a row that came, -1 for one that went. The name is no column's of the
// source.
const char *weight_column(Oid source);

// The columns of a source that the definition reads, quoted, separated by commas.
const char *used_columns(const Source &source);

// Term `occurrence` of the delta: its source's changed rows joined with the others; sources of earlier occurrences that
// changed too (`changed` has their source's bit) appear in their old state. Yields keys and arguments, or all columns,
// and then weights, whose product counts.
const char *term_text(const Block &block, int occurrence, uint32 changed);

// The rows that changed rows of an occurrence go into, whether or not they stay in: as term_text where nothing else
// changed, with the changed rows' weights. `delta_i` is the changed rows.
const char *trace_text(const Block &block, int occurrence);

// Of the changed rows of a presence's table, those that may match something: the keys that they match by, what else
// decides, and the weight.
const char *presence_keys_text(const Block &block, const Presence &presence);

// The only term of a single source whose added rows are what `rows` selects: its used columns and, where a delta has
// its weight, a position, in whose order they come.
const char *additions_text(const Block &block, const char *rows);
// The whole definition over such rows.
const char *definition_text(const Block &block, const char *rows);
// The whole definition, where rows[i] selects the used columns of source i, and null stands for the table itself.
const char *definition_over(const Block &block, std::span<const char *const> rows);
// The keys of the rows that are grouped there, ungrouped: columns k0…
const char *keys_over(const Block &block, std::span<const char *const> rows);

// The definition for the keys in the relation `affected` (columns k0…, ordinal): all columns, then the ordinal. `nulls`
// says which key columns are NULL in all of them.
// `rows`: of the single source, as for additions_text; null for all.
const char *recompute_text(const Block &block, uint64 nulls, const char *rows = nullptr);

} // namespace compile
