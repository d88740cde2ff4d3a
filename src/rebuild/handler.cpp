// Handler.
//
// Only the function knows what it writes. So it is called again for all events, with a schema before the others in its
// search_path that holds a twin of each of its tables, and is stopped where it reaches past them
// (events/confinement.cpp). What belongs to the tables and is not part of what may be written to them does not happen
// in a replay: users' triggers do not fire, policies do not filter.
//
// In the end all tables change at once: their files, or by one statement, after which core checks foreign keys.
#include "rebuild/handler.hpp"

#include "catalog/hidden.hpp"
#include "declare/declare.hpp"
#include "maintain/flush.hpp"
#include "maintain/maintaining.hpp"
#include "pg/list.hpp"
#include "rebuild/shadow.hpp"
#include "rebuild/twin.hpp"
#include "rights/caller.hpp"

namespace rebuild {

using catalog::Kind;
using catalog::Projection;

namespace {

pg::vector<Oid> oids(const char *query) {
    pg::vector<Oid> found;
    pg::as_superuser([&] {
        pg::with_spi([&] {
            pg::spi_execute(query);
            found = pg::oids();
        });
    });
    return found;
}

const char *role_name(Oid role) { return quote_identifier(GetUserNameFromId(role, false)); }

Oid table_owner(Oid table) {
    return oids(psprintf("SELECT relowner FROM pg_catalog.pg_class WHERE oid = %u", table)).front();
}

// ------------------------------------------------------------------------------------------------------------- making

const char *free_schema(Oid projection, const char *suffix) {
    const char *base = psprintf("projections_%s_%u", suffix, projection), *name = base;
    for (int i = 2; OidIsValid(get_namespace_oid(name, true)); i++) name = psprintf("%s_%d", base, i);
    return name;
}

// Runs `body` while the tables' owners may create in the schema. Nobody can see that they may, as the right is taken
// back before the transaction ends.
template <class Body>
void with_create(const char *schema, const pg::vector<Oid> &tables, Body &&body) {
    const char *name = quote_identifier(schema);
    for (Oid table : tables)
        pg::spi_execute(psprintf("GRANT USAGE, CREATE ON SCHEMA %s TO %s", name, role_name(table_owner(table))));
    CommandCounterIncrement();
    body();
    for (Oid table : tables)
        pg::spi_execute(psprintf("REVOKE CREATE ON SCHEMA %s FROM %s", name, role_name(table_owner(table))));
    CommandCounterIncrement();
}

template <class Body>
void with_schema(const char *schema, const pg::vector<Oid> &tables, Body &&body) {
    pg::spi_execute(psprintf("CREATE SCHEMA %s", quote_identifier(schema)));
    CommandCounterIncrement();
    with_create(schema, tables, body);
}

void check_function(Projection &projection) {
    const char *text = ask_text(
        psprintf("SELECT function FROM projections_internal.projection WHERE relation = %u", projection.relation));
    Oid function = DatumGetObjectId(DirectFunctionCall1(regprocedurein, CStringGetDatum(text)));
    declare::refuse_bound_handler(function);
}

void check_tables(Projection &projection, const pg::vector<Oid> &tables) {
    for (std::size_t i = 0; i < tables.size(); i++) {
        for (std::size_t j = 0; j < i; j++)
            if (strcmp(get_rel_name(tables[i]), get_rel_name(tables[j])) == 0)
                ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                                errmsg("tables %s and %s cannot be told apart by an unqualified name",
                                       pg::qualified_name(tables[j]), pg::qualified_name(tables[i])),
                                errdetail("A replay points the handler at other tables of the same names."),
                                errhint("Rename one of them; or projections.reset().")));
        if (check_enable_rls(tables[i], projection.owner(), true) == RLS_ENABLED)
            ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                            errmsg("row-level security of table %s applies to the handler's owner",
                                   pg::qualified_name(tables[i])),
                            errdetail("A replay could not tell which rows the handler would have seen."),
                            errhint("Let a role that sees every row own the projection.")));
    }
}

Oid make_view(Projection &projection, Oid definition, const char *suffix) {
    const char *name = declare::hidden_name(get_rel_name(projection.relation), suffix);
    const char *view = quote_qualified_identifier(pg::own_schema(), name);
    pg::spi_execute(
        psprintf("CREATE VIEW %s AS SELECT s.slot, s.position FROM %s", view, catalog::checkpoints_of(definition)));
    pg::spi_execute(psprintf("ALTER VIEW %s OWNER TO %s", view, role_name(projection.owner())));
    catalog::mark_hidden(psprintf("VIEW %s", view), "shadow", projection.name());
    CommandCounterIncrement();
    return get_relname_relid(name, pg::own_schema_oid());
}

const char *settings_with(Projection &projection, const char *schema) {
    // As pinned: pg_catalog, what was the search_path, pg_temp.
    const char *path = projection.settings[0], *first = "pg_catalog";
    const char *rest = strncmp(path, first, strlen(first)) == 0 ? path + strlen(first) : nullptr;
    if (rest == nullptr) elog(ERROR, "search_path of projection %s is not pinned: %s", projection.name(), path);
    return psprintf("%s, %s%s", first, quote_identifier(schema), rest);
}

// ------------------------------------------------------------------------------------------------------------
// finishing

const char *list(const pg::vector<Oid> &tables) { return pg::oid_array({tables.data(), tables.size()}); }

// Why the rows must be changed one by one, or null.
const char *who_follows(const pg::vector<Oid> &tables) {
    const char *follower = ask_text(psprintf(
        "SELECT x.why FROM (VALUES (%s)) AS t(tables) JOIN pg_class AS c ON c.oid = ANY (t.tables), LATERAL ("
        "SELECT 1, format('%%s is published', projections_internal._name(c.oid::regclass)) WHERE "
        "EXISTS (SELECT FROM pg_publication WHERE puballtables) "
        "OR EXISTS (SELECT FROM pg_publication_rel WHERE prrelid = c.oid) "
        "OR EXISTS (SELECT FROM pg_publication_namespace WHERE pnnspid = c.relnamespace) "
        "UNION ALL SELECT 2, format('foreign keys of %%s refer to %%s', "
        "projections_internal._name(k.conrelid::regclass), projections_internal._name(k.confrelid::regclass)) "
        "FROM pg_constraint AS k WHERE k.contype = 'f' AND c.oid IN (k.conrelid, k.confrelid) "
        "AND NOT ARRAY[k.conrelid, k.confrelid] <@ t.tables "
        "UNION ALL SELECT 3, format('other projections read %%s', projections_internal._name(c.oid::regclass)) WHERE "
        "EXISTS (SELECT FROM projections_internal.projection AS p WHERE c.oid = ANY (p.sources::oid[]) AND p.shadow_of "
        "IS NULL) OR EXISTS (SELECT FROM projections_internal.source AS s WHERE s.relation = c.oid)"
        ") AS x(n, why) ORDER BY x.n, x.why LIMIT 1",
        list(tables)));
    return follower ? follower : who_decodes();
}

void require_keys(const pg::vector<Oid> &tables, const char *because) {
    pg::vector<Oid> without = oids(psprintf("SELECT t FROM pg_catalog.unnest(%s) AS t WHERE NOT EXISTS (SELECT FROM "
                                            "pg_catalog.pg_index WHERE indrelid = t AND indisprimary) LIMIT 1",
                                            list(tables)));
    if (without.empty()) return;
    const char *name = pg::qualified_name(without.front());
    ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                    errmsg("rows of %s cannot be merged: it has no primary key", name),
                    errdetail("The tables are to be changed row by row: %s.", because),
                    errhint("ALTER TABLE %s ADD PRIMARY KEY (…); then rebuild.", name)));
}

// Columns were added, dropped, or became of another type meanwhile.
void check_layout(const TablePair &pair) {
    if (!same_layout(pair.table, pair.shadow, Names::same))
        ereport(ERROR,
                (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                 errmsg("columns of %s were changed meanwhile", pg::qualified_name(pair.table)),
                 errdetail("The shadow has those that it had when the rebuild began."), errhint("Rebuild it again.")));
}

} // namespace

const char *key_condition(Oid table) {
    return ask_text(psprintf(
        "SELECT string_agg(format('t.%%1$I OPERATOR(%%2$I.%%3$s) s.%%1$I', a.attname, n.nspname, o.oprname), ' AND ' "
        "ORDER BY k.n) FROM pg_index AS i, unnest(i.indkey::int2[], i.indclass::oid[]) WITH ORDINALITY AS k(attnum, "
        "class, n) JOIN pg_opclass AS c ON c.oid = k.class JOIN pg_amop AS m ON m.amopfamily = c.opcfamily AND "
        "m.amoplefttype = c.opcintype AND m.amoprighttype = c.opcintype AND m.amopstrategy = 3 JOIN pg_operator AS o "
        "ON o.oid = m.amopopr JOIN pg_namespace AS n ON n.oid = o.oprnamespace JOIN pg_attribute AS a ON a.attnum = "
        "k.attnum WHERE i.indrelid = %1$u AND i.indisprimary AND a.attrelid = %1$u AND k.n <= i.indnkeyatts",
        table));
}

bool changes_by_insert(Oid table) {
    return ask(psprintf(
               "SELECT (EXISTS (SELECT FROM pg_index WHERE indrelid = %1$u AND (indisunique OR indisexclusion) "
               "AND NOT indisprimary) AND NOT EXISTS (SELECT FROM pg_constraint WHERE contype = 'f' AND "
               "confrelid = %1$u AND confdeltype <> 'a'))::int::bigint",
               table)) != 0;
}

void MergeStatement::add(const char *statement, const char *condition) {
    appendStringInfo(&text, "%s d%d AS (%s WHERE %s%s RETURNING 1)", number ? "," : "WITH", number, statement,
                     condition, before.data);
    appendStringInfo(&before, " AND (SELECT count(*) FROM d%d) >= 0", number++);
}

const char *MergeStatement::end() {
    for (int i = 0; i < number; i++) appendStringInfo(&text, "%s(SELECT count(*) FROM d%d)", i ? " + " : " SELECT ", i);
    return text.data;
}

namespace {

// The columns that an INSERT or UPDATE may name.
const char *columns(Oid table, const char *format, bool updates) {
    return ask_text(psprintf("SELECT string_agg(format(%s, attname), ', ' ORDER BY attnum) FROM pg_attribute WHERE "
                             "attrelid = %u AND attnum > 0 AND NOT attisdropped AND attgenerated = ''%s",
                             quote_literal_cstr(format), table, updates ? " AND attidentity <> 'a'" : ""));
}

const char *merge_text(const pg::vector<TablePair> &all) {
    MergeStatement merge;
    auto table = [](const TablePair &each) { return pg::qualified_name(each.table); };
    auto shadow = [](const TablePair &each) { return pg::qualified_name(each.shadow); };
    // Of a row that stays as it is.
    auto same = [](const TablePair &each) {
        const char *equal = changes_by_insert(each.table) ? " AND t.* OPERATOR(pg_catalog.*=) s.*" : "";
        return psprintf("%s%s", key_condition(each.table), equal);
    };
    for (const TablePair &each : all)
        merge.add(psprintf("DELETE FROM ONLY %s AS t", table(each)),
                  psprintf("NOT EXISTS (SELECT FROM ONLY %s AS s WHERE %s)", shadow(each), same(each)));
    for (const TablePair &each : all)
        if (const char *set = columns(each.table, "%1$I = s.%1$I", true); set && !changes_by_insert(each.table))
            merge.add(psprintf("UPDATE ONLY %s AS t SET %s FROM ONLY %s AS s", table(each), set, shadow(each)),
                      psprintf("%s AND t.* OPERATOR(pg_catalog.*<>) s.*", key_condition(each.table)));
    for (const TablePair &each : all)
        merge.add(psprintf("INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE SELECT %s FROM ONLY %s AS s", table(each),
                           columns(each.table, "%I", false), columns(each.table, "s.%I", false), shadow(each)),
                  psprintf("NOT EXISTS (SELECT FROM ONLY %s AS t WHERE %s)", table(each), same(each)));
    return merge.end();
}

template <class Body>
void writing_all(const pg::vector<TablePair> &tables, std::size_t from, Body &&body) {
    if (from == tables.size()) {
        body();
        return;
    }
    maintain::writing_as(tables[from].table, [&] { writing_all(tables, from + 1, body); });
}

} // namespace

pg::vector<TablePair> table_pairs(Rebuild &rebuild) {
    pg::vector<TablePair> found;
    Projection &projection = live(rebuild);
    if (projection.kind != Kind::handler) {
        found.push_back({rebuild.target, rebuild.shadow});
        return found;
    }
    pg::vector<Oid> tables = tables_of(rebuild.target), shadows = tables_of(rebuild.shadow);
    for (std::size_t i = 0; i < tables.size(); i++) {
        const char *name = get_rel_name(tables[i]), *shadow = i < shadows.size() ? get_rel_name(shadows[i]) : nullptr;
        if (name == nullptr || shadow == nullptr || strcmp(name, shadow) != 0)
            ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                            errmsg("a table of projection %s was renamed or dropped meanwhile", rebuild.name),
                            errdetail("The handler was replayed into shadows of the names that the tables had."),
                            errhint("Rebuild it again.")));
        found.push_back({tables[i], shadows[i]});
    }
    return found;
}

pg::vector<Oid> tables_of(Oid projection) {
    return oids(psprintf(
        "SELECT t FROM projections_internal.projection AS p, pg_catalog.unnest(CASE p.kind WHEN 'handler' THEN "
        "p.tables::pg_catalog.oid[] ELSE ARRAY[p.relation::pg_catalog.oid] END) WITH ORDINALITY AS "
        "u(t, n) WHERE p.relation = %u ORDER BY u.n",
        projection));
}

HandlerShadow make_handler_shadow(Projection &projection, Oid definition, const char *suffix) {
    pg::vector<Oid> tables = tables_of(projection.relation);
    check_function(projection);
    check_tables(projection, tables);
    HandlerShadow shadow{make_view(projection, definition, suffix), "tables", "settings"};
    if (tables.empty()) return shadow;
    const char *schema = free_schema(projection.relation, suffix), *name = quote_identifier(schema);
    pg::vector<Oid> twins;
    with_schema(schema, tables, [&] {
        for (Oid table : tables) twins.push_back(make_writable_twin(table, schema));
        for (Oid table : tables) copy_foreign_keys(table, tables, schema);
    });
    pg::spi_execute(psprintf("GRANT USAGE ON SCHEMA %s TO %s", name, role_name(projection.owner())));
    catalog::mark_hidden(psprintf("SCHEMA %s", name), "shadow", projection.name());
    shadow.tables = psprintf("%s::pg_catalog.regclass[]", list(twins));
    shadow.settings = psprintf("ARRAY[%s] || settings[2:]", quote_literal_cstr(settings_with(projection, schema)));
    return shadow;
}

Oid make_reducer_twin(Projection &projection, const char *name) {
    const char *schema = free_schema(projection.relation, "shadow");
    pg::vector<Oid> tables;
    tables.push_back(projection.relation);
    Oid twin = InvalidOid;
    with_schema(schema, tables, [&] {
        twin = make_writable_twin(projection.relation, schema);
        name_for_swap(projection.relation, twin);
    });
    pg::spi_execute(psprintf("ALTER TABLE %s RENAME TO %s", pg::qualified_name(twin), quote_identifier(name)));
    CommandCounterIncrement();
    pg::spi_execute(psprintf("ALTER TABLE %s SET SCHEMA projections_internal", pg::qualified_name(twin)));
    pg::spi_execute(psprintf("DROP SCHEMA %s", quote_identifier(schema)));
    CommandCounterIncrement();
    return twin;
}

Choice choice_for_events(Projection &projection) {
    Choice choice{Finish::swap, "its events are applied again"};
    pg::vector<Oid> tables = tables_of(projection.relation);
    const char *wanted = ask_text(psprintf(
        "SELECT options ->> 'finish' FROM projections_internal.projection WHERE relation = %u", projection.relation));
    const char *followed = who_follows(tables);
    if (wanted && strcmp(wanted, "swap") == 0 && followed)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("projection %s cannot be swapped: %s", projection.name(), followed),
                        errdetail("They would not be told what has changed."),
                        errhint("CALL projections.alter(%s, options => '{\"finish\": \"merge\"}');",
                                quote_literal_cstr(projection.name()))));
    if (wanted && strcmp(wanted, "merge") == 0)
        choice = {Finish::merge, "options.finish says so"};
    else if (followed)
        choice = {Finish::merge, followed};
    if (choice.finish == Finish::merge) require_keys(tables, choice.because);
    return choice;
}

bool tables_are_complete(Rebuild &rebuild) {
    bool handler = live(rebuild).kind == Kind::handler, complete = true;
    for (const TablePair &each : table_pairs(rebuild))
        for (const IndexPair &index :
             handler ? pairs_by_name(each.table, each.shadow) : index_pairs(each.table, each.shadow))
            complete &= OidIsValid(index.shadow);
    return complete;
}

void complete_tables(Rebuild &rebuild) {
    bool handler = live(rebuild).kind == Kind::handler;
    pg::as_superuser([&] {
        pg::with_spi([&] {
            for (const TablePair &each : table_pairs(rebuild)) {
                LockRelationOid(each.table, AccessShareLock);
                const char *schema = get_namespace_name(get_rel_namespace(each.shadow));
                pg::vector<Oid> one;
                one.push_back(each.table);
                if (handler)
                    with_create(schema, one, [&] { complete_indexes(each.table, schema); });
                else
                    copy_indexes(each.table, each.shadow);
                pg::spi_execute(psprintf("ANALYZE %s", pg::qualified_name(each.shadow)));
            }
        });
    });
}

void swap_tables(Rebuild &rebuild) {
    bool handler = live(rebuild).kind == Kind::handler;
    rebuild.rows = 0;
    if (const char *why = who_follows(tables_of(rebuild.target)))
        ereport(ERROR, (errcode(ERRCODE_OBJECT_IN_USE),
                        errmsg("projection %s can no longer be swapped: %s", rebuild.name, why),
                        errdetail("That has changed while it was being rebuilt."), errhint("Rebuild it again.")));
    for (const TablePair &each : table_pairs(rebuild)) {
        check_layout(each);
        rebuild.rows += expected_rows(each.shadow);
        pg::as_superuser([&] {
            pg::with_spi([&] {
                if (handler) name_for_swap(each.table, each.shadow);
                swap_storage(each.table, each.shadow);
                advance_sequences(each.table, each.shadow);
            });
        });
    }
}

int64 run_merge(Rebuild &rebuild, const pg::vector<TablePair> &tables, const char *text) {
    int64 rows = 0;
    Oid owner = table_owner(tables.front().table);
    for (const TablePair &each : tables)
        if (table_owner(each.table) != owner) owner = live(rebuild).owner();
    pg::as_owner(owner, [&] {
        pg::with_snapshot(GetLatestSnapshot(), [&] {
            pg::with_spi([&] {
                writing_all(tables, 0, [&] { pg::spi_execute(text); });
                rows = pg::Row().bigint(1);
            });
        });
    });
    maintain::flush_logs(); // for projections over these
    return rows;
}

int64 merge_tables(Rebuild &rebuild) {
    pg::vector<TablePair> all = table_pairs(rebuild);
    if (all.empty()) return 0;
    for (const TablePair &each : all) check_layout(each);
    int64 rows = run_merge(rebuild, all, merge_text(all));
    for (const TablePair &each : all)
        pg::as_superuser([&] { pg::with_spi([&] { advance_sequences(each.table, each.shadow); }); });
    return rows;
}

void confined(Rebuild &rebuild, void (*body)(void *), void *argument) {
    if (live(rebuild).kind != Kind::handler) {
        body(argument);
        return;
    }
    events::Confinement confinement{
        .handler = rebuild.target, .live = tables_of(rebuild.target), .writable = tables_of(rebuild.shadow)};
    int level = NewGUCNestLevel();
    // Parallel workers would read what their leader may not.
    pg::set_locally("max_parallel_workers_per_gather", "0");
    events::confinement = &confinement;
    PG_TRY();
    { body(argument); }
    PG_FINALLY();
    { events::confinement = nullptr; }
    PG_END_TRY();
    AtEOXact_GUC(false, level);
}

} // namespace rebuild
