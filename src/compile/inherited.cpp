// Tables that others inherit from. Their rows are those of their children, too, and no index of theirs is over those:
// two rows may have the same primary key, or what a unique index would not let the table itself have twice.
#include "compile/analysis.hpp"
#include "pg/index.hpp"

namespace compile {
namespace {

// Which of a group's values stands beside the grouped key would be open. The server does not mind.
bool refuse_grouped_keys(Node *node, void *context) {
    if (node == nullptr) return false;
    if (IsA(node, RangeTblEntry)) {
        auto *entry = reinterpret_cast<RangeTblEntry *>(node);
        // not what stands for OLD and NEW in a view's own rule
        if (entry->rtekind != RTE_RELATION || entry->relkind != RELKIND_VIEW || !entry->inFromCl) return false;
        Relation view = table_open(entry->relid, AccessShareLock);
        refuse_grouped_keys(reinterpret_cast<Node *>(get_view_query(view)), context);
        table_close(view, AccessShareLock);
        return false;
    }
    if (!IsA(node, Query)) return pg::walk_children(node, refuse_grouped_keys, context);
    auto *query = reinterpret_cast<Query *>(node);
    ListCell *cell;
    foreach (cell, query->constraintDeps) {
        HeapTuple tuple = SearchSysCache1(CONSTROID, ObjectIdGetDatum(lfirst_oid(cell)));
        if (!HeapTupleIsValid(tuple)) continue;
        Oid table = reinterpret_cast<Form_pg_constraint>(GETSTRUCT(tuple))->conrelid;
        ReleaseSysCache(tuple);
        if (pg::has_children(table))
            static_cast<const Place *>(context)->refuse(Construct::inherited_key, -1, get_rel_name(table));
    }
    return pg::walk_query(query, refuse_grouped_keys, context, QTW_EXAMINE_RTES_BEFORE);
}

} // namespace

void check_grouped_keys(const Query *query, const Place &place) {
    refuse_grouped_keys(const_cast<Node *>(reinterpret_cast<const Node *>(query)), const_cast<Place *>(&place));
}

} // namespace compile
