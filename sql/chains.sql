-- Terms without plans: rows of other tables are looked up in their indexes, one by one.
SET client_min_messages = error;
\set SHOW_CONTEXT never
CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE DOMAIN code AS text CHECK (VALUE <> '');
CREATE TABLE regions (id bigint PRIMARY KEY, name text NOT NULL);
CREATE TABLE customers (id int PRIMARY KEY, region int, kind varchar(10), number numeric, mail text COLLATE blind, active boolean,
    UNIQUE (kind, number));
CREATE UNIQUE INDEX customers_mail ON customers (mail);
CREATE TABLE orders (id int PRIMARY KEY, customer bigint, kind code, number numeric, mail text COLLATE blind, amount int);
CREATE INDEX orders_customer ON orders (customer);
CREATE INDEX orders_number ON orders (number, id);
CREATE INDEX orders_mail ON orders (mail);
CREATE TABLE lines (ordering int REFERENCES orders, line int, price int, PRIMARY KEY (ordering, line));
INSERT INTO regions VALUES (1, 'north'), (2, 'south');
INSERT INTO customers VALUES (1, 1, 'a', 1.0, 'A@x', true), (2, 2, 'b', 2, 'b@x', false), (3, NULL, 'a', 3, NULL, NULL);
INSERT INTO orders VALUES (1, 1, 'a', 1, 'a@X', 10), (2, 1, 'a', 1.00, 'a@x', 0), (3, 2, 'b', 2.0, 'B@x', 5), (4, NULL, NULL, NULL, NULL, 1);
INSERT INTO lines VALUES (1, 1, 5), (1, 2, 7), (2, 1, 1), (3, 1, 2);

CREATE TABLE kinds (number int GENERATED ALWAYS AS IDENTITY, query text);
INSERT INTO kinds (query) VALUES
    ('SELECT id, amount + 1 AS more FROM orders WHERE amount > 2'),
    ('SELECT o.id, o.amount, c.kind, c.active FROM orders o JOIN customers c ON c.id = o.customer'),
    ('SELECT l.ordering, l.line, c.kind, r.name FROM lines l JOIN orders o ON o.id = l.ordering JOIN customers c ON c.id = o.customer JOIN regions r ON r.id = c.region AND c.active'),
    ('SELECT r.name, count(*) AS n, sum(l.price) AS price, max(l.price) AS most FROM lines l JOIN orders o ON o.id = l.ordering JOIN customers c ON c.id = o.customer JOIN regions r ON r.id = c.region GROUP BY r.name'),
    ('SELECT o.id, c.id AS customer FROM orders o JOIN customers c ON c.kind = o.kind AND o.number = c.number'),
    ('SELECT o.id, c.id AS customer FROM orders o JOIN customers c ON c.kind = ''a'' AND c.number = o.number'),
    ('SELECT o.id, c.id AS customer FROM orders o JOIN customers c ON c.mail = o.mail'),
    ('SELECT o.id, o.amount, c.kind FROM orders o LEFT JOIN customers c ON c.id = o.customer'),
    ('SELECT c.id, count(o.id) AS n, sum(o.amount) AS amount FROM customers c LEFT JOIN orders o ON o.customer = c.id GROUP BY c.id'),
    ('SELECT c.id, c.kind FROM customers c WHERE EXISTS (SELECT FROM orders o WHERE o.customer = c.id)'),
    ('SELECT c.id, c.kind FROM customers c WHERE NOT EXISTS (SELECT FROM orders o WHERE o.customer = c.id)'),
    ('SELECT c.id FROM customers c WHERE EXISTS (SELECT FROM orders o WHERE o.number = c.number) AND c.kind = ''a'''),
    ('SELECT c.id FROM customers c WHERE NOT EXISTS (SELECT FROM orders o WHERE o.mail = c.mail)'),
    ('SELECT o.id FROM orders o WHERE EXISTS (SELECT FROM lines l WHERE l.ordering = o.id) AND NOT EXISTS (SELECT FROM customers c WHERE c.id = o.customer)'),
    ('SELECT o.id, c.kind FROM orders o JOIN customers c ON c.id = o.customer UNION ALL SELECT c.id, r.name FROM customers c JOIN regions r ON r.id = c.region'),
    ('SELECT o.id, 100 / o.amount AS share FROM orders o JOIN customers c ON c.id = o.customer AND 100 / o.amount > c.number AND o.amount <> 0'),
    ('SELECT c.id, o.id AS ordering FROM customers c JOIN orders o ON o.number > c.number'),
    ('SELECT o.id, u.id AS of, u.amount FROM orders o JOIN orders u ON u.id = o.customer'),
    ('SELECT o.id, c.id AS customer FROM orders o JOIN customers c ON c.kind = o.kind AND c.number < o.number'),
    ('SELECT l.ordering, l.line FROM lines l JOIN orders o ON o.id = l.ordering JOIN customers c ON c.id = o.customer AND 100 / o.amount > c.region AND o.amount <> 0'),
    ('SELECT o.id, u.amount FROM orders o JOIN orders u ON u.id = o.id AND u.amount > 1');
SELECT count(projections.create('inline_' || number, query)) FROM kinds;
SELECT count(projections.create('async_' || number, query, mode => 'async')) FROM kinds WHERE number % 3 = 1;
SELECT * FROM test.differing();
CREATE FUNCTION ways() RETURNS TABLE (number int, source text, looked_up text) LANGUAGE sql AS $$
    SELECT k.number, e.source, CASE WHEN e.looked_up IS NULL THEN 'a plan' ELSE array_to_string(e.looked_up, ', ') END
    FROM kinds AS k, projections.explain('inline_' || k.number) WITH ORDINALITY AS e ORDER BY k.number, e.ordinality
$$;
SELECT * FROM ways();

-- Every kind of change.
INSERT INTO lines VALUES (2, 3, 4), (3, 5, 1);
SELECT * FROM test.differing();
INSERT INTO orders VALUES (5, 3, 'a', 3.000, 'new', 0), (6, 3, 'a', 3, 'NEW', 7), (7, 99, 'c', 9, 'B@X', -4);
SELECT * FROM test.differing();
UPDATE orders SET amount = 0 WHERE id = 6;
UPDATE orders SET amount = amount + 1 WHERE id <> 6;
SELECT * FROM test.differing();
UPDATE orders SET customer = 4 - customer, number = number + 1, mail = upper(mail) WHERE customer < 4;
SELECT * FROM test.differing();
UPDATE customers SET id = id + 1 WHERE id = 3;
UPDATE customers SET number = number + 1, mail = 'new' WHERE id = 1;
SELECT * FROM test.differing();
INSERT INTO customers VALUES (99, 2, 'c', 9.0, 'c@x', true);
SELECT * FROM test.differing();
DELETE FROM lines WHERE ordering = 1;
DELETE FROM orders WHERE id IN (1, 5);
SELECT * FROM test.differing();
UPDATE regions SET name = upper(name);
DELETE FROM regions WHERE id = 2;
SELECT * FROM test.differing();
-- What came and went nets to nothing; more rows than are counted one by one.
BEGIN;
INSERT INTO orders VALUES (8, 2, 'b', 2, 'z', 1);
UPDATE orders SET number = 2.000, mail = 'Z' WHERE id = 8;
DELETE FROM orders WHERE id = 8;
SELECT * FROM test.differing(later => false);
COMMIT;
INSERT INTO orders SELECT i, 1 + i % 3, 'a', i % 5, 'm' || i % 2, i % 7 FROM generate_series(100, 180) AS i;
SELECT * FROM test.differing();
DELETE FROM orders WHERE id BETWEEN 100 AND 180;
SELECT * FROM test.differing();
-- Two tables in one transaction: their terms read old states, by plans.
BEGIN;
INSERT INTO customers VALUES (50, 1, 'n', 50, 'n@x', true);
INSERT INTO orders VALUES (50, 50, 'n', 50, 'N@x', 3);
UPDATE customers SET active = NOT active;
COMMIT;
SELECT * FROM test.differing();

-- A deferrable index has two rows of a key for a while: both are found.
DROP INDEX customers_mail;
ALTER TABLE customers DROP CONSTRAINT customers_kind_number_key, ADD UNIQUE (kind, number) DEFERRABLE INITIALLY DEFERRED;
SELECT * FROM ways() WHERE number IN (5, 6, 7);
BEGIN;
INSERT INTO customers VALUES (60, 1, 'a', 3.0, 'b@x', true);
UPDATE orders SET number = 3, kind = 'a' WHERE id IN (2, 6);
SELECT * FROM test.differing(later => false);
DELETE FROM customers WHERE id = 60;
COMMIT;
SELECT * FROM test.differing();
-- Row security, and a child, are for plans to see to.
ALTER TABLE customers ENABLE ROW LEVEL SECURITY;
SELECT DISTINCT looked_up FROM ways() WHERE source = 'public.orders' AND number IN (2, 5);
UPDATE orders SET customer = 1 WHERE id = 6;
ALTER TABLE customers DISABLE ROW LEVEL SECURITY;
UPDATE orders SET customer = 2 WHERE id = 6;
SELECT * FROM test.differing();
DROP INDEX orders_customer, orders_number, orders_mail;
SELECT * FROM ways() WHERE number BETWEEN 10 AND 13;
-- Each table that it is joined with finds its rows by an index, or is told of one.
SELECT source, index_advice FROM projections.explain('inline_3');
UPDATE orders SET customer = 3 - customer, number = 2, mail = 'B@X' WHERE id IN (2, 3);
SELECT * FROM test.differing();
-- A condition that another one guards, and values that are kept elsewhere.
UPDATE orders SET amount = 0 WHERE customer IS NOT NULL;
UPDATE orders SET mail = repeat(md5(id::text) || 'x', 3000) WHERE id = 2;
INSERT INTO customers SELECT 70, 1, 'long', 70, upper(mail), true FROM orders WHERE id = 2;
SELECT * FROM test.differing();

SELECT count(projections.drop(projection)) FROM projections.definitions WHERE projection ~ '^public\.(inline|async)_';
DROP TABLE lines, orders, customers, regions, kinds;
DROP FUNCTION ways;
DROP DOMAIN code;
DROP COLLATION blind;
