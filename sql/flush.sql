-- When maintenance runs: before whatever reads a projection, at commit, and never in the middle of a statement.
CREATE SCHEMA flush;
SET search_path = flush;
SET client_min_messages = warning;
\set SHOW_CONTEXT never

CREATE TABLE a (id int PRIMARY KEY, k int, n int);
CREATE TABLE b (id int PRIMARY KEY, k int, n int);
SELECT projections.create('sums', 'SELECT k, sum(n) AS n, count(*) AS rows FROM a GROUP BY k');
SELECT projections.create('total', 'SELECT sum(n) AS n FROM a');
SELECT projections.create('joined', 'SELECT a.k, sum(a.n::bigint * b.n) AS n, count(*) AS rows FROM a JOIN b ON b.k = a.k GROUP BY a.k');
SELECT projections.create('extrema', 'SELECT k, min(n) AS low, max(n) AS high FROM a GROUP BY k');
SELECT projections.create('joined_rows', 'SELECT a.n AS an, b.n AS bn FROM a JOIN b USING (k)');
INSERT INTO a SELECT i, i % 3, i FROM generate_series(1, 9) AS i;
INSERT INTO b SELECT i, i % 3, 10 * i FROM generate_series(1, 6) AS i;
SELECT * FROM test.check_all();

--
-- A transaction reads what it wrote, whatever it reads with
--
CREATE VIEW seen AS SELECT k, n FROM sums;
CREATE FUNCTION in_plpgsql() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT n FROM flush.sums WHERE k = 0); END $$;
CREATE FUNCTION in_sql() RETURNS bigint LANGUAGE sql AS $$ SELECT n FROM flush.sums WHERE k = 0 $$;
CREATE FUNCTION in_atomic() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT n FROM flush.sums WHERE k = 0; END;
CREATE FUNCTION in_stable() RETURNS bigint LANGUAGE sql STABLE AS $$ SELECT n FROM flush.sums WHERE k = 0 $$;
CREATE FUNCTION in_dynamic() RETURNS bigint LANGUAGE plpgsql STABLE AS $$ DECLARE r bigint; BEGIN EXECUTE 'SELECT n FROM flush.' || 'sums WHERE k = 0' INTO r; RETURN r; END $$;
CREATE FUNCTION explained(query text) RETURNS int LANGUAGE plpgsql AS $$
DECLARE plan json;
BEGIN EXECUTE 'EXPLAIN (ANALYZE, FORMAT json) ' || query INTO plan; RETURN (plan -> 0 -> 'Plan' ->> 'Actual Rows')::numeric::int; END $$;
PREPARE prepared AS SELECT n FROM sums WHERE k = 0;
EXECUTE prepared;
BEGIN;
UPDATE a SET n = n + 1 WHERE id = 3;
SELECT n FROM sums WHERE k = 0;
UPDATE a SET n = n + 1 WHERE id = 3;
SELECT n FROM seen WHERE k = 0;
UPDATE a SET n = n + 1 WHERE id = 3;
SELECT (SELECT s.n FROM sums s WHERE s.k = 0) AS n;
UPDATE a SET n = n + 1 WHERE id = 3;
WITH w AS (SELECT n FROM sums WHERE k = 0) SELECT n FROM w;
UPDATE a SET n = n + 1 WHERE id = 3;
SELECT in_plpgsql();
UPDATE a SET n = n + 1 WHERE id = 3;
SELECT in_sql();
UPDATE a SET n = n + 1 WHERE id = 3;
SELECT in_atomic();
UPDATE a SET n = n + 1 WHERE id = 3;
SELECT in_stable();
UPDATE a SET n = n + 1 WHERE id = 3;
SELECT in_dynamic();
UPDATE a SET n = n + 1 WHERE id = 3;
EXECUTE prepared;
UPDATE a SET n = n + 1 WHERE id = 3;
SELECT explained('SELECT FROM sums WHERE n = 29') AS found;
UPDATE a SET n = n + 1 WHERE id = 3;
COPY (SELECT n FROM sums WHERE k = 0) TO stdout;
UPDATE a SET n = n + 1 WHERE id = 3;
COPY total (n) TO stdout;
UPDATE a SET n = n + 1 WHERE id = 3;
CREATE TABLE made AS SELECT n FROM sums WHERE k = 0;
SELECT n FROM made;
UPDATE a SET n = n + 1 WHERE id = 3;
INSERT INTO made SELECT n FROM sums WHERE k = 0;
SELECT n FROM made ORDER BY n;
UPDATE a SET n = n + 1 WHERE id = 3;
UPDATE made SET n = sums.n FROM sums WHERE sums.k = 0;
SELECT DISTINCT n FROM made;
UPDATE a SET n = n + 1 WHERE id = 3;
DELETE FROM made USING sums WHERE sums.k = 0 AND sums.n = made.n;
SELECT count(*) AS kept FROM made;
UPDATE a SET n = n + 1 WHERE id = 3;
DO $$ BEGIN RAISE WARNING 'n = %', (SELECT n FROM flush.sums WHERE k = 0); END $$;
UPDATE a SET n = n + 1 WHERE id = 3;
CREATE MATERIALIZED VIEW kept AS SELECT n FROM sums WHERE k = 0;
SELECT n FROM kept;
UPDATE a SET n = n + 1 WHERE id = 3;
REFRESH MATERIALIZED VIEW kept;
SELECT n FROM kept;
UPDATE a SET n = n + 1, k = 77 WHERE id = 3;
CREATE UNIQUE INDEX sums_n ON sums (n, k);
SET LOCAL enable_seqscan = off;
SELECT k, n FROM sums WHERE n = (SELECT n FROM a WHERE id = 3);
SELECT * FROM test.check_all();
ROLLBACK;
SELECT * FROM test.check_all();

-- A cursor shows the moment of its declaration; one declared after a change shows that change.
BEGIN;
DECLARE before CURSOR FOR SELECT k, n FROM sums ORDER BY k;
FETCH 1 FROM before;
UPDATE a SET n = n + 100;
FETCH 1 FROM before;
DECLARE later CURSOR FOR SELECT k, n FROM sums ORDER BY k;
FETCH ALL FROM later;
FETCH ALL FROM before;
DECLARE held CURSOR WITH HOLD FOR SELECT k, n FROM sums ORDER BY k;
UPDATE a SET n = n - 100;
COMMIT;
FETCH ALL FROM held;
CLOSE held;
SELECT * FROM test.check_all();
DO $$
DECLARE
    r record;
BEGIN
    FOR r IN SELECT k, n FROM flush.sums ORDER BY k LOOP
        UPDATE flush.a SET n = n + r.n WHERE k = r.k;
        RAISE WARNING '%: % then %', r.k, r.n, (SELECT n FROM flush.sums WHERE k = r.k);
    END LOOP;
END
$$;
SELECT * FROM test.check_all();
UPDATE a SET n = id;

-- Each isolation level.
BEGIN ISOLATION LEVEL REPEATABLE READ;
UPDATE a SET n = n + 1;
SELECT k, n FROM sums ORDER BY k;
INSERT INTO b VALUES (50, 0, 5);
SELECT k, n, rows FROM joined ORDER BY k;
COMMIT;
SELECT * FROM test.check_all();
BEGIN ISOLATION LEVEL SERIALIZABLE;
UPDATE a SET n = n - 1;
SELECT k, low, high FROM extrema ORDER BY k;
DELETE FROM b WHERE id = 50;
COMMIT;
SELECT * FROM test.check_all();

--
-- Savepoints
--
-- The trap: the parent's changes are written by a read inside the savepoint; when that rolls back, they are pending again.
BEGIN;
UPDATE a SET n = n + 1 WHERE id = 1;
SAVEPOINT s;
SELECT k, n FROM sums WHERE k = 1;
SELECT k, n, rows FROM joined WHERE k = 1;
ROLLBACK TO s;
SELECT * FROM test.check_all();
SELECT k, n FROM sums WHERE k = 1;
COMMIT;
SELECT * FROM test.check_all();
BEGIN;
UPDATE a SET n = n + 1 WHERE id = 1;
SAVEPOINT s1;
INSERT INTO a VALUES (20, 1, 1000);
SAVEPOINT s2;
UPDATE b SET n = n + 1;
SELECT k, n, rows FROM joined WHERE k = 1;
ROLLBACK TO s2;
DELETE FROM a WHERE id = 4;
ROLLBACK TO s1;
INSERT INTO a VALUES (20, 1, 50);
SAVEPOINT s3;
DELETE FROM b WHERE id = 1;
RELEASE s3;
SAVEPOINT s4;
SELECT k, n, rows FROM joined WHERE k = 1;
INSERT INTO b VALUES (20, 1, 7);
RELEASE s4;
ROLLBACK TO s1;
COMMIT;
SELECT * FROM test.check_all();
BEGIN;
SAVEPOINT s1;
UPDATE a SET k = 5 WHERE id = 2;
SAVEPOINT s2;
SELECT k, n FROM sums WHERE k = 5;
RELEASE s2;
SAVEPOINT s3;
UPDATE a SET k = 6 WHERE id = 2;
SELECT k, n FROM sums WHERE k IN (5, 6);
SAVEPOINT s4;
UPDATE a SET k = 7 WHERE id = 2;
ROLLBACK TO s3;
SELECT k, n FROM sums WHERE k IN (5, 6, 7);
RELEASE s1;
COMMIT;
SELECT * FROM test.check_all();
-- many of them, each written by its own read, half of them undone
DO $$
BEGIN
    FOR i IN 1..200 LOOP
        BEGIN
            INSERT INTO flush.a VALUES (1000 + i, i % 3, i);
            UPDATE flush.b SET n = n + i WHERE id = 1 + i % 6;
            IF i % 5 = 0 THEN PERFORM n FROM flush.sums WHERE k = 1; END IF;
            IF i % 7 = 0 THEN PERFORM n FROM flush.joined WHERE k = 1; END IF;
            IF i % 2 = 0 THEN RAISE EXCEPTION 'undone'; END IF;
        EXCEPTION WHEN raise_exception THEN NULL;
        END;
    END LOOP;
END
$$;
SELECT count(*) FROM a WHERE id > 1000;
SELECT * FROM test.check_all();
DO $$
BEGIN
    UPDATE flush.a SET n = n + 1 WHERE id = 1;
    BEGIN
        DELETE FROM flush.a WHERE id > 1000;
        PERFORM 1 FROM flush.joined;
        BEGIN
            UPDATE flush.a SET n = n * 2;
            PERFORM 1 FROM flush.sums;
            PERFORM 1 / 0;
        EXCEPTION WHEN division_by_zero THEN
            PERFORM test.check('flush.sums'), test.check('flush.joined');
        END;
        RAISE EXCEPTION 'undone';
    EXCEPTION WHEN raise_exception THEN
        PERFORM test.check('flush.sums'), test.check('flush.joined');
    END;
    DELETE FROM flush.a WHERE id BETWEEN 1001 AND 1100;
END
$$;
SELECT * FROM test.check_all();
DELETE FROM a WHERE id > 1000;
-- a transaction that fails leaves nothing
BEGIN;
UPDATE a SET n = 0;
SELECT k, n FROM sums ORDER BY k;
SELECT 1 / 0;
COMMIT;
SELECT * FROM test.check_all();
SELECT k, n FROM sums ORDER BY k;

--
-- Reads in the middle of a statement: a user's trigger on a source
--
-- What a block of one table has captured may be read at once; a join may not, for all rows of the statement are in the
-- table before the first of them is captured, and would be counted again with each.
CREATE TABLE observed (step text, joined bigint);
CREATE FUNCTION observe() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO flush.observed SELECT TG_LEVEL || ' ' || TG_OP, (SELECT sum(rows) FROM flush.joined);
    PERFORM 1 FROM flush.sums; PERFORM 1 FROM flush.extrema; PERFORM 1 FROM flush.joined_rows;
    RETURN NULL;
END
$$;
CREATE TRIGGER z_observe_row AFTER INSERT OR UPDATE OR DELETE ON a FOR EACH ROW EXECUTE FUNCTION observe();
CREATE TRIGGER a_observe_row AFTER INSERT OR UPDATE OR DELETE ON a FOR EACH ROW EXECUTE FUNCTION observe();
CREATE TRIGGER observe_statement AFTER INSERT OR UPDATE OR DELETE ON a FOR EACH STATEMENT EXECUTE FUNCTION observe();
CREATE TRIGGER observe_b AFTER INSERT OR UPDATE OR DELETE ON b FOR EACH ROW EXECUTE FUNCTION observe();
SELECT sum(rows) FROM joined;
INSERT INTO a VALUES (30, 0, 1), (31, 1, 2), (32, 2, 3), (33, 0, 4);
SELECT DISTINCT step, joined FROM observed WHERE step LIKE 'ROW%' ORDER BY 1, 2;
SELECT * FROM test.check_all();
SELECT sum(rows) FROM joined;
UPDATE a SET k = (k + 1) % 3, n = n + 1 WHERE id >= 30;
SELECT * FROM test.check_all();
INSERT INTO b SELECT i, i % 3, i FROM generate_series(30, 35) AS i;
SELECT * FROM test.check_all();
BEGIN;
DELETE FROM a WHERE id >= 30;
INSERT INTO b VALUES (40, 1, 1), (41, 1, 1);
UPDATE a SET n = n + 1;
COMMIT;
SELECT * FROM test.check_all();
WITH x AS (INSERT INTO a VALUES (60, 1, 1), (61, 1, 1)), y AS (DELETE FROM b WHERE id >= 40) UPDATE b SET k = (k + 1) % 3 WHERE id < 40;
SELECT * FROM test.check_all();
-- a function in a statement's list reads the projection between its rows
INSERT INTO a SELECT 70 + i, 1, coalesce(in_plpgsql(), 0) FROM generate_series(1, 3) AS i;
SELECT * FROM test.check_all();
UPDATE a SET n = in_plpgsql() WHERE k = 0;
SELECT * FROM test.check_all();
DROP TRIGGER z_observe_row ON a; DROP TRIGGER a_observe_row ON a; DROP TRIGGER observe_statement ON a; DROP TRIGGER observe_b ON b;
-- a trigger that writes: the same table and another source, within the statement
CREATE FUNCTION echo() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF pg_trigger_depth() = 1 THEN
        INSERT INTO flush.b VALUES (NEW.id + 1000, NEW.k, NEW.n);
        UPDATE flush.a SET n = n + (SELECT count(*) FROM flush.joined) WHERE id = NEW.id;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER echo AFTER INSERT ON a FOR EACH ROW EXECUTE FUNCTION echo();
INSERT INTO a VALUES (80, 0, 1), (81, 1, 2), (82, 2, 3);
SELECT * FROM test.check_all();
DROP TRIGGER echo ON a;

--
-- A user's AFTER trigger on a projection that writes a source
--
CREATE FUNCTION follow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.n < 100 THEN UPDATE flush.a SET n = n + 40 WHERE id = (SELECT min(id) FROM flush.a WHERE k = NEW.k); END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER follow AFTER INSERT OR UPDATE ON sums FOR EACH ROW EXECUTE FUNCTION follow();
INSERT INTO a VALUES (90, 9, 1);
SELECT k, n FROM sums WHERE k = 9;
SELECT * FROM test.check_all();
BEGIN;
UPDATE a SET n = 2 WHERE id = 90;
SELECT k, n FROM sums WHERE k = 9;
SELECT * FROM test.check_all();
COMMIT;
SELECT k, n FROM sums WHERE k = 9;
SELECT * FROM test.check_all();
-- one that never ends
CREATE OR REPLACE FUNCTION follow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE flush.a SET n = n + 1 WHERE id = 90;
    RETURN NULL;
END
$$;
UPDATE a SET n = 3 WHERE id = 90;
DROP TRIGGER follow ON sums;
SELECT * FROM test.check_all();
SELECT n FROM a WHERE id = 90;

--
-- pg_projections.flush = statement
--
SET pg_projections.flush = statement;
CREATE TABLE writes (level text);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO flush.writes VALUES (TG_OP); RETURN NULL; END $$;
CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON sums FOR EACH ROW EXECUTE FUNCTION note();
BEGIN;
UPDATE a SET n = n + 1 WHERE id = 90;
SELECT count(*) FROM writes;
UPDATE a SET n = n + 1 WHERE id = 90;
SELECT count(*) FROM writes;
WITH x AS (INSERT INTO a VALUES (95, 0, 1)) INSERT INTO b VALUES (95, 0, 2);
COMMIT;
SELECT * FROM test.check_all();
DELETE FROM a WHERE id = 90;
SELECT * FROM test.check_all();
RESET pg_projections.flush;
TRUNCATE writes;
-- and the default, which writes once for both
BEGIN;
UPDATE a SET n = n + 1 WHERE id = 95;
UPDATE a SET n = n + 1 WHERE id = 95;
COMMIT;
SELECT count(*) FROM writes;
SET pg_projections.flush = sometimes;
DROP TRIGGER note ON sums;

--
-- Deferred triggers and constraints
--
-- A source's deferred constraint trigger writes at commit.
CREATE FUNCTION write_late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO flush.b VALUES (NEW.id + 2000, NEW.k, 1); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON a DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION write_late();
INSERT INTO a VALUES (100, 1, 1);
SELECT * FROM test.check_all();
BEGIN;
INSERT INTO a VALUES (101, 2, 1);
SELECT k, rows FROM joined ORDER BY k;
COMMIT;
SELECT count(*) FROM b WHERE id > 2000;
SELECT * FROM test.check_all();
DROP TRIGGER late ON a;
-- What a trigger on a projection writes is checked, although it comes after the deferred checks of the commit.
CREATE TABLE parents (id int PRIMARY KEY);
CREATE TABLE children (parent bigint REFERENCES parents DEFERRABLE INITIALLY DEFERRED);
CREATE FUNCTION write_child() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO flush.children VALUES (NEW.n); RETURN NULL; END $$;
CREATE TRIGGER child AFTER INSERT OR UPDATE ON sums FOR EACH ROW EXECUTE FUNCTION write_child();
INSERT INTO a VALUES (110, 50, 12345);
SELECT count(*) FROM a WHERE id = 110;
SELECT count(*) FROM children;
INSERT INTO parents VALUES (12345);
INSERT INTO a VALUES (110, 50, 12345);
SELECT count(*) FROM children;
-- Before the commit maintenance, which is security-restricted, may defer nothing: an error, but nothing is left unchecked.
BEGIN;
INSERT INTO a VALUES (111, 51, 777);
SELECT n FROM sums WHERE k = 51;
COMMIT;
SELECT * FROM test.check_all();
DROP TRIGGER child ON sums;

--
-- Two-phase commit, procedures
--
BEGIN;
INSERT INTO a VALUES (120, 1, 1);
DELETE FROM b WHERE id = 2;
PREPARE TRANSACTION 'flush_1';
SELECT * FROM test.check_all();
COMMIT PREPARED 'flush_1';
SELECT count(*) FROM a WHERE id = 120;
SELECT * FROM test.check_all();
BEGIN;
SELECT k, n FROM sums WHERE k = 1;
UPDATE a SET n = n + 1;
PREPARE TRANSACTION 'flush_2';
ROLLBACK PREPARED 'flush_2';
SELECT * FROM test.check_all();
CREATE PROCEDURE in_parts() LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1..3 LOOP
        INSERT INTO flush.a VALUES (130 + i, 1, i);
        PERFORM n FROM flush.sums WHERE k = 1;
        INSERT INTO flush.b VALUES (130 + i, 1, i);
        IF i = 2 THEN ROLLBACK; ELSE COMMIT; END IF;
        PERFORM test.check('flush.sums'), test.check('flush.joined');
    END LOOP;
END
$$;
CALL in_parts();
SELECT id FROM a WHERE id > 130 ORDER BY id;
SELECT * FROM test.check_all();

--
-- Errors at flush: the transaction aborts, and the message says in which projection
--
ALTER TABLE sums ADD CONSTRAINT never_negative CHECK (n >= 0);
-- only the delta is negative, and on the way the sum is
UPDATE a SET n = n - 1 WHERE k = 1;
BEGIN;
UPDATE a SET n = n - 1000000 WHERE id = 1;
UPDATE a SET n = n + 1000000 WHERE id = 1;
COMMIT;
SELECT * FROM test.check_all();
UPDATE a SET n = n - 1000000 WHERE id = 1;
SELECT count(*) FROM a WHERE n < -1000;
DO $$
DECLARE
    context text;
BEGIN
    UPDATE flush.a SET n = n - 1000000 WHERE id = 1;
    PERFORM n FROM flush.sums;
EXCEPTION WHEN check_violation THEN
    GET STACKED DIAGNOSTICS context = PG_EXCEPTION_CONTEXT;
    RAISE WARNING '%', substring(context FROM '(?n)^maintenance of projection .*$');
END
$$;
SELECT * FROM test.check_all();
BEGIN;
UPDATE a SET n = n - 1000000 WHERE id = 1;
SAVEPOINT s;
SELECT n FROM sums WHERE k = 1;
ROLLBACK TO s;
UPDATE a SET n = n + 1000000 WHERE id = 1;
COMMIT;
SELECT * FROM test.check_all();
ALTER TABLE sums DROP CONSTRAINT never_negative;
-- statement_timeout holds for the flush at commit, whose statement is over
CREATE FUNCTION slowly(value int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN IF value = 666 THEN PERFORM pg_sleep(60); END IF; RETURN value; END $$;
SELECT projections.create('slow', 'SELECT b.k, sum(flush.slowly(a.n)) AS n FROM a JOIN b USING (k) GROUP BY b.k');
BEGIN;
SET LOCAL statement_timeout = '300ms';
INSERT INTO a VALUES (140, 1, 666);
COMMIT;
SELECT count(*) FROM a WHERE id = 140;
SELECT * FROM test.check_all();
SET statement_timeout = '300ms';
INSERT INTO a VALUES (140, 1, 666);
RESET statement_timeout;
SELECT projections.drop('slow');
SELECT * FROM test.check_all();

--
-- delta_memory
--
SET pg_projections.delta_memory = '64kB';
INSERT INTO a SELECT i, i % 5000, i FROM generate_series(10001, 40000) AS i;
SELECT * FROM test.check_all();
BEGIN;
UPDATE a SET n = n + 1, k = k + 1 WHERE id > 10000;
INSERT INTO b SELECT i, i % 5000, i FROM generate_series(10001, 20000) AS i;
SAVEPOINT s;
DELETE FROM a WHERE id > 20000;
ROLLBACK TO s;
DELETE FROM a WHERE id > 30000;
COMMIT;
SELECT * FROM test.check_all();
BEGIN;
DELETE FROM a WHERE id > 10000;
SELECT count(*) FROM sums;
DELETE FROM b WHERE id > 10000;
COMMIT;
SELECT * FROM test.check_all();
RESET pg_projections.delta_memory;

--
-- A TRUNCATE that waits, read in the middle of the statement that writes the source again
--
CREATE FUNCTION reading(value int) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    IF value = 5 THEN PERFORM count(*) FROM flush.sums; PERFORM count(*) FROM flush.joined; END IF;
    RETURN value;
END
$$;
BEGIN;
TRUNCATE a;
INSERT INTO a SELECT i, 1, flush.reading(i) FROM generate_series(1, 9) AS i;
SELECT k, n, rows FROM sums;
COMMIT;
SELECT * FROM test.check_all();
-- An update that changes digits and no value.
CREATE TABLE digits (id int PRIMARY KEY, v numeric);
SELECT projections.create('averages', 'SELECT avg(v)::text AS average FROM digits');
INSERT INTO digits VALUES (1, 3), (2, 4);
SELECT average FROM averages;
UPDATE digits SET v = 3.00000000000000000000 WHERE id = 1;
SELECT average FROM averages;
SELECT * FROM test.check_all();
-- A change log that is consumed in parts, of a definition that reads its source again.
CREATE TABLE logged (id int PRIMARY KEY, g int, v int);
SELECT projections.create('tops', 'SELECT g, max(v) AS top, count(*) AS rows FROM logged GROUP BY g', 'async', options => '{"batch_size": 1}');
INSERT INTO logged SELECT i, 1, i FROM generate_series(1, 9) AS i;
SELECT projections.catch_up('tops') > 0 AS caught_up;
DELETE FROM logged WHERE id > 7;
INSERT INTO logged VALUES (10, 1, 3), (11, 1, 4);
SELECT projections.catch_up('tops', 1) > 0 AS caught_up;
SELECT projections.catch_up('tops') >= 0 AS caught_up;
SELECT * FROM projections.verify('tops');
SELECT * FROM test.check_all();

DROP SCHEMA flush CASCADE;
SELECT count(*) AS projections FROM projections.definitions;
