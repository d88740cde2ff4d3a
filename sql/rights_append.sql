-- append() writes our own event store as a superuser, whoever calls it. Who may read that store, and make projections over it,
-- gets no code run by that: not as the superuser, and not as the caller.
\set VERBOSITY terse
SET client_min_messages = error;
CREATE ROLE listener;
CREATE ROLE appender;
CREATE SCHEMA listening AUTHORIZATION listener;
GRANT USAGE ON SCHEMA listening TO appender;
GRANT SELECT, TRIGGER, REFERENCES ON projections.events, projections.events_archive, projections.streams TO listener;
GRANT EXECUTE ON FUNCTION projections.append(text, text, jsonb, bigint, jsonb, text, text, uuid), projections.append_many(text, jsonb, bigint, text, text) TO appender;
CREATE TABLE public.listened (role name, place text, restricted boolean);
GRANT INSERT, SELECT ON public.listened TO PUBLIC;

SET ROLE listener;
SET search_path = listening;
CREATE FUNCTION act(place text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE restricted boolean := false;
BEGIN
    PERFORM set_config('application_name', 'listened: ' || place, false), set_config('search_path', 'listening', false);
    BEGIN
        RESET ROLE;
    EXCEPTION WHEN insufficient_privilege THEN restricted := true;
    END;
    INSERT INTO public.listened VALUES (current_user, place, restricted);
END $$;
CREATE FUNCTION act_true(place text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM listening.act(place); RETURN true; END $$;
CREATE FUNCTION same(place text, value text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM listening.act(place); RETURN value; END $$;
CREATE FUNCTION triggered() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM listening.act(TG_NAME::text); RETURN NULL; END $$;
CREATE DOMAIN checked AS text CHECK (listening.act_true('domain'));
-- Its writer is always a superuser, so TRIGGER on it is the right to have projections there, and none to make triggers.
CREATE TRIGGER mine AFTER INSERT ON projections.events FOR EACH ROW EXECUTE FUNCTION triggered();
CREATE TRIGGER mine AFTER INSERT ON projections.events WHEN (listening.act_true('when')) EXECUTE FUNCTION triggered();
CREATE TRIGGER mine AFTER INSERT ON projections.events_archive FOR EACH ROW EXECUTE FUNCTION triggered();
CREATE TRIGGER mine BEFORE UPDATE ON projections.streams FOR EACH ROW EXECUTE FUNCTION triggered();
CREATE CONSTRAINT TRIGGER mine AFTER INSERT ON projections.events DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION triggered();
CREATE TABLE child () INHERITS (projections.events);
CREATE INDEX ON projections.events (type) WHERE act_true('index predicate');
CREATE STATISTICS s ON (same('statistics', type)), type FROM projections.events;
CREATE POLICY p ON projections.events USING (act_true('policy'));
CREATE RULE r AS ON INSERT TO projections.events DO ALSO SELECT listening.act('rule');
CREATE PUBLICATION p FOR TABLE projections.events WHERE (act_true('row filter'));
SELECT tgname FROM pg_trigger WHERE tgrelid IN ('projections.events'::regclass, 'projections.streams'::regclass) AND NOT tgisinternal ORDER BY 1;

-- Projections of all kinds, inline and async, with code wherever there may be some.
SELECT projections.create('grouped', $$SELECT same('key', type) AS type, count(*) AS n, max(same('argument', stream))::checked AS last FROM projections.events WHERE act_true('condition') AND same('row condition', type) <> '' GROUP BY 1$$);
SELECT projections.create('later', $$SELECT same('later key', type) AS type, count(*) AS n FROM projections.events GROUP BY 1$$, 'async');
CREATE FUNCTION fold(state jsonb, e projections.events, key text) RETURNS jsonb IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM listening.act('reducer'); RETURN to_jsonb(coalesce((state #>> '{}')::int, 0) + 1); END $$;
SELECT projections.create_reducer('reduced', 'projections.events', $$same('reducer key', stream)$$, 'fold(jsonb, projections.events, text)', mode => 'inline');
SELECT projections.create_reducer('reduced_later', 'projections.events', $$same('later reducer key', stream)$$, 'fold(jsonb, projections.events, text)');
CREATE TABLE seen (stream checked);
CREATE FUNCTION see(e projections.events) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM listening.act('handler'); INSERT INTO listening.seen VALUES (e.stream); END $$;
SELECT projections.create_handler('handled', 'projections.events', 'see(projections.events)', '{seen}', partition_by => $$same('partition', stream)$$, mode => 'inline');
SELECT projections.create_state_machine('machine', 'projections.events', 'stream', '[{"event": "opened", "to": "open"}, {"from": "open", "event": "closed", "to": "closed"}]', mode => 'inline');
CREATE INDEX ON grouped (n) WHERE act_true('index of a projection');
ALTER TABLE reduced ADD CHECK (listening.act_true('check of a projection') AND version > 0);
CREATE TRIGGER of_a_projection AFTER INSERT OR UPDATE ON grouped FOR EACH ROW EXECUTE FUNCTION triggered();
RESET ROLE;
TRUNCATE public.listened;
-- The caller's session is a superuser's that has planned nothing yet.
\c
SET client_min_messages = error;
SET ROLE appender;
SET application_name = 'untouched';
SET search_path = pg_catalog;
SELECT stream_version FROM projections.append('s1', 'opened', '{}');
SELECT stream_version FROM projections.append_many('s1', '[{"type": "closed", "data": {}}]', 1);
BEGIN;
SELECT stream_version FROM projections.append('s2', 'opened', '{}', id => '018f0000-0000-7000-8000-000000000001');
SAVEPOINT a;
SELECT stream_version FROM projections.append('s2', 'opened', '{}', id => '018f0000-0000-7000-8000-000000000001');
ROLLBACK TO a;
COMMIT;
SELECT current_user, current_setting('search_path') AS search_path, current_setting('application_name') AS application_name;
RESET ROLE;
RESET search_path;
SELECT projections.catch_up() >= 3 AS caught_up;
SELECT role, restricted, array_agg(DISTINCT place ORDER BY place) AS places FROM public.listened GROUP BY 1, 2 ORDER BY 1, 2;
SELECT test.check('listening.grouped'), test.check('listening.later');
SELECT (SELECT count(*) FROM listening.seen) AS seen, (SELECT string_agg(state::text, ' ' ORDER BY key) FROM listening.reduced) AS reduced,
       (SELECT string_agg(state::text, ' ' ORDER BY key) FROM listening.machine) AS machine;

SELECT projections.drop('listening.' || p) FROM unnest('{grouped,later,reduced,reduced_later,handled,machine}'::text[]) p;
REVOKE ALL ON projections.events, projections.events_archive, projections.streams FROM listener;
REVOKE ALL ON FUNCTION projections.append(text, text, jsonb, bigint, jsonb, text, text, uuid), projections.append_many(text, jsonb, bigint, text, text) FROM appender;
DELETE FROM projections.events;
DELETE FROM projections.streams;
DROP SCHEMA listening CASCADE;
DROP TABLE public.listened;
DROP OWNED BY listener, appender;
DROP ROLE listener, appender;
