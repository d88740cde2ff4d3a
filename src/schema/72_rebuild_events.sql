-- Rebuild of what reads events.

-- Our mark on a schema of a superuser's: users may make and comment schemas, too.
CREATE FUNCTION projections_internal._is_shadow_schema(schema oid) RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (
        SELECT FROM pg_description d JOIN pg_namespace n ON n.oid = d.objoid JOIN pg_authid r ON r.oid = n.nspowner
            AND r.rolsuper
        WHERE d.classoid = 'pg_namespace'::regclass AND d.objoid = schema AND d.description LIKE 'pg\_projections: '
            'shadow of %')
$$;
COMMENT ON FUNCTION projections_internal._is_shadow_schema(oid) IS
    'Internal: whether a rebuild made this schema for the tables that its handler writes.';
REVOKE EXECUTE ON FUNCTION projections_internal._is_shadow_schema(oid) FROM PUBLIC;

-- With the schema that holds them and nothing else. A table that somebody moved elsewhere does not take that schema
-- along.
CREATE FUNCTION projections_internal._drop_shadow_tables(tables regclass[]) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    names text;
    schemas name[];
    each name;
BEGIN
    SELECT string_agg(projections_internal._name(c.oid), ', '), coalesce(array_agg(DISTINCT n.nspname)
        FILTER (WHERE projections_internal._is_shadow_schema(n.oid)), '{}') INTO names, schemas
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ANY (tables::oid[]);
    IF names IS NULL THEN
        RETURN;
    END IF;
    EXECUTE format('DROP TABLE %s CASCADE', names);
    FOREACH each IN ARRAY schemas LOOP
        EXECUTE format('DROP SCHEMA %I CASCADE', each);
    END LOOP;
END
$$;
COMMENT ON FUNCTION projections_internal._drop_shadow_tables(regclass[]) IS
    'Internal: removes the tables that a rebuild''s handler writes, and their schema.';
REVOKE EXECUTE ON FUNCTION projections_internal._drop_shadow_tables(regclass[]) FROM PUBLIC;

-- Nothing to do in a new database. An update from 0.2.0: arrivals were readable by PUBLIC, and a handler's view reads a
-- table that its owner may not read any more; CREATE OR REPLACE VIEW is no part of a script where the view is a user's.
DO $$
DECLARE
    handler record;
BEGIN
    PERFORM projections_internal._share_arrivals(s.relation) FROM projections_internal.source s
        WHERE s.arrivals IS NOT NULL;
    FOR handler IN
        SELECT DISTINCT p.relation, p.definition
        FROM projections_internal.projection p JOIN pg_catalog.pg_rewrite w ON w.ev_class = p.relation
        JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = w.oid
        WHERE p.kind = 'handler' AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
            AND d.refobjid = 'projections_internal.slot'::pg_catalog.regclass
    LOOP
        -- A script replaces only what is the extension's.
        EXECUTE pg_catalog.format('ALTER EXTENSION pg_projections ADD VIEW %s',
            projections_internal._name(handler.relation));
        EXECUTE pg_catalog.format('CREATE OR REPLACE VIEW %s AS SELECT s.slot, s.position, s.event_time, '
                                      's.events_processed, s.checkpoint_at '
                                  'FROM projections_internal._slots AS s WHERE s.definition OPERATOR(pg_catalog.=) '
                                      '%L::pg_catalog.regclass',
                                  projections_internal._name(handler.relation),
                                      projections_internal._name(handler.definition));
        EXECUTE pg_catalog.format('ALTER EXTENSION pg_projections DROP VIEW %s',
            projections_internal._name(handler.relation));
    END LOOP;
END
$$;
