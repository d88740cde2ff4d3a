// Events that the transaction has deleted, by position: one that is inserted again has moved, and is not new.
// pg_partman moves rows so, and the server a row whose partition key changes.
#pragma once
#include "pg/pg.hpp"

namespace events {

bool anything_deleted();
void note_deleted(Oid source, int64 position);
bool was_deleted(Oid source, int64 position);

// When a subtransaction ends: what it deleted is its parent's, or is not deleted; and when the transaction has ended.
void deleted_in_committed(SubTransactionId sub, SubTransactionId parent);
void deleted_in_aborted(SubTransactionId sub);
void forget_deleted();

} // namespace events
