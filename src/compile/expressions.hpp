// Expressions made by the compiler. Their operators and functions are those of pg_catalog.
#pragma once
#include "pg/pg.hpp"

namespace compile {

// Constants of type integer and double precision.
Node *int_constant(int value);
Node *bigint_constant(int64 value);
Node *float_constant(const char *value);
// NULL of the type of `like`, and its typmod: what chooses between both keeps it.
Node *null_like(Node *like);
// NULL cast to a type with its typmod, as a text would say it.
Node *typed_null(Oid type, int32 typmod, Oid collation);
// Whether it is one.
bool is_typed_null(const Node *node);

// A copy in which all that is constant is computed: as the caller, restricted, for it may call what others wrote.
Node *computed(Node *expression);

// The expression as it is where it is of the type; else a cast, which there must be. An operator's or a function's
// types are those of its arguments. AND, OR; COALESCE(first, second).
Node *cast_to(Node *expression, Oid type);
Node *operation(const char *name, Node *left, Node *right);
Node *both(Node *left, Node *right);
Node *either(Node *left, Node *right);
Node *call(const char *schema, const char *function, Node *argument);
// EXISTS (rows), or NOT EXISTS.
Node *exists(Query *rows, bool negated);
// count(*)
Node *count_rows();
// A plain aggregate of pg_catalog over an expression.
Node *aggregate(const char *name, Node *argument);
Node *coalesce(Node *first, Node *second);
// GREATEST, LEAST of two values of one type.
Node *extreme(MinMaxOp which, Node *first, Node *second);
// value IS NULL; condition IS TRUE, IS NOT TRUE and their kin.
Node *is_null(Node *value);
Node *boolean_test(Node *condition, BoolTestType type);

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
