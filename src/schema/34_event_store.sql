-- Our own event store, for users without an event table of their own.

CREATE FUNCTION projections_internal._event_id() RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL SAFE AS 'MODULE_PATHNAME', 'projections_event_id';
COMMENT ON FUNCTION projections_internal._event_id() IS
    'Internal: a new UUID, greater than those made before, as far as clocks agree.';

CREATE TABLE projections.streams (
    stream      text PRIMARY KEY CHECK (stream <> ''),
    version     bigint NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    updated_at  timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    archived_at timestamptz
) WITH (fillfactor = 70); -- each append updates its stream's row
COMMENT ON TABLE projections.streams IS
'Streams of our own event store with their version. archived_at: since when all events of the stream are in '
    'projections.events_archive.';

CREATE TABLE projections.events (
    position       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id             uuid NOT NULL DEFAULT projections_internal._event_id() UNIQUE,
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

-- A child: who reads projections.events without ONLY, as feeds, definitions and replays do, reads what was archived
-- too.
CREATE TABLE projections.events_archive (
    PRIMARY KEY (position),
    UNIQUE (id),
    UNIQUE (stream, version)
) INHERITS (projections.events);
CREATE INDEX events_archive_correlation_id ON projections.events_archive (correlation_id)
    WHERE correlation_id IS NOT NULL;
COMMENT ON TABLE projections.events_archive IS
    'Old events of our own store, moved here by projections.archive_events(); rebuilds read them.';

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['events', 'events_archive', 'streams', 'events_position_seq'] LOOP
        PERFORM pg_catalog.pg_extension_config_dump(('projections.' || name)::regclass, '');
    END LOOP;
    INSERT INTO projections_internal.source (relation, position_column, stream_column, version_column, type_column,
        time_column, correlation_column, id_column, capture, sequence)
    VALUES ('projections.events', 'position', 'stream', 'version', 'type', 'recorded_at', 'correlation_id', 'id',
        'position', 'projections.events_position_seq');
    -- The row above comes with the extension, so a dump must not bring it again. Its archived_to stays 0: nothing of
    -- our own store is lost.
    PERFORM pg_catalog.pg_extension_config_dump('projections_internal.source'::regclass,
        'WHERE relation <> ''projections.events''::pg_catalog.regclass');
END
$$;

-- Append.

-- An append that comes again, known by the ids that its caller gave, as it was the first time; no row where none of
-- them exists.
CREATE FUNCTION projections_internal._appended_before(stream text, ids uuid[])
    RETURNS TABLE(stream_version bigint, first_position bigint, last_position bigint)
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
           coalesce(bool_and(k.stream = _appended_before.stream), true) AND count(DISTINCT k.base) = 1
               AND count(*) = cardinality(array_remove(ids, NULL)) AS same,
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
            DETAIL = format('It is version %s of stream "%s", which was not appended by a call with the same ids.',
                other.version, other.stream),
            HINT = 'Repeat an append with exactly the ids that it had; give new events new ids.';
    END IF;
    RETURN QUERY SELECT before.base + cardinality(ids),
        min(e.position), max(e.position)
    FROM projections.events e
    WHERE e.stream = _appended_before.stream AND e.version IN (before.base + 1, before.base + cardinality(ids));
END
$$;
COMMENT ON FUNCTION projections_internal._appended_before(text, uuid[]) IS
    'Internal: the result of an append that was made before with these ids.';

-- Takes the next n versions of a stream and returns the version before them. Positions are drawn after that, under the
-- stream's row lock, so that they rise with the versions. REPEATABLE READ and SERIALIZABLE: the core raises 40001 where
-- the row changed since the snapshot.
CREATE FUNCTION projections_internal._advance_stream(stream text, n bigint, expected_version bigint) RETURNS bigint
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
        PERFORM projections_internal._count_conflict(stream);
        RAISE EXCEPTION USING ERRCODE = 'PJ001',
            MESSAGE = format('wrong expected version of stream "%s"', stream),
            DETAIL = CASE WHEN expected_version = 0 THEN format('Expected that it does not exist; it is at version %s.',
                base)
                          WHEN base = 0 THEN format('Expected version %s; it does not exist.', expected_version)
                          ELSE format('Expected version %s; it is at version %s.', expected_version, base) END,
            HINT = 'Read the stream again, decide anew, and append with the version that was read.';
    END IF;
    RETURN base;
END
$$;
COMMENT ON FUNCTION projections_internal._advance_stream(text, bigint, bigint) IS
    'Internal: takes versions of a stream, or raises PJ001.';

-- Until the end of the transaction no other append to the stream can take place.
CREATE FUNCTION projections_internal._lock_stream(stream text) RETURNS void
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
COMMENT ON FUNCTION projections_internal._lock_stream(text) IS
    'Internal: locks a stream against other appends with ids.';

CREATE FUNCTION projections_internal._check_append(stream text, expected_version bigint) RETURNS void
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
COMMENT ON FUNCTION projections_internal._check_append(text, bigint) IS
    'Internal: refuses an empty stream and a negative version.';

CREATE FUNCTION projections.append(stream text, type text, data jsonb, expected_version bigint DEFAULT NULL,
    metadata jsonb DEFAULT NULL,
                                   correlation_id text DEFAULT NULL, causation_id text DEFAULT NULL,
                                       id uuid DEFAULT NULL)
    RETURNS TABLE(stream_version bigint, first_position bigint, last_position bigint)
    LANGUAGE plpgsql ROWS 1 SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    IF stream <> '' IS NOT TRUE OR expected_version < 0 THEN
        PERFORM projections_internal._check_append(stream, expected_version);
    END IF;
    IF type <> '' IS NOT TRUE OR data IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = CASE WHEN data IS NULL THEN 'data must not be null' ELSE 'type must not be empty' END,
            DETAIL = 'An event has a type and data.',
            HINT = 'Where there is nothing to say but the type, pass ''{}'' as data.';
    END IF;
    IF id IS NOT NULL THEN
        PERFORM projections_internal._lock_stream(stream);
        RETURN QUERY SELECT * FROM projections_internal._appended_before(stream, ARRAY[id]);
        IF FOUND THEN
            RETURN;
        END IF;
    END IF;
    stream_version := projections_internal._advance_stream(stream, 1, expected_version) + 1;
    INSERT INTO projections.events AS e (id, stream, version, type, data, metadata, correlation_id, causation_id)
    VALUES (coalesce(id, projections_internal._event_id()), stream, stream_version, type, data, metadata,
        correlation_id,
        causation_id)
    RETURNING e.position INTO first_position;
    last_position := first_position;
    RETURN NEXT;
END
$$;
COMMENT ON FUNCTION projections.append(text, text, jsonb, bigint, jsonb, text, text, uuid) IS
'Appends one event to a stream of our own store, which need not exist before. type: what happened. data: a JSON value.
expected_version: NULL accepts any, 0 means that the stream must not exist, n that it is at version n. metadata: more
about the event. correlation_id: what the event belongs to, for projections.trace(). causation_id: what caused it. id:
with one that exists in this stream already, nothing is appended and the first append''s result is returned, so a retry
is safe. Returns the version of the stream and the event''s position, twice, as append_many does. Appends to one stream
wait for each other until the end of the transaction. Only roles with EXECUTE may call it; they need no right on the
tables.
Errors: PJ001 the stream is at another version; 22023 an empty stream or type, a negative version; 23505 the id exists
in another stream; 40001 in REPEATABLE READ and SERIALIZABLE, where another append came between: try again.
Example: SELECT * FROM projections.append(''order-17'', ''OrderPlaced'', ''{"item": "A1", "quantity": 3}'', '
    'expected_version => 0);';

-- The element that is not an event.
CREATE FUNCTION projections_internal._refuse_events(events jsonb) RETURNS void
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    bad record;
BEGIN
    IF jsonb_typeof(events) IS DISTINCT FROM 'array' OR jsonb_array_length(events) = 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'events must be a JSON array of at least one event',
            DETAIL = format('It is %s.', CASE WHEN events IS NULL THEN 'null'
                WHEN jsonb_typeof(events) = 'array' THEN 'empty' ELSE 'of type ' || jsonb_typeof(events) END),
            HINT = 'Pass [{"type": "…", "data": {…}}, …].';
    END IF;
    SELECT x.n, c.problem INTO bad
    FROM jsonb_array_elements(events) WITH ORDINALITY AS x(e, n), LATERAL (SELECT CASE
        WHEN jsonb_typeof(x.e) <> 'object' THEN format('It is of type %s.', jsonb_typeof(x.e))
        WHEN NOT x.e ? 'type' THEN 'It has no type.'
        WHEN jsonb_typeof(x.e -> 'type') <> 'string' OR x.e ->> 'type' = '' THEN 'Its type is not a text of at least '
            'one character.'
        WHEN NOT x.e ? 'data' THEN 'It has no data.'
        WHEN jsonb_typeof(x.e -> 'id') NOT IN ('string', 'null')
             OR x.e ->> 'id' !~ '^\{?[0-9a-fA-F]{4}(-?[0-9a-fA-F]{4}){7}\}?$' THEN 'Its id is not a UUID.'
        WHEN x.e - '{type,data,metadata,id}'::text[] <> '{}' THEN format('It has an unknown key "%s".',
            (SELECT min(k) FROM jsonb_object_keys(x.e - '{type,data,metadata,id}'::text[]) AS k))
        WHEN EXISTS (SELECT FROM jsonb_array_elements(events) WITH ORDINALITY AS y(e, n) WHERE y.n < x.n
            AND lower(translate(y.e ->> 'id', '{-}', '')) = lower(translate(x.e ->> 'id', '{-}', '')))
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
COMMENT ON FUNCTION projections_internal._refuse_events(jsonb) IS
    'Internal: raises an error that names the first element that is not an event.';

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
        PERFORM projections_internal._check_append(stream, expected_version);
    END IF;
    IF jsonb_typeof(events) IS DISTINCT FROM 'array' THEN
        PERFORM projections_internal._refuse_events(events);
    END IF;
    SELECT count(*) AS n, count(e -> 'id') AS ids,
           bool_and(coalesce(jsonb_typeof(e -> 'type') = 'string' AND e ->> 'type' <> '' AND e ? 'data'
               AND e - '{type,data,metadata,id}'::text[] = '{}', false)) AS good
    INTO summary FROM jsonb_array_elements(events) AS e;
    IF summary.good IS NOT TRUE OR summary.ids > 0 THEN
        PERFORM projections_internal._refuse_events(events);
    END IF;
    IF summary.ids > 0 THEN
        PERFORM projections_internal._lock_stream(stream);
        RETURN QUERY SELECT * FROM projections_internal._appended_before(stream, ARRAY(SELECT (e ->> 'id')::uuid
            FROM jsonb_array_elements(events) WITH ORDINALITY AS x(e, n) ORDER BY n));
        IF FOUND THEN
            RETURN;
        END IF;
    END IF;
    base := projections_internal._advance_stream(stream, summary.n, expected_version);
    now := clock_timestamp();
    -- ORDER BY: positions are drawn above it, in the order of versions.
    WITH appended AS (
        INSERT INTO projections.events AS t (id, stream, version, type, data, metadata, correlation_id, causation_id,
            recorded_at)
        SELECT coalesce((e ->> 'id')::uuid, projections_internal._event_id()), stream, base + n, e ->> 'type',
            e -> 'data',
            nullif(e -> 'metadata', 'null'),
               correlation_id, causation_id, now
        FROM jsonb_array_elements(events) WITH ORDINALITY AS x(e, n) ORDER BY n
        RETURNING t.position)
    SELECT min(a.position), max(a.position) INTO first_position, last_position FROM appended a;
    stream_version := base + summary.n;
    RETURN NEXT;
END
$$;
COMMENT ON FUNCTION projections.append_many(text, jsonb, bigint, text, text) IS
'Appends several events to a stream of our own store, in one go: all or none. events: a JSON array of objects with type
and data, and where wanted metadata and id. The other arguments are as of projections.append(). If the ids that are
given exist already, as one append to this stream, nothing is appended and that append''s result is returned; give an
id to every event of a batch that may be retried. Returns the version of the stream after the last event, and the
positions of the first and the last one.
Errors: PJ001 the stream is at another version; 22023 an empty stream, an element that is not an event (it is named);
23505 some of the ids exist, and not as one append; 40001 as of append.
Example: SELECT * FROM projections.append_many(''order-17'', ''[{"type": "ItemPicked", "data": {"item": "A1"}}, '
    '{"type": "OrderShipped", "data": {}}]'', 1);';

REVOKE EXECUTE ON FUNCTION projections.append(text, text, jsonb, bigint, jsonb, text, text, uuid),
    projections.append_many(text, jsonb, bigint, text, text),
    projections_internal._advance_stream(text, bigint, bigint), projections_internal._lock_stream(text),
        projections_internal._appended_before(text, uuid[]) FROM PUBLIC;

CREATE VIEW projections.conflicts AS
SELECT c.stream, c.conflicts, c.last_at FROM projections_internal.conflict c ORDER BY c.conflicts DESC, c.stream;
COMMENT ON VIEW projections.conflicts IS
'How often appends to a stream expected another version than it had (PJ001), and when last. Counted outside the failed
transactions, by a worker: without one nothing is counted.';
GRANT SELECT ON projections.conflicts TO pg_monitor;
