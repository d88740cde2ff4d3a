// Terms without plans.
//
// A plan is set up and torn down for each transaction, under settings that are changed for it: for one changed row that
// takes several times as long as what it reads. Where a term is a chain of look-ups (compile/chain.hpp), a session sets
// it up once, and runs it by the access methods of the tables and their indexes.
#pragma once
#include "maintain/changes.hpp"

namespace maintain {

// Notes in `taken` the chains that compute it: one for each term. False where some term needs a plan, or too much has
// changed for rows to be looked up one by one. As the owner, with the sources locked.
bool find_chains(Taken &taken);

// Hands each row of a term to `receive`: its columns and a weight. As the owner; reads under `snapshot`.
void run_chain(PreparedChain &chain, const Taken &taken, Snapshot snapshot, Receive receive, void *context);

} // namespace maintain
