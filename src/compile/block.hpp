// A compiled definition: what capture and maintain know of one projection.
#pragma once
#include "pg/pg.hpp"

namespace compile {

// What one row of the projection stands for.
enum class Shape {
    groups, // one row per distinct key; counted, so that it leaves with its last source row
    total,  // an aggregate without GROUP BY: always exactly one row
    rows,   // one row per joined source row, identified by the sources' primary keys
    bag,    // as rows, but a source has no primary key: equal rows are counted as physical rows
};

struct Source {
    Oid relation;
    pg::vector<AttrNumber> used; // the columns that the definition reads, ascending
};

struct Key {
    int column; // of the table, from 0
    Oid type;
    Oid collation;
    int16 length; // of the type, as pg_type has it
    bool by_value;
    Oid equality;                          // operator
    mutable FmgrInfo equal, compare, hash; // its function, and the support functions of btree and hash
};

enum class StateKind { count, total, extremum };

// A column that holds a plain aggregate of one argument, and can therefore be moved by a delta.
struct State {
    StateKind kind;
    bool is_max;  // extremum
    int argument; // index into Block::arguments; -1 is count(*)
    int validity; // total: the state that counts its non-null arguments
    int column;   // of the table, from 0
    Oid type;
    Oid collation;
    Oid argument_type;
    int16 length; // of the state's type
    bool by_value;
    mutable FmgrInfo compare; // extremum: btree support function
};

// Text with places to fill in: \1 kind index \2, where kind is f (final value of an aggregate), k (key) or s (new
// state).
using Template = const char *;

// A column computed from keys and aggregates.
struct Output {
    int column;
    Template text;
};

// Immutable once compiled; lives in `memory`.
struct Block {
    MemoryContext memory;
    Oid projection;
    Oid definition;
    Shape shape;
    Query *core;      // the definition over plain tables: range table entries 1..n, one qual list, no joins
    int user_columns; // the first columns of the table are the user's; appended ones follow
    pg::vector<Source> sources;
    pg::vector<int> occurrence_source; // for each range table entry of core, its source
    pg::vector<Key> keys;
    List *key_expressions;
    List *arguments;
    pg::vector<State> states;
    int row_count = -1; // the state that is count(*)
    pg::vector<Template> finals;
    pg::vector<Output> outputs;
    bool has_extremum = false;
    bool recompute_on_removal = false; // a result depends on more than its states can tell after a removal
    bool settings_dependent = false;   // calls stable built-ins: evaluate under the pinned settings

    // Groups are kept by their key, rows by theirs.
    bool grouped() const { return shape == Shape::groups || shape == Shape::total; }
    bool joins() const { return occurrence_source.size() > 1; }
    // Deltas of one source need no other table: they fold in memory.
    bool folds() const { return grouped() && !joins(); }
    // A flush may have to read the sources, so none may be half-written.
    bool reads_sources() const { return joins() || has_extremum || recompute_on_removal; }
    int columns() const { return list_length(core->targetList); }
    TargetEntry *column(int i) const { return static_cast<TargetEntry *>(list_nth(core->targetList, i)); }
};

// Compiles a user's query. Appends to core's target list the columns that maintenance needs. Raises PJ002 where the
// query is not of the algebraic class; `text` is the user's, for error places. An event source may be partitioned.
Block *compile_query(Query *query, const char *text, bool (*is_event_source)(Oid));

// Compiles the stored definition (a hidden view, which yields every column of the table) of a projection.
// `bag` says that rows have no identity, whatever primary keys the sources have gained since.
Block *compile_definition(Oid projection, Oid definition, int user_columns, bool bag);

} // namespace compile
