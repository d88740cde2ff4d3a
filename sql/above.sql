-- What an event leads to in projections above is part of the event: where it fails there, the event has failed, and the others go on.
\set VERBOSITY terse
SET client_min_messages = error;
CREATE SCHEMA above;
SET search_path = above, public;
CREATE TABLE moves (pos bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, item text, n int);
SELECT projections.register_source('moves', position_column => 'pos');
SELECT projections.create('per_item', 'SELECT item, sum(n) AS n FROM moves GROUP BY item', 'async', options => '{"max_retries": 0}');
SELECT projections.create('per_sum', 'SELECT n, count(*) AS items FROM per_item GROUP BY n');
SELECT projections.create('per_count', 'SELECT items, count(*) AS sums FROM per_sum GROUP BY items', 'async');
ALTER TABLE per_sum ADD CONSTRAINT few CHECK (items < 3);
INSERT INTO moves (item, n) VALUES ('a', 1), ('b', 1), ('c', 1), ('d', 2);
SELECT projections.catch_up('per_item') > 0 AS applied;
SELECT position, sqlstate, category FROM projections_internal.failure WHERE projection = 'per_item'::regclass;
SELECT item, n FROM per_item ORDER BY item;
SELECT n, items FROM per_sum ORDER BY n;
SELECT test.check('per_sum');
SELECT projections.catch_up('per_count') >= 0 AS applied;
SELECT test.check('per_count');
-- What was in the way is gone.
ALTER TABLE per_sum DROP CONSTRAINT few;
SELECT projections.retry_all('per_item');
SELECT n, items FROM per_sum ORDER BY n;
SELECT projections.catch_up('per_count') > 0 AS applied;
SELECT * FROM test.check_all();
DROP SCHEMA above CASCADE;
