// Who may run DDL on what is hidden: superusers, and the library where it does so as an owner.
#pragma once
#include "pg/scope.hpp"

namespace declare {

// How many utility commands are being run, one within the other.
extern int utility_depth;
// A command at this depth is the library's own; 0: none is.
extern int own_depth;

// Runs `body`, whose utility commands may change what is hidden. Code of users that they call, such as an index's, is
// one deeper, and may not.
template <class Body>
void own_ddl(Body &&body) {
    int outer = own_depth;
    own_depth = utility_depth + 1;
    PG_TRY();
    { body(); }
    PG_FINALLY();
    { own_depth = outer; }
    PG_END_TRY();
}

// Runs a utility command one deeper.
template <class Body>
void with_utility_depth(Body &&body) {
    utility_depth++;
    PG_TRY();
    { body(); }
    PG_FINALLY();
    { utility_depth--; }
    PG_END_TRY();
}

// After REASSIGN OWNED: what is hidden of all projections and sources gets the grants of their owners.
void secure_all();

} // namespace declare
