-- What version 0.1.0 has made in the extension's schema does not say so yet; without it, orphans() would take it for somebody's own.

DO $$
DECLARE
    unmarked record;
BEGIN
    FOR unmarked IN
        SELECT CASE c.relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END AS type, x.kind, n.nspname, c.relname, x.made_for
        FROM (SELECT p.definition::pg_catalog.oid AS oid, CASE p.kind WHEN 'query' THEN 'definition' ELSE 'feed' END AS kind, p.relation::pg_catalog.text AS made_for FROM projections.projection p
              UNION ALL SELECT pg_catalog.unnest(p.changes)::pg_catalog.oid, 'change log', p.relation::pg_catalog.text FROM projections.projection p
              UNION ALL SELECT p.relation::pg_catalog.oid, 'view of checkpoints', p.relation::pg_catalog.text FROM projections.projection p WHERE p.kind = 'handler'
              UNION ALL SELECT s.arrivals::pg_catalog.oid, 'arrivals', s.relation::pg_catalog.text FROM projections.source s) AS x(oid, kind, made_for)
        JOIN pg_catalog.pg_class c ON c.oid = x.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE x.kind <> 'view of checkpoints' OR c.relkind = 'v'
    LOOP
        EXECUTE pg_catalog.format('COMMENT ON %s %I.%I IS %L', unmarked.type, unmarked.nspname, unmarked.relname,
                                  pg_catalog.format('pg_projections: %s of %s', unmarked.kind, unmarked.made_for));
    END LOOP;
END
$$;
