// A term as a chain of look-ups: from changed rows of one table to the rows of the others that they meet, each found in
// an index. What such a chain reads is little, whatever the tables hold.
#pragma once
#include "compile/block.hpp"

namespace compile {

// What a column of an index is equal to.
struct Sought {
    Oid equality; // an operator of the index's family, the column on its left
    Oid right_type;
    Oid collation;
    Node *value; // over the chain's row
};

// How rows of a table are found: by the first columns of a btree index.
struct LookUp {
    Oid relation, index;
    pg::vector<Sought> sought = {};
    pg::vector<AttrNumber> columns = {}; // of the table, which the chain's row goes on with
    List *conditions = NIL;              // that are known then, over the chain's row
};

// Whether there are such rows of a presence's table.
struct Asked {
    LookUp rows;
    bool negated;
    bool changed; // they are what changed
};

// The chain's row begins with columns of the changed rows. Its expressions are over that row, as relation 1.
struct Chain {
    int source;                         // whose changed rows it takes
    const Presence *presence = nullptr; // that asks for them; null: they are of FROM
    pg::vector<int> given = {};         // columns of the changed rows: the used ones, or the presence's keys
    List *conditions = NIL;
    pg::vector<LookUp> look_ups = {};
    pg::vector<Asked> asked = {};
    List *row = NIL;     // an expression of the type of each of its columns
    List *targets = NIL; // what term_text() yields, but for weights
};

// The chain of a term where no other source changed, in the current memory context; null where the term needs a plan:
// some table is found by no unique index (or, where only the presence of rows is asked for, by no index) over what
// is equal to something of the tables before it, or is partitioned, inherited or under row security.
const Chain *chain_of(const Block &block, int occurrence);

} // namespace compile
