-- validate(): each kind of breakage is reported with SQL that mends it when it is followed literally. In a database of
-- its own, as it tells of everything in the database.
CREATE DATABASE projections_validate;
\set tested_database :DBNAME
\c projections_validate
\set SHOW_CONTEXT never
\set VERBOSITY terse
SET client_min_messages = error;
CREATE EXTENSION pg_projections;
\set ECHO none
\i test/oracle.sql
\set ECHO all
CREATE ROLE regress_validate_owner;
CREATE ROLE regress_validate_monitor IN ROLE pg_monitor;
CREATE ROLE regress_validate_other;
GRANT ALL ON SCHEMA public TO regress_validate_owner;
-- Whether the server runs workers is not of this test.
CREATE VIEW problems AS SELECT severity, object, problem, hint FROM projections.validate() WHERE object NOT IN ('shared_preload_libraries', 'pg_projections.workers', 'max_worker_processes');
-- Nothing there is nothing wrong.
SELECT * FROM problems;

SET ROLE regress_validate_owner;
CREATE TABLE orders (id int PRIMARY KEY, customer int, amount numeric(10,2));
CREATE TABLE customers (id int PRIMARY KEY, country text);
CREATE TABLE visits (page text);
CREATE TABLE events (seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, kind text, item text, quantity int);
CREATE TABLE arriving (seq bigint PRIMARY KEY, item text, quantity int);
CREATE TABLE received (item text);
CREATE FUNCTION public.doubled(numeric) RETURNS numeric IMMUTABLE LANGUAGE sql RETURN $1 * 2;
CREATE FUNCTION public.fold(state jsonb, event events, key text) RETURNS jsonb IMMUTABLE LANGUAGE plpgsql AS
    $$ BEGIN RETURN to_jsonb(coalesce((state #>> '{}')::int, 0) + event.quantity); END $$;
CREATE FUNCTION public.receive(event events) RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO received VALUES (event.item); END $$;
CREATE FUNCTION public.mourn(failure bigint) RETURNS void LANGUAGE plpgsql AS $$ BEGIN END $$;
SELECT projections.register_source('events', 'seq', type_column => 'kind');
SELECT projections.register_source('arriving', 'seq', capture => 'trigger');
SELECT projections.create('by_customer', 'SELECT customer, sum(doubled(amount)) AS amount FROM orders GROUP BY customer');
SELECT projections.create('by_country', 'SELECT c.country, sum(o.amount) AS amount FROM orders o JOIN customers c ON c.id = o.customer GROUP BY c.country');
SELECT projections.create('joined', 'SELECT o.amount, c.country FROM orders o JOIN customers c ON c.id = o.customer');
SELECT projections.create('pages', 'SELECT page FROM visits');
SELECT projections.create('total', 'SELECT sum(amount) AS amount FROM by_customer');
SELECT projections.create('logged', 'SELECT customer, count(*) AS n FROM orders GROUP BY customer', mode => 'async');
SELECT projections.create('stock', 'SELECT item, sum(quantity) AS quantity FROM events GROUP BY item', mode => 'async', options => '{"slots": 2}');
SELECT projections.create('arrived', 'SELECT item, sum(quantity) AS quantity FROM arriving GROUP BY item', mode => 'async');
SELECT projections.create_reducer('balance', 'events', 'item', 'fold(jsonb, events, text)', options => '{"on_dead_letter": "public.mourn(bigint)"}');
SELECT projections.create_handler('received', 'events', 'receive(events)', '{received}', mode => 'inline');
RESET ROLE;
INSERT INTO customers VALUES (1, 'a'), (2, 'b');
INSERT INTO orders VALUES (1, 1, 10), (2, 2, 20), (3, 1, 30);
INSERT INTO visits VALUES ('x'), ('x'), ('y');
INSERT INTO events (kind, item, quantity) VALUES ('in', 'i', 1), ('in', 'j', 2);
INSERT INTO arriving VALUES (7, 'i', 1), (3, 'j', 2);
SELECT projections.catch_up() > 0 AS applied;
SELECT * FROM problems;
-- The oracle, and what is in step with its source.
CREATE VIEW equal AS SELECT (SELECT count(*) FROM test.check_all()) AS checked, (SELECT jsonb_object_agg(key, state) FROM balance) AS balance;
SELECT * FROM equal;

--
-- settings
--
SELECT severity, problem FROM projections.validate() WHERE object = 'pg_projections.workers' AND current_setting('pg_projections.workers') <> '0';
SET pg_projections.allow_direct_writes = on; -- here only: nothing to tell
SELECT * FROM problems;
RESET pg_projections.allow_direct_writes;
ALTER DATABASE projections_validate SET pg_projections.allow_direct_writes = on;
\c
SET client_min_messages = error;
SELECT * FROM problems;
SELECT hint FROM problems \gexec
\c
SET client_min_messages = error;
SELECT * FROM problems;

--
-- triggers of sources and projections: with the event triggers off, as a careless superuser has it
--
ALTER EVENT TRIGGER projections_after_drop DISABLE;
ALTER EVENT TRIGGER projections_after_ddl DISABLE;
DROP EVENT TRIGGER projections_before_ddl; -- no: the extension needs it
ALTER EXTENSION pg_projections DROP EVENT TRIGGER projections_before_ddl;
DROP EVENT TRIGGER projections_before_ddl;
SELECT severity, object, problem FROM problems;
\set repair SELECT hint FROM problems \\gexec
SELECT hint FROM problems \gexec
SELECT * FROM problems;
SELECT evtname, evtenabled, evttags, d.deptype FROM pg_event_trigger e JOIN pg_depend d ON d.objid = e.oid AND d.deptype = 'e' ORDER BY 1;

ALTER EVENT TRIGGER projections_after_drop DISABLE;
ALTER EVENT TRIGGER projections_after_ddl DISABLE;
DROP TRIGGER projections_capture ON orders;
ALTER TABLE orders DISABLE TRIGGER projections_capture_truncate;
ALTER TABLE customers ENABLE REPLICA TRIGGER projections_capture;
ALTER TABLE visits ENABLE TRIGGER projections_capture;
ALTER TABLE visits DISABLE TRIGGER ALL;
ALTER TABLE visits ENABLE TRIGGER ALL; -- a restore of the data without triggers
ALTER TABLE total DISABLE TRIGGER projections_guard;
DROP TRIGGER projections_guard_truncate ON total;
CREATE TRIGGER projections_guard_truncate AFTER TRUNCATE ON total EXECUTE FUNCTION projections.guard();
ALTER TABLE projections.projection ENABLE TRIGGER announce_change;
ALTER TABLE projections.slot DISABLE TRIGGER refuse_regression;
ALTER TABLE arriving DISABLE TRIGGER projections_arrival;
-- What goes by unseen meanwhile.
INSERT INTO orders VALUES (4, 2, 40);
UPDATE total SET amount = 0;
INSERT INTO arriving VALUES (9, 'i', 10);
SELECT * FROM problems;
SELECT hint FROM problems \gexec
SELECT * FROM problems;
SELECT projections.catch_up() > 0 AS applied;
SELECT * FROM equal;
