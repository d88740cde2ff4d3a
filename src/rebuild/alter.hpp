// A projection's query or mode, changed while it is used.
#pragma once
#include "rebuild/session.hpp"

namespace rebuild {

// What is to be changed, and what is worked out on the way. Survives transactions.
struct Alteration {
    const char *query; // null: as it is
    bool another;      // the query is not what the projection has, as text: for parts, which are made anew
    bool async;
    const char *search_path; // of who asked: for the names in the query
    int kept = 0;            // columns that stay as they are
    List *details = NIL;     // statements for those that come back at another place
};

// Makes the shadow for the new definition. Raises what create() raises, 2BP01 where columns that go are used, and 55000
// where others follow the projection's rows. Needs brief locks on sources that get triggers. As the owner.
Oid make_altered_shadow(Rebuild &rebuild);

// The index for the rows' identity under the new definition, on the shadow.
void index_altered_shadow(Rebuild &rebuild);

// Gives the live table, which is locked, the shadow's columns and indexes, before the swap. As a superuser, in an SPI
// connection.
void fit_live_table(Rebuild &rebuild);

// Exchanges what the catalog says of the two.
void adopt_definition(Rebuild &rebuild);

// After that: rights, comments and settings of columns that have moved.
void restore_details(Rebuild &rebuild);

// Once the shadow is gone: what was its definition and its logs is named as the projection's.
void name_adopted(Rebuild &rebuild);

} // namespace rebuild
