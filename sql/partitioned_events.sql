-- Events that move to another partition are not new.
\set VERBOSITY terse
SET client_min_messages = error;
CREATE SCHEMA partitioned_events;
SET search_path = partitioned_events, public;
CREATE TABLE steps (pos bigint GENERATED ALWAYS AS IDENTITY, item text NOT NULL, n int NOT NULL, kind text DEFAULT 'step') PARTITION BY RANGE (pos);
CREATE TABLE steps_rest PARTITION OF steps DEFAULT;
SELECT projections.register_source('steps', position_column => 'pos', type_column => 'kind');
CREATE FUNCTION add_step(state jsonb, e steps, key text) RETURNS jsonb IMMUTABLE LANGUAGE plpgsql AS
    $$ BEGIN RETURN to_jsonb(coalesce((state #>> '{}')::int, 0) + e.n); END $$;
CREATE TABLE seen (item text, n int);
CREATE FUNCTION see(e steps) RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO seen VALUES (e.item, e.n); END $$;
SELECT projections.create_reducer('folded', 'steps', 'item', 'add_step(jsonb, steps, text)', '0', ARRAY['step'], mode => 'inline');
SELECT projections.create_reducer('folded_later', 'steps', 'item', 'add_step(jsonb, steps, text)', '0', ARRAY['step']);
SELECT projections.create_handler('seen', 'steps', 'see(steps)', '{seen}', mode => 'inline');
SELECT projections.create('summed', 'SELECT item, count(*) AS rows, sum(n) AS n FROM steps GROUP BY item');
SELECT projections.create('summed_later', 'SELECT item, count(*) AS rows, sum(n) AS n FROM steps GROUP BY item', 'async');
-- what the handler has seen of each item, what the reducer makes of it, and what the table holds
CREATE FUNCTION counted() RETURNS TABLE (item text, handled bigint, folded text, later text, rows bigint) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM projections.catch_up();
    PERFORM test.check('summed'), test.check('summed_later');
    RETURN QUERY SELECT s.item, (SELECT count(*) FROM seen e WHERE e.item = s.item), f.state::text, l.state::text, count(*) FROM steps s
        LEFT JOIN folded f ON f.key = s.item LEFT JOIN folded_later l ON l.key = s.item GROUP BY s.item, f.state, l.state ORDER BY s.item;
END $$;
INSERT INTO steps (item, n) SELECT 'ab'::text, 1 FROM generate_series(1, 10) UNION ALL SELECT 'c', 2 FROM generate_series(1, 4);
SELECT * FROM counted();

-- as pg_partman's partition_data_proc does it: rows of the default partition to a new one
BEGIN;
CREATE TABLE steps_1 (LIKE steps INCLUDING ALL EXCLUDING IDENTITY);
WITH moved AS (DELETE FROM steps_rest WHERE pos <= 5 RETURNING *) INSERT INTO steps_1 OVERRIDING SYSTEM VALUE SELECT * FROM moved;
ALTER TABLE steps ATTACH PARTITION steps_1 FOR VALUES FROM (1) TO (6);
COMMIT;
SELECT * FROM counted();
-- as its later versions do it: by way of a temporary table
BEGIN;
CREATE TEMP TABLE kept ON COMMIT DROP AS SELECT * FROM steps_rest WHERE pos <= 8;
DELETE FROM steps_rest WHERE pos <= 8;
CREATE TABLE steps_2 PARTITION OF steps FOR VALUES FROM (6) TO (9);
INSERT INTO steps OVERRIDING SYSTEM VALUE SELECT * FROM kept;
COMMIT;
SELECT * FROM counted();
-- events of this transaction that move, and savepoints
BEGIN;
INSERT INTO steps (item, n) VALUES ('d', 1), ('d', 1);
SAVEPOINT a;
WITH moved AS (DELETE FROM steps WHERE item = 'd' RETURNING *) INSERT INTO steps OVERRIDING SYSTEM VALUE SELECT * FROM moved;
RELEASE a;
SAVEPOINT b;
DELETE FROM steps WHERE item = 'c';
ROLLBACK TO b;
INSERT INTO steps (item, n) VALUES ('c', 2);
SAVEPOINT c;
INSERT INTO steps (item, n) VALUES ('e', 1);
DELETE FROM steps WHERE item = 'e';
ROLLBACK TO c;
INSERT INTO steps (pos, item, n) OVERRIDING SYSTEM VALUE VALUES (currval(pg_get_serial_sequence('steps', 'pos')), 'e', 1);
COMMIT;
SELECT * FROM counted();

-- a partition that is dropped or detached is history: totals stay, and nothing takes them away
SELECT archived_to FROM projections.sources WHERE source = 'partitioned_events.steps';
ALTER TABLE steps DETACH PARTITION steps_1;
SELECT archived_to FROM projections.sources WHERE source = 'partitioned_events.steps';
DROP TABLE steps_2, steps_1;
SELECT archived_to FROM projections.sources WHERE source = 'partitioned_events.steps';
CREATE TABLE steps_3 PARTITION OF steps FOR VALUES FROM (100) TO (200);
DROP TABLE steps_3;
SELECT test.check('summed');
SELECT key, state FROM folded_later ORDER BY key;
CALL projections.rebuild('folded_later');
SELECT projections.reset('folded_later');
SELECT projections.repair('summed_later');
SELECT key, state FROM folded_later ORDER BY key;

-- so is one that is truncated, by whoever may, directly or through one between; and what is written to it meanwhile counts
CREATE TABLE moves (pos bigint GENERATED ALWAYS AS IDENTITY, item text NOT NULL, n int NOT NULL, kind text DEFAULT 'move') PARTITION BY RANGE (pos);
CREATE TABLE moves_1 PARTITION OF moves FOR VALUES FROM (1) TO (11) PARTITION BY RANGE (pos);
CREATE TABLE moves_1_1 PARTITION OF moves_1 FOR VALUES FROM (1) TO (6);
CREATE TABLE moves_1_2 PARTITION OF moves_1 DEFAULT;
CREATE TABLE moves_rest PARTITION OF moves DEFAULT;
SELECT projections.register_source('moves', position_column => 'pos', type_column => 'kind');
CREATE FUNCTION add_move(state jsonb, e moves, key text) RETURNS jsonb IMMUTABLE LANGUAGE sql RETURN to_jsonb(coalesce((state #>> '{}')::int, 0) + e.n);
CREATE TABLE moved (item text, n int);
CREATE FUNCTION move(e moves) RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO moved VALUES (e.item, e.n); END $$;
SELECT projections.create_reducer('stock', 'moves', 'item', 'add_move(jsonb, moves, text)', '0');
SELECT projections.create_handler('moved', 'moves', 'move(moves)', '{moved}');
SELECT projections.create('moved_sums', 'SELECT item, count(*) AS rows, sum(n) AS n FROM moves GROUP BY item', 'async');
SELECT projections.create('moved_now', 'SELECT item, count(*) AS rows, sum(n) AS n FROM moves GROUP BY item');
INSERT INTO moves (item, n) SELECT 'a', 1 FROM generate_series(1, 20);
SELECT projections.catch_up();
CREATE ROLE pj_empties;
GRANT USAGE ON SCHEMA partitioned_events TO pj_empties;
SET ROLE pj_empties;
TRUNCATE moves_1_1;
RESET ROLE;
SELECT archived_to FROM projections.sources WHERE source = 'partitioned_events.moves';
GRANT TRUNCATE ON moves_1_1 TO pj_empties;
SET ROLE pj_empties;
BEGIN; TRUNCATE moves_1_1; ROLLBACK;
TRUNCATE moves_1_1;
RESET ROLE;
SELECT archived_to FROM projections.sources WHERE source = 'partitioned_events.moves';
TRUNCATE moves_1;
SELECT archived_to FROM projections.sources WHERE source = 'partitioned_events.moves';
SELECT test.check('moved_now');
\set VERBOSITY default
\set SHOW_CONTEXT never
CALL projections.rebuild('stock');
SELECT projections.reset('moved');
SELECT projections.repair('moved_sums');
SELECT projections.verify('moved');
\set VERBOSITY terse
-- unless the projection need not keep what they contributed
CALL projections.alter('stock', options => '{"detached": "drop"}');
CALL projections.alter('stock', options => '{"detached": "keep"}');
CALL projections.rebuild('stock');
CALL projections.alter('stock', options => '{"detached": "remove"}');
CALL projections.alter('moved', options => '{"detached": "remove"}');
CALL projections.alter('moved_sums', options => '{"detached": "remove"}');
SELECT state FROM stock;
SELECT key, expected, found FROM projections.verify('stock');
CALL projections.rebuild('stock');
SELECT state FROM stock;
SELECT projections.reset('moved');
SELECT projections.catch_up();
SELECT count(*) FROM moved;
SELECT projections.repair('moved_sums');
SELECT item, rows, n FROM moved_sums;
CALL projections.alter('stock', options => '{"detached": null}');
SELECT projections.reset('stock');
-- what tables that change have lost is not kept
\set VERBOSITY default
SELECT projections.create('kept', 'SELECT item, count(*) AS rows FROM moves GROUP BY item', options => '{"detached": "keep"}');
CALL projections.alter('moved_now', options => '{"detached": "keep"}');
\set VERBOSITY terse
CALL projections.alter('moved_now', options => '{"detached": "remove"}');
DROP OWNED BY pj_empties;
DROP ROLE pj_empties;

-- by UPDATE of what they are partitioned by
CREATE TABLE notes (pos bigserial, topic text, done boolean DEFAULT false, kind text DEFAULT 'note') PARTITION BY LIST (done);
CREATE TABLE notes_open PARTITION OF notes FOR VALUES IN (false);
CREATE TABLE notes_done (done boolean, kind text, topic text, pos bigint NOT NULL);
ALTER TABLE notes ATTACH PARTITION notes_done FOR VALUES IN (true);
SELECT projections.register_source('notes', position_column => 'pos', type_column => 'kind');
CREATE TABLE noted (topic text);
CREATE FUNCTION note(e notes) RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO noted VALUES (e.topic); END $$;
CREATE FUNCTION count_note(state jsonb, e notes, key text) RETURNS jsonb IMMUTABLE LANGUAGE sql RETURN to_jsonb(coalesce((state #>> '{}')::int, 0) + 1);
SELECT projections.create_handler('noted', 'notes', 'note(notes)', '{noted}', mode => 'inline');
SELECT projections.create_reducer('topics', 'notes', 'topic', 'count_note(jsonb, notes, text)', '0', mode => 'inline');
INSERT INTO notes (topic) SELECT 'x' FROM generate_series(1, 140);
UPDATE notes SET done = true WHERE pos % 2 = 0;
UPDATE notes SET done = NOT done WHERE pos > 100;
INSERT INTO notes (topic, done) VALUES ('x', true);
SELECT count(*) AS events, (SELECT count(*) FROM noted) AS handled, (SELECT state FROM topics) AS folded FROM notes;
SELECT count(*) AS wrong FROM projections.verify('topics');
DROP SCHEMA partitioned_events CASCADE;
