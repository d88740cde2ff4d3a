-- Roles that change: who monitors and who operates what belongs to others; row-level security that comes, BYPASSRLS that goes, and
-- owners that go or hand on what they own. Each is applied, refused, or makes stale; a projection is never wrong in silence.
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE ROLE roles_source;
CREATE ROLE roles_owner;
CREATE ROLE roles_heir;
CREATE ROLE roles_monitor IN ROLE pg_monitor;
CREATE ROLE roles_operator;
CREATE SCHEMA theirs AUTHORIZATION roles_source;
CREATE SCHEMA mine AUTHORIZATION roles_owner;
SET ROLE roles_source;
GRANT USAGE ON SCHEMA theirs TO roles_owner, roles_heir;
CREATE TABLE theirs.s (id int PRIMARY KEY, k int, v int);
CREATE TABLE theirs.events (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, k int, v int);
INSERT INTO theirs.s SELECT i, i % 3, i FROM generate_series(1, 9) i;
GRANT SELECT, TRIGGER ON theirs.s, theirs.events TO roles_owner;
SELECT projections.register_source('theirs.events', 'position');
INSERT INTO theirs.events (k, v) SELECT i % 3, i FROM generate_series(1, 9) i;
SET ROLE roles_owner;
SET client_min_messages = error;
SELECT projections.create('mine.direct', 'SELECT k, sum(v) AS v FROM theirs.s GROUP BY k');
SELECT projections.create('mine.parted', 'SELECT k, sum(v) AS v FROM theirs.s GROUP BY k HAVING sum(v) > 12');
SELECT projections.create('mine.logged', 'SELECT k, sum(v) AS v FROM theirs.s GROUP BY k', 'async');
SELECT projections.create('mine.counted', 'SELECT k, sum(v) AS v FROM theirs.events GROUP BY k', 'async');
CREATE FUNCTION mine.fold(state jsonb, e theirs.events, key text) RETURNS jsonb IMMUTABLE LANGUAGE sql AS $$ SELECT to_jsonb(coalesce((state #>> '{}')::int, 0) + e.v) $$;
SELECT projections.create_reducer('mine.folded', 'theirs.events', 'k::text', 'mine.fold(jsonb, theirs.events, text)');
SELECT projections.create_reducer('mine.folded_inline', 'theirs.events', 'k::text', 'mine.fold(jsonb, theirs.events, text)', mode => 'inline');
CREATE TABLE mine.seen (place bigint PRIMARY KEY, k int);
CREATE FUNCTION mine.see(e theirs.events) RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO seen VALUES (e.position, e.k); END $$;
SET search_path = mine;
SELECT projections.create_handler('mine.handled', 'theirs.events', 'mine.see(theirs.events)', '{mine.seen}');
RESET search_path;
RESET ROLE;
SELECT projections.catch_up() > 0 AS applied;
-- What is wrong and nobody says so: nothing, after whatever change. What cannot be compared says so itself.
CREATE FUNCTION public.wrong() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE each text;
BEGIN
    FOR each IN SELECT h.projection FROM projections.health() h WHERE h.projection LIKE 'mine.%' AND h.status IN ('healthy', 'degraded') ORDER BY 1 LOOP
        BEGIN
            IF EXISTS (SELECT FROM projections.verify(each)) THEN
                RETURN NEXT each;
            END IF;
        EXCEPTION WHEN insufficient_privilege THEN
            RETURN NEXT SQLERRM;
        END;
    END LOOP;
END $$;
CREATE FUNCTION public.state() RETURNS TABLE (projection text, status text, message text) LANGUAGE sql AS $$
    SELECT h.projection, h.status, regexp_replace(h.message, 'since \d.*', 'since …') FROM projections.health() h WHERE h.projection LIKE 'mine.%' AND h.status <> 'healthy' ORDER BY 1 $$;
CREATE FUNCTION public.change() RETURNS void LANGUAGE sql AS $$
    INSERT INTO theirs.s SELECT max(id) + 1, 1, 5 FROM theirs.s; UPDATE theirs.s SET v = v + 1 WHERE id % 4 = 0; INSERT INTO theirs.events (k, v) VALUES (1, 7), (2, 8) $$;
CREATE PROCEDURE public.mend() LANGUAGE plpgsql AS $$
DECLARE each text;
BEGIN
    FOR each IN SELECT d.projection FROM projections.definitions d WHERE d.projection LIKE 'mine.%' ORDER BY 1 LOOP PERFORM projections.repair(each); END LOOP;
    PERFORM projections.retry_all(d.projection) FROM projections.definitions d WHERE d.projection LIKE 'mine.%' AND d.mode = 'async';
    PERFORM projections.catch_up();
END $$;
SELECT wrong();

-- Members of pg_monitor: by name, too, without a right on the schema.
SET ROLE roles_monitor;
SELECT projection, status FROM projections.health('mine.direct');
SELECT count(*) FROM projections.health() WHERE projection LIKE 'mine.%';
SELECT object, problem FROM projections.validate(required => '{mine.direct, mine.missing}') WHERE object LIKE 'mine.%';
SELECT count(*) FROM projections.health('mine.missing');
SELECT count(*) FROM projections.health('mine.fold');
SELECT count(*) FROM projections.health('projections_internal.parted_part_1');
SELECT count(*) FROM projections.verify('mine.direct');
SELECT projections.pause('mine.direct', 'a test');
SET ROLE roles_operator;
SELECT projection FROM projections.health('mine.direct');
SELECT object FROM projections.validate(required => '{mine.direct}');

-- Operation is delegated by a function that runs as its owner, and by EXECUTE on that.
SET ROLE roles_owner;
GRANT USAGE ON SCHEMA mine TO roles_operator;
CREATE FUNCTION mine.operate(what text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    CASE what WHEN 'repair' THEN PERFORM projections.repair('mine.direct');
              WHEN 'pause' THEN PERFORM projections.pause('mine.direct', 'a test');
              WHEN 'resume' THEN PERFORM projections.resume('mine.direct');
              WHEN 'catch_up' THEN PERFORM projections.catch_up('mine.logged'); END CASE;
END $$;
REVOKE EXECUTE ON FUNCTION mine.operate(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION mine.operate(text) TO roles_operator;
SET ROLE roles_monitor;
SELECT mine.operate('pause');
SET ROLE roles_operator;
SELECT projections.repair('mine.direct');
SELECT mine.operate(what) FROM unnest('{repair,pause}'::text[]) what;
RESET ROLE;
SELECT change();
SELECT projection, status FROM projections.health('mine.direct');
SET ROLE roles_operator;
SELECT mine.operate(what) FROM unnest('{resume,catch_up}'::text[]) what;
RESET ROLE;
SELECT projections.catch_up() > 0 AS applied;
SELECT wrong();
SELECT state();

-- Row-level security that comes is refused, or sees what the owner sees.
SET ROLE roles_source;
ALTER TABLE theirs.s ENABLE ROW LEVEL SECURITY;
ALTER TABLE theirs.events ENABLE ROW LEVEL SECURITY;
RESET ROLE;
ALTER ROLE roles_owner BYPASSRLS;
SET ROLE roles_source;
ALTER TABLE theirs.s ENABLE ROW LEVEL SECURITY;
ALTER TABLE theirs.events ENABLE ROW LEVEL SECURITY;
CREATE POLICY "some" ON theirs.s USING (k = 1);
CREATE POLICY "some" ON theirs.events USING (k = 1);
RESET ROLE;
SELECT change();
SELECT projections.catch_up() > 0 AS applied;
SELECT wrong();
SELECT state();
-- BYPASSRLS goes: nothing comes in any more, and that is told; nothing is taken for gone that is hidden.
SELECT change();
ALTER ROLE roles_owner NOBYPASSRLS;
SELECT wrong();
SELECT projections.repair('mine.direct');
SELECT projections.repair('mine.parted');
SELECT projections.repair('mine.folded');
SELECT projections.repair('mine.handled');
SELECT projections.refresh_rows('mine.direct', '{"k": 2}');
CALL projections.rebuild('mine.direct');
CALL projections.rebuild('mine.folded');
SELECT count(*) FROM mine.direct;
SELECT change();
SELECT projections.catch_up('mine.logged') >= 0 AS applied;
SELECT projections.catch_up('mine.counted') >= 0 AS applied;
SELECT projections.catch_up('mine.folded') >= 0 AS applied;
SELECT projections.catch_up('mine.handled') >= 0 AS applied;
SELECT wrong();
SELECT state();
SELECT severity, object, problem FROM projections.validate() WHERE object LIKE 'mine.%' AND problem !~ 'since' ORDER BY 2, 3;
ALTER ROLE roles_owner BYPASSRLS;
CALL mend();
SELECT wrong();
SELECT state();
ALTER TABLE theirs.s DISABLE ROW LEVEL SECURITY;
ALTER TABLE theirs.events DISABLE ROW LEVEL SECURITY;
ALTER ROLE roles_owner NOBYPASSRLS;
SELECT change();
SELECT projections.catch_up('mine.logged') >= 0 AS applied;
SELECT projections.catch_up('mine.counted') >= 0 AS applied;
SELECT projections.catch_up('mine.folded') >= 0 AS applied;
SELECT projections.catch_up('mine.handled') >= 0 AS applied;
SELECT wrong();
SELECT state();

-- A right that is revoked.
REVOKE SELECT ON theirs.s, theirs.events FROM roles_owner;
SELECT change();
SELECT projections.catch_up('mine.logged') >= 0 AS applied;
SELECT projections.catch_up('mine.counted') >= 0 AS applied;
SELECT projections.catch_up('mine.folded') >= 0 AS applied;
SELECT projections.catch_up('mine.handled') >= 0 AS applied;
SELECT wrong();
SELECT state();
GRANT SELECT ON theirs.s, theirs.events TO roles_owner;
CALL mend();
SELECT wrong();
SELECT state();

-- Another owner, who may not read the sources until he is granted it.
REASSIGN OWNED BY roles_owner TO roles_heir;
SELECT change();
SELECT projections.catch_up('mine.logged') >= 0 AS applied;
SELECT projections.catch_up('mine.counted') >= 0 AS applied;
SELECT projections.catch_up('mine.folded') >= 0 AS applied;
SELECT projections.catch_up('mine.handled') >= 0 AS applied;
SELECT wrong();
SELECT state();
GRANT SELECT, TRIGGER ON theirs.s, theirs.events TO roles_heir;
CALL mend();
SELECT wrong();
SELECT state();
SELECT change();
SELECT projections.catch_up('mine.logged') >= 0 AS applied;
SELECT projections.catch_up('mine.counted') >= 0 AS applied;
SELECT projections.catch_up('mine.folded') >= 0 AS applied;
SELECT projections.catch_up('mine.handled') >= 0 AS applied;
SELECT wrong();
SELECT state();
-- The former one has no more to say.
SET ROLE roles_owner;
SELECT projections.repair('mine.direct');
SELECT count(*) FROM projections.health() WHERE projection LIKE 'mine.%';
RESET ROLE;
-- What is owned goes with its owner, and nothing is left of it; a source, and what has parts, only with CASCADE, with what reads it.
\set VERBOSITY default
DROP OWNED BY roles_source;
DROP OWNED BY roles_heir;
DROP OWNED BY roles_heir CASCADE;
\set VERBOSITY terse
SELECT projection FROM projections.definitions WHERE projection LIKE 'mine.%';
SELECT tgrelid::regclass, tgname FROM pg_trigger WHERE tgrelid IN ('theirs.s'::regclass, 'theirs.events'::regclass) AND NOT tgisinternal;
SELECT * FROM projections.orphans();
SELECT projections.create('theirs.again', 'SELECT k, count(*) AS n FROM theirs.s GROUP BY k');
DROP OWNED BY roles_source CASCADE;
SELECT projection FROM projections.definitions WHERE projection LIKE 'theirs.%';
SELECT * FROM projections.orphans();

SET client_min_messages = error;
DROP FUNCTION public.wrong(), public.state(), public.change();
DROP PROCEDURE public.mend();
DROP SCHEMA IF EXISTS mine CASCADE;
DROP OWNED BY roles_source, roles_owner, roles_heir, roles_monitor, roles_operator CASCADE;
DROP ROLE roles_source, roles_owner, roles_heir, roles_monitor, roles_operator;
