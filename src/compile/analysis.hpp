// What the stages of a compilation hand to each other: tree, keys, states, outputs (analyze.cpp runs them).
#pragma once
#include "compile/block.hpp"
#include "compile/refuse.hpp"

namespace compile {

constexpr int max_sources = 8; // occurrences of tables in one arm
constexpr int max_tables = 24; // in all: a mask has a bit for each

struct Analysis {
    Query *query; // in normal form
    Place place;
    bool extend; // may append columns
    bool bag;    // a stored definition's rows have no identity
    bool (*is_event_source)(Oid);
    Block *block;
    List *parts = NIL;           // tables of parts that it may read
    StringInfo stages = nullptr; // where they are printed; null: nowhere
    bool refresh = false;        // all of it is read again
    Query *core = nullptr;
    pg::vector<int> renumbered = {}; // old range table index → new
    bool over_union = false;         // core reads one entry, which is a union
    int before = 0;                  // occurrences of earlier arms
    List *presences = NIL;           // conjuncts that ask for the presence of rows, as they were written
    List *repeats = NIL;             // entries of the query's FROM that repeat its rows
};

// cut.cpp: raises PJ002 for what has no way.
void check_clauses(const Analysis &a);
void check_entry(const Analysis &a, const RangeTblEntry *entry);

// tree.cpp: the join tree, and the flat core over it.
void build_tree(Analysis &a);
// The same for a flat query of joins: fills a.core, and returns the tree.
TreeNode *build_joins(Analysis &a);
TreeNode *new_node(const Analysis &a, NodeKind kind);
// The arm of build_joins: a.core with its presences.
Arm make_arm(Analysis &a, const TreeNode *tree);
int source_index(const Place &place, Block *block, Oid relation);
void note_used(Source &source, AttrNumber column);
// An expression in canonical form, over core's range table; notes the columns that it uses.
Node *normalize(Analysis &a, Node *node);
void build_columns(Analysis &a);

// Appends a column that maintenance needs; returns its index from 0. `name` is made unique.
int append_column(Analysis &a, Expr *expression, const char *name);
const char *expression_name(const Analysis &a, Node *expression);

// repeats.cpp: appends the entries that repeat rows to core.
void add_repeats(Analysis &a);
// How often each row of a core is there, by such entries: factors, which are no less than 0.
List *repeats_of(const Query *core);

// presence.cpp: the parts of a condition that AND connects, at any depth: (a AND b) AND c reads back as a AND b AND c.
List *conjuncts(Node *condition);
// The same, without those that ask for the presence of rows, which are noted in a.presences. Raises PJ002 for NOT IN.
List *take_presences(Analysis &a, Node *condition);
// The comparison of IN, whose parameters are the subquery's columns.
Node *put_compared(Node *node, Query *subquery);
// EXISTS (… LIMIT 1) asks for no other than EXISTS (…).
void forget_limit(Query *subquery);
void add_presences(Analysis &a, Arm &arm);
// Of a union whose columns are those of the arm: presences of the arm.
void distribute_presences(Analysis &a, Arm &arm);
Node *presence_test(const Presence &presence);
// Puts conditions and presences together as the arm's quals.
void set_quals(const Arm &arm);
// Of a copy of the arm's query: the subquery of presence `number`.
Query *presence_within(const Arm &arm, Query *query, int number);

// match.cpp: of each presence, by what its changes are locked.
void find_presence_keys(Block &block);

// unite.cpp: a FROM that is a union and nothing else; null where it is not.
RangeTblEntry *united(const Analysis &a);
void build_union(Analysis &a, RangeTblEntry *entry);
// What an arm's NULLs and constants are made to is computed whenever its terms are planned: what that raises is raised
// here, where the projection is made, and not for each of its writers.
void compute_constants(const Block &block);

// keys.cpp: what tells rows apart.
// Whether equal values may look different, by what btree asks before it stores equal keys once.
bool is_told_apart(Oid type, int32 typmod, Oid collation);
bool is_told_apart(Node *value);
void add_group_key(Analysis &a, int column);
bool is_key_column(const Block *block, int column);
void collect_group_keys(Analysis &a);
void compile_rows(Analysis &a);
// Whether an entry of core has columns that tell its rows apart; and those as keys of the block, returned.
bool find_key(const Analysis &a, int entry, pg::vector<AttrNumber> &columns);
void add_entry_key(Analysis &a, int entry, void (*add)(Analysis &, int));
// inherited.cpp: refuses GROUP BY of a primary key that does not determine other columns.
void check_grouped_keys(const Query *query, const Place &place);

// What tells the rows of a table apart that an entry reads: its primary key, the key of a projection, and of a
// look-up's table every unique index. None of no columns but where there is one row.
struct TableKey {
    pg::vector<AttrNumber> columns;
    bool primary;    // never NULL
    bool nulls_told; // rows with NULLs are told apart, too: not so by a look-up's other indexes
};
pg::vector<TableKey> keys_of(const RangeTblEntry *entry);
// The same as a key of slices of rows.
void add_slice_key(Analysis &a, int column);
// fewest_keys.cpp: of a whole query, the primary keys of as few tables of FROM as tell its rows apart. Raises PJ002
// where they do not.
void add_fewest_keys(Analysis &a);
// Of one whose FROM gives several rows for those of its tables: what tells these apart, as keys of slices of rows.
void add_tables_keys(Analysis &a);
// Whether there are such, of a query from which parts may still be cut.
bool has_fewest_keys(Query *query);
// Of a query of rows that outer joins are to be split of: returns what tells its rows apart, too, not as columns of the
// user's. Nothing where that cannot be told.
void return_fewest_keys(Query *query);
// Whether a condition says that a column of an entry is equal to something, as a key of it takes values for equal.
bool equates(Node *condition, int entry, AttrNumber column);
// Whether a flat query has one row at most for values of these of its columns.
bool rows_follow_from(Query *query, const pg::vector<const Var *> &columns);

// union_keys.cpp: the columns of core, a union, that tell its rows apart; none where nothing does.
pg::vector<int> union_key(Analysis &a);

// states.cpp: plain aggregates, and the columns that hold them.
struct Plain { // a plain aggregate of one argument
    StateKind kind;
    bool is_max;
    Node *argument;            // null is count(*)
    Oid function = InvalidOid; // of the query, where it is polymorphic: max(anyenum)
};
bool is_plain(const Aggref *aggregate, Plain *plain);
// What an aggregate adds up, with its FILTER; null for count(*).
Node *folded_argument(const Aggref *aggregate);
// scales.cpp: whether all values of a numeric expression have one scale.
bool has_fixed_scale(Node *value);
// Whether all have but constants that are zero, of fewer digits: a sum that is not zero has the others' scale.
bool is_fixed_but_for_zero(Node *value);
// Notes what a sum over such a value depends on.
void note_digits(Block *block, Node *value);
// The state's number; its column is appended where it is not there yet.
int need_state(Analysis &a, const Plain &plain, int validity, const char *name);
int need_count(Analysis &a, Node *argument, const char *name);
// A sum of numerics whose scales may differ: what is left after a removal shows digits that addition has lost.
bool is_unfixed_sum(const Aggref *aggregate);

// finals.cpp: an aggregate as an expression over the row of the table, computed from its states. Appends those that are
// not there yet.
Node *final_of(Analysis &a, const Aggref *aggregate, const char *name);

// Whether an aggregate, but for its DISTINCT, has such states.
bool adds_up(const Aggref *aggregate);

// slices.cpp: whether the aggregates of a query, whose DISTINCT is that of a slice, have to be computed anew.
bool needs_slices(const Query *query);
// Whether a query in normal form is read again as it is: of one that parts may still be cut from, and of one that has
// none but those.
bool stays_whole(Query *query);
bool is_whole(const Query *query);
// Whether its rows come in slices: by windows, by functions that return sets, or by LATERAL subqueries of several rows.
// `reader`: a query over the same FROM that reads its columns, where it is another.
bool reads_slices(const Query *query, const Query *reader = nullptr);
// Whether a query's rows are those of FROM, or chosen among them by DISTINCT ON.
bool returns_rows(const Query *query);
// Whether the rows of an entry of FROM are made by a function.
bool gives_rows(const RangeTblEntry *entry);
// The stages of such a query, from normal form to traces.
void compile_whole(Analysis &a);

// Notes the columns that a query which keeps its form uses of its tables.
void note_used_columns(Analysis &a);

// refresh.cpp: the same of a query that is read again as a whole.
void compile_refreshed(Analysis &a);

// first_rows.cpp: whether it has ORDER BY and LIMIT over one table; and of such a query, whether an index has the rows
// in that order. Raises PJ002 where none has.
bool is_first_rows(const Query *query);
void check_first_rows(const Analysis &a);

// windows.cpp: what all windows of a query partition by, as clauses over its target list.
List *common_partition(const Query *query);
// Its window functions, in the order of the text; and the window of one.
pg::vector<WindowFunc *> window_functions(const Query *query);
const WindowClause *window_of(const Query *query, const WindowFunc *function);

// traces.cpp: a level of the query, and which entry of it the next level or the table is; 0: an expression of it.
struct Level {
    Query *query;
    int via;
};
// From the rows of each table, by where it stands, to the keys. Raises PJ002 where there is no way.
void build_traces(Analysis &a, const pg::vector<pg::vector<Level>> &paths);

// order.cpp: gives each aggregate whose result depends on the order of its rows an order that leaves nothing open.
void determine_order(Query *query, const Place &place);
struct Ordering { // of an aggregate's arguments, or of a query's columns
    List **targets, **clauses;
    Index last;
    bool only_returned = false; // what is not returned cannot be ordered by

    bool has(Node *expression) const;
    // Orders by what is not ordered by yet, and by what tells equal values apart.
    void add_value(TargetEntry *argument);

private:
    void add(TargetEntry *argument);
};
// Whether the aggregate of that name over the type gives the same in any order.
bool is_free_of_order(Oid function, Oid argument_type, Oid collation);
// Whether what is ordered by tells all rows of FROM apart: columns of it are a primary key of each table.
bool is_total_order(List *clauses, List *targets, const Query *query);
// windows.cpp: the same of window functions that tell rows apart which their ORDER BY does not. Raises PJ002.
void determine_windows(Query *query, const Place &place);

// outputs.cpp: columns computed from keys and finals.
void compile_groups(Analysis &a);

} // namespace compile
