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

// Whether it tells rows apart by their columns at every moment, those with NULLs, too.
inline bool tells_rows_apart(Relation index) {
    const Form_pg_index form = index->rd_index;
    return form->indisunique && form->indisvalid && form->indimmediate &&
           (form->indnullsnotdistinct || form->indisprimary) && is_of_columns(index->rd_indextuple);
}

// InvalidOid where it has none.
inline Oid primary_key_of(Oid relation) {
    Relation table = table_open(relation, AccessShareLock);
    Oid found = InvalidOid;
    List *indexes = RelationGetIndexList(table);
    for (int i = 0; i < list_length(indexes) && !OidIsValid(found); i++) {
        Relation index = index_open(list_nth_oid(indexes, i), AccessShareLock);
        if (index->rd_index->indisprimary) found = RelationGetRelid(index);
        index_close(index, AccessShareLock);
    }
    table_close(table, AccessShareLock);
    return found;
}

inline bool has_primary_key(Oid relation) { return OidIsValid(primary_key_of(relation)); }

} // namespace pg
