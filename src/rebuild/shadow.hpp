// The next generation of a projection, beside it.
#pragma once
#include "catalog/projection.hpp"

namespace rebuild {

// Makes an empty shadow of a projection with the definition that it has: table, definition, change logs or slots, and a
// catalog row that makes every writer of the sources feed it from the next transaction on. As a superuser, in an SPI
// connection. Returns its table. `suffix` is for the names of what is made.
Oid make_shadow(catalog::Projection &projection, const char *suffix = "shadow");

// Removes a shadow with all that belongs to it. As a superuser, in an SPI connection.
void drop_shadow(Oid shadow);

// All of a projection's, as whoever calls.
void drop_shadows(Oid projection);

// The shadows of a projection, in any state.
pg::vector<Oid> shadows_of(Oid projection);

} // namespace rebuild
