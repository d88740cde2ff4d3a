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
DO $$ BEGIN PERFORM projections.catch_up(); END $$;
SELECT * FROM problems;
-- The oracle, and what is in step with its source.
CREATE VIEW equal AS SELECT (SELECT equal FROM test.check_all()) AS checked, (SELECT jsonb_object_agg(key, state) FROM balance) AS balance;
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
CREATE TRIGGER projections_guard_truncate AFTER TRUNCATE ON total EXECUTE FUNCTION projections_internal.guard();
ALTER TABLE projections_internal.projection ENABLE TRIGGER announce_change;
ALTER TABLE projections_internal.slot DISABLE TRIGGER refuse_regression;
ALTER TABLE arriving DISABLE TRIGGER projections_arrival;
-- What goes by unseen meanwhile.
INSERT INTO orders VALUES (4, 2, 40);
UPDATE total SET amount = 0;
INSERT INTO arriving VALUES (9, 'i', 10);
SELECT * FROM problems;
SELECT hint FROM problems \gexec
SELECT * FROM problems;
DO $$ BEGIN PERFORM projections.catch_up(); END $$;
SELECT * FROM equal;

--
-- definitions: what they use is gone, or out of the owner's reach
--
REVOKE SELECT ON customers FROM regress_validate_owner;
REVOKE SELECT ON events FROM regress_validate_owner;
REVOKE EXECUTE ON FUNCTION doubled(numeric) FROM PUBLIC, regress_validate_owner;
REVOKE EXECUTE ON FUNCTION fold(jsonb, events, text) FROM PUBLIC, regress_validate_owner;
REVOKE INSERT, UPDATE, DELETE ON received FROM regress_validate_owner;
SELECT * FROM problems;
SELECT hint FROM problems \gexec
SELECT * FROM problems;
-- a function that is gone by force, or with nothing to tell that it was needed
SET ROLE regress_validate_owner;
CREATE FUNCTION public.lost(numeric) RETURNS numeric IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN $1; END $$;
CREATE FUNCTION public.lost_handler(event events) RETURNS void LANGUAGE plpgsql AS $$ BEGIN END $$;
SELECT projections.create('losing', 'SELECT customer, sum(lost(amount)) AS amount FROM orders GROUP BY customer');
SELECT projections.create_handler('losing_handler', 'events', 'lost_handler(events)', '{received}');
RESET ROLE;
SET allow_system_table_mods = on;
DELETE FROM pg_proc WHERE oid = 'lost(numeric)'::regprocedure;
RESET allow_system_table_mods;
DROP FUNCTION lost_handler(events);
DROP FUNCTION mourn(bigint);
SELECT * FROM problems;
SELECT hint FROM problems \gexec
SELECT * FROM problems;
SELECT count(*) AS kept FROM losing;
DROP TABLE losing;

--
-- indexes
--
SET allow_system_table_mods = on;
UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'by_country_country_idx'::regclass;
UPDATE pg_index SET indisunique = false WHERE indexrelid = 'by_customer_customer_idx'::regclass;
RESET allow_system_table_mods;
SET session_replication_role = replica; -- no event triggers
ALTER TABLE balance DROP CONSTRAINT balance_pkey;
RESET session_replication_role;
DO $$ BEGIN EXECUTE (SELECT format('DROP INDEX %s', indexrelid::regclass) FROM pg_index WHERE indrelid = 'pages'::regclass); END $$;
SELECT * FROM problems;
SELECT hint FROM problems \gexec
SELECT * FROM problems;
SELECT * FROM equal;

--
-- what the event triggers refuse
--
ALTER EVENT TRIGGER projections_after_drop DISABLE;
ALTER EVENT TRIGGER projections_after_ddl DISABLE;
CREATE TABLE parent (customer int, n bigint);
CREATE TABLE countries (country text PRIMARY KEY);
INSERT INTO countries VALUES ('a'), ('b');
CREATE FUNCTION hush() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER hushed BEFORE INSERT ON by_country FOR EACH ROW EXECUTE FUNCTION hush();
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON by_country DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION hush();
ALTER TABLE by_country ADD CONSTRAINT late_key FOREIGN KEY (country) REFERENCES countries DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE by_country ADD CONSTRAINT late_unique UNIQUE (amount) DEFERRABLE INITIALLY DEFERRED;
CREATE RULE diverted AS ON INSERT TO total DO INSTEAD NOTHING;
ALTER TABLE balance SET UNLOGGED;
ALTER TABLE logged INHERIT parent;
ALTER TABLE arrived ALTER quantity TYPE numeric;
SELECT * FROM problems WHERE object NOT LIKE 'event trigger%';
-- sources
CREATE TABLE visits_too () INHERITS (visits);
INSERT INTO visits_too VALUES ('unseen');
ALTER TABLE customers ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE customers DROP CONSTRAINT customers_pkey;
ALTER TABLE received SET UNLOGGED; -- a handler's own
CREATE UNLOGGED TABLE empty (id int);
ALTER TABLE customers SET UNLOGGED;
SELECT * FROM problems WHERE object IN ('public.visits', 'public.visits_too', 'public.customers', 'public.joined') OR problem LIKE '%row-level%';
SELECT hint FROM problems \gexec
SELECT * FROM problems;
DO $$ BEGIN PERFORM projections.catch_up(); END $$;
SELECT * FROM equal;

--
-- event sources
--
ALTER EVENT TRIGGER projections_after_drop DISABLE;
ALTER EVENT TRIGGER projections_after_ddl DISABLE;
ALTER TABLE events ALTER seq DROP IDENTITY;
DO $$ BEGIN EXECUTE (SELECT format('ALTER SEQUENCE %s CACHE 20 CYCLE', sequence) FROM projections_internal.source WHERE relation = 'arriving'::regclass); END $$;
ALTER TABLE events RENAME kind TO type;
SELECT * FROM problems WHERE object NOT LIKE 'event trigger%';
SELECT hint FROM problems \gexec
SELECT * FROM problems;
INSERT INTO events (type, item, quantity) VALUES ('in', 'j', 20);
DO $$ BEGIN PERFORM projections.catch_up(); END $$;
SELECT * FROM equal;
ALTER EVENT TRIGGER projections_after_ddl DISABLE;
ALTER TABLE events ALTER seq SET CACHE 5;
ALTER EVENT TRIGGER projections_after_ddl ENABLE;
SELECT * FROM problems;
SELECT hint FROM problems \gexec
DELETE FROM projections_internal.source WHERE relation = 'events'::regclass;
SELECT * FROM problems;
SELECT hint FROM problems \gexec
SELECT * FROM problems;

--
-- what is kept beside a projection
--
UPDATE projections_internal.projection SET stale_since = '2026-01-02 03:04:05', stale_reason = 'for the test' WHERE relation = 'by_customer'::regclass;
DELETE FROM projections_internal.slot WHERE projection = 'stock'::regclass AND slot = 1;
SET ROLE regress_validate_owner;
SELECT projections.pause('balance', 'counting');
RESET ROLE;
SELECT * FROM problems WHERE object = 'public.balance';
UPDATE projections_internal.projection SET paused_at = '2026-01-02 03:04:05' WHERE relation = 'balance'::regclass;
UPDATE projections_internal.projection SET building = true WHERE relation = 'pages'::regclass;
ALTER VIEW projections_internal.by_country_definition OWNER TO regress_validate_other;
ALTER EVENT TRIGGER projections_after_drop DISABLE;
DROP TABLE projections_internal.logged_changes;
ALTER EVENT TRIGGER projections_after_drop ENABLE;
SELECT regexp_replace(hint, '; SELECT projections.create.*', '; SELECT projections.create…') AS hint, severity, object, problem FROM problems;
DROP TABLE empty; -- other things can be dropped all the same
SELECT hint FROM problems \gexec
SELECT * FROM problems;
DO $$ BEGIN PERFORM projections.catch_up(); END $$;
SELECT * FROM equal;
-- a definition, a source or a table gone by force
ALTER EVENT TRIGGER projections_after_drop DISABLE;
CREATE TABLE gone_source (id int PRIMARY KEY, a int);
SELECT projections.create('no_definition', 'SELECT a, count(*) AS n FROM gone_source GROUP BY a');
SELECT projections.create('no_source', 'SELECT a, sum(id) AS n FROM gone_source GROUP BY a');
SELECT projections.create('no_table', 'SELECT a, max(id) AS n FROM orders JOIN gone_source USING (id) GROUP BY a');
DROP VIEW projections_internal.no_definition_definition;
DROP TABLE no_table;
DROP TABLE gone_source CASCADE;
ALTER EVENT TRIGGER projections_after_drop ENABLE;
SELECT severity, regexp_replace(object, '\d+', 'N') AS object, regexp_replace(problem, '\d+', 'N') AS problem, hint FROM problems;
\pset tuples_only on
SELECT kind, regexp_replace(object, '\d+', 'N'), action FROM projections.cleanup_orphans();
\pset tuples_only off
SELECT * FROM problems;
DROP TABLE no_definition, no_source;

--
-- publications
--
SET client_min_messages = error; -- wal_level
CREATE PUBLICATION everything FOR ALL TABLES WITH (publish = 'insert, update');
CREATE PUBLICATION hidden FOR TABLES IN SCHEMA projections_internal, public;
CREATE PUBLICATION one FOR TABLE orders, projections.events, projections_internal.slot, projections_internal.logged_changes;
CREATE PUBLICATION events FOR TABLES IN SCHEMA projections;
CREATE PUBLICATION fine FOR TABLE orders, by_customer, projections.events;
SELECT * FROM problems;
SELECT hint FROM problems \gexec
SELECT * FROM problems;
SELECT p.pubname, p.puballtables, p.pubinsert, p.pubdelete, array_agg(DISTINCT t.schemaname::text ORDER BY t.schemaname::text) FROM pg_publication p JOIN pg_publication_tables t USING (pubname) GROUP BY 1, 2, 3, 4 ORDER BY 1;
DROP PUBLICATION everything, hidden, one, fine;

--
-- a table of somebody's in our schema
--
CREATE TABLE projections.mine (id int);
SELECT * FROM problems;
SELECT hint FROM problems \gexec
SELECT * FROM problems;
DROP TABLE public.mine;

--
-- versions
--
SELECT extversion AS version FROM pg_extension WHERE extname = 'pg_projections' \gset
UPDATE projections_internal.projection SET stale_since = now(), stale_reason = 'for the test' WHERE relation = 'total'::regclass;
UPDATE pg_extension SET extversion = '0.0.1' WHERE extname = 'pg_projections';
SELECT severity, object, replace(problem, :'version', 'X') AS problem, hint FROM problems; -- and nothing that a wrong library says
UPDATE pg_extension SET extversion = :'version' WHERE extname = 'pg_projections';
\c
SET client_min_messages = error;
SELECT object, hint FROM problems;
SELECT hint FROM problems \gexec

--
-- required, raise
--
SELECT * FROM projections.validate(required => ARRAY['stock', 'public.total', 'projections_internal.logged_changes', 'orders', 'nowhere.to_be_found', '"Odd"'])
WHERE severity = 'ERROR';
SET search_path = pg_catalog;
SELECT object FROM projections.validate(required => ARRAY['stock', 'public.stock']) WHERE severity = 'ERROR';
RESET search_path;
SELECT * FROM projections.validate(required => ARRAY['stock', NULL]);
SELECT * FROM projections.validate(required => ARRAY['not.a.rel.name']);
SELECT count(*) AS errors FROM projections.validate(raise => true) WHERE severity = 'ERROR';
UPDATE projections_internal.projection SET stale_since = '2026-01-02 03:04:05', stale_reason = 'for the test' WHERE relation = 'by_customer'::regclass;
\set VERBOSITY default
SELECT * FROM projections.validate(required => ARRAY['nowhere'], raise => true);
SELECT * FROM projections.validate(raise => true);
\set VERBOSITY terse

--
-- who sees what: members of pg_monitor all, others what they own and what concerns everybody
--
CREATE TABLE theirs (id int PRIMARY KEY);
SELECT projections.create('other_stale', 'SELECT count(*) AS n FROM theirs');
UPDATE projections_internal.projection SET stale_since = '2026-01-02 03:04:05', stale_reason = 'for the test' WHERE relation = 'other_stale'::regclass;
SET ROLE regress_validate_owner;
SELECT object, problem FROM projections.validate() WHERE severity = 'ERROR';
SET ROLE regress_validate_monitor;
SELECT object, problem FROM projections.validate() WHERE severity = 'ERROR';
SET ROLE regress_validate_other;
SELECT object, problem FROM projections.validate() WHERE severity = 'ERROR';
SELECT object FROM projections.validate(required => ARRAY['by_customer', 'absent']) WHERE severity = 'ERROR';
RESET ROLE;
-- the owner mends what is his
SET ROLE regress_validate_owner;
SELECT hint FROM projections.validate() WHERE severity = 'ERROR' \gexec
SELECT object, problem FROM projections.validate() WHERE severity = 'ERROR';
RESET ROLE;
SELECT hint FROM problems \gexec
SELECT * FROM problems;

\c :tested_database
DROP DATABASE projections_validate;
DROP ROLE regress_validate_owner, regress_validate_monitor, regress_validate_other;
