-- repair() restores what is lost, recomputes exactly what verify() reports, and leaves the projection healthy.
SET client_min_messages = error; -- no workers here
CREATE SCHEMA repairing;
SET search_path = repairing;
CREATE TABLE sales (id int PRIMARY KEY, region text, amount numeric, weight float8);
CREATE TABLE regions (region text, name text); -- no primary key
INSERT INTO sales SELECT i, 'r' || i % 10, i / 4.0, i / 3.0 FROM generate_series(1, 500) i;
INSERT INTO regions SELECT 'r' || i % 12, 'n' || i % 3 FROM generate_series(1, 24) i;
SELECT projections.create('per_region', 'SELECT region, count(*) AS n, sum(amount) AS amount, max(id) AS last FROM sales GROUP BY region');
SELECT projections.create('total', 'SELECT count(*) AS n, min(amount) AS least FROM sales');
SELECT projections.create('lines', 'SELECT id, region FROM sales WHERE amount > 10');
SELECT projections.create('names', 'SELECT region, name FROM regions');
SELECT projections.create('joined', 'SELECT r.name, s.region, count(*) AS n FROM sales s JOIN regions r ON r.region = s.region GROUP BY r.name, s.region');
SELECT projections.create('over_regions', 'SELECT n, count(*) AS regions FROM per_region GROUP BY n');
SELECT projections.create('later', 'SELECT region, sum(amount) AS amount, min(weight) AS lightest FROM sales GROUP BY region', 'async');
SELECT projections.create('later_names', 'SELECT name FROM regions', 'async');
CREATE TABLE events (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, key text, type text, value int, at timestamptz NOT NULL DEFAULT '2026-01-01');
SELECT projections.register_source('events', 'position', type_column => 'type', time_column => 'at');
SELECT projections.create('sums', 'SELECT key, count(*) AS n, sum(value) AS value FROM events GROUP BY key', 'async', options => '{"slots": 3}');
CREATE FUNCTION add(state jsonb, e events, key text) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$ SELECT to_jsonb((state #>> '{}')::int + 100 / e.value) $$;
SELECT projections.create_reducer('folded', 'events', 'key', 'add(jsonb, events, text)', initial => '0', options => '{"slots": 2}');
SELECT projections.create_reducer('folded_inline', 'events', 'key', 'add(jsonb, events, text)', initial => '0', mode => 'inline', event_types => '{open, close}');
SELECT projections.create_state_machine('machine', 'events', 'key', '[{"from": "new", "event": "open", "to": "open"}, {"from": "open", "event": "close", "to": "closed"},
    {"from": "closed", "event": "open", "to": "open"}]', options => '{"initial": "new"}');
INSERT INTO events (key, type, value)
SELECT 'k' || i % 7, CASE i % 14 WHEN 1 THEN 'open' WHEN 8 THEN 'close' ELSE 'other' END, CASE WHEN i = 700 THEN 0 ELSE i % 50 + 1 END FROM generate_series(1, 1400) i;
SELECT projections.catch_up() > 0 AS caught_up;
SELECT projections.set_state('machine', 'k3', 'closed', 'by hand'), projections.set_state('machine', 'k8', 'open', 'by hand');

CREATE FUNCTION differences() RETURNS TABLE(projection text, problem text, key jsonb) LANGUAGE plpgsql AS $$
BEGIN
    FOR projection IN SELECT d.projection FROM projections.definitions d WHERE d.projection LIKE 'repairing.%' AND d.strategy <> 'handler' ORDER BY 1 LOOP
        FOR problem, key IN SELECT v.problem, v.key FROM projections.verify(projection) v LOOP RETURN NEXT; END LOOP;
    END LOOP;
END $$;
-- Repairs what is stale, upstream first.
CREATE FUNCTION repair_all() RETURNS TABLE(projection text, reason text, written bigint) LANGUAGE plpgsql AS $$
BEGIN
    FOR projection, reason IN SELECT projections_internal._name(p.relation), p.stale_reason FROM projections_internal.projection p WHERE p.stale_since IS NOT NULL
                              ORDER BY cardinality(p.sources) > 0 AND EXISTS (SELECT FROM projections_internal.projection u WHERE u.relation = ANY (p.sources)), 1 LOOP
        written := projections.repair(projection);
        RETURN NEXT;
    END LOOP;
END $$;
CREATE FUNCTION unhealthy() RETURNS TABLE(projection text, status text, message text) LANGUAGE sql AS $$
    SELECT h.projection, h.status, h.message FROM projections.health() h WHERE h.projection LIKE 'repairing.%' AND h.status = 'stale' ORDER BY 1 $$;

-- Nothing to repair: nothing is written.
SELECT projections.repair('per_region'), projections.repair('names'), projections.repair('sums'), projections.repair('folded'), projections.repair('machine');

-- Rows that were changed, removed, added.
SET pg_projections.allow_direct_writes = on;
UPDATE per_region SET n = n + 1 WHERE region = 'r3';
DELETE FROM per_region WHERE region = 'r4';
UPDATE per_region SET region = 'new' WHERE region = 'r5';
UPDATE total SET least = least - 1;
UPDATE lines SET region = NULL WHERE id = 100;
INSERT INTO names VALUES ('r1', 'n1'), ('r99', 'n0');
DELETE FROM names WHERE region = 'r2';
DELETE FROM joined WHERE name = 'n1' AND region = 'r4';
UPDATE later SET lightest = 0 WHERE region = 'r2';
INSERT INTO later_names VALUES ('n1');
UPDATE sums SET value = value - 1 WHERE key = 'k1';
UPDATE folded SET state = '-1' WHERE key = 'k2';
INSERT INTO folded VALUES ('k99', '1', 1, 1, NULL);
DELETE FROM folded_inline WHERE key = 'k1';
UPDATE machine SET state = '"open"' WHERE key IN ('k3', 'k1');
RESET pg_projections.allow_direct_writes;
SELECT * FROM differences() ORDER BY 1, 3, 2;
SELECT projection, status FROM unhealthy();
SELECT * FROM repair_all();
SELECT * FROM differences() ORDER BY 1, 3, 2;
SELECT * FROM unhealthy();
SELECT d.projection, test.check(d.relation) FROM projections.definitions d WHERE d.query IS NOT NULL ORDER BY 1;
SELECT key, from_state, event, to_state, set_by IS NOT NULL AS by_hand FROM projections.transitions WHERE projection = 'repairing.machine' AND key IN ('k3', 'k8') ORDER BY id DESC LIMIT 3;

-- Triggers that are disabled, or fire for replicas only, or are gone; what was written meanwhile is found.
ALTER TABLE sales DISABLE TRIGGER projections_capture;
SET client_min_messages = notice;
INSERT INTO sales VALUES (1001, 'r1', 3, 3), (1002, 'lost', 4, 4);
DELETE FROM sales WHERE id % 50 = 0;
SELECT projections.repair('per_region');
SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = 'sales'::regclass ORDER BY 1;
SELECT * FROM repair_all();
INSERT INTO sales VALUES (1003, 'lost', 4, 4);
SELECT projections.catch_up('later');
SELECT * FROM differences() ORDER BY 1, 3, 2;
SELECT * FROM test.check_all();
ALTER TABLE regions ENABLE TRIGGER projections_capture;
SET client_min_messages = error;
ALTER TABLE regions DISABLE TRIGGER projections_capture_truncate;
SET client_min_messages = notice;
TRUNCATE regions;
INSERT INTO regions VALUES ('r1', 'n1'), ('r1', 'n1'), ('r2', 'n0');
SELECT projection, problem, count(*) FROM differences() GROUP BY 1, 2 ORDER BY 1, 2;
SELECT * FROM repair_all();
INSERT INTO regions VALUES ('r3', 'n0');
SELECT projections.catch_up('later_names');
SELECT * FROM test.check_all();
-- What is left in a log may not fit any more: a row came, was removed unseen, and its removal is not in the log.
INSERT INTO sales VALUES (2001, 'seen', 1, 1);
SET client_min_messages = error;
ALTER TABLE sales DISABLE TRIGGER projections_capture;
SET client_min_messages = notice;
DELETE FROM sales WHERE id = 2001;
SELECT * FROM repair_all();
SELECT projections.catch_up('later');
SELECT * FROM test.check_all();
-- The event trigger would refuse it.
ALTER EVENT TRIGGER projections_after_drop DISABLE;
DROP TRIGGER projections_capture ON sales;
DROP TRIGGER projections_guard ON per_region;
DROP TRIGGER projections_guard_truncate ON per_region;
DROP TRIGGER projections_capture_truncate ON events;
ALTER EVENT TRIGGER projections_after_drop ENABLE;
UPDATE sales SET amount = amount + 1 WHERE region = 'r7';
DELETE FROM per_region WHERE region = 'r1';
SELECT projections.repair('per_region');
SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid IN ('per_region'::regclass, 'sales'::regclass) ORDER BY 1;
DELETE FROM per_region;
SELECT projection, reason FROM repair_all();
SELECT projections.repair('folded_inline');
SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = 'events'::regclass ORDER BY 1;
SELECT * FROM test.check_all();

-- Two rows of one key, where the index over it is gone.
SET session_replication_role = replica; -- no event triggers
DO $$
DECLARE
    index regclass;
BEGIN
    FOR index IN SELECT indexrelid FROM pg_index WHERE indrelid IN ('lines'::regclass, 'later'::regclass) AND indisunique LOOP
        EXECUTE coalesce((SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname) FROM pg_constraint
                          WHERE conindid = index), format('DROP INDEX %s', index));
    END LOOP;
    ALTER TABLE folded DROP CONSTRAINT folded_pkey;
END $$;
RESET session_replication_role;
SET pg_projections.allow_direct_writes = on;
INSERT INTO lines SELECT * FROM lines WHERE id IN (101, 102);
UPDATE lines SET region = 'wrong' WHERE ctid = (SELECT min(ctid) FROM lines WHERE id = 102);
INSERT INTO lines VALUES (-1, 'none'), (-1, 'none');
INSERT INTO later SELECT * FROM later;
INSERT INTO folded SELECT * FROM folded;
INSERT INTO total SELECT * FROM total;
RESET pg_projections.allow_direct_writes;
SELECT projection, problem, count(*) FROM differences() GROUP BY 1, 2 ORDER BY 1, 2;
SELECT * FROM repair_all();
SELECT c.relname, i.indexrelid::regclass, i.indnullsnotdistinct FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
WHERE i.indisunique AND c.relname IN ('lines', 'later', 'folded') AND c.relnamespace = 'repairing'::regnamespace ORDER BY 1;
UPDATE sales SET region = 'r1' WHERE id IN (101, 102);
SELECT projections.catch_up() > 0 AS caught_up;
SELECT * FROM differences() ORDER BY 1, 3, 2;
SELECT * FROM test.check_all();

-- A change log is gone, and checkpoints.
ALTER EVENT TRIGGER projections_after_drop DISABLE;
DROP TABLE projections_internal.later_changes;
ALTER EVENT TRIGGER projections_after_drop ENABLE;
-- One of three slots: no other's position is taken for its.
BEGIN;
DELETE FROM projections_internal.slot WHERE projection = 'sums'::regclass AND slot = 1;
SELECT * FROM projections.verify('sums');
ROLLBACK;
DELETE FROM projections_internal.slot WHERE projection IN ('sums'::regclass, 'later_names'::regclass) OR projection = 'machine'::regclass;
-- Nothing says what was applied.
SELECT * FROM projections.verify('sums');
SELECT * FROM projections.verify('machine');
SELECT * FROM projections.stale_keys('machine');
SELECT projections.repair('later'), projections.repair('later_names'), projections.repair('sums'), projections.repair('machine');
UPDATE sales SET amount = amount * 2 WHERE region = 'r1';
SELECT projection, slot, position FROM projections_internal.slot WHERE projection IN ('sums'::regclass, 'machine'::regclass) ORDER BY 1, 2;
SELECT projections.catch_up() > 0 AS caught_up;
SELECT * FROM differences() ORDER BY 1, 3, 2;
SELECT * FROM test.check_all();
SELECT key, state, version FROM machine WHERE key IN ('k3', 'k8') ORDER BY 1;

-- What is upstream is not repaired; what is below follows.
SET pg_projections.allow_direct_writes = on;
UPDATE per_region SET n = n + 100 WHERE region = 'r3';
RESET pg_projections.allow_direct_writes;
SELECT projections.repair('over_regions');
SELECT projections.repair('per_region');
SELECT * FROM differences() ORDER BY 1, 3, 2;
SELECT * FROM test.check_all();

-- A handler, whose rows are right.
CREATE TABLE handled (key text);
CREATE FUNCTION note(e events) RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO handled VALUES (e.key); END $$;
SELECT projections.create_handler('handling', 'events', 'note(events)', '{handled}', mode => 'inline', event_types => '{open}');
SET client_min_messages = error;
ALTER TABLE events DISABLE TRIGGER projections_capture;
SET client_min_messages = notice;
SELECT projections.repair('handling');
SELECT projection, status FROM unhealthy();
SELECT * FROM repair_all();
SELECT projections.drop('handling');

-- For the owner only.
CREATE ROLE repair_stranger;
GRANT USAGE ON SCHEMA repairing TO repair_stranger;
SET ROLE repair_stranger;
\set VERBOSITY terse
SELECT projections.repair('sums');
SELECT projections_internal._repair_rows('sums'::regclass);
RESET ROLE;
UPDATE projections_internal.source SET archived_to = 5 WHERE relation = 'events'::regclass;
SELECT projections.repair('sums');
SET client_min_messages = error;
DROP SCHEMA repairing CASCADE;
DROP OWNED BY repair_stranger;
DROP ROLE repair_stranger;
