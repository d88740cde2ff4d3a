// Parts: what of a query in normal form is kept in tables of its own, which the rest reads.
#pragma once
#include "compile/refuse.hpp"

namespace compile {

struct PartMaker {
    // Makes a hidden projection of the query, whose columns have names of their own; returns its table. Raises PJ002,
    // and what create raises.
    Oid (*make)(Query *part, void *context);
    void *context;
    List **made; // the tables that it has returned
};

// The query with its parts cut out: grouped, DISTINCT, united and other subqueries in FROM, what HAVING, DISTINCT or
// subqueries over groups read, subqueries in expressions. It reads the tables that `maker` returns; inner ones are made
// first. Works on the query itself. Raises PJ002.
Query *cut_parts(Query *query, const Place &place, const PartMaker &maker);

// ------------------------------------------------------------------------------------- what the files of parts share

struct Cutting {
    const Place &place;
    const PartMaker &maker;
};

// parts.cpp: one level of a query, and what is below it.
Query *cut_level(const Cutting &cutting, Query *query);
// The range table entry of a part made of a query, whose visible columns keep their numbers.
RangeTblEntry *part_entry(const Cutting &cutting, Query *part, const char *alias);
// Appends a subquery's part to FROM; returns its number.
int add_entry(Query *query, RangeTblEntry *entry);
Var *column_of(const RangeTblEntry *entry, int index, int column);
// A new grouping of a query by one of its columns. Raises PJ002 where its type has no equality.
void group_by(const Cutting &cutting, Query *query, int column);

// grouping.cpp: HAVING, DISTINCT and subqueries over groups as a query over the groups; null where there is none.
Query *split_groups(const Cutting &cutting, Query *query);
// Aggregates with DISTINCT as plain ones over distinct values; null where there are none.
Query *split_distinct(const Cutting &cutting, Query *query);

// row_parts.cpp: DISTINCT over windows, and groups over rows that come in slices, as a query over those rows; null
// where there is none.
Query *split_rows(Query *query);

// Whether the query or what is below it reads columns of the query around it.
bool reads_outside(Query *query);
// Whether FROM is one table, joined with nothing.
bool reads_one_table(const Query *query);
// A FROM of nothing but the part's rows, with all columns of `part`.
Query *select_all(const Cutting &cutting, Query *part);
// Says again whether there are subqueries in expressions.
void note_sublinks(Query *query);

// sublinks.cpp: subqueries in expressions become joins with parts, or presences of rows of one table.
void cut_sublinks(const Cutting &cutting, Query *query);
// Takes the conditions of a FROM, or an item of it, apart: inner joins'.
void take_conditions(Node *item, List **conditions);
// Whether nothing but conditions says which rows it has.
bool is_plain(const Query *subquery);
// Makes FROM one LEFT JOIN with the entry.
void left_join(Query *query, int entry, Node *condition);

// lookups.cpp: whether what is equal by one collation is equal by the other.
bool same_equality(Oid a, Oid b);

// join_parts.cpp: sides of outer joins that are joins.
void cut_joins(const Cutting &cutting, Query *query);

} // namespace compile
