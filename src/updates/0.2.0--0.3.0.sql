-- What is hidden of projections and sources goes where the extension's own has gone already.
DO $$
DECLARE
    hidden record;
BEGIN
    FOR hidden IN
        SELECT c.relname, CASE c.relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END AS kind FROM pg_catalog.pg_class c
        WHERE c.relnamespace = 'projections'::pg_catalog.regnamespace AND c.relkind IN ('r', 'v')
          AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
              AND d.objid = c.oid AND d.deptype = 'e')
          AND (pg_catalog.obj_description(c.oid, 'pg_class') LIKE 'pg\_projections: %'
               OR EXISTS (SELECT FROM projections_internal.projection p WHERE c.oid IN (p.relation, p.definition)
                   OR c.oid = ANY (p.changes::pg_catalog.oid[]))
               OR EXISTS (SELECT FROM projections_internal.source s WHERE s.arrivals = c.oid))
        ORDER BY c.oid
    LOOP
        EXECUTE pg_catalog.format('ALTER %s projections.%I SET SCHEMA projections_internal', hidden.kind, hidden.relname);
    END LOOP;
END
$$;

-- The extension leaves the schema that it was created in, whose DROP would take it along. Nothing in pg_depend says that an object
-- depends on pg_catalog, which nobody can drop. There is no ALTER for it, as no object of the extension is in that schema. The way
-- back leaves it in pg_catalog: where it was is not known any more, and version 0.2.0 works there as well.

UPDATE pg_catalog.pg_extension SET extnamespace = 'pg_catalog'::pg_catalog.regnamespace WHERE extname = 'pg_projections';
DELETE FROM pg_catalog.pg_depend d USING pg_catalog.pg_extension e
WHERE e.extname = 'pg_projections' AND d.classid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.objid = e.oid
  AND d.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass AND d.deptype = 'n';

-- Settings that are pinned since: what holds in the server is pinned from now on.
UPDATE projections_internal.projection p SET settings = p.settings || ARRAY(
    SELECT CASE added.name WHEN 'standard_conforming_strings' THEN 'on' ELSE g.reset_val END
    FROM pg_catalog.unnest(ARRAY['timezone_abbreviations', 'array_nulls', 'quote_all_identifiers', 'standard_conforming_strings',
                                 'backslash_quote', 'transform_null_equals']) WITH ORDINALITY AS added(name, number)
    JOIN pg_catalog.pg_settings g ON g.name = added.name ORDER BY added.number)
WHERE pg_catalog.cardinality(p.settings) = 12;

-- What is hidden was its users' own, who could alter it under the library. As _own_hidden() and _secure_hidden() of version 0.3.0, which
-- do not exist yet.
DO $$
DECLARE
    hidden record;
    logged name;
BEGIN
    FOR hidden IN
        SELECT c.oid, pg_catalog.format('%I.%I', n.nspname, c.relname) AS name, c.relkind, pg_catalog.pg_get_userbyid(o.relowner) AS owner, x.privileges
        FROM (SELECT p.definition::pg_catalog.oid AS oid, p.relation::pg_catalog.oid AS relation, 'SELECT' AS privileges FROM projections_internal.projection p
              UNION ALL SELECT pg_catalog.unnest(p.changes)::pg_catalog.oid, p.relation::pg_catalog.oid, 'SELECT, INSERT, DELETE' FROM projections_internal.projection p
              UNION ALL SELECT s.arrivals::pg_catalog.oid, s.relation::pg_catalog.oid, 'SELECT' FROM projections_internal.source s
              UNION ALL SELECT s.arrivals::pg_catalog.oid, p.relation::pg_catalog.oid, 'SELECT' FROM projections_internal.source s JOIN projections_internal.projection p ON s.relation = ANY (p.sources)) AS x
        JOIN pg_catalog.pg_class c ON c.oid = x.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_class o ON o.oid = x.relation
    LOOP
        EXECUTE pg_catalog.format('ALTER %s %s OWNER TO %I', CASE hidden.relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, hidden.name, pg_catalog.pg_get_userbyid(10));
        IF hidden.relkind = 'v' THEN
            EXECUTE pg_catalog.format('ALTER VIEW %s SET (security_invoker = true)', hidden.name);
        ELSE
            EXECUTE pg_catalog.format('REVOKE ALL ON %s FROM PUBLIC', hidden.name);
        END IF;
        FOR logged IN SELECT a.attname FROM pg_catalog.pg_attribute a WHERE a.attrelid = hidden.oid AND hidden.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped AND a.attname ~ '^c[0-9]+$' LOOP
            EXECUTE pg_catalog.format('ALTER TABLE %s ALTER %I SET STATISTICS 0', hidden.name, logged);
        END LOOP;
        EXECUTE pg_catalog.format('GRANT %s ON %s TO %I', hidden.privileges, hidden.name, hidden.owner);
    END LOOP;
END
$$;
