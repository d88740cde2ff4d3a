// A block's delta over its sources: in memory for one source, by joins with the others' tables.
#pragma once
#include "capture/pending.hpp"

namespace maintain {

// Which columns of a key are NULL: `=` finds no NULL and IS NOT DISTINCT FROM uses no index, so each pattern has its
// own text.
using NullMask = uint64;

// The rows that left and came, for blocks without groups. Equal images cancel out.
struct RowHash { // of a row's image
    uint64 low, high;

    static RowHash of(MinimalTuple row);
};

// Order-free sum over rows: equal for equal multisets. 128 bits, so that a difference is not missed.
struct Fingerprint {
    uint64 low = 0, high = 0;

    void add(MinimalTuple row, int64 weight);
    bool operator==(const Fingerprint &other) const = default;
};

struct Images {
    struct Image {
        MinimalTuple row;
        int64 net;
    };
    MemoryContext memory;
    TupleDesc desc;
    pg::vector<Image> list; // in the order in which they were first met
    HTAB *index;
};

struct PreparedChain; // a term without a plan: maintain/chains.hpp

// What one flush has taken from a Pending.
struct Taken {
    catalog::Projection &projection;
    const compile::Block &block;
    MemoryContext memory;
    bool cleared = false;
    capture::Fold *fold = nullptr;           // folds(), and grouped joins once they are computed
    Images *images = nullptr;                // rows and bags, once computed
    pg::vector<Tuplestorestate *> rows = {}; // per source; null where it did not change
    pg::vector<int64> row_counts = {};
    pg::vector<TupleDesc> descs = {};
    Snapshot snapshot = nullptr; // that logged changes were read under: what is recomputed must not be newer
    // The source whose keys, by which rows of it are asked for, have to be locked; -1: none.
    int asked_source = -1;
    pg::vector<PreparedChain *> chains = {}; // what computes it; none: plans do
    // The command at which it was taken. What triggers on the projection change in its sources later is the next
    // delta's, and must not be in what is recomputed for this one. (test: sql/savepoints)
    CommandId command = InvalidCommandId;
};

// A copy of the snapshot, registered, that sees of the own transaction what it did before `command`.
Snapshot as_of(Snapshot snapshot, CommandId command);

// Computes fold or images from the logged rows, under a snapshot that sees all that the locks order before us. In
// REPEATABLE READ and SERIALIZABLE the transaction's own snapshot must give the same, or the error is a serialization
// failure.
void compute_changes(Taken &taken);

// What came of reading additions, kept also when that raised: `reached` is the position of the last row that has been
// added, and `torn` says that the error came while adding one.
struct Additions {
    int64 rows = 0;
    int64 reached = 0;
    bool torn = false;
};

// The same from one source's rows that come as a query: its text yields what term_text's `delta_0` has, with the row's
// position in the place of the weight, which is 1; its two parameters are bigint, and rows come in the order of
// positions. In an SPI connection. `variant` tells texts of one projection apart.
void compute_additions(Taken &taken, const char *rows, uint64 variant, int64 from, int64 to, Snapshot snapshot,
                       Additions &additions);

// Adds a row of images' `desc`; its values are not toasted, as images of one value must be the same bytes.
void add_image(Images &images, MinimalTuple row, int64 weight);
// The row in the slot, whose last column may be its weight: the first columns of it, as such a row.
MinimalTuple image_of(TupleTableSlot *row, TupleDesc desc);

// None yet; in a memory context of their own under `parent`.
Images *make_images(TupleDesc desc, MemoryContext parent);

// Makes `rows` readable as a relation of that name in the current SPI connection.
void name_relation(const char *name, TupleDesc desc, Tuplestorestate *rows);

// Runs a plan that reads, under `snapshot`, and hands each row to `receive(slot)`.
using Receive = void (*)(TupleTableSlot *row, void *context);
void read_rows(SPIPlanPtr plan, Snapshot snapshot, Receive receive, void *context, ParamListInfo parameters = nullptr);

// Raises the serialization failure.
[[noreturn]] void fail_serialization();

} // namespace maintain
