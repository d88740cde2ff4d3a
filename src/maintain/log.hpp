// Change logs: what an async or paused projection has still to be told, in hidden tables.
//
// A change log has the source's used columns as c1, c2 …, a weight (-1 for an old image, +1 for a new one), and a
// number. It is written in the transaction that changed the source, so both become visible at once; whoever consumes
// all that one snapshot sees of it brings the projection to the state of that snapshot. A row without a weight says
// that the source was truncated: the projection is filled anew, and what else is in the logs says nothing.
#pragma once
#include "maintain/changes.hpp"

namespace maintain {

// Appends what a flush has taken. As the owner, inside with_statements().
void append_changes(Taken &taken);
// Appends that the projection is to be filled again, as after a TRUNCATE of a source.
void mark_truncated(catalog::Projection &projection);

struct Consumed {
    int64 rows = 0;
    int64 last = 0;    // the highest number
    bool more = false; // rows were left
};

// Takes rows off the change logs and applies them, at most about `at_most` where the definition allows to cut. The
// caller keeps other consumers away. Raises what the definition or the table's constraints raise.
// Under `snapshot`, if given: then all that it sees.
Consumed consume_changes(catalog::Projection &projection, int64 at_most, Snapshot snapshot = nullptr);

// Takes off the change logs what `snapshot` sees, unread: the caller fills the projection under the same snapshot. As
// the owner, in an SPI connection. Returns the rows.
int64 discard_changes(catalog::Projection &projection, Snapshot snapshot);

// Makes the change logs of a projection, owned by `owner`, as a superuser and in an SPI connection. Returns their OIDs.
pg::vector<Oid> make_change_logs(const compile::Block &block, const char *name, Oid owner);

} // namespace maintain
