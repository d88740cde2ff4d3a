-- Throughput, activity, rebuilds, hot keys and metrics: what they show, and to whom.
CREATE SCHEMA metrics;
SET search_path = metrics;
\set SHOW_CONTEXT never
SET client_min_messages = error;
CREATE ROLE regress_metrics_owner;
CREATE ROLE regress_metrics_monitor IN ROLE pg_monitor;
CREATE ROLE regress_metrics_other;
GRANT ALL ON SCHEMA metrics TO regress_metrics_owner;
SET ROLE regress_metrics_owner;
CREATE TABLE events (seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, stream text, item text, quantity int, at timestamptz DEFAULT now());
SELECT projections.register_source('events', 'seq', time_column => 'at');
SELECT projections.create('stock', 'SELECT item, sum(100 / quantity) AS quantity FROM events GROUP BY item', mode => 'async', options => '{"max_retries": 0}');
CREATE TABLE "odd ""name\" (key text PRIMARY KEY, n int);
CREATE FUNCTION fails(event events) RETURNS void LANGUAGE plpgsql AS $$ BEGIN IF event.quantity = 0 THEN RAISE 'no quantity'; END IF; END $$;
SELECT projections.create_handler('handled', 'events', 'fails(events)', ARRAY['"odd ""name\"'], partition_by => 'item', options => '{"max_retries": 0}');
SELECT projections.create('now', 'SELECT count(*) AS n FROM events');
RESET ROLE;

--
-- throughput: without workers, catch_up() counts
--
INSERT INTO events (item, quantity) SELECT 'a', 1 FROM generate_series(1, 1000);
INSERT INTO events (item, quantity) VALUES ('secret', 0), ('secret', 0);
BEGIN;
SELECT projections.catch_up('stock');
ROLLBACK;
SELECT * FROM projections.throughput;
SELECT projections.catch_up('stock');
SELECT projections.catch_up('handled');
INSERT INTO events (item, quantity) VALUES ('a', 1);
SELECT projections.catch_up('stock');
SELECT projection, sum(events) AS events, sum(errors) AS errors, sum(batches) AS batches, bool_and(p50 > 0 AND p50 <= p95 AND p95 <= p99) AS ordered,
       bool_and(minute = date_trunc('minute', minute) AND minute BETWEEN now() - interval '5 min' AND clock_timestamp()) AS lately
FROM projections.throughput GROUP BY 1 ORDER BY 1;
-- nothing applied is no batch
SELECT projections.catch_up() > 0 AS applied;
SELECT sum(batches) FROM projections.throughput WHERE projection = 'metrics.stock';

-- histograms: subscripts are the numbers of the buckets, of which two double the time
SELECT projections_internal._add_buckets('[3:4]={1,2}', '[4:6]={1,0,5}');
SELECT projections_internal._quantile('[1:1]={1}', 0), projections_internal._quantile('[1:1]={1}', 1), projections_internal._quantile('[3:4]={1,1}', 0.5), projections_internal._quantile('[3:4]={1,1}', 1);
SELECT projections_internal._quantile(array_agg(projections_internal._all_buckets(b)), 0.5) FROM (VALUES ('[3:3]={1}'::int[]), ('[5:5]={1}'), ('[4:4]={3}')) AS v(b);
SELECT projections_internal._quantile('{0}', 0.5), projections_internal._quantile('{}', 0.5), projections_internal._quantile(('[-5:60]={' || repeat('1,', 65) || '1}')::int[], 0.5) IS NOT NULL AS cut;

-- kept as long as the setting says; the totals go on
INSERT INTO projections_internal.throughput_minute VALUES (now() - interval '23 h', 'stock', 7, 0, 1, 1, '[4:4]={1}'), (now() - interval '25 h', 'stock', 7, 0, 1, 1, '[4:4]={1}');
SELECT projections_internal._expire_throughput();
SELECT count(*) FROM projections.throughput WHERE projection = 'metrics.stock' AND minute < now() - interval '1 h';

--
-- hot keys
--
INSERT INTO projections_internal.conflict VALUES ('order-1', 40, now(), 40 * 10 / ln(2) / 40), ('order-2', 100, now() - interval '1 h', 64 * 10 / ln(2));
SELECT kind, projection, key, occurrences, per_minute FROM projections.hot_keys ORDER BY kind, key, occurrences;
-- counted as a worker would
SELECT projections_internal._add_conflicts('order-1', 3, now() + interval '10 min');
SELECT stream, conflicts, round((heat * ln(2) / 10)::numeric, 4) AS heat FROM projections_internal.conflict WHERE stream = 'order-1';
SELECT value FROM projections_internal.counter WHERE name = 'conflicts';

--
-- rebuilds and activity: this session holds one
--
INSERT INTO projections_internal.rebuild (projection, action, phase, done, total, pid, backend_start, started_by, started_at, phase_at)
SELECT 'stock', 'rebuild', 'copying', 421, 1000, pid, backend_start, 'regress_metrics_owner', clock_timestamp() - interval '20 min', clock_timestamp() - interval '100 s'
FROM pg_stat_activity WHERE pid = pg_backend_pid();
INSERT INTO projections_internal.rebuild (projection, action, phase, pid, backend_start, started_by, ended_at, outcome, error)
VALUES ('handled', 'rebuild', 'copying', 1, '2020-01-01', 'regress_metrics_owner', now(), 'failed', 'a secret'), ('now', 'fill', 'copying', pg_backend_pid(), '2020-01-01', 'regress_metrics_owner', NULL, NULL, NULL);
SELECT projection, action, phase, done, total, percent, round(rate::numeric, 1) AS rate, round(extract(epoch FROM eta - now()), -2) AS seconds, holder_user, holder_pid = pg_backend_pid() AS here, holder_alive, outcome, error
FROM projections.rebuilds ORDER BY projection;
SELECT kind, projection, for_whom, phase, done, total, percent, pid = pg_backend_pid() AS here FROM projections.activity;
SET pg_projections.failures_degraded = 100; SET pg_projections.failures_critical = 100; SET pg_projections.failures_offline = 100;
-- its lag is not held against it
INSERT INTO events (item, quantity, at) SELECT 'a', 1, now() - interval '1 h' FROM generate_series(1, 20000);
SELECT projection, status, lag_events > 10000 AS lags, phase, regexp_replace(message, 'pid \d+\) since [^:]+:\d\d:\d\d', 'pid …) since …') AS message FROM projections.health() WHERE projection <> 'metrics.handled' ORDER BY 1;
UPDATE projections_internal.projection SET building = true WHERE relation = 'now'::regclass;
SELECT status, phase, message, hint FROM projections.health('now');
UPDATE projections_internal.projection SET building = false WHERE relation = 'now'::regclass;
RESET pg_projections.failures_degraded; RESET pg_projections.failures_critical; RESET pg_projections.failures_offline;

--
-- metrics
--
SELECT name, labels - 'database' AS labels, CASE WHEN name ~ 'seconds|version|source|store|workers|processed' THEN NULL ELSE value END AS value, type
FROM projections.metrics()
WHERE coalesce(labels ->> 'source', 'metrics.events') = 'metrics.events' AND coalesce(labels ->> 'projection', '') <> 'metrics.handled' AND NOT labels ? 'library' ORDER BY labels ->> 'projection', name, labels;
SELECT bool_and(labels ->> 'database' = current_database()) AS labelled, bool_and(help <> '') AS told FROM projections.metrics();
-- samples of one metric stand together
SELECT count(*) = count(DISTINCT family) AS together
FROM (SELECT family, lag(family) OVER (ORDER BY place) IS DISTINCT FROM family AS first
      FROM (SELECT regexp_replace(name, '_(sum|count)$', '') AS family, place FROM projections.metrics() WITH ORDINALITY AS m(name, labels, value, type, help, place)) x) y WHERE first;
SELECT name FROM projections.metrics('source') GROUP BY name ORDER BY name;
SELECT name, value >= 0 AS counted FROM projections.metrics('check') ORDER BY name;
SELECT count(*) FROM projections.metrics('nothing');
-- as text
ALTER TABLE "odd ""name\" RENAME TO plain;
SELECT projections.create(E'"li\nne"', 'SELECT count(*) AS n FROM events');
SELECT line FROM regexp_split_to_table(projections.metrics_text('projection'), '\n') AS line WHERE line ~ 'paused|apply_seconds(_count|\{| )' AND line !~ 'quantile' ORDER BY line COLLATE "C";
SET extra_float_digits = -15;
SELECT line ~ ' \d{10}\.\d{3,}$' AS exact FROM regexp_split_to_table(projections.metrics_text('projection'), '\n') AS line WHERE line LIKE 'pg_projections_checkpoint_timestamp_seconds{%stock%';
RESET extra_float_digits;

--
-- who sees what
--
SET ROLE regress_metrics_monitor;
SELECT count(*) > 30 AS all FROM projections.metrics();
SELECT length(projections.metrics_text()) > 1000 AS all;
SELECT DISTINCT projection FROM projections.throughput ORDER BY 1;
SELECT kind, projection, key FROM projections.hot_keys ORDER BY 1, 3;
SELECT projection, outcome, error FROM projections.rebuilds ORDER BY 1;
SET ROLE regress_metrics_owner;
SELECT DISTINCT projection FROM projections.throughput ORDER BY 1;
SELECT kind, projection, key FROM projections.hot_keys ORDER BY 1, 2, 3;
SELECT projection, outcome, holder_alive, error FROM projections.rebuilds ORDER BY 1;
SELECT count(*) FROM projections.metrics();
SELECT projections.metrics_text();
SET ROLE regress_metrics_other;
SELECT count(*) FROM projections.throughput;
SELECT count(*) FROM projections.hot_keys;
SELECT count(*) FROM projections_internal.throughput_minute;
SELECT projection, outcome, error FROM projections.rebuilds ORDER BY 1;
SELECT projections_internal._add_throughput('pg_class', now(), 1, 1, 1, 1, '{1}');
SELECT projections_internal._metrics(NULL);
-- a condition of his cannot look at rows that the view hides
CREATE FUNCTION pg_temp.leak(value text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$ BEGIN RAISE NOTICE 'seen: %', value; RETURN true; END $$;
SET client_min_messages = notice;
SELECT count(*) FROM projections.hot_keys WHERE pg_temp.leak(key);
SELECT count(*) FROM projections.throughput WHERE pg_temp.leak(projection);
SET client_min_messages = error;
RESET ROLE;

DELETE FROM projections_internal.rebuild;
DELETE FROM projections_internal.conflict WHERE stream IN ('order-1', 'order-2');
DELETE FROM projections_internal.counter;
DROP SCHEMA metrics CASCADE;
-- what is gone is not shown, and the next minute is rid of it
SELECT count(*) FROM projections.throughput;
SELECT projections_internal._expire_throughput();
SELECT count(*) FROM projections_internal.throughput_total;
DELETE FROM projections_internal.throughput_minute;
DROP OWNED BY regress_metrics_owner, regress_metrics_monitor, regress_metrics_other;
DROP ROLE regress_metrics_owner, regress_metrics_monitor, regress_metrics_other;
SELECT count(*) FROM projections_internal.projection;
