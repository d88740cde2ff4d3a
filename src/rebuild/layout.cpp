// Layout.
//
// A projection's definition yields its table's columns in their order, by number: that is how renamed columns are
// followed, and rows written without looking up names. Dropped columns would leave gaps. So what is not among the first
// columns any more is dropped, with its entry in pg_attribute: the rows that had the column go with the table's file.
#include "rebuild/layout.hpp"
#include "pg/scope.hpp"

namespace rebuild {

int kept_columns(Oid table, const compile::Block &block) {
    Relation opened = table_open(table, AccessShareLock);
    TupleDesc desc = RelationGetDescr(opened);
    int kept = 0;
    for (; kept < std::min(desc->natts, block.columns()); kept++) {
        Form_pg_attribute attribute = TupleDescAttr(desc, kept);
        TargetEntry *entry = block.column(kept);
        Node *expression = reinterpret_cast<Node *>(entry->expr);
        if (attribute->attisdropped || strcmp(NameStr(attribute->attname), entry->resname) != 0 ||
            attribute->atttypid != exprType(expression) || attribute->atttypmod != exprTypmod(expression) ||
            attribute->attcollation != exprCollation(expression))
            break;
    }
    table_close(opened, NoLock);
    return kept;
}

const char *dependents(Oid table, int kept, Oid key) {
    const char *query = psprintf(
        "SELECT pg_catalog.string_agg(DISTINCT pg_catalog.format('%%s uses column %%I', CASE WHEN d.classid = "
        "'pg_catalog.pg_rewrite'::regclass THEN 'view ' || (SELECT r.ev_class::regclass FROM pg_catalog.pg_rewrite AS "
        "r "
        "WHERE r.oid = d.objid) ELSE pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid) END, a.attname), "
        "E'\\n') "
        "FROM pg_catalog.pg_depend AS d JOIN pg_catalog.pg_attribute AS a ON a.attrelid = d.refobjid AND a.attnum = "
        "d.refobjsubid "
        "WHERE d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = %1$u AND d.refobjsubid > %2$d "
        "AND d.deptype IN ('n', 'a') "
        // The key's index, or a bag's, is ours; so is its primary key, where there is no such index; and NOT NULL, an
        // object of its own since version 18, goes with its column.
        "AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint AS n WHERE d.classid = "
        "'pg_catalog.pg_constraint'::regclass AND n.oid = d.objid AND "
        "(n.contype = 'n' OR n.contype = 'p' AND n.conindid = %3$u)) "
        "AND NOT EXISTS (SELECT FROM pg_catalog.pg_index AS i JOIN projections_internal.projection AS p ON p.relation "
        "= "
        "i.indrelid WHERE d.classid = 'pg_catalog.pg_class'::regclass AND i.indexrelid = d.objid AND NOT EXISTS "
        "(SELECT "
        "FROM pg_catalog.pg_constraint AS k WHERE k.conindid = i.indexrelid) AND (i.indnullsnotdistinct OR p.shape = "
        "'bag' AND pg_catalog.pg_get_indexdef(i.indexrelid) LIKE '%%hash_record_extended(%%'))",
        table, kept, key);
    pg::as_superuser([&] { pg::spi_execute(query); });
    return SPI_processed > 0 ? pg::Row().text(1) : nullptr;
}

List *column_details(Oid table, int kept, Oid next) {
    List *statements = NIL;
    MemoryContext outside = CurrentMemoryContext;
    pg::with_spi([&] {
        pg::spi_execute(psprintf(
            "SELECT s.statement FROM pg_catalog.pg_attribute AS a JOIN pg_catalog.pg_attribute AS b ON b.attrelid = "
            "%3$u AND b.attname = a.attname AND b.attnum > 0 AND NOT b.attisdropped, LATERAL ("
            "SELECT format('GRANT %%s (%%I) ON %%s TO %%s%%s', g.privilege_type, a.attname, %1$s, CASE g.grantee WHEN "
            "0 "
            "THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END, CASE WHEN g.is_grantable THEN ' WITH "
            "GRANT OPTION' ELSE '' END) FROM aclexplode(a.attacl) AS g "
            "UNION ALL SELECT format('COMMENT ON COLUMN %%s.%%I IS %%L', %1$s, a.attname, col_description(%2$u, "
            "a.attnum)) "
            "WHERE col_description(%2$u, a.attnum) IS NOT NULL "
            "UNION ALL SELECT format('ALTER TABLE %%s ALTER %%I SET STATISTICS %%s', %1$s, a.attname, a.attstattarget) "
            "WHERE a.attstattarget >= 0 "
            // Others are the server's own, such as pg_attver.
            "UNION ALL SELECT format('ALTER TABLE %%s ALTER %%I SET (%%s)', %1$s, a.attname, string_agg(o, ', ')) FROM "
            "unnest(a.attoptions) AS o WHERE o LIKE 'n\\_distinct%%' HAVING count(*) > 0) AS s(statement) "
            "WHERE a.attrelid = %2$u AND a.attnum > %4$d AND NOT a.attisdropped ORDER BY a.attnum",
            quote_literal_cstr(pg::qualified_name(table)), table, next, kept));
        for (uint64 i = 0; i < SPI_processed; i++) {
            char *statement = pg::Row(i).text(1, outside);
            pg::within(outside, [&] { statements = lappend(statements, statement); });
        }
    });
    return statements;
}

namespace {

// The entries of columns that have been dropped. Nothing refers to a dropped column; what stays of it is there for the
// sake of rows that have its value.
void remove_dropped(Oid table, int kept, int columns) {
    Relation attributes = table_open(AttributeRelationId, RowExclusiveLock);
    for (int i = kept + 1; i <= columns; i++) {
        HeapTuple tuple = SearchSysCacheCopy2(ATTNUM, ObjectIdGetDatum(table), Int16GetDatum(static_cast<int16>(i)));
        if (!HeapTupleIsValid(tuple) || !reinterpret_cast<Form_pg_attribute>(GETSTRUCT(tuple))->attisdropped)
            elog(ERROR, "column %d of relation %u has not been dropped", i, table);
        CatalogTupleDelete(attributes, &tuple->t_self);
    }
    table_close(attributes, RowExclusiveLock);
    Relation relations = table_open(RelationRelationId, RowExclusiveLock);
    HeapTuple tuple = SearchSysCacheCopy1(RELOID, ObjectIdGetDatum(table));
    reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple))->relnatts = static_cast<int16>(kept);
    CatalogTupleUpdate(relations, &tuple->t_self, tuple);
    table_close(relations, RowExclusiveLock);
    CacheInvalidateRelcacheByRelid(table);
    CommandCounterIncrement();
}

// A new column's domain may have a check, which is run.
void alter_as_owner(Oid table, List *commands) {
    pg::as_owner(pg::owner_of(table), [&] { AlterTableInternal(table, commands, false); });
}

AlterTableCmd *command(AlterTableType type) {
    AlterTableCmd *result = makeNode(AlterTableCmd);
    result->subtype = type;
    result->behavior = DROP_RESTRICT;
    return result;
}

} // namespace

void change_layout(Oid table, int kept, const compile::Block &block) {
    Relation opened = table_open(table, AccessExclusiveLock);
    int columns = RelationGetDescr(opened)->natts;
    List *drops = NIL;
    for (int i = kept; i < columns; i++) {
        Form_pg_attribute attribute = TupleDescAttr(RelationGetDescr(opened), i);
        if (attribute->attisdropped) continue;
        AlterTableCmd *drop = command(AT_DropColumn);
        drop->name = pstrdup(NameStr(attribute->attname));
        drops = lappend(drops, drop);
    }
    table_close(opened, NoLock);
    // Not by ALTER TABLE, which our event trigger would look at half-way.
    if (drops) alter_as_owner(table, drops);
    CommandCounterIncrement();
    if (kept < columns) remove_dropped(table, kept, columns);
    List *additions = NIL;
    for (int i = kept; i < block.columns(); i++) {
        Node *expression = reinterpret_cast<Node *>(block.column(i)->expr);
        AlterTableCmd *add = command(AT_AddColumn);
        add->def = reinterpret_cast<Node *>(makeColumnDef(block.column(i)->resname, exprType(expression),
                                                          exprTypmod(expression), exprCollation(expression)));
        additions = lappend(additions, add);
    }
    if (additions) alter_as_owner(table, additions);
    CommandCounterIncrement();
}

void set_not_null(Oid table, std::span<const AttrNumber> columns, bool not_null) {
    List *commands = NIL;
    for (AttrNumber column : columns) {
        if (!not_null && pg::forget_not_null(table, column)) continue;
        AlterTableCmd *change = command(not_null ? AT_SetNotNull : AT_DropNotNull);
        change->name = get_attname(table, column, false);
        commands = lappend(commands, change);
    }
    if (commands == NIL) return;
    LockRelationOid(table, AccessExclusiveLock);
    alter_as_owner(table, commands);
    CommandCounterIncrement();
}

namespace {
bool is_primary(Oid index) {
    Relation opened = index_open(index, AccessShareLock);
    bool primary = opened->rd_index->indisprimary;
    index_close(opened, NoLock);
    return primary;
}
} // namespace

Oid make_unbuilt_index(Oid table, Oid model, const char *name) {
    auto *raw = static_cast<RawStmt *>(linitial(raw_parser(pg_get_indexdef_string(model), RAW_PARSE_DEFAULT)));
    auto *statement = castNode(IndexStmt, raw->stmt);
    statement->primary = statement->isconstraint = is_primary(model);
    statement->idxname = name && statement->primary ? pstrdup(name) : nullptr;
    statement->relation = makeRangeVar(get_namespace_name(get_rel_namespace(table)), get_rel_name(table), -1);
    pg::as_owner(pg::owner_of(table), [&] { statement = transformIndexStmt(table, statement, ""); });
    Oid index = pg::define_unbuilt_index(table, statement);
    CommandCounterIncrement();
    return index;
}

} // namespace rebuild
