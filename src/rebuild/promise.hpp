// What a projection's table says of its key, changed with its definition or its options: PRIMARY KEY and NOT NULL, or a
// unique index.
#pragma once
#include "declare/declare.hpp"

namespace rebuild {

// The index of a projection's primary key, where that is what identifies its rows; else InvalidOid: it has none, or one
// of a user's.
Oid own_primary_key(catalog::Projection &projection);

// What its table is to say under another definition, or as its options are now.
declare::KeyPromise next_promise(catalog::Projection &projection, const compile::Block &block);

// What a table says of its key now: columns that are NOT NULL for its sake, and what the next definition's is to say.
struct Promised {
    pg::vector<AttrNumber> columns;
    bool taken, asked_for; // as declare::promise_of() has them
};
Promised promised(catalog::Projection &projection);

// Makes the key's columns NOT NULL where the next definition, or the projection's options, say so; and those among the
// first `kept` that were so for the sake of the old key are not any more. The table is locked in ACCESS EXCLUSIVE mode.
void change_promise(const Promised &before, Oid table, int kept, const compile::Block &next);

// Drops what identifies rows. Foreign keys that refer to it forbid that.
void drop_identity(catalog::Projection &projection);
// The same of those indexes that are still there.
void drop_identity(std::span<const Oid> indexes);

// Makes the table say of its key what options say now. Raises 55000 where other projections rely on the key, and 23502
// where rows have NULL in it.
void follow_key_option(catalog::Projection &projection);

} // namespace rebuild
