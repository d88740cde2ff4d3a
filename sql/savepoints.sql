-- What a savepoint or an EXCEPTION block takes back leaves the outer transaction's pending changes as they were; and what
-- recomputes rows counts the transaction's own changes once.
CREATE SCHEMA savepoints;
SET search_path = savepoints;
SET client_min_messages = warning;
\set SHOW_CONTEXT never

CREATE TABLE a (id int PRIMARY KEY, k int, n int);
CREATE TABLE b (id int PRIMARY KEY, k int, n int);
SELECT projections.create('counted', 'SELECT k, count(*) AS rows, sum(n) AS n FROM a GROUP BY k');
SELECT projections.create('highest', 'SELECT k, max(n) AS high, count(*) AS rows FROM a GROUP BY k');
SELECT projections.create('joined', 'SELECT a.k, sum(a.n * b.n) AS n, count(*) AS rows FROM a JOIN b ON b.k = a.k GROUP BY a.k');
SELECT projections.create('pairs', 'SELECT a.id, b.id AS other, a.n FROM a JOIN b USING (k)');
SELECT projections.create('above', 'SELECT sum(rows) AS rows, max(n) AS n FROM counted');
SELECT projections.create('later', 'SELECT k, count(*) AS rows, min(n) AS low FROM a GROUP BY k', 'async');
INSERT INTO a SELECT i, i % 3, i FROM generate_series(1, 9) AS i;
INSERT INTO b SELECT i, i % 3, 10 * i FROM generate_series(1, 6) AS i;
SELECT projections.catch_up('later');
SELECT * FROM test.check_all();

-- An action inside a savepoint, among changes before, in and after it.
CREATE PROCEDURE around(action text, depth int DEFAULT 1) LANGUAGE plpgsql AS $$
DECLARE
    next int := (SELECT coalesce(max(id), 0) + 1 FROM savepoints.a);
BEGIN
    INSERT INTO savepoints.a VALUES (next, depth % 3, next), (next + 1, 7, 1);
    UPDATE savepoints.b SET n = n + 1 WHERE id = 1 + depth;
    BEGIN
        DELETE FROM savepoints.a WHERE id = next + 1;
        IF depth > 1 THEN
            CALL savepoints.around(action, depth - 1);
        ELSE
            EXECUTE action;
            INSERT INTO savepoints.a VALUES (next + 2, 0, 5);
            UPDATE savepoints.b SET n = n + 1;
        END IF;
        RAISE EXCEPTION 'taken back';
    EXCEPTION WHEN raise_exception THEN NULL;
    END;
    UPDATE savepoints.a SET n = n + 1 WHERE id = next;
END
$$;
CREATE TABLE actions (number serial PRIMARY KEY, action text);
INSERT INTO actions (action) VALUES
    ($$SELECT 1$$),
    ($$SELECT projections.pause('counted', 'test')$$),
    ($$SELECT projections.pause('highest', 'test')$$),
    ($$SELECT projections.pause('joined', 'test')$$),
    ($$SELECT projections.pause('pairs', 'test')$$),
    ($$SELECT projections.pause('counted', 'test'), projections.resume('counted')$$),
    ($$SELECT projections.drop('above'); SELECT projections.drop('counted')$$),
    ($$DROP TABLE savepoints.above; DROP TABLE savepoints.counted; DROP TABLE savepoints.joined$$),
    ($$SELECT projections.drop('highest', keep_table => true)$$),
    ($$SELECT projections.drop('joined'); SELECT projections.create('joined', 'SELECT k, count(*) AS rows FROM savepoints.a GROUP BY k')$$),
    ($$SELECT projections.create('another', 'SELECT k, max(n) FROM savepoints.a GROUP BY k')$$),
    ($$SELECT projections.refresh_rows('counted', '[{"k": 0}, {"k": 1}, {"k": 7}]')$$),
    ($$SELECT projections.refresh_rows('joined', '[{"k": 0}, {"k": 1}, {"k": 7}]')$$),
    ($$SELECT projections.refresh_source('savepoints.a', '[{"id": 1}, {"id": 2}]')$$),
    ($$SELECT projections.repair('counted'); SELECT projections.repair('pairs')$$),
    ($$SELECT * FROM projections.verify('joined')$$),
    ($$SET LOCAL client_min_messages = error; ALTER TABLE savepoints.a DISABLE TRIGGER projections_capture; INSERT INTO savepoints.a VALUES (1000, 0, 5)$$),
    ($$ALTER TABLE savepoints.a RENAME COLUMN n TO m; ALTER TABLE savepoints.a RENAME COLUMN m TO n$$),
    ($$ALTER TABLE savepoints.counted ADD CHECK (n >= 0)$$),
    ($$TRUNCATE savepoints.a$$),
    ($$TRUNCATE savepoints.b; SELECT count(*) FROM savepoints.joined$$),
    ($$SELECT count(*) FROM savepoints.joined, savepoints.above; TRUNCATE savepoints.a; SELECT count(*) FROM savepoints.pairs$$),
    ($$SELECT projections.catch_up('later')$$),
    ($$SELECT projections.drop('later')$$);
CREATE PROCEDURE try(depth int) LANGUAGE plpgsql AS $$
DECLARE
    each record;
BEGIN
    FOR each IN SELECT * FROM savepoints.actions ORDER BY number LOOP
        CALL savepoints.around(each.action, depth);
        COMMIT;
        PERFORM projections.catch_up('later');
        COMMIT;
        BEGIN
            PERFORM * FROM test.check_all();
        EXCEPTION WHEN raise_exception THEN
            RAISE WARNING '%: %', each.action, SQLERRM;
            PERFORM projections.repair(d.relation::text) FROM projections.definitions AS d;
        END;
    END LOOP;
END
$$;
CALL try(1);
CALL try(3);
SELECT * FROM test.check_all();
SELECT projection, status FROM projections.status ORDER BY 1;

-- The same with savepoints of SQL: released, rolled back to twice, paused and resumed on different sides of one.
BEGIN;
INSERT INTO a VALUES (10100, 1, 1);
SAVEPOINT s1;
SELECT projections.pause('counted', 'test');
INSERT INTO a VALUES (10101, 1, 1);
SAVEPOINT s2;
SELECT projections.resume('counted');
INSERT INTO a VALUES (10102, 1, 1);
ROLLBACK TO s2;
INSERT INTO a VALUES (10103, 1, 1);
ROLLBACK TO s2;
INSERT INTO a VALUES (10104, 1, 1);
RELEASE s1;
INSERT INTO a VALUES (10105, 1, 1);
COMMIT;
SELECT projections.resume('counted');
SELECT projections.catch_up('later') >= 0 AS caught_up;
SELECT * FROM test.check_all();
SELECT projections.pause('counted', 'test'), projections.pause('joined', 'test'), projections.pause('highest', 'test');
BEGIN;
DELETE FROM a WHERE id > 10102;
INSERT INTO b VALUES (10100, 1, 1);
SAVEPOINT s1;
SELECT projections.resume('counted'), projections.resume('joined'), projections.resume('highest');
DELETE FROM a WHERE id > 10100;
ROLLBACK TO s1;
INSERT INTO a VALUES (10106, 1, 1);
COMMIT;
SELECT projections.resume('counted'), projections.resume('joined'), projections.resume('highest');
SELECT projections.catch_up('later') >= 0 AS caught_up;
SELECT * FROM test.check_all();

--
-- Recomputed after a change of its own transaction
--
CREATE PROCEDURE recompute() LANGUAGE plpgsql AS $$
DECLARE
    each text;
BEGIN
    FOREACH each IN ARRAY '{counted, highest, joined, later}'::text[] LOOP
        UPDATE savepoints.a SET n = n + 1 WHERE id < 5;
        INSERT INTO savepoints.a VALUES (20201, 1, 1000), (20202, 2, -1000);
        UPDATE savepoints.b SET n = n + 1;
        PERFORM projections.refresh_rows(each, '[{"k": 0}, {"k": 1}, {"k": 2}]');
        DELETE FROM savepoints.a WHERE id > 20200;
        PERFORM projections.refresh_rows(each, '[{"k": 1}]');
        INSERT INTO savepoints.a VALUES (20203, 1, 500);
        PERFORM projections.repair(each);
        DELETE FROM savepoints.a WHERE id > 20200;
        PERFORM projections.refresh_source('savepoints.a', '[{"id": 1}, {"id": 2}]');
        IF EXISTS (SELECT FROM projections.verify(each)) THEN RAISE WARNING '% differs', each; END IF;
    END LOOP;
END
$$;
CALL recompute();
SELECT projections.catch_up('later') >= 0 AS caught_up;
SELECT * FROM test.check_all();
SELECT projections.pause('counted', 'test'), projections.pause('joined', 'test'), projections.pause('highest', 'test'), projections.pause('pairs', 'test');
CALL recompute();
SELECT projections.resume('counted'), projections.resume('joined'), projections.resume('highest'), projections.resume('pairs');
SELECT projections.catch_up('later') >= 0 AS caught_up;
SELECT * FROM test.check_all();
-- what is released holds what the transaction has changed
BEGIN;
UPDATE a SET n = n + 1;
SELECT projections.drop('highest', keep_table => true);
COMMIT;
SELECT count(*) FROM ((TABLE highest) EXCEPT ALL SELECT k, max(n), count(*) FROM a GROUP BY k) AS difference;

-- In the middle of a statement that is impossible, and refused.
CREATE FUNCTION refresh() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM projections.refresh_rows(TG_ARGV[0], '[{"k": 1}]');
    RETURN NULL;
END
$$;
CREATE TRIGGER a_refresh AFTER INSERT ON a FOR EACH ROW EXECUTE FUNCTION refresh('counted');
INSERT INTO a VALUES (20301, 1, 1), (20302, 1, 1);
DROP TRIGGER a_refresh ON a;
CREATE TRIGGER a_refresh AFTER INSERT ON a FOR EACH ROW EXECUTE FUNCTION refresh('later');
INSERT INTO a VALUES (20301, 1, 1), (20302, 1, 1);
DROP TRIGGER a_refresh ON a;
SELECT projections.catch_up('later') >= 0 AS caught_up;
SELECT * FROM test.check_all();

--
-- A trigger on a projection changes a source of it while the projection is being written
--
DROP TABLE highest;
SELECT projections.create('highest', 'SELECT k, max(n) AS high, count(*) AS rows FROM a GROUP BY k');
CREATE FUNCTION answer() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.k = 1 THEN INSERT INTO savepoints.a SELECT max(id) + 1, 2, 3 FROM savepoints.a; END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER answer AFTER UPDATE ON highest FOR EACH ROW EXECUTE FUNCTION answer();
INSERT INTO a VALUES (20401, 2, 9999);
-- group 1 is written first, and its trigger adds to group 2, which is recomputed
BEGIN;
INSERT INTO a VALUES (20400, 1, 9999);
DELETE FROM a WHERE id = 20401;
COMMIT;
SELECT projections.catch_up('later') >= 0 AS caught_up;
SELECT * FROM test.check_all();
DROP TRIGGER answer ON highest;

DROP SCHEMA savepoints CASCADE;
SELECT count(*) AS projections FROM projections.definitions;
