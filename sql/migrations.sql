-- Migrations: DDL on sources that definitions are in the way of. Told by the projections' names and with what to do; and
-- done by alter_source(), after which each projection equals its definition, whatever the commands did.
SET client_min_messages = warning;
CREATE SCHEMA migrating;
SET search_path = migrating;
CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE orders (id int PRIMARY KEY, customer int NOT NULL, amount int, note text, made date);
INSERT INTO customers SELECT i, 'customer ' || i FROM generate_series(0, 4) i;
INSERT INTO orders SELECT i, i % 5, i % 17, 'note', date '2026-01-01' + i FROM generate_series(1, 100) i;
SELECT projections.create('sales', 'SELECT customer, sum(amount) AS amount, avg(amount) AS average FROM orders GROUP BY customer');
SELECT projections.create('named', 'SELECT c.name, s.amount FROM sales s JOIN customers c ON c.id = s.customer');
SELECT projections.create('busy', 'SELECT customer, count(*) AS n FROM orders GROUP BY customer HAVING sum(amount) > 150');
SELECT projections.create('largest', 'SELECT customer, max(amount) AS most FROM orders GROUP BY customer', mode => 'async');
SELECT projections.create('notes', 'SELECT note, count(*) AS n FROM orders GROUP BY note');
SELECT 'sales'::regclass::oid AS sales \gset
CREATE FUNCTION change() RETURNS void LANGUAGE sql AS $$
    INSERT INTO orders (id, customer, amount, note, made) SELECT max(id) + 1, 2, 40, 'more', '2026-03-03' FROM orders;
    UPDATE orders SET amount = amount + 1, customer = (customer + 1) % 5 WHERE id % 10 = 0;
    DELETE FROM orders WHERE id = (SELECT min(id) FROM orders);
    UPDATE customers SET name = name || '.' WHERE id = 1;
$$;
-- Right after every step, and after changes that follow it.
CREATE FUNCTION right_after() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    found bigint;
BEGIN
    PERFORM projections.catch_up();
    found := (SELECT sum(equal) FROM test.check_all());
    PERFORM change();
    PERFORM projections.catch_up();
    RETURN format('%s, then %s are equal', found, (SELECT sum(equal) FROM test.check_all()));
END $$;

--
-- what is told
--
ALTER TABLE orders ALTER amount TYPE numeric(12, 2);
ALTER TABLE orders DROP COLUMN amount;
ALTER TABLE orders ADD COLUMN other int, DROP COLUMN IF EXISTS customer RESTRICT;
DROP TABLE orders;
DROP TABLE sales;
ALTER TABLE orders DROP CONSTRAINT orders_pkey;
ALTER TABLE customers DROP CONSTRAINT customers_pkey;
-- Nobody is told of what he may not do.
CREATE ROLE migrating_guest;
SET ROLE migrating_guest;
ALTER TABLE migrating.orders ALTER amount TYPE bigint;
RESET ROLE;
GRANT USAGE, CREATE ON SCHEMA migrating TO migrating_guest;
SET ROLE migrating_guest;
ALTER TABLE orders DROP COLUMN amount;
DROP TABLE orders;
RESET ROLE;
-- What is in nobody's way.
ALTER TABLE orders DROP COLUMN made;
ALTER TABLE orders ADD COLUMN made date DEFAULT '2026-02-02';
ALTER TABLE orders ALTER made TYPE timestamp;
ALTER TABLE orders RENAME COLUMN note TO remark;
ALTER TABLE orders RENAME COLUMN remark TO note;
SELECT right_after();

--
-- other types
--
-- What users have made of the tables stays.
-- That of orders tells no rows apart, and has gone above.
ALTER TABLE orders ADD PRIMARY KEY (id);
CREATE INDEX on_amount ON sales (amount);
CREATE INDEX on_many ON sales (customer) WHERE amount > 100;
COMMENT ON TABLE sales IS 'kept';
COMMENT ON COLUMN sales.amount IS 'kept, too';
GRANT SELECT ON sales TO migrating_guest;
GRANT SELECT (amount) ON sales TO PUBLIC;
ALTER TABLE sales ADD CHECK (amount > -1000);
SELECT change();
SELECT projections.catch_up();
SELECT change();
SELECT slot, position FROM projections.checkpoints WHERE projection = 'migrating.largest';
SELECT * FROM projections.alter_source('orders', 'ALTER TABLE orders ALTER amount TYPE numeric(12, 2) USING amount + 0.25');
SELECT slot, position FROM projections.checkpoints WHERE projection = 'migrating.largest';
-- The log's numbers go on from there.
SELECT change();
SELECT projections.catch_up() > 0 AS applied;
SELECT slot, position > 44 AS moved FROM projections.checkpoints WHERE projection = 'migrating.largest';
SELECT right_after();
SELECT 'sales'::regclass::oid = :sales AS same, obj_description('sales'::regclass) AS comment,
    has_table_privilege('migrating_guest', 'sales', 'SELECT') AS granted;
SELECT attnum, attname, format_type(atttypid, atttypmod), attisdropped, attacl IS NOT NULL AS granted, col_description(attrelid, attnum)
FROM pg_attribute WHERE attrelid = 'sales'::regclass AND attnum > 0 ORDER BY 1;
SELECT indexrelid::regclass, indisvalid FROM pg_index WHERE indrelid = 'sales'::regclass ORDER BY indexrelid::regclass::text COLLATE "C";
SELECT conname FROM pg_constraint WHERE conrelid = 'sales'::regclass AND contype = 'c';
SELECT item.* FROM projections.explain('sales') AS item;
-- Where the columns of the table stay, only what differs is written.
SELECT * FROM projections.alter_source('orders', 'ALTER TABLE orders ALTER amount TYPE numeric(12, 1)');
SELECT right_after();
SELECT * FROM projections.alter_source('orders', 'ALTER TABLE orders ALTER amount TYPE numeric(12, 1)');
-- Where none is in the way, nothing is done.
SELECT * FROM projections.alter_source('orders', 'ALTER TABLE orders ALTER made TYPE date; ALTER TABLE orders RENAME note TO remark');
SELECT * FROM projections.alter_source('orders', 'ALTER TABLE orders RENAME remark TO note');
SELECT right_after();
-- What reads one that is filled anew follows it, also by columns that stay as they are.
SELECT projections.create('buyers', 'SELECT customer FROM sales');
SELECT * FROM projections.alter_source('orders', 'ALTER TABLE orders ALTER amount TYPE float; DELETE FROM orders WHERE customer = 4');
SELECT test.check('buyers'), test.check('sales');
SELECT * FROM projections.alter_source('orders', 'ALTER TABLE orders ALTER amount TYPE numeric(12, 1)');
SELECT right_after();
SELECT projections.drop('buyers');
-- A key's type.
SELECT * FROM projections.alter_source('orders', 'ALTER TABLE orders ALTER customer TYPE bigint');
SELECT right_after();
-- And that of a source below a join, whose other side is a projection.
SELECT * FROM projections.alter_source('customers', 'ALTER TABLE customers ALTER id TYPE bigint, ALTER name TYPE varchar(40)');
SELECT right_after();

--
-- what goes, and new definitions
--
SELECT * FROM projections.alter_source('orders', 'ALTER TABLE orders DROP COLUMN amount');
SELECT right_after();
SELECT * FROM projections.alter_source('orders', 'ALTER TABLE orders ADD COLUMN cents bigint; UPDATE orders SET cents = amount * 100;
    ALTER TABLE orders DROP COLUMN amount; ALTER TABLE orders RENAME cents TO amount;', definitions => '{
    "busy": "SELECT customer, count(*) AS n FROM orders GROUP BY customer HAVING sum(amount) > 15000",
    "migrating.sales": "SELECT customer, sum(amount) AS amount FROM orders GROUP BY customer"}');
SELECT right_after();
SELECT projection, query FROM projections.definitions WHERE projection LIKE 'migrating.%' ORDER BY 1;
SELECT attnum, attname, format_type(atttypid, atttypmod), attisdropped, attacl IS NOT NULL AS granted, col_description(attrelid, attnum)
FROM pg_attribute WHERE attrelid = 'sales'::regclass AND attnum > 0 ORDER BY 1;
SELECT indexrelid::regclass FROM pg_index WHERE indrelid = 'sales'::regclass ORDER BY indexrelid::regclass::text COLLATE "C";
-- Renamed and retyped at once: renames are followed, before and after.
SELECT * FROM projections.alter_source('orders', 'ALTER TABLE orders RENAME customer TO buyer; ALTER TABLE orders ALTER buyer TYPE int;
    ALTER TABLE orders RENAME amount TO cents; ALTER TABLE orders RENAME TO sold');
SELECT projection, query FROM projections.definitions WHERE projection = 'migrating.sales';
SELECT sum(equal) AS equal FROM test.check_all();
SELECT * FROM projections.alter_source('sold', 'ALTER TABLE sold RENAME TO orders; ALTER TABLE orders RENAME buyer TO customer; ALTER TABLE orders RENAME cents TO amount');
SELECT right_after();
-- Another key.
SELECT * FROM projections.alter_source('orders', 'ALTER TABLE orders ADD shop int DEFAULT 1', definitions => '{"notes": "SELECT shop, note, count(*) AS n FROM orders GROUP BY shop, note"}');
SELECT key FROM projections.definitions WHERE projection = 'migrating.notes';
SELECT right_after();

--
-- an existing source is partitioned
--
SELECT projections.create('single', 'SELECT id, amount FROM orders WHERE amount > 1000');
SELECT * FROM projections.alter_source('orders', $$
    ALTER TABLE orders RENAME TO whole;
    CREATE TABLE orders (LIKE whole INCLUDING DEFAULTS, CONSTRAINT by_id PRIMARY KEY (id, made)) PARTITION BY RANGE (made);
    CREATE TABLE orders_early PARTITION OF orders FOR VALUES FROM ('2026-01-01') TO ('2026-03-01');
    CREATE TABLE orders_late PARTITION OF orders DEFAULT;
    INSERT INTO orders SELECT * FROM whole;
    DROP TABLE whole;
$$);
SELECT relkind FROM pg_class WHERE oid = 'orders'::regclass;
SELECT key FROM projections.definitions WHERE projection = 'migrating.single';
SELECT right_after();
SELECT * FROM projections.alter_source('orders', 'ALTER TABLE orders ALTER amount TYPE numeric');
SELECT right_after();
-- Another primary key.
SELECT * FROM projections.alter_source('orders', 'ALTER TABLE orders DROP CONSTRAINT by_id; ALTER TABLE orders ADD PRIMARY KEY (made, id)');
SELECT right_after();
SELECT tgrelid::regclass, tgname FROM pg_trigger WHERE tgname = 'projections_capture' AND tgparentid = 0 ORDER BY tgrelid::regclass::text COLLATE "C";

--
-- transactions
--
-- Its own changes before it, and a savepoint.
BEGIN;
SELECT change();
SAVEPOINT s;
SELECT * FROM projections.alter_source('orders', 'ALTER TABLE orders ALTER amount TYPE bigint; UPDATE orders SET amount = 1 WHERE id % 3 = 0');
SELECT change();
ROLLBACK TO s;
SELECT test.check('sales'), test.check('named'), test.check('busy'), test.check('single');
SELECT change();
SELECT action FROM projections.alter_source('orders', 'ALTER TABLE orders ALTER amount TYPE bigint');
SELECT change();
COMMIT;
SELECT right_after();
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) > 0 AS begun FROM orders;
SELECT projection, action FROM projections.alter_source('orders', 'ALTER TABLE orders ALTER amount TYPE numeric');
SELECT change();
COMMIT;
SELECT right_after();
-- Within what is atomic itself.
DO $$
BEGIN
    PERFORM projections.alter_source('orders', 'ALTER TABLE orders ALTER amount TYPE bigint');
    RAISE EXCEPTION 'taken back';
EXCEPTION WHEN raise_exception THEN
    RAISE WARNING '%', SQLERRM;
END $$;
SELECT right_after();
-- Who looks in between finds what there was; who drops it has dropped it.
-- What the text does to a projection meanwhile is made good, or refused.
SELECT projection, action FROM projections.alter_source('orders', 'ALTER TABLE orders ALTER amount TYPE bigint; ALTER TABLE sales DROP CONSTRAINT sales_pkey;
    DROP TRIGGER projections_guard ON sales');
SELECT indexrelid::regclass FROM pg_index WHERE indrelid = 'sales'::regclass ORDER BY indexrelid::regclass::text COLLATE "C";
SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = 'sales'::regclass ORDER BY 1;
INSERT INTO sales (customer) VALUES (1);
SELECT right_after();
SELECT projection, action FROM projections.alter_source('orders', 'ALTER TABLE orders ALTER amount TYPE bigint; ALTER TABLE sales SET UNLOGGED');
SELECT projection, action FROM projections.alter_source('orders', 'ALTER TABLE orders ALTER amount TYPE bigint; ALTER TABLE sales DROP COLUMN amount');
SELECT projection, action FROM projections.alter_source('orders', 'ALTER TABLE orders ALTER amount TYPE bigint; ALTER TABLE sales RENAME amount TO total');
SELECT right_after();
ALTER TABLE sales RENAME total TO amount;
CREATE TABLE seen AS SELECT 0::bigint AS n;
SELECT projection FROM projections.alter_source('orders', 'ALTER TABLE orders ALTER amount TYPE bigint; UPDATE seen SET n = (SELECT count(*) FROM sales);
    SELECT projections.drop(''single'')');
SELECT n FROM seen;
SELECT to_regclass('single'), to_regclass('projections_internal.single_definition');
SELECT right_after();

--
-- what is refused
--
CREATE VIEW totals AS SELECT amount FROM sales;
SELECT projection, action FROM projections.alter_source('orders', 'ALTER TABLE orders ALTER amount TYPE float');
DROP VIEW totals;
ALTER TABLE sales ADD COLUMN own text;
SELECT projection, action FROM projections.alter_source('orders', 'ALTER TABLE orders ALTER amount TYPE float');
ALTER TABLE sales DROP COLUMN own;
SELECT projection, action FROM projections.alter_source('orders', 'ALTER TABLE orders ALTER amount TYPE float');
SELECT right_after();
SELECT indexrelid::regclass FROM pg_index WHERE indrelid = 'sales'::regclass ORDER BY indexrelid::regclass::text COLLATE "C";
SELECT projection, action FROM projections.alter_source('orders', 'ALTER TABLE orders ALTER amount TYPE bigint');
SELECT right_after();
SELECT projection, action FROM projections.alter_source('orders', 'ALTER TABLE orders ALTER amount TYPE text');
SELECT projections.pause('sales', 'a test');
SELECT projection, action FROM projections.alter_source('orders', 'ALTER TABLE orders ALTER amount TYPE float');
SELECT projections.resume('sales');
ALTER TABLE sales ADD UNIQUE (customer);
CREATE TABLE refers (customer int REFERENCES sales (customer));
SELECT projection, action FROM projections.alter_source('orders', 'ALTER TABLE orders ALTER customer TYPE bigint');
DROP TABLE refers;
ALTER TABLE sales DROP CONSTRAINT sales_customer_key;
SELECT projections.alter_source('orders', 'COMMIT');
SELECT projections.alter_source('orders', 'COPY orders TO STDOUT');
SELECT projections.alter_source('orders', 'SELECT projections.alter_source(''orders'', '''')');
SELECT projections.alter_source('orders', 'ALTER TABLE customers ALTER id TYPE int');
SELECT projections.alter_source('orders', 'ALTER TABLE orders ALTER missing TYPE int');
-- Rows of a statement that goes on are there and not captured yet.
WITH written AS (INSERT INTO customers VALUES (77, 'half') RETURNING id)
SELECT projection FROM written, projections.alter_source('orders', 'ALTER TABLE orders ALTER customer TYPE bigint') WHERE id > 0;
SELECT projections.alter_source('missing', '');
SELECT projections.alter_source(NULL, '');
SELECT projections.alter_source('orders', NULL);
SELECT projections.alter_source('orders', '', definitions => '[]');
SELECT projections.alter_source('orders', '', definitions => '{"sales": 1}');
SELECT projections.alter_source('orders', '', definitions => '{"missing": "SELECT 1"}');
SELECT projections.alter_source('customers', '', definitions => '{"sales": "SELECT 1"}');
SELECT projections.alter_source('orders', '', definitions => '{"sales": "SELECT customer, amount FROM sales"}');
SELECT projections.alter_source('orders', '', definitions => '{"sales": "SELECT now() AS n FROM orders"}');
SELECT right_after();
SELECT * FROM projections.orphans();

--
-- rights: the commands run as the caller, definitions as their owners, and nobody redefines another one's projection
--
CREATE ROLE migrating_owner;
CREATE ROLE migrating_reader;
CREATE ROLE migrating_both IN ROLE migrating_owner, migrating_reader;
CREATE SCHEMA shop AUTHORIZATION migrating_owner;
CREATE SCHEMA reading AUTHORIZATION migrating_reader;
GRANT USAGE ON SCHEMA shop TO migrating_reader;
GRANT CREATE ON SCHEMA shop TO migrating_reader;
SET ROLE migrating_owner;
CREATE TABLE shop.sold (id int PRIMARY KEY, item int, price int);
INSERT INTO shop.sold SELECT i, i % 3, i FROM generate_series(1, 10) i;
GRANT SELECT, TRIGGER ON shop.sold TO migrating_reader;
SET ROLE migrating_reader;
-- Runs as its owner, or not at all.
CREATE FUNCTION reading.plain(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
    IF current_user <> 'migrating_reader' THEN
        RAISE EXCEPTION 'runs as %', current_user;
    END IF;
    RETURN i;
END $$;
SELECT projections.create('reading.prices', 'SELECT item, sum(price) AS price, max(reading.plain(item)) AS p FROM shop.sold WHERE reading.plain(item) >= 0 GROUP BY item');
CREATE INDEX ON reading.prices (reading.plain(item));
SELECT projections.alter_source('shop.sold', 'ALTER TABLE shop.sold ALTER price TYPE bigint');
SET ROLE migrating_owner;
SELECT projections.alter_source('shop.sold', 'ALTER TABLE shop.sold ALTER price TYPE bigint');
SELECT projections.alter_source('shop.sold', '', definitions => '{"reading.prices": "SELECT item FROM shop.sold"}');
SELECT projections.alter_source('shop.sold', 'ALTER TABLE shop.sold ADD COLUMN more int');
DO $$ BEGIN -- versions word it in different ways
    PERFORM projections.alter_source('shop.sold', 'CREATE ROLE migrating_super SUPERUSER');
EXCEPTION WHEN insufficient_privilege THEN
    RAISE WARNING 'insufficient_privilege';
END $$;
SET ROLE migrating_both;
SELECT * FROM projections.alter_source('shop.sold', 'ALTER TABLE shop.sold ALTER price TYPE bigint');
INSERT INTO shop.sold VALUES (11, 1, 5);
RESET ROLE;
SELECT * FROM projections.verify('reading.prices');
-- A superuser runs the commands, and nothing of what belongs to others.
SELECT * FROM projections.alter_source('shop.sold', 'ALTER TABLE shop.sold ALTER price TYPE numeric, ALTER item TYPE int USING item + 1');
SELECT * FROM projections.verify('reading.prices');
SELECT relowner::regrole FROM pg_class WHERE oid = 'reading.prices'::regclass;
SELECT role, error IS NULL AS done FROM projections.audit_log WHERE operation = 'alter_source' AND projection LIKE 'shop.%' ORDER BY id;

--
-- events
--
SET search_path = migrating;
CREATE TABLE events (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, kind text, amount int);
SELECT projections.register_source('events', 'position', type_column => 'kind');
INSERT INTO events (kind, amount) SELECT 'kind ' || i % 2, i FROM generate_series(1, 10) i;
CREATE FUNCTION fold(state jsonb, e events, key text) RETURNS jsonb IMMUTABLE LANGUAGE sql AS $$ SELECT to_jsonb(coalesce((state #>> '{}')::bigint, 0) + 1) $$;
SELECT projections.create('by_kind', 'SELECT kind, sum(amount) AS amount FROM events GROUP BY kind', mode => 'async');
SELECT projections.create_reducer('counted', 'events', 'kind', 'fold(jsonb, events, text)');
SELECT projections.catch_up() > 0 AS applied;
INSERT INTO events (kind, amount) SELECT 'kind ' || i % 3, i FROM generate_series(1, 6) i;
-- As of the checkpoint, which stays.
SELECT * FROM projections.alter_source('events', 'ALTER TABLE events ALTER amount TYPE bigint USING amount + 1');
SELECT projection, position FROM projections.checkpoints WHERE projection LIKE 'migrating.%' AND projection <> 'migrating.largest' ORDER BY 1;
SELECT * FROM projections.verify('by_kind');
SELECT projections.catch_up() > 0 AS applied;
SELECT * FROM projections.verify('by_kind');
SELECT * FROM projections.verify('counted');
SELECT test.check('by_kind');
-- What a reducer knows events by.
ALTER TABLE events ALTER kind TYPE varchar;
SELECT projections.alter_source('events', 'ALTER TABLE events ALTER kind TYPE varchar');
SELECT projections.drop('counted');
SELECT * FROM projections.alter_source('events', 'ALTER TABLE events ALTER kind TYPE varchar');
INSERT INTO events (kind, amount) VALUES ('kind 2', 3);
SELECT projections.catch_up() > 0 AS applied;
SELECT test.check('by_kind');

-- Columns that a source is registered with later are shown by what reads it; others stay.
CREATE TABLE happened (place bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, kind text, amount int, at timestamptz DEFAULT '2026-01-01 00:00+00', uid text, story text);
SELECT projections.register_source('happened', 'place');
CREATE FUNCTION fold(state jsonb, e happened, key text) RETURNS jsonb IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
    IF e.amount = 13 THEN
        RAISE EXCEPTION 'unlucky';
    END IF;
    RETURN to_jsonb(coalesce((state #>> '{}')::bigint, 0) + e.amount);
END $$;
SELECT projections.create_reducer('folded', 'happened', 'amount % 10', 'fold(jsonb, happened, text)', options => '{"on_failure": "skip"}');
SELECT projections.create_subscription('migrating reader', 'happened');
INSERT INTO happened (kind, amount, uid, story) VALUES ('first', 1, 'a', 'tale'), ('second', 13, 'b', 'tale');
SELECT projections.catch_up() > 0 AS applied;
SELECT projections.register_source('happened', 'place', type_column => 'kind', time_column => 'at', correlation_column => 'story', id_column => 'uid');
INSERT INTO happened (kind, amount, uid, story) VALUES ('third', 13, 'c', 'tale'), ('fourth', 1, 'd', 'tale');
SELECT projections.catch_up() > 0 AS applied;
SELECT position, event_id, event_type FROM projections.failures WHERE projection = 'migrating.folded' ORDER BY 1;
SELECT event_time = '2026-01-01 00:00+00' AS timed FROM projections.checkpoints WHERE projection = 'migrating.folded';
SELECT position, type FROM projections.trace('tale') ORDER BY 1;
SELECT * FROM projections.verify('folded');
SELECT key, state FROM folded;
SELECT projections.register_source('happened', 'place', type_column => 'kind');
SELECT projections.register_source('happened', 'place', type_column => 'uid', time_column => 'at', correlation_column => 'story', id_column => 'uid');
SELECT severity, object, problem FROM projections.validate() WHERE object LIKE 'migrating.%';
SELECT projections.drop_subscription('migrating reader');

RESET ROLE;
SET client_min_messages = error;
DROP SCHEMA migrating, shop, reading CASCADE;
DROP OWNED BY migrating_guest, migrating_owner, migrating_reader, migrating_both;
DROP ROLE migrating_guest, migrating_owner, migrating_reader, migrating_both;
