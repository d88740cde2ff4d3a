-- Throughput, what runs now, what is fought over, and metrics for monitoring.

-- ---------------------------------------------------------------------------------------------------------- throughput

-- Minutes that are over. What is not written yet is in shared memory (src/shared/throughput.hpp). Not in a dump: it is
-- of this server.
CREATE TABLE projections_internal.throughput_minute (
    minute     timestamptz,
    projection regclass,
    events     bigint NOT NULL,
    errors     bigint NOT NULL,
    batches    bigint NOT NULL,
    seconds    double precision NOT NULL,
    buckets    integer[] NOT NULL, -- a histogram of the batches' times; subscripts are the buckets' numbers
    PRIMARY KEY (minute, projection)
);
COMMENT ON TABLE projections_internal.throughput_minute IS
    'Throughput by the minute; read projections.throughput instead.';

-- Counters that never go back, whatever is deleted above.
CREATE TABLE projections_internal.throughput_total (
    projection regclass PRIMARY KEY,
    errors     bigint NOT NULL,
    batches    bigint NOT NULL,
    seconds    double precision NOT NULL
) WITH (fillfactor = 50);
COMMENT ON TABLE projections_internal.throughput_total IS
    'Batches and their time since the projection was made; read projections.metrics() instead.';

CREATE TABLE projections_internal.counter (
    name  text PRIMARY KEY,
    value bigint NOT NULL
) WITH (fillfactor = 50);
COMMENT ON TABLE projections_internal.counter IS 'Counters of the database; read projections.metrics() instead.';

CREATE FUNCTION projections_internal._add_buckets(a integer[], b integer[]) RETURNS integer[]
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'projections_add_buckets';
COMMENT ON FUNCTION projections_internal._add_buckets(integer[], integer[]) IS 'Internal: the sum of two histograms.';
CREATE FUNCTION projections_internal._all_buckets(buckets integer[]) RETURNS integer[]
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'projections_all_buckets';
COMMENT ON FUNCTION projections_internal._all_buckets(integer[]) IS
    'Internal: a histogram with its empty buckets, so that array_agg() takes several.';
CREATE FUNCTION projections_internal._quantile(buckets integer[], fraction double precision) RETURNS double precision
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'projections_quantile';
COMMENT ON FUNCTION projections_internal._quantile(integer[], double precision) IS
    'Internal: the time that so large a share of '
    'the batches took at most, in milliseconds; of one histogram, or of the sum of several.';

CREATE FUNCTION projections_internal._throughput(OUT projection regclass, OUT minute timestamptz, OUT events bigint,
    OUT errors bigint, OUT batches bigint,
                                        OUT seconds double precision, OUT buckets integer[]) RETURNS SETOF record
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_throughput';
COMMENT ON FUNCTION projections_internal._throughput() IS
    'Internal: the throughput of this database that no worker has written yet.';

CREATE FUNCTION projections_internal._refreshes(relation regclass, OUT refreshes bigint, OUT seconds double precision)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(sum(t.batches), 0)::bigint, coalesce(sum(t.seconds), 0)
    FROM (SELECT n.batches, n.seconds FROM projections_internal.throughput_total n
              WHERE n.projection = _refreshes.relation
          UNION ALL SELECT u.batches, u.seconds FROM projections_internal._throughput() u
              WHERE u.projection = _refreshes.relation) t
$$;
COMMENT ON FUNCTION projections_internal._refreshes(regclass) IS
    'Internal: how often a projection with options.fallback was read again as a whole, and how long that took.';

CREATE FUNCTION projections_internal._add_throughput(projection regclass, minute timestamptz, events bigint,
    errors bigint,
    batches bigint,
                                            seconds double precision, buckets integer[]) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    IF NOT EXISTS (SELECT FROM projections_internal.projection p WHERE p.relation = projection) THEN
        RETURN; -- dropped meanwhile
    END IF;
    INSERT INTO projections_internal.throughput_minute
        AS t VALUES (minute, projection, events, errors, batches, seconds,
        buckets)
    ON CONFLICT ON CONSTRAINT throughput_minute_pkey DO UPDATE
    SET events = t.events + excluded.events, errors = t.errors + excluded.errors,
        batches = t.batches + excluded.batches,
        seconds = t.seconds + excluded.seconds, buckets = projections_internal._add_buckets(t.buckets,
            excluded.buckets);
    INSERT INTO projections_internal.throughput_total AS t VALUES (projection, errors, batches, seconds)
    ON CONFLICT ON CONSTRAINT throughput_total_pkey DO UPDATE
    SET errors = t.errors + excluded.errors, batches = t.batches + excluded.batches,
        seconds = t.seconds + excluded.seconds;
END
$$;
COMMENT ON FUNCTION projections_internal._add_throughput(regclass, timestamptz, bigint, bigint, bigint,
    double precision,
    integer[]) IS
'Internal: adds what a projection''s batches of a minute did.';

CREATE FUNCTION projections_internal._expire_throughput() RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    minutes interval := current_setting('pg_projections.throughput_retention');
    history interval := current_setting('pg_projections.history_retention');
    oldest timestamptz := clock_timestamp() - minutes;
BEGIN
    IF minutes > interval '0' THEN
        DELETE FROM projections_internal.throughput_minute t WHERE t.minute < oldest;
    END IF;
    DELETE FROM projections_internal.throughput_total t WHERE NOT EXISTS (SELECT FROM projections_internal.projection p
        WHERE p.relation = t.projection);
    IF history > interval '0' THEN
        DELETE FROM projections_internal.conflict c WHERE c.last_at < clock_timestamp() - history;
    END IF;
    -- Whoever appends chooses the names of streams, and as many as he likes.
    DELETE FROM projections_internal.conflict c WHERE c.stream IN (SELECT k.stream FROM projections_internal.conflict k
        ORDER BY k.last_at DESC OFFSET 10000);
END
$$;
COMMENT ON FUNCTION projections_internal._expire_throughput() IS
'Internal: deletes minutes older than pg_projections.throughput_retention, and streams whose last conflict is older '
    'than pg_projections.history_retention.';

CREATE VIEW projections.throughput WITH (security_barrier) AS
SELECT projections_internal._name(p.relation) AS projection,
       t.minute,
       pg_catalog.sum(t.events)::bigint AS events,
       pg_catalog.sum(t.errors)::bigint AS errors,
       pg_catalog.sum(t.batches)::bigint AS batches,
       projections_internal._quantile(pg_catalog.array_agg(projections_internal._all_buckets(t.buckets)), 0.5) AS p50,
       projections_internal._quantile(pg_catalog.array_agg(projections_internal._all_buckets(t.buckets)), 0.95) AS p95,
       projections_internal._quantile(pg_catalog.array_agg(projections_internal._all_buckets(t.buckets)), 0.99) AS p99
FROM (SELECT m.projection, m.minute, m.events, m.errors, m.batches, m.buckets
    FROM projections_internal.throughput_minute m
      UNION ALL
      SELECT s.projection, s.minute, s.events, s.errors, s.batches, s.buckets FROM projections_internal._throughput()
          AS s) t
JOIN projections_internal.projection p ON p.relation = t.projection AND p.shadow_of IS NULL AND p.part_of IS NULL
JOIN pg_catalog.pg_class c ON c.oid = p.relation
WHERE pg_catalog.pg_has_role('pg_monitor', 'USAGE') OR pg_catalog.pg_has_role(c.relowner, 'USAGE')
GROUP BY p.relation, t.minute;
COMMENT ON VIEW projections.throughput IS
'What was applied to async projections, by the minute: events, errors (events that failed, and batches that were rolled
back as a whole), batches, and of the time that a batch took, its commit included, median, 95th and 99th percentile in
milliseconds (from a histogram: exact to about a fifth). Kept for pg_projections.throughput_retention; a crash loses
the last minute or two. Without workers, catch_up() counts for itself, in its transaction. Members of pg_monitor see
all, others the projections that they own.';

-- ----------------------------------------------------------------------------------------------------------- conflicts

CREATE FUNCTION projections_internal._add_conflicts(stream text, conflicts bigint, last_at timestamptz) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    INSERT INTO projections_internal.conflict AS c (stream, conflicts, last_at, heat)
        VALUES (stream, conflicts, last_at, conflicts)
    ON CONFLICT ON CONSTRAINT conflict_pkey DO UPDATE
    SET conflicts = c.conflicts + excluded.conflicts, last_at = greatest(c.last_at, excluded.last_at),
        heat = excluded.heat + projections_internal._cooled(c.heat, excluded.last_at - c.last_at);
    INSERT INTO projections_internal.counter AS n VALUES ('conflicts', conflicts)
    ON CONFLICT ON CONSTRAINT counter_pkey DO UPDATE SET value = n.value + excluded.value;
END
$$;
COMMENT ON FUNCTION projections_internal._add_conflicts(text, bigint, timestamptz) IS
    'Internal: counts conflicts of a stream.';

CREATE FUNCTION projections_internal._cooled(heat double precision, passed interval) RETURNS double precision
    LANGUAGE sql IMMUTABLE STRICT
    -- Beyond 600 half-lives power() would underflow, which is an error.
    RETURN heat * pg_catalog.power(0.5::double precision,
        LEAST(GREATEST(EXTRACT(epoch FROM passed)::double precision / 600, 0), 600));
COMMENT ON FUNCTION projections_internal._cooled(double precision, interval) IS
    'Internal: what is left of a count that is halved every ten minutes.';

-- A steady rate of one a minute heats up to 10 / ln 2.
CREATE VIEW projections.hot_keys WITH (security_barrier) AS
SELECT 'stream' AS kind, NULL::text AS projection, c.stream AS key, c.conflicts AS occurrences,
       pg_catalog.round((projections_internal._cooled(c.heat,
           pg_catalog.clock_timestamp() - c.last_at) * pg_catalog.ln(2::double precision) / 10)::numeric,
           2)::double precision AS per_minute,
       c.last_at
FROM projections_internal.conflict c
WHERE pg_catalog.pg_has_role('pg_monitor', 'USAGE')
UNION ALL
-- a query's events have none
SELECT 'key', projections_internal._name(f.projection), NULLIF(pg_catalog.array_to_string(f.keys, ', '), ''),
       pg_catalog.sum(1 + f.retry_count)::bigint,
       pg_catalog.round(pg_catalog.count(*) FILTER (WHERE f.failed_at > pg_catalog.clock_timestamp() - interval '10 '
           'min') / 10.0, 2)::double precision,
       pg_catalog.max(f.failed_at)
FROM projections_internal._open_failures f
JOIN pg_catalog.pg_class c ON c.oid = f.projection
WHERE (pg_catalog.pg_has_role(c.relowner, 'USAGE') OR pg_catalog.pg_has_role('pg_read_all_data', 'USAGE'))
  AND NOT EXISTS (SELECT FROM projections_internal.projection p WHERE p.relation = f.projection
      AND p.shadow_of IS NOT NULL)
GROUP BY f.projection, f.keys
ORDER BY per_minute DESC, occurrences DESC, key;
COMMENT ON VIEW projections.hot_keys IS
'What is fought over or fails, hottest first. kind stream: a stream whose appends expected another version (PJ001),
shown to members of pg_monitor; kind key: a key of an async projection with events that failed and are open, shown to
the projection''s owner and pg_read_all_data. occurrences: conflicts, or attempts that failed; per_minute:
lately, conflicts as an average that halves every ten minutes, failures over the last ten minutes; last_at: the latest.
What waits for a row''s lock is not counted by PostgreSQL; pg_locks and pg_blocking_pids() show it while it lasts.';

-- ------------------------------------------------------------------------------------------------------------ rebuilds

-- Who may not see when a session began is told by its pid alone.
CREATE FUNCTION projections_internal._lives(pid integer, backend_start timestamptz) RETURNS boolean
    LANGUAGE sql STABLE STRICT
    RETURN EXISTS (SELECT FROM pg_catalog.pg_stat_get_activity(pid) AS a
        WHERE COALESCE(a.backend_start = _lives.backend_start, true));
COMMENT ON FUNCTION projections_internal._lives(integer, timestamptz) IS
    'Internal: whether a process still runs that began then.';

-- A phase that is one transaction tells how far it is as COPY does (src/rebuild/copy.cpp); what it writes into its row
-- shows at its end.
CREATE FUNCTION projections_internal._rebuild_done(pid integer, phase text, done bigint) RETURNS bigint
    LANGUAGE sql STABLE
    RETURN CASE WHEN phase = 'copying' THEN GREATEST(done,
        (SELECT c.tuples_processed FROM pg_catalog.pg_stat_progress_copy c
        WHERE c.pid = _rebuild_done.pid)) ELSE done END;
COMMENT ON FUNCTION projections_internal._rebuild_done(integer, text, bigint) IS
    'Internal: how far a running rebuild''s phase is.';

CREATE FUNCTION projections_internal._pace(done bigint, total bigint, since timestamptz, OUT percent numeric,
    OUT rate double precision, OUT eta timestamptz)
    LANGUAGE sql STABLE
    RETURN (SELECT ROW(CASE WHEN total > 0 THEN pg_catalog.round(100.0 * LEAST(done, total) / total, 1) END,
                       r.rate,
                       CASE WHEN r.rate > 0 AND total >= done THEN pg_catalog.clock_timestamp()
                           + pg_catalog.make_interval(secs => LEAST((total - done) / r.rate, 1e9)) END)
            FROM (SELECT done / NULLIF(EXTRACT(epoch FROM pg_catalog.clock_timestamp() - since)::double precision,
                0) AS rate) r);
COMMENT ON FUNCTION projections_internal._pace(bigint, bigint, timestamptz) IS
    'Internal: how far something is, how fast, and when it will be done.';

CREATE VIEW projections.rebuilds WITH (security_barrier) AS
SELECT r.id,
       COALESCE(projections_internal._name(r.projection), r.projection::text) AS projection,
       r.action, r.finish, r.phase, s.done, r.total,
       CASE WHEN s.running THEN pace.percent END AS percent,
       CASE WHEN s.running THEN pace.rate END AS rate,
       CASE WHEN s.running THEN pace.eta END AS eta,
       r.rows, r.started_at, r.phase_at, r.ended_at,
       r.pid AS holder_pid, r.started_by AS holder_user, s.running AS holder_alive,
       CASE WHEN r.ended_at IS NULL AND NOT s.running THEN 'died' ELSE r.outcome END AS outcome,
       CASE WHEN pg_catalog.pg_has_role('pg_read_all_data', 'USAGE')
           OR pg_catalog.pg_has_role(c.relowner, 'USAGE') THEN r.error END AS error
FROM projections_internal.rebuild r
LEFT JOIN pg_catalog.pg_class c ON c.oid = r.projection
CROSS JOIN LATERAL (SELECT l.running, CASE WHEN l.running THEN projections_internal._rebuild_done(r.pid, r.phase,
    r.done) ELSE r.done END AS done
                    FROM (SELECT r.ended_at IS NULL AND projections_internal._lives(r.pid, r.backend_start)
                        AS running) l) s
CROSS JOIN LATERAL projections_internal._pace(s.done, r.total, r.phase_at) AS pace
ORDER BY r.id DESC;
COMMENT ON VIEW projections.rebuilds IS
'Rebuilds, fills and changed definitions, the latest first: the phase, done and total of it and, while it runs,
percent, rate per second and eta (when the phase will be done at that rate); rows written in the end. holder_pid,
holder_user, holder_alive: who runs it, and whether that session still lives. outcome: done, failed, cancelled, or died
(its holder is gone); null while it runs. error shows to the projection''s owner and pg_read_all_data.';

CREATE FUNCTION projections_internal._running_rebuilds()
    RETURNS TABLE(projection oid, action text, phase text, pid integer,
    started_by text, started_at timestamptz)
    LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT r.projection::oid, r.action,
           r.phase || COALESCE(' ' || pg_catalog.floor(100.0 * LEAST(projections_internal._rebuild_done(r.pid, r.phase,
               r.done),
               r.total) / NULLIF(r.total, 0)) || ' %', ''),
           r.pid, r.started_by, r.started_at
    FROM projections_internal.rebuild r
    WHERE r.ended_at IS NULL AND projections_internal._lives(r.pid, r.backend_start);
END;
COMMENT ON FUNCTION projections_internal._running_rebuilds() IS
    'Internal: rebuilds whose holder lives, with the phase as health() shows it.';

-- ------------------------------------------------------------------------------------------------------------ activity

CREATE FUNCTION projections_internal._sessions(OUT pid integer, OUT projection oid, OUT since timestamptz)
    RETURNS SETOF record
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_sessions';
COMMENT ON FUNCTION projections_internal._sessions() IS 'Internal: sessions of this database that apply by hand.';

CREATE VIEW projections.activity AS
SELECT a.pid, a.kind, projections_internal._name(a.projection::regclass) AS projection, a.slot,
       COALESCE(a.for_whom, pg_catalog.pg_get_userbyid(c.relowner)) AS for_whom,
       a.since, a.phase, a.done, a.total, pace.percent, pace.rate, pace.eta, a.query
FROM (SELECT w.pid, 'worker' AS kind, w.projection, w.slot, NULL::name AS for_whom, w.since,
             CASE w.state WHEN 'stuck' THEN 'stuck' ELSE 'applying' END AS phase, NULL::bigint AS done,
                 NULL::bigint AS total, NULL::timestamptz AS phase_at, NULL::text AS query
      FROM projections_internal._workers() AS w
      WHERE w.projection IS NOT NULL AND w.database = (SELECT d.oid FROM pg_catalog.pg_database d
          WHERE d.datname = pg_catalog.current_database())
      UNION ALL
      SELECT s.pid, 'session', s.projection, NULL, b.usename, s.since, 'applying', NULL, NULL, NULL, b.query
      FROM projections_internal._sessions() AS s LEFT JOIN pg_catalog.pg_stat_activity b ON b.pid = s.pid
      UNION ALL
      SELECT r.pid, r.action, r.projection, NULL, r.started_by, r.started_at, r.phase,
          projections_internal._rebuild_done(r.pid, r.phase, r.done), r.total, r.phase_at, b.query
      FROM projections_internal.rebuild r LEFT JOIN pg_catalog.pg_stat_activity b ON b.pid = r.pid
      WHERE r.ended_at IS NULL AND projections_internal._lives(r.pid, r.backend_start)) a
LEFT JOIN projections_internal.projection p ON p.relation = a.projection
LEFT JOIN pg_catalog.pg_class c ON c.oid = a.projection
CROSS JOIN LATERAL projections_internal._pace(a.done, a.total, a.phase_at) AS pace
WHERE p.shadow_of IS NULL
ORDER BY a.since;
COMMENT ON VIEW projections.activity IS
'What runs now, the longest first. kind: worker (a batch), session (catch_up, replay or refresh_rows by hand, until its
transaction ends), rebuild, fill or alter. for_whom: the projection''s owner, for whom a worker works, or who called.
since: the begin of the batch, of the session''s work, or of the rebuild. phase, done, total, percent, rate (per
second) and eta as in projections.rebuilds. query: as pg_stat_activity shows it to you. Workers and sessions are seen
through shared_preload_libraries only; rebuilds always.';

-- ------------------------------------------------------------------------------------------------------------- metrics

-- Labels are made once for a projection, not once for each of its metrics; and all is one statement, as rows that are
-- handed from function to function take longer than to make. `check` takes too long to come with the others (validate()
-- compiles every definition).
CREATE FUNCTION projections_internal._metrics(about text) RETURNS TABLE(name text, labels jsonb, value double precision,
    type text, help text)
    LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    WITH unwritten AS MATERIALIZED (
        SELECT * FROM projections_internal._throughput()
    ), recent AS (
        SELECT t.projection, array_agg(projections_internal._all_buckets(t.buckets)) AS buckets
        FROM (SELECT m.projection, m.buckets FROM projections_internal.throughput_minute m
            WHERE m.minute > now() - interval '5 '
            'min'
              UNION ALL SELECT u.projection, u.buckets FROM unwritten u WHERE u.minute > now() - interval '5 min') t
        GROUP BY t.projection
    ), totals AS (
        SELECT t.projection, sum(t.errors) AS errors, sum(t.batches) AS batches, sum(t.seconds) AS seconds
        FROM (SELECT n.projection, n.errors, n.batches, n.seconds FROM projections_internal.throughput_total n
              UNION ALL SELECT u.projection, u.errors, u.batches, u.seconds FROM unwritten u) t
        GROUP BY t.projection
    ), projection AS MATERIALIZED (
        SELECT jsonb_build_object('database', current_database(), 'projection', h.projection) AS labels,
               h.*, p.mode = 'async' AS async, p.changes <> '{}' AS logged, p.building,
                   p.stale_since IS NOT NULL AS stale, p.paused_at IS NOT NULL AS paused,
               s.events, r.buckets, t.errors, t.batches, t.seconds, b.started_at,
               p.options ? 'fallback' AS refreshed
        FROM projections_internal._health(NULL, current_user::regrole) AS h
        JOIN projections_internal.projection p ON projections_internal._name(p.relation) = h.projection
            AND p.shadow_of IS NULL
        LEFT JOIN projections_internal._reached s ON s.projection = p.relation
        LEFT JOIN recent r ON r.projection = p.relation
        LEFT JOIN totals t ON t.projection = p.relation
        LEFT JOIN projections_internal._running_rebuilds() AS b ON b.projection = p.relation
    ), source AS MATERIALIZED (
        SELECT jsonb_build_object('database', current_database(), 'source', projections_internal._name(s.relation))
            AS labels,
               (SELECT h.head FROM projections_internal._head(s.relation) h) AS head,
               -- On a standby nobody draws.
               CASE WHEN NOT pg_is_in_recovery() THEN coalesce(extract(epoch FROM clock_timestamp() - b.since),
                   0) END AS held
        FROM projections_internal.source s JOIN pg_class c ON c.oid = s.relation LEFT JOIN
            LATERAL projections_internal._blocker(s.relation) AS b ON true
    ), database AS MATERIALIZED (
        SELECT jsonb_build_object('database', current_database()) AS labels,
               -- A database whose async projections are all paused needs no worker.
               (current_setting('shared_preload_libraries') ~ 'pg_projections'
                   AND current_setting('pg_projections.workers') <> '0' AND NOT pg_is_in_recovery()
                AND EXISTS (SELECT FROM projections_internal.projection p WHERE p.mode = 'async' AND p.paused_at IS NULL
                    AND p.shadow_of IS NULL))::int AS expected,
               w.running, w.stuck,
               -- As a table: the functions that tell it take a lock that holds back the safe position.
               (SELECT CASE WHEN q.is_called THEN q.last_value ELSE 0 END
                   FROM projections.events_position_seq q) AS appends,
               coalesce((SELECT n.value FROM projections_internal.counter n WHERE n.name = 'conflicts'), 0) AS conflicts
        FROM (SELECT count(*) AS running, count(*) FILTER (WHERE x.state = 'stuck') AS stuck
              FROM projections_internal._workers() AS x WHERE x.database = (SELECT d.oid FROM pg_database d
                  WHERE d.datname = current_database())) w
    ), checked AS MATERIALIZED (
        SELECT jsonb_build_object('database', current_database()) AS labels,
               count(*) FILTER (WHERE v.severity = 'ERROR') AS errors, count(*)
                   FILTER (WHERE v.severity = 'WARNING') AS warnings,
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
            (27, 'apply_seconds', '{"quantile": "0.5"}', projections_internal._quantile(f.buckets, 0.5) / 1000),
            (27, 'apply_seconds', '{"quantile": "0.95"}', projections_internal._quantile(f.buckets, 0.95) / 1000),
            (27, 'apply_seconds', '{"quantile": "0.99"}', projections_internal._quantile(f.buckets, 0.99) / 1000),
            (27, 'apply_seconds_sum', '{}', CASE WHEN f.async THEN coalesce(f.seconds, 0) END),
            (27, 'apply_seconds_count', '{}', CASE WHEN f.async THEN coalesce(f.batches, 0) END),
            (28, 'refreshes_total', '{}', CASE WHEN f.refreshed THEN coalesce(f.batches, 0) END),
            (29, 'refresh_seconds_total', '{}', CASE WHEN f.refreshed THEN coalesce(f.seconds, 0) END)
        ) AS m(place, name, more, value)
        WHERE coalesce(about, 'projection') = 'projection' AND m.value IS NOT NULL
        UNION ALL
        SELECT m.place, 'pg_projections_source_' || m.name, f.labels, m.value
        FROM source f, LATERAL (VALUES (31, 'positions_total', f.head::float8),
            (32, 'held_back_seconds', f.held)) AS m(place, name, value)
        WHERE coalesce(about, 'source') = 'source' AND m.value IS NOT NULL
        UNION ALL
        SELECT m.place, 'pg_projections_' || m.name, f.labels || m.more, m.value
        FROM database f, LATERAL (VALUES
            (1, 'version_info', (SELECT jsonb_build_object('library', v.library, 'sql', v.sql)
                FROM projections.version() AS v), 1::float8),
            (41, 'workers_expected', '{}', f.expected),
            (42, 'workers_running', '{}', f.running),
            (43, 'workers_stuck', '{}', f.stuck),
            (44, 'store_appends_total', '{}', f.appends),
            (45, 'store_conflicts_total', '{}', f.conflicts)
        ) AS m(place, name, more, value)
        WHERE coalesce(about, 'database') = 'database'
        UNION ALL
        SELECT m.place, 'pg_projections_check_' || m.name, f.labels, m.value
        FROM checked f, LATERAL (VALUES (51, 'errors', f.errors::float8), (52, 'warnings', f.warnings),
            (53, 'orphans', f.orphans)) AS m(place, name, value)
        WHERE about = 'check'
    )
    SELECT m.name, m.labels, m.value, d.type, d.help
    FROM sample m
    JOIN (VALUES
        (1, 'gauge', 'Always 1; the versions of the library and of the SQL objects.'),
        (11, 'gauge', '1 for the status that the projection has, as projections.health() tells it.'),
        (12, 'gauge', 'Positions between the head and the lowest checkpoint, gaps included; of a change log, its '
            'changes.'),
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
        (28, 'counter', 'How often all rows were read again, as options.fallback says.'),
        (29, 'counter', 'The time that this took.'),
        (31, 'counter', 'The last committed position of the source; its rate is the append rate, gaps included.'),
        (32, 'gauge', 'Age of the oldest transaction that has drawn a position and not ended: later events wait for '
            'it.'),
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
COMMENT ON FUNCTION projections_internal._metrics(text) IS 'Internal: projections.metrics().';

CREATE FUNCTION projections.metrics(about text DEFAULT NULL)
    RETURNS TABLE(name text, labels jsonb, value double precision, type text, help text)
    LANGUAGE c ROWS 1000 AS 'MODULE_PATHNAME', 'projections_metrics';
COMMENT ON FUNCTION projections.metrics(text) IS
'What a monitoring system wants to know, by Prometheus'' conventions: a row for each sample, those of a metric
together. about: projection, source or database, for those only; check, for what validate() and orphans() find, which
takes some milliseconds for each projection and is left out otherwise. labels: at least the database, and projection or
source. value: in base units (seconds), or a count. type: gauge, counter or summary. What a projection does not have
(the lag of an inline one) is left out. The same names come from monitoring/queries.yaml. For members of pg_monitor;
others need EXECUTE. Errors: 42501.
Example: SELECT labels ->> ''projection'' AS projection, value FROM projections.metrics() '
    'WHERE name = ''pg_projections_lag_seconds'';';

CREATE FUNCTION projections.metrics_text(about text DEFAULT NULL) RETURNS text
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_metrics_text';
COMMENT ON FUNCTION projections.metrics_text(text) IS
'projections.metrics(about) in Prometheus'' text format, to be served as it is or written to a file for
node_exporter''s textfile collector. For members of pg_monitor; others need EXECUTE. Errors: 42501.
Example: SELECT projections.metrics_text();';

GRANT SELECT ON projections.throughput, projections.hot_keys, projections.rebuilds, projections.activity TO PUBLIC;
REVOKE EXECUTE ON FUNCTION projections.metrics(text), projections.metrics_text(text),
    projections_internal._metrics(text), projections_internal._refreshes(regclass),
    projections_internal._running_rebuilds(), projections_internal._expire_throughput(),
        projections_internal._add_conflicts(text, bigint,
    timestamptz),
    projections_internal._add_throughput(regclass, timestamptz, bigint, bigint, bigint, double precision, integer[])
        FROM PUBLIC;
GRANT EXECUTE ON FUNCTION projections.metrics(text), projections.metrics_text(text) TO pg_monitor;
