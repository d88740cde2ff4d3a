// The canonical form: what a definition is turned into before it is cut into keys and states, so that the stored view,
// which is its only record, gives the same block when it is read back.
#pragma once
#include "compile/block.hpp"
#include "compile/refuse.hpp"

namespace compile {

// Rewrites what reads back otherwise, keeping its meaning; raises PJ002 for what cannot be rewritten.
Node *canonical(Node *expression, const Place &place);
// The same of all expressions of a query and of what is below it.
Query *canonical_query(Query *query, const Place &place);

// Where the block that was compiled from the user's text and the one compiled from what was stored of it differ: the
// construct as text, and as what it reads back. The first is null where they are the same.
struct Difference {
    const char *declared;
    const char *stored;
};
Difference difference(const Block &declared, const Block &stored);

} // namespace compile
