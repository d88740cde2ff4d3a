-- Every aggregate of the algebraic class over every type it takes: rows come, change and go, groups empty, extrema leave.
CREATE SCHEMA aggregates;
SET search_path = aggregates;
\set SHOW_CONTEXT never
SET client_min_messages = warning;

-- numeric 1.0 equals 1.00 for the oracle: here the digits count as well.
CREATE FUNCTION same_text(target regclass) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    texts text;
    definition regclass;
    same boolean;
BEGIN
    SELECT d.definition, (SELECT string_agg(format('%I::text', c), ', ') FROM unnest(d.columns) AS c)
    INTO STRICT definition, texts FROM projections.definitions AS d WHERE d.relation = target;
    EXECUTE format('SELECT NOT EXISTS (SELECT %1$s FROM %2$s EXCEPT ALL SELECT %1$s FROM %3$s)
                       AND NOT EXISTS (SELECT %1$s FROM %3$s EXCEPT ALL SELECT %1$s FROM %2$s)', texts, definition, target) INTO same;
    RETURN same;
END
$$;

--
-- Integers
--
CREATE TABLE integers (id int PRIMARY KEY, g int, i2 int2, i4 int4, i8 int8);
INSERT INTO integers VALUES (1, 1, 10, 100000, 10000000000), (2, 1, 20, -7, NULL), (3, 2, NULL, NULL, NULL);
SELECT projections.create('integer_sums', 'SELECT g, count(*) AS n, count(i2) AS n2, count(i4) AS n4, count(i8) AS n8,
    sum(i2) AS s2, sum(i4) AS s4, sum(i8) AS s8, avg(i2) AS a2, avg(i4) AS a4, avg(i8) AS a8 FROM integers GROUP BY g');
SELECT projections.create('integer_extrema', 'SELECT g, min(i2) AS min2, max(i2) AS max2, min(i4) AS min4, max(i4) AS max4,
    min(i8) AS min8, max(i8) AS max8 FROM integers GROUP BY g');
SELECT projections.create('integer_spread', 'SELECT g, variance(i2) AS v2, var_samp(i4) AS v4, var_pop(i8) AS v8,
    stddev(i2) AS d2, stddev_samp(i4) AS d4, stddev_pop(i8) AS d8, var_pop(i2) AS p2, stddev_pop(i4) AS p4, stddev(i8) AS q8
    FROM integers GROUP BY g');
SELECT * FROM test.check_all();
SELECT same_text('integer_sums'), same_text('integer_spread');
INSERT INTO integers VALUES (4, 1, -32768, 2147483647, 9223372036854775807), (5, 1, 32767, 2147483647, 9223372036854775807), (6, 3, 0, 0, 0);
SELECT * FROM test.check_all();
SELECT same_text('integer_sums'), same_text('integer_spread');
SELECT g, n, n2, n4, n8, s2, s4, s8 FROM integer_sums ORDER BY g;
UPDATE integers SET i2 = 3, i4 = 4, i8 = 5 WHERE id = 3;
SELECT * FROM test.check_all();
UPDATE integers SET g = 2 WHERE id IN (4, 5);
SELECT * FROM test.check_all();
SELECT same_text('integer_sums'), same_text('integer_spread');
UPDATE integers SET i2 = NULL, i4 = NULL, i8 = NULL WHERE g = 2;
SELECT * FROM test.check_all();
SELECT g, n, n2, s2, a2 FROM integer_sums WHERE g = 2;
-- the extremum of each column leaves
DELETE FROM integers WHERE id = 1;
SELECT * FROM test.check_all();
-- a group empties, and comes back
DELETE FROM integers WHERE g = 3;
SELECT * FROM test.check_all();
SELECT count(*) AS gone FROM integer_sums WHERE g = 3;
INSERT INTO integers VALUES (6, 3, 1, 1, 1);
SELECT * FROM test.check_all();
-- a sum that leaves bigint's range on the way, and comes back
SELECT projections.create('sums', 'SELECT g, sum(i8) AS s8, sum(i4) AS s4 FROM integers GROUP BY g');
BEGIN;
INSERT INTO integers SELECT 100 + i, 4, 1, 2147483647, 9223372036854775807 FROM generate_series(1, 5) AS i;
DELETE FROM integers WHERE id > 101;
COMMIT;
SELECT * FROM test.check_all();
DELETE FROM integers;
SELECT * FROM test.check_all();
DROP TABLE integers CASCADE;
SELECT count(*) AS projections FROM projections.definitions;

--
-- Numeric: with a fixed scale, and with the scale of each value
--
CREATE TABLE numerics (id int PRIMARY KEY, g text, price numeric(12,2), amount numeric);
INSERT INTO numerics VALUES (1, 'a', 1.50, 1.5), (2, 'a', 2.25, 2.123456789), (3, 'a', NULL, NULL), (4, 'b', 7, 7);
SELECT projections.create('numeric_sums', 'SELECT g, sum(price) AS sp, avg(price) AS ap, sum(amount) AS sa, avg(amount) AS aa,
    count(price) AS np, min(price) AS minp, max(amount) AS maxa FROM numerics GROUP BY g');
SELECT projections.create('numeric_spread', 'SELECT g, variance(price) AS vp, var_pop(price) AS pp, stddev(price) AS dp, stddev_pop(price) AS qp,
    variance(amount) AS va, var_pop(amount) AS pa, stddev(amount) AS da, stddev_pop(amount) AS qa FROM numerics GROUP BY g');
SELECT test.check('numeric_sums'), test.check('numeric_spread'), same_text('numeric_sums'), same_text('numeric_spread');
INSERT INTO numerics VALUES (5, 'a', 3.10, 0.00000000000000000001), (6, 'b', 0.01, 12345678901234567890.5), (7, 'c', 5.55, 5);
SELECT test.check('numeric_sums'), test.check('numeric_spread'), same_text('numeric_sums'), same_text('numeric_spread');
SELECT g, sp, ap, sa, aa FROM numeric_sums ORDER BY g;
-- the value with the widest scale leaves: by UPDATE of the value, of the key, and by DELETE
UPDATE numerics SET amount = 1 WHERE id = 5;
SELECT test.check('numeric_sums'), test.check('numeric_spread'), same_text('numeric_sums'), same_text('numeric_spread');
UPDATE numerics SET g = 'c' WHERE id = 2;
SELECT test.check('numeric_sums'), test.check('numeric_spread'), same_text('numeric_sums'), same_text('numeric_spread');
DELETE FROM numerics WHERE id = 2;
SELECT test.check('numeric_sums'), test.check('numeric_spread'), same_text('numeric_sums'), same_text('numeric_spread');
SELECT g, sa, aa FROM numeric_sums ORDER BY g;
-- NaN and infinities come and go
INSERT INTO numerics VALUES (10, 'a', NULL, 'NaN'), (11, 'b', 'NaN', 'Infinity'), (12, 'c', NULL, '-Infinity');
SELECT test.check('numeric_sums'), test.check('numeric_spread'), same_text('numeric_sums'), same_text('numeric_spread');
INSERT INTO numerics VALUES (13, 'b', NULL, '-Infinity');
SELECT test.check('numeric_sums'), test.check('numeric_spread');
SELECT g, sp, sa, aa FROM numeric_sums ORDER BY g;
DELETE FROM numerics WHERE id IN (10, 11);
SELECT test.check('numeric_sums'), test.check('numeric_spread'), same_text('numeric_sums'), same_text('numeric_spread');
UPDATE numerics SET amount = 3.25 WHERE id IN (12, 13);
SELECT test.check('numeric_sums'), test.check('numeric_spread'), same_text('numeric_sums'), same_text('numeric_spread');
SELECT g, sp, sa, aa FROM numeric_sums ORDER BY g;
INSERT INTO numerics SELECT 100 + i, 'd', i / 7.0, (i * 1.0 / 3)::numeric(20,5) FROM generate_series(1, 50) AS i;
SELECT test.check('numeric_sums'), test.check('numeric_spread'), same_text('numeric_sums'), same_text('numeric_spread');
DELETE FROM numerics WHERE g = 'd' AND id % 3 > 0;
SELECT test.check('numeric_sums'), test.check('numeric_spread'), same_text('numeric_sums'), same_text('numeric_spread');
DELETE FROM numerics WHERE g = 'd' AND id > 103;
SELECT test.check('numeric_sums'), test.check('numeric_spread'), same_text('numeric_sums'), same_text('numeric_spread');
TRUNCATE numerics;
SELECT test.check('numeric_sums'), test.check('numeric_spread');
SELECT count(*) FROM numeric_sums;
DROP TABLE numerics CASCADE;

--
-- Floats: no drift, no dependence on order, NaN and infinities leave no trace
--
CREATE TABLE floats (id int PRIMARY KEY, g int, f4 float4, f8 float8);
INSERT INTO floats VALUES (1, 1, 0.1, 0.1), (2, 1, 0.2, 1e100), (3, 2, NULL, NULL);
SELECT projections.create('float_sums', 'SELECT g, sum(f4) AS s4, sum(f8) AS s8, avg(f4) AS a4, avg(f8) AS a8,
    min(f4) AS min4, max(f8) AS max8, count(f8) AS n FROM floats GROUP BY g');
SELECT projections.create('float_spread', 'SELECT g, variance(f4) AS v4, var_pop(f4) AS p4, stddev(f4) AS d4, stddev_pop(f4) AS q4
    FROM floats GROUP BY g');
SELECT projections.create('double_spread', 'SELECT g, variance(f8) AS v8, var_pop(f8) AS p8, stddev(f8) AS d8, stddev_pop(f8) AS q8
    FROM floats WHERE f8 < 1e50 GROUP BY g');
SELECT * FROM test.check_all();
-- 1e100 swallows the others while it is there; when it has left, they are still all there
INSERT INTO floats VALUES (4, 1, 3.5, 0.2), (5, 2, -1.5, 1e-300);
DELETE FROM floats WHERE id = 2;
SELECT * FROM test.check_all();
SELECT g, s8, a8, n FROM float_sums ORDER BY g;
INSERT INTO floats VALUES (10, 1, 'NaN', 'NaN'), (11, 2, 'Infinity', 'Infinity');
SELECT * FROM test.check_all();
SELECT g, s4, s8, a8, max8 FROM float_sums ORDER BY g;
INSERT INTO floats VALUES (12, 2, '-Infinity', '-Infinity'), (13, 3, '-Infinity', 5);
SELECT * FROM test.check_all();
SELECT g, s4, s8, a8 FROM float_sums ORDER BY g;
DELETE FROM floats WHERE id IN (10, 11);
SELECT * FROM test.check_all();
SELECT g, s4, s8, a8 FROM float_sums ORDER BY g;
UPDATE floats SET f4 = 1, f8 = 2 WHERE id IN (12, 13);
SELECT * FROM test.check_all();
SELECT g, s4, s8, a8 FROM float_sums ORDER BY g;
-- 0.1 a thousand times and away again: exactly nothing remains
INSERT INTO floats SELECT 100 + i, 9, 0.1, 0.1 FROM generate_series(1, 1000) AS i;
INSERT INTO floats VALUES (99, 9, 0.5, 0.5);
SELECT * FROM test.check_all();
DELETE FROM floats WHERE id > 100;
SELECT * FROM test.check_all();
SELECT g, s4, s8 FROM float_sums WHERE g = 9;
-- the extrema of floats: NaN is the largest, -0 equals 0
UPDATE floats SET f4 = '-0', f8 = 'NaN' WHERE id = 99;
SELECT * FROM test.check_all();
DELETE FROM floats WHERE id = 99;
SELECT * FROM test.check_all();
-- a sum that no float can hold is an error, as it is in core
INSERT INTO floats VALUES (50, 5, 1, 1e150), (51, 5, 1, -1e150);
SELECT * FROM test.check_all();
DELETE FROM floats WHERE id = 50;
SELECT * FROM test.check_all();
DROP TABLE floats CASCADE;
CREATE TABLE floats (id int PRIMARY KEY, g int, f8 float8);
SELECT projections.create('float_sums', 'SELECT g, sum(f8) AS s8 FROM floats GROUP BY g');
INSERT INTO floats VALUES (1, 1, 1.7e308);
SELECT test.check('float_sums');
\set VERBOSITY sqlstate
INSERT INTO floats VALUES (2, 1, 1.7e308);
SELECT sum(f8) FROM (VALUES (1.7e308::float8), (1.7e308)) AS f (f8);
\set VERBOSITY default
SELECT test.check('float_sums');
DROP TABLE floats CASCADE;

--
-- Money
--
CREATE TABLE payments (id int PRIMARY KEY, g int, paid money);
INSERT INTO payments VALUES (1, 1, 10.25), (2, 1, NULL);
SELECT projections.create('paid', 'SELECT g, sum(paid) AS total, min(paid) AS lowest, max(paid) AS highest FROM payments GROUP BY g');
SELECT test.check('paid');
INSERT INTO payments VALUES (3, 1, -0.25), (4, 2, NULL);
SELECT test.check('paid');
DELETE FROM payments WHERE id = 1;
SELECT test.check('paid');
UPDATE payments SET paid = NULL;
SELECT test.check('paid');
DROP TABLE payments CASCADE;

--
-- Booleans
--
CREATE TABLE answers (id int PRIMARY KEY, g int, yes boolean);
INSERT INTO answers VALUES (1, 1, true), (2, 1, NULL), (3, 2, NULL);
SELECT projections.create('verdicts', 'SELECT g, bool_and(yes) AS every_one, bool_or(yes) AS any_one, every(NOT yes) AS none FROM answers GROUP BY g');
SELECT test.check('verdicts');
INSERT INTO answers VALUES (4, 1, false), (5, 2, false), (6, 3, true);
SELECT test.check('verdicts');
SELECT * FROM verdicts ORDER BY g;
UPDATE answers SET yes = NOT yes;
SELECT test.check('verdicts');
DELETE FROM answers WHERE id IN (4, 5);
SELECT test.check('verdicts');
SELECT * FROM verdicts ORDER BY g;
UPDATE answers SET yes = NULL;
SELECT test.check('verdicts');
DROP TABLE answers CASCADE;

--
-- Extrema of every kind of order
--
CREATE TYPE size AS ENUM ('small', 'middle', 'large');
CREATE TABLE facts (id int PRIMARY KEY, g int, t text, d date, at timestamptz, host inet, s size, i interval, a int[]);
INSERT INTO facts VALUES
    (1, 1, 'pear', '2020-02-29', '2020-02-29 12:00+00', '10.0.0.1', 'middle', '1 day', '{1,2}'),
    (2, 1, 'apple', '2019-01-01', '2021-01-01 00:00+02', '192.168.0.0/16', 'large', '23 hours', '{1}'),
    (3, 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
    (4, 2, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT projections.create('lowest', 'SELECT g, min(t) AS t, min(d) AS d, min(at) AS at, min(host) AS host, min(s) AS s, min(i) AS i, min(a) AS a FROM facts GROUP BY g');
SELECT projections.create('highest', 'SELECT g, max(t) AS t, max(d) AS d, max(at) AS at, max(host) AS host, max(s) AS s, max(i) AS i, max(a) AS a FROM facts GROUP BY g');
SELECT projections.create('range_of_all', 'SELECT min(t) AS first, max(t) AS last, count(t) AS n FROM facts');
SELECT * FROM test.check_all();
INSERT INTO facts VALUES (5, 1, '', 'infinity', '-infinity', '::1', 'small', '-1 year', '{}'), (6, 2, 'Ä', '-infinity', 'infinity', '10.0.0.1/8', 'small', '0', '{NULL}');
SELECT * FROM test.check_all();
-- the lowest and the highest leave; two rows share an extremum, and one of them leaves
DELETE FROM facts WHERE id = 5;
SELECT * FROM test.check_all();
INSERT INTO facts SELECT id + 10, g, t, d, at, host, s, i, a FROM facts;
SELECT * FROM test.check_all();
DELETE FROM facts WHERE id < 10;
SELECT * FROM test.check_all();
UPDATE facts SET t = 'zebra', d = '2030-01-01', s = 'large' WHERE id = 12;
SELECT * FROM test.check_all();
UPDATE facts SET t = 'aardvark', d = '1930-01-01', s = 'small' WHERE id = 12;
SELECT * FROM test.check_all();
UPDATE facts SET g = 3 - g;
SELECT * FROM test.check_all();
-- a new extremum comes and leaves, and the old one leaves, within one transaction and one statement
BEGIN;
INSERT INTO facts (id, g, t) VALUES (20, 1, 'zz');
DELETE FROM facts WHERE id = 20;
UPDATE facts SET t = 'zzz' WHERE id = 11;
UPDATE facts SET t = 'b' WHERE id = 11;
COMMIT;
SELECT * FROM test.check_all();
WITH gone AS (DELETE FROM facts WHERE t = 'b' RETURNING g) INSERT INTO facts (id, g, t) SELECT 21, g, 'bb' FROM gone;
SELECT * FROM test.check_all();
DELETE FROM facts;
SELECT * FROM test.check_all();
SELECT first, last, n FROM range_of_all;
DROP TABLE facts CASCADE;
DROP TYPE size;

--
-- FILTER, expressions in and over aggregates
--
CREATE TABLE sales (id int PRIMARY KEY, item text, quantity int, price numeric(10,2), paid boolean);
INSERT INTO sales VALUES (1, 'tea', 3, 2.10, true), (2, 'tea', 5, 2.30, false), (3, 'jam', NULL, 4.00, NULL), (4, 'jam', 0, NULL, true);
SELECT projections.create('report', $$
    SELECT item AS "the item",
           count(*) FILTER (WHERE paid) AS paid,
           sum(quantity * price) FILTER (WHERE NOT paid) AS open,
           round(avg(price), 2) AS price,
           sum(quantity) / nullif(count(price), 0) AS per_sale,
           'dearest ' || max(price) AS dearest,
           coalesce(sum(quantity), 0) + 1 AS more,
           CASE WHEN count(*) > 2 THEN 'many' ELSE item END AS verdict,
           upper(item) || count(*) AS label,
           max(price) FILTER (WHERE paid) AS best_paid,
           avg(quantity) FILTER (WHERE quantity > 0) AS mean,
           max(price) - min(price) AS spread,
           count(*) * 100.0 AS percent,
           sum(quantity) > 4 AS big,
           1 AS one
    FROM sales WHERE item <> 'secret' GROUP BY item$$);
SELECT test.check('report'), same_text('report');
INSERT INTO sales VALUES (5, 'tea', 1, 9.99, true), (6, 'secret', 1, 1, true), (7, 'ale', -2, 1.5, false);
SELECT test.check('report'), same_text('report');
SELECT "the item", paid, open, price, per_sale, dearest, more, verdict, label FROM report ORDER BY 1;
UPDATE sales SET paid = NOT paid, price = price + 1;
SELECT test.check('report'), same_text('report');
UPDATE sales SET item = 'tea' WHERE id IN (4, 6);
SELECT test.check('report'), same_text('report');
UPDATE sales SET item = 'secret' WHERE id IN (4, 5);
SELECT test.check('report'), same_text('report');
DELETE FROM sales WHERE item = 'tea';
SELECT test.check('report'), same_text('report');
SELECT "the item", paid, open, price, per_sale, dearest, more, verdict, label FROM report ORDER BY 1;
DROP TABLE sales CASCADE;

-- An appended column is there only where the query does not return what maintenance needs.
CREATE TABLE lines (id int PRIMARY KEY, g int NOT NULL, n int NOT NULL, m int);
SELECT projections.create('bare', 'SELECT g, count(*) AS rows, sum(n) AS s FROM lines GROUP BY g');
SELECT projections.create('appended', 'SELECT g, avg(m) AS a FROM lines GROUP BY g');
SELECT projections.create('returned', 'SELECT g, avg(m) AS a, sum(m) AS s, count(m) AS c, count(*) AS rows FROM lines GROUP BY g');
SELECT attrelid::regclass AS projection, string_agg(attname, ', ' ORDER BY attnum) AS columns
FROM pg_attribute WHERE attrelid IN ('bare'::regclass, 'appended'::regclass, 'returned'::regclass) AND attnum > 0 GROUP BY 1 ORDER BY 1::text;
INSERT INTO lines SELECT i, i % 3, i, nullif(i % 4, 0) FROM generate_series(1, 30) AS i;
SELECT * FROM test.check_all();
UPDATE lines SET m = NULL, n = -n WHERE g = 1;
SELECT * FROM test.check_all();

--
-- Conditional sums: an ELSE 0 has fewer digits than what is added, and shows where nothing else is left
--
CREATE TABLE conditional (id int PRIMARY KEY, g int, good boolean, n numeric(8, 2));
SELECT projections.create('conditional_sums', $$SELECT g, avg(CASE WHEN good THEN n ELSE 0 END) AS a, count(*) AS rows,
    2 * sum(CASE WHEN good THEN n ELSE 0 END) AS twice, sum(CASE WHEN good THEN n * n ELSE 0 END) / 3 AS third, 10 * sum(coalesce(n, 0)) / (7 * count(*)) AS part FROM conditional GROUP BY g$$);
SELECT projections.create('conditional_total', $$SELECT sum(CASE WHEN good THEN n ELSE 0 END) FILTER (WHERE g > 0) / 3 AS third FROM conditional$$);
SELECT projections_internal._plan($$SELECT g, avg(CASE WHEN good THEN n ELSE 0 END) AS a FROM aggregates.conditional GROUP BY g$$) ~ 'digits' AS read_again,
    projections_internal._plan($$SELECT g, avg(CASE WHEN good THEN n ELSE 0.000 END) AS a FROM aggregates.conditional GROUP BY g$$) ~ 'digits' AS more_digits,
    projections_internal._plan($$SELECT g, avg(CASE WHEN good THEN n ELSE 1 END) AS a FROM aggregates.conditional GROUP BY g$$) ~ 'digits' AS no_zero;
INSERT INTO conditional SELECT i, i % 3, i % 2 = 0, i / 4.0 FROM generate_series(1, 12) AS i;
SELECT same_text('conditional_sums'), same_text('conditional_total');
-- all that is good leaves a group, and none of it
DELETE FROM conditional WHERE good AND g = 1;
SELECT same_text('conditional_sums'), same_text('conditional_total');
SELECT g, a, twice, third FROM conditional_sums ORDER BY g;
UPDATE conditional SET good = false WHERE g = 2;
SELECT same_text('conditional_sums'), same_text('conditional_total');
-- zeros of either kind change places, and what is left adds up to zero
UPDATE conditional SET good = true, n = 0 WHERE id IN (5, 6);
SELECT same_text('conditional_sums'), same_text('conditional_total');
UPDATE conditional SET good = NOT good WHERE id IN (5, 6);
SELECT same_text('conditional_sums'), same_text('conditional_total');
INSERT INTO conditional VALUES (21, 2, true, 7), (22, 2, true, -7), (23, 2, true, 3);
SELECT same_text('conditional_sums'), same_text('conditional_total');
DELETE FROM conditional WHERE id = 23;
SELECT same_text('conditional_sums'), same_text('conditional_total');
DELETE FROM conditional WHERE id IN (21, 22);
SELECT same_text('conditional_sums'), same_text('conditional_total');
UPDATE conditional SET n = 'NaN' WHERE id = 3;
DELETE FROM conditional WHERE id = 3;
SELECT same_text('conditional_sums'), same_text('conditional_total');
UPDATE conditional SET n = NULL;
SELECT same_text('conditional_sums'), same_text('conditional_total');
DELETE FROM conditional;
SELECT same_text('conditional_sums'), same_text('conditional_total');

DROP SCHEMA aggregates CASCADE;
SELECT count(*) AS projections FROM projections.definitions;
