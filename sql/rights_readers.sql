-- Whoever looks at events and projections runs nobody's code, and nobody runs his.
--
-- readers_owner has trapped what he owns: each trap says so where it runs as another role, and counts that it ran at all.
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE ROLE readers_owner;
CREATE ROLE readers_guest;
CREATE ROLE readers_watcher;
GRANT pg_monitor TO readers_watcher;
CREATE SCHEMA traps AUTHORIZATION readers_owner;
CREATE SCHEMA guest AUTHORIZATION readers_guest;
GRANT USAGE ON SCHEMA traps TO readers_guest, readers_watcher;
CREATE SEQUENCE public.sprung;
GRANT USAGE ON SEQUENCE public.sprung TO PUBLIC;
-- How many traps have been sprung since the last call: not undone by errors.
CREATE FUNCTION public.some_sprung() RETURNS boolean LANGUAGE sql SECURITY DEFINER AS $$
    SELECT (SELECT is_called FROM public.sprung) AND setval('public.sprung', 1, false) IS NOT NULL
$$;

SET ROLE readers_owner;
SET search_path = traps;
CREATE FUNCTION spring(place text) RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    PERFORM nextval('public.sprung');
    IF current_user <> 'readers_owner' THEN RAISE WARNING '% runs %', current_user, place; END IF;
    IF current_setting('traps.raise', true) = 'on' THEN RAISE EXCEPTION 'secret of readers_owner'; END IF;
    RETURN true;
END $$;
CREATE FUNCTION sure(place text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN traps.spring(place); END $$;
CREATE TYPE kind AS ENUM ('in', 'out');
CREATE FUNCTION as_text(kind) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM traps.spring('a cast to text'); RETURN CASE $1 WHEN 'in'::traps.kind THEN 'in' ELSE 'out' END; END $$;
CREATE CAST (kind AS text) WITH FUNCTION as_text(kind);
CREATE FUNCTION as_json(kind) RETURNS json IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM traps.spring('a cast to json'); RETURN '"kind"'; END $$;
CREATE CAST (kind AS json) WITH FUNCTION as_json(kind);
CREATE TYPE moment AS (at timestamptz);
CREATE FUNCTION as_time(moment) RETURNS timestamptz IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM traps.spring('a cast to timestamptz'); RETURN ($1).at; END $$;
CREATE CAST (moment AS timestamptz) WITH FUNCTION as_time(moment);
CREATE DOMAIN item AS text CHECK (traps.spring('a domain'));

CREATE TABLE events (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, kind kind, item item, n int, at moment, chain text);
CREATE TABLE drawn (position bigint PRIMARY KEY, kind kind, at moment, chain text);
INSERT INTO drawn SELECT i, 'in', ROW(timestamptz '2026-01-01 00:00+00' + i * interval '1 min')::moment, 'c' FROM generate_series(1, 3) i;
CREATE INDEX ON events (position) WHERE sure('an index predicate');
CREATE INDEX ON events (chain) WHERE sure('an index predicate');
CREATE INDEX ON events ((sure('an index expression')));
CREATE STATISTICS trapped ON (sure('a statistics expression')), n FROM events;
CREATE INDEX ON drawn (position) WHERE sure('an index predicate');
CREATE FUNCTION deleted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM traps.spring('a trigger'); RETURN OLD; END $$;
CREATE TRIGGER deleted BEFORE DELETE ON events FOR EACH ROW EXECUTE FUNCTION deleted();
SELECT projections.register_source('events', 'position', type_column => 'kind', time_column => 'at', correlation_column => 'chain', stream_column => 'kind', id_column => 'kind');
INSERT INTO events (kind, item, n, at, chain) SELECT CASE i % 2 WHEN 0 THEN 'in' ELSE 'out' END::kind, 'item ' || i % 3, i, ROW(timestamptz '2026-01-01 00:00+00' + i * interval '1 min')::moment, 'c'
FROM generate_series(1, 6) i;
CREATE FUNCTION sums(state jsonb, event events, key text) RETURNS jsonb IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN PERFORM traps.spring('a reducer'); RETURN to_jsonb(coalesce((state #>> '{}')::int, 0) + event.n); END $$;
SET client_min_messages = error; -- no workers here
SELECT projections.create('per_item', $$SELECT item, count(*) AS n, max(n) AS most FROM events WHERE sure('a condition') GROUP BY item$$, 'async');
SELECT projections.create_reducer('sum', 'events', 'item::text', 'sums(jsonb, events, text)', options => '{"slots": 2}');
CREATE TABLE rows (id int PRIMARY KEY, item text, n int);
SELECT projections.create('logged', $$SELECT item::item AS item, count(*) AS n FROM rows WHERE sure('a condition') GROUP BY item::item$$, 'async');
SELECT projections.catch_up() > 0 AS caught_up;
SET client_min_messages = warning;
INSERT INTO rows VALUES (1, 'item 1', 1);
INSERT INTO events (kind, item, n, at, chain) VALUES ('in', 'item 1', 7, ROW('2026-01-02'), 'c');
CREATE INDEX ON per_item (n) WHERE sure('an index predicate');
CREATE INDEX ON sum (version) WHERE sure('an index predicate');
CREATE FUNCTION partition(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM traps.spring('partition_by'); RETURN $1; END $$;
SELECT projections.create_subscription('theirs', 'events', 'traps.partition(item)');
GRANT SELECT ON events, drawn, per_item, sum, logged TO readers_guest, readers_watcher;
RESET ROLE;
SELECT public.some_sprung();

-- The right of each trap's place is its owner's: registering a source that is followed by a trigger reads the table.
SELECT projections.register_source('traps.drawn', 'position', type_column => 'kind', time_column => 'at', correlation_column => 'chain', capture => 'trigger');
SELECT public.some_sprung();
SELECT count(*) FROM projections_internal.drawn_arrivals;

-- Everything that looks, called by one role after the other. Nobody's marks but the owner's.
CREATE PROCEDURE public.look(owner boolean) LANGUAGE plpgsql AS $$
DECLARE
    call text;
    answer text;
BEGIN
    FOREACH call IN ARRAY ARRAY[
        $c$count(*) FROM projections.trace('c')$c$,
        $c$count(*) FROM projections.event_status('traps.events', 7)$c$,
        $c$projections.position_at('traps.events', '2026-01-01 00:02+00')$c$,
        $c$projections.position_at('traps.drawn', now())$c$,
        $c$count(*) FROM projections.find_incomplete('traps.events', '{in,gone}')$c$,
        $c$events FROM projections.archive_events('traps.events', '2026-01-01 00:01+00', true)$c$,
        $c$projections.read('traps.per_item', '{"item": "item 1"}', '1 ms') ->> 'n'$c$,
        $c$projections.read('traps.sum', '{"key": "item 1"}', '1 ms') ->> 'state'$c$,
        $c$projections.read('traps.logged', '{"item": "item 1"}', '1 ms') ->> 'n'$c$,
        $c$projections.wait_for('traps.per_item', 1, '1 ms')$c$,
        $c$projections.wait_for('traps.per_item', timeout => '1 ms')$c$,
        $c$projections.wait_for('traps.logged', timeout => '1 ms')$c$,
        $c$count(*) FROM projections.explain('traps.per_item')$c$,
        $c$count(*) FROM projections.definitions WHERE projection ~ 'traps'$c$,
        $c$count(*) FROM projections.health() WHERE projection ~ 'traps'$c$,
        $c$count(*) FROM projections.status WHERE projection ~ 'traps'$c$,
        $c$count(*) FROM projections.validate() WHERE object ~ 'traps'$c$,
        $c$count(*) FROM projections.orphans()$c$
    ] || CASE WHEN owner THEN ARRAY[
        $c$count(*) FROM projections.history('traps.per_item', '{"item": "item 1"}')$c$,
        $c$count(*) FROM projections.history('traps.sum', '"item 1"')$c$,
        $c$count(*) FROM projections.stale_keys('traps.per_item')$c$,
        $c$count(*) FROM projections.stale_keys('traps.sum')$c$,
        $c$count(*) FROM projections.stale_keys('traps.logged')$c$,
        $c$projections.refresh_rows('traps.logged', '{"item": "item 1"}') >= 0$c$,
        $c$string_agg(key, ',') FROM projections.poll('theirs', 2)$c$,
        $c$projections.ack('theirs', 1)$c$
    ] ELSE '{}' END || CASE WHEN pg_has_role('pg_monitor', 'USAGE') THEN ARRAY[
        $c$projections.healthy()$c$,
        $c$projections.health_json() ->> 'status'$c$,
        $c$count(*) > 0 FROM projections.metrics()$c$,
        $c$count(*) > 0 FROM projections.metrics('check')$c$
    ] ELSE '{}' END LOOP
        EXECUTE 'SELECT ' || call INTO answer;
        RAISE WARNING '% → %', call, answer;
    END LOOP;
END $$;
SET ROLE readers_guest;
-- Operators of his own that fit better than the catalog's, in front of it.
CREATE FUNCTION guest.same(regclass, regclass) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING '% runs an operator of readers_guest', current_user; RETURN true; END $$;
CREATE FUNCTION guest.same(text, name) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING '% runs an operator of readers_guest', current_user; RETURN true; END $$;
CREATE FUNCTION guest.above(bigint, integer) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING '% runs an operator of readers_guest', current_user; RETURN true; END $$;
CREATE OPERATOR guest.= (leftarg = regclass, rightarg = regclass, function = guest.same);
CREATE OPERATOR guest.= (leftarg = text, rightarg = name, function = guest.same);
CREATE OPERATOR guest.<= (leftarg = bigint, rightarg = integer, function = guest.above);
CREATE FUNCTION guest._name(regclass) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING '% runs a function of readers_guest', current_user; RETURN ''; END $$;
SET search_path = guest, pg_catalog, projections;
CALL public.look(false);
SELECT public.some_sprung();
SELECT projections.history('traps.sum', '"item 1"');
SELECT * FROM projections.stale_keys('traps.sum');
SELECT projections.refresh_rows('traps.logged', '{"item": "item 1"}');
SELECT * FROM projections.poll('theirs');
SELECT projections.ack('theirs', 5);
SELECT projections.drop_subscription('theirs');
SELECT projections.archive_events('traps.events', '2026-01-01 00:01+00');
SELECT projections.register_source('traps.drawn', 'position');
-- A subscription of his: partition_by is his, and runs as him over what the source's owner has read.
CREATE FUNCTION guest.partition(event traps.events) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING '% runs partition_by of readers_guest', current_user; RETURN event.n; END $$;
SELECT projections.create_subscription('his', 'traps.events', 'guest.partition(e)');
SELECT position, key, event ->> 'n' AS n FROM projections.poll('his', 2);
SELECT projections.create_subscription('wrong', 'traps.events', 'pg_catalog.generate_series(1, n)') IS NOT NULL AS none_yet;
SELECT projections.poll('wrong');
SET ROLE readers_watcher;
SET search_path = public;
CALL public.look(false);
SELECT public.some_sprung();
RESET ROLE;
RESET search_path;
SELECT position, key FROM projections.poll('his', 1); -- a superuser
CALL public.look(true);
SELECT public.some_sprung();
SELECT events FROM projections.archive_events('traps.events', '2026-01-01 00:01:30+00', true);
SET ROLE readers_owner;
CALL public.look(true);
SELECT public.some_sprung();
RESET ROLE;

-- What an owner's code raises is not shown to others, and keeps nobody from the rest.
SET traps.raise = on;
SET ROLE readers_watcher;
SELECT projection, status, lag_events, message FROM projections.health() WHERE projection IN ('traps.per_item', 'traps.sum') ORDER BY 1;
SET client_min_messages = notice;
SELECT count(*) FROM projections.trace('c');
SET client_min_messages = warning;
RESET ROLE;
RESET traps.raise;

-- Archiving deletes as the owner, so that the trigger is his.
SELECT projections.drop_subscription('theirs'), projections.drop_subscription('his'), projections.drop_subscription('wrong');
SET client_min_messages = error;
SET ROLE readers_owner;
SELECT projections.catch_up() > 0 AS caught_up;
RESET ROLE;
SET client_min_messages = warning;
SELECT * FROM projections.archive_events('traps.events', '2026-01-01 00:01:30+00');
SELECT public.some_sprung();
SELECT archived_to FROM projections.sources WHERE source = 'traps.events';

-- Row-level security that applies to a reader: refused, as what is looked up is read as the owner.
SET ROLE readers_owner;
CREATE POLICY trapped ON traps.events USING (traps.spring('a policy'));
CREATE POLICY trapped ON traps.sum USING (traps.spring('a policy'));
ALTER TABLE traps.drawn ENABLE ROW LEVEL SECURITY;
ALTER TABLE traps.sum ENABLE ROW LEVEL SECURITY;
RESET ROLE;
SET ROLE readers_guest;
SELECT projections.position_at('traps.drawn', now());
SELECT projections.event_status('traps.drawn', 1);
SELECT projections.find_incomplete('traps.drawn', '{in}');
SELECT projections.create_subscription('hidden', 'traps.drawn');
SELECT projections.archive_events('traps.drawn', now(), true);
SELECT projections.read('traps.sum', '{"key": "item 1"}', '1 s');
SELECT DISTINCT source FROM projections.trace('c');
RESET ROLE;
ALTER TABLE traps.drawn DISABLE ROW LEVEL SECURITY;

-- Who has lost the right to his own table: unknown, and what to do about it; nobody reads it in his place.
SET ROLE readers_owner;
REVOKE SELECT ON traps.events FROM readers_owner;
RESET ROLE;
SELECT public.some_sprung();
SELECT projection, status, lag_events, lag_seconds, head, message, hint FROM projections.health('traps.sum');
SELECT projections.healthy();
SELECT status, lag FROM projections.status WHERE projection = 'traps.sum';
SELECT projections.health_json() -> 'projectionStatus' -> 'traps.sum' ->> 'status' AS json;
SELECT count(*) FROM projections.metrics() WHERE name ~ 'lag|positions' AND labels::text ~ 'traps.(sum|events)';
SELECT projections.wait_for('traps.sum', timeout => '1 ms');
SELECT projections.position_at('traps.events', now());
SELECT message FROM projections.health('traps.logged'); -- others as always
GRANT SELECT ON traps.events TO readers_owner;
SELECT status FROM projections.health('traps.sum');
SELECT public.some_sprung();

-- An event's arrival is read by the owners of the source and of what reads it. A view on it keeps nobody from his table.
SELECT a.grantee::regrole, a.privilege_type FROM pg_class c, aclexplode(c.relacl) a WHERE c.oid = 'projections_internal.drawn_arrivals'::regclass AND a.grantee <> c.relowner;
SET ROLE readers_owner;
CREATE VIEW traps.spy AS SELECT * FROM projections_internal.drawn_arrivals;
RESET ROLE;
SELECT projections.unregister_source('traps.drawn');
SELECT to_regclass('projections_internal.drawn_arrivals') AS arrivals, to_regclass('traps.spy') AS view;

-- PUBLIC has no right on any table.
SELECT c.relname, a.privilege_type FROM pg_class c, aclexplode(c.relacl) a
WHERE c.relnamespace IN ('projections'::regnamespace, 'projections_internal'::regnamespace) AND c.relkind <> 'v' AND a.grantee = 0;
SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relnamespace IN ('projections'::regnamespace, 'projections_internal'::regnamespace) AND a.attacl IS NOT NULL;
SET ROLE readers_guest;
BEGIN;
LOCK TABLE projections_internal.subscription IN ACCESS SHARE MODE;
ROLLBACK;
SELECT error FROM projections_internal.rebuild;
SELECT * FROM projections_internal.rebuild_request;
INSERT INTO projections_internal.subscription (name, source, owner) VALUES ('forged', 'traps.events', 'readers_guest');
UPDATE projections_internal.source SET archived_to = 100;
SELECT * FROM projections_internal._rows_as_owner('traps.events', 'SELECT 1') AS r(one int);
SELECT * FROM projections_internal._poll_rows('traps.events', 'readers_owner'::regrole, '1', 'SELECT 1', 1);
SELECT projections_internal._execute_as_owner('traps.events', 0, 'DELETE FROM traps.events', 1);
RESET ROLE;
-- What PUBLIC may read and call. Who adds to these lists says in src/README.md ("Rights of readers") what the new one shows to whom.
SELECT c.relname FROM pg_class c, aclexplode(c.relacl) a WHERE c.relnamespace IN ('projections'::regnamespace, 'projections_internal'::regnamespace) AND c.relkind = 'v' AND a.grantee = 0 ORDER BY c.relname COLLATE "C";
SELECT p.oid::regprocedure AS internal FROM pg_proc p
WHERE p.pronamespace = 'projections_internal'::regnamespace AND has_function_privilege('public', p.oid, 'EXECUTE') ORDER BY p.oid::regprocedure::text COLLATE "C";
SELECT p.oid::regprocedure AS function, p.prosecdef AS definer FROM pg_proc p
WHERE p.pronamespace = 'projections'::regnamespace AND has_function_privilege('public', p.oid, 'EXECUTE') ORDER BY p.oid::regprocedure::text COLLATE "C";
-- Whatever is asked of an internal function.
SELECT projections_internal._definition_query(0), projections_internal._key_columns(1259), projections_internal._strategy(1259), projections_internal._key_expression('traps.sum'), projections_internal._name(0), projections_internal._depth(0);
SELECT projections_internal._key_expression(1259);
SELECT projections_internal._create_sql(NULL), projections_internal._create_sql(ROW(0, 0, 'query', 'inline', 0, NULL, '{}', '{}', '{}', '{}', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, now(), NULL, NULL, false, NULL, false, NULL));
SELECT projections_internal._quantile('[-5:-3]={1,NULL,2}', 'NaN'), projections_internal._all_buckets('{{1,2},{3,4}}') IS NULL AS none;
SELECT projections_internal._quantile('{}', 1), projections_internal._add_buckets('{2147483647}', '{1}') IS NULL AS none;
SELECT projections_internal._rebuild_done(-1, 'copying', NULL), projections_internal._lives(NULL, now()), projections_internal._lives(0, now());

DROP SCHEMA traps, guest CASCADE;
DROP PROCEDURE public.look;
DROP FUNCTION public.some_sprung();
DROP SEQUENCE public.sprung;
DROP ROLE readers_owner, readers_guest, readers_watcher;
