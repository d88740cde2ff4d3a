-- Rows named by some of their columns: refresh_rows, read and history take what determines rows, not only the whole key.
CREATE SCHEMA by_columns;
SET search_path = by_columns;
\set SHOW_CONTEXT never
SET client_min_messages = error;
CREATE TABLE customers (id int PRIMARY KEY, name text, region text);
CREATE TABLE orders (id int PRIMARY KEY, customer int, amount int, day date, note json);
CREATE TABLE moves (seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, item text, hall int, quantity int);
INSERT INTO customers VALUES (1, 'Ann', 'north'), (2, 'Bob', 'south'), (3, 'Cid', NULL), (4, 'Ann', 'south');
INSERT INTO orders SELECT i, i % 5, i, date '2026-01-01' + i % 3, '{}' FROM generate_series(1, 20) i;
INSERT INTO moves (item, hall, quantity) SELECT nullif('item ' || i % 4, 'item 0'), i % 2, i FROM generate_series(1, 24) i;
SELECT projections.register_source('moves', 'seq');

SELECT projections.create('named', 'SELECT o.id, c.name, o.amount * 2 AS twice, o.note FROM orders o JOIN customers c ON c.id = o.customer');
SELECT projections.create('named_later', 'SELECT o.id, c.name, o.amount * 2 AS twice, o.note FROM orders o JOIN customers c ON c.id = o.customer', 'async');
SELECT projections.create('kept', 'SELECT o.id, c.name, count(*) AS n FROM orders o LEFT JOIN customers c ON c.id = o.customer GROUP BY o.id, c.name');
SELECT projections.create('per_day', 'SELECT c.region, o.day, upper(c.region) AS title, sum(o.amount) AS amount, count(*) + 1 AS more FROM orders o JOIN customers c ON c.id = o.customer GROUP BY c.region, o.day');
SELECT projections.create('per_day_later', 'SELECT c.region, o.day, sum(o.amount) AS amount FROM orders o JOIN customers c ON c.id = o.customer GROUP BY c.region, o.day', 'async');
SELECT projections.create('per_hall', 'SELECT item, hall, sum(quantity) AS quantity FROM moves GROUP BY item, hall', 'async');
SELECT projections.create('document', 'SELECT c.id, c.name, (SELECT jsonb_agg(o.amount ORDER BY o.id) FROM orders o WHERE o.customer = c.id) AS amounts, l.last FROM customers c CROSS JOIN LATERAL (SELECT max(o.id) AS last FROM orders o WHERE o.customer = c.id) l');
SELECT projections.create('customer', 'SELECT c.id, c.name, c.region, jsonb_agg(o.amount ORDER BY o.id) AS amounts FROM customers c JOIN orders o ON o.customer = c.id GROUP BY c.id');
SELECT projections.create('often', 'SELECT customer, count(*) AS n FROM orders GROUP BY customer HAVING count(*) > 3');
SELECT projections.create('sums', 'SELECT DISTINCT sum(amount) AS amount FROM orders GROUP BY customer');
SELECT projections.create('united_names', 'SELECT name, region FROM customers UNION SELECT day::text, ''day'' FROM orders');
SELECT projections.create('total', 'SELECT count(*) AS n FROM orders');
SELECT projections.create('bag', 'SELECT n.amount FROM (SELECT amount FROM orders UNION ALL SELECT 1) n');
SELECT projections.catch_up() > 0 AS applied;
SELECT projection, key FROM projections.definitions WHERE projection LIKE 'by_columns.%' ORDER BY 1;

-- How many rows of a table are wrong. One that has waited for something is compared with what its definition gives once it is applied.
CREATE FUNCTION wrong(name text) RETURNS text LANGUAGE sql AS
$$ SELECT coalesce(string_agg(v.problem || ' ' || v.n, ', ' ORDER BY v.problem), 'right') FROM (SELECT problem, count(*) AS n FROM projections.verify(name) GROUP BY problem) v $$;
-- Writes past the guards.
CREATE FUNCTION spoil(VARIADIC commands text[]) RETURNS void LANGUAGE plpgsql SET pg_projections.allow_direct_writes = on AS $$
DECLARE
    each text;
BEGIN
    FOREACH each IN ARRAY commands LOOP
        EXECUTE each;
    END LOOP;
END $$;
SELECT * FROM test.check_all();

--
-- joined rows: a column of the key alone, one that is no key, one that the definition computes, one that is appended
--
SELECT spoil('UPDATE named SET twice = -1 WHERE id = 6', 'DELETE FROM named WHERE id IN (7, 8)', 'INSERT INTO named SELECT id, ''lost'', twice, note, 9 FROM named WHERE id = 11');
SELECT wrong('named');
-- what is wrong
SELECT projections.refresh_rows('named', '{"id": 6}'), wrong('named');
-- only the definition has it
SELECT projections.refresh_rows('named', '{"id": 7}'), wrong('named');
SELECT projections.refresh_rows('named', '{"twice": 16}'), wrong('named');
-- only the table has it
SELECT projections.refresh_rows('named', '{"name": "lost"}'), wrong('named');
-- nobody has it; what is right is not written
SELECT projections.refresh_rows('named', '[{"id": 4711}, {"name": "nobody"}, {"id": 6}]'), wrong('named');
SELECT spoil('UPDATE named SET twice = -1', 'DELETE FROM named WHERE id = 12');
-- by columns of other sources, several of them, and in several ways at once
SELECT projections.refresh_rows('named', '{"_c_id": 4}'), wrong('named');
SELECT projections.refresh_rows('named', '{"_c_id": 2, "id": 7}'), wrong('named');
SELECT projections.refresh_rows('named', '{"name": "Bob", "twice": 24}'), wrong('named');
SELECT projections.refresh_rows('named', '[{"id": 1, "_c_id": 1}, {"id": 6}, {"id": 6, "name": "Ann"}, {"name": "Bob"}, {"id": 99}]'), wrong('named');
SELECT projections.refresh_rows('named', '[{"name": "Cid"}, {"name": "Ann"}]'), wrong('named');
-- a change that is pending counts
BEGIN;
UPDATE customers SET name = 'Dan' WHERE id = 2;
SELECT spoil('UPDATE named SET twice = 0 WHERE id = 2');
SELECT projections.refresh_rows('named', '{"name": "Dan"}'), wrong('named');
ROLLBACK;
SELECT * FROM test.check_all();

--
-- async over change logs: as of what has been applied, which is brought to now first
--
INSERT INTO orders VALUES (30, 1, 30, '2026-01-01'), (31, 2, 31, '2026-01-05');
UPDATE orders SET customer = 2 WHERE id = 1;
SELECT projections.read('named_later', '{"id": 1}', '0 s') ->> 'name' AS name, projections.read('named_later', '{"_c_id": 2, "id": 31}', '0 s') ->> 'twice' AS twice;
SELECT spoil('UPDATE named_later SET twice = -1 WHERE id IN (2, 6)', 'DELETE FROM named_later WHERE id = 7');
SELECT projections.refresh_rows('named_later', '[{"id": 1}, {"id": 2}, {"name": "Bob"}]'), wrong('named_later');
SELECT projections.refresh_rows('named_later', '{"id": 6}'), wrong('named_later');
SELECT spoil('UPDATE per_day_later SET amount = -1');
SELECT projections.refresh_rows('per_day_later', '{"region": "north"}'), wrong('per_day_later');
SELECT projections.refresh_rows('per_day_later', '{"day": "2026-01-05"}'), wrong('per_day_later');
SELECT projections.refresh_rows('per_day_later', '[{"region": null}, {"region": "south"}]'), wrong('per_day_later');

-- what is applied only then is looked for, too: a row that comes by the log, and is nowhere else
INSERT INTO orders VALUES (40, 3, 40, '2026-01-01');
DELETE FROM orders WHERE id = 40;
DO $$
BEGIN
    EXECUTE (SELECT format('DELETE FROM %s WHERE weight < 0', changes[1]) FROM projections_internal.projection WHERE relation = 'by_columns.named_later'::regclass);
END $$;
SELECT count(*) FROM named_later WHERE id = 40;
SELECT projections.refresh_rows('named_later', '{"id": 40}'), wrong('named_later');

--
-- async over events
--
INSERT INTO moves (item, hall, quantity) VALUES ('new', 1, 5), ('item 1', 0, 7);
SELECT projections.read('per_hall', '{"item": "new"}', '0 s'), projections.read('per_hall', '{"hall": 0, "item": "item 1"}', '0 s');
SELECT spoil('UPDATE per_hall SET quantity = -1 WHERE item = ''item 1'' OR item IS NULL', 'DELETE FROM per_hall WHERE item = ''item 2''', 'INSERT INTO per_hall SELECT ''no such'', 0, 1, 1, 1 FROM per_hall LIMIT 1');
SELECT projections.refresh_rows('per_hall', '{"item": "item 2"}'), wrong('per_hall');
SELECT projections.refresh_rows('per_hall', '{"item": "no such"}'), wrong('per_hall');
SELECT projections.refresh_rows('per_hall', '{"item": null}'), wrong('per_hall');
SELECT projections.refresh_rows('per_hall', '{"hall": 0}'), projections.refresh_rows('per_hall', '{"hall": 1}'), wrong('per_hall');

--
-- groups: a part of the key, a column that is computed from it, NULL in it
--
SELECT spoil('UPDATE per_day SET amount = -1', 'DELETE FROM per_day WHERE day = ''2026-01-03''');
SELECT projections.refresh_rows('per_day', '{"day": "2026-01-03"}'), wrong('per_day');
SELECT projections.refresh_rows('per_day', '{"title": "NORTH"}'), wrong('per_day');
SELECT projections.refresh_rows('per_day', '{"region": null}'), wrong('per_day');
SELECT projections.refresh_rows('per_day', '{"region": "south", "day": "2026-01-05"}'), wrong('per_day');
SELECT projections.refresh_rows('per_day', '[{"region": "south"}, {"region": "none"}]'), wrong('per_day');

--
-- outer joins, documents, parts, unions
--
SELECT spoil('UPDATE kept SET n = 9 WHERE id IN (5, 6)', 'DELETE FROM kept WHERE id = 10');
SELECT projections.refresh_rows('kept', '{"name": null}'), wrong('kept');
SELECT projections.refresh_rows('kept', '[{"id": 5}, {"id": 6}]'), wrong('kept');
SELECT spoil('UPDATE document SET amounts = NULL', 'DELETE FROM document WHERE id = 4', 'UPDATE customer SET amounts = NULL', 'DELETE FROM customer WHERE id = 2');
SELECT projections.refresh_rows('document', '{"name": "Ann"}'), wrong('document');
SELECT projections.refresh_rows('document', '[{"name": "Bob"}, {"name": "Cid"}]'), wrong('document');
SELECT projections.refresh_rows('customer', '{"region": "south"}'), wrong('customer');
SELECT projections.refresh_rows('customer', '[{"name": "Ann"}, {"region": null}]'), wrong('customer');
SELECT spoil('DELETE FROM united_names');
SELECT projections.refresh_rows('united_names', '{"region": "day"}'), projections.refresh_rows('united_names', '[{"name": "Ann"}, {"name": "Bob"}, {"name": "Cid"}]'), wrong('united_names');
SELECT spoil('DELETE FROM often WHERE customer = 1', 'DELETE FROM sums');
SELECT projections.refresh_rows('often', '{"customer": 1}'), projections.refresh_rows('sums', (SELECT jsonb_agg(jsonb_build_object('amount', n)) FROM (SELECT sum(amount) AS n FROM orders GROUP BY customer) s)), wrong('often'), wrong('sums');

--
-- read: one row; history: what is behind one row
--
SELECT projections.read('named', '{"id": 6}', '0 s');
SELECT projections.read('named', '{"id": 5}', '0 s') IS NULL AS none;
SELECT projections.read('per_day', '{"region": "south", "day": "2026-01-05"}', '0 s'), projections.read('per_day', '{"title": "SOUTH", "day": "2026-01-05"}', '0 s');
SELECT projections.read('document', '{"name": "Bob"}', '0 s') -> 'id' AS id, projections.read('total', '{}', '0 s');
SELECT projections.read('named', '{"name": "Ann"}', '0 s');
SELECT projections.read('per_day', '{"region": "south"}', '0 s');
INSERT INTO moves (item, hall, quantity) VALUES ('new', 0, 1);
SELECT projections.read('per_hall', '{"item": "new"}', '0 s');
SELECT source, event -> 'id' AS id FROM projections.history('named', '{"id": 6}') ORDER BY source;
SELECT source, event -> 'id' AS id FROM projections.history('named', '{"twice": 62}') ORDER BY source;
SELECT event -> 'id' AS id FROM projections.history('document', '{"name": "Bob"}') WHERE source = 'by_columns.customers';
SELECT count(*) FROM projections.history('named', '{"id": 5}');
SELECT count(*) FROM projections.history('total', '{}');
SELECT projections.history('named', '{"name": "Ann"}');
SELECT projections.history('per_hall', '{"item": "new"}');

--
-- what determines no rows
--
SELECT projections.refresh_rows('per_day', '{"amount": 5}');
SELECT projections.refresh_rows('per_day', '{"region": "north", "more": 5}');
SELECT projections.refresh_rows('per_hall', '{"item": "item 1", "_count": 5}');
SELECT projections.refresh_rows('document', '{"id": 1, "last": 5}');
SELECT projections.refresh_rows('document', '{"amounts": 5}');
SELECT projections.refresh_rows('often', '{"n": 5}');
SELECT projections.refresh_rows('named', '{"note": {}}');
SELECT projections.refresh_rows('named', '[{"id": 1}, {"colour": 5}]');
SELECT projections.refresh_rows('named', '[{"id": 1}, 3]');
SELECT projections.refresh_rows('named', '[[]]');
SELECT projections.refresh_rows('named', '{}');
SELECT projections.refresh_rows('named', '{"id": "six"}');
SELECT projections.refresh_rows('total', '{"n": 1}');
SELECT projections.refresh_rows('bag', '{"amount": 1}');
SELECT projections.read('per_day', '{"amount": 5}', '0 s');
SELECT projections.read('named', '{"colour": 5}', '0 s');
SELECT projections.read('named', '[{"id": 5}]', '0 s');
SELECT projections.read('total', '{"n": 5}', '0 s');
SELECT projections.history('per_day', '{"amount": 5}');
SELECT projections.history('per_day', '[]');
SELECT projections.history('per_day', NULL);

--
-- It is found by index, in table and sources, however many rows there are: no table is read as a whole
--
CREATE INDEX ON orders (customer);
CREATE INDEX ON customers (name);
CREATE INDEX ON customers (region);
CREATE INDEX ON moves (item);
INSERT INTO customers SELECT i, 'n' || i, 'r' || i % 1000 FROM generate_series(10, 2000) i;
INSERT INTO orders SELECT i, 10 + i % 1990, i, '2026-02-01' FROM generate_series(100, 4000) i;
INSERT INTO moves (item, hall, quantity) SELECT 'm' || i % 1000, i % 3, 1 FROM generate_series(1, 4000) i;
SELECT projections.catch_up() > 0 AS applied;
ANALYZE customers, orders, moves, named, per_day, per_hall, customer, document;
BEGIN;
CREATE TEMP TABLE before AS SELECT relid, seq_tup_read FROM pg_stat_xact_user_tables;
SELECT spoil('UPDATE named SET twice = -1 WHERE id IN (3000, 3001)', 'UPDATE per_day SET amount = -1 WHERE region = ''r500''', 'UPDATE per_hall SET quantity = -1 WHERE item = ''m7''', 'UPDATE document SET amounts = NULL WHERE id = 77');
SELECT projections.refresh_rows('named', '[{"id": 3000}, {"id": 3001}]'), projections.refresh_rows('per_day', '{"region": "r500"}'),
    projections.refresh_rows('per_hall', '{"item": "m7"}'), projections.refresh_rows('document', '{"id": 77, "name": "n77"}'), projections.refresh_rows('customer', '[{"id": 77}, {"id": 78}]');
SELECT projections.read('named', '{"id": 3000}', '0 s') ->> 'name' AS name;
SELECT source, event -> 'id' AS id FROM projections.history('named', '{"id": 3000}') ORDER BY source;
SELECT source, count(*) FROM projections.history('per_day', '{"region": "r500"}') GROUP BY source ORDER BY source;
SELECT s.relname, s.seq_tup_read - b.seq_tup_read AS rows FROM pg_stat_xact_user_tables s JOIN before b USING (relid) WHERE s.schemaname = 'by_columns' AND s.seq_tup_read - b.seq_tup_read > 1000;
COMMIT;
SELECT * FROM test.check_all();

-- A value that a domain does not allow names no row.
CREATE DOMAIN known AS int NOT NULL CHECK (VALUE > 0);
CREATE TABLE domains (id int PRIMARY KEY, d known);
INSERT INTO domains VALUES (1, 1), (2, 2), (3, 2);
SELECT projections.create('by_domain', 'SELECT d, count(*) AS n FROM domains GROUP BY d');
SELECT projections.refresh_rows('by_domain', '[{"d": null}, {"d": -1}]') AS none, projections.refresh_rows('by_domain', '{"d": 2}') AS right,
    projections.read('by_domain', '{"d": 2}', '0 s') AS read, projections.read('by_domain', '{"d": null}', '0 s') AS none;
SELECT spoil('UPDATE by_domain SET n = 7 WHERE d = 2');
SELECT projections.refresh_rows('by_domain', '{"d": 2}');
DROP SCHEMA by_columns CASCADE;
