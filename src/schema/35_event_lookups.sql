-- What looks at events of any source: read_stream, event_status, trace, position_at, find_incomplete.

CREATE FUNCTION projections_internal._source(relation regclass) RETURNS projections_internal.source
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found_source projections_internal.source;
BEGIN
    SELECT * INTO found_source FROM projections_internal.source s WHERE s.relation = _source.relation;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'wrong_object_type',
            MESSAGE = format('%s is not an event source', projections_internal._name(relation)),
            DETAIL = 'Its positions are not known.',
            HINT = format('Register it first: SELECT projections.register_source(%L, position_column => …);',
                projections_internal._name(relation));
    END IF;
    RETURN found_source;
END
$$;
COMMENT ON FUNCTION projections_internal._source(regclass) IS 'Internal: the registration of an event source.';

-- As events::slot_of() in C++.
CREATE FUNCTION projections_internal._slot_of(key text, slots bigint) RETURNS integer LANGUAGE sql IMMUTABLE
    RETURN coalesce((pg_catalog.hashtextextended(key, 0) & 9223372036854775807) % slots, 0)::integer;
COMMENT ON FUNCTION projections_internal._slot_of(text, bigint) IS
    'Internal: the slot that a key is dealt out to; the first for a key that could not be read.';
-- As events::stripe_text() in C++.
CREATE FUNCTION projections_internal._stripe_of("position" bigint, slots bigint) RETURNS integer LANGUAGE sql IMMUTABLE
    RETURN ("position" / 8192 % slots)::integer;
COMMENT ON FUNCTION projections_internal._stripe_of(bigint, bigint) IS
    'Internal: the slot that an event''s position is dealt out to, of a query projection.';
REVOKE EXECUTE ON FUNCTION projections_internal._slot_of(text, bigint), projections_internal._stripe_of(bigint, bigint)
    FROM PUBLIC;

-- The text of a query of all events that are left, those of our own store that were archived included where wanted.
-- Conditions on its position, type and correlation_id reach the table's indexes, if the columns are of these types or
-- binary compatible with them.
CREATE FUNCTION projections_internal._events_query(source regclass, archived boolean DEFAULT true) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s projections_internal.source := projections_internal._source(source);
    time_type regtype := (SELECT a.atttypid FROM pg_attribute a WHERE a.attrelid = source
        AND a.attname = s.time_column);
    events text;
BEGIN
    events := format('SELECT %s AS position, %s AS type, %s AS stream, %s AS event_time, %s AS correlation_id, %s AS '
        'event_id, e AS event FROM ',
        CASE WHEN s.arrivals IS NULL THEN format('e.%I', s.position_column) ELSE 'a.arrival' END,
        coalesce('e.' || quote_ident(s.type_column) || '::text', 'NULL::text'),
        coalesce('e.' || quote_ident(s.stream_column) || '::text', 'NULL::text'),
        CASE WHEN s.time_column IS NULL THEN 'NULL::timestamptz'
             WHEN time_type = 'timestamp'::regtype THEN format('(e.%I AT TIME ZONE ''UTC'')', s.time_column)
             ELSE format('e.%I::timestamptz', s.time_column) END,
        coalesce('e.' || quote_ident(s.correlation_column) || '::text', 'NULL::text'),
        coalesce('e.' || quote_ident(s.id_column) || '::text', 'NULL::text'));
    RETURN events || CASE WHEN source = 'projections.events'::regclass AND NOT archived THEN 'ONLY ' ELSE '' END
        || projections_internal._name(source) || ' e'
        || CASE WHEN s.arrivals IS NULL THEN '' ELSE format(' JOIN %s a ON a.position = e.%I',
            projections_internal._name(s.arrivals), s.position_column) END;
END
$$;
COMMENT ON FUNCTION projections_internal._events_query(regclass, boolean) IS
'Internal: SQL text of a source''s events as (position, type, stream, event_time, correlation_id, event_id, event).';

CREATE FUNCTION projections.read_stream(stream text, from_version bigint DEFAULT 1, max_events int DEFAULT 1000)
    RETURNS TABLE("position" bigint, id uuid, version bigint, type text, data jsonb, metadata jsonb,
        correlation_id text, causation_id text, recorded_at timestamptz)
    LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT e.position, e.id, e.version, e.type, e.data, e.metadata, e.correlation_id, e.causation_id, e.recorded_at
    FROM projections.events AS e
    WHERE e.stream = read_stream.stream AND e.version >= read_stream.from_version
    ORDER BY e.version LIMIT read_stream.max_events;
END;
COMMENT ON FUNCTION projections.read_stream(text, bigint, int) IS
'The events of one stream of our own store, archived ones included, by version. from_version: the first one wanted.
max_events: at most so many; go on from the last version + 1. No rows where there is no such stream. Needs SELECT on
projections.events and events_archive.
Example: SELECT version, type, data FROM projections.read_stream(''order-17'');';

-- Events are read as the owner of what they are read from (src/rights/reader.hpp): those who call these have checked
-- whom they read for.
CREATE FUNCTION projections_internal._may_read(relation regclass, reader oid) RETURNS boolean
    LANGUAGE c STRICT STABLE AS 'MODULE_PATHNAME', 'projections_may_read';
COMMENT ON FUNCTION projections_internal._may_read(regclass, oid) IS
'Internal: whether a role may select all columns of a table, and no row-level security applies to it.';
CREATE FUNCTION projections_internal._rows_as_owner(relation regclass, query text, VARIADIC arguments "any")
    RETURNS SETOF record
    LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'projections_rows_as_owner';
CREATE FUNCTION projections_internal._rows_as_owner(relation regclass, query text) RETURNS SETOF record
    LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'projections_rows_as_owner';
COMMENT ON FUNCTION projections_internal._rows_as_owner(regclass, text) IS
    'Internal: the same for a query without parameters.';
COMMENT ON FUNCTION projections_internal._rows_as_owner(regclass, text, "any") IS
'Internal: the rows of a query, read as the owner of a table or projection; of a projection, under its pinned '
    'settings.';
CREATE FUNCTION projections_internal._execute_as_owner(relation regclass, caller oid, command text,
    VARIADIC arguments "any")
    RETURNS bigint
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_execute_as_owner';
COMMENT ON FUNCTION projections_internal._execute_as_owner(regclass, oid, text, "any") IS
'Internal: runs a command as the owner of a table; returns how many rows it wrote.';

-- Whether the slot that an event's key belongs to has passed it; the owner can tell, who sees keys.
CREATE FUNCTION projections_internal._passed(projection regclass, caller text, event_position bigint) RETURNS boolean
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    feed regclass;
    key text;
BEGIN
    SELECT p.definition INTO feed FROM projections_internal.projection p JOIN pg_class c ON c.oid = p.relation
    WHERE p.relation = projection AND pg_has_role(caller::name, c.relowner, 'USAGE');
    IF feed IS NULL THEN
        RETURN false;
    END IF;
    SELECT r.key INTO key FROM projections_internal._rows_as_owner(projection,
        format('SELECT f.keys[1] FROM %s f WHERE '
        'f.position = $1', projections_internal._name(feed)),
                                                          event_position) AS r(key text);
    RETURN NOT FOUND OR (SELECT n.position >= event_position FROM (SELECT s.slot, s.position, count(*) OVER () AS slots
        FROM projections_internal.slot s WHERE s.projection = _passed.projection) n
                         WHERE n.slot = projections_internal._slot_of(key, n.slots));
EXCEPTION WHEN OTHERS THEN
    -- What an owner's expression raises must not keep others from seeing the rest.
    RETURN false;
END
$$;
COMMENT ON FUNCTION projections_internal._passed(regclass, text, bigint) IS
    'Internal: whether the slot of an event''s key has applied it.';

-- What became of one event. Without error texts and keys, which are the owner's.
CREATE FUNCTION projections_internal._recorded_outcomes(source regclass, event_position bigint, event_type text,
    event_time timestamptz)
    RETURNS TABLE(relation regclass, projection text, status text, detail text, some_passed boolean)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT p.relation, projections_internal._name(p.relation), o.status,
        CASE o.status
            WHEN 'failed' THEN format('failure %s: SQLSTATE %s, retried %s times, %s', f.id, f.sqlstate, f.retry_count,
                                      coalesce('next at ' || to_char(f.next_retry_at, 'YYYY-MM-DD HH24:MI:SS'),
                                          'a dead letter'))
            WHEN 'parked' THEN format('behind a failure of the same key, since %s', to_char(k.parked_at, 'YYYY-MM-DD '
                'HH24:MI:SS'))
            WHEN 'skipped' THEN format('failure %s was skipped', r.id)
            WHEN 'filtered' THEN format('takes %s', array_to_string(p.event_types, ', '))
            WHEN 'pending' THEN CASE WHEN p.paused_at IS NOT NULL THEN 'paused' ELSE format('applied up to %s',
                s.lowest) END
        END,
        p.kind <> 'query' AND o.status = 'pending' AND s.highest >= event_position
    FROM projections_internal.projection p
    LEFT JOIN projections_internal._open_failures f ON f.projection = p.relation AND f.position = event_position
    LEFT JOIN projections_internal.parked_event k ON k.projection = p.relation AND k.position = event_position
    LEFT JOIN LATERAL (SELECT x.id, x.resolution FROM projections_internal.failure x WHERE x.projection = p.relation
        AND x.position = event_position AND x.resolved_at IS NOT NULL
                       ORDER BY x.id DESC LIMIT 1) r ON true
    CROSS JOIN LATERAL (
        -- Query projections read events in stripes of positions; which slot takes a key is not to be seen here.
        SELECT count(*) AS slots,
               CASE WHEN p.kind = 'query' THEN min(n.position)
                   FILTER (WHERE n.slot = projections_internal._stripe_of(event_position, n.slots))
                       ELSE min(n.position) END AS lowest,
               max(n.position) AS highest
        FROM (SELECT n.slot, n.position, count(*) OVER () AS slots FROM projections_internal.slot n
            WHERE n.projection = p.relation) n) s
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
COMMENT ON FUNCTION projections_internal._recorded_outcomes(regclass, bigint, text, timestamptz) IS
'Internal: what each projection over a source did with one event; pending where one slot has not passed it, '
    'some_passed where another has.';

CREATE FUNCTION projections_internal._outcomes(source regclass, caller text, event_position bigint, event_type text,
    event_time timestamptz)
    RETURNS TABLE(projection text, status text, detail text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT r.projection, CASE WHEN p.passed THEN 'applied' ELSE r.status END, CASE WHEN NOT p.passed THEN r.detail END
    FROM projections_internal._recorded_outcomes(source, event_position, event_type, event_time) r,
         LATERAL (SELECT r.some_passed AND projections_internal._passed(r.relation, caller, event_position) AS passed) p
$$;
COMMENT ON FUNCTION projections_internal._outcomes(regclass, text, bigint, text, timestamptz) IS
    'Internal: what each projection over a source did with one event.';

CREATE FUNCTION projections_internal._event_status(source regclass, caller text, event_position bigint)
    RETURNS TABLE(projection text, status text, detail text)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    event record;
    s projections_internal.source := projections_internal._source(source);
BEGIN
    SELECT e.type, e.event_time INTO event
    FROM projections_internal._rows_as_owner(source,
        format('SELECT e.type, e.event_time FROM (%s) e WHERE e.position = $1',
        projections_internal._events_query(source)), event_position)
        AS e(type text, event_time timestamptz);
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'no_data_found',
            MESSAGE = format('%s has no event at position %s', projections_internal._name(source), event_position),
            DETAIL = CASE WHEN event_position <= s.archived_to THEN format('Events up to position %s may have been '
                'deleted by projections.archive_events().', s.archived_to)
                          ELSE 'It was rolled back, or is not committed yet.' END,
            HINT = 'Positions have gaps where transactions rolled back.';
    END IF;
    RETURN QUERY SELECT o.* FROM projections_internal._outcomes(source, caller, event_position, event.type,
        event.event_time) o
        ORDER BY o.projection;
END
$$;
COMMENT ON FUNCTION projections_internal._event_status(regclass, text, bigint) IS
    'Internal: projections.event_status().';

CREATE FUNCTION projections.event_status(source text, "position" bigint)
    RETURNS TABLE(projection text, status text, detail text)
    LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'projections_look_at_source';
COMMENT ON FUNCTION projections.event_status(text, bigint) IS
'What each projection over a source did with one event. status: applied; pending (its checkpoint is below, or it is
paused); failed (see projections.failures); parked (behind a failure of the same key); skipped; filtered (it does not
take events of this type). detail: since when, which failure. Needs SELECT on the source.
Errors: 42P01 no such table; 42809 not an event source; P0002 no event at that position.
Example: SELECT * FROM projections.event_status(''projections.events'', 42);';

-- One source's events of a correlation. What its owner's code raises is told, and keeps nobody from the other sources.
CREATE FUNCTION projections_internal._correlated(source regclass, correlation_id text)
    RETURNS TABLE("position" bigint, type text, stream text, event_time timestamptz, event jsonb)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY SELECT * FROM projections_internal._rows_as_owner(source, format(
        'SELECT e.position::bigint, e.type, e.stream, e.event_time, to_jsonb(e.event) FROM (%s) e WHERE '
            'e.correlation_id = $1', projections_internal._events_query(source)),
        _correlated.correlation_id) AS e("position" bigint, type text, stream text, event_time timestamptz,
            event jsonb);
EXCEPTION WHEN OTHERS THEN
    RAISE NOTICE 'events of % are left out', projections_internal._name(source)
        USING DETAIL = format('Reading them as the table''s owner raises %s.', SQLSTATE);
END
$$;
COMMENT ON FUNCTION projections_internal._correlated(regclass, text) IS
    'Internal: the events of a correlation in one source.';

CREATE FUNCTION projections_internal._readable_sources(caller oid) RETURNS SETOF regclass
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    each regclass;
BEGIN
    FOR each IN SELECT s.relation FROM projections_internal.source s WHERE s.correlation_column IS NOT NULL ORDER BY 1
        LOOP
        IF projections_internal._may_read(each, caller) THEN
            RETURN NEXT each;
        ELSE
            RAISE NOTICE 'events of % are left out', projections_internal._name(each)
                USING DETAIL = format('%I may not select from it, or its row-level security applies to that role.',
                    pg_get_userbyid(caller));
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION projections_internal._readable_sources(oid) IS
    'Internal: the sources with a correlation column that a role may read; a NOTICE for each that it may not.';

CREATE FUNCTION projections_internal._trace(caller_role oid, caller text, correlation_id text)
    RETURNS TABLE(source text, "position" bigint, event_time timestamptz, stream text, type text, event jsonb,
        projection text, status text, detail text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    -- Time orders events of different sources; within one it is the position, whatever clocks said.
    SELECT projections_internal._name(e.source), e.position, e.event_time, e.stream, e.type, e.event, o.projection,
        o.status,
        o.detail
    FROM (SELECT s.source, c.*, max(c.event_time) OVER (PARTITION BY s.source ORDER BY c.position) AS reached
          FROM projections_internal._readable_sources(caller_role) AS s(source),
              LATERAL projections_internal._correlated(s.source, _trace.correlation_id) c) e
    LEFT JOIN LATERAL projections_internal._outcomes(e.source, caller, e.position, e.type, e.event_time) o ON true
    ORDER BY e.reached, e.source, e.position, o.projection
$$;
COMMENT ON FUNCTION projections_internal._trace(oid, text, text) IS 'Internal: projections.trace().';

CREATE FUNCTION projections.trace(correlation_id text)
    RETURNS TABLE(source text, "position" bigint, event_time timestamptz, stream text, type text, event jsonb,
        projection text, status text, detail text)
    LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'projections_look_as';
COMMENT ON FUNCTION projections.trace(text) IS
'The events of one correlation, over our own store and every source registered with a correlation column, in the order
in which they happened, and what each projection did with them: a row per event and projection (one with NULLs where
none reads the source). status and detail are as of projections.event_status(). Sources that the caller may not
read, or not in all rows (row-level security), are left out with a NOTICE. Raises nothing else.
Example: SELECT position, type, projection, status FROM projections.trace(''order-17'');';

CREATE FUNCTION projections_internal._position_at(source regclass, caller text, at timestamptz) RETURNS bigint
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    result bigint;
BEGIN
    PERFORM projections_internal._refuse_without(source, 'time');
    SELECT e.position INTO result FROM projections_internal._rows_as_owner(source, format(
        'SELECT e.position::bigint FROM (%s) e WHERE e.event_time <= $1 ORDER BY e.position DESC LIMIT 1',
            projections_internal._events_query(source)), at) AS e("position" bigint);
    RETURN coalesce(result, (SELECT s.archived_to FROM projections_internal.source s WHERE s.relation = source));
END
$$;
COMMENT ON FUNCTION projections_internal._position_at(regclass, text, timestamptz) IS
    'Internal: projections.position_at().';

CREATE FUNCTION projections_internal._refuse_without(source regclass, what text) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s projections_internal.source := projections_internal._source(source);
BEGIN
    IF (CASE what WHEN 'time' THEN s.time_column WHEN 'type' THEN s.type_column
            WHEN 'correlation' THEN s.correlation_column END) IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('source %s has no %s column', projections_internal._name(source), what),
            DETAIL = 'It was registered without one.',
            HINT = format('Register it again with it: SELECT projections.register_source(%L, …, %s_column => …);',
                projections_internal._name(source), what);
    END IF;
END
$$;
COMMENT ON FUNCTION projections_internal._refuse_without(regclass, text) IS
    'Internal: refuses a source that lacks a column.';

CREATE FUNCTION projections.position_at(source text, at timestamptz) RETURNS bigint
    LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'projections_look_at_source';
COMMENT ON FUNCTION projections.position_at(text, timestamptz) IS
'The position of the last event of a source whose time is not after the given one; 0 where there is none (or the mark
up to which events were deleted). Reads backwards from the newest event: its time grows with the number of events after
that moment. Needs SELECT on the source, whose row-level security must not apply to the caller.
Errors: 42P01 no such table; 42809 not an event source; 42501 no right to read it; 55000 the source has no time column.
Example: SELECT projections.position_at(''projections.events'', now() - interval ''1 day'');';

CREATE FUNCTION projections_internal._find_incomplete(source regclass, caller text, steps text[], since timestamptz)
    RETURNS TABLE(correlation_id text, problem text, found text[], missing text[], first_position bigint,
        last_position bigint, first_at timestamptz, last_at timestamptz)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM projections_internal._refuse_without(source, 'correlation'), projections_internal._refuse_without(source,
        'type');
    IF since IS NOT NULL THEN
        PERFORM projections_internal._refuse_without(source, 'time');
    END IF;
    IF coalesce(cardinality(steps), 0) = 0 OR array_position(steps, NULL) IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'steps must name at least one event type, and no null',
            DETAIL = 'They are the event types that each correlation should have, in their order.',
            HINT = 'As in ARRAY[''OrderPlaced'', ''OrderPaid'', ''OrderShipped''].';
    END IF;
    -- Steps may come more than once, in the steps and among the events. Each step takes the first event of its type
    -- after the step before.
    RETURN QUERY SELECT * FROM projections_internal._rows_as_owner(source, format('
        WITH RECURSIVE of_steps AS (
            SELECT e.correlation_id, e.position::bigint AS position, e.type, e.event_time FROM (%s) e WHERE e.type = '
                'ANY ($1) AND e.correlation_id IS NOT NULL
        ), correlation AS (
            SELECT c.correlation_id, array_agg(c.type ORDER BY c.position) AS types, min(c.position) AS '
                'first_position, max(c.position) AS last_position,
                   min(c.event_time) AS first_at, max(c.event_time) AS last_at
            FROM of_steps c GROUP BY c.correlation_id HAVING $2 IS NULL OR max(c.event_time) >= $2
        ), walk AS (
            SELECT c.correlation_id, 0 AS step, 0 AS place FROM correlation c
            UNION ALL
            SELECT w.correlation_id, w.step + 1, array_position(c.types, $1[w.step + 1], w.place + 1)
            FROM walk w JOIN correlation c USING (correlation_id) WHERE w.step < cardinality($1) AND w.place IS NOT NULL
        ), lacking AS (
            SELECT c.correlation_id, array_agg(s.type ORDER BY s.n) AS missing
            FROM correlation c, (SELECT t.type, min(t.n) AS n, count(*) AS times FROM unnest($1) WITH ORDINALITY AS '
                't(type, n) GROUP BY t.type) s
            WHERE cardinality(array_positions(c.types, s.type)) < s.times GROUP BY c.correlation_id
        )
        SELECT c.correlation_id, CASE WHEN l.missing IS NOT NULL THEN ''missing'' ELSE ''misordered'' END, c.types, '
            'coalesce(l.missing, ''{}''),
               c.first_position, c.last_position, c.first_at, c.last_at
        FROM correlation c LEFT JOIN lacking l USING (correlation_id)
        WHERE l.missing IS NOT NULL OR EXISTS (SELECT FROM walk w WHERE w.correlation_id = c.correlation_id AND '
            'w.place IS NULL)
        ORDER BY c.first_position', projections_internal._events_query(source)), steps, since)
        AS i(correlation_id text, problem text, found text[], missing text[], first_position bigint,
            last_position bigint, first_at timestamptz, last_at timestamptz);
END
$$;
COMMENT ON FUNCTION projections_internal._find_incomplete(regclass, text, text[], timestamptz) IS
    'Internal: projections.find_incomplete().';

CREATE FUNCTION projections.find_incomplete(source text, steps text[], since timestamptz DEFAULT NULL)
    RETURNS TABLE(correlation_id text, problem text, found text[], missing text[], first_position bigint,
        last_position bigint, first_at timestamptz, last_at timestamptz)
    LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'projections_look_at_source';
COMMENT ON FUNCTION projections.find_incomplete(text, text[], timestamptz) IS
'Correlations that have at least one of the steps, but not all of them, or not in their order. steps: event types, in
the order in which they should come. since: only correlations with a step at or after it; all their events count.
problem: missing or misordered. found: the event types of the steps in the order in which they came. missing: the steps
that did not. Needs SELECT on the source, whose row-level security must not apply to the caller, and reads its events
of these types.
Errors: 42P01 no such table; 42809 not an event source; 42501 no right to read it; 55000 the source has no correlation,
type or time column; 22023 no steps.
Example: SELECT correlation_id, missing FROM projections.find_incomplete(''projections.events'', '
    'ARRAY[''OrderPlaced'', ''OrderPaid''], now() - interval ''1 day'');';

CREATE FUNCTION projections_internal._flush_wal() RETURNS void LANGUAGE c AS 'MODULE_PATHNAME', 'projections_flush_wal';
COMMENT ON FUNCTION projections_internal._flush_wal() IS
    'Internal: all that has been committed by now is on disk when this returns, with synchronous_commit off, too.';

-- What is decided is remembered for the session only: one that just began sees none of it while anybody draws, and sees
-- all of it once those have ended whom it saw first. That takes no longer than their transactions, however many others
-- follow.
CREATE FUNCTION projections_internal._decided(source regclass, wanted bigint) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    give_up timestamptz := clock_timestamp() + interval '1 s';
    safe bigint;
BEGIN
    LOOP
        safe := projections_internal._safe_position(source);
        EXIT WHEN safe >= wanted OR NOT EXISTS (SELECT FROM projections_internal._drawing(source))
            OR clock_timestamp() > give_up;
        PERFORM pg_sleep(0.002);
    END LOOP;
    -- Who drew last may have ended after the first question and before the second.
    safe := projections_internal._safe_position(source);
    -- A crash must not take back what is handed out.
    PERFORM projections_internal._flush_wal();
    RETURN safe;
END
$$;
COMMENT ON FUNCTION projections_internal._decided(regclass, bigint) IS
'Internal: the safe position, of which a crash takes nothing back; waits up to a second for those who draw to end, '
    'until it reaches the wanted one.';
