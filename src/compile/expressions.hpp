// Expressions made by the compiler. Their operators and functions are those of pg_catalog.
#pragma once
#include "pg/pg.hpp"

namespace compile {

Node *int_constant(int value);
Node *float_constant(const char *value);
// NULL of the type of `like`, without its typmod: that would read back as a cast of NULL.
Node *null_like(Node *like);

Node *cast_to(Node *expression, Oid type);
Node *operation(const char *name, Node *left, Node *right);
Node *both(Node *left, Node *right);
Node *either(Node *left, Node *right);
Node *call(const char *schema, const char *function, Node *argument);
Node *coalesce(Node *first, Node *second);
Node *count_of_rows(); // count(*)

struct Branch {
    Node *condition, *result;
};
// CASE WHEN … THEN … ELSE otherwise END; null `otherwise` is NULL. All results are of one type.
Node *choice(std::initializer_list<Branch> branches, Node *otherwise);
Node *choice(List *whens, Node *otherwise);
// WHEN condition THEN result, for such a list.
Node *branch(Node *condition, Node *result);
// CASE WHEN condition THEN result END
Node *when(Node *condition, Node *result);

} // namespace compile
