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

-- As TimeZone and DateStyle say together, also to functions of the user's that fold events or are called for them, later and at once; and
-- where only some rows are computed anew: which ones is asked under the same settings.
SET TimeZone = 'UTC';
SET DateStyle = 'ISO, DMY';
CREATE TABLE steps (pos bigserial PRIMARY KEY, item text NOT NULL, at timestamptz NOT NULL, n int NOT NULL);
SELECT projections.register_source('steps', position_column => 'pos');
CREATE FUNCTION times(state jsonb, e steps, key text) RETURNS jsonb LANGUAGE sql STABLE AS $$ SELECT state || to_jsonb(e.at::text) $$;
CREATE TABLE noted (pos bigint PRIMARY KEY, at text);
CREATE TABLE noted_at_once (pos bigint PRIMARY KEY, at text);
CREATE FUNCTION note(e steps) RETURNS void LANGUAGE sql AS $$ INSERT INTO noted VALUES (e.pos, e.at::text) $$;
CREATE FUNCTION note_at_once(e steps) RETURNS void LANGUAGE sql AS $$ INSERT INTO noted_at_once VALUES (e.pos, e.at::text) $$;
SELECT projections.create_reducer('times_of', 'steps', 'item', 'times(jsonb, steps, text)', initial => '[]');
SELECT projections.create_reducer('times_at_once', 'steps', 'item', 'times(jsonb, steps, text)', initial => '[]', mode => 'inline');
SELECT projections.create_handler('noting', 'steps', 'note(steps)', '{noted}');
SELECT projections.create_handler('noting_at_once', 'steps', 'note_at_once(steps)', '{noted_at_once}', mode => 'inline');
SELECT projections.create('by_text', 'SELECT at::text AS at, sum(n) AS n FROM steps GROUP BY 1', 'async');
SELECT projections.create('in_all', 'SELECT count(*) AS n, min(at)::text AS first, timestamptz ''2026-01-01 20:00Z''::text AS since FROM steps', 'async');
SELECT projections.create('visits_by_text', 'SELECT at::text AS at, sum(n) AS n FROM visits GROUP BY 1');
CREATE FUNCTION wrong_in_utc() RETURNS TABLE (what text) LANGUAGE sql SET TimeZone = 'UTC' SET DateStyle = 'ISO, DMY' AS $$
    WITH folded AS (SELECT item, jsonb_agg(at::text ORDER BY pos) AS times FROM steps GROUP BY item), notes AS (SELECT pos, at::text FROM steps)
    SELECT 'times_of ' || r.key FROM (SELECT key, state FROM times_of EXCEPT TABLE folded) AS r
    UNION ALL SELECT 'times_at_once ' || r.key FROM (SELECT key, state FROM times_at_once EXCEPT TABLE folded) AS r
    UNION ALL SELECT 'noted ' || r.pos FROM (TABLE noted EXCEPT TABLE notes) AS r
    UNION ALL SELECT 'noted_at_once ' || r.pos FROM (TABLE noted_at_once EXCEPT TABLE notes) AS r
    UNION ALL SELECT format('%s: %s', p, test.check(p::regclass)) FROM unnest(ARRAY['by_text', 'in_all', 'visits_by_text']) AS p WHERE test.check(p::regclass) NOT LIKE 'equal%'
    UNION ALL SELECT format('%s: %s', projection, result) FROM right_in_utc() WHERE result NOT LIKE 'equal%'
$$;

SET TimeZone = 'Asia/Tokyo';
SET DateStyle = 'German';
INSERT INTO steps (item, at, n) SELECT 'item ' || i % 3, '2026-02-01 20:00Z'::timestamptz + i * interval '1 hour', i FROM generate_series(1, 20) AS i;
-- What is behind, and its row as it is to be.
SELECT key, lag FROM projections.stale_keys('by_text') LIMIT 1;
SELECT projections.read('by_text', '{"at": "2026-02-01 21:00:00+00"}', '0');
SELECT projections.catch_up() > 0 AS applied;
SELECT * FROM wrong_in_utc();
SELECT p, (SELECT count(*) FROM projections.verify(p)) AS found
FROM unnest(ARRAY['times_of', 'times_at_once', 'noting', 'noting_at_once', 'by_text', 'in_all', 'visits_by_text']) AS p;
-- Some rows: those of a day that is another one in Tokyo.
SET pg_projections.allow_direct_writes = on;
UPDATE by_text SET n = -1;
UPDATE clicks_by_day SET n = -1;
UPDATE by_day SET n = -1;
RESET pg_projections.allow_direct_writes;
SELECT projections.replay('by_text', 1, 1), projections.replay('clicks_by_day', 1, 1), projections.refresh_source('visits', '[{"pos": 1}]');
SELECT count(*) AS replayed FROM by_text WHERE n <> -1;
SELECT min(day), count(*) AS replayed FROM clicks_by_day WHERE n <> -1;
SELECT min(day), count(*) AS refreshed FROM by_day WHERE n <> -1;
SELECT p, projections.repair(p) > 0 AS repaired FROM unnest(ARRAY['by_text', 'clicks_by_day', 'by_day']) AS p;
SELECT * FROM wrong_in_utc();
-- All of it again.
SELECT projections.replay(p, 1, 20) >= 0 AS replayed FROM unnest(ARRAY['times_of', 'in_all']) AS p;
SELECT * FROM wrong_in_utc();
SET pg_projections.allow_direct_writes = on;
UPDATE times_of SET state = '[]';
UPDATE times_at_once SET state = '[]';
RESET pg_projections.allow_direct_writes;
SELECT p, projections.repair(p) > 0 AS repaired FROM unnest(ARRAY['times_of', 'times_at_once']) AS p;
SELECT * FROM wrong_in_utc();
SELECT projections.reset(p) FROM unnest(ARRAY['times_of', 'noting', 'by_text', 'in_all']) AS p;
SELECT n, first, since FROM in_all;
SELECT projections.catch_up() > 0 AS applied;
SELECT * FROM wrong_in_utc();
CALL projections.rebuild('times_of');
CALL projections.rebuild('times_at_once');
CALL projections.rebuild('noting');
CALL projections.rebuild('noting_at_once');
CALL projections.rebuild('by_text');
CALL projections.rebuild('in_all');
CALL projections.rebuild('visits_by_text');
SELECT * FROM wrong_in_utc();
-- Another query means what it means to who writes it.
CALL projections.alter('by_text', query => 'SELECT at::text AS at, sum(n) AS n, count(*) AS steps FROM steps GROUP BY 1');
SELECT test.check('by_text');
RESET DateStyle;
SET TimeZone = 'UTC';
INSERT INTO steps (item, at, n) VALUES ('item 1', '2026-03-01 20:00Z', 7);
SELECT projections.catch_up('by_text');
SELECT at, n FROM by_text WHERE n = 7 AND steps = 1 ORDER BY at;
SELECT count(*) AS found FROM projections.verify('by_text');
RESET TimeZone;
DROP SCHEMA pinned CASCADE;
