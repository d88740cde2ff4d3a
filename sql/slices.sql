-- Slices of rows: windows, functions that return sets, LATERAL of several rows, the first rows of an index, and parts of
-- these. Each is compared with what was written after every change.
SET client_min_messages = error;
\set SHOW_CONTEXT never
CREATE TABLE sales (id int PRIMARY KEY, region text, day int, amount numeric);
CREATE TABLE posts (id int PRIMARY KEY, title text, tags text[], parts jsonb, n int);
CREATE TABLE customers (id int PRIMARY KEY, name text);
CREATE TABLE orders (id int PRIMARY KEY, customer int, at int, total int, state text);
CREATE INDEX ON orders (customer, at DESC);
CREATE INDEX ON orders (state, total, id);
CREATE INDEX ON orders (state, total DESC, id);
CREATE INDEX ON sales (amount DESC, id);
INSERT INTO sales SELECT i, CASE WHEN i % 7 > 0 THEN 'r' || i % 3 END, i % 5, round(i / 3.0, i % 3) FROM generate_series(1, 40) i;
INSERT INTO posts SELECT i, 't' || i % 4, ARRAY['a' || i % 3, 'b', 'b', NULL], jsonb_build_array(jsonb_build_object('k', i), jsonb_build_object('k', i % 2)), i % 4 FROM generate_series(1, 12) i;
INSERT INTO customers SELECT i, 'c' || i FROM generate_series(1, 8) i;
INSERT INTO orders SELECT i, nullif(i % 10, 0), i % 6, i * 7 % 20, substr('onp', i % 3 + 1, 1) FROM generate_series(1, 60) i;

CREATE VIEW large AS SELECT id, customer, total, state FROM orders WHERE total > 3 OR state = 'n';
CREATE TABLE kinds (number int GENERATED ALWAYS AS IDENTITY, query text);
INSERT INTO kinds (query) VALUES
    -- windows
    ('SELECT id, region, rank() OVER (PARTITION BY region ORDER BY day) AS r, dense_rank() OVER (PARTITION BY region ORDER BY amount DESC) AS d FROM sales'),
    ('SELECT id, row_number() OVER w AS n, lag(amount) OVER w AS l, lead(amount, 2, 0::numeric) OVER w AS m, first_value(id) OVER w AS f FROM sales WINDOW w AS (PARTITION BY region ORDER BY day, id)'),
    ('SELECT id, amount, sum(amount) OVER (PARTITION BY region ORDER BY day, id) AS running, avg(amount) OVER (PARTITION BY region ORDER BY id ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) AS moving, count(*) OVER (PARTITION BY region) AS n FROM sales WHERE day > 0'),
    ('SELECT o.id, c.name, o.total, sum(o.total) OVER (PARTITION BY o.customer) AS t, ntile(2) OVER (PARTITION BY o.customer, o.state ORDER BY o.id) AS h FROM orders o LEFT JOIN customers c ON c.id = o.customer'),
    ('SELECT id, day % 2 AS odd, max(amount) OVER (PARTITION BY day % 2 ORDER BY id RANGE BETWEEN 5 PRECEDING AND 1 FOLLOWING EXCLUDE CURRENT ROW) AS m, nth_value(id, 2) OVER (PARTITION BY day % 2 ORDER BY id ROWS UNBOUNDED PRECEDING) AS v FROM sales'),
    ('SELECT region, day, sum(amount) AS total, rank() OVER (PARTITION BY region ORDER BY sum(amount) DESC) AS place, round(sum(amount) / sum(sum(amount)) OVER (PARTITION BY region), 4) AS share FROM sales GROUP BY region, day HAVING count(*) > 1'),
    ('SELECT s.* FROM (SELECT id, region, amount, row_number() OVER (PARTITION BY region ORDER BY amount DESC, id) AS n FROM sales) AS s WHERE n <= 2'),
    ('SELECT c.name, s.id FROM customers c JOIN (SELECT id, customer, row_number() OVER (PARTITION BY customer ORDER BY at DESC, id) AS n FROM orders) AS s ON s.customer = c.id AND s.n = 1'),
    ('SELECT DISTINCT region, max(amount) OVER (PARTITION BY region) AS m FROM sales'),
    ('SELECT n, count(*) AS regions FROM (SELECT count(*) OVER (PARTITION BY region) AS n FROM sales) AS s GROUP BY n'),
    ('SELECT id, string_agg(state, '''') FILTER (WHERE total > 3) OVER (PARTITION BY customer ORDER BY id) AS states, array_agg(id) OVER (PARTITION BY customer ORDER BY id ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING) AS near FROM orders'),
    -- functions that return sets
    ('SELECT p.id, t.tag FROM posts p, unnest(p.tags) AS t(tag)'),
    ('SELECT p.id, t.tag, t.n FROM posts p LEFT JOIN LATERAL unnest(p.tags) WITH ORDINALITY AS t(tag, n) ON t.n > 1'),
    ('SELECT id, unnest(tags) AS tag, title FROM posts WHERE n > 0'),
    ('SELECT t.tag, count(*) AS posts, max(p.id) AS last FROM posts p CROSS JOIN unnest(p.tags) AS t(tag) GROUP BY t.tag'),
    ('SELECT DISTINCT unnest(tags) AS tag FROM posts'),
    ('SELECT p.id, (e.value ->> ''k'')::int AS k FROM posts p, jsonb_array_elements(p.parts) AS e(value)'),
    ('SELECT p.title, sum(r.k) AS k FROM posts p, jsonb_to_recordset(p.parts) AS r(k int) GROUP BY p.title'),
    ('SELECT p.id, g.i, w.word FROM posts p, generate_series(1, p.n) AS g(i), regexp_split_to_table(p.title, ''t'') AS w(word)'),
    ('SELECT c.id, t.tag FROM customers c JOIN posts p ON p.id = c.id CROSS JOIN LATERAL unnest(p.tags) AS t(tag) WHERE t.tag <> ''b'''),
    ('SELECT count(*) FROM posts p, unnest(p.tags) AS t(tag) WHERE t.tag = ''b'''),
    ('SELECT id FROM posts WHERE EXISTS (SELECT FROM unnest(tags) AS x WHERE x LIKE ''a1%'') OR ''z'' IN (SELECT unnest(tags))'),
    ('SELECT p.id, (SELECT count(*) FROM unnest(p.tags)) AS n, ARRAY(SELECT upper(x) FROM unnest(p.tags) AS x ORDER BY 1) AS tags FROM posts p WHERE EXISTS (SELECT FROM customers c WHERE c.id = p.n)'),
    ('SELECT id FROM customers UNION ALL SELECT length(t) FROM posts p, unnest(p.tags) AS t'),
    ('SELECT o.id, s.tag FROM orders o LEFT JOIN (SELECT p.id, t AS tag FROM posts p, unnest(p.tags) AS t) AS s ON s.id = o.customer'),
    -- LATERAL of several rows
    ('SELECT c.id, c.name, l.id AS o, l.total FROM customers c, LATERAL (SELECT o.id, o.total FROM orders o WHERE o.customer = c.id ORDER BY o.at DESC, o.id LIMIT 3) AS l'),
    ('SELECT c.id, l.id AS o FROM customers c LEFT JOIN LATERAL (SELECT o.id FROM orders o WHERE o.customer = c.id ORDER BY o.total, o.id OFFSET 1 LIMIT 2) AS l ON true'),
    ('SELECT l.state, count(*) AS n FROM customers c, LATERAL (SELECT o.state FROM orders o WHERE o.customer = c.id ORDER BY o.at DESC, o.id LIMIT 2) AS l GROUP BY l.state'),
    -- the first rows
    ('SELECT id, amount FROM sales ORDER BY amount DESC, id LIMIT 5'),
    ('SELECT id, total FROM orders WHERE state = ''n'' ORDER BY total, id OFFSET 2 LIMIT 4'),
    ('SELECT f.id, c.name FROM (SELECT id, customer FROM orders WHERE ''o'' = state ORDER BY total DESC, id LIMIT 6) AS f LEFT JOIN customers c ON c.id = f.customer'),
    -- chosen among groups
    ('SELECT DISTINCT ON (region) region, day, count(*) AS n FROM sales GROUP BY region, day ORDER BY region, count(*) DESC, day'),
    -- subqueries without FROM, VALUES and LATERAL within LATERAL, beside functions
    ('SELECT p.id, ARRAY(SELECT s.x FROM unnest(p.tags) AS t(tag) CROSS JOIN LATERAL (VALUES (t.tag), (p.title)) AS s(x) ORDER BY 1) AS all FROM posts p WHERE EXISTS (SELECT FROM unnest(p.tags) AS t(tag) JOIN LATERAL (SELECT t.tag AS x) AS s ON s.x LIKE ''a%'' CROSS JOIN LATERAL (SELECT s.x AS y) AS u WHERE u.y <> ''a2'')'),
    ('SELECT p.id, l.n FROM posts p, LATERAL (SELECT s.n FROM (SELECT o.total AS n FROM orders o WHERE o.customer = p.n ORDER BY o.total, o.id LIMIT 2) AS s) AS l'),
    -- views beside tables
    ('SELECT l.id, c.name, x FROM large l JOIN customers c ON c.id = l.customer CROSS JOIN LATERAL unnest(ARRAY[l.state, c.name]) AS x WHERE l.id > 5 AND c.id > 1'),
    ('SELECT c.name, l.id, ARRAY(SELECT o.id FROM orders o WHERE o.customer = l.total ORDER BY o.id) AS others FROM customers c RIGHT JOIN large l ON l.customer = c.id WHERE c.id > 1 AND l.id > 5');
SELECT count(projections.create('inline_' || number, query)) FROM kinds;
SELECT count(projections.create('async_' || number, query, mode => 'async')) FROM kinds WHERE number % 3 = 1;
SELECT count(projections.create('inline_' || number, query, if_not_exists => true)) FROM kinds;
SELECT k.number, string_agg(DISTINCT e.strategy, ', ') AS strategies, string_agg(DISTINCT e.reason, '; ') FILTER (WHERE e.strategy = 'slice') AS reasons
FROM kinds k, projections.explain('inline_' || k.number) AS e GROUP BY k.number ORDER BY 1;
SELECT * FROM test.differing();

INSERT INTO sales VALUES (100, 'r1', 2, 1000), (101, NULL, 3, 5.50), (102, 'new', 1, 1.0), (103, 'new', 1, NULL);
INSERT INTO posts VALUES (20, 't1', '{x,b}', '[{"k": 9}]', 2), (21, NULL, NULL, NULL, NULL), (22, 'none', '{}', '[]', 0);
INSERT INTO orders VALUES (100, 1, 9, 1, 'n'), (101, 99, 9, 0, 'n'), (102, 3, 9, 30, 'o');
SELECT * FROM test.differing();
UPDATE sales SET amount = amount + 3 WHERE id % 3 = 0;
UPDATE posts SET tags = tags || '{z}' WHERE id < 4;
UPDATE orders SET total = 20 - total WHERE id % 4 = 0;
SELECT * FROM test.differing();
UPDATE sales SET region = 'r2', day = day + 1 WHERE id % 5 = 0;
UPDATE orders SET customer = 2, at = 7 WHERE id < 10;
UPDATE customers SET name = upper(name) WHERE id < 4;
UPDATE posts SET title = 't9', n = 1, parts = parts || '[{"k": 4}]' WHERE id % 2 = 0;
SELECT * FROM test.differing();
DELETE FROM sales WHERE id % 4 = 0;
DELETE FROM posts WHERE id IN (2, 20);
DELETE FROM orders WHERE id % 7 = 0;
DELETE FROM customers WHERE id = 3;
UPDATE customers SET id = 33 WHERE id = 4;
SELECT * FROM test.differing();

-- one transaction, with reads and savepoints between
BEGIN;
UPDATE sales SET amount = 7, day = 1 WHERE id < 10;
UPDATE orders SET customer = 5 WHERE id IN (21, 22, 23);
SELECT * FROM test.differing(later => false);
SAVEPOINT s;
DELETE FROM orders WHERE customer = 5;
UPDATE posts SET tags = '{q}';
INSERT INTO customers VALUES (4, 'again');
SELECT * FROM test.differing(later => false);
ROLLBACK TO s;
SELECT * FROM test.differing(later => false);
UPDATE customers SET id = 50 WHERE id = 5;
COMMIT;
SELECT * FROM test.differing();
BEGIN ISOLATION LEVEL REPEATABLE READ;
INSERT INTO sales VALUES (200, 'r0', 2, 2000);
SELECT * FROM test.differing(later => false);
UPDATE orders SET at = 0 WHERE customer = 1;
COMMIT;
SELECT * FROM test.differing();

-- what changes nothing that is shown writes nothing
BEGIN;
UPDATE orders SET at = -1 WHERE id = (SELECT id FROM orders WHERE customer = 6 ORDER BY at, id DESC LIMIT 1);
SELECT count(*) AS written FROM inline_26 WHERE xmin::text = pg_current_xact_id()::text;
INSERT INTO sales VALUES (300, 'r1', 9, -5);
SELECT count(*) AS written FROM inline_29 WHERE xmin::text = pg_current_xact_id()::text;
ROLLBACK;

-- paused and resumed; rebuilt; altered; put right; read again
SELECT count(projections.pause('inline_' || number, 'a test')) FROM kinds WHERE number IN (1, 12, 26, 29);
UPDATE sales SET day = day + 1 WHERE id % 2 = 0;
UPDATE posts SET tags = tags[2:] WHERE id < 9;
DELETE FROM orders WHERE at = 2;
SELECT count(projections.resume('inline_' || number)) FROM kinds WHERE number IN (1, 12, 26, 29);
SELECT * FROM test.differing();
CALL projections.rebuild('inline_2');
CALL projections.rebuild('async_28');
CALL projections.alter('inline_1', options => '{"finish": "swap"}');
CALL projections.rebuild('inline_1');
UPDATE kinds SET query = replace(query, 'day > 0', 'day > 1') WHERE number = 3;
SELECT query AS altered FROM kinds WHERE number = 3 \gset
CALL projections.alter('inline_3', query => :'altered');
\d inline_2
INSERT INTO sales VALUES (400, 'r1', 1, 3), (401, NULL, 1, 4);
SELECT * FROM test.differing();
SET pg_projections.allow_direct_writes = on;
UPDATE inline_1 SET r = 77 WHERE region = 'r1';
INSERT INTO inline_1 SELECT * FROM inline_1 WHERE region IS NULL LIMIT 2;
DELETE FROM inline_29;
DELETE FROM inline_12 WHERE id = 1;
RESET pg_projections.allow_direct_writes;
SELECT number, (SELECT count(*) FROM projections.verify('inline_' || number)) > 0 AS wrong FROM kinds WHERE number IN (1, 12, 29) ORDER BY 1;
SELECT number, projections.repair('inline_' || number) > 0 AS repaired FROM kinds WHERE number IN (1, 29) ORDER BY 1;
SELECT projections.refresh_source('posts', '[{"id": 1}]') > 0 AS read_again;
CALL projections.rebuild('inline_12');
SELECT * FROM test.differing();
INSERT INTO sales VALUES (500, 'behind', 1, 3);
SELECT key, lag FROM projections.stale_keys('async_1') ORDER BY key::text;
SELECT problem, object, hint FROM projections.validate() WHERE severity = 'ERROR';
BEGIN;
DROP INDEX inline_2__region_hash_record_extended_idx;
SELECT severity, problem, object, hint FROM projections.validate() WHERE object = 'public.inline_2';
ROLLBACK;
BEGIN;
TRUNCATE orders;
SELECT * FROM test.differing(later => false);
ROLLBACK;
SELECT * FROM test.differing();

-- An index that is missing later makes it slower; a primary key by which what is made of rows is told apart cannot go.
DROP INDEX sales_amount_id_idx;
UPDATE sales SET amount = amount + 1 WHERE id % 2 = 0;
SELECT * FROM test.differing();
ALTER TABLE posts DROP CONSTRAINT posts_pkey;

-- Rows that ORDER BY does not tell apart are told apart by all that is shown.
CREATE TABLE ties (g int, v int, w int);
INSERT INTO ties SELECT 1, i % 2, 7 - i FROM generate_series(1, 6) i;
SELECT projections.create('numbered', 'SELECT v, w, row_number() OVER (PARTITION BY g ORDER BY v) AS n FROM ties');
UPDATE ties SET w = w + 10 WHERE w = 2;
SELECT test.check('numbered');
SELECT v, w, n FROM numbered ORDER BY n;

-- Refused.
\set VERBOSITY terse
SELECT projections.create('refused', 'SELECT id, rank() OVER (ORDER BY amount) FROM sales');
SELECT projections.create('refused', 'SELECT id, rank() OVER (PARTITION BY region ORDER BY amount), sum(amount) OVER (PARTITION BY day) FROM sales');
SELECT projections.create('refused', 'SELECT id, rank() OVER (PARTITION BY 1, day * 0 IS NULL ORDER BY amount), sum(amount) OVER (PARTITION BY 1) FROM sales');
SELECT projections.create('refused', 'SELECT id, last_value(amount) OVER (PARTITION BY region ORDER BY day) FROM sales');
SELECT projections.create('refused', 'SELECT id, array_agg(amount) OVER (PARTITION BY region ORDER BY day ROWS BETWEEN 1 PRECEDING AND CURRENT ROW EXCLUDE TIES) FROM sales');
SELECT projections.create('refused', 'SELECT id, amount FROM sales ORDER BY day LIMIT 5');
SELECT projections.create('refused', 'SELECT id FROM sales ORDER BY amount DESC NULLS LAST LIMIT 5');
SELECT projections.create('refused', 'SELECT id FROM orders WHERE total > 3 ORDER BY id LIMIT 5');
SELECT projections.create('refused', 'SELECT id FROM orders LIMIT 5');
SELECT projections.create('refused', 'SELECT o.id, s.id AS s FROM orders o, LATERAL (SELECT s.id FROM sales s WHERE s.day > 3 LIMIT 2 + o.at) AS s');
SELECT projections.create('refused', 'SELECT t.g, x FROM ties t, generate_series(1, t.v) AS x');
SELECT projections.create('subquery', 'SELECT id, rank() OVER (PARTITION BY (SELECT max(v) FROM ties WHERE g = id) ORDER BY amount) FROM sales');
SELECT projections.create('refused', 'SELECT id, x FROM posts, generate_series(1, (random() * 3)::int) AS x');

DO $$ BEGIN PERFORM projections.drop(m || number) FROM kinds, unnest('{inline_,async_}'::text[]) AS m WHERE to_regclass(m || number) IS NOT NULL; END $$;
SELECT projections.drop('numbered');
DROP VIEW large;
DROP TABLE sales, posts, customers, orders, ties, kinds;

--
-- All indexes that are missing are named at once, and none that another of them makes needless
--
CREATE TABLE hub (id int PRIMARY KEY, one int, two int, three int);
CREATE TABLE spoke (id int PRIMARY KEY, hub int, n int);
CREATE INDEX ON spoke (hub);
SELECT source, index_advice FROM projections.explain($$
    SELECT h.id, (SELECT jsonb_agg(s.n ORDER BY s.id) FROM spoke s WHERE s.hub = h.one) AS ones,
        (SELECT jsonb_agg(s.n ORDER BY s.id) FROM spoke s WHERE s.hub = h.two) AS twos,
        (SELECT jsonb_agg(s.n ORDER BY s.id) FROM spoke s WHERE s.hub = h.one AND s.n = h.three) AS threes FROM hub h$$);
CREATE TABLE ledger (id int PRIMARY KEY, hub int, spoke int, n int);
SELECT source, index_advice FROM projections.explain($$
    SELECT l.id, (SELECT jsonb_agg(s.n ORDER BY s.id) FROM spoke s JOIN ledger m ON m.spoke = s.id WHERE m.hub = l.hub) AS others FROM ledger l$$);

-- What has a sort operator does not depend on the order of its values, whoever wrote it: nothing is said of it.
CREATE AGGREGATE largest(int) (sfunc = int4larger, stype = int, sortop = >);
SET client_min_messages = notice;
SELECT count(*) FROM projections.explain('SELECT hub, largest(n) AS n FROM spoke GROUP BY hub');
SELECT count(*) FROM projections.explain('SELECT hub, array_agg(n) AS n FROM spoke GROUP BY hub');
SET client_min_messages = error;
DROP AGGREGATE largest(int);
DROP TABLE hub, spoke, ledger;
