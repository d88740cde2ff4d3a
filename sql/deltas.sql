-- What a transaction has changed and not applied yet: in groups, in rows of a log, and what savepoints take back of it. Each case could go
-- wrong alone, and leaves another number behind.
CREATE SCHEMA deltas;
SET search_path = deltas;
SET client_min_messages = warning;
\set SHOW_CONTEXT never

CREATE TABLE a (id int PRIMARY KEY, k int, n int, kind text DEFAULT 'on');
CREATE TABLE b (id int PRIMARY KEY, k int, n int);
SELECT projections.create('sums', 'SELECT k, sum(n) AS n, count(*) AS rows, count(n) AS known FROM a GROUP BY k');
SELECT projections.create('extrema', 'SELECT k, min(n) AS low, max(n) AS high FROM a GROUP BY k');
SELECT projections.create('switched', $$SELECT k, count(*) AS rows FROM a WHERE kind = 'on' GROUP BY k$$);
SELECT projections.create('joined', 'SELECT a.k, sum(a.n::bigint * b.n) AS n, count(*) AS rows FROM a JOIN b USING (k) GROUP BY a.k');
SELECT projections.create('joined_rows', 'SELECT a.n AS an, b.n AS bn FROM a JOIN b USING (k)');
SELECT projections.create('later', 'SELECT k, sum(n) AS n, count(*) AS rows FROM a GROUP BY k', 'async');
CREATE FUNCTION right_now() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM projections.catch_up('deltas.later');
    RETURN (SELECT equal || ' equal' FROM test.check_all());
END
$$;
INSERT INTO a SELECT i, i % 3, i FROM generate_series(1, 9) AS i;
INSERT INTO b SELECT i, i % 3, 10 * i FROM generate_series(1, 6) AS i;
SELECT right_now();

--
-- Savepoints: three deep, each released or rolled back
--
CREATE PROCEDURE nested(outer_one boolean, middle boolean, inner_one boolean, base int) LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO deltas.a VALUES (base, 0, base);
    BEGIN
        INSERT INTO deltas.a VALUES (base + 1, 1, base);
        DELETE FROM deltas.a WHERE id = base;
        BEGIN
            UPDATE deltas.a SET n = n + 1, k = (k + 1) % 3;
            UPDATE deltas.b SET n = n + 1 WHERE id < 3;
            BEGIN
                INSERT INTO deltas.a VALUES (base + 2, 2, -base);
                DELETE FROM deltas.b WHERE id = 6;
                IF inner_one THEN RAISE EXCEPTION 'taken back'; END IF;
            EXCEPTION WHEN raise_exception THEN NULL;
            END;
            INSERT INTO deltas.a VALUES (base + 3, 2, 1);
            IF middle THEN RAISE EXCEPTION 'taken back'; END IF;
        EXCEPTION WHEN raise_exception THEN NULL;
        END;
        INSERT INTO deltas.a VALUES (base + 4, 0, 1);
        IF outer_one THEN RAISE EXCEPTION 'taken back'; END IF;
    EXCEPTION WHEN raise_exception THEN NULL;
    END;
    INSERT INTO deltas.a VALUES (base + 5, 1, 1);
    INSERT INTO deltas.b VALUES (6, 0, 60) ON CONFLICT DO NOTHING;
END
$$;
CALL nested(false, false, false, 100);
SELECT right_now();
CALL nested(false, false, true, 110);
SELECT right_now();
CALL nested(false, true, false, 120);
SELECT right_now();
CALL nested(false, true, true, 130);
SELECT right_now();
CALL nested(true, false, false, 140);
SELECT right_now();
CALL nested(true, false, true, 150);
SELECT right_now();
CALL nested(true, true, false, 160);
SELECT right_now();
CALL nested(true, true, true, 170);
SELECT right_now();
-- in SQL: released into one that is rolled back, and one that is opened again under the same name
BEGIN;
INSERT INTO a VALUES (200, 0, 1);
SAVEPOINT one;
INSERT INTO a VALUES (201, 0, 2);
SAVEPOINT two;
INSERT INTO a VALUES (202, 0, 4);
INSERT INTO b VALUES (202, 0, 4);
SAVEPOINT three;
INSERT INTO a VALUES (203, 0, 8);
RELEASE three;
RELEASE two;
INSERT INTO a VALUES (204, 0, 16);
ROLLBACK TO one;
INSERT INTO a VALUES (205, 0, 32);
SAVEPOINT one;
DELETE FROM a WHERE id = 200;
DELETE FROM b WHERE id = 5;
ROLLBACK TO one;
INSERT INTO a VALUES (206, 0, 64);
COMMIT;
SELECT right_now();
-- only the outermost rolled back, after all inner ones were released
BEGIN;
SAVEPOINT one;
SAVEPOINT two;
SAVEPOINT three;
UPDATE a SET n = n + 100 WHERE k = 1;
UPDATE b SET n = n + 100 WHERE k = 1;
RELEASE three;
RELEASE two;
ROLLBACK TO one;
INSERT INTO a VALUES (210, 1, 3);
COMMIT;
SELECT right_now();

--
-- What was read, and so applied, between savepoints
--
BEGIN;
INSERT INTO a VALUES (300, 2, 7);
SAVEPOINT s;
INSERT INTO a VALUES (301, 2, 9), (302, 0, 1);
INSERT INTO b VALUES (301, 2, 9);
SELECT count(*) > 0 AS read FROM sums, joined, joined_rows, extrema, switched;
ROLLBACK TO s;
INSERT INTO a VALUES (303, 1, 1);
SELECT count(*) > 0 AS read FROM sums, joined, joined_rows, extrema, switched;
ROLLBACK TO s;
INSERT INTO b VALUES (303, 1, 1);
COMMIT;
SELECT right_now();

--
-- TRUNCATE, taken back at each depth; and what is written after it
--
BEGIN;
INSERT INTO a VALUES (400, 0, 1);
SAVEPOINT s;
TRUNCATE a;
ROLLBACK TO s;
INSERT INTO a VALUES (401, 0, 1);
COMMIT;
SELECT right_now();
-- Nothing is filled anew for it: rows of other groups are those that were there.
SELECT xmin AS made_by FROM sums WHERE k = 2 \gset
BEGIN;
SAVEPOINT s;
TRUNCATE a;
ROLLBACK TO s;
INSERT INTO a VALUES (402, 0, 1);
COMMIT;
SELECT xmin = :'made_by' AS same FROM sums WHERE k = 2;
SELECT right_now();
BEGIN;
SAVEPOINT one;
SAVEPOINT two;
TRUNCATE a;
RELEASE two;
SELECT count(*) AS emptied FROM sums;
ROLLBACK TO one;
SELECT count(*) > 0 AS there FROM sums;
COMMIT;
SELECT right_now();
BEGIN;
SAVEPOINT one;
TRUNCATE b;
INSERT INTO b VALUES (1, 1, 1), (2, 2, 2);
SAVEPOINT two;
TRUNCATE b;
ROLLBACK TO two;
RELEASE one;
COMMIT;
SELECT right_now();
INSERT INTO b SELECT i, i % 3, 10 * i FROM generate_series(3, 6) AS i;

--
-- What one transaction did to a group, in one change and in several that savepoints keep apart
--
-- the greatest leaves in one savepoint, and a smaller one comes in another
BEGIN;
SAVEPOINT one;
DELETE FROM a WHERE n = (SELECT max(n) FROM a);
RELEASE one;
SAVEPOINT two;
INSERT INTO a VALUES (500, 0, 2), (501, 1, 2), (502, 2, 2);
RELEASE two;
COMMIT;
SELECT right_now();
BEGIN;
INSERT INTO a VALUES (510, 0, 9999);
SAVEPOINT one;
DELETE FROM a WHERE id = 510;
RELEASE one;
INSERT INTO a VALUES (511, 0, -9999);
COMMIT;
SELECT right_now();
-- NULLs that come and go; nothing but the last value; a condition that begins to hold, and ends
INSERT INTO a VALUES (520, 7, NULL), (521, 7, 5);
SELECT right_now();
UPDATE a SET n = NULL WHERE id = 521;
SELECT right_now();
UPDATE a SET n = 0 WHERE id = 520;
SELECT right_now();
UPDATE a SET n = NULL WHERE k = 7;
SELECT k, n, rows, known FROM sums WHERE k = 7;
SELECT right_now();
UPDATE a SET kind = 'off' WHERE id % 2 = 0;
SELECT right_now();
UPDATE a SET kind = CASE kind WHEN 'on' THEN 'off' ELSE 'on' END, k = (k + 1) % 4;
SELECT right_now();
UPDATE a SET k = NULL WHERE id % 5 = 0;
SELECT right_now();
UPDATE a SET n = n + 1 WHERE k IS NULL;
SELECT right_now();
DELETE FROM a WHERE k IS NULL AND id > 100;
SELECT right_now();
-- Many groups, of which some have the same hash: these are of hashint4.
SELECT hashint4(4119) = hashint4(209697) AND hashint4(5754) = hashint4(197615) AS same;
INSERT INTO a SELECT 1000 + i, CASE i % 100 WHEN 0 THEN 4119 WHEN 1 THEN 209697 WHEN 2 THEN 5754 WHEN 3 THEN 197615 ELSE i % 100 END, i
FROM generate_series(1, 400) AS i;
SELECT k, rows FROM sums WHERE k IN (4119, 209697, 5754, 197615) ORDER BY k;
SELECT right_now();
BEGIN;
SAVEPOINT one;
UPDATE a SET k = 197615 WHERE k = 4119;
RELEASE one;
SAVEPOINT two;
UPDATE a SET k = 4119 WHERE k = 209697;
RELEASE two;
DELETE FROM a WHERE id BETWEEN 1100 AND 1350;
COMMIT;
SELECT right_now();

--
-- What changes while a projection is paused is kept in its log, and applied at the end of the pause
--
SELECT projections.pause(p, 'test') FROM unnest(ARRAY['sums', 'extrema', 'joined', 'joined_rows']) AS p;
UPDATE a SET n = n + 1, k = (k + 1) % 5 WHERE id % 3 = 0;
INSERT INTO b VALUES (600, 1, 3), (601, 2, 5);
DELETE FROM b WHERE id = 4;
SELECT (SELECT sum(n) FROM sums) = (SELECT sum(n) FROM a) AS followed;
SELECT projections.resume(p) FROM unnest(ARRAY['joined_rows', 'joined', 'extrema', 'sums']) AS p;
SELECT (SELECT sum(n) FROM sums) = (SELECT sum(n) FROM a) AS followed;
SELECT right_now();

--
-- A primary key that may be broken until the commit tells no rows apart
--
CREATE TABLE moved (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, v int);
SELECT projections.create('moved_rows', 'SELECT id, v FROM moved');
INSERT INTO moved VALUES (1, 1), (2, 2);
BEGIN;
UPDATE moved SET id = 2 WHERE v = 1;
SELECT id, v FROM moved_rows ORDER BY v;
UPDATE moved SET id = 1 WHERE v = 2;
COMMIT;
SELECT id, v FROM moved_rows ORDER BY v;
SELECT projections.refresh_rows('moved_rows', '{"id": 1}');
SELECT right_now();

--
-- A NaN leaves, of a type whose values have one scale: what is left cannot be told from the sum, and is read again
--
CREATE TABLE scaled (id int PRIMARY KEY, k int, v numeric(8,2));
SELECT projections.create('scaled_sums', 'SELECT k, sum(v) AS v, count(*) AS rows FROM scaled GROUP BY k');
SELECT projections.create('scaled_later', 'SELECT k, sum(v) AS v, count(*) AS rows FROM scaled GROUP BY k', 'async', options => '{"batch_size": 1}');
CREATE FUNCTION peek(v numeric) RETURNS numeric LANGUAGE plpgsql AS $$
BEGIN
    IF v = 5 THEN PERFORM count(*) FROM deltas.scaled_sums; END IF; -- of the last row, when others have their new values
    RETURN v;
END
$$;
INSERT INTO scaled VALUES (1, 1, 1.5), (2, 1, 'NaN'), (3, 1, 2.25), (4, 2, 7);
SELECT projections.catch_up('scaled_later') > 0 AS applied;
SELECT right_now();
DELETE FROM scaled WHERE id = 2;
INSERT INTO scaled VALUES (5, 1, 0.25), (6, 1, 0.5);
SELECT projections.catch_up('scaled_later', 1) > 0 AS applied;
SELECT test.check('scaled_later');
SELECT projections.catch_up('scaled_later') >= 0 AS applied;
SELECT right_now();
UPDATE scaled SET v = 'NaN' WHERE id = 1;
UPDATE scaled SET v = 4 WHERE id = 1;
SELECT projections.catch_up('scaled_later') >= 0 AS applied;
SELECT right_now();
-- … and is not read in the middle of a statement
INSERT INTO scaled VALUES (7, 1, 'NaN');
BEGIN;
DELETE FROM scaled WHERE id = 7;
UPDATE scaled SET v = peek(v + 1);
COMMIT;
SELECT projections.catch_up('scaled_later') >= 0 AS applied;
SELECT k, v, rows FROM scaled_sums ORDER BY k;
SELECT right_now();

DROP SCHEMA deltas CASCADE;
SELECT count(*) AS projections FROM projections.definitions;
