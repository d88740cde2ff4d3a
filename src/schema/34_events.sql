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
