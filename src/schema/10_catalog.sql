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
