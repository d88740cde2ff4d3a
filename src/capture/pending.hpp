// The transaction's delta: what its statements changed and no flush has applied yet.
//
// Everything is append-only, so that a rollback to a savepoint is a matter of positions. Blocks of one source keep a
// list of folds, others a log of changed rows per source; in both, [flushed, end) is pending. A mark remembers the
// positions at which a subtransaction first touched the projection. Rolling back to it drops what came after and, when
// a flush inside the subtransaction had applied older entries, makes them pending again: their effect on the table was
// rolled back with it.
//
// So nothing is forgotten before the transaction ends. What a pause, a resume or a drop makes pointless is flushed
// before, and stays: a rollback to a savepoint may take that action back. (test: sql/savepoints)
#pragma once
#include "capture/fold.hpp"
#include "catalog/projection.hpp"

namespace capture {

// Changed rows of one source: its used columns and a weight, -1 for an old image and +1 for a new one; or events,
// whole. Spills to disk.
struct Log {
    Tuplestorestate *store = nullptr;
    TupleDesc desc = nullptr;
    int64 end = 0;
    int64 flushed = 0;
    struct Range {
        int64 from, to;
    };
    pg::vector<Range> dead; // rolled back, ascending

    bool empty() const;
};

struct Position {
    std::size_t folds;
    std::size_t flushed_folds;
    bool cleared;
    bool flushing;
    pg::vector<std::pair<int64, int64>> logs; // end, flushed
};

struct Mark {
    SubTransactionId subtransaction;
    int level;
    Position position;
};

struct Pending {
    Oid relation, definition;
    bool may_fold;                   // what its definition is lets it
    bool folded;                     // its changes fold in memory; else they are logged
    catalog::Projection *projection; // as it was declared when last asked for
    const compile::Block *block;     // null: its log holds events, for a reducer or state machine
    pg::vector<Fold *> folds;
    std::size_t flushed_folds = 0;
    pg::vector<Log> logs;  // one for each source of the block
    bool cleared = false;  // a source was truncated: the next flush starts from nothing
    bool flushing = false; // being applied; a nested flush leaves it alone
    pg::vector<Mark> marks;
    MemoryContext scratch = nullptr; // of all its folds
    Pending *other = nullptr;        // another one of the same relation

    bool empty() const;
};

// The transaction's entry for a projection as it is declared now; made when first asked for, and known to the
// projection.
Pending &pending(catalog::Projection *projection);
// Whether the entry is that. Else its projection is dropped or flows otherwise, for as long as that is not rolled back.
bool in_force(Pending &pending);
// All, also those that are not in force.
std::span<Pending *const> all_pending();
bool anything_pending();

// To be called before a change of positions: remembers them for the current subtransaction.
void remember_position(Pending &pending);
// The same, before something is added.
void before_more(Pending &pending);
// For each depth of projections, how often something was added to one of that depth. What was found to be pending, in
// the order of depths, is all there is up to a depth while the counts up to that depth stand still.
const pg::vector<int64> &additions_by_depth();
// The fold that takes the current subtransaction's changes. As the owner.
Fold &open_fold(Pending &pending);
void append(Log &log, const Datum *values, const bool *nulls);

// The pending rows of a log as a tuplestore, which the caller ends where it is not the log's own.
Tuplestorestate *pending_rows(const Log &log, int64 from, int64 to);
int64 pending_row_count(const Log &log, int64 from, int64 to);

// The memory of the transaction's delta; made when first asked for.
MemoryContext memory();

// When a subtransaction ends: its marks become its parent's, or are gone back to.
void subtransaction_committed(SubTransactionId sub, SubTransactionId parent);
void subtransaction_aborted(SubTransactionId sub);
// Frees what flushes have applied of it, unless a rollback to a savepoint may need it again.
void release_applied(Pending &pending);
// The same for all.
void release_applied();
void transaction_ended();

// pg_projections.delta_memory, in kB.
extern int delta_memory;

} // namespace capture
