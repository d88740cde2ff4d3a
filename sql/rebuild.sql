-- Rebuild of every shape, by swap and by merge: the table keeps what hangs on it, and goes on working.
\set VERBOSITY terse
\set SHOW_CONTEXT never
SET client_min_messages = error;
CREATE EXTENSION amcheck;
CREATE ROLE rb_owner;
CREATE ROLE rb_reader;
CREATE SCHEMA rb AUTHORIZATION rb_owner;
SET ROLE rb_owner;
SET search_path = rb, public;
CREATE TABLE items (id int PRIMARY KEY, category int, price numeric(8, 2), stock int, note text);
CREATE TABLE orders (id int PRIMARY KEY, item int, quantity int);
CREATE TABLE visits (customer int, page text);
ALTER TABLE items ALTER note SET STORAGE EXTERNAL;
INSERT INTO items SELECT i, i % 9, i % 50, i % 17, repeat('note ' || i || ' ', 1000) FROM generate_series(1, 200) AS i;
INSERT INTO orders SELECT i, i % 200 + 1, i % 9 FROM generate_series(1, 1000) AS i;
INSERT INTO visits SELECT i % 12, 'page ' || i % 3 FROM generate_series(1, 100) AS i;
DO $$
DECLARE
    shape text[];
BEGIN
    FOREACH shape SLICE 1 IN ARRAY ARRAY[
        ['sums', 'SELECT category, sum(price * stock) AS value, count(*) AS n, avg(stock) AS stock FROM items GROUP BY category', 'inline', 'swap'],
        ['extremes', 'SELECT category, min(price) AS low, max(price) AS high FROM items GROUP BY category', 'inline', 'swap'],
        ['total', 'SELECT count(*) AS n, sum(stock) AS stock, min(price) AS low FROM items', 'inline', 'swap'],
        ['shelf', 'SELECT id, category, stock, price, note FROM items WHERE stock > 3', 'inline', 'swap'],
        ['seen', 'SELECT customer, page FROM visits', 'inline', 'swap'],
        ['ordered', 'SELECT category, sum(quantity) AS quantity, max(quantity) AS most FROM items AS i JOIN orders ON item = i.id GROUP BY category', 'inline', 'swap'],
        ['order_lines', 'SELECT o.id, i.id AS item, category, quantity FROM items AS i JOIN orders AS o ON item = i.id', 'inline', 'swap'],
        ['later', 'SELECT category, sum(stock) AS stock, min(price) AS low FROM items GROUP BY category', 'async', 'swap'],
        ['later_seen', 'SELECT customer, page FROM visits', 'async', 'swap'],
        ['stocks', 'SELECT stock, count(*) AS n, sum(price) AS price FROM items GROUP BY stock', 'inline', 'auto'],
        ['by_count', 'SELECT n, count(*) AS stocks, sum(price) AS price FROM stocks GROUP BY n', 'inline', 'swap']]
    LOOP
        PERFORM projections.create(shape[1], shape[2], shape[3], options => jsonb_build_object('finish', shape[4]));
    END LOOP;
END $$;
RESET ROLE;

-- All that may hang on a table. No other relation may get an OID of its own.
CREATE UNIQUE INDEX shelf_unique ON shelf (id);
CREATE UNIQUE INDEX shelf_identity ON shelf (id, (category + 1)) INCLUDE (stock) WHERE stock > 4;
CREATE INDEX shelf_words ON shelf USING gin (to_tsvector('simple', left(note, 100)));
CREATE INDEX shelf_hash ON shelf USING hash (category);
CREATE INDEX shelf_prices ON shelf USING btree (price DESC NULLS LAST) WITH (fillfactor = 70);
CREATE INDEX shelf_page ON shelf USING brin (id);
COMMENT ON INDEX shelf_prices IS 'by price';
ALTER TABLE shelf ADD CONSTRAINT positive CHECK (stock > 0), ALTER id SET NOT NULL, ADD CONSTRAINT shelf_key UNIQUE USING INDEX shelf_unique;
ALTER TABLE shelf ALTER stock SET STATISTICS 500, ALTER note SET STORAGE MAIN, ALTER category SET (n_distinct = 9);
ALTER TABLE shelf SET (fillfactor = 80, autovacuum_enabled = false, toast.autovacuum_enabled = false, toast_tuple_target = 512);
ALTER TABLE shelf REPLICA IDENTITY USING INDEX shelf_key;
ALTER TABLE shelf ENABLE ROW LEVEL SECURITY;
CREATE POLICY some_rows ON shelf FOR SELECT TO rb_reader USING (category < 5);
GRANT SELECT (id, category), REFERENCES ON shelf TO rb_reader WITH GRANT OPTION;
GRANT USAGE ON SCHEMA rb TO rb_reader;
CREATE STATISTICS shelf_statistics (dependencies, mcv) ON category, stock FROM shelf;
COMMENT ON TABLE shelf IS 'what is on the shelf';
COMMENT ON COLUMN shelf.note IS 'a long note';
CREATE VIEW shelf_view AS SELECT category, count(*) AS n FROM shelf GROUP BY category;
CREATE MATERIALIZED VIEW shelf_matview AS SELECT max(length(note)) AS longest FROM shelf;
CREATE FUNCTION count_rows() RETURNS trigger LANGUAGE plpgsql SET search_path = rb AS $$ BEGIN UPDATE changes SET n = n + 1; RETURN NULL; END $$;
CREATE TABLE changes (n int);
ALTER TABLE changes OWNER TO rb_owner;
INSERT INTO changes VALUES (0);
CREATE TRIGGER count_rows AFTER INSERT OR UPDATE OR DELETE ON shelf FOR EACH ROW EXECUTE FUNCTION count_rows();
ALTER TABLE extremes CLUSTER ON extremes_category_idx;
ANALYZE shelf;

-- Everything that the catalogs say of a projection, without the columns of its files.
CREATE FUNCTION catalog_rows(target regclass) RETURNS SETOF text LANGUAGE sql AS $$
    WITH relations AS (SELECT target::oid AS oid UNION ALL SELECT indexrelid FROM pg_index WHERE indrelid = target)
    SELECT 'class ' || (to_jsonb(c) - '{relfilenode,relpages,reltuples,relallvisible,relallfrozen,relfrozenxid,relminmxid,reltoastrelid}'::text[])::text FROM pg_class AS c JOIN relations USING (oid)
    UNION ALL SELECT 'toast ' || (t.relname = 'pg_toast_' || target::oid) || ' ' || coalesce(t.reloptions::text, '') || ' ' || (SELECT count(*) FROM pg_depend AS d WHERE d.objid = t.oid)
              || ' ' || EXISTS (SELECT FROM pg_depend AS d WHERE d.objid = t.oid AND d.refobjid = target AND d.deptype = 'i') FROM pg_class AS c JOIN pg_class AS t ON t.oid = c.reltoastrelid WHERE c.oid = target
    UNION ALL SELECT 'attribute ' || to_jsonb(a)::text FROM pg_attribute AS a JOIN relations AS r ON a.attrelid = r.oid
    UNION ALL SELECT 'index ' || to_jsonb(i)::text FROM pg_index AS i WHERE indrelid = target
    UNION ALL SELECT 'constraint ' || to_jsonb(k)::text FROM pg_constraint AS k WHERE target IN (conrelid, confrelid)
    UNION ALL SELECT 'depends ' || to_jsonb(d)::text FROM pg_depend AS d JOIN relations AS r ON r.oid IN (d.objid, d.refobjid) WHERE d.objid <> (SELECT reltoastrelid FROM pg_class WHERE oid = target)
    UNION ALL SELECT 'shared ' || to_jsonb(d)::text FROM pg_shdepend AS d JOIN relations AS r ON r.oid = d.objid
    UNION ALL SELECT 'policy ' || to_jsonb(p)::text FROM pg_policy AS p WHERE polrelid = target
    UNION ALL SELECT 'trigger ' || to_jsonb(t)::text FROM pg_trigger AS t WHERE tgrelid = target
    UNION ALL SELECT 'description ' || to_jsonb(d)::text FROM pg_description AS d JOIN relations AS r ON r.oid = d.objoid
    UNION ALL SELECT 'statistics ' || to_jsonb(s)::text FROM pg_statistic_ext AS s WHERE stxrelid = target
    UNION ALL SELECT 'publication ' || to_jsonb(p)::text FROM pg_publication_rel AS p WHERE prrelid = target
    UNION ALL SELECT 'projection ' || (to_jsonb(p) - 'changes')::text FROM projections_internal.projection AS p WHERE p.relation = target
$$;
CREATE TABLE before_rebuild AS SELECT d.relation, r.row FROM projections.definitions AS d, LATERAL catalog_rows(d.relation) AS r (row) WHERE d.relation::text NOT LIKE '%.%' OR d.relation::text LIKE 'rb.%';
CREATE PROCEDURE rebuild_each() LANGUAGE plpgsql AS $$
DECLARE
    relation regclass;
BEGIN
    FOR relation IN SELECT DISTINCT b.relation FROM before_rebuild AS b ORDER BY 1 LOOP
        CALL projections.rebuild(relation::text);
    END LOOP;
END $$;
CREATE VIEW differs AS
    SELECT '-' AS side, b.relation, b.row FROM (SELECT relation, row FROM before_rebuild EXCEPT ALL SELECT b.relation, r.row FROM (SELECT DISTINCT relation FROM before_rebuild) AS b, LATERAL catalog_rows(b.relation) AS r (row)) AS b
    UNION ALL
    SELECT '+', b.relation, b.row FROM (SELECT b.relation, r.row FROM (SELECT DISTINCT relation FROM before_rebuild) AS b, LATERAL catalog_rows(b.relation) AS r (row) EXCEPT ALL SELECT relation, row FROM before_rebuild) AS b;
CREATE VIEW state AS
    SELECT (SELECT equal FROM test.check_all('rb.%')) AS right,
           (SELECT count(*) FROM (SELECT bt_index_check(i.indexrelid, true) FROM before_rebuild AS b JOIN pg_index AS i ON i.indrelid = b.relation JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_am AS m ON m.oid = c.relam
                                  WHERE b.row LIKE 'class%' AND m.amname = 'btree') AS indexes) > 0 AS indexes_right,
           (SELECT count(*) FROM (SELECT DISTINCT b.relation FROM before_rebuild AS b) AS r, LATERAL verify_heapam(r.relation) AS v) AS corrupt,
           (SELECT count(*) FROM projections_internal.projection WHERE shadow_of IS NOT NULL) AS shadows,
           (SELECT count(*) FROM pg_class AS c WHERE relnamespace = 'projections_internal'::regnamespace AND relname ~ 'shadow' AND relkind IN ('r', 'v') AND c.oid NOT IN (SELECT unnest(changes) FROM projections_internal.projection)) AS left_behind,
           (SELECT count(*) FROM pg_class WHERE relname ~ '^rebuild_[0-9]+_[0-9]+$') AS indexes_left;

CALL rebuild_each();
SELECT * FROM differs;
SELECT * FROM state;
SELECT projection, finish, outcome, error FROM projections_internal.rebuild WHERE projection IN (SELECT relation FROM before_rebuild) ORDER BY id;

-- It goes on working: writes of every kind, the trigger, the constraint, policies, and what rewrites tables.
UPDATE items SET price = price + 1, category = (category + 1) % 9, note = note || 'x' WHERE id % 3 = 0;
DELETE FROM items WHERE id % 7 = 0;
INSERT INTO items SELECT i, i % 4, i, i % 17, repeat('new ', 2000) FROM generate_series(300, 320) AS i;
DELETE FROM visits WHERE customer = 3;
INSERT INTO visits VALUES (3, 'page 1'), (3, 'page 1');
DELETE FROM orders WHERE id % 5 = 0;
SELECT projections.catch_up() > 0 AS caught_up;
SELECT n > 0 AS triggered FROM changes;
SELECT * FROM state;
SET ROLE rb_reader;
SELECT count(*), max(category) FROM shelf;
RESET ROLE;
SELECT (SELECT sum(n) FROM shelf_view) = (SELECT count(*) FROM shelf) AS view_sees_it;
REFRESH MATERIALIZED VIEW shelf_matview;
VACUUM (FULL, ANALYZE) shelf;
CLUSTER extremes;
REINDEX TABLE CONCURRENTLY shelf;
SELECT * FROM state;
VACUUM shelf;
VACUUM (FREEZE) sums;
CALL rebuild_each();
SELECT * FROM state;
TRUNCATE orders;
INSERT INTO orders SELECT i, i % 100 + 1, i % 9 FROM generate_series(1, 100) AS i;
SELECT * FROM state;

-- Another tablespace.
SET allow_in_place_tablespaces = on;
CREATE TABLESPACE rb_space LOCATION '';
ALTER TABLE shelf SET TABLESPACE rb_space;
ALTER INDEX shelf_prices SET TABLESPACE rb_space;
CALL projections.rebuild('shelf');
SELECT relname, spcname FROM pg_class AS c LEFT JOIN pg_tablespace AS t ON t.oid = reltablespace WHERE c.oid IN ('shelf'::regclass, 'shelf_prices'::regclass, 'shelf_words'::regclass) ORDER BY 1;
SELECT * FROM state;
ALTER TABLE shelf SET TABLESPACE pg_default;
ALTER INDEX shelf_prices SET TABLESPACE pg_default;
DROP TABLESPACE rb_space;

-- What has been lost is right again, and is said to be.
ALTER TABLE items DISABLE TRIGGER projections_capture;
UPDATE items SET price = price * 2, stock = stock + 5;
ALTER TABLE items ENABLE ALWAYS TRIGGER projections_capture;
SELECT count(*) > 0 AS stale FROM projections_internal.projection WHERE stale_since IS NOT NULL;
CALL rebuild_each();
SELECT projections.catch_up() >= 0 AS caught_up;
SELECT * FROM state;
SELECT relation FROM projections_internal.projection WHERE stale_since IS NOT NULL;

-- Whose rows are followed, or who has columns of his own, is brought up to date by the difference only.
ALTER TABLE sums ADD COLUMN label text DEFAULT 'none', ADD COLUMN twice bigint GENERATED ALWAYS AS (n * 2) STORED;
CALL projections.rebuild('sums');
CALL projections.alter('sums', options => '{"finish": "auto"}');
CALL projections.rebuild('sums');
SELECT bool_and(label = 'none' AND twice = 2 * n) AS kept FROM sums;
CALL projections.alter('shelf', options => '{"finish": "auto"}');
CREATE TABLE sold (id int REFERENCES shelf (id));
INSERT INTO sold SELECT min(id) FROM shelf;
CALL projections.rebuild('shelf');
DROP TABLE sold;
CREATE PUBLICATION rb_publication FOR TABLE shelf;
CALL projections.rebuild('shelf');
SELECT projection, finish, outcome FROM projections_internal.rebuild ORDER BY id DESC LIMIT 3;
DROP PUBLICATION rb_publication;
SELECT * FROM state;

-- Isolation of the session.
SET default_transaction_isolation = serializable;
CALL projections.rebuild('ordered');
SET default_transaction_isolation = 'repeatable read';
CALL projections.rebuild('seen');
RESET default_transaction_isolation;
SELECT * FROM state;

-- What is refused.
\set VERBOSITY default
BEGIN;
CALL projections.rebuild('total');
ROLLBACK;
DO $$ BEGIN CALL projections.rebuild('total'); EXCEPTION WHEN division_by_zero THEN NULL; END $$;
CREATE FUNCTION rebuild_inside() RETURNS void LANGUAGE plpgsql AS $$ BEGIN CALL projections.rebuild('total'); END $$;
SELECT rebuild_inside();
SELECT projections.pause('total', 'a test');
CALL projections.rebuild('total');
SELECT projections.resume('total');
CALL projections.rebuild('items');
CALL projections.rebuild('nothing');
SET ROLE rb_reader;
CALL projections.rebuild('shelf');
RESET ROLE;
SET default_transaction_read_only = on;
CALL projections.rebuild('total');
RESET default_transaction_read_only;
-- The owner may; and a rebuild that fails leaves nothing but its row.
SET ROLE rb_owner;
CALL projections.rebuild('total');
RESET ROLE;
SELECT * FROM state;

-- A trigger that somebody has disabled is restored: what is right in the end stays so.
SET client_min_messages = error;
CREATE TABLE loaded (k int, v int);
SELECT projections.create('loads', 'SELECT k, sum(v) AS v FROM loaded GROUP BY k', options => '{"finish": "swap"}');
ALTER TABLE loaded DISABLE TRIGGER ALL;
INSERT INTO loaded VALUES (1, 1);
CALL projections.rebuild('loads');
INSERT INTO loaded VALUES (1, 10);
SELECT k, v FROM loads;
SELECT status, message FROM projections.health('loads');

SET client_min_messages = error;
RESET search_path;
DROP SCHEMA rb CASCADE;
DROP ROLE rb_owner, rb_reader;
DROP EXTENSION amcheck;
SELECT count(*) FROM projections_internal.projection WHERE relation::text LIKE 'rb.%' OR shadow_of IS NOT NULL;
