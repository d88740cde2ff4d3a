-- The extension goes only when nothing needs it, or by its name and CASCADE, which leaves projections as plain tables.
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
-- What else would take it along; each in a session that has not loaded the library.
SELECT extnamespace::regnamespace FROM pg_extension WHERE extname = 'pg_projections';
\c
SET client_min_messages = warning;
DROP EXTENSION plpgsql CASCADE;
\c
SET client_min_messages = warning;
DROP LANGUAGE plpgsql CASCADE;
CREATE ROLE regress_uninstaller SUPERUSER;
UPDATE pg_extension SET extowner = 'regress_uninstaller'::regrole WHERE extname = 'pg_projections';
INSERT INTO pg_shdepend SELECT d.oid, 'pg_extension'::regclass, e.oid, 0, 'pg_authid'::regclass, 'regress_uninstaller'::regrole, 'o'
    FROM pg_database d, pg_extension e WHERE d.datname = current_database() AND e.extname = 'pg_projections';
\c
SET client_min_messages = warning;
DROP OWNED BY regress_uninstaller;
DROP OWNED BY regress_uninstaller CASCADE;
BEGIN;
SAVEPOINT before;
DROP EXTENSION pg_projections CASCADE; -- on purpose, and undone
ROLLBACK TO before;
DROP OWNED BY regress_uninstaller CASCADE; -- says nothing of the extension
ROLLBACK;
DROP OWNED BY regress_uninstaller CASCADE; -- as above, in another transaction
SET client_min_messages = warning;
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
SELECT nspname FROM pg_namespace WHERE nspname LIKE 'projections%';
SELECT relname, relkind FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v') ORDER BY 1;
-- plain tables: written by anyone, maintained by nobody
INSERT INTO sales VALUES (5, 'a', 100);
UPDATE stock SET quantity = -1 WHERE item = 'b';
SELECT item, quantity FROM stock ORDER BY item;
SELECT quantity, n FROM amounts ORDER BY quantity;
-- Not only projections are kept: each is the only one there is.
CREATE EXTENSION pg_projections;
CREATE TABLE ticket (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, item text);
BEGIN;
SELECT projections.register_source('ticket', 'position');
SAVEPOINT registered;
DROP EXTENSION pg_projections;
ROLLBACK TO registered;
DROP EXTENSION plpgsql CASCADE;
ROLLBACK;
BEGIN;
SELECT FROM projections.append('order-1', 'placed', '{}');
SAVEPOINT appended;
DROP EXTENSION pg_projections;
ROLLBACK TO appended;
DROP EXTENSION plpgsql CASCADE;
ROLLBACK TO appended;
DELETE FROM projections.events;
DROP EXTENSION pg_projections; -- streams have versions
ROLLBACK;
BEGIN;
SELECT projections.create_subscription('mailer', 'projections.events');
SAVEPOINT subscribed;
DROP EXTENSION pg_projections;
ROLLBACK TO subscribed;
DROP EXTENSION plpgsql CASCADE;
ROLLBACK;
-- With nothing in it, it is dropped without a word; a schema of users' has nothing to do with it.
DROP SCHEMA public CASCADE;
SELECT count(*) FROM projections.definitions;
DROP EXTENSION pg_projections;
CREATE SCHEMA public;
CREATE TABLE sales (id int PRIMARY KEY, item text, quantity int);
INSERT INTO sales VALUES (1, 'a', 116), (2, 'b', 6);
DROP ROLE regress_uninstaller;
-- installed again, it starts afresh
CREATE EXTENSION pg_projections;
SELECT count(*) FROM projections.definitions;
SELECT projections.create('stock_again', 'SELECT item, sum(quantity) AS quantity FROM sales GROUP BY item');
INSERT INTO sales VALUES (6, 'c', 1);
SELECT item, quantity FROM stock_again ORDER BY item;
\c :tested_database
DROP DATABASE projections_uninstall;
