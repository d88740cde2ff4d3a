-- What has parts is filled online, and altered, query and mode: parts are made and filled first, and those of before go.
SET client_min_messages = error;
CREATE SCHEMA parts_online;
SET search_path = parts_online, public;
CREATE TABLE orders (id int PRIMARY KEY, customer int, amount numeric(10, 2));
CREATE TABLE lines (id int PRIMARY KEY, order_id int, item text);
INSERT INTO orders SELECT i, i % 7, i FROM generate_series(1, 200) i;
INSERT INTO lines SELECT i, i % 150, 'item ' || i % 5 FROM generate_series(1, 500) i;

-- Whatever is left of another generation.
CREATE VIEW hidden AS SELECT count(*) FILTER (WHERE p.part_of IS NOT NULL) AS parts, count(*) FILTER (WHERE p.building) AS building,
    count(*) FILTER (WHERE p.shadow_of IS NOT NULL) AS shadows, string_agg(DISTINCT p.mode, ', ') AS modes,
    (SELECT count(*) FROM pg_class c WHERE c.relnamespace = 'projections_internal'::regnamespace AND c.relname ~ '^(totals|counts)_' AND c.relkind IN ('r', 'v')) AS relations
FROM projections_internal.projection p;
CREATE PROCEDURE filled() LANGUAGE plpgsql AS $$
DECLARE
    until timestamptz := clock_timestamp() + interval '1 minute';
BEGIN
    WHILE EXISTS (SELECT FROM projections_internal.projection WHERE building OR shadow_of IS NOT NULL)
          OR EXISTS (SELECT FROM projections_internal.rebuild WHERE ended_at IS NULL) LOOP
        IF clock_timestamp() > until THEN
            RAISE EXCEPTION 'nobody has filled it in a minute';
        END IF;
        COMMIT;
        PERFORM pg_sleep(0.01);
    END LOOP;
END
$$;

-- Filled in the background, inner ones first; writers go on meanwhile.
SELECT projections.create('totals', 'SELECT customer, sum(amount) AS amount FROM orders GROUP BY customer HAVING count(*) > 3', options => '{"fill": "online"}');
SELECT projections.create('counts', 'SELECT n, count(*) AS orders FROM (SELECT order_id, count(DISTINCT item) AS n FROM lines GROUP BY order_id HAVING count(*) > 1) AS l GROUP BY n HAVING count(*) > 1', mode => 'async', options => '{"fill": "online"}');
INSERT INTO orders SELECT i, i % 7, i FROM generate_series(201, 230) i;
DELETE FROM lines WHERE id % 7 = 0;
CALL filled();
SELECT projections.catch_up() >= 0 AS applied;
SELECT * FROM test.check_all();
UPDATE orders SET customer = customer + 1 WHERE id % 5 = 0;
INSERT INTO lines SELECT i, i % 150, 'item ' || i % 6 FROM generate_series(501, 600) i;
SELECT projections.catch_up() >= 0 AS applied;
SELECT * FROM test.check_all();
SELECT * FROM hidden;

-- Another query, with other parts, with none, and with some again.
CALL projections.alter('totals', query => 'SELECT customer, sum(amount) AS amount, count(*) AS n FROM orders GROUP BY customer HAVING sum(amount) > 100');
DELETE FROM orders WHERE customer = 3 AND id > 20;
SELECT test.check('totals');
SELECT * FROM hidden;
CALL projections.alter('totals', query => 'SELECT customer, sum(amount) AS amount FROM orders GROUP BY customer');
UPDATE orders SET amount = amount * 2 WHERE id % 3 = 0;
SELECT test.check('totals');
SELECT * FROM hidden;
CALL projections.alter('totals', query => 'SELECT customer, sum(amount) AS amount FROM (SELECT customer, amount FROM orders EXCEPT ALL SELECT id, 3 FROM lines) AS x GROUP BY customer HAVING max(amount) > 2');
UPDATE orders SET amount = amount * 2 WHERE id % 3 = 1;
SELECT test.check('totals');
SELECT * FROM hidden;

-- Another mode, of it and its parts.
CALL projections.alter('totals', mode => 'async');
CALL projections.alter('counts', mode => 'inline');
INSERT INTO orders SELECT i, i % 7, i FROM generate_series(301, 330) i;
DELETE FROM lines WHERE id % 4 = 0;
SELECT projections.catch_up() > 0 AS applied;
SELECT * FROM test.check_all();
SELECT relation, mode FROM projections_internal.projection WHERE part_of IS NULL ORDER BY relation::text;
CALL projections.alter('totals', mode => 'inline');
UPDATE orders SET amount = amount / 2 WHERE id % 3 = 1;
SELECT * FROM test.check_all();
SELECT * FROM hidden;

-- What fails leaves what there was.
\set VERBOSITY terse
CALL projections.alter('totals', query => 'SELECT customer, 1 / (sum(amount) - sum(amount)) AS amount FROM orders GROUP BY customer HAVING count(*) > 1');
CALL projections.alter('totals', query => 'SELECT b.customer FROM totals b GROUP BY customer HAVING count(*) > 1');
CALL projections.alter('totals', query => 'SELECT customer, count(*) AS n, random() AS r FROM orders GROUP BY customer HAVING count(*) > 1');
\set VERBOSITY default
UPDATE orders SET amount = amount + 1 WHERE id % 3 = 1;
SELECT * FROM test.check_all();
SELECT * FROM hidden;
SELECT kind, object FROM projections.orphans();
SELECT severity, problem FROM projections.validate() WHERE severity <> 'INFO';
SELECT projections.drop('totals'), projections.drop('counts');
SELECT * FROM hidden;
SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'projections\_%' AND tgrelid IN ('orders'::regclass, 'lines'::regclass);
DROP SCHEMA parts_online CASCADE;
