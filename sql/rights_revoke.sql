-- REVOKE ends what comes in: the writer goes on, the projection is stale, and GRANT and repair make it right again.
\set VERBOSITY terse
SET client_min_messages = error;
CREATE ROLE revoke_owner;
CREATE ROLE revoke_group;
CREATE ROLE revoke_writer;
CREATE SCHEMA theirs AUTHORIZATION revoke_writer;
CREATE SCHEMA mine AUTHORIZATION revoke_owner;
SET ROLE revoke_writer;
CREATE TABLE theirs.s (id int PRIMARY KEY, k int, v int);
CREATE TABLE theirs.t (id int PRIMARY KEY, k int);
CREATE TABLE theirs.events (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, k int);
GRANT USAGE ON SCHEMA theirs TO revoke_owner;
GRANT SELECT, TRIGGER ON theirs.s, theirs.t, theirs.events TO revoke_owner;
SELECT projections.register_source('theirs.events', 'position');
INSERT INTO theirs.s SELECT i, i % 3, i FROM generate_series(1, 9) i;
INSERT INTO theirs.t SELECT i, i % 3 FROM generate_series(1, 9) i;
SET ROLE revoke_owner;
SET search_path = mine;
SELECT projections.create('folded', 'SELECT k, count(*) AS n, sum(v) AS v FROM theirs.s GROUP BY k');
SELECT projections.create('counted', 'SELECT count(*) AS n FROM theirs.s');
SELECT projections.create('joined', 'SELECT t.k, count(*) AS n FROM theirs.s JOIN theirs.t USING (id) GROUP BY t.k');
SELECT projections.create('later', 'SELECT k, count(*) AS n FROM theirs.s GROUP BY k', 'async');
SELECT projections.create('upon', 'SELECT n, count(*) AS groups FROM folded GROUP BY n');
CREATE TABLE seen (k int);
CREATE FUNCTION see(e theirs.events) RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO seen VALUES (e.k); END $$;
CREATE FUNCTION fold(state jsonb, e theirs.events, key text) RETURNS jsonb IMMUTABLE LANGUAGE sql AS $$ SELECT to_jsonb(coalesce((state #>> '{}')::int, 0) + 1) $$;
SELECT projections.create_handler('handled', 'theirs.events', 'see(theirs.events)', '{seen}', mode => 'inline');
SELECT projections.create_reducer('reduced', 'theirs.events', 'k::text', 'fold(jsonb, theirs.events, text)', mode => 'inline');
RESET ROLE;
RESET search_path;
CREATE FUNCTION public.stale() RETURNS TABLE (projection regclass, stale_reason text) LANGUAGE sql AS
    $$ SELECT p.relation, p.stale_reason FROM projections_internal.projection p WHERE p.stale_since IS NOT NULL ORDER BY p.relation::text $$;
CREATE PROCEDURE public.repair_stale() LANGUAGE plpgsql AS $$
DECLARE each text;
BEGIN
    FOR each IN SELECT projections_internal._name(p.relation) FROM projections_internal.projection p WHERE p.stale_since IS NOT NULL ORDER BY 1 LOOP PERFORM projections.repair(each); END LOOP;
END $$;

-- The table.
SET ROLE revoke_writer;
INSERT INTO theirs.s VALUES (10, 1, 1);
REVOKE SELECT ON theirs.s, theirs.events FROM revoke_owner;
SET client_min_messages = warning;
INSERT INTO theirs.s VALUES (11, 1, 1), (12, 77, 1);
SET client_min_messages = error;
UPDATE theirs.s SET k = 78 WHERE id = 1;
DELETE FROM theirs.s WHERE id = 2;
INSERT INTO theirs.events (k) VALUES (5);
RESET ROLE;
SELECT * FROM public.stale();
SELECT (SELECT sum(n) FROM mine.folded) AS folded, (SELECT n FROM mine.counted) AS counted, (SELECT sum(n) FROM mine.joined) AS joined,
       (SELECT count(*) FROM mine.seen) AS seen, (SELECT count(*) FROM mine.reduced) AS reduced;
SELECT count(*) FROM mine.folded WHERE k > 70;
SELECT projections.catch_up('mine.later') > 0 AS caught_up; -- what came in before
SELECT count(*) FROM mine.later WHERE k > 70;
SET ROLE revoke_owner;
SELECT projections.repair('mine.folded');
RESET ROLE;
SET ROLE revoke_writer;
GRANT SELECT ON theirs.s, theirs.events TO revoke_owner;
RESET ROLE;
CALL public.repair_stale();
SELECT * FROM public.stale();
SELECT test.check('mine.folded'), test.check('mine.counted'), test.check('mine.joined'), test.check('mine.later'), test.check('mine.upon');

-- A column; one that the definition does not read does not matter.
SET ROLE revoke_writer;
REVOKE SELECT ON theirs.s FROM revoke_owner;
GRANT SELECT (id, k) ON theirs.s TO revoke_owner;
INSERT INTO theirs.s VALUES (20, 20, 20);
RESET ROLE;
SELECT * FROM public.stale();
SET ROLE revoke_writer;
GRANT SELECT ON theirs.s TO revoke_owner;
RESET ROLE;
CALL public.repair_stale();
SELECT test.check('mine.folded'), test.check('mine.counted'), test.check('mine.joined');

-- A function of the writer's that a definition calls, by its name or by an operator.
SET ROLE revoke_writer;
CREATE FUNCTION theirs.twice(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN 2 * $1; END';
CREATE FUNCTION theirs.above(int, int) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN $1 > $2; END';
CREATE OPERATOR theirs.>>> (LEFTARG = int, RIGHTARG = int, FUNCTION = theirs.above);
SET ROLE revoke_owner;
SELECT projections.create('mine.doubled', 'SELECT k, sum(theirs.twice(v)) AS v FROM theirs.s GROUP BY k');
SELECT projections.create('mine.filtered', 'SELECT id, v FROM theirs.s WHERE v OPERATOR(theirs.>>>) 5');
SELECT projections.create('mine.both', 'SELECT t.k, sum(theirs.twice(v)) AS v FROM theirs.s JOIN theirs.t USING (id) GROUP BY t.k');
SET ROLE revoke_writer;
REVOKE EXECUTE ON FUNCTION theirs.twice(int), theirs.above(int, int) FROM PUBLIC;
SET client_min_messages = warning;
INSERT INTO theirs.s VALUES (21, 1, 100);
SET client_min_messages = error;
RESET ROLE;
SELECT * FROM public.stale();
SELECT count(*) FROM mine.filtered WHERE v = 100;
SELECT problem, hint FROM projections.validate() WHERE problem ~ '^its owner' ORDER BY 1, 2;
SET ROLE revoke_writer;
GRANT EXECUTE ON FUNCTION theirs.twice(int), theirs.above(int, int) TO revoke_owner;
RESET ROLE;
CALL public.repair_stale();
SELECT * FROM public.stale();
SELECT test.check('mine.doubled'), test.check('mine.filtered'), test.check('mine.both');

-- The schema: maintenance names the source as its owner, so writers would fail where he may not.
SET ROLE revoke_writer;
REVOKE USAGE ON SCHEMA theirs FROM revoke_owner;
SET client_min_messages = warning;
INSERT INTO theirs.s VALUES (25, 25, 25);
SET client_min_messages = error;
UPDATE theirs.s SET k = 26 WHERE id = 25;
INSERT INTO theirs.t VALUES (25, 25);
INSERT INTO theirs.events (k) VALUES (6);
RESET ROLE;
SELECT * FROM public.stale();
SELECT (SELECT count(*) FROM mine.folded WHERE k IN (25, 26)) AS folded, (SELECT count(*) FROM mine.seen WHERE k = 6) AS seen;
SET ROLE revoke_writer;
GRANT USAGE ON SCHEMA theirs TO revoke_owner;
RESET ROLE;
CALL public.repair_stale();
SELECT * FROM public.stale();
SELECT test.check('mine.folded'), test.check('mine.counted'), test.check('mine.joined'), test.check('mine.later');

-- A schema of which only the definition's function, operator and type are; and of a feed's type.
RESET ROLE;
CREATE SCHEMA tools AUTHORIZATION revoke_writer;
GRANT USAGE ON SCHEMA tools TO revoke_owner;
SET ROLE revoke_writer;
CREATE FUNCTION tools.twice(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN 2 * $1; END';
CREATE FUNCTION tools.above(int, int) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN $1 > $2; END';
CREATE OPERATOR tools.>>> (LEFTARG = int, RIGHTARG = int, FUNCTION = tools.above);
CREATE DOMAIN tools.amount AS int;
SET ROLE revoke_owner;
SELECT projections.create('mine.by_function', 'SELECT k, sum(tools.twice(v)) AS v FROM theirs.s GROUP BY k');
SELECT projections.create('mine.by_operator', 'SELECT id, v FROM theirs.s WHERE v OPERATOR(tools.>>>) 5');
SELECT projections.create('mine.by_type', 'SELECT k, max(v::tools.amount) AS v FROM theirs.s GROUP BY k');
SET ROLE revoke_writer;
REVOKE USAGE ON SCHEMA tools FROM revoke_owner;
SET client_min_messages = warning;
INSERT INTO theirs.s VALUES (27, 27, 270);
SET client_min_messages = error;
RESET ROLE;
SELECT * FROM public.stale();
SELECT object, problem, hint FROM projections.validate() WHERE problem ~ '^its owner' ORDER BY 1, 2;
SET ROLE revoke_writer;
GRANT USAGE ON SCHEMA tools TO revoke_owner;
RESET ROLE;
CALL public.repair_stale();
SELECT * FROM public.stale();
SELECT test.check('mine.by_function'), test.check('mine.by_operator'), test.check('mine.by_type');
SET ROLE revoke_owner;
SELECT projections.drop('mine.by_function'), projections.drop('mine.by_operator'), projections.drop('mine.by_type');
RESET ROLE;
DROP SCHEMA tools CASCADE;

-- A membership, and within one transaction: what is flushed before the REVOKE has come in.
SET ROLE revoke_writer;
GRANT SELECT ON theirs.s TO revoke_group;
REVOKE SELECT ON theirs.s FROM revoke_owner;
RESET ROLE;
GRANT revoke_group TO revoke_owner;
INSERT INTO theirs.s VALUES (30, 30, 30);
SELECT * FROM public.stale();
REVOKE revoke_group FROM revoke_owner;
INSERT INTO theirs.s VALUES (31, 31, 31);
SELECT * FROM public.stale();
GRANT revoke_group TO revoke_owner;
CALL public.repair_stale();
SELECT * FROM public.stale();
BEGIN;
INSERT INTO theirs.s VALUES (33, 33, 33);
REVOKE revoke_group FROM revoke_owner;
COMMIT;
SELECT count(*) FROM mine.folded WHERE k = 33;
SELECT projection FROM public.stale();
GRANT revoke_group TO revoke_owner;
CALL public.repair_stale();
-- A savepoint takes the change back, and nothing was missed.
REVOKE revoke_group FROM revoke_owner;
BEGIN;
SAVEPOINT a;
INSERT INTO theirs.s VALUES (34, 34, 34);
ROLLBACK TO a;
COMMIT;
SELECT * FROM public.stale();
BEGIN;
TRUNCATE theirs.s;
COMMIT;
SELECT projection FROM public.stale();
GRANT revoke_group TO revoke_owner;
CALL public.repair_stale();
SELECT test.check('mine.folded'), test.check('mine.counted'), test.check('mine.joined'), test.check('mine.later'), test.check('mine.upon');

DROP SCHEMA mine CASCADE;
DROP SCHEMA theirs CASCADE;
DROP FUNCTION public.stale();
DROP PROCEDURE public.repair_stale();
DROP ROLE revoke_owner, revoke_group, revoke_writer;

-- catch_up() of all leaves out what its owner may not read, says so, and catches up the others.
SET client_min_messages = warning;
CREATE ROLE pj_left_out;
CREATE SCHEMA left_out AUTHORIZATION pj_left_out;
CREATE TABLE left_out.s (id int PRIMARY KEY, v int);
GRANT SELECT, TRIGGER ON left_out.s TO pj_left_out;
SET client_min_messages = error;
SET ROLE pj_left_out;
SELECT projections.create('left_out.p', 'SELECT v, count(*) AS n FROM left_out.s GROUP BY v', 'async');
RESET ROLE;
SELECT projections.create('left_out.q', 'SELECT v, sum(id) AS n FROM left_out.s GROUP BY v', 'async');
SET client_min_messages = warning;
REVOKE SELECT ON left_out.s FROM pj_left_out;
INSERT INTO left_out.s VALUES (1, 1), (2, 1);
SELECT projections.catch_up() > 0 AS applied;
SELECT * FROM left_out.q;
GRANT SELECT ON left_out.s TO pj_left_out;
SELECT projections.repair('left_out.p');
SELECT projections.catch_up() >= 0 AS applied;
SELECT test.check('left_out.p'), test.check('left_out.q');
DROP SCHEMA left_out CASCADE;
DROP ROLE pj_left_out;
