// Values of deltas.
#pragma once
#include "capture/fold.hpp"
#include "maintain/changes.hpp"

namespace maintain {

// The delta of a total as a value of the state's type. Raises 22003 where it is out of the type's range.
Datum total_delta(const compile::State &state, const capture::Cell &cell);

// What the definition gives for keys of slices: the columns of the table, and which of the keys it is.
struct FreshRows {
    Tuplestorestate *store;
    TupleDesc desc;
};

// Writes the rows of many slices of one row at once; the keys, of one null pattern, are locked and are the relation
// "affected". Returns the rows written.
int64 write_slices(catalog::Projection &projection, FreshRows fresh, NullMask nulls);

} // namespace maintain
