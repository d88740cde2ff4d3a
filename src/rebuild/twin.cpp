// Twin.
//
// What a handler writes has to behave as the live table does: ON CONFLICT needs the unique indexes, an INSERT the
// defaults, an event that a CHECK refuses must be refused again. CREATE TABLE … LIKE leaves out dropped columns, with
// which the files would not fit, and names constraints anew, which ON CONFLICT ON CONSTRAINT may name; so the table is
// spelled out, as pg_dump does it. It is made as its owner: a CHECK is planned, and with it functions of the owner's
// are called.
#include "rebuild/twin.hpp"

#include "declare/hidden_ddl.hpp"
#include "pg/scope.hpp"

namespace rebuild {
namespace {

// The rows of a query of one column, copied out of SPI.
pg::vector<const char *> texts(const char *query) {
    pg::spi_execute(query);
    pg::vector<const char *> found;
    for (uint64 i = 0; i < SPI_processed; i++) found.push_back(pg::Row(i).text(1));
    return found;
}

void execute_each(const pg::vector<const char *> &statements) {
    for (const char *each : statements) {
        pg::spi_execute(each);
        CommandCounterIncrement();
    }
}

void run_utility(Node *statement, const char *text) {
    PlannedStmt *planned = makeNode(PlannedStmt);
    planned->commandType = CMD_UTILITY;
    planned->utilityStmt = statement;
    planned->stmt_location = -1;
    ProcessUtility(planned, text, false, PROCESS_UTILITY_QUERY, nullptr, nullptr, None_Receiver, nullptr);
    CommandCounterIncrement();
}

Node *parse_one(const char *text) {
    return static_cast<RawStmt *>(linitial(raw_parser(text, RAW_PARSE_DEFAULT)))->stmt;
}

void refuse_unusual(Oid table) {
    pg::vector<const char *> why = texts(psprintf(
        "SELECT CASE WHEN c.relkind <> 'r' THEN 'it is partitioned' WHEN c.relpersistence = 't' THEN 'it is temporary' "
        "WHEN EXISTS (SELECT FROM pg_inherits AS i WHERE c.oid IN (i.inhrelid, i.inhparent)) THEN 'it is part of an "
        "inheritance tree' WHEN c.reloftype <> 0 THEN 'it is a typed table' END FROM pg_class AS c WHERE c.oid = %u",
        table));
    if (why.empty() || why.front() == nullptr) return;
    ereport(ERROR,
            (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
             errmsg("no shadow of table %s can be made: %s", pg::qualified_name(table), why.front()),
             errdetail("A replay applies events to tables beside those that the handler writes."),
             errhint("Use an ordinary table; or projections.reset(), which empties the tables and starts over.")));
}

// "name type …, …" of all columns, dropped ones too, which keep the numbers of the others.
constexpr const char *columns_query =
    "SELECT string_agg(CASE WHEN a.attisdropped THEN format('%%I int4', a.attname) ELSE "
    "format('%%I %%s', a.attname, format_type(a.atttypid, a.atttypmod)) "
    "|| CASE WHEN a.attcollation <> t.typcollation THEN (SELECT format(' COLLATE %%I.%%I', n.nspname, l.collname) FROM "
    "pg_collation AS l JOIN pg_namespace AS n ON n.oid = l.collnamespace WHERE l.oid = a.attcollation) ELSE '' END "
    "|| CASE WHEN a.attidentity <> '' THEN format(' GENERATED %%s AS IDENTITY (SEQUENCE NAME %%s.%%I START %%s "
    "INCREMENT %%s MINVALUE %%s MAXVALUE %%s CACHE %%s%%s)', CASE a.attidentity WHEN 'a' THEN 'ALWAYS' ELSE 'BY "
    "DEFAULT' END, %2$s, s.relname, q.seqstart, q.seqincrement, q.seqmin, q.seqmax, q.seqcache, CASE WHEN q.seqcycle "
    "THEN ' CYCLE' ELSE '' END) "
    "WHEN a.attgenerated <> '' THEN format(' GENERATED ALWAYS AS (%%s) %%s', pg_get_expr(d.adbin, d.adrelid), CASE "
    "a.attgenerated WHEN 's' THEN 'STORED' ELSE 'VIRTUAL' END) "
    "WHEN d.adbin IS NOT NULL THEN ' DEFAULT ' || pg_get_expr(d.adbin, d.adrelid) ELSE '' END "
    "|| CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END END, ', ' ORDER BY a.attnum) "
    "FROM pg_attribute AS a LEFT JOIN pg_type AS t ON t.oid = a.atttypid "
    "LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum "
    "LEFT JOIN pg_depend AS o ON o.classid = 'pg_class'::regclass AND o.refclassid = 'pg_class'::regclass AND "
    "o.refobjid = a.attrelid AND o.refobjsubid = a.attnum AND o.deptype = 'i' AND a.attidentity <> '' "
    "LEFT JOIN pg_class AS s ON s.oid = o.objid LEFT JOIN pg_sequence AS q ON q.seqrelid = s.oid "
    "WHERE a.attrelid = %1$u AND a.attnum > 0";

const char *create_table(Oid table, const char *twin, const char *schema) {
    const char *columns = texts(psprintf(columns_query, table, quote_literal_cstr(schema))).front();
    return texts(psprintf("SELECT format('CREATE %%s TABLE %%s (%%s) USING %%I %%s %%s', CASE c.relpersistence WHEN "
                          "'u' THEN 'UNLOGGED' ELSE '' END, %s, %s, m.amname, (SELECT 'WITH (' || "
                          "string_agg(format('%%s = %%L', split_part(o, '=', 1), substr(o, strpos(o, '=') + 1)), ', ') "
                          "|| ')' FROM unnest(c.reloptions) AS o), 'TABLESPACE ' || quote_ident(s.spcname)) FROM "
                          "pg_class AS c JOIN pg_am AS m ON m.oid = c.relam LEFT JOIN pg_tablespace AS s ON s.oid = "
                          "c.reltablespace WHERE c.oid = %u",
                          quote_literal_cstr(twin), quote_literal_cstr(columns), table))
        .front();
}

// What CREATE TABLE does not say.
pg::vector<const char *> column_details(Oid table, const char *twin) {
    return texts(psprintf(
        "SELECT format('ALTER TABLE %%s %%s', %1$s, x.what) FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = "
        "a.attrelid LEFT JOIN pg_type AS t ON t.oid = a.atttypid, LATERAL (VALUES "
        "(1, CASE WHEN a.attisdropped THEN format('DROP COLUMN %%I', a.attname) END), "
        "(2, CASE WHEN NOT a.attisdropped AND a.attstorage <> t.typstorage THEN format('ALTER %%I SET STORAGE %%s', "
        "a.attname, CASE a.attstorage WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL' WHEN 'x' THEN 'EXTENDED' ELSE "
        "'MAIN' END) END), "
        "(3, CASE WHEN NOT a.attisdropped AND a.attcompression <> '' THEN format('ALTER %%I SET COMPRESSION %%s', "
        "a.attname, CASE a.attcompression WHEN 'p' THEN 'pglz' ELSE 'lz4' END) END)) AS x(n, what) "
        "WHERE a.attrelid = %2$u AND a.attnum > 0 AND x.what IS NOT NULL ORDER BY a.attnum, x.n",
        quote_literal_cstr(twin), table));
}

// A sequence that a default draws from and that belongs to the column: the twin must not draw from it.
pg::vector<const char *> own_sequences(Oid table, const char *twin, const char *schema) {
    return texts(psprintf(
        "SELECT x.statement FROM pg_depend AS o JOIN pg_class AS s ON s.oid = o.objid AND s.relkind = 'S' JOIN "
        "pg_sequence AS q ON q.seqrelid = s.oid JOIN pg_attribute AS a ON a.attrelid = o.refobjid AND a.attnum = "
        "o.refobjsubid JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum, LATERAL (VALUES "
        "(1, format('CREATE SEQUENCE %%s.%%I AS %%s START %%s INCREMENT %%s MINVALUE %%s MAXVALUE %%s CACHE %%s %%s "
        "OWNED BY %%s.%%I', %1$s, s.relname, format_type(q.seqtypid, NULL), q.seqstart, q.seqincrement, q.seqmin, "
        "q.seqmax, q.seqcache, CASE WHEN q.seqcycle THEN 'CYCLE' ELSE 'NO CYCLE' END, %2$s, a.attname)), "
        "(2, format('ALTER TABLE %%s ALTER %%I SET DEFAULT nextval(%%L)', %2$s, a.attname, format('%%s.%%I', %1$s, "
        "s.relname)))) AS x(n, statement) "
        "WHERE o.classid = 'pg_class'::regclass AND o.refclassid = 'pg_class'::regclass AND o.refobjid = %3$u AND "
        "o.deptype = 'a' AND pg_get_expr(d.adbin, d.adrelid) = format('nextval(%%L::regclass)', o.objid::regclass) "
        "ORDER BY s.oid, x.n",
        quote_literal_cstr(schema), quote_literal_cstr(twin), table));
}

pg::vector<const char *> checks(Oid table, const char *twin) {
    return texts(
        psprintf("SELECT format('ALTER TABLE %%s ADD CONSTRAINT %%I %%s', %s, conname, "
                 "pg_get_constraintdef(oid)) FROM pg_constraint WHERE conrelid = %u AND contype = 'c' ORDER BY "
                 "conname",
                 quote_literal_cstr(twin), table));
}

constexpr const char *missing =
    "NOT EXISTS (SELECT FROM pg_class AS n WHERE n.relname = x.relname AND n.relnamespace = "
    "%s::regnamespace)";

// Those that an index serves.
pg::vector<const char *> index_constraints(Oid table, const char *schema) {
    return texts(psprintf(
        "SELECT format('ALTER TABLE %%s ADD CONSTRAINT %%I %%s', %s, k.conname, pg_get_constraintdef(k.oid)) FROM "
        "pg_constraint AS k JOIN pg_class AS x ON x.oid = k.conindid WHERE k.conrelid = %u AND k.contype IN ('p', 'u', "
        "'x') AND %s ORDER BY k.contype, k.conname",
        quote_literal_cstr(quote_qualified_identifier(schema, get_rel_name(table))), table,
        psprintf(missing, quote_literal_cstr(quote_identifier(schema)))));
}

void copy_plain_indexes(Oid table, const char *schema) {
    pg::vector<const char *> plain = texts(
        psprintf("SELECT i.indexrelid::oid::text FROM pg_index AS i JOIN pg_class AS x ON x.oid = i.indexrelid WHERE "
                 "i.indrelid = %u AND i.indislive AND %s AND NOT EXISTS (SELECT FROM pg_constraint AS k WHERE "
                 "k.conindid = i.indexrelid AND k.conrelid = i.indrelid AND k.contype IN ('p', 'u', 'x')) ORDER BY 1",
                 table, psprintf(missing, quote_literal_cstr(quote_identifier(schema)))));
    for (const char *each : plain) {
        auto index = static_cast<Oid>(strtoul(each, nullptr, 10));
        auto *statement = castNode(IndexStmt, parse_one(pg_get_indexdef_string(index)));
        statement->idxname = get_rel_name(index);
        statement->relation = makeRangeVar(pstrdup(schema), get_rel_name(table), -1);
        run_utility(reinterpret_cast<Node *>(statement), "CREATE INDEX");
    }
}

// Rights, and what identifies rows to publications: else an UPDATE that works on the table would not on its twin.
pg::vector<const char *> grants(Oid table, const char *twin) {
    return texts(psprintf(
        "SELECT format('GRANT %%s ON %%s TO %%s', g.privilege_type, %1$s, CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE "
        "quote_ident(pg_get_userbyid(g.grantee)) END) FROM pg_class AS c, aclexplode(c.relacl) AS g WHERE c.oid = %2$u "
        "AND g.grantee <> c.relowner "
        "UNION ALL SELECT format('ALTER TABLE %%s REPLICA IDENTITY %%s', %1$s, CASE c.relreplident WHEN 'f' THEN "
        "'FULL' "
        "WHEN 'n' THEN 'NOTHING' ELSE (SELECT format('USING INDEX %%I', x.relname) FROM pg_index AS i JOIN pg_class AS "
        "x ON x.oid = i.indexrelid WHERE i.indrelid = c.oid AND i.indisreplident) END) FROM pg_class AS c WHERE c.oid "
        "= %2$u AND c.relreplident <> 'd'",
        quote_literal_cstr(twin), table));
}

// Publications FOR ALL TABLES pass over a table that is the rewritten form of another.
void mark_as_rewrite(Oid twin, Oid table) {
    Relation catalog = table_open(RelationRelationId, RowExclusiveLock);
    HeapTuple tuple = SearchSysCacheCopy1(RELOID, ObjectIdGetDatum(twin));
    if (!HeapTupleIsValid(tuple)) elog(ERROR, "cache lookup failed for relation %u", twin);
    reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple))->relrewrite = table;
    CatalogTupleUpdate(catalog, &tuple->t_self, tuple);
    table_close(catalog, RowExclusiveLock);
    CommandCounterIncrement();
}

} // namespace

Oid make_writable_twin(Oid table, const char *schema) {
    refuse_unusual(table);
    const char *twin = quote_qualified_identifier(schema, get_rel_name(table));
    const char *quoted = quote_identifier(schema);
    pg::as_owner(pg::owner_of(table), [&] {
        pg::spi_execute(create_table(table, twin, quoted));
        CommandCounterIncrement();
        execute_each(column_details(table, twin));
        execute_each(own_sequences(table, twin, quoted));
        execute_each(checks(table, twin));
    });
    complete_indexes(table, schema);
    pg::as_owner(pg::owner_of(table), [&] { declare::own_ddl([&] { execute_each(grants(table, twin)); }); });
    Oid made = get_relname_relid(get_rel_name(table), get_namespace_oid(schema, false));
    mark_as_rewrite(made, table);
    return made;
}

pg::vector<IndexPair> pairs_by_name(Oid table, Oid twin) {
    return pair_indexes(table,
                        [&](Oid index) { return get_relname_relid(get_rel_name(index), get_rel_namespace(twin)); });
}

void complete_indexes(Oid table, const char *schema) {
    pg::as_owner(pg::owner_of(table), [&] {
        declare::own_ddl([&] {
            execute_each(index_constraints(table, schema));
            copy_plain_indexes(table, schema);
        });
    });
}

void copy_foreign_keys(Oid table, const pg::vector<Oid> &tables, const char *schema) {
    for (Oid other : tables) {
        pg::vector<const char *> keys = texts(
            psprintf("SELECT format('ALTER TABLE %%s ADD CONSTRAINT %%I %%s', %s, conname, pg_get_constraintdef(oid)) "
                     "FROM pg_constraint WHERE conrelid = %u AND confrelid = %u AND contype = 'f' ORDER BY conname",
                     quote_literal_cstr(quote_qualified_identifier(schema, get_rel_name(table))), table, other));
        for (const char *text : keys) {
            auto *statement = castNode(AlterTableStmt, parse_one(text));
            auto *key = castNode(Constraint, castNode(AlterTableCmd, linitial(statement->cmds))->def);
            key->pktable->schemaname = pstrdup(schema);
            pg::as_owner(pg::owner_of(table), [&] { run_utility(reinterpret_cast<Node *>(statement), text); });
        }
    }
}

void name_for_swap(Oid table, Oid twin) {
    for (const IndexPair &pair : pairs_by_name(table, twin)) {
        if (!OidIsValid(pair.shadow)) continue;
        RenameRelationInternal(pair.shadow, counterpart_name(pair.index, twin), false, true);
        CommandCounterIncrement();
    }
}

void advance_sequences(Oid table, Oid twin) {
    pg::vector<const char *> moves = texts(psprintf(
        "SELECT format('SELECT setval(%%L, n.last_value, n.is_called) FROM %%s AS n, %%s AS o WHERE (n.last_value, "
        "n.is_called) %%s (o.last_value, o.is_called)', l.objid::regclass, t.objid::regclass, l.objid::regclass, CASE "
        "WHEN q.seqincrement > 0 THEN '>' ELSE '<' END) FROM pg_depend AS l JOIN pg_class AS s ON s.oid = l.objid AND "
        "s.relkind = 'S' JOIN pg_sequence AS q ON q.seqrelid = l.objid JOIN pg_depend AS t ON t.classid = l.classid "
        "AND t.refclassid = l.refclassid AND t.deptype = l.deptype AND t.refobjid = %2$u AND t.refobjsubid = "
        "l.refobjsubid JOIN pg_class AS u ON u.oid = t.objid AND u.relname = s.relname WHERE l.classid = "
        "'pg_class'::regclass AND l.refclassid = 'pg_class'::regclass AND l.refobjid = %1$u AND l.deptype IN ('a', "
        "'i')",
        table, twin));
    execute_each(moves);
}

} // namespace rebuild
