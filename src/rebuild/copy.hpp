// Filling a shadow from its definition.
#pragma once
#include "catalog/projection.hpp"

namespace rebuild {

// Copies what the definition gives under `snapshot` into the shadow, which is empty and has no indexes, with parallel
// workers as pg_projections.rebuild_workers allows. The rows copied so far are to be seen as the session's progress of
// COPY. As the projection's owner, under its pinned settings; raises what the definition raises. Returns the rows.
int64 copy_rows(catalog::Projection &shadow, Snapshot snapshot);

extern int rebuild_workers;

} // namespace rebuild
