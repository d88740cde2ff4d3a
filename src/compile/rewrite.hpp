// SELECT → a Query in normal form, which returns the same rows.
#pragma once
#include "compile/refuse.hpp"

namespace compile {

// A copy of the query without what has another form: WITH, views and plain subqueries in FROM are inlined, columns of
// joins are those of tables, outer joins whose NULLs a condition rejects are inner ones, ORDER BY without LIMIT is
// gone. What a rule does not apply to stays as it is. `user`: the text is a user's, who is told of what is ignored;
// views are read with his rights.
Query *rewrite(const Query *query, const Place &place, bool user);

// inlining.cpp: a copy with nothing changed but views, at any level, which are the subqueries that they stand for, and
// an ORDER BY that no row depends on.
Query *with_views_open(const Query *query, const Place &place);
void inline_with(Query *query, const Place &place);
// Puts plain subqueries, and with `user` views, in the place of their references; `as` is who reads the views.
Query *inline_subqueries(Query *query, const Place &place, Oid as, bool user);
// What keeps a subquery from being inlined: "are grouped"; null where nothing does. And one that is a union from being
// read as such.
const char *obstacle(const Query *subquery);
const char *obstacle_of_union(const Query *query);

// set_operations.cpp: UNION as DISTINCT over UNION ALL, INTERSECT and EXCEPT as groups that are counted on either side;
// UNION ALL alone stays, unless `all`: then it is read from. What has no such form stays as it is.
Query *select_from_union(Query *query, bool all = false);
// A branch that selects from a UNION ALL and nothing else, as the UNION ALL of what it selects from each branch of
// that, whose subqueries are still to be inlined; null where it is none.
Query *spread_over_union(const Query *branch);
// repeats.cpp: whether an entry of FROM does nothing but repeat rows, generate_series(1, n) whose values nobody reads;
// and whether there is one.
bool is_repeat(const Query *query, int entry);
bool has_repeats(const Query *query);
// The query, which reads a subquery, with each row so many times.
Query *repeat_rows(Query *query, Node *times);
// GROUPING SETS as a union of queries that group by one of them each.
Query *unite_grouping_sets(Query *query);

// outer_joins.cpp: a query whose FROM has outer joins or VALUES, over the union that they are. Raises PJ002.
Query *split_outer_joins(Query *query, const Place &place);
// A copy in which columns of these entries are NULL.
Node *with_nulls(Node *node, Bitmapset *missing);
// outer_groups.cpp: whether the aggregates of a query are the same without those of its rows in which an entry is
// missing, and it needs nothing else of those that may be.
bool adds_nothing_without(const Query *query, Node *conditions, Bitmapset *optional, int entry);
// Whether a condition is never true where these are missing, as NULL decides it.
bool is_never_true_without(Node *condition, Bitmapset *missing);
// Whether FROM has an outer join.
bool has_outer_join(const Query *query);

// values.cpp: whether a plain query reads VALUES and nothing else, and as the union of constants that it is.
bool is_values(const Query *query);
Query *union_of_values(Query *query);
// The rows of what FROM reads, each a target list of its columns; NIL where that is not VALUES, plainly.
List *rows_of(const RangeTblEntry *entry);
bool reads_values(const Query *query);
// Comparisons with ANY and ALL of VALUES become comparisons with each of them.
void compare_with_values(Query *query);

// presence.cpp: whether a query has subqueries in expressions that do not ask for the presence of rows.
bool has_other_sublinks(const Query *query);

// Calls `use` with each subquery in an expression of the query, not with those within them.
template <class Use>
void each_sublink(Query *query, Use &&use) {
    struct Walk {
        Use &use;
        static bool step(Node *node, Walk *walk) {
            if (node == nullptr) return false;
            if (IsA(node, Query)) return false;
            if (IsA(node, SubLink)) {
                auto *link = reinterpret_cast<SubLink *>(node);
                walk->use(link);
                return step(link->testexpr, walk);
            }
            return pg::walk_children(node, step, walk);
        }
    } walk{use};
    pg::walk_query(query, Walk::step, &walk, QTW_IGNORE_RT_SUBQUERIES | QTW_IGNORE_CTE_SUBQUERIES);
}

// The SELECTs of a union, each as a level.
Query *rewrite_arms(Query *query, const Place &place, Oid as, bool user);

// joined.cpp: columns of joins become those of tables, at each level, and the range table holds what FROM reads: of a
// query that is to be printed with its joins, once what they join has been replaced.
void renew_entries(Query *query);

// rewrite.cpp: what is done at each level, before its subqueries are inlined, and again after each.
Query *rewrite_level(Query *query, const Place &place, Oid as, bool user);
void renew_joins(Query *query);
// Adds the range table entries that FROM, or an item of it, reads.
void add_entries(Node *item, Bitmapset **entries);
// Groups by a column of the query, too, unless it does. Raises PJ002 where its type has no equality.
void group_by(Query *query, TargetEntry *column, const Place &place);
// Whether clauses refer to a column, returned or not; and whether a window does.
bool is_among(const TargetEntry *entry, List *clauses);
bool is_of_window(const TargetEntry *entry, const Query *query);
// Drops an ORDER BY that no row depends on. Returns whether there was one.
bool forget_order(Query *query);

} // namespace compile
