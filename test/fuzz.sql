-- What test/fuzz calls: every function of the extension, with arguments of every sort, and DDL in between.
SET client_min_messages = error;
CREATE SCHEMA fuzz;
-- What the calls are drawn from stands apart from what they may drop.
CREATE SCHEMA fuzzer;

-- Kinds of arguments, as SQL; type '*' goes with any.
CREATE TABLE fuzzer.argument (type text, value text);
INSERT INTO fuzzer.argument
SELECT 'text', quote_literal(v) FROM unnest(ARRAY['', 'fuzz.groups', 'fuzz.rows', 'fuzz.totals', 'fuzz.sums', 'fuzz.logged', 'fuzz.folded', 'fuzz.machine', 'fuzz.seen',
    'fuzz.s', 'fuzz.ev', 'fuzz.arrived', 'fuzz.gone', 'a.b.c.d', '"', '%s %n %I', 'SELECT 1', 'SELECT count(*) FROM fuzz.s', 'SELECT k, max(v) FROM fuzz.s GROUP BY k',
    'inline', 'async', 'query', 'reducer', 'stream', 'open', 'k', 'reader', 'pg_class', 'pg_catalog.pg_class', repeat('x', 70), 'projections.events', E'\u00e4\u20ac', 'check']) v
UNION ALL SELECT 'text', $$repeat('y', 1000000)$$
UNION ALL SELECT 'bigint', v FROM unnest(ARRAY['0', '1', '-1', '3', '9223372036854775807', '-9223372036854775808', '4611686018427387904']) v
UNION ALL SELECT 'integer', v FROM unnest(ARRAY['0', '1', '-1', '2147483647', '-2147483648', '64']) v
UNION ALL SELECT 'smallint', v FROM unnest(ARRAY['0', '-1']) v
UNION ALL SELECT 'double precision', v || '::float8' FROM unnest(ARRAY['0', '1', '0.5', '-1', $$'NaN'$$, $$'Infinity'$$, $$'-Infinity'$$, '1e308', '5e-324']) v
UNION ALL SELECT 'numeric', v || '::numeric' FROM unnest(ARRAY['0', '2', '-2', $$'NaN'$$, $$'Infinity'$$, '1e100', '1e-100']) v
UNION ALL SELECT 'boolean', v FROM unnest(ARRAY['true', 'false']) v
UNION ALL SELECT 'jsonb', quote_literal(v) FROM unnest(ARRAY['null', '{}', '[]', '[1]', '"x"', '{"k": 1}', '[{"k": 1}, {"k": null}]', '{"k": {"a": []}}', '{"key": "a"}', '{"id": 1}', '{"nothing": 1}',
    '[{"type": "T"}]', '[{"from": "a", "event": "b", "to": "c"}]', '{"initial": "a"}', '{"slots": 2}', '{"slots": -1}', '{"slots": 1e30}', '{"batch_size": "x"}', '{"on_failure": "stop"}', '{"fill": "online"}']) v
UNION ALL SELECT 'oid', v || '::oid' FROM unnest(ARRAY['0', '1', '1259', '4294967295', $$'fuzz.groups'::regclass$$, $$'fuzz.s'::regclass$$, $$'fuzz.ev'::regclass$$, $$'fuzz.folded'::regclass$$, $$'fuzz.seen'::regclass$$]) v
UNION ALL SELECT 'interval', v FROM unnest(ARRAY[$$'0'$$, $$'1 ms'$$, $$'-1 day'$$, $$'10 years'$$]) v
UNION ALL SELECT 'timestamp with time zone', quote_literal(v) || '::timestamptz' FROM unnest(ARRAY['infinity', '-infinity', '2000-01-01', '294276-01-01', 'now']) v
UNION ALL SELECT 'name', quote_literal(v) FROM unnest(ARRAY['position', 'k', 'nothing', 'at', 'ctid', '']) v
UNION ALL SELECT 'regprocedure', quote_literal(v) || '::regprocedure' FROM unnest(ARRAY['fuzz.fold(jsonb, fuzz.ev, text)', 'fuzz.see(fuzz.ev)', 'pg_catalog.now()', 'pg_catalog.count(*)']) v
UNION ALL SELECT 'regprocedure', v FROM unnest(ARRAY['0::oid::regprocedure', '4294967295::oid::regprocedure']) v
UNION ALL SELECT 'uuid', v FROM unnest(ARRAY['gen_random_uuid()', $$'00000000-0000-0000-0000-000000000000'$$]) v
UNION ALL SELECT '*', 'NULL';
INSERT INTO fuzzer.argument SELECT t, replace(value, '::oid', '::oid::regclass') FROM fuzzer.argument, unnest(ARRAY['regclass']) t WHERE type = 'oid';
INSERT INTO fuzzer.argument SELECT type || '[]', format('ARRAY[%s, NULL]', value) FROM fuzzer.argument WHERE type NOT IN ('*');
INSERT INTO fuzzer.argument SELECT type || '[]', format('ARRAY[]::%s[]', type) FROM (SELECT DISTINCT type FROM fuzzer.argument WHERE type !~ '[*[]') t;
INSERT INTO fuzzer.argument SELECT 'text[]', format('%L::text[]', v) FROM unnest(ARRAY['{{a},{b}}', '[0:1]={k,v}', '{fuzz.seen}']) v;

-- DDL and writes between the calls. Each is a statement that may fail.
CREATE TABLE fuzzer.statement (text text);
INSERT INTO fuzzer.statement VALUES
    ('INSERT INTO fuzz.s SELECT (random() * 1000)::int, random() * 5, random() * 100, ''t'' ON CONFLICT DO NOTHING'), ('UPDATE fuzz.s SET v = v + 1 WHERE k = 1'), ('DELETE FROM fuzz.s WHERE k = 2'),
    ('TRUNCATE fuzz.s'), ('INSERT INTO fuzz.ev (stream, type, n) VALUES (''a'', ''T'', 1), (''b'', ''U'', 2)'), ('INSERT INTO fuzz.arrived (n) SELECT count(*) FROM fuzz.s'),
    ('ALTER TABLE fuzz.s ADD COLUMN extra int'), ('ALTER TABLE fuzz.s DROP COLUMN extra'), ('ALTER TABLE fuzz.s RENAME v TO w'), ('ALTER TABLE fuzz.s RENAME w TO v'), ('ALTER TABLE fuzz.groups ADD COLUMN mine int'),
    ('ALTER TABLE fuzz.groups DROP COLUMN mine'), ('ALTER TABLE fuzz.s ALTER v TYPE bigint'), ('DROP TABLE fuzz.groups'), ('DROP TABLE fuzz.rows'), ('CREATE INDEX ON fuzz.groups (n)'), ('ANALYZE'),
    ('CREATE OR REPLACE FUNCTION fuzz.see(e fuzz.ev) RETURNS void LANGUAGE plpgsql AS $f$BEGIN IF e.n = 2 THEN RAISE EXCEPTION ''poison''; END IF; INSERT INTO seen VALUES (e.n); END$f$'),
    ('CREATE OR REPLACE FUNCTION fuzz.see(e fuzz.ev) RETURNS void LANGUAGE sql AS $f$INSERT INTO seen VALUES (e.n)$f$'), ('SELECT fuzzer.setup()'), ('ALTER TABLE fuzz.groups OWNER TO CURRENT_USER'),
    ('CREATE TRIGGER x AFTER INSERT ON fuzz.s FOR EACH STATEMENT EXECUTE FUNCTION projections_internal.capture()'), ('CREATE TRIGGER x AFTER INSERT ON fuzz.other FOR EACH ROW EXECUTE FUNCTION projections_internal.capture()'),
    ('CREATE TRIGGER y AFTER INSERT ON fuzz.other FOR EACH STATEMENT EXECUTE FUNCTION projections_internal.guard()'), ('CREATE TRIGGER z BEFORE UPDATE ON fuzz.other FOR EACH ROW EXECUTE FUNCTION projections_internal.guard()'),
    ('INSERT INTO fuzz.other VALUES (1)'), ('UPDATE fuzz.other SET n = 2'), ('DROP TRIGGER x ON fuzz.other'), ('SET TRANSACTION ISOLATION LEVEL SERIALIZABLE'), ('SET CONSTRAINTS ALL IMMEDIATE'),
    ('CREATE TRIGGER v INSTEAD OF INSERT ON fuzz.view FOR EACH ROW EXECUTE FUNCTION projections_internal.capture()'), ('INSERT INTO fuzz.view VALUES (1)'),
    ('CREATE EVENT TRIGGER fuzz_event ON ddl_command_end EXECUTE FUNCTION projections_internal._after_ddl()'), ('DROP EVENT TRIGGER fuzz_event'),
    ('CREATE AGGREGATE fuzz.aggregate(int[]) (sfunc = projections_internal._add_buckets, stype = int[])'), ('SELECT fuzz.aggregate(ARRAY[1]) FROM generate_series(1, 3)'), ('SELECT fuzz.aggregate(ARRAY[1]) OVER () FROM generate_series(1, 3)'),
    ('SELECT * FROM projections.status'), ('SELECT * FROM projections.failures'), ('SELECT * FROM projections.definitions'), ('SELECT * FROM projections.rebuilds'), ('SELECT * FROM projections.activity');

-- What there is of the objects that arguments name is made; what stands stays.
CREATE FUNCTION fuzzer.setup() RETURNS void LANGUAGE plpgsql AS $setup$
DECLARE
    each text;
BEGIN
    FOREACH each IN ARRAY ARRAY[
        'CREATE SCHEMA fuzz',
        'CREATE TABLE fuzz.s (id int PRIMARY KEY, k int, v int, t text)',
        'CREATE TABLE fuzz.ev (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, stream text, type text, n int, at timestamptz DEFAULT now(), correlation text)',
        'CREATE TABLE fuzz.arrived (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n int)',
        $$SELECT projections.register_source('fuzz.ev', 'position', stream_column => 'stream', type_column => 'type', time_column => 'at', correlation_column => 'correlation')$$,
        $$SELECT projections.register_source('fuzz.arrived', 'position', capture => 'trigger')$$,
        $$SELECT projections.create('fuzz.groups', 'SELECT k, sum(v) AS v, max(v) AS m, count(*) AS n FROM fuzz.s GROUP BY k')$$,
        $$SELECT projections.create('fuzz.rows', 'SELECT a.id, a.v, b.t FROM fuzz.s a JOIN fuzz.s b ON a.id = b.k')$$,
        $$SELECT projections.create('fuzz.totals', 'SELECT avg(v) AS a, count(*) AS n FROM fuzz.s')$$,
        $$SELECT projections.create('fuzz.sums', 'SELECT type, sum(n) AS n FROM fuzz.ev GROUP BY type', 'async')$$,
        $$SELECT projections.create('fuzz.logged', 'SELECT k, max(v) AS m FROM fuzz.s GROUP BY k', 'async')$$,
        'CREATE FUNCTION fuzz.fold(state jsonb, e fuzz.ev, key text) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $f$SELECT to_jsonb(e.n)$f$',
        $$SELECT projections.create_reducer('fuzz.folded', 'fuzz.ev', 'stream', 'fuzz.fold(jsonb, fuzz.ev, text)')$$,
        $$SELECT projections.create_state_machine('fuzz.machine', 'fuzz.ev', 'stream', '[{"from": "a", "event": "T", "to": "a"}]', options => '{"initial": "a"}')$$,
        'CREATE TABLE fuzz.seen (n int)',
        'CREATE FUNCTION fuzz.see(e fuzz.ev) RETURNS void LANGUAGE sql AS $f$INSERT INTO seen VALUES (e.n)$f$',
        $$SELECT projections.create_handler('fuzz.seen', 'fuzz.ev', 'fuzz.see(fuzz.ev)', '{fuzz.seen}', partition_by => 'stream')$$,
        $$SELECT projections.create_subscription('reader', 'fuzz.ev')$$,
        'CREATE TABLE fuzz.other (n int)',
        'CREATE VIEW fuzz.view AS SELECT n FROM fuzz.other',
        'GRANT USAGE ON SCHEMA fuzz TO PUBLIC',
        'GRANT SELECT ON ALL TABLES IN SCHEMA fuzz TO PUBLIC'] LOOP
        BEGIN
            EXECUTE each;
        EXCEPTION WHEN OTHERS THEN NULL;
        END;
    END LOOP;
END $setup$;

-- A call of some function, or one of the statements.
CREATE FUNCTION fuzzer.call() RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    f record;
    arguments text;
    call text;
BEGIN
    IF random() < 0.2 THEN RETURN (SELECT text FROM fuzzer.statement ORDER BY random() LIMIT 1); END IF;
    SELECT p.* INTO f FROM pg_proc p
    WHERE p.pronamespace IN (SELECT oid FROM pg_namespace WHERE nspname IN ('projections', 'projections_internal'))
      AND p.proname NOT IN ('restart_worker', 'cleanup_orphans') ORDER BY random() LIMIT 1;
    SELECT string_agg(CASE WHEN random() < 0.1 THEN 'NULL' ELSE coalesce((SELECT a.value FROM fuzzer.argument a WHERE a.type = format_type(t.type, NULL) ORDER BY random() + t.i * 0 LIMIT 1), 'NULL') END
                      || '::' || format_type(t.type, NULL), ', ' ORDER BY t.i)
    INTO arguments FROM unnest(f.proargtypes::oid[]) WITH ORDINALITY AS t(type, i);
    call := format('%I.%I(%s)', f.pronamespace::regnamespace, f.proname, coalesce(arguments, ''));
    IF f.prokind = 'p' THEN RETURN 'CALL ' || call; END IF;
    RETURN CASE (random() * 4)::int WHEN 0 THEN 'SELECT ' WHEN 1 THEN 'SELECT count(*) FROM ' ELSE 'SELECT * FROM ' END || call;
END $$;
GRANT USAGE ON SCHEMA fuzzer TO PUBLIC;
GRANT SELECT ON ALL TABLES IN SCHEMA fuzzer TO PUBLIC;
SELECT fuzzer.setup();
