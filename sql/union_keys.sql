-- Unions whose rows are told apart: outer joins and look-ups by the keys of what they join, others by what their arms say.
CREATE SCHEMA union_keys;
SET search_path = union_keys;
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE TABLE customers (id int PRIMARY KEY, name text, code numeric UNIQUE);
CREATE TABLE orders (id int PRIMARY KEY, customer int, code numeric, amount int);
CREATE TABLE lines (order_id int, n int, item text, PRIMARY KEY (order_id, n));
CREATE TABLE notes (about int, note text);
CREATE TABLE later (id int PRIMARY KEY DEFERRABLE, customer int);
CREATE DOMAIN article AS int CHECK (VALUE > 0);
CREATE TABLE goods (sku varchar(10) PRIMARY KEY, customer int);
CREATE TABLE rates (rate numeric(5, 2) PRIMARY KEY, customer int);
CREATE TABLE states (state char(3) COLLATE "C" PRIMARY KEY, customer int);
CREATE TABLE articles (id article PRIMARY KEY, customer int);
CREATE INDEX ON orders (customer);
CREATE INDEX ON orders (code);
INSERT INTO customers SELECT i, 'c' || i % 3, i / 2.0 FROM generate_series(1, 8) i;
INSERT INTO orders SELECT i, nullif(i % 10, 0), i % 5, i * 5 % 13 FROM generate_series(1, 20) i;
INSERT INTO lines SELECT i % 15, i, nullif('i' || i % 4, 'i0') FROM generate_series(1, 40) i;
INSERT INTO notes SELECT i % 6, 'n' || i % 2 FROM generate_series(1, 12) i;
INSERT INTO later SELECT i, i % 4 FROM generate_series(1, 6) i;
INSERT INTO goods SELECT 'g' || i, i * 3 FROM generate_series(1, 4) i;
INSERT INTO rates SELECT i / 4.0, i * 3 FROM generate_series(1, 4) i;
INSERT INTO states SELECT i, i * 3 FROM generate_series(1, 4) i;
INSERT INTO articles SELECT i, i * 3 FROM generate_series(1, 4) i;

CREATE FUNCTION made(VARIADIC queries text[]) RETURNS TABLE (name text, kind text, key text) LANGUAGE plpgsql AS $$
DECLARE
    query text;
BEGIN
    FOREACH query IN ARRAY queries LOOP
        name := split_part(query, ': ', 1);
        PERFORM projections.create('union_keys.' || name, substr(query, strpos(query, ': ') + 2));
        SELECT e.kind, array_to_string(e.key, ', ') INTO kind, key FROM projections.explain('union_keys.' || name) e ORDER BY e.block DESC LIMIT 1;
        RETURN NEXT;
    END LOOP;
END $$;
CREATE FUNCTION checked() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    p record;
BEGIN
    FOR p IN SELECT d.projection, d.relation FROM projections.definitions d WHERE d.projection LIKE 'union_keys.%' ORDER BY 1 LOOP
        RETURN QUERY SELECT w.problem FROM test.wrong(p.relation) w WHERE w.problem IS NOT NULL;
        RETURN QUERY SELECT format('%s: %s', p.projection, v) FROM projections.verify(p.projection) v;
    END LOOP;
END $$;

SELECT * FROM made(
    -- the other side follows from this one
    'named: SELECT o.id, c.name FROM orders o LEFT JOIN customers c ON c.id = o.customer',
    'named_unreturned: SELECT o.amount, c.id AS customer FROM orders o LEFT JOIN customers c ON c.id = o.customer',
    'rightly: SELECT o.id, c.name FROM customers c RIGHT JOIN orders o ON o.customer = c.id',
    'chained: SELECT o.id, c.name, d.name AS other FROM orders o LEFT JOIN customers c ON c.id = o.customer LEFT JOIN customers d ON d.id = c.id + o.amount',
    'looked_up: SELECT o.id, (SELECT c.name FROM customers c WHERE c.id = o.customer) AS name, (SELECT c.name FROM customers c WHERE c.code = o.code) AS coded FROM orders o',
    'summed: SELECT c.name, s.amount FROM customers c LEFT JOIN (SELECT customer, sum(amount) AS amount FROM orders GROUP BY customer) s ON s.customer = c.id',
    -- it does not
    'lined: SELECT o.id, l.item FROM orders o LEFT JOIN lines l ON l.order_id = o.id',
    'crossed: SELECT o.id, l.item, c.name FROM orders o LEFT JOIN lines l ON l.order_id > o.id AND l.n < 5 LEFT JOIN customers c ON c.id = l.n',
    'both: SELECT o.id, l.order_id, l.n FROM orders o FULL JOIN lines l ON l.order_id = o.id AND l.n > 20',
    'first: SELECT o.id, l.item FROM orders o LEFT JOIN lines l ON l.order_id = o.id AND l.n = 16',
    'of_unique: SELECT o.id, c.name FROM orders o LEFT JOIN customers c ON c.code = o.code',
    -- by keys whose NULL has a length, or is a domain's
    'of_length: SELECT c.id, g.sku FROM customers c FULL JOIN goods g ON g.customer = c.id',
    'of_scale: SELECT c.id, r.rate FROM customers c FULL JOIN rates r ON r.customer = c.id',
    'of_state: SELECT c.id, s.state FROM customers c FULL JOIN states s ON s.customer = c.id',
    'of_domain: SELECT c.id, a.id AS article FROM customers c FULL JOIN articles a ON a.customer = c.id',
    -- nothing tells
    'noted: SELECT o.id, n.note FROM orders o LEFT JOIN notes n ON n.about = o.id',
    'is_late: SELECT c.id, l.customer FROM customers c LEFT JOIN later l ON l.id = c.id',
    -- unions that the user wrote
    'feed: SELECT ''order'' AS kind, id, amount FROM orders UNION ALL SELECT ''customer'', id, 0 FROM customers',
    'same_kind: SELECT ''a'' AS kind, id FROM orders UNION ALL SELECT ''a'', id FROM customers',
    'equal_kinds: SELECT 1.0 AS kind, id FROM orders UNION ALL SELECT 1.00, id FROM customers',
    'no_kind: SELECT id FROM orders UNION ALL SELECT id FROM customers',
    'two_columns: SELECT id AS a, NULL::int AS b FROM orders UNION ALL SELECT NULL, id FROM customers',
    'unordered: SELECT NULL::xid AS kind, id FROM orders UNION ALL SELECT ''1''::xid, id FROM customers',
    'alike: SELECT o.id, c.name FROM orders o JOIN customers c ON c.id = o.customer UNION ALL SELECT o.id, NULL FROM orders o WHERE NOT EXISTS (SELECT FROM customers c WHERE c.id = o.customer AND c.name > ''c0'')',
    'null_codes: SELECT ''a'' AS kind, (SELECT c.code FROM customers c WHERE c.id = o.id) AS code FROM orders o WHERE (SELECT c.name FROM customers c WHERE c.id = o.id) = ''c0'' UNION ALL SELECT ''b'', (SELECT c.code FROM customers c WHERE c.id = o.id) FROM orders o WHERE (SELECT c.name FROM customers c WHERE c.id = o.id) = ''c0''',
    'exclusive: SELECT o.id, c.name FROM orders o JOIN customers c ON c.id = o.customer UNION ALL SELECT o.id, NULL FROM orders o WHERE NOT EXISTS (SELECT FROM customers c WHERE c.id = o.customer)'
);
-- a key that may be NULL says nothing of which arm a row is of
SELECT projections.create('by_customer', 'SELECT customer, count(*) AS n FROM orders GROUP BY customer');
SELECT * FROM made('null_key: SELECT b.customer, l.order_id, l.n FROM by_customer b FULL JOIN lines l ON l.order_id = b.customer AND l.n > b.n + 18',
                   'null_or_null: SELECT customer AS a, NULL::int AS b FROM by_customer UNION ALL SELECT NULL, customer FROM by_customer',
                   'over_named: SELECT n.id, n.name, l.item FROM named n LEFT JOIN lines l ON l.order_id = n.id AND l.n < 20');
SELECT * FROM checked();
UPDATE goods SET customer = customer + 3;
UPDATE rates SET rate = rate + 1 WHERE customer = 3;
DELETE FROM states WHERE customer IN (3, 12);
INSERT INTO articles VALUES (5, 1), (6, NULL);
SELECT * FROM checked();
INSERT INTO orders VALUES (100, 3, 40, 1), (101, NULL, NULL, NULL), (102, 9, 1.50, 0);
INSERT INTO customers VALUES (9, 'c0', NULL), (10, NULL, NULL), (-1, 'c0', NULL);
SELECT * FROM checked();
UPDATE orders SET id = id + 1 WHERE id = 102;
UPDATE orders SET id = -id WHERE id = 101;
UPDATE customers SET id = 20 - id;
SELECT * FROM checked();
UPDATE lines SET n = 100 - n, item = item || 'x' WHERE order_id % 2 = 0;
DELETE FROM lines WHERE order_id = 3;
SELECT * FROM checked();
BEGIN;
DELETE FROM customers WHERE id > 12;
UPDATE orders SET customer = 12 WHERE customer = 13 OR id < 4;
SELECT * FROM checked();
INSERT INTO customers SELECT i, 'again' FROM generate_series(13, 16) i;
UPDATE orders SET customer = 25 - id;
ROLLBACK;
SELECT * FROM checked();
BEGIN;
TRUNCATE customers;
INSERT INTO customers VALUES (1, 'one', 1);
COMMIT;
SELECT * FROM checked();
INSERT INTO customers SELECT i, 'c' || i % 3, i * 2 FROM generate_series(2, 8) i;

-- What is known by key is read, read anew and told of by it.
SELECT * FROM projections.read('named', '{"id": 4}', '1 s');
SELECT * FROM projections.read('lined', '{"id": 4, "_l_n": 19}', '1 s');
SELECT projections.refresh_rows('named', '[{"id": 4}, {"id": 103}]'), projections.refresh_rows('looked_up', '[{"id": 5}]');
SELECT attname, attnotnull FROM pg_attribute WHERE attrelid = 'named'::regclass AND attnum > 0 ORDER BY attnum;
SELECT indexdef FROM pg_indexes WHERE schemaname = 'union_keys' AND tablename IN ('named', 'lined', 'both', 'summed', 'noted') ORDER BY 1;

-- The keys must stay.
ALTER TABLE customers DROP CONSTRAINT customers_pkey;
ALTER TABLE orders DROP CONSTRAINT orders_pkey;
ALTER TABLE customers DROP CONSTRAINT customers_code_key;
SELECT projections.drop('looked_up');
ALTER TABLE customers DROP CONSTRAINT customers_code_key;
SELECT * FROM checked();

-- A primary key that comes later changes nothing.
ALTER TABLE notes ADD id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY;
SELECT kind, key FROM projections.explain('noted') LIMIT 1;
INSERT INTO notes VALUES (1, 'n0'), (1, 'n0');
SELECT * FROM checked();
CALL projections.rebuild('named');
CALL projections.rebuild('both');
CALL projections.rebuild('summed');
UPDATE orders SET customer = customer + 1;
SELECT * FROM checked();

SET client_min_messages = error;
DROP SCHEMA union_keys CASCADE;
