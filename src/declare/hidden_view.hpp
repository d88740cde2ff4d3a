// Views in the extension's schema over what users wrote.
#pragma once
#include "pg/pg.hpp"

namespace declare {

// A view in our schema, which `owner` may read, over the query of `text`, which names all schemas but
// pg_catalog. `columns`: its columns' names, a list of strings; NIL for the query's. Within an SPI connection.
Oid make_hidden_view(const char *name, List *columns, const char *text, Oid owner);

// Takes away what a hidden view reads; its columns stay, all NULL. As a superuser.
void unbind_hidden_view(Oid view);

} // namespace declare
