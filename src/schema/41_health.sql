-- Health: how projections are, as rows, as JSON, as one answer, and as lines for people.

-- What could not be read, and what helps. Error texts are the owner's.
CREATE FUNCTION projections_internal._unreadable(relation regclass, code text, OUT problem text, OUT remedy text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN code = '42501' THEN format('what is new in %s is unknown: its owner, %I, may not read it',
        projections_internal._name(c.oid), r.name)
                ELSE format('what is new in %s is unknown: reading it as its owner, %I, raises %s',
                    projections_internal._name(c.oid), r.name, code) END,
           CASE WHEN code = '42501' THEN format('GRANT SELECT ON %s TO %I;', projections_internal._name(c.oid), r.name)
                ELSE format('-- have %I select from %s', r.name, projections_internal._name(c.oid)) END
    FROM pg_class c, pg_get_userbyid(c.relowner) AS r(name) WHERE c.oid = relation
$$;
COMMENT ON FUNCTION projections_internal._unreadable(regclass, text) IS
    'Internal: why a relation''s owner could not read it, in words, and what helps.';

-- FROM and the position of an event, as the projections over the source count it.
CREATE FUNCTION projections_internal._event_position(source projections_internal.source) RETURNS text
    LANGUAGE sql STABLE
    RETURN CASE WHEN (source).capture = 'trigger' THEN 'a.arrival' ELSE pg_catalog.format('e.%I',
        (source).position_column) END;
COMMENT ON FUNCTION projections_internal._event_position(projections_internal.source) IS
    'Internal: an event''s position as an expression over _events_from.';

CREATE FUNCTION projections_internal._events_from(source projections_internal.source) RETURNS text
    LANGUAGE sql STABLE
    RETURN pg_catalog.format(CASE WHEN (source).capture = 'trigger' THEN '%1$s AS e JOIN %2$s AS a ON a."position" = '
        'e.%3$I' ELSE '%1$s AS e' END,
                             projections_internal._name((source).relation),
                                 projections_internal._name((source).arrivals),
                                 (source).position_column);
COMMENT ON FUNCTION projections_internal._events_from(projections_internal.source) IS
    'Internal: an event source''s table, as e, with the arrivals, as a, where positions are theirs.';

-- Read as the owner, whose indexes may call his functions; where that fails the head is unknown, and nobody else's is.
CREATE FUNCTION projections_internal._head(source regclass, OUT head bigint, OUT problem text, OUT remedy text)
    LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s projections_internal.source;
BEGIN
    SELECT * INTO s FROM projections_internal.source x WHERE x.relation = source;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT r.head INTO head
    FROM projections_internal._rows_as_owner(coalesce(s.arrivals, s.relation), format('SELECT max(%I)::bigint FROM %s',
        CASE WHEN s.arrivals IS NULL THEN s.position_column ELSE 'arrival' END,
        projections_internal._name(coalesce(s.arrivals, s.relation)))) AS r(head bigint);
    head := coalesce(head, 0);
EXCEPTION WHEN OTHERS THEN
    SELECT u.problem, u.remedy INTO problem, remedy FROM projections_internal._unreadable(source, SQLSTATE) u;
END
$$;
COMMENT ON FUNCTION projections_internal._head(regclass) IS
'Internal: the position of the last committed event of a source, 0 where there is none; NULL where its owner cannot '
    'read it, and then why.';

-- The time of the first event after each of some positions, in one query: a thousand projections may lag. NULL where
-- there is none or the source has no times.
CREATE FUNCTION projections_internal._oldest_after(source regclass, positions bigint[]) RETURNS timestamptz[]
    LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s projections_internal.source;
BEGIN
    SELECT * INTO s FROM projections_internal.source x WHERE x.relation = source;
    IF s.time_column IS NULL THEN
        RETURN NULL;
    END IF;
    -- A time without a zone is in UTC.
    RETURN (SELECT r.times FROM projections_internal._rows_as_owner(s.relation, format(
        'SELECT ARRAY(SELECT (SELECT (e.%1$I%2$s)::timestamptz FROM %3$s WHERE %4$s > p.reached ORDER BY %4$s LIMIT 1)
                      FROM unnest($1) WITH ORDINALITY AS p(reached, place) ORDER BY p.place)',
        s.time_column,
        (SELECT CASE WHEN a.atttypid = 'timestamp'::regtype THEN ' AT TIME ZONE ''UTC''' END FROM pg_attribute a
         WHERE a.attrelid = s.relation AND a.attname = s.time_column),
        projections_internal._events_from(s), projections_internal._event_position(s)), positions)
            AS r(times timestamptz[]));
EXCEPTION WHEN OTHERS THEN -- what the owner's code raises: then the age of the checkpoint tells
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION projections_internal._oldest_after(regclass, bigint[]) IS
    'Internal: the times of a source''s first events after some positions.';

-- Change numbers are dense but for rolled back ones, so that first and last tell how many there are.
CREATE FUNCTION projections_internal._log_ends(changes regclass[], OUT first bigint, OUT last bigint, OUT lag bigint,
    OUT problem text, OUT remedy text)
    LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    log regclass;
    ends record;
BEGIN
    lag := 0;
    FOREACH log IN ARRAY changes LOOP
        SELECT r.* INTO ends FROM projections_internal._rows_as_owner(log,
            format('SELECT min(change), max(change) FROM %s',
            projections_internal._name(log))) AS r(first bigint, last bigint);
        first := least(first, ends.first);
        last := greatest(last, ends.last);
    END LOOP;
    lag := coalesce(last - first + 1, 0);
EXCEPTION WHEN OTHERS THEN
    lag := NULL;
    SELECT u.problem, u.remedy INTO problem, remedy FROM projections_internal._unreadable(log, SQLSTATE) u;
END
$$;
COMMENT ON FUNCTION projections_internal._log_ends(regclass[]) IS
'Internal: the first and the last change that wait in change logs, and how many there are; NULL where they cannot be '
    'read, and then why.';

CREATE FUNCTION projections_internal._threshold(name text) RETURNS bigint
    LANGUAGE sql STABLE
    RETURN pg_catalog.current_setting('pg_projections.' || name)::bigint;
COMMENT ON FUNCTION projections_internal._threshold(text) IS 'Internal: a threshold of health that is a number.';

-- The age of what waits longest, in words short enough for a message.
CREATE FUNCTION projections_internal._age(seconds double precision) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT
    RETURN CASE WHEN seconds < 1 THEN 'under 1 s'
                WHEN seconds < 120 THEN pg_catalog.format('%s s', pg_catalog.floor(seconds))
                WHEN seconds < 7200 THEN pg_catalog.format('%s min', pg_catalog.floor(seconds / 60))
                WHEN seconds < 172800 THEN pg_catalog.format('%s h', pg_catalog.floor(seconds / 3600))
                ELSE pg_catalog.format('%s days', pg_catalog.floor(seconds / 86400)) END;
COMMENT ON FUNCTION projections_internal._age(double precision) IS 'Internal: a duration in words.';

-- Who holds back the safe position of a source, as a sentence and as SQL that lets it go.
CREATE FUNCTION projections_internal._blocker_text(source regclass, with_query boolean, OUT message text, OUT hint text)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    b record;
BEGIN
    SELECT * INTO b FROM projections_internal._blocker(source);
    IF b.pid IS NULL AND b.gid IS NULL THEN
        RETURN;
    END IF;
    message := format('%s holds back what comes after its first event%s%s',
        coalesce('pid ' || b.pid, 'prepared transaction ' || quote_literal(b.gid)),
        ', for ' || projections_internal._age(extract(epoch FROM clock_timestamp() - b.since)::float8),
        CASE WHEN with_query THEN ': ' || left(regexp_replace(b.query, '\s+', ' ', 'g'), 60) END);
    hint := CASE WHEN b.pid IS NOT NULL THEN format('SELECT pg_terminate_backend(%s);',
        b.pid) ELSE format('ROLLBACK PREPARED %L;', b.gid) END;
END
$$;
COMMENT ON FUNCTION projections_internal._blocker_text(regclass, boolean) IS
    'Internal: who holds back the safe position of a source.';

-- Everything that health() is made of, one row for each projection. Sources are asked once each, whatever the number of
-- projections over them, and never counted.
CREATE FUNCTION projections_internal._health_facts(only_projection oid, viewer oid) RETURNS TABLE(
        relation regclass, kind text, mode text, owner oid, source regclass, events boolean, lag_events bigint,
            lag_seconds double precision,
        checkpoint bigint, head bigint, last_updated timestamptz, failures bigint, parked_events bigint,
            dead_letters bigint,
        paused_at timestamptz, paused_by text, pause_reason text, stale_since timestamptz, stale_reason text,
            building boolean, problem text, remedy text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH seen AS (
        SELECT p.*, c.relowner FROM projections_internal.projection p JOIN pg_class c ON c.oid = p.relation
        WHERE p.shadow_of IS NULL AND p.part_of IS NULL AND (only_projection IS NULL OR p.relation = only_projection)
          AND (pg_has_role(viewer, 'pg_monitor', 'USAGE') OR pg_has_role(viewer, c.relowner, 'USAGE'))
    ), heads AS MATERIALIZED (
        SELECT s.relation, h.head, h.problem, h.remedy
        FROM projections_internal.source s, LATERAL projections_internal._head(s.relation) h
        WHERE EXISTS (SELECT FROM seen WHERE seen.mode = 'async' AND seen.sources[1] = s.relation)
    ), failed AS (
        SELECT f.projection, count(*) AS failures, count(*) FILTER (WHERE f.is_dead_letter) AS dead
        FROM projections_internal._open_failures f GROUP BY f.projection
    ), parked AS (
        SELECT e.projection, count(*) AS events FROM projections_internal.parked_event e GROUP BY e.projection
    ), part AS MATERIALIZED (
        SELECT x.part_of::oid AS relation, sum(e.lag)::bigint AS lag, min(x.stale_since) AS stale_since,
            (array_agg(x.stale_reason ORDER BY x.stale_since) FILTER (WHERE x.stale_since IS NOT NULL))[1]
                AS stale_reason
        FROM projections_internal.projection x
        LEFT JOIN LATERAL projections_internal._log_ends(x.changes) e ON x.changes <> '{}'
        WHERE x.part_of IS NOT NULL AND (only_projection IS NULL OR x.part_of = only_projection) GROUP BY 1
    ), lags AS (
        SELECT p.*, r.lowest AS checkpoint, r.checkpoint_at,
               CASE WHEN p.changes <> '{}' THEN coalesce(log.last, r.lowest) ELSE heads.head END AS head,
               CASE WHEN p.changes <> '{}' THEN log.lag + coalesce(part.lag, 0)
                    WHEN p.mode = 'async' AND heads.problem IS NOT NULL THEN NULL
                    WHEN p.mode = 'async' THEN greatest(heads.head - r.lowest, 0) ELSE 0 END AS lag,
               coalesce(lost.problem, log.problem, heads.problem) AS problem,
                   coalesce(lost.remedy, log.remedy, heads.remedy) AS remedy
        FROM seen p
        LEFT JOIN projections_internal._reached r ON r.projection = p.relation
        LEFT JOIN heads ON p.mode = 'async' AND p.changes = '{}' AND heads.relation = p.sources[1]
        LEFT JOIN LATERAL projections_internal._log_ends(p.changes) AS log ON p.changes <> '{}'
        LEFT JOIN part ON part.relation = p.relation::oid
        LEFT JOIN LATERAL (SELECT 'a checkpoint is lost, so that nothing is applied' AS problem,
            'SELECT * FROM projections.validate(); -- says what mends it' AS remedy) AS lost
            ON NOT p.building AND r.slots < r.declared
    ), oldest AS MATERIALIZED (
        SELECT g.source, u.checkpoint, u.at
        FROM (SELECT lags.sources[1]::oid AS source, array_agg(DISTINCT lags.checkpoint) AS checkpoints
              FROM lags WHERE lags.mode = 'async' AND lags.changes = '{}' AND lags.lag > 0 GROUP BY 1) g,
             LATERAL unnest(g.checkpoints, projections_internal._oldest_after(g.source, g.checkpoints))
                 AS u(checkpoint, at)
    )
    SELECT l.relation, l.kind, l.mode, l.relowner, l.sources[1], l.mode = 'async' AND l.changes = '{}', l.lag,
           -- A source without times tells only since when its checkpoint stands still.
           CASE WHEN l.lag > 0 THEN greatest(extract(epoch FROM clock_timestamp() - coalesce(o.at, l.checkpoint_at)),
               0)::float8 WHEN l.lag = 0 THEN 0 END,
           l.checkpoint, l.head, l.checkpoint_at,
           coalesce(f.failures, 0), coalesce(k.events, 0), coalesce(f.dead, 0),
           l.paused_at, l.paused_by, l.pause_reason, coalesce(l.stale_since, q.stale_since),
           coalesce(l.stale_reason, q.stale_reason), l.building, l.problem, l.remedy
    FROM lags l
    LEFT JOIN part q ON q.relation = l.relation::oid
    LEFT JOIN oldest o ON l.mode = 'async' AND l.changes = '{}' AND o.source = l.sources[1]::oid
        AND o.checkpoint = l.checkpoint
    LEFT JOIN failed f ON f.projection = l.relation LEFT JOIN parked k ON k.projection = l.relation
$$;
COMMENT ON FUNCTION projections_internal._health_facts(oid, oid) IS
    'Internal: what the health of the projections that a role may look at is made of.';

CREATE FUNCTION projections_internal._severity(status text) RETURNS integer
    LANGUAGE sql IMMUTABLE
    RETURN pg_catalog.array_position(
        '{offline,stale,critical,degraded,building,rebuilding,paused,standby,healthy}'::text[], status);
COMMENT ON FUNCTION projections_internal._severity(text) IS 'Internal: the rank of a status, worst first.';

CREATE FUNCTION projections_internal._health(only_projection oid, viewer oid) RETURNS TABLE(
        projection text, kind text, mode text, status text, lag_events bigint, lag_seconds double precision,
            checkpoint bigint, head bigint,
        last_updated timestamptz, failures bigint, parked_events bigint, dead_letters bigint, phase text, message text,
            hint text)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    standby boolean := pg_is_in_recovery();
    workers boolean; -- asked for when something lags
    -- Without workers by choice, somebody calls catch_up() from time to time: then lag tells, and nothing else.
    by_choice boolean := current_setting('shared_preload_libraries') !~ 'pg_projections'
        OR current_setting('pg_projections.workers') = '0';
    lag_degraded double precision := extract(epoch FROM current_setting('pg_projections.lag_degraded')::interval);
    lag_critical double precision := extract(epoch FROM current_setting('pg_projections.lag_critical')::interval);
    events_degraded bigint := projections_internal._threshold('lag_events_degraded');
    events_critical bigint := projections_internal._threshold('lag_events_critical');
    failures_degraded bigint := projections_internal._threshold('failures_degraded');
    failures_critical bigint := projections_internal._threshold('failures_critical');
    failures_offline bigint := projections_internal._threshold('failures_offline');
    queries boolean := pg_has_role(viewer, 'pg_read_all_stats', 'USAGE'); -- who may see other sessions' queries
    blockers jsonb := '{}';
    blocker record;
    -- Batches that failed as a whole; what an error says is for those who may see the data.
    broken jsonb := (SELECT coalesce(jsonb_object_agg(coalesce((SELECT x.part_of
            FROM projections_internal.projection x WHERE x.relation = w.projection), w.projection)::oid,
        format('applying fails since %s: %s', to_char(w.since, 'HH24:MI:SS'),
                                CASE WHEN pg_has_role(viewer, c.relowner, 'USAGE')
                                    OR pg_has_role(viewer, 'pg_read_all_data', 'USAGE')
                                     THEN w.message ELSE 'SQLSTATE ' || w.sqlstate END)), '{}')
                     FROM projections_internal._worker_problems() w JOIN pg_class c ON c.oid = w.projection);
    f record;
    expected boolean; -- to advance by itself
    problem text[]; -- of workers
    rebuilds jsonb := (SELECT coalesce(jsonb_object_agg(r.projection, to_jsonb(r)), '{}')
        FROM projections_internal._running_rebuilds() AS r);
    rebuild jsonb;
BEGIN
    FOR f IN SELECT * FROM projections_internal._health_facts(only_projection, viewer) LOOP
        projection := projections_internal._name(f.relation);
        kind := f.kind; mode := f.mode; lag_events := f.lag_events; lag_seconds := f.lag_seconds;
        checkpoint := f.checkpoint; head := f.head; last_updated := f.last_updated;
        failures := f.failures; parked_events := f.parked_events; dead_letters := f.dead_letters;
        message := NULL; hint := NULL;
        rebuild := rebuilds -> f.relation::oid::text;
        phase := rebuild ->> 'phase';
        expected := f.mode = 'async' AND f.paused_at IS NULL AND NOT standby AND NOT f.building AND rebuild IS NULL
            AND f.lag_events > 0;
        IF expected AND workers IS NULL THEN
            workers := projections_internal._workers_available();
        END IF;

        status := CASE
            WHEN f.failures >= failures_offline
                OR expected AND NOT workers AND (NOT by_choice OR f.lag_seconds > lag_degraded
                    OR f.lag_events > events_degraded) THEN 'offline'
            WHEN f.stale_since IS NOT NULL THEN 'stale'
            WHEN f.failures >= failures_critical OR expected
                AND (f.lag_seconds > lag_critical OR f.lag_events > events_critical) THEN 'critical'
            WHEN f.failures >= failures_degraded OR f.problem IS NOT NULL OR broken ? f.relation::oid::text
                AND f.paused_at IS NULL
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
        IF f.problem IS NOT NULL THEN
            message := concat_ws('; ', message, f.problem);
            hint := coalesce(hint, f.remedy);
        END IF;
        IF f.failures > 0 THEN
            message := concat_ws('; ', message, format('%s failed '
                '%s%s%s', f.failures, CASE f.failures WHEN 1 THEN 'event' ELSE 'events' END,
                CASE WHEN f.dead_letters > 0 THEN format(', %s without retries left', f.dead_letters) END,
                CASE WHEN f.parked_events > 0 THEN format(', %s parked behind', f.parked_events) END));
            hint := coalesce(hint, format('SELECT id, position, key, error FROM projections.failures WHERE projection '
                '= %L AND resolved_at IS NULL; '
                                          'SELECT projections.retry_all(%1$L);', projection));
        END IF;
        IF rebuild IS NOT NULL THEN
            message := concat_ws('; ', message, format('%s by %s (pid %s) since %s: %s', rebuild ->> 'action',
                rebuild ->> 'started_by', rebuild ->> 'pid',
                                                       to_char((rebuild ->> 'started_at')::timestamptz,
                                                           'YYYY-MM-DD HH24:MI:SS'), phase));
        ELSIF f.building AND NOT standby THEN
            IF EXISTS (SELECT FROM projections_internal.rebuild_request q WHERE q.projection = f.relation) THEN
                phase := 'waiting';
                message := concat_ws('; ', message, 'waits to be filled in the background');
            ELSE
                message := concat_ws('; ', message, 'not filled yet, and nobody is at it');
                hint := coalesce(hint, format('CALL projections.rebuild(%L);', projection));
            END IF;
        END IF;
        IF f.paused_at IS NOT NULL THEN
            message := concat_ws('; ', message, format('paused by %s at %s%s', f.paused_by,
                to_char(f.paused_at, 'YYYY-MM-DD HH24:MI:SS'), ': ' || f.pause_reason));
            hint := coalesce(hint, format('SELECT projections.resume(%L);', projection));
        ELSIF expected AND (status <> 'healthy' OR f.lag_seconds >= 1) THEN -- an event on its way is nothing to tell
            message := concat_ws('; ', message, format('%s %s behind for %s', f.lag_events,
                CASE f.lag_events WHEN 1 THEN 'position' ELSE 'positions' END,
                                                       projections_internal._age(f.lag_seconds)));
            IF f.events AND f.lag_seconds >= 1 THEN
                -- Each source is asked once.
                IF NOT blockers ? f.source::oid::text THEN
                    blockers := blockers || jsonb_build_object(f.source::oid,
                        (SELECT to_jsonb(b) FROM projections_internal._blocker_text(f.source, queries) AS b));
                END IF;
                SELECT b.message, b.hint INTO blocker
                    FROM jsonb_to_record(blockers -> f.source::oid::text) AS b(message text, hint text);
                message := concat_ws('; ', message, blocker.message);
                hint := coalesce(hint, blocker.hint);
            END IF;
            IF NOT workers THEN
                -- What is the matter; then what to do about it, which is SQL or a sentence.
                problem := regexp_match(projections_internal._worker_problem(), '^(.*?)\.(?: (.*))?$');
                message := concat_ws('; ', problem[1], message);
                hint := coalesce(hint, CASE WHEN problem[2] LIKE '%;' THEN problem[2] ELSE format('SELECT '
                    'projections.catch_up(%L); -- ', projection) || problem[2] END);
            END IF;
            hint := coalesce(hint, format('SELECT projections.catch_up(%L);', projection));
        END IF;
        -- also without a lag: positions may have started again
        IF broken ? f.relation::oid::text AND f.paused_at IS NULL THEN
            message := concat_ws('; ', broken ->> f.relation::oid::text, message);
            hint := coalesce(hint, CASE f.mode WHEN 'inline' THEN 'SELECT * FROM projections.validate(); -- the next '
                'write of its source tries again'
                                   ELSE format('SELECT projections.catch_up(%L); -- raises what is wrong',
                                       projection) END);
        END IF;
        IF message IS NULL THEN
            message := (SELECT format('all rows are read again for each change: %s times so far, %s ms each',
                              r.refreshes, round((1000 * r.seconds / greatest(r.refreshes, 1))::numeric, 1))
                        FROM projections_internal.projection p, projections_internal._refreshes(p.relation) r
                        WHERE p.relation = f.relation AND p.options ? 'fallback');
        END IF;
        RETURN NEXT;
    END LOOP;
END
$$;
COMMENT ON FUNCTION projections_internal._health(oid, oid) IS 'Internal: projections.health() for a role.';

CREATE FUNCTION projections.health(name text DEFAULT NULL) RETURNS TABLE(
        projection text, kind text, mode text, status text, lag_events bigint, lag_seconds double precision,
            checkpoint bigint, head bigint,
        last_updated timestamptz, failures bigint, parked_events bigint, dead_letters bigint, phase text, message text,
            hint text)
    LANGUAGE c ROWS 100 AS 'MODULE_PATHNAME', 'projections_health';
COMMENT ON FUNCTION projections.health(text) IS
'How projections are, one row each; members of pg_monitor see all, others those that they own. name: only this one;
members of pg_monitor need no right on the schema that it names.
status, worst first: offline (50 or more failed events, or no worker though events wait; where there are none by
choice, once it lags), stale (wrong until repaired), critical (10 or more failed events, over 60 s or 10,000 positions
behind), degraded (1 or more, over 10 s or 1,000 behind), building, rebuilding, paused, standby (a read-only replica,
where lag is not its own), healthy; the numbers are settings. lag_events: head minus the lowest checkpoint, in
positions, so gaps count; of a change log, the changes in it. lag_seconds: the age of the oldest event that is neither
applied nor parked, by the source''s time column; without one, the age of the checkpoint. Both, and head, are NULL
where the owner of the source may not read it (status is degraded then). message: what is the matter, with who holds
back the safe position. hint: SQL to paste.
Errors: 42P01; 42809 not a projection; 42501 neither owner nor member of pg_monitor.
Example: SELECT projection, status, message, hint FROM projections.health();';

CREATE FUNCTION projections.health_json() RETURNS jsonb
    LANGUAGE sql
BEGIN ATOMIC
    SELECT pg_catalog.jsonb_build_object(
               'status', CASE WHEN pg_catalog.bool_or(s.rank <= 3) THEN 'Unhealthy'
                   WHEN pg_catalog.bool_or(s.rank = 4) THEN 'Degraded' ELSE 'Healthy' END,
               'projectionStatus', COALESCE(pg_catalog.jsonb_object_agg(h.projection, pg_catalog.jsonb_build_object(
                   'lastUpdated', h.last_updated, 'lagSeconds', pg_catalog.round(h.lag_seconds::numeric, 3),
                   'status', CASE WHEN s.rank <= 3 THEN 'Unhealthy' WHEN s.rank = 4 THEN 'Degraded' ELSE 'Healthy' END))
                   FILTER (WHERE h.projection IS NOT NULL), '{}'))
    FROM projections.health() AS h, LATERAL (SELECT projections_internal._severity(h.status) AS rank) s;
END;
COMMENT ON FUNCTION projections.health_json() IS
'The health of the database''s projections for a health endpoint: {"status": …, "projectionStatus": {name:
{"lastUpdated", "lagSeconds", "status"}}}. Unhealthy: offline, stale or critical; Degraded: degraded; Healthy:
everything else, a deliberate pause included. lastUpdated: the last checkpoint, null for an inline projection. Members
of pg_monitor may call it; others need EXECUTE and then see the projections that they own.
Example: SELECT projections.health_json();';

CREATE FUNCTION projections.healthy() RETURNS boolean
    LANGUAGE sql
BEGIN ATOMIC
    SELECT NOT EXISTS (SELECT FROM projections.health() AS h WHERE projections_internal._severity(h.status) <= 4);
END;
COMMENT ON FUNCTION projections.healthy() IS
'Whether no projection is offline, stale, critical or degraded. Members of pg_monitor may call it; others need EXECUTE
and then ask for the projections that they own.
Example: SELECT projections.healthy();';

-- Breaks a text into lines at blanks; a longer word stays whole.
CREATE FUNCTION projections_internal._wrap(value text, width integer) RETURNS text
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
COMMENT ON FUNCTION projections_internal._wrap(text, integer) IS 'Internal: breaks a text into lines.';

-- psql puts a blank on either side of a column and a bar between two: 14 characters. Messages get what the others leave
-- of 100.
CREATE VIEW projections.status AS
SELECT CASE WHEN pg_catalog.length(h.projection) > 40 THEN pg_catalog.left(h.projection, 37)
    || '...' ELSE h.projection END AS projection,
       h.status, h.lag_events AS lag, h.failures,
       projections_internal._wrap(h.message, (100 - 14
           - LEAST(GREATEST(10, pg_catalog.max(pg_catalog.length(h.projection)) OVER ()), 40)
           - GREATEST(6, pg_catalog.max(pg_catalog.length(h.status)) OVER ())
           - GREATEST(3, pg_catalog.max(pg_catalog.length(h.lag_events::text)) OVER ())
           - GREATEST(8, pg_catalog.max(pg_catalog.length(h.failures::text)) OVER ()))::integer) AS message
FROM projections.health() AS h
ORDER BY projections_internal._severity(h.status), h.failures DESC, h.lag_events DESC, 1;
COMMENT ON VIEW projections.status IS
'The page to read first: every projection and its state, worst first, at most 100 columns wide in psql. lag is in '
    'positions. projections.health() tells more, and SQL to paste.';

GRANT SELECT ON projections.status TO PUBLIC;
REVOKE EXECUTE ON FUNCTION projections_internal._unreadable(regclass, text),
    projections_internal._event_position(projections_internal.source),
    projections_internal._events_from(projections_internal.source),
                           projections_internal._threshold(text), projections_internal._head(regclass),
                               projections_internal._oldest_after(regclass, bigint[]),
                           projections_internal._log_ends(regclass[]), projections_internal._blocker_text(regclass,
                               boolean),
                               projections_internal._health_facts(oid, oid),
                           projections_internal._health(oid, oid), projections.health_json(), projections.healthy()
                               FROM PUBLIC;
GRANT EXECUTE ON FUNCTION projections.health_json(), projections.healthy() TO pg_monitor;
