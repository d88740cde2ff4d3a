-- What cannot be a projection, is said with the reason, the place and what works; and leaves nothing behind.
CREATE SCHEMA refusals;
SET search_path = refusals;
SET client_min_messages = warning;

CREATE TABLE t (id int PRIMARY KEY, k int, n int, at timestamptz DEFAULT now(), doc json);
CREATE TABLE u (id int PRIMARY KEY, t int REFERENCES t, n int);
INSERT INTO t VALUES (1, 1, 1), (2, 1, 2);

CREATE TABLE objects AS SELECT 0 AS relations, 0 AS triggers, 0 AS dependencies, 0 AS projections;
CREATE FUNCTION count_objects() RETURNS objects LANGUAGE sql SECURITY DEFINER AS $$
    SELECT (SELECT count(*) FROM pg_class), (SELECT count(*) FROM pg_trigger), (SELECT count(*) FROM pg_depend), (SELECT count(*) FROM projections_internal.projection)
$$;

-- Says how a call is refused, as SQLSTATE: message, DETAIL, HINT, and whether an object is left.
CREATE FUNCTION refused(call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    before refusals.objects := refusals.count_objects();
    message text; detail text; hint text;
BEGIN
    BEGIN
        EXECUTE call;
        RAISE EXCEPTION 'NOT REFUSED';
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
        RETURN concat_ws(E'\n', SQLSTATE || ': ' || regexp_replace(message, 'pg_temp_\d+', 'pg_temp_N'), nullif(detail, ''), nullif(hint, ''),
                         CASE WHEN before IS DISTINCT FROM refusals.count_objects() THEN 'LEFT BEHIND' END);
    END;
END
$$;
CREATE FUNCTION refused_query(query text) RETURNS text LANGUAGE sql AS $$ SELECT refusals.refused(format('SELECT projections.create(%L, %L)', 'refusals.p', query)) $$;
\pset format unaligned
\pset tuples_only on

--
-- Shapes
--
SELECT refused_query('SELECT t.k, count(u.id) FROM t LEFT JOIN u ON u.t = t.id GROUP BY t.k');
SELECT refused_query('SELECT t.k, count(u.id) FROM t FULL JOIN u ON u.t = t.id GROUP BY t.k');
SELECT refused_query('SELECT k, count(*) FROM t RIGHT JOIN u ON u.t = t.id GROUP BY k');
SELECT refused_query('SELECT k FROM t, LATERAL (SELECT u.n FROM u WHERE u.n > 1 LIMIT 2) AS l WHERE l.n > t.n');
SELECT refused_query('WITH c AS (SELECT k FROM t OFFSET 1) SELECT k FROM c');
SELECT refused_query('WITH RECURSIVE c AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM c WHERE i < 3) SELECT i FROM c');
SELECT refused_query('WITH c AS (DELETE FROM t RETURNING k) SELECT k FROM c');
SELECT refused_query('SELECT k FROM t EXCEPT ALL SELECT n FROM u LIMIT 3');
SELECT refused_query('SELECT k, (SELECT n FROM u) AS m FROM t');
SELECT refused_query('SELECT k, ARRAY(SELECT n FROM u) AS m FROM t');
SELECT refused_query('SELECT t.k FROM t LEFT JOIN u ON u.t NOT IN (SELECT n FROM u)');
SELECT refused_query('SELECT variance(n), count(DISTINCT n) FROM t');
SELECT refused_query('SELECT k, last_value(n) OVER (PARTITION BY k ORDER BY n) AS r FROM t');
SELECT refused_query('SELECT k, sum(n) OVER w AS s FROM t WINDOW w AS (ORDER BY n)');
SELECT refused_query('SELECT DISTINCT ON (k) k, n FROM t ORDER BY k, n LIMIT 3');
SELECT refused_query('SELECT k, n FROM t LIMIT 3');
SELECT refused_query('SELECT k, n FROM t OFFSET 3');
SELECT refused_query('SELECT k, n FROM t FOR UPDATE');
SELECT refused_query('SELECT k, n FROM t FOR KEY SHARE');
SELECT refused_query('SELECT k, n FROM t TABLESAMPLE bernoulli (10)');
SELECT refused_query('VALUES (1, 2)');
SELECT refused_query('SELECT v FROM (VALUES (1), (2)) AS v (v)');
SELECT refused_query('SELECT k, v FROM t FULL JOIN (VALUES (1), (2)) AS v (v) ON v = k');
SELECT refused_query('SELECT i FROM generate_series(1, 3) AS i');
SELECT refused_query('SELECT k, i FROM t FULL JOIN generate_series(1, 3) AS i ON i = t.n');
SELECT refused_query('SELECT id, generate_series(1, n) AS i FROM t LIMIT 3');
SELECT refused_query('SELECT j.v FROM t, ROWS FROM (json_to_record(doc) AS (v date)) AS j');
SELECT refused_query('SELECT 1 AS one');
SELECT refused_query('SELECT count(*) FROM t a, t b, t c, t d, t e, t f, t g, t h, t i');

--
-- Sources
--
CREATE VIEW v AS SELECT k, max(n) AS n FROM t GROUP BY k;
CREATE MATERIALIZED VIEW m AS SELECT k, n FROM t;
CREATE TEMP TABLE temporary_one (k int);
CREATE UNLOGGED TABLE unlogged_one (k int);
CREATE TABLE parted (k int, n int) PARTITION BY LIST (k);
CREATE TABLE part PARTITION OF parted FOR VALUES IN (1);
CREATE TABLE parent (k int PRIMARY KEY, v int);
CREATE TABLE child () INHERITS (parent);
CREATE SEQUENCE s;
SELECT refused_query('SELECT k FROM m');
SELECT refused_query('SELECT k FROM temporary_one');
SELECT refused_query('SELECT k FROM unlogged_one');
SELECT refused_query('SELECT k, count(*) FROM ONLY parted GROUP BY k');
CREATE UNLOGGED TABLE lost PARTITION OF parted FOR VALUES IN (2);
SELECT refused_query('SELECT k, count(*) FROM parted GROUP BY k');
DROP TABLE lost;
CREATE FOREIGN DATA WRAPPER nowhere;
CREATE SERVER elsewhere FOREIGN DATA WRAPPER nowhere;
CREATE FOREIGN TABLE far PARTITION OF parted FOR VALUES IN (2) SERVER elsewhere;
SELECT refused_query('SELECT k, count(*) FROM parted GROUP BY k');
DROP FOREIGN DATA WRAPPER nowhere CASCADE;
SELECT refused_query('SELECT k, count(*) FROM part GROUP BY k');
SELECT refused_query('SELECT k FROM ONLY parent');
SELECT refused_query('SELECT k, v FROM parent GROUP BY k');
SELECT refused_query('SELECT last_value FROM s');
SELECT refused_query('SELECT relname FROM pg_class');
SELECT refused_query('SELECT table_name FROM information_schema.tables');
SELECT left(refused_query('SELECT relation FROM projections_internal.projection'), 5);
SELECT refused_query('SELECT k FROM missing');
SELECT refused_query('SELECT missing FROM t');

--
-- Functions and aggregates
--
CREATE FUNCTION steady(int) RETURNS int LANGUAGE sql STABLE AS 'SELECT $1';
CREATE FUNCTION wild(int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN $1; END';
CREATE AGGREGATE product(int) (sfunc = int4mul, stype = int, initcond = '1');
SELECT refused_query('SELECT id, now() AS at FROM t');
SELECT refused_query('SELECT k, n FROM t WHERE at > now() - interval ''1 day''');
SELECT refused_query('SELECT k, n FROM t WHERE at > current_date');
SELECT refused_query('SELECT k, count(*) FROM t WHERE at > current_timestamp GROUP BY k');
SELECT refused_query('SELECT k, n FROM t WHERE at::time < localtime');
SELECT refused_query('SELECT id, current_user AS u FROM t');
SELECT refused_query('SELECT id, session_user AS u FROM t');
SELECT refused_query('SELECT id, current_setting(''TimeZone'') AS s FROM t');
SELECT refused_query('SELECT id, random() AS r FROM t');
SELECT refused_query('SELECT id, clock_timestamp() AS r FROM t');
SELECT refused_query('SELECT id, nextval(''s'') AS r FROM t');
SELECT refused_query('SELECT id, age(at) AS a FROM t');
SELECT refused_query('SELECT id, pg_backend_pid() AS a FROM t');
SELECT refused_query('SELECT id, gen_random_uuid() AS a FROM t');
SELECT refused_query('SELECT k, n FROM t WHERE at::date = ''today''::date');
SELECT refused_query('SELECT k, n FROM t WHERE at < timestamp ''now''');
SELECT refused_query('SELECT k, n FROM t WHERE at::date <> date ''  Yesterday ''');
SELECT refused_query('SELECT k, n FROM t WHERE at > ''tomorrow''');
SELECT refused_query('SELECT id, steady(n) AS s FROM t');
SELECT refused_query('SELECT id, wild(n) AS s FROM t');
SELECT refused_query('SELECT k, sum(wild(n)) AS s FROM t GROUP BY k');
SELECT refused_query('SELECT k, count(*) AS c FROM t GROUP BY k, wild(n)');
SELECT refused_query('SELECT k, sum(n) FILTER (WHERE random() < 0.5) AS s FROM t GROUP BY k');
SELECT refused_query('SELECT a.k FROM t a JOIN t b ON b.id = wild(a.id)');
SELECT refused_query('SELECT product(n) FROM t');
SELECT refused_query('SELECT string_agg(n::text, '','') FROM t');
SELECT refused_query('SELECT array_agg(n ORDER BY n) FROM t');
SELECT refused_query('SELECT array_agg(n) FROM t');
SELECT refused_query('SELECT jsonb_agg(n) FROM t');
SELECT refused_query('SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY n) FROM t');
SELECT refused_query('SELECT corr(n, k) FROM t');
SELECT refused_query('SELECT bit_and(n) FROM t');
SELECT refused_query('SELECT sum(at - timestamptz ''2020-01-01 00:00+00'') FROM t');
SELECT refused_query('SELECT id, tableoid FROM t');
SELECT refused_query('SELECT ctid, n FROM t');
SELECT refused_query('SELECT k, max(xmin::text) FROM t GROUP BY k');
SELECT refused_query('SELECT t FROM t');
SELECT refused_query('SELECT id, row_to_json(t) AS j FROM t');
SELECT refused_query('SELECT k, count(t.*) FROM t GROUP BY k');
SELECT refused_query('SELECT doc::text::xml, count(*) FROM t GROUP BY 1');
SELECT refused_query('SELECT doc FROM (SELECT 1 LIMIT 1) AS s, t');
CREATE TABLE keyless (doc json);
SELECT refused_query('SELECT doc FROM keyless');

--
-- Not one SELECT
--
SELECT refused_query('SELECT k FROM t; SELECT n FROM t');
SELECT refused_query('SELECT k FROM t; DROP TABLE t');
SELECT refused_query('');
SELECT refused_query(';');
SELECT refused_query('INSERT INTO t VALUES (9)');
SELECT refused_query('DELETE FROM t RETURNING k');
SELECT refused_query('UPDATE t SET n = 1');
SELECT refused_query('DROP TABLE t');
SELECT refused_query('TABLE missing');
SELECT refused_query('SELECT k INTO x FROM t');
SELECT refused_query('EXPLAIN SELECT k FROM t');
SELECT refused_query('SELECT k FROM t WHERE id = $1');
SELECT refused_query('SELECT k, FROM t');
SELECT refused_query(NULL);
SELECT refused('SELECT projections.create(''p'', NULL)');
SELECT refused('SELECT projections.create(NULL, ''SELECT k FROM t'')');

--
-- Columns
--
SELECT refused_query('SELECT k, n AS k FROM t');
SELECT refused_query('SELECT k, NULL::record AS r FROM t');
SELECT refused_query('SELECT id, n AS ctid FROM t');

--
-- Arguments
--
SELECT refused($$SELECT projections.create('p', 'SELECT k FROM t', mode => 'sometimes')$$);
SELECT refused($$SELECT projections.create('p', 'SELECT k FROM t', mode => NULL)$$);
SELECT refused($$SELECT projections.create('p', 'SELECT k, count(*) FROM t GROUP BY k', options => '{"speed": "high"}')$$);
SELECT refused($$SELECT projections.create('p', 'SELECT k, count(*) FROM t GROUP BY k', options => '[1]')$$);
SELECT refused($$SELECT projections.create('p', 'SELECT k, count(*) AS n FROM t GROUP BY k', key => '{n}')$$);
SELECT refused($$SELECT projections.create('p', 'SELECT k, count(*) AS n FROM t GROUP BY k', key => '{k,n}')$$);
SELECT refused($$SELECT projections.create('p', 'SELECT k, count(*) AS n FROM t GROUP BY k', key => '{}')$$);
SELECT refused($$SELECT projections.create('t', 'SELECT k, count(*) FROM t GROUP BY k')$$);
SELECT refused($$SELECT projections.create('v', 'SELECT k, count(*) FROM t GROUP BY k')$$);
SELECT refused($$SELECT projections.create('projections.p', 'SELECT k, count(*) FROM t GROUP BY k')$$);
SELECT refused($$SELECT projections.create('pg_catalog.p', 'SELECT k, count(*) FROM t GROUP BY k')$$);
SELECT refused($$SELECT projections.create('pg_temp.p', 'SELECT k, count(*) FROM t GROUP BY k')$$);
SELECT refused($$SELECT projections.create('nowhere.p', 'SELECT k, count(*) FROM t GROUP BY k')$$);
SELECT refused($$SELECT projections.create('a.b.c.d', 'SELECT k, count(*) FROM t GROUP BY k')$$);
SELECT refused($$SELECT projections.create('', 'SELECT k, count(*) FROM t GROUP BY k')$$);
SELECT refused($$SELECT projections.create('t', 'SELECT k, count(*) FROM t GROUP BY k', if_not_exists => true)$$);
-- the same again
SELECT projections.create('p', 'SELECT k, count(*) AS n FROM t GROUP BY k');
SELECT refused($$SELECT projections.create('p', 'SELECT k, count(*) AS n FROM t GROUP BY k')$$);
SELECT refused($$SELECT projections.create('p', 'SELECT k, count(*) AS m FROM t GROUP BY k', if_not_exists => true)$$);
SELECT refused($$SELECT projections.create('p', 'SELECT n AS k, count(*) AS n FROM t GROUP BY n', if_not_exists => true)$$);
SET client_min_messages = notice;
SELECT projections.create('p', 'select t.k, COUNT(*) as n from refusals.t group by 1', if_not_exists => true);
SET client_min_messages = warning;
SELECT refused($$SELECT projections.drop('missing')$$);
SELECT refused($$SELECT projections.drop('t')$$);
SELECT refused($$SELECT projections.explain('missing')$$);
SELECT refused($$SELECT projections.explain('t')$$);
SELECT refused($$SELECT projections.explain('SELECT k FROM t LIMIT 1')$$);
SELECT refused($$SELECT projections.refresh_rows('t', '[]')$$);

--
-- Rights: SELECT and TRIGGER on the sources, CREATE on the schema, and sight of every row
--
CREATE ROLE refusals_user;
GRANT USAGE ON SCHEMA refusals TO refusals_user;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA refusals TO refusals_user;
SET ROLE refusals_user;
SELECT refused($$SELECT projections.create('refusals.q', 'SELECT k, count(*) FROM refusals.t GROUP BY k')$$);
RESET ROLE;
GRANT CREATE ON SCHEMA refusals TO refusals_user;
SET ROLE refusals_user;
SELECT refused($$SELECT projections.create('refusals.q', 'SELECT k, count(*) FROM refusals.t GROUP BY k')$$);
RESET ROLE;
GRANT SELECT ON t TO refusals_user;
SET ROLE refusals_user;
SELECT refused($$SELECT projections.create('refusals.q', 'SELECT k, count(*) FROM refusals.t GROUP BY k')$$);
RESET ROLE;
GRANT TRIGGER ON t TO refusals_user;
ALTER TABLE t ENABLE ROW LEVEL SECURITY;
SET ROLE refusals_user;
SELECT refused($$SELECT projections.create('refusals.q', 'SELECT k, count(*) FROM refusals.t GROUP BY k')$$);
RESET ROLE;
ALTER TABLE t DISABLE ROW LEVEL SECURITY;
SET ROLE refusals_user;
SELECT projections.create('q', 'SELECT k, count(*) AS n FROM refusals.t GROUP BY k');
SELECT refused($$SELECT projections.drop('refusals.p')$$);
SELECT refused($$SELECT projections.refresh_rows('refusals.p', '[]')$$);
RESET ROLE;
-- after all these, what is accepted still works
INSERT INTO t VALUES (3, 2, 3);
SELECT test.check('p'), test.check('q');

\pset format aligned
\pset tuples_only off
DROP SCHEMA refusals CASCADE;
DROP TABLE temporary_one;
DROP ROLE refusals_user;
SELECT count(*) AS projections FROM projections.definitions;
