-- Subqueries that are grouped and correlated: LATERAL in FROM, in EXISTS and IN; IN below OR and in SELECT.
SET client_min_messages = error;
\set SHOW_CONTEXT never
CREATE TABLE a (id int PRIMARY KEY, k int, n int, t text);
CREATE TABLE b (id int PRIMARY KEY, k bigint, n int, t text);
CREATE INDEX ON b (k);
INSERT INTO a SELECT i, nullif(i % 5, 4), i * 7 % 11, chr(97 + i % 3) FROM generate_series(1, 12) AS i;
INSERT INTO b SELECT i, nullif(i % 6, 4), nullif(i * 5 % 7, 3), chr(97 + i % 4) FROM generate_series(1, 25) AS i;

CREATE TABLE kinds (number int GENERATED ALWAYS AS IDENTITY, query text);
INSERT INTO kinds (query) VALUES
    ('SELECT a.id, s.n, s.m FROM a LEFT JOIN LATERAL (SELECT count(*) AS n, max(b.n) AS m FROM b WHERE b.k = a.k) AS s ON true'),
    ('SELECT a.id, s.n, s.total FROM a, LATERAL (SELECT count(*) + a.n AS n, coalesce(sum(b.n), -1) AS total FROM b WHERE b.k = a.k AND b.n > 1) AS s WHERE s.n > 2'),
    ('SELECT a.id, s.n FROM a LEFT JOIN LATERAL (SELECT count(b.n) AS n FROM b WHERE b.k = a.k) AS s ON s.n > 2'),
    ('SELECT a.id, s.n FROM a JOIN LATERAL (SELECT min(b.n) AS n FROM b WHERE b.k = a.k AND b.t = a.t) AS s ON s.n < a.n'),
    ('SELECT a.k, sum(s.n) AS n, count(*) AS c FROM a CROSS JOIN LATERAL (SELECT count(*) AS n FROM b WHERE b.k = a.k) AS s GROUP BY a.k'),
    ('SELECT a.id, s.n, r.m FROM a CROSS JOIN LATERAL (SELECT count(*) AS n FROM b WHERE b.k = a.k) AS s LEFT JOIN LATERAL (SELECT max(id) AS m FROM b WHERE b.n = s.n) AS r ON true'),
    ('SELECT a.id, s.t, s.n FROM a, LATERAL (SELECT b.t, count(*) AS n FROM b WHERE b.k = a.k GROUP BY b.t) AS s'),
    ('SELECT a.id, s.t, s.n FROM a LEFT JOIN LATERAL (SELECT b.t, count(*) AS n FROM b WHERE b.k = a.k GROUP BY b.t HAVING count(*) > 1) AS s ON s.n < a.n'),
    ('SELECT a.id, s.t FROM a LEFT JOIN LATERAL (SELECT DISTINCT b.t FROM b WHERE b.k = a.k ORDER BY b.t) AS s ON true'),
    ('SELECT x.id, s.n FROM b AS c JOIN (a AS x JOIN LATERAL (SELECT count(*) AS n FROM b WHERE b.k = x.k) AS s ON true) ON c.id = x.id'),
    ('SELECT a.id, s.n FROM a, LATERAL (SELECT count(DISTINCT b.n) AS n FROM b JOIN a AS c ON c.k = b.n WHERE b.k = a.k) AS s'),
    ('SELECT a.id, s.n FROM a, LATERAL (SELECT count(*) + a.n AS n FROM b) AS s'),
    ('SELECT id FROM a WHERE EXISTS (SELECT FROM b WHERE b.k = a.k GROUP BY b.t HAVING count(*) > 1)'),
    ('SELECT id FROM a WHERE n IN (SELECT sum(b.n) FROM b WHERE b.k = a.k GROUP BY b.t)'),
    ('SELECT id FROM a WHERE NOT EXISTS (SELECT b.t, count(*) FROM b WHERE b.k = a.k GROUP BY b.t HAVING max(b.n) > 4)'),
    ('SELECT id FROM a WHERE n > 6 OR k IN (SELECT k FROM b WHERE n > 2)'),
    ('SELECT id FROM a WHERE n > 6 OR (k, t) IN (SELECT k, t FROM b) OR n IN (SELECT count(*) FROM b GROUP BY k)'),
    ('SELECT id FROM a WHERE n > 6 OR NOT (k IN (SELECT n FROM b) AND n < 5)'),
    ('SELECT id FROM a WHERE n > 6 AND (k, t) IN (SELECT k, t FROM b) OR NOT (k IN (SELECT n FROM b) AND n < 5)'),
    ('SELECT id, k IN (SELECT n FROM b) AS x FROM a'),
    ('SELECT id, k NOT IN (SELECT n FROM b WHERE n IS NOT NULL) AS y FROM a'),
    ('SELECT id, n <> ALL (SELECT n FROM b WHERE b.k = a.k) AS z FROM a'),
    ('SELECT id, CASE WHEN n IN (SELECT b.n FROM b JOIN a AS c ON c.id = b.id) THEN 1 ELSE 2 END AS x FROM a'),
    ('SELECT id FROM a WHERE n NOT IN (SELECT max(b.n) FROM b WHERE b.k = a.k GROUP BY b.t)');
SELECT count(projections.create('inline_' || number, query)) FROM kinds;
SELECT count(projections.create('async_' || number, query, mode => 'async')) FROM kinds WHERE number % 3 = 1;
SELECT * FROM test.differing();
INSERT INTO b SELECT i, i % 5, i % 4, 'a' FROM generate_series(30, 40) AS i;
SELECT * FROM test.differing();
INSERT INTO a VALUES (20, 4, 1, 'a'), (21, NULL, 3, NULL), (22, 99, 0, 'b');
UPDATE b SET k = k + 1, n = n - 1 WHERE id % 3 = 0;
SELECT * FROM test.differing();
UPDATE a SET k = coalesce(k, 0) + 1, n = n % 4 WHERE id % 2 = 0;
SELECT * FROM test.differing();
DELETE FROM b WHERE k IN (1, 2) OR k IS NULL;
SELECT * FROM test.differing();
BEGIN;
INSERT INTO b VALUES (50, 1, 1, 'a'), (51, NULL, NULL, NULL);
SELECT * FROM test.differing(later => false);
SAVEPOINT s;
UPDATE a SET k = 3;
DELETE FROM b WHERE n IS NULL;
SELECT * FROM test.differing(later => false);
ROLLBACK TO s;
COMMIT;
SELECT * FROM test.differing();
SELECT count(projections.pause('inline_' || number, 'test')) FROM kinds;
UPDATE b SET k = 1 WHERE id > 30;
DELETE FROM a WHERE id < 4;
SELECT count(projections.resume('inline_' || number)) FROM kinds;
SELECT * FROM test.differing();
TRUNCATE b;
SELECT * FROM test.differing();
INSERT INTO b VALUES (1, 1, 1, 'a'), (2, 1, 2, 'a'), (3, 3, 3, 'c');
SELECT * FROM test.differing();
SELECT number, v FROM kinds, projections.verify('inline_' || number) AS v;
SELECT count(projections.drop('inline_' || number)), count(CASE WHEN number % 3 = 1 THEN projections.drop('async_' || number) END) FROM kinds;

SET client_min_messages = warning;
SELECT projections.create('refused', 'SELECT a.id, s.n FROM a, LATERAL (SELECT count(*) AS n FROM b WHERE b.k > a.k) AS s');
SELECT projections.create('refused', 'SELECT a.id, s.n FROM a, LATERAL (SELECT a.n + count(*) AS n FROM b WHERE b.k = a.k GROUP BY b.t) AS s');
SELECT projections.create('refused', 'SELECT a.id, s.n FROM a, LATERAL (SELECT b.n FROM b WHERE b.k > 1 ORDER BY b.id LIMIT 2) AS s WHERE s.n > a.n');
DROP TABLE kinds CASCADE;
DROP TABLE a, b CASCADE;
