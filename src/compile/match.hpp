// The conditions of a presence, by what they are about.
#pragma once
#include "compile/block.hpp"

namespace compile {

struct Equal { // outer = inner
    OpExpr *comparison;
    Node *outer, *inner;
};

struct Match {
    List *inner = NIL; // the table alone, or nothing
    List *outer = NIL; // the arm's FROM alone
    pg::vector<Equal> equal = {};
    List *mixed = NIL; // any other
};

Match match_of(const Presence &presence);

} // namespace compile
