-- What test/work measures on: the same tables at two sizes. A group has ten items, a region ten groups, whatever the size.
CREATE SCHEMA work;

CREATE PROCEDURE work.make(size int) LANGUAGE plpgsql AS $$
BEGIN
    CREATE TABLE region (id int PRIMARY KEY) WITH (autovacuum_enabled = off);
    CREATE TABLE grp (id int PRIMARY KEY, region int, name text) WITH (autovacuum_enabled = off);
    CREATE TABLE item (id int PRIMARY KEY, grp int, next int, price numeric, weight float8, quantity int, good boolean, word text) WITH (autovacuum_enabled = off);
    CREATE TABLE loose (item int, note text) WITH (autovacuum_enabled = off);
    INSERT INTO region SELECT g FROM generate_series(0, size / 100 - 1) g;
    INSERT INTO grp SELECT g, g % (size / 100), 'group ' || g FROM generate_series(0, size / 10 - 1) g;
    INSERT INTO item SELECT g, g % (size / 10), g + 1, g / 10, g / 3.0, g % 7, g % 3 <> 0, 'Word ' || g / 10 FROM generate_series(1, size) g;
    INSERT INTO loose SELECT g, 'note ' || g / 2 FROM generate_series(1, size) g;
    CREATE INDEX ON grp (region);
    CREATE INDEX ON grp (name);
    CREATE INDEX ON item (grp);
    CREATE INDEX ON item (next);
    CREATE INDEX ON item (price);
    CREATE INDEX ON item (lower(word));
    CREATE INDEX ON loose (item);
    ANALYZE region, grp, item, loose;
END $$;

CREATE SCHEMA small;
SET search_path = small;
CALL work.make(1000);
CREATE SCHEMA large;
SET search_path = large;
CALL work.make(100000);
RESET search_path;

-- What has been read and written so far, of everything in a schema and of what is hidden.
CREATE FUNCTION work.done(schema name, OUT blocks bigint, OUT rows_read bigint, OUT written bigint) LANGUAGE sql AS $$
    SELECT sum(o.heap_blks_hit + o.heap_blks_read + coalesce(o.idx_blks_hit + o.idx_blks_read, 0)),
           sum(coalesce(t.seq_tup_read, 0) + coalesce(t.idx_tup_fetch, 0)), sum(t.n_tup_ins + t.n_tup_upd + t.n_tup_del)
    FROM pg_stat_all_tables t JOIN pg_statio_all_tables o USING (relid)
    WHERE t.schemaname = schema OR t.relname LIKE 'shape\_%'
$$;
