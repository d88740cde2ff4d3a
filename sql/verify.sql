-- verify() reports exactly what was corrupted, for every kind of projection, at whatever checkpoint.
SET client_min_messages = error; -- no workers here
CREATE SCHEMA verifying;
SET search_path = verifying;
CREATE TABLE sales (id int PRIMARY KEY, region text, amount numeric, weight float8, note jsonb);
CREATE TABLE regions (region text, name text); -- no primary key
CREATE TABLE readings (at date, value float8);
INSERT INTO sales SELECT i, 'r' || i % 10, i / 4.0, i / 3.0, '{}' FROM generate_series(1, 500) i;
INSERT INTO regions SELECT 'r' || i % 12, 'n' || i % 3 FROM generate_series(1, 24) i;
SELECT projections.create('per_region', 'SELECT region, count(*) AS n, sum(amount) AS amount, avg(weight) AS weight, max(id) AS last FROM sales GROUP BY region');
SELECT projections.create('total', 'SELECT count(*) AS n, min(amount) AS least FROM sales');
SELECT projections.create('lines', 'SELECT id, region, note::text AS note FROM sales WHERE amount > 10');
SELECT projections.create('names', 'SELECT region, name FROM regions');
SELECT projections.create('joined', 'SELECT r.name, s.region, count(*) AS n FROM sales s JOIN regions r ON r.region = s.region GROUP BY r.name, s.region');
SELECT projections.create('over_regions', 'SELECT n, count(*) AS regions FROM per_region GROUP BY n');
SELECT projections.create('later', 'SELECT region, sum(amount) AS amount, min(weight) AS lightest FROM sales GROUP BY region', 'async');
SELECT projections.create('later_lines', 'SELECT id, region FROM sales', 'async');
SELECT projections.create('later_names', 'SELECT name FROM regions', 'async');

CREATE TABLE events (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, key text, type text, value int, at timestamptz NOT NULL DEFAULT '2026-01-01');
SELECT projections.register_source('events', 'position', type_column => 'type', time_column => 'at');
SELECT projections.create('sums', 'SELECT key, count(*) AS n, sum(100 / value) AS share FROM events GROUP BY key', 'async', options => '{"slots": 3}');
CREATE FUNCTION add(state jsonb, e events, key text) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN e.type = 'close' THEN NULL ELSE to_jsonb((state #>> '{}')::int + 100 / e.value) END $$;
SELECT projections.create_reducer('folded', 'events', 'key', 'add(jsonb, events, text)', initial => '0', options => '{"slots": 2}');
SELECT projections.create_reducer('folded_inline', 'events', 'key', 'add(jsonb, events, text)', initial => '0', mode => 'inline', event_types => '{open, close}');
SELECT projections.create_state_machine('machine', 'events', 'key', '[{"from": "new", "event": "open", "to": "open"}, {"from": "open", "event": "close", "to": "closed"},
    {"from": "closed", "event": "open", "to": "open"}]', options => '{"initial": "new"}');
INSERT INTO events (key, type, value)
SELECT 'k' || i % 7, CASE i % 14 WHEN 1 THEN 'open' WHEN 8 THEN 'close' ELSE 'other' END, CASE WHEN i % 1000 = 2 THEN 0 ELSE i % 50 + 1 END FROM generate_series(1, 20000) i;

CREATE FUNCTION differences() RETURNS TABLE(projection text, problem text, key jsonb, expected jsonb, actual jsonb) LANGUAGE plpgsql AS $$
BEGIN
    FOR projection IN SELECT d.projection FROM projections.definitions d WHERE d.projection LIKE 'verifying.%' AND d.strategy <> 'handler' ORDER BY 1 LOOP
        FOR problem, key, expected, actual IN SELECT * FROM projections.verify(projection) LOOP RETURN NEXT; END LOOP;
    END LOOP;
END $$;
-- Nothing is applied, or a part, or all: each is right as far as it has come.
SELECT * FROM differences();
SELECT projections.catch_up('sums', 7000), projections.catch_up('folded', 5001), projections.catch_up('machine', 3000), projections.catch_up('later', 100);
SELECT * FROM differences();
SELECT projections.catch_up() > 0 AS caught_up;
SELECT * FROM differences();
SELECT projection, count(*) FROM projections.failures WHERE resolved_at IS NULL AND projection LIKE 'verifying.%' GROUP BY 1 ORDER BY 1;

-- What changes wait for is not missing: in a log, in a pause, in this transaction.
SELECT projections.pause('joined', 'test'), projections.pause('names', 'test');
BEGIN;
UPDATE sales SET region = 'r' || id % 11, amount = amount + 1 WHERE id % 3 = 0;
DELETE FROM sales WHERE id % 17 = 0;
UPDATE regions SET name = 'n1' WHERE region IN ('r1', 'r5');
DELETE FROM regions WHERE ctid IN (SELECT min(ctid) FROM regions);
INSERT INTO regions VALUES ('r1', 'n1'), (NULL, 'n7');
SELECT * FROM differences();
COMMIT;
SELECT * FROM differences();
SELECT projections.catch_up('later_lines', 50);
SELECT * FROM differences();
SELECT projections.catch_up() > 0 AS caught_up;
SELECT projections.resume('joined'), projections.resume('names');
SELECT * FROM differences();
-- The oracle knows nothing of failed events.
SELECT d.projection, test.check(d.relation) FROM projections.definitions d WHERE d.query IS NOT NULL AND d.projection <> 'verifying.sums' ORDER BY 1;
BEGIN ISOLATION LEVEL REPEATABLE READ;
INSERT INTO sales VALUES (1001, 'r1', 1, 1, NULL);
SELECT * FROM differences();
ROLLBACK;
BEGIN ISOLATION LEVEL SERIALIZABLE;
DELETE FROM sales WHERE id < 50;
SELECT * FROM differences();
ROLLBACK;

-- A source was truncated: all of it will be replaced.
BEGIN;
TRUNCATE sales;
SET LOCAL client_min_messages = notice;
SELECT * FROM projections.verify('later');
SELECT * FROM projections.verify('per_region');
ROLLBACK;
-- Above, a projection was verified in a transaction that rolled back.
SELECT * FROM differences();

-- Each kind of difference.
SET pg_projections.allow_direct_writes = on;
UPDATE per_region SET n = n + 1 WHERE region = 'r3';
DELETE FROM per_region WHERE region = 'r4';
UPDATE per_region SET region = 'new' WHERE region = 'r5';
UPDATE total SET least = least - 1;
UPDATE lines SET note = NULL WHERE id = 100;
INSERT INTO names VALUES ('r1', 'n1'), ('r99', 'n0');
DELETE FROM names WHERE region IS NULL;
DELETE FROM joined WHERE name = 'n1' AND region = 'r5';
UPDATE later SET lightest = 0 WHERE region = 'r2';
INSERT INTO later_names VALUES ('n1');
UPDATE sums SET share = share - 1 WHERE key = 'k1';
UPDATE folded SET state = '-1' WHERE key = 'k2';
UPDATE folded SET version = version + 1 WHERE key = 'k3';
DELETE FROM folded_inline WHERE key = 'k4';
INSERT INTO machine VALUES ('k9', '"open"', 1, 1, NULL);
RESET pg_projections.allow_direct_writes;
SELECT projection, problem, key, jsonb_diff.* FROM differences() d, LATERAL (
    SELECT (SELECT jsonb_object_agg(e.key, e.value) FROM jsonb_each(d.expected) e WHERE d.actual IS NULL OR d.actual -> e.key IS DISTINCT FROM e.value) AS expected,
           (SELECT jsonb_object_agg(e.key, e.value) FROM jsonb_each(d.actual) e WHERE d.expected IS NULL OR d.expected -> e.key IS DISTINCT FROM e.value) AS actual) AS jsonb_diff
WHERE problem = 'different' OR projection NOT LIKE '%.per_region' ORDER BY 1, 3, 2, 4;
SELECT projection, problem, key FROM differences() WHERE projection LIKE '%.per_region' ORDER BY 2, 3;

-- Aggregates of floats are close, or not.
SELECT projections.drop('over_regions'), projections.drop('per_region');
SELECT projections.create('per_region', 'SELECT region, sum(weight) AS weight, avg(weight::real) AS average FROM sales GROUP BY region');
SET pg_projections.allow_direct_writes = on;
UPDATE per_region SET weight = weight * (1 + 5e-10) WHERE region = 'r1';
UPDATE per_region SET weight = weight * (1 + 2e-9) WHERE region = 'r2';
UPDATE per_region SET weight = 'NaN' WHERE region = 'r3';
UPDATE per_region SET weight = '-Infinity' WHERE region = 'r4';
UPDATE per_region SET weight = NULL WHERE region = 'r6';
RESET pg_projections.allow_direct_writes;
SELECT problem, key FROM projections.verify('per_region') ORDER BY 2;

-- Two rows of one key, where the index over it is gone.
SET session_replication_role = replica; -- no event triggers
DO $$
BEGIN
    ALTER TABLE later_lines DROP CONSTRAINT later_lines_pkey;
END $$;
RESET session_replication_role;
SET pg_projections.allow_direct_writes = on;
INSERT INTO later_lines SELECT * FROM later_lines WHERE id IN (1, 2);
UPDATE later_lines SET region = 'wrong' WHERE ctid = (SELECT min(ctid) FROM later_lines WHERE id = 2);
INSERT INTO later_lines VALUES (-1, 'none'), (-1, 'none');
RESET pg_projections.allow_direct_writes;
SELECT * FROM projections.verify('later_lines') ORDER BY key, problem;

-- A sample is a share of the keys, another one each time; every difference is found by some.
SELECT bool_or(seen > 0) AS found, bool_or(seen = 0) AS missed
FROM (SELECT (SELECT count(*) FROM projections.verify('sums', 0.5 + 0 * i)) AS seen FROM generate_series(1, 64) i) AS samples;
\set VERBOSITY terse
SELECT * FROM projections.verify('sums', 0);
SELECT * FROM projections.verify('sums', 1.5);
SELECT * FROM projections.verify('sums', 'NaN');
SELECT * FROM projections.verify('sums', NULL);
SELECT * FROM projections.verify(NULL);
SELECT * FROM projections.verify('sales');
SELECT * FROM projections.verify('nowhere');
CREATE FUNCTION nothing(e events) RETURNS void LANGUAGE sql AS '';
CREATE TABLE handled (key text);
SELECT projections.create_handler('handling', 'events', 'nothing(events)', '{handled}');
SELECT * FROM projections.verify('handling');
-- Not within a statement that writes a source.
CREATE FUNCTION verified() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM FROM projections.verify(''joined''); RETURN NULL; END';
CREATE TRIGGER verified AFTER INSERT ON regions FOR EACH ROW EXECUTE FUNCTION verified();
INSERT INTO regions VALUES ('r1', 'n1');
DROP TRIGGER verified ON regions;

-- Its rows are shown to the owner, and to who may read all data.
CREATE ROLE verify_reader;
CREATE ROLE verify_stranger;
GRANT USAGE ON SCHEMA verifying TO verify_reader, verify_stranger;
GRANT pg_read_all_data TO verify_reader;
SET ROLE verify_stranger;
SELECT count(*) FROM projections.verify('sums');
SET ROLE verify_reader;
SELECT count(*) FROM projections.verify('sums');
RESET ROLE;
-- Archived history is not there to compare with.
UPDATE projections_internal.source SET archived_to = 5 WHERE relation = 'events'::regclass;
SELECT * FROM projections.verify('sums');
SELECT * FROM projections.verify('folded');
DROP SCHEMA verifying CASCADE;
DROP OWNED BY verify_reader, verify_stranger;
DROP ROLE verify_reader, verify_stranger;
