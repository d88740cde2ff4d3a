-- LEFT and RIGHT JOIN: rows, groups and extrema over them, by every way in which changes come.
SET client_min_messages = warning;
CREATE SCHEMA outer_joins;
SET search_path = outer_joins, public;

CREATE TABLE orders (id int PRIMARY KEY, customer int, amount numeric, placed date, parent int);
CREATE TABLE lines (id int PRIMARY KEY, order_id bigint, item numeric, quantity int);
CREATE TABLE returns (order_id int, item numeric(6, 2), reason text);
CREATE TABLE customers (id int PRIMARY KEY, name text, region int);
CREATE VIEW named AS SELECT o.id, o.amount, c.name, c.region FROM orders o LEFT JOIN customers c ON c.id = o.customer;

-- What is asked, as views: the oracle compares with what is stored, and checked() with what was written, too.
CREATE TABLE shapes (number int GENERATED ALWAYS AS IDENTITY, name text, query text);
INSERT INTO shapes (name, query) VALUES
    ('rows', 'SELECT o.id, o.amount, l.id AS line, l.item FROM orders o LEFT JOIN lines l ON l.order_id = o.id'),
    ('right_rows', 'SELECT o.id, l.id AS line FROM lines l RIGHT JOIN orders o ON l.order_id = o.id AND l.quantity > 1'),
    ('counted', 'SELECT o.id, o.customer, count(l.id) AS lines, sum(l.quantity) AS pieces FROM orders o LEFT JOIN lines l ON l.order_id = o.id GROUP BY o.id'),
    ('sums', 'SELECT c.name, count(*) AS n, count(o.id) AS orders, coalesce(sum(o.amount), 0) AS amount, max(o.placed) AS latest FROM customers c LEFT JOIN orders o ON o.customer = c.id AND o.amount > 1 GROUP BY c.name'),
    ('returned', 'SELECT l.id, l.item, avg(r.item) AS item_of, min(r.reason) AS reason FROM lines l LEFT JOIN returns r ON r.order_id = l.order_id AND r.item = l.item GROUP BY l.id, l.item'),
    ('total', 'SELECT count(*) AS n, count(l.id) AS lines, sum(l.item) AS items FROM orders o LEFT JOIN lines l ON l.order_id = o.id AND l.item < o.amount'),
    ('just_counted', 'SELECT count(*) AS n FROM orders o LEFT JOIN lines l ON l.order_id = o.id'),
    ('unmatched', 'SELECT o.id, o.customer FROM orders o LEFT JOIN lines l ON l.order_id = o.id WHERE l.id IS NULL'),
    ('two', 'SELECT o.id, c.name, l.item FROM orders o LEFT JOIN customers c ON c.id = o.customer LEFT JOIN lines l ON l.order_id = o.id AND l.quantity > c.region'),
    ('chain', 'SELECT c.id, count(o.id) AS orders, count(l.id) AS lines, sum(l.item) AS items FROM customers c LEFT JOIN orders o ON o.customer = c.id LEFT JOIN lines l ON l.order_id = o.id GROUP BY c.id'),
    ('chain_or', 'SELECT c.id, o.id AS placed, l.id AS line FROM customers c LEFT JOIN orders o ON o.customer = c.id LEFT JOIN lines l ON l.order_id = coalesce(o.id, c.id)'),
    ('inner_too', 'SELECT o.id, c.name, l.item FROM orders o JOIN customers c ON c.id = o.customer LEFT JOIN lines l ON l.order_id = o.id WHERE coalesce(l.quantity, 5) > c.region'),
    ('self', 'SELECT o.id, p.id AS parent, p.amount FROM orders o LEFT JOIN orders p ON p.id = o.parent'),
    ('using_id', 'SELECT id, o.amount, c.name FROM orders o LEFT JOIN customers c USING (id)'),
    ('distinct_items', 'SELECT DISTINCT l.item FROM orders o LEFT JOIN lines l ON l.order_id = o.id'),
    ('asking', 'SELECT o.id, l.item FROM orders o LEFT JOIN lines l ON l.order_id = o.id WHERE EXISTS (SELECT FROM customers c WHERE c.id = o.customer) AND NOT EXISTS (SELECT FROM returns r WHERE r.order_id = o.id AND r.item = l.item)'),
    ('of_view', 'SELECT v.name, count(*), sum(v.amount) FROM named v GROUP BY v.name'),
    ('labelled', 'SELECT CASE WHEN l.id IS NULL THEN ''none'' WHEN l.quantity > 2 THEN ''many'' ELSE ''few'' END AS label, count(*) FROM orders o LEFT JOIN lines l ON l.order_id = o.id GROUP BY 1'),
    ('both', 'SELECT o.id, r.item, r.reason FROM orders o FULL JOIN returns r ON r.order_id = o.id'),
    ('both_merged', 'SELECT id, count(*) AS n, max(o.amount) AS amount, min(c.name) AS name FROM orders o FULL JOIN customers c USING (id) GROUP BY id'),
    ('filtered', 'SELECT o.id, x.item, x.label FROM orders o LEFT JOIN (SELECT order_id, item, coalesce(item::text, ''none'') AS label FROM lines WHERE quantity > 1) x ON x.order_id = o.id'),
    ('lateral_rows', 'SELECT o.id, x.item, x.more FROM orders o LEFT JOIN LATERAL (SELECT l.item, l.quantity + o.amount AS more FROM lines l WHERE l.order_id = o.id) x ON x.more > 2'),
    ('unconditional', 'SELECT c.id, r.reason FROM customers c LEFT JOIN returns r ON c.region > 1');
SELECT projections.create('outer_joins.' || quote_ident(name), query) FROM shapes ORDER BY number \g /dev/null
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
        IF test.check(format('outer_joins.%I', p)::regclass) <> 'equal, algebraic' THEN
            RETURN NEXT p || ': ' || test.check(format('outer_joins.%I', p)::regclass);
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
SELECT id, line FROM rows WHERE id >= 30 ORDER BY id;
DELETE FROM lines WHERE id = 31;
SAVEPOINT a;
DELETE FROM lines WHERE order_id < 6;
SELECT id, lines FROM counted ORDER BY id;
SELECT checked();
INSERT INTO returns VALUES (30, 3, 'late'), (30, 3, NULL);
ROLLBACK TO a;
SELECT id, lines FROM counted ORDER BY id;
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
            IF random() < 0.2 THEN PERFORM FROM rows, chain; END IF;
        END LOOP;
        COMMIT;
        SELECT string_agg(c, '; ') INTO found FROM checked() AS c;
        IF found IS NOT NULL THEN RAISE EXCEPTION 'after % transactions: %', i, found; END IF;
    END LOOP;
END
$$;
CALL change_all(60);

-- Operated.
SELECT name, (SELECT count(*) FROM projections.verify('outer_joins.' || name)) AS wrong FROM shapes WHERE name IN ('rows', 'sums', 'chain') ORDER BY number;
SELECT projections.pause('chain', 'a test'), projections.pause('rows', 'a test');
SELECT change() FROM generate_series(1, 40) \g /dev/null
SELECT projections.resume('chain'), projections.resume('rows') \g /dev/null
CALL projections.rebuild('chain');
CALL projections.rebuild('rows');
SELECT checked();
INSERT INTO orders VALUES (50, 1, 5, '2026-03-01', NULL), (51, 1, 6, '2026-03-01', NULL);
INSERT INTO lines VALUES (50, 50, 1, 2), (51, 50, 1, 2);
SELECT projections.read('counted', '{"id": 50, "customer": 1}', '0 s'), projections.read('counted', '{"id": 51, "customer": 1}', '0 s');
SELECT source, event - 'placed' AS event FROM projections.history('counted', '{"id": 50, "customer": 1}');
SET pg_projections.allow_direct_writes = on;
DELETE FROM counted;
RESET pg_projections.allow_direct_writes;
SELECT projections.repair('counted') > 0 AS repaired;
SELECT checked();
CALL projections.alter('rows', query => 'SELECT o.id, l.id AS line FROM orders o LEFT JOIN lines l ON l.order_id = o.id AND l.item > 1');
CREATE VIEW asked_again AS SELECT o.id, l.id AS line FROM orders o LEFT JOIN lines l ON l.order_id = o.id AND l.item > 1;
SELECT (SELECT count(*) FROM (SELECT id, line FROM rows EXCEPT ALL TABLE asked_again) AS d) AS extra, (SELECT count(*) FROM (TABLE asked_again EXCEPT ALL SELECT id, line FROM rows) AS d) AS missing;
DELETE FROM shapes WHERE name = 'rows';
CALL change_all(10);

-- How each is followed, and what is advised.
SELECT source, strategy, key, index_advice FROM projections.explain('counted');
SELECT projections_internal._plan('SELECT o.id, o.customer, count(l.id) FROM orders o LEFT JOIN lines l ON l.order_id = o.id GROUP BY o.id');

-- Refused.
\set VERBOSITY verbose
SELECT projections.explain('SELECT o.id, l FROM orders o LEFT JOIN lines l ON l.order_id = o.id');
\set VERBOSITY terse
SET client_min_messages = error;
DROP SCHEMA outer_joins CASCADE;
