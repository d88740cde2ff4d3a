-- Joins: of two to eight tables, with and without aggregates, and every way to change their rows.
CREATE SCHEMA joins;
SET search_path = joins;
SET client_min_messages = warning;

CREATE TABLE countries (code text PRIMARY KEY, name text, tax numeric(4,2));
CREATE TABLE customers (id int PRIMARY KEY, country text REFERENCES countries ON UPDATE CASCADE ON DELETE SET NULL, name text);
CREATE TABLE orders (id int PRIMARY KEY, customer int REFERENCES customers ON DELETE CASCADE, at date);
CREATE TABLE lines (order_id int REFERENCES orders ON DELETE CASCADE ON UPDATE CASCADE, line int, item text, quantity int, price numeric(10,2), PRIMARY KEY (order_id, line));
CREATE TABLE items (item text PRIMARY KEY, weight int);
CREATE TABLE marks (item text, mark text); -- no primary key

SELECT projections.create('revenue', 'SELECT o.customer, sum(l.quantity * l.price) AS total, count(*) AS lines FROM orders o JOIN lines l ON l.order_id = o.id GROUP BY o.customer');
SELECT projections.create('by_country', 'SELECT c.country, sum(l.quantity * l.price) AS total, avg(l.price) AS price, max(l.price) AS dearest, count(*) AS n
    FROM customers c, orders o, lines l WHERE o.customer = c.id AND l.order_id = o.id GROUP BY c.country');
SELECT projections.create('taxed', 'SELECT n.name, o.at, sum(l.quantity * l.price * (1 + n.tax)) AS total, min(i.weight) AS lightest, max(o.id) AS last
    FROM countries n JOIN customers c ON c.country = n.code JOIN orders o ON o.customer = c.id JOIN lines l ON l.order_id = o.id JOIN items i USING (item)
    WHERE l.quantity <> 0 AND n.tax < 1 GROUP BY n.name, o.at');
SELECT projections.create('line_rows', 'SELECT o.at, c.name, l.item, l.quantity * l.price AS amount FROM lines l JOIN orders o ON o.id = l.order_id JOIN customers c ON c.id = o.customer WHERE l.quantity > 0');
SELECT projections.create('marked', 'SELECT l.item, m.mark, l.quantity FROM lines l JOIN marks m ON m.item = l.item');
SELECT projections.create('marks_of_items', 'SELECT mark, count(*) AS n, sum(weight) AS weight FROM items NATURAL JOIN marks GROUP BY mark');
SELECT projections.create('pairs', 'SELECT a.item AS one, b.item AS other, count(*) AS orders, sum(a.quantity * b.quantity) AS n
    FROM lines a JOIN lines b ON a.order_id = b.order_id AND a.item < b.item GROUP BY a.item, b.item');
SELECT projections.create('triples', 'SELECT count(*) AS n, max(a.line + b.line + c.line) AS most FROM lines a JOIN lines b USING (order_id) JOIN lines c USING (order_id)');
SELECT projections.create('lighter', 'SELECT a.item, count(*) AS n, max(b.weight) AS next FROM items a JOIN items b ON b.weight < a.weight GROUP BY a.item');
SELECT projections.create('crossed', 'SELECT count(*) AS n FROM countries CROSS JOIN marks');
SELECT projections.create('expressions', 'SELECT upper(m.mark) AS mark, count(*) AS n FROM marks m JOIN items i ON lower(m.item) = lower(i.item) AND i.weight + 1 > length(m.mark) GROUP BY upper(m.mark)');
SELECT projections.create('names', 'SELECT DISTINCT c.name, l.item FROM customers c JOIN orders o ON o.customer = c.id JOIN lines l ON l.order_id = o.id');
SELECT projection, key FROM projections.definitions ORDER BY 1;
SELECT * FROM test.check_all();

INSERT INTO countries VALUES ('CH', 'Switzerland', 0.08), ('DE', 'Germany', 0.19), ('FR', 'France', NULL);
INSERT INTO customers VALUES (1, 'CH', 'Ada'), (2, 'DE', 'Bob'), (3, NULL, 'Cyd'), (4, 'CH', 'Ada');
INSERT INTO items VALUES ('tea', 1), ('jam', 5), ('ale', 9), ('pie', NULL);
INSERT INTO marks VALUES ('tea', 'hot'), ('tea', 'hot'), ('jam', 'sweet'), ('ale', NULL), (NULL, 'lost'), ('TEA', 'hot');
INSERT INTO orders VALUES (1, 1, '2020-01-01'), (2, 1, '2020-01-02'), (3, 2, '2020-01-01'), (4, 3, '2020-01-01'), (5, NULL, NULL);
SELECT * FROM test.check_all();
INSERT INTO lines VALUES (1, 1, 'tea', 2, 1.10), (1, 2, 'jam', 1, 4.00), (2, 1, 'tea', 3, 1.20), (3, 1, 'ale', 6, 2.50), (4, 1, 'pie', 1, 9.00), (5, 1, 'jam', 1, NULL), (3, 2, 'tea', -1, 1.10);
SELECT * FROM test.check_all();
SELECT customer, total, lines FROM revenue ORDER BY customer;
SELECT item, mark, quantity FROM marked ORDER BY 1, 2, 3;
SELECT one, other, orders, n FROM pairs ORDER BY 1, 2;

-- Keys of joins and groups change.
UPDATE orders SET customer = 2 WHERE id = 2;
SELECT * FROM test.check_all();
UPDATE customers SET country = 'FR' WHERE id = 2;
SELECT * FROM test.check_all();
UPDATE customers SET name = 'Bo', country = 'DE' WHERE id = 2;
SELECT * FROM test.check_all();
UPDATE lines SET order_id = 5, line = 9 WHERE order_id = 1 AND line = 1;
SELECT * FROM test.check_all();
UPDATE lines SET item = 'tea', price = 0.5 WHERE item = 'jam';
SELECT * FROM test.check_all();
UPDATE items SET weight = 10 - weight;
SELECT * FROM test.check_all();
UPDATE lines SET quantity = -quantity;
SELECT * FROM test.check_all();
UPDATE countries SET tax = 2 WHERE code = 'DE';
SELECT * FROM test.check_all();
UPDATE countries SET tax = 0.16 WHERE code = 'DE';
SELECT * FROM test.check_all();
-- Foreign keys pass changes on.
UPDATE countries SET code = 'GER' WHERE code = 'DE';
SELECT * FROM test.check_all();
UPDATE orders SET id = id + 10;
SELECT * FROM test.check_all();
DELETE FROM countries WHERE code = 'GER';
SELECT * FROM test.check_all();
DELETE FROM customers WHERE id = 1;
SELECT * FROM test.check_all();
-- Equal rows of tables without a primary key are told apart by number only.
DELETE FROM marks WHERE ctid = (SELECT min(ctid) FROM marks WHERE item = 'tea');
SELECT * FROM test.check_all();
INSERT INTO marks SELECT * FROM marks;
SELECT * FROM test.check_all();
UPDATE marks SET mark = 'hot' WHERE mark = 'sweet';
SELECT * FROM test.check_all();
SELECT item, mark, quantity, count(*) FROM marked GROUP BY 1, 2, 3 ORDER BY 1, 2, 3;

--
-- Several sources in one statement
--
WITH c AS (INSERT INTO customers VALUES (7, 'CH', 'Eve') RETURNING id), o AS (INSERT INTO orders SELECT 70, 7, '2021-01-01' RETURNING id)
INSERT INTO lines VALUES (70, 1, 'tea', 5, 2.00), (70, 2, 'ale', 2, 3.00);
SELECT * FROM test.check_all();
WITH o AS (UPDATE orders SET at = at + 1, customer = 4 RETURNING id), l AS (DELETE FROM lines WHERE line = 2 RETURNING item)
UPDATE items SET weight = weight + 1 WHERE item IN (SELECT item FROM l);
SELECT * FROM test.check_all();
WITH gone AS (DELETE FROM lines RETURNING *), moved AS (UPDATE orders SET customer = 7 WHERE id = 15 RETURNING id)
INSERT INTO lines SELECT order_id, line + 100, item, quantity, price + 1 FROM gone;
SELECT * FROM test.check_all();

--
-- Several sources in one transaction
--
BEGIN;
INSERT INTO orders VALUES (80, 4, '2021-02-02');
INSERT INTO lines VALUES (80, 1, 'tea', 5, 2.00), (80, 2, 'ale', 2, 3.00);
UPDATE orders SET customer = 7 WHERE id = 80;
UPDATE customers SET country = 'FR', name = 'Eva' WHERE id = 7;
DELETE FROM lines WHERE order_id = 80 AND line = 1;
UPDATE items SET item = 'beer' WHERE item = 'ale';
UPDATE lines SET item = 'beer' WHERE item = 'ale';
COMMIT;
SELECT * FROM test.check_all();
BEGIN;
DELETE FROM lines WHERE item = 'beer';
DELETE FROM items;
INSERT INTO items VALUES ('tea', 3), ('beer', 4), ('jam', NULL);
INSERT INTO lines SELECT id, 500, 'beer', 1, 1 FROM orders;
INSERT INTO marks VALUES ('beer', 'cold'), ('beer', 'cold');
COMMIT;
SELECT * FROM test.check_all();
-- what comes and goes again leaves nothing
BEGIN;
INSERT INTO orders VALUES (99, 4, '2022-01-01');
INSERT INTO lines VALUES (99, 1, 'tea', 1, 1);
DELETE FROM lines WHERE order_id = 99;
DELETE FROM orders WHERE id = 99;
COMMIT;
SELECT * FROM test.check_all();

--
-- ON CONFLICT, MERGE, COPY
--
INSERT INTO items VALUES ('tea', 7), ('new', 8) ON CONFLICT (item) DO UPDATE SET weight = excluded.weight + items.weight;
SELECT * FROM test.check_all();
INSERT INTO items VALUES ('tea', 100), ('newer', 9) ON CONFLICT DO NOTHING;
SELECT * FROM test.check_all();
INSERT INTO lines VALUES (80, 500, 'tea', 3, 3), (80, 501, 'jam', 3, 3) ON CONFLICT (order_id, line) DO UPDATE SET item = excluded.item, quantity = lines.quantity + 1;
SELECT * FROM test.check_all();
MERGE INTO lines AS l USING (VALUES (80, 500), (80, 501), (80, 502)) AS v (o, n) ON l.order_id = v.o AND l.line = v.n
    WHEN MATCHED AND n = 500 THEN DELETE
    WHEN MATCHED THEN UPDATE SET quantity = 11
    WHEN NOT MATCHED THEN INSERT VALUES (v.o, v.n, 'tea', 2, 2.5);
SELECT * FROM test.check_all();
COPY lines FROM stdin WITH (FORMAT csv, NULL '');
80,600,tea,1,1.5
80,601,jam,2,2.5
70,602,beer,3,
70,603,,,
\.
SELECT * FROM test.check_all();

--
-- TRUNCATE
--
BEGIN;
TRUNCATE marks;
SELECT * FROM test.check_all();
ROLLBACK;
SELECT * FROM test.check_all();
TRUNCATE marks;
SELECT * FROM test.check_all();
SELECT n FROM crossed;
INSERT INTO marks VALUES ('tea', 'hot');
SELECT * FROM test.check_all();
BEGIN;
INSERT INTO lines VALUES (80, 700, 'tea', 1, 1);
UPDATE orders SET customer = 4;
TRUNCATE lines;
INSERT INTO lines VALUES (80, 701, 'jam', 1, 2), (70, 702, 'tea', 1, 3);
DELETE FROM marks;
COMMIT;
SELECT * FROM test.check_all();
BEGIN;
INSERT INTO lines VALUES (80, 703, 'tea', 4, 4);
SAVEPOINT s;
TRUNCATE lines, marks;
INSERT INTO marks VALUES ('jam', 'red');
INSERT INTO lines VALUES (80, 704, 'jam', 4, 4);
SELECT * FROM test.check_all();
ROLLBACK TO s;
SELECT * FROM test.check_all();
INSERT INTO lines VALUES (80, 705, 'jam', 4, 4);
COMMIT;
SELECT * FROM test.check_all();
BEGIN;
UPDATE lines SET quantity = quantity * 2;
SAVEPOINT s;
TRUNCATE lines;
ROLLBACK TO s;
INSERT INTO marks VALUES ('jam', 'red'), ('jam', 'red');
COMMIT;
SELECT * FROM test.check_all();
BEGIN;
INSERT INTO marks VALUES ('jam', 'blue');
TRUNCATE marks;
INSERT INTO marks VALUES ('jam', 'green');
TRUNCATE marks, lines;
INSERT INTO marks VALUES ('tea', 'green');
COMMIT;
SELECT * FROM test.check_all();
INSERT INTO lines VALUES (80, 1, 'tea', 1, 1);
TRUNCATE orders CASCADE;
SELECT * FROM test.check_all();
INSERT INTO orders VALUES (1, 7, '2020-05-05');
INSERT INTO lines VALUES (1, 1, 'tea', 1, 1);
SELECT * FROM test.check_all();
SELECT n, most FROM triples;
DELETE FROM orders;
SELECT * FROM test.check_all();

--
-- Composite keys, rows by primary key, and without one
--
CREATE TABLE stores (region int, number int, name text, PRIMARY KEY (region, number));
CREATE TABLE stock (region int, number int, item text, n int, UNIQUE (region, number, item));
SELECT projections.create('stocked', 'SELECT s.name, sum(k.n) AS n FROM stores s JOIN stock k USING (region, number) GROUP BY s.region, s.number');
SELECT projections.create('shelves', 'SELECT s.name, k.item FROM stores s JOIN stock k ON (s.region, s.number) = (k.region, k.number)');
SELECT projections.create('names_only', 'SELECT name FROM stores WHERE name IS NOT NULL');
SELECT projections.create('copies', 'SELECT n, item IS NULL AS blank FROM stock');
INSERT INTO stores VALUES (1, 1, 'North'), (1, 2, 'South'), (2, 1, 'North'), (2, 2, NULL);
INSERT INTO stock VALUES (1, 1, 'tea', 1), (1, 1, 'jam', 2), (1, 2, 'tea', 3), (NULL, 1, 'tea', 4), (2, 1, 'tea', 1), (2, 2, NULL, 1), (2, 2, NULL, 1);
SELECT * FROM test.check_all();
SELECT n, blank FROM copies ORDER BY 1, 2;
UPDATE stores SET region = region + 1, number = number + 10 WHERE number = 1;
SELECT * FROM test.check_all();
UPDATE stores SET name = nullif(name, 'North');
SELECT * FROM test.check_all();
UPDATE stock SET region = 3 - region, number = number + 10, n = n / 2 WHERE item IS NOT NULL;
SELECT * FROM test.check_all();
DELETE FROM stock WHERE ctid = (SELECT min(ctid) FROM stock WHERE item IS NULL);
SELECT * FROM test.check_all();
DELETE FROM stores WHERE number = 11 AND region = 2;
SELECT * FROM test.check_all();
BEGIN;
DELETE FROM stores;
INSERT INTO stores VALUES (2, 1, 'East');
COMMIT;
SELECT * FROM test.check_all();

-- Rows swap their primary keys in one statement.
CREATE TABLE seats (seat int, who text, PRIMARY KEY (seat));
SELECT projections.create('seated', 'SELECT seat, upper(who) AS who FROM seats');
INSERT INTO seats SELECT i, 'guest ' || i FROM generate_series(1, 5) AS i;
SELECT test.check('seated');
BEGIN;
UPDATE seats SET seat = -seat;
UPDATE seats SET seat = 6 + seat;
COMMIT;
SELECT test.check('seated');
SELECT * FROM seated ORDER BY seat;
DELETE FROM seats WHERE seat = 3;
INSERT INTO seats VALUES (3, 'late');
SELECT test.check('seated');
BEGIN;
DELETE FROM seats WHERE seat = 3;
INSERT INTO seats VALUES (3, 'later');
COMMIT;
SELECT test.check('seated');

--
-- Eight tables, and one table eight times
--
CREATE TABLE t1 (id int PRIMARY KEY, a int); CREATE TABLE t2 (id int PRIMARY KEY, a int); CREATE TABLE t3 (id int PRIMARY KEY, a int);
CREATE TABLE t4 (id int PRIMARY KEY, a int); CREATE TABLE t5 (id int PRIMARY KEY, a int); CREATE TABLE t6 (id int PRIMARY KEY, a int);
CREATE TABLE t7 (id int PRIMARY KEY, a int); CREATE TABLE t8 (id int PRIMARY KEY, a int);
SELECT projections.create('eight', 'SELECT t1.a, count(*) AS n, sum(t8.a) AS s, max(t4.a) AS m
    FROM t1 JOIN t2 ON t2.id = t1.a JOIN t3 ON t3.id = t2.a JOIN t4 ON t4.id = t3.a JOIN t5 ON t5.id = t4.a JOIN t6 ON t6.id = t5.a
    JOIN t7 ON t7.id = t6.a JOIN t8 ON t8.id = t7.a GROUP BY t1.a');
SELECT projections.create('eight_times', 'SELECT count(*) AS n, sum(a.a + h.a) AS s
    FROM t1 a JOIN t1 b ON b.id = a.a JOIN t1 c ON c.id = b.a JOIN t1 d ON d.id = c.a JOIN t1 e ON e.id = d.a JOIN t1 f ON f.id = e.a
    JOIN t1 g ON g.id = f.a JOIN t1 h ON h.id = g.a');
DO $$
BEGIN
    FOR t IN 1..8 LOOP
        EXECUTE format('INSERT INTO t%s SELECT i, 1 + (i * 7 + %s) %% 12 FROM generate_series(1, 12) AS i', t, t);
    END LOOP;
END
$$;
SELECT test.check('eight'), test.check('eight_times');
SELECT count(*) AS groups, sum(n) AS n FROM eight;
BEGIN;
UPDATE t1 SET a = a % 5 + 1 WHERE id < 5;
UPDATE t2 SET a = a % 5 + 1;
DELETE FROM t3 WHERE id = 3;
UPDATE t4 SET id = id + 100 WHERE id = 4;
INSERT INTO t5 VALUES (13, 1);
UPDATE t6 SET a = 2;
DELETE FROM t7 WHERE a = 7;
UPDATE t8 SET a = -a;
COMMIT;
SELECT test.check('eight'), test.check('eight_times');
TRUNCATE t6;
SELECT test.check('eight'), test.check('eight_times');
INSERT INTO t6 SELECT i, i FROM generate_series(1, 12) AS i;
SELECT test.check('eight'), test.check('eight_times');
UPDATE t1 SET a = 13 - id;
SELECT test.check('eight'), test.check('eight_times');
DELETE FROM t1 WHERE id > 6;
SELECT test.check('eight'), test.check('eight_times');

DROP SCHEMA joins CASCADE;
SELECT count(*) AS projections FROM projections.definitions;
