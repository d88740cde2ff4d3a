-- Rebuild of handlers: the function is called again, with twins of its tables before them in its search_path.
\set VERBOSITY terse
\set SHOW_CONTEXT never
SET timezone = 'UTC';
SET client_min_messages = error; -- no workers here, and times differ
CREATE ROLE rebuild_handlers_owner;
CREATE SCHEMA rebuild_handlers;
GRANT ALL ON SCHEMA rebuild_handlers TO rebuild_handlers_owner;
SET search_path = rebuild_handlers, public;

CREATE TABLE moves (pos bigserial PRIMARY KEY, item text, kind text NOT NULL DEFAULT 'in', qty int NOT NULL, at timestamptz NOT NULL DEFAULT '2026-01-01');
GRANT ALL ON moves TO rebuild_handlers_owner;
SELECT projections.register_source('moves', position_column => 'pos', type_column => 'kind', time_column => 'at');

-- Everything that decides what a handler may write, and what it finds.
SET ROLE rebuild_handlers_owner;
CREATE TABLE items (
    gone int, item text CONSTRAINT items_by_name PRIMARY KEY, on_hand int NOT NULL DEFAULT 0 CHECK (on_hand < 100000), also_gone text, doubled int GENERATED ALWAYS AS (on_hand * 2) STORED
);
ALTER TABLE items DROP COLUMN gone;
ALTER TABLE items DROP COLUMN also_gone;
CREATE TABLE entries (
    id serial PRIMARY KEY, nr bigint GENERATED ALWAYS AS IDENTITY (START 100 INCREMENT 2), item text NOT NULL CONSTRAINT of_item REFERENCES items ON DELETE CASCADE,
    source bigint NOT NULL, qty int, note text DEFAULT 'none', UNIQUE (source)
) WITH (fillfactor = 80);
CREATE INDEX entries_upper ON entries (upper(item)) WHERE qty > 1;
ALTER TABLE entries ALTER note SET STORAGE external;
CREATE FUNCTION apply_move(e moves) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    row entries;
BEGIN
    INSERT INTO items AS i (item, on_hand) VALUES (e.item, e.qty)
    ON CONFLICT ON CONSTRAINT items_by_name DO UPDATE SET on_hand = i.on_hand + excluded.on_hand;
    IF e.kind = 'undo' THEN
        DELETE FROM entries n WHERE n.source = e.pos - 1;
    ELSE
        INSERT INTO entries (item, source, qty) VALUES (e.item, e.pos, e.qty) ON CONFLICT (source) DO NOTHING RETURNING * INTO row;
        IF row.nr IS NULL THEN
            RAISE EXCEPTION 'no number';
        END IF;
    END IF;
END
$$;
CREATE TABLE fired (what text);
CREATE FUNCTION note_fired() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO rebuild_handlers.fired VALUES (TG_OP); RETURN NULL; END $$;
SELECT projections.create_handler('stock', 'moves', 'apply_move(moves)', '{items,entries}', partition_by => 'item', options => '{"slots": 2}');

-- The oracle is a replay in SQL.
CREATE FUNCTION expected_items() RETURNS TABLE (item text, on_hand bigint, doubled bigint) LANGUAGE sql AS $$
    SELECT m.item, sum(qty), 2 * sum(qty) FROM rebuild_handlers.moves m WHERE qty <> 13 AND NOT EXISTS (SELECT FROM projections_internal.failure f WHERE f.projection = 'rebuild_handlers.stock'::regclass AND f.position = m.pos) GROUP BY m.item
$$;
CREATE FUNCTION expected_entries() RETURNS TABLE (item text, source bigint, qty int, note text) LANGUAGE sql AS $$
    SELECT m.item, m.pos, m.qty, 'none' FROM rebuild_handlers.moves m
    WHERE kind <> 'undo' AND item IS NOT NULL AND NOT EXISTS (SELECT FROM rebuild_handlers.moves u WHERE u.pos = m.pos + 1 AND u.kind = 'undo')
$$;
CREATE VIEW difference AS
    SELECT 'items' AS name, d::text FROM ((TABLE items EXCEPT ALL SELECT * FROM expected_items()) UNION ALL (SELECT * FROM expected_items() EXCEPT ALL TABLE items)) d
    UNION ALL SELECT 'entries', d::text FROM ((SELECT item, source, qty, note FROM entries EXCEPT ALL SELECT * FROM expected_entries()) UNION ALL (SELECT * FROM expected_entries() EXCEPT ALL SELECT item, source, qty, note FROM entries)) d;
RESET ROLE;
CREATE TABLE nodes AS SELECT oid, relname, relfilenode FROM pg_class WHERE relnamespace = 'rebuild_handlers'::regnamespace AND relname ~ '^(items|entries)';
CREATE VIEW swapped AS SELECT n.relname, c.relfilenode <> n.relfilenode AS swapped FROM nodes n JOIN pg_class c USING (oid) WHERE c.relkind <> 'S';

-- A fresh environment.
CALL projections.rebuild('stock');
INSERT INTO moves (item, kind, qty) SELECT 'i' || n / 2 % 7, CASE WHEN n % 10 = 1 THEN 'undo' ELSE 'in' END, n % 10 + 1 FROM generate_series(1, 1000) n;
INSERT INTO moves (item, qty) VALUES (NULL, 1);
SET ROLE rebuild_handlers_owner;
CALL projections.rebuild('stock');
RESET ROLE;
TABLE difference;
SELECT projection, position, sqlstate FROM projections.failures WHERE resolved_at IS NULL;
SELECT slot, position FROM projections.checkpoints WHERE projection = 'rebuild_handlers.stock' ORDER BY 1;
SELECT relname, swapped FROM swapped ORDER BY 1;

-- It goes on from there, with numbers that were never given before.
CREATE TEMP TABLE numbers AS SELECT max(id) AS id, max(nr) AS nr FROM entries;
INSERT INTO moves (item, qty) VALUES ('i1', 3);
SELECT projections.catch_up('stock') > 0 AS applied;
TABLE difference;
SELECT e.id > n.id AS id, e.nr > n.nr AS nr FROM entries e, numbers n WHERE e.source = (SELECT max(pos) FROM moves);
DROP TABLE numbers;
\d entries
\d items

-- Users' triggers do not fire in a replay, and they, views and grants stay.
CREATE TRIGGER note_fired AFTER INSERT OR UPDATE OR DELETE ON items FOR EACH STATEMENT EXECUTE FUNCTION note_fired();
CREATE VIEW over_items AS SELECT count(*) AS items, sum(on_hand) > 0 AS some FROM items;
GRANT SELECT ON items TO PUBLIC;
UPDATE items SET on_hand = 0 WHERE item = 'i2';
DELETE FROM entries WHERE source % 3 = 0;
INSERT INTO items VALUES ('stray', 5);
TRUNCATE fired;
CREATE INDEX entries_qty ON entries (qty);
CALL projections.rebuild('stock');
TABLE difference;
TABLE fired;
TABLE over_items;
SELECT count(*) AS triggers FROM pg_trigger WHERE tgrelid = 'items'::regclass AND tgname = 'note_fired';
SELECT has_table_privilege('public', 'items', 'SELECT') AS granted;
SELECT relname, swapped FROM swapped ORDER BY 1;

-- Foreign keys of a table that is not the handler's, publications, and projections over its tables: a merge.
CREATE TABLE orders (nr int PRIMARY KEY, item text REFERENCES items);
INSERT INTO orders VALUES (1, 'i1');
SELECT projections.create('by_qty', 'SELECT qty, count(*) AS n FROM entries GROUP BY qty');
UPDATE nodes n SET relfilenode = c.relfilenode FROM pg_class c WHERE c.oid = n.oid;
UPDATE items SET on_hand = 0 WHERE item = 'i2';
DELETE FROM entries WHERE source % 3 = 0;
INSERT INTO items VALUES ('stray', 5);
INSERT INTO entries (item, source, qty) VALUES ('stray', -1, 1);
TRUNCATE fired;
SET ROLE rebuild_handlers_owner;
CALL projections.rebuild('stock');
RESET ROLE;
TABLE difference;
SELECT what, count(*) FROM fired GROUP BY 1 ORDER BY 1;
(TABLE by_qty EXCEPT ALL SELECT qty, count(*) FROM entries GROUP BY qty) UNION ALL (SELECT qty, count(*) FROM entries GROUP BY qty EXCEPT ALL TABLE by_qty);
SELECT bool_or(swapped) AS swapped FROM swapped;
SELECT finish, outcome FROM projections_internal.rebuild WHERE projection = 'stock'::regclass ORDER BY id DESC LIMIT 1;
-- What an order needs, and the events do not give, keeps the result out.
INSERT INTO items VALUES ('stray', 5);
INSERT INTO orders VALUES (2, 'stray');
CALL projections.rebuild('stock');
SELECT count(*) AS stray FROM items WHERE item = 'stray';
DELETE FROM orders WHERE nr = 2;
CALL projections.rebuild('stock');
TABLE difference;
SELECT projections.drop('by_qty');
DROP TABLE orders;

-- A qualified name reaches past the shadows: the rebuild fails, and nothing of the live tables has changed, whoever catches the error.
CREATE TABLE fixed (item text PRIMARY KEY, n int NOT NULL);
CREATE TABLE other (item text);
INSERT INTO other VALUES ('x');
CREATE FUNCTION breaks(e moves) RETURNS void LANGUAGE plpgsql AS $$ BEGIN NULL; END $$;
SELECT projections.create_handler('fixed_stock', 'moves', 'breaks(moves)', '{fixed}', event_types => '{one}');
INSERT INTO moves (item, kind, qty) VALUES ('x', 'one', 1);
SELECT projections.catch_up('fixed_stock');
INSERT INTO fixed VALUES ('x', 42);
CREATE PROCEDURE try_body(body text) LANGUAGE plpgsql AS $p$
BEGIN
    EXECUTE format('CREATE OR REPLACE FUNCTION breaks(e moves) RETURNS void LANGUAGE plpgsql AS %L', 'BEGIN ' || body || '; END');
END
$p$;
CALL try_body($$INSERT INTO rebuild_handlers.fixed VALUES ('y', 1)$$);
CALL projections.rebuild('fixed_stock');
CALL try_body($$BEGIN UPDATE rebuild_handlers.fixed SET n = 0; EXCEPTION WHEN OTHERS THEN NULL; END$$);
CALL projections.rebuild('fixed_stock');
CALL try_body($$PERFORM count(*) FROM rebuild_handlers.fixed$$);
CALL projections.rebuild('fixed_stock');
CALL try_body($$DELETE FROM other$$);
CALL projections.rebuild('fixed_stock');
CALL try_body($$TRUNCATE other$$);
CALL projections.rebuild('fixed_stock');
CALL try_body($$TRUNCATE rebuild_handlers.fixed$$);
CALL projections.rebuild('fixed_stock');
CALL try_body($$CREATE TABLE made (n int)$$);
CALL projections.rebuild('fixed_stock');
CALL try_body($$COPY other FROM PROGRAM 'echo y'$$);
CALL projections.rebuild('fixed_stock');
CALL try_body($$PERFORM projections.append('s', 'cascade', '{}')$$);
CALL projections.rebuild('fixed_stock');
CREATE VIEW over_fixed AS SELECT * FROM fixed;
CALL try_body($$INSERT INTO over_fixed VALUES ('z', 1)$$);
CALL projections.rebuild('fixed_stock');
TABLE fixed;
TABLE other;
SELECT phase, outcome, error FROM projections_internal.rebuild WHERE projection = 'fixed_stock'::regclass ORDER BY id DESC LIMIT 1;
SELECT count(*) AS shadows FROM pg_namespace WHERE nspname LIKE 'projections\_shadow%';
SELECT count(*) AS failures FROM projections.failures WHERE projection = 'rebuild_handlers.fixed_stock';
-- Its own tables may be truncated and copied into, and what it calls may be in another schema.
CALL try_body($$TRUNCATE fixed; INSERT INTO fixed VALUES (e.item, 7); COPY fixed FROM PROGRAM 'printf "copied\t8\n"'; PERFORM count(*) FROM other$$);
CALL projections.rebuild('fixed_stock');
SELECT * FROM fixed ORDER BY 1;

-- What cannot be pointed at other tables is refused.
ALTER FUNCTION breaks(moves) SET search_path = rebuild_handlers;
CALL projections.rebuild('fixed_stock');
CREATE OR REPLACE FUNCTION breaks(e moves) RETURNS void LANGUAGE sql BEGIN ATOMIC INSERT INTO fixed VALUES (e.item, 1); END;
CALL projections.rebuild('fixed_stock');
CREATE OR REPLACE FUNCTION breaks(e moves) RETURNS void LANGUAGE plpgsql AS $$ BEGIN NULL; END $$;
CREATE TABLE child () INHERITS (fixed);
CALL projections.rebuild('fixed_stock');
DROP TABLE child;
ALTER TABLE fixed DROP CONSTRAINT fixed_pkey;
CREATE PUBLICATION rebuild_handlers_publication FOR TABLE fixed;
CALL projections.rebuild('fixed_stock');
DROP PUBLICATION rebuild_handlers_publication;
CALL projections.rebuild('fixed_stock');
TABLE fixed;

-- Inline: as far as the last event, and an event that fails is an error.
CREATE TABLE inline_items (item text PRIMARY KEY, n bigint NOT NULL);
CREATE FUNCTION apply_inline(e moves) RETURNS void LANGUAGE sql AS $$
    INSERT INTO inline_items AS i VALUES (e.item, 100 / e.qty) ON CONFLICT (item) DO UPDATE SET n = i.n + excluded.n
$$;
DELETE FROM moves WHERE item IS NULL;
SELECT projections.create_handler('inline_items', 'moves', 'apply_inline(moves)', '{inline_items}', event_types => '{in,one}', mode => 'inline');
UPDATE inline_items SET n = -1;
CALL projections.rebuild('inline_items');
CREATE VIEW inline_difference AS
    WITH e AS (SELECT item, sum(100 / qty) AS n FROM moves WHERE kind IN ('in', 'one') GROUP BY item)
    (SELECT item, n FROM inline_items EXCEPT ALL TABLE e) UNION ALL (TABLE e EXCEPT ALL SELECT item, n FROM inline_items);
TABLE inline_difference;
INSERT INTO moves (item, qty) VALUES ('i1', 4), ('new', 50);
TABLE inline_difference;
SELECT count(*) AS slots FROM projections.checkpoints WHERE projection = 'rebuild_handlers.inline_items';
ALTER TABLE moves DISABLE TRIGGER projections_capture;
INSERT INTO moves (item, qty) VALUES ('i1', 0);
ALTER TABLE moves ENABLE ALWAYS TRIGGER projections_capture;
CALL projections.rebuild('inline_items');
SELECT count(*) AS failures FROM projections.failures WHERE projection = 'rebuild_handlers.inline_items';
DELETE FROM moves WHERE qty = 0;
CALL projections.rebuild('inline_items');
TABLE inline_difference;

-- A handler without tables has nothing to be rebuilt but its checkpoint.
CREATE FUNCTION nothing(e moves) RETURNS void LANGUAGE sql AS $$ $$;
SELECT projections.create_handler('tableless', 'moves', 'nothing(moves)', '{}');
CALL projections.rebuild('tableless');
SELECT position >= (SELECT max(pos) FROM moves) AS there FROM projections.checkpoints WHERE projection = 'rebuild_handlers.tableless';

SELECT kind, object, reason FROM projections.orphans() WHERE object LIKE '%rebuild_handlers%' OR object LIKE '%shadow%';
SET client_min_messages = error;
DROP SCHEMA rebuild_handlers CASCADE;
DROP ROLE rebuild_handlers_owner;
