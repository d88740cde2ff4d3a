-- What the owner of a projection wrote runs as him, whoever writes its sources: when it is planned, too, which is when a
-- function that is called IMMUTABLE is called for constants.
\set VERBOSITY terse
SET client_min_messages = error;
CREATE ROLE liar;
CREATE ROLE liar_reader;
CREATE ROLE bystander;
CREATE SCHEMA lies AUTHORIZATION liar;
GRANT USAGE ON SCHEMA lies TO bystander, liar_reader;
CREATE TABLE public.ran_as (role name, place text, restricted boolean);
GRANT INSERT, SELECT ON public.ran_as TO PUBLIC;

SET ROLE liar;
SET search_path = lies, public;
-- Tells as whom it runs, and whether it may do there what a security-restricted operation forbids.
CREATE FUNCTION tell(place text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE restricted boolean := false;
BEGIN
    BEGIN
        EXECUTE 'DEALLOCATE nothing_of_this_name';
    EXCEPTION
        WHEN insufficient_privilege THEN restricted := true;
        WHEN OTHERS THEN NULL;
    END;
    INSERT INTO public.ran_as VALUES (current_user, place, restricted);
EXCEPTION WHEN read_only_sql_transaction THEN NULL;
END $$;
CREATE FUNCTION lie(place text, value int DEFAULT 0) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM lies.tell(place); RETURN value; END $$;
CREATE FUNCTION lie_true(place text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM lies.tell(place); RETURN true; END $$;
CREATE DOMAIN lying AS int CHECK (lies.lie_true('domain'));
CREATE TABLE s (id int PRIMARY KEY, k int, v int);
CREATE TABLE t (id int PRIMARY KEY, k int);
CREATE TABLE events (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, k int);
SELECT projections.register_source('events', 'position');
GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON s, t, events TO bystander;
INSERT INTO s SELECT i, i % 3, i FROM generate_series(1, 10) i;
INSERT INTO t SELECT i, i % 3 FROM generate_series(1, 10) i;
SELECT projections.create('folded', $$SELECT k + lie('key') AS k, count(*) AS n, sum(v + lie('argument')) AS v, max(v)::lying AS high, avg(v) + lie('output') AS average
    FROM s WHERE lie_true('condition') GROUP BY 1$$);
SELECT projections.create('joined', $$SELECT t.k + lie('join key') AS k, count(*) AS n FROM s JOIN t ON t.id = s.id AND lie_true('join condition') GROUP BY 1$$);
SELECT projections.create('rows', $$SELECT id, v + lie('row') AS v FROM s WHERE lie_true('row condition')$$);
SELECT projections.create('logged', $$SELECT k + lie('logged') AS k, count(*) AS n FROM s WHERE lie_true('logged condition') GROUP BY 1$$, 'async');
CREATE INDEX ON folded ((n + lie('index expression'))) WHERE lie_true('index predicate');
CREATE INDEX ON rows (v) WHERE lie_true('index predicate');
ALTER TABLE joined ADD CHECK (lies.lie_true('check') AND n >= 0);
CREATE FUNCTION fold(state jsonb, e events, key text) RETURNS jsonb IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM lies.tell('reducer'); RETURN to_jsonb(coalesce((state #>> '{}')::int, 0) + 1); END $$;
SELECT projections.create_reducer('reduced', 'events', $$(k + lie('reducer key'))::text$$, 'fold(jsonb, events, text)', mode => 'inline');
SELECT projections.create_reducer('reduced_later', 'events', $$(k + lie('later key'))::text$$, 'fold(jsonb, events, text)');
RESET ROLE;
RESET search_path;
TRUNCATE public.ran_as;

-- Each time in a session that has not planned anything yet,
\c
SET client_min_messages = error;
SET ROLE bystander;
INSERT INTO lies.s VALUES (11, 1, 1);
INSERT INTO lies.events (k) VALUES (1);
RESET ROLE;
\c
SET client_min_messages = error;
INSERT INTO lies.s VALUES (12, 1, 1), (13, 2, 2);
UPDATE lies.s SET k = 2, v = 9 WHERE id = 12;
DELETE FROM lies.s WHERE id = 1;
INSERT INTO lies.t VALUES (12, 1), (13, 2);
INSERT INTO lies.events (k) SELECT i % 2 FROM generate_series(1, 5) i;
BEGIN;
SAVEPOINT a;
INSERT INTO lies.s VALUES (14, 1, 1);
RELEASE a;
SAVEPOINT b;
INSERT INTO lies.s VALUES (15, 1, 1);
RELEASE b;
COMMENT ON TABLE lies.t IS 'a command before which everything is flushed';
SAVEPOINT c;
INSERT INTO lies.s VALUES (16, 7, 1);
SAVEPOINT d;
INSERT INTO lies.s VALUES (17, 8, 1);
RELEASE d;
ROLLBACK TO c;
INSERT INTO lies.s VALUES (18, 9, 1);
COMMIT;
SELECT projections.catch_up('lies.logged') > 0 AS caught_up;
SELECT projections.catch_up('lies.reduced_later') > 0 AS caught_up;
SELECT projections.refresh_rows('lies.folded', '{"k": 1}'), projections.refresh_rows('lies.joined', '{"k": 1}');
\c
SET client_min_messages = error;
BEGIN;
TRUNCATE lies.t;
INSERT INTO lies.t SELECT i, i % 3 FROM generate_series(1, 10) i;
COMMIT;
SELECT projections.pause('lies.folded', 'a test');
INSERT INTO lies.s VALUES (20, 1, 1);
SELECT projections.resume('lies.folded');
\c
SET client_min_messages = error;
SELECT count(*) FROM projections.verify('lies.folded');
SELECT projections.repair('lies.folded'), projections.repair('lies.joined'), projections.repair('lies.rows');
CALL projections.rebuild('lies.folded');
CALL projections.rebuild('lies.joined');
CALL projections.rebuild('lies.reduced');
-- everything ran, as the owner, and restricted.
SELECT DISTINCT role, restricted FROM public.ran_as;
SELECT projections.catch_up('lies.logged') > 0 AS caught_up;
SELECT DISTINCT place FROM public.ran_as ORDER BY 1;
SELECT test.check('lies.folded'), test.check('lies.joined'), test.check('lies.rows'), test.check('lies.logged');

-- Many savepoints do not pile up, and each may be taken back.
DO $$
BEGIN
    FOR i IN 1 .. 1000 LOOP
        BEGIN
            INSERT INTO lies.s VALUES (1000 + i, i % 5, i);
            IF i % 7 = 0 THEN RAISE EXCEPTION 'no'; END IF;
        EXCEPTION WHEN raise_exception THEN NULL;
        END;
    END LOOP;
END $$;
SELECT test.check('lies.folded'), test.check('lies.joined');

-- Who may not execute a function need not, for it is the owner who calls it; and who may write needs nothing else.
SET ROLE liar;
REVOKE EXECUTE ON FUNCTION lies.lie(text, int), lies.lie_true(text), lies.fold(jsonb, lies.events, text) FROM PUBLIC;
RESET ROLE;
\c
SET client_min_messages = error;
SET ROLE bystander;
INSERT INTO lies.s VALUES (30, 1, 1);
INSERT INTO lies.events (k) VALUES (1);
RESET ROLE;
SELECT test.check('lies.folded'), test.check('lies.joined');

DROP SCHEMA lies CASCADE;
DROP TABLE public.ran_as;
DROP ROLE liar, liar_reader, bystander;
