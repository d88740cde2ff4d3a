-- Who declares a projection does it over tables and functions of others. What they wrote runs in a security-restricted
-- operation at that time, too, leaves no setting behind, and finds no way back to the role of the session.
\set VERBOSITY terse
SET client_min_messages = error;
CREATE ROLE planter;
CREATE ROLE declarer;
CREATE SCHEMA planted AUTHORIZATION planter;
CREATE SCHEMA declared AUTHORIZATION declarer;
GRANT USAGE ON SCHEMA planted TO declarer;
CREATE TABLE public.planted_ran (role name, place text, restricted boolean);
GRANT INSERT, SELECT ON public.planted_ran TO PUBLIC;

SET ROLE planter;
SET search_path = planted;
CREATE FUNCTION act(place text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE restricted boolean := false;
BEGIN
    PERFORM set_config('application_name', 'planted: ' || place, false), set_config('search_path', 'planted', false);
    BEGIN
        RESET ROLE;
    EXCEPTION WHEN insufficient_privilege THEN restricted := true;
    END;
    INSERT INTO public.planted_ran VALUES (current_user, place, restricted);
END $$;
CREATE FUNCTION act_true(place text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM planted.act(place); RETURN true; END $$;
CREATE FUNCTION act_one(place text) RETURNS bigint IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM planted.act(place); RETURN 1; END $$;
CREATE DOMAIN checked AS int CHECK (planted.act_true('domain'));
CREATE TABLE s (id int PRIMARY KEY, k int, v int);
CREATE TABLE events (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, k int);
SELECT projections.register_source('events', 'position');
INSERT INTO s SELECT i, i % 3, i FROM generate_series(1, 10) i;
INSERT INTO events (k) VALUES (1), (2);
CREATE INDEX ON s (v) WHERE act_true('index predicate');
CREATE TABLE u (id int, v int);
CREATE UNIQUE INDEX ON u ((id + act_one('index expression')));
CREATE UNIQUE INDEX ON u (id);
CREATE INDEX ON events (k) WHERE act_true('index predicate of events');
GRANT SELECT, TRIGGER ON s, u, events TO declarer;
CREATE FUNCTION fold(state jsonb, e events, key text) RETURNS jsonb IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM planted.act('reducer'); RETURN '1'; END $$;
-- Each in a session that has planned nothing yet, whose user is a superuser.
\c
SET client_min_messages = error;
TRUNCATE public.planted_ran;
SET ROLE declarer;
SET search_path = declared;
SET application_name = 'untouched';
SELECT projections.create('folded', $$SELECT k, count(*) AS n FROM planted.s WHERE planted.act_true('condition') GROUP BY k$$);
SELECT current_user, current_setting('search_path') AS search_path, current_setting('application_name') AS application_name;
SELECT projections.create('constants', $$SELECT k, count(*) AS n FROM planted.s WHERE k = ANY ('{0,1}'::planted.checked[]) GROUP BY k$$);
SELECT current_user, current_setting('search_path') AS search_path, current_setting('application_name') AS application_name;
SELECT count(*) FROM projections.explain($$SELECT k, count(*) AS n FROM planted.s WHERE k = ANY ('{0,1}'::planted.checked[]) GROUP BY k$$);
SELECT current_user, current_setting('search_path') AS search_path, current_setting('application_name') AS application_name;
\c
SET client_min_messages = error;
SET ROLE declarer;
SET search_path = declared;
SET application_name = 'untouched';
SELECT projections.create('looked_up', $$SELECT s.id, (SELECT u.v FROM planted.u WHERE u.id = s.k) AS v FROM planted.s$$);
SELECT projections.create_reducer('reduced', 'planted.events', $$CASE WHEN 1 = ANY ('{1}'::planted.checked[]) THEN k::text END$$, 'planted.fold(jsonb, planted.events, text)', mode => 'inline');
SELECT projections.create('over_events', 'SELECT k, count(*) AS n FROM planted.events GROUP BY k', 'async');
SELECT current_user, current_setting('search_path') AS search_path, current_setting('application_name') AS application_name;
CALL projections.alter('folded', $$SELECT k, count(*) AS n, sum(v) AS v FROM planted.s WHERE planted.act_true('condition of alter') AND k = ANY ('{0,1,2}'::planted.checked[]) GROUP BY k$$);
SELECT current_user, current_setting('search_path') AS search_path, current_setting('application_name') AS application_name;
SELECT projections.create('documented', $$SELECT s.id, planted.act_true('document') AS t, ARRAY(SELECT o.v FROM planted.s o WHERE o.k = s.k ORDER BY o.v) AS vs FROM planted.s$$);
SELECT projections.create('limited', $$SELECT s.id, l.v FROM planted.s LEFT JOIN LATERAL (SELECT o.v FROM planted.s o WHERE o.k = s.k ORDER BY o.v LIMIT planted.act_one('limit beside')) l ON true$$);
SELECT projections.create('present', $$SELECT s.id FROM planted.s WHERE EXISTS (SELECT FROM planted.s o WHERE o.k = s.v LIMIT planted.act_one('limit of EXISTS'))$$);
SELECT current_user, current_setting('search_path') AS search_path, current_setting('application_name') AS application_name;
RESET ROLE;
SELECT role, restricted, array_agg(DISTINCT place ORDER BY place) AS places FROM public.planted_ran GROUP BY 1, 2 ORDER BY 1, 2;
SELECT test.check('declared.folded'), test.check('declared.constants');
SELECT projections.drop('declared.looked_up'), projections.drop('declared.documented'), projections.drop('declared.limited'), projections.drop('declared.present');
SELECT projections.drop('declared.folded'), projections.drop('declared.constants'), projections.drop('declared.reduced'), projections.drop('declared.over_events');

-- A trigger with a name of ours that is not as we make it, by whoever has TRIGGER on the table, is not taken for ours.
SET ROLE planter;
SET search_path = planted;
CREATE TABLE t (id int PRIMARY KEY, k int);
CREATE TABLE arriving (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, k int);
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE FUNCTION capture() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
GRANT SELECT, TRIGGER ON t, arriving TO declarer;
CREATE TRIGGER projections_capture AFTER INSERT OR UPDATE OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION capture();
SET ROLE declarer;
SET search_path = declared;
SELECT projections.create('beside', 'SELECT k, count(*) AS n FROM planted.t GROUP BY k');
SELECT projections.create('beside', 'SELECT k, count(*) AS n FROM planted.t GROUP BY k', 'async');
SELECT projections.create('beside', 'SELECT k, count(*) AS n FROM planted.t GROUP BY k', options => '{"fill": "online"}');
SELECT projections.register_source('planted.t');
SET ROLE planter;
DROP TRIGGER projections_capture ON planted.t;
CREATE TRIGGER projections_capture_truncate AFTER TRUNCATE ON planted.t EXECUTE FUNCTION planted.nothing();
SET ROLE declarer;
SELECT projections.create('beside', 'SELECT k, count(*) AS n FROM planted.t GROUP BY k');
SET ROLE planter;
DROP TRIGGER projections_capture_truncate ON planted.t;
CREATE TRIGGER projections_capture AFTER INSERT OR UPDATE OR DELETE ON planted.arriving FOR EACH ROW EXECUTE FUNCTION planted.nothing();
CREATE TRIGGER projections_arrival AFTER INSERT ON planted.arriving FOR EACH ROW EXECUTE FUNCTION planted.nothing();
SELECT projections.register_source('planted.arriving', 'position', capture => 'trigger');
DROP TRIGGER projections_arrival ON planted.arriving;
SELECT projections.register_source('planted.arriving', 'position');
CREATE FUNCTION planted.fold(state jsonb, e planted.arriving, key text) RETURNS jsonb IMMUTABLE LANGUAGE sql AS $$ SELECT '1'::jsonb $$;
SELECT projections.create_reducer('planted.reduced', 'planted.arriving', 'k::text', 'planted.fold(jsonb, planted.arriving, text)', mode => 'inline');
-- Another one under our name, which fires as ours do.
DROP TRIGGER projections_capture ON planted.arriving;
RESET ROLE;
CREATE TRIGGER projections_capture AFTER INSERT OR UPDATE OR DELETE ON planted.t FOR EACH ROW EXECUTE FUNCTION planted.nothing();
ALTER TABLE planted.t ENABLE ALWAYS TRIGGER projections_capture;
SET ROLE declarer;
SELECT projections.create('beside', 'SELECT k, count(*) AS n FROM planted.t GROUP BY k');
RESET ROLE;
DROP TRIGGER projections_capture ON planted.t;
-- Ours that was switched off where nothing reads the table any more.
CREATE TRIGGER projections_capture AFTER INSERT OR UPDATE OR DELETE ON planted.t FOR EACH ROW EXECUTE FUNCTION projections_internal.capture();
ALTER TABLE planted.t DISABLE TRIGGER projections_capture;
SET ROLE declarer;
SELECT projections.create('beside', 'SELECT k, count(*) AS n FROM planted.t GROUP BY k');
SET ROLE planter;
DROP TRIGGER projections_capture ON planted.t;
SET ROLE declarer;
SELECT projections.create('beside', 'SELECT k, count(*) AS n FROM planted.t GROUP BY k');
SELECT projections.create('beside_2', 'SELECT k, count(*) AS n FROM planted.t GROUP BY k', options => '{"fill": "online"}') IS NOT NULL AS created;
SET ROLE planter;
INSERT INTO planted.t SELECT i, i % 3 FROM generate_series(1, 10) i;
RESET ROLE;
SELECT test.check('declared.beside');
SELECT tgname, tgenabled, tgfoid::regproc FROM pg_trigger WHERE tgrelid = 'planted.t'::regclass ORDER BY 1;
-- Only ours go when nothing reads the table any more; also with the shadow of what was being filled.
SELECT projections.drop('declared.beside'), projections.drop('declared.beside_2');
SET ROLE planter;
CREATE TRIGGER projections_capture AFTER INSERT ON planted.arriving FOR EACH ROW EXECUTE FUNCTION planted.nothing();
SET ROLE declarer;
SELECT projections.create('over_arriving', 'SELECT k, count(*) AS n FROM planted.arriving GROUP BY k', 'async');
SELECT projections.drop('over_arriving');
RESET ROLE;
DO $$
BEGIN
    FOR i IN 1..6000 LOOP
        EXIT WHEN NOT EXISTS (SELECT FROM projections_internal.projection WHERE shadow_of IS NOT NULL);
        COMMIT;
        PERFORM pg_sleep(0.01);
    END LOOP;
END $$;
SELECT count(*) FROM projections.orphans() WHERE object LIKE '%planted%';
SELECT tgname, tgfoid::regproc FROM pg_trigger WHERE tgrelid = 'planted.arriving'::regclass ORDER BY 1;

-- What the library makes for its caller names its operators, whatever fits better on his search_path.
SET ROLE planter;
GRANT USAGE ON SCHEMA planted TO PUBLIC;
CREATE FUNCTION planted.same(regclass, regclass) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM planted.act('operator'); RETURN $1::oid OPERATOR(pg_catalog.=) $2::oid; END $$;
CREATE OPERATOR planted.= (leftarg = regclass, rightarg = regclass, function = planted.same);
RESET ROLE;
TRUNCATE public.planted_ran;
SET ROLE declarer;
SET search_path = declared, planted, pg_catalog;
CREATE FUNCTION declared.see(e planted.arriving) RETURNS void LANGUAGE plpgsql AS $$ BEGIN END $$;
SELECT projections.create_handler('seeing', 'planted.arriving', 'see(planted.arriving)', '{}');
SELECT slot, position FROM seeing;
SELECT projections.drop('seeing');
RESET ROLE;
RESET search_path;
SELECT * FROM public.planted_ran;

-- So does what it runs under the settings that a projection was created with, where pg_catalog comes first: an operator or
-- a function for just these types would fit better than the catalog's.
SET ROLE declarer;
SET search_path = declared, public;
CREATE TYPE kind AS ENUM ('made', 'sent', 'done');
CREATE TABLE moves (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, item text, kind kind, at timestamptz DEFAULT '2020-01-01');
SELECT projections.register_source('moves', 'position', type_column => 'kind', time_column => 'at');
INSERT INTO moves (item, kind) SELECT 'item ' || i / 3, (enum_range(NULL::kind))[1 + i % 3] FROM generate_series(0, 8) i;
RESET ROLE;
GRANT CREATE ON SCHEMA public TO planter;
GRANT USAGE ON SCHEMA declared TO planter;
SET ROLE planter;
CREATE FUNCTION public.planted(bigint, int) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN PERFORM planted.act('bigint % int'); RETURN $1 % $2::bigint; END $$;
CREATE OPERATOR public.% (leftarg = bigint, rightarg = int, function = public.planted);
CREATE FUNCTION public.planted(jsonb, jsonb) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM planted.act('jsonb #>> jsonb'); RETURN $1 #>> '{}'::text[]; END $$;
CREATE OPERATOR public.#>> (leftarg = jsonb, rightarg = jsonb, function = public.planted);
CREATE FUNCTION public.planted(declared.kind, declared.kind) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM planted.act('kind = kind'); RETURN $1 OPERATOR(pg_catalog.=) $2; END $$;
CREATE OPERATOR public.= (leftarg = declared.kind, rightarg = declared.kind, function = public.planted);
CREATE FUNCTION public.to_jsonb(text) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM planted.act('to_jsonb(text)'); RETURN pg_catalog.to_jsonb($1); END $$;
SET ROLE declarer;
CREATE FUNCTION declared.count(state jsonb, e moves, key text) RETURNS jsonb IMMUTABLE LANGUAGE sql AS $$ SELECT pg_catalog.to_jsonb(coalesce((state #>> '{}'::text[])::int, 0) + 1) $$;
SELECT projections.create_reducer('counted', 'moves', 'item', 'declared.count(jsonb, moves, text)', event_types => '{made,sent}', options => '{"slots": 2}');
SELECT projections.create('grouped', 'SELECT item, count(*) AS n FROM moves GROUP BY item', 'async', options => '{"slots": 2}');
SELECT projections.create_state_machine('machine', 'moves', 'item',
    '[{"event": "made", "to": "there"}, {"from": "there", "event": "sent", "to": "away"}, {"from": "away", "event": "done", "to": "gone"}]',
    options => '{"slots": 2, "retention": "1 s", "terminal": ["gone"]}');
SELECT count(*) FROM projections.stale_keys('grouped') UNION ALL SELECT count(*) FROM projections.stale_keys('counted');
SELECT projections.catch_up() > 0 AS caught_up;
SELECT projections.set_state('machine', 'item 1', 'away', 'a test');
SELECT count(*) FROM projections.verify('grouped') UNION ALL SELECT count(*) FROM projections.verify('counted');
INSERT INTO moves (item, kind) VALUES ('item 9', 'made');
SELECT projections.catch_up() > 0 AS caught_up;
CALL projections.rebuild('counted');
CALL projections.rebuild('machine');
SELECT projections.repair('grouped'), projections.repair('counted'), projections.refresh_source('moves', '{"position": 1}');
SELECT key, state FROM machine ORDER BY key;
RESET ROLE;
RESET search_path;
SELECT DISTINCT * FROM public.planted_ran;
SELECT projections.drop('declared.counted'), projections.drop('declared.grouped'), projections.drop('declared.machine');
SELECT projections.unregister_source('declared.moves');

SET client_min_messages = error;
SELECT projections.unregister_source('planted.arriving'), projections.unregister_source('planted.events');
DROP SCHEMA planted CASCADE;
DROP SCHEMA declared CASCADE;
DROP TABLE public.planted_ran;
REVOKE CREATE ON SCHEMA public FROM planter;
DROP OWNED BY planter, declarer;
DROP ROLE planter, declarer;
