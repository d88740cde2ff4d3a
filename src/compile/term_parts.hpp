// Pieces of the queries that follow changes: copies of an arm's with other rows in the place of tables.
#pragma once
#include "compile/block.hpp"

namespace compile {

// Puts a named relation (a delta, an old state), which has a weight after the table's columns, in the place of a table.
void replace_entry(Query *query, int occurrence, const char *name);
// The weight of an entry that has been replaced.
Node *weight_of(int entry, Oid relation);
void add_weight(Query *query, int entry, Oid relation);
// The same, negated.
void add_removed_weight(Query *query, int entry, Oid relation);

// repeats.cpp: takes what repeats rows out of a copy of the arm's query.
void forget_repeats(Query *query, const Arm &arm);
// Leaves out rows that would be there no times: to evaluate their columns may raise what the definition does not.
void leave_out_none(Query *query, const Arm &arm);

// presence_terms.cpp: a presence whose conditions are about the FROM alone, and the table alone (NOT IN asks whether
// the value is NULL while there are rows), as a subquery that is read only where the former hold. OFFSET 0 keeps the
// planner from a join, which would read the table for each row. (Test: test/work)
void ask_once(const Presence &presence, Query *rows);
// Makes of an arm's query, whose FROM is in its old state where it changed, the rows that come or
// go because matches of a presence do: with a weight. `changed` as in term_text. Returns the WITH item that it reads.
const char *add_presence_term(Query *query, const Block &block, const Arm &arm, const Presence &presence,
                              uint32 changed);
// Puts rows of a presence's table, whose entry is given, beside the arm's FROM, where they match; returns their place.
int add_rows(Query *query, const Arm &arm, const Presence &presence, RangeTblEntry *rows);
// The rows of the arm that changed rows of a presence's table match, with the changed rows' weights.
void add_matched(Query *query, const Block &block, const Arm &arm, const Presence &presence);

} // namespace compile
