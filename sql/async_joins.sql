-- Async over several tables: joins, outer joins, presence and unions, from the logs of all of them.
CREATE SCHEMA async_joins;
SET search_path = async_joins;
\set SHOW_CONTEXT never
SET client_min_messages = error;
CREATE TABLE orders (id int PRIMARY KEY, customer int, amount int);
CREATE TABLE customers (id int PRIMARY KEY, name text);
INSERT INTO orders SELECT i, nullif(i % 5, 4), i % 7 FROM generate_series(1, 30) i;
INSERT INTO customers SELECT i, 'n' || i % 3 FROM generate_series(0, 5) i;
SELECT projections.create('sums', 'SELECT c.name, sum(o.amount) AS amount, max(o.amount) AS most, count(*) AS n FROM orders o JOIN customers c ON c.id = o.customer GROUP BY c.name', 'async');
SELECT projections.create('rows', 'SELECT o.id, c.name FROM orders o JOIN customers c ON c.id = o.customer', 'async');
SELECT projections.create('outer_rows', 'SELECT o.id, c.name FROM orders o LEFT JOIN customers c ON c.id = o.customer', 'async');
SELECT projections.create('asked', 'SELECT id FROM customers c WHERE EXISTS (SELECT FROM orders o WHERE o.customer = c.id AND o.amount > 3)', 'async');
SELECT projections.create('united', 'SELECT amount AS x FROM orders UNION SELECT id FROM customers', 'async');
SELECT projections.create('itself', 'SELECT a.id, max(b.amount) AS most FROM orders a JOIN orders b ON b.customer = a.amount GROUP BY a.id', 'async');
CREATE FUNCTION caught_up() RETURNS TABLE (problem text) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM projections.catch_up();
    RETURN QUERY SELECT w.problem FROM projections.definitions d, test.wrong(d.relation) w WHERE d.projection LIKE 'async_joins.%' AND w.problem IS NOT NULL;
    RETURN QUERY SELECT d.projection || ' differs' FROM projections.definitions d, projections.verify(d.projection) WHERE d.projection LIKE 'async_joins.%';
END $$;
SELECT * FROM caught_up();
INSERT INTO orders SELECT i, i % 4, i % 9 FROM generate_series(100, 120) i;
UPDATE customers SET name = 'zz' WHERE id = 2;
DELETE FROM customers WHERE id = 3;
UPDATE orders SET amount = amount + 1, customer = customer + 1 WHERE id % 3 = 0;
-- as of what has been applied it is right, and says what waits
SELECT projection, count(*) FROM projections.definitions d, projections.verify(d.projection) WHERE projection LIKE 'async_joins.%' GROUP BY 1;
SELECT projection, lag_events > 0 AS lags FROM projections.health() WHERE projection LIKE 'async_joins.%' ORDER BY 1;
SELECT key, lag FROM projections.stale_keys('sums') ORDER BY key::text;
SELECT * FROM caught_up();
SELECT projection, lag_events FROM projections.health() WHERE projection LIKE 'async_joins.%' ORDER BY 1;
-- both sides in one transaction, with a savepoint that is taken back
BEGIN;
DELETE FROM orders WHERE id < 10;
SAVEPOINT s;
DELETE FROM customers;
ROLLBACK TO s;
INSERT INTO customers VALUES (3, 'new');
COMMIT;
DELETE FROM customers WHERE id = 1;
SELECT * FROM caught_up();
-- with changes that wait: rebuilt, repaired, refreshed, filled again, altered
UPDATE orders SET amount = amount + 2 WHERE id % 2 = 0;
UPDATE customers SET name = name || '!' WHERE id = 4;
CALL projections.alter('sums', options => '{"finish": "swap"}');
CALL projections.rebuild('sums');
CALL projections.rebuild('outer_rows');
SELECT * FROM caught_up();
INSERT INTO orders VALUES (50, 2, 6);
SELECT count(projections.repair(projection)) FROM projections.definitions WHERE projection LIKE 'async_joins.%';
SELECT * FROM caught_up();
DELETE FROM orders WHERE id = 50;
SELECT projections.refresh_rows('sums', '[{"name": "zz"}]');
SELECT projections.read('sums', '{"name": "zz"}', '0 s') ->> 'n' = (SELECT count(*)::text FROM orders o JOIN customers c ON c.id = o.customer WHERE c.name = 'zz') AS read_now;
SELECT projections.reset('rows');
SELECT * FROM caught_up();
TRUNCATE orders;
INSERT INTO orders VALUES (1, 1, 1), (2, 2, 2), (3, 3, 3), (5, 2, 9);
SELECT * FROM caught_up();
CALL projections.alter('sums', mode => 'inline');
UPDATE orders SET amount = 7;
CALL projections.alter('sums', mode => 'async');
UPDATE orders SET amount = 8;
UPDATE customers SET name = 'last' WHERE id = 2;
SELECT projections.pause('sums', 'for a while');
SELECT * FROM caught_up() WHERE problem !~ 'sums';
SELECT projections.resume('sums');
SELECT * FROM caught_up();
SELECT * FROM projections.validate() WHERE object ~ 'async_joins';
-- one log draws the numbers of all
SELECT count(*) AS logs, count(pg_get_serial_sequence(format('projections_internal.%I', relname), 'change')) AS sequences
FROM pg_class WHERE relname ~ '^(rows|asked)_changes' AND relkind = 'r' AND relnamespace = 'projections_internal'::regnamespace;
DROP SCHEMA async_joins CASCADE;
SELECT count(*) FROM pg_class WHERE relname ~ '^(sums|rows|outer_rows|asked|united|itself)_changes';
