// Filling a shadow from its definition.
#pragma once
#include "rebuild/session.hpp"

namespace rebuild {

// Copies what the definition gives under `snapshot` into the shadow, which is empty and has no indexes, with parallel
// workers as pg_projections.rebuild_workers allows. The rows copied so far are to be seen as the session's progress of
// COPY. As the projection's owner, under its pinned settings; raises what the definition raises. Returns the rows.
int64 copy_rows(catalog::Projection &shadow, Snapshot snapshot);

// Applies what the shadow's change logs hold, in the current transaction. Returns the rows of the logs.
int64 catch_up_log(Rebuild &rebuild);

// A log of fewer rows than this is applied under the lock.
inline constexpr int64 short_log = 1000;

extern int rebuild_workers;

} // namespace rebuild
