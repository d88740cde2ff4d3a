-- Parts, hidden below what reads them: each kind, and what test/random has found. (Their concurrency: isolation parts.)
SET client_min_messages = warning;
CREATE COLLATION no_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE a (id int PRIMARY KEY, k int, n int, t text, u text COLLATE no_case);
CREATE TABLE b (k int, n int, t text, u text COLLATE no_case);
INSERT INTO a VALUES (1, 1, 1, 'a', 'a'), (2, 2, 3, 'A', 'A'), (3, NULL, 2, NULL, 'b'), (4, 9, 1, 'c', 'c');

-- Each kind of part, by every way in which changes come: against the query as it is written.
CREATE TABLE kinds (number int GENERATED ALWAYS AS IDENTITY, query text);
INSERT INTO kinds (query) VALUES
    ('SELECT id, (SELECT count(*) FROM b WHERE b.k = a.k) AS n, (SELECT count(b.n) FILTER (WHERE b.n > 1) FROM b WHERE b.k = a.n) AS m FROM a'),
    ('SELECT id FROM a WHERE (SELECT avg(n) FROM b) <= a.n'),
    ('SELECT id, EXISTS (SELECT FROM b WHERE b.k = a.k AND b.n = a.n + 1) AS x, NOT EXISTS (SELECT FROM b) AS y FROM a'),
    ('SELECT id, CASE WHEN EXISTS (SELECT FROM b WHERE b.k = a.k) THEN (SELECT avg(n) FROM b WHERE b.k = a.k) ELSE a.n END AS n FROM a'),
    ('SELECT id FROM a WHERE EXISTS (SELECT FROM b WHERE b.k = a.k) OR n > 2'),
    ('SELECT id FROM a WHERE EXISTS (SELECT FROM b JOIN a AS c ON c.id = b.k WHERE b.n = a.n)'),
    ('SELECT id FROM a WHERE NOT EXISTS (SELECT FROM b JOIN a AS c ON c.id = b.k WHERE b.u = a.t COLLATE "C")'),
    ('SELECT id FROM a WHERE k IN (SELECT n FROM b GROUP BY n HAVING count(*) > 1)'),
    ('SELECT id FROM a WHERE k NOT IN (SELECT n FROM b)'),
    ('SELECT id FROM a WHERE (k, n) NOT IN (SELECT k, n FROM b)'),
    ('SELECT id FROM a WHERE n >= ALL (SELECT n FROM b WHERE b.k = a.k)'),
    ('SELECT id FROM a WHERE n = ALL (SELECT n FROM b GROUP BY n HAVING count(*) > 1)'),
    ('SELECT a.id, s.n FROM a LEFT JOIN (SELECT k, coalesce(max(n), -1) AS n FROM b GROUP BY k) AS s ON s.k = a.k WHERE coalesce(s.n, 0) < 3'),
    ('SELECT DISTINCT k, (SELECT count(*) FROM b WHERE b.k = a.k) AS n FROM a'),
    ('SELECT DISTINCT count(*) AS n FROM b GROUP BY k'),
    ('SELECT k, count(DISTINCT n) AS c, count(*) AS n FROM b GROUP BY k HAVING count(DISTINCT n) >= 1 OR k IS NULL'),
    ('SELECT count(DISTINCT k) AS k, count(DISTINCT n) FILTER (WHERE k IS NOT NULL) AS n, sum(n) AS s, count(*) AS c, bool_and(n > 0) AS e FROM b'),
    ('SELECT k, sum(DISTINCT n) AS n, avg(DISTINCT n) AS a, count(DISTINCT u) AS u, count(*) FILTER (WHERE n > 1) AS c FROM b GROUP BY k'),
    ('SELECT n, count(*) AS c FROM (SELECT k, sum(n) AS n FROM b GROUP BY k HAVING count(*) > 1) AS s GROUP BY n'),
    ('SELECT (SELECT count(*) FILTER (WHERE b.n > 2) FROM b WHERE b.k = a.k) AS c, grouping((SELECT count(*) FILTER (WHERE b.n > 2) FROM b WHERE b.k = a.k)) AS g, count(*) AS n FROM a GROUP BY (SELECT count(*) FILTER (WHERE b.n > 2) FROM b WHERE b.k = a.k)'),
    ('SELECT 1 + (SELECT count(*) FILTER (WHERE b.n > 2) FROM b WHERE b.k = a.k) AS c, count(*) AS n FROM a GROUP BY (SELECT count(*) FILTER (WHERE b.n > 2) FROM b WHERE b.k = a.k)'),
    ('SELECT k IN (SELECT n FROM b) AS i, NOT (k IN (SELECT n FROM b)) AS o, count(*) AS c FROM a GROUP BY k IN (SELECT n FROM b)'),
    ('SELECT k, max(DISTINCT t) AS t, count(DISTINCT NULL) AS c FROM b GROUP BY k'),
    ('SELECT sum(n) AS n FROM a HAVING count(*) > 2');
CREATE VIEW differences AS
    SELECT number, d.* FROM kinds, test.differences(to_regclass('kind_' || number), query) AS d ORDER BY 1, 2, 3;
SELECT count(projections.create('kind_' || number, query)) FROM kinds;
SELECT * FROM differences;
INSERT INTO b VALUES (1, 2, 'a', 'a'), (1, 3, 'a', 'A'), (2, 2, 'A', 'A'), (NULL, 1, 'b', 'b');
SELECT * FROM differences;
INSERT INTO b VALUES (1, 2, 'A', 'a'), (NULL, NULL, NULL, NULL), (2, 1, 'b', 'B'), (3, 3, 'b', 'b');
SELECT * FROM differences;
UPDATE a SET n = n + 1, k = coalesce(k, 0) + 1;
SELECT * FROM differences;
DELETE FROM b WHERE k IS NULL;
UPDATE a SET k = NULL WHERE id = 2;
SELECT * FROM differences;
BEGIN;
INSERT INTO b VALUES (2, 2, 'a', 'a');
SELECT * FROM differences;
SAVEPOINT s;
UPDATE b SET k = 2, u = upper(u);
SELECT * FROM differences;
ROLLBACK TO s;
SELECT * FROM differences;
DELETE FROM a WHERE id = 3;
COMMIT;
SELECT * FROM differences;
TRUNCATE b;
SELECT * FROM differences;
TRUNCATE a;
SELECT * FROM differences;
SELECT count(projections.drop('kind_' || number)) FROM kinds;
DROP TABLE kinds CASCADE;
INSERT INTO a VALUES (1, 1, 1, 'a', 'a'), (2, 2, 3, 'A', 'A'), (3, NULL, 2, NULL, 'b');

-- Groups whose keys are NULL: of rows that come together, and go.
SELECT projections.create('nulls', 'SELECT b.t, a.n FROM b LEFT JOIN a ON a.id = b.k GROUP BY b.t, a.n HAVING sum(b.n) >= 1');
SELECT projections.create('joined_nulls', 'SELECT s.t, s.n, r.k FROM (SELECT DISTINCT t, n FROM b) AS s JOIN (SELECT DISTINCT k FROM b) AS r ON r.k = s.n + 1');
INSERT INTO b VALUES (2, 1, ''), (4, 1, NULL), (1, 2, NULL), (1, 2, NULL);
SELECT * FROM nulls ORDER BY t, n;
UPDATE b SET t = NULL;
SELECT * FROM test.check_all();
UPDATE b SET n = -n;
SELECT * FROM nulls;
INSERT INTO b SELECT i, i, NULL FROM generate_series(1, 2000) AS i;
SELECT * FROM test.check_all();
DELETE FROM b;
SELECT * FROM test.check_all();
SELECT projections.drop('nulls'), projections.drop('joined_nulls');

-- A group by what the subquery is correlated by: as the comparison takes values for equal, not as the column does.
SELECT projections.create('by_c', 'SELECT id, (SELECT sum(n) FROM b WHERE b.u = a.t COLLATE "C") AS n FROM a');
SELECT projections.create('by_no_case', 'SELECT id, (SELECT sum(n) FROM b WHERE b.t = a.u COLLATE no_case) AS n FROM a');
SELECT projections.create('by_column', 'SELECT id, (SELECT count(n) FROM b WHERE b.u = a.u) AS n FROM a');
INSERT INTO b VALUES (1, 1, 'A', 'A'), (1, 2, 'a', 'a'), (1, 4, 'b', 'B');
SELECT id, c.n AS by_c, n.n AS by_no_case, u.n AS by_column FROM by_c AS c JOIN by_no_case AS n USING (id) JOIN by_column AS u USING (id) ORDER BY id;
SELECT * FROM test.check_all();
UPDATE b SET u = upper(u), t = upper(t);
SELECT * FROM test.check_all();
SELECT projections.drop('by_c'), projections.drop('by_no_case'), projections.drop('by_column');

-- What a subquery's one row reads of the query around it, and clauses that one row does not need.
SELECT projections.create('around', 'SELECT id, (SELECT max(b.n) + a.n FROM b WHERE b.k = a.k) AS n FROM a WHERE (SELECT count(*) + a.n FROM b WHERE b.k = a.n) > 0');
SELECT projections.create('around_groups', 'SELECT k, (SELECT max(a.n) + max(b.n) FROM b WHERE b.k = a.k) AS n FROM a GROUP BY k');
SELECT projections.create('one_row', 'SELECT id, (SELECT DISTINCT avg(n) FROM b WHERE b.k = a.k ORDER BY avg(n)) AS n FROM a');
SELECT id, n FROM around ORDER BY id;
UPDATE b SET n = n + 1, k = 2 WHERE n > 1;
SELECT id, n FROM around ORDER BY id;
SELECT * FROM test.check_all();

-- One group of all rows, of which nothing is read: in the definition's text, too.
SELECT projections.create('one', 'SELECT 1 AS one FROM a HAVING true');
TRUNCATE a;
SELECT * FROM one;
SELECT * FROM test.check_all();

-- An aggregate over an aggregate has the collation of what it adds up: here that of names.
CREATE TABLE called (k int, n name, v int);
INSERT INTO called VALUES (1, 'b', 1), (1, 'A', 2), (2, NULL, 1);
SELECT projections.create('names', 'SELECT k, coalesce(min(n), NULL) AS low, max(n) AS high, count(DISTINCT v) AS d FROM called GROUP BY k');
INSERT INTO called VALUES (1, 'a', 2), (2, 'Z', 3);
SELECT k, low, high, d FROM names ORDER BY k;
SELECT * FROM test.check_all();
DROP TABLE called CASCADE;

-- Parts above parts go with what they read, once.
CREATE SCHEMA tower;
CREATE TABLE tower.t (k int, n int);
SELECT projections.create('tower.p', 'SELECT n, count(*) AS c FROM (SELECT k, count(*) AS n FROM (SELECT k, n FROM tower.t GROUP BY k, n HAVING count(*) > 1) AS s GROUP BY k) AS q GROUP BY n HAVING count(*) > 1');
SELECT projections.create('tower.same', 'SELECT n, count(*) AS c FROM (SELECT k, count(*) AS n FROM (SELECT k, n FROM tower.t GROUP BY k, n HAVING count(*) > 1) AS s GROUP BY k) AS q GROUP BY n HAVING count(*) > 1');
SELECT projections.create('tower.above', 'SELECT n, count(*) AS c FROM tower.p GROUP BY n HAVING count(*) > 0');
INSERT INTO tower.t VALUES (1, 1), (1, 1), (2, 1), (2, 1), (3, 1);
SELECT n, c FROM tower.above;
SELECT * FROM test.check_all();
DROP SCHEMA tower CASCADE;
DROP TABLE a, b CASCADE;
SELECT relation FROM projections_internal.projection;
SELECT relname FROM pg_class WHERE relnamespace = 'projections_internal'::regnamespace AND relname ~ '_part_';
DROP COLLATION no_case;
