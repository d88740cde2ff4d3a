-- Partitioned tables as sources of query projections: every way to change a row, and what becomes of partitions.
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE SCHEMA partitioned;
SET search_path = partitioned, public;
CREATE TABLE regions (region text PRIMARY KEY, zone text);
INSERT INTO regions VALUES ('n', 'cold'), ('s', 'warm'), ('w', 'wet');
CREATE TABLE orders (id int, region text NOT NULL DEFAULT 'n', day date NOT NULL, amount int, note text,
    PRIMARY KEY (id, region, day)) PARTITION BY LIST (region);
ALTER TABLE orders ALTER note SET STORAGE EXTERNAL;
CREATE TABLE orders_n PARTITION OF orders FOR VALUES IN ('n');
-- another order of columns, and dropped ones
CREATE TABLE orders_s (note text, gone int, amount int, day date NOT NULL, region text NOT NULL, gone_too text, id int NOT NULL);
ALTER TABLE orders_s DROP COLUMN gone, DROP COLUMN gone_too;
INSERT INTO orders_s (id, region, day, amount) VALUES (1000, 's', '2026-01-01', 7);
ALTER TABLE orders ATTACH PARTITION orders_s FOR VALUES IN ('s');
CREATE TABLE orders_rest PARTITION OF orders DEFAULT PARTITION BY RANGE (day);
CREATE TABLE orders_rest_1 PARTITION OF orders_rest FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');

SELECT projections.create('sums', 'SELECT region, count(*) AS n, sum(amount) AS amount FROM orders GROUP BY region');
SELECT projections.create('extremes', 'SELECT region, min(amount) AS low, max(note) AS note FROM orders GROUP BY region');
SELECT projections.create('zones', 'SELECT z.zone, count(*) AS n, sum(o.amount) AS amount FROM orders o JOIN regions z USING (region) GROUP BY z.zone');
SELECT projections.create('big', 'SELECT id, region, day, amount FROM orders WHERE amount > 50');
SELECT projections.create('notes', 'SELECT note, region FROM orders WHERE note IS NOT NULL');
SELECT projections.create('ranks', 'SELECT id, region, day, rank() OVER (PARTITION BY region ORDER BY amount) AS r FROM orders');
SELECT projections.create('later', 'SELECT region, count(*) AS n, max(note) AS top FROM orders GROUP BY region', 'async');
SELECT projections.create('quiet', 'SELECT region, count(*) AS n, sum(amount) AS amount FROM orders GROUP BY region');
SELECT projections.pause('quiet', 'a test');
-- after each step: all that are inline equal their definitions, and the others when they are applied
CREATE FUNCTION ok() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    wrong text;
BEGIN
    PERFORM projections.catch_up();
    PERFORM test.check(p) FROM unnest('{sums,extremes,zones,big,notes,ranks,later}'::regclass[]) p;
    RETURN format('%s rows, %s stale', (SELECT count(*) FROM orders), (SELECT count(*) FROM projections_internal.projection p WHERE p.stale_since IS NOT NULL));
END $$;
SELECT ok();

-- through the root, a middle one, and leaves
INSERT INTO orders SELECT i, (ARRAY['n', 's', 'w'])[1 + i % 3], '2026-01-05', i, CASE WHEN i % 4 = 0 THEN 'note ' || i END FROM generate_series(1, 90) i;
SELECT ok();
INSERT INTO orders_s (id, region, day, amount, note) VALUES (200, 's', '2026-01-07', 3, 'first'), (201, 's', '2026-01-07', 300, NULL);
INSERT INTO orders_rest VALUES (300, 'w', '2026-01-07', -1, 'zzz');
INSERT INTO orders_rest_1 VALUES (301, 'x', '2026-01-08', 60, 'x');
SELECT ok();
UPDATE orders_s SET amount = amount + 1, note = upper(note) WHERE id > 20;
UPDATE orders_rest SET amount = amount * 2 WHERE id < 50;
UPDATE orders SET note = note || '!' WHERE id % 8 = 0;
DELETE FROM orders_n WHERE id = 3;
DELETE FROM orders_rest WHERE id = 300;
DELETE FROM orders WHERE id % 10 = 9;
SELECT ok();
-- rows that move
UPDATE orders SET region = 's' WHERE region = 'n' AND id < 40;
UPDATE orders SET region = 'n', amount = amount + 100 WHERE region = 's' AND id > 60;
UPDATE orders SET region = 'w' WHERE id = 201;
UPDATE orders SET region = CASE region WHEN 'n' THEN 's' ELSE 'n' END WHERE id % 5 = 0;
SELECT ok();
COPY orders (id, region, day, amount) FROM stdin;
400	n	2026-01-09	1
401	s	2026-01-09	2
402	w	2026-01-09	3
\.
COPY orders_s (id, region, day, amount) FROM stdin;
403	s	2026-01-09	4
\.
INSERT INTO orders VALUES (400, 'n', '2026-01-09', 70), (404, 's', '2026-01-09', 80) ON CONFLICT (id, region, day) DO UPDATE SET amount = orders.amount + excluded.amount;
INSERT INTO orders_s (id, region, day, amount) VALUES (404, 's', '2026-01-09', 1) ON CONFLICT DO NOTHING;
MERGE INTO orders o USING (VALUES (400, 'w'), (401, 'n'), (500, 's')) AS v(id, region) ON o.id = v.id
    WHEN MATCHED AND o.id = 400 THEN DELETE WHEN MATCHED THEN UPDATE SET region = v.region, amount = 99
    WHEN NOT MATCHED THEN INSERT VALUES (v.id, v.region, '2026-01-10', 55);
SELECT ok();
-- within a transaction, with reads and savepoints
BEGIN;
INSERT INTO orders_n (id, day, amount) VALUES (600, '2026-01-11', 1000);
SELECT amount > 1000 AS seen FROM sums WHERE region = 'n';
SAVEPOINT a;
UPDATE orders SET region = 's' WHERE id = 600;
SELECT z.zone, z.n FROM zones z ORDER BY 1;
ROLLBACK TO a;
UPDATE regions SET zone = 'icy' WHERE region = 'n';
UPDATE orders SET amount = 5 WHERE id = 600;
COMMIT;
SELECT ok();
-- foreign keys that cascade into partitions
CREATE TABLE customers (id int PRIMARY KEY);
INSERT INTO customers SELECT generate_series(1, 3);
ALTER TABLE orders ADD COLUMN customer int REFERENCES customers ON DELETE CASCADE ON UPDATE SET NULL;
UPDATE orders SET customer = 1 + id % 3 WHERE id < 60;
DELETE FROM customers WHERE id = 1;
UPDATE customers SET id = 20 WHERE id = 2;
SELECT ok();

-- partitions that come
CREATE TABLE orders_e PARTITION OF orders FOR VALUES IN ('e');
INSERT INTO orders VALUES (700, 'e', '2026-01-01', 1, 'first row');
INSERT INTO orders_e VALUES (701, 'e', '2026-01-01', 100, 'second row');
CREATE TABLE orders_rest_2 PARTITION OF orders_rest FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
INSERT INTO orders_rest VALUES (702, 'y', '2026-02-01', 1);
SELECT ok();
CREATE TABLE orders_a (LIKE orders INCLUDING ALL);
INSERT INTO orders_a SELECT i, 'a', '2026-01-01', i, repeat('long ', i) FROM generate_series(800, 810) i;
ALTER TABLE orders ATTACH PARTITION orders_a FOR VALUES IN ('a');
INSERT INTO orders VALUES (811, 'a', '2026-01-01', 9);
SELECT ok();
-- a tree of them, with writes in the same transaction
BEGIN;
CREATE TABLE orders_b (LIKE orders INCLUDING ALL) PARTITION BY RANGE (day);
CREATE TABLE orders_b_1 PARTITION OF orders_b FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
INSERT INTO orders_b SELECT i, 'b', '2026-01-01', i FROM generate_series(820, 830) i;
INSERT INTO orders VALUES (831, 'n', '2026-01-01', 9);
ALTER TABLE orders ATTACH PARTITION orders_b FOR VALUES IN ('b');
CREATE TABLE orders_b_2 PARTITION OF orders_b FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
INSERT INTO orders_b_2 VALUES (832, 'b', '2026-02-01', 9);
SELECT n FROM sums WHERE region = 'b';
SAVEPOINT a;
ALTER TABLE orders DETACH PARTITION orders_b;
SELECT n FROM sums WHERE region = 'b';
ROLLBACK TO a;
DELETE FROM orders WHERE id = 820;
COMMIT;
SELECT ok();

-- TRUNCATE of a leaf, several, a middle one, in a transaction with changes before and after, and rolled back
INSERT INTO orders SELECT i, 'a', '2026-01-01', i, repeat(md5(i::text), 500) FROM generate_series(900, 903) i;
TRUNCATE orders_a;
SELECT ok();
BEGIN;
INSERT INTO orders_n (id, day, amount, note) VALUES (910, '2026-01-11', 1000, 'in vain');
TRUNCATE orders_n, orders_e;
INSERT INTO orders VALUES (911, 'n', '2026-01-11', 1), (912, 'e', '2026-01-11', 2);
COMMIT;
SELECT ok();
BEGIN; TRUNCATE orders_b; SELECT count(*) FROM sums WHERE region = 'b'; ROLLBACK;
SELECT ok();
TRUNCATE orders_b;
SELECT ok();

-- partitions that go
ALTER TABLE orders DETACH PARTITION orders_s;
SELECT ok();
SELECT tgname FROM pg_trigger WHERE tgrelid = 'orders_s'::regclass AND tgname LIKE 'projections%';
INSERT INTO orders_s (id, region, day) VALUES (950, 's', '2026-01-01');
ALTER TABLE orders ATTACH PARTITION orders_s FOR VALUES IN ('s');
SELECT ok();
INSERT INTO orders SELECT i, 'a', '2026-01-01', i, repeat(md5(i::text), 500) FROM generate_series(960, 963) i;
BEGIN;
INSERT INTO orders SELECT i, 'a', '2026-01-01', i, repeat(md5(i::text), 500) FROM generate_series(964, 967) i;
DROP TABLE orders_a;
SELECT count(*) FROM sums WHERE region = 'a';
COMMIT;
SELECT ok();
BEGIN; DROP TABLE orders_rest; SELECT count(*) FROM sums WHERE region = 'w'; ROLLBACK;
SELECT ok();
DROP TABLE orders_rest_2, orders_b;
SELECT ok();
BEGIN; DROP TABLE orders_s; ROLLBACK; DROP TABLE orders_e;
SELECT ok();
SELECT projections.resume('quiet');
SELECT test.check('quiet');
TRUNCATE orders;
SELECT ok();
INSERT INTO orders SELECT i, (ARRAY['n', 's', 'w'])[1 + i % 3], '2026-01-05', i, CASE WHEN i % 4 = 0 THEN 'note ' || i END FROM generate_series(1, 90) i;
SELECT test.check('quiet');
SELECT ok();
SELECT object, problem, hint FROM projections.validate() WHERE severity = 'ERROR';
SELECT projections.verify('sums');
-- rows of a source, wherever they are
SET pg_projections.allow_direct_writes = on;
UPDATE sums SET n = 77;
RESET pg_projections.allow_direct_writes;
SELECT projections.refresh_source('orders', jsonb_agg(DISTINCT jsonb_build_object('id', id))) FROM orders;
SELECT projections.repair('sums'), test.check('sums');
SELECT projections.drop(p) FROM unnest('{sums,extremes,zones,big,notes,ranks,later,quiet}'::text[]) p;
SELECT tgrelid::regclass, tgname FROM pg_trigger WHERE tgname LIKE 'projections%' AND tgrelid::regclass::text LIKE 'orders%' ORDER BY 1, 2;
DROP SCHEMA partitioned CASCADE;
