// Query trees to SQL text, fully qualified.
#pragma once
#include "compile/block.hpp"

namespace compile {

// The text of a query, with every name outside pg_catalog qualified.
char *deparse(Query *query);

// The same with each column after its table's name, as a view's query has them: that has more entries than it reads.
char *deparse_qualified(const Query *query);

// The text of an expression over one relation, whose columns are qualified with `alias`.
char *deparse_over(Node *expression, const char *alias, Oid relation);

// The text of an expression over the tables that the query reads.
char *deparse_among(Node *expression, const Query *query);

// The type of a column, as it is declared: with modifier, and with a collation that is not the type's own.
const char *type_and_collation(const TargetEntry *column);

} // namespace compile
