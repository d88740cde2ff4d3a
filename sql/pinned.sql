-- A definition that depends on a setting means what it meant when it was made, whatever the session's setting is: in the copy of a rebuild, in
-- an alter, a replay, a repair, a catch_up, and when it is verified.
\set VERBOSITY terse
SET client_min_messages = error;
SET TimeZone = 'UTC';
CREATE SCHEMA pinned;
SET search_path = pinned, public;
CREATE TABLE visits (pos bigserial PRIMARY KEY, at timestamptz NOT NULL, n int NOT NULL);
SELECT projections.create('by_day', 'SELECT at::date AS day, sum(n) AS n FROM visits GROUP BY 1', options => '{"finish": "swap"}');
SELECT projections.create('by_day_later', 'SELECT at::date AS day, sum(n) AS n FROM visits GROUP BY 1', 'async');
CREATE TABLE clicks (pos bigserial PRIMARY KEY, at timestamptz NOT NULL, n int NOT NULL);
SELECT projections.register_source('clicks', position_column => 'pos');
SELECT projections.create('clicks_by_day', 'SELECT at::date AS day, sum(n) AS n FROM clicks GROUP BY 1', 'async');
CREATE FUNCTION right_in_utc() RETURNS TABLE (projection text, result text) LANGUAGE sql SET TimeZone = 'UTC' AS $$
    SELECT p, test.check(p::regclass) FROM unnest(ARRAY['by_day', 'by_day_later', 'clicks_by_day']) AS p ORDER BY 1
$$;

SET TimeZone = 'Asia/Tokyo';
INSERT INTO visits (at, n) SELECT '2026-01-01 20:00Z'::timestamptz + h * interval '1 hour', h FROM generate_series(1, 100) AS h;
INSERT INTO clicks (at, n) SELECT at, n FROM visits;
SELECT projections.catch_up() > 0 AS applied;
SELECT * FROM right_in_utc();
-- Nothing is wrong, so nothing is found.
SELECT p, (SELECT count(*) FROM projections.verify(p)) AS found FROM unnest(ARRAY['by_day', 'by_day_later', 'clicks_by_day']) AS p;
-- Filled again: each way by itself.
CALL projections.rebuild('by_day');
SELECT * FROM right_in_utc();
CALL projections.alter('by_day_later', options => '{"finish": "swap"}');
CALL projections.rebuild('by_day_later');
SELECT * FROM right_in_utc();
CALL projections.alter('clicks_by_day', options => '{"finish": "swap"}');
CALL projections.rebuild('clicks_by_day');
SELECT * FROM right_in_utc();
SELECT projections.replay('clicks_by_day', 1, 50) >= 0 AS replayed;
SELECT * FROM right_in_utc();
SELECT projections.reset('by_day_later');
SELECT * FROM right_in_utc();
SELECT projections.reset('clicks_by_day');
SELECT projections.catch_up('clicks_by_day') > 0 AS applied;
SELECT * FROM right_in_utc();
SELECT projections.refresh_rows('by_day', jsonb_build_array(jsonb_build_object('day', '2026-01-02'))) >= 0 AS refreshed;
SELECT projections.refresh_source('visits', '[{"pos": 3}]') >= 0 AS refreshed;
SELECT * FROM right_in_utc();
-- Damaged and repaired.
SET session_replication_role = replica;
ALTER TABLE by_day DISABLE TRIGGER ALL;
UPDATE by_day SET n = n + 1;
ALTER TABLE by_day ENABLE ALWAYS TRIGGER projections_guard, ENABLE ALWAYS TRIGGER projections_guard_truncate;
RESET session_replication_role;
SELECT projections.repair('by_day') > 0 AS repaired;
SELECT * FROM right_in_utc();
-- To another mode and back: the definition is the same.
CALL projections.alter('by_day', mode => 'async');
SELECT * FROM right_in_utc();
CALL projections.alter('by_day_later', mode => 'inline');
SELECT * FROM right_in_utc();
SELECT projections.pause('by_day_later', 'test');
INSERT INTO visits (at, n) VALUES ('2026-01-01 23:30Z', 7);
SELECT projections.resume('by_day_later');
SELECT projections.catch_up() > 0 AS applied;
SELECT * FROM right_in_utc();
RESET TimeZone;
DROP SCHEMA pinned CASCADE;
