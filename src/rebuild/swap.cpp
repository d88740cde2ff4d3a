// Swap.
//
// PostgreSQL does the same at the end of CLUSTER and VACUUM FULL, but builds the indexes of the new heap under the
// lock. Here they were built before, one for each index of the live table, and change places with theirs. What refers
// to the table refers to its OID: views, grants, policies, triggers, constraints, publications, statistics targets.
#include "rebuild/swap.hpp"
#include "catalog/hidden.hpp"
#include "pg/index.hpp"
#include "pg/scope.hpp"

namespace rebuild {
namespace {

struct ClassRow {
    HeapTuple tuple;
    Form_pg_class form;
};

ClassRow class_row(Oid relation) {
    HeapTuple tuple = SearchSysCacheCopy1(RELOID, ObjectIdGetDatum(relation));
    if (!HeapTupleIsValid(tuple)) elog(ERROR, "cache lookup failed for relation %u", relation);
    return {tuple, reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple))};
}

// The relation's file is another one from here on: its pages in this session's caches are not.
void note_new_file(Oid relation) {
    Relation opened = relation_open(relation, NoLock);
    pg::assume_new_file(opened);
    relation_close(opened, NoLock);
}

// The TOAST table belongs to the heap whose values it holds.
void own_toast(Oid toast, Oid heap) {
    if (!OidIsValid(toast)) return;
    if (deleteDependencyRecordsFor(RelationRelationId, toast, false) != 1)
        elog(ERROR, "TOAST table %u has more than its owner", toast);
    ObjectAddress base{RelationRelationId, heap, 0}, dependent{RelationRelationId, toast, 0};
    recordDependencyOn(&dependent, &base, DEPENDENCY_INTERNAL);
}

// A TOAST table is named after its heap: under another's name it would be in the way of a later table with that OID.
void name_toast(Oid toast, const char *name) {
    if (!OidIsValid(toast)) return;
    Relation opened = table_open(toast, AccessExclusiveLock);
    Oid index = linitial_oid(RelationGetIndexList(opened));
    table_close(opened, NoLock);
    RenameRelationInternal(toast, name, true, false);
    RenameRelationInternal(index, psprintf("%s_index", name), true, true);
    CommandCounterIncrement();
}

void swap_files(Oid a, Oid b, bool heap) {
    ClassRow one = class_row(a), two = class_row(b);
    if (!OidIsValid(one.form->relfilenode) || !OidIsValid(two.form->relfilenode))
        elog(ERROR, "relations %u and %u cannot change places", a, b);
    std::swap(one.form->relfilenode, two.form->relfilenode);
    std::swap(one.form->reltablespace, two.form->reltablespace);
    std::swap(one.form->relpersistence, two.form->relpersistence);
    std::swap(one.form->relpages, two.form->relpages);
    std::swap(one.form->reltuples, two.form->reltuples);
    std::swap(one.form->relallvisible, two.form->relallvisible);
    if (heap) {
        std::swap(one.form->reltoastrelid, two.form->reltoastrelid);
        std::swap(one.form->relfrozenxid, two.form->relfrozenxid);
        std::swap(one.form->relminmxid, two.form->relminmxid);
    }
    note_new_file(a);
    note_new_file(b);
    Relation catalog = table_open(RelationRelationId, RowExclusiveLock);
    CatalogTupleUpdate(catalog, &one.tuple->t_self, one.tuple);
    CatalogTupleUpdate(catalog, &two.tuple->t_self, two.tuple);
    table_close(catalog, RowExclusiveLock);
    CacheInvalidateRelcacheByTuple(one.tuple);
    CacheInvalidateRelcacheByTuple(two.tuple);
    if (heap && (OidIsValid(one.form->reltoastrelid) || OidIsValid(two.form->reltoastrelid))) {
        own_toast(one.form->reltoastrelid, a);
        own_toast(two.form->reltoastrelid, b);
        CommandCounterIncrement();
        name_toast(two.form->reltoastrelid, psprintf("pg_toast_%u_%u", b, a));
        name_toast(one.form->reltoastrelid, psprintf("pg_toast_%u", a));
        name_toast(two.form->reltoastrelid, psprintf("pg_toast_%u", b));
    }
    CommandCounterIncrement();
    pg::forget_file(a);
    pg::forget_file(b);
}

// CREATE INDEX as the live table's, on the shadow.
void copy_index(Oid index, Oid shadow) {
    auto *raw = static_cast<RawStmt *>(linitial(raw_parser(pg_get_indexdef_string(index), RAW_PARSE_DEFAULT)));
    auto *statement = castNode(IndexStmt, raw->stmt);
    statement->idxname = pstrdup(counterpart_name(index, shadow));
    statement->relation = makeRangeVar(get_namespace_name(get_rel_namespace(shadow)), get_rel_name(shadow), -1);
    // DefineIndex is the owner only when it has been analyzed.
    pg::as_owner(pg::owner_of(shadow), [&] { statement = transformIndexStmt(shadow, statement, ""); });
    PlannedStmt *planned = makeNode(PlannedStmt);
    planned->commandType = CMD_UTILITY;
    planned->utilityStmt = reinterpret_cast<Node *>(statement);
    planned->stmt_location = -1;
    ProcessUtility(planned, "CREATE INDEX", false, PROCESS_UTILITY_QUERY, nullptr, nullptr, None_Receiver, nullptr);
    CommandCounterIncrement();
}

} // namespace

// Whether it is over the hash of whole rows. Its expression is looked at as it is stored: to plan it would run
// functions of the user's, whose index it may be.
static bool hashes_rows(Relation index) {
    bool null;
    Datum stored = SysCacheGetAttr(INDEXRELID, index->rd_indextuple, Anum_pg_index_indexprs, &null);
    if (null) return false;
    auto *expressions = static_cast<List *>(stringToNode(TextDatumGetCString(stored)));
    auto *hash = static_cast<FuncExpr *>(linitial(expressions));
    return list_length(expressions) == 1 && IsA(hash, FuncExpr) && hash->funcid == F_HASH_RECORD_EXTENDED;
}

// An index of a shadow says by its name which index it is made for: indexes come and go while a rebuild runs.
const char *counterpart_name(Oid index, Oid shadow) { return psprintf("rebuild_%u_%u", shadow, index); }

// A primary key over the key is the user's where there is another such index, as version 0.2.0 made it.
pg::vector<Oid> identity_indexes(catalog::Projection &projection) {
    const compile::Block &block = projection.block();
    pg::vector<Oid> found;
    Oid primary = InvalidOid;
    Relation table = table_open(projection.relation, AccessShareLock);
    ListCell *cell;
    foreach (cell, RelationGetIndexList(table)) {
        Relation index = index_open(lfirst_oid(cell), AccessShareLock);
        Form_pg_index form = index->rd_index;
        bool plain = heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, nullptr) &&
                     !OidIsValid(get_index_constraint(lfirst_oid(cell)));
        bool key = !block.row_key.empty() && form->indisunique && (form->indnullsnotdistinct || form->indisprimary) &&
                   form->indnatts == static_cast<int>(block.row_key.size());
        for (int i = 0; key && i < form->indnatts; i++)
            key = std::any_of(block.row_key.begin(), block.row_key.end(),
                              [&](const compile::Key &each) { return each.column + 1 == form->indkey.values[i]; });
        bool hash = block.counts_equal_rows() && hashes_rows(index) &&
                    form->indnatts == static_cast<int>(block.keys.size()) + 1;
        if (plain && (key || hash)) found.push_back(lfirst_oid(cell));
        if (key && form->indisprimary) primary = lfirst_oid(cell);
        index_close(index, AccessShareLock);
    }
    table_close(table, NoLock);
    if (found.empty() && OidIsValid(primary)) found.push_back(primary);
    return found;
}

pg::vector<IndexPair> index_pairs(Oid table, Oid shadow, const pg::vector<Oid> &without) {
    pg::vector<IndexPair> pairs = pair_indexes(table, [&](Oid index) {
        return get_relname_relid(counterpart_name(index, shadow), get_rel_namespace(shadow));
    });
    auto left_out = [&](const IndexPair &pair) {
        return std::find(without.begin(), without.end(), pair.index) != without.end();
    };
    pairs.erase(std::remove_if(pairs.begin(), pairs.end(), left_out), pairs.end());
    return pairs;
}

int copy_indexes(Oid table, Oid shadow, const pg::vector<Oid> &without) {
    int made = 0;
    for (const IndexPair &pair : index_pairs(table, shadow, without))
        if (!OidIsValid(pair.shadow)) copy_index(pair.index, shadow), made++;
    return made;
}

Oid make_twin(Oid table, const char *name) {
    Relation opened = table_open(table, AccessShareLock);
    Oid space = opened->rd_rel->reltablespace, method = opened->rd_rel->relam;
    char persistence = opened->rd_rel->relpersistence;
    table_close(opened, NoLock);
    Oid twin = make_new_heap(table, space, method, persistence, AccessShareLock);
    pg::spi_execute(psprintf("ALTER TABLE %s RENAME TO %s", pg::qualified_name(twin), quote_identifier(name)));
    pg::spi_execute(psprintf("ALTER TABLE %s SET SCHEMA projections_internal", pg::qualified_name(twin)));
    CommandCounterIncrement();
    catalog::mark_hidden(psprintf("TABLE %s", pg::qualified_name(twin)), "shadow", pg::qualified_name(table));
    return twin;
}

bool same_layout(Oid a, Oid b, Names names) {
    Relation one = table_open(a, NoLock), two = table_open(b, NoLock);
    TupleDesc first = RelationGetDescr(one), second = RelationGetDescr(two);
    bool same = first->natts == second->natts && one->rd_rel->relam == two->rd_rel->relam;
    for (int i = 0; same && i < first->natts; i++) {
        Form_pg_attribute x = TupleDescAttr(first, i), y = TupleDescAttr(second, i);
        same = x->attisdropped == y->attisdropped &&
               (x->attisdropped ||
                (x->atttypid == y->atttypid && x->atttypmod == y->atttypmod &&
                 (names == Names::may_differ || strcmp(NameStr(x->attname), NameStr(y->attname)) == 0)));
    }
    table_close(one, NoLock);
    table_close(two, NoLock);
    return same;
}

// Nobody has looked for NULLs among the shadow's rows where the live column has become NOT NULL meanwhile.
static void refuse_unlooked(Oid table, Oid shadow) {
    Relation opened = table_open(table, NoLock);
    int columns = RelationGetDescr(opened)->natts;
    table_close(opened, NoLock);
    for (int i = 1; i <= columns; i++) {
        auto column = static_cast<AttrNumber>(i);
        if (!pg::is_not_null(table, column) || pg::is_not_null(shadow, column)) continue;
        ereport(ERROR, (errcode(ERRCODE_OBJECT_IN_USE),
                        errmsg("%s cannot be exchanged for what was rebuilt", pg::qualified_name(table)),
                        errdetail("Column \"%s\" has become NOT NULL meanwhile.", get_attname(table, column, false)),
                        errhint("Rebuild it again.")));
    }
}

void swap_storage(Oid table, Oid shadow) {
    // Whatever has become of the shadow, which is a user's table, meanwhile.
    if (!same_layout(table, shadow, Names::may_differ))
        elog(ERROR, "columns of relations %u and %u are not the same", table, shadow);
    refuse_unlooked(table, shadow);
    pg::vector<IndexPair> pairs = index_pairs(table, shadow);
    for (const IndexPair &pair : pairs)
        if (!OidIsValid(pair.shadow)) elog(ERROR, "index %u has no counterpart", pair.index);
    swap_files(table, shadow, true);
    for (const IndexPair &pair : pairs) {
        LockRelationOid(pair.index, AccessExclusiveLock);
        LockRelationOid(pair.shadow, AccessExclusiveLock);
        swap_files(pair.index, pair.shadow, false);
    }
}

} // namespace rebuild
