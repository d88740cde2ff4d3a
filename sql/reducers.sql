-- Reducers: a pure fold of events by key.
SET client_min_messages = error; -- no workers here
CREATE SCHEMA reducers;
SET search_path = reducers;
CREATE TABLE moves (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, type text NOT NULL, source text, target text, quantity int, at timestamptz NOT NULL DEFAULT '2026-01-01');
SELECT projections.register_source('moves', position_column => 'position', type_column => 'type', time_column => 'at');

-- A move touches two locations.
CREATE FUNCTION balance(state jsonb, e moves, key text) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT to_jsonb(state::int + CASE WHEN key = e.target THEN e.quantity ELSE 0 END - CASE WHEN key = e.source THEN e.quantity ELSE 0 END)
$$;
SELECT projections.create_reducer('locations', 'moves', 'ARRAY[source, target]', 'balance(jsonb, moves, text)', initial => '0', event_types => '{moved,received}', options => '{"max_retries": 0}'); -- else a slow call would retry, and count that
\d locations
INSERT INTO moves (type, source, target, quantity, at) VALUES
    ('received', NULL, 'A1', 10, '2026-01-02'), ('moved', 'A1', 'B2', 4, '2026-01-03'), ('counted', 'A1', 'A1', 99, '2026-01-04'),
    ('moved', 'B2', 'B2', 1, '2026-01-05'), ('moved', 'A1', 'B2', 1, '2026-01-06');
SELECT projections.catch_up('locations');
SELECT * FROM locations ORDER BY key;

-- A CHECK holds after each event, not only at the end of a chunk: 20 go out before 30 come in.
ALTER TABLE locations ADD CHECK (state::int >= 0);
INSERT INTO moves (type, source, target, quantity) VALUES ('moved', 'A1', 'C3', 20), ('received', NULL, 'A1', 30), ('received', NULL, 'D4', 1);
SELECT projections.catch_up('locations');
SELECT key, state, version, position FROM locations ORDER BY key;
SELECT position, keys, sqlstate, category FROM projections_internal.failure WHERE projection = 'locations'::regclass;
SELECT position, keys FROM projections_internal.parked_event WHERE projection = 'locations'::regclass;
-- Nobody else writes the table.
UPDATE locations SET state = '0';

-- NULL deletes the row; the next event begins again. plpgsql, no initial state.
CREATE FUNCTION open_tasks(state jsonb, e moves, key text) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF e.type = 'close' THEN RETURN NULL; END IF;
    RETURN coalesce(state, '[]') || to_jsonb(e.quantity);
END
$$;
SELECT projections.create_reducer('tasks', 'moves', 'target', 'open_tasks(jsonb, moves, text)', initial => NULL, event_types => '{open,close}');
INSERT INTO moves (type, target, quantity) VALUES ('open', 'x', 1), ('open', 'y', 2), ('close', 'x', 3), ('open', 'x', 4), ('open', 'x', 5), ('close', 'y', 6), ('open', NULL, 7);
SELECT projections.catch_up('tasks');
SELECT key, state, version FROM tasks ORDER BY key;
INSERT INTO moves (type, target) VALUES ('close', 'x'), ('close', 'z');
SELECT projections.catch_up('tasks');
SELECT key, state, version FROM tasks ORDER BY key;

-- The same contents whatever the slots and batches.
CREATE TABLE numbers (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, k int, n numeric);
SELECT projections.register_source('numbers', position_column => 'position');
CREATE FUNCTION chain(state jsonb, e numbers, key text) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT to_jsonb(md5(coalesce(state #>> '{}', '') || e.n))
$$;
INSERT INTO numbers (k, n) SELECT n % 37, n FROM generate_series(1, 3000) AS n;
SELECT projections.create_reducer('chain_1', 'numbers', 'k', 'chain(jsonb, numbers, text)');
SELECT projections.create_reducer('chain_4', 'numbers', 'k', 'chain(jsonb, numbers, text)', options => '{"slots": 4, "batch_size": 77}');
SELECT projections.create_reducer('chain_inline', 'numbers', 'k', 'chain(jsonb, numbers, text)', mode => 'inline');
SELECT projections.catch_up() > 0 AS applied;
INSERT INTO numbers (k, n) SELECT n % 37, n FROM generate_series(3001, 4000) AS n;
SELECT projections.catch_up() > 0 AS applied;
SELECT count(*), sum(version) FROM chain_1;
(TABLE chain_1 EXCEPT TABLE chain_4) UNION ALL (TABLE chain_4 EXCEPT TABLE chain_1);
(TABLE chain_1 EXCEPT TABLE chain_inline) UNION ALL (TABLE chain_inline EXCEPT TABLE chain_1);

-- Columns that a user adds; a CHECK over them is left to the table, an event for each write.
ALTER TABLE locations ADD COLUMN quantity int GENERATED ALWAYS AS (state::int) STORED, ADD CHECK (quantity < 100);
CREATE INDEX ON locations (quantity);
INSERT INTO moves (type, target, quantity) VALUES ('received', 'E5', 60), ('received', 'E5', 60), ('received', 'F6', 60);
SELECT projections.catch_up('locations');
SELECT key, state, quantity FROM locations WHERE key IN ('E5', 'F6') ORDER BY key;
SELECT position, keys, sqlstate FROM projections_internal.failure WHERE projection = 'locations'::regclass ORDER BY position;

-- A trigger of a user's that refuses: halves tell whose event it is.
CREATE FUNCTION refuse_g7() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.key = 'G7' THEN RAISE EXCEPTION 'not G7'; END IF; RETURN NULL; END $$;
CREATE TRIGGER refuse_g7 AFTER INSERT ON locations FOR EACH ROW EXECUTE FUNCTION refuse_g7();
ALTER TABLE locations DROP COLUMN quantity;
INSERT INTO moves (type, target, quantity) VALUES ('received', 'H8', 1), ('received', 'G7', 1), ('received', 'I9', 1), ('received', 'H8', 1);
SELECT projections.catch_up('locations');
SELECT key, state FROM locations WHERE key IN ('G7', 'H8', 'I9') ORDER BY key;
SELECT position, keys, sqlstate, category, error FROM projections_internal.failure WHERE projection = 'locations'::regclass AND keys = '{G7}';

-- A source of another projection.
SELECT projections.create('per_state', 'SELECT state, count(*) AS n FROM reducers.locations GROUP BY state');
INSERT INTO moves (type, target, quantity) VALUES ('received', 'J1', 7), ('received', 'J2', 7);
SELECT projections.catch_up('locations');
SELECT * FROM per_state WHERE state = '7';

-- Inline: what fails, fails with its writer.
CREATE FUNCTION budget(state jsonb, e numbers, key text) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF e.n < 0 THEN RAISE EXCEPTION 'negative'; END IF;
    RETURN to_jsonb(state::numeric + e.n);
END
$$;
SELECT projections.drop('chain_1'), projections.drop('chain_4'), projections.drop('chain_inline');
SELECT projections.create_reducer('budgets', 'numbers', $$ARRAY['k' || k, 'all']$$, 'budget(jsonb, numbers, text)', initial => '0', mode => 'inline');
SELECT state, version FROM budgets WHERE key = 'all';
INSERT INTO numbers (k, n) VALUES (1, -1);
BEGIN;
INSERT INTO numbers (k, n) VALUES (99, 5);
SAVEPOINT s;
INSERT INTO numbers (k, n) VALUES (99, 6);
ROLLBACK TO s;
INSERT INTO numbers (k, n) VALUES (99, 7);
COMMIT;
SELECT key, state, version FROM budgets WHERE key IN ('k99', 'all') ORDER BY key;
-- Partitioned sources, too.
CREATE TABLE parted (position bigint GENERATED ALWAYS AS IDENTITY, region text, n numeric, PRIMARY KEY (position, region)) PARTITION BY LIST (region);
CREATE TABLE parted_north PARTITION OF parted FOR VALUES IN ('north');
CREATE TABLE parted_south (n numeric, region text NOT NULL, position bigint NOT NULL, PRIMARY KEY (position, region));
ALTER TABLE parted ATTACH PARTITION parted_south FOR VALUES IN ('south');
SELECT projections.register_source('parted', position_column => 'position');
CREATE FUNCTION total(state jsonb, e parted, key text) RETURNS jsonb LANGUAGE sql IMMUTABLE AS 'SELECT to_jsonb(state::numeric + e.n)';
INSERT INTO parted (region, n) VALUES ('north', 1), ('south', 10);
SELECT projections.create_reducer('regions', 'parted', 'region', 'total(jsonb, parted, text)', initial => '0');
SELECT projections.create_reducer('regions_inline', 'parted', 'region', 'total(jsonb, parted, text)', initial => '0', mode => 'inline');
INSERT INTO parted (region, n) VALUES ('north', 2), ('south', 20), ('south', 30);
SELECT projections.catch_up('regions');
SELECT key, state, version FROM regions ORDER BY key;
SELECT key, state, version FROM regions_inline ORDER BY key;

-- The event types use an index.
CREATE INDEX ON moves (type, position);
INSERT INTO moves (type, target, quantity) SELECT 'noise', 'n', 1 FROM generate_series(1, 5000);
INSERT INTO moves (type, target) VALUES ('close', 'nobody');
ANALYZE moves;
CREATE FUNCTION plan_of(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$ DECLARE line text; BEGIN FOR line IN EXECUTE 'EXPLAIN (COSTS off) ' || query LOOP RETURN NEXT line; END LOOP; END $$;
SELECT line LIKE '%moves_type_position_idx%' AS by_type FROM plan_of('SELECT * FROM projections_internal.tasks_feed WHERE position > 10 AND position <= 10000 ORDER BY position LIMIT 5000') AS line WHERE line LIKE '%Scan%' LIMIT 1;

SELECT projections.drop(relation::text) FROM projections_internal.projection WHERE relation <> 'locations'::regclass ORDER BY kind = 'query' DESC, relation;
SELECT projections.drop('locations');
SELECT projections.unregister_source(relation::text) FROM projections_internal.source WHERE relation::text IN ('moves', 'numbers', 'parted');
\set VERBOSITY terse
DROP SCHEMA reducers CASCADE;
