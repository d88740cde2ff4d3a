// Projections that the transaction's changes did not reach, because their owner may not read the source any more. They
// are marked stale when it commits, and not where a savepoint takes the changes back.
#pragma once
#include "pg/pg.hpp"

namespace capture {

// Notes it, for the subtransaction that runs.
void miss(Oid projection);

// Each once, in the order of OIDs, in the current memory context.
List *missed();

// When a subtransaction ends: its projections become its parent's, or are none; and when the transaction has ended.
void missed_in_committed(SubTransactionId sub, SubTransactionId parent);
void missed_in_aborted(SubTransactionId sub);
void forget_missed();

} // namespace capture
