// What an index is over, by its row in pg_index. The relcache would compute its expressions and predicate, which calls
// their functions: those of whoever made the index, as whoever looks.
#pragma once
#include "pg/pg.hpp"

namespace pg {

// Whether it is over columns, not expressions, and of all rows.
inline bool is_of_columns(HeapTuple index) {
    return heap_attisnull(index, Anum_pg_index_indexprs, nullptr) &&
           heap_attisnull(index, Anum_pg_index_indpred, nullptr);
}

} // namespace pg
