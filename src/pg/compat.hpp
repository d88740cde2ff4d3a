// The only place that knows PostgreSQL versions: 15 to 18.
#pragma once

extern "C" {
#if PG_VERSION_NUM >= 160000
#include "nodes/multibitmapset.h"
#include "utils/guc_hooks.h"
#endif
#include "utils/guc_tables.h"
}

namespace pg {

// Replaces Vars of JOIN entries by what they stand for.
inline Node *flatten_joins(Query *query, Node *node) {
#if PG_VERSION_NUM >= 160000
    return flatten_join_alias_vars(nullptr, query, node);
#else
    return flatten_join_alias_vars(query, node);
#endif
}

// Tree walkers and mutators; 15 declares their callbacks without parameters.
template <class Context>
bool walk_children(Node *node, bool (*callback)(Node *, Context *), Context *context) {
#if PG_VERSION_NUM >= 160000
    return expression_tree_walker_impl(
        node, reinterpret_cast<tree_walker_callback>(reinterpret_cast<void (*)()>(callback)), context);
#else
    return expression_tree_walker(node, reinterpret_cast<bool (*)()>(reinterpret_cast<void (*)()>(callback)), context);
#endif
}

template <class Context>
Node *mutate_children(Node *node, Node *(*callback)(Node *, Context *), Context *context) {
#if PG_VERSION_NUM >= 160000
    return expression_tree_mutator_impl(
        node, reinterpret_cast<tree_mutator_callback>(reinterpret_cast<void (*)()>(callback)), context);
#else
    return expression_tree_mutator(node, reinterpret_cast<Node *(*)()>(reinterpret_cast<void (*)()>(callback)),
                                   context);
#endif
}

// The same over all that a query consists of, its range table's subqueries included.
template <class Context>
bool walk_query(Query *query, bool (*callback)(Node *, Context *), Context *context, int flags) {
#if PG_VERSION_NUM >= 160000
    return query_tree_walker_impl(query, reinterpret_cast<tree_walker_callback>(reinterpret_cast<void (*)()>(callback)),
                                  context, flags);
#else
    return query_tree_walker(query, reinterpret_cast<bool (*)()>(reinterpret_cast<void (*)()>(callback)), context,
                             flags);
#endif
}

template <class Context>
Query *mutate_query(Query *query, Node *(*callback)(Node *, Context *), Context *context) {
#if PG_VERSION_NUM >= 160000
    return query_tree_mutator_impl(
        query, reinterpret_cast<tree_mutator_callback>(reinterpret_cast<void (*)()>(callback)), context, 0);
#else
    return query_tree_mutator(query, reinterpret_cast<Node *(*)()>(reinterpret_cast<void (*)()>(callback)), context, 0);
#endif
}

// Whether an ordered index could compare values by the operator, or by its negator.
inline bool compares(Oid operator_id) {
#if PG_VERSION_NUM >= 180000
    return get_op_index_interpretation(operator_id) != NIL;
#else
    return get_op_btree_interpretation(operator_id) != NIL;
#endif
}

// The names and Vars of an entry's columns.
inline void expand_entry(RangeTblEntry *entry, int index, List **names, List **vars) {
#if PG_VERSION_NUM >= 180000
    expandRTE(entry, index, 0, VAR_RETURNING_DEFAULT, -1, false, names, vars);
#else
    expandRTE(entry, index, 0, -1, false, names, vars);
#endif
}

// The query with the columns of one of its entries replaced by expressions.
inline Query *replace_columns(Query *query, int entry, List *targets) {
    auto *of = static_cast<RangeTblEntry *>(list_nth(query->rtable, entry - 1));
    auto *node = reinterpret_cast<Node *>(query);
#if PG_VERSION_NUM >= 180000
    node = ReplaceVarsFromTargetList(node, entry, 0, of, targets, 0, REPLACEVARS_REPORT_ERROR, 0, nullptr);
#else
    node = ReplaceVarsFromTargetList(node, entry, 0, of, targets, REPLACEVARS_REPORT_ERROR, 0, nullptr);
#endif
    return castNode(Query, node);
}

// Raises 42501 unless `role` may do with an entry what the query does, as the executor checks it.
inline void check_privileges([[maybe_unused]] Query *query, const RangeTblEntry *entry, Oid role) {
    RangeTblEntry checked = *entry;
#if PG_VERSION_NUM >= 160000
    RTEPermissionInfo info = *getRTEPermissionInfo(query->rteperminfos, &checked);
    info.checkAsUser = role;
    checked.perminfoindex = 1;
    ExecCheckPermissions(list_make1(&checked), list_make1(&info), true);
#else
    checked.checkAsUser = role;
    ExecCheckRTPerms(list_make1(&checked), true);
#endif
}

// Forgets what the entries' privileges are to be checked by, once they have been moved to another query.
inline void forget_privileges([[maybe_unused]] RangeTblEntry *entry) {
#if PG_VERSION_NUM >= 160000
    entry->perminfoindex = 0;
#else
    entry->checkAsUser = InvalidOid;
    entry->selectedCols = nullptr;
#endif
}

// PostgreSQL 18 gives GROUP BY a range table entry of its own; its Vars are replaced by the grouped expressions.
inline Node *flatten_groups([[maybe_unused]] Query *query, Node *node) {
#if PG_VERSION_NUM >= 180000
    if (query->hasGroupRTE) return flatten_group_exprs(nullptr, query, node);
#endif
    return node;
}

// The same of all of a query, which has no such entry then: in its place is one that nothing reads.
inline void forget_groups([[maybe_unused]] Query *query) {
#if PG_VERSION_NUM >= 180000
    if (!query->hasGroupRTE) return;
    query->targetList = reinterpret_cast<List *>(flatten_groups(query, reinterpret_cast<Node *>(query->targetList)));
    query->havingQual = flatten_groups(query, query->havingQual);
    query->hasGroupRTE = false;
    ListCell *cell;
    foreach (cell, query->rtable) {
        if (static_cast<RangeTblEntry *>(lfirst(cell))->rtekind != RTE_GROUP) continue;
        RangeTblEntry *unread = makeNode(RangeTblEntry);
        unread->rtekind = RTE_RESULT;
        unread->eref = makeAlias("unread", NIL);
        lfirst(cell) = unread;
    }
#endif
}

inline bool is_group_entry([[maybe_unused]] const RangeTblEntry *entry) {
#if PG_VERSION_NUM >= 180000
    return entry->rtekind == RTE_GROUP;
#else
    return false;
#endif
}

// JSON_VALUE and its like, which convert to a type by its input function.
inline bool is_json_query([[maybe_unused]] Node *node) {
#if PG_VERSION_NUM >= 170000
    return IsA(node, JsonExpr);
#else
    return false;
#endif
}

// Forgets which outer joins make a Var null: there are none here.
inline void forget_nulling([[maybe_unused]] Var *var) {
#if PG_VERSION_NUM >= 160000
    var->varnullingrels = nullptr;
#endif
}

inline bool has_generated_columns(const TupleConstr *constraints) {
#if PG_VERSION_NUM >= 180000
    return constraints->has_generated_stored || constraints->has_generated_virtual;
#else
    return constraints->has_generated_stored;
#endif
}

inline bool owns_relation(Oid relation, Oid role) {
#if PG_VERSION_NUM >= 160000
    return object_ownercheck(RelationRelationId, relation, role);
#else
    return pg_class_ownercheck(relation, role);
#endif
}

inline bool owns_database(Oid database, Oid role) {
#if PG_VERSION_NUM >= 160000
    return object_ownercheck(DatabaseRelationId, database, role);
#else
    return pg_database_ownercheck(database, role);
#endif
}

inline AclResult schema_aclcheck(Oid schema, Oid role, AclMode mode) {
#if PG_VERSION_NUM >= 160000
    return object_aclcheck(NamespaceRelationId, schema, role, mode);
#else
    return pg_namespace_aclcheck(schema, role, mode);
#endif
}

inline AclResult function_aclcheck(Oid function, Oid role, AclMode mode) {
#if PG_VERSION_NUM >= 160000
    return object_aclcheck(ProcedureRelationId, function, role, mode);
#else
    return pg_proc_aclcheck(function, role, mode);
#endif
}

// The parts of a name that may be qualified and quoted.
inline List *qualified_names(const char *name) {
#if PG_VERSION_NUM >= 160000
    return stringToQualifiedNameList(name, nullptr);
#else
    return stringToQualifiedNameList(name);
#endif
}

// Which indexes an update of a table's row leaves to be updated.
#if PG_VERSION_NUM >= 160000
using IndexesToUpdate = TU_UpdateIndexes;
inline bool any_index(IndexesToUpdate indexes) { return indexes != TU_None; }
#else
using IndexesToUpdate = bool;
inline bool any_index(IndexesToUpdate indexes) { return indexes; }
#endif

inline void insert_index_tuples(ResultRelInfo *target, TupleTableSlot *slot, EState *estate, IndexesToUpdate indexes) {
#if PG_VERSION_NUM >= 160000
    ExecInsertIndexTuples(target, slot, estate, true, false, nullptr, NIL, indexes == TU_Summarizing);
#else
    static_cast<void>(indexes);
    ExecInsertIndexTuples(target, slot, estate, true, false, nullptr, NIL);
#endif
}

// To be called when a relation's file is exchanged: before the catalog changes, and after.
inline void assume_new_file(Relation relation) {
#if PG_VERSION_NUM >= 160000
    RelationAssumeNewRelfilelocator(relation);
#else
    RelationAssumeNewRelfilenode(relation);
#endif
}

// ALTER COLUMN … SET EXPRESSION.
inline bool sets_expression([[maybe_unused]] const AlterTableCmd *command) {
#if PG_VERSION_NUM >= 170000
    return command->subtype == AT_SetExpression;
#else
    return false;
#endif
}

// As TRUNCATE does: what the relation held is removed at commit.
inline void give_new_file(Relation relation) {
#if PG_VERSION_NUM >= 160000
    RelationSetNewRelfilenumber(relation, relation->rd_rel->relpersistence);
#else
    RelationSetNewRelfilenode(relation, relation->rd_rel->relpersistence);
#endif
}

inline void forget_file([[maybe_unused]] Oid relation) {
#if PG_VERSION_NUM < 170000
    RelationCloseSmgrByOid(relation);
#endif
}

// Its catalog entries and an empty file. A second primary key is refused.
inline Oid define_unbuilt_index(Oid table, IndexStmt *statement) {
    bool alters = statement->primary;
#if PG_VERSION_NUM >= 160000
    return DefineIndex(table, statement, InvalidOid, InvalidOid, InvalidOid, -1, alters, false, false, true, true)
        .objectId;
#else
    return DefineIndex(table, statement, InvalidOid, InvalidOid, InvalidOid, alters, false, false, true, true).objectId;
#endif
}

// Whether a condition that is true says of a column of its own query that it is not NULL.
inline bool rejects_null(Node *condition, const Var *var) {
    List *columns = find_nonnullable_vars(condition);
#if PG_VERSION_NUM >= 160000
    return mbms_is_member(static_cast<int>(var->varno), var->varattno - FirstLowInvalidHeapAttributeNumber, columns);
#else
    for (int i = 0; i < list_length(columns); i++) {
        auto *each = static_cast<const Var *>(list_nth(columns, i));
        if (each->varno == var->varno && each->varattno == var->varattno && each->varlevelsup == var->varlevelsup)
            return true;
    }
    return false;
#endif
}

// Whether a table's column is NOT NULL, in rows that were there before, too: 18 has constraints that are NOT VALID.
inline bool is_not_null(Oid relation, AttrNumber column) {
    Relation table = table_open(relation, AccessShareLock);
#if PG_VERSION_NUM >= 180000
    bool not_null = TupleDescCompactAttr(RelationGetDescr(table), column - 1)->attnullability == ATTNULLABLE_VALID;
#else
    bool not_null = TupleDescAttr(RelationGetDescr(table), column - 1)->attnotnull;
#endif
    table_close(table, NoLock);
    return not_null;
}

// Takes NOT NULL from a column that has it without a constraint, as those of a table that is made like another one have
// it since version 18. False where it has a constraint, or could have.
inline bool forget_not_null(Oid table, AttrNumber column) {
#if PG_VERSION_NUM >= 180000
    if (HeapTupleIsValid(findNotNullConstraintAttnum(table, column))) return false;
    Relation attributes = table_open(AttributeRelationId, RowExclusiveLock);
    HeapTuple tuple = SearchSysCacheCopy2(ATTNUM, ObjectIdGetDatum(table), Int16GetDatum(column));
    reinterpret_cast<Form_pg_attribute>(GETSTRUCT(tuple))->attnotnull = false;
    CatalogTupleUpdate(attributes, &tuple->t_self, tuple);
    table_close(attributes, RowExclusiveLock);
    CacheInvalidateRelcacheByRelid(table);
    CommandCounterIncrement();
    return true;
#else
    static_cast<void>(table);
    static_cast<void>(column);
    return false;
#endif
}

inline IndexScanDesc begin_index_scan(Relation table, Relation index, Snapshot snapshot, int keys) {
#if PG_VERSION_NUM >= 180000
    return index_beginscan(table, index, snapshot, nullptr, keys, 0);
#else
    return index_beginscan(table, index, snapshot, keys, 0);
#endif
}

// Which transaction of the session this is.
inline LocalTransactionId local_transaction() {
#if PG_VERSION_NUM >= 170000
    return MyProc->vxid.lxid;
#else
    return MyProc->lxid;
#endif
}

// What runs a transaction; null for a prepared or ended one, whose process may run the next.
inline PGPROC *process_entry(VirtualTransactionId transaction) {
#if PG_VERSION_NUM >= 170000
    PGPROC *process =
        transaction.procNumber == INVALID_PROC_NUMBER ? nullptr : ProcNumberGetProc(transaction.procNumber);
    return process && process->vxid.lxid == transaction.localTransactionId ? process : nullptr;
#else
    PGPROC *process = transaction.backendId == InvalidBackendId ? nullptr : BackendIdGetProc(transaction.backendId);
    return process && process->lxid == transaction.localTransactionId ? process : nullptr;
#endif
}

// Its process; 0 where there is none.
inline int process_of(VirtualTransactionId transaction) {
    PGPROC *process = process_entry(transaction);
    return process ? process->pid : 0;
}

#if PG_VERSION_NUM >= 180000
#define PJ_EXECUTOR_RUN_ARGS QueryDesc *query, ScanDirection direction, uint64 count
#define PJ_EXECUTOR_RUN_PASS query, direction, count
#else
#define PJ_EXECUTOR_RUN_ARGS QueryDesc *query, ScanDirection direction, uint64 count, bool once
#define PJ_EXECUTOR_RUN_PASS query, direction, count, once
#endif

inline MinimalTuple form_minimal_tuple(TupleDesc desc, const Datum *values, const bool *nulls) {
#if PG_VERSION_NUM >= 180000
    return heap_form_minimal_tuple(desc, values, nulls, 0);
#else
    return heap_form_minimal_tuple(desc, const_cast<Datum *>(values), const_cast<bool *>(nulls));
#endif
}

// One of the server's own settings, for as long as the process lives; null where there is none of that name.
inline config_generic *find_setting(const char *name) {
#if PG_VERSION_NUM >= 160000
    return find_option(name, false, true, ERROR);
#else
    config_generic **all = get_guc_variables();
    for (int i = 0; i < GetNumConfigOptions(); i++)
        if (pg_strcasecmp(all[i]->name, name) == 0) return all[i];
    return nullptr;
#endif
}

} // namespace pg
