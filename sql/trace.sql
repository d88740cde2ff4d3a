-- Which keys are behind, and computing again what rows of a source touch.
SET client_min_messages = error; -- no workers here
CREATE SCHEMA tracing;
SET search_path = tracing;
CREATE TABLE events (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, key text, type text, value int, at timestamptz NOT NULL);
SELECT projections.register_source('events', 'position', type_column => 'type', time_column => 'at');
SELECT projections.create('sums', 'SELECT key, type, sum(value) AS value FROM events WHERE value > 0 GROUP BY key, type', 'async', options => '{"slots": 2}');
SELECT projections.create('total', 'SELECT count(*) AS n FROM events', 'async');
CREATE FUNCTION add(state jsonb, e events, key text) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$ SELECT to_jsonb((state #>> '{}')::int + 100 / e.value) $$;
SELECT projections.create_reducer('folded', 'events', 'key', 'add(jsonb, events, text)', initial => '0');
SELECT projections.create_reducer('folded_inline', 'events', 'key', 'add(jsonb, events, text)', initial => '0', mode => 'inline', event_types => '{none}');
INSERT INTO events (key, type, value, at) SELECT 'k' || i % 3, 'a', CASE i WHEN 5 THEN 0 ELSE i END, '2026-01-01'::timestamptz + i * '1 min'::interval FROM generate_series(1, 10) i;
SELECT * FROM projections.stale_keys('sums');
SELECT * FROM projections.stale_keys('total');
SELECT projections.catch_up() > 0 AS caught_up;
SELECT * FROM projections.stale_keys('sums');
-- One that failed, and one that is parked behind it.
SELECT * FROM projections.stale_keys('folded');
INSERT INTO events (key, type, value, at) VALUES ('k0', 'a', 1, '2026-02-01'), ('k0', 'a', 2, '2026-02-02'), ('k1', 'b', 3, '2026-02-03'), ('k1', 'b', -3, '2026-02-03');
SELECT * FROM projections.stale_keys('sums');
SELECT * FROM projections.stale_keys('sums', 2);
SELECT * FROM projections.stale_keys('folded');
SELECT * FROM projections.stale_keys('folded_inline');

CREATE TABLE orders (id int PRIMARY KEY, customer int, status text, amount numeric);
CREATE TABLE customers (id int PRIMARY KEY, country text);
INSERT INTO customers SELECT i, 'c' || i % 3 FROM generate_series(1, 9) i;
INSERT INTO orders SELECT i, i % 9 + 1, 's' || i % 2, i FROM generate_series(1, 90) i;
CREATE TABLE notes (note text);
SELECT projections.create('per_customer', 'SELECT customer, sum(amount) AS amount FROM orders GROUP BY customer', 'async');
SELECT projections.create('per_country', 'SELECT c.country, o.status, sum(o.amount) AS amount FROM orders o JOIN customers c ON c.id = o.customer GROUP BY c.country, o.status');
SELECT projections.create('open', 'SELECT o.id, c.country FROM orders o JOIN customers c ON c.id = o.customer WHERE o.status = ''s1''');
SELECT projections.create('all_orders', 'SELECT count(*) AS n, max(amount) AS most FROM orders');
SELECT projections.create('note', 'SELECT note FROM notes');
SELECT projections.create('per_n', 'SELECT amount, count(*) AS customers FROM per_customer GROUP BY amount');
UPDATE orders SET customer = 3 WHERE id = 1;
SELECT * FROM projections.stale_keys('per_customer');
SELECT projections.pause('per_country', 'to see what waits');
UPDATE orders SET status = 's5', customer = 1 WHERE id = 3;
UPDATE customers SET country = 'c9' WHERE id = 4;
SELECT * FROM projections.stale_keys('per_country') ORDER BY key;
SELECT projections.resume('per_country');
SELECT * FROM projections.stale_keys('per_country');
SELECT projections.catch_up('per_customer');

SET pg_projections.allow_direct_writes = on;
UPDATE per_customer SET amount = amount + 1 WHERE customer IN (1, 3);
UPDATE per_country SET amount = amount + 1 WHERE country IN ('c0', 'c1');
DELETE FROM open WHERE id IN (1, 5);
UPDATE all_orders SET n = 0;
UPDATE folded SET state = '-1';
RESET pg_projections.allow_direct_writes;
-- What the rows touch is right again; what they do not touch is as wrong as it was.
SELECT projections.refresh_source('orders', '[{"id": 1}, {"id": 11}]');
SELECT d.projection, v.problem, v.key FROM projections.definitions d, LATERAL projections.verify(d.projection) v WHERE d.projection LIKE 'tracing.%' ORDER BY 1, 3;
SELECT projections.refresh_source('orders', '{"status": "s1"}');
SELECT projections.refresh_source('orders', '[{"status": "s0"}, {"status": "s5"}]');
SELECT projections.refresh_source('customers', '{"country": "c1"}');
SELECT projections.refresh_source('events', '[{"key": "k1", "value": 10}]');
SELECT d.projection, v.problem, v.key FROM projections.definitions d, LATERAL projections.verify(d.projection) v WHERE d.projection LIKE 'tracing.%' ORDER BY 1, 3;
SELECT projections.refresh_source('events', '[{"key": "k2"}, {"key": "k0"}, {"key": null}]');
SELECT d.projection, v.problem, v.key FROM projections.definitions d, LATERAL projections.verify(d.projection) v WHERE d.projection LIKE 'tracing.%' ORDER BY 1, 3;
SELECT projections.catch_up() > 0 AS caught_up;
SELECT * FROM test.check_all();
-- Rows without a key.
INSERT INTO notes VALUES ('a'), ('a');
SET pg_projections.allow_direct_writes = on;
INSERT INTO note VALUES ('a'), ('b');
RESET pg_projections.allow_direct_writes;
SELECT projections.refresh_source('notes', '{"note": "a"}');
SELECT * FROM test.check_all();

\set VERBOSITY terse
SELECT projections.stale_keys('note');
SELECT projections.pause('note', 'to see');
SELECT projections.stale_keys('note');
SELECT projections.refresh_source('orders', '[]');
SELECT projections.refresh_source('orders', '{"nothing": 1}');
SELECT projections.refresh_source('orders', '[{"id": 1}, {"status": "s1"}]');
SELECT projections.refresh_source('orders', '[1]');
SELECT projections.refresh_source('orders', NULL);
SELECT projections.refresh_source('nowhere', '{"id": 1}');
CREATE TABLE unread (id int);
SELECT projections.refresh_source('unread', '{"id": 1}');
CREATE ROLE trace_stranger;
GRANT USAGE ON SCHEMA tracing TO trace_stranger;
SET ROLE trace_stranger;
SELECT projections.refresh_source('orders', '{"id": 1}');
SELECT projections.stale_keys('sums');
RESET ROLE;
UPDATE projections_internal.source SET archived_to = 1 WHERE relation = 'events'::regclass;
SELECT projections.refresh_source('events', '{"key": "k1"}');
-- A key that is NULL is one like others; and a key without rows has no row.
CREATE TABLE unknown (id int PRIMARY KEY, k int);
INSERT INTO unknown VALUES (1, NULL), (2, NULL), (3, 1);
SELECT projections.create('per_unknown', 'SELECT k, count(*) AS n FROM unknown GROUP BY k');
SET pg_projections.allow_direct_writes = on;
UPDATE per_unknown SET n = n + 10;
INSERT INTO per_unknown (k, n) VALUES (99, 1);
RESET pg_projections.allow_direct_writes;
SELECT projections.refresh_source('unknown', '[{"k": null}]');
SELECT k, n FROM per_unknown ORDER BY k;
SELECT projections.refresh_rows('per_unknown', '[{"k": 99}, {"k": 1}]');
SELECT k, n FROM per_unknown ORDER BY k;
SELECT test.check('per_unknown');

DROP SCHEMA tracing CASCADE;
DROP OWNED BY trace_stranger;
DROP ROLE trace_stranger;
