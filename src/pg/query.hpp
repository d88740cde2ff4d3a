// Pieces of query trees, as the parser makes them.
#pragma once
#include "pg/pg.hpp"

namespace pg {

inline RangeTblRef *reference_to(int entry) {
    RangeTblRef *reference = makeNode(RangeTblRef);
    reference->rtindex = entry;
    return reference;
}

inline RangeTblEntry *subquery_entry(Query *query, const char *name, List *columns) {
    RangeTblEntry *entry = makeNode(RangeTblEntry);
    entry->rtekind = RTE_SUBQUERY;
    entry->subquery = query;
    entry->alias = entry->eref = makeAlias(name, columns);
    entry->inFromCl = true;
    return entry;
}

// SELECT … FROM the entry, still without columns.
inline Query *select_from(RangeTblEntry *entry) {
    Query *query = makeNode(Query);
    query->commandType = CMD_SELECT;
    query->canSetTag = true;
    query->rtable = list_make1(entry);
    query->jointree = makeFromExpr(list_make1(reference_to(1)), nullptr);
    return query;
}

} // namespace pg
