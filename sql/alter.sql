-- alter(query), alter(mode), fill online.
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE SCHEMA altering;
SET search_path = altering;
CREATE TABLE lines (id bigint PRIMARY KEY, item text NOT NULL, shop int NOT NULL, quantity int);
CREATE TABLE shops (id int PRIMARY KEY, country text NOT NULL);
INSERT INTO lines SELECT i, 'item ' || i % 7, i % 3, i % 11 FROM generate_series(1, 1000) i;
INSERT INTO shops VALUES (0, 'AT'), (1, 'DE'), (2, 'DE');
CREATE FUNCTION change() RETURNS void LANGUAGE sql AS $$
    INSERT INTO lines SELECT max(id) + 1, 'item 3', 1, 5 FROM lines;
    UPDATE lines SET quantity = quantity + 1, shop = 2 WHERE id % 10 = 0;
    DELETE FROM lines WHERE id = (SELECT min(id) FROM lines);
$$;
CREATE VIEW shown AS
SELECT d.columns, d.key, d.mode, d.query FROM projections.definitions d WHERE d.projection = 'altering.stock';
CREATE FUNCTION hidden() RETURNS SETOF text LANGUAGE sql AS $$
    SELECT c.relname::text FROM pg_class c WHERE c.relnamespace = 'projections_internal'::regnamespace AND c.relkind IN ('r', 'v')
       AND c.relname LIKE 'stock%' ORDER BY 1
$$;

SELECT projections.create('stock', 'SELECT item, count(*), sum(quantity) AS quantity FROM lines GROUP BY item');
CREATE INDEX on_count ON stock (count);
CREATE VIEW counts AS SELECT item, count FROM stock;
GRANT SELECT ON stock TO PUBLIC;
COMMENT ON TABLE stock IS 'kept';
SELECT 'stock'::regclass::oid AS stock \gset

-- A column more, behind the others: what uses those goes on.
CALL projections.alter('stock', query => 'SELECT item, count(*), sum(quantity) AS quantity, max(quantity) AS most FROM lines GROUP BY item');
SELECT * FROM test.check_all();
SELECT change();
SELECT * FROM test.check_all();
SELECT columns, key FROM shown;
SELECT 'stock'::regclass::oid = :stock AS same, obj_description('stock'::regclass) AS comment, has_table_privilege('pg_monitor', 'stock', 'SELECT') AS granted;
SELECT count FROM counts ORDER BY item LIMIT 1;
SELECT indexrelid::regclass, indisvalid FROM pg_index WHERE indrelid = 'stock'::regclass ORDER BY 1;
SELECT attnum, attname, attisdropped FROM pg_attribute WHERE attrelid = 'stock'::regclass AND attnum > 0 ORDER BY 1;

-- What is used cannot go; nothing is left of the attempt.
CALL projections.alter('stock', query => 'SELECT shop, item, count(*) FROM lines GROUP BY shop, item');
\set VERBOSITY default
CALL projections.alter('stock', query => 'SELECT item, sum(quantity) AS quantity, count(*) FROM lines GROUP BY item');
\set VERBOSITY terse
SELECT hidden();
DROP VIEW counts;
DROP INDEX on_count;

-- Another key, another shape, other sources.
CALL projections.alter('stock', query => 'SELECT s.country, item, count(*) FROM lines JOIN shops s ON s.id = shop GROUP BY s.country, item');
SELECT columns, key FROM shown;
SELECT change();
UPDATE shops SET country = 'CH' WHERE id = 2;
SELECT * FROM test.check_all();
CALL projections.alter('stock', query => 'SELECT quantity, item FROM lines WHERE quantity > 5');
SELECT columns, key FROM shown;
SELECT change();
SELECT * FROM test.check_all();
SELECT tgrelid::regclass FROM pg_trigger WHERE tgname = 'projections_capture' ORDER BY 1;
CALL projections.alter('stock', query => 'SELECT count(*), avg(quantity) FROM lines');
SELECT change();
SELECT * FROM test.check_all();
SELECT hidden();

-- Names are those of the caller's search_path.
CREATE SCHEMA other;
CREATE TABLE other.lines (LIKE lines INCLUDING ALL);
INSERT INTO other.lines VALUES (1, 'one', 1, 1);
SET search_path = other, altering;
CALL projections.alter('stock', query => 'SELECT item, count(*) FROM lines GROUP BY item');
SET search_path = altering;
SELECT item, count FROM stock;
SELECT query FROM shown;
INSERT INTO other.lines VALUES (2, 'one', 1, 1);
SELECT item, count FROM stock;
SELECT * FROM test.check_all();

-- Mode.
CALL projections.alter('stock', 'SELECT item, count(*), sum(quantity) AS quantity, min(quantity) AS least FROM lines GROUP BY item', 'async');
SELECT mode FROM shown;
SELECT change();
SELECT projections.catch_up('stock');
SELECT * FROM test.check_all();
SELECT change();
SELECT hidden();
CALL projections.alter('stock', mode => 'inline'); -- with changes that had not been applied
SELECT * FROM test.check_all();
SELECT change();
SELECT * FROM test.check_all();
SELECT hidden();
SELECT count(*) FROM projections_internal.slot s WHERE s.projection = 'stock'::regclass;
CALL projections.alter('stock', mode => 'inline'); -- is so already

-- To events and back.
CREATE TABLE sales (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, item text, quantity int);
SELECT projections.register_source('sales', 'position');
INSERT INTO sales (item, quantity) SELECT 'item ' || i % 5, i FROM generate_series(1, 500) i;
CALL projections.alter('stock', 'SELECT item, sum(quantity) AS quantity FROM sales GROUP BY item', 'async', '{"slots": null}');
SELECT tgrelid::regclass FROM pg_trigger WHERE tgname = 'projections_capture' ORDER BY 1;
INSERT INTO sales (item, quantity) SELECT 'item ' || i % 5, i FROM generate_series(1, 50) i;
SELECT projections.catch_up('stock');
SELECT * FROM test.check_all();
SELECT position, events_processed FROM projections.checkpoints WHERE projection = 'altering.stock';
INSERT INTO sales (item, quantity) VALUES ('item 1', 7);
CALL projections.alter('stock', mode => 'inline');
INSERT INTO sales (item, quantity) VALUES ('item 1', 8);
SELECT * FROM test.check_all();

-- What belongs to columns goes with them to other places; new ones may be of a type that refuses NULL.
CREATE DOMAIN known AS int NOT NULL CHECK (VALUE > 0);
SELECT projections.create('moved', 'SELECT shop, count(*), max(item) AS item, min(quantity) AS least FROM lines GROUP BY shop');
GRANT SELECT (item), UPDATE (item) ON moved TO pg_monitor WITH GRANT OPTION;
COMMENT ON COLUMN moved.item IS 'the item''s';
ALTER TABLE moved ALTER item SET STATISTICS 7, ALTER item SET (n_distinct = 5);
CALL projections.alter('moved', query => 'SELECT shop, max(item) AS item, count(*), max(id)::int::known AS id FROM lines GROUP BY shop');
SELECT attnum, attname, attacl, nullif(attstattarget, -1) AS target, col_description(attrelid, attnum),
       (SELECT string_agg(o, ', ') FROM unnest(attoptions) o WHERE o LIKE 'n_distinct%') AS options
FROM pg_attribute WHERE attrelid = 'moved'::regclass AND attnum > 0 ORDER BY 1;
SELECT change();
SELECT * FROM test.check_all();
-- Values of the row type that are stored somewhere would be read by the numbers of other columns.
CREATE TABLE stored AS SELECT moved AS row FROM moved;
CALL projections.alter('moved', query => 'SELECT shop, count(*), max(item) AS item FROM lines GROUP BY shop');
SELECT count(row) FROM stored WHERE (row).count > 0;
DROP TABLE stored;
CREATE TABLE stored AS SELECT ARRAY[moved] AS rows FROM moved;
CALL projections.alter('moved', query => 'SELECT shop, max(item) AS item, count(*), max(id)::int::known AS id, min(id) AS first FROM lines GROUP BY shop');
DROP TABLE stored;
-- Itself it cannot read.
CALL projections.alter('moved', query => 'SELECT shop, count(*) FROM moved GROUP BY shop');
SET default_transaction_read_only = on;
CALL projections.alter('moved', mode => 'async');
CALL projections.rebuild('moved');
CALL projections.rebuild_all();
RESET default_transaction_read_only;
-- An index over whole rows fits no other table.
CREATE INDEX ON moved (item) WHERE moved IS NOT NULL;
CALL projections.alter('moved', query => 'SELECT shop, count(*) FROM lines GROUP BY shop');
CALL projections.alter('moved', options => '{"finish": "swap"}');
CALL projections.rebuild('moved');
CALL projections.alter('moved', options => '{"finish": "auto"}');
CALL projections.rebuild('moved');
SELECT * FROM test.check_all();
SELECT projections.drop('moved');

-- Refused.
CALL projections.alter('stock', query => 'SELECT item, random() FROM sales');
CALL projections.alter('stock', query => 'SELECT nothing FROM sales');
CALL projections.alter('stock', mode => 'sometimes');
CALL projections.alter('stock');
BEGIN;
CALL projections.alter('stock', mode => 'async');
ROLLBACK;
SELECT projections.create('above', 'SELECT sum(quantity) FROM stock');
CALL projections.alter('stock', query => 'SELECT item, count(*) FROM sales GROUP BY item');
SELECT projections.drop('above');
CREATE ROLE altering_guest;
GRANT USAGE ON SCHEMA altering TO altering_guest;
SET ROLE altering_guest;
CALL projections.alter('stock', mode => 'async');
RESET ROLE;
SELECT hidden();
SELECT * FROM test.check_all();
SELECT action, outcome, error FROM projections_internal.rebuild WHERE projection = 'stock'::regclass ORDER BY id;

-- Filled in the background: ordinary use goes on, and the one who waits finds it right.
SELECT projections.create('later', 'SELECT shop, count(*), max(quantity) AS most FROM lines GROUP BY shop', options => '{"fill": "online"}');
DO $$
BEGIN
    FOR i IN 1 .. 3000 LOOP
        EXIT WHEN NOT (SELECT building FROM projections_internal.projection WHERE relation = 'altering.later'::regclass);
        COMMIT;
        PERFORM altering.change();
        COMMIT;
        PERFORM pg_sleep(0.01); -- the limit is 30 seconds
    END LOOP;
END
$$;
SELECT change();
SELECT * FROM test.check_all();
SELECT action, outcome FROM projections_internal.rebuild WHERE projection = 'later'::regclass;
SELECT projections.create('later_async', 'SELECT shop, count(*) FROM lines GROUP BY shop', 'async', options => '{"fill": "online"}');
DO $$
BEGIN
    FOR i IN 1 .. 3000 LOOP
        EXIT WHEN NOT (SELECT building FROM projections_internal.projection WHERE relation = 'altering.later_async'::regclass);
        COMMIT;
        PERFORM altering.change();
        COMMIT;
        PERFORM pg_sleep(0.01);
    END LOOP;
END
$$;
SELECT change();
SELECT projections.catch_up('later_async') > 0;
SELECT * FROM test.check_all();
-- Nothing else is done to what is not filled yet; in the transaction that makes it, nothing fills it.
BEGIN;
SELECT projections.create('not_yet', 'SELECT shop, count(*) FROM lines GROUP BY shop', 'async', options => '{"fill": "online"}');
SELECT change();
SELECT projections.catch_up() > 0 AS applied;
SAVEPOINT s;
SELECT projections.pause('not_yet', 'a test');
ROLLBACK TO s;
SELECT projections.repair('not_yet');
ROLLBACK TO s;
SELECT projections.pause_all('a test') > 0 AS paused;
SELECT paused_at FROM projections_internal.projection WHERE relation = 'not_yet'::regclass;
ROLLBACK;
SELECT projections.create('never', 'SELECT shop FROM lines', options => '{"fill": "sometimes"}');

RESET client_min_messages;
SET client_min_messages = error;
DROP SCHEMA altering, other CASCADE;
DROP OWNED BY altering_guest;
DROP ROLE altering_guest;
