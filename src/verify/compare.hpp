// Two sets of rows, compared: what a definition yields, and what a table holds.
//
// First each side is read once, and every row's hash is added to (or taken from) the sum of its key's bucket: equal
// sides leave zeros, without a join and in memory that does not grow with the rows. Only where sums are not zero, the
// rows of those buckets are read again, sorted by the hash of their key, and compared one by one. So a large projection
// that is right costs the two scans.
//
// Sums of floats depend on the order of addition: aggregated floats are compared within 1e-9 of their value (1e-5 for
// real), and rounded accordingly before they are hashed. Rounding may tell apart what is close, which costs reading a
// bucket again; it never makes two values equal that are not close.
#pragma once
#include "pg/pg.hpp"

namespace verify {

enum class Problem {
    missing,   // the definition has a row that the table lacks
    extra,     // the other way round
    different, // both have the key, in rows that are not the same
    duplicate  // the table has more than one row of the key
};

// Whose rows these are; a row is null where there is none on that side. They hold until the call returns.
struct Difference {
    Problem problem;
    TupleTableSlot *expected, *found;
};

struct Layout {
    TupleDesc desc;             // of both sides, under the names of the table's columns
    pg::vector<int> keys;       // columns from 0; all of them where rows have no other identity
    bool counted;               // rows have no identity: equal ones are counted
    bool close_floats;          // floats that are no keys are results of aggregates
    pg::vector<int> looks = {}; // key columns that are compared as text, as well: equal values may look different
    // Whether the rows of a key may differ as they do; null: never.
    bool (*may_differ)(const Difference &difference, void *context) = nullptr;
    void *context = nullptr;
};

struct Scope {
    double sample = 1;          // share of the buckets that are compared, chosen at random
    int64 limit = PG_INT64_MAX; // stop when more keys than this differ
};

using ReceiveRow = void (*)(TupleTableSlot *row, void *context);

// Hands every row of one side to `receive`; may be called twice, and yields the same rows.
struct Side {
    void (*read)(void *self, ReceiveRow receive, void *context);
    void *self;
};

struct Compared {
    int64 differences = 0; // keys that differ (rows, where those are counted); at least so many where `more`
    bool more = false;     // stopped: more than the limit differ
    int64 expected = 0;    // rows of the definition, and of the table, in what was compared
    int64 found = 0;
};

// Calls `report` for each difference, none for those beyond the limit. Whoever owns the rows' types is the current
// user: their functions are called.
Compared compare(const Layout &layout, Scope scope, Side expected, Side found,
                 void (*report)(const Difference &difference, void *context), void *context);

// A Side that calls `body(receive, context)`.
template <class Body>
Side side(Body &body) {
    return {[](void *self, ReceiveRow receive, void *context) { (*static_cast<Body *>(self))(receive, context); },
            &body};
}

} // namespace verify
