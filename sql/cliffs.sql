-- New groups beside a projection that was analyzed while nearly empty: maintenance finds rows by the key's index, whatever the
-- statistics say. Shown by what was read: rows of the projection that sequential scans have gone over.
\set VERBOSITY terse
SET client_min_messages = error;
CREATE SCHEMA cliffs;
SET search_path = cliffs, public;
CREATE TABLE item (id int PRIMARY KEY, k int, v int, n numeric, f float8, b boolean, s text);
CREATE TABLE bag (k int, v int);
CREATE TABLE event (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, k int, v int);
SELECT projections.register_source('cliffs.event', position_column => 'position');
CREATE FUNCTION fold(state jsonb, event event, key text) RETURNS jsonb LANGUAGE sql IMMUTABLE AS 'SELECT to_jsonb(event.v)';
CREATE TABLE kind (name text PRIMARY KEY, query text, mode text DEFAULT 'inline', options jsonb DEFAULT '{}');
INSERT INTO kind (name, query) SELECT 'p' || row_number() OVER (), format('SELECT k, %s AS a FROM cliffs.item GROUP BY k', a)
FROM unnest('{sum(v),count(*),avg(v),avg(n),max(v),min(s),bool_and(b),sum(f),stddev(n),max(n)}'::text[]) WITH ORDINALITY AS u(a, place) ORDER BY place;
INSERT INTO kind (name, query) VALUES
    ('p_distinct', 'SELECT DISTINCT k, s FROM cliffs.item'), ('p_rows', 'SELECT id, k FROM cliffs.item'), ('p_bag', 'SELECT k, v FROM cliffs.bag'),
    ('p_join', 'SELECT a.k, count(*) AS n FROM cliffs.item AS a JOIN cliffs.item AS b ON b.id = a.v GROUP BY a.k');
INSERT INTO kind VALUES ('p_log', 'SELECT k, max(v) AS m, count(*) AS n FROM cliffs.item GROUP BY k', 'async', '{}'),
    ('p_events', 'SELECT k, sum(v) AS v FROM cliffs.event GROUP BY k', 'async', '{}'),
    ('p_slots', 'SELECT k, sum(v) AS v FROM cliffs.event GROUP BY k', 'async', '{"slots": 3}');
INSERT INTO item SELECT i, i, i, i, i, true, i FROM generate_series(1, 5) AS i;
INSERT INTO bag SELECT i, i FROM generate_series(1, 5) AS i;
INSERT INTO event (k, v) SELECT i, i FROM generate_series(1, 5) AS i;
SELECT count(projections.create('cliffs.' || name, query, mode, options => options)) FROM kind;
SELECT projections.create_reducer('cliffs.r_inline', 'cliffs.event', 'k::text', 'cliffs.fold(jsonb, cliffs.event, text)', mode => 'inline');
SELECT projections.create_reducer('cliffs.r_async', 'cliffs.event', 'k::text', 'cliffs.fold(jsonb, cliffs.event, text)');
SELECT projections.create_reducer('cliffs.r_slots', 'cliffs.event', 'k::text', 'cliffs.fold(jsonb, cliffs.event, text)', options => '{"slots": 3}');
SELECT projections.catch_up() > 0 AS caught_up;
ANALYZE;
-- Plans that are kept are made now, for tables of five rows.
DO $$ BEGIN FOR i IN 6 .. 16 LOOP
    INSERT INTO cliffs.item VALUES (i, i, i, i, i, true, i); INSERT INTO cliffs.bag VALUES (i, i); INSERT INTO cliffs.event (k, v) VALUES (i, i);
END LOOP; END $$;
SELECT projections.catch_up() > 0 AS caught_up;

-- Rows that the current transaction has read in sequence, of what maintenance writes. Less than once over each.
CREATE FUNCTION read_in_sequence() RETURNS TABLE(projection text, rows bigint) LANGUAGE sql
    AS $$SELECT c.relname::text, pg_stat_get_xact_tuples_returned(c.oid) FROM pg_class c WHERE c.relnamespace = 'cliffs'::regnamespace AND c.relname ~ '^[pr]_?'
         AND c.relkind = 'r' AND c.relname NOT IN ('item', 'bag', 'event') ORDER BY 1$$;
BEGIN;
INSERT INTO item SELECT i, i, i, i, i, true, i FROM generate_series(17, 1016) AS i;
INSERT INTO bag SELECT i, i FROM generate_series(17, 1016) AS i;
INSERT INTO event (k, v) SELECT i, i FROM generate_series(17, 1016) AS i;
SET LOCAL enable_indexscan = on;
SELECT count(*) AS flushed FROM (SELECT FROM p1 UNION ALL SELECT FROM p2 UNION ALL SELECT FROM r_inline) AS x WHERE false;
UPDATE item SET v = v + 1 WHERE id > 16;
DELETE FROM item WHERE id > 516;
SELECT FROM p1, p2, p3, p4, p5, p6, p7, p8, p9, p10, p_distinct, p_rows, p_bag, p_join WHERE false;
SELECT * FROM read_in_sequence() WHERE rows > 3000;
COMMIT;
BEGIN;
SELECT projections.catch_up() > 0 AS caught_up;
SELECT * FROM read_in_sequence() WHERE rows > 3000;
COMMIT;
SELECT name, (SELECT count(*) FROM projections.verify('cliffs.' || name)) AS differences FROM kind WHERE (SELECT count(*) FROM projections.verify('cliffs.' || name)) > 0;
SELECT projections.drop('cliffs.' || c) FROM unnest('{r_inline,r_async,r_slots}'::text[]) AS c;
SELECT count(projections.drop('cliffs.' || name)) FROM kind;
SELECT projections.unregister_source('cliffs.event');

-- A backlog that several slots share: a batch reads about as many events as it applies, not all that wait, whatever the planner makes
-- of the slots' part of them.
CREATE TABLE backlog (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, type text, k int);
SELECT projections.register_source('backlog', 'position', type_column => 'type', capture => 'trigger');
CREATE TABLE handled (position bigint);
CREATE FUNCTION handle(e backlog) RETURNS void LANGUAGE sql AS 'INSERT INTO cliffs.handled VALUES (e.position)';
SELECT projections.create_handler('handling', 'backlog', 'handle(backlog)', '{handled}', partition_by => 'k', event_types => '{a,b}', options => '{"slots": 2}');
INSERT INTO backlog (type, k) SELECT CASE i % 3 WHEN 0 THEN 'a' WHEN 1 THEN 'b' ELSE 'c' END, i % 100 FROM generate_series(1, 20000) AS i;
VACUUM ANALYZE backlog;
CREATE FUNCTION read_of_backlog() RETURNS bigint LANGUAGE sql
    AS $$SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::bigint FROM pg_stat_xact_all_tables WHERE relname IN ('backlog', 'backlog_arrivals')$$;
BEGIN;
SELECT projections.catch_up('handling', 100) AS caught_up, read_of_backlog() AS read \gset
SELECT :caught_up BETWEEN 100 AND 200 AS caught_up, CASE WHEN :read < 50 * :caught_up THEN 'little' ELSE :read || ' rows' END AS read;
COMMIT;
SELECT projections.catch_up('handling') > 10000 AS caught_up;
SELECT count(*) AS handled, count(DISTINCT position) AS events FROM handled;
-- What is far apart is found all the same.
INSERT INTO backlog (type, k) SELECT CASE WHEN i % 9000 = 0 THEN 'a' ELSE 'c' END, i FROM generate_series(1, 30000) AS i;
SELECT projections.catch_up('handling') AS caught_up;
DROP SCHEMA cliffs CASCADE;
