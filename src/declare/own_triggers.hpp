// The triggers that this extension makes on projections and on their sources.
#pragma once
#include "pg/pg.hpp"

namespace declare {

// Within an SPI connection: the triggers that guard a projection's table, and those that capture changes of sources.
// The latter may be there for other projections. `whole`: what empties a partition at once counts, too. Raises 42710
// where a trigger has a name of ours and is not as we make it.
void make_guard(Oid table);
void make_capture(std::span<const Oid> sources, bool whole);

// Holds off a source's writers if triggers are to be made there, and only for as long as that takes, which has to be
// short: gives up before others wait long.
void lock_for_capture(Oid source);

} // namespace declare
