-- Events in a partitioned table: rows come by way of the table and of its partitions, whose columns may lie otherwise.
\set VERBOSITY terse
SET client_min_messages = error;
CREATE SCHEMA partitions;
SET search_path = partitions, public;
CREATE TABLE steps (pos bigserial, item text NOT NULL, n int NOT NULL, kind text DEFAULT 'step') PARTITION BY LIST (item);
CREATE TABLE steps_a PARTITION OF steps FOR VALUES IN ('a');
-- another order of columns, and one that was dropped
CREATE TABLE steps_b (n int NOT NULL, gone int, kind text DEFAULT 'step', item text NOT NULL, pos bigint NOT NULL);
ALTER TABLE steps_b DROP COLUMN gone;
ALTER TABLE steps ATTACH PARTITION steps_b FOR VALUES IN ('b');
CREATE TABLE steps_rest PARTITION OF steps DEFAULT PARTITION BY LIST (item);
CREATE TABLE steps_c PARTITION OF steps_rest FOR VALUES IN ('c');
SELECT projections.register_source('steps', position_column => 'pos', type_column => 'kind');
CREATE FUNCTION add_step(state jsonb, e steps, key text) RETURNS jsonb IMMUTABLE LANGUAGE plpgsql AS
    $$ BEGIN RETURN to_jsonb(coalesce((state #>> '{}')::int, 0) + e.n); END $$;
CREATE TABLE seen (item text, n int);
CREATE FUNCTION see(e steps) RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO seen VALUES (e.item, e.n); END $$;
SELECT projections.create_reducer('folded', 'steps', 'item', 'add_step(jsonb, steps, text)', '0', ARRAY['step'], mode => 'inline');
SELECT projections.create_reducer('folded_later', 'steps', 'item', 'add_step(jsonb, steps, text)', '0', ARRAY['step']);
SELECT projections.create_handler('seen', 'steps', 'see(steps)', '{seen}', mode => 'inline');
SELECT projections.create('summed', 'SELECT item, sum(n) AS n, count(*) AS rows FROM steps GROUP BY item', 'async', options => '{"slots": 2}');

INSERT INTO steps (item, n) VALUES ('a', 1), ('b', 2), ('c', 3), ('b', 20);
INSERT INTO steps (item, n, kind) VALUES ('a', 1000, 'other'), ('b', 1000, 'other');
INSERT INTO steps_a (item, n) VALUES ('a', 10);
INSERT INTO steps_b (item, n, pos) VALUES ('b', 200, nextval(pg_get_serial_sequence('steps', 'pos')));
BEGIN;
INSERT INTO steps_c (item, n) VALUES ('c', 30);
SELECT key, state FROM folded ORDER BY key;
COMMIT;
SELECT projections.catch_up() > 0 AS applied;
SELECT key, state, version FROM folded ORDER BY key;
(TABLE folded EXCEPT TABLE folded_later) UNION ALL (TABLE folded_later EXCEPT TABLE folded);
SELECT item, sum(n) AS n, count(*) AS rows FROM seen GROUP BY item ORDER BY item;
SELECT test.check('summed');
SELECT count(*) AS wrong FROM projections.verify('folded');
DROP SCHEMA partitions CASCADE;
