// Entries are replaced in copies: the block's own queries stay as they are.
#include "compile/term_parts.hpp"
#include "pg/query.hpp"

#include "compile/expressions.hpp"
#include "compile/terms.hpp"

namespace compile {

const char *weight_column(Oid source) {
    const char *name = "_projections_weight";
    for (int i = 2; get_attnum(source, name) != InvalidAttrNumber; i++) name = psprintf("_projections_weight_%d", i);
    return name;
}

namespace {

List *source_columns(Oid relation, const char *extra) {
    List *names = NIL;
    Relation table = relation_open(relation, AccessShareLock);
    for (int i = 0; i < RelationGetNumberOfAttributes(table); i++) {
        Form_pg_attribute attribute = TupleDescAttr(RelationGetDescr(table), i);
        names =
            lappend(names, makeString(attribute->attisdropped ? pstrdup("") : pstrdup(NameStr(attribute->attname))));
    }
    relation_close(table, AccessShareLock);
    return lappend(names, makeString(pstrdup(extra)));
}

} // namespace

void replace_entry(Query *query, int occurrence, const char *name) {
    auto *entry = static_cast<RangeTblEntry *>(list_nth(query->rtable, occurrence - 1));
    RangeTblEntry *named = makeNode(RangeTblEntry);
    named->rtekind = RTE_CTE;
    named->ctename = pstrdup(name);
    named->alias = makeAlias(entry->eref->aliasname, NIL);
    named->eref = makeAlias(entry->eref->aliasname, source_columns(entry->relid, weight_column(entry->relid)));
    named->inFromCl = true;
    lfirst(list_nth_cell(query->rtable, occurrence - 1)) = named;
}

Node *weight_of(int entry, Oid relation) {
    Relation table = relation_open(relation, AccessShareLock);
    auto number = static_cast<AttrNumber>(RelationGetNumberOfAttributes(table) + 1);
    relation_close(table, AccessShareLock);
    return reinterpret_cast<Node *>(makeVar(entry, number, INT8OID, -1, InvalidOid, 0));
}

void add_weight(Query *query, int entry, Oid relation) {
    pg::add_target(query, weight_of(entry, relation), psprintf("weight_%d", entry));
}

void add_removed_weight(Query *query, int entry, Oid relation) {
    Node *weight = operation("-", bigint_constant(0), weight_of(entry, relation));
    pg::add_target(query, weight, psprintf("weight_%d", entry));
}

} // namespace compile
