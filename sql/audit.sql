-- Who ran which operation. This server has not preloaded the library: failed calls are not recorded here (test/t/024_audit.pl has them).
SET client_min_messages = warning;
CREATE ROLE audit_owner;
CREATE ROLE audit_other;
CREATE ROLE audit_monitor IN ROLE pg_monitor;
CREATE ROLE audit_reader IN ROLE pg_read_all_data;
CREATE SCHEMA audited AUTHORIZATION audit_owner;
GRANT USAGE ON SCHEMA audited TO PUBLIC;
DELETE FROM projections_internal.audit;
SET ROLE audit_owner;
SET search_path = audited;

CREATE TABLE sale (item text, amount int);
CREATE TABLE event (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, kind text, item text, amount int, at timestamptz DEFAULT '2026-01-01');
CREATE TABLE seen (item text);
CREATE FUNCTION see(event event) RETURNS void LANGUAGE sql AS $$INSERT INTO seen VALUES (event.item)$$;
CREATE FUNCTION fold(state jsonb, event event, key text) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF event.amount = 0 THEN RAISE 'nothing sold'; END IF;
    RETURN to_jsonb((state #>> '{}')::int + event.amount);
END $$;

-- Every operation.
SELECT projections.register_source('event', 'position', type_column => 'kind', time_column => 'at');
SELECT projections.create('per_item', 'SELECT item, sum(amount) AS amount FROM sale GROUP BY item');
SELECT projections.create('later', 'SELECT item, count(*) AS n FROM event GROUP BY item', 'async');
SELECT projections.create_handler('handled', 'event', 'see(event)', '{seen}');
SELECT projections.create_reducer('folded', 'event', 'item', 'fold(jsonb, event, text)', '0', options => '{"max_retries": 0}');
SELECT projections.create_state_machine('machine', 'event', 'item', '[{"from": "open", "event": "close", "to": "closed"}]', options => '{"initial": "open"}');
INSERT INTO event (kind, item, amount) VALUES ('close', 'a', 1), ('sell', 'a', 0), ('sell', 'b', 0), ('sell', 'c', 0), ('sell', 'd', 0);
SELECT projections.catch_up() > 0 AS applied;
SELECT projections.catch_up() > 0 AS applied;
SELECT projections.pause('per_item', 'stock take'), projections.resume('per_item');
SELECT projections.pause_all('all'), projections.resume_all();
SELECT projections.refresh_rows('per_item', '{"item": "a"}');
SELECT projections.set_state('machine', 'z', 'open', 'by hand');
SELECT projections.set_checkpoint('later', 5);
SELECT projections.replay('later', 1, 2);
SELECT projections.reset('handled');
CALL projections.alter('later', options => '{"slots": 2}');
SELECT projections.retry((SELECT min(id) FROM projections.failures WHERE projection = 'audited.folded'));
SELECT projections.skip((SELECT min(id) FROM projections.failures WHERE projection = 'audited.folded'), 'not worth it');
SELECT projections.resolve((SELECT max(id) FROM projections.failures WHERE projection = 'audited.folded'), 'resolved', 'put right');
SELECT projections.retry_all('folded');
SELECT * FROM projections.archive_events('event', '2020-01-01', dry_run => true);
SELECT projections.drop('machine');
SELECT projections.drop('folded', keep_table => true);

-- Dropped by commands, alone and with the source.
DROP TABLE per_item;
SELECT projections.create('per_item', 'SELECT item, sum(amount) AS amount FROM sale GROUP BY item');
DROP TABLE sale CASCADE;
DROP TABLE later;
SELECT projections.drop('handled');
SELECT projections.unregister_source('event');

SELECT operation, projection, regexp_replace(arguments::text, '"failure_id": \d+', '"failure_id": …') AS arguments, outcome, role FROM projections.audit_log ORDER BY id;
SELECT DISTINCT login = session_user AS login, started_at <= now() + interval '1 minute' AND duration >= '0' AND duration < '1 minute' AS time FROM projections.audit_log;

-- What was rolled back did not happen; a failed call leaves nothing here, and the one around it goes on.
RESET ROLE;
DELETE FROM projections_internal.audit;
SET ROLE audit_owner;
CREATE TABLE sale (item text, amount int);
SELECT projections.create('per_item', 'SELECT item, sum(amount) AS amount FROM sale GROUP BY item');
BEGIN;
SELECT projections.pause('per_item', 'not to be');
SELECT count(*) AS inside FROM projections.audit_log WHERE operation = 'pause';
ROLLBACK;
SELECT projections.pause('per_item', NULL);
DO $$
BEGIN
    PERFORM projections.pause('nothing', 'why');
EXCEPTION WHEN undefined_table THEN
    PERFORM projections.pause('per_item', 'after an error');
END
$$;
SELECT projections.resume('per_item');
SELECT operation, arguments, outcome, sqlstate, error FROM projections.audit_log ORDER BY id;

-- What only looks is not told, and works where nothing can be written.
BEGIN READ ONLY;
SELECT projections.catch_up() > 0 AS applied;
SELECT count(*) FROM projections.health();
COMMIT;

-- A failed call of somebody else is told to the owner of the projection. Here it is inserted as the worker does.
RESET ROLE;
INSERT INTO projections_internal.audit (started_at, duration, login, role, operation, projection, owner, arguments, sqlstate, error)
VALUES (now(), '1 s', 'audit_other', 'audit_other', 'reset', 'audited.per_item', 'audit_owner', '{"name": "per_item"}', '42501', 'must be owner of projection');
SET ROLE audit_owner;
SELECT operation, role, arguments, outcome, sqlstate, error FROM projections.audit_log WHERE role = 'audit_other';
SET ROLE audit_other;
SELECT count(*) AS other FROM projections.audit_log;
SELECT count(*) FROM projections_internal.audit;
SELECT projections_internal._audit_drop('DROP TABLE', 'forged');
SET ROLE audit_monitor;
SELECT operation, role, arguments, outcome, sqlstate, error FROM projections.audit_log WHERE projection = 'audited.per_item' ORDER BY id;
SET ROLE audit_reader;
SELECT count(*) = count(arguments) AS reader FROM projections.audit_log WHERE projection = 'audited.per_item';
RESET ROLE;

-- Kept for pg_projections.history_retention.
UPDATE projections_internal.audit SET started_at = now() - interval '400 days' WHERE operation = 'resume';
SELECT projections_internal._expire_history() >= 1 AS expired;
SELECT count(*) FILTER (WHERE operation = 'resume') AS old, count(*) > 0 AS new FROM projections_internal.audit;

DROP SCHEMA audited CASCADE;
DELETE FROM projections_internal.audit;
DROP ROLE audit_owner, audit_other, audit_monitor, audit_reader;
RESET search_path;
RESET client_min_messages;
