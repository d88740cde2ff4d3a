// Whether a projection holds what its definition says: under one snapshot, without holding anybody up.
#pragma once
#include "catalog/projection.hpp"
#include "verify/compare.hpp"

namespace verify {

// What differs between a query projection's table and its definition.
struct Drift {
    Compared compared;
    // The keys that differ, each at least once and in the order in which writers lock them: what async::refresh_keys
    // and maintain::recompute_keys take. Of a bag, null.
    Tuplestorestate *keys = nullptr;
    TupleDesc key_desc = nullptr;
    bool duplicates = false; // keys with several rows, of which a recomputation leaves as many
    // Of a bag: the rows that are missing, and those that are too many, one for each copy. Else null.
    Tuplestorestate *missing = nullptr, *extra = nullptr;
    TupleDesc row_desc = nullptr;
};

// What the table is compared with: what has been applied, unless `with_log`: then as if the changes in its log had
// been.
struct Basis {
    Snapshot snapshot = nullptr; // null: a new one
    bool with_log = false;
};

// Compares a query projection's table with its definition, as far as changes of its sources have been applied: async
// over events up to each slot's checkpoint, without failed and skipped events; over a change log, without what is in
// the log. Takes one snapshot for all, and no lock but ACCESS SHARE. What this transaction has changed is applied (or
// logged) first.
//
// Stops when more than scope.limit keys differ: then compared.more is set, and what has been found by then is in the
// stores. The stores are in the current memory context; the caller ends them. Raises PJ006 where it takes archived
// events, 55000 for a projection that is being filled, and what the definition raises.
Drift find_drift(catalog::Projection &projection, Scope scope, Basis basis = {});

// Applies a bag's drift, as of whatever has been committed since it was found: a difference of counted rows stays true
// while writers go on. Returns the rows written.
int64 apply_row_drift(catalog::Projection &projection, const Drift &drift);

// The same comparison for every kind of projection but handlers (rebuild/verify_handler.hpp); each difference goes to
// `report`, as the projection's owner.
Compared compare_projection(catalog::Projection &projection, Scope scope,
                            void (*report)(const Difference &difference, void *context), void *context,
                            Basis basis = {});

// The events that a query projection over events has applied as `snapshot` sees it, as maintain::Recompute takes them.
// In the current memory context.
const char *applied_events(catalog::Projection &projection, Snapshot snapshot);

// For what shows a projection's data: raises 42501 unless the current user owns it, or may read all data.
void require_reader(catalog::Projection &projection);

// Raises PJ006 where events of the projection's source are archived.
void require_history(catalog::Projection &projection);

// How the projection's rows are told apart.
Layout layout_of(catalog::Projection &projection);

} // namespace verify
