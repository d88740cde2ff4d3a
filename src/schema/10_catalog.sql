-- The extension's schema and catalog.

\echo Use "CREATE EXTENSION pg_projections" to load this file. \quit

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'projections') THEN
        RAISE EXCEPTION USING
            ERRCODE = 'duplicate_schema',
            MESSAGE = 'schema "projections" already exists',
            DETAIL = 'The extension keeps its objects in a schema of that name, which it makes itself.',
            HINT = 'Rename or drop the schema, then create the extension.';
    END IF;
END
$$;

CREATE SCHEMA projections;
GRANT USAGE ON SCHEMA projections TO PUBLIC;

-- What is declared. Relations are regclass and functions text, so that a dump restores them by name and pg_upgrade accepts them.
-- The hidden view `definition` yields every column of the table: first the user's, then those that maintenance needs.
CREATE TABLE projections.projection (
    relation     regclass PRIMARY KEY,
    definition   regclass NOT NULL UNIQUE,
    mode         text NOT NULL,
    user_columns integer NOT NULL,
    shape        text NOT NULL CHECK (shape IN ('groups', 'total', 'rows', 'bag')),
    sources      regclass[] NOT NULL,
    settings     text[] NOT NULL, -- values of the settings pinned at create, in the order that the library knows
    created_at   timestamptz NOT NULL DEFAULT pg_catalog.now(),
    stale_since  timestamptz,
    stale_reason text
);
SELECT pg_catalog.pg_extension_config_dump('projections.projection', '');
GRANT SELECT ON projections.projection TO PUBLIC;
COMMENT ON TABLE projections.projection IS 'The catalog of projections; read projections.definitions instead.';

CREATE FUNCTION projections._announce_change() RETURNS trigger LANGUAGE c AS 'MODULE_PATHNAME', 'projections_announce_change';
COMMENT ON FUNCTION projections._announce_change() IS 'Internal: tells every session that the catalog changed, also when a restore fills it.';

CREATE TRIGGER announce_change AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON projections.projection
    FOR EACH STATEMENT EXECUTE FUNCTION projections._announce_change();
ALTER TABLE projections.projection ENABLE ALWAYS TRIGGER announce_change;
