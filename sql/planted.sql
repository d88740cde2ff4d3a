-- The install script, and what it makes, binds to nothing that somebody has planted in a schema on the path.
CREATE DATABASE projections_planted;
\set tested_database :DBNAME
\c projections_planted
SET client_min_messages = error;
\set ECHO none
\i test/planted.sql
\set ECHO all
SET search_path = pg_catalog; -- for this test's own queries
SELECT count(*) > 3000 AS many FROM pg_operator WHERE oprnamespace = 'public'::regnamespace;
RESET search_path;
CREATE EXTENSION pg_projections;
SELECT * FROM bound_to_planted ORDER BY 1, 2;
SELECT DISTINCT * FROM mark ORDER BY 2;

-- Declared, written, looked at, repaired and dropped with what is planted first on the path, by a superuser.
SET search_path = public, pg_catalog;
CREATE TABLE orders (id int PRIMARY KEY, customer int, amount numeric(10,2));
CREATE TABLE visits (page text);
CREATE TABLE move (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, kind text, item text, quantity int);
SELECT projections.register_source('move', 'position', type_column => 'kind');
SELECT projections.create('revenue', 'SELECT customer, sum(amount) AS amount, max(amount) AS most FROM orders GROUP BY customer');
SELECT projections.create('pages', 'SELECT page, count(*) AS n FROM visits GROUP BY page', mode => 'async');
SELECT projections.create('items', 'SELECT item, sum(quantity) AS n FROM move GROUP BY item', mode => 'async', options => '{"slots": 2}');
SELECT projections.create_state_machine('state', 'move', 'item', '[{"from": null, "event": "in", "to": "here"}, {"from": "here", "event": "out", "to": "gone"}]');
INSERT INTO orders SELECT g, g % 3, g FROM generate_series(1, 10) g;
INSERT INTO visits SELECT 'page ' || (g % 3)::text FROM generate_series(1, 10) g;
INSERT INTO move (kind, item, quantity) SELECT 'in', 'item ' || g::text, 1 FROM generate_series(1, 5) g;
SELECT projections.append('stream', 'type', '{}') IS NOT NULL AS appended;
DO $$ BEGIN PERFORM projections.catch_up(); END $$;
TRUNCATE mark; -- the statements above are the session's own
SELECT count(*) FROM projections.status;
SELECT count(*) FROM projections.health();
SELECT count(*) FROM projections.definitions;
SELECT count(*) FROM projections.checkpoints;
SELECT count(*) > 0 AS any FROM projections.validate();
SELECT count(*) FROM projections.orphans();
SELECT count(*) > 0 AS any FROM projections.metrics();
SELECT count(*) FROM projections.verify('revenue');
SELECT count(*) FROM projections.verify('items');
SELECT projections.pause('revenue', 'why');
UPDATE orders SET amount = 7 WHERE id = 1;
SELECT projections.resume('revenue');
SELECT projections.repair('revenue');
CALL projections.rebuild('pages');
SELECT projections.reset('items');
DO $$ BEGIN PERFORM projections.catch_up(); END $$;
CALL projections.alter('items', options => '{"slots": 1}');
SELECT projections.wait_for('items');
SELECT count(*) FROM projections.throughput;
SELECT count(*) > 0 AS any FROM projections.audit_log;
SELECT projections.drop('state');
SELECT DISTINCT * FROM mark ORDER BY 2;
\c :tested_database
DROP DATABASE projections_planted;

-- The same for an update, of a version that was there before anything was planted; and for the way back.
CREATE DATABASE projections_planted_later;
\c projections_planted_later
SET client_min_messages = error;
CREATE EXTENSION pg_projections VERSION '0.2.0';
\set ECHO none
\i test/planted.sql
\set ECHO all
RESET search_path;
ALTER EXTENSION pg_projections UPDATE TO '0.3.0';
SELECT * FROM bound_to_planted ORDER BY 1, 2;
SELECT DISTINCT * FROM mark ORDER BY 2;
ALTER EXTENSION pg_projections UPDATE TO '0.2.0';
SELECT DISTINCT * FROM mark ORDER BY 2;
\c :tested_database
DROP DATABASE projections_planted_later;
