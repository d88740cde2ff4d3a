// What an index is over, by its row in pg_index. The relcache would compute its expressions and predicate, which calls
// their functions: those of whoever made the index, as whoever looks.
#pragma once
#include "pg/own_schema.hpp"

namespace pg {

// Whether it is over columns, not expressions, and of all rows.
inline bool is_of_columns(HeapTuple index) {
    return heap_attisnull(index, Anum_pg_index_indexprs, nullptr) &&
           heap_attisnull(index, Anum_pg_index_indpred, nullptr);
}

// Whether other tables inherit from a table: no index of its own is over all rows that are read by its name then. The
// archive of our own store has keys and positions that the store's rows do not have.
inline bool has_children(Oid table) {
    return has_subclass(table) && get_rel_relkind(table) == RELKIND_RELATION &&
           find_inheritance_children(table, NoLock) != NIL && !is_own_schema(get_rel_namespace(table));
}

} // namespace pg
