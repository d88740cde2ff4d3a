// The tables that a handler writes, and their next generation.
#pragma once
#include "async/confinement.hpp"
#include "rebuild/merge.hpp"

namespace rebuild {

// What a projection from events consists of: a handler's tables, or the one table. As a superuser.
pg::vector<Oid> tables_of(Oid projection);

// The relation of a handler's shadow: a view, as the shadow has a table for each of the handler's, in a hidden schema.
// To be called in two parts, before the shadow's catalog row is made and after. As a superuser, in an SPI connection.
// Raises 0A000 where the function or a table does not allow it.
Oid make_handler_view(catalog::Projection &projection, Oid definition);
void make_handler_tables(catalog::Projection &projection, Oid shadow);

// A reducer's or state machine's shadow, with the constraints and defaults that users have added. As above.
Oid make_reducer_twin(catalog::Projection &projection, const char *name);

// How a projection from events is put in place, as choose(): all of its tables in one way.
Choice choose_for_events(Rebuild &rebuild);

// Exchanges the files of all tables with their shadows, which are locked in ACCESS EXCLUSIVE mode.
void swap_tables(Rebuild &rebuild);

// Makes the tables equal to their shadows by one statement. Returns the rows written.
int64 merge_tables(Rebuild &rebuild);

// Runs `body`, in which events are applied to the shadow, with the handler confined to its tables.
void confined(Rebuild &rebuild, void (*body)(void *), void *argument);
template <class Body>
void confined(Rebuild &rebuild, Body &&body) {
    confined(
        rebuild, [](void *argument) { (*static_cast<std::remove_reference_t<Body> *>(argument))(); }, &body);
}

} // namespace rebuild
