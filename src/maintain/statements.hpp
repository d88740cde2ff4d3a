// The SQL that maintenance runs for one projection: texts from the block and today's names, plans cached for the
// session.
#pragma once
#include "capture/pending.hpp"
#include "catalog/settings.hpp"
#include "pg/scope.hpp"

namespace maintain {

// Which columns of a key are NULL: `=` finds no NULL and IS NOT DISTINCT FROM uses no index, so each pattern has its
// own text.
using NullMask = uint64;

enum class Statement {
    add,       // UPDATE of a group by its states' deltas, unless that empties it
    remove,    // DELETE of a group that its states' deltas empty
    insert,    // INSERT of a new group, or adding to one that came meanwhile
    lock,      // SELECT … FOR UPDATE of a group's row: its states
    replace,   // UPDATE of all columns that are not the key
    place,     // INSERT of a whole row, unless its key is there
    discard,   // DELETE by key
    upsert,    // INSERT … ON CONFLICT DO UPDATE of whole rows from the relation `came`
    withdraw,  // DELETE of the rows whose keys are in `gone`
    copy,      // INSERT of whole rows from `came`
    drop_equal // DELETE of n rows equal to a given one
};

struct CachedPlan {
    int kind;
    uint64 variant;
    SPIPlanPtr plan;
};

struct Statements {
    MemoryContext memory;
    const char *name; // the table's, qualified and quoted
    const char *key;  // the key columns, quoted, separated by commas
    pg::vector<CachedPlan> plans;
};

// Frees texts and plans that DDL has outdated. To be called once relations are locked.
void renew_statements(catalog::Projection &projection);

// The projection's statements, which hold until DDL outdates them.
Statements &statements(catalog::Projection &projection);

// Runs `body` in an SPI connection under the projection's pinned settings: where plans are made, kept and executed.
template <class Body>
void with_statements(catalog::Projection &projection, Body &&body) {
    catalog::with_pinned(projection.settings, [&] { pg::with_spi(body); });
}

// The cached plan of a statement; makes it in the current SPI connection when it is asked for first.
SPIPlanPtr plan(catalog::Projection &projection, Statement statement, NullMask nulls);

// A plan of a statement over `came` or `gone` for this use only: a kept one was made for few rows.
SPIPlanPtr plan_once(catalog::Projection &projection, Statement statement);

// SELECT of the outputs, in the block's order, as they follow from the keys and states that the same row holds.
const char *outputs_text(catalog::Projection &projection);

// Term `occurrence` of the delta: its source's changed rows joined with the others; sources of earlier occurrences that
// changed too (`changed` has their source's bit) appear in their old state. Yields keys and arguments, or all columns,
// and then weights, whose product counts.
const char *term_text(catalog::Projection &projection, int occurrence, uint32 changed);

// The only term of a single source whose added rows are what `rows` selects: its used columns and, where a delta has
// its weight, a position, in whose order they come.
const char *additions_text(catalog::Projection &projection, const char *rows);
// The whole definition over such rows.
const char *definition_text(catalog::Projection &projection, const char *rows);
// The whole definition, where rows[i] selects the used columns of source i, and null stands for the table itself.
const char *definition_over(catalog::Projection &projection, std::span<const char *const> rows);

// The definition for the keys in the relation `affected` (columns k0…, ordinal): all columns, then the ordinal.
// `rows`: of the single source, as for additions_text; null for all.
const char *recompute_text(catalog::Projection &projection, NullMask nulls, const char *rows = nullptr);

// A cached plan for a text that is made by `text()` when needed. kind is below 0, so that it meets no Statement.
template <class Text>
SPIPlanPtr cached_query(catalog::Projection &projection, int kind, uint64 variant, Text &&text,
                        std::initializer_list<Oid> parameters = {});

// Deltas of more rows than this are planned for their own size: a plan made for a few joins a million one by one.
inline constexpr int64 large_delta = 1000;

SPIPlanPtr find_plan(catalog::Projection &projection, int kind, uint64 variant);
SPIPlanPtr keep_plan(catalog::Projection &projection, int kind, uint64 variant, const char *text, int parameters,
                     Oid *types);

template <class Text>
SPIPlanPtr cached_query(catalog::Projection &projection, int kind, uint64 variant, Text &&text,
                        std::initializer_list<Oid> parameters) {
    if (SPIPlanPtr known = find_plan(projection, kind, variant)) return known;
    return keep_plan(projection, kind, variant, text(), static_cast<int>(parameters.size()),
                     const_cast<Oid *>(parameters.begin()));
}

// The projection's table, qualified and quoted; and one of its columns.
const char *table_name(const catalog::Projection &projection);
const char *column_name(const catalog::Projection &projection, int column);
// The key columns, quoted, separated by commas. The projection is compiled.
const char *key_columns(const catalog::Projection &projection);
// " AND "-joined equality of the table's key columns (alias t) with `value(i)`.
template <class Value>
const char *key_condition(catalog::Projection &projection, NullMask nulls, Value &&value);

} // namespace maintain
