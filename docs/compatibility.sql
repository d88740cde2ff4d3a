-- What docs/compatibility runs: kinds of sources, statements, and how each is judged. A case is a statement on a source of one
-- kind, with four projections over it, in a schema of its own; and the same on a source without, to know what the server
-- itself refuses.
CREATE SCHEMA compatibility;
CREATE ROLE pj_compatibility;
GRANT USAGE ON SCHEMA public TO pj_compatibility;
SET search_path = compatibility;

-- made: `s`, which the projections read; bare: the same without what is of ours, where there is; written: the table that statements name. What PostgreSQL has under one of these
-- kinds and no projection can be over has no statements: only whether it is refused.
CREATE TABLE kind (place int, name text PRIMARY KEY, made text, written text, refused text, bare text);
INSERT INTO kind (place, name, made, written) VALUES
(1, 'ordinary', 'CREATE TABLE s (id int PRIMARY KEY, k text, v int, x int);', 's'),
(2, 'partitioned', 'CREATE TABLE s (id int PRIMARY KEY, k text, v int, x int) PARTITION BY RANGE (id);
    CREATE TABLE s_1 PARTITION OF s FOR VALUES FROM (0) TO (100); CREATE TABLE s_2 (x int, v int, k text, id int NOT NULL);
    ALTER TABLE s ATTACH PARTITION s_2 FOR VALUES FROM (100) TO (200);', 's'),
(3, 'inherited', 'CREATE TABLE s (id int PRIMARY KEY, k text, v int, x int); CREATE TABLE s_1 () INHERITS (s);
    CREATE TABLE s_2 (x int, own int, v int, k text, id int NOT NULL); ALTER TABLE s_2 INHERIT s;', 's'),
(4, 'projection', 'CREATE TABLE b (id int PRIMARY KEY, k text, v int, x int);
    SELECT projections.create(''s'', ''SELECT id, k, v, x FROM b WHERE v > 0'');', 'b'),
(5, 'view', 'CREATE TABLE b (id int PRIMARY KEY, k text, v int, x int); CREATE VIEW s AS SELECT id, k, v, x FROM b WHERE v > 0;', 'b'),
(6, 'partition', 'CREATE TABLE p (id int PRIMARY KEY, k text, v int, x int) PARTITION BY RANGE (id);
    CREATE TABLE s PARTITION OF p FOR VALUES FROM (0) TO (100);', NULL),
(7, 'foreign', 'CREATE FOREIGN TABLE s (id int, k text, v int, x int) SERVER compatibility;', NULL),
(8, 'unlogged', 'CREATE UNLOGGED TABLE s (id int PRIMARY KEY, k text, v int, x int);', NULL),
(9, 'temporary', 'CREATE TEMP TABLE s (id int PRIMARY KEY, k text, v int, x int);', NULL),
(10, 'materialized view', 'CREATE MATERIALIZED VIEW s AS SELECT 1 AS id, ''a''::text AS k, 1 AS v, 1 AS x;', NULL);
UPDATE kind SET bare = 'CREATE TABLE b (id int PRIMARY KEY, k text, v int, x int); CREATE TABLE s (LIKE b);' WHERE name = 'projection';
CREATE FOREIGN DATA WRAPPER compatibility;
CREATE SERVER compatibility FOREIGN DATA WRAPPER compatibility;

-- statement: {w} is the table written, {l} one below it. kinds: of which it is asked; NULL: of all.
CREATE TABLE feature (place int GENERATED ALWAYS AS IDENTITY, section text, name text, statement text, kinds text[]);
INSERT INTO feature (section, name, statement, kinds) VALUES
('Rows', 'INSERT, UPDATE, DELETE', $$INSERT INTO {w} (id, k, v) VALUES (20, 'a', 9), (21, 'c', 1); UPDATE {w} SET v = v + 5 WHERE id < 4; DELETE FROM {w} WHERE id = 5$$, NULL),
('Rows', 'UPDATE of what is grouped by, of keys', $$UPDATE {w} SET k = CASE k WHEN 'a' THEN 'b' ELSE 'a' END WHERE id % 3 = 0; UPDATE {w} SET id = id + 50 WHERE id < 3$$, NULL),
('Rows', 'INSERT … ON CONFLICT', $$INSERT INTO {w} (id, k, v) VALUES (1, 'a', 9), (22, 'b', 9) ON CONFLICT (id) DO UPDATE SET v = excluded.v, k = 'd'$$, NULL),
('Rows', 'MERGE', $$MERGE INTO {w} t USING (VALUES (2), (3), (23)) AS m(id) ON t.id = m.id WHEN MATCHED AND m.id = 2 THEN DELETE WHEN MATCHED THEN UPDATE SET v = 70 WHEN NOT MATCHED THEN INSERT (id, k, v) VALUES (m.id, 'm', 7)$$, NULL),
('Rows', 'COPY FROM', $$COPY {w} (id, k, v) FROM PROGRAM 'echo 24,e,24' (FORMAT csv)$$, NULL),
('Rows', 'TRUNCATE', $$TRUNCATE {w}$$, NULL),
('Rows', 'TRUNCATE ONLY', $$TRUNCATE ONLY {w}$$, '{ordinary,inherited}'),
('Rows', 'writes in savepoints that are given up', $$BEGIN; UPDATE {w} SET v = 1; SAVEPOINT a; DELETE FROM {w}; ROLLBACK TO a; INSERT INTO {w} (id, k, v) VALUES (25, 'f', 1); COMMIT$$, NULL),
('Rows', 'PREPARE TRANSACTION, COMMIT PREPARED', $$BEGIN; UPDATE {w} SET v = v + 1; PREPARE TRANSACTION 'compatibility'; COMMIT PREPARED 'compatibility'$$, NULL),
('Rows', 'writes under session_replication_role = replica', $$SET session_replication_role = replica; UPDATE {w} SET v = v + 1; RESET session_replication_role$$, NULL),
('Rows', 'a foreign key that cascades', $$CREATE TABLE parents (id int PRIMARY KEY); INSERT INTO parents VALUES (1), (2); UPDATE {w} SET x = 1 + id % 2; ALTER TABLE {w} ADD FOREIGN KEY (x) REFERENCES parents ON DELETE CASCADE; DELETE FROM parents WHERE id = 1$$, NULL),
('Rows', 'a trigger that changes rows on their way in', $$CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.v := NEW.v * 2; RETURN NEW; END'; CREATE TRIGGER change BEFORE INSERT OR UPDATE ON {w} FOR EACH ROW EXECUTE FUNCTION change(); UPDATE {w} SET k = 'z' WHERE id = 1$$, NULL),
('Rows', 'a rule that writes elsewhere', $$CREATE TABLE other (id int); CREATE RULE instead AS ON DELETE TO {w} DO INSTEAD INSERT INTO other VALUES (OLD.id); DELETE FROM {w} WHERE id = 1$$, NULL),
('Tables below', 'writes to a table below', $$INSERT INTO s_1 (id, k, v) VALUES (26, 'g', 26); UPDATE s_2 SET v = v + 1; DELETE FROM s_1 WHERE id = 1$$, '{partitioned,inherited}'),
('Tables below', 'an UPDATE that moves rows', $$UPDATE s SET id = id + 100 WHERE id < 4$$, '{partitioned}'),
('Tables below', 'TRUNCATE of one', $$TRUNCATE s_1$$, '{partitioned,inherited}'),
('Tables below', 'CREATE TABLE … PARTITION OF, INHERITS', $$CREATE TABLE s_3 PARTITION OF s FOR VALUES FROM (200) TO (300); INSERT INTO s VALUES (200, 'h', 200)$$, '{partitioned}'),
('Tables below', 'CREATE TABLE … PARTITION OF, INHERITS', $$CREATE TABLE s_3 () INHERITS (s); INSERT INTO s_3 VALUES (200, 'h', 200)$$, '{inherited}'),
('Tables below', 'ATTACH PARTITION, INHERIT of a table with rows', $$CREATE TABLE s_3 (LIKE s); INSERT INTO s_3 VALUES (200, 'a', 200), (201, 'i', 201); ALTER TABLE s ATTACH PARTITION s_3 FOR VALUES FROM (200) TO (300)$$, '{partitioned}'),
('Tables below', 'ATTACH PARTITION, INHERIT of a table with rows', $$CREATE TABLE s_3 (LIKE s); INSERT INTO s_3 VALUES (200, 'a', 200), (201, 'i', 201); ALTER TABLE s_3 INHERIT s$$, '{inherited}'),
('Tables below', 'DETACH PARTITION, NO INHERIT', $$ALTER TABLE s DETACH PARTITION s_1$$, '{partitioned}'),
('Tables below', 'DETACH PARTITION, NO INHERIT', $$ALTER TABLE s_1 NO INHERIT s$$, '{inherited}'),
('Tables below', 'DETACH PARTITION … CONCURRENTLY', $$ALTER TABLE s DETACH PARTITION s_1 CONCURRENTLY$$, '{partitioned}'),
('Tables below', 'DROP TABLE of one', $$DROP TABLE s_1$$, '{partitioned,inherited}'),
('Tables below', 'DROP SCHEMA that takes one along', $$CREATE SCHEMA more; ALTER TABLE s_1 SET SCHEMA more; DROP SCHEMA more CASCADE$$, '{partitioned,inherited}'),
('Tables below', 'an unlogged one', $$CREATE UNLOGGED TABLE s_3 PARTITION OF s FOR VALUES FROM (200) TO (300)$$, '{partitioned}'),
('Tables below', 'an unlogged one', $$CREATE UNLOGGED TABLE s_3 () INHERITS (s)$$, '{inherited}'),
('Tables below', 'a temporary one', $$CREATE TEMP TABLE s_3 () INHERITS (s)$$, '{inherited}'),
('Tables below', 'a foreign one', $$CREATE FOREIGN TABLE s_3 () INHERITS (s) SERVER compatibility$$, '{inherited}'),
('Tables below', 'the first child of a table by whose primary key rows are known', $$CREATE TABLE s_3 () INHERITS ({w})$$, '{ordinary,projection}'),
('Tables below', 'making it a partition', $$CREATE TABLE above (LIKE {w} INCLUDING ALL) PARTITION BY RANGE (id); ALTER TABLE above ATTACH PARTITION {w} FOR VALUES FROM (0) TO (1000)$$, '{ordinary,inherited}'),
('Tables below', 'making it a child', $$CREATE TABLE above (id int, k text); ALTER TABLE {w} INHERIT above$$, '{ordinary,inherited,projection,view}'),
('Columns', 'ADD COLUMN, with a default', $$ALTER TABLE {w} ADD COLUMN more int, ADD COLUMN filled text DEFAULT 'x'$$, NULL),
('Columns', 'DROP COLUMN that nobody reads', $$ALTER TABLE {w} DROP COLUMN x$$, '{ordinary,partitioned,inherited}'),
('Columns', 'DROP COLUMN that is read', $$ALTER TABLE {w} DROP COLUMN v$$, NULL),
('Columns', 'RENAME COLUMN', $$ALTER TABLE {w} RENAME COLUMN v TO value$$, NULL),
('Columns', 'ALTER COLUMN TYPE that nobody reads', $$ALTER TABLE {w} ALTER COLUMN x TYPE bigint$$, '{ordinary,partitioned,inherited}'),
('Columns', 'ALTER COLUMN TYPE that is read', $$ALTER TABLE {w} ALTER COLUMN v TYPE bigint$$, NULL),
('Columns', 'SET NOT NULL, SET DEFAULT, SET STATISTICS', $$ALTER TABLE {w} ALTER v SET NOT NULL, ALTER v SET DEFAULT 3, ALTER v SET STATISTICS 500$$, NULL),
('The table', 'RENAME, SET SCHEMA', $$ALTER TABLE {w} RENAME TO renamed; CREATE SCHEMA elsewhere AUTHORIZATION pj_compatibility; ALTER TABLE renamed SET SCHEMA elsewhere$$, NULL),
('The table', 'OWNER TO', $$ALTER TABLE {w} OWNER TO pj_compatibility$$, NULL),
('The table', 'CREATE INDEX, ADD CHECK', $$CREATE INDEX ON {w} (k); ALTER TABLE {w} ADD CHECK (id > 0)$$, NULL),
('The table', 'DROP of the primary key', $$ALTER TABLE {w} DROP CONSTRAINT {w}_pkey$$, NULL),
('The table', 'VACUUM FULL, CLUSTER', $$VACUUM FULL {w}; CLUSTER {w} USING {w}_pkey$$, '{ordinary,inherited,projection,view}'),
('The table', 'SET UNLOGGED', $$ALTER TABLE {w} SET UNLOGGED$$, '{ordinary,inherited,projection,view}'),
('The table', 'row-level security that the owner does not see through', $$ALTER TABLE {w} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY$$, NULL),
('The table', 'DISABLE TRIGGER ALL', $$ALTER TABLE {w} DISABLE TRIGGER ALL; UPDATE {w} SET v = v + 1$$, NULL),
('The table', 'DROP TRIGGER of ours', $$DROP TRIGGER IF EXISTS projections_capture ON {w}$$, NULL),
('The table', 'REVOKE of the right to read it from the projections'' owner', $$REVOKE SELECT ON {w} FROM pj_compatibility; UPDATE {w} SET v = v + 1$$, NULL),
('The table', 'DROP TABLE', $$DROP TABLE {w}$$, NULL),
('The table', 'DROP TABLE … CASCADE', $$DROP TABLE {w} CASCADE$$, NULL);

CREATE TABLE outcome (feature int, kind text, server text, became text, message text, PRIMARY KEY (feature, kind));
INSERT INTO outcome (feature, kind) SELECT f.place, k.name FROM feature f JOIN kind k ON k.written IS NOT NULL AND k.name = ANY (coalesce(f.kinds, ARRAY[k.name]));

-- A fresh source of that kind; with projections, owned by a role that owns nothing else.
CREATE PROCEDURE prepare(of_kind text, with_projections boolean) LANGUAGE plpgsql AS $$
DECLARE
    w text := (SELECT k.written FROM compatibility.kind k WHERE k.name = of_kind);
BEGIN
    SET client_min_messages = error;
    DROP SCHEMA IF EXISTS c, elsewhere, more CASCADE;
    CREATE SCHEMA c AUTHORIZATION pj_compatibility;
    SET search_path = c, public;
    EXECUTE (SELECT CASE WHEN with_projections THEN k.made ELSE coalesce(k.bare, k.made) END FROM compatibility.kind k WHERE k.name = of_kind);
    IF w IS NOT NULL THEN
        EXECUTE format('INSERT INTO %I (id, k, v, x) SELECT i, CASE i %% 2 WHEN 0 THEN ''a'' ELSE ''b'' END, i, i FROM generate_series(1, 8) i', w);
        EXECUTE format('GRANT SELECT, TRIGGER ON %I TO pj_compatibility', w);
        EXECUTE 'GRANT SELECT, TRIGGER ON s TO pj_compatibility';
    END IF;
    IF of_kind IN ('partitioned', 'inherited') THEN
        INSERT INTO s_1 (id, k, v) SELECT i, 'a', i FROM generate_series(40, 44) i;
        INSERT INTO s_2 (id, k, v) SELECT i, 'b', i FROM generate_series(140, 144) i;
    END IF;
    IF with_projections THEN
        SET ROLE pj_compatibility;
        PERFORM projections.create('p_sums', 'SELECT k, count(*) AS n, sum(v) AS v FROM s GROUP BY k');
        PERFORM projections.create('p_tops', 'SELECT k, max(v) AS v FROM s GROUP BY k');
        PERFORM projections.create('p_rows', 'SELECT id, v FROM s WHERE v > 2');
        PERFORM projections.create('p_later', 'SELECT k, count(*) AS n, max(v) AS top FROM s GROUP BY k', 'async');
        RESET ROLE;
    END IF;
END $$;

CREATE FUNCTION there() RETURNS SETOF regclass LANGUAGE sql AS $$
    SELECT p.relation FROM projections_internal.projection p WHERE p.relation::oid IN (
        SELECT c.oid FROM pg_class c WHERE c.relname IN ('s', 'p_sums', 'p_tops', 'p_rows', 'p_later')) ORDER BY 1
$$;

-- Raises where a projection that is not stale differs from its definition.
CREATE PROCEDURE check_there() LANGUAGE plpgsql AS $$
BEGIN
    PERFORM projections.catch_up();
    PERFORM test.check(p) FROM compatibility.there() p JOIN projections_internal.projection x ON x.relation = p WHERE x.stale_since IS NULL;
END $$;

-- What a statement has led to. Nothing is stale any more once it is repaired, and all go on following their source.
CREATE PROCEDURE judge(of_feature int, of_kind text, ended text, said text) LANGUAGE plpgsql AS $$
DECLARE
    stale int;
    result text;
    column_name name;
    w regclass := (SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname IN ('c', 'elsewhere') AND c.relname IN ((SELECT k.written FROM compatibility.kind k WHERE k.name = of_kind), 'renamed'));
BEGIN
    RESET session_replication_role;
    CALL compatibility.check_there();
    SELECT count(*) INTO stale FROM compatibility.there() p JOIN projections_internal.projection x ON x.relation = p WHERE x.stale_since IS NOT NULL;
    result := CASE WHEN ended <> 'done' THEN 'refused' WHEN NOT EXISTS (SELECT FROM compatibility.there()) THEN 'dropped'
        WHEN stale > 0 THEN 'stale' ELSE 'applied' END;
    UPDATE compatibility.outcome o SET became = result, message = said WHERE (o.feature, o.kind) = (of_feature, of_kind);
    IF w IS NULL OR result IN ('refused', 'dropped') THEN
        RETURN;
    END IF;
    EXECUTE format('GRANT SELECT, TRIGGER ON %s TO pj_compatibility', w);
    COMMIT;
    PERFORM projections.repair(p::text) FROM compatibility.there() p JOIN projections_internal.projection x ON x.relation = p WHERE x.stale_since IS NOT NULL;
    COMMIT;
    SELECT a.attname INTO column_name FROM pg_attribute a WHERE a.attrelid = w AND a.attname IN ('v', 'value');
    EXECUTE format('UPDATE %s SET %I = %2$I + 10 WHERE id %% 2 = 0', w, column_name);
    COMMIT;
    CALL compatibility.check_there();
    IF EXISTS (SELECT FROM compatibility.there() p JOIN projections_internal.projection x ON x.relation = p WHERE x.stale_since IS NOT NULL) THEN
        RAISE EXCEPTION 'case % of % is stale for good', of_feature, of_kind;
    END IF;
END $$;

-- The document's tables.
CREATE FUNCTION tables() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    part text;
BEGIN
    FOR part IN SELECT f.section FROM compatibility.feature f GROUP BY f.section ORDER BY min(f.place) LOOP
        RETURN NEXT format(E'\n## %s\n\n| statement | ordinary | partitioned | inherited | projection | view |\n| --- | --- | --- | --- | --- | --- |', part);
        RETURN QUERY
        SELECT format('| %s | %s |', c.name, string_agg(c.cell, ' | ' ORDER BY c.place))
        FROM (SELECT n.name, n.place AS feature, k.place, coalesce(max(CASE WHEN o.server <> 'done' THEN '–' ELSE o.became END), '–') AS cell
              FROM (SELECT f.name, min(f.place) AS place FROM compatibility.feature f WHERE f.section = part GROUP BY f.name) n
              CROSS JOIN compatibility.kind k
              LEFT JOIN compatibility.feature f ON f.section = part AND f.name = n.name
              LEFT JOIN compatibility.outcome o ON o.feature = f.place AND o.kind = k.name
              WHERE k.written IS NOT NULL GROUP BY n.name, n.place, k.place) c
        GROUP BY c.feature, c.name ORDER BY c.feature;
    END LOOP;
    RETURN NEXT E'\n## How it is refused\n\n| statement | message |\n| --- | --- |';
    RETURN QUERY
    SELECT format('| %s | %s |', f.name, (array_agg(o.message ORDER BY k.place))[1])
    FROM compatibility.outcome o JOIN compatibility.feature f ON f.place = o.feature JOIN compatibility.kind k ON k.name = o.kind
    WHERE o.server = 'done' AND o.became = 'refused' GROUP BY f.name ORDER BY min(f.place);
    RETURN NEXT E'\n## What is no source\n\n| kind | message |\n| --- | --- |';
    RETURN QUERY SELECT format('| %s | %s |', k.name, k.refused) FROM compatibility.kind k WHERE k.written IS NULL ORDER BY k.place;
END $$;
