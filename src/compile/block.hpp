// A compiled definition: what capture and maintain know of one projection.
#pragma once
#include "pg/pg.hpp"

namespace compile {

// What tells the rows of the projection's table apart.
enum class Identity {
    key,     // the grouped columns; a row is counted, and leaves with its last source row
    one_row, // an aggregate without GROUP BY: always exactly one row
    rows,    // a row for each joined source row, known by the sources' primary keys
    multiset // as rows, but a source has no primary key: equal rows are counted as physical rows
};

// How a change gets into the table.
enum class Way {
    delta,  // sums move by what changed, and images of rows come and go
    slice,  // changed rows tell keys, whose rows are read again from the sources and written where they differ
    refresh // all rows are one slice: no key is told
};

// Why identity and way are what they are.
enum class Reason {
    sums,
    extrema,
    digits,
    slices,
    chosen,
    read_again,
    partitions,
    several_rows,
    first_rows,
    asked_for,
    primary_keys,
    no_primary_key,
    united_rows,
    repeated_rows
};

// Their names, as the catalog and users know them, and the reason in words: nothing else names them.
const char *name_of(Identity identity);
const char *name_of(Way way);
const char *text_of(Reason reason);

struct Source {
    Oid relation;
    pg::vector<AttrNumber> used; // the columns that the definition reads, ascending
};

struct Key {
    int column;       // of the table, from 0
    Node *expression; // over the sources
    Oid type;
    Oid collation;
    int16 length; // of the type, as pg_type has it
    bool by_value;
    bool told_apart;                       // equal values may look different: 1.0 and 1.00
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
    mutable FmgrInfo compare;          // extremum: btree support function
    bool zero_tells_no_digits = false; // total: of values of one scale, and of zeros with fewer digits
};

// A node of the tree: of joins, or of unions of joins. (Left and full come with the constructs that need them.)
enum class NodeKind { leaf, inner, unite };

struct TreeNode {
    NodeKind kind;
    int occurrence = 0;            // leaf: which, from 1, in the order of the text
    pg::vector<TreeNode *> inputs; // inner, unite
    List *conditions = NIL;        // inner: all of them, over the leaves
};

// A column computed from keys and states: an expression over the table's row, whose Vars (of relation 1) are columns of
// the table.
struct Output {
    int column;
    Node *expression;
};

// What of a presence's table is equal to something of the arm's FROM where a row matches. Both are not NULL then.
struct MatchKey {
    Node *value;       // over the table
    AttrNumber column; // 0: it is no column as it is
    Oid equality;      // operator
    Oid collation;     // of the comparison
    mutable FmgrInfo hash;
};

// A condition that asks whether some row of a table matches: EXISTS, NOT EXISTS.
struct Presence {
    int occurrence; // of the table; after those of the arm's FROM
    bool negated;
    Query *rows; // SELECT FROM the table WHERE it matches; the columns of the arm's FROM are one level up
    // What its changes are locked by (match.cpp).
    pg::vector<MatchKey> keys = {};
    Query *asked = nullptr;    // SELECT the keys, and what else decides, FROM the table WHERE it may match something
    int lock_class = 0;        // the same for presences of one table with the same keys
    bool asked_before = false; // an earlier one of the class asks for the same
};

// One SELECT of a UNION ALL that the definition reads, maybe of no table; without a union, the core itself. Its
// occurrences are its range table entries, the first of them number `first` of all, and then the tables of its
// presences.
struct Arm {
    Query *query; // flat: entries 1..n, one qual list, no joins; a union's columns are its target list
    int first;
    List *conditions = NIL; // the quals, but for those of presences, which come after them
    pg::vector<Presence> presences = {};
    List *repeats = NIL; // how often each row is there: the product of these; their entries are the last ones

    // The range table entry that an occurrence is; not in 1..n for those of other arms and of presences.
    int entry(int occurrence) const { return occurrence - first + 1; }
    int entries() const { return list_length(query->rtable) - list_length(repeats); }
    // Null where the occurrence is none of a presence.
    const Presence *presence(int occurrence) const;
};

// How changed rows of an occurrence tell the keys of slices: a query of those, in which `entry` stands for the rows.
struct Trace {
    Query *query;
    int entry;
    List *matched; // lists of the columns by which rows are found from each other table
};

struct Block;
// A column of the row as such an expression has it.
Node *row_column(const Block *block, int column);

// Immutable once compiled; lives in `memory`.
struct Block {
    MemoryContext memory;
    Oid projection;
    Oid definition;
    Identity identity;
    Way way = Way::delta;
    Reason reason;
    Query *core; // the definition over its arms: the only one, or one range table entry that is their union
    pg::vector<Arm> arms;
    TreeNode *tree;
    int user_columns; // the first columns of the table are the user's; appended ones follow
    pg::vector<Source> sources;
    pg::vector<int> occurrence_source; // for each occurrence, which source it is
    pg::vector<Trace> traces;          // one for each occurrence where the core is whole; else none
    pg::vector<Key> row_key;           // what finds a row of the table: the columns of its unique index
    // What sums are kept by, and slices are: the row's own in the same order, but for slices of rows.
    pg::vector<Key> keys;
    List *arguments;
    pg::vector<State> states;
    int row_count = -1; // the state that is count(*); none of a slice
    pg::vector<Output> outputs;
    bool has_extremum = false;
    bool keys_told_apart = false;      // some key is
    bool recompute_on_removal = false; // a result depends on more than its states can tell after a removal
    bool recompute_zeros = false;      // so it does where such a total becomes zero
    const char *changed = nullptr;     // why its results are not those of its definition any more
    bool settings_dependent = false;   // calls stable built-ins: evaluate under the pinned settings

    bool slices() const { return way != Way::delta; }
    bool refreshes() const { return way == Way::refresh; }
    // Equal rows are counted, and come and go by deltas.
    bool is_bag() const { return counts_equal_rows() && !slices(); }
    // A slice is any number of rows that nothing else tells apart.
    bool slices_of_rows() const { return slices() && counts_equal_rows(); }
    // The keys by which rows are read again.
    const pg::vector<Key> &told_keys() const { return slices() ? keys : row_key; }
    // Its delta is by key: sums, or nothing but the keys of slices; else images of rows.
    bool grouped() const { return row_count >= 0 || slices(); }
    bool has_key() const { return identity == Identity::key || identity == Identity::rows; }
    bool counts_equal_rows() const { return identity == Identity::multiset; }
    bool always_has_row() const { return identity == Identity::one_row; }
    bool unites() const { return arms.size() > 1; }
    // Some term reads another table.
    bool joins() const {
        if (is_whole()) return occurrence_source.size() > 1;
        return std::any_of(arms.begin(), arms.end(),
                           [](const Arm &arm) { return arm.entries() > 1 || !arm.presences.empty(); });
    }
    // Deltas of one source need no other table: they fold in memory.
    bool folds() const { return grouped() && occurrence_source.size() == 1 && !unites() && !is_whole(); }
    // Its core has subqueries, outer joins or DISTINCT ON, and is read again as it is.
    bool is_whole() const { return !traces.empty(); }
    // Some arm has the source more than once: a change of it meets itself there.
    bool meets_itself(int source) const;
    // A flush may have to read the sources, so none may be half-written.
    bool reads_sources() const { return joins() || reads_keys_again(); }
    // It may read all rows of a key, which an index on the key serves.
    bool reads_keys_again() const { return has_extremum || recompute_on_removal || recompute_zeros || slices(); }
    // What a joined source row gives to its delta: keys and arguments of sums, or the row itself. Over core, or an arm.
    List *feed() const;
    List *feed(const Arm &arm) const;
    // An expression over core as one over an arm.
    Node *over(const Arm &arm, Node *expression) const;
    const Arm &arm_of(int occurrence) const;
    const RangeTblEntry *entry(int occurrence) const;
    // All expressions over the sources: columns and conditions.
    List *expressions() const;
    int columns() const { return ExecCleanTargetListLength(core->targetList); }
    TargetEntry *column(int i) const { return static_cast<TargetEntry *>(list_nth(core->targetList, i)); }
};

// A column of a table that is NOT NULL.
struct NotNull {
    Oid relation;
    AttrNumber column;
};

// Which columns of the key may be NULL, as numbers from 0, and what it rests on that the others may not.
struct KeyNulls {
    pg::vector<int> nullable;
    pg::vector<NotNull> relied;
};
KeyNulls key_nulls(const Block &block);
// The definition of a table that is a part of some projection; else null. Told by who knows.
extern const Block *(*block_of_part)(Oid);

// A user's query in normal form, from which parts may be cut (compile/parts.hpp). Raises PJ002; `text` is the user's,
// for error places. Views are read with the rights of the current user.
Query *normal_form(const Query *query, const char *text);

// Compiles a query in normal form. Appends to core's target list the columns that maintenance needs. Raises PJ002 where
// the query is not of the algebraic class. An event source may be partitioned. `parts`: the tables of parts that it
// may read. `stages`: where to print what each stage makes.
Block *compile_query(Query *query, const char *text, bool (*is_event_source)(Oid), List *parts = NIL,
                     StringInfo stages = nullptr);

// What a table that is a projection promises of its rows, told by who knows.
enum class Kept {
    not_by_key, // or it is none
    by_key,     // a unique index says which row is which
    as_one_row  // there is exactly one at every commit
};
extern Kept (*how_kept)(Oid);

// Compiles a query that compile_query() refuses, so that all rows are read again for each change. It need not be in
// normal form. Raises PJ002 for what may not be a projection at all.
Block *compile_refreshed(const Query *query, const char *text, bool (*is_event_source)(Oid));

// What the catalog says of a definition.
enum class Stored {
    by_key, // or as the sources' keys say
    as_bag, // its rows have no identity, whatever primary keys the sources have gained since
    refreshed
};
Stored stored_as(const Block &block);

// Compiles the stored definition (a hidden view, which yields every column of the table) of a projection.
Block *compile_definition(Oid projection, Oid definition, int user_columns, Stored stored);

} // namespace compile
