-- Declare.

CREATE FUNCTION projections.create(name text, query text, mode text DEFAULT 'inline', key text[] DEFAULT NULL,
                                   options jsonb DEFAULT '{}', if_not_exists boolean DEFAULT false) RETURNS regclass
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_create';
COMMENT ON FUNCTION projections.create(text, text, text, text[], jsonb, boolean) IS
'Makes a table, fills it from the query, and keeps it equal to the query from then on.
name: of the new table, resolved like a table name. query: one SELECT over tables or other projections. mode: inline,
in the transactions that change the sources; or async, by a background worker, over one table or event source. key: the
expected key columns, checked if given. options: key_not_null, so that a NULL in the key is an error (23502) of the
writer; fill, finish, fallback; of an async one slots, batch_size, on_failure, max_retries, on_dead_letter, max_rate.
if_not_exists: accept the same definition made before. Returns the table; a key that can never be NULL is its primary
key. Holds off writers of the sources while it fills; over an event source nobody, as its events are applied later.
Needs CREATE on the schema, and SELECT and, but for an event source in async mode, TRIGGER on the sources.
Errors: PJ002 the query is of a kind that cannot be maintained (the reason and what works are given); 42P07 the name is
taken; 42501 a right is missing; 23502 with key_not_null, a key is NULL.
Example: SELECT projections.create(''stock'', ''SELECT item, sum(quantity) AS quantity FROM movements '
    'GROUP BY item'');';

CREATE FUNCTION projections.drop(name text, keep_table boolean DEFAULT false, if_exists boolean DEFAULT false)
    RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_drop';
COMMENT ON FUNCTION projections.drop(text, boolean, boolean) IS
'Drops a projection with all that belongs to it. keep_table: leave the table with its rows, as an ordinary table that
nothing maintains. if_exists: a NOTICE instead of an error where there is no such relation. Waits for writers of the
sources. DROP TABLE works too.
Errors: 42P01 no such relation; 42809 not a projection; 42501 not the owner; 2BP01 something depends on it.
Example: SELECT projections.drop(''stock'');';

CREATE FUNCTION projections.explain(name_or_query text)
    RETURNS TABLE(block int, kind text, source text, capture text, strategy text, key text[], used_columns text[],
        index_advice text, reason text, looked_up text[])
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'projections_explain';
COMMENT ON FUNCTION projections.explain(text) IS
'How a projection is maintained, or a query would be: one row per table it reads. kind: groups, total (an aggregate
without GROUP BY), rows (joined rows by primary key) or bag (a source has no primary key). used_columns: an UPDATE of
others costs nothing. index_advice: a statement that would speed maintenance up, or NULL. looked_up: the indexes in
which rows of the other tables are found for a few changed rows of this one, or NULL where that takes a plan. Changes
nothing. Errors: as projections.create; 42809 not a projection.
Example: SELECT * FROM projections.explain(''SELECT item, max(price) FROM sales GROUP BY item'');';

CREATE FUNCTION projections.refresh_rows(name text, keys jsonb) RETURNS bigint
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_refresh_rows';
COMMENT ON FUNCTION projections.refresh_rows(text, jsonb) IS
'Recomputes the rows that the given values determine, from the sources. keys: one object {column: value}, or an array of
them, which may name different columns. A column may be given that is of the key, appended ones too, or whose value the
rows of the sources have before anything is made of several of them: a column as it is, or computed from such; no
aggregate, window function or subquery, and none whose values cannot be compared. An object means all rows that have its
values, in the projection''s table or by the definition (async: as of what is applied first); NULL means NULL. Rows are
found by the indexes that tables have; with the columns of the key alone nothing is searched for. {}, where an aggregate
has no GROUP BY. Returns the number of rows written. Locks those rows; on a join it holds off other writers of the
sources'' projection.
Errors: 22023 an object determines no rows; 0A000 the projection has no key; 42809; 42501 not the owner.
Example: SELECT projections.refresh_rows(''stock'', ''[{"item": "A1"}, {"item": "B2"}]'');';

CREATE FUNCTION projections_internal._definition_query(projection regclass) RETURNS text
    LANGUAGE c STRICT STABLE AS 'MODULE_PATHNAME', 'projections_definition_query';
COMMENT ON FUNCTION projections_internal._definition_query(regclass) IS
    'Internal: the user''s query of a projection as it reads today.';
CREATE FUNCTION projections_internal._strategy(projection regclass) RETURNS text
    LANGUAGE c STRICT STABLE AS 'MODULE_PATHNAME', 'projections_strategy';
COMMENT ON FUNCTION projections_internal._strategy(regclass) IS 'Internal: how a projection is maintained, in a word.';
-- For those who change the compiler, and for the documents that are printed from it.
CREATE FUNCTION projections_internal._plan(query text) RETURNS text
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'projections_plan';
COMMENT ON FUNCTION projections_internal._plan(text) IS
    'Internal: what each stage of the compiler makes of a query.';
CREATE FUNCTION projections_internal._refusals() RETURNS TABLE(construct text, place text, reason text, instead text)
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'projections_refusals';
COMMENT ON FUNCTION projections_internal._refusals() IS
    'Internal: what cannot be a projection, where it stands, why, and what to write.';
REVOKE EXECUTE ON FUNCTION projections_internal._plan(text), projections_internal._refusals() FROM PUBLIC;
CREATE FUNCTION projections_internal._key_columns(projection regclass) RETURNS text[]
    LANGUAGE c STRICT STABLE AS 'MODULE_PATHNAME', 'projections_key_columns';
COMMENT ON FUNCTION projections_internal._key_columns(regclass) IS 'Internal: the key columns of a projection.';
CREATE FUNCTION projections_internal._identity_index(projection regclass) RETURNS text
    LANGUAGE c STRICT STABLE AS 'MODULE_PATHNAME', 'projections_identity_index';
COMMENT ON FUNCTION projections_internal._identity_index(regclass) IS
    'Internal: the statement that makes the key, or the index, by which maintenance finds rows of a query projection; '
    'NULL: none.';
REVOKE EXECUTE ON FUNCTION projections_internal._identity_index(regclass) FROM PUBLIC;

CREATE FUNCTION projections_internal._beyond_0_2(projection regclass) RETURNS text
    LANGUAGE c STRICT STABLE AS 'MODULE_PATHNAME', 'projections_beyond_0_2';
COMMENT ON FUNCTION projections_internal._beyond_0_2(regclass) IS
'Internal: what of a projection''s definition version 0.2.0 cannot follow; NULL: nothing. The update to that version '
    'asks.';
REVOKE EXECUTE ON FUNCTION projections_internal._beyond_0_2(regclass) FROM PUBLIC;
CREATE FUNCTION projections_internal._library_version() RETURNS text
    LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'projections_library_version';
COMMENT ON FUNCTION projections_internal._library_version() IS
    'Internal: the version that the loaded library was built as.';

CREATE FUNCTION projections.version() RETURNS TABLE(library text, sql text, matches boolean)
    LANGUAGE sql STABLE
    RETURN (SELECT ROW(l.version, e.extversion, l.version = e.extversion)
            FROM pg_catalog.pg_extension e, projections_internal._library_version() AS l(version)
                WHERE e.extname = 'pg_projections');
COMMENT ON FUNCTION projections.version() IS
'The versions of the loaded library and of the SQL objects, and whether they match; if not, ALTER EXTENSION
pg_projections UPDATE or a restart of the session is due. Raises nothing.
Example: SELECT * FROM projections.version();';
