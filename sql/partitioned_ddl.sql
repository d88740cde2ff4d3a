-- What is refused of partitions, and what makes projections over them stale.
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE SCHEMA partitioned_ddl;
SET search_path = partitioned_ddl, public;
CREATE TABLE orders (id int, region text, amount int) PARTITION BY LIST (region);
CREATE TABLE orders_n PARTITION OF orders FOR VALUES IN ('n');
CREATE TABLE orders_s PARTITION OF orders FOR VALUES IN ('s');
INSERT INTO orders VALUES (1, 'n', 1), (2, 's', 2), (3, 's', 3);
SELECT projections.create('sums', 'SELECT region, count(*) AS n, sum(amount) AS amount FROM orders GROUP BY region');
SELECT projections.create('big', 'SELECT id, max(amount) AS amount FROM orders GROUP BY id HAVING max(amount) > 1');
CREATE FUNCTION stale() RETURNS TABLE (projection regclass, reason text) LANGUAGE sql BEGIN ATOMIC
    SELECT DISTINCT coalesce(p.part_of, p.relation), p.stale_reason FROM projections_internal.projection p WHERE p.stale_since IS NOT NULL ORDER BY 1; END;

-- refused
CREATE FOREIGN DATA WRAPPER nowhere;
CREATE SERVER elsewhere FOREIGN DATA WRAPPER nowhere;
CREATE FOREIGN TABLE orders_f PARTITION OF orders FOR VALUES IN ('f') SERVER elsewhere;
CREATE FOREIGN TABLE orders_f (id int, region text, amount int) SERVER elsewhere;
ALTER TABLE orders ATTACH PARTITION orders_f FOR VALUES IN ('f');
CREATE UNLOGGED TABLE orders_u PARTITION OF orders FOR VALUES IN ('u');
ALTER TABLE orders_n SET UNLOGGED;
DROP TRIGGER projections_capture ON orders_n;
DROP TRIGGER projections_capture_truncating ON orders_n;
DROP TRIGGER projections_capture_truncate ON orders;
CREATE TRIGGER mine BEFORE TRUNCATE ON orders_n EXECUTE FUNCTION projections_internal.capture();
DROP FOREIGN DATA WRAPPER nowhere CASCADE;
SELECT * FROM stale();

-- triggers of a partition that are switched off
ALTER TABLE orders_s DISABLE TRIGGER projections_capture;
INSERT INTO orders VALUES (4, 's', 4);
SELECT * FROM stale();
SELECT object, problem, hint FROM projections.validate() WHERE severity = 'ERROR' AND problem !~ 'since' ORDER BY 1, 2;
SELECT projections.repair('sums') > 0 AS repaired;
SELECT projections.repair('big') > 0 AS repaired;
SELECT test.check('sums'), test.check('big');
INSERT INTO orders VALUES (5, 's', 5);
SELECT test.check('sums'), test.check('big');
ALTER TABLE orders_s DISABLE TRIGGER projections_capture_truncating;
TRUNCATE orders_s;
SELECT * FROM stale();
SELECT projections.repair(projection::text) > 0 AS repaired FROM stale();
INSERT INTO orders_s VALUES (5, 's', 5);
TRUNCATE orders_s;
SELECT test.check('sums'), test.check('big');

-- while event triggers are off: told by validate(), and by the next write
SET session_replication_role = replica;
CREATE TABLE orders_e PARTITION OF orders FOR VALUES IN ('e');
ALTER TABLE orders DETACH PARTITION orders_n;
RESET session_replication_role;
SELECT object, problem FROM projections.validate() WHERE severity = 'ERROR' ORDER BY 1, 2;
INSERT INTO orders VALUES (6, 'e', 6);
SELECT * FROM stale();
SELECT projections.repair(projection::text) > 0 AS repaired FROM stale();
SELECT object, problem FROM projections.validate() WHERE severity = 'ERROR' ORDER BY 1, 2;
TRUNCATE orders_e;
SELECT test.check('sums'), test.check('big');

-- DROP by other names than the partition's
CREATE SCHEMA other;
CREATE TABLE other.orders_x PARTITION OF orders FOR VALUES IN ('x');
INSERT INTO orders VALUES (7, 'x', 7);
DROP SCHEMA other CASCADE;
SELECT * FROM stale();
SELECT projections.repair(projection::text) > 0 AS repaired FROM stale();
SELECT test.check('sums'), test.check('big');

-- DETACH CONCURRENTLY
INSERT INTO orders VALUES (8, 'e', 8);
ALTER TABLE orders DETACH PARTITION orders_e CONCURRENTLY;
SELECT * FROM stale();
SELECT projections.repair(projection::text) > 0 AS repaired FROM stale();
SELECT test.check('sums'), test.check('big');
SELECT tgname FROM pg_trigger WHERE tgrelid IN ('orders_e'::regclass, 'orders_n'::regclass) AND NOT tgisinternal ORDER BY 1;
ALTER TABLE orders ATTACH PARTITION orders_e FOR VALUES IN ('e');
SELECT test.check('sums'), test.check('big');

-- renamed, with other columns, and a table that is part of nothing any more
ALTER TABLE orders ADD COLUMN note text;
ALTER TABLE orders RENAME COLUMN amount TO price;
ALTER TABLE orders_e RENAME TO orders_east;
INSERT INTO orders VALUES (9, 'e', 9, 'x');
ALTER TABLE orders DROP COLUMN note;
SELECT test.check('sums'), test.check('big');

-- rebuilt, altered and dropped
CALL projections.rebuild('sums');
CALL projections.rebuild('big');
CALL projections.alter('sums', query => 'SELECT region, count(*) AS n, sum(price) AS amount, max(id) AS latest FROM orders GROUP BY region');
DELETE FROM orders_east WHERE id = 9;
SELECT test.check('sums'), test.check('big');
DROP TABLE orders CASCADE;
SELECT * FROM stale();
SELECT count(*) AS left FROM projections_internal.projection;
DROP SCHEMA partitioned_ddl CASCADE;
