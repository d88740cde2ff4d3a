-- Rebuild of what reads events.

-- With the schema that holds them and nothing else.
CREATE FUNCTION projections._drop_shadow_tables(tables regclass[]) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    names text;
    schemas name[];
    each name;
BEGIN
    SELECT string_agg(projections._name(c.oid), ', '), array_agg(DISTINCT n.nspname) INTO names, schemas
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ANY (tables::oid[]);
    IF names IS NULL THEN
        RETURN;
    END IF;
    EXECUTE 'DROP TABLE ' || names;
    FOREACH each IN ARRAY schemas LOOP
        EXECUTE format('DROP SCHEMA %I', each);
    END LOOP;
END
$$;
COMMENT ON FUNCTION projections._drop_shadow_tables(regclass[]) IS 'Internal: removes the tables that a rebuild''s handler writes, and their schema.';
REVOKE EXECUTE ON FUNCTION projections._drop_shadow_tables(regclass[]) FROM PUBLIC;
