// Pieces of query trees, as the parser makes them.
#pragma once
#include "pg/pg.hpp"

namespace pg {

// A copy of a tree, which the caller knows the kind of.
template <class Tree = Node>
Tree *copy(const void *tree) {
    return static_cast<Tree *>(copyObjectImpl(tree));
}

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

// Appends a column, without a name where that is null; returns its number.
inline int add_target(Query *query, Node *expression, const char *name) {
    int number = list_length(query->targetList) + 1;
    query->targetList = lappend(query->targetList,
                                makeTargetEntry(reinterpret_cast<Expr *>(expression), static_cast<AttrNumber>(number),
                                                name ? pstrdup(name) : nullptr, false));
    return number;
}

// The names of its visible columns, "value" where there is none.
inline List *column_names(const Query *query) {
    List *names = NIL;
    for (TargetEntry *each : pg::each<TargetEntry>(query->targetList))
        if (!each->resjunk) names = lappend(names, makeString(pstrdup(each->resname ? each->resname : "value")));
    return names;
}

// The number of a column among those that are listed as Vars, from 1; 0 where it is not there.
inline int number_of(const List *columns, const Var *column) {
    int number = 0;
    for (Var *each : pg::each<Var>(columns)) {
        number++;
        if (each->varno == column->varno && each->varattno == column->varattno) return number;
    }
    return 0;
}

// Appends an expression's type to the columns' types of a union.
inline void add_column_type(SetOperationStmt *types, const void *expression) {
    auto *value = static_cast<const Node *>(expression);
    types->colTypes = lappend_oid(types->colTypes, exprType(value));
    types->colTypmods = lappend_int(types->colTypmods, exprTypmod(value));
    types->colCollations = lappend_oid(types->colCollations, exprCollation(value));
}

// The types of a query's visible columns, as those of a union of such queries.
inline SetOperationStmt *column_types(const List *targets) {
    SetOperationStmt *types = makeNode(SetOperationStmt);
    for (TargetEntry *each : pg::each<TargetEntry>(targets))
        if (!each->resjunk) add_column_type(types, each->expr);
    return types;
}

// A UNION ALL, still of nothing.
inline Query *make_union() {
    Query *query = makeNode(Query);
    query->commandType = CMD_SELECT;
    query->canSetTag = true;
    query->jointree = makeFromExpr(NIL, nullptr);
    return query;
}

// Adds a SELECT to it. `like` has the columns' types.
inline void add_to_union(Query *united, Query *branch, const char *name, List *columns, const SetOperationStmt *like) {
    united->rtable = lappend(united->rtable, subquery_entry(branch, name, columns));
    auto *here = reinterpret_cast<Node *>(reference_to(list_length(united->rtable)));
    if (united->setOperations) {
        SetOperationStmt *both = makeNode(SetOperationStmt);
        both->op = SETOP_UNION;
        both->all = true;
        both->larg = united->setOperations;
        both->rarg = here;
        both->colTypes = like->colTypes;
        both->colTypmods = like->colTypmods;
        both->colCollations = like->colCollations;
        here = reinterpret_cast<Node *>(both);
    }
    united->setOperations = here;
}

} // namespace pg
