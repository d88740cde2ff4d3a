-- Health: the statuses and their thresholds, the width of the page, who sees what.
CREATE SCHEMA health;
SET search_path = health;
\set SHOW_CONTEXT never
SET client_min_messages = error;
CREATE ROLE regress_health_owner;
CREATE ROLE regress_health_monitor IN ROLE pg_monitor;
CREATE ROLE regress_health_other;
GRANT ALL ON SCHEMA health TO regress_health_owner;
GRANT USAGE ON SCHEMA health TO regress_health_monitor, regress_health_other;
SET ROLE regress_health_owner;
CREATE TABLE events (seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, kind text, item text, quantity int, at timestamp);
CREATE TABLE timeless (seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, quantity int);
CREATE TABLE goods (id int PRIMARY KEY, quantity int);
SELECT projections.register_source('events', 'seq', type_column => 'kind', time_column => 'at');
SELECT projections.register_source('timeless', 'seq');
SELECT projections.create('stock', 'SELECT item, sum(100 / quantity) AS quantity FROM events GROUP BY item', mode => 'async', options => '{"max_retries": 0}');
SELECT projections.create('untimed', 'SELECT sum(quantity) AS quantity FROM timeless', mode => 'async');
SELECT projections.create('logged', 'SELECT sum(quantity) AS quantity FROM goods', mode => 'async');
SELECT projections.create('now', 'SELECT sum(quantity) AS quantity FROM goods');
-- nothing there is nothing wrong
SELECT projection, kind, mode, status, lag_events, lag_seconds, checkpoint, head, last_updated IS NOT NULL AS dated, failures, parked_events, dead_letters, phase, message, hint
FROM projections.health() ORDER BY projection;
RESET ROLE;
SELECT projections.healthy();
SELECT jsonb_path_query_array(h, '$.projectionStatus.*.status'), h -> 'status' AS status,
       h #> '{projectionStatus,health.now}' AS inline FROM projections.health_json() AS h;

--
-- lag: in positions, gaps included, and in time by the source's own clock, which is UTC where it has no zone
--
SET TimeZone = 'Asia/Tokyo';
INSERT INTO events (kind, item, quantity, at) SELECT 'in', 'item', 1, now() AT TIME ZONE 'UTC' - interval '5 s' FROM generate_series(1, 3);
INSERT INTO timeless (quantity) VALUES (1);
INSERT INTO goods VALUES (1, 1), (2, 2);
CREATE VIEW lag AS
SELECT projection, status, lag_events, CASE WHEN lag_seconds < 4 THEN 'under 4 s' WHEN lag_seconds < 10 THEN 'about 5 s' ELSE lag_seconds::bigint / 60 || ' min' END AS age, checkpoint, head,
       regexp_replace(message, '\d+ (s|min|h)\M', 'n \1') AS message, hint FROM projections.health();
SELECT projection, lag_events, age, checkpoint, head FROM lag ORDER BY 1;
SELECT projections.catch_up() > 0 AS applied;
SELECT projection, status, lag_events, age, checkpoint, head FROM lag ORDER BY 1;
-- beyond the thresholds
INSERT INTO events (kind, item, quantity, at) VALUES ('in', 'item', 1, now() AT TIME ZONE 'UTC' - interval '20 s');
SET pg_projections.lag_degraded = '30 s';
SELECT status FROM projections.health('stock') WHERE status <> 'offline';
RESET pg_projections.lag_degraded;
SELECT status, message, hint FROM lag WHERE projection = 'health.stock';
SELECT projections.healthy(), projections.health_json() -> 'status' AS overall;
INSERT INTO goods SELECT i, 1 FROM generate_series(3, 1010) AS i;
SELECT status, lag_events FROM lag WHERE projection = 'health.logged';
-- a deliberate pause is not critical
SELECT projections.pause('stock', 'counting');
SELECT projection, status FROM lag WHERE projection = 'health.stock';
SELECT projections.resume('stock');
SELECT projections.catch_up() > 0 AS applied;
SELECT projections.healthy();

--
-- who holds back the safe position is named
--
BEGIN;
INSERT INTO events (kind, item, quantity, at) VALUES ('in', 'item', 1, now() AT TIME ZONE 'UTC' - interval '1 h');
PREPARE TRANSACTION 'regress held';
INSERT INTO events (kind, item, quantity, at) VALUES ('in', 'item', 1, now() AT TIME ZONE 'UTC' - interval '1 h');
SELECT projections.catch_up('stock');
SELECT lag_events, message LIKE '%prepared transaction ''regress held'' holds back%' AS named, hint FROM projections.health('stock');
ROLLBACK PREPARED 'regress held';
SELECT projections.catch_up('stock');
SELECT status, lag_events, message FROM lag WHERE projection = 'health.stock';
RESET TimeZone;

--
-- failures
--
INSERT INTO events (kind, item, quantity, at) VALUES ('in', 'secret', 0, now() AT TIME ZONE 'UTC');
SELECT projections.catch_up('stock');
SELECT status, failures, dead_letters, message, hint FROM projections.health('stock');
SET pg_projections.failures_critical = 1;
SELECT status FROM projections.health('stock');
SET pg_projections.failures_offline = 1;
SELECT status FROM projections.health('stock');
SET pg_projections.failures_degraded = 2; SET pg_projections.failures_critical = 3; SET pg_projections.failures_offline = 4;
SELECT status FROM projections.health('stock');
RESET pg_projections.failures_degraded; RESET pg_projections.failures_critical; RESET pg_projections.failures_offline;
INSERT INTO events (kind, item, quantity, at) SELECT 'in', 'secret', 0, now() AT TIME ZONE 'UTC' FROM generate_series(1, 9);
SELECT projections.catch_up('stock');
SELECT status, failures FROM projections.health('stock');
INSERT INTO events (kind, item, quantity, at) SELECT 'in', 'secret', 0, now() AT TIME ZONE 'UTC' FROM generate_series(1, 40);
SELECT projections.catch_up('stock');
SELECT status, failures FROM projections.health('stock');
-- stale
SET pg_projections.allow_direct_writes = on;
UPDATE now SET quantity = 0;
RESET pg_projections.allow_direct_writes;
SELECT projection, status, failures, message ~ '^written directly since' AS why FROM projections.status;

--
-- the page is at most 100 columns wide
--
SELECT projections.create('"A projection with a name as long as names can be, which is 63"', 'SELECT item, count(*) AS n FROM events GROUP BY item', mode => 'async');
SELECT projections.pause('"A projection with a name as long as names can be, which is 63"', repeat('a reason that says more than is needed ', 5) || repeat('x', 150));
\o | awk '{ if (length($0) > longest) longest = length($0) } END { print (longest > 100 ? "too wide: " longest : "fits") }'
SELECT * FROM projections.status;
\o
SELECT projection, status, lag, failures, regexp_replace(message, '\d\d\d\d-\d\d-\d\d\n?\s*\d\d:\d\d:\d\d', 'then') AS message FROM projections.status WHERE status = 'paused';

--
-- who sees what
--
SET ROLE regress_health_owner;
SELECT count(*) FROM projections.health();
SELECT projections.healthy();
SELECT DISTINCT projection, key, error, context IS NULL AS no_context FROM projections.failures;
SET ROLE regress_health_monitor;
SELECT count(*) FROM projections.health();
SELECT count(*) FROM projections.status;
SELECT projections.healthy();
SELECT DISTINCT projection, event_type, key, error, context, sqlstate, category FROM projections.failures;
SELECT count(*) FROM projections.dead_letters;
SELECT projections.retry_all('stock');
SET ROLE regress_health_other;
SELECT count(*) FROM projections.health();
SELECT count(*) FROM projections.health('stock');
SELECT count(*) FROM projections.status;
SELECT projections.healthy();
SELECT projections.health_json();
SELECT count(*) FROM projections.failures;
SELECT count(*) FROM projections.parked;
SELECT count(*) FROM projections_internal.failure;
-- a condition of his cannot look at rows that the view hides
CREATE FUNCTION pg_temp.leak(value text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$ BEGIN RAISE NOTICE 'seen: %', value; RETURN true; END $$;
SET client_min_messages = notice;
SELECT count(*) FROM projections.failures WHERE pg_temp.leak(error);
SET client_min_messages = error;
RESET ROLE;
SELECT projection, kind, mode, status FROM projections.health('now');
SELECT * FROM projections.health('goods');

DROP SCHEMA health CASCADE;
DROP OWNED BY regress_health_owner, regress_health_monitor, regress_health_other;
DROP ROLE regress_health_owner, regress_health_monitor, regress_health_other;
SELECT count(*) FROM projections_internal.projection;
