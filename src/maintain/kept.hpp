// What a session keeps of projections between transactions, and how much.
#pragma once
#include "catalog/projection.hpp"

namespace maintain {

// Frees what is made for a projection when it is needed: its block, evaluator, statements and direct plan. Nothing of
// it may be in use.
void discard_kept(catalog::Projection &projection);

// At the end of a transaction: discards what is kept of the projections that were used least recently, until the rest
// is within session_memory.
void limit_kept();

// pg_projections.session_memory, in kB.
extern int session_memory;

} // namespace maintain
