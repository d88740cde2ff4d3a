-- Inherited tables as sources of query projections: every way to change a row, and what becomes of children.
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE SCHEMA inherited;
SET search_path = inherited, public;
CREATE TABLE regions (region text PRIMARY KEY, zone text);
INSERT INTO regions VALUES ('n', 'cold'), ('s', 'warm'), ('w', 'wet');
CREATE TABLE orders (id int PRIMARY KEY, region text NOT NULL DEFAULT 'n', amount int, note text);
ALTER TABLE orders ALTER note SET STORAGE EXTERNAL;
CREATE TABLE orders_web (agent text) INHERITS (orders);
-- another order of columns, dropped ones, and another parent
CREATE TABLE dated (day date);
CREATE TABLE orders_post (note text, gone int, day date, amount int, region text NOT NULL, gone_too text, weight int, id int NOT NULL);
ALTER TABLE orders_post ALTER note SET STORAGE EXTERNAL, DROP COLUMN gone, DROP COLUMN gone_too;
INSERT INTO orders_post (id, region, day, amount) VALUES (1000, 's', '2026-01-01', 7);
ALTER TABLE orders_post INHERIT orders, INHERIT dated;
-- below both, on two ways, and of another parent beside
CREATE TABLE orders_both (gift bool) INHERITS (orders_web, orders_post);

SELECT projections.create('sums', 'SELECT region, count(*) AS n, sum(amount) AS amount FROM orders GROUP BY region');
SELECT projections.create('extremes', 'SELECT region, min(amount) AS low, max(note) AS note FROM orders GROUP BY region');
SELECT projections.create('zones', 'SELECT z.zone, count(*) AS n, sum(o.amount) AS amount FROM orders o JOIN regions z USING (region) GROUP BY z.zone');
SELECT projections.create('big', 'SELECT id, region, amount FROM orders WHERE amount > 50');
SELECT projections.create('served', 'SELECT region, zone FROM regions z WHERE EXISTS (SELECT FROM orders o WHERE o.region = z.region)');
SELECT projections.create('named', 'SELECT o.id, (SELECT z.zone FROM regions z WHERE z.region = o.region) AS zone FROM orders o');
SELECT projections.create('ranks', 'SELECT id, region, amount, rank() OVER (PARTITION BY region ORDER BY amount) AS r FROM orders');
SELECT projections.create('posted', 'SELECT region, count(*) AS n, sum(weight) AS weight FROM orders_post GROUP BY region');
SELECT projections.create('days', 'SELECT day, count(*) AS n FROM dated GROUP BY day');
SELECT projections.create('gifts', 'SELECT id, gift FROM orders_both');
SELECT projections.create('later', 'SELECT region, count(*) AS n, max(note) AS top FROM orders GROUP BY region', 'async');
SELECT projections.create('quiet', 'SELECT region, count(*) AS n, sum(amount) AS amount FROM orders GROUP BY region');
SELECT projections.pause('quiet', 'a test');
SELECT name, strategy, key FROM projections.definitions, regexp_replace(relation::text, '.*\.', '') AS name ORDER BY 1;
-- after each step: all that are inline equal their definitions, and the others when they are applied
CREATE FUNCTION ok() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM projections.catch_up();
    PERFORM test.check(p) FROM unnest('{sums,extremes,zones,big,served,named,ranks,posted,days,gifts,later}'::regclass[]) p;
    RETURN format('%s rows, %s stale', (SELECT count(*) FROM orders), (SELECT count(*) FROM projections_internal.projection p WHERE p.stale_since IS NOT NULL));
END $$;
SELECT ok();

-- through the parent, and directly
INSERT INTO orders SELECT i, (ARRAY['n', 's', 'w'])[1 + i % 3], i, CASE WHEN i % 4 = 0 THEN 'note ' || i END FROM generate_series(1, 40) i;
INSERT INTO orders_web SELECT i, (ARRAY['n', 's', 'w'])[1 + i % 3], i, CASE WHEN i % 4 = 0 THEN 'note ' || i END, 'agent' FROM generate_series(30, 70) i;
INSERT INTO orders_post (id, region, day, amount, note) VALUES (200, 's', '2026-01-07', 3, 'first'), (201, 's', '2026-01-07', 300, NULL);
INSERT INTO orders_both (id, region, day, amount, note, gift) VALUES (200, 's', '2026-01-07', 3, 'first', true), (1, 'n', '2026-01-07', 99, NULL, false);
SELECT ok();
UPDATE orders SET amount = amount + 1, note = upper(note) WHERE id > 20;
UPDATE ONLY orders SET amount = amount * 2 WHERE id < 35;
UPDATE orders_web SET region = 'n' WHERE id % 7 = 0;
UPDATE dated SET day = day + 1 WHERE day > '2026-01-02';
SELECT ok();
DELETE FROM orders WHERE id % 10 = 9;
DELETE FROM ONLY orders WHERE id = 1;
DELETE FROM orders_both WHERE id = 200;
SELECT ok();
COPY orders_post (id, region, day, amount) FROM stdin;
403	s	2026-01-09	4
404	w	2026-01-09	5
\.
INSERT INTO orders VALUES (4, 'n', 70), (404, 's', 80) ON CONFLICT (id) DO UPDATE SET amount = orders.amount + excluded.amount;
MERGE INTO orders_web o USING (VALUES (30, 'w'), (500, 's')) AS v(id, region) ON o.id = v.id
    WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (id, region, amount) VALUES (v.id, v.region, 55);
SELECT ok();
-- within a transaction, with reads and savepoints; a function that reads in the midst of a statement over the tree
BEGIN;
INSERT INTO orders_both (id, region, amount) VALUES (600, 'n', 1000);
SELECT amount > 1000 AS seen FROM sums WHERE region = 'n';
SAVEPOINT a;
UPDATE orders SET region = 's' WHERE id = 600;
SELECT z.zone, z.n FROM zones z ORDER BY 1;
ROLLBACK TO a;
UPDATE regions SET zone = 'icy' WHERE region = 'n';
UPDATE orders SET amount = 5 WHERE id = 600;
COMMIT;
SELECT ok();
-- foreign keys that cascade into children, columns that are added and renamed
CREATE TABLE customers (id int PRIMARY KEY);
INSERT INTO customers SELECT generate_series(1, 3);
ALTER TABLE orders ADD COLUMN customer int;
ALTER TABLE orders_web ADD FOREIGN KEY (customer) REFERENCES customers ON DELETE CASCADE ON UPDATE SET NULL;
UPDATE orders SET customer = 1 + id % 3 WHERE id < 60;
DELETE FROM customers WHERE id = 1;
UPDATE customers SET id = 20 WHERE id = 2;
ALTER TABLE orders_web DROP COLUMN agent;
ALTER TABLE orders RENAME COLUMN amount TO total;
UPDATE orders SET total = total + 1 WHERE id < 10;
INSERT INTO orders_web (total, id) VALUES (8, 8);
SELECT ok();

-- children that come, with a tree of them, and rows
CREATE TABLE orders_new (LIKE orders INCLUDING ALL) INHERITS (orders);
INSERT INTO orders_new (id, total) VALUES (700, 1), (701, 100);
SELECT ok();
CREATE TABLE orders_old (total int, customer int, note text, extra text DEFAULT 'x', region text NOT NULL, id int NOT NULL);
ALTER TABLE orders_old ALTER note SET STORAGE EXTERNAL;
CREATE TABLE orders_older () INHERITS (orders_old);
INSERT INTO orders_old (id, region, total, note) SELECT i, 'o', i, repeat('long ', i) FROM generate_series(800, 810) i;
INSERT INTO orders_older (id, region, total) SELECT i, 'p', i FROM generate_series(811, 820) i;
ALTER TABLE orders_old INHERIT orders;
INSERT INTO orders_older (id, region, total) VALUES (821, 'p', 9);
SELECT ok();
BEGIN;
CREATE TABLE orders_x () INHERITS (orders_new);
INSERT INTO orders_x (id, region, total) SELECT i, 'x', i FROM generate_series(830, 840) i;
SELECT n FROM sums WHERE region = 'x';
SAVEPOINT a;
ALTER TABLE orders_new NO INHERIT orders;
SELECT n FROM sums WHERE region = 'x';
ROLLBACK TO a;
DELETE FROM orders WHERE id = 830;
COMMIT;
SELECT ok();

-- TRUNCATE: of a child, ONLY, of a table with children, in a transaction, and rolled back
INSERT INTO orders_old (id, region, note) SELECT i, 'o', repeat(md5(i::text), 500) FROM generate_series(900, 903) i;
TRUNCATE ONLY orders_old;
SELECT ok();
BEGIN;
INSERT INTO orders_new (id, total, note) VALUES (910, 1000, 'in vain');
TRUNCATE orders_new, orders_older;
INSERT INTO orders VALUES (911, 'n', 1);
COMMIT;
SELECT ok();
BEGIN; TRUNCATE orders_web; SELECT count(*) FROM sums WHERE region = 'w'; ROLLBACK;
SELECT ok();
TRUNCATE ONLY orders;
SELECT ok();
TRUNCATE orders_post;
SELECT ok();

-- children that go
INSERT INTO orders_old (id, region, note) SELECT i, 'o', repeat(md5(i::text), 500) FROM generate_series(900, 903) i;
INSERT INTO orders_older (id, region) VALUES (904, 'o');
ALTER TABLE orders_old NO INHERIT orders;
SELECT ok();
SELECT tgname FROM pg_trigger WHERE tgrelid IN ('orders_old'::regclass, 'orders_older'::regclass) AND tgname LIKE 'projections%';
INSERT INTO orders_old (id, region) VALUES (950, 's');
ALTER TABLE orders_old INHERIT orders;
SELECT ok();
INSERT INTO orders_post (id, region, day, total) VALUES (960, 's', '2026-02-02', 5);
INSERT INTO orders_both (id, region, day, total) VALUES (961, 's', '2026-02-02', 6);
-- by one way it is below still
ALTER TABLE orders_both NO INHERIT orders_web;
SELECT ok();
BEGIN;
INSERT INTO orders_older (id, region, note) SELECT i, 'o', repeat(md5(i::text), 500) FROM generate_series(964, 967) i;
DROP TABLE orders_older;
SELECT n FROM sums WHERE region = 'o';
COMMIT;
SELECT ok();
BEGIN; DROP TABLE orders_post CASCADE; SELECT count(*) FROM sums WHERE region = 's'; ROLLBACK;
SELECT ok();
DROP TABLE orders_post; -- has a child
SELECT ok();
DROP TABLE orders_new, orders_x;
SELECT ok();
SELECT projections.resume('quiet');
SELECT test.check('quiet');
TRUNCATE orders;
SELECT ok();
INSERT INTO orders_both (id, region, day, total) VALUES (970, 's', '2026-02-02', 6);
INSERT INTO orders_web (id, total) SELECT i, i FROM generate_series(1, 9) i;
SELECT ok();
SELECT test.check('quiet');
SELECT object, problem, hint FROM projections.validate() WHERE severity = 'ERROR';
SELECT projections.verify('sums');
-- rows of a source, wherever they are
SET pg_projections.allow_direct_writes = on;
UPDATE sums SET n = 77;
RESET pg_projections.allow_direct_writes;
SELECT projections.refresh_source('orders', jsonb_agg(DISTINCT jsonb_build_object('id', id))) FROM orders;
SELECT projections.repair('sums'), test.check('sums');
CALL projections.rebuild('zones');
CALL projections.rebuild('big');
SELECT ok();
SELECT tgrelid::regclass, tgname FROM pg_trigger WHERE tgname LIKE 'projections%' AND tgrelid::regclass::text LIKE 'orders%' ORDER BY 1, 2;
SELECT projections.drop(p) FROM unnest('{sums,extremes,zones,big,served,named,ranks,later,quiet}'::text[]) p;
SELECT tgrelid::regclass, tgname FROM pg_trigger WHERE tgname LIKE 'projections%' AND tgrelid::regclass::text LIKE 'orders%' ORDER BY 1, 2;
SELECT projections.drop(p) FROM unnest('{posted,days,gifts}'::text[]) p;
SELECT tgrelid::regclass, tgname FROM pg_trigger WHERE tgname LIKE 'projections%' AND tgrelid::regclass::text ~ 'orders|dated' ORDER BY 1, 2;
DROP SCHEMA inherited CASCADE;
