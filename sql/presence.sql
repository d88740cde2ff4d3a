-- EXISTS, NOT EXISTS, IN and ANY: over rows, groups and unions, by every way in which changes come.
SET client_min_messages = warning;
CREATE SCHEMA presence;
SET search_path = presence, public;

CREATE TABLE orders (id int PRIMARY KEY, customer int, amount numeric, placed date, parent int);
CREATE TABLE lines (id int PRIMARY KEY, order_id bigint, item numeric, quantity int);
CREATE TABLE returns (order_id int, item numeric(6, 2), reason text);
CREATE TABLE customers (id int PRIMARY KEY, name text, region int);
CREATE VIEW returned AS SELECT o.id, o.customer FROM orders o WHERE EXISTS (SELECT FROM returns r WHERE r.order_id = o.id);
CREATE VIEW bulk AS SELECT order_id, item FROM lines WHERE quantity > 2;

-- What is asked, as views: the oracle compares with what is stored, and checked() with what was written, too.
CREATE TABLE shapes (number int GENERATED ALWAYS AS IDENTITY, name text, query text);
INSERT INTO shapes (name, query) VALUES
    ('rows', 'SELECT o.id, o.customer FROM orders o WHERE EXISTS (SELECT 1 FROM lines l WHERE l.order_id = o.id)'),
    ('without', 'SELECT o.id, o.amount FROM orders o WHERE NOT EXISTS (SELECT * FROM lines l WHERE l.order_id = o.id AND l.quantity > 1)'),
    ('sums', 'SELECT o.customer, sum(o.amount), count(*), max(o.amount) FROM orders o WHERE o.amount > 0 AND EXISTS (SELECT FROM lines l WHERE l.order_id = o.id AND l.item < 3) GROUP BY o.customer'),
    ('total', 'SELECT count(*), avg(amount) FROM orders o WHERE NOT EXISTS (SELECT FROM returns r WHERE r.order_id = o.id)'),
    ('joined', 'SELECT o.id, c.name FROM orders o JOIN customers c ON c.id = o.customer WHERE EXISTS (SELECT FROM lines l WHERE l.order_id = o.id AND l.quantity = c.region)'),
    ('inside', 'SELECT id, customer FROM orders WHERE id IN (SELECT order_id FROM lines WHERE quantity > 1) AND customer = ANY (SELECT id FROM customers)'),
    ('pairs', 'SELECT l.id, l.item FROM lines l WHERE (l.order_id, l.item) IN (SELECT r.order_id, r.item FROM returns r)'),
    ('above', 'SELECT o.id, o.amount FROM orders o WHERE o.amount > ANY (SELECT l.item FROM lines l WHERE l.order_id = o.id)'),
    ('later', 'SELECT o.id FROM orders o WHERE NOT EXISTS (SELECT FROM orders n WHERE n.customer = o.customer AND n.placed > o.placed)'),
    ('parents', 'SELECT o.id, o.parent FROM orders o WHERE EXISTS (SELECT FROM orders p WHERE p.id = o.parent)'),
    ('two', 'SELECT o.customer, count(*) FROM orders o WHERE EXISTS (SELECT FROM lines l WHERE l.order_id = o.id AND l.quantity > 2) AND NOT EXISTS (SELECT FROM lines l WHERE l.order_id = o.id AND l.quantity < 2) GROUP BY o.customer'),
    ('both', 'SELECT o.id FROM orders o WHERE EXISTS (SELECT FROM lines l WHERE l.order_id = o.id) AND NOT EXISTS (SELECT FROM returns r WHERE r.order_id = o.id AND r.reason IS NOT NULL)'),
    ('any', 'SELECT c.id, c.name FROM customers c WHERE EXISTS (SELECT FROM returns) AND EXISTS (SELECT FROM lines l WHERE c.region > 1)'),
    ('unequal', 'SELECT c.id FROM customers c WHERE EXISTS (SELECT FROM lines l WHERE l.quantity > c.region)'),
    ('bag', 'SELECT r.reason FROM returns r WHERE EXISTS (SELECT FROM lines l WHERE l.item = r.item)'),
    ('distinct_items', 'SELECT DISTINCT r.item FROM returns r WHERE EXISTS (SELECT FROM lines l WHERE l.item = r.item AND l.order_id = r.order_id LIMIT 1)'),
    ('numbers', 'SELECT r.item, count(*) FROM returns r WHERE r.item IN (SELECT l.item FROM lines l) GROUP BY r.item'),
    ('of_views', 'SELECT v.customer, count(*) FROM returned v WHERE v.id IN (SELECT b.order_id FROM bulk b) GROUP BY v.customer'),
    ('with_items', 'WITH big AS (SELECT order_id FROM lines WHERE quantity > 2) SELECT o.id FROM orders o WHERE EXISTS (SELECT FROM big WHERE big.order_id = o.id)'),
    ('united', 'SELECT customer, count(*) FROM (SELECT customer FROM orders o WHERE EXISTS (SELECT FROM lines l WHERE l.order_id = o.id) UNION ALL SELECT c.id FROM customers c WHERE NOT EXISTS (SELECT FROM orders o WHERE o.customer = c.id)) AS u GROUP BY customer'),
    ('over_union', 'SELECT u.customer, u.item FROM (SELECT o.customer, o.amount AS item FROM orders o UNION ALL SELECT r.order_id, r.item FROM returns r WHERE EXISTS (SELECT FROM orders o WHERE o.id = r.order_id)) AS u WHERE u.item > 0 AND EXISTS (SELECT FROM lines l WHERE l.item = u.item) AND NOT EXISTS (SELECT FROM customers c WHERE c.id = u.customer AND c.region > 2)'),
    ('cascade', 'SELECT c.id, c.name FROM customers c WHERE EXISTS (SELECT FROM sums s WHERE s.customer = c.id AND s.count > 1)');
SELECT projections.create('presence.' || quote_ident(name), query) FROM shapes ORDER BY number \g /dev/null
DO $$
DECLARE s shapes;
BEGIN
    FOR s IN SELECT * FROM shapes LOOP EXECUTE format('CREATE VIEW %I AS %s', 'asked_' || s.name, s.query); END LOOP;
END $$;

CREATE FUNCTION checked() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    p text;
    columns text;
    wrong bigint;
BEGIN
    FOR p IN SELECT name FROM shapes ORDER BY number LOOP
        IF test.check(format('presence.%I', p)::regclass) <> 'equal, algebraic' THEN
            RETURN NEXT p || ': ' || test.check(format('presence.%I', p)::regclass);
        END IF;
        SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) INTO columns FROM pg_attribute
        WHERE attrelid = ('asked_' || p)::regclass AND attnum > 0;
        EXECUTE format('SELECT count(*) FROM ((SELECT %1$s FROM %2$I EXCEPT ALL TABLE asked_%2$s) UNION ALL (TABLE asked_%2$s EXCEPT ALL SELECT %1$s FROM %2$I)) AS d', columns, p) INTO wrong;
        IF wrong > 0 THEN RETURN NEXT format('%s: %s rows are not what was asked for', p, wrong); END IF;
    END LOOP;
END
$$;
SELECT checked();

INSERT INTO customers VALUES (1, 'Ann', 1), (2, 'Bob', 2), (3, 'Cem', 3), (4, NULL, NULL);
INSERT INTO orders SELECT i, i % 5, i % 7, date '2026-01-01' + i % 4, nullif(i / 2, 3) FROM generate_series(1, 12) i;
SELECT checked();
INSERT INTO lines SELECT i, i % 9, i % 5, i % 4 FROM generate_series(1, 15) i;
INSERT INTO returns SELECT i % 6, i % 5, CASE WHEN i % 3 > 0 THEN 'r' || i % 2 END FROM generate_series(1, 8) i;
SELECT checked();

-- The last match goes, the first comes, one of many does, one moves; NULLs match nothing; equal numbers that look different do.
DELETE FROM lines WHERE order_id = 2;
INSERT INTO lines VALUES (20, 2, 3.0, 2), (21, 2, 3.00, 2), (22, NULL, 1, 9), (23, 40, NULL, 9);
DELETE FROM lines WHERE id = 20;
UPDATE lines SET order_id = 11 WHERE id = 21;
UPDATE lines SET quantity = quantity + 1;
UPDATE returns SET item = item + 1, order_id = NULL WHERE reason = 'r1';
UPDATE customers SET region = 4 - region;
SELECT checked();

-- All sides in one transaction, with savepoints, and reads in the middle of it.
BEGIN;
INSERT INTO orders VALUES (30, 2, 9, '2026-02-01', 1), (31, 2, 9, '2026-02-01', 30);
INSERT INTO lines VALUES (30, 30, 3, 3), (31, 31, 3, 3);
SELECT id FROM rows WHERE id >= 30 ORDER BY id;
DELETE FROM lines WHERE id = 31;
SAVEPOINT a;
DELETE FROM lines WHERE order_id < 6;
SELECT id FROM rows ORDER BY id;
SELECT checked();
INSERT INTO returns VALUES (30, 3, 'late'), (30, 3, NULL);
ROLLBACK TO a;
SELECT id FROM rows ORDER BY id;
DELETE FROM returns WHERE order_id = 1;
DELETE FROM customers WHERE id = 3;
SELECT checked();
COMMIT;
SELECT checked();
BEGIN;
DELETE FROM lines;
DELETE FROM returns;
INSERT INTO lines SELECT i, i % 9, i % 5, i % 4 FROM generate_series(1, 15) i;
COMMIT;
SELECT checked();
TRUNCATE lines;
SELECT checked();
INSERT INTO lines SELECT i, i % 9, i % 5, i % 4 FROM generate_series(1, 15) i;

-- Random transactions.
CREATE FUNCTION change() RETURNS void LANGUAGE plpgsql AS $$
DECLARE n int := floor(random() * 14);
BEGIN
    CASE floor(random() * 10)::int
        WHEN 0 THEN INSERT INTO orders VALUES (n, n % 5, n % 7, date '2026-01-01' + n % 4, n / 2) ON CONFLICT DO NOTHING;
        WHEN 1 THEN DELETE FROM orders WHERE id = n;
        WHEN 2 THEN UPDATE orders SET customer = floor(random() * 5), placed = placed + floor(random() * 3)::int - 1 WHERE id % 5 = n % 5;
        WHEN 3, 4 THEN INSERT INTO lines VALUES (n, floor(random() * 9), floor(random() * 5), floor(random() * 5)) ON CONFLICT DO NOTHING;
        WHEN 5 THEN DELETE FROM lines WHERE id % 5 = n % 5;
        WHEN 6 THEN UPDATE lines SET order_id = floor(random() * 9), quantity = floor(random() * 5) WHERE id = n;
        WHEN 7 THEN INSERT INTO returns VALUES (floor(random() * 9), floor(random() * 5), nullif('r' || n % 3, 'r2'));
        WHEN 8 THEN DELETE FROM returns WHERE ctid IN (SELECT ctid FROM returns ORDER BY random() LIMIT 2);
        ELSE UPDATE customers SET region = floor(random() * 4) WHERE id = n % 5;
    END CASE;
END
$$;
SELECT setseed(0.5) \g /dev/null
CREATE PROCEDURE change_all(times int) LANGUAGE plpgsql AS $$
DECLARE found text;
BEGIN
    FOR i IN 1 .. times LOOP
        FOR k IN 0 .. floor(random() * 4)::int LOOP
            BEGIN
                PERFORM change();
                IF random() < 0.2 THEN RAISE EXCEPTION USING ERRCODE = 'PX000'; END IF;
            EXCEPTION WHEN SQLSTATE 'PX000' THEN
            END;
            IF random() < 0.2 THEN PERFORM FROM rows, two; END IF;
        END LOOP;
        COMMIT;
        SELECT string_agg(c, '; ') INTO found FROM checked() AS c;
        IF found IS NOT NULL THEN RAISE EXCEPTION 'after % transactions: %', i, found; END IF;
    END LOOP;
END
$$;
CALL change_all(60);

-- Operated.
SELECT name, (SELECT count(*) FROM projections.verify('presence.' || name)) AS wrong FROM shapes WHERE name IN ('rows', 'sums', 'united', 'two') ORDER BY number;
SELECT projections.pause('two', 'a test'), projections.pause('without', 'a test');
SELECT change() FROM generate_series(1, 20) \g /dev/null
SELECT count(*) >= 0 AS stale FROM projections.stale_keys('two');
SELECT change() FROM generate_series(1, 20) \g /dev/null
SELECT projections.resume('two'), projections.resume('without') \g /dev/null
CALL projections.rebuild('two');
CALL projections.rebuild('united');
SELECT checked();
SET pg_projections.allow_direct_writes = on;
DELETE FROM rows;
UPDATE sums SET count = 77;
RESET pg_projections.allow_direct_writes;
SELECT projections.repair('rows') > 0 AS repaired, projections.refresh_source('orders', (SELECT jsonb_agg(jsonb_build_object('id', id)) FROM orders)) > 0 AS refreshed;
SELECT projections.repair('sums') >= 0 AS repaired;
SELECT checked();
INSERT INTO orders VALUES (50, 1, 5, '2026-03-01', NULL);
INSERT INTO lines VALUES (50, 50, 1, 2), (51, 50, 1, 2);
SET pg_projections.allow_direct_writes = on;
DELETE FROM rows WHERE id = 50;
RESET pg_projections.allow_direct_writes;
SELECT projections.refresh_source('lines', '{"id": 50}') > 0 AS refreshed;
SELECT id FROM rows WHERE id = 50;
SELECT projections.read('rows', '{"id": 50}', '0 s');
SELECT source, event - 'placed' AS event FROM projections.history('rows', '{"id": 50}');
SELECT projections.repair(name) >= 0 FROM unnest('{rows,sums}'::text[]) AS name;
CALL projections.alter('rows', query => 'SELECT o.id, o.customer FROM orders o WHERE NOT EXISTS (SELECT 1 FROM lines l WHERE l.order_id = o.id)');
CREATE OR REPLACE VIEW asked_rows AS SELECT o.id, o.customer FROM orders o WHERE NOT EXISTS (SELECT 1 FROM lines l WHERE l.order_id = o.id);
SELECT checked();
CALL change_all(10);
ALTER TABLE lines RENAME COLUMN quantity TO pieces;
ALTER TABLE lines RENAME TO items;
INSERT INTO items VALUES (60, 7, 1, 1);
DELETE FROM items WHERE id = 60;
SELECT checked();
ALTER TABLE items RENAME TO lines;
ALTER TABLE lines RENAME COLUMN pieces TO quantity;

-- A key of what is asked for is nothing that the rows are told apart by.
SELECT object, problem FROM projections.validate() WHERE object LIKE 'presence.%';
CREATE TABLE marks (id int PRIMARY KEY, customer int);
SELECT projections.create('marked', 'SELECT c.id FROM customers c WHERE EXISTS (SELECT FROM marks m WHERE m.customer = c.id)') \g /dev/null
ALTER TABLE marks DROP CONSTRAINT marks_pkey;
ALTER TABLE customers DROP CONSTRAINT customers_pkey;
INSERT INTO marks VALUES (1, 1), (1, 1), (2, 2);
DELETE FROM marks WHERE ctid = (SELECT min(ctid) FROM marks);
SELECT * FROM marked ORDER BY id;
SELECT object, problem FROM projections.validate() WHERE object LIKE 'presence.%';

-- How each is followed, and what is advised.
SELECT source, strategy, key, index_advice FROM projections.explain('SELECT o.id FROM orders o WHERE EXISTS (SELECT FROM lines l WHERE l.order_id = o.id)');
SELECT projections_internal._plan('SELECT o.customer, count(*) FROM orders o WHERE NOT EXISTS (SELECT FROM lines l WHERE l.order_id = o.id AND l.item > 1) AND o.amount > ANY (SELECT r.item FROM returns r WHERE r.order_id = o.id) GROUP BY o.customer');
SELECT query FROM projections.definitions WHERE relation = 'inside'::regclass;

-- Refused.
\set VERBOSITY verbose
SELECT projections.explain('SELECT id FROM orders o WHERE EXISTS (SELECT FROM lines l WHERE l.order_id = o.id GROUP BY l.item HAVING count(*) > 1)');
SELECT projections.explain('SELECT id FROM orders o WHERE EXISTS (SELECT FROM lines l WHERE l.order_id = o.id AND l.quantity > (SELECT 1))');
SELECT projections.explain('SELECT id FROM orders o WHERE EXISTS (SELECT FROM lines l WHERE l.order_id = o.id AND random() < 0.5)');
\set VERBOSITY terse
SET client_min_messages = error;
DROP SCHEMA presence CASCADE;
