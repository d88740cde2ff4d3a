-- The extension's schema and catalog.

\echo Use "CREATE EXTENSION pg_projections" to load this file. \quit

DO $$
DECLARE
    taken name := (SELECT pg_catalog.min(n.nspname::text) FROM pg_catalog.pg_namespace n
        WHERE n.nspname IN ('projections', 'projections_internal'));
BEGIN
    IF taken IS NOT NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'duplicate_schema',
            MESSAGE = pg_catalog.format('schema "%s" already exists', taken),
            DETAIL = 'The extension keeps its objects in a schema of that name, which it makes itself.',
            HINT = 'Rename or drop the schema, then create the extension.';
    END IF;
END
$$;

-- What users type.
CREATE SCHEMA projections;
GRANT USAGE ON SCHEMA projections TO PUBLIC;

-- Everything else. A projection is maintained as its owner, by statements that name what is hidden of it: any role may
-- be one. Who may use what in it, sql/interface lists.
CREATE SCHEMA projections_internal;
GRANT USAGE ON SCHEMA projections_internal TO PUBLIC;
COMMENT ON SCHEMA projections_internal IS
    'What pg_projections keeps for itself; what users call and read is in schema projections.';

-- What is declared. Relations are regclass and functions text, so that a dump restores them by name and pg_upgrade
-- accepts them. kind query: the hidden view `definition` yields every column of the table: first the user's, then those
-- that maintenance needs. Other kinds: it is the feed, which yields what is delivered: position, event (a row of the
-- source), keys (text[]: the row's keys or, for a handler, its partition), type, event_time, event_id. A handler's
-- `relation` is one of its tables, if that has the projection's name, and else a view of its slots.
CREATE TABLE projections_internal.projection (
    relation     regclass PRIMARY KEY,
    definition   regclass NOT NULL UNIQUE,
    kind         text NOT NULL DEFAULT 'query' CHECK (kind IN ('query', 'handler', 'reducer', 'state_machine')),
    mode         text NOT NULL CHECK (mode IN ('inline', 'async')),
    user_columns integer NOT NULL DEFAULT 0,
    shape        text CHECK (shape IN ('groups', 'total', 'rows', 'bag')),
    sources      regclass[] NOT NULL,
    -- hidden change logs, one for each source, where changes are logged: async over mutable tables, and paused inline
    -- ones
    changes      regclass[] NOT NULL DEFAULT '{}',
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
    -- an event may go to several keys, or has none to deal it out by: one slot
    one_order    boolean NOT NULL DEFAULT false,
    -- a rebuild's next generation of that projection: maintained like any other, and shown to nobody
    shadow_of    regclass,
    -- not filled yet: its sources' changes reach its shadow only
    building     boolean NOT NULL DEFAULT false,
    part_of      regclass -- hidden below that projection, which reads it: what could not be followed in one step
);
COMMENT ON TABLE projections_internal.projection IS 'The catalog of projections; read projections.definitions instead.';

-- Tables whose rows are events.
CREATE TABLE projections_internal.source (
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
    -- capture 'trigger': hidden table (arrival bigint identity, position bigint unique); an event's position is its
    -- arrival
    arrivals           regclass,
    archived_to        bigint NOT NULL DEFAULT 0 -- events up to here may have been deleted
);
COMMENT ON TABLE projections_internal.source IS 'The catalog of event sources.';

-- Where each slot of an async projection stands. The row's lock is the fence: who holds it applies.
CREATE TABLE projections_internal.slot (
    projection       regclass,
    slot             integer,
    position         bigint NOT NULL DEFAULT 0, -- the last applied; of a change log, the last change
    event_time       timestamptz,
    events_processed bigint NOT NULL DEFAULT 0,
    checkpoint_at    timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    not_before       timestamptz, -- options.max_rate
    PRIMARY KEY (projection, slot)
) WITH (fillfactor = 20);
COMMENT ON TABLE projections_internal.slot IS 'Checkpoints; read projections.checkpoints instead.';

-- How far async projections are. Where fewer slots are there than are declared, a checkpoint is lost, and nothing says
-- what has been applied.
CREATE VIEW projections_internal._reached AS
SELECT p.relation AS projection, coalesce((p.options ->> 'slots')::integer, 1) AS declared,
       pg_catalog.count(s.slot) AS slots,
       pg_catalog.min(s.position) AS lowest, pg_catalog.max(s.position) AS highest,
       pg_catalog.max(s.checkpoint_at) AS checkpoint_at, pg_catalog.sum(s.events_processed)::bigint AS events
FROM projections_internal.projection p LEFT JOIN projections_internal.slot s ON s.projection = p.relation
WHERE p.mode = 'async' GROUP BY p.relation, p.options;
COMMENT ON VIEW projections_internal._reached IS
    'Internal: where the slots of each async projection stand, and how many there are and should be.';

CREATE TABLE projections_internal.checkpoint_change (
    projection regclass NOT NULL,
    slot       integer NOT NULL,
    before     bigint,
    position   bigint NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    changed_by text NOT NULL DEFAULT session_user,
    reason     text NOT NULL
);
CREATE INDEX ON projections_internal.checkpoint_change (projection, changed_at);
-- A publication FOR ALL TABLES has it, too, and refuses deletes without an identity.
ALTER TABLE projections_internal.checkpoint_change REPLICA IDENTITY FULL;
COMMENT ON TABLE projections_internal.checkpoint_change IS
    'Checkpoints that were set by hand; read projections.checkpoint_history instead.';

-- Events that could not be applied. Open while resolved_at is null; a dead letter when no retry is due either.
CREATE TABLE projections_internal.failure (
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
CREATE UNIQUE INDEX ON projections_internal.failure (projection, position) WHERE resolved_at IS NULL;
CREATE INDEX ON projections_internal.failure (projection, position);
COMMENT ON TABLE projections_internal.failure IS 'Failed events; read projections.failures instead.';

CREATE VIEW projections_internal._open_failures AS
SELECT f.*, f.next_retry_at IS NULL AS is_dead_letter FROM projections_internal.failure f WHERE f.resolved_at IS NULL;
COMMENT ON VIEW projections_internal._open_failures IS 'Internal: failed events that nobody has settled.';

-- Events held back behind a failure of one of their keys.
CREATE TABLE projections_internal.parked_event (
    projection regclass,
    slot       integer NOT NULL,
    position   bigint,
    event_type text,
    event_time timestamptz,
    keys       text[] NOT NULL,
    parked_at  timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (projection, position)
);
COMMENT ON TABLE projections_internal.parked_event IS 'Parked events; read projections.parked instead.';

-- States set by hand (set_state), which a replay repeats at their position.
CREATE TABLE projections_internal.override (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    projection regclass NOT NULL,
    key        text NOT NULL,
    position   bigint NOT NULL,
    state      jsonb,
    reason     text NOT NULL,
    set_by     text NOT NULL DEFAULT session_user,
    set_at     timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
CREATE INDEX ON projections_internal.override (projection, key);
COMMENT ON TABLE projections_internal.override IS 'States that were set by hand.';

CREATE TABLE projections_internal.transition (
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
CREATE INDEX ON projections_internal.transition (projection, key, id);
COMMENT ON TABLE projections_internal.transition IS
    'The history of state machines; read projections.transitions instead.';

CREATE TABLE projections_internal.subscription (
    name         text PRIMARY KEY,
    source       regclass NOT NULL,
    partition_by text,
    event_types  text[],
    position     bigint NOT NULL DEFAULT 0,
    owner        regrole NOT NULL,
    acked_at     timestamptz,
    created_at   timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
COMMENT ON TABLE projections_internal.subscription IS 'Readers outside the database.';

CREATE TABLE projections_internal.conflict (
    stream    text PRIMARY KEY,
    conflicts bigint NOT NULL,
    last_at   timestamptz NOT NULL,
    heat      double precision NOT NULL DEFAULT 0 -- conflicts, each halved every ten minutes; as of last_at
);
COMMENT ON TABLE projections_internal.conflict IS
    'Appends that expected another version; read projections.conflicts instead.';

-- Rebuilds, also past ones. Who runs one holds a session lock beside it, so that a row without its holder is known to
-- be dead at once.
CREATE TABLE projections_internal.rebuild (
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
    -- null while it runs, or until somebody finds it dead
    outcome       text CHECK (outcome IN ('done', 'failed', 'cancelled', 'died')),
    error         text
);
CREATE INDEX ON projections_internal.rebuild (projection, id);
COMMENT ON TABLE projections_internal.rebuild IS 'Rebuilds; read projections.rebuilds instead.';

SELECT pg_catalog.pg_extension_config_dump('projections_internal.projection', '');
SELECT pg_catalog.pg_extension_config_dump('projections_internal.source', '');
SELECT pg_catalog.pg_extension_config_dump('projections_internal.slot', '');
SELECT pg_catalog.pg_extension_config_dump('projections_internal.checkpoint_change', '');
SELECT pg_catalog.pg_extension_config_dump('projections_internal.failure', '');
SELECT pg_catalog.pg_extension_config_dump('projections_internal.failure_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('projections_internal.parked_event', '');
SELECT pg_catalog.pg_extension_config_dump('projections_internal.override', '');
SELECT pg_catalog.pg_extension_config_dump('projections_internal.override_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('projections_internal.transition', '');
SELECT pg_catalog.pg_extension_config_dump('projections_internal.transition_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('projections_internal.subscription', '');
SELECT pg_catalog.pg_extension_config_dump('projections_internal.conflict', '');
SELECT pg_catalog.pg_extension_config_dump('projections_internal.rebuild', '');
SELECT pg_catalog.pg_extension_config_dump('projections_internal.rebuild_id_seq', '');

CREATE FUNCTION projections_internal._announce_change() RETURNS trigger LANGUAGE c AS 'MODULE_PATHNAME',
    'projections_announce_change';
COMMENT ON FUNCTION projections_internal._announce_change() IS
    'Internal: tells every session that the catalog changed, also when a restore fills it.';

CREATE TRIGGER announce_change AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON projections_internal.projection
    FOR EACH STATEMENT EXECUTE FUNCTION projections_internal._announce_change();
ALTER TABLE projections_internal.projection ENABLE ALWAYS TRIGGER announce_change;
CREATE TRIGGER announce_change AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON projections_internal.source
    FOR EACH STATEMENT EXECUTE FUNCTION projections_internal._announce_change();
ALTER TABLE projections_internal.source ENABLE ALWAYS TRIGGER announce_change;

CREATE FUNCTION projections_internal._refuse_regression() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog,
    pg_temp AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
        MESSAGE = format('checkpoint of %s, slot %s, would go back from %s to %s', NEW.projection, NEW.slot,
            OLD.position, NEW.position),
        DETAIL = 'Events would be applied again.',
        HINT = 'Use projections.set_checkpoint() with allow_regression => true, or projections.reset().';
END
$$;
COMMENT ON FUNCTION projections_internal._refuse_regression() IS
    'Internal: a checkpoint goes back only where somebody says so.';
CREATE TRIGGER refuse_regression BEFORE UPDATE ON projections_internal.slot FOR EACH ROW
    WHEN (NEW.position < OLD.position AND coalesce(pg_catalog.current_setting('pg_projections._allow_regression', true),
        '') <> 'on')
    EXECUTE FUNCTION projections_internal._refuse_regression();
REVOKE EXECUTE ON FUNCTION projections_internal._announce_change(), projections_internal._refuse_regression()
    FROM PUBLIC;
