-- Parts: what cannot be followed in one step is kept in hidden projections, which the rest reads.
CREATE SCHEMA parts;
SET search_path = parts;
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE TABLE orders (id int PRIMARY KEY, customer int, amount int, price numeric);
CREATE TABLE customers (id int PRIMARY KEY, name text, boss int);
CREATE TABLE lines (id int PRIMARY KEY, order_id int, item text, n int);
CREATE INDEX ON orders (customer);
CREATE INDEX ON lines (order_id);
CREATE TABLE events (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, kind text);
INSERT INTO customers SELECT i, 'c' || i % 3, nullif(i / 2, 0) FROM generate_series(1, 8) i;
INSERT INTO orders SELECT i, nullif(i % 7, 0), i * 5 % 13, round(i / 3.0, i % 4) FROM generate_series(1, 30) i;
INSERT INTO lines SELECT i, nullif(i * 3 % 33, 30), (ARRAY['a', 'b', 'a ', NULL])[1 + i % 4], i % 5 FROM generate_series(1, 60) i;

-- Each is compared with its whole query after every change; so are its parts with theirs.
CREATE FUNCTION checked() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    p record;
BEGIN
    FOR p IN SELECT d.projection, d.relation FROM projections.definitions d WHERE d.projection LIKE 'parts.%' ORDER BY 1 LOOP
        RETURN QUERY SELECT w.problem FROM test.wrong(p.relation) w WHERE w.problem IS NOT NULL;
        RETURN QUERY SELECT format('%s: %s', p.projection, v) FROM projections.verify(p.projection) v;
    END LOOP;
END $$;
CREATE FUNCTION made(VARIADIC queries text[]) RETURNS TABLE (name text, blocks bigint, ways text) LANGUAGE plpgsql AS $$
DECLARE
    query text;
BEGIN
    FOREACH query IN ARRAY queries LOOP
        name := split_part(query, ': ', 1);
        PERFORM projections.create('parts.' || name, substr(query, strpos(query, ': ') + 2));
        SELECT count(DISTINCT e.block), string_agg(DISTINCT format('%s %s', e.block, e.kind), ', ') INTO blocks, ways FROM projections.explain('parts.' || name) e;
        RETURN NEXT;
    END LOOP;
END $$;

SELECT * FROM made(
    -- groups as rows
    'filtered: SELECT customer, sum(amount) AS amount FROM orders GROUP BY customer HAVING count(*) > 3 AND customer < 6',
    'having_extremum: SELECT customer FROM orders GROUP BY customer HAVING max(amount) - min(amount) > 10',
    'having_total: SELECT count(*) AS n FROM orders HAVING count(*) > 25',
    'having_nothing: SELECT 1 AS one FROM orders HAVING true',
    'histogram: SELECT n, count(*) AS customers FROM (SELECT customer, count(*) AS n FROM orders GROUP BY customer) x GROUP BY n',
    'best: SELECT max(s) AS best FROM (SELECT sum(amount) AS s FROM orders GROUP BY customer) x',
    'joined: SELECT c.name, x.s FROM customers c JOIN (SELECT customer, sum(amount) AS s FROM orders GROUP BY customer) x ON x.customer = c.id',
    'left_joined: SELECT c.id, c.name, coalesce(x.s, 0) AS s FROM customers c LEFT JOIN (SELECT customer, sum(amount) AS s FROM orders GROUP BY customer) x ON x.customer = c.id',
    'twice: WITH t AS (SELECT customer, sum(amount) AS s FROM orders GROUP BY customer) SELECT a.customer, b.customer AS other FROM t a JOIN t b ON b.s > a.s',
    'distinct_groups: SELECT DISTINCT count(*) AS n FROM orders GROUP BY customer',
    'distinct_below: SELECT c.id, x.item FROM customers c JOIN (SELECT DISTINCT order_id, item FROM lines) x ON x.order_id = c.id',
    'three_levels: SELECT min(n) AS n FROM (SELECT s, count(*) AS n FROM (SELECT customer, sum(amount) AS s FROM orders GROUP BY customer HAVING sum(amount) > 5) x GROUP BY s) y',
    -- subqueries in expressions
    'above_average: SELECT id, amount FROM orders WHERE amount > (SELECT avg(amount) FROM orders)',
    'highest: SELECT o.id, o.customer FROM orders o WHERE o.amount = (SELECT max(amount) FROM orders p WHERE p.customer = o.customer)',
    'counted: SELECT c.id, (SELECT count(*) FROM orders o WHERE o.customer = c.id) AS n, (SELECT sum(price) / 2 FROM orders o WHERE o.customer = c.id) AS half FROM customers c',
    'compared_groups: SELECT customer, sum(amount) AS s FROM orders GROUP BY customer HAVING sum(amount) > (SELECT avg(amount) * 5 FROM orders)',
    'of_groups: SELECT customer, count(*) AS n, (SELECT max(c.name) FROM customers c WHERE c.id = o.customer) AS name FROM orders o GROUP BY customer',
    'in_arguments: SELECT customer, sum((SELECT count(*) FROM lines l WHERE l.order_id = o.id)) AS lines FROM orders o GROUP BY customer',
    'never_or: SELECT id FROM orders o WHERE amount > 11 OR NOT EXISTS (SELECT FROM lines l WHERE l.order_id = o.id)',
    'whether: SELECT id, EXISTS (SELECT FROM lines l WHERE l.order_id = o.id AND l.n > 2) AS big FROM orders o',
    'not_in: SELECT id FROM customers WHERE boss NOT IN (SELECT customer FROM orders WHERE amount > 8)',
    'not_in_rows: SELECT id FROM orders WHERE (customer, amount) NOT IN (SELECT order_id, n FROM lines WHERE id > 20)',
    'all_rows: SELECT id FROM orders o WHERE amount >= ALL (SELECT n FROM lines l WHERE l.order_id = o.id)',
    'differs_from_all: SELECT id FROM orders WHERE customer <> ALL (SELECT boss FROM customers WHERE id < 6)',
    'in_groups: SELECT id FROM customers WHERE id IN (SELECT customer FROM orders GROUP BY customer HAVING sum(amount) > 30)',
    'not_in_groups: SELECT id FROM customers WHERE id NOT IN (SELECT customer FROM orders GROUP BY customer HAVING sum(amount) > 30)',
    'exists_join: SELECT id FROM customers c WHERE EXISTS (SELECT FROM orders o JOIN lines l ON l.order_id = o.id WHERE o.customer = c.id AND l.n > c.id)',
    'nested: SELECT id FROM customers c WHERE EXISTS (SELECT FROM orders o WHERE o.customer = c.id AND EXISTS (SELECT FROM lines l WHERE l.order_id = o.id AND l.n = 4))',
    -- DISTINCT within aggregates
    'distinct_one: SELECT customer, count(DISTINCT amount % 3) AS d FROM orders GROUP BY customer',
    'distinct_mixed: SELECT customer, count(DISTINCT price) AS d, count(*) AS n, count(price) AS p, sum(amount) AS s, avg(amount) AS a, min(price) AS low, max(amount) AS high, bool_and(amount > 1) AS all FROM orders GROUP BY customer',
    'distinct_several: SELECT sum(DISTINCT amount) AS a, count(DISTINCT customer) FILTER (WHERE amount > 3) AS b, count(*) AS n FROM orders',
    'distinct_having: SELECT customer FROM orders GROUP BY customer HAVING count(DISTINCT amount) > 3',
    'distinct_determined: SELECT c.id, c.name, count(DISTINCT o.amount) AS d FROM customers c JOIN orders o ON o.customer = c.id GROUP BY c.id',
    -- set operations, in FROM too
    'except: SELECT customer FROM orders EXCEPT SELECT id FROM customers WHERE id > 3',
    'intersect: SELECT customer, amount FROM orders INTERSECT SELECT id, n FROM lines',
    'mixed_set: SELECT customer FROM orders UNION (SELECT id FROM customers EXCEPT SELECT n FROM lines) UNION ALL SELECT 1 FROM customers',
    'join_union: SELECT o.id, u.x FROM orders o JOIN (SELECT id AS x FROM customers UNION SELECT n FROM lines) u ON u.x = o.amount',
    'grouped_arms: SELECT customer AS k, count(*) AS n FROM orders GROUP BY customer UNION ALL SELECT NULL, count(*) FROM lines',
    'cube: SELECT customer, amount % 2 AS odd, sum(price) AS s, count(*) AS n, GROUPING(customer, amount % 2) AS g FROM orders GROUP BY CUBE (customer, amount % 2)',
    'rollup: SELECT customer + 1 AS c, count(*) AS n FROM orders GROUP BY ROLLUP (customer + 1) HAVING count(*) > 2',
    'sets: SELECT DISTINCT GROUPING(customer) AS g, count(*) AS n FROM orders GROUP BY GROUPING SETS ((customer), (amount), ())',
    -- outer joins of joins
    'left_of_join: SELECT c.id, o.id AS o, l.id AS l FROM customers c LEFT JOIN (orders o JOIN lines l ON l.order_id = o.id) ON o.customer = c.id AND l.n > 1',
    'full_chain: SELECT c.id, o.id AS o, l.id AS l FROM customers c FULL JOIN orders o ON o.customer = c.id FULL JOIN lines l ON l.order_id = o.id',
    'four_left: SELECT c.id, b.name AS boss, bb.name AS his, o.id AS o, l.item FROM customers c LEFT JOIN customers b ON b.id = c.boss LEFT JOIN customers bb ON bb.id = b.boss LEFT JOIN orders o ON o.customer = c.id LEFT JOIN lines l ON l.order_id = o.id',
    'left_arms: SELECT c.id FROM customers c LEFT JOIN orders o ON o.customer = c.id WHERE o.id IS NULL UNION ALL SELECT o.id FROM orders o LEFT JOIN lines l ON l.order_id = o.id WHERE l.id IS NULL'
);
SELECT * FROM checked();
INSERT INTO orders VALUES (100, 3, 40, 1.50), (101, NULL, NULL, NULL), (102, 9, 0, 0.0);
SELECT * FROM checked();
UPDATE orders SET amount = amount + 3 WHERE id % 4 = 0;
SELECT * FROM checked();
UPDATE orders SET customer = nullif(customer + 1, 4), price = price * 1.0 WHERE id % 3 = 0;
SELECT * FROM checked();
INSERT INTO customers VALUES (9, 'c9', NULL), (10, NULL, 3);
UPDATE customers SET boss = 7 WHERE id IN (2, 5);
SELECT * FROM checked();
UPDATE lines SET order_id = NULL WHERE id % 5 = 0;
UPDATE lines SET n = n + 1, item = 'a' WHERE id % 7 = 0;
SELECT * FROM checked();
DELETE FROM lines WHERE order_id < 12;
DELETE FROM customers WHERE id = 4;
SELECT * FROM checked();
-- all of it in one transaction, read in its midst, and taken back to a savepoint
BEGIN;
DELETE FROM orders WHERE customer = 3;
SELECT * FROM checked();
SAVEPOINT s;
INSERT INTO orders SELECT i, i % 5, i % 11, i FROM generate_series(200, 220) i;
SELECT count(*) FROM counted;
DELETE FROM customers WHERE id < 3;
ROLLBACK TO s;
SELECT * FROM checked();
UPDATE orders SET amount = 50 WHERE customer = 5;
SELECT * FROM checked();
COMMIT;
SELECT * FROM checked();
TRUNCATE lines;
SELECT * FROM checked();
BEGIN;
TRUNCATE orders;
INSERT INTO lines SELECT i, i % 9, 'a', i % 5 FROM generate_series(1, 20) i;
INSERT INTO orders SELECT i, i % 5, i % 11, i / 2.0 FROM generate_series(1, 12) i;
COMMIT;
SELECT * FROM checked();

-- What users see: the whole query, the tables that it reads, and no parts.
SELECT query FROM projections.definitions WHERE projection = 'parts.filtered';
SELECT source, source_is_projection FROM projections.dependencies WHERE projection = 'parts.in_groups' ORDER BY source::text;
SELECT block, kind, source, key, index_advice, reason FROM projections.explain('parts.in_groups');
SELECT block, kind, source FROM projections.explain('SELECT customer FROM parts.orders GROUP BY customer HAVING sum(amount) > 3');
SELECT count(*) FROM projections.definitions WHERE projection LIKE '%part_%';
SELECT status, count(*) FROM projections.health() WHERE projection LIKE 'parts.%' GROUP BY status;
SELECT * FROM projections.validate() WHERE object LIKE '%part%';
SELECT * FROM projections.orphans();

-- Declared again it is the same, or another.
\set VERBOSITY default
SELECT projections.create('filtered', 'SELECT customer, sum(amount) AS amount FROM orders GROUP BY customer HAVING count(*) > 3 AND customer < 6', if_not_exists => true);
SELECT projections.create('filtered', 'SELECT customer, sum(amount) AS amount FROM orders GROUP BY customer HAVING count(*) > 4 AND customer < 6', if_not_exists => true);
SELECT projections.create('filtered', 'SELECT customer, sum(amount) AS amount FROM orders GROUP BY customer HAVING min(id) > 3 AND customer < 6', if_not_exists => true);
SELECT projections.create('filtered', 'SELECT customer, sum(amount) AS amount FROM orders GROUP BY customer', if_not_exists => true);
SELECT projections.create('total', 'SELECT count(*) AS n FROM orders');
SELECT projections.create('total', 'SELECT count(*) AS n FROM orders HAVING count(*) > 2', if_not_exists => true);
SELECT count(*) FROM pg_class WHERE relname ~ '^(filtered|total)_part';
-- Parts are nobody's to touch.
SELECT projections.pause('projections_internal.in_groups_part_1', 'no');
SELECT projections.drop('projections_internal.in_groups_part_1');
SELECT projections.create('no', 'SELECT * FROM projections_internal.in_groups_part_1');
INSERT INTO projections_internal.in_groups_part_1 VALUES (99, 99, 1);
DROP TABLE projections_internal.in_groups_part_1;
DROP TABLE events;

-- A wrong row of a part is found, shown by what reads it, and put right.
BEGIN;
SET LOCAL pg_projections.allow_direct_writes = on;
UPDATE projections_internal.in_groups_part_1 SET sum = 1000;
SELECT problem, key ->> 'table' AS "table", count(*) FROM projections.verify('in_groups') GROUP BY 1, 2 ORDER BY 1, 2;
SELECT projections.repair('in_groups') > 0 AS repaired;
SELECT * FROM checked();
ROLLBACK;
CALL projections.rebuild('exists_join');
SELECT projections.refresh_source('orders', '[{"id": 3}]');
SELECT * FROM checked();
-- A pause holds the table still; what follows is applied when it ends.
SELECT projections.pause('in_groups', 'stock take');
UPDATE orders SET amount = amount + 100;
SELECT * FROM in_groups;
SELECT projections.resume('in_groups');
SELECT * FROM checked();
SELECT projections.pause('counted', 'all of it');
SELECT p.relation, p.paused_at IS NOT NULL AS paused FROM projections_internal.projection p WHERE 'counted'::regclass IN (p.relation, p.part_of) ORDER BY p.relation::oid;
SELECT projections.resume('counted');
SELECT * FROM checked();
-- Async, parts are, too: they are caught up, waited for and told of with their projection.
SET client_min_messages = error;
SELECT count(projections.create('later_' || n, query, 'async')) FROM (VALUES
    (1, 'SELECT customer, sum(amount) AS amount FROM orders GROUP BY customer HAVING count(*) > 1'),
    (2, 'SELECT o.id, (SELECT count(*) FROM orders p WHERE p.customer = o.id) AS n FROM orders o'),
    (3, 'SELECT id FROM customers WHERE id NOT IN (SELECT customer FROM orders GROUP BY customer HAVING sum(amount) > 120)'),
    (4, 'SELECT count(DISTINCT customer) AS a, count(DISTINCT amount) AS b, max(amount) AS m FROM orders')) AS v (n, query);
UPDATE orders SET amount = amount + 10 WHERE id % 3 = 0;
DELETE FROM orders WHERE customer = 1;
SELECT projection, lag_events > 0 AS lags, status FROM projections.health() WHERE projection ~ 'later' ORDER BY 1;
SELECT * FROM projections.definitions d, projections.verify(d.projection) WHERE d.projection ~ 'later';
SELECT projections.read('later_1', '{"customer": 2}', '0 s') ->> 'amount' = (SELECT sum(amount)::text FROM orders WHERE customer = 2) AS read_now;
SELECT projections.wait_for('later_3', timeout => '0 s') AS done;
SELECT count(projections.catch_up('later_' || n)) FROM generate_series(1, 4) n;
SELECT projections.wait_for('later_3', timeout => '0 s') AS done;
SELECT projection, count(*) FROM projections.checkpoints WHERE projection ~ 'later' GROUP BY 1 ORDER BY 1;
SELECT * FROM checked();
SELECT projections.pause('later_3', 'for a while');
UPDATE orders SET amount = amount + 1;
SELECT projections.catch_up() > 0 AS others;
SELECT projections.resume('later_3');
SELECT projections.reset('later_1');
CALL projections.rebuild('later_4');
TRUNCATE orders;
INSERT INTO orders SELECT i, i % 5, i % 11, i / 2.0 FROM generate_series(1, 22) i;
SELECT projections.catch_up() > 0 AS some;
SELECT * FROM checked();
SELECT projections.drop('later_' || n) FROM generate_series(1, 4) n;
SET client_min_messages = warning;
SELECT count(*) FROM projections_internal.slot s WHERE NOT EXISTS (SELECT FROM projections_internal.projection p WHERE p.relation = s.projection);
-- A part that its owner may not follow any more makes its projection stale; repair mends both.
CREATE ROLE parts_owner;
GRANT USAGE, CREATE ON SCHEMA parts TO parts_owner;
GRANT SELECT, TRIGGER ON orders, customers TO parts_owner;
ALTER TABLE in_groups OWNER TO parts_owner;
SELECT c.relname, c.relowner::regrole FROM pg_class c WHERE c.relname ~ '^in_groups' AND c.relkind = 'r' ORDER BY 1;
UPDATE orders SET amount = amount - 100;
SELECT * FROM checked();
REVOKE SELECT ON orders FROM parts_owner;
UPDATE orders SET amount = amount - 10;
SELECT status, message ~ 'orders' AS says_why FROM projections.health() WHERE projection = 'parts.in_groups';
GRANT SELECT ON orders TO parts_owner;
SELECT projections.repair('in_groups') > 0 AS repaired;
SELECT status FROM projections.health() WHERE projection = 'parts.in_groups';
SELECT * FROM checked();
-- Names follow; a table that is read takes all along.
ALTER TABLE orders RENAME COLUMN amount TO value;
ALTER TABLE orders RENAME TO sold;
UPDATE sold SET value = value + 20 WHERE id < 5;
SELECT * FROM checked();
SELECT projections.drop('highest');
SELECT projections.drop('filtered', keep_table => true);
SELECT count(*) FROM pg_class WHERE relname ~ '^(highest|filtered)_part';
DROP TABLE in_groups;
SELECT count(*) FROM pg_class WHERE relname ~ '^in_groups';
SET client_min_messages = error;
DROP TABLE customers CASCADE;
SELECT * FROM checked();
SELECT count(*) FROM projections_internal.projection p WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = p.relation);
DROP SCHEMA parts CASCADE;
DROP ROLE parts_owner;
SELECT relation FROM projections_internal.projection WHERE part_of IS NOT NULL;
SELECT * FROM projections.orphans();
