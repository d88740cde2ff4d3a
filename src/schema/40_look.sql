-- Look.

CREATE FUNCTION projections._name(relation regclass) RETURNS text
    LANGUAGE sql STABLE STRICT
    RETURN (SELECT pg_catalog.format('%I.%I', n.nspname, c.relname)
            FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = relation);
COMMENT ON FUNCTION projections._name(regclass) IS 'Internal: a relation''s name, schema-qualified and quoted where needed.';

CREATE VIEW projections.definitions AS
SELECT projections._name(p.relation) AS projection,
       p.relation,
       p.definition,
       d.query,
       p.mode,
       'algebraic'::text AS strategy,
       projections._key_columns(p.relation) AS key,
       ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
             WHERE a.attrelid = p.relation AND a.attnum BETWEEN 1 AND p.user_columns ORDER BY a.attnum) AS columns,
       pg_catalog.format('SELECT projections.create(%L, %L, mode => %L);', projections._name(p.relation), d.query, p.mode) AS create_sql
FROM projections.projection p, LATERAL (SELECT projections._definition_query(p.relation) AS query) d;
COMMENT ON VIEW projections.definitions IS
'Every projection with its query as it reads today, its strategy, key and columns, and the SQL that declares it again.';

CREATE VIEW projections.dependencies AS
SELECT projections._name(p.relation) AS projection,
       p.relation,
       s.source,
       EXISTS (SELECT FROM projections.projection u WHERE u.relation = s.source) AS source_is_projection
FROM projections.projection p, LATERAL pg_catalog.unnest(p.sources) AS s(source);
COMMENT ON VIEW projections.dependencies IS 'Which tables each projection reads, and which of them are projections themselves.';

CREATE VIEW projections.status AS
SELECT projections._name(p.relation) AS projection,
       CASE WHEN p.stale_since IS NOT NULL THEN 'stale' ELSE 'healthy' END AS status,
       0::bigint AS lag,
       0::bigint AS failures,
       CASE WHEN p.stale_since IS NOT NULL
            THEN pg_catalog.format('%s since %s', p.stale_reason, pg_catalog.to_char(p.stale_since, 'YYYY-MM-DD HH24:MI:SS')) END AS message
FROM projections.projection p
ORDER BY p.stale_since NULLS LAST, 1;
COMMENT ON VIEW projections.status IS 'The page to read first: every projection and its state, worst first.';

GRANT SELECT ON projections.definitions, projections.dependencies, projections.status TO PUBLIC;
