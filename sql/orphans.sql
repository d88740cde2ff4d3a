-- orphans() and cleanup_orphans(): every kind is produced, told, and removed, and nothing else is. In a database of its own.
CREATE DATABASE projections_orphans;
\set tested_database :DBNAME
\c projections_orphans
\set SHOW_CONTEXT never
\set VERBOSITY terse
SET client_min_messages = error;
CREATE EXTENSION pg_projections;
\set ECHO none
\i test/oracle.sql
\set ECHO all
CREATE ROLE regress_orphans_owner;
CREATE ROLE regress_orphans_reader;
CREATE ROLE regress_orphans_other;
CREATE ROLE regress_orphans_monitor IN ROLE pg_monitor;
GRANT ALL ON SCHEMA public TO regress_orphans_owner, regress_orphans_reader;
CREATE VIEW left_behind AS SELECT kind, regexp_replace(object, 'relation \d+', 'relation N') AS object, since IS NOT NULL AS dated,
    regexp_replace(reason, 'pid \d+', 'pid N') AS reason FROM projections.orphans();
SELECT * FROM left_behind;

SET ROLE regress_orphans_owner;
CREATE TABLE orders (id int PRIMARY KEY, customer int, amount int);
CREATE TABLE events (seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, kind text, item text, at timestamptz);
CREATE TABLE arriving (seq bigint PRIMARY KEY, item text);
CREATE TABLE received (item text);
CREATE FUNCTION fold(state jsonb, event events, key text) RETURNS jsonb IMMUTABLE LANGUAGE sql AS $$ SELECT to_jsonb(event.kind) $$;
CREATE FUNCTION receive(event events) RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO received VALUES (event.item); END $$;
SELECT projections.register_source('events', 'seq', type_column => 'kind', time_column => 'at');
SELECT projections.register_source('arriving', 'seq', capture => 'trigger');
SELECT projections.create('by_customer', 'SELECT customer, sum(amount) AS amount FROM orders GROUP BY customer');
SELECT projections.create('logged', 'SELECT customer, count(*) AS n FROM orders GROUP BY customer', mode => 'async');
SELECT projections.create('items', 'SELECT item, count(*) AS n FROM arriving GROUP BY item', mode => 'async');
SELECT projections.create_reducer('latest', 'events', 'item', 'fold(jsonb, events, text)');
SELECT projections.create_handler('receiver', 'events', 'receive(events)', '{received}');
SELECT projections.create_subscription('reader', 'events');
RESET ROLE;
GRANT SELECT ON events TO regress_orphans_reader;
SET ROLE regress_orphans_reader;
SELECT projections.create_subscription('leaver', 'events');
RESET ROLE;
INSERT INTO orders VALUES (1, 1, 10), (2, 2, 20);
INSERT INTO events (kind, item, at) VALUES ('in', 'i', now());
INSERT INTO arriving VALUES (4, 'i');
DO $$ BEGIN PERFORM projections.catch_up(); END $$;
-- All of it is in use.
SELECT * FROM left_behind;

--
-- each kind, made with the event triggers off
--
ALTER EVENT TRIGGER projections_after_drop DISABLE;
ALTER EVENT TRIGGER projections_after_ddl DISABLE;
-- a superuser's own, with names like ours, also one that says what it is
CREATE TABLE projections_internal.by_customer_changes (change bigint, weight bigint);
CREATE TABLE projections_internal.stock_shadow AS SELECT 1 AS keep;
CREATE VIEW projections_internal.stock_definition AS SELECT 1 AS keep;
CREATE TABLE projections_internal.copied (LIKE projections_internal.logged_changes INCLUDING ALL);
COMMENT ON TABLE projections_internal.stock_shadow IS 'the projections of: pg_projections: shadow of stock';
CREATE TABLE public.stock_shadow (id int);
COMMENT ON TABLE public.stock_shadow IS 'pg_projections: shadow of stock';
CREATE FUNCTION public.capture() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER projections_capture AFTER INSERT ON public.stock_shadow EXECUTE FUNCTION public.capture();
CREATE VIEW public.my_checkpoints AS SELECT * FROM projections_internal.slot;
SELECT * FROM left_behind;

-- triggers: as a restore of some tables brings them
CREATE TABLE plain (id int);
CREATE TRIGGER projections_capture AFTER INSERT OR UPDATE OR DELETE ON plain FOR EACH ROW EXECUTE FUNCTION projections_internal.capture();
CREATE TRIGGER projections_capture_truncate AFTER TRUNCATE ON plain EXECUTE FUNCTION projections_internal.capture();
CREATE TRIGGER projections_guard BEFORE INSERT OR UPDATE OR DELETE ON plain FOR EACH ROW EXECUTE FUNCTION projections_internal.guard();
CREATE TRIGGER projections_guard_truncate BEFORE TRUNCATE ON plain EXECUTE FUNCTION projections_internal.guard();
CREATE TRIGGER projections_arrival AFTER INSERT ON plain FOR EACH ROW EXECUTE FUNCTION projections_internal._note_arrival('none', 'id');
SELECT * FROM left_behind;
SELECT * FROM projections.cleanup_orphans();
SELECT * FROM left_behind;
SELECT tgname FROM pg_trigger WHERE tgrelid = 'plain'::regclass;

-- what hides in our schema, when the catalog's rows are gone
BEGIN;
DELETE FROM projections_internal.projection;
DELETE FROM projections_internal.subscription;
DELETE FROM projections_internal.source WHERE relation = 'arriving'::regclass;
SELECT * FROM left_behind;
SELECT kind, object, action FROM projections.cleanup_orphans();
SELECT * FROM left_behind;
SELECT relname FROM pg_class c WHERE relnamespace = 'projections_internal'::regnamespace AND relkind IN ('r', 'v')
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e') ORDER BY 1;
SELECT count(*) AS kept FROM by_customer;
ROLLBACK;
SELECT * FROM left_behind;

-- the schema of a handler's shadows; one that only has such a name is not ours
CREATE SCHEMA receiver_shadow;
CREATE TABLE receiver_shadow.received (item text);
COMMENT ON SCHEMA receiver_shadow IS 'pg_projections: shadow of public.receiver';
CREATE SCHEMA other_shadow;
CREATE TABLE other_shadow.received (item text);
CREATE SCHEMA empty_shadow;
COMMENT ON SCHEMA empty_shadow IS 'pg_projections: shadow of public.receiver';
SELECT * FROM left_behind;
SELECT kind, object, action FROM projections.cleanup_orphans();
SELECT * FROM left_behind;
SELECT nspname FROM pg_namespace WHERE nspname LIKE '%\_shadow';

-- rows about a projection that is gone
INSERT INTO projections_internal.checkpoint_change (projection, slot, position, reason) VALUES (4000000001, 0, 1, 'test');
INSERT INTO projections_internal.failure (projection, slot, position, keys, error, sqlstate, category) VALUES (4000000001, 0, 1, '{}', 'e', '22012', 'data');
INSERT INTO projections_internal.parked_event (projection, slot, position, keys) VALUES (4000000001, 0, 2, '{}'), (4000000001, 0, 3, '{}');
INSERT INTO projections_internal.override (projection, key, position, reason) VALUES (4000000001, 'k', 1, 'test');
INSERT INTO projections_internal.transition (projection, key, to_state, position) VALUES (4000000001, 'k', 's', 1);
INSERT INTO projections_internal.slot (projection, slot) VALUES (4000000001, 0);
INSERT INTO projections_internal.rebuild_request (projection, requested_by) VALUES (4000000001, 'somebody');
SELECT * FROM left_behind;
SELECT kind, regexp_replace(object, '\d+$', 'N') AS object, action FROM projections.cleanup_orphans();
SELECT * FROM left_behind;

-- a table gone, a source gone, a definition gone, an event source gone, an owner gone
SET ROLE regress_orphans_owner;
CREATE TABLE visits (page text, at int);
CREATE TABLE doomed (seq bigint PRIMARY KEY, item text);
SELECT projections.register_source('doomed', 'seq', capture => 'trigger');
SELECT projections.create_subscription('doomed reader', 'doomed');
SELECT projections.create('no_table', 'SELECT page, count(*) AS n FROM visits GROUP BY page', mode => 'async');
SELECT projections.create('no_definition', 'SELECT page, max(at) AS n FROM visits GROUP BY page');
SELECT projections.create('no_source', 'SELECT item, count(*) AS n FROM doomed GROUP BY item');
RESET ROLE;
INSERT INTO visits VALUES ('x', 1);
INSERT INTO doomed VALUES (1, 'i');
DROP TABLE no_table;
DROP VIEW projections_internal.no_definition_definition;
DROP TABLE doomed CASCADE;
REVOKE ALL ON events FROM regress_orphans_reader;
REVOKE ALL ON SCHEMA public FROM regress_orphans_reader;
DROP ROLE regress_orphans_reader;
SELECT * FROM left_behind;
SELECT kind, regexp_replace(object, 'relation \d+', 'relation N') AS object, action FROM projections.cleanup_orphans();
SELECT * FROM left_behind;
SELECT c.relname, array_agg(t.tgname) AS triggers FROM pg_class c LEFT JOIN pg_trigger t ON t.tgrelid = c.oid
WHERE c.relname IN ('visits', 'no_definition', 'no_source') GROUP BY 1 ORDER BY 1;
SELECT * FROM no_definition, no_source;
ALTER EVENT TRIGGER projections_after_drop ENABLE;
ALTER EVENT TRIGGER projections_after_ddl ENABLE;

--
-- shadows: of a rebuild that died, of one that runs, of a projection that is gone
--
CREATE FUNCTION make_shadow(original regclass, name text, pid int, backend_start timestamptz) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TABLE projections_internal.%I AS SELECT * FROM %s', name, original);
    EXECUTE format('COMMENT ON TABLE projections_internal.%I IS %L', name, 'pg_projections: shadow of ' || original);
    EXECUTE format('CREATE VIEW projections_internal.%I AS %s', name || '_definition', pg_get_viewdef((SELECT p.definition FROM projections_internal.projection p WHERE p.relation = original)));
    EXECUTE format('COMMENT ON VIEW projections_internal.%I IS %L', name || '_definition', 'pg_projections: definition of ' || original);
    INSERT INTO projections_internal.projection (relation, definition, mode, user_columns, shape, sources, settings, shadow_of)
    SELECT ('projections_internal.' || name)::regclass, ('projections_internal.' || name || '_definition')::regclass, mode, user_columns, shape, sources, settings, relation
    FROM projections_internal.projection WHERE relation = original;
    INSERT INTO projections_internal.rebuild (projection, action, shadow, phase, pid, backend_start, started_by)
    VALUES (original, 'rebuild', ('projections_internal.' || name)::regclass, 'copying', pid, backend_start, 'regress_orphans_owner');
END
$$;
BEGIN;
-- a process of that number that does not hold the lock is another process
SELECT make_shadow('by_customer', 'by_customer_shadow', pg_backend_pid(), '2026-01-01');
SELECT * FROM left_behind;
SELECT kind, object, action, holder_pid, holder_user FROM projections.cleanup_orphans();
SELECT * FROM left_behind;
SELECT outcome, ended_at IS NOT NULL AS ended, shadow FROM projections_internal.rebuild;
SELECT to_regclass('projections_internal.by_customer_shadow') AS shadow, to_regclass('projections_internal.by_customer_shadow_definition') AS definition;
ROLLBACK;
BEGIN;
SELECT make_shadow('by_customer', 'by_customer_shadow', pid, backend_start), projections_internal._hold_off_rebuild('by_customer'::regclass)
FROM pg_stat_activity WHERE pid = pg_backend_pid();
SELECT * FROM left_behind;
SELECT kind, object, action, holder_pid = pg_backend_pid() AS pid, holder_user, holder_since IS NOT NULL AS since, holder_phase FROM projections.cleanup_orphans();
SELECT count(*) AS kept FROM projections_internal.by_customer_shadow;
ROLLBACK;
BEGIN;
-- nothing that is left has its original
SELECT make_shadow('by_customer', 'by_customer_shadow', 1, '2026-01-01');
DELETE FROM projections_internal.projection WHERE relation = 'by_customer'::regclass;
ALTER TABLE projections_internal.by_customer_shadow OWNER TO regress_orphans_owner;
SELECT * FROM left_behind;
SELECT kind, object, action FROM projections.cleanup_orphans();
SELECT * FROM left_behind;
ROLLBACK;
-- a rebuild without a shadow
INSERT INTO projections_internal.rebuild (projection, action, phase, pid, backend_start, started_by) VALUES ('by_customer', 'rebuild', 'comparing', 1, '2026-01-01', 'somebody');
SELECT * FROM left_behind;
SELECT kind, object, action FROM projections.cleanup_orphans();
SELECT outcome FROM projections_internal.rebuild;

--
-- who may see and remove what
--
CREATE TRIGGER projections_guard BEFORE INSERT OR UPDATE OR DELETE ON plain FOR EACH ROW EXECUTE FUNCTION projections_internal.guard();
CREATE TRIGGER projections_guard BEFORE INSERT OR UPDATE OR DELETE ON received FOR EACH ROW EXECUTE FUNCTION projections_internal.guard();
INSERT INTO projections_internal.slot (projection, slot) VALUES (4000000001, 0);
ALTER TABLE plain OWNER TO regress_orphans_other;
SET ROLE regress_orphans_owner;
SELECT kind, object FROM projections.orphans();
SELECT kind, object, action FROM projections.cleanup_orphans();
SET ROLE regress_orphans_monitor;
SELECT kind, regexp_replace(object, '\d+$', 'N') AS object FROM projections.orphans();
SELECT kind, regexp_replace(object, '\d+$', 'N') AS object, action FROM projections.cleanup_orphans();
RESET ROLE;
SELECT kind, regexp_replace(object, '\d+$', 'N') AS object, action FROM projections.cleanup_orphans();
-- what somebody reads, and the rest goes
BEGIN;
UPDATE projections_internal.projection SET changes = '{}' WHERE relation = 'logged'::regclass;
CREATE VIEW reads_log AS SELECT * FROM projections_internal.logged_changes;
INSERT INTO projections_internal.slot (projection, slot) VALUES (4000000001, 0);
SELECT kind, regexp_replace(object, '\d+$', 'N') AS object, action FROM projections.cleanup_orphans();
SELECT count(*) AS kept FROM reads_log;
ROLLBACK;
SELECT * FROM left_behind;

-- the rest works on
INSERT INTO orders VALUES (3, 1, 30);
INSERT INTO events (kind, item, at) VALUES ('out', 'i', now());
DO $$ BEGIN PERFORM projections.catch_up(); END $$;
SELECT * FROM test.check_all();
-- and an ordinary drop leaves nothing
SELECT projections.drop('by_customer'), projections.drop('logged'), projections.drop('items'), projections.drop('latest'), projections.drop('receiver');
SELECT * FROM left_behind;

\c :tested_database
DROP DATABASE projections_orphans;
DROP ROLE regress_orphans_owner, regress_orphans_other, regress_orphans_monitor;
