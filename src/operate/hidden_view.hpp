// Views in the extension's schema over what users wrote.
#pragma once
#include "pg/pg.hpp"

namespace operate {

// A view in schema projections, owned by `owner`, over the query of `text`, which names all schemas but pg_catalog.
// `columns`: its columns' names, a list of strings; NIL for the query's. Within an SPI connection.
Oid make_hidden_view(const char *name, List *columns, const char *text, Oid owner);

} // namespace operate
