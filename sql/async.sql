-- Query projections in async mode: over events, and over tables that change.
SET client_min_messages = error;
CREATE TABLE sale (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    item text NOT NULL,
    quantity int NOT NULL,
    price text NOT NULL DEFAULT '1',
    at timestamptz NOT NULL DEFAULT now()
);
SELECT projections.register_source('sale', position_column => 'position', time_column => 'at');
INSERT INTO sale (item, quantity) SELECT 'item ' || i % 10, i % 7 - 3 FROM generate_series(1, 1000) AS i;

-- Before the first batch the table is empty, but for an aggregate without GROUP BY.
SELECT projections.create('sold', 'SELECT item, sum(quantity) AS quantity, count(*) AS sales, max(quantity) AS most FROM sale GROUP BY item', 'async');
SELECT projections.create('total_sold', 'SELECT sum(quantity) AS quantity FROM sale WHERE quantity > 0', 'async', options => '{"slots": 3}');
SELECT projections.create('large_sale', 'SELECT position, item, quantity FROM sale WHERE quantity > 2', 'async');
TABLE total_sold;
SELECT count(*) FROM sold;
-- No trigger on the source: appending costs nothing.
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'sale'::regclass;

SELECT projections.catch_up('sold');
SELECT projections.catch_up();
SELECT test.check_all();
SELECT projection, slot, position, events_processed FROM projections.slot WHERE projection IN ('sold'::regclass, 'large_sale'::regclass) ORDER BY 1::text;

-- Nothing new is nothing to do; a new event is one.
SELECT projections.catch_up();
INSERT INTO sale (item, quantity) VALUES ('new', 3);
SELECT projections.catch_up();
SELECT test.check_all();

-- Positions that were drawn and rolled back are gaps.
BEGIN;
INSERT INTO sale (item, quantity) SELECT 'never', 1 FROM generate_series(1, 100);
ROLLBACK;
INSERT INTO sale (item, quantity) VALUES ('after the gap', 3);
SELECT projections.catch_up();
SELECT test.check_all();
-- A savepoint's too.
BEGIN;
SAVEPOINT s;
INSERT INTO sale (item, quantity) VALUES ('never', 1);
ROLLBACK TO s;
INSERT INTO sale (item, quantity) VALUES ('item 1', 3);
COMMIT;
SELECT projections.catch_up();
SELECT test.check_all();

-- Events of this transaction are not decided yet.
BEGIN;
INSERT INTO sale (item, quantity) VALUES ('item 2', 5);
SELECT projections.catch_up();
ROLLBACK;
SELECT test.check_all();
SELECT projections.catch_up();

-- max_events goes a part of the way.
INSERT INTO sale (item, quantity) SELECT 'item ' || i % 10, 1 FROM generate_series(1, 500) AS i;
SELECT projections.catch_up('sold', 100);
SELECT missing > 0 AS behind FROM test.oracle('sold');
SELECT projections.catch_up('sold') > 0;
SELECT projections.catch_up() > 0;
SELECT test.check_all();

-- A projection over events feeds others.
SELECT projections.create('by_sales', 'SELECT sales, count(*) AS items FROM sold GROUP BY sales');
SELECT projections.create('by_most', 'SELECT most, count(*) AS items, sum(quantity) AS quantity FROM sold GROUP BY most', 'async');
INSERT INTO sale (item, quantity) VALUES ('item 3', 10), ('other', -2);
SELECT projections.catch_up() > 0;
SELECT test.check_all();

-- A row is recomputed as of the checkpoint, not from what has not been applied.
SET pg_projections.allow_direct_writes = on;
UPDATE sold SET quantity = 0 WHERE item = 'item 1';
DELETE FROM sold WHERE item = 'item 2';
RESET pg_projections.allow_direct_writes;
INSERT INTO sale (item, quantity) VALUES ('item 1', 7);
SELECT projections.refresh_rows('sold', '[{"item": "item 1"}, {"item": "item 2"}]');
SELECT projections.catch_up() >= 0;
SELECT test.check_all();

-- A partitioned source.
CREATE TABLE part_sale (position bigint GENERATED ALWAYS AS IDENTITY, day date, quantity int, PRIMARY KEY (position, day)) PARTITION BY RANGE (day);
CREATE TABLE part_sale_1 PARTITION OF part_sale FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE part_sale_2 PARTITION OF part_sale FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
SELECT projections.register_source('part_sale', position_column => 'position');
SELECT projections.create('per_day', 'SELECT day, sum(quantity) AS quantity FROM part_sale GROUP BY day', 'async');
INSERT INTO part_sale (day, quantity) SELECT date '2026-01-01' + i % 59, i FROM generate_series(1, 300) AS i;
INSERT INTO part_sale_1 (position, day, quantity) VALUES (nextval('part_sale_position_seq'), '2026-01-05', 1000);
SELECT projections.catch_up('per_day');
SELECT test.check('per_day');
SELECT projections.drop('per_day');
SELECT projections.unregister_source('part_sale');
DROP TABLE part_sale;

-- Tables that change are followed by a change log.
CREATE TABLE product (id int PRIMARY KEY, category text, price numeric(10, 2), note text);
INSERT INTO product SELECT i, 'category ' || i % 5, i, 'x' FROM generate_series(1, 100) AS i;
SELECT projections.create('category', 'SELECT category, sum(price) AS price, min(price) AS lowest, max(price) AS highest, count(*) AS products FROM product GROUP BY category', 'async');
SELECT projections.create('per_count', 'SELECT products, count(*) AS categories FROM category GROUP BY products', 'async');
SELECT projections.create('per_count_at_once', 'SELECT products, count(*) AS categories FROM category GROUP BY products');
SELECT projections.create('dear', 'SELECT id, price * 2 AS twice FROM product WHERE price > 50', 'async');
CREATE TABLE heap (a int, b int);
SELECT projections.create('heap_rows', 'SELECT a, b + 1 AS c FROM heap', 'async');
SELECT test.check_all();
UPDATE product SET price = price + 1 WHERE id % 3 = 0;
UPDATE product SET note = 'y';
DELETE FROM product WHERE id > 90;
INSERT INTO product VALUES (5000, 'only', 1);
UPDATE product SET category = 'category 1' WHERE id = 5;
INSERT INTO heap VALUES (1, 1), (1, 1), (2, 2);
DELETE FROM heap WHERE a = 2;
SELECT extra > 0 AS behind FROM test.oracle('category');
SELECT projections.catch_up();
SELECT test.check_all();
-- Savepoints, the truncation of a source, and changes before and after it.
BEGIN;
UPDATE product SET price = 0 WHERE id = 1;
SAVEPOINT s;
UPDATE product SET price = 100000 WHERE id = 2;
ROLLBACK TO s;
COMMIT;
DELETE FROM heap WHERE ctid = (SELECT min(ctid) FROM heap);
SELECT projections.catch_up();
SELECT test.check_all();
UPDATE product SET price = 7 WHERE id = 7;
TRUNCATE product;
INSERT INTO product VALUES (1, 'a', 1);
SELECT projections.catch_up() > 0;
SELECT test.check_all();
BEGIN;
DELETE FROM product;
TRUNCATE product, heap;
INSERT INTO product VALUES (2, 'b', 2), (3, 'b', 4);
COMMIT;
INSERT INTO product VALUES (4, 'b', 5);
DELETE FROM product WHERE id = 2;
SELECT projections.catch_up() > 0;
SELECT test.check_all();
-- What is in the log is not counted twice by a recomputation.
UPDATE product SET price = 50;
SELECT projections.refresh_rows('category', '[{"category": "b"}]');
SELECT test.check('category');
SELECT projections.catch_up() >= 0;
SELECT test.check_all();

-- Pausing an inline projection: changes are logged, and applied when it resumes; joins too.
CREATE TABLE shop (id int PRIMARY KEY, town text);
CREATE TABLE receipt (id int PRIMARY KEY, shop int, amount numeric);
INSERT INTO shop SELECT i, 'town ' || i % 3 FROM generate_series(1, 10) AS i;
INSERT INTO receipt SELECT i, i % 10 + 1, i FROM generate_series(1, 100) AS i;
SELECT projections.create('takings', 'SELECT s.town, sum(r.amount) AS amount, max(r.amount) AS largest FROM receipt r JOIN shop s ON s.id = r.shop GROUP BY s.town');
SELECT projections.create('all_takings', 'SELECT sum(amount) AS amount FROM takings');
SELECT projections._pause_inline('takings'::regclass);
INSERT INTO receipt VALUES (5000, 1, 1000000);
UPDATE shop SET town = 'moved' WHERE id < 3;
DELETE FROM receipt WHERE id BETWEEN 10 AND 40;
BEGIN;
INSERT INTO shop VALUES (50, 'new');
INSERT INTO receipt VALUES (6000, 50, 5);
SAVEPOINT s;
DELETE FROM receipt;
ROLLBACK TO s;
COMMIT;
SELECT missing > 0 AS behind FROM test.oracle('takings');
SELECT projections._resume_inline('takings'::regclass) > 0;
SELECT test.check_all();
BEGIN;
SELECT projections._pause_inline('takings'::regclass);
TRUNCATE receipt;
INSERT INTO receipt VALUES (1, 1, 1);
SELECT projections._resume_inline('takings'::regclass);
COMMIT;
INSERT INTO receipt VALUES (2, 1, 1);
SELECT test.check_all();

-- What cannot be.
SELECT projections.create('x', 'SELECT s.town, sum(r.amount) AS amount FROM receipt r JOIN shop s ON s.id = r.shop GROUP BY s.town', 'async');
SELECT projections.create('x', 'SELECT 1', 'sometimes');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT projections.catch_up();
ROLLBACK;
ALTER SEQUENCE sale_position_seq CACHE 10;
INSERT INTO sale (item, quantity) VALUES ('cached', 1);
SELECT projections.catch_up('sold');
ALTER SEQUENCE sale_position_seq CACHE 1;
SELECT projections.catch_up('sold') > 0;
DROP TABLE projections.category_changes;
UPDATE projections.slot SET position = 1 WHERE projection = 'sold'::regclass;

-- Dropped with all that belongs to it.
DROP TABLE dear, heap_rows;
SELECT projections.drop('category', keep_table => true);
DROP TABLE product, heap, category CASCADE;
SELECT projections.drop('all_takings');
DROP TABLE shop, receipt CASCADE;
DROP TABLE sale CASCADE;
SELECT count(*) FROM projections.slot;
SELECT relname FROM pg_class WHERE relnamespace = 'projections'::regnamespace AND relname ~ '_(changes|definition)$';
