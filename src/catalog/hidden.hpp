// What is hidden of a projection: definition or feed, logs, shadows.
#pragma once
#include "pg/pg.hpp"

namespace catalog {

struct Projection;

// Whether a hidden relation is a superuser's, a view that reads with the rights of its reader, and open to `owner` as
// maintenance needs it.
bool is_secured(Oid hidden, Oid owner, AclMode needed);

// Makes it so for all that is hidden of the projection.
void secure_hidden(const Projection &projection);

// Says of an object in the extension's schema, as a superuser and in an SPI connection, that the extension made it:
// what carries this comment, and no row names, may be removed. A comment survives dumps, which no entry in pg_depend
// does. `object` is as COMMENT ON wants it ("VIEW projections.x"); `kind` is what orphans() calls it.
void mark_hidden(const char *object, const char *kind, const char *of);

} // namespace catalog
