// The transaction's delta: what its statements changed and no flush has applied yet.
//
// Everything is append-only, so that a rollback to a savepoint is a matter of positions. Blocks of one source keep a
// list of folds, others a log of changed rows per source; in both, [flushed, end) is pending. A mark remembers the
// positions at which a subtransaction first touched the projection. Rolling back to it drops what came after and, when
// a flush inside the subtransaction had applied older entries, makes them pending again: their effect on the table was
// rolled back with it.
#pragma once
#include "capture/fold.hpp"
#include "catalog/projection.hpp"

namespace capture {

// Changed rows of one source: its used columns and a weight, -1 for an old image and +1 for a new one. Spills to disk.
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
    catalog::Projection *projection;
    const compile::Block *block;
    bool folded; // its changes fold in memory; else they are logged
    pg::vector<Fold *> folds;
    std::size_t flushed_folds = 0;
    pg::vector<Log> logs;  // one for each source of the block
    bool cleared = false;  // a source was truncated: the next flush starts from nothing
    bool flushing = false; // being applied; a nested flush leaves it alone
    pg::vector<Mark> marks;

    bool empty() const;
};

// The column of a log's rows that holds the weight.
inline constexpr const char *weight_column = "_projections_weight";

// The transaction's entry for a projection; made when first asked for.
Pending &pending(catalog::Projection *projection);
// The same, or null where the transaction has none.
Pending *find_pending(Oid projection);
std::span<Pending *const> all_pending();
bool anything_pending();
void forget(Oid projection);

// To be called before a change of positions: remembers them for the current subtransaction.
void remember_position(Pending &pending);
// The fold that takes the current subtransaction's changes.
Fold &open_fold(Pending &pending);
void append(Log &log, const Datum *values, const bool *nulls);

// The pending rows of a log as a tuplestore, which the caller ends where it is not the log's own.
Tuplestorestate *pending_rows(const Log &log, int64 from, int64 to);
int64 pending_row_count(const Log &log, int64 from, int64 to);

// The memory of the transaction's delta; made when first asked for.
MemoryContext memory();

void subtransaction_committed(SubTransactionId sub, SubTransactionId parent);
void subtransaction_aborted(SubTransactionId sub);
// Frees what all flushes of a top-level transaction have applied.
void release_applied();
void transaction_ended();

// pg_projections.delta_memory, in kB.
extern int delta_memory;

} // namespace capture
