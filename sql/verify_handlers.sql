-- Verification and repair of handlers: the function is called again for its events, in what is rolled back.
\set VERBOSITY terse
\set SHOW_CONTEXT never
SET timezone = 'UTC';
SET client_min_messages = error; -- no workers here
CREATE ROLE verify_handlers_owner;
CREATE SCHEMA verify_handlers;
GRANT ALL ON SCHEMA verify_handlers TO verify_handlers_owner;
SET search_path = verify_handlers, public;

CREATE TABLE moves (pos bigserial PRIMARY KEY, item text, kind text NOT NULL DEFAULT 'in', qty int);
GRANT ALL ON moves TO verify_handlers_owner;
SELECT projections.register_source('moves', position_column => 'pos', type_column => 'kind');
SET ROLE verify_handlers_owner;
CREATE TABLE items (item text PRIMARY KEY, on_hand int NOT NULL, nr int NOT NULL UNIQUE);
CREATE TABLE entries (source bigint PRIMARY KEY, item text NOT NULL REFERENCES items, qty int);
CREATE TABLE lines (item text, what json, place point);
CREATE FUNCTION apply_move(e moves) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF e.qty = 13 THEN
        RAISE EXCEPTION 'unlucky';
    END IF;
    INSERT INTO items AS i VALUES (e.item, e.qty, e.pos) ON CONFLICT (item) DO UPDATE SET on_hand = i.on_hand + excluded.on_hand;
    INSERT INTO entries VALUES (e.pos, e.item, e.qty);
    IF e.kind = 'line' THEN
        INSERT INTO lines SELECT e.item, json_build_object('qty', e.qty), point(e.qty, 0) FROM generate_series(1, 2);
    END IF;
END
$$;
RESET ROLE;
CREATE TABLE fired (table_name text);
CREATE FUNCTION note_fired() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN INSERT INTO verify_handlers.fired VALUES (TG_TABLE_NAME); RETURN NULL; END $$;
INSERT INTO moves (item, kind, qty) SELECT 'i' || n % 10, CASE WHEN n % 5 = 0 THEN 'line' ELSE 'in' END, n FROM generate_series(1, 100) n WHERE n <> 13;
INSERT INTO moves (item, qty) VALUES ('i3', 13), ('i3', 500), ('i4', 13), ('i4', 501);
SET ROLE verify_handlers_owner;
SELECT projections.create_handler('stock', 'moves', 'apply_move(moves)', '{items,entries,lines}', partition_by => 'item', options => '{"slots": 3}');
SELECT projections.catch_up('stock') > 0 AS applied;
-- One is skipped for good; the other's key waits.
SELECT projections.skip(id, 'known') FROM projections.failures WHERE projection = 'verify_handlers.stock' AND key = 'i3';
SELECT position, key FROM projections.failures WHERE projection = 'verify_handlers.stock' AND resolved_at IS NULL;
SELECT position, key FROM projections.parked WHERE projection = 'verify_handlers.stock';
SET client_min_messages = notice;
SELECT * FROM projections.verify('stock');
SELECT * FROM projections.verify('stock', sample => 0.5);
SELECT projections.repair('stock');

-- What is wrong, and nothing else.
UPDATE items SET on_hand = 0 WHERE item = 'i1';
UPDATE items SET nr = CASE item WHEN 'i5' THEN 6 ELSE 5 END - 1000 WHERE item IN ('i5', 'i6');
UPDATE items SET nr = nr + 1000 WHERE item IN ('i5', 'i6');
DELETE FROM entries WHERE source = 7;
INSERT INTO entries VALUES (-1, 'i1', 1);
INSERT INTO lines SELECT * FROM lines WHERE item = 'i0' LIMIT 1;
DELETE FROM lines WHERE ctid = (SELECT min(ctid) FROM lines WHERE item = 'i5');
INSERT INTO lines VALUES ('none', NULL, NULL);
CREATE FUNCTION wrong(name text) RETURNS TABLE (problem text, key jsonb, expected jsonb, found jsonb) LANGUAGE sql AS 'SELECT * FROM projections.verify(name) v ORDER BY key #>> ''{table}'', 1, 2, 3, 4';
SELECT * FROM wrong('stock');
SELECT count(*) AS left_behind FROM projections.definitions WHERE projection !~ '^verify_handlers';
SELECT count(*) AS left_behind FROM pg_namespace WHERE nspname ~ '^projections_' AND nspname <> 'projections_internal';
RESET ROLE;
CREATE TRIGGER note_fired AFTER INSERT OR UPDATE OR DELETE ON items FOR EACH ROW EXECUTE FUNCTION note_fired();
SET ROLE verify_handlers_owner;
SELECT count(*) > 0 AS wrong FROM projections.verify('stock');
RESET ROLE;
SELECT count(*) AS fired FROM fired; -- not by a replay
SET ROLE verify_handlers_owner;
SELECT projections.repair('stock') > 0 AS written;
SELECT * FROM wrong('stock');
SELECT projections.repair('stock');
RESET ROLE;
SELECT count(*) > 0 AS fired FROM fired;
SELECT count(*) AS left_behind FROM pg_namespace WHERE nspname ~ '^projections_' AND nspname <> 'projections_internal';
SET ROLE verify_handlers_owner;

-- Events up to the checkpoint, whatever has come since; and after an error as if nothing had been.
RESET ROLE;
INSERT INTO moves (item, qty) VALUES ('i9', 1);
SET ROLE verify_handlers_owner;
SELECT * FROM wrong('stock');
BEGIN;
SELECT projections.catch_up('stock') > 0 AS applied;
SAVEPOINT one;
UPDATE items SET on_hand = 1 WHERE item = 'i9';
SELECT problem, key FROM wrong('stock');
ROLLBACK TO one;
SELECT * FROM wrong('stock');
COMMIT;
BEGIN ISOLATION LEVEL REPEATABLE READ;
UPDATE items SET on_hand = on_hand + 1 WHERE item = 'i9';
SELECT problem, key FROM wrong('stock');
SELECT projections.repair('stock');
SELECT * FROM wrong('stock');
COMMIT;
BEGIN READ ONLY;
SELECT * FROM projections.verify('stock');
ROLLBACK;
CREATE FUNCTION caught() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM * FROM projections.verify('stock');
    RETURN 'none';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE || ' ' || SQLERRM;
END
$$;
CREATE OR REPLACE FUNCTION apply_move(e moves) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not any more'; END $$;
SELECT caught();
SELECT projections.repair('stock');
SELECT count(*) AS failures FROM projections.failures WHERE projection = 'verify_handlers.stock' AND resolved_at IS NULL;
-- Reaching past its tables.
CREATE OR REPLACE FUNCTION apply_move(e moves) RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO verify_handlers.lines VALUES (e.item); END $$;
SELECT caught();
CREATE OR REPLACE FUNCTION apply_move(e moves) RETURNS void LANGUAGE plpgsql AS $$ BEGIN BEGIN INSERT INTO unlisted VALUES (e.item); EXCEPTION WHEN OTHERS THEN NULL; END; END $$;
CREATE TABLE unlisted (item text);
SELECT caught();
SELECT count(*) FROM unlisted;
SELECT projections.repair('stock');
ALTER FUNCTION apply_move(moves) SET search_path = verify_handlers;
SELECT caught();
SELECT projections.drop('stock');

-- Defaults: those that are asked.
RESET ROLE;
CREATE TABLE drawn (id serial PRIMARY KEY, item text NOT NULL, source bigint UNIQUE, at timestamptz NOT NULL DEFAULT clock_timestamp(), token uuid DEFAULT gen_random_uuid());
CREATE TABLE given (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, item text, at timestamptz DEFAULT now());
CREATE FUNCTION draw(e moves) RETURNS void LANGUAGE sql AS $$
    INSERT INTO drawn (item, source, token) VALUES (e.item, e.pos, NULL);
    INSERT INTO given VALUES (e.pos, e.item, '2026-01-01'::timestamptz + e.pos * interval '1 s');
$$;
SELECT projections.create_handler('drawing', 'moves', 'draw(moves)', '{drawn,given}', event_types => '{line}');
SELECT projections.catch_up('drawing');
SELECT * FROM projections.verify('drawing');
UPDATE drawn SET id = 1000 + id, at = at + interval '1 year' WHERE id % 2 = 0;
SELECT * FROM projections.verify('drawing');
UPDATE drawn SET item = 'wrong' WHERE source = (SELECT min(source) FROM drawn);
DELETE FROM drawn WHERE source = (SELECT max(source) FROM drawn);
UPDATE given SET at = '2000-01-01' WHERE item = 'i0' AND id < 20;
DELETE FROM given WHERE id > 95;
SELECT problem, key, expected - 'at' AS expected, found - 'at' AS found FROM wrong('drawing');
CREATE TABLE ids AS SELECT id FROM drawn;
SELECT projections.repair('drawing');
SELECT * FROM wrong('drawing');
SELECT count(*) - (SELECT count(*) FROM moves WHERE kind = 'line') AS more, (SELECT count(*) FROM ids WHERE id NOT IN (SELECT id FROM drawn)) AS replaced FROM drawn;
SELECT projections.drop('drawing');
DROP TABLE drawn, given, ids;

-- Columns that are gone, generated, or numbered by the table; a table of nothing but numbers; what a foreign key takes along.
CREATE TABLE parents (gone int, item text CONSTRAINT parents_by_name PRIMARY KEY, n int NOT NULL, also_gone text, doubled int GENERATED ALWAYS AS (n * 2) STORED);
ALTER TABLE parents DROP COLUMN gone;
ALTER TABLE parents DROP COLUMN also_gone;
CREATE TABLE children (id serial PRIMARY KEY, nr bigint GENERATED ALWAYS AS IDENTITY (START 100 INCREMENT 2), item text NOT NULL REFERENCES parents ON DELETE CASCADE, source bigint UNIQUE, "Odd Name" timestamptz DEFAULT now());
CREATE TABLE numbers (id serial PRIMARY KEY);
CREATE FUNCTION of_parents(e moves) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO parents AS p VALUES (e.item, 1) ON CONFLICT ON CONSTRAINT parents_by_name DO UPDATE SET n = p.n + 1;
    INSERT INTO children (item, source) VALUES (e.item, e.pos) ON CONFLICT (source) DO NOTHING;
    INSERT INTO numbers DEFAULT VALUES;
END
$$;
SELECT projections.create_handler('family', 'moves', 'of_parents(moves)', '{parents,children,numbers}', event_types => '{line}', partition_by => 'item', options => '{"slots": 2}');
SELECT projections.catch_up('family');
SELECT * FROM projections.verify('family');
DELETE FROM parents WHERE item = 'i5';
UPDATE parents SET n = 7;
DELETE FROM numbers WHERE id < 4;
SELECT key ->> 'table' AS table_name, problem, count(*) FROM projections.verify('family') GROUP BY 1, 2 ORDER BY 1, 2;
SELECT projections.repair('family');
SELECT * FROM projections.verify('family');
SELECT *, (SELECT count(DISTINCT id) FROM children), (SELECT count(*) FROM numbers) FROM parents ORDER BY item;
SELECT projections.drop('family');

-- Inline: as far as is visible.
CREATE TABLE per_item (item text PRIMARY KEY, n int);
CREATE FUNCTION count_item(e moves) RETURNS void LANGUAGE sql AS 'INSERT INTO per_item AS p VALUES (e.item, 1) ON CONFLICT (item) DO UPDATE SET n = p.n + 1';
SELECT projections.create_handler('counting', 'moves', 'count_item(moves)', '{per_item}', mode => 'inline');
SELECT * FROM projections.verify('counting');
BEGIN;
INSERT INTO moves (item, qty) VALUES ('mine', 1);
SELECT * FROM projections.verify('counting');
UPDATE per_item SET n = n + 1 WHERE item = 'i1';
SELECT problem, key, expected ->> 'n' AS expected, found ->> 'n' AS found FROM wrong('counting');
COMMIT;
SET client_min_messages = error;
ALTER TABLE moves DISABLE TRIGGER projections_capture;
INSERT INTO moves (item, qty) VALUES ('missed', 1);
SET client_min_messages = notice;
SELECT projections.repair('counting');
SELECT * FROM wrong('counting');
SELECT n FROM per_item WHERE item = 'missed';
-- Triggers come back, even where the rows cannot.
CREATE OR REPLACE FUNCTION count_item(e moves) RETURNS void LANGUAGE sql AS 'INSERT INTO verify_handlers.per_item AS p VALUES (e.item, 1) ON CONFLICT (item) DO UPDATE SET n = p.n + 1';
SET client_min_messages = error;
ALTER TABLE moves DISABLE TRIGGER projections_capture;
SET client_min_messages = notice;
SELECT projections.repair('counting');
SELECT projections.repair('counting');
SELECT tgenabled FROM pg_trigger WHERE tgrelid = 'moves'::regclass AND tgname = 'projections_capture';
SELECT projections.drop('counting');

-- Without tables there is nothing to compare.
CREATE FUNCTION nothing(e moves) RETURNS void LANGUAGE sql AS '';
SELECT projections.create_handler('tableless', 'moves', 'nothing(moves)', '{}');
SELECT * FROM projections.verify('tableless');
SELECT projections.repair('tableless');
-- For whoever may read, and not without all events.
CREATE TABLE plain (item text PRIMARY KEY);
CREATE FUNCTION plainly(e moves) RETURNS void LANGUAGE sql AS 'INSERT INTO plain VALUES (e.item) ON CONFLICT DO NOTHING';
SELECT projections.create_handler('plainest', 'moves', 'plainly(moves)', '{plain}');
SELECT projections.catch_up('plainest');
SET ROLE verify_handlers_owner;
SELECT * FROM projections.verify('plainest');
RESET ROLE;
UPDATE projections_internal.source SET archived_to = 5 WHERE relation = 'moves'::regclass;
SELECT * FROM projections.verify('plainest');
SELECT projections.repair('plainest');
UPDATE projections_internal.source SET archived_to = 0 WHERE relation = 'moves'::regclass;
GRANT pg_read_all_data TO verify_handlers_owner;
SET ROLE verify_handlers_owner;
SELECT * FROM projections.verify('plainest');
RESET ROLE;
REVOKE pg_read_all_data FROM verify_handlers_owner;
-- A projection over the tables follows a repair, and nothing of a replay.
SET client_min_messages = error;
SELECT projections.create('plain_lengths', 'SELECT length(item) AS length, count(*) AS n FROM plain GROUP BY 1');
SET client_min_messages = notice;
INSERT INTO plain VALUES ('longer than others');
DELETE FROM plain WHERE item = 'i1';
SELECT problem, key FROM wrong('plainest');
TABLE plain_lengths ORDER BY 1;
SELECT projections.repair('plainest');
TABLE plain_lengths ORDER BY 1;
SELECT * FROM projections.verify('plain_lengths');
-- Tables of which no twin can be made.
CREATE TABLE parted (item text) PARTITION BY LIST (item);
CREATE TABLE parted_rest PARTITION OF parted DEFAULT;
CREATE FUNCTION partly(e moves) RETURNS void LANGUAGE sql AS 'INSERT INTO parted VALUES (e.item)';
SELECT projections.create_handler('in_parts', 'moves', 'partly(moves)', '{parted}');
SELECT * FROM projections.verify('in_parts');
SELECT projections.repair('in_parts');
-- Our own events are there when they are archived.
SELECT count(*) FROM projections.append('one', 'handled', '{"n": 1}') a, projections.append('two', 'handled', '{"n": 2}') b;
CREATE TABLE streams (stream text PRIMARY KEY, n int);
CREATE FUNCTION count_stream(e projections.events) RETURNS void LANGUAGE sql AS 'INSERT INTO streams VALUES (e.stream, (e.data ->> ''n'')::int)';
SELECT projections.create_handler('of_streams', 'projections.events', 'count_stream(projections.events)', '{streams}', event_types => '{handled}');
SELECT projections.catch_up('of_streams') AS applied;
SELECT events >= 2 AS archived FROM projections.archive_events('projections.events', 'infinity');
SELECT count(*) AS left FROM ONLY projections.events WHERE type = 'handled';
SELECT * FROM projections.verify('of_streams');
UPDATE streams SET n = 0 WHERE stream = 'one';
SELECT * FROM projections.verify('of_streams');
SELECT projections.repair('of_streams');
TABLE streams ORDER BY 1;
SELECT kind, object, reason FROM projections.orphans() WHERE object LIKE '%verify_handlers%';
SET client_min_messages = error;
DROP SCHEMA verify_handlers CASCADE;
DROP ROLE verify_handlers_owner;
