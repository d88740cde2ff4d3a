// Parts. A query that cannot be followed in one step is cut: what stands inside becomes a hidden projection, whose
// table the query outside reads like any other. So each step is one that the compiler knows, and what is shown of the
// one is the other's source: rows that a group had and has, in the order in which its row's lock gives them.
#include "compile/parts.hpp"

#include "compile/analysis.hpp"
#include "compile/columns.hpp"
#include "compile/correlated.hpp"
#include "compile/rewrite.hpp"
#include "pg/query.hpp"

namespace compile {
namespace {

bool is_taken(List *names, const char *name) {
    ListCell *cell;
    foreach (cell, names)
        if (strcmp(strVal(lfirst(cell)), name) == 0) return true;
    return is_system_column(name);
}

// Each column gets a name that no other has.
void name_columns(Query *part) {
    List *names = NIL;
    for (TargetEntry *entry : pg::each<TargetEntry>(part->targetList)) {
        if (entry->resjunk) continue;
        const char *wanted = entry->resname && strcmp(entry->resname, "?column?") != 0 ? entry->resname : "value";
        char *name = pnstrdup(wanted, pg_mbcliplen(wanted, static_cast<int>(strlen(wanted)), NAMEDATALEN - 8));
        for (int i = 2; is_taken(names, name); i++) name = psprintf("%s_%d", wanted, i);
        entry->resname = name;
        names = lappend(names, makeString(name));
    }
}

bool is_inlined(Query *subquery) {
    if (obstacle(subquery) || subquery->hasSubLinks) return false;
    return reads_outside(subquery) || reads_one_table(subquery) || is_values(subquery);
}

// Subqueries in FROM, but for a union that is all of it.
void cut_from(const Cutting &cutting, Query *query) {
    bool alone = list_length(query->jointree->fromlist) == 1 && IsA(linitial(query->jointree->fromlist), RangeTblRef);
    Bitmapset *read = nullptr;
    add_entries(reinterpret_cast<Node *>(query->jointree), &read);
    for (int index = -1; (index = bms_next_member(read, index)) >= 0;) {
        ListCell *cell = list_nth_cell(query->rtable, index - 1);
        auto *entry = static_cast<RangeTblEntry *>(lfirst(cell));
        if (entry->rtekind != RTE_SUBQUERY) continue;
        if (is_inlined(entry->subquery)) continue; // below an outer join, whose branches read its table
        if (alone && entry->subquery->setOperations && !obstacle_of_union(entry->subquery))
            entry->subquery = cut_level(cutting, entry->subquery);
        else if (reads_outside(entry->subquery))
            cutting.place.refuse(Construct::derived_table, -1, "read columns of what stands beside them in FROM");
        else
            lfirst(cell) = part_entry(cutting, entry->subquery, entry->eref->aliasname);
    }
}

// Of a query that is read again as it is, or of what is below it: subqueries in FROM that read nothing of what is
// around them, which would be read as a whole each time.
void cut_below(const Cutting &cutting, Query *query) {
    check_stack_depth();
    Bitmapset *read = nullptr;
    if (query->setOperations)
        for (int i = 1; i <= list_length(query->rtable); i++) read = bms_add_member(read, i);
    else
        add_entries(reinterpret_cast<Node *>(query->jointree), &read);
    for (int index = -1; (index = bms_next_member(read, index)) >= 0;) {
        ListCell *cell = list_nth_cell(query->rtable, index - 1);
        auto *entry = static_cast<RangeTblEntry *>(lfirst(cell));
        if (entry->rtekind != RTE_SUBQUERY) continue;
        if (query->setOperations || reads_outside(entry->subquery))
            cut_below(cutting, entry->subquery);
        else
            lfirst(cell) = part_entry(cutting, entry->subquery, entry->eref->aliasname);
    }
    each_sublink(query, [&](SubLink *link) { cut_below(cutting, castNode(Query, link->subselect)); });
}

// The SELECTs of a union.
void cut_arms(const Cutting &cutting, Query *query) {
    for (RangeTblEntry *entry : pg::each<RangeTblEntry>(query->rtable)) {
        if (entry->rtekind != RTE_SUBQUERY) continue;
        Query *arm = cut_level(cutting, entry->subquery);
        if (is_values(arm))
            arm = union_of_values(arm);
        else if (!arm->setOperations &&
                 (obstacle(arm) || has_outer_join(arm) || reads_values(arm) || reads_slices(arm)))
            arm = select_all(cutting, arm);
        entry->subquery = arm;
    }
}

} // namespace

namespace {

bool find_outer(Node *node, Index *level) {
    if (node == nullptr) return false;
    if (IsA(node, Query)) {
        ++*level;
        bool found = pg::walk_query(castNode(Query, node), find_outer, level, 0);
        --*level;
        return found;
    }
    if (IsA(node, Var)) return reinterpret_cast<Var *>(node)->varlevelsup >= *level;
    return pg::walk_children(node, find_outer, level);
}

} // namespace

bool reads_outside(Query *query) {
    Index level = 0;
    return find_outer(reinterpret_cast<Node *>(query), &level);
}

bool reads_one_table(const Query *query) {
    Bitmapset *read = nullptr;
    add_entries(reinterpret_cast<Node *>(query->jointree), &read);
    int entry;
    return bms_get_singleton_member(read, &entry) && rt_fetch(entry, query->rtable)->rtekind == RTE_RELATION;
}

void note_sublinks(Query *query) { query->hasSubLinks = checkExprHasSubLink(reinterpret_cast<Node *>(query)); }

Query *select_all(const Cutting &cutting, Query *part) {
    RangeTblEntry *entry = part_entry(cutting, part, "part");
    Query *query = pg::select_from(entry);
    int columns = 0;
    for (TargetEntry *each : pg::each<TargetEntry>(part->targetList)) {
        if (each->resjunk) continue;
        columns++;
        pg::add_target(query, reinterpret_cast<Node *>(column_of(entry, 1, columns)), each->resname);
    }
    return query;
}

RangeTblEntry *part_entry(const Cutting &cutting, Query *part, const char *alias) {
    check_stack_depth();
    part = cut_level(cutting, part);
    name_columns(part);
    Oid table = cutting.maker.make(part, cutting.maker.context);
    *cutting.maker.made = lappend_oid(*cutting.maker.made, table);
    RangeTblEntry *entry = makeNode(RangeTblEntry);
    entry->rtekind = RTE_RELATION;
    entry->relid = table;
    entry->relkind = RELKIND_RELATION;
    entry->rellockmode = AccessShareLock;
    entry->inh = true;
    entry->inFromCl = true;
    entry->alias = makeAlias(alias, NIL);
    List *names = NIL;
    Relation relation = table_open(table, AccessShareLock);
    for (int i = 0; i < RelationGetNumberOfAttributes(relation); i++)
        names = lappend(names, makeString(pstrdup(NameStr(TupleDescAttr(RelationGetDescr(relation), i)->attname))));
    table_close(relation, AccessShareLock);
    entry->eref = makeAlias(alias, names);
    return entry;
}

int add_entry(Query *query, RangeTblEntry *entry) {
    query->rtable = lappend(query->rtable, entry);
    return list_length(query->rtable);
}

Var *column_of(const RangeTblEntry *entry, int index, int column) {
    Oid type, collation;
    int32 typmod;
    get_atttypetypmodcoll(entry->relid, static_cast<AttrNumber>(column), &type, &typmod, &collation);
    return makeVar(index, static_cast<AttrNumber>(column), type, typmod, collation, 0);
}

void group_by(const Cutting &cutting, Query *query, int column) {
    group_by(query, static_cast<TargetEntry *>(list_nth(query->targetList, column - 1)), cutting.place);
}

Query *cut_level(const Cutting &cutting, Query *query) {
    check_stack_depth();
    if (query->commandType != CMD_SELECT || query->jointree == nullptr) return query;
    if (query->setOperations) {
        if (!obstacle_of_union(query)) cut_arms(cutting, query);
        return query;
    }
    if (Query *over_groups = split_groups(cutting, query)) return cut_level(cutting, over_groups);
    if (Query *over_values = split_distinct(cutting, query)) return cut_level(cutting, over_values);
    if (Query *over_rows = split_rows(query)) return cut_level(cutting, over_rows);
    if (stays_whole(query)) {
        cut_below(cutting, query);
        return query;
    }
    cut_laterals(cutting, query);
    cut_sublinks(cutting, query);
    renew_joins(query); // what a condition over a part rejects is no outer join
    cut_joins(cutting, query);
    cut_from(cutting, query);
    renew_joins(query);
    return query;
}

Query *cut_parts(Query *query, const Place &place, const PartMaker &maker) { return cut_level({place, maker}, query); }

} // namespace compile
