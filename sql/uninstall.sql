-- The extension goes only when its projections do, or by CASCADE, which leaves them as plain tables.
CREATE DATABASE projections_uninstall;
\set tested_database :DBNAME
\c projections_uninstall
CREATE EXTENSION pg_projections;
SET client_min_messages = warning;
CREATE TABLE sales (id int PRIMARY KEY, item text, quantity int);
INSERT INTO sales VALUES (1, 'a', 5), (2, 'b', 6);
SELECT projections.create('stock', 'SELECT item, sum(quantity) AS quantity FROM sales GROUP BY item');
SELECT projections.create('amounts', 'SELECT quantity, count(*) AS n FROM stock GROUP BY quantity');
DROP EXTENSION pg_projections;
DROP SCHEMA projections;
DROP SCHEMA projections CASCADE;
INSERT INTO sales VALUES (3, 'a', 1);
SELECT item, quantity FROM stock ORDER BY item;
BEGIN;
INSERT INTO sales VALUES (4, 'a', 1);
DROP EXTENSION pg_projections CASCADE;
ROLLBACK;
INSERT INTO sales VALUES (4, 'a', 10);
SELECT item, quantity FROM stock ORDER BY item;
DROP EXTENSION pg_projections CASCADE;
SELECT tgname FROM pg_trigger WHERE NOT tgisinternal;
SELECT evtname FROM pg_event_trigger;
SELECT nspname FROM pg_namespace WHERE nspname = 'projections';
SELECT relname, relkind FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v') ORDER BY 1;
-- plain tables: written by anyone, maintained by nobody
INSERT INTO sales VALUES (5, 'a', 100);
UPDATE stock SET quantity = -1 WHERE item = 'b';
SELECT item, quantity FROM stock ORDER BY item;
SELECT quantity, n FROM amounts ORDER BY quantity;
-- installed again, it starts afresh
CREATE EXTENSION pg_projections;
SELECT count(*) FROM projections.definitions;
SELECT projections.create('stock_again', 'SELECT item, sum(quantity) AS quantity FROM sales GROUP BY item');
INSERT INTO sales VALUES (6, 'c', 1);
SELECT item, quantity FROM stock_again ORDER BY item;
\c :tested_database
DROP DATABASE projections_uninstall;
