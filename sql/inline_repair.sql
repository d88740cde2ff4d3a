-- Inline handlers, reducers and state machines: verify, repair and rebuild, whose checkpoint is what is visible.
\set VERBOSITY terse
\set SHOW_CONTEXT never
SET timezone = 'UTC';
SET client_min_messages = error;
CREATE SCHEMA inlining;
SET search_path = inlining, public;
CREATE TABLE moves (pos bigserial PRIMARY KEY, item text NOT NULL, kind text NOT NULL, qty int NOT NULL DEFAULT 1, at timestamptz NOT NULL DEFAULT '2026-01-01');
SELECT projections.register_source('moves', position_column => 'pos', type_column => 'kind', time_column => 'at');
CREATE FUNCTION fold(state jsonb, e moves, key text) RETURNS jsonb LANGUAGE sql IMMUTABLE AS 'SELECT to_jsonb(coalesce(state::bigint, 0) + e.qty)';
SELECT projections.create_reducer('folded', 'moves', 'ARRAY[item, ''all'']', 'fold(jsonb,moves,text)', initial => '0', mode => 'inline');
SELECT projections.create_state_machine('machine', 'moves', 'item', '[{"from": "new", "event": "in", "to": "held"}, {"from": "held", "event": "in", "to": "held"}, {"from": "held", "event": "out", "to": "gone"}]', mode => 'inline', options => '{"initial": "new", "terminal": ["gone"]}');
CREATE TABLE items (item text PRIMARY KEY, n int);
CREATE FUNCTION note(e moves) RETURNS void LANGUAGE sql AS 'INSERT INTO items AS i VALUES (e.item, e.qty) ON CONFLICT (item) DO UPDATE SET n = i.n + excluded.n';
SELECT projections.create_handler('noted', 'moves', 'note(moves)', '{items}', mode => 'inline', event_types => '{in}');
INSERT INTO moves (item, kind, qty) SELECT 'i' || n % 4, 'in', n FROM generate_series(1, 20) n;
INSERT INTO moves (item, kind) VALUES ('i0', 'out');
SELECT projections.set_state('machine', 'i1', 'gone', 'lost');
CREATE VIEW contents AS SELECT 'folded' AS name, key, state::text FROM folded UNION ALL SELECT 'machine', key, state::text FROM machine UNION ALL SELECT 'items', item, n::text FROM items;
SELECT * FROM contents ORDER BY 1, 2;
CREATE TABLE before AS TABLE contents;
CREATE VIEW changed AS (TABLE contents EXCEPT TABLE before) UNION ALL (TABLE before EXCEPT TABLE contents);
CREATE FUNCTION wrong() RETURNS TABLE (name text, problem text, key jsonb) LANGUAGE sql AS $$
    SELECT n, v.problem, v.key FROM unnest('{folded,machine,noted}'::text[]) n, projections.verify(n) v ORDER BY 1, 3
$$;
SELECT * FROM wrong();
-- Corrupted, and what was not captured.
SET pg_projections.allow_direct_writes = on;
UPDATE folded SET state = '7' WHERE key = 'all';
DELETE FROM machine WHERE key IN ('i0', 'i1');
INSERT INTO machine VALUES ('i9', '"held"', 1, 1, '2026-01-01');
RESET pg_projections.allow_direct_writes;
UPDATE items SET n = 0 WHERE item = 'i2';
DELETE FROM items WHERE item = 'i3';
SELECT * FROM wrong();
SELECT n, projections.repair(n) FROM unnest('{folded,machine,noted}'::text[]) n;
SELECT * FROM wrong();
TABLE changed;
ALTER TABLE moves DISABLE TRIGGER projections_capture;
INSERT INTO moves (item, kind, qty) VALUES ('i2', 'in', 1000), ('i5', 'in', 5);
SELECT * FROM wrong();
SELECT projections.repair('noted');
SELECT projections.repair('machine'), projections.repair('folded');
SELECT * FROM wrong();
SELECT * FROM changed ORDER BY 1, 2, 3;
-- Rebuilt.
UPDATE items SET n = 0 WHERE item = 'i2';
SET pg_projections.allow_direct_writes = on;
DELETE FROM folded WHERE key = 'i5';
DELETE FROM machine WHERE key = 'i1';
RESET pg_projections.allow_direct_writes;
DROP TABLE before CASCADE;
CALL projections.rebuild('folded');
CALL projections.rebuild('machine');
CALL projections.rebuild('noted');
SELECT * FROM wrong();
SELECT * FROM contents ORDER BY 1, 2;
INSERT INTO moves (item, kind, qty) VALUES ('i2', 'in', 1);
INSERT INTO moves (item, kind) VALUES ('i1', 'in');
SELECT * FROM contents WHERE key IN ('i1', 'i2', 'all') ORDER BY 1, 2;
SELECT * FROM wrong();
-- While a transaction is open that has applied its events.
BEGIN;
INSERT INTO moves (item, kind, qty) VALUES ('i7', 'in', 7);
SELECT * FROM wrong();
SELECT n, projections.repair(n) FROM unnest('{folded,machine,noted}'::text[]) n;
ROLLBACK;
SELECT * FROM wrong();
-- An event that inline projections took when their function was another.
CREATE OR REPLACE FUNCTION note(e moves) RETURNS void LANGUAGE plpgsql AS $$ BEGIN IF e.qty = 5 THEN RAISE EXCEPTION 'five'; END IF; END $$;
CREATE OR REPLACE FUNCTION fold(state jsonb, e moves, key text) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN IF e.qty = 5 THEN RAISE EXCEPTION 'five'; END IF; RETURN state; END $$;
SELECT * FROM projections.verify('noted');
SELECT projections.repair('noted');
CALL projections.rebuild('noted');
SELECT * FROM projections.verify('folded');
SELECT projections.repair('folded');
CALL projections.rebuild('folded');
DROP SCHEMA inlining CASCADE;
