-- Terms that join changed rows with the old states of large tables start from the changed rows, whatever else could be read first: what
-- is read grows with the change, and not with the tables.
CREATE SCHEMA old_states;
SET search_path = old_states;
SET client_min_messages = warning;

CREATE TABLE maker (id int PRIMARY KEY, name text, country int);
CREATE TABLE orders (id int PRIMARY KEY, status text);
CREATE TABLE line (order_id int, n int, maker int, due int, received int, PRIMARY KEY (order_id, n));
INSERT INTO maker SELECT i, 'maker ' || i, i % 5 FROM generate_series(1, 100) AS i;
INSERT INTO orders SELECT i, CASE WHEN i % 4 = 0 THEN 'open' ELSE 'done' END FROM generate_series(1, 20000) AS i;
INSERT INTO line SELECT i, n, 1 + (i * 7 + n * 13) % 100, i % 50, i % 50 + (i + n) % 3 - 1
FROM generate_series(1, 20000) AS i, generate_series(1, 3) AS n;
CREATE INDEX ON line (maker);
ANALYZE maker, orders, line;

-- Makers of a country who alone kept an order waiting (TPC-H's Q21).
SELECT projections.create('waiting', $$
    SELECT m.name, count(*) AS orders
    FROM maker AS m, line AS l, orders AS o
    WHERE m.id = l.maker AND o.id = l.order_id AND o.status = 'done' AND l.received > l.due AND m.country = 3
        AND EXISTS (SELECT FROM line AS x WHERE x.order_id = l.order_id AND x.maker <> l.maker)
        AND NOT EXISTS (SELECT FROM line AS x WHERE x.order_id = l.order_id AND x.maker <> l.maker AND x.received > x.due)
    GROUP BY m.name$$);

-- How many lines have been read. Inserting reads none, and deleting those that go.
CREATE FUNCTION lines_read() RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_user_tables WHERE relid = 'old_states.line'::regclass
$$;
BEGIN;
SELECT lines_read() AS read \gset
WITH o AS (INSERT INTO orders SELECT i, 'done' FROM generate_series(20001, 20150) AS i)
INSERT INTO line SELECT i, n, 1 + (i * 7 + n * 13) % 100, i % 50, i % 50 + (i + n) % 3 - 1
FROM generate_series(20001, 20150) AS i, generate_series(1, 3) AS n;
SELECT sum(orders) > 0 AS flushed FROM waiting;
SELECT lines_read() - :read < 20000 AS few;
COMMIT;
SELECT test.check('waiting');

BEGIN;
SELECT lines_read() AS read \gset
WITH l AS (DELETE FROM line WHERE order_id BETWEEN 101 AND 250)
DELETE FROM orders WHERE id BETWEEN 101 AND 250;
SELECT sum(orders) > 0 AS flushed FROM waiting;
SELECT lines_read() - :read < 20000 AS few;
COMMIT;
SELECT test.check('waiting');

DROP SCHEMA old_states CASCADE;
