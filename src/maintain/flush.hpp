// Flush: brings projections up to date with what the transaction changed.
#pragma once
#include "catalog/projection.hpp"
#include "pg/scope.hpp"

namespace maintain {

// At commit (or prepare): applies everything, until triggers on projections change nothing more.
void flush_at_commit();

// Before a statement reads `relations`: applies what they and the projections above them lack. Blocks whose sources are
// half-written wait. Returns whether anything was applied.
bool flush_for_read(std::span<const Oid> relations);
// The same for every projection: where it is not known what will be read.
bool flush_for_any_read();

// Within a statement, when a delta grows over its memory.
void flush_early(Oid projection);

// Recomputes groups or rows by key from the sources, in `affected` (a tuplestore of keys). Returns the rows written.
int64 recompute_keys(catalog::Projection &projection, Tuplestorestate *keys, TupleDesc desc);

// Whether the row that a trigger sees is being written by maintenance itself, not by a user's trigger within it.
bool writing(Oid projection, int trigger_depth);

// What maintenance writes now; nested where a user's trigger on a projection reads another.
struct Writing {
    Oid projection;
    int trigger_depth;
    Writing *outer;
};
extern Writing *innermost_writing;

// Runs `body` as maintenance that writes the table of `projection`, which may be another kind's than a query's.
template <class Body>
void writing_as(Oid projection, Body &&body) {
    Writing writing{projection, pg::trigger_depth(), innermost_writing};
    Writing *outer = innermost_writing;
    innermost_writing = &writing;
    PG_TRY();
    { body(); }
    PG_FINALLY();
    { innermost_writing = outer; }
    PG_END_TRY();
}

} // namespace maintain
