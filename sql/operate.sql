-- Looking at projections, and repairing their rows.
CREATE SCHEMA operate;
SET search_path = operate;
\set SHOW_CONTEXT never

CREATE TABLE sales (id int PRIMARY KEY, item text, quantity int, price numeric(10,2), note text);
CREATE TABLE items (item text PRIMARY KEY, name text);
INSERT INTO sales SELECT i, 'item ' || i % 5, i, i * 1.25 FROM generate_series(1, 20) AS i;
INSERT INTO items SELECT 'item ' || i, 'Item ' || i FROM generate_series(0, 4) AS i;

SET client_min_messages = warning;
SELECT projections.create('stock', 'SELECT item, sum(quantity) AS quantity, max(price) AS price FROM sales GROUP BY item');
SELECT projections.create('"Named Stock"', 'SELECT i.name AS "the name", avg(s.price) AS mean FROM sales s JOIN items i USING (item) WHERE s.quantity > 0 GROUP BY i.name');
SELECT projections.create('detail', 'SELECT s.id, i.name, s.quantity FROM sales s JOIN items i ON i.item = s.item');
SELECT projections.create('level', 'SELECT quantity > 40 AS many, count(*) AS items FROM stock GROUP BY quantity > 40');
SELECT * FROM test.check_all();

--
-- Look
--
SELECT block, kind, source, strategy, key, used_columns, reason FROM projections.explain('stock');
SELECT block, kind, source, strategy, key, used_columns, reason FROM projections.explain('"Named Stock"') ORDER BY source;
SELECT kind, source, key, used_columns FROM projections.explain('operate.detail') ORDER BY source;
SELECT kind, source, key, used_columns FROM projections.explain('level');
SELECT kind, source, key, used_columns FROM projections.explain('SELECT count(*) AS n FROM sales');
SELECT kind, source, key, used_columns, index_advice FROM projections.explain('SELECT s.note, i.name FROM sales s JOIN items i ON i.name = s.note') ORDER BY source;
SELECT projection, mode, strategy, key, columns FROM projections.definitions ORDER BY projection;
SELECT projection, query FROM projections.definitions ORDER BY projection;
SELECT projection, source::text, source_is_projection FROM projections.dependencies ORDER BY 1, 2;
SELECT * FROM projections.status ORDER BY projection;
SELECT library = sql AS same, matches, sql = (SELECT extversion FROM pg_extension WHERE extname = 'pg_projections') AS installed FROM projections.version();

--
-- create_sql declares each again: dropped and made anew they are the same
--
CREATE TABLE declared AS SELECT projection, query, key, columns, create_sql FROM projections.definitions;
SELECT projections.drop('level'), projections.drop('stock'), projections.drop('"Named Stock"'), projections.drop('detail');
SELECT count(*) AS projections FROM projections.definitions;
DO $$
DECLARE
    call text;
BEGIN
    FOR call IN SELECT create_sql FROM operate.declared ORDER BY create_sql LIKE '%level%' LOOP
        EXECUTE call;
    END LOOP;
END
$$;
SELECT * FROM test.check_all();
SELECT projection, query, key, columns, create_sql FROM projections.definitions EXCEPT SELECT * FROM declared;
INSERT INTO sales VALUES (21, 'item 1', 100, 1);
SELECT * FROM test.check_all();

--
-- refresh_rows
--
SET pg_projections.allow_direct_writes = on;
UPDATE stock SET quantity = 0 WHERE item IN ('item 1', 'item 2');
DELETE FROM stock WHERE item = 'item 3';
INSERT INTO stock SELECT * FROM stock WHERE false;
RESET pg_projections.allow_direct_writes;
SELECT projection, status FROM projections.status ORDER BY projection;
SELECT missing, extra FROM test.oracle('stock');
-- exactly those named
SELECT projections.refresh_rows('stock', '{"item": "item 1"}');
SELECT missing, extra FROM test.oracle('stock');
SELECT projections.refresh_rows('stock', '[{"item": "item 3"}, {"item": "item 4"}, {"item": "none such"}]');
SELECT missing, extra FROM test.oracle('stock');
SELECT projections.refresh_rows('stock', '[{"item": "item 2"}, {"item": "item 2"}]');
SELECT test.check('stock'), test.check('level');
SELECT projections.refresh_rows('stock', '[]');
SELECT projections.refresh_rows('stock', '[{"item": null}]');
SET pg_projections.allow_direct_writes = on;
UPDATE "Named Stock" SET mean = 0;
UPDATE detail SET quantity = -1 WHERE id < 4;
DELETE FROM detail WHERE id = 5;
RESET pg_projections.allow_direct_writes;
SELECT projections.refresh_rows('"Named Stock"', '[{"the name": "Item 0"}, {"the name": "Item 1"}, {"the name": "Item 2"}, {"the name": "Item 3"}, {"the name": "Item 4"}]');
SELECT test.check('"Named Stock"');
SELECT key FROM projections.definitions WHERE projection = 'operate.detail';
SELECT projections.refresh_rows('detail', (SELECT jsonb_agg(jsonb_build_object('id', s.id, '_i_item', s.item)) FROM sales s WHERE s.id < 6));
SELECT test.check('detail');
-- a change that is pending counts
BEGIN;
UPDATE sales SET quantity = quantity + 1;
SELECT projections.refresh_rows('stock', '{"item": "item 1"}');
SELECT test.check('stock');
COMMIT;
SELECT * FROM test.check_all();
-- keys that are none
SELECT projections.refresh_rows('stock', '{"thing": "item 1"}');
SELECT projections.refresh_rows('stock', '{"item": "item 1", "quantity": 1}');
SELECT projections.refresh_rows('stock', '{}');
SELECT projections.refresh_rows('stock', '3');
SELECT projections.refresh_rows('stock', NULL);
SELECT projections.refresh_rows('sales', '[]');
SELECT projections.refresh_rows('missing', '[]');

SET client_min_messages = warning;
DROP SCHEMA operate CASCADE;
SELECT count(*) AS projections FROM projections.definitions;
