// Whether a handler's tables hold what its events say: the events are applied again beside them.
#pragma once
#include "verify/compare.hpp"

namespace catalog {
struct Projection;
}

namespace rebuild {

// In one of the handler's tables. The layout has the columns that are compared.
struct TableDifference {
    Oid table;
    bool only; // the handler has no other
    const verify::Layout &layout;
    const verify::Difference &row;
};

// Calls `report` for each difference, as the projection's owner, and leaves nothing behind. Holds nobody up: tables and
// checkpoints are read under one snapshot. Raises 25006 where nothing can be written, PJ006 where events are archived
// away, 0A000 where the handler reaches past its tables, 55000 where an event that was applied fails.
verify::Compared compare_handler(catalog::Projection &projection, verify::Scope scope,
                                 void (*report)(const TableDifference &difference, void *context), void *context);

// Makes the tables what the replay yields. The caller holds the slots' rows, or an inline projection's writers off; the
// tables are locked here. Returns the rows written.
int64 repair_handler(catalog::Projection &projection);

} // namespace rebuild
