-- A projection is an ordinary table for its readers and owners, and written by nobody but its maintenance.
CREATE SCHEMA ordinary;
SET search_path = ordinary;
SET client_min_messages = warning;
\set SHOW_CONTEXT never

CREATE ROLE ordinary_owner;
CREATE ROLE ordinary_writer;
CREATE ROLE ordinary_reader;
GRANT USAGE, CREATE ON SCHEMA ordinary TO ordinary_owner;
GRANT USAGE ON SCHEMA ordinary TO ordinary_writer, ordinary_reader;

-- Everything of ours in this schema, or about it.
CREATE VIEW ours AS
SELECT 'trigger' AS kind, tgrelid::regclass::text AS object, tgname::text AS name FROM pg_trigger WHERE tgname LIKE 'projections%'
UNION ALL SELECT 'view', relname, '' FROM pg_class WHERE relnamespace = 'projections_internal'::regnamespace AND relname LIKE '%\_definition%' AND relkind = 'v'
UNION ALL SELECT 'projection', relation::text, '' FROM projections_internal.projection;

CREATE TABLE sales (id int PRIMARY KEY, item text, quantity int, spare text);
CREATE TABLE items (item text PRIMARY KEY, name text);
INSERT INTO items VALUES ('a', 'Ale'), ('b', 'Beer');
INSERT INTO sales VALUES (1, 'a', 5), (2, 'b', 6), (3, 'a', 7);
ALTER TABLE sales OWNER TO ordinary_owner;
ALTER TABLE items OWNER TO ordinary_owner;
GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON sales, items TO ordinary_writer;
SELECT * FROM ours;
SET ROLE ordinary_owner;
SELECT projections.create('ordinary.stock', 'SELECT item, sum(quantity) AS quantity, count(*) AS n FROM sales GROUP BY item');
SELECT projections.create('ordinary.named', 'SELECT s.id, i.name, s.quantity FROM sales s JOIN items i USING (item)');
RESET ROLE;
SELECT * FROM ours ORDER BY kind, object, name;

--
-- Nobody writes it directly
--
\set VERBOSITY terse
INSERT INTO stock VALUES ('c', 1, 1);
UPDATE stock SET quantity = 0;
DELETE FROM stock;
DELETE FROM stock WHERE false;
TRUNCATE stock;
COPY stock (item, quantity, n) FROM stdin;
c	1	1
\.
MERGE INTO stock s USING items i ON s.item = i.item WHEN MATCHED THEN DELETE;
INSERT INTO stock VALUES ('a', 1, 1) ON CONFLICT (item) DO UPDATE SET quantity = 0;
SET ROLE ordinary_owner;
INSERT INTO stock VALUES ('c', 1, 1);
UPDATE stock SET quantity = 0;
DELETE FROM stock;
TRUNCATE stock;
SET pg_projections.allow_direct_writes = on;
RESET ROLE;
-- neither from a trigger on a source or on the projection, nor as replication would
CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE ordinary.stock SET quantity = 0; RETURN NULL; END $$;
CREATE TRIGGER meddle AFTER INSERT ON sales FOR EACH STATEMENT EXECUTE FUNCTION meddle();
INSERT INTO sales VALUES (50, 'a', 1);
DROP TRIGGER meddle ON sales;
CREATE TRIGGER meddle AFTER UPDATE ON stock FOR EACH STATEMENT EXECUTE FUNCTION meddle();
INSERT INTO sales VALUES (50, 'a', 1);
DROP TRIGGER meddle ON stock;
SET session_replication_role = replica;
DELETE FROM stock;
INSERT INTO sales VALUES (4, 'b', 1);
RESET session_replication_role;
\set VERBOSITY default
UPDATE stock SET quantity = 0;
SELECT * FROM test.check_all();
-- a superuser who insists is told by the status
SET pg_projections.allow_direct_writes = on;
UPDATE stock SET quantity = 0 WHERE item = 'a';
RESET pg_projections.allow_direct_writes;
SELECT projection, status, regexp_replace(message, '\d{4}-.*', 'T') AS message FROM projections.status ORDER BY projection;
SELECT missing, extra FROM test.oracle('stock');
SELECT projections.refresh_rows('stock', '{"item": "a"}');
SELECT test.check('stock');

--
-- Its owner does with it what is done with tables
--
SET ROLE ordinary_owner;
CREATE INDEX ON stock (quantity);
ALTER TABLE stock ADD CONSTRAINT enough CHECK (n > 0);
GRANT SELECT ON stock TO ordinary_reader;
ALTER TABLE stock ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY only_a ON stock FOR SELECT TO ordinary_reader USING (item = 'a');
ALTER TABLE stock ADD COLUMN remark text DEFAULT 'none';
CREATE TABLE log (line text);
CREATE FUNCTION log() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO ordinary.log SELECT concat_ws(' ', TG_OP, OLD.item, OLD.quantity, '->', NEW.item, NEW.quantity, current_user); RETURN NULL; END $$;
CREATE TRIGGER log AFTER INSERT OR UPDATE OR DELETE ON stock FOR EACH ROW EXECUTE FUNCTION log();
ALTER TABLE stock SET (fillfactor = 70);
COMMENT ON TABLE stock IS 'what is left';
ANALYZE stock;
VACUUM stock;
RESET ROLE;
-- The writer needs no right on the projection and sees nothing of it; the reader sees its rows.
SET ROLE ordinary_writer;
INSERT INTO sales VALUES (5, 'c', 8), (6, 'a', 1);
DELETE FROM sales WHERE item = 'b';
SELECT * FROM stock;
SET ROLE ordinary_reader;
SELECT item, quantity, n, remark FROM stock;
RESET ROLE;
SELECT * FROM test.check_all();
SELECT * FROM log ORDER BY 1;
SELECT item, remark FROM stock ORDER BY item;
-- a projection over one that has grown a column
SELECT projections.create('remarks', 'SELECT remark, count(*) AS n FROM stock GROUP BY remark');
INSERT INTO sales VALUES (7, 'd', 1);
SELECT * FROM test.check_all();
SELECT projections.drop('remarks');

-- What breaks maintenance is refused.
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER before BEFORE INSERT ON stock FOR EACH ROW EXECUTE FUNCTION nothing();
CREATE TRIGGER before BEFORE UPDATE ON stock FOR EACH ROW EXECUTE FUNCTION nothing();
CREATE TRIGGER before BEFORE DELETE ON stock FOR EACH ROW EXECUTE FUNCTION nothing();
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON stock DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION log();
ALTER TABLE stock ADD UNIQUE (quantity) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE stock ADD FOREIGN KEY (item) REFERENCES items DEFERRABLE INITIALLY DEFERRED NOT VALID;
CREATE RULE no AS ON INSERT TO stock DO INSTEAD NOTHING;
CREATE TABLE heir () INHERITS (stock);
CREATE TABLE parent (item text);
ALTER TABLE stock INHERIT parent;
DROP TABLE parent;
ALTER TABLE stock ALTER COLUMN quantity TYPE numeric;
ALTER TABLE stock DROP COLUMN quantity;
CREATE FUNCTION refused(command text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    BEGIN
        EXECUTE command;
        RAISE EXCEPTION USING ERRCODE = 'OR001'; -- undo it
    EXCEPTION WHEN SQLSTATE 'OR001' THEN RETURN false;
              WHEN object_not_in_prerequisite_state OR dependent_objects_still_exist THEN RETURN true;
    END;
END
$$;
SELECT refused('ALTER TABLE ordinary.stock SET UNLOGGED');
SELECT refused('DROP TRIGGER projections_guard ON ordinary.stock');
SELECT refused('DROP TRIGGER projections_capture ON ordinary.sales');
DROP VIEW projections_internal.stock_definition;
-- a source whose capture is switched off is not followed: said at once, and by the status
BEGIN;
ALTER TABLE items DISABLE TRIGGER projections_capture;
SELECT projection, status, regexp_replace(message, '\d{4}-.*', 'T') AS message FROM projections.status ORDER BY projection;
ROLLBACK;
-- Constraints that are checked at once are fine.
ALTER TABLE stock ADD CONSTRAINT at_once UNIQUE (quantity, item) DEFERRABLE;
ALTER TABLE stock DROP CONSTRAINT at_once;
SELECT * FROM test.check_all();

--
-- Renames are followed
--
DROP TRIGGER log ON stock;
ALTER TABLE sales RENAME COLUMN quantity TO pieces;
INSERT INTO sales VALUES (8, 'd', 2);
SELECT * FROM test.check_all();
ALTER TABLE sales RENAME TO sold;
UPDATE sold SET pieces = pieces + 1;
SELECT * FROM test.check_all();
ALTER TABLE stock RENAME TO left_over;
UPDATE sold SET pieces = pieces + 1;
SELECT * FROM test.check_all();
ALTER TABLE left_over RENAME COLUMN quantity TO amount;
UPDATE sold SET pieces = pieces + 1;
SELECT * FROM test.check_all();
ALTER SCHEMA ordinary RENAME TO renamed;
SET search_path = renamed;
UPDATE sold SET pieces = pieces + 1;
SELECT * FROM test.check_all();
SELECT projection, query FROM projections.definitions ORDER BY 1;
CREATE SCHEMA ordinary;
GRANT USAGE ON SCHEMA ordinary TO ordinary_owner;
ALTER TABLE sold SET SCHEMA ordinary;
INSERT INTO ordinary.sold VALUES (9, 'a', 2);
ALTER TABLE ordinary.sold SET SCHEMA renamed;
DROP SCHEMA ordinary;
ALTER SCHEMA renamed RENAME TO ordinary;
SET search_path = ordinary;
SELECT * FROM test.check_all();
ALTER TABLE left_over RENAME COLUMN amount TO quantity;
ALTER TABLE left_over RENAME TO stock;
ALTER TABLE sold RENAME TO sales;
ALTER TABLE sales RENAME COLUMN pieces TO quantity;
SELECT * FROM test.check_all();
-- in one transaction with rows before and after
BEGIN;
INSERT INTO sales VALUES (10, 'a', 2);
ALTER TABLE sales RENAME COLUMN quantity TO pieces;
INSERT INTO sales VALUES (11, 'a', 3);
ALTER TABLE stock RENAME TO other_stock;
INSERT INTO sales VALUES (12, 'a', 4);
COMMIT;
SELECT * FROM test.check_all();
BEGIN;
ALTER TABLE other_stock RENAME TO stock;
UPDATE sales SET pieces = pieces * 2;
ALTER TABLE sales RENAME COLUMN pieces TO quantity;
ROLLBACK;
UPDATE sales SET pieces = pieces * 2;
SELECT * FROM test.check_all();
ALTER TABLE other_stock RENAME TO stock;
ALTER TABLE sales RENAME COLUMN pieces TO quantity;

-- What is used stays; what is not may go.
\set VERBOSITY terse
ALTER TABLE sales DROP COLUMN quantity;
ALTER TABLE sales ALTER COLUMN quantity TYPE bigint;
ALTER TABLE sales DROP CONSTRAINT sales_pkey;
ALTER TABLE sales SET UNLOGGED;
CREATE TABLE heir () INHERITS (sales);
ALTER TABLE items DROP CONSTRAINT items_pkey CASCADE;
\set VERBOSITY default
ALTER TABLE sales DROP COLUMN spare;
ALTER TABLE sales ADD COLUMN more int DEFAULT 3;
INSERT INTO sales VALUES (13, 'b', 4);
SELECT * FROM test.check_all();
-- a rewrite of the source changes no row
ALTER TABLE sales ALTER COLUMN more TYPE bigint;
CLUSTER sales USING sales_pkey;
VACUUM FULL sales;
SELECT * FROM test.check_all();
INSERT INTO sales VALUES (14, 'b', 4);
SELECT * FROM test.check_all();

--
-- Maintenance runs as the owner
--
SET ROLE ordinary_owner;
REVOKE SELECT ON sales FROM ordinary_owner;
SET ROLE ordinary_writer;
INSERT INTO items VALUES ('d', 'Dill');
RESET ROLE;
SELECT count(*) AS dill FROM items WHERE item = 'd';
SET ROLE ordinary_owner;
GRANT SELECT ON sales TO ordinary_owner;
RESET ROLE;
SELECT projections.repair('ordinary.named') >= 0 AS repaired;
SELECT * FROM test.check_all();
-- and so does a function in a definition, which learns nothing with the writer's rights
CREATE TABLE secrets (secret text);
INSERT INTO secrets VALUES ('of the writer');
GRANT SELECT ON secrets TO ordinary_writer;
SET ROLE ordinary_owner;
CREATE FUNCTION who(value text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN current_user; END $$;
CREATE FUNCTION spy(value text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN IF value = 'x' THEN RETURN (SELECT secret FROM ordinary.secrets); END IF; RETURN value; END $$;
SELECT projections.create('ordinary.whose', 'SELECT ordinary.who(item) AS who, count(*) AS n FROM sales GROUP BY 1');
SELECT projections.create('ordinary.spied', 'SELECT id, ordinary.spy(item) AS found FROM sales');
SET ROLE ordinary_writer;
INSERT INTO sales VALUES (15, 'y', 4);
INSERT INTO sales VALUES (16, 'x', 4);
RESET ROLE;
INSERT INTO sales VALUES (16, 'x', 4);
SELECT who, n > 0 AS some FROM whose;
SELECT count(*) FROM spied WHERE found LIKE '%writer%';
SELECT projections.drop('whose'), projections.drop('spied');
-- a new owner is the one
GRANT CREATE ON SCHEMA ordinary TO ordinary_reader;
ALTER TABLE named OWNER TO ordinary_reader;
INSERT INTO sales VALUES (17, 'a', 4);
GRANT SELECT ON sales, items TO ordinary_reader;
SELECT projections.repair('named');
INSERT INTO sales VALUES (117, 'a', 4);
SELECT * FROM test.check_all();
ALTER TABLE named OWNER TO ordinary_owner;

--
-- What goes leaves nothing
--
SELECT projections.drop('missing', if_exists => true);
SELECT projections.drop('named', keep_table => true);
SELECT * FROM ours ORDER BY kind, object, name;
INSERT INTO named VALUES (1000, 'by hand', 1);
INSERT INTO sales VALUES (18, 'a', 4);
SELECT count(*) FROM named WHERE id = 18;
DROP TABLE named;
DROP TABLE sales;
DROP TABLE stock;
SELECT * FROM ours;
SELECT projections.create('one', 'SELECT item, count(*) AS n FROM sales GROUP BY item');
SELECT projections.create('two', 'SELECT i.name, sum(s.quantity) AS q FROM sales s JOIN items i USING (item) GROUP BY i.name');
SELECT projections.create('three', 'SELECT n, count(*) AS items FROM one GROUP BY n');
CREATE VIEW over AS SELECT * FROM two;
SELECT projections.drop('two');
DROP TABLE two;
DROP TABLE two CASCADE;
SELECT * FROM ours ORDER BY kind, object, name;
SELECT to_regclass('over') AS over;
-- a rollback brings all back
BEGIN;
DROP TABLE sales CASCADE;
SELECT * FROM ours;
ROLLBACK;
INSERT INTO sales VALUES (19, 'a', 4);
SELECT * FROM test.check_all();
BEGIN;
INSERT INTO sales VALUES (20, 'a', 4);
DROP TABLE three;
SAVEPOINT s;
DROP TABLE one;
ROLLBACK TO s;
INSERT INTO sales VALUES (21, 'a', 4);
COMMIT;
SELECT * FROM test.check_all();
-- created, filled, changed and dropped in one transaction
BEGIN;
SELECT projections.create('brief', 'SELECT item, count(*) AS n FROM sales GROUP BY item');
INSERT INTO sales VALUES (22, 'a', 4);
SELECT test.check('brief');
INSERT INTO sales VALUES (23, 'a', 4);
SELECT projections.drop('brief');
SELECT projections.create('brief', 'SELECT id, quantity FROM sales');
INSERT INTO sales VALUES (24, 'a', 4);
COMMIT;
SELECT * FROM test.check_all();
DROP TABLE sales CASCADE;
SELECT * FROM ours;
CREATE TABLE sales (id int PRIMARY KEY, item text, quantity int);
CREATE SCHEMA apart;
SELECT projections.create('apart.p', 'SELECT item, count(*) AS n FROM sales GROUP BY item');
DROP SCHEMA apart;
DROP SCHEMA apart CASCADE;
SELECT * FROM ours;
GRANT SELECT, TRIGGER ON sales TO ordinary_owner;
SET ROLE ordinary_owner;
SELECT projections.create('ordinary.owned', 'SELECT item, count(*) AS n FROM sales GROUP BY item');
RESET ROLE;
INSERT INTO sales VALUES (1, 'a', 1);
SELECT test.check('owned');
DROP OWNED BY ordinary_owner;
SELECT * FROM ours;
INSERT INTO sales VALUES (2, 'a', 1);
DROP TABLE sales;

DROP SCHEMA ordinary CASCADE;
DROP OWNED BY ordinary_writer, ordinary_reader;
DROP ROLE ordinary_owner, ordinary_writer, ordinary_reader;
SELECT count(*) AS projections FROM projections.definitions;
