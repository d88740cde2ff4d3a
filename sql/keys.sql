-- What a group's key may be.
CREATE SCHEMA keys;
SET search_path = keys;
\set SHOW_CONTEXT never
SET client_min_messages = warning;

--
-- NULL, composite, and every pattern of both
--
CREATE TABLE visits (id int PRIMARY KEY, country text, city text, n int);
SELECT projections.create('by_country', 'SELECT country, count(*) AS visits, sum(n) AS n, max(n) AS most FROM visits GROUP BY country');
SELECT projections.create('by_place', 'SELECT country, city, count(*) AS visits, sum(n) AS n FROM visits GROUP BY country, city');
SELECT projections.create('places', 'SELECT DISTINCT country, city FROM visits');
INSERT INTO visits VALUES (1, NULL, NULL, 1), (2, NULL, 'Bern', 2), (3, 'CH', NULL, 3), (4, 'CH', 'Bern', 4), (5, NULL, NULL, NULL);
SELECT * FROM test.check_all();
INSERT INTO visits SELECT id + 10, country, city, n * 10 FROM visits;
SELECT * FROM test.check_all();
SELECT * FROM by_place ORDER BY country, city;
UPDATE visits SET country = NULL WHERE id IN (3, 4);
SELECT * FROM test.check_all();
UPDATE visits SET city = CASE WHEN city IS NULL THEN 'Basel' END;
SELECT * FROM test.check_all();
UPDATE visits SET country = city, city = country;
SELECT * FROM test.check_all();
DELETE FROM visits WHERE country IS NULL;
SELECT * FROM test.check_all();
DELETE FROM visits;
SELECT * FROM test.check_all();
SELECT count(*) FROM by_place;
-- NULL keys are one group, and the table refuses a second
SELECT projection, key, columns FROM projections.definitions ORDER BY projection;
DROP TABLE visits CASCADE;

--
-- Types
--
CREATE TABLE typed (id int PRIMARY KEY, n numeric, f float8, at timestamptz, j jsonb, b boolean, d date, u uuid, bytes bytea, c char(5),
                    v varchar(10), a int[], i interval, amount int);
SELECT projections.create('by_numeric', 'SELECT n, count(*) AS rows, sum(amount) AS amount FROM typed GROUP BY n');
SELECT projections.create('by_float', 'SELECT f, count(*) AS rows, max(amount) AS amount FROM typed GROUP BY f');
SELECT projections.create('by_time', 'SELECT at, count(*) AS rows, min(amount) AS amount FROM typed GROUP BY at');
SELECT projections.create('by_json', 'SELECT j, count(*) AS rows, avg(amount) AS amount FROM typed GROUP BY j');
SELECT projections.create('by_boolean', 'SELECT b, d, count(*) AS rows, bool_or(amount > 5) AS big FROM typed GROUP BY b, d');
SELECT projections.create('by_bytes', 'SELECT u, bytes, count(*) AS rows FROM typed GROUP BY bytes, u');
SELECT projections.create('by_char', 'SELECT c, v, count(*) AS rows, sum(amount) AS amount FROM typed GROUP BY c, v');
SELECT projections.create('by_array', 'SELECT a, i, count(*) AS rows, sum(amount) AS amount FROM typed GROUP BY a, i');
INSERT INTO typed VALUES
    (1, 1.0, 0, '2020-01-01 00:00+00', '{"a": 1, "b": [1, null]}', true, '2020-01-01', '00000000-0000-0000-0000-000000000001', '\x00', 'a', 'a', '{1,NULL}', '1 month', 1),
    (2, 1.00, '-0', '2020-01-01 01:00+01', '{"b": [1, null], "a": 1.0}', false, 'infinity', '00000000-0000-0000-0000-000000000001', '\x00', 'a ', 'a ', '{1,NULL}', '30 days', 10),
    (3, 'NaN', 'NaN', 'infinity', 'null', NULL, NULL, NULL, '', '', '', '{}', '0', 100),
    (4, 'NaN', 'NaN', '-infinity', '"null"', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 1000),
    (5, 'Infinity', 'Infinity', NULL, NULL, true, '4713-01-01 BC', NULL, NULL, NULL, NULL, NULL, NULL, 10000);
SELECT * FROM test.check_all();
SELECT count(*) AS numerics FROM by_numeric;
SELECT count(*) AS floats FROM by_float;
SELECT count(*) AS documents FROM by_json;
UPDATE typed SET amount = amount + 1;
SELECT * FROM test.check_all();
-- the row that brought the key's spelling leaves
DELETE FROM typed WHERE id = 1;
SELECT * FROM test.check_all();
UPDATE typed SET n = n + 0.000, f = -f, j = jsonb_build_object('n', n::text), a = a || 1, at = at + '1 hour';
SELECT * FROM test.check_all();
DELETE FROM typed WHERE n = 'NaN';
SELECT * FROM test.check_all();
TRUNCATE typed;
SELECT * FROM test.check_all();
DROP TABLE typed CASCADE;

--
-- Collations: equal is what the collation says is equal
--
CREATE COLLATION caseless (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE people (id int PRIMARY KEY, name text COLLATE caseless, n int);
SELECT projections.create('by_name', 'SELECT name, count(*) AS rows, sum(n) AS n, max(n) AS most FROM people GROUP BY name');
SELECT projections.create('by_initial', 'SELECT left(name, 1) AS initial, count(*) AS rows FROM people GROUP BY left(name, 1)');
INSERT INTO people VALUES (1, 'Ada', 1), (2, 'ADA', 2), (3, 'Bob', 3);
INSERT INTO people VALUES (4, 'ada', 4), (5, 'bob', 5);
SELECT * FROM test.check_all();
SELECT lower(name) AS name, rows, n, most FROM by_name ORDER BY 1;
UPDATE people SET name = upper(name), n = n + 1;
SELECT * FROM test.check_all();
DELETE FROM people WHERE id IN (1, 4);
SELECT * FROM test.check_all();
DELETE FROM people WHERE id IN (2, 5);
SELECT * FROM test.check_all();
SELECT lower(name) AS name, rows, n, most FROM by_name ORDER BY 1;
DROP TABLE people CASCADE;

--
-- Equal keys that look different: the row shows a key that is there
--
CREATE TABLE looks (id int PRIMARY KEY, n numeric, f float8, i interval, j jsonb, c char(3), b text COLLATE caseless, a numeric[], v int);
CREATE TABLE look_names (id int PRIMARY KEY, n numeric);
SELECT projections.create('n_looks', 'SELECT n, n::text AS t, count(*) AS rows, sum(v) AS v FROM looks GROUP BY n');
SELECT projections.create('f_looks', 'SELECT f, f::text AS t, count(*) AS rows FROM looks GROUP BY f');
SELECT projections.create('i_looks', 'SELECT i, i::text AS t, count(*) AS rows FROM looks GROUP BY i');
SELECT projections.create('j_looks', 'SELECT DISTINCT j FROM looks');
SELECT projections.create('b_looks', 'SELECT b, upper(b) = b AS shouts, count(*) AS rows FROM looks GROUP BY b');
SELECT projections.create('a_looks', 'SELECT a, a::text AS t, count(*) AS rows FROM looks GROUP BY a');
SELECT projections.create('joined_looks', 'SELECT l.n, l.n::text AS t, count(*) AS rows FROM looks l JOIN look_names o ON o.id = l.id GROUP BY l.n');
SELECT projections.create('row_looks', 'SELECT n, v FROM look_names JOIN looks USING (n)');
SELECT projections.create('most_looks', 'SELECT max(n) AS most, max(n)::text AS t, min(b) AS least FROM looks');
SELECT projections.create('later_looks', 'SELECT n, n::text AS t, count(*) AS rows FROM looks GROUP BY n', 'async');
CREATE VIEW seen AS SELECT (SELECT string_agg(t, ' ') FROM n_looks) AS n, (SELECT string_agg(t, ' ') FROM f_looks) AS f, (SELECT string_agg(t, ' ') FROM i_looks) AS i,
    (SELECT string_agg(j::text, ' ') FROM j_looks) AS j, (SELECT string_agg(b || ' ' || shouts, ' ') FROM b_looks) AS b, (SELECT string_agg(t, ' ') FROM a_looks) AS a,
    (SELECT string_agg(t, ' ') FROM joined_looks) AS joined, (SELECT string_agg(n::text, ' ') FROM row_looks) AS row, (SELECT t || ' ' || least FROM most_looks) AS most,
    (SELECT string_agg(t, ' ') FROM later_looks) AS later;
INSERT INTO look_names VALUES (1, 1.000), (2, 2);
INSERT INTO looks VALUES (1, 1.0, 0.0, '1 day', '{"a": 1}', 'a', 'ab', '{1.0}', 1);
SELECT projections.catch_up('later_looks');
SELECT * FROM seen;
-- an update to an equal value, alone and beside others
UPDATE looks SET n = 1.00, f = '-0', i = '24:00', j = '{"a": 1.0}', b = 'AB', a = '{1.00}';
SELECT projections.catch_up('later_looks');
SELECT * FROM seen;
SELECT * FROM test.check_all();
-- one that came and went in one transaction leaves no trace
BEGIN;
UPDATE looks SET n = 1.0000;
UPDATE looks SET n = 1.00;
COMMIT;
INSERT INTO looks VALUES (2, 1.0, 0.0, '1 day', '{"a": 1}', 'a', 'ab', '{1.0}', 1);
SELECT * FROM seen;
-- the row whose key is shown leaves; others stay, then the last
DELETE FROM looks WHERE id = 1;
SELECT projections.catch_up('later_looks');
SELECT * FROM seen;
-- a new group shows what is there at the end
BEGIN;
INSERT INTO looks VALUES (3, 5.0, 5, '5 days', '5', 'b', 'x', '{5.0}', 1);
UPDATE looks SET n = 5.00, i = '120:00', j = '5.0', b = 'X', a = '{5.00}' WHERE id = 3;
COMMIT;
SELECT t FROM n_looks ORDER BY n; SELECT t FROM i_looks ORDER BY i; SELECT j FROM j_looks ORDER BY j; SELECT b, shouts FROM b_looks ORDER BY b; SELECT t FROM a_looks ORDER BY a;
-- by a savepoint, and by one that is rolled back
BEGIN;
UPDATE looks SET n = 5.000 WHERE id = 3;
SAVEPOINT s;
UPDATE looks SET n = 5.0000 WHERE id = 3;
SELECT t FROM n_looks ORDER BY n;
ROLLBACK TO s;
COMMIT;
SELECT t FROM n_looks ORDER BY n;
-- repair, refresh_rows, rebuild and verify agree
SELECT p, v.* FROM unnest(ARRAY['n_looks', 'f_looks', 'i_looks', 'j_looks', 'b_looks', 'a_looks', 'joined_looks', 'row_looks', 'most_looks']) AS p, projections.verify(p) AS v;
SELECT projections.refresh_rows('n_looks', '[{"n": 5}]'), projections.repair('n_looks');
SET pg_projections.allow_direct_writes = on;
UPDATE n_looks SET n = 5.0, t = '5.0' WHERE n = 5;
RESET pg_projections.allow_direct_writes;
SELECT problem, key, expected ->> 't' AS expected, found ->> 't' AS found FROM projections.verify('n_looks');
SELECT projections.repair('n_looks');
SELECT n, t FROM n_looks ORDER BY n;
-- rows without a primary key: of equal ones, that goes which went
CREATE TABLE loose (n numeric, b text COLLATE caseless);
SELECT projections.create('loose_looks', 'SELECT n FROM loose');
SELECT projections.create('loose_texts', 'SELECT b, n FROM loose');
INSERT INTO loose VALUES (1.0, 'x'), (1.00, 'X'), (1.000, 'x');
DELETE FROM loose WHERE n::text = '1.00';
SELECT n FROM loose_looks ORDER BY n::text;
SELECT b, n FROM loose_texts ORDER BY n::text;
SELECT projections.catch_up('later_looks');
SELECT * FROM test.check_all();
DELETE FROM looks;
SELECT projections.catch_up('later_looks');
SELECT * FROM test.check_all();
DROP VIEW seen;
DROP TABLE looks, look_names, loose CASCADE;

--
-- Keys that the query computes, hides, or has none of
--
CREATE TABLE orders (id int PRIMARY KEY, customer int, at date NOT NULL, total numeric(10,2));
SELECT projections.create('by_year', 'SELECT extract(year FROM at) AS year, sum(total) AS total FROM orders GROUP BY extract(year FROM at)');
SELECT projections.create('hidden_key', 'SELECT count(*) AS n, sum(total) AS total FROM orders GROUP BY customer % 3');
SELECT projections.create('half_hidden', 'SELECT customer, max(total) AS most FROM orders GROUP BY at, customer');
SELECT projections.create('alias', 'SELECT customer * 2 AS double, count(*) FROM orders GROUP BY 1');
SELECT projections.create('twice', 'SELECT customer AS a, customer AS b, count(*) AS n FROM orders GROUP BY customer');
SELECT projections.create('of_key', 'SELECT customer, customer + 1 AS next, count(*) AS n FROM orders GROUP BY customer');
SELECT projections.create('by_primary_key', 'SELECT id, customer, total * 2 AS double, count(*) AS n FROM orders GROUP BY id');
SELECT projections.create('only_dependents', 'SELECT at, total FROM orders GROUP BY id');
SELECT projections.create('constant_key', $$SELECT 'all' AS what, count(*) AS n FROM orders GROUP BY 'all'::text$$);
SELECT projections.create('total', 'SELECT count(*) AS n, sum(total) AS total, avg(total) AS mean, min(at) AS first, max(at) AS last FROM orders');
SELECT projections.create('some_total', 'SELECT sum(total) AS total FROM orders WHERE total > 10');
SELECT projections.create('customers', 'SELECT DISTINCT customer FROM orders WHERE total > 10');
SELECT projections.create('distinct_expression', 'SELECT DISTINCT customer % 2 = 0 AS even, at FROM orders');
SELECT projections.create('grouped_only', 'SELECT customer FROM orders GROUP BY customer');
SELECT * FROM test.check_all();
-- an aggregate without GROUP BY has its row before any other exists
SELECT * FROM total;
SELECT * FROM some_total;
SELECT count(*) FROM constant_key;
INSERT INTO orders SELECT i, i % 5, date '2020-12-25' + i, i * 1.5 FROM generate_series(1, 20) AS i;
SELECT * FROM test.check_all();
SELECT * FROM by_year ORDER BY year;
UPDATE orders SET customer = NULL WHERE id % 4 = 0;
SELECT * FROM test.check_all();
UPDATE orders SET at = at + 365, total = total - 5 WHERE id < 8;
SELECT * FROM test.check_all();
UPDATE orders SET id = id + 100 WHERE id > 15;
SELECT * FROM test.check_all();
DELETE FROM orders WHERE customer = 1;
SELECT * FROM test.check_all();
DELETE FROM orders;
SELECT * FROM test.check_all();
SELECT * FROM total;
SELECT projection, key, columns FROM projections.definitions ORDER BY projection;
-- the key given is checked against the query's
SELECT projections.create('checked', 'SELECT customer, at, count(*) AS n FROM orders GROUP BY customer, at', key => '{at,customer}');
SELECT test.check('checked');

-- A key wider than an index row allows is refused by name.
CREATE TABLE notes (id int PRIMARY KEY, body text);
SELECT projections.create('by_body', 'SELECT body, count(*) AS n FROM notes GROUP BY body');
\set VERBOSITY sqlstate
INSERT INTO notes SELECT 1, string_agg(md5(i::text), '') FROM generate_series(1, 1000) AS i;
\set VERBOSITY default
SELECT test.check('by_body');
INSERT INTO notes SELECT 1, string_agg(md5(i::text), '') FROM generate_series(1, 10) AS i;
SELECT test.check('by_body');

--
-- A key of several looks is right in each look that a row has, and in no other
--
CREATE TABLE several (id int PRIMARY KEY, n numeric, v int);
INSERT INTO several VALUES (1, 1.0, 10), (2, 1.00, 20), (3, 2, 30), (4, NULL, 40);
SELECT projections.create('several_looks', 'SELECT n, n::text AS shown, count(*) AS rows, sum(v) AS v FROM several GROUP BY n');
-- Another row comes first, and so another look out of the definition.
UPDATE several SET v = v + 1 WHERE id = 1;
SELECT shown FROM several_looks WHERE n = 1;
SELECT shown FROM (SELECT n, n::text AS shown FROM several GROUP BY n) d WHERE n = 1;
SELECT * FROM projections.verify('several_looks');
SELECT projections.repair('several_looks');
SELECT * FROM projections.verify('several_looks');
CALL projections.rebuild('several_looks');
SELECT * FROM projections.verify('several_looks');
SET pg_projections.allow_direct_writes = on;
SET client_min_messages = error;
UPDATE several_looks SET n = 1.000, shown = '1.000' WHERE n = 1;
SELECT problem, expected ->> 'rows' AS rows, found ->> 'shown' AS shown FROM projections.verify('several_looks');
UPDATE several_looks SET n = 1.0, shown = '1.00' WHERE n = 1;
SELECT problem, expected ->> 'rows' AS rows, found ->> 'shown' AS shown FROM projections.verify('several_looks');
UPDATE several_looks SET n = 1.0, shown = '1.0', v = 5 WHERE n = 1;
SELECT problem, expected ->> 'v' AS expected, found ->> 'v' AS found FROM projections.verify('several_looks');
-- Two rows of the key are told of, each in a look that a row has.
SET session_replication_role = replica;
DO $$
BEGIN
    EXECUTE (SELECT format('DROP INDEX %s', indexrelid::regclass) FROM pg_index WHERE indrelid = 'several_looks'::regclass AND indisunique);
END $$;
RESET session_replication_role;
UPDATE several_looks SET v = 31 WHERE n = 1;
INSERT INTO several_looks SELECT * FROM several_looks WHERE n = 1;
UPDATE several_looks SET shown = '1.00' WHERE n = 1;
SELECT problem, found ->> 'shown' AS shown FROM projections.verify('several_looks') ORDER BY problem;
RESET pg_projections.allow_direct_writes;
SET client_min_messages = warning;
SELECT projections.repair('several_looks');
SELECT * FROM projections.verify('several_looks');

-- Blanks at the end of a bpchar do not count, and are seen where it has no length.
CREATE TABLE blanks (id int PRIMARY KEY, b bpchar);
SELECT projections.create('blank_looks', 'SELECT b, count(*) AS n FROM blanks GROUP BY b');
INSERT INTO blanks VALUES (1, 'a'), (2, 'a  ');
SELECT octet_length(b) AS bytes, n FROM blank_looks;
DELETE FROM blanks WHERE id = 1;
SELECT octet_length(b) AS bytes, n FROM blank_looks;
UPDATE blanks SET b = 'a ' WHERE id = 2;
SELECT octet_length(b) AS bytes, n FROM blank_looks;
SELECT count(*) AS wrong FROM projections.verify('blank_looks');

-- Which keys and sums are known to look the same where they are equal, and so need not be read again when rows go: of one length, of
-- one scale, or computed of such.
CREATE TABLE known (id int PRIMARY KEY, c char(3), b bpchar, p numeric(8, 2), q numeric(8, 3), o numeric, i int, at timestamp);
CREATE FUNCTION read_again(key text) RETURNS boolean LANGUAGE sql AS $$
    SELECT projections_internal._plan(format('SELECT %s AS k, count(*) AS n FROM keys.known GROUP BY 1', key)) ~ 'key, as it looks'
$$;
SELECT key, read_again(key) FROM unnest(ARRAY[
    'c', 'c COLLATE "C"', 'b', 'b::char(3)', 'p', 'p + q', 'p * (1 - q)', '-p', 'abs(q)', 'p * o', 'p / q', 'i::numeric', 'i * p', 'o', 'o + 1',
    'round(o, 2)', 'round(o, i)', 'round(o)', 'trunc(o, -1)', 'ceil(o)', 'coalesce(p, 0.00)', 'coalesce(p, 0)', 'greatest(p, 1.50)',
    'CASE WHEN i > 0 THEN p END', 'CASE WHEN i > 0 THEN p ELSE 0 END', 'extract(year FROM at)', 'extract(second FROM at)']) AS key;
CREATE FUNCTION digits_again(value text) RETURNS boolean LANGUAGE sql AS $$
    SELECT projections_internal._plan(format('SELECT c AS k, avg(%s) AS a FROM keys.known GROUP BY 1', value)) ~ 'digits'
$$;
SELECT value, digits_again(value) FROM unnest(ARRAY['p', 'p * (1 - q) * (1 + q)', 'p * o', 'i / p', 'o', 'i * 1.5']) AS value;
SELECT projections.create('known_keys', $$SELECT c, extract(year FROM at) AS year, avg(p * (1 - q)) AS a, sum(p * (1 - q)) / sum(p) AS share
    FROM known GROUP BY 1, 2$$);
INSERT INTO known SELECT g, CASE g % 3 WHEN 0 THEN 'a' WHEN 1 THEN 'a  ' ELSE 'bc' END, 'x', g % 5 + 0.5, g % 7 / 10.0, g, g,
    '2020-01-01'::timestamp + g % 3 * interval '1 year' FROM generate_series(1, 60) AS g;
INSERT INTO known SELECT 100 + g, 'a', 'x', CASE g WHEN 2 THEN 'NaN'::numeric END, 0.1, g, g, CASE g WHEN 1 THEN 'infinity'::timestamp END
FROM generate_series(1, 3) AS g;
SELECT c, year::text, count(*) FROM known_keys GROUP BY 1, 2 ORDER BY 1, 2;
DELETE FROM known WHERE id % 4 = 0;
-- digit by digit
CREATE VIEW differs AS
    SELECT count(*) AS differ FROM
        ((SELECT c, year::text, a::text, share::text FROM known_keys EXCEPT ALL
          SELECT c, extract(year FROM at)::text, avg(p * (1 - q))::text, (sum(p * (1 - q)) / sum(p))::text FROM known GROUP BY c, extract(year FROM at))
         UNION ALL
         (SELECT c, extract(year FROM at)::text, avg(p * (1 - q))::text, (sum(p * (1 - q)) / sum(p))::text FROM known GROUP BY c, extract(year FROM at)
          EXCEPT ALL SELECT c, year::text, a::text, share::text FROM known_keys)) AS d;
SELECT * FROM differs;
UPDATE known SET at = at - interval '1 year', p = p * 3, q = NULL WHERE id % 5 = 0;
SELECT * FROM differs;
DELETE FROM known WHERE id IN (101, 102) OR id % 3 = 1;
SELECT * FROM differs;

DROP SCHEMA keys CASCADE;
SELECT count(*) AS projections FROM projections.definitions;
