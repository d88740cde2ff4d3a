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
-- kind query: the hidden view `definition` yields every column of the table: first the user's, then those that maintenance needs.
-- Other kinds: it is the feed, which yields what is delivered: position, event (a row of the source), keys (text[]: the row's keys
-- or, for a handler, its partition), type, event_time, event_id. A handler's `relation` is one of its tables, if that has the
-- projection's name, and else a view of its slots.
CREATE TABLE projections.projection (
    relation     regclass PRIMARY KEY,
    definition   regclass NOT NULL UNIQUE,
    kind         text NOT NULL DEFAULT 'query' CHECK (kind IN ('query', 'handler', 'reducer', 'state_machine')),
    mode         text NOT NULL CHECK (mode IN ('inline', 'async')),
    user_columns integer NOT NULL DEFAULT 0,
    shape        text CHECK (shape IN ('groups', 'total', 'rows', 'bag')),
    sources      regclass[] NOT NULL,
    changes      regclass[] NOT NULL DEFAULT '{}', -- hidden change logs, one for each source, where changes are logged: async over mutable tables, and paused inline ones
    settings     text[] NOT NULL, -- values of the settings pinned at create, in the order that the library knows
    options      jsonb NOT NULL DEFAULT '{}',
    function     text,       -- handler or reducer, as regprocedure prints it with an empty search_path
    tables       regclass[], -- that a handler writes
    event_types  text[],     -- NULL: all
    initial      jsonb,      -- a reducer's state before the first event
    transitions  jsonb,      -- of a state machine, normalized: {"state": {"event": "next state"}}
    paused_at    timestamptz,
    paused_by    text,
    pause_reason text,
    created_at   timestamptz NOT NULL DEFAULT pg_catalog.now(),
    stale_since  timestamptz,
    stale_reason text,
    one_order    boolean NOT NULL DEFAULT false, -- an event may go to several keys, or has none to deal it out by: one slot
    shadow_of    regclass, -- a rebuild's next generation of that projection: maintained like any other, and shown to nobody
    building     boolean NOT NULL DEFAULT false -- not filled yet: its sources' changes reach its shadow only
);
COMMENT ON TABLE projections.projection IS 'The catalog of projections; read projections.definitions instead.';

-- Tables whose rows are events.
CREATE TABLE projections.source (
    relation           regclass PRIMARY KEY,
    position_column    name NOT NULL,
    stream_column      name,
    version_column     name,
    type_column        name,
    time_column        name,
    correlation_column name,
    id_column          name,
    preset             text,
    capture            text NOT NULL CHECK (capture IN ('position', 'trigger')),
    sequence           regclass NOT NULL, -- that positions are drawn from; with capture 'trigger', that of `arrivals`
    arrivals           regclass,          -- capture 'trigger': hidden table (arrival bigint identity, position bigint unique); an event's position is its arrival
    archived_to        bigint NOT NULL DEFAULT 0 -- events up to here may have been deleted
);
COMMENT ON TABLE projections.source IS 'The catalog of event sources.';

-- Where each slot of an async projection stands. The row's lock is the fence: who holds it applies.
CREATE TABLE projections.slot (
    projection       regclass,
    slot             integer,
    position         bigint NOT NULL DEFAULT 0, -- the last applied; of a change log, the last change
    event_time       timestamptz,
    events_processed bigint NOT NULL DEFAULT 0,
    checkpoint_at    timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    not_before       timestamptz, -- options.max_rate
    PRIMARY KEY (projection, slot)
) WITH (fillfactor = 20);
COMMENT ON TABLE projections.slot IS 'Checkpoints; read projections.checkpoints instead.';

CREATE TABLE projections.checkpoint_change (
    projection regclass NOT NULL,
    slot       integer NOT NULL,
    before     bigint,
    position   bigint NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    changed_by text NOT NULL DEFAULT session_user,
    reason     text NOT NULL
);
CREATE INDEX ON projections.checkpoint_change (projection, changed_at);
COMMENT ON TABLE projections.checkpoint_change IS 'Checkpoints that were set by hand; read projections.checkpoint_history instead.';

-- Events that could not be applied. Open while resolved_at is null; a dead letter when no retry is due either.
CREATE TABLE projections.failure (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    projection      regclass NOT NULL,
    slot            integer NOT NULL,
    position        bigint NOT NULL,
    event_id        text,
    event_type      text,
    event_time      timestamptz,
    keys            text[] NOT NULL,
    error           text NOT NULL,
    sqlstate        text NOT NULL,
    category        text NOT NULL, -- data, constraint, timeout, memory, transition, code, other
    context         text,
    retry_count     integer NOT NULL DEFAULT 0,
    first_failed_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    failed_at       timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    next_retry_at   timestamptz,
    resolved_at     timestamptz,
    resolution      text, -- retried, skipped, resolved, reset
    resolved_by     text,
    note            text
);
CREATE UNIQUE INDEX ON projections.failure (projection, position) WHERE resolved_at IS NULL;
CREATE INDEX ON projections.failure (projection, position);
COMMENT ON TABLE projections.failure IS 'Failed events; read projections.failures instead.';

-- Events held back behind a failure of one of their keys.
CREATE TABLE projections.parked_event (
    projection regclass,
    slot       integer NOT NULL,
    position   bigint,
    event_type text,
    event_time timestamptz,
    keys       text[] NOT NULL,
    parked_at  timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (projection, position)
);
COMMENT ON TABLE projections.parked_event IS 'Parked events; read projections.parked instead.';

-- States set by hand (set_state), which a replay repeats at their position.
CREATE TABLE projections.override (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    projection regclass NOT NULL,
    key        text NOT NULL,
    position   bigint NOT NULL,
    state      jsonb,
    reason     text NOT NULL,
    set_by     text NOT NULL DEFAULT session_user,
    set_at     timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
CREATE INDEX ON projections.override (projection, key);
COMMENT ON TABLE projections.override IS 'States that were set by hand.';

CREATE TABLE projections.transition (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    projection regclass NOT NULL,
    key        text NOT NULL,
    from_state text,
    event      text,
    to_state   text NOT NULL,
    position   bigint NOT NULL,
    event_time timestamptz,
    reason     text,
    set_by     text
);
CREATE INDEX ON projections.transition (projection, key, id);
COMMENT ON TABLE projections.transition IS 'The history of state machines; read projections.transitions instead.';

CREATE TABLE projections.subscription (
    name         text PRIMARY KEY,
    source       regclass NOT NULL,
    partition_by text,
    event_types  text[],
    position     bigint NOT NULL DEFAULT 0,
    owner        regrole NOT NULL,
    acked_at     timestamptz,
    created_at   timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
COMMENT ON TABLE projections.subscription IS 'Readers outside the database.';

CREATE TABLE projections.conflict (
    stream    text PRIMARY KEY,
    conflicts bigint NOT NULL,
    last_at   timestamptz NOT NULL,
    heat      double precision NOT NULL DEFAULT 0 -- conflicts, each halved every ten minutes; as of last_at
);
COMMENT ON TABLE projections.conflict IS 'Appends that expected another version; read projections.conflicts instead.';

-- Rebuilds, also past ones. Who runs one holds a session lock beside it, so that a row without its holder is known to be dead at once.
CREATE TABLE projections.rebuild (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    projection    regclass NOT NULL,
    action        text NOT NULL CHECK (action IN ('rebuild', 'fill', 'alter')),
    shadow        regclass,  -- while there is one
    finish        text CHECK (finish IN ('merge', 'swap')), -- once it is known
    phase         text NOT NULL, -- waiting, comparing, copying, indexing, catching up, finishing, done
    done          bigint,    -- of the phase
    total         bigint,
    rows          bigint,    -- written in the end
    pid           integer NOT NULL,
    backend_start timestamptz NOT NULL,
    started_by    text NOT NULL,
    started_at    timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    phase_at      timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    ended_at      timestamptz,
    outcome       text CHECK (outcome IN ('done', 'failed', 'cancelled', 'died')), -- null while it runs, or until somebody finds it dead
    error         text
);
CREATE INDEX ON projections.rebuild (projection, id);
COMMENT ON TABLE projections.rebuild IS 'Rebuilds; read projections.rebuilds instead.';

DO $$
DECLARE
    each text;
BEGIN
    FOREACH each IN ARRAY ARRAY['projection', 'source', 'slot', 'checkpoint_change', 'failure', 'failure_id_seq', 'parked_event', 'override', 'override_id_seq',
                                'transition', 'transition_id_seq', 'subscription', 'conflict'] LOOP
        PERFORM pg_catalog.pg_extension_config_dump(pg_catalog.format('projections.%I', each)::pg_catalog.regclass, '');
    END LOOP;
END
$$;
SELECT pg_catalog.pg_extension_config_dump('projections.rebuild', '');
SELECT pg_catalog.pg_extension_config_dump('projections.rebuild_id_seq', '');
GRANT SELECT ON projections.projection, projections.source, projections.slot, projections.rebuild TO PUBLIC;

CREATE FUNCTION projections._announce_change() RETURNS trigger LANGUAGE c AS 'MODULE_PATHNAME', 'projections_announce_change';
COMMENT ON FUNCTION projections._announce_change() IS 'Internal: tells every session that the catalog changed, also when a restore fills it.';

CREATE TRIGGER announce_change AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON projections.projection
    FOR EACH STATEMENT EXECUTE FUNCTION projections._announce_change();
ALTER TABLE projections.projection ENABLE ALWAYS TRIGGER announce_change;
CREATE TRIGGER announce_change AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON projections.source
    FOR EACH STATEMENT EXECUTE FUNCTION projections._announce_change();
ALTER TABLE projections.source ENABLE ALWAYS TRIGGER announce_change;

CREATE FUNCTION projections._refuse_regression() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
        MESSAGE = format('checkpoint of %s, slot %s, would go back from %s to %s', NEW.projection, NEW.slot, OLD.position, NEW.position),
        DETAIL = 'Events would be applied again.',
        HINT = 'Use projections.set_checkpoint() with allow_regression => true, or projections.reset().';
END
$$;
COMMENT ON FUNCTION projections._refuse_regression() IS 'Internal: a checkpoint goes back only where somebody says so.';
CREATE TRIGGER refuse_regression BEFORE UPDATE ON projections.slot FOR EACH ROW
    WHEN (NEW.position < OLD.position AND coalesce(pg_catalog.current_setting('pg_projections._allow_regression', true), '') <> 'on')
    EXECUTE FUNCTION projections._refuse_regression();
-- What triggers and maintenance call.

CREATE FUNCTION projections.capture() RETURNS trigger LANGUAGE c AS 'MODULE_PATHNAME', 'projections_capture';
COMMENT ON FUNCTION projections.capture() IS 'Trigger function on sources, put there by projections.create(): notes changed rows for the projections that read the table.';

CREATE FUNCTION projections.guard() RETURNS trigger LANGUAGE c AS 'MODULE_PATHNAME', 'projections_guard';
COMMENT ON FUNCTION projections.guard() IS 'Trigger function on projections, put there by projections.create(): refuses direct writes with SQLSTATE PJ008.';

CREATE FUNCTION projections.exact_numeric(value float8) RETURNS numeric
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'projections_exact_numeric';
COMMENT ON FUNCTION projections.exact_numeric(float8) IS
'The exact decimal value of a float, which the cast to numeric rounds to 15 digits; NULL for NaN and infinities. Definitions
of projections use it to sum floats without error. Raises nothing.
Example: SELECT projections.exact_numeric(0.5);';

CREATE FUNCTION projections.square_root(value numeric) RETURNS numeric
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    -- Twenty digits more, rounded once: as the standard deviation of PostgreSQL, which rounds to the digits of the variance.
    RETURN CASE WHEN value = 'NaN' THEN value ELSE pg_catalog.round(pg_catalog.sqrt(pg_catalog.round(value, pg_catalog.scale(value) + 20)), pg_catalog.scale(value)) END;
COMMENT ON FUNCTION projections.square_root(numeric) IS
'The square root to as many decimal places as the argument has: how stddev() follows from a variance. Raises 2201F for a negative argument.
Example: SELECT projections.square_root(2.0000);';
-- Declare.

CREATE FUNCTION projections.create(name text, query text, mode text DEFAULT 'inline', key text[] DEFAULT NULL,
                                   options jsonb DEFAULT '{}', if_not_exists boolean DEFAULT false) RETURNS regclass
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_create';
COMMENT ON FUNCTION projections.create(text, text, text, text[], jsonb, boolean) IS
'Makes a table, fills it from the query, and keeps it equal to the query from then on.
name: of the new table, resolved like a table name. query: one SELECT over tables or other projections. mode: inline, in the transactions
that change the sources; or async, by a background worker, over one table or event source. key: the expected key columns, checked if given.
options: of an async one slots, batch_size, on_failure, max_retries, on_dead_letter, max_rate. if_not_exists: accept the same definition
made before. Returns the table. Holds off writers of the sources while it fills; over an event source nobody, as its events are applied
later. Needs CREATE on the schema, and SELECT and, but for an event source in async mode, TRIGGER on the sources.
Errors: PJ002 the query is of a kind that cannot be maintained (the reason and what works are given); 42P07 the name is taken;
42501 a right is missing.
Example: SELECT projections.create(''stock'', ''SELECT item, sum(quantity) AS quantity FROM movements GROUP BY item'');';

CREATE FUNCTION projections.drop(name text, keep_table boolean DEFAULT false, if_exists boolean DEFAULT false) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_drop';
COMMENT ON FUNCTION projections.drop(text, boolean, boolean) IS
'Drops a projection with all that belongs to it. keep_table: leave the table with its rows, as an ordinary table that nothing
maintains. if_exists: a NOTICE instead of an error where there is no such relation. Waits for writers of the sources. DROP TABLE works too.
Errors: 42P01 no such relation; 42809 not a projection; 42501 not the owner; 2BP01 something depends on it.
Example: SELECT projections.drop(''stock'');';

CREATE FUNCTION projections.explain(name_or_query text)
    RETURNS TABLE(block int, kind text, source text, capture text, strategy text, key text[], used_columns text[], index_advice text, reason text)
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'projections_explain';
COMMENT ON FUNCTION projections.explain(text) IS
'How a projection is maintained, or a query would be: one row per table it reads. kind: groups, total (an aggregate without
GROUP BY), rows (joined rows by primary key) or bag (a source has no primary key). used_columns: an UPDATE of others costs nothing.
index_advice: a statement that would speed maintenance up, or NULL. Changes nothing. Errors: as projections.create; 42809 not a projection.
Example: SELECT * FROM projections.explain(''SELECT item, max(price) FROM sales GROUP BY item'');';

CREATE FUNCTION projections.refresh_rows(name text, keys jsonb) RETURNS bigint
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_refresh_rows';
COMMENT ON FUNCTION projections.refresh_rows(text, jsonb) IS
'Recomputes the rows of the given keys from the sources. keys: one object {key column: value}, or an array of them.
Returns the number of rows written. Locks those rows; on a join it holds off other writers of the sources'' projection.
Errors: 22023 not a key of the projection; 0A000 the projection has no key; 42809; 42501 not the owner.
Example: SELECT projections.refresh_rows(''stock'', ''[{"item": "A1"}, {"item": "B2"}]'');';

CREATE FUNCTION projections._definition_query(projection regclass) RETURNS text
    LANGUAGE c STRICT STABLE AS 'MODULE_PATHNAME', 'projections_definition_query';
COMMENT ON FUNCTION projections._definition_query(regclass) IS 'Internal: the user''s query of a projection as it reads today.';
CREATE FUNCTION projections._key_columns(projection regclass) RETURNS text[]
    LANGUAGE c STRICT STABLE AS 'MODULE_PATHNAME', 'projections_key_columns';
COMMENT ON FUNCTION projections._key_columns(regclass) IS 'Internal: the key columns of a projection.';
CREATE FUNCTION projections._library_version() RETURNS text
    LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'projections_library_version';
COMMENT ON FUNCTION projections._library_version() IS 'Internal: the version that the loaded library was built as.';

CREATE FUNCTION projections.version() RETURNS TABLE(library text, sql text, matches boolean)
    LANGUAGE sql STABLE
    RETURN (SELECT ROW(l.version, e.extversion, l.version = e.extversion)
            FROM pg_catalog.pg_extension e, projections._library_version() AS l(version) WHERE e.extname = 'pg_projections');
COMMENT ON FUNCTION projections.version() IS
'The versions of the loaded library and of the SQL objects, and whether they match; if not, ALTER EXTENSION pg_projections UPDATE
or a restart of the session is due. Raises nothing.
Example: SELECT * FROM projections.version();';
-- Event sources: any append-only table with a position.

-- What the tables of event libraries are called by. A column that a library only has in some versions or settings is optional.
CREATE FUNCTION projections._preset(preset text)
    RETURNS TABLE(position_column name, stream_column name, version_column name, type_column name, time_column name,
                  correlation_column name, id_column name, capture text)
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY SELECT p.position::name, p.stream::name, p.version::name, p.type::name, p.time::name, p.correlation::name, p.id::name, p.capture
    FROM (VALUES
        -- Its rich append mode draws the positions in a transaction of their own, before the one that inserts.
        ('marten', 'seq_id', 'stream_id', 'version', 'type', 'timestamp', 'correlation_id', 'id', 'trigger'),
        ('pupsourcing', 'global_position', 'aggregate_id', 'aggregate_version', 'event_type', 'created_at', 'correlation_id', 'event_id', 'position'),
        ('message_db', 'global_position', 'stream_name', 'position', 'type', 'time', NULL, 'id', 'position'),
        ('emmett', 'global_position', 'stream_id', 'stream_position', 'message_type', 'created', NULL, 'message_id', 'position')
    ) AS p(preset, position, stream, version, type, time, correlation, id, capture)
    WHERE p.preset = _preset.preset;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('unknown preset "%s"', preset),
            DETAIL = 'Presets are emmett, marten, message_db and pupsourcing.',
            HINT = 'For another table, name its columns: position_column => …, type_column => …';
    END IF;
END
$$;
COMMENT ON FUNCTION projections._preset(text) IS 'Internal: the columns and the way of capture of an event library''s table.';

CREATE FUNCTION projections._leaves(relation regclass) RETURNS SETOF regclass
    LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
    SELECT c.oid::regclass FROM pg_class c WHERE c.oid = relation AND c.relkind = 'r'
    UNION ALL
    SELECT t.relid FROM pg_class c, LATERAL pg_partition_tree(c.oid) t WHERE c.oid = relation AND c.relkind = 'p' AND t.isleaf
$$;
COMMENT ON FUNCTION projections._leaves(regclass) IS 'Internal: the tables that hold the rows of a table: itself, or its partitions.';

-- An identity, a serial, or a default that calls nextval, whoever owns the sequence.
CREATE FUNCTION projections._sequences_of(relation regclass, column_name name) RETURNS SETOF regclass
    LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
    SELECT s.oid::regclass
    FROM pg_attribute a
    JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    JOIN pg_depend p ON p.classid = 'pg_attrdef'::regclass AND p.objid = d.oid AND p.refclassid = 'pg_class'::regclass
    JOIN pg_class s ON s.oid = p.refobjid AND s.relkind = 'S'
    WHERE a.attrelid = relation AND a.attname = column_name AND NOT a.attisdropped
    UNION
    SELECT s.oid::regclass
    FROM pg_attribute a
    JOIN pg_depend p ON p.refclassid = 'pg_class'::regclass AND p.refobjid = a.attrelid AND p.refobjsubid = a.attnum
                    AND p.classid = 'pg_class'::regclass AND p.deptype = 'i'
    JOIN pg_class s ON s.oid = p.objid AND s.relkind = 'S'
    WHERE a.attrelid = relation AND a.attname = column_name AND NOT a.attisdropped
$$;
COMMENT ON FUNCTION projections._sequences_of(regclass, name) IS 'Internal: the sequences that a column''s values are drawn from.';

CREATE FUNCTION projections._check_source_table(source regclass) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    problem record;
BEGIN
    SELECT * INTO problem FROM (
        SELECT CASE
            WHEN EXISTS (SELECT FROM projections.projection p WHERE p.relation = source) THEN 'a projection'
            WHEN c.relkind = 'f' THEN 'a foreign table'
            WHEN c.relkind IN ('v', 'm') THEN 'a view'
            WHEN c.relkind NOT IN ('r', 'p') THEN 'not a table'
            WHEN c.relnamespace IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace) THEN 'a system catalog'
            WHEN c.relnamespace = 'projections'::regnamespace THEN 'a table of the extension'
            WHEN l.temporary THEN 'temporary'
            WHEN l.unlogged THEN 'unlogged'
            WHEN l.foreign_part THEN 'partitioned with foreign partitions'
            WHEN EXISTS (SELECT FROM pg_inherits i JOIN pg_class k ON k.oid = i.inhrelid WHERE source IN (i.inhparent, i.inhrelid) AND NOT k.relispartition)
                THEN 'part of an inheritance tree'
            WHEN c.relispartition THEN 'a partition'
            WHEN EXISTS (SELECT FROM pg_subscription_rel r
                         WHERE r.srrelid = source OR r.srrelid IN (SELECT t FROM projections._leaves(source) AS t)) THEN 'a subscriber''s copy'
        END AS what
        FROM pg_class c,
             LATERAL (SELECT coalesce(bool_or(k.relpersistence = 't'), false) AS temporary, coalesce(bool_or(k.relpersistence = 'u'), false) AS unlogged,
                             coalesce(bool_or(k.relkind = 'f'), false) AS foreign_part
                      FROM pg_class k WHERE k.oid = c.oid OR (c.relkind = 'p' AND k.oid IN (SELECT t.relid FROM pg_partition_tree(c.oid) t))) l
        WHERE c.oid = source) AS found
    JOIN LATERAL (VALUES
        ('a projection', 'The rows of a projection change and go.', 'Create another projection over it with projections.create().'),
        ('a foreign table', 'What another server commits cannot be ordered here.', 'Copy its rows into a table, and register that.'),
        ('a view', 'Positions are drawn for the rows of a table.', 'Register the table that the view reads.'),
        ('not a table', 'Events are rows of a table.', 'Register a table.'),
        ('a system catalog', 'It belongs to the server.', 'Register a table of yours.'),
        ('a table of the extension', 'projections.events is registered already; the others hold no events.', 'Register a table of yours.'),
        ('temporary', 'Other sessions do not see its rows.', 'Make it an ordinary table.'),
        ('unlogged', 'A crash empties it, and what was projected would stay.', 'ALTER TABLE … SET LOGGED.'),
        ('partitioned with foreign partitions', 'What another server commits cannot be ordered here.', 'Detach the foreign partitions.'),
        ('part of an inheritance tree', 'Rows of a child are drawn and checked on their own.', 'Use partitions instead of inheritance.'),
        ('a partition', 'Events of the other partitions would be missed.', 'Register the partitioned table.'),
        ('a subscriber''s copy', 'Rows arrive with their positions, so the local sequence stands still and cannot tell which are still to come.',
         'Register the source on the publisher.')
    ) AS reason(kind, detail, hint) ON reason.kind = found.what;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'wrong_object_type',
            MESSAGE = format('%s cannot be an event source: it is %s', projections._name(source), problem.what),
            DETAIL = problem.detail,
            HINT = problem.hint;
    END IF;
END
$$;
COMMENT ON FUNCTION projections._check_source_table(regclass) IS 'Internal: refuses what cannot be an event source.';

-- Every position must be there, once. Where that is a library's own table, what it leaves out is said and not refused.
CREATE FUNCTION projections._check_position(source regclass, position_column name, lenient boolean) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    position_attribute pg_attribute;
    partitioned boolean := (SELECT c.relkind = 'p' FROM pg_class c WHERE c.oid = source);
    unindexed regclass;
    not_unique regclass;
BEGIN
    SELECT * INTO STRICT position_attribute FROM pg_attribute a WHERE a.attrelid = source AND a.attname = position_column AND NOT a.attisdropped;
    IF position_attribute.atttypid NOT IN ('bigint'::regtype, 'integer'::regtype) THEN
        RAISE EXCEPTION USING ERRCODE = 'datatype_mismatch',
            MESSAGE = format('position column "%s" of %s is of type %s', position_column, projections._name(source), format_type(position_attribute.atttypid, position_attribute.atttypmod)),
            DETAIL = 'A position is a bigint or an integer.',
            HINT = 'Name the column whose values are drawn from a sequence: position_column => …';
    END IF;
    IF NOT position_attribute.attnotnull THEN
        IF NOT lenient THEN
            RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
                MESSAGE = format('position column "%s" of %s may be null', position_column, projections._name(source)),
                DETAIL = 'An event without a position would never be read.',
                HINT = format('ALTER TABLE %s ALTER COLUMN %I SET NOT NULL;', projections._name(source), position_column);
        END IF;
        RAISE WARNING 'position column "%" of % may be null', position_column, projections._name(source)
            USING DETAIL = 'An event without a position would never be read.',
                  HINT = format('ALTER TABLE %s ALTER COLUMN %I SET NOT NULL;', projections._name(source), position_column);
    END IF;

    -- An index that begins with the position serves reading in its order. It proves positions unique if it holds no other column, or only such
    -- as all rows of the partition agree in, which for lists of one value are those that they are partitioned by.
    SELECT l INTO unindexed FROM projections._leaves(source) AS l
    WHERE NOT EXISTS (SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = l AND a.attname = position_column
                      WHERE i.indrelid = l AND i.indisvalid AND i.indpred IS NULL AND i.indkey[0] = a.attnum) LIMIT 1;
    SELECT l INTO not_unique FROM projections._leaves(source) AS l
    WHERE NOT EXISTS (
        SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = l AND a.attname = position_column
        WHERE i.indrelid = l AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL
          AND (i.indkey::int2[])[0:i.indnkeyatts - 1] @> ARRAY[a.attnum]
          AND (i.indkey::int2[])[0:i.indnkeyatts - 1] <@ (ARRAY[a.attnum] || ARRAY(
              SELECT k.attnum FROM pg_partition_ancestors(l) AS up(relid) JOIN pg_partitioned_table t ON t.partrelid = up.relid
              CROSS JOIN unnest(t.partattrs::int2[]) AS n(attnum) JOIN pg_attribute u ON u.attrelid = t.partrelid AND u.attnum = n.attnum
              JOIN pg_attribute k ON k.attrelid = l AND k.attname = u.attname))) LIMIT 1;
    IF not_unique IS NOT NULL AND NOT partitioned THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('position column "%s" of %s is not unique', position_column, projections._name(source)),
            DETAIL = 'Of two events at one position, one could be missed.',
            HINT = format('CREATE UNIQUE INDEX ON %s (%I);', projections._name(source), position_column);
    ELSIF not_unique IS NOT NULL AND unindexed IS NULL THEN
        RAISE WARNING 'no index says that position column "%" of % is unique', position_column, projections._name(source)
            USING DETAIL = 'It is trusted that every position is drawn from the sequence. Of two events at one position, one could be missed.';
    END IF;
    IF unindexed IS NOT NULL THEN
        RAISE WARNING 'no index of % begins with position column "%"', projections._name(unindexed), position_column
            USING DETAIL = 'Each look for new events will read the whole table. It is trusted that every position is drawn from the sequence.',
                  HINT = format('CREATE INDEX ON %s (%I);', projections._name(source), position_column);
    END IF;
END
$$;
COMMENT ON FUNCTION projections._check_position(regclass, name, boolean) IS 'Internal: refuses a position column that may be null or repeated.';

CREATE FUNCTION projections._sequence_for(source regclass, position_column name) RETURNS regclass
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    sequences regclass[] := ARRAY(SELECT s FROM projections._sequences_of(source, position_column) AS s
                                  UNION SELECT s FROM projections._leaves(source) AS l, projections._sequences_of(l, position_column) AS s);
    problem record;
BEGIN
    IF cardinality(sequences) <> 1 THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('position column "%s" of %s is not drawn from %s sequence', position_column, projections._name(source),
                             CASE cardinality(sequences) WHEN 0 THEN 'a' ELSE 'one' END),
            DETAIL = CASE cardinality(sequences)
                WHEN 0 THEN 'It is no identity column, no serial, and has no default that calls nextval() of a sequence.'
                ELSE format('Its table and partitions draw from %s.', array_to_string(ARRAY(SELECT projections._name(s) FROM unnest(sequences) AS s ORDER BY 1), ', ')) END,
            HINT = 'Positions that come from elsewhere are followed by a trigger: capture => ''trigger''.';
    END IF;
    SELECT * INTO problem FROM (
        SELECT CASE WHEN s.seqcache > 1 THEN format('CACHE %s', s.seqcache) WHEN s.seqcycle THEN 'CYCLE'
                    WHEN s.seqincrement < 1 THEN format('INCREMENT %s', s.seqincrement) END AS what,
               CASE WHEN s.seqcache > 1 THEN 'Sessions keep values in store and use them long after higher ones.'
                    WHEN s.seqcycle THEN 'Positions would begin anew.'
                    ELSE 'Positions would fall.' END AS why,
               CASE WHEN s.seqcache > 1 THEN 'CACHE 1' WHEN s.seqcycle THEN 'NO CYCLE' ELSE 'INCREMENT 1' END AS fix
        FROM pg_sequence s WHERE s.seqrelid = sequences[1]) AS found
    WHERE found.what IS NOT NULL;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('sequence %s has %s', projections._name(sequences[1]), problem.what),
            DETAIL = problem.why,
            HINT = format('ALTER SEQUENCE %s %s; or follow the rows by a trigger: capture => ''trigger''.', projections._name(sequences[1]), problem.fix);
    END IF;
    RETURN sequences[1];
END
$$;
COMMENT ON FUNCTION projections._sequence_for(regclass, name) IS 'Internal: the sequence that positions are drawn from; refuses one that cannot tell what is decided.';

CREATE FUNCTION projections._note_arrival() RETURNS trigger LANGUAGE c AS 'MODULE_PATHNAME', 'projections_note_arrival';
COMMENT ON FUNCTION projections._note_arrival() IS 'Internal: trigger function on event sources with capture => ''trigger''.';
REVOKE EXECUTE ON FUNCTION projections._note_arrival() FROM PUBLIC;

CREATE FUNCTION projections._make_arrivals(source regclass, position_column name) RETURNS regclass
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    base text := (SELECT c.relname FROM pg_class c WHERE c.oid = source);
    name text;
    n integer := 1;
BEGIN
    WHILE octet_length(base) > 45 LOOP
        base := left(base, -1);
    END LOOP;
    name := base || '_arrivals';
    WHILE to_regclass(format('projections.%I', name)) IS NOT NULL LOOP
        n := n + 1;
        name := format('%s_arrivals_%s', base, n);
    END LOOP;
    -- Who inserts from now on waits until the trigger is there: no event falls between those that are copied and those that it notes.
    EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', projections._name(source));
    EXECUTE format('CREATE TABLE projections.%I (arrival bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, position bigint NOT NULL UNIQUE)', name);
    EXECUTE format('COMMENT ON TABLE projections.%I IS %L', name, 'pg_projections: arrivals of ' || projections._name(source));
    -- Positions are all that it shows: readers of events join it.
    EXECUTE format('GRANT SELECT ON projections.%I TO PUBLIC', name);
    EXECUTE format('CREATE TRIGGER projections_arrival AFTER INSERT ON %s FOR EACH ROW EXECUTE FUNCTION projections._note_arrival(%L, %L)', projections._name(source), name, position_column);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER projections_arrival', projections._name(source));
    RETURN format('projections.%I', name)::regclass;
END
$$;
COMMENT ON FUNCTION projections._make_arrivals(regclass, name) IS 'Internal: the hidden table of arrivals and the trigger that fills it.';

CREATE FUNCTION projections._drop_arrivals(source regclass, arrivals regclass) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM pg_class c WHERE c.oid = source) THEN
        EXECUTE format('DROP TRIGGER IF EXISTS projections_arrival ON %s', projections._name(source));
    END IF;
    IF EXISTS (SELECT FROM pg_class c WHERE c.oid = arrivals) THEN
        EXECUTE format('DROP TABLE %s', projections._name(arrivals));
    END IF;
END
$$;
COMMENT ON FUNCTION projections._drop_arrivals(regclass, regclass) IS 'Internal: removes what _make_arrivals made.';

-- Who reads a source's events by position.
CREATE FUNCTION projections._source_readers(source regclass) RETURNS SETOF text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT 'projection ' || projections._name(p.relation) FROM projections.projection p
    WHERE source = ANY (p.sources) AND (p.kind <> 'query' OR (p.mode = 'async' AND p.changes = '{}'))
    UNION ALL
    SELECT format('subscription "%s"', s.name) FROM projections.subscription s WHERE s.source = _source_readers.source
    ORDER BY 1
$$;
COMMENT ON FUNCTION projections._source_readers(regclass) IS 'Internal: projections and subscriptions that need the registration of a source.';

CREATE FUNCTION projections._refuse_while_read(source regclass, action text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    readers text[] := ARRAY(SELECT projections._source_readers(source));
BEGIN
    IF cardinality(readers) > 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'object_in_use',
            MESSAGE = format('cannot %s source %s because it is being read', action, projections._name(source)),
            DETAIL = format('Read by %s.', array_to_string(readers, ', ')),
            HINT = 'Drop them first, with projections.drop() or projections.drop_subscription().';
    END IF;
END
$$;
COMMENT ON FUNCTION projections._refuse_while_read(regclass, text) IS 'Internal: refuses what would pull a source from under its readers.';

CREATE FUNCTION projections._register_source(source regclass, position_column name, stream_column name, version_column name, type_column name,
                                             time_column name, correlation_column name, id_column name, preset text, capture text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    defaults record;
    preset_capture text;
    given name[] := ARRAY[position_column, stream_column, version_column, type_column, time_column, correlation_column, id_column];
    missing name;
    wanted projections.source;
    known projections.source;
BEGIN
    PERFORM projections._check_source_table(source);
    IF preset IS NOT NULL THEN
        SELECT * INTO STRICT defaults FROM projections._preset(preset);
        preset_capture := defaults.capture;
        given := ARRAY(SELECT coalesce(g.given, CASE WHEN g.needed OR a.attnum IS NOT NULL THEN g.preset END)
            FROM unnest(given, ARRAY[defaults.position_column, defaults.stream_column, defaults.version_column, defaults.type_column,
                                     defaults.time_column, defaults.correlation_column, defaults.id_column],
                        ARRAY[true, true, true, true, true, false, true]) WITH ORDINALITY AS g(given, preset, needed, place)
            LEFT JOIN pg_attribute a ON a.attrelid = source AND a.attname = g.preset AND a.attnum > 0 AND NOT a.attisdropped
            ORDER BY g.place);
    END IF;
    wanted := ROW(source, given[1], given[2], given[3], given[4], given[5], given[6], given[7], preset,
                  coalesce(capture, preset_capture, 'position'), NULL, NULL, 0);
    IF wanted.position_column IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed',
            MESSAGE = 'argument "position_column" must not be null',
            DETAIL = 'The position is what events are ordered by.',
            HINT = 'Name the column, or a preset for the table of an event library.';
    END IF;
    IF wanted.capture NOT IN ('position', 'trigger') THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('unknown capture "%s"', capture),
            DETAIL = 'Capture is "position" or "trigger".',
            HINT = 'Use "trigger" where positions are drawn in an earlier transaction than the INSERT; else "position".';
    END IF;
    SELECT g INTO missing FROM unnest(given) AS g
    WHERE g IS NOT NULL AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = source AND a.attname = g AND a.attnum > 0 AND NOT a.attisdropped) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_column',
            MESSAGE = format('column "%s" of %s does not exist', missing, projections._name(source)),
            DETAIL = CASE WHEN preset IS NULL THEN 'It was named as a column of the source.' ELSE format('Preset "%s" expects it unless another is named.', preset) END,
            HINT = format('Its columns are %s.', (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a
                                                  WHERE a.attrelid = source AND a.attnum > 0 AND NOT a.attisdropped));
    END IF;

    -- Two sessions that register the same table: the second one sees what the first did.
    LOCK TABLE projections.source IN SHARE ROW EXCLUSIVE MODE;
    SELECT * INTO known FROM projections.source s WHERE s.relation = source;
    IF known.relation IS NOT NULL THEN
        wanted.sequence := known.sequence;
        wanted.arrivals := known.arrivals;
        wanted.archived_to := known.archived_to;
        IF wanted = known THEN
            RETURN;
        END IF;
        PERFORM projections._refuse_while_read(source, 'change');
        -- First the row: what an event source needs is not to be dropped.
        DELETE FROM projections.source s WHERE s.relation = source;
        IF known.arrivals IS NOT NULL THEN
            PERFORM projections._drop_arrivals(source, known.arrivals);
        END IF;
        wanted.arrivals := NULL;
    END IF;

    PERFORM projections._check_position(source, wanted.position_column, preset IS NOT NULL);
    IF wanted.capture = 'trigger' THEN
        wanted.arrivals := projections._make_arrivals(source, wanted.position_column);
        wanted.sequence := pg_get_serial_sequence(projections._name(wanted.arrivals), 'arrival')::regclass;
    ELSE
        wanted.sequence := projections._sequence_for(source, wanted.position_column);
    END IF;
    INSERT INTO projections.source SELECT wanted.*;
    IF wanted.capture = 'trigger' THEN
        EXECUTE format('INSERT INTO %s (position) SELECT %I FROM %s WHERE %2$I IS NOT NULL ORDER BY 1', projections._name(wanted.arrivals), wanted.position_column,
                       projections._name(source));
    END IF;
END
$$;
COMMENT ON FUNCTION projections._register_source(regclass, name, name, name, name, name, name, name, text, text) IS
'Internal: what projections.register_source() does after it has checked the caller''s rights.';

CREATE FUNCTION projections._unregister_source(source regclass) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known projections.source;
BEGIN
    IF source = 'projections.events'::regclass THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = 'cannot unregister projections.events',
            DETAIL = 'It is the extension''s own store.',
            HINT = 'Leave it: a source that nothing reads costs nothing.';
    END IF;
    LOCK TABLE projections.source IN SHARE ROW EXCLUSIVE MODE;
    SELECT * INTO known FROM projections.source s WHERE s.relation = source;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'wrong_object_type',
            MESSAGE = format('%s is not an event source', projections._name(source)),
            DETAIL = 'It was never registered, or is unregistered already.',
            HINT = 'Look it up: SELECT relation FROM projections.source;';
    END IF;
    PERFORM projections._refuse_while_read(source, 'unregister');
    DELETE FROM projections.source s WHERE s.relation = source;
    IF known.arrivals IS NOT NULL THEN
        PERFORM projections._drop_arrivals(source, known.arrivals);
    END IF;
END
$$;
COMMENT ON FUNCTION projections._unregister_source(regclass) IS 'Internal: what projections.unregister_source() does after it has checked the caller''s rights.';

-- To be called after a DROP.
CREATE FUNCTION projections._forget_dropped_sources() RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    gone record;
BEGIN
    FOR gone IN SELECT s.relation, s.arrivals, s.sequence FROM projections.source s WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = s.relation) LOOP
        DELETE FROM projections.source s WHERE s.relation = gone.relation;
        PERFORM projections._drop_arrivals(gone.relation, gone.arrivals);
    END LOOP;
    FOR gone IN DELETE FROM projections.subscription s WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = s.source) RETURNING s.name LOOP
        RAISE NOTICE 'drop cascades to subscription "%"', gone.name;
    END LOOP;
    SELECT s.relation, CASE WHEN a.oid IS NULL AND s.arrivals IS NOT NULL THEN 'table of arrivals' WHEN q.oid IS NULL THEN 'sequence'
                            WHEN s.arrivals IS NOT NULL AND t.oid IS NULL THEN 'trigger projections_arrival' END AS what INTO gone
    FROM projections.source s
    LEFT JOIN pg_class q ON q.oid = s.sequence LEFT JOIN pg_class a ON a.oid = s.arrivals
    LEFT JOIN pg_trigger t ON t.tgrelid = s.relation AND t.tgname = 'projections_arrival'
    WHERE (q.oid IS NULL OR (s.arrivals IS NOT NULL AND (a.oid IS NULL OR t.oid IS NULL)))
      -- What was missing before must not keep anybody from dropping other things; validate() tells of it.
      AND EXISTS (SELECT FROM pg_event_trigger_dropped_objects() d
                  WHERE d.objid IN (s.sequence, s.arrivals)
                     OR d.object_type = 'trigger' AND format('%I.%I', d.address_names[1], d.address_names[2]) = projections._name(s.relation)
                        AND d.address_names[3] = 'projections_arrival') LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist',
            MESSAGE = format('cannot drop the %s of event source %s', gone.what, projections._name(gone.relation)),
            DETAIL = 'It tells which events are complete up to where.',
            HINT = format('First SELECT projections.unregister_source(%L);', projections._name(gone.relation));
    END IF;
END
$$;
COMMENT ON FUNCTION projections._forget_dropped_sources() IS 'Internal: cleans up after dropped event sources, and refuses to drop what they need.';

-- To be called after an ALTER.
CREATE FUNCTION projections._check_altered_sources(touched oid[]) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    lost record;
BEGIN
    SELECT s.relation, c.name INTO lost
    FROM projections.source s, LATERAL unnest(ARRAY[s.position_column, s.stream_column, s.version_column, s.type_column, s.time_column,
                                                    s.correlation_column, s.id_column]) AS c(name)
    WHERE s.relation = ANY (touched) AND c.name IS NOT NULL
      AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = s.relation AND a.attname = c.name AND a.attnum > 0 AND NOT a.attisdropped) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist',
            MESSAGE = format('cannot rename or drop column "%s" because %s is an event source', lost.name, projections._name(lost.relation)),
            DETAIL = 'The source was registered with that column.',
            HINT = format('First SELECT projections.unregister_source(%L); and register it again afterwards.', projections._name(lost.relation));
    END IF;

    SELECT s.relation, s.sequence INTO lost
    FROM projections.source s JOIN pg_sequence q ON q.seqrelid = s.sequence
    WHERE s.sequence = ANY (touched) AND (q.seqcache > 1 OR q.seqcycle OR q.seqincrement < 1) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('sequence %s cannot have CACHE, CYCLE or a descending INCREMENT because %s is an event source', projections._name(lost.sequence), projections._name(lost.relation)),
            DETAIL = 'Positions would be drawn long before their events, or again.',
            HINT = format('First SELECT projections.unregister_source(%L);', projections._name(lost.relation));
    END IF;
END
$$;
COMMENT ON FUNCTION projections._check_altered_sources(oid[]) IS
'Internal: refuses to rename or drop a column that an event source is registered with, and options of its sequence that would lose events.';

REVOKE EXECUTE ON FUNCTION projections._make_arrivals(regclass, name), projections._drop_arrivals(regclass, regclass),
    projections._register_source(regclass, name, name, name, name, name, name, name, text, text), projections._unregister_source(regclass),
    projections._forget_dropped_sources(), projections._check_altered_sources(oid[]) FROM PUBLIC;

CREATE FUNCTION projections.register_source(source text, position_column name DEFAULT NULL, stream_column name DEFAULT NULL, version_column name DEFAULT NULL,
                                            type_column name DEFAULT NULL, time_column name DEFAULT NULL, correlation_column name DEFAULT NULL,
                                            id_column name DEFAULT NULL, preset text DEFAULT NULL, capture text DEFAULT NULL) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_register_source';
COMMENT ON FUNCTION projections.register_source(text, name, name, name, name, name, name, name, text, text) IS
'Declares an append-only table to be a source of events. source: the table, which may be partitioned. position_column: bigint or
integer, not null, unique, drawn from a sequence; what events are ordered by. The other columns are optional: stream_column and
version_column; type_column, which filters by event types need; time_column (a timestamp without time zone is taken to be UTC);
correlation_column, by which projections.trace() finds events; id_column. preset: fills in the columns of an event library''s table
that are not named: emmett, marten, message_db or pupsourcing. capture: position, or trigger where positions are drawn in an
earlier transaction than the INSERT; then events are ordered by their arrival, which a trigger on the table notes, and "position"
means the arrival''s number everywhere. By default as the preset says, else position. The same again changes nothing; other
columns are refused while projections or subscriptions read the source. With capture => trigger it waits for writers of the table.
Needs to be done by the table''s owner. Errors: 42P01 no such table; 42501 not the owner; 42703 no such column; 42809 not a table that
can be a source; 42804 and 55000 the position or its sequence cannot serve; 55006 it is being read; 22023 unknown preset or capture.
Example: SELECT projections.register_source(''orders_events'', position_column => ''seq'', type_column => ''kind'', time_column => ''at'');';

CREATE FUNCTION projections.unregister_source(source text) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_unregister_source';
COMMENT ON FUNCTION projections.unregister_source(text) IS
'Takes back projections.register_source(); the table stays as it is. Needs to be done by the table''s owner.
Errors: 42P01 no such table; 42501 not the owner; 42809 not a source; 55006 projections or subscriptions read it.
Example: SELECT projections.unregister_source(''orders_events'');';
-- Our own event store, for users without an event table of their own, and what looks at events of any source.

CREATE FUNCTION projections._event_id() RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL SAFE AS 'MODULE_PATHNAME', 'projections_event_id';
COMMENT ON FUNCTION projections._event_id() IS 'Internal: a new UUID, greater than those made before, as far as clocks agree.';

CREATE TABLE projections.streams (
    stream      text PRIMARY KEY CHECK (stream <> ''),
    version     bigint NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    updated_at  timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    archived_at timestamptz
) WITH (fillfactor = 70); -- each append updates its stream's row
COMMENT ON TABLE projections.streams IS
'Streams of our own event store with their version. archived_at: since when all events of the stream are in projections.events_archive.';

CREATE TABLE projections.events (
    position       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id             uuid NOT NULL DEFAULT projections._event_id() UNIQUE,
    stream         text NOT NULL,
    version        bigint NOT NULL,
    type           text NOT NULL CHECK (type <> ''),
    data           jsonb NOT NULL,
    metadata       jsonb,
    correlation_id text,
    causation_id   text,
    recorded_at    timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    UNIQUE (stream, version)
);
CREATE INDEX events_correlation_id ON projections.events (correlation_id) WHERE correlation_id IS NOT NULL;
COMMENT ON TABLE projections.events IS 'Events of our own store, written by projections.append() and append_many().';

-- A child: who reads projections.events without ONLY, as feeds, definitions and replays do, reads what was archived too.
CREATE TABLE projections.events_archive (
    PRIMARY KEY (position),
    UNIQUE (id),
    UNIQUE (stream, version)
) INHERITS (projections.events);
CREATE INDEX events_archive_correlation_id ON projections.events_archive (correlation_id) WHERE correlation_id IS NOT NULL;
COMMENT ON TABLE projections.events_archive IS 'Old events of our own store, moved here by projections.archive_events(); rebuilds read them.';

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['events', 'events_archive', 'streams', 'events_position_seq'] LOOP
        PERFORM pg_catalog.pg_extension_config_dump(('projections.' || name)::regclass, '');
    END LOOP;
    INSERT INTO projections.source (relation, position_column, stream_column, version_column, type_column, time_column, correlation_column,
                                    id_column, capture, sequence)
    VALUES ('projections.events', 'position', 'stream', 'version', 'type', 'recorded_at', 'correlation_id', 'id', 'position',
            'projections.events_position_seq');
    -- The row above comes with the extension, so a dump must not bring it again. Its archived_to stays 0: nothing of our own store is lost.
    PERFORM pg_catalog.pg_extension_config_dump('projections.source'::regclass, 'WHERE relation <> ''projections.events''::pg_catalog.regclass');
END
$$;

-- Append.

-- An append that comes again, known by the ids that its caller gave, as it was the first time; no row where none of them exists.
CREATE FUNCTION projections._appended_before(stream text, ids uuid[]) RETURNS TABLE(stream_version bigint, first_position bigint, last_position bigint)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    before record;
    other record;
BEGIN
    -- ids has an element for each event, null where none was given. The events of one append have versions in a row.
    WITH known AS (
        SELECT e.stream, e.version - g.place AS base, g.place, e.id
        FROM unnest(ids) WITH ORDINALITY AS g(id, place)
        JOIN projections.events e ON e.id = g.id
    )
    SELECT count(*) AS events, min(k.base) AS base,
           coalesce(bool_and(k.stream = _appended_before.stream), true) AND count(DISTINCT k.base) = 1 AND count(*) = cardinality(array_remove(ids, NULL)) AS same,
           min(k.place) AS place
    INTO before FROM known k;
    IF before.events = 0 THEN
        RETURN;
    END IF;
    IF NOT before.same THEN
        SELECT e.id, e.stream, e.version INTO other
        FROM projections.events e WHERE e.id = ids[before.place];
        RAISE EXCEPTION USING ERRCODE = 'unique_violation',
            MESSAGE = format('event id %s exists already', other.id),
            DETAIL = format('It is version %s of stream "%s", which was not appended by a call with the same ids.', other.version, other.stream),
            HINT = 'Repeat an append with exactly the ids that it had; give new events new ids.';
    END IF;
    RETURN QUERY SELECT before.base + cardinality(ids),
        min(e.position), max(e.position)
    FROM projections.events e
    WHERE e.stream = _appended_before.stream AND e.version IN (before.base + 1, before.base + cardinality(ids));
END
$$;
COMMENT ON FUNCTION projections._appended_before(text, uuid[]) IS 'Internal: the result of an append that was made before with these ids.';

-- Takes the next n versions of a stream and returns the version before them. Positions are drawn after that, under the stream's row lock, so
-- that they rise with the versions. REPEATABLE READ and SERIALIZABLE: the core raises 40001 where the row changed since the snapshot.
CREATE FUNCTION projections._advance_stream(stream text, n bigint, expected_version bigint) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    base bigint;
BEGIN
    LOOP
        UPDATE projections.streams s SET version = s.version + n, updated_at = clock_timestamp(), archived_at = NULL
        WHERE s.stream = _advance_stream.stream RETURNING s.version - n INTO base;
        EXIT WHEN FOUND;
        -- Who makes the same stream side by side is waited for here; then its row is there to be updated.
        INSERT INTO projections.streams (stream, version) VALUES (_advance_stream.stream, n) ON CONFLICT DO NOTHING;
        IF FOUND THEN
            base := 0;
            EXIT;
        END IF;
    END LOOP;
    IF base <> expected_version THEN
        PERFORM projections._count_conflict(stream);
        RAISE EXCEPTION USING ERRCODE = 'PJ001',
            MESSAGE = format('wrong expected version of stream "%s"', stream),
            DETAIL = CASE WHEN expected_version = 0 THEN format('Expected that it does not exist; it is at version %s.', base)
                          WHEN base = 0 THEN format('Expected version %s; it does not exist.', expected_version)
                          ELSE format('Expected version %s; it is at version %s.', expected_version, base) END,
            HINT = 'Read the stream again, decide anew, and append with the version that was read.';
    END IF;
    RETURN base;
END
$$;
COMMENT ON FUNCTION projections._advance_stream(text, bigint, bigint) IS 'Internal: takes versions of a stream, or raises PJ001.';

-- Until the end of the transaction no other append to the stream can take place.
CREATE FUNCTION projections._lock_stream(stream text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    LOOP
        PERFORM FROM projections.streams s WHERE s.stream = _lock_stream.stream FOR UPDATE;
        EXIT WHEN FOUND;
        -- Of two first appends with the same ids the second waits here for the end of the first.
        INSERT INTO projections.streams (stream, version) VALUES (_lock_stream.stream, 0) ON CONFLICT DO NOTHING;
        EXIT WHEN FOUND;
    END LOOP;
END
$$;
COMMENT ON FUNCTION projections._lock_stream(text) IS 'Internal: locks a stream against other appends with ids.';

CREATE FUNCTION projections._check_append(stream text, expected_version bigint) RETURNS void
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF coalesce(stream, '') = '' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'stream must not be empty',
            DETAIL = 'A stream is known by its name.',
            HINT = 'Name it after what its events are about, as in ''order-17''.';
    END IF;
    IF expected_version < 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('expected version %s is negative', expected_version),
            DETAIL = 'NULL accepts any version, 0 means that the stream must not exist, n that it is at version n.',
            HINT = 'Pass the version that was read.';
    END IF;
END
$$;
COMMENT ON FUNCTION projections._check_append(text, bigint) IS 'Internal: refuses an empty stream and a negative version.';

CREATE FUNCTION projections.append(stream text, type text, data jsonb, expected_version bigint DEFAULT NULL, metadata jsonb DEFAULT NULL,
                                   correlation_id text DEFAULT NULL, causation_id text DEFAULT NULL, id uuid DEFAULT NULL)
    RETURNS TABLE(stream_version bigint, first_position bigint, last_position bigint)
    LANGUAGE plpgsql ROWS 1 SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    IF stream <> '' IS NOT TRUE OR expected_version < 0 THEN
        PERFORM projections._check_append(stream, expected_version);
    END IF;
    IF type <> '' IS NOT TRUE OR data IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = CASE WHEN data IS NULL THEN 'data must not be null' ELSE 'type must not be empty' END,
            DETAIL = 'An event has a type and data.',
            HINT = 'Where there is nothing to say but the type, pass ''{}'' as data.';
    END IF;
    IF id IS NOT NULL THEN
        PERFORM projections._lock_stream(stream);
        RETURN QUERY SELECT * FROM projections._appended_before(stream, ARRAY[id]);
        IF FOUND THEN
            RETURN;
        END IF;
    END IF;
    stream_version := projections._advance_stream(stream, 1, expected_version) + 1;
    INSERT INTO projections.events AS e (id, stream, version, type, data, metadata, correlation_id, causation_id)
    VALUES (coalesce(id, projections._event_id()), stream, stream_version, type, data, metadata, correlation_id, causation_id)
    RETURNING e.position INTO first_position;
    last_position := first_position;
    RETURN NEXT;
END
$$;
COMMENT ON FUNCTION projections.append(text, text, jsonb, bigint, jsonb, text, text, uuid) IS
'Appends one event to a stream of our own store, which need not exist before. type: what happened. data: a JSON value.
expected_version: NULL accepts any, 0 means that the stream must not exist, n that it is at version n. metadata: more about the event.
correlation_id: what the event belongs to, for projections.trace(). causation_id: what caused it. id: with one that exists in this
stream already, nothing is appended and the first append''s result is returned, so a retry is safe. Returns the version of the stream
and the event''s position, twice, as append_many does. Appends to one stream wait for each other until the end of the transaction.
Only roles with EXECUTE may call it; they need no right on the tables.
Errors: PJ001 the stream is at another version; 22023 an empty stream or type, a negative version; 23505 the id exists in another stream;
40001 in REPEATABLE READ and SERIALIZABLE, where another append came between: try again.
Example: SELECT * FROM projections.append(''order-17'', ''OrderPlaced'', ''{"item": "A1", "quantity": 3}'', expected_version => 0);';

-- The element that is not an event.
CREATE FUNCTION projections._refuse_events(events jsonb) RETURNS void
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    bad record;
BEGIN
    IF jsonb_typeof(events) IS DISTINCT FROM 'array' OR jsonb_array_length(events) = 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'events must be a JSON array of at least one event',
            DETAIL = format('It is %s.', CASE WHEN events IS NULL THEN 'null' WHEN jsonb_typeof(events) = 'array' THEN 'empty' ELSE 'of type ' || jsonb_typeof(events) END),
            HINT = 'Pass [{"type": "…", "data": {…}}, …].';
    END IF;
    SELECT x.n, c.problem INTO bad
    FROM jsonb_array_elements(events) WITH ORDINALITY AS x(e, n), LATERAL (SELECT CASE
        WHEN jsonb_typeof(x.e) <> 'object' THEN format('It is of type %s.', jsonb_typeof(x.e))
        WHEN NOT x.e ? 'type' THEN 'It has no type.'
        WHEN jsonb_typeof(x.e -> 'type') <> 'string' OR x.e ->> 'type' = '' THEN 'Its type is not a text of at least one character.'
        WHEN NOT x.e ? 'data' THEN 'It has no data.'
        WHEN jsonb_typeof(x.e -> 'id') NOT IN ('string', 'null')
             OR x.e ->> 'id' !~ '^\{?[0-9a-fA-F]{4}(-?[0-9a-fA-F]{4}){7}\}?$' THEN 'Its id is not a UUID.'
        WHEN x.e - '{type,data,metadata,id}'::text[] <> '{}' THEN format('It has an unknown key "%s".', (SELECT min(k) FROM jsonb_object_keys(x.e - '{type,data,metadata,id}'::text[]) AS k))
        WHEN EXISTS (SELECT FROM jsonb_array_elements(events) WITH ORDINALITY AS y(e, n) WHERE y.n < x.n AND lower(translate(y.e ->> 'id', '{-}', '')) = lower(translate(x.e ->> 'id', '{-}', '')))
            THEN 'Its id is that of an element before.'
        END) AS c(problem)
    WHERE c.problem IS NOT NULL ORDER BY x.n LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('element %s of events is not an event', bad.n),
            DETAIL = bad.problem,
            HINT = 'An event is {"type": "…", "data": …}, and may have "metadata" and "id".';
    END IF;
END
$$;
COMMENT ON FUNCTION projections._refuse_events(jsonb) IS 'Internal: raises an error that names the first element that is not an event.';

CREATE FUNCTION projections.append_many(stream text, events jsonb, expected_version bigint DEFAULT NULL,
                                        correlation_id text DEFAULT NULL, causation_id text DEFAULT NULL)
    RETURNS TABLE(stream_version bigint, first_position bigint, last_position bigint)
    LANGUAGE plpgsql ROWS 1 SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    summary record;
    base bigint;
    now timestamptz;
BEGIN
    IF stream <> '' IS NOT TRUE OR expected_version < 0 THEN
        PERFORM projections._check_append(stream, expected_version);
    END IF;
    IF jsonb_typeof(events) IS DISTINCT FROM 'array' THEN
        PERFORM projections._refuse_events(events);
    END IF;
    SELECT count(*) AS n, count(e -> 'id') AS ids,
           bool_and(coalesce(jsonb_typeof(e -> 'type') = 'string' AND e ->> 'type' <> '' AND e ? 'data' AND e - '{type,data,metadata,id}'::text[] = '{}', false)) AS good
    INTO summary FROM jsonb_array_elements(events) AS e;
    IF summary.good IS NOT TRUE OR summary.ids > 0 THEN
        PERFORM projections._refuse_events(events);
    END IF;
    IF summary.ids > 0 THEN
        PERFORM projections._lock_stream(stream);
        RETURN QUERY SELECT * FROM projections._appended_before(stream, ARRAY(SELECT (e ->> 'id')::uuid FROM jsonb_array_elements(events) WITH ORDINALITY AS x(e, n) ORDER BY n));
        IF FOUND THEN
            RETURN;
        END IF;
    END IF;
    base := projections._advance_stream(stream, summary.n, expected_version);
    now := clock_timestamp();
    -- ORDER BY: positions are drawn above it, in the order of versions.
    WITH appended AS (
        INSERT INTO projections.events AS t (id, stream, version, type, data, metadata, correlation_id, causation_id, recorded_at)
        SELECT coalesce((e ->> 'id')::uuid, projections._event_id()), stream, base + n, e ->> 'type', e -> 'data', nullif(e -> 'metadata', 'null'),
               correlation_id, causation_id, now
        FROM jsonb_array_elements(events) WITH ORDINALITY AS x(e, n) ORDER BY n
        RETURNING t.position)
    SELECT min(a.position), max(a.position) INTO first_position, last_position FROM appended a;
    stream_version := base + summary.n;
    RETURN NEXT;
END
$$;
COMMENT ON FUNCTION projections.append_many(text, jsonb, bigint, text, text) IS
'Appends several events to a stream of our own store, in one go: all or none. events: a JSON array of objects with type and data, and
where wanted metadata and id. The other arguments are as of projections.append(). If the ids that are given exist already, as one
append to this stream, nothing is appended and that append''s result is returned; give an id to every event of a batch that may be
retried. Returns the version of the stream after the last event, and the positions of the first and the last one.
Errors: PJ001 the stream is at another version; 22023 an empty stream, an element that is not an event (it is named); 23505 some of
the ids exist, and not as one append; 40001 as of append.
Example: SELECT * FROM projections.append_many(''order-17'', ''[{"type": "ItemPicked", "data": {"item": "A1"}}, {"type": "OrderShipped", "data": {}}]'', 1);';

REVOKE EXECUTE ON FUNCTION projections.append(text, text, jsonb, bigint, jsonb, text, text, uuid), projections.append_many(text, jsonb, bigint, text, text),
    projections._advance_stream(text, bigint, bigint), projections._lock_stream(text), projections._appended_before(text, uuid[]) FROM PUBLIC;

CREATE VIEW projections.conflicts AS
SELECT c.stream, c.conflicts, c.last_at FROM projections.conflict c ORDER BY c.conflicts DESC, c.stream;
COMMENT ON VIEW projections.conflicts IS
'How often appends to a stream expected another version than it had (PJ001), and when last. Counted outside the failed transactions, by a
worker: without one nothing is counted.';
GRANT SELECT ON projections.conflicts TO pg_monitor;

-- Look at events.

CREATE FUNCTION projections._source(relation regclass) RETURNS projections.source
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found_source projections.source;
BEGIN
    SELECT * INTO found_source FROM projections.source s WHERE s.relation = _source.relation;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'wrong_object_type',
            MESSAGE = format('%s is not an event source', projections._name(relation)),
            DETAIL = 'Its positions are not known.',
            HINT = format('Register it first: SELECT projections.register_source(%L, position_column => …);', projections._name(relation));
    END IF;
    RETURN found_source;
END
$$;
COMMENT ON FUNCTION projections._source(regclass) IS 'Internal: the registration of an event source.';

-- The text of a query of all events that are left, those of our own store that were archived included where wanted. Conditions on its position,
-- type and correlation_id reach the table's indexes, if the columns are of these types or binary compatible with them.
CREATE FUNCTION projections._events_query(source regclass, archived boolean DEFAULT true) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s projections.source := projections._source(source);
    time_type regtype := (SELECT a.atttypid FROM pg_attribute a WHERE a.attrelid = source AND a.attname = s.time_column);
    events text;
BEGIN
    events := format('SELECT %s AS position, %s AS type, %s AS stream, %s AS event_time, %s AS correlation_id, %s AS event_id, e AS event FROM ',
        CASE WHEN s.arrivals IS NULL THEN format('e.%I', s.position_column) ELSE 'a.arrival' END,
        coalesce('e.' || quote_ident(s.type_column) || '::text', 'NULL::text'),
        coalesce('e.' || quote_ident(s.stream_column) || '::text', 'NULL::text'),
        CASE WHEN s.time_column IS NULL THEN 'NULL::timestamptz'
             WHEN time_type = 'timestamp'::regtype THEN format('(e.%I AT TIME ZONE ''UTC'')', s.time_column)
             ELSE format('e.%I::timestamptz', s.time_column) END,
        coalesce('e.' || quote_ident(s.correlation_column) || '::text', 'NULL::text'),
        coalesce('e.' || quote_ident(s.id_column) || '::text', 'NULL::text'));
    RETURN events || CASE WHEN source = 'projections.events'::regclass AND NOT archived THEN 'ONLY ' ELSE '' END || projections._name(source) || ' e'
        || CASE WHEN s.arrivals IS NULL THEN '' ELSE format(' JOIN %s a ON a.position = e.%I', projections._name(s.arrivals), s.position_column) END;
END
$$;
COMMENT ON FUNCTION projections._events_query(regclass, boolean) IS
'Internal: SQL text of a source''s events as (position, type, stream, event_time, correlation_id, event_id, event).';

CREATE FUNCTION projections.read_stream(stream text, from_version bigint DEFAULT 1, max_events int DEFAULT 1000)
    RETURNS TABLE("position" bigint, id uuid, version bigint, type text, data jsonb, metadata jsonb, correlation_id text, causation_id text, recorded_at timestamptz)
    LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT e.position, e.id, e.version, e.type, e.data, e.metadata, e.correlation_id, e.causation_id, e.recorded_at
    FROM projections.events AS e
    WHERE e.stream = read_stream.stream AND e.version >= read_stream.from_version
    ORDER BY e.version LIMIT read_stream.max_events;
END;
COMMENT ON FUNCTION projections.read_stream(text, bigint, int) IS
'The events of one stream of our own store, archived ones included, by version. from_version: the first one wanted. max_events: at most
so many; go on from the last version + 1. No rows where there is no such stream. Needs SELECT on projections.events and events_archive.
Example: SELECT version, type, data FROM projections.read_stream(''order-17'');';

CREATE FUNCTION projections._owner_rows(projection regclass, query text, key jsonb)
    RETURNS TABLE(source text, "position" bigint, type text, event_time timestamptz, event jsonb)
    LANGUAGE c STRICT STABLE AS 'MODULE_PATHNAME', 'projections_owner_rows';
COMMENT ON FUNCTION projections._owner_rows(regclass, text, jsonb) IS
'Internal: the rows of a query over $1, run as the owner of the projection, who the caller must be or be a member of.';

-- Whether the slot that an event's key belongs to has passed it; the owner can tell, who sees keys.
CREATE FUNCTION projections._passed(projection regclass, event_position bigint) RETURNS boolean
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    feed regclass;
    key text;
BEGIN
    SELECT p.definition INTO feed FROM projections.projection p JOIN pg_class c ON c.oid = p.relation
    WHERE p.relation = projection AND pg_has_role(c.relowner, 'USAGE');
    IF feed IS NULL THEN
        RETURN false;
    END IF;
    SELECT r.source INTO key FROM projections._owner_rows(projection, format(
        'SELECT f.keys[1], f.position::bigint, NULL::text, NULL::timestamptz, NULL::jsonb FROM %s f WHERE f.position = ($1)::bigint', projections._name(feed)),
        to_jsonb(event_position)) r;
    RETURN NOT FOUND OR (SELECT n.position >= event_position FROM (SELECT s.slot, s.position, count(*) OVER () AS slots FROM projections.slot s WHERE s.projection = _passed.projection) n
                         WHERE n.slot = (hashtextextended(key, 0) & 9223372036854775807) % n.slots);
END
$$;
COMMENT ON FUNCTION projections._passed(regclass, bigint) IS 'Internal: whether the slot of an event''s key has applied it.';

-- What became of one event. Without error texts and keys, which are the owner's.
CREATE FUNCTION projections._recorded_outcomes(source regclass, event_position bigint, event_type text, event_time timestamptz)
    RETURNS TABLE(relation regclass, projection text, status text, detail text, some_passed boolean)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT p.relation, projections._name(p.relation), o.status,
        CASE o.status
            WHEN 'failed' THEN format('failure %s: SQLSTATE %s, retried %s times, %s', f.id, f.sqlstate, f.retry_count,
                                      coalesce('next at ' || to_char(f.next_retry_at, 'YYYY-MM-DD HH24:MI:SS'), 'a dead letter'))
            WHEN 'parked' THEN format('behind a failure of the same key, since %s', to_char(k.parked_at, 'YYYY-MM-DD HH24:MI:SS'))
            WHEN 'skipped' THEN format('failure %s was skipped', r.id)
            WHEN 'filtered' THEN format('takes %s', array_to_string(p.event_types, ', '))
            WHEN 'pending' THEN CASE WHEN p.paused_at IS NOT NULL THEN 'paused' ELSE format('applied up to %s', s.lowest) END
        END,
        p.kind <> 'query' AND o.status = 'pending' AND s.highest >= event_position
    FROM projections.projection p
    LEFT JOIN projections.failure f ON f.projection = p.relation AND f.position = event_position AND f.resolved_at IS NULL
    LEFT JOIN projections.parked_event k ON k.projection = p.relation AND k.position = event_position
    LEFT JOIN LATERAL (SELECT x.id, x.resolution FROM projections.failure x WHERE x.projection = p.relation AND x.position = event_position AND x.resolved_at IS NOT NULL
                       ORDER BY x.id DESC LIMIT 1) r ON true
    CROSS JOIN LATERAL (
        -- Query projections read events in stripes of positions; which slot takes a key is not to be seen here.
        SELECT count(*) AS slots,
               CASE WHEN p.kind = 'query' THEN min(n.position) FILTER (WHERE n.slot = (event_position / 8192) % n.slots) ELSE min(n.position) END AS lowest,
               max(n.position) AS highest
        FROM (SELECT n.slot, n.position, count(*) OVER () AS slots FROM projections.slot n WHERE n.projection = p.relation) n) s
    CROSS JOIN LATERAL (SELECT CASE
        WHEN f.id IS NOT NULL THEN 'failed'
        WHEN k.position IS NOT NULL THEN 'parked'
        WHEN p.event_types IS NOT NULL AND NOT _recorded_outcomes.event_type = ANY (p.event_types) THEN 'filtered'
        WHEN r.resolution = 'skipped' THEN 'skipped'
        WHEN p.mode = 'inline' AND p.paused_at <= _recorded_outcomes.event_time THEN 'pending'
        WHEN p.mode = 'async' AND coalesce(s.lowest, 0) < event_position THEN 'pending'
        ELSE 'applied' END AS status) o
    WHERE source = ANY (p.sources)
$$;
COMMENT ON FUNCTION projections._recorded_outcomes(regclass, bigint, text, timestamptz) IS
'Internal: what each projection over a source did with one event; pending where one slot has not passed it, some_passed where another has.';

CREATE FUNCTION projections._outcomes(source regclass, event_position bigint, event_type text, event_time timestamptz)
    RETURNS TABLE(projection text, status text, detail text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT r.projection, CASE WHEN p.passed THEN 'applied' ELSE r.status END, CASE WHEN NOT p.passed THEN r.detail END
    FROM projections._recorded_outcomes(source, event_position, event_type, event_time) r,
         LATERAL (SELECT r.some_passed AND projections._passed(r.relation, event_position) AS passed) p
$$;
COMMENT ON FUNCTION projections._outcomes(regclass, bigint, text, timestamptz) IS 'Internal: what each projection over a source did with one event.';

CREATE FUNCTION projections._event_status(source regclass, event_position bigint) RETURNS TABLE(projection text, status text, detail text)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    event record;
    s projections.source := projections._source(source);
BEGIN
    EXECUTE format('SELECT e.type, e.event_time FROM (%s) e WHERE e.position = $1', projections._events_query(source)) INTO event USING event_position;
    IF event IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'no_data_found',
            MESSAGE = format('%s has no event at position %s', projections._name(source), event_position),
            DETAIL = CASE WHEN event_position <= s.archived_to THEN format('Events up to position %s may have been deleted by projections.archive_events().', s.archived_to)
                          ELSE 'It was rolled back, or is not committed yet.' END,
            HINT = 'Positions have gaps where transactions rolled back.';
    END IF;
    RETURN QUERY SELECT o.* FROM projections._outcomes(source, event_position, event.type, event.event_time) o ORDER BY o.projection;
END
$$;
COMMENT ON FUNCTION projections._event_status(regclass, bigint) IS 'Internal: projections.event_status() of a table.';

CREATE FUNCTION projections.event_status(source text, "position" bigint) RETURNS TABLE(projection text, status text, detail text)
    LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT s.projection, s.status, s.detail FROM projections._event_status(event_status.source::pg_catalog.regclass, event_status."position") AS s;
END;
COMMENT ON FUNCTION projections.event_status(text, bigint) IS
'What each projection over a source did with one event. status: applied; pending (its checkpoint is below, or it is paused); failed (see
projections.failures); parked (behind a failure of the same key); skipped; filtered (it does not take events of this type). detail: since
when, which failure. Needs SELECT on the source.
Errors: 42P01 no such table; 42809 not an event source; P0002 no event at that position.
Example: SELECT * FROM projections.event_status(''projections.events'', 42);';

CREATE FUNCTION projections.trace(correlation_id text)
    RETURNS TABLE(source text, "position" bigint, event_time timestamptz, stream text, type text, event jsonb, projection text, status text, detail text)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    each record;
    texts text[] := '{}';
BEGIN
    FOR each IN SELECT s.relation, has_table_privilege(s.relation, 'SELECT') AS readable FROM projections.source s WHERE s.correlation_column IS NOT NULL ORDER BY 1 LOOP
        IF NOT each.readable THEN
            RAISE NOTICE 'events of % are left out', projections._name(each.relation)
                USING DETAIL = format('%I may not select from it.', current_user);
            CONTINUE;
        END IF;
        texts := texts || format('SELECT %L::regclass AS source, e.position::bigint AS position, e.type, e.stream, e.event_time, to_jsonb(e.event) AS event FROM (%s) e WHERE e.correlation_id = $1',
                                 each.relation::oid, projections._events_query(each.relation));
    END LOOP;
    IF cardinality(texts) = 0 THEN
        RETURN;
    END IF;
    -- Time orders events of different sources; within one it is the position, whatever clocks said.
    RETURN QUERY EXECUTE format('
        SELECT projections._name(e.source), e.position, e.event_time, e.stream, e.type, e.event, o.projection, o.status, o.detail
        FROM (SELECT x.*, max(x.event_time) OVER (PARTITION BY x.source ORDER BY x.position) AS reached FROM (%s) x) e
        LEFT JOIN LATERAL projections._outcomes(e.source, e.position, e.type, e.event_time) o ON true
        ORDER BY e.reached, e.source, e.position, o.projection', array_to_string(texts, ' UNION ALL ')) USING trace.correlation_id;
END
$$;
COMMENT ON FUNCTION projections.trace(text) IS
'The events of one correlation, over our own store and every source registered with a correlation column, in the order in which they
happened, and what each projection did with them: a row per event and projection (one with NULLs where none reads the source). status and
detail are as of projections.event_status(). Sources that the caller may not read are left out with a NOTICE. Raises nothing else.
Example: SELECT position, type, projection, status FROM projections.trace(''order-17'');';

CREATE FUNCTION projections._position_at(source regclass, at timestamptz) RETURNS bigint
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    result bigint;
BEGIN
    PERFORM projections._refuse_without(source, 'time');
    EXECUTE format('SELECT e.position FROM (%s) e WHERE e.event_time <= $1 ORDER BY e.position DESC LIMIT 1', projections._events_query(source)) INTO result USING at;
    RETURN coalesce(result, (SELECT s.archived_to FROM projections.source s WHERE s.relation = source));
END
$$;
COMMENT ON FUNCTION projections._position_at(regclass, timestamptz) IS 'Internal: projections.position_at() of a table.';

CREATE FUNCTION projections._refuse_without(source regclass, what text) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s projections.source := projections._source(source);
BEGIN
    IF (CASE what WHEN 'time' THEN s.time_column WHEN 'type' THEN s.type_column WHEN 'correlation' THEN s.correlation_column END) IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('source %s has no %s column', projections._name(source), what),
            DETAIL = 'It was registered without one.',
            HINT = format('Register it again with it: SELECT projections.register_source(%L, …, %s_column => …);', projections._name(source), what);
    END IF;
END
$$;
COMMENT ON FUNCTION projections._refuse_without(regclass, text) IS 'Internal: refuses a source that lacks a column.';

CREATE FUNCTION projections.position_at(source text, at timestamptz) RETURNS bigint
    LANGUAGE sql STABLE RETURN projections._position_at(source::pg_catalog.regclass, at);
COMMENT ON FUNCTION projections.position_at(text, timestamptz) IS
'The position of the last event of a source whose time is not after the given one; 0 where there is none (or the mark up to which events
were deleted). Reads backwards from the newest event: its time grows with the number of events after that moment. Needs SELECT on the source.
Errors: 42P01 no such table; 42809 not an event source; 55000 the source has no time column.
Example: SELECT projections.position_at(''projections.events'', now() - interval ''1 day'');';

CREATE FUNCTION projections._find_incomplete(source regclass, steps text[], since timestamptz)
    RETURNS TABLE(correlation_id text, problem text, found text[], missing text[], first_position bigint, last_position bigint, first_at timestamptz, last_at timestamptz)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM projections._refuse_without(source, 'correlation'), projections._refuse_without(source, 'type');
    IF since IS NOT NULL THEN
        PERFORM projections._refuse_without(source, 'time');
    END IF;
    IF coalesce(cardinality(steps), 0) = 0 OR array_position(steps, NULL) IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'steps must name at least one event type, and no null',
            DETAIL = 'They are the event types that each correlation should have, in their order.',
            HINT = 'As in ARRAY[''OrderPlaced'', ''OrderPaid'', ''OrderShipped''].';
    END IF;
    -- Steps may come more than once, in the steps and among the events. Each step takes the first event of its type after the step before.
    RETURN QUERY EXECUTE format('
        WITH RECURSIVE of_steps AS (
            SELECT e.correlation_id, e.position::bigint AS position, e.type, e.event_time FROM (%s) e WHERE e.type = ANY ($1) AND e.correlation_id IS NOT NULL
        ), correlation AS (
            SELECT c.correlation_id, array_agg(c.type ORDER BY c.position) AS types, min(c.position) AS first_position, max(c.position) AS last_position,
                   min(c.event_time) AS first_at, max(c.event_time) AS last_at
            FROM of_steps c GROUP BY c.correlation_id HAVING $2 IS NULL OR max(c.event_time) >= $2
        ), walk AS (
            SELECT c.correlation_id, 0 AS step, 0 AS place FROM correlation c
            UNION ALL
            SELECT w.correlation_id, w.step + 1, array_position(c.types, $1[w.step + 1], w.place + 1)
            FROM walk w JOIN correlation c USING (correlation_id) WHERE w.step < cardinality($1) AND w.place IS NOT NULL
        ), lacking AS (
            SELECT c.correlation_id, array_agg(s.type ORDER BY s.n) AS missing
            FROM correlation c, (SELECT t.type, min(t.n) AS n, count(*) AS times FROM unnest($1) WITH ORDINALITY AS t(type, n) GROUP BY t.type) s
            WHERE cardinality(array_positions(c.types, s.type)) < s.times GROUP BY c.correlation_id
        )
        SELECT c.correlation_id, CASE WHEN l.missing IS NOT NULL THEN ''missing'' ELSE ''misordered'' END, c.types, coalesce(l.missing, ''{}''),
               c.first_position, c.last_position, c.first_at, c.last_at
        FROM correlation c LEFT JOIN lacking l USING (correlation_id)
        WHERE l.missing IS NOT NULL OR EXISTS (SELECT FROM walk w WHERE w.correlation_id = c.correlation_id AND w.place IS NULL)
        ORDER BY c.first_position', projections._events_query(source)) USING steps, since;
END
$$;
COMMENT ON FUNCTION projections._find_incomplete(regclass, text[], timestamptz) IS 'Internal: projections.find_incomplete() of a table.';

CREATE FUNCTION projections.find_incomplete(source text, steps text[], since timestamptz DEFAULT NULL)
    RETURNS TABLE(correlation_id text, problem text, found text[], missing text[], first_position bigint, last_position bigint, first_at timestamptz, last_at timestamptz)
    LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT f.correlation_id, f.problem, f.found, f.missing, f.first_position, f.last_position, f.first_at, f.last_at
    FROM projections._find_incomplete(find_incomplete.source::pg_catalog.regclass, find_incomplete.steps, find_incomplete.since) AS f;
END;
COMMENT ON FUNCTION projections.find_incomplete(text, text[], timestamptz) IS
'Correlations that have at least one of the steps, but not all of them, or not in their order. steps: event types, in the order in which
they should come. since: only correlations with a step at or after it; all their events count. problem: missing or misordered. found: the
event types of the steps in the order in which they came. missing: the steps that did not. Needs SELECT on the source, and reads its
events of these types.
Errors: 42P01 no such table; 42809 not an event source; 55000 the source has no correlation, type or time column; 22023 no steps.
Example: SELECT correlation_id, missing FROM projections.find_incomplete(''projections.events'', ARRAY[''OrderPlaced'', ''OrderPaid''], now() - interval ''1 day'');';

CREATE FUNCTION projections._rows_query(projection regclass, OUT query text, OUT tables regclass[])
    LANGUAGE c STRICT STABLE AS 'MODULE_PATHNAME', 'projections_rows_query';
COMMENT ON FUNCTION projections._rows_query(regclass) IS
'Internal: the query of a projection before it is grouped, with its keys as k1, k2 … and the rows of its tables as r1, r2 …';

-- The text of a query over $1, a key; with the key at hand its NULLs are known, so that equality can use an index for the others.
CREATE FUNCTION projections._rows_behind(projection regclass, key jsonb) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    names text[] := projections._key_columns(projection);
    behind record;
    condition text;
BEGIN
    IF jsonb_typeof(key) IS DISTINCT FROM 'object' OR cardinality(names) = 0 AND key <> '{}'
       OR ARRAY(SELECT k FROM jsonb_object_keys(key) AS k ORDER BY 1) IS DISTINCT FROM ARRAY(SELECT n FROM unnest(names) AS n ORDER BY 1) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'this is not a key of the projection',
            DETAIL = format('The key of %s is (%s).', projections._name(projection), array_to_string(names, ', ')),
            HINT = 'Pass one JSON object with a value for each column of the key; {} where it has none.';
    END IF;
    SELECT * INTO behind FROM projections._rows_query(projection);
    SELECT string_agg(CASE WHEN jsonb_typeof(key -> n.name) = 'null' THEN format('q.k%s IS NULL', n.place)
                           ELSE format('q.k%s = (jsonb_populate_record(NULL::%s, $1)).%I', n.place, projections._name(projection), n.name) END, ' AND ')
    INTO condition FROM unnest(names) WITH ORDINALITY AS n(name, place);
    RETURN (SELECT string_agg(format(
            'SELECT %L::text AS source, %s AS "position", %s AS type, %s AS event_time, x.row AS event FROM (SELECT %s to_jsonb(q.r%s) AS row FROM (%s) q WHERE %s) x',
            projections._name(t.source),
            CASE WHEN s.arrivals IS NOT NULL THEN format('(SELECT a.arrival FROM %s a WHERE a.position = (x.row ->> %L)::bigint)', projections._name(s.arrivals), s.position_column)
                 ELSE coalesce('(x.row ->> ' || quote_literal(s.position_column) || ')::bigint', 'NULL::bigint') END,
            coalesce('x.row ->> ' || quote_literal(s.type_column), 'NULL::text'),
            CASE WHEN s.time_column IS NULL THEN 'NULL::timestamptz'
                 WHEN (SELECT a.atttypid FROM pg_attribute a WHERE a.attrelid = s.relation AND a.attname = s.time_column) = 'timestamp'::regtype
                 THEN format('((x.row ->> %L)::timestamp AT TIME ZONE ''UTC'')', s.time_column)
                 ELSE format('(x.row ->> %L)::timestamptz', s.time_column) END,
            -- A row of one table that joins several of another is one row.
            CASE WHEN cardinality(behind.tables) > 1 THEN 'DISTINCT' ELSE '' END, t.place, behind.query, coalesce(condition, 'true')), ' UNION ALL ' ORDER BY t.place)
            || ' ORDER BY 1, 2, 5'
        FROM unnest(behind.tables) WITH ORDINALITY AS t(source, place) LEFT JOIN projections.source s ON s.relation = t.source);
END
$$;
COMMENT ON FUNCTION projections._rows_behind(regclass, jsonb) IS 'Internal: SQL text of the source rows that made one row of a query projection.';

CREATE FUNCTION projections._history(projection regclass, key jsonb)
    RETURNS TABLE(source text, "position" bigint, type text, event_time timestamptz, event jsonb)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    p projections.projection;
    wanted text := key #>> '{}';
BEGIN
    SELECT * INTO p FROM projections.projection c WHERE c.relation = _history.projection;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = format('%s is not a projection', projections._name(projection)),
            DETAIL = 'It is a relation that nothing maintains.', HINT = 'projections.definitions lists the projections.';
    END IF;
    IF p.kind = 'query' THEN
        RETURN QUERY SELECT * FROM projections._owner_rows(projection, projections._rows_behind(projection, key), key);
        RETURN;
    END IF;
    IF jsonb_typeof(key) = 'object' THEN
        IF (SELECT array_agg(k) FROM jsonb_object_keys(key) AS k) IS DISTINCT FROM ARRAY['key'] THEN
            RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'this is not a key of the projection',
                DETAIL = format('The key of %s is (key).', projections._name(projection)), HINT = 'Pass {"key": "…"}, or the key alone.';
        END IF;
        wanted := key ->> 'key';
    END IF;
    RETURN QUERY SELECT * FROM projections._owner_rows(projection, format(
        'SELECT %L::text, f.position::bigint, f.type::text, f.event_time::timestamptz, to_jsonb(f.event) FROM %s f WHERE ($1 #>> ''{}'') = ANY (f.keys) ORDER BY f.position',
        projections._name(p.sources[1]), projections._name(p.definition)), to_jsonb(wanted));
END
$$;
COMMENT ON FUNCTION projections._history(regclass, jsonb) IS 'Internal: projections.history() of a relation.';

CREATE FUNCTION projections.history(name text, key jsonb)
    RETURNS TABLE(source text, "position" bigint, type text, event_time timestamptz, event jsonb)
    LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT h.source, h."position", h.type, h.event_time, h.event FROM projections._history(history.name::pg_catalog.regclass, history.key) AS h;
END;
COMMENT ON FUNCTION projections.history(text, jsonb) IS
'What made one row of a projection. key: one JSON object, as {"item": "A1"}; for a reducer, state machine or handler also the key alone, as "A1".
Of a reducer or state machine: the events delivered to that key, by position. Of a query projection: the source rows that its row stands
for, as they are now; position, type and event_time are NULL where the table is no event source. Of a handler: the events of a
partition. Runs as the projection''s owner, who the caller must be, or a member of it.
Errors: 42P01 no such relation; 42809 not a projection; 22023 not a key of it; 42501 not the owner.
Example: SELECT position, type, event FROM projections.history(''stock'', ''{"item": "A1"}'');';

-- What is decided is remembered for the session only: one that just began sees none of it while anybody draws, and sees all of it once
-- those have ended whom it saw first. That takes no longer than their transactions, however many others follow.
CREATE FUNCTION projections._decided(source regclass, wanted bigint) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    give_up timestamptz := clock_timestamp() + interval '1 s';
    safe bigint;
BEGIN
    LOOP
        safe := projections._safe_position(source);
        EXIT WHEN safe >= wanted OR NOT EXISTS (SELECT FROM projections._drawing(source)) OR clock_timestamp() > give_up;
        PERFORM pg_sleep(0.002);
    END LOOP;
    -- Who drew last may have ended after the first question and before the second.
    RETURN projections._safe_position(source);
END
$$;
COMMENT ON FUNCTION projections._decided(regclass, bigint) IS
'Internal: the safe position; waits up to a second for those who draw to end, until it reaches the wanted one.';

-- Archive.

-- Who has not applied all events up to a position. Needs no rights: it tells names and positions.
CREATE FUNCTION projections._archive_blockers(source regclass, up_to bigint) RETURNS SETOF text
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT b.blocker FROM projections.projection p, LATERAL (
        SELECT format('Inline projection %s would lose them, as it follows deleted rows.', projections._name(p.relation))
        WHERE p.mode = 'inline' AND p.kind = 'query'
        UNION ALL
        SELECT format('Projection %s is behind the change log.', projections._name(p.relation)) WHERE p.changes <> '{}'
        UNION ALL
        SELECT format('Projection %s, slot %s, has applied events up to %s.', projections._name(p.relation), s.slot, s.position)
        FROM projections.slot s WHERE s.projection = p.relation AND p.mode = 'async' AND p.changes = '{}' AND s.position < up_to
        UNION ALL
        SELECT format('Projection %s has an open failure (%s) at position %s.', projections._name(p.relation), f.id, f.position)
        FROM projections.failure f WHERE f.projection = p.relation AND f.resolved_at IS NULL AND f.position <= up_to
        UNION ALL
        SELECT format('Projection %s has parked an event at position %s.', projections._name(p.relation), k.position)
        FROM projections.parked_event k WHERE k.projection = p.relation AND k.position <= up_to
    ) AS b(blocker)
    WHERE source = ANY (p.sources)
    ORDER BY 1
$$;
COMMENT ON FUNCTION projections._archive_blockers(regclass, bigint) IS 'Internal: what still needs the events of a source up to a position.';

CREATE FUNCTION projections._archive_events(source regclass, before timestamptz, dry_run boolean)
    RETURNS TABLE(events bigint, first_position bigint, last_position bigint)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    s projections.source := projections._source(source);
    own boolean := source = 'projections.events'::regclass;
    up_to bigint;
    blockers text[];
    reader projections.subscription;
    unread boolean;
    deleted bigint;
BEGIN
    PERFORM projections._refuse_without(source, 'time');
    -- Only whole beginnings go: up to the first event that is to stay, and up to where no position can still be filled.
    EXECUTE format('SELECT coalesce((SELECT e.position - 1 FROM (%1$s) e WHERE e.event_time >= $1 OR e.event_time IS NULL ORDER BY e.position LIMIT 1),
                                    (SELECT max(e.position) FROM (%1$s) e), 0)',
                   projections._events_query(source, false)) INTO up_to USING before;
    up_to := least(up_to, projections._decided(source, up_to));
    EXECUTE format('SELECT count(*), min(e.position), max(e.position) FROM (%s) e WHERE e.position <= $1', projections._events_query(source, false))
        INTO events, first_position, last_position USING up_to;
    IF events = 0 THEN
        RETURN NEXT;
        RETURN;
    END IF;
    up_to := last_position;

    blockers := ARRAY(SELECT projections._archive_blockers(source, up_to));
    FOR reader IN SELECT * FROM projections.subscription r WHERE r.source = _archive_events.source AND r.position < up_to LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM (%s) e WHERE e.position > $1 AND e.position <= $2 AND ($3 IS NULL OR e.type = ANY ($3)))',
                       projections._events_query(source, false)) INTO unread USING reader.position, up_to, reader.event_types;
        IF unread THEN
            blockers := blockers || format('Subscription "%s" has acknowledged events up to %s.', reader.name, reader.position);
        END IF;
    END LOOP;
    IF cardinality(blockers) > 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'object_in_use',
            MESSAGE = format('cannot archive the events of %s up to position %s', projections._name(source), up_to),
            DETAIL = array_to_string(blockers[1:10], E'\n') || CASE WHEN cardinality(blockers) > 10 THEN format(E'\nAnd %s more.', cardinality(blockers) - 10) ELSE '' END,
            HINT = 'Let them catch up, resolve the failures, or archive up to an earlier time.';
    END IF;
    IF dry_run THEN
        RETURN NEXT;
        RETURN;
    END IF;

    IF own THEN
        WITH moved AS (DELETE FROM ONLY projections.events e WHERE e.position <= up_to RETURNING e.*)
        INSERT INTO projections.events_archive SELECT * FROM moved;
        GET DIAGNOSTICS deleted = ROW_COUNT;
        UPDATE projections.streams t SET archived_at = clock_timestamp()
        WHERE t.archived_at IS NULL AND t.stream IN (SELECT a.stream FROM projections.events_archive a WHERE a.position BETWEEN first_position AND up_to)
          AND NOT EXISTS (SELECT FROM ONLY projections.events e WHERE e.stream = t.stream);
    ELSE
        -- The mark goes with the rows, so that nobody replays what is not there.
        UPDATE projections.source t SET archived_to = up_to WHERE t.relation = source;
        IF NOT FOUND THEN
            RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = format('permission denied for table %s', projections._name(source)),
                DETAIL = 'Archiving deletes events.', HINT = format('GRANT DELETE ON %s TO %I;', projections._name(source), current_user);
        END IF;
        IF s.arrivals IS NULL THEN
            EXECUTE format('DELETE FROM %s e WHERE e.%I <= $1', projections._name(source), s.position_column) USING up_to;
        ELSE
            EXECUTE format('DELETE FROM %s e USING %s a WHERE a.position = e.%I AND a.arrival <= $1', projections._name(source), projections._name(s.arrivals), s.position_column)
                USING up_to;
        END IF;
        GET DIAGNOSTICS deleted = ROW_COUNT;
    END IF;
    IF deleted <> events THEN
        RAISE EXCEPTION USING ERRCODE = 'serialization_failure', MESSAGE = format('%s events were to be archived, and %s were', events, deleted),
            DETAIL = 'Another session, a trigger or a row-level policy had a hand in it.', HINT = 'Try again.';
    END IF;
    RETURN NEXT;
END
$$;
COMMENT ON FUNCTION projections._archive_events(regclass, timestamptz, boolean) IS 'Internal: projections.archive_events() of a table.';

CREATE FUNCTION projections.archive_events(source text, before timestamptz, dry_run boolean DEFAULT false)
    RETURNS TABLE(events bigint, first_position bigint, last_position bigint)
    LANGUAGE c ROWS 1 AS 'MODULE_PATHNAME', 'projections_archive_events';
COMMENT ON FUNCTION projections.archive_events(text, timestamptz, boolean) IS
'Archives the events of a source from its beginning up to the first one that is not before the given time. Of our own store they move to
projections.events_archive, where rebuilds, read_stream and trace still find them, and a stream of which no event is left is marked with
archived_at. Of another source they are deleted, and the position is remembered: what would need them is refused with PJ006 from then on.
Projections keep their totals. dry_run: only says what would go. Returns how many events, and the positions of the first and the last one.
Needs SELECT and DELETE on the source, for our own store also INSERT on projections.events_archive and UPDATE on projections.streams.
Errors: 55006 an async projection, an open failure, a parked event or a subscription still needs one of them, or an inline projection
would lose them (DETAIL names it); 42P01 no such table; 42809 not an event source; 55000 it has no time column; 42501 a right is missing.
Example: SELECT * FROM projections.archive_events(''projections.events'', now() - interval ''2 years'', dry_run => true);';

ALTER TABLE projections.source ENABLE ROW LEVEL SECURITY;
CREATE POLICY readable ON projections.source FOR SELECT USING (true);
-- Who may delete a source's events may say up to where they went.
CREATE POLICY archivable ON projections.source FOR UPDATE USING (pg_catalog.has_table_privilege(relation, 'DELETE'));
GRANT UPDATE (archived_to) ON projections.source TO PUBLIC;

-- Subscriptions: readers outside the database.

ALTER TABLE projections.subscription ENABLE ROW LEVEL SECURITY;
CREATE POLICY readable ON projections.subscription FOR SELECT USING (true);
CREATE POLICY makeable ON projections.subscription FOR INSERT
    WITH CHECK (owner = pg_catalog.quote_ident(current_user)::regrole AND pg_catalog.has_table_privilege(source, 'SELECT'));
CREATE POLICY movable ON projections.subscription FOR UPDATE USING (pg_catalog.pg_has_role(owner, 'USAGE'));
-- A subscription holds archiving back, so the source's owner may end it.
CREATE POLICY droppable ON projections.subscription FOR DELETE
    USING (pg_catalog.pg_has_role(owner, 'USAGE')
           OR pg_catalog.pg_has_role((SELECT c.relowner FROM pg_catalog.pg_class c WHERE c.oid = source), 'USAGE'));
GRANT SELECT, INSERT, DELETE, UPDATE (position, acked_at) ON projections.subscription TO PUBLIC;

-- A newline before each closing parenthesis: a comment must not swallow it.
CREATE FUNCTION projections._poll_query() RETURNS text LANGUAGE sql IMMUTABLE
    RETURN 'SELECT e.position::bigint, e.type, (SELECT (%s
)::text FROM (SELECT (e.event).*) AS e), to_jsonb(e.event), e.event_time
        FROM (%s) e WHERE e.position > $1 AND e.position <= $2 %s ORDER BY e.position LIMIT $4';
COMMENT ON FUNCTION projections._poll_query() IS 'Internal: the query of projections.poll(), to be formatted with the key, the events and a condition.';

CREATE FUNCTION projections._create_subscription(name text, source regclass, partition_by text, event_types text[]) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    s projections.source := projections._source(source);
BEGIN
    IF coalesce(name, '') = '' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'name must not be empty',
            DETAIL = 'A subscription is known by its name.', HINT = 'Name it after its reader.';
    END IF;
    IF event_types IS NOT NULL THEN
        PERFORM projections._refuse_without(source, 'type');
    END IF;
    -- A missing right and a bad expression show now, and not at the first poll.
    EXECUTE format(projections._poll_query(), coalesce(partition_by, 'NULL'), projections._events_query(source), '') USING 0, 0, event_types, 0;
    INSERT INTO projections.subscription (name, source, partition_by, event_types, position, owner)
    VALUES (name, source, partition_by, event_types, s.archived_to, quote_ident(current_user)::regrole) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'duplicate_object', MESSAGE = format('subscription "%s" already exists', name),
            DETAIL = 'Names of subscriptions are unique in the database.', HINT = 'Choose another name, or drop it: SELECT projections.drop_subscription(…);';
    END IF;
    IF s.archived_to > 0 THEN
        RAISE WARNING 'subscription "%" begins after position %', name, s.archived_to
            USING DETAIL = 'Events before may have been deleted by projections.archive_events().';
    END IF;
END
$$;
COMMENT ON FUNCTION projections._create_subscription(text, regclass, text, text[]) IS 'Internal: projections.create_subscription() to a table.';

CREATE FUNCTION projections.create_subscription(name text, source text, partition_by text DEFAULT NULL, event_types text[] DEFAULT NULL) RETURNS void
    LANGUAGE sql VOLATILE
BEGIN ATOMIC
    SELECT projections._create_subscription(create_subscription.name, create_subscription.source::pg_catalog.regclass, create_subscription.partition_by,
                                            create_subscription.event_types);
END;
COMMENT ON FUNCTION projections.create_subscription(text, text, text, text[]) IS
'Makes a place in a source''s events for a reader outside the database, who moves it with projections.poll() and ack(). It begins at the
first event. name: unique in the database. partition_by: an expression over the event''s columns, which poll returns as key, for readers
that share the work; functions that are not built in are to be schema-qualified. event_types: only these. The role that makes it
owns it. Needs SELECT on the source.
Errors: 42P01 no such table; 42809 not an event source; 42710 the name is taken; 55000 event_types and no type column; 42703 and others
where the expression does not fit; 42501 no right to read the source.
Example: SELECT projections.create_subscription(''shipping'', ''projections.events'', event_types => ARRAY[''OrderShipped'']);';

CREATE FUNCTION projections._subscription(name text) RETURNS projections.subscription
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found_subscription projections.subscription;
BEGIN
    SELECT * INTO found_subscription FROM projections.subscription s WHERE s.name = _subscription.name;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('subscription "%s" does not exist', name),
            DETAIL = 'It was never made, or it is dropped.', HINT = 'SELECT name FROM projections.subscription;';
    END IF;
    IF NOT pg_has_role(found_subscription.owner, 'USAGE') THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = format('must be owner of subscription "%s"', name),
            DETAIL = format('It belongs to %s.', found_subscription.owner), HINT = 'Have its owner, or a member of its role, do it.';
    END IF;
    RETURN found_subscription;
END
$$;
COMMENT ON FUNCTION projections._subscription(text) IS 'Internal: a subscription of the caller''s.';

CREATE FUNCTION projections.drop_subscription(name text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM projections.subscription s WHERE s.name = drop_subscription.name;
    IF NOT FOUND THEN
        PERFORM projections._subscription(name);
    END IF;
END
$$;
COMMENT ON FUNCTION projections.drop_subscription(text) IS
'Drops a subscription. Its owner may, and the owner of the source, whose events it holds back from being archived.
Errors: 42704 no such subscription; 42501 not the owner of one of them.
Example: SELECT projections.drop_subscription(''shipping'');';

CREATE FUNCTION projections.poll(name text, max int DEFAULT 100)
    RETURNS TABLE("position" bigint, type text, key text, event jsonb, event_time timestamptz)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    s projections.subscription;
    safe bigint;
BEGIN
    -- A transaction's snapshot can be older than the safe position, and would pass by events that it does not see.
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        RAISE EXCEPTION USING ERRCODE = 'active_sql_transaction', MESSAGE = format('poll cannot run in a %s transaction', upper(current_setting('transaction_isolation'))),
            DETAIL = 'Its snapshot may be older than the position up to which all events are decided, so that events would be missed.',
            HINT = 'Poll in a READ COMMITTED transaction.';
    END IF;
    IF max IS NULL OR max < 1 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('max is %s', coalesce(max::text, 'null')),
            DETAIL = 'It is how many events are wanted at most.', HINT = 'Pass 1 or more.';
    END IF;
    s := projections._subscription(name);
    -- First what is decided, then, in a statement of its own, a new snapshot.
    safe := projections._decided(s.source, s.position + 1);
    RETURN QUERY EXECUTE format(projections._poll_query(), coalesce(s.partition_by, 'NULL'), projections._events_query(s.source),
                                CASE WHEN s.event_types IS NOT NULL THEN 'AND e.type = ANY ($3)' ELSE '' END)
    USING s.position, safe, s.event_types, max;
END
$$;
COMMENT ON FUNCTION projections.poll(text, int) IS
'The next events of a subscription, by position, up to where every event is decided: none can appear later among those returned. max: at
most so many. Where there is none while others are still writing, it waits up to a second for them. key: partition_by of the event. The same events are returned again until projections.ack() says that they are done, also
to another session: a reader that must not do one twice notes the position along with what it writes.
Errors: 42704 no such subscription; 42501 not its owner, or no right to read the source; 25001 in REPEATABLE READ or SERIALIZABLE; 22023 max.
Example: SELECT position, type, event FROM projections.poll(''shipping'', 500);';

CREATE FUNCTION projections.ack(name text, "position" bigint) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    s projections.subscription := projections._subscription(name);
    there boolean;
BEGIN
    -- The row as it is after those who acknowledge side by side.
    SELECT r.* INTO s FROM projections.subscription r WHERE r.name = ack.name FOR UPDATE;
    IF ack.position IS NULL OR ack.position < s.position THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('subscription "%s" cannot go back to %s', name, coalesce(ack.position::text, 'null')),
            DETAIL = format('It has acknowledged events up to %s.', s.position),
            HINT = 'To read events again, drop the subscription and create it anew.';
    END IF;
    -- What is decided was known to the session that polled, which may be another one.
    IF ack.position > s.position THEN
        EXECUTE format('SELECT EXISTS (SELECT FROM (%s) e WHERE e.position >= $1 ORDER BY e.position LIMIT 1)', projections._events_query(s.source))
            INTO there USING ack.position;
        IF NOT there THEN
            RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
                MESSAGE = format('position %s is after the last event', ack.position),
                DETAIL = 'poll cannot have returned it; events that are to come would be missed.',
                HINT = 'Acknowledge the position of the last event that was read.';
        END IF;
    END IF;
    UPDATE projections.subscription r SET position = ack.position, acked_at = clock_timestamp() WHERE r.name = ack.name;
END
$$;
COMMENT ON FUNCTION projections.ack(text, bigint) IS
'Says that a subscription''s events up to a position are done: poll goes on after it. Commits with the transaction it is called in.
The same position again changes nothing. Errors: 22023 a position before the one acknowledged last, or after the last event;
42704 no such subscription; 42501 not its owner.
Example: SELECT projections.ack(''shipping'', 42);';
-- Handlers, reducers and state machines: events one by one.

CREATE FUNCTION projections._check_options(kind text, mode text, options jsonb) RETURNS jsonb
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'projections_check_options';
COMMENT ON FUNCTION projections._check_options(text, text, jsonb) IS
'Internal: refuses unknown options, and values they cannot have; returns the options as they are stored.';

CREATE FUNCTION projections.create_handler(name text, source text, handler regprocedure, tables text[], partition_by text DEFAULT NULL,
                                           event_types text[] DEFAULT NULL, mode text DEFAULT 'async', options jsonb DEFAULT '{}') RETURNS regclass
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_create_handler';
COMMENT ON FUNCTION projections.create_handler(text, text, regprocedure, text[], text, text[], text, jsonb) IS
'Calls a function once for each event of a source, in the order of positions; what it writes and the checkpoint are committed together.
name: of the projection: one of the tables, or a new name, which becomes a view of its checkpoints. source: a registered event source.
handler: fn(event <row type of the source>) RETURNS void, which writes tables by unqualified name; neither SET search_path nor a body
in SQL-standard form. tables: all tables it writes. partition_by: an expression over the event; events with equal values stay in order,
and a failed one holds back those; NULL: all events are in one order. event_types: only these; NULL: all. mode: async, or inline (in
the writer''s transaction). options: slots, batch_size, on_failure, max_retries, event_timeout, on_dead_letter, max_rate.
Existing events are applied too, by the worker or catch_up(); inline, at once, while writers of the source are held off.
Runs as the caller, who becomes the owner: EXECUTE on the function, SELECT on the source (inline: TRIGGER too), a right to write each table.
Errors: 55000 the source is not registered; 42P13 the function has other arguments; 0A000 the function sets search_path or is bound to
its tables, or a table has a deferred constraint; 22023 an option; 42P07 the name is taken; 42501 a right is missing.
Example: SELECT projections.create_handler(''stock'', ''movements'', ''apply_movement(movements)'', ''{stock}'', partition_by => ''item'');';

CREATE FUNCTION projections.create_reducer(name text, source text, key text, reducer regprocedure, initial jsonb DEFAULT 'null',
                                           event_types text[] DEFAULT NULL, mode text DEFAULT 'async', options jsonb DEFAULT '{}') RETURNS regclass
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_create_reducer';
COMMENT ON FUNCTION projections.create_reducer(text, text, text, regprocedure, jsonb, text[], text, jsonb) IS
'Makes a table (key text, state jsonb, version bigint, position bigint, updated_at timestamptz) and folds the events of a source into it.
name: of the new table. source: a registered event source. key: an expression over the event; of an array, the event goes to each
element, to all or to none; NULL: to nobody. reducer: fn(state jsonb, event <row type of the source>, key text) RETURNS jsonb, a pure
function; NULL deletes the row. initial: the state before a key''s first event. event_types: only these; NULL: all. mode: async or inline.
options: slots (one only for an array), batch_size, on_failure, max_retries, event_timeout, on_dead_letter, max_rate.
version counts the events of the key; position is that of the last one, updated_at its time. A CHECK on the table fails the event
after which it does not hold. Returns the table. Rights and errors: as projections.create_handler.
Example: SELECT projections.create_reducer(''balance'', ''movements'', ''item'', ''add_movement(jsonb, movements, text)'', initial => ''0'');';

-- [{"from", "event", "to"}, …] as {"from": {"event": "to"}}; "" stands for the state before the first event.
CREATE FUNCTION projections._state_machine(given jsonb, given_options jsonb)
    RETURNS TABLE(transitions jsonb, options jsonb, events text[], upper_case boolean)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    step jsonb;
    from_state text;
    event text;
    to_state text;
    problem text;
    states text[] := '{}';
BEGIN
    transitions := '{}';
    options := given_options;
    events := '{}';
    upper_case := coalesce((given_options->>'normalize')::boolean, false);
    IF jsonb_typeof(given) <> 'array' OR given = '[]' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'transitions must be a JSON array with at least one element',
            DETAIL = format('They are %s.', left(given::text, 100)),
            HINT = 'For example: [{"from": "open", "event": "close", "to": "closed"}]';
    END IF;
    IF upper_case THEN
        IF options ? 'initial' THEN options := jsonb_set(options, '{initial}', to_jsonb(upper(options->>'initial'))); END IF;
        IF options ? 'terminal' THEN
            options := jsonb_set(options, '{terminal}', (SELECT coalesce(jsonb_agg(upper(t)), '[]') FROM jsonb_array_elements_text(options->'terminal') AS t));
        END IF;
    END IF;
    FOR step IN SELECT * FROM jsonb_array_elements(given) LOOP
        SELECT string_agg(format('"%s"', k), ', ') INTO problem
        FROM jsonb_object_keys(CASE jsonb_typeof(step) WHEN 'object' THEN step ELSE '{"?": 0}' END) AS k
        WHERE k NOT IN ('from', 'event', 'to') OR jsonb_typeof(step->k) NOT IN ('string', CASE k WHEN 'from' THEN 'null' ELSE 'string' END);
        from_state := CASE WHEN upper_case THEN upper(step->>'from') ELSE step->>'from' END;
        event := CASE WHEN upper_case THEN upper(step->>'event') ELSE step->>'event' END;
        to_state := CASE WHEN upper_case THEN upper(step->>'to') ELSE step->>'to' END;
        IF problem IS NOT NULL OR event IS NULL OR to_state IS NULL OR from_state = '' OR to_state = '' OR event = '' THEN
            RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'a transition must be {"from": state, "event": name, "to": state}',
                DETAIL = format('This is %s.', left(step::text, 200)),
                HINT = '"from" may be null: a key''s first event. Names are strings, and not empty.';
        END IF;
        IF transitions->coalesce(from_state, '') ? event THEN
            RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
                MESSAGE = format('event "%s" has two transitions from %s', event, coalesce(format('state "%s"', from_state), 'nothing')),
                DETAIL = format('They lead to "%s" and "%s".', transitions->coalesce(from_state, '')->>event, to_state),
                HINT = 'Give one transition for each pair of state and event.';
        END IF;
        transitions := transitions || jsonb_build_object(coalesce(from_state, ''), coalesce(transitions->coalesce(from_state, ''), '{}') || jsonb_build_object(event, to_state));
        states := states || from_state || to_state;
        events := events || event;
    END LOOP;
    events := ARRAY(SELECT DISTINCT e FROM unnest(events) AS e ORDER BY e);
    IF options->>'initial' IS NULL AND NOT transitions ? '' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'no transition can be a key''s first',
            DETAIL = 'Neither option "initial" is given, nor a transition from null.',
            HINT = 'Give the state in which keys begin: options => ''{"initial": …}''';
    END IF;
    IF options->>'initial' IS NOT NULL AND transitions ? '' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'there are two ways to begin',
            DETAIL = 'Option "initial" is given, and a transition from null, which would never be taken.',
            HINT = 'Leave one of them out.';
    END IF;
    SELECT format('state "%s" of option "%s" is not declared', s.name, s.option) INTO problem
    FROM (SELECT options->>'initial', 'initial' UNION ALL
          SELECT t, 'terminal' FROM jsonb_array_elements_text(CASE jsonb_typeof(options->'terminal') WHEN 'array' THEN options->'terminal' ELSE '[]' END) AS t) AS s(name, option)
    WHERE s.name IS NOT NULL AND s.name <> ALL (array_remove(states, NULL)) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = problem,
            DETAIL = format('States are those of the transitions: %s.', (SELECT string_agg(DISTINCT s, ', ') FROM unnest(states) AS s)),
            HINT = 'Correct the name, or add its transitions.';
    END IF;
    SELECT t INTO problem FROM jsonb_array_elements_text(coalesce(options->'terminal', '[]')) AS t WHERE transitions ? t LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('terminal state "%s" has a transition', problem),
            DETAIL = 'Nothing follows a terminal state.',
            HINT = 'Remove the transition, or take the state out of option "terminal".';
    END IF;
    IF NOT options ? 'terminal' THEN
        options := options || jsonb_build_object('terminal', ARRAY(
            SELECT DISTINCT s FROM unnest(states) AS s WHERE s IS NOT NULL AND NOT transitions ? s ORDER BY s));
    END IF;
    RETURN NEXT;
END
$$;
COMMENT ON FUNCTION projections._state_machine(jsonb, jsonb) IS
'Internal: checks transitions and their options, and returns them as they are stored, with the types of events they wait for.';

CREATE FUNCTION projections.create_state_machine(name text, source text, key text, transitions jsonb, mode text DEFAULT 'async', options jsonb DEFAULT '{}') RETURNS regclass
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_create_state_machine';
COMMENT ON FUNCTION projections.create_state_machine(text, text, text, jsonb, text, jsonb) IS
'Makes a table (key, state, version, position, updated_at) with the state of each key, a JSON string, moved by the types of its events.
name, source, key, mode: as projections.create_reducer. transitions: an array of {"from": state, "event": type, "to": state}; "from"
may be null for a key''s first event. Events of other types are ignored. options: initial (the state in which keys begin; needed unless
a transition starts from null), terminal (states that nothing follows; by default those without a transition), normalize (names of states
and events in upper case), retention (interval; async: a key that is in a terminal state for longer is deleted), and those of reducers.
An event without a transition from the key''s state is an error, PJ005, inline, and a failure in async mode. projections.transitions
keeps the history. Errors: 22023 transitions or options contradict themselves; others as projections.create_reducer.
Example: SELECT projections.create_state_machine(''tasks'', ''task_events'', ''task'',
 ''[{"from": "open", "event": "started", "to": "running"}, {"from": "running", "event": "finished", "to": "done"}]'', options => ''{"initial": "open"}'');';

CREATE FUNCTION projections._apply_unblocked(projection oid, slot int) RETURNS bigint
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'projections_apply_unblocked';
COMMENT ON FUNCTION projections._apply_unblocked(oid, int) IS 'Internal: applies the parked events of a slot that nothing holds back; returns how many.';
CREATE FUNCTION projections._retry_now(failure_id bigint) RETURNS boolean
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'projections_retry_now';
COMMENT ON FUNCTION projections._retry_now(bigint) IS 'Internal: applies a failed event again, at once; returns whether it succeeded.';
REVOKE EXECUTE ON FUNCTION projections._apply_unblocked(oid, int), projections._retry_now(bigint) FROM PUBLIC;

CREATE FUNCTION projections.set_state(name text, key text, state text, reason text) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_set_state';
COMMENT ON FUNCTION projections.set_state(text, text, text, text) IS
'Puts a key of a state machine into a state by hand, as when an event was lost. name: of the state machine. key: made if it is new.
state: one of its states. reason: kept, with the user and the time, in projections.transitions, and repeated at this position when
events are replayed. For the owner. Errors: 42809 not a state machine; 22023 not one of its states; 22004 an argument is null; 42501 not the owner.
Example: SELECT projections.set_state(''tasks'', ''task-17'', ''done'', ''scanner was offline'');';

CREATE VIEW projections.transitions WITH (security_barrier) AS
SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) AS projection,
       t.key, t.from_state, t.event, t.to_state, t.position, t.event_time, t.reason, t.set_by, t.id
FROM projections.transition t
JOIN pg_catalog.pg_class c ON c.oid = t.projection
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE pg_catalog.pg_has_role(c.relowner, 'USAGE') OR pg_catalog.pg_has_role('pg_read_all_data', 'USAGE');
COMMENT ON VIEW projections.transitions IS
'The history of state machines: each transition with the event that made it, or the reason and the user where it was set by hand. Shown to
the projection''s owner and to pg_read_all_data.';
GRANT SELECT ON projections.transitions TO PUBLIC;
-- Look.

CREATE FUNCTION projections._name(relation regclass) RETURNS text
    LANGUAGE sql STABLE STRICT
    RETURN (SELECT pg_catalog.format('%I.%I', n.nspname, c.relname)
            FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = relation);
COMMENT ON FUNCTION projections._name(regclass) IS 'Internal: a relation''s name, schema-qualified and quoted where needed.';

CREATE FUNCTION projections._key_expression(projection regclass) RETURNS text
    LANGUAGE c STRICT STABLE AS 'MODULE_PATHNAME', 'projections_key_expression';
COMMENT ON FUNCTION projections._key_expression(regclass) IS
'Internal: the expression over an event that gives a reducer''s or state machine''s key or a handler''s partition; NULL where there is none.';

-- SQL that declares a projection again. Arguments that have their default are left out.
CREATE FUNCTION projections._create_sql(projection regclass) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    p projections.projection;
    arguments text[];
BEGIN
    SELECT * INTO STRICT p FROM projections.projection x WHERE x.relation = projection;
    arguments := ARRAY[quote_literal(projections._name(p.relation))];
    IF p.kind = 'query' THEN
        arguments := arguments || quote_literal(projections._definition_query(p.relation));
    ELSE
        arguments := arguments || quote_literal(projections._name(p.sources[1]));
    END IF;
    IF p.kind = 'handler' THEN
        arguments := arguments || quote_literal(p.function)
            || format('ARRAY[%s]::text[]', (SELECT string_agg(quote_literal(projections._name(t.relation)), ', ' ORDER BY t.place)
                                           FROM unnest(p.tables) WITH ORDINALITY AS t(relation, place)))
            || ('partition_by => ' || quote_literal(projections._key_expression(p.relation)));
    ELSIF p.kind = 'reducer' THEN
        arguments := arguments || quote_literal(projections._key_expression(p.relation)) || quote_literal(p.function)
            || CASE WHEN p.initial <> 'null' THEN 'initial => ' || quote_literal(p.initial) END;
    ELSIF p.kind = 'state_machine' THEN
        arguments := arguments || quote_literal(projections._key_expression(p.relation))
            || quote_literal((SELECT coalesce(jsonb_agg(jsonb_build_object('from', nullif(f.state, ''), 'event', e.event, 'to', e.target) ORDER BY f.state, e.event), '[]')
                              FROM jsonb_each(p.transitions) AS f(state, events), LATERAL jsonb_each_text(f.events) AS e(event, target)));
    END IF;
    IF p.event_types IS NOT NULL AND p.kind <> 'state_machine' THEN
        arguments := arguments || format('event_types => %L', p.event_types);
    END IF;
    arguments := arguments || format('mode => %L', p.mode);
    IF p.options <> '{}' THEN
        arguments := arguments || format('options => %L', p.options);
    END IF;
    RETURN format('SELECT projections.%s(%s);', CASE p.kind WHEN 'query' THEN 'create' ELSE 'create_' || p.kind END,
                  array_to_string(arguments, ', ')); -- which leaves NULLs out
END
$$;
COMMENT ON FUNCTION projections._create_sql(regclass) IS 'Internal: SQL that declares a projection again.';

CREATE FUNCTION projections._depth(projection regclass) RETURNS integer
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH RECURSIVE reads(relation, depth) AS (
        SELECT projection::oid, 0
        UNION
        SELECT s.relation, r.depth + 1
        FROM reads r JOIN projections.projection p ON p.relation = r.relation, LATERAL unnest(p.sources::oid[]) AS s(relation)
    )
    SELECT max(depth) FROM reads
$$;
COMMENT ON FUNCTION projections._depth(regclass) IS 'Internal: how many projections stand between a projection and tables that are none, and 1.';

CREATE VIEW projections.definitions AS
SELECT projections._name(p.relation) AS projection,
       p.relation,
       p.definition,
       CASE p.kind WHEN 'query' THEN projections._definition_query(p.relation) END AS query,
       p.mode,
       CASE p.kind WHEN 'query' THEN 'algebraic' WHEN 'state_machine' THEN 'state machine' ELSE p.kind END AS strategy,
       CASE p.kind WHEN 'query' THEN projections._key_columns(p.relation) WHEN 'handler' THEN NULL ELSE '{key}' END AS key,
       CASE p.kind WHEN 'handler' THEN NULL
                   ELSE ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
                              WHERE a.attrelid = p.relation AND NOT a.attisdropped
                                AND a.attnum BETWEEN 1 AND CASE p.kind WHEN 'query' THEN p.user_columns ELSE 32767 END ORDER BY a.attnum) END AS columns,
       projections._create_sql(p.relation) AS create_sql
FROM projections.projection p
WHERE p.shadow_of IS NULL
ORDER BY projections._depth(p.relation), p.relation::oid;
COMMENT ON VIEW projections.definitions IS
'Every projection with its query as it reads today, its strategy, key and columns, and the SQL that declares it again. Those that others read come first, so that
all of create_sql can be run from top to bottom.';

CREATE VIEW projections.dependencies AS
SELECT projections._name(p.relation) AS projection,
       p.relation,
       s.source,
       EXISTS (SELECT FROM projections.projection u WHERE u.relation = s.source) AS source_is_projection
FROM projections.projection p, LATERAL pg_catalog.unnest(p.sources) AS s(source)
WHERE p.shadow_of IS NULL;
COMMENT ON VIEW projections.dependencies IS 'Which tables each projection reads, and which of them are projections themselves.';

-- --------------------------------------------------------------------------------------------------------- checkpoints

CREATE VIEW projections.checkpoints AS
SELECT projections._name(s.projection) AS projection,
       s.slot, s.position, s.event_time, s.events_processed, s.checkpoint_at
FROM projections.slot s
WHERE NOT EXISTS (SELECT FROM projections.projection p WHERE p.relation = s.projection AND p.shadow_of IS NOT NULL);
COMMENT ON VIEW projections.checkpoints IS
'Where each slot of each async projection stands: the last position it has applied, that event''s time, how many events it has processed, and when.';

CREATE VIEW projections.checkpoint_history AS
SELECT projections._name(h.projection) AS projection,
       h.slot, h.before, h.position, h.changed_at, h.changed_by, h.reason
FROM projections.checkpoint_change h;
COMMENT ON VIEW projections.checkpoint_history IS
'Checkpoints that were changed by hand (set_checkpoint, reset, alter): from where, to where, when, by whom and why. Kept for pg_projections.history_retention.';

-- ------------------------------------------------------------------------------------------------------------ failures

-- Who may see the events' data and the errors' texts: the owner's members and pg_read_all_data; of the rest, pg_monitor sees
-- that there are failures.
CREATE VIEW projections.failures WITH (security_barrier) AS
SELECT f.id, projections._name(f.projection) AS projection, f.slot, f.position, f.event_id, f.event_type,
       CASE WHEN r.readable THEN pg_catalog.array_to_string(f.keys, ', ') END AS key,
       CASE WHEN r.readable THEN f.error END AS error,
       f.sqlstate, f.category,
       CASE WHEN r.readable THEN f.context END AS context,
       f.retry_count, f.first_failed_at, f.failed_at, f.next_retry_at, f.resolved_at, f.resolution, f.resolved_by,
       CASE WHEN r.readable THEN f.note END AS note
FROM projections.failure f
JOIN pg_catalog.pg_class c ON c.oid = f.projection,
LATERAL (SELECT pg_catalog.pg_has_role(c.relowner, 'USAGE') OR pg_catalog.pg_has_role('pg_read_all_data', 'USAGE') AS readable) r
WHERE r.readable OR pg_catalog.pg_has_role('pg_monitor', 'USAGE');
COMMENT ON VIEW projections.failures IS
'Events that could not be applied. Open while resolved_at is null. Keys, error texts, contexts and notes show to members of the projection''s owner, pg_read_all_data and superusers; members of pg_monitor see the other columns, everybody else no row.';

CREATE VIEW projections.dead_letters AS
SELECT * FROM projections.failures WHERE resolved_at IS NULL AND next_retry_at IS NULL;
COMMENT ON VIEW projections.dead_letters IS 'Open failures that no retry is due for. Who sees what is as in projections.failures.';

CREATE VIEW projections.parked WITH (security_barrier) AS
SELECT projections._name(e.projection) AS projection, e.slot, e.position, e.event_type, e.event_time,
       CASE WHEN r.readable THEN pg_catalog.array_to_string(e.keys, ', ') END AS key,
       e.parked_at
FROM projections.parked_event e
JOIN pg_catalog.pg_class c ON c.oid = e.projection,
LATERAL (SELECT pg_catalog.pg_has_role(c.relowner, 'USAGE') OR pg_catalog.pg_has_role('pg_read_all_data', 'USAGE') AS readable) r
WHERE r.readable OR pg_catalog.pg_has_role('pg_monitor', 'USAGE');
COMMENT ON VIEW projections.parked IS
'Events held back behind a failure of one of their keys. Who sees what is as in projections.failures.';

-- -------------------------------------------------------------------------------------------------------------- health

CREATE FUNCTION projections._read_as_owner(relation regclass, query text) RETURNS text
    LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'projections_read_as_owner';
COMMENT ON FUNCTION projections._read_as_owner(regclass, text) IS
'Internal: the first value that a query returns, read as the relation''s owner: its indexes may call his functions.';

-- FROM and the position of an event, as the projections over the source count it.
CREATE FUNCTION projections._event_position(source projections.source) RETURNS text
    LANGUAGE sql STABLE
    RETURN CASE WHEN (source).capture = 'trigger' THEN 'a.arrival' ELSE pg_catalog.format('e.%I', (source).position_column) END;
COMMENT ON FUNCTION projections._event_position(projections.source) IS 'Internal: an event''s position as an expression over _events_from.';

CREATE FUNCTION projections._events_from(source projections.source) RETURNS text
    LANGUAGE sql STABLE
    RETURN pg_catalog.format(CASE WHEN (source).capture = 'trigger' THEN '%1$s AS e JOIN %2$s AS a ON a."position" = e.%3$I' ELSE '%1$s AS e' END,
                             projections._name((source).relation), projections._name((source).arrivals), (source).position_column);
COMMENT ON FUNCTION projections._events_from(projections.source) IS 'Internal: an event source''s table, as e, with the arrivals, as a, where positions are theirs.';

CREATE FUNCTION projections._head(source regclass) RETURNS bigint
    LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s projections.source;
BEGIN
    SELECT * INTO s FROM projections.source x WHERE x.relation = source;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    IF s.capture = 'trigger' THEN
        RETURN projections._read_as_owner(s.arrivals, format('SELECT max(arrival) FROM %s', projections._name(s.arrivals)));
    END IF;
    RETURN projections._read_as_owner(s.relation, format('SELECT max(%I) FROM %s', s.position_column, projections._name(s.relation)));
END
$$;
COMMENT ON FUNCTION projections._head(regclass) IS 'Internal: the position of the last committed event of a source; NULL where there is none.';

-- The time of the first event after each of some positions, in one query: a thousand projections may lag. NULL where there is none
-- or the source has no times.
CREATE FUNCTION projections._oldest_after(source regclass, positions bigint[]) RETURNS timestamptz[]
    LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s projections.source;
BEGIN
    SELECT * INTO s FROM projections.source x WHERE x.relation = source;
    IF s.time_column IS NULL THEN
        RETURN NULL;
    END IF;
    -- A time without a zone is in UTC.
    RETURN projections._read_as_owner(s.relation, format(
        'SELECT ARRAY(SELECT (SELECT e.%1$I%2$s FROM %3$s WHERE %4$s > p.reached ORDER BY %4$s LIMIT 1)
                      FROM pg_catalog.unnest(%5$L::pg_catalog.int8[]) WITH ORDINALITY AS p(reached, place) ORDER BY p.place)',
        s.time_column,
        (SELECT CASE WHEN a.atttypid = 'timestamp'::regtype THEN ' AT TIME ZONE ''UTC''' END FROM pg_attribute a
         WHERE a.attrelid = s.relation AND a.attname = s.time_column),
        projections._events_from(s), projections._event_position(s), positions));
END
$$;
COMMENT ON FUNCTION projections._oldest_after(regclass, bigint[]) IS 'Internal: the times of a source''s first events after some positions.';

-- Change numbers are dense but for rolled back ones, so that first and last tell how many there are.
CREATE FUNCTION projections._log_ends(changes regclass[], OUT first bigint, OUT last bigint, OUT lag bigint)
    LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    log regclass;
    ends bigint[];
BEGIN
    lag := 0;
    FOREACH log IN ARRAY changes LOOP
        ends := projections._read_as_owner(log, format('SELECT ARRAY[min(change), max(change)] FROM %s', projections._name(log)));
        first := least(first, ends[1]);
        last := greatest(last, ends[2]);
        lag := lag + coalesce(ends[2] - ends[1] + 1, 0);
    END LOOP;
END
$$;
COMMENT ON FUNCTION projections._log_ends(regclass[]) IS 'Internal: the first and the last change that wait in change logs, and how many there are.';

CREATE FUNCTION projections._threshold(name text) RETURNS bigint
    LANGUAGE sql STABLE
    RETURN pg_catalog.current_setting('pg_projections.' || name)::bigint;
COMMENT ON FUNCTION projections._threshold(text) IS 'Internal: a threshold of health that is a number.';

-- The age of what waits longest, in words short enough for a message.
CREATE FUNCTION projections._age(seconds double precision) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT
    RETURN CASE WHEN seconds < 1 THEN 'under 1 s'
                WHEN seconds < 120 THEN pg_catalog.format('%s s', pg_catalog.floor(seconds))
                WHEN seconds < 7200 THEN pg_catalog.format('%s min', pg_catalog.floor(seconds / 60))
                WHEN seconds < 172800 THEN pg_catalog.format('%s h', pg_catalog.floor(seconds / 3600))
                ELSE pg_catalog.format('%s days', pg_catalog.floor(seconds / 86400)) END;
COMMENT ON FUNCTION projections._age(double precision) IS 'Internal: a duration in words.';

-- Who holds back the safe position of a source, as a sentence and as SQL that lets it go.
CREATE FUNCTION projections._blocker_text(source regclass, with_query boolean, OUT message text, OUT hint text)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    b record;
BEGIN
    SELECT * INTO b FROM projections._blocker(source);
    IF b.pid IS NULL AND b.gid IS NULL THEN
        RETURN;
    END IF;
    message := format('%s holds back what comes after its first event%s%s',
        coalesce('pid ' || b.pid, 'prepared transaction ' || quote_literal(b.gid)),
        ', for ' || projections._age(extract(epoch FROM clock_timestamp() - b.since)::float8),
        CASE WHEN with_query THEN ': ' || left(regexp_replace(b.query, '\s+', ' ', 'g'), 60) END);
    hint := CASE WHEN b.pid IS NOT NULL THEN format('SELECT pg_terminate_backend(%s);', b.pid) ELSE format('ROLLBACK PREPARED %L;', b.gid) END;
END
$$;
COMMENT ON FUNCTION projections._blocker_text(regclass, boolean) IS 'Internal: who holds back the safe position of a source.';

-- Everything that health() is made of, one row for each projection. Sources are asked once each, whatever the number of
-- projections over them, and never counted.
CREATE FUNCTION projections._health_facts(only_projection oid, viewer oid) RETURNS TABLE(
        relation regclass, kind text, mode text, owner oid, source regclass, events boolean, lag_events bigint, lag_seconds double precision,
        checkpoint bigint, head bigint, last_updated timestamptz, failures bigint, parked_events bigint, dead_letters bigint,
        paused_at timestamptz, paused_by text, pause_reason text, stale_since timestamptz, stale_reason text, building boolean)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH seen AS (
        SELECT p.*, c.relowner FROM projections.projection p JOIN pg_class c ON c.oid = p.relation
        WHERE p.shadow_of IS NULL AND (only_projection IS NULL OR p.relation = only_projection)
          AND (pg_has_role(viewer, 'pg_monitor', 'USAGE') OR pg_has_role(viewer, c.relowner, 'USAGE'))
    ), heads AS MATERIALIZED (
        SELECT s.relation, coalesce(projections._head(s.relation), 0) AS head
        FROM projections.source s
        WHERE EXISTS (SELECT FROM seen WHERE seen.mode = 'async' AND seen.sources[1] = s.relation)
    ), slots AS (
        SELECT s.projection, min(s.position) AS position, max(s.checkpoint_at) AS checkpoint_at FROM projections.slot s GROUP BY s.projection
    ), failed AS (
        SELECT f.projection, count(*) AS failures, count(*) FILTER (WHERE f.next_retry_at IS NULL) AS dead
        FROM projections.failure f WHERE f.resolved_at IS NULL GROUP BY f.projection
    ), parked AS (
        SELECT e.projection, count(*) AS events FROM projections.parked_event e GROUP BY e.projection
    ), lags AS (
        SELECT p.*, slots.position AS checkpoint, slots.checkpoint_at,
               CASE WHEN p.changes <> '{}' THEN coalesce(log.last, slots.position) ELSE heads.head END AS head,
               CASE WHEN p.changes <> '{}' THEN log.lag WHEN p.mode = 'async' THEN greatest(heads.head - slots.position, 0) ELSE 0 END AS lag
        FROM seen p
        LEFT JOIN slots ON slots.projection = p.relation
        LEFT JOIN heads ON p.mode = 'async' AND p.changes = '{}' AND heads.relation = p.sources[1]
        LEFT JOIN LATERAL projections._log_ends(p.changes) AS log ON p.changes <> '{}'
    ), oldest AS MATERIALIZED (
        SELECT g.source, u.checkpoint, u.at
        FROM (SELECT lags.sources[1]::oid AS source, array_agg(DISTINCT lags.checkpoint) AS checkpoints
              FROM lags WHERE lags.mode = 'async' AND lags.changes = '{}' AND lags.lag > 0 GROUP BY 1) g,
             LATERAL unnest(g.checkpoints, projections._oldest_after(g.source, g.checkpoints)) AS u(checkpoint, at)
    )
    SELECT l.relation, l.kind, l.mode, l.relowner, l.sources[1], l.mode = 'async' AND l.changes = '{}', l.lag,
           -- A source without times tells only since when its checkpoint stands still.
           CASE WHEN l.lag > 0 THEN greatest(extract(epoch FROM clock_timestamp() - coalesce(o.at, l.checkpoint_at)), 0)::float8 ELSE 0 END,
           l.checkpoint, l.head, l.checkpoint_at,
           coalesce(f.failures, 0), coalesce(k.events, 0), coalesce(f.dead, 0),
           l.paused_at, l.paused_by, l.pause_reason, l.stale_since, l.stale_reason, l.building
    FROM lags l
    LEFT JOIN oldest o ON l.mode = 'async' AND l.changes = '{}' AND o.source = l.sources[1]::oid AND o.checkpoint = l.checkpoint
    LEFT JOIN failed f ON f.projection = l.relation LEFT JOIN parked k ON k.projection = l.relation
$$;
COMMENT ON FUNCTION projections._health_facts(oid, oid) IS 'Internal: what the health of the projections that a role may look at is made of.';

CREATE FUNCTION projections._severity(status text) RETURNS integer
    LANGUAGE sql IMMUTABLE
    RETURN pg_catalog.array_position('{offline,stale,critical,degraded,building,rebuilding,paused,standby,healthy}'::text[], status);
COMMENT ON FUNCTION projections._severity(text) IS 'Internal: the rank of a status, worst first.';

CREATE FUNCTION projections._health(only_projection oid, viewer oid) RETURNS TABLE(
        projection text, kind text, mode text, status text, lag_events bigint, lag_seconds double precision, checkpoint bigint, head bigint,
        last_updated timestamptz, failures bigint, parked_events bigint, dead_letters bigint, phase text, message text, hint text)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    standby boolean := pg_is_in_recovery();
    workers boolean; -- asked for when something lags
    -- Without workers by choice, somebody calls catch_up() from time to time: then lag tells, and nothing else.
    by_choice boolean := current_setting('shared_preload_libraries') !~ 'pg_projections' OR current_setting('pg_projections.workers') = '0';
    lag_degraded double precision := extract(epoch FROM current_setting('pg_projections.lag_degraded')::interval);
    lag_critical double precision := extract(epoch FROM current_setting('pg_projections.lag_critical')::interval);
    events_degraded bigint := projections._threshold('lag_events_degraded');
    events_critical bigint := projections._threshold('lag_events_critical');
    failures_degraded bigint := projections._threshold('failures_degraded');
    failures_critical bigint := projections._threshold('failures_critical');
    failures_offline bigint := projections._threshold('failures_offline');
    queries boolean := pg_has_role(viewer, 'pg_read_all_stats', 'USAGE'); -- who may see other sessions' queries
    blockers jsonb := '{}';
    blocker record;
    -- Batches that failed as a whole; what an error says is for those who may see the data.
    broken jsonb := (SELECT coalesce(jsonb_object_agg(w.projection::oid, format('applying fails since %s: %s', to_char(w.since, 'HH24:MI:SS'),
                                CASE WHEN pg_has_role(viewer, c.relowner, 'USAGE') OR pg_has_role(viewer, 'pg_read_all_data', 'USAGE')
                                     THEN w.message ELSE 'SQLSTATE ' || w.sqlstate END)), '{}')
                     FROM projections._worker_problems() w JOIN pg_class c ON c.oid = w.projection);
    f record;
    expected boolean; -- to advance by itself
    problem text[]; -- of workers
    rebuilds jsonb := (SELECT coalesce(jsonb_object_agg(r.projection, to_jsonb(r)), '{}') FROM projections._running_rebuilds() AS r);
    rebuild jsonb;
BEGIN
    FOR f IN SELECT * FROM projections._health_facts(only_projection, viewer) LOOP
        projection := projections._name(f.relation);
        kind := f.kind; mode := f.mode; lag_events := f.lag_events; lag_seconds := f.lag_seconds; checkpoint := f.checkpoint; head := f.head;
        last_updated := f.last_updated; failures := f.failures; parked_events := f.parked_events; dead_letters := f.dead_letters;
        message := NULL; hint := NULL;
        rebuild := rebuilds -> f.relation::oid::text;
        phase := rebuild ->> 'phase';
        expected := f.mode = 'async' AND f.paused_at IS NULL AND NOT standby AND NOT f.building AND rebuild IS NULL AND f.lag_events > 0;
        IF expected AND workers IS NULL THEN
            workers := projections._workers_available();
        END IF;

        status := CASE
            WHEN f.failures >= failures_offline
                OR expected AND NOT workers AND (NOT by_choice OR f.lag_seconds > lag_degraded OR f.lag_events > events_degraded) THEN 'offline'
            WHEN f.stale_since IS NOT NULL THEN 'stale'
            WHEN f.failures >= failures_critical OR expected AND (f.lag_seconds > lag_critical OR f.lag_events > events_critical) THEN 'critical'
            WHEN f.failures >= failures_degraded OR broken ? f.relation::oid::text AND f.paused_at IS NULL
                OR expected AND (f.lag_seconds > lag_degraded OR f.lag_events > events_degraded) THEN 'degraded'
            WHEN f.building THEN 'building'
            WHEN rebuild IS NOT NULL THEN 'rebuilding'
            WHEN f.paused_at IS NOT NULL THEN 'paused'
            WHEN standby THEN 'standby'
            ELSE 'healthy' END;

        IF f.stale_since IS NOT NULL THEN
            message := format('%s since %s', f.stale_reason, to_char(f.stale_since, 'YYYY-MM-DD HH24:MI:SS'));
            hint := format('SELECT projections.repair(%L);', projection);
        END IF;
        IF f.failures > 0 THEN
            message := concat_ws('; ', message, format('%s failed %s%s%s', f.failures, CASE f.failures WHEN 1 THEN 'event' ELSE 'events' END,
                CASE WHEN f.dead_letters > 0 THEN format(', %s without retries left', f.dead_letters) END,
                CASE WHEN f.parked_events > 0 THEN format(', %s parked behind', f.parked_events) END));
            hint := coalesce(hint, format('SELECT id, position, key, error FROM projections.failures WHERE projection = %L AND resolved_at IS NULL; '
                                          'SELECT projections.retry_all(%1$L);', projection));
        END IF;
        IF rebuild IS NOT NULL THEN
            message := concat_ws('; ', message, format('%s by %s (pid %s) since %s: %s', rebuild ->> 'action', rebuild ->> 'started_by', rebuild ->> 'pid',
                                                       to_char((rebuild ->> 'started_at')::timestamptz, 'YYYY-MM-DD HH24:MI:SS'), phase));
        ELSIF f.building AND NOT standby THEN
            IF EXISTS (SELECT FROM projections.rebuild_request q WHERE q.projection = f.relation) THEN
                phase := 'waiting';
                message := concat_ws('; ', message, 'waits to be filled in the background');
            ELSE
                message := concat_ws('; ', message, 'not filled yet, and nobody is at it');
                hint := coalesce(hint, format('CALL projections.rebuild(%L);', projection));
            END IF;
        END IF;
        IF f.paused_at IS NOT NULL THEN
            message := concat_ws('; ', message, format('paused by %s at %s%s', f.paused_by, to_char(f.paused_at, 'YYYY-MM-DD HH24:MI:SS'), ': ' || f.pause_reason));
            hint := coalesce(hint, format('SELECT projections.resume(%L);', projection));
        ELSIF expected AND (status <> 'healthy' OR f.lag_seconds >= 1) THEN -- an event on its way is nothing to tell
            message := concat_ws('; ', message, format('%s %s behind for %s', f.lag_events, CASE f.lag_events WHEN 1 THEN 'position' ELSE 'positions' END,
                                                       projections._age(f.lag_seconds)));
            IF f.events AND f.lag_seconds >= 1 THEN
                -- Each source is asked once.
                IF NOT blockers ? f.source::oid::text THEN
                    blockers := blockers || jsonb_build_object(f.source::oid, (SELECT to_jsonb(b) FROM projections._blocker_text(f.source, queries) AS b));
                END IF;
                SELECT b.message, b.hint INTO blocker FROM jsonb_to_record(blockers -> f.source::oid::text) AS b(message text, hint text);
                message := concat_ws('; ', message, blocker.message);
                hint := coalesce(hint, blocker.hint);
            END IF;
            IF NOT workers THEN
                -- What is the matter; then what to do about it, which is SQL or a sentence.
                problem := regexp_match(projections._worker_problem(), '^(.*?)\.(?: (.*))?$');
                message := concat_ws('; ', problem[1], message);
                hint := coalesce(hint, CASE WHEN problem[2] LIKE '%;' THEN problem[2] ELSE format('SELECT projections.catch_up(%L); -- ', projection) || problem[2] END);
            END IF;
            hint := coalesce(hint, format('SELECT projections.catch_up(%L);', projection));
        END IF;
        IF broken ? f.relation::oid::text AND f.paused_at IS NULL THEN -- also without a lag: positions may have started again
            message := concat_ws('; ', broken ->> f.relation::oid::text, message);
            hint := coalesce(hint, format('SELECT projections.catch_up(%L); -- raises what is wrong', projection));
        END IF;
        RETURN NEXT;
    END LOOP;
END
$$;
COMMENT ON FUNCTION projections._health(oid, oid) IS 'Internal: projections.health() for a role.';

CREATE FUNCTION projections.health(name text DEFAULT NULL) RETURNS TABLE(
        projection text, kind text, mode text, status text, lag_events bigint, lag_seconds double precision, checkpoint bigint, head bigint,
        last_updated timestamptz, failures bigint, parked_events bigint, dead_letters bigint, phase text, message text, hint text)
    LANGUAGE c ROWS 100 AS 'MODULE_PATHNAME', 'projections_health';
COMMENT ON FUNCTION projections.health(text) IS
'How projections are, one row each; members of pg_monitor see all, others those that they own. name: only this one.
status, worst first: offline (50 or more failed events, or no worker though events wait; where there are none by choice, once it lags), stale (wrong until repaired), critical (10 or more
failed events, over 60 s or 10,000 positions behind), degraded (1 or more, over 10 s or 1,000 behind), building, rebuilding, paused, standby
(a read-only replica, where lag is not its own), healthy; the numbers are settings. lag_events: head minus the lowest checkpoint, in positions, so gaps count; of a
change log, the changes in it. lag_seconds: the age of the oldest event that is neither applied nor parked, by the source''s time column; without
one, the age of the checkpoint. message: what is the matter, with who holds back the safe position. hint: SQL to paste.
Errors: 42P01; 42809 not a projection; 42501 neither owner nor member of pg_monitor.
Example: SELECT projection, status, message, hint FROM projections.health();';

CREATE FUNCTION projections.health_json() RETURNS jsonb
    LANGUAGE sql
BEGIN ATOMIC
    SELECT pg_catalog.jsonb_build_object(
               'status', CASE WHEN pg_catalog.bool_or(s.rank <= 3) THEN 'Unhealthy' WHEN pg_catalog.bool_or(s.rank = 4) THEN 'Degraded' ELSE 'Healthy' END,
               'projectionStatus', COALESCE(pg_catalog.jsonb_object_agg(h.projection, pg_catalog.jsonb_build_object(
                   'lastUpdated', h.last_updated, 'lagSeconds', pg_catalog.round(h.lag_seconds::numeric, 3),
                   'status', CASE WHEN s.rank <= 3 THEN 'Unhealthy' WHEN s.rank = 4 THEN 'Degraded' ELSE 'Healthy' END))
                   FILTER (WHERE h.projection IS NOT NULL), '{}'))
    FROM projections.health() AS h, LATERAL (SELECT projections._severity(h.status) AS rank) s;
END;
COMMENT ON FUNCTION projections.health_json() IS
'The health of the database''s projections for a health endpoint: {"status": …, "projectionStatus": {name: {"lastUpdated", "lagSeconds", "status"}}}.
Unhealthy: offline, stale or critical; Degraded: degraded; Healthy: everything else, a deliberate pause included. lastUpdated: the
last checkpoint, null for an inline projection. Members of pg_monitor may call it; others need EXECUTE and then see the projections that they own.
Example: SELECT projections.health_json();';

CREATE FUNCTION projections.healthy() RETURNS boolean
    LANGUAGE sql
BEGIN ATOMIC
    SELECT NOT EXISTS (SELECT FROM projections.health() AS h WHERE projections._severity(h.status) <= 4);
END;
COMMENT ON FUNCTION projections.healthy() IS
'Whether no projection is offline, stale, critical or degraded. Members of pg_monitor may call it; others need EXECUTE and then ask for the projections that they own.
Example: SELECT projections.healthy();';

-- Breaks a text into lines at blanks; a longer word stays whole.
CREATE FUNCTION projections._wrap(value text, width integer) RETURNS text
    LANGUAGE plpgsql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    word text;
    line text;
    lines text[] := '{}';
BEGIN
    FOREACH word IN ARRAY string_to_array(value, ' ') LOOP
        WHILE length(word) > width LOOP -- cut: the page must not grow wider
            lines := lines || line;
            line := NULL;
            lines := lines || left(word, width);
            word := substr(word, width + 1);
        END LOOP;
        IF length(line) + 1 + length(word) > width THEN
            lines := lines || line;
            line := word;
        ELSE
            line := concat_ws(' ', line, word);
        END IF;
    END LOOP;
    RETURN array_to_string(lines || line, E'\n');
END
$$;
COMMENT ON FUNCTION projections._wrap(text, integer) IS 'Internal: breaks a text into lines.';

-- psql puts a blank on either side of a column and a bar between two: 14 characters. Messages get what the others leave of 100.
CREATE VIEW projections.status AS
SELECT CASE WHEN pg_catalog.length(h.projection) > 40 THEN pg_catalog.left(h.projection, 37) || '...' ELSE h.projection END AS projection,
       h.status, h.lag_events AS lag, h.failures,
       projections._wrap(h.message, (100 - 14 - LEAST(GREATEST(10, pg_catalog.max(pg_catalog.length(h.projection)) OVER ()), 40)
                                     - GREATEST(6, pg_catalog.max(pg_catalog.length(h.status)) OVER ())
                                     - GREATEST(3, pg_catalog.max(pg_catalog.length(h.lag_events::text)) OVER ())
                                     - GREATEST(8, pg_catalog.max(pg_catalog.length(h.failures::text)) OVER ()))::integer) AS message
FROM projections.health() AS h
ORDER BY projections._severity(h.status), h.failures DESC, h.lag_events DESC, 1;
COMMENT ON VIEW projections.status IS
'The page to read first: every projection and its state, worst first, at most 100 columns wide in psql. lag is in positions. projections.health() tells more, and SQL to paste.';

GRANT SELECT ON projections.definitions, projections.dependencies, projections.status, projections.checkpoints, projections.checkpoint_history,
                projections.failures, projections.dead_letters, projections.parked TO PUBLIC;
REVOKE EXECUTE ON FUNCTION projections._read_as_owner(regclass, text), projections._head(regclass), projections._oldest_after(regclass, bigint[]),
                           projections._log_ends(regclass[]), projections._blocker_text(regclass, boolean), projections._health_facts(oid, oid),
                           projections._health(oid, oid), projections.health_json(), projections.healthy() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION projections.health_json(), projections.healthy() TO pg_monitor;
-- What brings async projections up to date.

CREATE FUNCTION projections._resolve(name text) RETURNS regclass LANGUAGE c STRICT STABLE AS 'MODULE_PATHNAME', 'projections_resolve';
COMMENT ON FUNCTION projections._resolve(text) IS 'Internal: the projection of that name, which the caller must own.';

CREATE FUNCTION projections.catch_up(name text DEFAULT NULL, max_events bigint DEFAULT NULL) RETURNS bigint
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_catch_up';
COMMENT ON FUNCTION projections.catch_up(text, bigint) IS
'Applies, in this session and transaction, what async projections have not applied yet: of one projection, or of all that the caller
owns, upstream first. max_events: stop after about so many events. Returns how many events (or logged changes) it applied. Does what a
background worker does, and waits for one that is at work. Events of transactions that have not ended are left for later, after a
second''s wait. For a database without workers, call it from pg_cron. Errors: 0A000 in a transaction above READ COMMITTED;
55000 the projection is paused; 42P01; 42809; 42501 not the owner.
Example: SELECT projections.catch_up(''stock'');';

CREATE FUNCTION projections._safe_position(source regclass) RETURNS bigint LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'projections_safe_position';
COMMENT ON FUNCTION projections._safe_position(regclass) IS 'Internal: the position of an event source up to which everything is decided.';

CREATE FUNCTION projections._drawing(source regclass) RETURNS TABLE(pid int, transaction xid) LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'projections_drawing';
COMMENT ON FUNCTION projections._drawing(regclass) IS 'Internal: the transactions that have drawn positions of an event source and not ended.';

CREATE FUNCTION projections._blocker(source regclass, OUT pid int, OUT gid text, OUT since timestamptz, OUT query text)
    LANGUAGE sql STABLE STRICT
    RETURN (SELECT ROW(d.pid, p.gid, coalesce(p.prepared, a.xact_start), a.query)
            FROM projections._drawing(source) AS d
            LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = d.pid
            LEFT JOIN pg_catalog.pg_prepared_xacts p ON p.transaction = d.transaction
            ORDER BY coalesce(p.prepared, a.xact_start) LIMIT 1);
COMMENT ON FUNCTION projections._blocker(regclass) IS 'Internal: the oldest transaction that holds the safe position of an event source back.';

CREATE FUNCTION projections._pause_inline(projection oid) RETURNS void LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'projections_pause_inline';
COMMENT ON FUNCTION projections._pause_inline(oid) IS 'Internal: lets an inline query projection log its changes from now on.';
CREATE FUNCTION projections._resume_inline(projection oid) RETURNS bigint LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'projections_resume_inline';
COMMENT ON FUNCTION projections._resume_inline(oid) IS 'Internal: applies what an inline query projection logged, and lets it apply at once again.';

CREATE FUNCTION projections._recompute_events(projection oid, from_position bigint, to_position bigint) RETURNS bigint
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'projections_recompute_events';
COMMENT ON FUNCTION projections._recompute_events(oid, bigint, bigint) IS
'Internal: recomputes the rows that events of a range belong to, of a query projection over events.';
REVOKE EXECUTE ON FUNCTION projections._pause_inline(oid), projections._resume_inline(oid), projections._recompute_events(oid, bigint, bigint) FROM PUBLIC;

CREATE FUNCTION projections._refuse_while_applying() RETURNS void LANGUAGE c AS 'MODULE_PATHNAME', 'projections_refuse_while_applying';
COMMENT ON FUNCTION projections._refuse_while_applying() IS 'Internal: raises where a handler or reducer is being called.';
-- Run.
--
-- A function that users call is in C (src/operate/run.cpp): it checks there that the caller owns the projection, as a SECURITY DEFINER
-- function could not tell who called it, and then runs the internal function of the same name with a leading underscore, as a superuser.
-- That gets the projection's OID, the caller's name, and the arguments. What has to run a user's code goes back to the owner.

-- The slots' row locks keep workers away until the end of the transaction.
CREATE FUNCTION projections._lock_slots(projection oid) RETURNS SETOF projections.slot
    LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    SELECT * FROM projections.slot s WHERE s.projection = $1::regclass ORDER BY s.slot FOR UPDATE
$$;
COMMENT ON FUNCTION projections._lock_slots(oid) IS 'Internal: locks the slots of a projection, in order.';

-- ---------------------------------------------------------------------------------------------------------------- pause

CREATE FUNCTION projections.pause(name text, reason text) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_operate';
COMMENT ON FUNCTION projections.pause(text, text) IS
'Stops the maintenance of a projection until resume(). An async one keeps its checkpoint; an inline one logs its changes from
now on, and its table stays as it is (an inline handler or reducer cannot be paused). reason: is shown in health(). Returns when the batch that runs now has ended; paused again, it changes the reason.
Errors: 42P01; 42809 not a projection; 42501 not the owner; 22004 no reason; 0A000 an inline handler or reducer.
Example: SELECT projections.pause(''stock'', ''stock take in hall 3'');';

CREATE FUNCTION projections._pause(projection oid, caller text, reason text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    was projections.projection;
BEGIN
    IF reason IS NULL OR reason !~ '\S' THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'a pause needs a reason',
            DETAIL = 'It is what others see in projections.health() until somebody resumes.', HINT = 'Say in a few words why.';
    END IF;
    PERFORM projections._lock_slots(projection);
    SELECT * INTO STRICT was FROM projections.projection p WHERE p.relation = projection::regclass FOR UPDATE;
    IF was.mode = 'inline' AND was.kind <> 'query' THEN
        RAISE EXCEPTION USING ERRCODE = 'feature_not_supported',
            MESSAGE = format('inline projection %s cannot be paused', projections._name(was.relation)),
            DETAIL = 'Its function is called for each event in the transaction that appends it; nothing keeps the events for later.',
            HINT = 'Create it with mode => ''async'' to be able to pause it.';
    ELSIF was.paused_at IS NULL AND was.mode = 'inline' THEN
        PERFORM projections._pause_inline(projection);
    END IF;
    UPDATE projections.projection p SET paused_at = coalesce(p.paused_at, clock_timestamp()), paused_by = caller, pause_reason = reason
    WHERE p.relation = projection::regclass;
END
$$;
COMMENT ON FUNCTION projections._pause(oid, text, text) IS 'Internal: projections.pause().';

CREATE FUNCTION projections.resume(name text) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_operate';
COMMENT ON FUNCTION projections.resume(text) IS
'Ends a pause. An async projection goes on from its checkpoint; an inline one first applies what it has logged. Not paused: nothing to do.
Errors: 42P01; 42809 not a projection; 42501 not the owner.
Example: SELECT projections.resume(''stock'');';

CREATE FUNCTION projections._resume(projection oid, caller text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    was projections.projection;
BEGIN
    SELECT * INTO STRICT was FROM projections.projection p WHERE p.relation = projection::regclass FOR UPDATE;
    IF was.paused_at IS NULL THEN
        RETURN;
    END IF;
    UPDATE projections.projection p SET paused_at = NULL, paused_by = NULL, pause_reason = NULL WHERE p.relation = projection::regclass;
    IF was.mode = 'inline' THEN
        PERFORM projections._resume_inline(projection);
    END IF;
END
$$;
COMMENT ON FUNCTION projections._resume(oid, text) IS 'Internal: projections.resume().';

CREATE FUNCTION projections.pause_all(reason text) RETURNS bigint
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_operate_all';
COMMENT ON FUNCTION projections.pause_all(text) IS
'Pauses every projection that the caller owns and that is not paused; inline handlers and reducers go on. Returns how many. Errors: as projections.pause().
Example: SELECT projections.pause_all(''the disk is nearly full'');';

CREATE FUNCTION projections._pause_all(caller_role oid, caller text, reason text) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    each oid;
    paused bigint := 0;
BEGIN
    FOR each IN SELECT p.relation FROM projections.projection p JOIN pg_class c ON c.oid = p.relation
                WHERE p.paused_at IS NULL AND p.shadow_of IS NULL AND NOT p.building AND (p.mode = 'async' OR p.kind = 'query') AND pg_has_role(caller_role, c.relowner, 'USAGE') ORDER BY p.relation LOOP
        IF NOT projections._hold_off_rebuild(each) THEN
            RAISE WARNING 'projection % is being rebuilt and goes on', projections._name(each::regclass)
                USING HINT = format('SELECT projections.cancel_rebuild(%L); then pause it.', projections._name(each::regclass));
            CONTINUE;
        END IF;
        PERFORM projections._pause(each, caller, reason);
        paused := paused + 1;
    END LOOP;
    RETURN paused;
END
$$;
COMMENT ON FUNCTION projections._pause_all(oid, text, text) IS 'Internal: projections.pause_all().';

CREATE FUNCTION projections.resume_all() RETURNS bigint
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_operate_all';
COMMENT ON FUNCTION projections.resume_all() IS
'Ends the pause of every projection that the caller owns. Returns how many were paused. Errors: as projections.resume().
Example: SELECT projections.resume_all();';

CREATE FUNCTION projections._resume_all(caller_role oid, caller text) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    each oid;
    resumed bigint := 0;
BEGIN
    FOR each IN SELECT p.relation FROM projections.projection p JOIN pg_class c ON c.oid = p.relation
                WHERE p.paused_at IS NOT NULL AND pg_has_role(caller_role, c.relowner, 'USAGE') ORDER BY p.relation LOOP
        PERFORM projections._resume(each, caller);
        resumed := resumed + 1;
    END LOOP;
    RETURN resumed;
END
$$;
COMMENT ON FUNCTION projections._resume_all(oid, text) IS 'Internal: projections.resume_all().';

-- ----------------------------------------------------------------------------------------------------------------- wait

CREATE FUNCTION projections.wait_for(name text, "position" bigint DEFAULT NULL, timeout interval DEFAULT '5 s') RETURNS boolean
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_wait_for';
COMMENT ON FUNCTION projections.wait_for(text, bigint, interval) IS
'Waits until a projection has applied its source up to a position. position: of an event; NULL: everything that was committed before the call.
timeout: how long at most; NULL: until statement_timeout. Returns whether it got there. Events that failed or are parked behind a failure count as done:
projections.failures tells of them. An inline projection is there at once. Also waits in REPEATABLE READ, though the transaction''s own queries
do not see what came after its snapshot. While it waits, its own snapshot keeps dead rows from being removed: rather than minutes, wait
seconds, and again in a new transaction. Any role may call it.
Errors: 42P01; 42809 not a projection; 55000 the transaction itself has appended events, which nobody can apply before it commits.
Example: SELECT projections.wait_for(''stock'', timeout => ''1 s'');';

CREATE FUNCTION projections.read(name text, key jsonb, max_wait interval) RETURNS jsonb
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_read';
COMMENT ON FUNCTION projections.read(text, jsonb, interval) IS
'A row as of now: waits until the projection has applied what was committed before the call, and reads it; where that takes longer than max_wait, works the row out
from the definition: a query for this key, or the events that a reducer has not folded yet. key: one object {key column: value}.
Returns the row, or NULL where there is none. A key whose events are parked behind a failure gives the row as it is. Needs SELECT on the projection.
Errors: 22023 not a key of the projection; 0A000 a handler, or a projection without a key; 42501; 55000 as projections.wait_for(), or behind while row-level security
hides rows from the caller, who is not shown the definition then.
Example: SELECT projections.read(''stock'', ''{"item": "A1"}'', ''200 ms'');';

CREATE FUNCTION projections._refuse_archived(projection oid, after bigint) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s projections.source;
BEGIN
    SELECT x.* INTO s FROM projections.projection p JOIN projections.source x ON x.relation = p.sources[1]
    WHERE p.relation = projection::regclass AND p.mode = 'async' AND x.archived_to > after;
    -- Our own store's archive is read together with its events.
    IF NOT FOUND OR s.relation = to_regclass('projections.events') THEN
        RETURN;
    END IF;
    RAISE EXCEPTION USING ERRCODE = 'PJ006',
        MESSAGE = format('history of %s that projection %s would need is archived', projections._name(s.relation), projections._name(projection)),
        DETAIL = format('Events up to position %s may have been deleted; those after %s are needed.', s.archived_to, after),
        HINT = 'Restore the events first; or keep the totals that the projection has.';
END
$$;
COMMENT ON FUNCTION projections._refuse_archived(oid, bigint) IS 'Internal: raises PJ006 where events after a position are gone.';

-- ---------------------------------------------------------------------------------------------------------- checkpoints

CREATE FUNCTION projections._move_slots(projection oid, target bigint, caller text, reason text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    allowed text := coalesce(current_setting('pg_projections._allow_regression', true), 'off');
BEGIN
    INSERT INTO projections.checkpoint_change (projection, slot, before, position, changed_by, reason)
    SELECT s.projection, s.slot, s.position, target, caller, _move_slots.reason FROM projections.slot s WHERE s.projection = $1::regclass ORDER BY s.slot;
    PERFORM set_config('pg_projections._allow_regression', 'on', true);
    UPDATE projections.slot s SET position = target, event_time = NULL, checkpoint_at = clock_timestamp(), not_before = NULL
    WHERE s.projection = $1::regclass;
    PERFORM set_config('pg_projections._allow_regression', allowed, true);
END
$$;
COMMENT ON FUNCTION projections._move_slots(oid, bigint, text, text) IS 'Internal: sets the position of all slots of a projection, which are locked, and notes it.';

CREATE FUNCTION projections._require_async(projection oid, action text) RETURNS projections.projection
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    p projections.projection;
BEGIN
    SELECT * INTO STRICT p FROM projections.projection x WHERE x.relation = projection::regclass;
    IF p.mode <> 'async' THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('cannot %s %s: it is an inline projection', action, projections._name(p.relation)),
            DETAIL = 'It is kept up to date in the transactions that change its sources, and has no checkpoint.',
            HINT = format('CALL projections.rebuild(%L); computes all of it anew.', projections._name(p.relation));
    END IF;
    RETURN p;
END
$$;
COMMENT ON FUNCTION projections._require_async(oid, text) IS 'Internal: the catalog row of an async projection; raises 55000 for an inline one.';

CREATE FUNCTION projections.reset(name text) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_operate';
COMMENT ON FUNCTION projections.reset(text) IS
'Starts an async projection anew: empties its table (of a handler: all the tables that it lists), forgets checkpoint, failures and parked events, and applies all
events again, from the first one. A query over tables that change is filled again at once. States set by hand and skipped events are
repeated at their positions. Readers see the empty table once this commits. Noted in projections.checkpoint_history.
Errors: 42P01; 42809 not a projection; 42501 not the owner; 55000 an inline projection; PJ006 first events are archived away.
Example: SELECT projections.reset(''stock'');';

CREATE FUNCTION projections._empty(projection oid) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'projections_empty';
COMMENT ON FUNCTION projections._empty(oid) IS
'Internal: leaves in a projection, whose slots are locked, what its definition gives before the first event; a query over tables that change is filled anew.';

CREATE FUNCTION projections._reset(projection oid, caller text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    p projections.projection := projections._require_async(projection, 'reset');
BEGIN
    PERFORM projections._refuse_archived(projection, 0);
    PERFORM projections._lock_slots(projection);
    PERFORM projections._empty(projection);
    DELETE FROM projections.parked_event e WHERE e.projection = p.relation;
    DELETE FROM projections.transition t WHERE t.projection = p.relation AND t.set_by IS NULL;
    UPDATE projections.failure f SET resolved_at = clock_timestamp(), resolution = 'reset', resolved_by = caller, next_retry_at = NULL
    WHERE f.projection = p.relation AND f.resolved_at IS NULL;
    -- A change log is empty now, whatever number its last change had.
    PERFORM projections._move_slots(projection, CASE WHEN p.changes = '{}' THEN 0 ELSE (SELECT s.position FROM projections.slot s WHERE s.projection = p.relation) END,
                                    caller, 'reset');
    UPDATE projections.slot s SET events_processed = 0 WHERE s.projection = p.relation;
    UPDATE projections.projection x SET stale_since = NULL, stale_reason = NULL WHERE x.relation = p.relation AND x.stale_since IS NOT NULL;
END
$$;
COMMENT ON FUNCTION projections._reset(oid, text) IS 'Internal: projections.reset().';

CREATE FUNCTION projections.set_checkpoint(name text, "position" bigint, allow_regression boolean DEFAULT false) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_operate';
COMMENT ON FUNCTION projections.set_checkpoint(text, bigint, boolean) IS
'Tells an async projection, in all its slots, that it has applied its source up to a position. Its contents stay as they are: going forward skips events, going back applies them
again. position: 0 for none; at most the head. allow_regression: whether it may go back. Noted in projections.checkpoint_history.
Errors: 42P01; 42809 not a projection; 42501 not the owner; 22023 beyond the head, or below 0; 55000 back without leave, or not over events; PJ006 it would need archived events.
Example: SELECT projections.set_checkpoint(''stock'', 41000);';

CREATE FUNCTION projections._set_checkpoint(projection oid, caller text, target bigint, allow_regression boolean) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    p projections.projection := projections._require_async(projection, 'set a checkpoint of');
    reached bigint;
    head bigint;
BEGIN
    IF p.changes <> '{}' THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('projection %s has no checkpoint that could be set', projections._name(p.relation)),
            DETAIL = 'It reads tables that change: what it has applied of their changes is gone from its log.',
            HINT = format('SELECT projections.reset(%L); fills it again.', projections._name(p.relation));
    END IF;
    SELECT max(s.position) INTO reached FROM projections._lock_slots(projection) s;
    head := greatest(coalesce(projections._head(p.sources[1]), 0), (SELECT x.archived_to FROM projections.source x WHERE x.relation = p.sources[1]));
    IF target IS NULL OR target < 0 OR target > greatest(head, reached) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('cannot set the checkpoint of %s to %s', projections._name(p.relation), coalesce(target::text, 'NULL')),
            DETAIL = format('A checkpoint is between 0 and the position of the last event, which is %s.', head),
            HINT = 'Events beyond it would be missed when they come.';
    END IF;
    IF target < reached AND allow_regression IS NOT TRUE THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('checkpoint of %s would go back from %s to %s', projections._name(p.relation), reached, target),
            DETAIL = 'Events would be applied again to contents that have them already.',
            HINT = 'Pass allow_regression => true if the contents were put back too; or use projections.reset().';
    END IF;
    PERFORM projections._refuse_archived(projection, target);
    PERFORM projections._move_slots(projection, target, caller, 'set_checkpoint');
END
$$;
COMMENT ON FUNCTION projections._set_checkpoint(oid, text, bigint, boolean) IS 'Internal: projections.set_checkpoint().';

-- --------------------------------------------------------------------------------------------------------------- replay

CREATE FUNCTION projections.replay(name text, from_position bigint, to_position bigint, force boolean DEFAULT false) RETURNS bigint
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_operate';
COMMENT ON FUNCTION projections.replay(text, bigint, bigint, boolean) IS
'Repairs what events from one position to another, both included, have done. A query, a reducer or a state machine: recomputes the keys that those events touch from the
beginning of history to the checkpoint, without events that failed, are parked or were skipped, and with the states that were set by hand. A handler: calls it again for each
of the events up to the checkpoint, only with force, as nothing undoes what it did the first time. Returns the number of keys, or of a handler''s events.
Workers wait meanwhile. Errors: 42P01; 42809 not a projection; 42501 not the owner; 55000 an inline projection, or a handler without force; 22023 no such range;
PJ006 history is archived away; of a handler or reducer, what it raises.
Example: SELECT projections.replay(''stock'', 4711, 4711);';

CREATE FUNCTION projections._refold_events(projection oid, from_position bigint, to_position bigint) RETURNS bigint
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'projections_refold_events';
COMMENT ON FUNCTION projections._refold_events(oid, bigint, bigint) IS
'Internal: folds the keys that events of a range touch from the beginning, of a reducer or state machine whose slots are locked.';
CREATE FUNCTION projections._repeat_events(projection oid, from_position bigint, to_position bigint) RETURNS bigint
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'projections_repeat_events';
COMMENT ON FUNCTION projections._repeat_events(oid, bigint, bigint) IS 'Internal: calls a handler, whose slots are locked, again for events of a range.';

CREATE FUNCTION projections._replay(projection oid, caller text, from_position bigint, to_position bigint, force boolean) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    p projections.projection := projections._require_async(projection, 'replay events of');
    done bigint;
BEGIN
    IF p.changes <> '{}' THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('projection %s has no events to replay', projections._name(p.relation)),
            DETAIL = 'It reads tables that change.', HINT = 'projections.refresh_rows() recomputes rows by key.';
    ELSIF from_position IS NULL OR to_position IS NULL OR from_position > to_position OR from_position < 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('%s to %s is no range of positions', coalesce(from_position::text, 'NULL'), coalesce(to_position::text, 'NULL')),
            DETAIL = 'Both ends are positions of events, and included.', HINT = 'Give the same position twice for one event.';
    ELSIF p.kind = 'handler' AND force IS NOT TRUE THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('replaying events of handler %s would apply them twice', projections._name(p.relation)),
            DETAIL = 'Nothing undoes what the handler did the first time.',
            HINT = 'Pass force => true if the handler may see an event again; or use projections.reset().';
    END IF;
    PERFORM projections._refuse_archived(projection, CASE p.kind WHEN 'handler' THEN from_position - 1 ELSE 0 END);
    PERFORM projections._lock_slots(projection);
    done := CASE p.kind WHEN 'query' THEN projections._recompute_events(projection, from_position, to_position)
                        WHEN 'handler' THEN projections._repeat_events(projection, from_position, to_position)
                        ELSE projections._refold_events(projection, from_position, to_position) END;
    INSERT INTO projections.checkpoint_change (projection, slot, before, position, changed_by, reason)
    SELECT s.projection, s.slot, s.position, s.position, caller, format('replay of %s to %s', from_position, to_position)
    FROM projections.slot s WHERE s.projection = p.relation ORDER BY s.slot;
    RETURN done;
END
$$;
COMMENT ON FUNCTION projections._replay(oid, text, bigint, bigint, boolean) IS 'Internal: projections.replay().';

-- ---------------------------------------------------------------------------------------------------------------- alter

CREATE FUNCTION projections._alter_options(name text, options jsonb) RETURNS integer
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_operate';
COMMENT ON FUNCTION projections._alter_options(text, jsonb) IS
'Internal: changes options, by the projection''s owner; returns the number of slots that it is to have, or NULL where that stays.';

-- Options that are NULL are taken away.
CREATE FUNCTION projections.__alter_options(projection oid, caller text, changes jsonb) RETURNS integer
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    p projections.projection;
    slots integer;
BEGIN
    SELECT * INTO STRICT p FROM projections.projection x WHERE x.relation = projection::regclass FOR UPDATE;
    p.options := jsonb_strip_nulls(p.options || changes);
    p.options := projections._check_options(p.kind, p.mode, p.options);
    slots := coalesce((p.options ->> 'slots')::integer, 1);
    IF slots > 1 AND p.changes <> '{}' THEN
        RAISE EXCEPTION USING ERRCODE = 'feature_not_supported',
            MESSAGE = format('projection %s cannot have several slots', projections._name(p.relation)),
            DETAIL = 'Its source changes: old and new images of a row have to be applied together.', HINT = 'Leave out slots.';
    ELSIF slots > 1 AND p.one_order THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('projection %s has one slot only', projections._name(p.relation)),
            DETAIL = CASE p.kind WHEN 'handler' THEN 'Without partition_by, all events are in one order.'
                                 ELSE 'An event that goes to several keys is applied to all of them at once.' END,
            HINT = 'Leave out slots.';
    END IF;
    IF slots = (SELECT count(*) FROM projections.slot s WHERE s.projection = p.relation) OR p.mode <> 'async' THEN
        slots := NULL;
    END IF;
    -- The number of slots changes with the slots.
    UPDATE projections.projection x
    SET options = CASE WHEN slots IS NULL THEN p.options
                       WHEN x.options ? 'slots' THEN p.options || jsonb_build_object('slots', x.options -> 'slots')
                       ELSE p.options - 'slots' END
    WHERE x.relation = p.relation;
    RETURN slots;
END
$$;
COMMENT ON FUNCTION projections.__alter_options(oid, text, jsonb) IS 'Internal: projections._alter_options().';

CREATE FUNCTION projections._change_slots(name text, slots integer) RETURNS boolean
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_operate';
COMMENT ON FUNCTION projections._change_slots(text, integer) IS
'Internal: replaces the slots of a projection, by its owner, if all of them can be brought to one position soon; else brings them nearer and returns false.';

CREATE FUNCTION projections._advance_to(projection oid, slot integer, target bigint, max_events bigint) RETURNS bigint
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'projections_advance_to';
COMMENT ON FUNCTION projections._advance_to(oid, integer, bigint, bigint) IS
'Internal: applies the events of one slot up to a position that is decided, about so many at most; returns how far it came.';

CREATE FUNCTION projections.__change_slots(projection oid, caller text, slots integer) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    p projections.projection;
    barrier bigint;
    locked projections.slot[];
    s projections.slot;
    came bigint;
    reached boolean := true;
    advanced boolean := false;
BEGIN
    FOR s IN SELECT * FROM projections._lock_slots(projection) LOOP
        locked := locked || s;
        barrier := greatest(barrier, s.position);
    END LOOP;
    SELECT * INTO STRICT p FROM projections.projection x WHERE x.relation = projection::regclass FOR UPDATE;
    FOREACH s IN ARRAY locked LOOP
        CONTINUE WHEN s.position = barrier;
        came := projections._advance_to(projection, s.slot, barrier, 10000); -- about a worker's batch: so long are the slots locked
        advanced := advanced OR came > s.position;
        reached := reached AND came >= barrier;
    END LOOP;
    IF NOT reached AND NOT advanced THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('the slots of %s cannot be brought to one position', projections._name(p.relation)),
            DETAIL = 'One of them stands still before an event that fails.',
            HINT = format('SELECT * FROM projections.failures WHERE projection = %L AND resolved_at IS NULL; then retry() or skip() it.', projections._name(p.relation));
    ELSIF NOT reached THEN
        RETURN false;
    END IF;
    INSERT INTO projections.checkpoint_change (projection, slot, before, position, changed_by, reason)
    SELECT p.relation, n, o.position, barrier, caller, format('slots: %s to %s', cardinality(locked), slots)
    FROM generate_series(0, slots - 1) n LEFT JOIN projections.slot o ON o.projection = p.relation AND o.slot = n;
    WITH gone AS (
        DELETE FROM projections.slot x WHERE x.projection = p.relation RETURNING x.*
    )
    INSERT INTO projections.slot (projection, slot, position, event_time, events_processed)
    SELECT p.relation, n, barrier, (SELECT max(g.event_time) FROM gone g),
           CASE n WHEN 0 THEN (SELECT sum(g.events_processed) FROM gone g) ELSE 0 END
    FROM generate_series(0, slots - 1) n;
    -- What waits, waits where its key will be: the engine deals keys out by this hash, and those it could not read to the first slot.
    UPDATE projections.failure f SET slot = coalesce((hashtextextended(f.keys[1], 0) & 9223372036854775807) % slots, 0)
    WHERE f.projection = p.relation AND f.resolved_at IS NULL AND p.kind <> 'query';
    UPDATE projections.failure f SET slot = (f.position / 8192) % slots
    WHERE f.projection = p.relation AND f.resolved_at IS NULL AND p.kind = 'query';
    UPDATE projections.parked_event e SET slot = coalesce((hashtextextended(e.keys[1], 0) & 9223372036854775807) % slots, 0) WHERE e.projection = p.relation;
    UPDATE projections.projection x SET options = x.options || jsonb_build_object('slots', slots) WHERE x.relation = p.relation;
    RETURN true;
END
$$;
COMMENT ON FUNCTION projections.__change_slots(oid, text, integer) IS 'Internal: projections._change_slots().';

-- A procedure that commits can have no SET clause: every name in it is qualified, operators too.
CREATE PROCEDURE projections.alter(name text, query text DEFAULT NULL, mode text DEFAULT NULL, options jsonb DEFAULT NULL)
    LANGUAGE plpgsql AS $$
DECLARE
    slots integer;
BEGIN
    IF options IS NULL AND query IS NULL AND mode IS NULL OR pg_catalog.jsonb_typeof(options) OPERATOR(pg_catalog.<>) 'object' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'options must be a JSON object',
            DETAIL = 'They are what is to be changed.', HINT = 'Pass, for example, options => ''{"slots": 4}''; null takes an option back to its default.';
    END IF;
    IF options IS NOT NULL THEN
        slots := projections._alter_options(name, options);
        COMMIT;
    END IF;
    IF slots IS NOT NULL THEN
        WHILE NOT projections._change_slots(name, slots) LOOP
            COMMIT;
        END LOOP;
        COMMIT;
    END IF;
    IF query IS NOT NULL OR mode IS NOT NULL THEN
        CALL projections._redefine(name, query, mode);
    END IF;
END
$$;
COMMENT ON PROCEDURE projections.alter(text, text, text, jsonb) IS
'Changes a projection while it is used. options: those to be changed; null takes one back to its default. A change of slots brings all slots to one
position first, in transactions of its own, and then replaces them there; nothing is applied twice or left out. query: another SELECT, by the names of the caller''s search_path; mode: inline or async. For these the
new table is built beside the old one and put in its place like a rebuild''s (see projections.rebuilds), and writers of the sources wait for a moment at the end. Columns that the new query
has at the same place with the same type stay; others are dropped or added, where nothing uses them.
Errors: 22023 an option is unknown, or its value not possible; PJ002 the query cannot be a projection; 2BP01 columns that go are used by what DETAIL lists; 55000 it is published, foreign keys refer to it, or other
projections read it; 0A000 query or mode of a handler, reducer or state machine; 25001, 2D000 inside a transaction block; 42P01; 42809 not a projection; 42501 not the owner; PJ003 it is being rebuilt.
Example: CALL projections.alter(''stock'', options => ''{"slots": 4}'');';

REVOKE EXECUTE ON FUNCTION projections._lock_slots(oid), projections._pause(oid, text, text),
    projections._resume(oid, text), projections._pause_all(oid, text, text), projections._resume_all(oid, text), projections._refuse_archived(oid, bigint),
    projections._move_slots(oid, bigint, text, text), projections._require_async(oid, text), projections._empty(oid), projections._reset(oid, text),
    projections._set_checkpoint(oid, text, bigint, boolean), projections._replay(oid, text, bigint, bigint, boolean), projections.__alter_options(oid, text, jsonb), projections._advance_to(oid, integer, bigint, bigint),
    projections.__change_slots(oid, text, integer), projections._refold_events(oid, bigint, bigint), projections._repeat_events(oid, bigint, bigint) FROM PUBLIC;
-- Failures of async projections: retry, skip, resolve. As in 44_run.sql, users call C functions, which check that they own the projection
-- of the failure and then run the internal functions here.

-- The slot's lock comes before the failure's, as in a worker.
CREATE FUNCTION projections._open_failure(failure_id bigint) RETURNS projections.failure
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    f projections.failure;
BEGIN
    SELECT * INTO STRICT f FROM projections.failure x WHERE x.id = failure_id;
    LOOP
        PERFORM FROM projections.slot s WHERE s.projection = f.projection AND s.slot = f.slot FOR UPDATE;
        -- A change of the number of slots may have moved it meanwhile.
        EXIT WHEN f.slot = (SELECT x.slot FROM projections.failure x WHERE x.id = failure_id);
        SELECT * INTO STRICT f FROM projections.failure x WHERE x.id = failure_id;
    END LOOP;
    SELECT * INTO STRICT f FROM projections.failure x WHERE x.id = failure_id FOR UPDATE;
    IF f.resolved_at IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('failure %s is resolved already', failure_id),
            DETAIL = format('It was %s by %s at %s.', f.resolution, f.resolved_by, f.resolved_at),
            HINT = 'projections.failures WHERE resolved_at IS NULL lists those that are open.';
    END IF;
    RETURN f;
END
$$;
COMMENT ON FUNCTION projections._open_failure(bigint) IS 'Internal: locks an open failure and its slot; raises 55000 for a resolved one.';

CREATE FUNCTION projections.retry(failure_id bigint) RETURNS boolean
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_operate_failure';
COMMENT ON FUNCTION projections.retry(bigint) IS
'Applies a failed event again, now, and what is parked behind it if that succeeds. failure_id: of projections.failures.
Returns whether it succeeded; if not, the failure is as before, with the new error. Waits for the batch that runs.
Errors: P0002 no such failure; 42501 not the projection''s owner; 55000 it is resolved already.
Example: SELECT projections.retry(id) FROM projections.dead_letters WHERE projection = ''public.stock'' ORDER BY position;';

CREATE FUNCTION projections._retry_query(projection oid, slot integer) RETURNS bigint
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'projections_retry_query';
COMMENT ON FUNCTION projections._retry_query(oid, integer) IS 'Internal: retries the failed events that are due, of a query projection''s slot; returns how many there were.';

CREATE FUNCTION projections._retry(projection oid, caller text, failure_id bigint) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    f projections.failure := projections._open_failure(failure_id);
BEGIN
    IF (SELECT p.kind FROM projections.projection p WHERE p.relation = f.projection) = 'query' THEN
        UPDATE projections.failure x SET next_retry_at = clock_timestamp() WHERE x.id = failure_id;
        PERFORM projections._retry_query(projection, f.slot);
    ELSE
        PERFORM projections._retry_now(failure_id); -- and what is parked behind it
    END IF;
    UPDATE projections.failure x SET resolved_by = caller WHERE x.id = failure_id AND x.resolved_at IS NOT NULL;
    RETURN FOUND;
END
$$;
COMMENT ON FUNCTION projections._retry(oid, text, bigint) IS 'Internal: projections.retry().';

CREATE FUNCTION projections.retry_all(name text) RETURNS bigint
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_operate';
COMMENT ON FUNCTION projections.retry_all(text) IS
'Applies all failed events of a projection again, in order of position, and what is parked behind those that succeed. Returns how many succeeded.
Errors: 42P01; 42809 not a projection; 42501 not the owner.
Example: SELECT projections.retry_all(''stock'');';

CREATE FUNCTION projections._retry_all(projection oid, caller text) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    each bigint;
    succeeded bigint := 0;
BEGIN
    PERFORM projections._lock_slots(projection);
    -- What a success sets free may fail in its turn: such failures are left for their own retry.
    FOR each IN SELECT f.id FROM projections.failure f WHERE f.projection = $1::regclass AND f.resolved_at IS NULL ORDER BY f.position LOOP
        IF projections._retry(projection, caller, each) THEN
            succeeded := succeeded + 1;
        END IF;
    END LOOP;
    RETURN succeeded;
END
$$;
COMMENT ON FUNCTION projections._retry_all(oid, text) IS 'Internal: projections.retry_all().';

CREATE FUNCTION projections.skip(failure_id bigint, reason text) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_operate_failure';
COMMENT ON FUNCTION projections.skip(bigint, text) IS
'Leaves a failed event out for good, and applies what is parked behind it. Replays and resets leave it out too. reason: is kept with the failure.
Errors: P0002 no such failure; 42501 not the projection''s owner; 55000 it is resolved already; 22004 no reason.
Example: SELECT projections.skip(17, ''test event of the vendor'');';

CREATE FUNCTION projections._close_failure(projection oid, caller text, failure_id bigint, how text, why text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    f projections.failure := projections._open_failure(failure_id);
BEGIN
    UPDATE projections.failure x
    SET resolved_at = clock_timestamp(), resolution = how, resolved_by = caller, note = why, next_retry_at = NULL
    WHERE x.id = failure_id;
    IF (SELECT p.kind FROM projections.projection p WHERE p.relation = f.projection) <> 'query' THEN
        PERFORM projections._apply_unblocked(projection, f.slot);
    END IF;
END
$$;
COMMENT ON FUNCTION projections._close_failure(oid, text, bigint, text, text) IS 'Internal: resolves a failure without applying its event.';

CREATE FUNCTION projections._skip(projection oid, caller text, failure_id bigint, reason text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF reason IS NULL OR reason !~ '\S' THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'skipping an event needs a reason',
            DETAIL = 'The projection will lack the event for good.', HINT = 'Say in a few words why that is right.';
    END IF;
    PERFORM projections._close_failure(projection, caller, failure_id, 'skipped', reason);
END
$$;
COMMENT ON FUNCTION projections._skip(oid, text, bigint, text) IS 'Internal: projections.skip().';

CREATE FUNCTION projections.resolve(failure_id bigint, strategy text, note text DEFAULT NULL) RETURNS boolean
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_operate_failure';
COMMENT ON FUNCTION projections.resolve(bigint, text, text) IS
'Resolves a failure. strategy: retry, as projections.retry(); skip, as projections.skip(); resolved, which says that somebody has put right by hand what the event
should have done: like skip, but told apart in projections.failures. note: is kept with the failure; skip needs one. Returns whether it is resolved now.
Errors: P0002 no such failure; 42501 not the projection''s owner; 55000 it is resolved already; 22023 another strategy; 22004 skip without a note.
Example: SELECT projections.resolve(17, ''resolved'', ''quantity corrected in the warehouse'');';

CREATE FUNCTION projections._resolve(projection oid, caller text, failure_id bigint, strategy text, note text) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    CASE strategy
        WHEN 'retry' THEN
            IF NOT projections._retry(projection, caller, failure_id) THEN
                RETURN false;
            END IF;
            UPDATE projections.failure f SET note = _resolve.note WHERE f.id = failure_id;
        WHEN 'skip' THEN
            PERFORM projections._skip(projection, caller, failure_id, note);
        WHEN 'resolved' THEN
            PERFORM projections._close_failure(projection, caller, failure_id, 'resolved', note);
        ELSE
            RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('unknown strategy %s', coalesce(quote_ident(strategy), 'NULL')),
                DETAIL = 'A failure is resolved by retry, skip or resolved.', HINT = 'Use ''resolved'' for what was put right by hand.';
    END CASE;
    RETURN true;
END
$$;
COMMENT ON FUNCTION projections._resolve(oid, text, bigint, text, text) IS 'Internal: projections.resolve().';

-- Skipped events, and those put right by hand, are history that replays need: they are left out there too.
CREATE FUNCTION projections._expire_history() RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    retention interval := current_setting('pg_projections.history_retention');
    oldest timestamptz := CASE WHEN retention > interval '0' THEN clock_timestamp() - retention ELSE '-infinity' END;
    failures bigint;
    changes bigint;
    calls bigint;
BEGIN
    DELETE FROM projections.failure f WHERE f.resolved_at < oldest AND f.resolution IN ('retried', 'reset');
    GET DIAGNOSTICS failures = ROW_COUNT;
    DELETE FROM projections.checkpoint_change c WHERE c.changed_at < oldest;
    GET DIAGNOSTICS changes = ROW_COUNT;
    DELETE FROM projections.audit a WHERE a.started_at < oldest;
    GET DIAGNOSTICS calls = ROW_COUNT;
    RETURN failures + changes + calls;
END
$$;
COMMENT ON FUNCTION projections._expire_history() IS
'Internal: deletes what is older than pg_projections.history_retention from the histories of failures, checkpoints and calls; returns the number of rows. A worker calls it every hour.';

REVOKE EXECUTE ON FUNCTION projections._open_failure(bigint), projections._retry_query(oid, integer), projections._retry(oid, text, bigint), projections._retry_all(oid, text),
    projections._close_failure(oid, text, bigint, text, text), projections._skip(oid, text, bigint, text), projections._resolve(oid, text, bigint, text, text),
    projections._expire_history() FROM PUBLIC;
-- Background workers.

CREATE FUNCTION projections._workers(OUT pid integer, OUT database oid, OUT state text, OUT projection oid, OUT slot integer,
                                     OUT since timestamptz, OUT events bigint, OUT batch_events bigint) RETURNS SETOF record
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_worker_list';
COMMENT ON FUNCTION projections._workers() IS 'Internal: the workers of all databases.';

CREATE FUNCTION projections._worker_problems(OUT projection regclass, OUT slot integer, OUT since timestamptz, OUT failed_at timestamptz,
                                             OUT next_retry_at timestamptz, OUT failures integer, OUT sqlstate text, OUT message text)
    RETURNS SETOF record LANGUAGE c AS 'MODULE_PATHNAME', 'projections_worker_problems';
COMMENT ON FUNCTION projections._worker_problems() IS
'Internal: slots of this database whose last batch failed as a whole, until one succeeds; projection is NULL where looking for work
failed. message is NULL for who may not read the projection''s errors.';

CREATE FUNCTION projections._workers_available() RETURNS boolean
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_workers_available';
COMMENT ON FUNCTION projections._workers_available() IS 'Internal: whether workers serve this database, or would if there were work.';
CREATE FUNCTION projections._worker_problem() RETURNS text
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_worker_problem';
COMMENT ON FUNCTION projections._worker_problem() IS 'Internal: why no worker serves this database, and what to do; NULL if that is not so.';

CREATE VIEW projections.workers AS
SELECT w.pid,
       d.datname AS database,
       w.state,
       CASE WHEN d.datname = pg_catalog.current_database() THEN projections._name(w.projection::regclass) END AS projection,
       w.slot,
       w.since,
       w.events,
       w.batch_events,
       CASE w.state WHEN 'stuck' THEN pg_catalog.format('a batch has been running for %s s',
            pg_catalog.floor(pg_catalog.extract('epoch', pg_catalog.clock_timestamp() - w.since))) END AS message,
       CASE w.state WHEN 'stuck' THEN pg_catalog.format('SELECT projections.restart_worker(%s);', w.pid) END AS hint
FROM projections._workers() AS w LEFT JOIN pg_catalog.pg_database d ON d.oid = w.database
ORDER BY d.datname, w.pid;
COMMENT ON VIEW projections.workers IS
'The background workers of all databases. state: starting, idle, working, or stuck (one batch for more than 60 seconds). projection
and slot: what is being worked on (named in its own database only). since: the batch''s begin, or the last one''s end. events:
applied since the worker started; batch_events: at most in this batch. hint: what to run against a stuck one.';
GRANT SELECT ON projections.workers TO PUBLIC;

CREATE FUNCTION projections.restart_worker(pid integer) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'projections_restart_worker';
COMMENT ON FUNCTION projections.restart_worker(integer) IS
'Ends a background worker; another one is started at once. What it was applying is rolled back and applied again by the next.
pid: as projections.workers shows it. For members of pg_signal_backend and the owner of the projection it works on.
Errors: 22023 no worker has that pid; 42501.
Example: SELECT projections.restart_worker(pid) FROM projections.workers WHERE state = ''stuck'';';

CREATE FUNCTION projections._count_conflict(stream text) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'projections_count_conflict';
COMMENT ON FUNCTION projections._count_conflict(text) IS
'Internal: counts a conflicting append for projections.conflicts, also if its transaction aborts. Does nothing without workers.';
REVOKE EXECUTE ON FUNCTION projections._count_conflict(text) FROM PUBLIC;
-- DDL on sources and projections, followed by event triggers: hooks do not exist in a session that has not loaded the library.

CREATE FUNCTION projections._before_ddl() RETURNS event_trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_before_ddl';
COMMENT ON FUNCTION projections._before_ddl() IS
'Internal: refuses DROP EXTENSION while projections exist, and takes DROP TABLE''s locks in maintenance''s order.';

CREATE FUNCTION projections._captures(projection projections.projection) RETURNS boolean
    LANGUAGE sql IMMUTABLE RETURN projection.mode = 'inline' OR projection.changes <> '{}';
COMMENT ON FUNCTION projections._captures(projections.projection) IS 'Internal: whether a projection has triggers on its sources; others read events.';

-- Removes what is kept about a projection that is going, its change logs included.
CREATE FUNCTION projections._forget(gone projections.projection) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    log oid;
BEGIN
    DELETE FROM projections.slot WHERE projection::oid = gone.relation::oid;
    DELETE FROM projections.checkpoint_change WHERE projection::oid = gone.relation::oid;
    DELETE FROM projections.failure WHERE projection::oid = gone.relation::oid;
    DELETE FROM projections.parked_event WHERE projection::oid = gone.relation::oid;
    DELETE FROM projections.override WHERE projection::oid = gone.relation::oid;
    DELETE FROM projections.transition WHERE projection::oid = gone.relation::oid;
    DELETE FROM projections.rebuild WHERE projection::oid = gone.relation::oid;
    DELETE FROM projections.rebuild_request WHERE projection::oid = gone.relation::oid;
    DELETE FROM projections.throughput_minute WHERE projection::oid = gone.relation::oid;
    DELETE FROM projections.throughput_total WHERE projection::oid = gone.relation::oid;
    IF gone.shadow_of IS NOT NULL AND gone.tables <> '{}' THEN
        PERFORM projections._drop_shadow_tables(gone.tables);
    END IF;
    FOR log IN SELECT c.oid FROM unnest(gone.changes::oid[]) AS l(oid) JOIN pg_class c ON c.oid = l.oid LOOP
        EXECUTE format('DROP TABLE %s', projections._name(log));
    END LOOP;
END
$$;
COMMENT ON FUNCTION projections._forget(projections.projection) IS 'Internal: removes checkpoints, failures, histories and change logs of a dropped projection.';
REVOKE EXECUTE ON FUNCTION projections._forget(projections.projection) FROM PUBLIC;

-- Removes the capture triggers of tables that no projection reads any more.
CREATE FUNCTION projections._drop_idle_triggers(sources regclass[]) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    idle record;
BEGIN
    FOR idle IN
        SELECT t.tgrelid AS source, t.tgname FROM pg_trigger t
        WHERE t.tgrelid = ANY (sources::oid[]) AND t.tgname IN ('projections_capture', 'projections_capture_truncate') AND t.tgparentid = 0
          AND NOT EXISTS (SELECT FROM projections.projection p WHERE t.tgrelid = ANY (p.sources::oid[]) AND projections._captures(p))
        ORDER BY 1, 2
    LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', idle.tgname, projections._name(idle.source));
    END LOOP;
END
$$;
COMMENT ON FUNCTION projections._drop_idle_triggers(regclass[]) IS 'Internal: removes capture triggers from tables that no projection reads.';

-- Turns a projection into an ordinary table.
CREATE FUNCTION projections._release(projection oid) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    released projections.projection;
BEGIN
    DELETE FROM projections.projection p WHERE p.relation = projection::regclass RETURNING * INTO STRICT released;
    PERFORM projections._forget(released);
    IF released.kind <> 'handler' THEN
        EXECUTE format('DROP TRIGGER IF EXISTS projections_guard ON %s', projections._name(released.relation));
        EXECUTE format('DROP TRIGGER IF EXISTS projections_guard_truncate ON %s', projections._name(released.relation));
    ELSIF (SELECT c.relkind = 'v' FROM pg_class c WHERE c.oid = released.relation) THEN
        EXECUTE format('DROP VIEW %s', projections._name(released.relation));
    END IF;
    EXECUTE format('DROP VIEW %s', projections._name(released.definition));
    PERFORM projections._drop_idle_triggers(released.sources);
END
$$;
COMMENT ON FUNCTION projections._release(oid) IS 'Internal: what projections.drop(keep_table => true) does.';
REVOKE EXECUTE ON FUNCTION projections._release(oid), projections._drop_idle_triggers(regclass[]) FROM PUBLIC;

-- A dropped table takes its definition, catalog row and triggers along; a definition that a dropped source took along takes its table.
CREATE FUNCTION projections._after_drop() RETURNS event_trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    gone record;
    idle regclass[] := '{}';
BEGIN
    FOR gone IN
        SELECT p AS projection, p.relation, p.definition, p.sources, p.kind, t.object_identity AS name, t.objid IS NULL AS has_table, d.objid IS NULL AS has_definition, d.original,
               (SELECT c.relkind FROM pg_class c WHERE c.oid = p.relation) AS relkind
        FROM projections.projection p
        LEFT JOIN pg_event_trigger_dropped_objects() t ON t.classid = 'pg_class'::regclass AND t.objid = p.relation::oid AND t.objsubid = 0
        LEFT JOIN pg_event_trigger_dropped_objects() d ON d.classid = 'pg_class'::regclass AND d.objid = p.definition::oid AND d.objsubid = 0
        WHERE t.objid IS NOT NULL OR d.objid IS NOT NULL
        ORDER BY p.relation
    LOOP
        PERFORM projections._refuse_while_applying();
        IF gone.has_table AND gone.original THEN
            RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist',
                MESSAGE = format('cannot drop the definition of projection %s', projections._name(gone.relation)),
                DETAIL = 'The view says what the projection is kept equal to.',
                HINT = format('Drop the projection: SELECT projections.drop(%L);', projections._name(gone.relation));
        END IF;
        IF (gone.projection).shadow_of IS NULL THEN
            PERFORM projections._audit_drop(tg_tag, coalesce(gone.name, projections._name(gone.relation)));
        END IF;
        DELETE FROM projections.projection p WHERE p.relation::oid = gone.relation::oid;
        PERFORM projections._forget(gone.projection);
        IF gone.has_definition THEN
            EXECUTE format('DROP VIEW %s', projections._name(gone.definition));
        END IF;
        IF gone.has_table THEN
            RAISE NOTICE 'drop cascades to projection %', projections._name(gone.relation);
            -- A handler's own tables are the user's.
            IF gone.kind <> 'handler' OR gone.relkind = 'v' THEN
                EXECUTE format('DROP %s %s CASCADE', CASE gone.relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, projections._name(gone.relation));
            END IF;
        END IF;
        idle := idle || gone.sources;
    END LOOP;
    PERFORM projections._drop_idle_triggers(idle);
    PERFORM projections._forget_dropped_sources();

    FOR gone IN
        SELECT p.relation FROM projections.projection p
        WHERE EXISTS (SELECT FROM pg_event_trigger_dropped_objects() d WHERE d.classid = 'pg_class'::regclass AND d.objid = ANY (p.changes::oid[]))
    LOOP
        RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist',
            MESSAGE = format('cannot drop the change log of projection %s', projections._name(gone.relation)),
            DETAIL = 'It holds what the projection has still to be told.',
            HINT = format('Drop the projection: SELECT projections.drop(%L);', projections._name(gone.relation));
    END LOOP;

    -- The rows of a join are told apart by their sources' primary keys.
    FOR gone IN
        SELECT p.relation, s.source
        FROM projections.projection p, LATERAL unnest(p.sources) AS s(source)
        WHERE p.shape = 'rows' AND EXISTS (SELECT FROM pg_class c WHERE c.oid = s.source)
          AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = s.source AND i.indisprimary)
          AND EXISTS (SELECT FROM pg_event_trigger_dropped_objects() d
                      WHERE d.object_type = 'table constraint' AND format('%I.%I', d.address_names[1], d.address_names[2]) = projections._name(s.source))
    LOOP
        RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist',
            MESSAGE = format('cannot drop the primary key of %s because projection %s needs it', gone.source, projections._name(gone.relation)),
            DETAIL = 'The projection tells its rows apart by it.',
            HINT = 'Drop the projection first, and create it again afterwards.';
    END LOOP;

    -- Without its triggers a projection would go wrong in silence.
    IF EXISTS (SELECT FROM pg_event_trigger_dropped_objects() d WHERE d.object_type = 'trigger' AND d.original) THEN
        FOR gone IN
            SELECT p.relation, t.name, t.tgrelid
            FROM projections.projection p, LATERAL (
                SELECT p.relation::oid, n FROM unnest(ARRAY['projections_guard', 'projections_guard_truncate']) AS n WHERE p.kind <> 'handler'
                UNION ALL
                SELECT s, n FROM unnest(p.sources::oid[]) AS s, unnest(ARRAY['projections_capture', 'projections_capture_truncate']) AS n
                WHERE projections._captures(p)
            ) AS t(tgrelid, name)
            WHERE EXISTS (SELECT FROM pg_class c WHERE c.oid = t.tgrelid)
              AND NOT EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = t.tgrelid AND g.tgname = t.name)
              -- What was missing before must not keep anybody from dropping other triggers; validate() tells of it.
              AND EXISTS (SELECT FROM pg_event_trigger_dropped_objects() d
                          WHERE d.object_type = 'trigger' AND d.original AND format('%I.%I', d.address_names[1], d.address_names[2]) = projections._name(t.tgrelid)
                            AND d.address_names[3] = t.name)
        LOOP
            RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist',
                MESSAGE = format('cannot drop trigger %I on %s because projection %s needs it', gone.name, gone.tgrelid::regclass, projections._name(gone.relation)),
                DETAIL = 'Without it the projection would go wrong in silence.',
                HINT = format('Drop the projection: SELECT projections.drop(%L);', projections._name(gone.relation));
        END LOOP;
    END IF;
END
$$;
COMMENT ON FUNCTION projections._after_drop() IS 'Internal: cleans up after dropped projections, definitions and sources.';

-- What would break maintenance is refused, after the fact: the command is undone with its transaction.
CREATE FUNCTION projections._after_ddl() RETURNS event_trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    touched oid[];
    problem record;
BEGIN
    SELECT array_agg(DISTINCT CASE c.classid
               WHEN 'pg_class'::regclass THEN c.objid
               WHEN 'pg_trigger'::regclass THEN (SELECT t.tgrelid FROM pg_trigger t WHERE t.oid = c.objid)
               WHEN 'pg_rewrite'::regclass THEN (SELECT r.ev_class FROM pg_rewrite r WHERE r.oid = c.objid)
           END)
    INTO touched FROM pg_event_trigger_ddl_commands() c;
    touched := touched || ARRAY(SELECT i.inhparent FROM pg_inherits i WHERE i.inhrelid = ANY (touched));

    PERFORM projections._check_altered_sources(touched);

    SELECT p.relation, x.what, x.why INTO problem
    FROM projections.projection p, LATERAL (
        SELECT format('trigger %I', t.tgname), 'It would change or drop rows on their way in.' FROM pg_trigger t
        WHERE t.tgrelid = p.relation AND NOT t.tgisinternal AND t.tgtype & 3 = 3 AND t.tgname <> 'projections_guard'
        UNION ALL
        SELECT format('deferred constraint %I', k.conname), 'It would have to be checked after the commit has begun, when nothing checks it any more.'
        FROM pg_constraint k WHERE k.conrelid = p.relation AND k.condeferred
        UNION ALL
        SELECT format('rule %I', r.rulename), 'It would divert the rows.' FROM pg_rewrite r WHERE r.ev_class = p.relation
        UNION ALL
        SELECT 'a change of the columns that maintenance writes', 'They are those of its definition.'
        WHERE EXISTS (SELECT FROM pg_attribute v LEFT JOIN pg_attribute a ON a.attrelid = p.relation AND a.attnum = v.attnum AND NOT a.attisdropped
                      WHERE p.kind = 'query' AND v.attrelid = p.definition AND v.attnum > 0 AND a.atttypid IS DISTINCT FROM v.atttypid)
        UNION ALL
        SELECT 'other columns than a reducer''s', 'Events are folded into them.'
        WHERE p.kind IN ('reducer', 'state_machine')
          AND EXISTS (SELECT FROM (VALUES ('key', 'text'::regtype), ('state', 'jsonb'), ('version', 'bigint'), ('position', 'bigint'), ('updated_at', 'timestamptz')) AS c(name, type)
                      WHERE NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = p.relation AND a.attname = c.name AND a.atttypid = c.type))
        UNION ALL
        SELECT 'no write-ahead log', 'A crash would empty it.' FROM pg_class c WHERE c.oid = p.relation AND c.relpersistence <> 'p'
        UNION ALL
        SELECT 'inheritance', 'Its rows would be spread over several tables.' FROM pg_inherits i WHERE p.relation IN (i.inhrelid, i.inhparent)
    ) AS x(what, why)
    WHERE p.relation = ANY (touched) AND p.kind <> 'handler' LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('projection %s cannot have %s', projections._name(problem.relation), problem.what),
            DETAIL = problem.why,
            HINT = 'AFTER triggers, indexes, constraints that are checked at once, added columns, grants and policies are all fine.';
    END IF;

    -- A renamed column is renamed in the definition too, so that queries over the one fit the other.
    FOR problem IN
        SELECT p.definition, v.attname AS old_name, a.attname AS new_name
        FROM projections.projection p
        JOIN pg_attribute v ON v.attrelid = p.definition AND v.attnum > 0
        JOIN pg_attribute a ON a.attrelid = p.relation AND a.attnum = v.attnum AND a.attname <> v.attname
        WHERE p.relation = ANY (touched) AND p.kind = 'query'
    LOOP
        EXECUTE format('ALTER VIEW %s RENAME COLUMN %I TO %I', projections._name(problem.definition), problem.old_name, problem.new_name);
    END LOOP;

    -- Who owns a projection owns what belongs to it.
    FOR problem IN
        SELECT h.oid, h.relkind, pg_get_userbyid(c.relowner) AS owner
        FROM projections.projection p JOIN pg_class c ON c.oid = p.relation
        JOIN pg_class h ON (h.oid = p.definition OR h.oid = ANY (p.changes::oid[])) AND h.relowner <> c.relowner
        WHERE p.relation = ANY (touched)
    LOOP
        EXECUTE format('ALTER %s %s OWNER TO %I', CASE problem.relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, projections._name(problem.oid), problem.owner);
    END LOOP;

    SELECT p.relation, s.source, c.relpersistence INTO problem
    FROM projections.projection p, LATERAL unnest(p.sources) AS s(source) JOIN pg_class c ON c.oid = s.source
    WHERE s.source = ANY (touched)
      AND (c.relpersistence <> 'p' OR p.kind = 'query' AND projections._captures(p)
                                      AND EXISTS (SELECT FROM pg_inherits i WHERE s.source IN (i.inhrelid, i.inhparent)))
    ORDER BY projections._name(p.relation) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('cannot make %s %s because projection %s reads it', problem.source,
                             CASE problem.relpersistence WHEN 'p' THEN 'part of an inheritance tree' ELSE 'unlogged' END, projections._name(problem.relation)),
            DETAIL = 'A source is an ordinary table or another projection.',
            HINT = 'Drop the projection first.';
    END IF;

    SELECT p.relation, s.source, r.rolname INTO problem
    FROM projections.projection p, LATERAL unnest(p.sources) AS s(source) JOIN pg_class c ON c.oid = s.source, pg_class t JOIN pg_roles r ON r.oid = t.relowner
    WHERE s.source = ANY (touched) AND t.oid = p.relation AND c.relrowsecurity AND NOT r.rolsuper AND NOT r.rolbypassrls
      AND (c.relforcerowsecurity OR NOT pg_has_role(r.oid, c.relowner, 'USAGE')) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('cannot enable row-level security on %s because projection %s reads it', problem.source, projections._name(problem.relation)),
            DETAIL = format('It would hide rows from %I, who owns the projection.', problem.rolname),
            HINT = 'Let a role that sees every row own the projection, and put policies on the projection itself.';
    END IF;

    FOR problem IN
        UPDATE projections.projection p SET stale_since = now(), stale_reason = format('capture disabled on %s', t.tgrelid::regclass)
        FROM pg_trigger t
        WHERE t.tgrelid = ANY (touched) AND t.tgrelid = ANY (p.sources::oid[]) AND projections._captures(p) AND t.tgname IN ('projections_capture', 'projections_capture_truncate')
          AND t.tgenabled IN ('D', 'R') AND p.stale_since IS NULL
        RETURNING p.relation, t.tgrelid::regclass AS source
    LOOP
        RAISE WARNING 'projection % no longer follows %', projections._name(problem.relation), problem.source
            USING HINT = format('SELECT projections.repair(%L); restores the trigger and what was missed.', projections._name(problem.relation));
    END LOOP;
END
$$;
COMMENT ON FUNCTION projections._after_ddl() IS 'Internal: refuses DDL that would break maintenance, and notices disabled capture.';

CREATE EVENT TRIGGER projections_before_ddl ON ddl_command_start WHEN TAG IN ('DROP EXTENSION', 'DROP TABLE')
    EXECUTE FUNCTION projections._before_ddl();
CREATE EVENT TRIGGER projections_after_drop ON sql_drop EXECUTE FUNCTION projections._after_drop();
CREATE EVENT TRIGGER projections_after_ddl ON ddl_command_end WHEN TAG IN ('ALTER TABLE', 'ALTER VIEW', 'ALTER SEQUENCE', 'CREATE TRIGGER', 'ALTER TRIGGER', 'CREATE RULE', 'CREATE TABLE')
    EXECUTE FUNCTION projections._after_ddl();
-- Whether projections are right, and making them so.

CREATE FUNCTION projections.verify(name text, sample double precision DEFAULT 1)
    RETURNS TABLE(problem text, key jsonb, expected jsonb, found jsonb)
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_verify';
COMMENT ON FUNCTION projections.verify(text, double precision) IS
'Compares a projection with its definition, as far as it has been brought up to date: one over events up to its checkpoint, without events that failed, are parked or were
skipped; one over a change log without what is still in the log; a reducer or state machine by folding its events again in memory; a handler by calling it again for its events, with
tables like its own that nobody else sees and that are gone in the end. Returns a row for each difference, none
where there is none. problem: missing, extra, different, or duplicate (several rows of one key). key: the row''s, NULL where rows have none. expected, found: the rows, with the
columns that maintenance appended. Aggregates over floats are equal within 1e-9 of their value (real: 1e-5). A handler with several tables has the table''s name in key ("table"). Columns that it leaves to a
default like nextval() or now() are not compared, and a NOTICE names them; if the primary key is among them, rows have no key. What the handler does beyond its tables is refused
where it writes, and done again where it does not; verifying a handler takes about as long as rebuilding it, and is no part of what idle workers do (scrub_rate). Reads everything under one snapshot, the latest one also in
REPEATABLE READ, and holds nobody up. sample: the share of the keys that is compared, chosen anew by each call; above 0 and at most 1.
Needs to own the projection, or pg_read_all_data. Errors: 42P01; 42809 not a projection; 42501; 22023 sample; 0A000 a handler that reaches past its tables, or tables of which no twin can be made; 25006 a handler in a read-only transaction; 55000 it is being filled, or an event fails that a handler had applied; 55006 called by a statement
that writes its sources; PJ006 events are archived away.
Example: SELECT * FROM projections.verify(''revenue'', sample => 0.1);';

-- --------------------------------------------------------------------------------------------------------------- repair

CREATE FUNCTION projections.repair(name text) RETURNS bigint
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_operate';
COMMENT ON FUNCTION projections.repair(text) IS
'Makes a projection right and able to stay so: restores triggers that are missing, disabled or replica-only, on its sources and on itself, its key''s index, and change logs and
checkpoints that are gone; then recomputes exactly the keys that verify() reports, and ends status stale. Returns how many rows it wrote. What was changed while a trigger was missing
is found too: while one is restored, writers of the source wait until this transaction ends; else they go on. Changes that wait in a change log
are applied on the way. A projection that has lost a checkpoint starts again from the first event. A handler is called again for its events, as verify() does it, and its tables are made equal to the result; other writers of these tables wait meanwhile. Where
that is not possible, triggers are restored all the same, with a WARNING. Projections that read this
one follow its changes. A source that is a stale projection itself is not repaired, and a NOTICE says so: begin with it.
Errors: 42P01; 42809 not a projection; 42501 not the owner; 40001 above READ COMMITTED, where another transaction changes the same rows; PJ006 events are archived away; 0A000 and 55000 as verify() of a
handler; 55000 a handler without its checkpoint.
Example: SELECT projections.repair(''revenue'');';

CREATE FUNCTION projections._make_logs(projection oid) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'projections_make_logs';
COMMENT ON FUNCTION projections._make_logs(oid) IS 'Internal: makes empty change logs for a query projection whose writers are held off, and drops those that are left.';
CREATE FUNCTION projections._remove_duplicates(projection oid) RETURNS bigint
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'projections_remove_duplicates';
COMMENT ON FUNCTION projections._remove_duplicates(oid) IS 'Internal: leaves one row of each key, whichever.';
CREATE FUNCTION projections._repair_rows(projection oid) RETURNS bigint
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'projections_repair_rows';
COMMENT ON FUNCTION projections._repair_rows(oid) IS 'Internal: recomputes the keys that differ from the definition; returns the rows written.';

-- Triggers that a projection needs, on itself and its sources, partitions included, and does not have as it needs them.
CREATE FUNCTION projections._broken_triggers(p projections.projection) RETURNS TABLE(relation oid, source boolean, trigger name, state text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH needed AS (
        SELECT p.relation::oid AS relation, false AS source, n AS trigger FROM unnest(ARRAY['projections_guard', 'projections_guard_truncate']::name[]) n WHERE p.kind <> 'handler'
        UNION ALL
        SELECT s, true, n FROM unnest(p.sources::oid[]) s, unnest(ARRAY['projections_capture', 'projections_capture_truncate']::name[]) n WHERE projections._captures(p)
        UNION ALL
        SELECT s.relation, true, 'projections_arrival' FROM projections.source s WHERE s.relation = ANY (p.sources) AND s.capture = 'trigger'
    )
    SELECT n.relation, n.source, n.trigger, CASE WHEN t.oid IS NULL THEN 'missing' WHEN t.tgenabled = 'D' THEN 'disabled' ELSE 'not ALWAYS' END
    FROM needed n JOIN pg_class c ON c.oid = n.relation LEFT JOIN pg_trigger t ON t.tgrelid = n.relation AND t.tgname = n.trigger
    WHERE t.oid IS NULL OR t.tgenabled <> 'A'
       OR EXISTS (SELECT FROM pg_partition_tree(n.relation) l JOIN pg_trigger k ON k.tgrelid = l.relid AND k.tgname = n.trigger WHERE k.tgenabled <> 'A')
    ORDER BY n.source DESC, n.relation, n.trigger
$$;
COMMENT ON FUNCTION projections._broken_triggers(projections.projection) IS
'Internal: the triggers of a projection that are missing, disabled, or not ENABLE ALWAYS. state says which.';

CREATE FUNCTION projections._restore_triggers(p projections.projection) RETURNS integer
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    broken record;
    arrivals projections.source;
    restored integer := 0;
BEGIN
    -- What is changed before the trigger is back must be seen by who compares: writers wait until that is done. In the order of all writers.
    FOR broken IN SELECT DISTINCT b.relation FROM projections._broken_triggers(p) b WHERE b.source ORDER BY 1 LOOP
        EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', projections._name(broken.relation));
    END LOOP;
    FOR broken IN SELECT * FROM projections._broken_triggers(p) LOOP
        IF broken.state = 'missing' AND broken.trigger = 'projections_arrival' THEN
            SELECT * INTO arrivals FROM projections.source s WHERE s.relation = broken.relation;
            EXECUTE format('CREATE TRIGGER projections_arrival AFTER INSERT ON %s FOR EACH ROW EXECUTE FUNCTION projections._note_arrival(%L, %L)',
                           projections._name(broken.relation), (SELECT c.relname FROM pg_class c WHERE c.oid = arrivals.arrivals), arrivals.position_column);
        ELSIF broken.state = 'missing' THEN
            EXECUTE format('CREATE TRIGGER %I %s ON %s %s EXECUTE FUNCTION projections.%s()', broken.trigger,
                           CASE broken.trigger WHEN 'projections_guard' THEN 'BEFORE INSERT OR UPDATE OR DELETE' WHEN 'projections_guard_truncate' THEN 'BEFORE TRUNCATE'
                                               WHEN 'projections_capture' THEN 'AFTER INSERT OR UPDATE OR DELETE' ELSE 'AFTER TRUNCATE' END,
                           projections._name(broken.relation),
                           CASE WHEN broken.trigger IN ('projections_guard', 'projections_capture') THEN 'FOR EACH ROW' ELSE '' END,
                           CASE WHEN broken.source THEN 'capture' ELSE 'guard' END);
        END IF;
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', projections._name(broken.relation), broken.trigger);
        IF broken.trigger = 'projections_arrival' THEN
            SELECT * INTO arrivals FROM projections.source s WHERE s.relation = broken.relation;
            EXECUTE format('INSERT INTO %1$s (position) SELECT e.%2$I FROM %3$s e WHERE NOT EXISTS (SELECT FROM %1$s a WHERE a.position = e.%2$I) ORDER BY e.%2$I',
                           projections._name(arrivals.arrivals), arrivals.position_column, projections._name(broken.relation));
        ELSIF broken.source THEN
            UPDATE projections.projection o SET stale_since = now(), stale_reason = format('capture was lost on %s', broken.relation::regclass)
            WHERE broken.relation = ANY (o.sources::oid[]) AND projections._captures(o) AND o.relation <> p.relation AND o.stale_since IS NULL;
        END IF;
        restored := restored + 1;
        RAISE NOTICE 'trigger % on % was %', broken.trigger, projections._name(broken.relation), broken.state;
    END LOOP;
    RETURN restored;
END
$$;
COMMENT ON FUNCTION projections._restore_triggers(projections.projection) IS
'Internal: makes triggers ENABLE ALWAYS again; holds writers of those sources off to the end of the transaction, and marks other projections over them stale.';

CREATE FUNCTION projections._key_index(p projections.projection) RETURNS oid
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT i.indexrelid FROM pg_index i
    WHERE i.indrelid = p.relation AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
      AND (i.indnullsnotdistinct OR p.kind <> 'query')
      AND (SELECT array_agg(a.attname::text ORDER BY a.attname) FROM pg_attribute a WHERE a.attrelid = p.relation AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]))
        = (SELECT array_agg(k ORDER BY k COLLATE "C") FROM unnest(CASE p.kind WHEN 'query' THEN projections._key_columns(p.relation) ELSE '{key}' END) k)
    LIMIT 1
$$;
COMMENT ON FUNCTION projections._key_index(projections.projection) IS 'Internal: the unique index over a projection''s key, by which maintenance finds rows; NULL: there is none.';

-- How many logs and slots are gone.
CREATE FUNCTION projections._restore_hidden(p projections.projection) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    source oid;
    slots integer := coalesce((p.options ->> 'slots')::integer, 1);
BEGIN
    IF EXISTS (SELECT FROM unnest(p.changes::oid[]) l WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = l)) THEN
        FOR source IN SELECT s FROM unnest(p.sources::oid[]) s ORDER BY 1 LOOP
            EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', projections._name(source));
        END LOOP;
        PERFORM projections._make_logs(p.relation);
        RAISE NOTICE 'a change log of % was missing', projections._name(p.relation);
    END IF;
    IF p.mode <> 'async' OR (SELECT count(*) FROM projections.slot s WHERE s.projection = p.relation) = slots THEN
        RETURN false;
    ELSIF p.kind = 'handler' THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('handler %s has lost a checkpoint', projections._name(p.relation)),
            DETAIL = 'Nothing says which events it has applied.',
            HINT = format('INSERT INTO projections.slot (projection, slot, position) VALUES (%L, …) with what you know of it; or add them at 0 and call projections.reset(%L).',
                          projections._name(p.relation), projections._name(p.relation));
    END IF;
    RAISE NOTICE 'a checkpoint of % was missing', projections._name(p.relation);
    IF p.changes = '{}' THEN
        PERFORM projections._refuse_archived(p.relation, 0);
    END IF;
    PERFORM projections._lock_slots(p.relation);
    DELETE FROM projections.slot s WHERE s.projection = p.relation;
    INSERT INTO projections.slot (projection, slot) SELECT p.relation, n FROM generate_series(0, slots - 1) n;
    RETURN p.changes = '{}';
END
$$;
COMMENT ON FUNCTION projections._restore_hidden(projections.projection) IS
'Internal: makes change logs and slots that are gone; true where the projection has to start from its first event.';

CREATE FUNCTION projections._repair(projection oid, caller text) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    p projections.projection;
    stale regclass;
    restored integer;
    written bigint := 0;
    key_index oid;
    detail text;
    hint text;
BEGIN
    SELECT * INTO STRICT p FROM projections.projection x WHERE x.relation = projection::regclass;
    FOR stale IN SELECT x.relation FROM projections.projection x WHERE x.relation = ANY (p.sources) AND x.stale_since IS NOT NULL ORDER BY 1 LOOP
        RAISE NOTICE 'projection %, which % reads, is stale itself', projections._name(stale), projections._name(p.relation)
            USING HINT = format('SELECT projections.repair(%L);', projections._name(stale));
    END LOOP;
    -- An inline reducer's events are folded by their writers.
    IF p.mode = 'inline' AND p.kind <> 'query' THEN
        EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', projections._name(p.sources[1]));
    END IF;
    restored := projections._restore_triggers(p);
    key_index := CASE WHEN p.shape IN ('bag', 'total') OR p.kind = 'handler' THEN 0 ELSE projections._key_index(p) END;
    IF key_index IS NULL THEN
        EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', projections._name(p.relation));
    END IF;
    -- One at a time, and not while somebody pauses or resumes it.
    PERFORM projections._lock_slots(projection);
    SELECT * INTO STRICT p FROM projections.projection x WHERE x.relation = projection::regclass FOR UPDATE;
    IF projections._restore_hidden(p) THEN
        PERFORM projections._reset(projection, caller);
    END IF;
    IF key_index IS NULL THEN
        RAISE NOTICE 'the index over the key of % was missing', projections._name(p.relation);
        written := projections._remove_duplicates(projection);
        EXECUTE format('CREATE UNIQUE INDEX ON %s (%s)%s', projections._name(p.relation),
                       (SELECT string_agg(quote_ident(k), ', ' ORDER BY n)
                        FROM unnest(CASE p.kind WHEN 'query' THEN projections._key_columns(p.relation) ELSE '{key}' END) WITH ORDINALITY u(k, n)),
                       CASE p.kind WHEN 'query' THEN ' NULLS NOT DISTINCT' ELSE '' END);
    END IF;
    IF p.kind = 'handler' AND restored > 0 THEN
        BEGIN
            written := projections._repair_rows(projection);
        EXCEPTION
            -- Better triggers without the rows than neither.
            WHEN feature_not_supported OR object_not_in_prerequisite_state OR SQLSTATE 'PJ006' THEN
                GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
                RAISE WARNING 'the rows of handler % are not repaired: %', projections._name(p.relation), SQLERRM USING DETAIL = detail, HINT = hint;
                RETURN 0;
        END;
    ELSE
        written := written + projections._repair_rows(projection);
    END IF;
    UPDATE projections.projection x SET stale_since = NULL, stale_reason = NULL WHERE x.relation = p.relation AND x.stale_since IS NOT NULL;
    RETURN written;
END
$$;
COMMENT ON FUNCTION projections._repair(oid, text) IS 'Internal: projections.repair().';

REVOKE EXECUTE ON FUNCTION projections._make_logs(oid), projections._remove_duplicates(oid), projections._repair_rows(oid), projections._broken_triggers(projections.projection),
    projections._restore_triggers(projections.projection), projections._key_index(projections.projection), projections._restore_hidden(projections.projection),
    projections._repair(oid, text) FROM PUBLIC;

-- ----------------------------------------------------------------------------------------------------------------- keys

CREATE FUNCTION projections.stale_keys(name text, min_lag bigint DEFAULT 1)
    RETURNS TABLE(key jsonb, lag bigint, oldest_position bigint, oldest_at timestamptz)
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_stale_keys';
COMMENT ON FUNCTION projections.stale_keys(text, bigint) IS
'The keys of an async (or paused) projection that wait for something, the oldest first. key: as refresh_rows() and read() take it; of a handler its partition, as {"key": …}. lag: how many events are not applied
yet, those that failed or are parked included where events are applied one by one; over a change log, how many row images (an UPDATE has two). oldest_position: of the first of
them: event or number in the log. oldest_at: its time, NULL where the source has none. min_lag: leave out keys with less. Nothing waits for an inline projection. Reads all that is not applied: with a large
backlog, rather ask health(). Needs to own the projection, or pg_read_all_data. Errors: 42P01; 42809 not a projection; 42501; 0A000 it has no key.
Example: SELECT * FROM projections.stale_keys(''stock'', 10);';

CREATE FUNCTION projections.refresh_source(source text, keys jsonb) RETURNS bigint
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_refresh_source';
COMMENT ON FUNCTION projections.refresh_source(text, jsonb) IS
'Computes again, in every projection over a table, what some of its rows touch. keys: one object {column: value}, or an array of them, all with the same columns of the source (its primary
key, or any others); the rows that have these values now count. What deleted rows have left is found by repair(), or by refresh_rows() with the projection''s key. A projection whose rows have no key is compared as a whole; handlers are left out, with a NOTICE. Returns the number of rows written,
and of reducers'' keys. Locks as refresh_rows() and replay() do. Errors: 42P01; 42501 not the owner of all projections over it; 42809 no projection reads it; 22023 keys; PJ006 events are archived away.
Example: SELECT projections.refresh_source(''orders'', ''[{"id": 4711}, {"id": 4712}]'');';

-- ---------------------------------------------------------------------------------------------------------------- scrub

CREATE FUNCTION projections._scrub() RETURNS bigint
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_scrub';
COMMENT ON FUNCTION projections._scrub() IS
'Internal: verifies the next projection and marks it stale where it differs; returns the rows read, below 0 where there is nothing to verify, or another worker does it.';
REVOKE EXECUTE ON FUNCTION projections._scrub() FROM PUBLIC;
-- Validate: what is broken, missing, or set so that it cannot work, with SQL that mends it.
--
-- Each function below knows one kind of thing and looks at all of it in one query: a thousand projections are one look. owner: who else
-- than pg_monitor is told; 0 for nobody, NULL for everybody. A hint mends its problem when it is followed literally; one that has to be
-- completed, or says what else to do, says so in a comment.

-- What repairs the contents of all projections that read a table.
CREATE FUNCTION projections._repair_readers(source oid) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE count(*) WHEN 0 THEN '' WHEN 1 THEN format('SELECT projections.repair(%L);', min(projections._name(p.relation)))
        ELSE format('SELECT projections.repair(projection) FROM projections.dependencies WHERE source = %L::regclass;', projections._name(source)) END
    FROM projections.projection p WHERE source = ANY (p.sources::oid[]) AND p.shadow_of IS NULL
$$;
COMMENT ON FUNCTION projections._repair_readers(oid) IS 'Internal: SQL that repairs the projections over a table.';

-- type: as pg_trigger.tgtype has it. made: what follows the name in CREATE TRIGGER. lost: SQL that brings back what went by unseen.
CREATE FUNCTION projections._wanted_triggers()
    RETURNS TABLE(relation oid, name name, function text, type int2, made text, lost text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT w.relation, t.name, t.function, t.type, format(t.made, projections._name(w.relation)), CASE t.function WHEN 'capture' THEN 'readers' ELSE 'itself' END
    FROM (SELECT DISTINCT unnest(p.sources)::oid AS relation, 'capture' AS function FROM projections.projection p WHERE projections._captures(p) AND NOT p.building -- its shadow captures
          UNION ALL
          SELECT p.relation::oid, 'guard' FROM projections.projection p WHERE p.kind <> 'handler' AND p.shadow_of IS NULL) w
    JOIN (VALUES ('projections_capture'::name, 'capture', 29::int2, 'AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION projections.capture()'),
                 ('projections_capture_truncate', 'capture', 32, 'AFTER TRUNCATE ON %s EXECUTE FUNCTION projections.capture()'),
                 ('projections_guard', 'guard', 31, 'BEFORE INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION projections.guard()'),
                 ('projections_guard_truncate', 'guard', 34, 'BEFORE TRUNCATE ON %s EXECUTE FUNCTION projections.guard()'))
        AS t(name, function, type, made) ON t.function = w.function
    UNION ALL
    SELECT s.relation, 'projections_arrival', '_note_arrival', 5,
           format('AFTER INSERT ON %s FOR EACH ROW EXECUTE FUNCTION projections._note_arrival(%L, %L)', projections._name(s.relation), a.relname, s.position_column),
           format(' INSERT INTO %s (position) SELECT e.%I FROM %s AS e WHERE NOT EXISTS (SELECT FROM %1$s AS a WHERE a.position = e.%2$I) ORDER BY 1;',
                  projections._name(s.arrivals), s.position_column, projections._name(s.relation))
    FROM projections.source s JOIN pg_class a ON a.oid = s.arrivals
$$;
COMMENT ON FUNCTION projections._wanted_triggers() IS 'Internal: the triggers that there must be, ALWAYS.';

CREATE FUNCTION projections._validate_triggers() RETURNS TABLE(severity text, object text, problem text, hint text, owner oid)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH wanted AS (
        SELECT w.*, c.relowner FROM projections._wanted_triggers() w JOIN pg_class c ON c.oid = w.relation
    ), found AS (
        SELECT w.relation, w.relation AS source, w.name, w.relowner, w.lost, CASE WHEN t.oid IS NULL THEN format('CREATE TRIGGER %I %s; ', w.name, w.made) ELSE '' END AS made,
               CASE WHEN t.oid IS NULL THEN 'is missing'
                    WHEN other.it THEN 'is another trigger of that name'
                    WHEN t.tgenabled = 'D' THEN 'is disabled'
                    WHEN t.tgenabled = 'R' THEN 'fires for replication only'
                    WHEN t.tgenabled = 'O' THEN 'does not fire for replication; a restore without triggers leaves it so' END AS problem,
               -- projections.repair() knows our triggers by their names.
               CASE WHEN other.it
                    THEN format('CREATE OR REPLACE TRIGGER %I %s; ALTER TABLE %s ENABLE ALWAYS TRIGGER %1$I; ', w.name, w.made, projections._name(w.relation)) ELSE '' END AS remake
        FROM wanted w
        LEFT JOIN pg_trigger t ON t.tgrelid = w.relation AND t.tgname = w.name
        LEFT JOIN pg_proc f ON f.oid = t.tgfoid AND f.proname = w.function AND f.pronamespace = 'projections'::regnamespace
        CROSS JOIN LATERAL (SELECT t.oid IS NOT NULL AND (f.oid IS NULL OR t.tgtype <> w.type OR t.tgqual IS NOT NULL OR t.tgattr <> '') AS it) other
        UNION ALL
        -- The copies on partitions have states of their own.
        SELECT p.relid, w.relation, w.name, w.relowner, w.lost, '', 'does not fire always on this partition', ''
        FROM wanted w JOIN pg_class c ON c.oid = w.relation AND c.relkind = 'p' CROSS JOIN LATERAL pg_partition_tree(w.relation) p
        JOIN pg_trigger t ON t.tgrelid = p.relid AND t.tgname = w.name
        WHERE p.level > 0 AND t.tgenabled <> 'A'
    )
    SELECT 'ERROR', projections._name(f.relation), format('trigger %I %s', f.name, f.problem),
           f.remake || CASE f.lost WHEN 'readers' THEN projections._repair_readers(f.source)
                                   WHEN 'itself' THEN format('SELECT projections.repair(%L);', projections._name(f.source))
                                   ELSE f.made || format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I;', projections._name(f.source), f.name) || f.lost END,
           f.relowner
    FROM found f WHERE f.problem IS NOT NULL
$$;
COMMENT ON FUNCTION projections._validate_triggers() IS 'Internal: triggers of ours that are missing or do not always fire.';

-- Compiling raises what is wrong with a definition, and no other projection is to be hidden by that.
CREATE FUNCTION projections._compiled(projection regclass, kind text, OUT keys text[], OUT problem text)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF kind = 'query' THEN
        keys := projections._key_columns(projection);
    ELSE
        PERFORM projections._key_expression(projection);
        keys := CASE kind WHEN 'handler' THEN NULL ELSE '{key}' END;
    END IF;
EXCEPTION WHEN OTHERS THEN
    -- What has nothing to do with the definition (memory, a lock, another library) must not make anybody drop it.
    IF SQLSTATE !~ '^(42|0A|22|XX|PJ002)' THEN
        RAISE;
    END IF;
    problem := SQLERRM;
END
$$;
COMMENT ON FUNCTION projections._compiled(regclass, text) IS 'Internal: the key columns of a projection, or what keeps it from being compiled.';

CREATE FUNCTION projections._function_oid(signature text) RETURNS oid
    LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN signature::regprocedure::oid;
EXCEPTION WHEN OTHERS THEN -- the function, its schema, or a type of its arguments
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION projections._function_oid(text) IS 'Internal: the function of that signature; NULL where there is none.';

-- SQL that takes a projection down and makes it anew.
CREATE FUNCTION projections._recreate_sql(projection regclass) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN format('SELECT projections.drop(%L); %s', projections._name(projection), projections._create_sql(projection));
EXCEPTION WHEN OTHERS THEN -- where the definition cannot be read, nobody can say how to make it anew
    RETURN format('SELECT projections.drop(%L, keep_table => true); -- then drop the table, and create the projection again', projections._name(projection));
END
$$;
COMMENT ON FUNCTION projections._recreate_sql(regclass) IS 'Internal: SQL that drops a projection and creates it again.';

-- Definitions: what they read and call must be there, and the owner may read and call it.
CREATE FUNCTION projections._validate_definitions() RETURNS TABLE(severity text, object text, problem text, hint text, owner oid)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH known AS MATERIALIZED (
        SELECT p.relation, p.definition::oid, p.kind, c.relowner, pg_get_userbyid(c.relowner) AS role
        FROM projections.projection p JOIN pg_class c ON c.oid = p.relation JOIN pg_class d ON d.oid = p.definition WHERE p.shadow_of IS NULL
    ), used AS MATERIALIZED (
        SELECT DISTINCT k.relation, k.kind, k.relowner, k.role, d.refclassid, d.refobjid, d.refobjsubid
        FROM known k JOIN pg_rewrite w ON w.ev_class = k.definition
        JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid AND d.refobjid <> k.definition
    ), lost AS MATERIALIZED (
        SELECT u.relation, min(CASE u.refclassid WHEN 'pg_proc'::regclass THEN 'function' WHEN 'pg_operator'::regclass THEN 'operator'
                                                 WHEN 'pg_type'::regclass THEN 'type' ELSE 'relation' END) AS what
        FROM used u
        WHERE CASE u.refclassid WHEN 'pg_proc'::regclass THEN NOT EXISTS (SELECT FROM pg_proc x WHERE x.oid = u.refobjid)
                                WHEN 'pg_operator'::regclass THEN NOT EXISTS (SELECT FROM pg_operator x WHERE x.oid = u.refobjid)
                                WHEN 'pg_type'::regclass THEN NOT EXISTS (SELECT FROM pg_type x WHERE x.oid = u.refobjid)
                                WHEN 'pg_class'::regclass THEN NOT EXISTS (SELECT FROM pg_class x WHERE x.oid = u.refobjid) ELSE false END
        GROUP BY u.relation
    )
    SELECT 'ERROR', projections._name(k.relation), 'its definition is broken: ' || coalesce(format('a %s that it uses is gone', l.what), c.problem),
           projections._recreate_sql(k.relation), k.relowner
    FROM known k
    LEFT JOIN lost l ON l.relation = k.relation
    LEFT JOIN LATERAL projections._compiled(k.relation, k.kind) c ON l.what IS NULL
    WHERE l.what IS NOT NULL OR c.problem IS NOT NULL
    UNION ALL
    SELECT 'ERROR', projections._name(u.relation), format('its owner, %I, may not read %s', u.role, projections._name(u.refobjid)),
           format('GRANT SELECT ON %s TO %I;', projections._name(u.refobjid), u.role), u.relowner
    FROM used u JOIN pg_class c ON c.oid = u.refobjid
    WHERE u.refclassid = 'pg_class'::regclass AND c.relkind IN ('r', 'p')
    GROUP BY u.relation, u.refobjid, u.role, u.relowner
    HAVING bool_or(NOT CASE WHEN u.refobjsubid > 0 THEN coalesce(has_column_privilege(u.relowner, u.refobjid, u.refobjsubid::int2, 'SELECT'), true)
                            WHEN u.kind = 'query' THEN has_any_column_privilege(u.relowner, u.refobjid, 'SELECT')
                            ELSE has_table_privilege(u.relowner, u.refobjid, 'SELECT') END)
    UNION ALL
    SELECT 'ERROR', projections._name(u.relation), format('its owner, %I, may not call %s', u.role, u.refobjid::regprocedure),
           format('GRANT EXECUTE ON FUNCTION %s TO %I;', u.refobjid::regprocedure, u.role), u.relowner
    FROM used u JOIN pg_proc f ON f.oid = u.refobjid
    WHERE u.refclassid = 'pg_proc'::regclass AND NOT has_function_privilege(u.relowner, f.oid, 'EXECUTE')
$$;
COMMENT ON FUNCTION projections._validate_definitions() IS 'Internal: definitions that are broken, or that the owner may not read.';

-- What handlers and reducers call and write, and what is called for dead letters.
CREATE FUNCTION projections._validate_functions() RETURNS TABLE(severity text, object text, problem text, hint text, owner oid)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH called AS (
        SELECT p.relation, c.relowner, pg_get_userbyid(c.relowner) AS role, w.signature, w.is_option, projections._function_oid(w.signature) AS function
        FROM projections.projection p JOIN pg_class c ON c.oid = p.relation,
        LATERAL (VALUES (p.function, false), (p.options ->> 'on_dead_letter', true)) AS w(signature, is_option)
        WHERE w.signature IS NOT NULL AND p.shadow_of IS NULL
    )
    SELECT CASE WHEN f.is_option THEN 'WARNING' ELSE 'ERROR' END, projections._name(f.relation), format('function %s, which it calls%s, is gone', f.signature, CASE WHEN f.is_option THEN ' for dead letters' END),
           CASE WHEN f.is_option THEN format('UPDATE projections.projection SET options = options - ''on_dead_letter'' WHERE relation = %L::regclass;', projections._name(f.relation))
                ELSE format('SELECT projections.drop(%L); -- or create the function again: %s', projections._name(f.relation), f.signature) END,
           f.relowner
    FROM called f WHERE f.function IS NULL
    UNION ALL
    SELECT 'ERROR', projections._name(f.relation), format('its owner, %I, may not call %s', f.role, f.signature),
           format('GRANT USAGE ON SCHEMA %s TO %I; GRANT EXECUTE ON FUNCTION %s TO %2$I;', o.pronamespace::regnamespace, f.role, f.signature), f.relowner
    FROM called f JOIN pg_proc o ON o.oid = f.function
    WHERE NOT has_function_privilege(f.relowner, o.oid, 'EXECUTE') OR NOT has_schema_privilege(f.relowner, o.pronamespace, 'USAGE')
    UNION ALL
    SELECT 'ERROR', projections._name(p.relation), format('its handler''s table %s is gone', t.relation), projections._recreate_sql(p.relation), c.relowner
    FROM projections.projection p JOIN pg_class c ON c.oid = p.relation, LATERAL unnest(p.tables::oid[]) AS t(relation)
    WHERE NOT EXISTS (SELECT FROM pg_class x WHERE x.oid = t.relation) AND p.shadow_of IS NULL
    UNION ALL
    SELECT 'ERROR', projections._name(p.relation), format('its owner, %I, may not write %s', pg_get_userbyid(c.relowner), projections._name(t.relation)),
           format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO %I;', projections._name(t.relation), pg_get_userbyid(c.relowner)), c.relowner
    FROM projections.projection p JOIN pg_class c ON c.oid = p.relation, LATERAL unnest(p.tables::oid[]) AS t(relation) JOIN pg_class x ON x.oid = t.relation
    WHERE p.shadow_of IS NULL AND NOT has_table_privilege(c.relowner, t.relation, 'INSERT') AND NOT has_table_privilege(c.relowner, t.relation, 'UPDATE')
      AND NOT has_table_privilege(c.relowner, t.relation, 'DELETE')
$$;
COMMENT ON FUNCTION projections._validate_functions() IS 'Internal: functions and tables of handlers and reducers that are gone or out of reach.';

-- Key indexes, and the columns.
CREATE FUNCTION projections._validate_keys() RETURNS TABLE(severity text, object text, problem text, hint text, owner oid)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH keyed AS (
        SELECT p.relation, p.shape, c.relowner, k.keys
        FROM projections.projection p JOIN pg_class c ON c.oid = p.relation AND c.relkind = 'r' JOIN pg_class d ON d.oid = p.definition,
        LATERAL projections._compiled(p.relation, p.kind) k
        WHERE p.kind <> 'handler' AND p.shadow_of IS NULL AND NOT p.building AND k.problem IS NULL
    ), indexes AS (
        SELECT i.indrelid, i.indexrelid, i.indisvalid AND i.indisready AS usable, i.indisunique AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL AS is_unique,
               i.indexprs IS NOT NULL AND i.indpred IS NULL AS has_expression,
               ARRAY(SELECT a.attname::text COLLATE "C" FROM unnest((i.indkey::int2[])[0:i.indnkeyatts - 1]) AS n(attnum)
                     JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = n.attnum ORDER BY 1) AS columns,
               i.indnullsnotdistinct OR i.indisprimary OR i.indrelid IN (SELECT keyed.relation FROM keyed WHERE keyed.shape IS NULL) AS nulls_equal
        FROM pg_index i WHERE i.indrelid IN (SELECT keyed.relation FROM keyed)
    )
    SELECT 'ERROR', projections._name(k.relation),
           CASE WHEN broken.indexrelid IS NULL THEN format('no unique index has its key (%s)', array_to_string(k.keys, ', '))
                ELSE format('index %s of its key is not valid', projections._name(broken.indexrelid)) END,
           CASE WHEN broken.indexrelid IS NULL THEN ''
                WHEN broken.constraint_name IS NULL THEN format('DROP INDEX %s; ', projections._name(broken.indexrelid))
                ELSE format('ALTER TABLE %s DROP CONSTRAINT %I; ', projections._name(k.relation), broken.constraint_name) END
               || format('SELECT projections.repair(%L);', projections._name(k.relation)),
           k.relowner
    FROM keyed k
    LEFT JOIN LATERAL (SELECT i.indexrelid, (SELECT x.conname FROM pg_constraint x WHERE x.conindid = i.indexrelid AND x.contype IN ('p', 'u')) AS constraint_name FROM indexes i WHERE i.indrelid = k.relation AND i.is_unique AND i.nulls_equal AND NOT i.usable
                         AND i.columns = ARRAY(SELECT n COLLATE "C" FROM unnest(k.keys) AS n ORDER BY 1) LIMIT 1) broken ON true
    WHERE k.keys <> '{}' AND coalesce(k.shape, '') <> 'bag'
      AND NOT EXISTS (SELECT FROM indexes i WHERE i.indrelid = k.relation AND i.is_unique AND i.nulls_equal AND i.usable
                        AND i.columns = ARRAY(SELECT n COLLATE "C" FROM unnest(k.keys) AS n ORDER BY 1))
    UNION ALL
    SELECT 'WARNING', projections._name(k.relation), 'the index by which rows are found to be removed is missing or not valid',
           format('CREATE INDEX ON %s (hash_record_extended(ROW(%s), 0));', projections._name(k.relation),
                  (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a JOIN projections.projection p ON p.relation = k.relation
                   WHERE a.attrelid = p.definition AND a.attnum > 0)), k.relowner
    FROM keyed k
    WHERE k.shape = 'bag' AND NOT EXISTS (SELECT FROM indexes i WHERE i.indrelid = k.relation AND i.usable AND i.has_expression)
$$;
COMMENT ON FUNCTION projections._validate_keys() IS 'Internal: projections without the index that maintenance needs.';

-- What the event triggers refuse, where it slipped in all the same. As they look at the whole table after each ALTER TABLE, all is undone in one.
CREATE FUNCTION projections._validate_tables() RETURNS TABLE(severity text, object text, problem text, hint text, owner oid)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT 'ERROR', projections._name(p.relation), string_agg(x.problem, '; ' ORDER BY x.problem),
           CASE WHEN bool_or(x.before IS NULL AND x.change IS NULL) THEN projections._recreate_sql(p.relation)
                ELSE concat_ws(' ', string_agg(x.before, ' ' ORDER BY x.problem),
                               format('ALTER TABLE %s ', projections._name(p.relation)) || string_agg(x.change, ', ' ORDER BY x.problem) || ';') END,
           c.relowner
    FROM projections.projection p JOIN pg_class c ON c.oid = p.relation, LATERAL (
        SELECT format('trigger %I changes or drops rows on their way in', t.tgname), format('DROP TRIGGER %I ON %s;', t.tgname, projections._name(p.relation)), NULL
        FROM pg_trigger t WHERE t.tgrelid = p.relation AND NOT t.tgisinternal AND t.tgtype & 3 = 3 AND t.tgname <> 'projections_guard'
        UNION ALL
        SELECT format('constraint %I is deferred, so that nothing checks it', k.conname),
               CASE k.contype WHEN 't' THEN format('DROP TRIGGER %I ON %s;', k.conname, projections._name(p.relation)) END,
               CASE k.contype WHEN 't' THEN NULL WHEN 'f' THEN format('ALTER CONSTRAINT %I NOT DEFERRABLE', k.conname) ELSE format('DROP CONSTRAINT %I', k.conname) END
        FROM pg_constraint k WHERE k.conrelid = p.relation AND k.condeferred
        UNION ALL
        SELECT format('rule %I diverts its rows', r.rulename), format('DROP RULE %I ON %s;', r.rulename, projections._name(p.relation)), NULL
        FROM pg_rewrite r WHERE r.ev_class = p.relation
        UNION ALL
        SELECT 'it is unlogged: a crash would empty it', NULL, 'SET LOGGED' WHERE c.relpersistence = 'u'
        UNION ALL
        SELECT format('it is a child of %s', projections._name(i.inhparent)), NULL, format('NO INHERIT %s', projections._name(i.inhparent)) FROM pg_inherits i WHERE i.inhrelid = p.relation
        UNION ALL
        SELECT format('%s is a child of it', projections._name(i.inhrelid)), format('ALTER TABLE %s NO INHERIT %s;', projections._name(i.inhrelid), projections._name(p.relation)), NULL
        FROM pg_inherits i WHERE i.inhparent = p.relation
        UNION ALL
        SELECT format('column %I is not that of its definition', v.attname), NULL, NULL
        FROM pg_attribute v LEFT JOIN pg_attribute a ON a.attrelid = p.relation AND a.attnum = v.attnum AND NOT a.attisdropped
        WHERE p.kind = 'query' AND v.attrelid = p.definition AND v.attnum > 0 AND a.atttypid IS DISTINCT FROM v.atttypid
        UNION ALL
        SELECT format('column %s of type %s is missing', w.name, w.type), NULL, NULL
        FROM (VALUES ('key', 'text'::regtype), ('state', 'jsonb'), ('version', 'bigint'), ('position', 'bigint'), ('updated_at', 'timestamptz')) AS w(name, type)
        WHERE p.kind IN ('reducer', 'state_machine')
          AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = p.relation AND a.attname = w.name AND a.atttypid = w.type)
    ) AS x(problem, before, change)
    WHERE p.kind <> 'handler' AND p.shadow_of IS NULL GROUP BY p.relation, c.relowner
$$;
COMMENT ON FUNCTION projections._validate_tables() IS 'Internal: what a projection''s table must not have.';

-- Tables that projections read.
CREATE FUNCTION projections._validate_sources() RETURNS TABLE(severity text, object text, problem text, hint text, owner oid)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH read AS (
        SELECT p.relation, p.kind, p.shape, p.mode, p.changes, t.relowner, pg_get_userbyid(t.relowner) AS role, s.oid AS source, c.relowner AS source_owner,
               c.relpersistence, c.relrowsecurity, c.relforcerowsecurity, projections._captures(p) AS captures
        FROM projections.projection p JOIN pg_class t ON t.oid = p.relation, LATERAL unnest(p.sources::oid[]) AS s(oid) JOIN pg_class c ON c.oid = s.oid
        WHERE p.shadow_of IS NULL
    )
    -- In one ALTER TABLE, as the event triggers look at the whole table after each.
    SELECT 'ERROR', projections._name(r.source), string_agg(x.problem, '; ' ORDER BY x.problem),
           concat_ws(' ', string_agg(x.before, ' ' ORDER BY x.problem), format('ALTER TABLE %s ', projections._name(r.source)) || string_agg(x.change, ', ' ORDER BY x.problem) || ';',
                     projections._repair_readers(r.source)), r.source_owner
    FROM (SELECT r.source, r.source_owner, r.relpersistence, bool_or(r.kind = 'query' AND r.captures) AS images FROM read r GROUP BY 1, 2, 3) r, LATERAL (
        SELECT 'it is unlogged: a crash would empty it, and projections would not follow', NULL, 'SET LOGGED' WHERE r.relpersistence = 'u'
        UNION ALL
        SELECT format('it is a child of %s', projections._name(i.inhparent)), NULL, format('NO INHERIT %s', projections._name(i.inhparent))
        FROM pg_inherits i JOIN pg_class k ON k.oid = i.inhrelid AND NOT k.relispartition WHERE i.inhrelid = r.source AND r.images
        UNION ALL
        SELECT format('rows of its child %s are not followed', projections._name(i.inhrelid)), format('ALTER TABLE %s NO INHERIT %s;', projections._name(i.inhrelid), projections._name(r.source)), NULL
        FROM pg_inherits i JOIN pg_class k ON k.oid = i.inhrelid AND NOT k.relispartition WHERE i.inhparent = r.source AND r.images
    ) AS x(problem, before, change)
    GROUP BY r.source, r.source_owner
    UNION ALL
    SELECT 'ERROR', projections._name(r.relation), format('row-level security of %s hides rows from its owner, %I', projections._name(r.source), r.role),
           format('ALTER ROLE %I BYPASSRLS;', r.role), r.relowner
    FROM read r JOIN pg_roles o ON o.oid = r.relowner
    WHERE r.relrowsecurity AND NOT o.rolsuper AND NOT o.rolbypassrls AND (r.relforcerowsecurity OR NOT pg_has_role(o.oid, r.source_owner, 'USAGE'))
    UNION ALL
    SELECT 'ERROR', projections._name(r.relation), format('%s has no primary key any more, by which its rows are told apart', projections._name(r.source)),
           projections._recreate_sql(r.relation), r.relowner
    FROM read r WHERE r.shape = 'rows' AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = r.source AND i.indisprimary)
    UNION ALL
    SELECT DISTINCT 'ERROR', projections._name(r.source), 'projections read its events, but it is registered as a source no more',
           format('SELECT projections.register_source(%L, %L);', projections._name(r.source),
                  (SELECT a.attname FROM pg_attribute a WHERE a.attrelid = r.source AND a.attnum > 0 AND a.atttypid IN ('bigint'::regtype, 'integer'::regtype)
                     AND EXISTS (SELECT FROM projections._sequences_of(r.source, a.attname)) ORDER BY a.attnum LIMIT 1)), r.relowner
    FROM read r
    WHERE (r.kind <> 'query' OR r.mode = 'async' AND r.changes = '{}') AND NOT EXISTS (SELECT FROM projections.source s WHERE s.relation::oid = r.source)
      AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = r.source AND t.tgname = 'projections_capture' AND r.kind = 'query')
$$;
COMMENT ON FUNCTION projections._validate_sources() IS 'Internal: sources that projections cannot follow.';

CREATE FUNCTION projections._validate_event_sources() RETURNS TABLE(severity text, object text, problem text, hint text, owner oid)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT 'ERROR', projections._name(s.relation), format('the sequence of its %s is gone, by which events are known to be complete', quote_ident(s.position_column)),
           CASE WHEN EXISTS (SELECT FROM projections._sequences_of(s.relation, s.position_column)) THEN ''
                ELSE format('ALTER TABLE %s ALTER COLUMN %I ADD GENERATED BY DEFAULT AS IDENTITY; SELECT setval(pg_get_serial_sequence(%1$L, %2$L), greatest(max(%2$I), 1)) FROM %1$s; ',
                            projections._name(s.relation), s.position_column) END
               || format('UPDATE projections.source SET sequence = projections._sequence_for(relation, position_column) WHERE relation = %L::regclass;', projections._name(s.relation)),
           c.relowner
    FROM projections.source s JOIN pg_class c ON c.oid = s.relation
    WHERE s.arrivals IS NULL AND NOT EXISTS (SELECT FROM pg_class q WHERE q.oid = s.sequence)
    UNION ALL
    SELECT 'ERROR', projections._name(s.relation), format('its sequence %s has %s', projections._name(s.sequence),
               concat_ws(', ', CASE WHEN q.seqcache > 1 THEN format('CACHE %s', q.seqcache) END, CASE WHEN q.seqcycle THEN 'CYCLE' END,
                         CASE WHEN q.seqincrement < 1 THEN format('INCREMENT %s', q.seqincrement) END)) || ', so that events come out of order',
           format('ALTER SEQUENCE %s CACHE 1 NO CYCLE%s;', projections._name(s.sequence), CASE WHEN q.seqincrement < 1 THEN ' INCREMENT 1' END), c.relowner
    FROM projections.source s JOIN pg_class c ON c.oid = s.relation JOIN pg_sequence q ON q.seqrelid = s.sequence
    WHERE q.seqcache > 1 OR q.seqcycle OR q.seqincrement < 1
    UNION ALL
    SELECT 'ERROR', projections._name(s.relation), format('its position column %I may be null: such an event is never read', s.position_column),
           format('ALTER TABLE %s ALTER COLUMN %I SET NOT NULL;', projections._name(s.relation), s.position_column), c.relowner
    FROM projections.source s JOIN pg_class c ON c.oid = s.relation JOIN pg_attribute a ON a.attrelid = s.relation AND a.attname = s.position_column
    WHERE NOT a.attnotnull AND s.preset IS NULL
    UNION ALL
    SELECT 'ERROR', projections._name(s.relation), format('its column %I is gone', n.name),
           format('UPDATE projections.source SET %I = NULL WHERE relation = %L::regclass; -- or the column''s new name', n.field, projections._name(s.relation)), c.relowner
    FROM projections.source s JOIN pg_class c ON c.oid = s.relation,
    LATERAL (VALUES ('stream_column', s.stream_column), ('version_column', s.version_column), ('type_column', s.type_column), ('time_column', s.time_column),
                    ('correlation_column', s.correlation_column), ('id_column', s.id_column)) AS n(field, name)
    WHERE n.name IS NOT NULL AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = s.relation AND a.attname = n.name AND a.attnum > 0 AND NOT a.attisdropped)
    UNION ALL
    SELECT 'ERROR', projections._name(s.relation), 'the table of its arrivals is gone, which numbers its events',
           format('UPDATE projections.source SET arrivals = projections._make_arrivals(relation, position_column) WHERE relation = %L::regclass; '
                  'UPDATE projections.source SET sequence = pg_get_serial_sequence(arrivals::text, ''arrival'')::regclass WHERE relation = %1$L::regclass; '
                  '-- then fill it: INSERT INTO … (position) SELECT …; and reset the projections that read it', projections._name(s.relation)), c.relowner
    FROM projections.source s JOIN pg_class c ON c.oid = s.relation
    WHERE s.arrivals IS NOT NULL AND NOT EXISTS (SELECT FROM pg_class a WHERE a.oid = s.arrivals)
$$;
COMMENT ON FUNCTION projections._validate_event_sources() IS 'Internal: event sources whose positions cannot be trusted.';

-- What maintenance keeps beside a projection, and what it says of itself.
CREATE FUNCTION projections._validate_state() RETURNS TABLE(severity text, object text, problem text, hint text, owner oid)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH known AS (
        SELECT p.*, c.relowner, projections._name(p.relation) AS name, coalesce((p.options ->> 'slots')::integer, 1) AS slots
        FROM projections.projection p JOIN pg_class c ON c.oid = p.relation WHERE p.shadow_of IS NULL
    )
    SELECT 'ERROR', k.name, format('it is stale since %s: %s', to_char(k.stale_since, 'YYYY-MM-DD HH24:MI:SS'), k.stale_reason),
           format('SELECT projections.repair(%L);', k.name), k.relowner
    FROM known k WHERE k.stale_since IS NOT NULL
    UNION ALL
    SELECT 'ERROR', k.name, 'its ' || x.what || ' is gone', 'SELECT * FROM projections.cleanup_orphans(); -- leaves its table as an ordinary one', k.relowner
    FROM known k, LATERAL (
        SELECT 'definition' WHERE NOT EXISTS (SELECT FROM pg_class d WHERE d.oid = k.definition)
        UNION ALL SELECT format('source %s', s.oid) FROM unnest(k.sources::oid[]) AS s(oid) WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = s.oid)) AS x(what)
    UNION ALL
    SELECT 'ERROR', projections._name_or_oid(p.relation), 'its table is gone', 'SELECT * FROM projections.cleanup_orphans();', coalesce(d.relowner, 0)
    FROM projections.projection p LEFT JOIN pg_class d ON d.oid = p.definition
    WHERE p.shadow_of IS NULL AND NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = p.relation)
    UNION ALL
    SELECT 'ERROR', k.name, 'it is not filled, and nobody fills it', format('CALL projections.rebuild(%L);', k.name), k.relowner
    FROM known k WHERE k.building AND NOT EXISTS (SELECT FROM projections._live_rebuilds() l WHERE l.projection = k.relation)
      AND NOT EXISTS (SELECT FROM projections.rebuild_request q WHERE q.projection = k.relation)
    UNION ALL
    SELECT 'ERROR', k.name, format('%s of its %s checkpoints are missing', k.slots - count(s.slot), k.slots),
           CASE k.kind WHEN 'handler' THEN format('INSERT INTO projections.slot (projection, slot) SELECT %L, generate_series(0, %s) ON CONFLICT DO NOTHING; SELECT projections.reset(%1$L);',
                                                  k.name, k.slots - 1)
                       ELSE format('SELECT projections.repair(%L);', k.name) END, k.relowner
    FROM known k LEFT JOIN projections.slot s ON s.projection = k.relation AND s.slot < k.slots
    WHERE k.mode = 'async' GROUP BY k.name, k.kind, k.slots, k.relowner HAVING count(s.slot) < k.slots
    UNION ALL
    SELECT 'ERROR', k.name, 'its change log is gone, with what it has still to be told', format('SELECT projections.repair(%L);', k.name), k.relowner
    FROM known k WHERE EXISTS (SELECT FROM unnest(k.changes::oid[]) AS l(oid) WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = l.oid))
    UNION ALL
    SELECT 'ERROR', k.name, format('%s belongs to %s, and not to its owner, %I', projections._name(h.oid), coalesce(r.rolname, h.relowner::text), pg_get_userbyid(k.relowner)),
           format('ALTER %s %s OWNER TO %I;', CASE h.relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, projections._name(h.oid), pg_get_userbyid(k.relowner)), k.relowner
    FROM known k JOIN pg_class h ON (h.oid = k.definition OR h.oid = ANY (k.changes::oid[])) AND h.relowner <> k.relowner
    LEFT JOIN pg_authid r ON r.oid = h.relowner
    UNION ALL
    SELECT 'INFO', k.name, format('it is paused since %s by %s: %s', to_char(k.paused_at, 'YYYY-MM-DD HH24:MI:SS'), k.paused_by, k.pause_reason),
           format('SELECT projections.resume(%L);', k.name), k.relowner
    FROM known k WHERE k.paused_at < clock_timestamp() - interval '1 day'
$$;
COMMENT ON FUNCTION projections._validate_state() IS 'Internal: projections that are stale, unfilled, long paused, or lack what maintenance keeps for them.';

-- The extension's own parts.
CREATE FUNCTION projections._validate_extension() RETURNS TABLE(severity text, object text, problem text, hint text, owner oid)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT 'ERROR', 'pg_projections', format('the library is version %s, the SQL objects are version %s', v.library, v.sql),
           'ALTER EXTENSION pg_projections UPDATE; -- and if the library is the older one: restart the server with the newer one installed', NULL::oid
    FROM projections.version() AS v WHERE NOT v.matches
    UNION ALL
    SELECT 'ERROR', format('event trigger %I', w.name), CASE WHEN e.oid IS NULL THEN 'it is missing, so that DDL on projections and sources goes unnoticed'
                                                             ELSE 'it is disabled, so that DDL on projections and sources goes unnoticed' END,
           CASE WHEN e.oid IS NULL THEN format('CREATE EVENT TRIGGER %I ON %s EXECUTE FUNCTION projections.%I(); ALTER EXTENSION pg_projections ADD EVENT TRIGGER %1$I;', w.name, w.event, w.function)
                ELSE format('ALTER EVENT TRIGGER %I ENABLE;', w.name) END, NULL
    FROM (VALUES ('projections_before_ddl'::name, 'ddl_command_start WHEN TAG IN (''DROP EXTENSION'', ''DROP TABLE'')', '_before_ddl'),
                 ('projections_after_drop', 'sql_drop', '_after_drop'),
                 ('projections_after_ddl', 'ddl_command_end WHEN TAG IN (''ALTER TABLE'', ''ALTER VIEW'', ''ALTER SEQUENCE'', ''CREATE TRIGGER'', ''ALTER TRIGGER'', ''CREATE RULE'', ''CREATE TABLE'')',
                  '_after_ddl')) AS w(name, event, function)
    LEFT JOIN pg_event_trigger e ON e.evtname = w.name
    WHERE e.oid IS NULL OR e.evtenabled IN ('D', 'R')
    UNION ALL
    SELECT 'ERROR', projections._name(w.relation), format('trigger %I does not fire %s', w.name, CASE w.always WHEN 'A' THEN 'always: sessions would work with an old catalog' ELSE 'for everybody' END),
           format('ALTER TABLE %s ENABLE %sTRIGGER %I;', projections._name(w.relation), CASE w.always WHEN 'A' THEN 'ALWAYS ' END, w.name), NULL
    FROM (VALUES ('projections.projection'::regclass, 'announce_change'::name, 'A'), ('projections.source', 'announce_change', 'A'), ('projections.slot', 'refuse_regression', 'O'))
        AS w(relation, name, always)
    JOIN pg_trigger t ON t.tgrelid = w.relation AND t.tgname = w.name
    WHERE CASE w.always WHEN 'A' THEN t.tgenabled <> 'A' ELSE t.tgenabled IN ('D', 'R') END
    UNION ALL
    SELECT 'INFO', projections._name(c.oid), 'it is not the extension''s: DROP EXTENSION … CASCADE would drop it',
           format('ALTER %s %s SET SCHEMA public;', CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE 'TABLE' END, projections._name(c.oid)), c.relowner
    FROM pg_class c
    WHERE c.relnamespace = 'projections'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
      AND NOT EXISTS (SELECT FROM pg_depend n WHERE n.classid = 'pg_class'::regclass AND n.objid = c.oid AND n.deptype = 'e')
      AND obj_description(c.oid, 'pg_class') LIKE 'pg\_projections: %' IS NOT TRUE
      AND NOT EXISTS (SELECT FROM projections.projection p WHERE c.oid IN (p.relation, p.definition) OR c.oid = ANY (p.changes::oid[]))
      AND NOT EXISTS (SELECT FROM projections.source s WHERE s.arrivals = c.oid)
$$;
COMMENT ON FUNCTION projections._validate_extension() IS 'Internal: parts of the extension itself that are missing or switched off.';

CREATE FUNCTION projections._validate_settings() RETURNS TABLE(severity text, object text, problem text, hint text, owner oid)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH server AS (
        SELECT current_setting('shared_preload_libraries') AS libraries, current_setting('shared_preload_libraries') ~ '\mpg_projections\M' AS preloaded,
               current_setting('pg_projections.workers')::integer AS workers, current_setting('max_worker_processes')::integer AS processes,
               1 + current_setting('pg_projections.workers')::integer + (current_setting('max_logical_replication_workers')::integer > 0)::integer AS needed,
               current_setting('max_parallel_workers')::integer AS parallel
        WHERE NOT pg_is_in_recovery() AND EXISTS (SELECT FROM projections.projection p WHERE p.mode = 'async' AND p.paused_at IS NULL)
    )
    SELECT 'WARNING', 'shared_preload_libraries', 'it lacks pg_projections, so that nothing applies events but calls of projections.catch_up()',
           format('ALTER SYSTEM SET shared_preload_libraries = %s; -- and restart the server',
                  (SELECT string_agg(quote_literal(btrim(l, ' "')), ', ' ORDER BY n) FROM unnest(string_to_array(nullif(s.libraries, ''), ',') || 'pg_projections'::text) WITH ORDINALITY AS u(l, n))), NULL::oid
    FROM server s WHERE NOT s.preloaded
    UNION ALL
    SELECT 'WARNING', 'pg_projections.workers', 'it is 0, so that nothing applies events but calls of projections.catch_up()',
           format('ALTER SYSTEM SET pg_projections.workers = %s; SELECT pg_reload_conf();', g.boot_val), NULL
    FROM server s, pg_settings g WHERE s.workers = 0 AND g.name = 'pg_projections.workers'
    UNION ALL
    SELECT 'WARNING', 'max_worker_processes', format('it is %s; the launcher and %s workers need %s, and parallel queries want theirs', s.processes, s.workers, s.needed),
           format('ALTER SYSTEM SET max_worker_processes = %s; -- and restart the server', s.needed + s.parallel), NULL
    FROM server s WHERE s.preloaded AND s.workers > 0 AND s.processes < s.needed
    UNION ALL
    SELECT 'WARNING', 'pg_projections.allow_direct_writes', 'it is on for everybody: whoever may write a projection''s table makes it stale',
           CASE g.source WHEN 'database' THEN format('ALTER DATABASE %I RESET pg_projections.allow_direct_writes;', current_database())
                         WHEN 'user' THEN format('ALTER ROLE %I RESET pg_projections.allow_direct_writes;', session_user)
                         WHEN 'database user' THEN format('ALTER ROLE %I IN DATABASE %I RESET pg_projections.allow_direct_writes;', session_user, current_database())
                         ELSE 'ALTER SYSTEM SET pg_projections.allow_direct_writes = off; SELECT pg_reload_conf();' END, NULL
    FROM pg_settings g WHERE g.name = 'pg_projections.allow_direct_writes' AND g.reset_val = 'on'
$$;
COMMENT ON FUNCTION projections._validate_settings() IS 'Internal: settings under which projections are not kept up to date.';

-- A subscriber has no use for hidden tables, and applying them to a database that has the extension would break it.
CREATE FUNCTION projections._validate_publications() RETURNS TABLE(severity text, object text, problem text, hint text, owner oid)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT 'WARNING', format('publication %I', p.pubname), 'FOR ALL TABLES carries the extension''s hidden tables',
           format('DROP PUBLICATION %I; CREATE PUBLICATION %1$I FOR TABLES IN SCHEMA %s WITH (publish = %L, publish_via_partition_root = %s); -- then, on each subscriber, ALTER SUBSCRIPTION … REFRESH PUBLICATION',
                  p.pubname,
                  coalesce((SELECT string_agg(DISTINCT quote_ident(n.nspname), ', ') FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                            WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'projections')), 'public'),
                  concat_ws(', ', CASE WHEN p.pubinsert THEN 'insert' END, CASE WHEN p.pubupdate THEN 'update' END, CASE WHEN p.pubdelete THEN 'delete' END, CASE WHEN p.pubtruncate THEN 'truncate' END),
                  p.pubviaroot::text), p.pubowner
    FROM pg_publication p WHERE p.puballtables
    UNION ALL
    SELECT 'WARNING', format('publication %I', p.pubname), 'it carries the extension''s hidden tables, as all of schema projections',
           format('ALTER PUBLICATION %I DROP TABLES IN SCHEMA projections;', p.pubname), p.pubowner
    FROM pg_publication p JOIN pg_publication_namespace n ON n.pnpubid = p.oid AND n.pnnspid = 'projections'::regnamespace
    UNION ALL
    SELECT 'WARNING', format('publication %I', p.pubname), format('it carries %s, which is hidden', projections._name(c.oid)),
           format('ALTER PUBLICATION %I DROP TABLE %s;', p.pubname, projections._name(c.oid)), p.pubowner
    FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid JOIN pg_class c ON c.oid = r.prrelid
    WHERE c.relnamespace = 'projections'::regnamespace AND c.relname NOT IN ('events', 'events_archive', 'streams')
      AND (EXISTS (SELECT FROM pg_depend n WHERE n.classid = 'pg_class'::regclass AND n.objid = c.oid AND n.deptype = 'e')
           OR obj_description(c.oid, 'pg_class') LIKE 'pg\_projections: %')
$$;
COMMENT ON FUNCTION projections._validate_publications() IS 'Internal: publications that carry the extension''s own tables.';

-- Compiling to machine code would take longer than the queries.
CREATE FUNCTION projections._validate(viewer oid, absent text[]) RETURNS TABLE(severity text, object text, problem text, hint text)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
BEGIN
    -- With another library than the SQL objects were made for, what it says of a projection is not to be acted on.
    IF EXISTS (SELECT FROM projections.version() AS v WHERE NOT v.matches) THEN
        RETURN QUERY SELECT f.severity, f.object, f.problem, f.hint FROM projections._validate_extension() f ORDER BY f.object, f.problem;
        RETURN;
    END IF;
    RETURN QUERY
    SELECT f.severity, f.object, f.problem, f.hint
    FROM (SELECT 'ERROR' AS severity, a AS object, 'it is required, and there is no such projection' AS problem,
                 format('-- SELECT projections.create(%L, ''SELECT …''); with its query', a) AS hint, NULL::oid AS owner FROM unnest(absent) AS a
          UNION ALL SELECT * FROM projections._validate_extension()
          UNION ALL SELECT * FROM projections._validate_state()
          UNION ALL SELECT * FROM projections._validate_triggers()
          UNION ALL SELECT * FROM projections._validate_definitions()
          UNION ALL SELECT * FROM projections._validate_functions()
          UNION ALL SELECT * FROM projections._validate_keys()
          UNION ALL SELECT * FROM projections._validate_tables()
          UNION ALL SELECT * FROM projections._validate_sources()
          UNION ALL SELECT * FROM projections._validate_event_sources()
          UNION ALL SELECT * FROM projections._validate_settings()
          UNION ALL SELECT * FROM projections._validate_publications()
          UNION ALL
          SELECT 'WARNING', 'orphans', format('%s %s left behind: %s', sum(o.count), CASE sum(o.count) WHEN 1 THEN 'thing was' ELSE 'things were' END,
                                              string_agg(format('%s (%s)', o.kind, o.count), ', ' ORDER BY o.kind)),
                 'SELECT * FROM projections.cleanup_orphans();', NULL
          FROM (SELECT l.kind, count(*) FROM projections._orphan_list(viewer) l WHERE l.kind <> 'projection' GROUP BY l.kind) o HAVING count(*) > 0) f
    WHERE f.owner IS NULL OR pg_has_role(viewer, 'pg_monitor', 'USAGE') OR pg_has_role(viewer, f.owner, 'USAGE')
    ORDER BY array_position('{ERROR,WARNING,INFO}', f.severity), f.object, f.problem;
END
$$;
COMMENT ON FUNCTION projections._validate(oid, text[]) IS 'Internal: projections.validate() for a role.';

CREATE FUNCTION projections.validate(required text[] DEFAULT NULL, raise boolean DEFAULT false)
    RETURNS TABLE(severity text, object text, problem text, hint text)
    LANGUAGE c ROWS 10 AS 'MODULE_PATHNAME', 'projections_validate';
COMMENT ON FUNCTION projections.validate(text[], boolean) IS
'What is broken, missing, or set so that it cannot work; empty is good. required: names of projections that must exist. raise: an error
instead of rows where one of them is an ERROR, so that psql -v ON_ERROR_STOP=1 -c "SELECT projections.validate(raise => true)" exits with
another status than 0. severity: ERROR (a projection is wrong, or will be), WARNING (it works, but not as meant), INFO; worst first. hint: SQL to
paste that mends it. Looks at catalogs only, and changes nothing; projections.verify() compares contents. Members of pg_monitor see
all, others what they own and what concerns everybody.
Errors: 55000 raise, and there are errors; 22004 a null among the required names.
Example: SELECT * FROM projections.validate(required => ARRAY[''stock'']);';

REVOKE EXECUTE ON FUNCTION projections._wanted_triggers(), projections._repair_readers(oid), projections._validate_triggers(), projections._validate_definitions(),
    projections._compiled(regclass, text), projections._function_oid(text), projections._recreate_sql(regclass), projections._validate_functions(),
    projections._validate_keys(), projections._validate_tables(), projections._validate_sources(), projections._validate_event_sources(),
    projections._validate_state(), projections._validate_extension(), projections._validate_settings(), projections._validate_publications(),
    projections._validate(oid, text[]) FROM PUBLIC;
-- Orphans: what is left of projections that are gone.
--
-- Ours is sure to be ours: a row of the catalog; a trigger by its name and its function; and in the extension's schema, which only a
-- superuser may create in, what carries the comment that the extension gives to what it makes there (catalog::mark_hidden). A table
-- without that comment is somebody's own, whatever its name.

CREATE FUNCTION projections._hold_off_rebuild(projection oid) RETURNS boolean
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'projections_hold_off_rebuild';
COMMENT ON FUNCTION projections._hold_off_rebuild(oid) IS
'Internal: takes, to the end of the transaction, the lock that a rebuild of the projection holds; false where one runs.';
REVOKE EXECUTE ON FUNCTION projections._hold_off_rebuild(oid) FROM PUBLIC;

-- A number that names no relation any more is all that is left of its name.
CREATE FUNCTION projections._name_or_oid(relation oid) RETURNS text
    LANGUAGE sql STABLE
    RETURN COALESCE(projections._name(relation::pg_catalog.regclass), 'relation ' || relation);
COMMENT ON FUNCTION projections._name_or_oid(oid) IS 'Internal: a relation''s name, or what it is known by where it is gone.';

-- By the lock that it holds, which goes with its process, and is of this database: a copy of the database, made and restored while a
-- rebuild ran, has its row too. A standby does not see its primary's locks, and may not remove anything.
CREATE FUNCTION projections._live_rebuilds() RETURNS SETOF projections.rebuild
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT r.* FROM projections.rebuild r
    WHERE r.ended_at IS NULL AND (pg_is_in_recovery() OR r.pid = projections._rebuild_holder(r.projection))
$$;
COMMENT ON FUNCTION projections._live_rebuilds() IS 'Internal: rebuilds that somebody runs.';

-- Removes what is kept about a projection, with its shadow's table, and leaves a user's table as an ordinary one. Nothing of it need be there.
CREATE FUNCTION projections._discard(projection oid) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    gone projections.projection;
    kind "char" := (SELECT c.relkind FROM pg_class c WHERE c.oid = projection);
BEGIN
    DELETE FROM projections.projection p WHERE p.relation::oid = projection RETURNING * INTO gone;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    PERFORM projections._forget(gone);
    IF gone.shadow_of IS NOT NULL AND kind = 'r' THEN
        EXECUTE format('DROP TABLE %s', projections._name(projection));
    ELSIF kind = 'v' THEN
        EXECUTE format('DROP VIEW %s', projections._name(projection));
    ELSIF kind = 'r' AND gone.kind <> 'handler' THEN
        EXECUTE format('DROP TRIGGER IF EXISTS projections_guard ON %s', projections._name(projection));
        EXECUTE format('DROP TRIGGER IF EXISTS projections_guard_truncate ON %s', projections._name(projection));
    END IF;
    IF EXISTS (SELECT FROM pg_class c WHERE c.oid = gone.definition) THEN
        EXECUTE format('DROP VIEW %s', projections._name(gone.definition));
    END IF;
    PERFORM projections._drop_idle_triggers(gone.sources);
END
$$;
COMMENT ON FUNCTION projections._discard(oid) IS 'Internal: removes what is kept about a projection of which something is gone.';

CREATE FUNCTION projections._discard_shadow(shadow oid) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    original oid := (SELECT p.shadow_of FROM projections.projection p WHERE p.relation::oid = shadow);
BEGIN
    IF NOT projections._hold_off_rebuild(original) THEN
        RAISE EXCEPTION USING ERRCODE = 'PJ003', MESSAGE = format('a rebuild of %s runs', projections._name_or_oid(original)),
            DETAIL = 'It uses the shadow.', HINT = 'SELECT * FROM projections.rebuilds;';
    END IF;
    UPDATE projections.rebuild r SET ended_at = clock_timestamp(), outcome = 'died', shadow = NULL WHERE r.shadow::oid = _discard_shadow.shadow AND r.ended_at IS NULL;
    PERFORM projections._discard(shadow);
END
$$;
COMMENT ON FUNCTION projections._discard_shadow(oid) IS 'Internal: removes the shadow of a rebuild that died.';

-- Catalog rows and triggers.

CREATE FUNCTION projections._orphaned_projections() RETURNS TABLE(kind text, object text, since timestamptz, reason text, owner oid, removal text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT 'shadow', projections._name_or_oid(p.relation), coalesce(r.started_at, p.created_at),
           CASE WHEN o.oid IS NULL THEN 'the projection that it was to replace is gone'
                WHEN r.id IS NULL THEN format('nobody rebuilds %s', projections._name(o.oid))
                ELSE format('pid %s of %s, which rebuilt %s, is gone; it was %s', r.pid, r.started_by, projections._name(o.oid), r.phase) END,
           coalesce(c.relowner, o.relowner, 0), format('SELECT projections._discard_shadow(%s)', p.relation::oid)
    FROM projections.projection p
    LEFT JOIN pg_class c ON c.oid = p.relation
    LEFT JOIN pg_class o ON o.oid = p.shadow_of
    LEFT JOIN LATERAL (SELECT * FROM projections.rebuild r WHERE r.projection::oid = p.shadow_of::oid AND r.shadow::oid = p.relation::oid ORDER BY r.id DESC LIMIT 1) r ON true
    WHERE p.shadow_of IS NOT NULL AND NOT EXISTS (SELECT FROM projections._live_rebuilds() l WHERE l.projection::oid = p.shadow_of::oid)
    UNION ALL
    SELECT 'rebuild', format('%s of %s', r.action, projections._name_or_oid(r.projection)), r.started_at,
           format('pid %s of %s is gone; it was %s', r.pid, r.started_by, r.phase), coalesce(c.relowner, 0),
           format('UPDATE projections.rebuild SET ended_at = pg_catalog.clock_timestamp(), outcome = ''died'' WHERE id = %s AND ended_at IS NULL', r.id)
    FROM projections.rebuild r
    LEFT JOIN pg_class c ON c.oid = r.projection
    WHERE r.ended_at IS NULL AND NOT EXISTS (SELECT FROM projections._live_rebuilds() l WHERE l.id = r.id)
      AND NOT EXISTS (SELECT FROM projections.projection p WHERE p.relation::oid = r.shadow::oid)
    UNION ALL
    SELECT 'projection', projections._name_or_oid(p.relation), p.created_at,
           CASE WHEN c.oid IS NULL THEN 'its table is gone' WHEN d.oid IS NULL THEN 'its definition is gone'
                ELSE 'a source is gone' END || CASE WHEN c.relkind = 'r' THEN '; cleanup leaves its table as an ordinary one' ELSE '' END,
           coalesce(c.relowner, d.relowner, 0), format('SELECT projections._discard(%s)', p.relation::oid)
    FROM projections.projection p
    LEFT JOIN pg_class c ON c.oid = p.relation
    LEFT JOIN pg_class d ON d.oid = p.definition
    WHERE p.shadow_of IS NULL
      AND (c.oid IS NULL OR d.oid IS NULL OR EXISTS (SELECT FROM unnest(p.sources::oid[]) AS s(oid) WHERE NOT EXISTS (SELECT FROM pg_class x WHERE x.oid = s.oid)))
    UNION ALL
    SELECT 'event source', projections._name_or_oid(s.relation), NULL, 'its table is gone', 0,
           format('DELETE FROM projections.source WHERE relation::pg_catalog.oid = %s; SELECT projections._drop_arrivals(%1$s, %s)', s.relation::oid, coalesce(s.arrivals::oid, 0))
    FROM projections.source s WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = s.relation)
    UNION ALL
    SELECT 'subscription', quote_ident(s.name), coalesce(s.acked_at, s.created_at), CASE WHEN r.oid IS NULL THEN 'its owner is gone' ELSE 'its source is gone' END,
           coalesce(r.oid, 0), format('DELETE FROM projections.subscription WHERE name = %L', s.name)
    FROM projections.subscription s
    LEFT JOIN pg_authid r ON r.oid = s.owner
    LEFT JOIN pg_class c ON c.oid = s.source
    WHERE r.oid IS NULL OR c.oid IS NULL
$$;
COMMENT ON FUNCTION projections._orphaned_projections() IS 'Internal: rows of the catalog that lack what they are about.';

CREATE FUNCTION projections._orphaned_triggers() RETURNS TABLE(kind text, object text, since timestamptz, reason text, owner oid, removal text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH used AS (
        SELECT unnest(p.sources)::oid AS relation, 'capture'::name AS function FROM projections.projection p WHERE projections._captures(p)
        UNION
        SELECT p.relation::oid, 'guard' FROM projections.projection p
        UNION
        SELECT s.relation::oid, '_note_arrival' FROM projections.source s WHERE s.arrivals IS NOT NULL
    )
    SELECT 'trigger', format('%I on %s', t.tgname, projections._name(t.tgrelid)), NULL::timestamptz,
           CASE f.proname WHEN 'capture' THEN 'no projection reads the table' WHEN 'guard' THEN 'the table is no projection'
                          ELSE 'the table is no event source that is followed by a trigger' END,
           c.relowner, format('DROP TRIGGER IF EXISTS %I ON %s', t.tgname, projections._name(t.tgrelid))
    FROM pg_trigger t
    JOIN pg_proc f ON f.oid = t.tgfoid AND f.pronamespace = 'projections'::regnamespace
    JOIN pg_class c ON c.oid = t.tgrelid
    WHERE t.tgparentid = 0
      AND (f.proname, t.tgname) IN (('capture', 'projections_capture'), ('capture', 'projections_capture_truncate'),
                                    ('guard', 'projections_guard'), ('guard', 'projections_guard_truncate'), ('_note_arrival', 'projections_arrival'))
      AND (t.tgrelid, f.proname) NOT IN (SELECT u.relation, u.function FROM used u) -- hashed, as NOT EXISTS would not be
$$;
COMMENT ON FUNCTION projections._orphaned_triggers() IS 'Internal: our triggers on tables that need none.';

-- What the extension made in its schema, or as a handler's view of its checkpoints, and no row names.
CREATE FUNCTION projections._orphaned_relations() RETURNS TABLE(kind text, object text, since timestamptz, reason text, owner oid, removal text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH used AS (
        SELECT p.relation::oid FROM projections.projection p
        UNION SELECT p.definition::oid FROM projections.projection p
        UNION SELECT unnest(p.changes)::oid FROM projections.projection p
        UNION SELECT s.arrivals::oid FROM projections.source s WHERE s.arrivals IS NOT NULL
    )
    SELECT m.kind, projections._name(c.oid), NULL::timestamptz, format('it was made as the %s, and nothing uses it', substr(d.description, 17)),
           c.relowner, format('DROP %s IF EXISTS %s', CASE c.relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, projections._name(c.oid))
    FROM pg_description d
    JOIN pg_class c ON c.oid = d.objoid AND c.relkind IN ('r', 'v'),
    LATERAL (SELECT substring(d.description FROM '^pg_projections: (.+?) of [^ ]') AS kind) m
    WHERE d.classoid = 'pg_class'::regclass AND d.objsubid = 0 AND m.kind IS NOT NULL
      AND (c.relnamespace = 'projections'::regnamespace
           OR m.kind = 'view' AND c.relkind = 'v' AND EXISTS (
               SELECT FROM pg_rewrite w JOIN pg_depend n ON n.classid = 'pg_rewrite'::regclass AND n.objid = w.oid
               WHERE w.ev_class = c.oid AND n.refclassid = 'pg_class'::regclass AND n.refobjid = 'projections.slot'::regclass))
      AND NOT EXISTS (SELECT FROM pg_depend n WHERE n.classid = 'pg_class'::regclass AND n.objid = c.oid AND n.deptype = 'e')
      AND c.oid NOT IN (SELECT u.relation FROM used u) -- hashed, as NOT EXISTS would not be
    UNION ALL
    -- What a handler's rebuild writes has the names of its tables, in a schema of their own.
    SELECT 'shadow', format('schema %I', n.nspname), NULL, format('it was made as the %s, and nothing uses it', substr(d.description, 17)), n.nspowner,
           format('SELECT projections._drop_shadow_tables(ARRAY(SELECT c.oid::pg_catalog.regclass FROM pg_catalog.pg_class c WHERE c.relnamespace = %s AND c.relkind = ''r'')); '
                  'DROP SCHEMA IF EXISTS %I', n.oid, n.nspname)
    FROM pg_description d JOIN pg_namespace n ON n.oid = d.objoid JOIN pg_authid r ON r.oid = n.nspowner AND r.rolsuper -- users may make and comment schemas, too
    WHERE d.classoid = 'pg_namespace'::regclass AND d.description LIKE 'pg\_projections: shadow of %'
      AND NOT EXISTS (SELECT FROM projections.projection p, unnest(p.tables::oid[]) AS t(oid) JOIN pg_class c ON c.oid = t.oid WHERE p.shadow_of IS NOT NULL AND c.relnamespace = n.oid)
$$;
COMMENT ON FUNCTION projections._orphaned_relations() IS 'Internal: hidden tables and views that nothing uses.';

CREATE FUNCTION projections._orphaned_rows() RETURNS TABLE(kind text, object text, since timestamptz, reason text, owner oid, removal text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT r.kind, format('%s of %s', r.count, projections._name_or_oid(r.projection)), r.since, 'there is no such projection', coalesce(c.relowner, 0),
           format('DELETE FROM projections.%I WHERE projection::pg_catalog.oid = %s', r.relation, r.projection)
    FROM (SELECT 'checkpoint' AS kind, 'slot' AS relation, s.projection::oid, count(*), min(s.checkpoint_at) AS since FROM projections.slot s GROUP BY 3
          UNION ALL SELECT 'checkpoint history', 'checkpoint_change', h.projection::oid, count(*), min(h.changed_at) FROM projections.checkpoint_change h GROUP BY 3
          UNION ALL SELECT 'failure', 'failure', f.projection::oid, count(*), min(f.first_failed_at) FROM projections.failure f GROUP BY 3
          UNION ALL SELECT 'parked event', 'parked_event', e.projection::oid, count(*), min(e.parked_at) FROM projections.parked_event e GROUP BY 3
          UNION ALL SELECT 'override', 'override', o.projection::oid, count(*), min(o.set_at) FROM projections.override o GROUP BY 3
          UNION ALL SELECT 'transition', 'transition', t.projection::oid, count(*), min(t.event_time) FROM projections.transition t GROUP BY 3
          UNION ALL SELECT 'rebuild request', 'rebuild_request', q.projection::oid, count(*), min(q.requested_at) FROM projections.rebuild_request q GROUP BY 3) r
    LEFT JOIN pg_class c ON c.oid = r.projection
    WHERE NOT EXISTS (SELECT FROM projections.projection p WHERE p.relation::oid = r.projection)
$$;
COMMENT ON FUNCTION projections._orphaned_rows() IS 'Internal: what is recorded about projections that are gone.';

-- In the order in which they can go: a view before what it reads. Compiling to machine code would take longer than the queries.
CREATE FUNCTION projections._orphan_list(viewer oid) RETURNS TABLE(kind text, object text, since timestamptz, reason text, owner oid, removal text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
    SELECT o.kind, o.object, o.since, o.reason, o.owner, o.removal
    FROM (SELECT * FROM projections._orphaned_projections()
          UNION ALL SELECT * FROM projections._orphaned_triggers()
          UNION ALL SELECT * FROM projections._orphaned_relations()
          UNION ALL SELECT * FROM projections._orphaned_rows()) o
    WHERE pg_has_role(viewer, 'pg_monitor', 'USAGE') OR pg_has_role(viewer, o.owner, 'USAGE')
    ORDER BY array_position('{shadow,rebuild,projection,event source,subscription,trigger,view,feed,definition,change log,arrivals}', o.kind) NULLS LAST, o.kind, o.object
$$;
COMMENT ON FUNCTION projections._orphan_list(oid) IS 'Internal: what projections.orphans() shows to a role, with the SQL that removes it.';

CREATE FUNCTION projections._orphans(viewer oid) RETURNS TABLE(kind text, object text, since timestamptz, reason text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT o.kind, o.object, o.since, o.reason FROM projections._orphan_list(viewer) o
$$;
COMMENT ON FUNCTION projections._orphans(oid) IS 'Internal: projections.orphans() for a role.';

CREATE FUNCTION projections.orphans() RETURNS TABLE(kind text, object text, since timestamptz, reason text)
    LANGUAGE c ROWS 10 AS 'MODULE_PATHNAME', 'projections_look';
COMMENT ON FUNCTION projections.orphans() IS
'What is left of projections, rebuilds and event sources that are gone; empty is good. kind: shadow, rebuild (its process is gone);
projection (its table, definition or a source is gone), event source, subscription (its source or its owner is gone); trigger (ours, on
a table that needs none); change log, definition, feed, arrivals, view (hidden, and used by nothing); checkpoint, checkpoint history,
failure, parked event, override, transition, rebuild request (of a projection that is gone). since: the oldest time known, or NULL. What a rebuild that
runs uses is no orphan. Members of pg_monitor see all, others what they own. Changes nothing and raises nothing.
Example: SELECT * FROM projections.orphans();';

CREATE FUNCTION projections._cleanup_orphans(caller oid)
    RETURNS TABLE(kind text, object text, action text, holder_pid int, holder_user text, holder_since timestamptz, holder_phase text)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
    orphan record;
BEGIN
    PERFORM projections._refuse_while_applying();
    FOR orphan IN SELECT * FROM projections._orphan_list(caller) LOOP
        kind := orphan.kind;
        object := orphan.object;
        IF NOT pg_has_role(caller, orphan.owner, 'USAGE') THEN
            action := 'kept: ' || CASE orphan.owner WHEN 0 THEN 'only a superuser may remove it' ELSE format('%I owns it', pg_get_userbyid(orphan.owner)) END;
        ELSE
            -- What cannot go, as somebody reads it or has locked it, does not keep the rest.
            BEGIN
                EXECUTE orphan.removal;
                action := 'removed';
            EXCEPTION WHEN OTHERS THEN
                action := 'kept: ' || SQLERRM;
            END;
        END IF;
        RETURN NEXT;
    END LOOP;
    kind := 'shadow';
    action := 'kept';
    FOR object, holder_pid, holder_user, holder_since, holder_phase IN
        SELECT projections._name_or_oid(l.shadow), l.pid, l.started_by, l.started_at, l.phase FROM projections._live_rebuilds() l
        LEFT JOIN pg_class c ON c.oid = l.projection
        WHERE l.shadow IS NOT NULL AND (pg_has_role(caller, 'pg_monitor', 'USAGE') OR pg_has_role(caller, coalesce(c.relowner, 0), 'USAGE')) ORDER BY 1
    LOOP
        RETURN NEXT;
    END LOOP;
END
$$;
COMMENT ON FUNCTION projections._cleanup_orphans(oid) IS 'Internal: projections.cleanup_orphans() for a role.';

CREATE FUNCTION projections.cleanup_orphans()
    RETURNS TABLE(kind text, object text, action text, holder_pid int, holder_user text, holder_since timestamptz, holder_phase text)
    LANGUAGE c ROWS 10 AS 'MODULE_PATHNAME', 'projections_look';
COMMENT ON FUNCTION projections.cleanup_orphans() IS
'Removes what projections.orphans() shows, as far as the caller, or a role that he is a member of, owns it; what nobody owns any more
is removed by superusers. A table whose definition or source is gone is left with its rows, as an ordinary one. action: removed; "kept: "
and why; or kept, for the shadow of a rebuild that runs, with the process, the user, the time and the phase of the rebuild that holds it. Waits 2 s for a lock. A table that the extension did
not make is never touched, whatever its name.
Errors: 55000 called by a handler or reducer.
Example: SELECT * FROM projections.cleanup_orphans();';

REVOKE EXECUTE ON FUNCTION projections._live_rebuilds(), projections._discard(oid), projections._discard_shadow(oid),
    projections._orphaned_projections(), projections._orphaned_triggers(), projections._orphaned_relations(), projections._orphaned_rows(),
    projections._orphan_list(oid), projections._orphans(oid), projections._cleanup_orphans(oid) FROM PUBLIC;
-- Throughput, what runs now, what is fought over, and metrics for monitoring.

-- ---------------------------------------------------------------------------------------------------------- throughput

-- Minutes that are over. What is not written yet is in shared memory (src/async/throughput.hpp). Not in a dump: it is of
-- this server.
CREATE TABLE projections.throughput_minute (
    minute     timestamptz,
    projection regclass,
    events     bigint NOT NULL,
    errors     bigint NOT NULL,
    batches    bigint NOT NULL,
    seconds    double precision NOT NULL,
    buckets    integer[] NOT NULL, -- a histogram of the batches' times; subscripts are the buckets' numbers
    PRIMARY KEY (minute, projection)
);
COMMENT ON TABLE projections.throughput_minute IS 'Throughput by the minute; read projections.throughput instead.';

-- Counters that never go back, whatever is deleted above.
CREATE TABLE projections.throughput_total (
    projection regclass PRIMARY KEY,
    errors     bigint NOT NULL,
    batches    bigint NOT NULL,
    seconds    double precision NOT NULL
) WITH (fillfactor = 50);
COMMENT ON TABLE projections.throughput_total IS 'Batches and their time since the projection was made; read projections.metrics() instead.';

CREATE TABLE projections.counter (
    name  text PRIMARY KEY,
    value bigint NOT NULL
) WITH (fillfactor = 50);
COMMENT ON TABLE projections.counter IS 'Counters of the database; read projections.metrics() instead.';

CREATE FUNCTION projections._add_buckets(a integer[], b integer[]) RETURNS integer[]
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'projections_add_buckets';
COMMENT ON FUNCTION projections._add_buckets(integer[], integer[]) IS 'Internal: the sum of two histograms.';
CREATE FUNCTION projections._all_buckets(buckets integer[]) RETURNS integer[]
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'projections_all_buckets';
COMMENT ON FUNCTION projections._all_buckets(integer[]) IS 'Internal: a histogram with its empty buckets, so that array_agg() takes several.';
CREATE FUNCTION projections._quantile(buckets integer[], fraction double precision) RETURNS double precision
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'projections_quantile';
COMMENT ON FUNCTION projections._quantile(integer[], double precision) IS 'Internal: the time that so large a share of the batches took at most, in milliseconds; of one histogram, or of the sum of several.';

CREATE FUNCTION projections._throughput(OUT projection regclass, OUT minute timestamptz, OUT events bigint, OUT errors bigint, OUT batches bigint,
                                        OUT seconds double precision, OUT buckets integer[]) RETURNS SETOF record
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_throughput';
COMMENT ON FUNCTION projections._throughput() IS 'Internal: the throughput of this database that no worker has written yet.';

CREATE FUNCTION projections._add_throughput(projection regclass, minute timestamptz, events bigint, errors bigint, batches bigint,
                                            seconds double precision, buckets integer[]) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    IF NOT EXISTS (SELECT FROM projections.projection p WHERE p.relation = projection) THEN
        RETURN; -- dropped meanwhile
    END IF;
    INSERT INTO projections.throughput_minute AS t VALUES (minute, projection, events, errors, batches, seconds, buckets)
    ON CONFLICT ON CONSTRAINT throughput_minute_pkey DO UPDATE
    SET events = t.events + excluded.events, errors = t.errors + excluded.errors, batches = t.batches + excluded.batches,
        seconds = t.seconds + excluded.seconds, buckets = projections._add_buckets(t.buckets, excluded.buckets);
    INSERT INTO projections.throughput_total AS t VALUES (projection, errors, batches, seconds)
    ON CONFLICT ON CONSTRAINT throughput_total_pkey DO UPDATE
    SET errors = t.errors + excluded.errors, batches = t.batches + excluded.batches, seconds = t.seconds + excluded.seconds;
END
$$;
COMMENT ON FUNCTION projections._add_throughput(regclass, timestamptz, bigint, bigint, bigint, double precision, integer[]) IS
'Internal: adds what a projection''s batches of a minute did.';

CREATE FUNCTION projections._expire_throughput() RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    minutes interval := current_setting('pg_projections.throughput_retention');
    history interval := current_setting('pg_projections.history_retention');
    oldest timestamptz := clock_timestamp() - minutes;
BEGIN
    IF minutes > interval '0' THEN
        DELETE FROM projections.throughput_minute t WHERE t.minute < oldest;
    END IF;
    DELETE FROM projections.throughput_total t WHERE NOT EXISTS (SELECT FROM projections.projection p WHERE p.relation = t.projection);
    IF history > interval '0' THEN
        DELETE FROM projections.conflict c WHERE c.last_at < clock_timestamp() - history;
    END IF;
END
$$;
COMMENT ON FUNCTION projections._expire_throughput() IS
'Internal: deletes minutes older than pg_projections.throughput_retention, and streams whose last conflict is older than pg_projections.history_retention.';

CREATE VIEW projections.throughput WITH (security_barrier) AS
SELECT projections._name(p.relation) AS projection,
       t.minute,
       pg_catalog.sum(t.events)::bigint AS events,
       pg_catalog.sum(t.errors)::bigint AS errors,
       pg_catalog.sum(t.batches)::bigint AS batches,
       projections._quantile(pg_catalog.array_agg(projections._all_buckets(t.buckets)), 0.5) AS p50,
       projections._quantile(pg_catalog.array_agg(projections._all_buckets(t.buckets)), 0.95) AS p95,
       projections._quantile(pg_catalog.array_agg(projections._all_buckets(t.buckets)), 0.99) AS p99
FROM (SELECT m.projection, m.minute, m.events, m.errors, m.batches, m.buckets FROM projections.throughput_minute m
      UNION ALL
      SELECT s.projection, s.minute, s.events, s.errors, s.batches, s.buckets FROM projections._throughput() AS s) t
JOIN projections.projection p ON p.relation = t.projection AND p.shadow_of IS NULL
JOIN pg_catalog.pg_class c ON c.oid = p.relation
WHERE pg_catalog.pg_has_role('pg_monitor', 'USAGE') OR pg_catalog.pg_has_role(c.relowner, 'USAGE')
GROUP BY p.relation, t.minute;
COMMENT ON VIEW projections.throughput IS
'What was applied to async projections, by the minute: events, errors (events that failed, and batches that were rolled back as a whole), batches,
and of the time that a batch took, its commit included, median, 95th and 99th percentile in milliseconds (from a histogram: exact to about
a fifth). Kept for pg_projections.throughput_retention; a crash loses the last minute or two. Without workers, catch_up() counts for itself,
in its transaction. Members of pg_monitor see all, others the projections that they own.';

-- ----------------------------------------------------------------------------------------------------------- conflicts

CREATE FUNCTION projections._add_conflicts(stream text, conflicts bigint, last_at timestamptz) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    INSERT INTO projections.conflict AS c (stream, conflicts, last_at, heat) VALUES (stream, conflicts, last_at, conflicts)
    ON CONFLICT ON CONSTRAINT conflict_pkey DO UPDATE
    SET conflicts = c.conflicts + excluded.conflicts, last_at = greatest(c.last_at, excluded.last_at),
        heat = excluded.heat + projections._cooled(c.heat, excluded.last_at - c.last_at);
    INSERT INTO projections.counter AS n VALUES ('conflicts', conflicts)
    ON CONFLICT ON CONSTRAINT counter_pkey DO UPDATE SET value = n.value + excluded.value;
END
$$;
COMMENT ON FUNCTION projections._add_conflicts(text, bigint, timestamptz) IS 'Internal: counts conflicts of a stream.';

CREATE FUNCTION projections._cooled(heat double precision, passed interval) RETURNS double precision
    LANGUAGE sql IMMUTABLE STRICT
    -- Beyond 600 half-lives power() would underflow, which is an error.
    RETURN heat * pg_catalog.power(0.5::double precision, LEAST(GREATEST(EXTRACT(epoch FROM passed)::double precision / 600, 0), 600));
COMMENT ON FUNCTION projections._cooled(double precision, interval) IS 'Internal: what is left of a count that is halved every ten minutes.';

-- A steady rate of one a minute heats up to 10 / ln 2.
CREATE VIEW projections.hot_keys WITH (security_barrier) AS
SELECT 'stream' AS kind, NULL::text AS projection, c.stream AS key, c.conflicts AS occurrences,
       pg_catalog.round((projections._cooled(c.heat, pg_catalog.clock_timestamp() - c.last_at) * pg_catalog.ln(2::double precision) / 10)::numeric, 2)::double precision AS per_minute,
       c.last_at
FROM projections.conflict c
WHERE pg_catalog.pg_has_role('pg_monitor', 'USAGE')
UNION ALL
SELECT 'key', projections._name(f.projection), NULLIF(pg_catalog.array_to_string(f.keys, ', '), ''), -- a query's events have none
       pg_catalog.sum(1 + f.retry_count)::bigint,
       pg_catalog.round(pg_catalog.count(*) FILTER (WHERE f.failed_at > pg_catalog.clock_timestamp() - interval '10 min') / 10.0, 2)::double precision,
       pg_catalog.max(f.failed_at)
FROM projections.failure f
JOIN pg_catalog.pg_class c ON c.oid = f.projection
WHERE f.resolved_at IS NULL
  AND (pg_catalog.pg_has_role(c.relowner, 'USAGE') OR pg_catalog.pg_has_role('pg_read_all_data', 'USAGE'))
  AND NOT EXISTS (SELECT FROM projections.projection p WHERE p.relation = f.projection AND p.shadow_of IS NOT NULL)
GROUP BY f.projection, f.keys
ORDER BY per_minute DESC, occurrences DESC, key;
COMMENT ON VIEW projections.hot_keys IS
'What is fought over or fails, hottest first. kind stream: a stream whose appends expected another version (PJ001), shown to members of pg_monitor; kind key: a
key of an async projection with events that failed and are open, shown to the projection''s owner and pg_read_all_data. occurrences: conflicts, or attempts that failed; per_minute:
lately, conflicts as an average that halves every ten minutes, failures over the last ten minutes; last_at: the latest. What waits for a row''s lock
is not counted by PostgreSQL; pg_locks and pg_blocking_pids() show it while it lasts.';

-- ------------------------------------------------------------------------------------------------------------ rebuilds

-- Who may not see when a session began is told by its pid alone.
CREATE FUNCTION projections._lives(pid integer, backend_start timestamptz) RETURNS boolean
    LANGUAGE sql STABLE STRICT
    RETURN EXISTS (SELECT FROM pg_catalog.pg_stat_get_activity(pid) AS a WHERE COALESCE(a.backend_start = _lives.backend_start, true));
COMMENT ON FUNCTION projections._lives(integer, timestamptz) IS 'Internal: whether a process still runs that began then.';

-- A phase that is one transaction tells how far it is as COPY does (src/rebuild/copy.cpp); what it writes into its row shows at its end.
CREATE FUNCTION projections._rebuild_done(pid integer, phase text, done bigint) RETURNS bigint
    LANGUAGE sql STABLE
    RETURN CASE WHEN phase = 'copying' THEN GREATEST(done, (SELECT c.tuples_processed FROM pg_catalog.pg_stat_progress_copy c WHERE c.pid = _rebuild_done.pid)) ELSE done END;
COMMENT ON FUNCTION projections._rebuild_done(integer, text, bigint) IS 'Internal: how far a running rebuild''s phase is.';

CREATE FUNCTION projections._pace(done bigint, total bigint, since timestamptz, OUT percent numeric, OUT rate double precision, OUT eta timestamptz)
    LANGUAGE sql STABLE
    RETURN (SELECT ROW(CASE WHEN total > 0 THEN pg_catalog.round(100.0 * LEAST(done, total) / total, 1) END,
                       r.rate,
                       CASE WHEN r.rate > 0 AND total >= done THEN pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => LEAST((total - done) / r.rate, 1e9)) END)
            FROM (SELECT done / NULLIF(EXTRACT(epoch FROM pg_catalog.clock_timestamp() - since)::double precision, 0) AS rate) r);
COMMENT ON FUNCTION projections._pace(bigint, bigint, timestamptz) IS 'Internal: how far something is, how fast, and when it will be done.';

CREATE VIEW projections.rebuilds WITH (security_barrier) AS
SELECT r.id,
       COALESCE(projections._name(r.projection), r.projection::text) AS projection,
       r.action, r.finish, r.phase, s.done, r.total,
       CASE WHEN s.running THEN pace.percent END AS percent,
       CASE WHEN s.running THEN pace.rate END AS rate,
       CASE WHEN s.running THEN pace.eta END AS eta,
       r.rows, r.started_at, r.phase_at, r.ended_at,
       r.pid AS holder_pid, r.started_by AS holder_user, s.running AS holder_alive,
       CASE WHEN r.ended_at IS NULL AND NOT s.running THEN 'died' ELSE r.outcome END AS outcome,
       CASE WHEN pg_catalog.pg_has_role('pg_read_all_data', 'USAGE') OR pg_catalog.pg_has_role(c.relowner, 'USAGE') THEN r.error END AS error
FROM projections.rebuild r
LEFT JOIN pg_catalog.pg_class c ON c.oid = r.projection
CROSS JOIN LATERAL (SELECT l.running, CASE WHEN l.running THEN projections._rebuild_done(r.pid, r.phase, r.done) ELSE r.done END AS done
                    FROM (SELECT r.ended_at IS NULL AND projections._lives(r.pid, r.backend_start) AS running) l) s
CROSS JOIN LATERAL projections._pace(s.done, r.total, r.phase_at) AS pace
ORDER BY r.id DESC;
COMMENT ON VIEW projections.rebuilds IS
'Rebuilds, fills and changed definitions, the latest first: the phase, done and total of it and, while it runs, percent, rate per second and eta (when the phase will
be done at that rate); rows written in the end. holder_pid, holder_user, holder_alive: who runs it, and whether that session still lives. outcome: done, failed, cancelled, or died (its
holder is gone); null while it runs. error shows to the projection''s owner and pg_read_all_data.';

CREATE FUNCTION projections._running_rebuilds() RETURNS TABLE(projection oid, action text, phase text, pid integer, started_by text, started_at timestamptz)
    LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT r.projection::oid, r.action,
           r.phase || COALESCE(' ' || pg_catalog.floor(100.0 * LEAST(projections._rebuild_done(r.pid, r.phase, r.done), r.total) / NULLIF(r.total, 0)) || ' %', ''),
           r.pid, r.started_by, r.started_at
    FROM projections.rebuild r
    WHERE r.ended_at IS NULL AND projections._lives(r.pid, r.backend_start);
END;
COMMENT ON FUNCTION projections._running_rebuilds() IS 'Internal: rebuilds whose holder lives, with the phase as health() shows it.';

-- ------------------------------------------------------------------------------------------------------------ activity

CREATE FUNCTION projections._sessions(OUT pid integer, OUT projection oid, OUT since timestamptz) RETURNS SETOF record
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_sessions';
COMMENT ON FUNCTION projections._sessions() IS 'Internal: sessions of this database that apply by hand.';

CREATE VIEW projections.activity AS
SELECT a.pid, a.kind, projections._name(a.projection::regclass) AS projection, a.slot,
       COALESCE(a.for_whom, pg_catalog.pg_get_userbyid(c.relowner)) AS for_whom,
       a.since, a.phase, a.done, a.total, pace.percent, pace.rate, pace.eta, a.query
FROM (SELECT w.pid, 'worker' AS kind, w.projection, w.slot, NULL::name AS for_whom, w.since,
             CASE w.state WHEN 'stuck' THEN 'stuck' ELSE 'applying' END AS phase, NULL::bigint AS done, NULL::bigint AS total, NULL::timestamptz AS phase_at, NULL::text AS query
      FROM projections._workers() AS w
      WHERE w.projection IS NOT NULL AND w.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
      UNION ALL
      SELECT s.pid, 'session', s.projection, NULL, b.usename, s.since, 'applying', NULL, NULL, NULL, b.query
      FROM projections._sessions() AS s LEFT JOIN pg_catalog.pg_stat_activity b ON b.pid = s.pid
      UNION ALL
      SELECT r.pid, r.action, r.projection, NULL, r.started_by, r.started_at, r.phase, projections._rebuild_done(r.pid, r.phase, r.done), r.total, r.phase_at, b.query
      FROM projections.rebuild r LEFT JOIN pg_catalog.pg_stat_activity b ON b.pid = r.pid
      WHERE r.ended_at IS NULL AND projections._lives(r.pid, r.backend_start)) a
LEFT JOIN projections.projection p ON p.relation = a.projection
LEFT JOIN pg_catalog.pg_class c ON c.oid = a.projection
CROSS JOIN LATERAL projections._pace(a.done, a.total, a.phase_at) AS pace
WHERE p.shadow_of IS NULL
ORDER BY a.since;
COMMENT ON VIEW projections.activity IS
'What runs now, the longest first. kind: worker (a batch), session (catch_up, replay or refresh_rows by hand, until its transaction ends), rebuild, fill or alter. for_whom: the
projection''s owner, for whom a worker works, or who called. since: the begin of the batch, of the session''s work, or of the rebuild. phase, done, total, percent, rate (per second) and eta as in
projections.rebuilds. query: as pg_stat_activity shows it to you. Workers and sessions are seen through shared_preload_libraries only; rebuilds always.';

-- ------------------------------------------------------------------------------------------------------------- metrics

-- Labels are made once for a projection, not once for each of its metrics; and all is one statement, as rows that are handed from
-- function to function take longer than to make. `check` takes too long to come with the others (validate() compiles every definition).
CREATE FUNCTION projections._metrics(about text) RETURNS TABLE(name text, labels jsonb, value double precision, type text, help text)
    LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    WITH slots AS (
        SELECT s.projection, sum(s.events_processed)::bigint AS events FROM projections.slot s GROUP BY s.projection
    ), unwritten AS MATERIALIZED (
        SELECT * FROM projections._throughput()
    ), recent AS (
        SELECT t.projection, array_agg(projections._all_buckets(t.buckets)) AS buckets
        FROM (SELECT m.projection, m.buckets FROM projections.throughput_minute m WHERE m.minute > now() - interval '5 min'
              UNION ALL SELECT u.projection, u.buckets FROM unwritten u WHERE u.minute > now() - interval '5 min') t
        GROUP BY t.projection
    ), totals AS (
        SELECT t.projection, sum(t.errors) AS errors, sum(t.batches) AS batches, sum(t.seconds) AS seconds
        FROM (SELECT n.projection, n.errors, n.batches, n.seconds FROM projections.throughput_total n
              UNION ALL SELECT u.projection, u.errors, u.batches, u.seconds FROM unwritten u) t
        GROUP BY t.projection
    ), projection AS MATERIALIZED (
        SELECT jsonb_build_object('database', current_database(), 'projection', h.projection) AS labels,
               h.*, p.mode = 'async' AS async, p.changes <> '{}' AS logged, p.building, p.stale_since IS NOT NULL AS stale, p.paused_at IS NOT NULL AS paused,
               s.events, r.buckets, t.errors, t.batches, t.seconds, b.started_at
        FROM projections._health(NULL, current_user::regrole) AS h
        JOIN projections.projection p ON projections._name(p.relation) = h.projection AND p.shadow_of IS NULL
        LEFT JOIN slots s ON s.projection = p.relation
        LEFT JOIN recent r ON r.projection = p.relation
        LEFT JOIN totals t ON t.projection = p.relation
        LEFT JOIN projections._running_rebuilds() AS b ON b.projection = p.relation
    ), source AS MATERIALIZED (
        SELECT jsonb_build_object('database', current_database(), 'source', projections._name(s.relation)) AS labels,
               coalesce(projections._head(s.relation), 0) AS head,
               -- On a standby nobody draws.
               CASE WHEN NOT pg_is_in_recovery() THEN coalesce(extract(epoch FROM clock_timestamp() - b.since), 0) END AS held
        FROM projections.source s JOIN pg_class c ON c.oid = s.relation LEFT JOIN LATERAL projections._blocker(s.relation) AS b ON true
    ), database AS MATERIALIZED (
        SELECT jsonb_build_object('database', current_database()) AS labels,
               -- A database whose async projections are all paused needs no worker.
               (current_setting('shared_preload_libraries') ~ 'pg_projections' AND current_setting('pg_projections.workers') <> '0' AND NOT pg_is_in_recovery()
                AND EXISTS (SELECT FROM projections.projection p WHERE p.mode = 'async' AND p.paused_at IS NULL AND p.shadow_of IS NULL))::int AS expected,
               w.running, w.stuck,
               -- As a table: the functions that tell it take a lock that holds back the safe position.
               (SELECT CASE WHEN q.is_called THEN q.last_value ELSE 0 END FROM projections.events_position_seq q) AS appends,
               coalesce((SELECT n.value FROM projections.counter n WHERE n.name = 'conflicts'), 0) AS conflicts
        FROM (SELECT count(*) AS running, count(*) FILTER (WHERE x.state = 'stuck') AS stuck
              FROM projections._workers() AS x WHERE x.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())) w
    ), checked AS MATERIALIZED (
        SELECT jsonb_build_object('database', current_database()) AS labels,
               count(*) FILTER (WHERE v.severity = 'ERROR') AS errors, count(*) FILTER (WHERE v.severity = 'WARNING') AS warnings,
               (SELECT count(*) FROM projections.orphans()) AS orphans
        FROM projections.validate() AS v
    ), sample AS (
        SELECT m.place, 'pg_projections_' || m.name AS name, f.labels || m.more AS labels, m.value
        FROM projection f, LATERAL (VALUES
            (11, 'status', jsonb_build_object('status', f.status), 1::float8),
            (12, 'lag_events', '{}', CASE WHEN f.async OR f.logged THEN f.lag_events END),
            (13, 'lag_seconds', '{}', CASE WHEN f.async OR f.logged THEN f.lag_seconds END),
            (14, 'checkpoint', '{}', CASE WHEN f.async THEN f.checkpoint END),
            (15, 'checkpoint_timestamp_seconds', '{}', CASE WHEN f.async THEN extract(epoch FROM f.last_updated) END),
            (16, 'failures', '{}', CASE WHEN f.async THEN f.failures END),
            (17, 'dead_letters', '{}', CASE WHEN f.async THEN f.dead_letters END),
            (18, 'parked_events', '{}', CASE WHEN f.async THEN f.parked_events END),
            (19, 'paused', '{}', f.paused::int),
            (20, 'stale', '{}', f.stale::int),
            (21, 'building', '{}', f.building::int),
            (22, 'rebuilding', '{}', (f.started_at IS NOT NULL)::int),
            (23, 'rebuild_seconds', '{}', extract(epoch FROM clock_timestamp() - f.started_at)),
            (24, 'change_log_rows', '{}', CASE WHEN f.logged THEN f.lag_events END),
            (25, 'events_processed_total', '{}', CASE WHEN f.async THEN f.events END),
            (26, 'errors_total', '{}', CASE WHEN f.async THEN coalesce(f.errors, 0) END),
            (27, 'apply_seconds', '{"quantile": "0.5"}', projections._quantile(f.buckets, 0.5) / 1000),
            (27, 'apply_seconds', '{"quantile": "0.95"}', projections._quantile(f.buckets, 0.95) / 1000),
            (27, 'apply_seconds', '{"quantile": "0.99"}', projections._quantile(f.buckets, 0.99) / 1000),
            (27, 'apply_seconds_sum', '{}', CASE WHEN f.async THEN coalesce(f.seconds, 0) END),
            (27, 'apply_seconds_count', '{}', CASE WHEN f.async THEN coalesce(f.batches, 0) END)
        ) AS m(place, name, more, value)
        WHERE coalesce(about, 'projection') = 'projection' AND m.value IS NOT NULL
        UNION ALL
        SELECT m.place, 'pg_projections_source_' || m.name, f.labels, m.value
        FROM source f, LATERAL (VALUES (31, 'positions_total', f.head::float8), (32, 'held_back_seconds', f.held)) AS m(place, name, value)
        WHERE coalesce(about, 'source') = 'source' AND m.value IS NOT NULL
        UNION ALL
        SELECT m.place, 'pg_projections_' || m.name, f.labels || m.more, m.value
        FROM database f, LATERAL (VALUES
            (1, 'version_info', (SELECT jsonb_build_object('library', v.library, 'sql', v.sql) FROM projections.version() AS v), 1::float8),
            (41, 'workers_expected', '{}', f.expected),
            (42, 'workers_running', '{}', f.running),
            (43, 'workers_stuck', '{}', f.stuck),
            (44, 'store_appends_total', '{}', f.appends),
            (45, 'store_conflicts_total', '{}', f.conflicts)
        ) AS m(place, name, more, value)
        WHERE coalesce(about, 'database') = 'database'
        UNION ALL
        SELECT m.place, 'pg_projections_check_' || m.name, f.labels, m.value
        FROM checked f, LATERAL (VALUES (51, 'errors', f.errors::float8), (52, 'warnings', f.warnings), (53, 'orphans', f.orphans)) AS m(place, name, value)
        WHERE about = 'check'
    )
    SELECT m.name, m.labels, m.value, d.type, d.help
    FROM sample m
    JOIN (VALUES
        (1, 'gauge', 'Always 1; the versions of the library and of the SQL objects.'),
        (11, 'gauge', '1 for the status that the projection has, as projections.health() tells it.'),
        (12, 'gauge', 'Positions between the head and the lowest checkpoint, gaps included; of a change log, its changes.'),
        (13, 'gauge', 'Age of the oldest event that is neither applied nor parked.'),
        (14, 'gauge', 'The last position that every slot has applied.'),
        (15, 'gauge', 'When a checkpoint moved last, in seconds since 1970.'),
        (16, 'gauge', 'Failed events that are open.'),
        (17, 'gauge', 'Failed events that no retry is due for.'),
        (18, 'gauge', 'Events held back behind a failure of their key.'),
        (19, 'gauge', 'Whether somebody has paused the projection.'),
        (20, 'gauge', 'Whether the projection is wrong until it is repaired.'),
        (21, 'gauge', 'Whether the projection has not been filled yet.'),
        (22, 'gauge', 'Whether a rebuild of the projection runs.'),
        (23, 'gauge', 'How long the rebuild has been running.'),
        (24, 'gauge', 'Changes that wait in the projection''s change logs.'),
        (25, 'counter', 'Events processed since the projection was made or reset.'),
        (26, 'counter', 'Events that failed, and batches that were rolled back as a whole.'),
        (27, 'summary', 'Time to apply a batch, its commit included; quantiles over the last five minutes.'),
        (31, 'counter', 'The last committed position of the source; its rate is the append rate, gaps included.'),
        (32, 'gauge', 'Age of the oldest transaction that has drawn a position and not ended: later events wait for it.'),
        (41, 'gauge', '1 if workers should run: there are async projections, and workers are not switched off.'),
        (42, 'gauge', 'Workers of the database.'),
        (43, 'gauge', 'Workers whose batch has been running for more than 60 seconds.'),
        (44, 'counter', 'Events appended to projections.events.'),
        (45, 'counter', 'Appends that expected another version.'),
        (51, 'gauge', 'Errors that projections.validate() reports.'),
        (52, 'gauge', 'Warnings that projections.validate() reports.'),
        (53, 'gauge', 'What projections.orphans() lists.')
    ) AS d(place, type, help) ON d.place = m.place
    ORDER BY m.place -- one family at a time, as the text format wants it
$$;
COMMENT ON FUNCTION projections._metrics(text) IS 'Internal: projections.metrics().';

CREATE FUNCTION projections.metrics(about text DEFAULT NULL) RETURNS TABLE(name text, labels jsonb, value double precision, type text, help text)
    LANGUAGE c ROWS 1000 AS 'MODULE_PATHNAME', 'projections_metrics';
COMMENT ON FUNCTION projections.metrics(text) IS
'What a monitoring system wants to know, by Prometheus'' conventions: a row for each sample, those of a metric together. about: projection,
source or database, for those only; check, for what validate() and orphans() find, which takes some milliseconds for each projection and is left out otherwise. labels: at least the
database, and projection or source. value: in base units (seconds), or a count. type: gauge, counter or summary. What a projection does not have (the lag of
an inline one) is left out. The same names come from monitoring/queries.yaml. For members of pg_monitor; others need EXECUTE. Errors: 42501.
Example: SELECT labels ->> ''projection'' AS projection, value FROM projections.metrics() WHERE name = ''pg_projections_lag_seconds'';';

CREATE FUNCTION projections.metrics_text(about text DEFAULT NULL) RETURNS text
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_metrics_text';
COMMENT ON FUNCTION projections.metrics_text(text) IS
'projections.metrics(about) in Prometheus'' text format, to be served as it is or written to a file for node_exporter''s textfile collector. For members of pg_monitor;
others need EXECUTE. Errors: 42501.
Example: SELECT projections.metrics_text();';

GRANT SELECT ON projections.throughput, projections.hot_keys, projections.rebuilds, projections.activity TO PUBLIC;
REVOKE EXECUTE ON FUNCTION projections.metrics(text), projections.metrics_text(text), projections._metrics(text), projections._expire_throughput(), projections._add_conflicts(text, bigint, timestamptz),
    projections._add_throughput(regclass, timestamptz, bigint, bigint, bigint, double precision, integer[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION projections.metrics(text), projections.metrics_text(text) TO pg_monitor;
-- Who ran which operation. Rows are written by src/operate/audit.cpp.

CREATE TABLE projections.audit (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    started_at timestamptz NOT NULL,
    duration   interval NOT NULL,
    login      text NOT NULL,
    role       text NOT NULL,
    operation  text NOT NULL,
    projection text,
    owner      text, -- of the projection then: names, as what they name may be gone, and because a dump keeps them
    arguments  jsonb NOT NULL,
    sqlstate   text, -- of a call that failed
    error      text
);
CREATE INDEX audit_started_at ON projections.audit (started_at);
COMMENT ON TABLE projections.audit IS 'Calls of functions that operate projections; read projections.audit_log instead.';
SELECT pg_catalog.pg_extension_config_dump('projections.audit', '');
SELECT pg_catalog.pg_extension_config_dump('projections.audit_id_seq', '');

CREATE VIEW projections.audit_log WITH (security_barrier) AS
SELECT a.id, a.started_at, a.duration, a.login, a.role, a.operation, a.projection,
       CASE WHEN r.readable THEN a.arguments END AS arguments,
       CASE WHEN a.sqlstate IS NULL THEN 'ok' ELSE 'failed' END AS outcome,
       a.sqlstate,
       CASE WHEN r.readable THEN a.error END AS error
FROM projections.audit a
LEFT JOIN pg_catalog.pg_roles o ON o.rolname = a.owner,
LATERAL (SELECT COALESCE(pg_catalog.pg_has_role(o.oid, 'USAGE'), false) OR pg_catalog.pg_has_role('pg_read_all_data', 'USAGE') AS readable) r
WHERE r.readable OR pg_catalog.pg_has_role('pg_monitor', 'USAGE');
COMMENT ON VIEW projections.audit_log IS
'Every call of a function that operates projections (create to drop, pause, reset, replay, retry, rebuild, repair, sources, …), and every projection that a DROP command took
along: when it began, how long it took, by whom (login: the session''s user; role: the one that it acted as), on which projection or source, with which arguments,
and how it ended. A call that succeeded is written in its transaction, so one that was rolled back afterwards is not here. A call that failed is written by a
background worker, shortly afterwards; without pg_projections in shared_preload_libraries it is not recorded. Of failures that come faster than they
are written, and across a crash of the server, some may be lost; the first one written then says how many. catch_up() is recorded where it applied something. Arguments and
error texts show to members of the role that owned the projection then, pg_read_all_data and superusers; members of pg_monitor see the
other columns, everybody else no row. Kept for pg_projections.history_retention.';
GRANT SELECT ON projections.audit_log TO PUBLIC;

CREATE FUNCTION projections._audit_drop(command text, projection text) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'projections_audit_drop';
COMMENT ON FUNCTION projections._audit_drop(text, text) IS 'Internal: records that a command dropped a projection, unless that is part of a recorded call.';
REVOKE EXECUTE ON FUNCTION projections._audit_drop(text, text) FROM PUBLIC;
-- Rebuild: src/rebuild.

-- Rebuilds that are to begin, or that a crash has interrupted.
CREATE TABLE projections.rebuild_request (
    projection   regclass PRIMARY KEY,
    requested_by text NOT NULL,
    requested_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    launched_at  timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
COMMENT ON TABLE projections.rebuild_request IS 'Scheduled rebuilds.';
SELECT pg_catalog.pg_extension_config_dump('projections.rebuild_request', '');
GRANT SELECT ON projections.rebuild_request TO PUBLIC;

CREATE PROCEDURE projections.rebuild(name text, dry_run boolean DEFAULT false)
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_rebuild';
COMMENT ON PROCEDURE projections.rebuild(text, boolean) IS
'Computes a projection anew and puts the result in its place, while readers and writers go on. What differs is found by comparing table and definition, and recomputed row by row (merge); where
that would be most of it, all is computed into a shadow, which then changes places with the table (swap) under an exclusive lock of at most pg_projections.swap_lock_timeout, tried again until
it succeeds. options.finish (auto, merge, swap) chooses; a table that is published, that foreign keys refer to, or that other projections read, is always merged. Handlers, reducers and state machines
replay their events, in which users'' triggers do not fire, and rows that others wrote into a handler''s tables are lost. The table keeps its OID and all that belongs to it. Progress is in projections.rebuilds. It commits between its phases. name: the projection. dry_run: tell in a NOTICE what would be done, and do
nothing.
Errors: 42P01; 42809 not a projection; 42501 not the owner; 25001 inside a transaction block or function; 55000 paused, or finish => swap is not possible; PJ003 it is being rebuilt; PJ006 events are archived.
Example: CALL projections.rebuild(''stock'');';

CREATE PROCEDURE projections._redefine(name text, query text, mode text)
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_redefine';
COMMENT ON PROCEDURE projections._redefine(text, text, text) IS 'Internal: projections.alter() for query and mode; checks the caller''s rights.';

CREATE PROCEDURE projections.rebuild_all()
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_rebuild_all';
COMMENT ON PROCEDURE projections.rebuild_all() IS
'Rebuilds every projection that the caller owns, those that others read first. Paused ones, and ones that are being rebuilt, are left out with a NOTICE. The first that fails ends it.
Errors: 25001 inside a transaction block or function; as projections.rebuild().
Example: CALL projections.rebuild_all();';

CREATE FUNCTION projections.schedule_rebuild(name text) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_operate';
COMMENT ON FUNCTION projections.schedule_rebuild(text) IS
'Has a projection rebuilt by a background process, which begins when this transaction commits; needs a free place among max_worker_processes. After a crash, workers begin it again (with
shared_preload_libraries). How it goes is in projections.rebuilds. Scheduled already: nothing to do.
Errors: 42P01; 42809 not a projection; 42501 not the owner; 55000 paused.
Example: SELECT projections.schedule_rebuild(''stock'');';

CREATE FUNCTION projections._launch_rebuild(projection oid) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'projections_launch_rebuild';
COMMENT ON FUNCTION projections._launch_rebuild(oid) IS 'Internal: starts a process for a request when this transaction commits.';

CREATE FUNCTION projections._schedule_rebuild(projection oid, caller text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM projections.projection p WHERE p.relation = projection::regclass AND p.paused_at IS NOT NULL) THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('projection %s is paused', projections._name(projection)),
            DETAIL = 'A rebuild would bring it up to date.', HINT = format('SELECT projections.resume(%L);', projections._name(projection));
    END IF;
    INSERT INTO projections.rebuild_request (projection, requested_by) VALUES (projection, caller) ON CONFLICT DO NOTHING;
    IF FOUND THEN
        PERFORM projections._launch_rebuild(projection);
    END IF;
END
$$;
COMMENT ON FUNCTION projections._schedule_rebuild(oid, text) IS 'Internal: projections.schedule_rebuild().';

-- The session lock of a rebuild; src/rebuild/rebuild.cpp.
CREATE FUNCTION projections._rebuild_holder(projection oid) RETURNS integer
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT l.pid FROM pg_locks l
    WHERE l.locktype = 'advisory' AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
      AND l.classid = projection AND l.objid = 0 AND l.objsubid = 20555 AND l.mode = 'ExclusiveLock' AND l.granted
$$;
COMMENT ON FUNCTION projections._rebuild_holder(oid) IS 'Internal: the process that rebuilds a projection; NULL for none.';

CREATE FUNCTION projections._launch_waiting_rebuilds() RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    waiting oid;
    launched bigint := 0;
BEGIN
    DELETE FROM projections.rebuild_request r WHERE NOT EXISTS (SELECT FROM projections.projection p WHERE p.relation = r.projection);
    FOR waiting IN
        UPDATE projections.rebuild_request r SET launched_at = clock_timestamp()
        WHERE r.launched_at < clock_timestamp() - interval '10 s' AND projections._rebuild_holder(r.projection) IS NULL
        RETURNING r.projection
    LOOP
        PERFORM projections._launch_rebuild(waiting);
        launched := launched + 1;
    END LOOP;
    RETURN launched;
END
$$;
COMMENT ON FUNCTION projections._launch_waiting_rebuilds() IS 'Internal: starts a process for each request that nobody carries out. Returns how many.';

CREATE FUNCTION projections.cancel_rebuild(name text) RETURNS boolean
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_operate';
COMMENT ON FUNCTION projections.cancel_rebuild(text) IS
'Stops the rebuild of a projection, and forgets a scheduled one. The projection stays as it was; what the rebuild has made is removed by whoever ran it. Returns whether there was one.
Errors: 42P01; 42809 not a projection; 42501 not the owner.
Example: SELECT projections.cancel_rebuild(''stock'');';

CREATE FUNCTION projections._cancel_rebuild(projection oid, caller text) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    holder integer := projections._rebuild_holder(projection);
    scheduled boolean;
BEGIN
    DELETE FROM projections.rebuild_request r WHERE r.projection = $1::regclass;
    scheduled := FOUND;
    RETURN coalesce(pg_cancel_backend(holder), false) OR scheduled;
END
$$;
COMMENT ON FUNCTION projections._cancel_rebuild(oid, text) IS 'Internal: projections.cancel_rebuild().';

REVOKE EXECUTE ON FUNCTION projections._launch_rebuild(oid), projections._schedule_rebuild(oid, text), projections._launch_waiting_rebuilds(),
                           projections._cancel_rebuild(oid, text) FROM PUBLIC;
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
