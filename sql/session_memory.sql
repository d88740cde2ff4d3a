-- What a session keeps of projections between transactions has a limit; what is given up is made again, and right.
SET client_min_messages = warning;
CREATE SCHEMA session_memory;
SET search_path = session_memory, public;
CREATE TABLE sales (id int PRIMARY KEY, region text NOT NULL, amount numeric NOT NULL);
CREATE TABLE regions (name text PRIMARY KEY, country text NOT NULL);
INSERT INTO regions VALUES ('n', 'A'), ('s', 'A'), ('w', 'B');
INSERT INTO sales SELECT g, (ARRAY['n', 's', 'w'])[g % 3 + 1], g FROM generate_series(1, 30) g;
SELECT projections.create('sums_' || i, format('SELECT region, sum(amount + %s) AS s, count(*) AS n FROM sales GROUP BY region', i))
FROM generate_series(1, 12) i \g /dev/null
SELECT projections.create('by_country', 'SELECT r.country, max(s.amount) AS most, count(*) AS n
    FROM sales s JOIN regions r ON r.name = s.region GROUP BY r.country') \g /dev/null
SELECT projections.create('above', 'SELECT n, count(*) AS regions FROM sums_1 GROUP BY n') \g /dev/null
SELECT projections.create('sold', 'SELECT r.name, r.country FROM regions r
    WHERE EXISTS (SELECT FROM sales s WHERE s.region = r.name)') \g /dev/null

-- How many projections have something of this kind.
CREATE FUNCTION kept(kind text) RETURNS bigint LANGUAGE sql AS $$
    SELECT count(*) FROM pg_backend_memory_contexts WHERE name = kind
$$;

-- A new session keeps what it used.
\c
SET search_path = session_memory, public;
SET client_min_messages = warning;
INSERT INTO sales VALUES (101, 'n', 1);
SELECT kept('projection block') AS blocks, kept('projection evaluator') AS evaluators, kept('projection direct write') AS direct;
-- Nothing is kept; in the transaction it is there.
SET pg_projections.session_memory = 0;
SELECT kept('projection block') AS blocks, kept('projection evaluator') AS evaluators, kept('projection direct write') AS direct,
    kept('projection statements') AS statements;
BEGIN;
INSERT INTO sales VALUES (102, 's', 2);
SELECT kept('projection evaluator') AS evaluators;
SAVEPOINT a;
INSERT INTO sales VALUES (103, 'w', 3);
SELECT s FROM sums_2 ORDER BY region;
ROLLBACK TO a;
SELECT s FROM sums_2 ORDER BY region;
INSERT INTO sales VALUES (104, 'w', 4);
COMMIT;
SELECT kept('projection block') AS blocks, kept('projection evaluator') AS evaluators, kept('projection statements') AS statements;
SELECT equal FROM test.check_all('session_memory.%');
-- After an error, and in transactions within a procedure.
INSERT INTO sales VALUES (105, 'n', 5), (101, 'n', 1);
SELECT kept('projection evaluator') AS evaluators;
DO $$
BEGIN
    FOR i IN 200 .. 210 LOOP
        INSERT INTO sales VALUES (i, 's', i);
        COMMIT;
        BEGIN
            DELETE FROM sales WHERE id = i - 1;
            INSERT INTO sales VALUES (i, 's', i);
        EXCEPTION WHEN unique_violation THEN NULL;
        END;
        ROLLBACK;
    END LOOP;
END $$;
SELECT equal FROM test.check_all('session_memory.%');
-- A cursor that is open while its transaction ends.
BEGIN;
DECLARE held CURSOR WITH HOLD FOR SELECT region, n FROM sums_3 ORDER BY region;
INSERT INTO sales VALUES (106, 'n', 6);
COMMIT;
FETCH ALL FROM held;
CLOSE held;
SELECT equal FROM test.check_all('session_memory.%');
-- What DDL has changed meanwhile.
ALTER TABLE sales RENAME COLUMN amount TO price;
ALTER TABLE sales ADD COLUMN note text;
ALTER TABLE sums_4 RENAME TO renamed;
INSERT INTO sales VALUES (107, 'n', 7);
UPDATE sales SET region = 'w' WHERE id < 10;
SELECT projections.drop('sums_5');
INSERT INTO sales VALUES (108, 'n', 8);
DELETE FROM sales WHERE region = 's';
SELECT equal FROM test.check_all('session_memory.%');
-- Those that were used least recently go first: of thirteen over sales, those that are used alone stay.
SET pg_projections.session_memory = '64MB';
CREATE TABLE other (k int, v int);
SELECT projections.create('others_' || i, format('SELECT k, sum(v + %s) AS s FROM other GROUP BY k', i)) FROM generate_series(1, 3) i
\g /dev/null
INSERT INTO other VALUES (1, 1), (2, 2);
INSERT INTO sales VALUES (109, 'n', 9);
INSERT INTO other VALUES (1, 1), (2, 2);
SELECT kept('projection evaluator') > 10 AS all_are_there;
SET pg_projections.session_memory = '400kB';
INSERT INTO other VALUES (1, 1), (2, 2);
SELECT kept('projection evaluator') AS evaluators;
INSERT INTO sales VALUES (110, 'n', 10);
SELECT sum(total_bytes) <= 400 * 1024 AS within FROM pg_backend_memory_contexts
WHERE name IN ('projection block', 'projection evaluator', 'projection direct write', 'projection statements');
SELECT equal FROM test.check_all('session_memory.%');
-- A key by which rows are told apart is not to be had, either, by who has compiled nothing.
\c
SET search_path = session_memory, public;
ALTER TABLE regions DROP CONSTRAINT regions_pkey;
SELECT object, problem FROM projections.validate() WHERE object LIKE 'session_memory.%';
SELECT equal FROM test.check_all('session_memory.%');
SET client_min_messages = error;
DROP SCHEMA session_memory CASCADE;
