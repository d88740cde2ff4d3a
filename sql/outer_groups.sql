-- Groups over outer joins: where missing rows add nothing to any aggregate, nobody asks whether a row has a match.
CREATE SCHEMA outer_groups;
SET search_path = outer_groups;
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE TABLE customers (id int PRIMARY KEY, name text, region int, rate numeric);
CREATE TABLE orders (id int PRIMARY KEY, customer int, amount int, paid boolean, note text);
CREATE TABLE lines (id int PRIMARY KEY, order_id int, n int);
CREATE INDEX ON orders (customer);
CREATE INDEX ON lines (order_id);
INSERT INTO customers SELECT i, 'c' || i % 3, nullif(i % 4, 0), i / 2.0 FROM generate_series(1, 12) i;
INSERT INTO orders SELECT i, nullif(i % 10, 0), i * 5 % 13, nullif(i % 3, 2) = 1, nullif('n' || i % 4, 'n2') FROM generate_series(1, 30) i;
INSERT INTO lines SELECT i, i % 25, i % 5 FROM generate_series(1, 40) i;
CREATE TABLE shops (id int PRIMARY KEY);
CREATE TABLE sales (id int PRIMARY KEY, shop int, amount int);
INSERT INTO shops VALUES (1), (2);
INSERT INTO sales VALUES (1, 1, 5), (2, 2, 0), (3, 2, 7);
CREATE FUNCTION at_least_one(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF n IS NULL THEN
        RAISE EXCEPTION USING MESSAGE = 'no number';
    END IF;
    RETURN greatest(n, 1);
END $$;

CREATE FUNCTION made(VARIADIC queries text[]) RETURNS TABLE (name text, asked text) LANGUAGE plpgsql AS $$
DECLARE
    query text;
BEGIN
    FOREACH query IN ARRAY queries LOOP
        name := split_part(query, ': ', 1);
        PERFORM projections.create('outer_groups.' || name, substr(query, strpos(query, ': ') + 2));
        SELECT CASE WHEN pg_get_viewdef(p.definition) ~ 'NOT \(*EXISTS' THEN 'asked' ELSE 'not asked' END INTO asked
        FROM projections_internal.projection p WHERE p.relation = ('outer_groups.' || name)::regclass;
        RETURN NEXT;
    END LOOP;
END $$;
CREATE FUNCTION checked() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    p record;
BEGIN
    FOR p IN SELECT d.projection, d.relation FROM projections.definitions d WHERE d.projection LIKE 'outer_groups.%' ORDER BY 1 LOOP
        RETURN QUERY SELECT w.problem FROM test.wrong(p.relation) w WHERE w.problem IS NOT NULL;
        RETURN QUERY SELECT format('%s: %s', p.projection, v) FROM projections.verify(p.projection) v;
    END LOOP;
END $$;

SELECT * FROM made(
    'summed: SELECT c.id, c.name, count(o.id) AS orders, sum(o.amount) AS amount, avg(o.amount) AS average, max(o.note) AS note FROM customers c LEFT JOIN orders o ON o.customer = c.id GROUP BY c.id',
    'by_region: SELECT c.region, count(o.amount) AS orders, bool_or(o.paid) AS paid, sum(o.amount * c.rate) AS rated FROM orders o RIGHT JOIN customers c ON o.customer = c.id GROUP BY c.region',
    'filtered: SELECT c.id, count(*) FILTER (WHERE o.paid) AS paid, sum(c.region) FILTER (WHERE o.id IS NOT NULL AND c.region > 0) AS regions FROM customers c LEFT JOIN orders o ON o.customer = c.id GROUP BY c.id',
    'cases: SELECT c.id, sum(CASE WHEN o.paid THEN o.amount WHEN o.amount > 3 THEN 3 END) AS amount FROM customers c LEFT JOIN orders o ON o.customer = c.id AND o.amount <> 5 WHERE c.region > 1 OR c.id < 4 GROUP BY c.id',
    'documents: SELECT c.id, jsonb_agg(o.note ORDER BY o.id) FILTER (WHERE o.id IS NOT NULL) AS notes, count(o.id) AS n FROM customers c LEFT JOIN orders o ON o.customer = c.id GROUP BY c.id',
    'chained: SELECT c.id, count(l.id) AS lines, sum(l.n + o.amount) AS n FROM customers c LEFT JOIN orders o ON o.customer = c.id LEFT JOIN lines l ON l.order_id = o.id GROUP BY c.id',
    'first_of_two: SELECT c.id, count(o.id) AS orders FROM customers c LEFT JOIN orders o ON o.customer = c.id LEFT JOIN lines l ON l.order_id = o.id GROUP BY c.id',
    'total: SELECT count(o.id) AS orders, max(o.amount) AS amount FROM customers c LEFT JOIN orders o ON o.customer = c.id',
    'grouped: SELECT x.orders, count(*) AS customers FROM (SELECT c.id, count(o.id) AS orders FROM customers c LEFT JOIN orders o ON o.customer = c.id GROUP BY c.id) x GROUP BY x.orders',
    -- missing rows count
    'rows: SELECT c.id, count(*) AS n FROM customers c LEFT JOIN orders o ON o.customer = c.id GROUP BY c.id',
    'kept_summed: SELECT c.region, sum(c.id) AS ids FROM customers c LEFT JOIN orders o ON o.customer = c.id GROUP BY c.region',
    'coalesced: SELECT c.id, sum(coalesce(o.amount, 1)) AS amount FROM customers c LEFT JOIN orders o ON o.customer = c.id GROUP BY c.id',
    'without: SELECT c.id, count(*) FILTER (WHERE o.id IS NULL) AS none FROM customers c LEFT JOIN orders o ON o.customer = c.id GROUP BY c.id',
    'elements: SELECT c.id, array_agg(o.amount ORDER BY o.id) AS amounts FROM customers c LEFT JOIN orders o ON o.customer = c.id GROUP BY c.id',
    'mixed: SELECT c.id, count(o.id) AS orders, count(l.id) AS lines FROM customers c LEFT JOIN orders o ON o.customer = c.id LEFT JOIN lines l ON l.order_id = c.id GROUP BY c.id',
    -- groups and conditions need them
    'by_order: SELECT o.note, count(o.id) AS orders FROM customers c LEFT JOIN orders o ON o.customer = c.id GROUP BY o.note',
    'but_paid: SELECT c.id, count(o.id) AS orders FROM customers c LEFT JOIN orders o ON o.customer = c.id WHERE o.paid IS NOT TRUE GROUP BY c.id',
    'other_side: SELECT c.id, count(o.id) AS orders FROM customers c FULL JOIN orders o ON o.customer = c.id GROUP BY c.id'
);
-- What a function raises for a row that is missing, it raises here, and not for writers.
SELECT projections.create('called', 'SELECT s.id, sum(at_least_one(x.amount)) AS amount FROM shops s LEFT JOIN sales x ON x.shop = s.id GROUP BY s.id');
SELECT projections.create('called_of_rows', 'SELECT s.id, at_least_one(x.amount) AS amount FROM shops s LEFT JOIN sales x ON x.shop = s.id');
SELECT * FROM made('not_called: SELECT s.id, sum(at_least_one(x.amount)) FILTER (WHERE x.id IS NOT NULL) AS amount FROM shops s LEFT JOIN sales x ON x.shop = s.id GROUP BY s.id');
SELECT * FROM checked();
INSERT INTO orders VALUES (100, 10, 7, true, 'x'), (101, NULL, NULL, NULL, NULL), (102, 50, 1, false, 'y');
INSERT INTO customers VALUES (50, 'c50', 2, 1), (51, NULL, NULL, NULL);
SELECT * FROM checked();
UPDATE orders SET customer = customer + 1, amount = nullif(amount, 2) WHERE id % 2 = 0;
SELECT * FROM checked();
UPDATE customers SET id = id + 100, region = region + 1 WHERE id % 3 = 0;
SELECT * FROM checked();
DELETE FROM orders WHERE customer < 6;
DELETE FROM lines WHERE n = 3;
INSERT INTO sales VALUES (4, 1, 0);
DELETE FROM sales WHERE id = 3;
SELECT * FROM checked();
BEGIN;
DELETE FROM customers WHERE id > 8;
UPDATE customers SET name = 'all', region = 1;
SELECT * FROM checked();
INSERT INTO customers SELECT i, 'again' FROM generate_series(9, 12) i;
ROLLBACK;
TRUNCATE orders;
SELECT * FROM checked();
INSERT INTO orders SELECT i, i % 12, i, i % 2 = 0, 'n' FROM generate_series(1, 30) i;
SELECT * FROM checked();

SET client_min_messages = error;
DROP SCHEMA outer_groups CASCADE;
