-- options.fallback: what no key can be traced in is read again as a whole, when its user says so.
\set SHOW_CONTEXT never
CREATE TABLE staff (id int PRIMARY KEY, boss int, pay numeric);
CREATE TABLE notes (a int, b text);
CREATE VIEW well_paid AS SELECT id, pay FROM staff WHERE pay > 50;
INSERT INTO staff SELECT i, nullif(i / 2, 0), i * 10 FROM generate_series(1, 20) i;
INSERT INTO notes SELECT i, 'x' || i % 3 FROM generate_series(1, 10) i;

-- Refused without it, said with it, and not kept where it is not needed.
\set VERBOSITY terse
SELECT projections.create('tree', 'WITH RECURSIVE t AS (SELECT id, boss, 1 AS depth FROM staff WHERE boss IS NULL UNION ALL SELECT s.id, s.boss, t.depth + 1 FROM staff s JOIN t ON s.boss = t.id) SELECT * FROM t');
\set VERBOSITY default
SET client_min_messages = warning;
SELECT projections.create('tree', 'WITH RECURSIVE t AS (SELECT id, boss, 1 AS depth FROM staff WHERE boss IS NULL UNION ALL SELECT s.id, s.boss, t.depth + 1 FROM staff s JOIN t ON s.boss = t.id) SELECT * FROM t', options => '{"fallback": "refresh"}');
SELECT projections.create('needless', 'SELECT boss, count(*) FROM staff GROUP BY boss', options => '{"fallback": "refresh"}') \g /dev/null
SELECT options FROM projections_internal.projection WHERE relation = 'needless'::regclass;
SELECT projections.drop('needless');
RESET client_min_messages;
SELECT projections.create('other', 'SELECT id FROM staff ORDER BY pay LIMIT 2', options => '{"fallback": "recompute"}');
SELECT projections.create('volatile', 'SELECT id, random() FROM staff', options => '{"fallback": "refresh"}');
SELECT projections.create('catalog', 'SELECT oid FROM pg_class ORDER BY 1 LIMIT 1', options => '{"fallback": "refresh"}');
SELECT projections.create('handled', 'INSERT INTO notes VALUES (1) RETURNING a', options => '{"fallback": "refresh"}');

SET client_min_messages = error;
CREATE TABLE kinds (number int GENERATED ALWAYS AS IDENTITY, query text);
INSERT INTO kinds (query) VALUES
    ('SELECT id, rank() OVER (ORDER BY pay DESC) AS r, sum(pay) OVER (ORDER BY id) AS s FROM well_paid ORDER BY 2'),
    ('SELECT s.id, n.b FROM staff s JOIN notes n ON n.a = s.id ORDER BY s.pay, n.b LIMIT 3'),
    ('SELECT array_agg(pay ORDER BY pay, id) AS pays, percentile_cont(0.5) WITHIN GROUP (ORDER BY pay) AS m FROM staff'),
    ('SELECT id FROM (SELECT id FROM staff ORDER BY pay, id OFFSET 2) AS s EXCEPT ALL SELECT a FROM notes'),
    ('SELECT x.a, y.b FROM (SELECT a, b FROM notes ORDER BY a, b LIMIT 4) AS x FULL JOIN (SELECT b, a FROM notes ORDER BY a DESC, b LIMIT 4) AS y ON y.a = x.a'),
    ('WITH best AS (SELECT max(pay) AS pay FROM staff), n AS (SELECT b, count(*) AS c FROM notes GROUP BY b) SELECT s.id, n.* FROM staff s JOIN best USING (pay), n ORDER BY n.c DESC, n.b FETCH FIRST 2 ROWS ONLY'),
    ('SELECT (SELECT jsonb_agg(b ORDER BY b) FROM notes) AS all, count(*) AS n FROM staff');
SELECT count(projections.create('inline_' || number, query, options => '{"fallback": "refresh"}')) FROM kinds;
SELECT count(projections.create('async_' || number, query, mode => 'async', options => '{"fallback": "refresh"}')) FROM kinds WHERE number % 3 = 1;
SELECT DISTINCT strategy, key, reason FROM kinds, projections.explain('inline_' || number);
SELECT * FROM test.differing();
INSERT INTO staff VALUES (21, 3, 5), (22, 21, 500);
INSERT INTO notes VALUES (3, 'three'), (4, NULL);
SELECT * FROM test.differing();
SELECT test.check('tree');
UPDATE staff SET boss = 1 WHERE id = 4;
DELETE FROM staff WHERE id IN (13, 11);
UPDATE staff SET pay = pay + 7 WHERE id % 2 = 0;
DELETE FROM notes WHERE a = 2;
SELECT * FROM test.differing();
SELECT test.check('tree');
BEGIN;
UPDATE staff SET pay = 1 WHERE id < 4;
SELECT * FROM test.differing(later => false);
SAVEPOINT s;
DELETE FROM notes;
SELECT * FROM test.differing(later => false);
ROLLBACK TO s;
SELECT * FROM test.differing(later => false);
COMMIT;
SELECT * FROM test.differing();
-- what writes a source that it does not use writes nothing
BEGIN;
UPDATE notes SET b = b;
SELECT count(*) AS written FROM inline_2 WHERE xmin::text = pg_current_xact_id()::text;
ROLLBACK;

-- told and counted
SELECT projection, status, regexp_replace(message, '\d+ times so far, [\d.]+', 'N times so far, N') AS message FROM projections.health() WHERE projection IN ('public.async_1', 'public.tree');
SELECT name, labels ->> 'projection' AS projection, value > 0 AS counted, type FROM projections.metrics() WHERE name ~ 'refresh' AND labels ->> 'projection' = 'public.async_1' ORDER BY 1;

-- paused, rebuilt, altered, put right
SELECT projections.pause('inline_2', 'a test');
DELETE FROM staff WHERE id = 5;
SELECT projections.resume('inline_2');
CALL projections.rebuild('inline_1');
CALL projections.alter('inline_1', options => '{"finish": "swap"}');
CALL projections.rebuild('inline_1');
UPDATE kinds SET query = replace(query, 'LIMIT 4', 'LIMIT 3') WHERE number = 5;
SELECT query AS altered FROM kinds WHERE number = 5 \gset
CALL projections.alter('inline_5', query => :'altered');
CALL projections.alter('inline_5', options => '{"fallback": null}');
CALL projections.alter('inline_5', mode => 'async');
INSERT INTO notes VALUES (0, 'first');
SELECT projections.catch_up('inline_5') > 0 AS caught_up;
SELECT test.check('inline_5');
CALL projections.alter('inline_5', mode => 'inline');
SELECT projections.create('inline_2', query, options => '{"fallback": "refresh"}', if_not_exists => true) FROM kinds WHERE number = 2;
SELECT * FROM test.differing();
SET pg_projections.allow_direct_writes = on;
DELETE FROM inline_1 WHERE r = 1;
INSERT INTO tree VALUES (1, 2, 3);
RESET pg_projections.allow_direct_writes;
SELECT problem, key, expected - 's' AS expected, found FROM projections.verify('tree');
SELECT projections.repair('inline_1') AS one, projections.repair('tree') AS tree;
SELECT projections.refresh_source('notes', '[{"a": 1}]');
SELECT * FROM test.differing();
SELECT test.check('tree');
SELECT problem, object, hint FROM projections.validate() WHERE severity = 'ERROR';
BEGIN;
TRUNCATE notes, staff;
SELECT * FROM test.differing(later => false);
ROLLBACK;
SELECT * FROM test.differing();
DO $$ BEGIN PERFORM projections.drop(m || number) FROM kinds, unnest('{inline_,async_}'::text[]) AS m WHERE to_regclass(m || number) IS NOT NULL; END $$;
SELECT projections.drop('tree');
DROP VIEW well_paid;
DROP TABLE staff, notes, kinds;
