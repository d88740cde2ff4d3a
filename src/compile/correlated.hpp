// Subqueries that are correlated by equality, as parts.
#pragma once
#include "compile/parts.hpp"

namespace compile {

// Whether it is an aggregate of rows, and nothing else.
bool is_aggregate(const Query *subquery);
// An expression over a subquery's aggregates as one over a part that the query joins. Null where the subquery is
// correlated otherwise than by equality. Changes the subquery.
Node *join_aggregates(const Cutting &cutting, Query *query, Query *subquery, Node *expression);

// The rows of a grouped or DISTINCT subquery, as those of a part that match: SELECT … FROM the part WHERE it is equal
// to what is outside. Null where the subquery is something else, or correlated otherwise. Changes the subquery.
Query *correlated_rows(const Cutting &cutting, Query *subquery);

// Subqueries in FROM that are LATERAL, and grouped, DISTINCT or an aggregate: parts, joined by what they are equal to.
void cut_laterals(const Cutting &cutting, Query *query);

} // namespace compile
