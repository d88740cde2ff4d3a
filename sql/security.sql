-- What owners of projections and tables wrote never runs as a superuser, and nobody sees or does more than he may.
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE ROLE security_owner;
CREATE ROLE security_guest;
CREATE ROLE security_watcher;
GRANT pg_monitor TO security_watcher;
CREATE SCHEMA mal AUTHORIZATION security_owner;
CREATE SCHEMA open;
GRANT ALL ON SCHEMA open TO security_owner;
GRANT USAGE ON SCHEMA mal, open TO security_guest, security_watcher;

-- Says so wherever it runs as a superuser, and which roles else it has run as.
CREATE TABLE open.ran (role name, place text, UNIQUE (role, place));
GRANT SELECT, INSERT ON open.ran TO PUBLIC;
SET ROLE security_owner;
SET search_path = mal, pg_catalog, open;
CREATE FUNCTION spy(place text) RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN RAISE WARNING 'a superuser runs %', place; END IF;
    IF current_user <> 'security_owner' THEN RAISE WARNING '% runs %', current_user, place; END IF;
    RETURN true;
END $$;
CREATE FUNCTION sure(place text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN mal.spy(place); END $$;
-- Domains are checked when constants of arrays of them are analyzed.
CREATE DOMAIN checked AS int CHECK (mal.spy('a domain of the query'));
CREATE DOMAIN indexed AS int CHECK (mal.spy('a domain of an index'));
CREATE DOMAIN column_type AS int CHECK (mal.spy('a domain of a column'));
-- Operators and functions that fit better than the catalog's.
CREATE FUNCTION same(regclass, regclass) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM mal.spy('= (regclass, regclass)'); RETURN $1::oid OPERATOR(pg_catalog.=) $2::oid; END $$;
CREATE FUNCTION same(name, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM mal.spy('= (name, text)'); RETURN $1::text OPERATOR(pg_catalog.=) $2; END $$;
CREATE FUNCTION same(oid, regclass) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM mal.spy('= (oid, regclass)'); RETURN $1 OPERATOR(pg_catalog.=) $2::oid; END $$;
CREATE FUNCTION same("char", text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM mal.spy('= ("char", text)'); RETURN $1::text OPERATOR(pg_catalog.=) $2; END $$;
CREATE OPERATOR = (leftarg = regclass, rightarg = regclass, function = same);
CREATE OPERATOR = (leftarg = name, rightarg = text, function = same);
CREATE OPERATOR = (leftarg = oid, rightarg = regclass, function = same);
CREATE OPERATOR = (leftarg = "char", rightarg = text, function = same);
CREATE FUNCTION format(text, regclass, text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM mal.spy('format'); RETURN pg_catalog.format($1, $2, $3); END $$;
CREATE FUNCTION coalesce_text(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM mal.spy('coalesce'); RETURN $1; END $$;
CREATE TABLE s (id int PRIMARY KEY, k int, v int);
INSERT INTO s SELECT i, i % 5, i FROM generate_series(1, 100) i;
CREATE TABLE events (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, item text, n int, at timestamptz DEFAULT now());
SELECT projections.register_source('events', 'position');
INSERT INTO events (item, n) SELECT 'item ' || i % 3, i FROM generate_series(1, 20) i;

SELECT projections.create('p', $$SELECT k, count(*) AS n, sum(v) AS v FROM s WHERE k = ANY ('{0,1,2,3}'::checked[]) AND mal.sure('a condition') GROUP BY k$$, options => '{"finish": "swap"}');
CREATE INDEX ON p (n) WHERE k = ANY ('{1,2}'::mal.indexed[]);
CREATE INDEX ON p ((mal.sure('an index expression'))) WHERE mal.sure('an index predicate');
CREATE FUNCTION sums(state jsonb, event events, key text) RETURNS jsonb IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM mal.spy('a reducer'); RETURN to_jsonb(coalesce((state #>> '{}')::int, 0) + event.n); END $$;
SELECT projections.create_reducer('r', 'events', $$item || CASE WHEN 1 = ANY ('{1}'::mal.checked[]) THEN '' END$$, 'sums(jsonb, events, text)');
CREATE TABLE seen (item text, n int DEFAULT (mal.spy('a default')::int), CHECK (mal.spy('a check') IS NOT NULL));
CREATE FUNCTION see(event events) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM mal.spy('a handler'); INSERT INTO seen (item) VALUES (event.item); END $$;
SELECT projections.create_handler('h', 'events', 'see(events)', '{seen}');
SELECT projections.catch_up() > 0 AS caught_up;

-- Whatever the owner calls,
CALL projections.rebuild('p');
CALL projections.rebuild('r');
CALL projections.rebuild('h');
CALL projections.alter('p', $$SELECT k, count(*) AS n, sum(v) AS v, min(v)::column_type AS low FROM s WHERE k = ANY ('{0,1,2}'::checked[]) GROUP BY k$$);
CALL projections.alter('p', mode => 'async');
INSERT INTO s SELECT i, i % 5, i FROM generate_series(101, 110) i;
SELECT count(*) FROM projections.stale_keys('p');
SELECT projections.catch_up('p') > 0 AS caught_up;
SELECT * FROM projections.verify('p');
SELECT * FROM projections.verify('r');
SELECT projections.repair('p'), projections.repair('r'), projections.repair('h');
SELECT projections.refresh_source('s', '{"id": 1}'), projections.refresh_source('events', '{"position": 1}');
SELECT projections.refresh_rows('p', '{"k": 1}');
SELECT projections.replay('r', 1, 5);
SELECT severity, problem FROM projections.validate();
SELECT projection, status <> 'healthy' AS ill FROM projections.health() ORDER BY 1;
SELECT count(*) FROM projections.orphans();
SELECT count(*) FROM projections.cleanup_orphans();
SELECT count(*) > 0 AS some FROM projections.metrics();
SELECT count(*) FROM projections.explain('p');
SELECT projections.pause('p', 'a test'), projections.resume('p');
CALL projections.rebuild_all();
CALL projections.alter('p', mode => 'inline');

-- and whatever a superuser does with what is his.
RESET ROLE;
SET search_path = public;
CALL projections.rebuild('mal.p');
CALL projections.rebuild('mal.r');
CALL projections.rebuild('mal.h');
CALL projections.alter('mal.p', mode => 'async');
SELECT projections.catch_up('mal.p') >= 0 AS caught_up;
SELECT * FROM projections.verify('mal.p');
SELECT projections.repair('mal.p'), projections.repair('mal.r');
SELECT projections.refresh_source('mal.s', '{"id": 1}');
SELECT severity, problem FROM projections.validate() WHERE object LIKE 'mal.%';
CALL projections.alter('mal.p', mode => 'inline');
INSERT INTO mal.s VALUES (1001, 1, 1);
CALL projections.rebuild_all();

-- A scheduled rebuild is a background process of a superuser's: all that runs in it runs as the owner.
SET ROLE security_owner;
CREATE FUNCTION mal.note_role(place text) RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN INSERT INTO open.ran VALUES (current_user, place) ON CONFLICT DO NOTHING; RETURN true; END $$;
CREATE OR REPLACE FUNCTION mal.spy(place text) RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog AS $$ BEGIN RETURN mal.note_role(place); END $$;
SELECT projections.schedule_rebuild('mal.p');
RESET ROLE;
DO $$
BEGIN
    FOR i IN 1 .. 3000 LOOP -- 30 seconds
        COMMIT;
        EXIT WHEN NOT EXISTS (SELECT FROM projections_internal.rebuild_request);
        PERFORM pg_sleep(0.01);
    END LOOP;
END
$$;
RESET ROLE;
SELECT outcome, error FROM projections_internal.rebuild WHERE projection = 'mal.p'::regclass ORDER BY id DESC LIMIT 1;
SELECT DISTINCT role FROM open.ran;
SELECT count(*) > 0 AS some FROM open.ran WHERE place LIKE 'a domain%';
SET ROLE security_owner;
CREATE OR REPLACE FUNCTION mal.spy(place text) RETURNS boolean LANGUAGE sql AS 'SELECT true';
RESET ROLE;

-- Who may only read the projection operates nothing, and sees nothing of what is in it in errors and lists.
GRANT SELECT ON mal.p TO security_guest, security_watcher;
SET ROLE security_guest;
SELECT * FROM projections.verify('mal.p');
SELECT projections.repair('mal.p');
SELECT projections.refresh_source('mal.s', '{"id": 1}');
SELECT * FROM projections.stale_keys('mal.p');
CALL projections.rebuild('mal.p');
CALL projections.rebuild('mal.p', dry_run => true);
SELECT projections.schedule_rebuild('mal.p');
SELECT projections.cancel_rebuild('mal.p');
CALL projections.alter('mal.p', mode => 'async');
CALL projections.alter('mal.p', options => '{"finish": "merge"}');
CALL projections.rebuild_all();
SELECT * FROM projections.health('mal.p');
SELECT projections.healthy() IS NOT NULL AS answered;
SELECT count(*) FROM projections.validate();
SELECT count(*) FROM projections.orphans();
SELECT count(*) FROM projections.cleanup_orphans();
SELECT count(*) FROM projections.audit_log;
SELECT count(*) FROM projections.failures;
SELECT count(*) FROM projections.metrics() WHERE labels::text LIKE '%mal.p%';
SELECT projections_internal._schedule_rebuild('mal.p'::regclass, 'postgres');
SELECT projections_internal._cancel_rebuild('mal.p'::regclass, 'postgres');
SELECT projections_internal._repair('mal.p'::regclass, 'postgres');
SELECT projections_internal._launch_rebuild('mal.p'::regclass);
SELECT projections_internal._launch_waiting_rebuilds();
CALL projections_internal._redefine('mal.p', NULL, 'async');
INSERT INTO projections_internal.rebuild_request VALUES ('mal.p', 'postgres');
INSERT INTO projections_internal.rebuild (projection, action, phase, pid, backend_start, started_by) VALUES ('mal.p', 'rebuild', 'waiting', 1, now(), 'security_guest');
UPDATE projections_internal.projection SET shadow_of = relation;
RESET ROLE;
-- A security_watcher sees how things are, and not what is in them.
SET ROLE security_watcher;
SELECT projection, status <> '' AS told FROM projections.health('mal.p');
SELECT count(*) FROM projections.verify('mal.p');
SELECT projections.repair('mal.p');
CALL projections.rebuild('mal.p');
SELECT projections.cancel_rebuild('mal.p');
SELECT count(*) > 0 AS some FROM projections.metrics() WHERE labels::text LIKE '%mal.p%';
RESET ROLE;

SET client_min_messages = error;
DROP SCHEMA mal, open CASCADE;
DROP OWNED BY security_owner, security_guest, security_watcher;
DROP ROLE security_owner, security_guest, security_watcher;
