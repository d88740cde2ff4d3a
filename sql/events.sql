-- Our own event store: appending, reading, archiving, and looking at what became of events.
CREATE SCHEMA events;
SET search_path = events;
\set SHOW_CONTEXT never
ALTER SEQUENCE projections.events_position_seq RESTART;

--
-- append
--
SELECT * FROM projections.append('order-1', 'OrderPlaced', '{"item": "A1", "quantity": 3}');
SELECT * FROM projections.append('order-1', 'OrderPaid', '{}', 1, '{"by": "card"}', 'c-1', 'web-7');
SELECT * FROM projections.append('order-2', 'OrderPlaced', 'null', 0, id => '00000000-0000-0000-0000-000000000020');
SELECT position, id IS NOT NULL AS id, stream, version, type, data, metadata, correlation_id, causation_id, recorded_at <= clock_timestamp() AS recorded
FROM projections.events ORDER BY position;
SELECT stream, version, archived_at, created_at <= updated_at AS updated FROM projections.streams ORDER BY stream;

-- another version than expected
SELECT * FROM projections.append('order-1', 'OrderPaid', '{}', 1);
SELECT * FROM projections.append('order-1', 'OrderPaid', '{}', 3);
SELECT * FROM projections.append('order-1', 'OrderPaid', '{}', 0);
SELECT * FROM projections.append('order-3', 'OrderPaid', '{}', 2);
SELECT * FROM projections.append_many('order-1', '[{"type": "OrderPaid", "data": {}}]', 1);
\set VERBOSITY sqlstate
SELECT * FROM projections.append('order-1', 'OrderPaid', '{}', 1);
\set VERBOSITY default
SELECT stream, version FROM projections.streams ORDER BY stream;

-- what is no event
SELECT * FROM projections.append('', 'OrderPaid', '{}');
SELECT * FROM projections.append(NULL, 'OrderPaid', '{}');
SELECT * FROM projections.append('order-1', '', '{}');
SELECT * FROM projections.append('order-1', NULL, '{}');
SELECT * FROM projections.append('order-1', 'OrderPaid', NULL);
SELECT * FROM projections.append('order-1', 'OrderPaid', '{}', -1);

--
-- append_many
--
SELECT * FROM projections.append_many('order-4', (SELECT jsonb_agg(jsonb_build_object('type', 'Step', 'data', n)) FROM generate_series(1, 300) AS n), 0, 'c-2', 'batch');
SELECT * FROM projections.append_many('order-4', '[{"type": "Last", "data": {"a": [1]}, "metadata": {"m": 1}}, {"type": "Last", "data": 2, "metadata": null, "id": null}]', 300);
-- positions rise with versions, in the order of the array
SELECT count(*), bool_and(position - version = 3), bool_and(data = to_jsonb(version)), count(DISTINCT recorded_at), min(correlation_id), min(causation_id)
FROM projections.events WHERE stream = 'order-4' AND type = 'Step';
SELECT version, data, metadata FROM projections.events WHERE type = 'Last' ORDER BY version;
SELECT projections.append_many('order-5', NULL);
SELECT projections.append_many('order-5', '{"type": "A", "data": 1}');
SELECT projections.append_many('order-5', '[]');
SELECT projections.append_many('order-5', '[{"type": "A", "data": 1}, 7]');
SELECT projections.append_many('order-5', '[{"type": "A", "data": 1}, null]');
SELECT projections.append_many('order-5', '[{"type": "A", "data": 1}, {"data": 1}]');
SELECT projections.append_many('order-5', '[{"type": "A", "data": 1}, {"type": 3, "data": 1}]');
SELECT projections.append_many('order-5', '[{"type": "", "data": 1}, {"type": "A", "data": 1}]');
SELECT projections.append_many('order-5', '[{"type": "A", "data": 1}, {"type": "A"}]');
SELECT projections.append_many('order-5', '[{"type": "A", "data": 1, "meta": 1}]');
SELECT projections.append_many('order-5', '[{"type": "A", "data": 1, "id": "x"}]');
SELECT projections.append_many('order-5', '[{"type": "A", "data": 1, "id": 5}]');
SELECT projections.append_many('order-5', '[{"type": "A", "data": 1, "id": "00000000-0000-0000-0000-0000000000aa"}, {"type": "A", "data": 1, "id": "00000000-0000-0000-0000-0000000000AA"}]');
SELECT projections.append_many('', '[{"type": "A", "data": 1}]');
SELECT count(*) AS streams FROM projections.streams;

--
-- An id that exists already
--
SELECT * FROM projections.append('order-6', 'A', '1', 0, id => '00000000-0000-0000-0000-000000000001');
SELECT * FROM projections.append('order-6', 'B', '2', 1);
SELECT * FROM projections.append('order-6', 'A', '1', 0, id => '00000000-0000-0000-0000-000000000001');
SELECT * FROM projections.append('order-7', 'A', '1', id => '00000000-0000-0000-0000-000000000001');
SELECT * FROM projections.append_many('order-6', '[{"type": "C", "data": 1, "id": "00000000-0000-0000-0000-000000000002"}, {"type": "D", "data": 1}, {"type": "E", "data": 1, "id": "00000000-0000-0000-0000-000000000003"}]', 2);
SELECT * FROM projections.append('order-6', 'F', '2');
SELECT * FROM projections.append_many('order-6', '[{"type": "C", "data": 1, "id": "00000000-0000-0000-0000-000000000002"}, {"type": "D", "data": 1}, {"type": "E", "data": 1, "id": "00000000-0000-0000-0000-000000000003"}]', 2);
-- some, not all; another order; another stream
SELECT * FROM projections.append_many('order-6', '[{"type": "C", "data": 1, "id": "00000000-0000-0000-0000-000000000002"}, {"type": "E", "data": 1, "id": "00000000-0000-0000-0000-000000000009"}]');
SELECT * FROM projections.append_many('order-6', '[{"type": "E", "data": 1, "id": "00000000-0000-0000-0000-000000000003"}, {"type": "C", "data": 1, "id": "00000000-0000-0000-0000-000000000002"}]');
SELECT * FROM projections.append_many('order-7', '[{"type": "C", "data": 1, "id": "00000000-0000-0000-0000-000000000002"}]');
SELECT version, type FROM projections.events WHERE stream = 'order-6' ORDER BY version;
SELECT version FROM projections.streams WHERE stream IN ('order-6', 'order-7');

-- transactions: nothing is lost, and no version is left out
BEGIN;
SELECT * FROM projections.append('order-8', 'A', '1', 0);
SAVEPOINT s;
SELECT stream_version FROM projections.append('order-8', 'B', '1', 1);
ROLLBACK TO s;
SELECT stream_version FROM projections.append('order-8', 'C', '1', 1);
COMMIT;
SELECT version, type FROM projections.read_stream('order-8');

--
-- read_stream
--
SELECT version, type, data FROM projections.read_stream('order-4', 299);
SELECT version FROM projections.read_stream('order-4', max_events => 2);
SELECT count(*) FROM projections.read_stream('order-4');
SELECT count(*) FROM projections.read_stream('none such');

--
-- Rights: EXECUTE is enough, and not there by itself
--
CREATE ROLE events_writer;
SET ROLE events_writer;
SELECT projections.append('order-9', 'A', '1');
SELECT projections.append_many('order-9', '[{"type": "A", "data": 1}]');
SELECT projections_internal._advance_stream('order-9', 1, NULL);
SELECT count(*) FROM projections.events;
INSERT INTO projections.events (stream, version, type, data) VALUES ('order-9', 1, 'A', '1');
UPDATE projections.streams SET version = 0;
RESET ROLE;
GRANT EXECUTE ON FUNCTION projections.append, projections.append_many TO events_writer;
SET ROLE events_writer;
SELECT stream_version FROM projections.append('order-9', 'A', '1', 0, id => '00000000-0000-0000-0000-000000000101');
SELECT stream_version FROM projections.append('order-9', 'A', '1', 0, id => '00000000-0000-0000-0000-000000000101');
SELECT stream_version FROM projections.append_many('order-9', '[{"type": "A", "data": 1}]', 1);
SELECT stream_version FROM projections.append_many('order-9', '[{"type": "A", "data": 1}]', 1);
RESET ROLE;

--
-- Correlations, over our own store and another source
--
CREATE TABLE shipments (n int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, kind varchar(40) NOT NULL, "case" text, at timestamp NOT NULL);
SELECT projections.register_source('shipments', 'n', type_column => 'kind', time_column => 'at', correlation_column => 'case');
SELECT stream_version FROM projections.append('trip-1', 'Planned', '1', correlation_id => 't-1');
INSERT INTO shipments (kind, "case", at) VALUES ('Loaded', 't-1', clock_timestamp() AT TIME ZONE 'UTC');
SELECT stream_version FROM projections.append('trip-2', 'Planned', '1', correlation_id => 't-2');
SELECT stream_version FROM projections.append_many('trip-1', '[{"type": "Driven", "data": 1}, {"type": "Arrived", "data": 1}]', correlation_id => 't-1');
-- in the order of time, also where the session's time zone is far away
SET TimeZone = 'Pacific/Auckland';
SELECT source, stream, type, event -> 'version' AS version, event ->> 'case' AS "case", projection, status FROM projections.trace('t-1');
RESET TimeZone;
SELECT count(*) FROM projections.trace('none such');
SELECT count(*) FROM projections.trace(NULL);
GRANT SELECT ON projections.events, projections.events_archive TO events_writer;
SET ROLE events_writer;
SELECT type FROM projections.trace('t-1');
RESET ROLE;

CREATE TABLE steps (n serial PRIMARY KEY, type text NOT NULL, flow text, at timestamptz NOT NULL);
SELECT projections.register_source('steps', 'n', type_column => 'type', time_column => 'at', correlation_column => 'flow');
INSERT INTO steps (flow, type, at)
SELECT f.flow, t.type, '2026-01-01 00:00 UTC'::timestamptz + f.day * interval '1 day' + t.n * interval '1 minute'
FROM (VALUES (1, 'good', '{a,b,c}'), (2, 'twice', '{a,b,a,c}'), (3, 'no b', '{a,c}'), (4, 'swapped', '{a,c,b}'), (5, 'only c', '{c}'), (6, 'good', '{x}'),
             (7, 'late but good', '{c,a,b,c}'), (8, 'never begun', '{x,y}'), (9, NULL, '{a}')) AS f(day, flow, types),
     unnest(f.types::text[]) WITH ORDINALITY AS t(type, n) ORDER BY f.day, t.n;
SELECT correlation_id, problem, found, missing, first_position, last_position FROM projections.find_incomplete('steps', '{a,b,c}');
SELECT correlation_id, problem FROM projections.find_incomplete('steps', '{a,b,c}', '2026-01-05 UTC');
SELECT correlation_id, problem, missing FROM projections.find_incomplete('steps', '{a,a,c}');
SELECT correlation_id, problem, missing FROM projections.find_incomplete('steps', '{none such}');
SELECT projections.find_incomplete('steps', '{}');
SELECT projections.find_incomplete('steps', '{a,NULL}');
SELECT projections.find_incomplete('none_such', '{a}');
SELECT projections.position_at('steps', '2026-01-03 UTC'), projections.position_at('steps', '2026-01-03 00:06 UTC'), projections.position_at('steps', 'infinity'), projections.position_at('steps', '-infinity');
-- a time without zone is UTC
SET TimeZone = 'Pacific/Auckland';
SELECT projections.position_at('shipments', now()), projections.position_at('shipments', now() - interval '1 hour');
RESET TimeZone;
CREATE TABLE bare (n serial PRIMARY KEY);
SELECT projections.position_at('bare', now());
SELECT projections.register_source('bare', 'n');
SELECT projections.position_at('bare', now());
SELECT projections.find_incomplete('bare', '{a}');
SELECT projections.archive_events('bare', now());

--
-- What projections did with an event. The catalog is filled by hand here, in a transaction that no worker sees.
--
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE TABLE effects (flow text);
CREATE FUNCTION reduce(state jsonb, event steps, key text) RETURNS jsonb LANGUAGE sql AS $$ SELECT to_jsonb(event.n) $$;
CREATE FUNCTION handle(event steps) RETURNS void LANGUAGE sql AS $$ SELECT $$;
SET LOCAL client_min_messages = error;
SELECT projections.create_reducer('reduced', 'steps', 'flow', 'reduce(jsonb, steps, text)', event_types => '{a,b}');
SELECT projections.create_handler('handled', 'steps', 'handle(steps)', '{effects}', partition_by => 'flow', options => '{"slots": 2}');
SELECT projections.create_handler('at_once', 'steps', 'handle(steps)', '{effects}', event_types => '{c}', mode => 'inline');
SET LOCAL client_min_messages = notice;
UPDATE projections_internal.slot SET position = 9 WHERE projection = 'reduced'::regclass;
UPDATE projections_internal.slot SET position = CASE slot WHEN 0 THEN 21 ELSE 4 END WHERE projection = 'handled'::regclass;
INSERT INTO projections_internal.failure (id, projection, slot, position, keys, error, sqlstate, category, next_retry_at, retry_count) OVERRIDING SYSTEM VALUE
VALUES (-1, 'handled', 0, 2, '{good}', 'secret', '22012', 'data', NULL, 5), (-2, 'reduced', 0, 4, '{twice}', 'secret', '23514', 'constraint', '2026-01-01 10:00', 2);
INSERT INTO projections_internal.failure (id, projection, slot, position, keys, error, sqlstate, category, resolved_at, resolution) OVERRIDING SYSTEM VALUE
VALUES (-3, 'reduced', 0, 5, '{twice}', 'secret', '22012', 'data', now(), 'skipped'), (-4, 'reduced', 0, 6, '{twice}', 'secret', '22012', 'data', now(), 'retried');
INSERT INTO projections_internal.parked_event (projection, slot, position, keys, parked_at) VALUES ('handled', 0, 3, '{good}', '2026-01-01 09:00');
SELECT p, s.* FROM generate_series(1, 12, 1) AS p, projections.event_status('steps', p) AS s;
-- of two slots, the one that the event's key belongs to counts
SELECT (hashtextextended(s.flow, 0) & 9223372036854775807) % 2 AS slot, o.status, o.detail, count(*)
FROM steps s, projections.event_status('steps', s.n) o WHERE o.projection = 'events.handled' AND s.n > 4 AND s.flow IS NOT NULL GROUP BY 1, 2, 3 ORDER BY 1;
SELECT * FROM projections.event_status('steps', 1000);
SELECT * FROM projections.event_status('none_such', 1);
SELECT * FROM projections.event_status('reduced', 1);
SELECT position, type, projection, status FROM projections.trace('twice');
SELECT position, type, event_time, event -> 'flow' AS flow FROM projections.history('reduced', '"twice"');
SELECT position FROM projections.history('events.reduced', '{"key": "good"}');
SELECT position FROM projections.history('reduced', '{"name": "good"}');
SELECT position FROM projections.history('handled', '"no b"');
GRANT USAGE ON SCHEMA events TO events_writer;
GRANT SELECT ON steps TO events_writer;
SET LOCAL ROLE events_writer;
SELECT position, projection, status FROM projections.trace('swapped');
SELECT projections.history('events.reduced', '"good"');
RESET ROLE;
REVOKE ALL ON SCHEMA events FROM events_writer;
REVOKE ALL ON steps FROM events_writer;
SELECT projections.unregister_source('steps');
SELECT * FROM projections.archive_events('steps', '2026-01-02 00:03 UTC');
SELECT * FROM projections.archive_events('steps', '2026-01-02 00:02 UTC', dry_run => true);
UPDATE projections_internal.failure SET resolved_at = now();
SELECT * FROM projections.archive_events('steps', '2026-01-02 00:03 UTC', true);
SELECT * FROM projections.archive_events('steps', '2026-01-03 UTC', true);
DELETE FROM projections_internal.parked_event;
SELECT * FROM projections.archive_events('steps', '2026-01-03 00:03 UTC', true);
UPDATE projections_internal.slot SET position = 9 WHERE position = 4 AND projection = 'handled'::regclass;
SELECT * FROM projections.archive_events('steps', '2026-01-03 00:03 UTC', true);
SELECT count(*) FROM steps;
-- rights: to delete is what it takes
SET ROLE events_writer;
SELECT projections.archive_events('events.steps', '2026-01-03 00:03 UTC');
RESET ROLE;
GRANT USAGE ON SCHEMA events TO events_writer;
GRANT SELECT ON steps TO events_writer;
SET ROLE events_writer;
SELECT projections.archive_events('events.steps', '2026-01-03 00:03 UTC');
RESET ROLE;
GRANT DELETE ON steps TO events_writer;
SET ROLE events_writer;
SELECT projections.archive_events('events.steps', '2026-01-03 00:03 UTC');
RESET ROLE;
SELECT min(n), count(*) FROM steps;
SELECT archived_to FROM projections_internal.source WHERE relation = 'steps'::regclass;
SELECT * FROM projections.event_status('steps', 2);
SELECT projections.position_at('steps', '2026-01-01 UTC');
SELECT * FROM projections.archive_events('steps', '2026-01-03 00:03 UTC');
ROLLBACK;
\set ON_ERROR_ROLLBACK off

-- an inline query follows deletes, so its rows would go with the events
SET client_min_messages = warning;
SELECT projections.create('by_type', 'SELECT type, count(*) AS n FROM steps GROUP BY type');
RESET client_min_messages;
SELECT projections.archive_events('steps', 'infinity');
SELECT * FROM projections.event_status('steps', 20);
SELECT source, position, type, event_time, event -> 'flow' AS flow FROM projections.history('by_type', '{"type": "b"}');
SELECT position FROM projections.history('by_type', '{"type": null}');
SELECT projections.history('by_type', '{"kind": "b"}');
SELECT projections.history('by_type', '"b"');
SELECT projections.drop('by_type');

-- history of joins, NULL keys, total aggregates, and tables that are no event sources
CREATE TABLE sales (id int PRIMARY KEY, item text, quantity int);
CREATE TABLE items (item text PRIMARY KEY, name text, kind text);
INSERT INTO sales VALUES (1, 'a', 2), (2, 'a', 3), (3, 'b', 4), (4, NULL, 5), (5, 'c', 6);
INSERT INTO items VALUES ('a', 'Ale', 'drink'), ('b', 'Beer', 'drink'), ('c', 'Cake', 'food');
SET client_min_messages = warning;
SELECT projections.create('by_kind', 'SELECT i.kind, s.quantity > 2 AS many, sum(s.quantity) AS n FROM sales s JOIN items i USING (item) GROUP BY i.kind, s.quantity > 2');
SELECT projections.create('by_item', 'SELECT item, count(*) AS n FROM sales WHERE quantity > 2 GROUP BY item');
SELECT projections.create('all_sales', 'SELECT sum(quantity) AS n FROM sales');
SELECT projections.create('detail', 'SELECT s.id, i.name FROM sales s JOIN items i USING (item)');
RESET client_min_messages;
SELECT * FROM projections.history('by_kind', '{"kind": "drink", "many": true}');
SELECT source, event FROM projections.history('by_item', '{"item": null}');
SELECT source, event FROM projections.history('by_item', '{"item": "a"}');
SELECT count(*) FROM projections.history('all_sales', '{}');
SELECT source, event FROM projections.history('detail', '{"id": 3, "_i_item": "b"}');
SELECT projections.history('sales', '{}');
SELECT projections.history('none_such', '{}');

--
-- Archiving our own store
--
SELECT projections.create_subscription('events reader', 'projections.events');
UPDATE projections.events SET recorded_at = '2020-01-01' WHERE stream IN ('order-1', 'order-2') OR (stream = 'order-4' AND version <= 3);
SELECT * FROM projections.archive_events('projections.events', '2021-01-01');
SELECT count(*) FROM projections.poll('events reader', 6);
SELECT projections.ack('events reader', 5);
SELECT * FROM projections.archive_events('projections.events', '2021-01-01', dry_run => true);
SELECT projections.ack('events reader', 6);
SELECT * FROM projections.archive_events('projections.events', '2021-01-01', dry_run => true);
SELECT count(*) FROM projections.events_archive;
SELECT * FROM projections.archive_events('projections.events', '2021-01-01');
SELECT * FROM projections.archive_events('projections.events', '2021-01-01');
SELECT stream, version, archived_at IS NOT NULL AS archived FROM projections.streams WHERE stream IN ('order-1', 'order-2', 'order-4') ORDER BY 1;
SELECT archived_to FROM projections_internal.source WHERE relation = 'projections.events'::regclass;
SELECT min(position) FROM ONLY projections.events;
-- what went is still read, and goes on being known by its id
SELECT version, type FROM projections.read_stream('order-4', max_events => 5);
SELECT position, stream, type FROM projections.trace('c-1');
SELECT position FROM projections.poll('events reader', 1);
SELECT projections.drop_subscription('events reader');
SELECT projections.create_subscription('events reader', 'projections.events', event_types => '{OrderPlaced,Last}');
SELECT position, type FROM projections.poll('events reader');
SELECT projections.drop_subscription('events reader');
SELECT * FROM projections.append('order-1', 'OrderShipped', '{}', 1);
SELECT * FROM projections.append('order-1', 'OrderShipped', '{}', 2);
SELECT archived_at FROM projections.streams WHERE stream = 'order-1';
SELECT * FROM projections.append('order-2', 'OrderPaid', '{}', id => '00000000-0000-0000-0000-000000000020');
SELECT * FROM projections.append('order-3', 'OrderPaid', '{}', id => '00000000-0000-0000-0000-000000000020');

-- a stream has each version once, whatever was appended, retried, rolled back and archived
SELECT s.stream, s.version, count(*), count(DISTINCT e.version), min(e.version), max(e.version)
FROM projections.streams s JOIN projections.events e USING (stream)
GROUP BY s.stream HAVING count(*) <> s.version OR max(e.version) <> s.version OR count(DISTINCT e.version) <> s.version;

SET client_min_messages = warning;
DROP SCHEMA events CASCADE;
REVOKE ALL ON ALL TABLES IN SCHEMA projections FROM events_writer;
REVOKE EXECUTE ON FUNCTION projections.append, projections.append_many FROM events_writer;
DROP ROLE events_writer;
TRUNCATE projections.events, projections.streams;
SELECT count(*) AS projections FROM projections.definitions;
SELECT count(*) AS sources FROM projections_internal.source;
