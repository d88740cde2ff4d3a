// Columns that a handler leaves to a default which yields another value each time, such as nextval() or now().
#pragma once
#include "pg/pg.hpp"

namespace rebuild {

// A column of a twin whose default yields another value each time, and the sequence that tells of its use.
struct Drawn {
    Oid twin;
    AttrNumber column;
    const char *probe;
    bool numbers; // by a sequence of the table
};

// Lets a twin's defaults tell whether they are asked. As a superuser.
pg::vector<Drawn> watch_defaults(Oid twin);
bool was_used(const Drawn &drawn);

} // namespace rebuild
