-- Nothing that a projection owner's code SETs stays in the session that made it run.
\set VERBOSITY terse
SET client_min_messages = error; -- no workers here
CREATE ROLE settings_owner;
CREATE ROLE settings_writer;
CREATE SCHEMA setting AUTHORIZATION settings_owner;
GRANT USAGE ON SCHEMA setting TO settings_writer;

-- What the session has, in one line.
CREATE FUNCTION public.session_settings() RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(name || '=' || current_setting(name), ' ' ORDER BY name)
    FROM unnest('{search_path,work_mem,statement_timeout,lock_timeout,role,session_authorization,row_security,transaction_read_only,TimeZone,
                  check_function_bodies,enable_seqscan,session_replication_role,application_name}'::text[]) AS name
    WHERE current_setting(name) IS DISTINCT FROM coalesce(current_setting('expected.' || name, true), current_setting(name))
$$;
CREATE PROCEDURE public.expect_settings() LANGUAGE plpgsql AS $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY '{search_path,work_mem,statement_timeout,lock_timeout,role,session_authorization,row_security,transaction_read_only,TimeZone,check_function_bodies,enable_seqscan,session_replication_role,application_name}'::text[] LOOP
        PERFORM set_config('expected.' || name, current_setting(name), false);
    END LOOP;
END $$;

SET ROLE settings_owner;
SET search_path = setting, public;
-- Called IMMUTABLE, so that a definition may have it; what cannot be set is left alone.
CREATE FUNCTION set_all() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    settings text[] := '{{search_path,"setting, pg_catalog"},{work_mem,64kB},{statement_timeout,3h},{lock_timeout,2h},{role,settings_owner},
                         {session_authorization,settings_owner},{row_security,off},{transaction_read_only,on},{TimeZone,Asia/Kabul},{check_function_bodies,off},
                         {enable_seqscan,off},{session_replication_role,replica},{application_name,setting},{setting.own,left}}';
BEGIN
    IF current_setting('setting.quiet', true) = 'on' THEN RETURN; END IF; -- the oracle runs it as whoever asks
    FOR i IN 1 .. cardinality(settings) / 2 LOOP
        CONTINUE WHEN settings[i][1] = 'transaction_read_only' AND current_setting('setting.writes', true) = 'on';
        BEGIN
            PERFORM pg_catalog.set_config(settings[i][1], settings[i][2], false);
        EXCEPTION WHEN OTHERS THEN
            NULL; -- role, and what only a superuser may set
        END;
    END LOOP;
END $$;
CREATE FUNCTION leak(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM setting.set_all(); RETURN $1; END $$;
CREATE TABLE s (id int PRIMARY KEY, k int, v int);
CREATE TABLE t (id int PRIMARY KEY, k int, v int);
CREATE TABLE events (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, k int);
GRANT SELECT, INSERT, UPDATE, DELETE ON s, t, events TO settings_writer;
SELECT projections.register_source('events', 'position');
CREATE FUNCTION fold(state jsonb, e events, key text) RETURNS jsonb IMMUTABLE LANGUAGE plpgsql AS
    $$ BEGIN PERFORM setting.set_all(); RETURN to_jsonb(coalesce((state #>> '{}')::int, 0) + 1); END $$;
CREATE TABLE handled (k int);
CREATE FUNCTION handle(e events) RETURNS void LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO handled VALUES (e.k); PERFORM set_config('work_mem', '64kB', false), set_config('setting.own', 'left', false); END $$;
-- transaction_read_only is left out where the transaction writes later.
SET setting.writes = on;
SELECT projections.create('per_k', 'SELECT leak(k) AS x, count(*) AS n, max(v) AS v FROM s GROUP BY 1');
SELECT projections.create('joined', 'SELECT leak(s.k) AS x, count(*) AS n FROM s JOIN t USING (id) GROUP BY 1');
SELECT projections.create('later', 'SELECT leak(k) AS x, count(*) AS n FROM s GROUP BY 1', 'async');
SELECT projections.create_reducer('folded', 'events', 'k::text', 'fold(jsonb, events, text)', mode => 'inline');
SELECT projections.create_handler('handler', 'events', 'handle(events)', '{handled}', mode => 'inline');
SELECT projections.create_reducer('folded_later', 'events', 'k::text', 'fold(jsonb, events, text)');
RESET ROLE;
RESET search_path;
DISCARD ALL;

-- Another user writes, within a transaction too;
\set VERBOSITY terse
SET client_min_messages = error;
SET setting.writes = on;
SET ROLE settings_writer;
CALL public.expect_settings();
INSERT INTO setting.s SELECT i, i % 3, i FROM generate_series(1, 10) i;
INSERT INTO setting.events (k) SELECT i % 3 FROM generate_series(1, 10) i;
SELECT public.session_settings(), current_user, current_setting('setting.own', true);
BEGIN;
INSERT INTO setting.t SELECT i, i % 3, i FROM generate_series(1, 10) i;
SELECT public.session_settings(), current_setting('setting.own', true);
SAVEPOINT a;
UPDATE setting.s SET k = 4 WHERE id = 3;
DELETE FROM setting.s WHERE id = 4;
INSERT INTO setting.events (k) VALUES (1);
SELECT public.session_settings();
SET CONSTRAINTS ALL IMMEDIATE;
ROLLBACK TO a;
DELETE FROM setting.s WHERE id = 4;
SELECT public.session_settings(), current_setting('setting.own', true);
COMMIT;
SELECT public.session_settings(), current_setting('setting.own', true);
RESET ROLE;
-- and a superuser operates, where everything may be set.
CALL public.expect_settings();
SELECT projections.catch_up() > 0 AS caught_up;
SELECT public.session_settings(), current_setting('setting.own', true);
SELECT count(*) FROM projections.verify('setting.per_k');
SELECT count(*) FROM projections.verify('setting.folded');
SELECT count(*) FROM projections.verify('setting.folded_later');
SELECT public.session_settings(), current_setting('setting.own', true);
SELECT projections.repair('setting.per_k'), projections.repair('setting.joined'), projections.repair('setting.later'), projections.repair('setting.folded');
SELECT public.session_settings(), current_setting('setting.own', true);
SELECT projections.refresh_rows('setting.per_k', '{"x": 1}'), projections.refresh_rows('setting.joined', '{"x": 1}');
SELECT projections.refresh_source('setting.s', '{"id": 1}');
SELECT count(*) FROM projections.stale_keys('setting.per_k');
SELECT public.session_settings(), current_setting('setting.own', true);
CALL projections.rebuild('setting.per_k');
CALL projections.rebuild('setting.joined');
CALL projections.rebuild('setting.folded');
CALL projections.rebuild('setting.handler');
SELECT public.session_settings(), current_setting('setting.own', true);
CALL projections.alter('setting.later', mode => 'inline');
SELECT projections.pause('setting.per_k', 'a test');
INSERT INTO setting.s VALUES (20, 1, 1);
SELECT projections.resume('setting.per_k');
TRUNCATE setting.t;
SELECT projections.replay('setting.folded_later', 1, 3);
SELECT count(*) FROM projections.validate();
SELECT count(*) FROM projections.health();
SELECT count(*) FROM projections.explain('setting.per_k');
SELECT public.session_settings(), current_setting('setting.own', true);
-- A transaction that has only read may write again.
RESET setting.writes;
BEGIN;
SELECT count(*) FROM projections.verify('setting.per_k');
SHOW transaction_read_only;
COMMIT;
SET setting.quiet = on;
SELECT test.check('setting.per_k'), test.check('setting.joined'), test.check('setting.later');
SELECT public.session_settings(), current_setting('setting.own', true);

DROP SCHEMA setting CASCADE;
DROP FUNCTION public.session_settings();
DROP PROCEDURE public.expect_settings();
DROP ROLE settings_owner, settings_writer;
