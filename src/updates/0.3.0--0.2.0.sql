-- What version 0.2.0 cannot follow would be wrong from the next change on, without a word.
DO $$
DECLARE
    beyond text;
    found bigint;
BEGIN
    WITH needs AS (
        SELECT projections._name(p.relation) AS name,
               CASE WHEN EXISTS (SELECT FROM projections.projection part WHERE part.part_of = p.relation)
                    THEN 'has parts' ELSE projections_internal._beyond_0_2(p.relation) END AS reason
        FROM projections.projection p WHERE p.part_of IS NULL AND p.shadow_of IS NULL
    ), numbered AS (
        SELECT name, reason, pg_catalog.row_number() OVER (ORDER BY name COLLATE "C") AS number FROM needs WHERE reason IS NOT NULL
    )
    SELECT pg_catalog.string_agg(CASE WHEN number <= 20 THEN pg_catalog.format('%s %s', name, reason) ELSE '…' END,
                                 E'\n' ORDER BY number) FILTER (WHERE number <= 21), pg_catalog.count(*)
    INTO beyond, found FROM numbered;
    IF found > 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = pg_catalog.format('version 0.2.0 cannot maintain %s of the projections', found),
            DETAIL = beyond,
            HINT = 'Drop them (projections.drop with keep_table leaves their rows), or alter them to queries that version 0.2.0 knows.';
    END IF;
END
$$;

-- What is hidden of projections and sources goes back, as the extension's own has.
DO $$
DECLARE
    hidden record;
BEGIN
    FOR hidden IN
        SELECT c.relname, CASE c.relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END AS kind FROM pg_catalog.pg_class c
        WHERE c.relnamespace = 'projections_internal'::pg_catalog.regnamespace AND c.relkind IN ('r', 'v')
          AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
              AND d.objid = c.oid AND d.deptype = 'e')
          AND (pg_catalog.obj_description(c.oid, 'pg_class') LIKE 'pg\_projections: %'
               OR EXISTS (SELECT FROM projections.projection p WHERE c.oid IN (p.relation, p.definition)
                   OR c.oid = ANY (p.changes::pg_catalog.oid[]))
               OR EXISTS (SELECT FROM projections.source s WHERE s.arrivals = c.oid))
        ORDER BY c.oid
    LOOP
        EXECUTE pg_catalog.format('ALTER %s projections_internal.%I SET SCHEMA projections', hidden.kind, hidden.relname);
    END LOOP;
END
$$;

-- Version 0.2.0 knows rows by a unique index that takes NULLs for equal, beside which a primary key may stay. It has not the option,
-- whose NOT NULL stays as a user's own.
DO $$
DECLARE
    keyed record;
BEGIN
    FOR keyed IN
        SELECT projections._name(p.relation) AS name,
               (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' ORDER BY k.place)
                FROM pg_catalog.unnest(i.indkey::pg_catalog.int2[]) WITH ORDINALITY AS k(attnum, place)
                JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum) AS columns
        FROM projections.projection p JOIN pg_catalog.pg_index i ON i.indrelid = p.relation AND i.indisprimary
        WHERE p.kind = 'query'
          AND NOT EXISTS (SELECT FROM pg_catalog.pg_index u WHERE u.indrelid = p.relation AND u.indnullsnotdistinct)
        ORDER BY p.relation
    LOOP
        EXECUTE pg_catalog.format('CREATE UNIQUE INDEX ON %s (%s) NULLS NOT DISTINCT', keyed.name, keyed.columns);
    END LOOP;
END
$$;
UPDATE projections.projection SET options = options - 'key_not_null' WHERE options ? 'key_not_null';

-- Version 0.2.0 pins fewer settings, and reads no row with values for more.
UPDATE projections.projection SET settings = settings[1:12];

-- The views of handlers read what PUBLIC may read in version 0.2.0. A script replaces only what is the extension's.
DO $$
DECLARE
    handler record;
BEGIN
    FOR handler IN
        SELECT projections._name(p.relation) AS name, projections._name(p.definition) AS feed
        FROM projections.projection p JOIN pg_catalog.pg_class c ON c.oid = p.relation AND c.relkind = 'v' WHERE p.kind = 'handler'
    LOOP
        EXECUTE pg_catalog.format('ALTER EXTENSION pg_projections ADD VIEW %s', handler.name);
        EXECUTE pg_catalog.format('CREATE OR REPLACE VIEW %s AS SELECT s.slot, s.position, s.event_time, s.events_processed, s.checkpoint_at '
                                  'FROM projections.slot AS s JOIN projections.projection AS p ON p.relation = s.projection '
                                  'WHERE p.definition = %L::pg_catalog.regclass', handler.name, handler.feed);
        EXECUTE pg_catalog.format('ALTER EXTENSION pg_projections DROP VIEW %s', handler.name);
    END LOOP;
END
$$;
