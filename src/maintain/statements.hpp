// The SQL that maintenance runs for one projection: texts from the block and today's names, plans cached for the
// session.
#pragma once
#include "capture/pending.hpp"
#include "catalog/settings.hpp"
#include "compile/terms.hpp"
#include "maintain/changes.hpp"
#include "pg/list.hpp"
#include "pg/scope.hpp"

namespace maintain {

enum class Statement {
    add,       // UPDATE of a group by its states' deltas, unless that empties it
    remove,    // DELETE of a group that its states' deltas empty
    insert,    // INSERT of a new group, or adding to one that came meanwhile
    lock,      // SELECT … FOR UPDATE of a group's row: its states, then its key
    replace,   // UPDATE of all columns that are not the key
    place,     // INSERT of a whole row, unless its key is there
    discard,   // DELETE by key
    upsert,    // INSERT … ON CONFLICT DO UPDATE of whole rows from the relation `came`
    withdraw,  // DELETE of the rows whose keys are in `gone`
    copy,      // INSERT of whole rows from `came`
    drop_equal // DELETE of n rows equal to a given one
};

struct KeptPlan {
    int kind;
    uint64 variant;
    SPIPlanPtr plan;
    BlockNumber blocks; // of the sources, when it was made
};

struct Statements {
    MemoryContext memory;
    const char *name; // the table's, qualified and quoted
    const char *purpose; // a comment that names it, for the statements' texts
    const char *key;  // the key columns, quoted, separated by commas
    const char *schema, *table;
    List *key_names;        // not quoted
    const char *known_name; // of what users know: of a shadow, the live table
    bool key_not_null;      // because options.key_not_null says so
    pg::vector<KeptPlan> plans;
    pg::vector<PreparedChain *> chains; // of terms, also of those that have none
};

// Frees texts and plans that DDL has outdated. To be called once relations are locked.
void renew_statements(catalog::Projection &projection);

// Frees texts and plans, and what the direct way keeps. They are made anew.
void discard_statements(catalog::Projection &projection);

// The projection's statements, which hold until DDL outdates them.
Statements &statements(catalog::Projection &projection);

// What is executed in between is one statement to the table's triggers and constraints: they fire, and are checked,
// when all of it is written. Else groups that exchange their values could not pass a deferrable constraint, a refill
// would take rows from under foreign keys, and triggers would see some groups changed and others not. (test:
// sql/constraints)
class OneStatement {
public:
    explicit OneStatement(Oid relation);
    void end();
};

// Runs `body` in an SPI connection under the projection's pinned settings: where plans are made, kept and executed.
template <class Body>
void with_statements(catalog::Projection &projection, Body &&body) {
    catalog::with_pinned(projection.settings, [&] {
        // Few rows of many joins are costed above what compilation is worth from: it takes a thousand times as long.
        if (jit_enabled) pg::set_locally("jit", "off");
        pg::with_spi([&] {
            OneStatement statement(projection.relation);
            body();
            statement.end();
        });
    });
}

// Runs a plan, which leaves its triggers to the OneStatement, under the given snapshot or, without one, a new one.
// Returns the rows.
int64 run_plan(SPIPlanPtr plan, const Datum *values = nullptr, const char *nulls = nullptr,
               Snapshot snapshot = InvalidSnapshot);

// The cached plan of a statement; makes it in the current SPI connection when it is asked for first.
SPIPlanPtr plan(catalog::Projection &projection, Statement statement, NullMask nulls);

// A plan of a statement over `came` or `gone` for this use only: a kept one was made for few rows.
SPIPlanPtr plan_once(catalog::Projection &projection, Statement statement, NullMask nulls);

// SELECT of the outputs, in the block's order, as they follow from the keys and states that the same row t holds.
const char *outputs_text(catalog::Projection &projection);

// A cached plan for a text over the sources that is made by `text()` when needed. kind is below 0, so that it meets no
// Statement. It is made again when the sources have doubled: what was right for few rows, such as reading all of them,
// is a cliff for many, and nobody may have analyzed them meanwhile.
template <class Text>
SPIPlanPtr cached_query(catalog::Projection &projection, int kind, uint64 variant, Text &&text,
                        std::initializer_list<Oid> parameters = {});

// Deltas of more rows than this are planned for their own size: a plan made for a few joins a million one by one.
inline constexpr int64 large_delta = 1000;

// What cached_query() is made of: the plan that is kept, or null; and keeping one.
SPIPlanPtr find_query(catalog::Projection &projection, int kind, uint64 variant);
SPIPlanPtr keep_plan(catalog::Projection &projection, int kind, uint64 variant, const char *text, int parameters,
                     Oid *types);

template <class Text>
SPIPlanPtr cached_query(catalog::Projection &projection, int kind, uint64 variant, Text &&text,
                        std::initializer_list<Oid> parameters) {
    if (SPIPlanPtr known = find_query(projection, kind, variant)) return known;
    return keep_plan(projection, kind, variant, text(), static_cast<int>(parameters.size()),
                     const_cast<Oid *>(parameters.begin()));
}

// The projection's table, qualified and quoted; and one of its columns.
const char *table_name(const catalog::Projection &projection);
const char *column_name(const catalog::Projection &projection, int column);
// "OPERATOR(schema.name)"
const char *operator_text(Oid operation);
// The key columns, quoted, separated by commas. The projection is compiled.
const char *key_columns(const catalog::Projection &projection);
// " AND "-joined equality of key columns of the table (alias t) with `value(i)`; "true" where there are none.
template <class Value>
const char *key_condition(const catalog::Projection &projection, const pg::vector<compile::Key> &keys, NullMask nulls,
                          Value &&value) {
    if (keys.empty()) return "true";
    return pg::joined(static_cast<int>(keys.size()), " AND ", [&](int i) {
        const char *column = column_name(projection, keys[i].column);
        return nulls & (UINT64CONST(1) << i)
                   ? psprintf("t.%s IS NULL", column)
                   : psprintf("t.%s %s %s", column, operator_text(keys[i].equality), value(i));
    });
}

} // namespace maintain
