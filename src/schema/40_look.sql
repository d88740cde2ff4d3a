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
