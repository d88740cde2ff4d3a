-- A definition that is accepted works: what is stored of it reads back as what was written, or create refuses it.
CREATE SCHEMA definitions;
CREATE SCHEMA aside;
SET search_path = definitions;
\set SHOW_CONTEXT never
\set VERBOSITY default
SET client_min_messages = error;
CREATE EXTENSION citext SCHEMA aside;
CREATE EXTENSION hstore SCHEMA aside;
RESET client_min_messages;
SET client_min_messages = warning;

--
-- Filters and constants
--
CREATE DOMAIN price AS numeric(10, 2) CHECK (VALUE > -100);
CREATE TABLE sales (id int PRIMARY KEY, shop int, amount numeric(10, 2), price price, code char(3), name varchar(5), at interval(0), mood text, big boolean);
SELECT projections.create('filtered', $$
    SELECT shop, avg(amount) FILTER (WHERE shop > 0) AS a, sum(price) FILTER (WHERE big) AS b, max(code) FILTER (WHERE big) AS c, count(price) FILTER (WHERE big) AS d,
           stddev(nullif(amount, 2)) AS e, avg(greatest(amount, 1.5)) AS f, sum(CASE WHEN big THEN amount END) AS g, max(at) FILTER (WHERE big) AS h,
           bool_and(big) FILTER (WHERE shop IS DISTINCT FROM 3) AS i, min(name) FILTER (WHERE true) || '!' AS j, max(code) || '.' AS k
    FROM sales GROUP BY shop$$);
SELECT projections.create('constants', $$
    SELECT shop, sum(1) AS a, sum(2.5) FILTER (WHERE big) AS b, avg(1) AS c, count(1) AS d, count(NULL) AS e, sum(NULL::numeric(5,1)) AS f, max('x'::text) AS g, stddev(2) AS h,
           bool_or(true) AS i, sum(1) FILTER (WHERE true) AS j, grouping(shop) AS k, sum(-3::bigint) AS l
    FROM sales GROUP BY shop$$);
SELECT projections.create('listed', $$SELECT count(*) FILTER (WHERE name IN ('a', 'b')) AS a, count(*) FILTER (WHERE code = ANY ('{a,b}')) AS b,
    count(*) FILTER (WHERE (shop, amount) < (2, 3)) AS c, count(*) FILTER (WHERE name NOT IN ('a', mood)) AS d FROM sales$$);
SELECT projections.create('twice', 'SELECT DISTINCT shop + 1 AS a, shop + 1 AS b FROM sales');
INSERT INTO sales VALUES (1, 1, 2, 2.5, 'a', 'a', '1 second', 'a', true), (2, 1, 3.25, 1, 'abc', 'b', '2 seconds', 'b', NULL), (3, 2, NULL, NULL, NULL, NULL, NULL, NULL, false);
SELECT * FROM test.check_all();
UPDATE sales SET amount = 1.1, big = NOT big, code = 'ab';
DELETE FROM sales WHERE id = 2;
SELECT * FROM test.check_all();
SELECT k FROM filtered ORDER BY shop;

--
-- NULL of what is missing has the type's length and the column's collation
--
CREATE TABLE tags (id int PRIMARY KEY, tag varchar(5), plain varchar(5) COLLATE "POSIX", text text COLLATE "POSIX", digits numeric(6, 2), since interval hour to minute);
CREATE TABLE tagged (id int PRIMARY KEY, tag int, shop int);
SELECT projections.create('tags_found', $$
    SELECT (SELECT coalesce(x.tag, 'none'::varchar(5)) FROM tags x WHERE x.id = s.tag) AS tag, count(*) AS n FROM tagged s GROUP BY 1$$);
SELECT projections.create('tags_counted', $$
    SELECT (SELECT coalesce(x.tag, 'none'::varchar(5)) FROM tags x WHERE x.id = s.tag) AS tag, count(DISTINCT shop) AS n FROM tagged s GROUP BY 1$$);
SELECT projections.create('tags_joined', $$
    SELECT s.id, x.tag, x.plain, x.text, x.digits, x.since, coalesce(x.plain, 'none') > 'a' AS named FROM tagged s LEFT JOIN tags x ON x.id = s.tag$$);
SELECT projections.create('tags_sets', $$
    SELECT x.tag, x.plain, x.digits, count(*) AS n FROM tagged s LEFT JOIN tags x ON x.id = s.tag GROUP BY GROUPING SETS ((x.tag), (x.plain, x.digits), ())$$);
SELECT attrelid::regclass, attname, format_type(atttypid, atttypmod), collname
FROM pg_attribute LEFT JOIN pg_collation AS c ON c.oid = attcollation
WHERE attrelid IN ('tags_found'::regclass, 'tags_counted'::regclass, 'tags_joined'::regclass, 'tags_sets'::regclass) AND attnum > 0 AND attname !~ '^_'
ORDER BY attrelid::regclass::text, attnum;
INSERT INTO tags VALUES (1, 'a', 'A', 'a', 1.5, '1:30'), (2, NULL, 'b', NULL, 2, NULL);
INSERT INTO tagged VALUES (1, 1, 1), (2, 2, 1), (3, 3, 2), (4, NULL, 2), (5, 1, 2);
SELECT * FROM test.check_all();
UPDATE tags SET id = 3 WHERE id = 1;
UPDATE tagged SET shop = 3 WHERE id < 3;
SELECT * FROM test.check_all();
SELECT * FROM tags_found ORDER BY tag;

--
-- Operators that are found by name
--
CREATE TABLE people (id int PRIMARY KEY, e aside.citext, h aside.hstore);
INSERT INTO people VALUES (1, 'Ann', 'a=>1'), (2, 'ANN', 'a=>2'), (3, 'bob', NULL), (4, NULL, 'a=>1');
SET search_path = definitions, aside;
SELECT projections.create('people_named', $$
    SELECT count(*) FILTER (WHERE e IS DISTINCT FROM 'ann') AS distinct_from, count(*) FILTER (WHERE e IS NOT DISTINCT FROM 'ann'::citext) AS not_distinct,
           count(nullif(e, 'ann')) AS null_if, count(CASE e WHEN 'ann' THEN 1 WHEN 'BOB' THEN NULL END) AS chosen,
           count(*) FILTER (WHERE e IN ('ann', 'bob')) AS listed, count(*) FILTER (WHERE e BETWEEN 'a' AND 'B') AS between_two, count(*) FILTER (WHERE (e, id) = ('ann', 1)) AS row_equal,
           count(*) FILTER (WHERE h IS DISTINCT FROM 'a=>1') AS h_distinct, count(*) FILTER (WHERE (h -> 'a') = '1') AS h_field
    FROM people$$);
RESET search_path;
SET search_path = definitions;
SELECT * FROM people_named;
INSERT INTO people VALUES (5, 'aNN', 'a=>1'), (6, 'Bob', 'b=>1');
DELETE FROM people WHERE id = 1;
SELECT * FROM people_named;
SELECT * FROM test.check_all();
SET search_path = definitions, aside;
SELECT projections.create('p', $$SELECT id FROM people WHERE (e, id) < ('bob', 3)$$);
SET search_path = definitions;
-- types whose operators no path finds: copies, counted copies, keys
CREATE TABLE bags (k int, h aside.hstore, e aside.citext);
INSERT INTO bags VALUES (1, 'a=>1', 'x'), (1, 'a=>1', 'X'), (1, 'a=>1', 'X');
SELECT projections.create('bag_rows', 'SELECT k, h, e FROM bags');
SELECT projections.create('bag_groups', 'SELECT e, h, count(*) AS n FROM bags GROUP BY e, h');
UPDATE bags SET k = 2 WHERE e::text = 'X';
DELETE FROM bags WHERE ctid = (SELECT max(ctid) FROM bags);
SELECT * FROM bag_rows ORDER BY k, e::text;
SELECT * FROM test.check_all();
SELECT projections.refresh_rows('bag_groups', '[{"e": "x", "h": "\"a\"=>\"1\""}]');
SELECT projections.refresh_source('people', '[{"e": "ann"}, {"e": null}]');
SELECT * FROM projections.verify('bag_rows');
SELECT * FROM projections.verify('bag_groups');

--
-- Columns named like ours
--
CREATE TABLE named (id int PRIMARY KEY, _projections_weight int, _projections_change int, weight int, weight_1 int, change int, ordinal int, key int, argument int, t int, d int, r int, e int,
                    delta_0 int, old_0 int, changed int, affected int, came int, gone int, k0 int, _count int, _n_count int, excluded int, "Ünï ""q" int, s int, u int, c1 int, a int,
                    a23456789012345678901234567890123456789012345678901234567890123 int);
CREATE TABLE other (id int PRIMARY KEY, _projections_weight int, delta_0 int);
INSERT INTO other SELECT i, i, i FROM generate_series(1, 4) AS i;
SELECT projections.create('named_rows', 'SELECT * FROM named');
SELECT projections.create('named_joined', 'SELECT n.*, o._projections_weight AS w FROM named n JOIN other o ON o.id = n.t');
SELECT projections.create('named_groups', 'SELECT _projections_weight, ordinal, key, t, "Ünï ""q", k0, sum(argument) AS argument, sum(_n_count) AS n, count(*) FILTER (WHERE d > 0) AS _count, max(weight) AS weight, avg(a23456789012345678901234567890123456789012345678901234567890123) AS a23456789012345678901234567890123456789012345678901234567890123 FROM named GROUP BY 1, 2, 3, 4, 5, 6');
SELECT projections.create('named_joined_groups', 'SELECT n.t, sum(o._projections_weight) AS weight_1, avg(n._projections_weight) AS delta_0 FROM named n JOIN other o ON o.id = n.t GROUP BY n.t');
SELECT projections.create('named_later', 'SELECT t, sum(_projections_weight) AS changed, max(_projections_change) AS change FROM named GROUP BY t', 'async');
INSERT INTO named SELECT i, i, i, i, i, i, i, i, i, i % 3, i, i, i, i, i, i, i, i, i, i, i, i, i, i, i, i, i, i, i FROM generate_series(1, 5) AS i;
BEGIN;
UPDATE named SET t = t + 1, weight = 0;
UPDATE other SET _projections_weight = 7 WHERE id = 2;
COMMIT;
DELETE FROM named WHERE id = 3;
SELECT projections.pause('named_joined', 'test');
UPDATE named SET _projections_weight = 9, _projections_change = 8 WHERE id = 1;
SELECT projections.resume('named_joined');
SELECT projections.catch_up('named_later');
SELECT * FROM test.check_all();
SELECT projections.refresh_rows('named_rows', '[{"id": 1}]'), projections.refresh_rows('named_joined_groups', '[{"t": 1}]');
SELECT projections.refresh_source('named', '[{"_projections_weight": 9}]');
SELECT p, v.* FROM unnest(ARRAY['named_rows', 'named_joined', 'named_groups', 'named_joined_groups', 'named_later']) AS p, projections.verify(p) AS v;

--
-- What a table cannot hold is refused in words about the query
--
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE TABLE moods (id int PRIMARY KEY, k int, m mood, ms mood[], p point);
SELECT projections.create('p', 'SELECT count(*), count(id) FROM moods');
SELECT projections.create('p', 'SELECT k + 1, k + 2 FROM moods');
SELECT projections.create('p', 'SELECT * FROM moods a JOIN moods b ON a.id = b.k');
SELECT projections.create('p', 'SELECT k AS xmin FROM moods');
SELECT projections.create('p', 'SELECT row(k, m) AS r FROM moods');
SELECT projections.create('p', 'SELECT ARRAY[row(k, m)] AS r FROM moods');
SELECT projections.create('p', 'SELECT FROM moods');
SELECT projections.create('p', 'SELECT DISTINCT ' || (SELECT string_agg(format('k + %s AS c%s', i, i), ', ') FROM generate_series(1, 33) AS i) || ' FROM moods');
SELECT projections.create('p', 'SELECT enum_last(m) AS m FROM moods');
-- the greatest of an enum, of arrays
SELECT projections.create('best', 'SELECT k, max(m) FILTER (WHERE id > 0) AS m, max(m)::text AS t, max(ms) AS ms, max(ms)::text AS mt FROM moods GROUP BY k');
INSERT INTO moods VALUES (1, 1, 'sad', '{ok}'), (2, 1, 'happy', '{sad,ok}');
DELETE FROM moods WHERE id = 2;
SELECT * FROM best;
SELECT * FROM test.check_all();

--
-- A function that is no longer IMMUTABLE
--
CREATE FUNCTION next_of(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 + 1';
CREATE TABLE steps (id int PRIMARY KEY, k int);
SELECT projections.create('next_steps', 'SELECT next_of(k) AS k, count(*) AS n FROM steps GROUP BY 1');
SELECT projections.create('next_joined', 'SELECT next_of(a.k) AS k, b.id FROM steps a JOIN steps b ON b.k = a.id');
SET client_min_messages = error;
CREATE OR REPLACE FUNCTION next_of(int) RETURNS int LANGUAGE sql AS 'SELECT $1 + 1';
-- Where event triggers do not fire, the next writer is told.
ALTER EVENT TRIGGER projections_after_ddl DISABLE;
CREATE OR REPLACE FUNCTION next_of(int) RETURNS int LANGUAGE sql AS 'SELECT $1 + 1';
ALTER EVENT TRIGGER projections_after_ddl ENABLE;
SET client_min_messages = warning;
\c
SET search_path = definitions;
SET client_min_messages = error;
\set SHOW_CONTEXT never
INSERT INTO steps VALUES (1, 1);
SELECT projections.drop('next_joined');
SELECT projections.pause('next_steps', 'its function changed');
INSERT INTO steps VALUES (1, 1);
CREATE OR REPLACE FUNCTION next_of(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 + 1';
SELECT projections.resume('next_steps');
SELECT k, n FROM next_steps;

SET client_min_messages = error;
DROP SCHEMA definitions, aside CASCADE;
