-- Scalar subqueries that find a row by a unique key: against the query as it is written, after every change; and the
-- unique index, which the projection relies on.
SET client_min_messages = error;
\set SHOW_CONTEXT never
CREATE TABLE regions (id int PRIMARY KEY, name text);
CREATE TABLE customers (id int PRIMARY KEY, name varchar(20), region bigint, email text, flag boolean, UNIQUE (region, name));
CREATE UNIQUE INDEX customers_email ON customers (email);
CREATE TABLE orders (id int PRIMARY KEY, customer bigint, amount int, email text);
CREATE INDEX ON orders (customer);
INSERT INTO regions VALUES (1, 'north'), (2, 'south');
INSERT INTO customers VALUES (1, 'a', 1, 'a@x', true), (2, 'b', 2, NULL, false), (3, 'c', 9, 'c@x', NULL), (4, NULL, NULL, 'd@x', true);
INSERT INTO orders SELECT i, nullif(i % 6, 5), i * 5 % 13, (ARRAY['a@x', 'c@x', NULL])[1 + i % 3] FROM generate_series(1, 12) AS i;
CREATE VIEW spending AS SELECT customer, sum(amount) AS amount, count(*) AS orders FROM orders GROUP BY customer;

CREATE TABLE kinds (number int GENERATED ALWAYS AS IDENTITY, query text);
INSERT INTO kinds (query) VALUES
    ('SELECT o.id, (SELECT c.name FROM customers c WHERE c.id = o.customer) AS name FROM orders o'),
    ('SELECT o.id FROM orders o WHERE (SELECT c.region FROM customers c WHERE c.id = o.customer) = 1'),
    ('SELECT o.id, (SELECT c.flag FROM customers c WHERE o.customer = c.id) AS flag FROM orders o WHERE (SELECT c.flag FROM customers c WHERE o.customer = c.id) IS NOT FALSE'),
    ('SELECT o.id, (SELECT coalesce(c.name, ''none'') FROM customers c WHERE c.email = o.email) AS name, (SELECT 1 FROM customers c WHERE c.email = o.email) AS one FROM orders o'),
    ('SELECT o.id, (SELECT c.name FROM customers c WHERE c.id = o.customer AND c.flag AND o.amount > c.region) AS name FROM orders o'),
    ('SELECT c.id, (SELECT r.name FROM regions r WHERE r.id = c.region) || coalesce(c.name, '''') AS name FROM customers c'),
    ('SELECT o.id, (SELECT (SELECT r.name FROM regions r WHERE r.id = c.region) FROM customers c WHERE c.id = o.customer) AS region FROM orders o'),
    ('SELECT o.id, (SELECT coalesce(r.name, c.name, ''?'') FROM customers c JOIN regions r ON r.id = c.region AND c.flag WHERE c.id = o.customer) AS region FROM orders o'),
    ('SELECT o.id, (SELECT c.email FROM customers c WHERE (c.name, c.region) = (''a'', o.customer)) AS email FROM orders o'),
    ('SELECT c.id, (SELECT s.amount FROM spending s WHERE s.customer = c.id) AS amount FROM customers c'),
    ('SELECT id, (SELECT name FROM regions WHERE id = 2) AS name FROM customers WHERE id > (SELECT id FROM regions WHERE id = 1)'),
    ('SELECT (SELECT c.region FROM customers c WHERE c.id = o.customer) AS region, count(*) AS n, sum(amount) AS amount FROM orders o GROUP BY 1'),
    ('SELECT customer, count(*) AS n, (SELECT c.name FROM customers c WHERE c.id = o.customer) AS name FROM orders o GROUP BY customer'),
    ('SELECT o.email, max((SELECT c.name FROM customers c WHERE c.id = o.customer)) AS name FROM orders o GROUP BY o.email'),
    ('SELECT o.id FROM orders o WHERE o.amount > 10 OR (SELECT c.flag FROM customers c WHERE c.id = o.customer)'),
    ('SELECT id, name FROM (SELECT o.id, (SELECT c.name FROM customers c WHERE c.id = o.customer LIMIT 1) AS name FROM orders o UNION ALL SELECT id, name FROM regions) AS u'),
    ('SELECT o.id, (SELECT o.amount + 1 WHERE o.amount > 3) AS a FROM orders o WHERE EXISTS (SELECT FROM customers c WHERE c.id = o.customer AND c.region > (SELECT 1))'),
    ('SELECT DISTINCT (SELECT c.name FROM customers c WHERE c.id = o.customer) AS name, (SELECT c.region FROM customers c WHERE c.id = o.customer) AS region FROM orders o'),
    ('SELECT o.id, t.n, (SELECT c.name FROM customers c WHERE c.id = o.customer) AS name, (SELECT x.orders FROM (SELECT count(*) AS orders FROM orders) AS x) AS orders FROM orders o LEFT JOIN regions r ON r.id = o.amount, (SELECT count(*) AS n FROM regions) AS t');
SELECT count(projections.create('inline_' || number, query)) FROM kinds;
SELECT count(projections.create('async_' || number, query, mode => 'async')) FROM kinds WHERE number % 3 = 1;
SELECT * FROM test.differing();
INSERT INTO customers VALUES (0, 'zero', 2, NULL, true), (6, 'd', 1, 'f@x', false);
SELECT * FROM test.differing();
UPDATE customers SET flag = NOT flag, region = 3 - region WHERE id < 3;
SELECT * FROM test.differing();
UPDATE customers SET id = id + 10 WHERE id IN (2, 3);
SELECT * FROM test.differing();
UPDATE orders SET customer = customer + 1, amount = amount + 1 WHERE id % 3 = 0;
INSERT INTO orders VALUES (20, 12, 11, 'c@x'), (21, 13, 2, 'none'), (22, NULL, 1, NULL);
SELECT * FROM test.differing();
DELETE FROM regions WHERE id = 1;
SELECT * FROM test.differing();
BEGIN;
INSERT INTO regions VALUES (3, 'east'), (9, 'west');
UPDATE customers SET email = NULL, name = upper(name) WHERE id = 1;
SELECT * FROM test.differing(later => false);
SAVEPOINT s;
DELETE FROM customers WHERE id = 1;
UPDATE customers SET id = 1 WHERE id = 4;
SELECT * FROM test.differing(later => false);
ROLLBACK TO s;
DELETE FROM orders WHERE id < 5;
COMMIT;
SELECT * FROM test.differing();
SELECT count(projections.pause('inline_' || number, 'test')) FROM kinds;
UPDATE customers SET region = 9, name = id || 'n';
DELETE FROM customers WHERE id = 12;
SELECT count(projections.resume('inline_' || number)) FROM kinds;
SELECT * FROM test.differing();
TRUNCATE customers;
SELECT * FROM test.differing();
INSERT INTO customers VALUES (1, 'a', 1, 'a@x', true), (2, 'b', 2, NULL, false);
SELECT * FROM test.differing();
SELECT number, v FROM kinds, projections.verify('inline_' || number) AS v;
SELECT count(projections.drop('inline_' || number)), count(CASE WHEN number % 3 = 1 THEN projections.drop('async_' || number) END) FROM kinds;

SET client_min_messages = warning;

-- What may have several rows is refused; what is unique, but not at every moment or not always, too.
DELETE FROM orders WHERE id > 2;
ALTER TABLE orders ADD CONSTRAINT later UNIQUE (amount, customer) DEFERRABLE;
CREATE UNIQUE INDEX few ON orders (email) WHERE id > 20;
CREATE COLLATION no_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
SELECT projections.create('refused', 'SELECT c.id, (SELECT o.id FROM orders o WHERE o.customer = c.id) AS o FROM customers c');
SELECT projections.create('refused', 'SELECT c.id, (SELECT o.customer FROM orders o WHERE o.email = c.email) AS o FROM customers c');
SELECT projections.create('refused', 'SELECT c.id, (SELECT o.email FROM orders o WHERE o.amount = c.id AND o.customer = c.region) AS o FROM customers c');
SELECT projections.create('refused', 'SELECT o.id, (SELECT c.id FROM customers c WHERE c.region = o.customer) AS o FROM orders o');
SELECT projections.create('refused', 'SELECT o.id, (SELECT c.id FROM customers c WHERE c.id > o.customer) AS o FROM orders o');
SELECT projections.create('refused', 'SELECT o.id, (SELECT c.id FROM customers c WHERE c.email = o.email COLLATE no_case) AS o FROM orders o');
SELECT projections.create('refused', 'SELECT o.id, (SELECT c.id FROM customers c, regions r WHERE c.id = o.customer) AS o FROM orders o');

-- Each unique index is relied on, or another over the same columns.
SELECT projections.create('named', 'SELECT o.id, (SELECT c.name FROM customers c WHERE c.id = o.customer) AS name, (SELECT c.name FROM customers c WHERE c.email = o.email) AS other FROM orders o');
DROP INDEX customers_email;
ALTER TABLE customers DROP CONSTRAINT customers_pkey;
ALTER TABLE customers RENAME COLUMN id TO number;
ALTER INDEX customers_email RENAME TO emails;
ALTER TABLE customers DROP CONSTRAINT customers_pkey;
CREATE UNIQUE INDEX again ON customers (number);
ALTER TABLE customers DROP CONSTRAINT customers_pkey;
ALTER TABLE customers DROP COLUMN flag; -- goes on
DROP INDEX again;
INSERT INTO orders VALUES (30, 1, 1, 'a@x');
SELECT * FROM test.check_all();
CALL projections.rebuild('named');
DROP INDEX emails;
-- Where event triggers did not see it, the next flush does.
SET session_replication_role = replica;
DROP INDEX emails;
RESET session_replication_role;
SELECT severity, object, problem, hint FROM projections.validate() WHERE object LIKE '%named%';
UPDATE customers SET name = 'x' WHERE number = 1;
SELECT status FROM projections.health() WHERE projection LIKE '%named%';
CREATE UNIQUE INDEX emails ON customers (email);
SELECT projections.repair('named');
SELECT severity, object, problem, hint FROM projections.validate() WHERE object LIKE '%named%';
SELECT * FROM test.check_all();
SELECT projections.drop('named');
DROP INDEX emails;
-- A user's alias does not say so.
SELECT projections.create('named', 'SELECT _one_o.id, _one_c.name FROM orders _one_o JOIN customers _one_c ON _one_c.email = _one_o.email');
SELECT count(*) FROM projections_internal.reliance WHERE aspect = 'unique key';
SELECT projections.drop('named');
DROP TABLE kinds CASCADE;
DROP TABLE orders, customers, regions CASCADE;
DROP COLLATION no_case;
