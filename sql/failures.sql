-- Events that cannot be applied.
SET client_min_messages = error; -- no workers here
CREATE SCHEMA failures;
SET search_path = failures;
CREATE TABLE events (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id text, type text NOT NULL, k text, n int, at timestamptz NOT NULL DEFAULT '2026-01-01');
SELECT projections.register_source('events', position_column => 'position', type_column => 'type', time_column => 'at', id_column => 'id');
CREATE TABLE target (k text, n int CHECK (n >= 0), type text);
CREATE TABLE mended (type text);
CREATE FUNCTION apply(e events) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    big text;
BEGIN
    IF NOT EXISTS (SELECT FROM mended m WHERE m.type = e.type) THEN
        CASE e.type
            WHEN 'raise' THEN RAISE EXCEPTION 'not today' USING DETAIL = 'It is a holiday.', HINT = 'Try tomorrow.';
            WHEN 'divide' THEN e.n := e.n / 0;
            WHEN 'loop' THEN LOOP END LOOP;
            WHEN 'memory' THEN RAISE out_of_memory;
            WHEN 'check' THEN e.n := -1;
            WHEN 'code' THEN PERFORM nothing_of_that_name();
            WHEN 'depth' THEN PERFORM apply(e);
            ELSE NULL;
        END CASE;
    END IF;
    INSERT INTO target VALUES (e.k, e.n, e.type);
END
$$;
CREATE VIEW seen AS
SELECT position, event_id, event_type, keys, sqlstate, category, retry_count, next_retry_at > failed_at AS waits, extract(epoch FROM next_retry_at - failed_at)::int AS seconds, resolution
FROM projections_internal.failure WHERE projection = 'target'::regclass;
-- As if the next retry were due.
CREATE FUNCTION later() RETURNS boolean LANGUAGE sql AS $$
    UPDATE projections_internal.failure SET next_retry_at = clock_timestamp() WHERE next_retry_at IS NOT NULL AND resolved_at IS NULL;
    SELECT projections.catch_up() > 0;
$$;

-- Each fails by itself, and nothing else does. The recursion meets its limit well before its time is over.
SET max_stack_depth = '200kB';
SELECT projections.create_handler('target', 'events', 'apply(events)', '{target}', partition_by => 'k', options => '{"event_timeout": "200 ms", "max_retries": 3}');
INSERT INTO events (id, type, k, n) VALUES ('e1', 'ok', 'a', 1), ('e2', 'raise', 'b', 1), ('e3', 'divide', 'c', 1), ('e4', 'loop', 'd', 1), ('e5', 'memory', 'e', 1),
    ('e6', 'check', 'f', 1), ('e7', 'code', 'g', 1), ('e8', 'depth', 'h', 1), ('e9', 'ok', 'a', 2), ('e10', 'ok', 'b', 2), ('e11', 'ok', 'i', 1), ('e12', 'raise', 'b', 3);
SELECT projections.catch_up('target');
SELECT k, n, type FROM target ORDER BY k, n;
SELECT * FROM seen ORDER BY position;
SELECT error, context FROM projections_internal.failure WHERE event_type = 'raise';
SELECT error FROM projections_internal.failure WHERE event_type = 'loop';
SELECT position, event_type, keys FROM projections_internal.parked_event ORDER BY position;

-- Not due: nothing happens. Due: counted, and twice the time.
SELECT projections.catch_up('target');
DELETE FROM projections_internal.failure WHERE event_type IN ('loop', 'depth');
SELECT later();
SELECT event_type, retry_count, seconds FROM seen ORDER BY position;
-- What succeeds sets free what waits behind it, up to the next failure.
INSERT INTO mended VALUES ('divide'), ('check'), ('code');
SELECT later();
SELECT event_type, retry_count, seconds, resolution FROM seen ORDER BY position;
SELECT later();
-- Out of retries: a dead letter, which still holds its key back.
SELECT event_type, retry_count, seconds, resolution FROM seen WHERE event_type = 'raise' ORDER BY position;
INSERT INTO events (id, type, k, n) VALUES ('e13', 'ok', 'b', 4);
SELECT later();
SELECT position FROM projections_internal.parked_event ORDER BY position;
INSERT INTO mended VALUES ('raise');
SELECT later();
SELECT k, n, type FROM target WHERE k = 'b';
-- By hand.
SELECT projections_internal._retry_now(min(id)) FROM projections_internal.failure WHERE event_type = 'raise' AND resolved_at IS NULL;
SELECT k, n, type FROM target WHERE k = 'b' ORDER BY n;
SELECT count(*) FROM projections_internal.parked_event;
DELETE FROM mended;

-- Skipped: what waited is applied.
INSERT INTO events (id, type, k, n) VALUES ('e14', 'raise', 'j', 1), ('e15', 'ok', 'j', 2);
SELECT projections.catch_up('target');
SELECT projections.skip(id, 'test') FROM projections_internal.failure WHERE event_id = 'e14';
SELECT k, n FROM target WHERE k = 'j';

-- A dropped function, lost rights: no event gets through, so it is nobody's failure, and all wait.
DROP FUNCTION apply(events);
INSERT INTO events (id, type, k, n) VALUES ('e16', 'ok', 'l', 1), ('e17', 'ok', 'm', 1);
SELECT projections.catch_up('target');
SELECT position FROM projections_internal.slot WHERE projection = 'target'::regclass;
SELECT count(*) FROM seen WHERE event_id IN ('e16', 'e17');
CREATE FUNCTION apply(e events) RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO target VALUES (e.k, e.n, e.type); END $$;
SELECT projections.catch_up('target');
SELECT k FROM target WHERE k IN ('l', 'm') ORDER BY k;

-- What was in the way is not the event's fault, whether others get through or not: the batch is to be tried again.
CREATE OR REPLACE FUNCTION apply(e events) RETURNS void LANGUAGE plpgsql AS $$ BEGIN IF e.type <> 'ok' THEN RAISE EXCEPTION 'again' USING ERRCODE = e.type; END IF; END $$;
CREATE FUNCTION outcome(code text, projection text DEFAULT 'target') RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    UPDATE events SET type = code WHERE id = 'e18';
    PERFORM projections.catch_up(projection);
    RETURN 'caught up';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE;
END
$$;
INSERT INTO events (id, type, k, n) VALUES ('before', 'ok', 'n', 1), ('e18', '40001', 'o', 1), ('after', 'ok', 'p', 1);
SELECT code FROM unnest(ARRAY['08000', '08006', '25006', '28000', '40000', '40001', '40P01', '53000', '53100', '53300', '53400', '55P02', '55P03', '57000', '57P01', '57P03', '57P05',
    '58000', '58030', '58P01', '72000', 'F0000', 'HV00N', 'PJ003', 'PJ004', 'XX001', 'XX002']) AS code WHERE outcome(code) <> code;
SELECT count(*) FROM seen WHERE event_id = 'e18';
-- Of these one event may be the cause, or all of them; here there is no other.
DELETE FROM events WHERE id IN ('before', 'after');
SELECT code FROM unnest(ARRAY['0A000', '3F000', '42501', '42601', '42703', '42804', '42883', '42P01', '53200', '55006', 'XX000']) AS code WHERE outcome(code) <> code;
SELECT count(*) FROM seen WHERE event_id = 'e18';
-- A retry that is in somebody's way stays due, and does not count.
SELECT outcome('22012');
SELECT retry_count, next_retry_at IS NOT NULL AS waits FROM projections_internal.failure WHERE event_id = 'e18';
UPDATE projections_internal.failure SET next_retry_at = now() WHERE event_id = 'e18' RETURNING retry_count;
SELECT outcome('53100'), outcome('58030');
SELECT retry_count, sqlstate, next_retry_at <= now() AS due FROM projections_internal.failure WHERE event_id = 'e18';
DELETE FROM projections_internal.failure WHERE event_id = 'e18';
-- The same of a reducer and of a query, where what is wrong for one event of a query is so for all.
CREATE FUNCTION weigh(id text, type text, n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN IF id = 'e18' AND type <> 'ok' THEN RAISE EXCEPTION 'again' USING ERRCODE = type; END IF; RETURN n; END $$;
CREATE FUNCTION fold(state jsonb, e events, key text) RETURNS jsonb LANGUAGE sql IMMUTABLE RETURN to_jsonb(state::int + failures.weigh(e.id, e.type, e.n));
SELECT projections.create_reducer('folded', 'events', 'k', 'fold(jsonb, events, text)', '0');
SELECT projections.create('weighed', 'SELECT k, sum(failures.weigh(id, type, n)) AS n FROM failures.events GROUP BY k', 'async');
SELECT p, code FROM unnest(ARRAY['53100', '53300', '58030', '57P03', 'XX001', '40001']) AS code, unnest(ARRAY['folded', 'weighed']) AS p WHERE outcome(code, p) <> code;
SELECT outcome('42883', 'weighed'), outcome('XX000', 'weighed');
SELECT outcome('53200', 'weighed'), outcome('42883', 'folded'); -- others have got through
SELECT projection, sqlstate FROM projections.failures WHERE projection IN ('failures.folded', 'failures.weighed') ORDER BY 1;
SELECT projections.drop('folded'), projections.drop('weighed');
-- Nor is a user's cancel the event's fault, which the timeout of events must not swallow.
UPDATE events SET type = 'ok';
INSERT INTO events (id, type, k, n) VALUES ('e19', 'ok', 'o', 1);
CREATE OR REPLACE FUNCTION apply(e events) RETURNS void LANGUAGE plpgsql AS $$ BEGIN LOOP END LOOP; END $$;
SET statement_timeout = '100 ms';
SELECT projections.catch_up('target');
RESET statement_timeout;
SELECT count(*) FROM seen WHERE event_id = 'e19';
SELECT projections.drop('target');

-- A CHECK on a projection over the handler's table is found before the commit, and laid to its event.
CREATE OR REPLACE FUNCTION apply(e events) RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO target VALUES (e.k, e.n, e.type); END $$;
TRUNCATE target;
TRUNCATE events;
SELECT projections.create('sums', 'SELECT k, sum(n) AS n FROM failures.target GROUP BY k');
ALTER TABLE sums ADD CHECK (n < 10);
SELECT projections.create_handler('target', 'events', 'apply(events)', '{target}', partition_by => 'k');
INSERT INTO events (id, type, k, n) SELECT 'f' || n, 'ok', 'k' || n % 3, 1 FROM generate_series(1, 9) AS n;
INSERT INTO events (id, type, k, n) VALUES ('f10', 'ok', 'k1', 50), ('f11', 'ok', 'k1', 1), ('f12', 'ok', 'k2', 1);
SELECT projections.catch_up('target');
SELECT * FROM sums ORDER BY k;
SELECT event_id, sqlstate FROM seen;
SELECT projections.drop('sums');
SELECT projections.drop('target');

-- on_failure: skip lets later events pass; stop holds the slot.
CREATE TABLE broken (k text);
CREATE OR REPLACE FUNCTION apply(e events) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF e.k IN (SELECT k FROM broken) AND e.n = 0 THEN RAISE EXCEPTION 'broken'; END IF;
    INSERT INTO target VALUES (e.k, e.n, e.type);
END
$$;
INSERT INTO broken VALUES ('a');
TRUNCATE target;
TRUNCATE events RESTART IDENTITY;
INSERT INTO events (type, k, n) VALUES ('ok', 'b', 1), ('ok', 'a', 0), ('ok', 'a', 2), ('ok', 'b', 3);
SELECT projections.create_handler('target', 'events', 'apply(events)', '{target}', partition_by => 'k', options => '{"on_failure": "skip"}');
SELECT projections.catch_up('target');
SELECT k, n FROM target ORDER BY n;
SELECT (SELECT position FROM projections_internal.slot), (SELECT count(*) FROM projections_internal.parked_event) AS parked, (SELECT array_agg(position) FROM seen) AS failed;
DELETE FROM broken;
SELECT later();
SELECT k, n FROM target ORDER BY n;
SELECT projections.drop('target');
TRUNCATE target;
INSERT INTO broken VALUES ('a');
SELECT projections.create_handler('target', 'events', 'apply(events)', '{target}', partition_by => 'k', options => '{"on_failure": "stop", "max_retries": 1}');
SELECT projections.catch_up('target');
SELECT k, n FROM target ORDER BY n;
SELECT (SELECT position FROM projections_internal.slot), (SELECT count(*) FROM projections_internal.parked_event) AS parked, (SELECT array_agg(position) FROM seen) AS failed;
SELECT projections.catch_up('target');
SELECT later();
SELECT retry_count, seconds FROM seen;
SELECT position FROM projections_internal.slot;
-- A dead letter holds it too, until somebody decides.
SELECT later();
SELECT projections.skip(id, 'decided') FROM projections_internal.failure WHERE projection = 'target'::regclass;
SELECT projections.catch_up('target');
SELECT k, n FROM target ORDER BY n;
SELECT position FROM projections_internal.slot;
INSERT INTO events (type, k, n) VALUES ('ok', 'a', 0), ('ok', 'c', 5);
SELECT projections.catch_up('target');
SELECT position FROM projections_internal.slot;
DELETE FROM broken;
SELECT later();
SELECT k, n FROM target ORDER BY n;
SELECT position, resolution FROM seen ORDER BY position;
INSERT INTO broken VALUES ('a');
INSERT INTO events (type, k, n) VALUES ('ok', 'a', 0), ('ok', 'c', 6);
SELECT projections.catch_up('target');
SELECT projections_internal._retry_now(id) FROM projections_internal.failure WHERE resolved_at IS NULL;
DELETE FROM broken;
SELECT projections_internal._retry_now(id) FROM projections_internal.failure WHERE resolved_at IS NULL;
SELECT position FROM projections_internal.slot;
SELECT projections.drop('target');

-- on_dead_letter is called as the owner; its own failure is noted.
CREATE TABLE letters (id bigint, who text);
CREATE FUNCTION note(failure_id bigint) RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO failures.letters VALUES (failure_id, current_user); END $$;
INSERT INTO broken VALUES ('a');
TRUNCATE target;
TRUNCATE events RESTART IDENTITY;
INSERT INTO events (type, k, n) VALUES ('ok', 'a', 0);
SELECT projections.create_handler('target', 'events', 'apply(events)', '{target}', partition_by => 'k', options => '{"max_retries": 1, "on_dead_letter": "note"}');
SELECT options FROM projections_internal.projection WHERE relation = 'target'::regclass;
SELECT projections.catch_up('target');
SELECT count(*) FROM letters;
SELECT later();
SELECT id = (SELECT id FROM projections_internal.failure) AS same, who = current_user AS as_owner FROM letters;
CREATE OR REPLACE FUNCTION note(failure_id bigint) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no post'; END $$;
SELECT projections.drop('target');
SELECT projections.create_handler('target', 'events', 'apply(events)', '{target}', partition_by => 'k', options => '{"max_retries": 0, "on_dead_letter": "failures.note"}');
SET client_min_messages = warning;
\set VERBOSITY terse
SELECT projections.catch_up('target');
SET client_min_messages = error;
SELECT next_retry_at, note FROM projections_internal.failure;
SELECT projections.drop('target');

-- Array keys: to all or to none; the keys of a parked event hold back others.
CREATE FUNCTION add(state jsonb, e events, key text) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF key IN (SELECT k FROM failures.broken) THEN RAISE EXCEPTION 'broken %', key; END IF;
    RETURN state || to_jsonb(e.n);
END
$$;
TRUNCATE events RESTART IDENTITY;
TRUNCATE broken;
INSERT INTO broken VALUES ('c');
INSERT INTO events (type, k, n) VALUES ('ok', 'a,b', 1), ('ok', 'b,c', 2), ('ok', 'a,b', 3), ('ok', 'a,d', 4), ('ok', 'd,e', 5), ('ok', 'f,f', 6);
SELECT projections.create_reducer('lists', 'events', $$string_to_array(k, ',')$$, 'add(jsonb, events, text)', initial => '[]');
SELECT projections.catch_up('lists');
SELECT key, state FROM lists ORDER BY key;
SELECT position, keys FROM projections_internal.failure;
SELECT position, keys FROM projections_internal.parked_event ORDER BY position;
DELETE FROM broken;
SELECT later();
SELECT key, state FROM lists ORDER BY key;
SELECT count(*) FROM projections_internal.parked_event;
SELECT projections.drop('lists');

-- A key that cannot be computed: the event alone fails.
TRUNCATE events RESTART IDENTITY;
INSERT INTO events (type, k, n) SELECT 'ok', 'k' || n % 4, CASE WHEN n IN (1, 7, 8, 20) THEN 0 ELSE n END FROM generate_series(1, 20) AS n;
SELECT projections.create_reducer('quotients', 'events', '100 / n', 'add(jsonb, events, text)', initial => '[]', options => '{"batch_size": 6}');
SELECT projections.catch_up('quotients');
SELECT position, keys, sqlstate FROM projections_internal.failure ORDER BY position;
SELECT sum(version), (SELECT position FROM projections_internal.slot) FROM quotients;
UPDATE events SET n = 50 WHERE position = 7;
SELECT later();
SELECT position, resolution FROM projections_internal.failure ORDER BY position;
SELECT key, state FROM quotients WHERE key = '2';
SELECT projections.drop('quotients');

-- An event that is gone when its retry is due is passed.
TRUNCATE events RESTART IDENTITY;
INSERT INTO broken VALUES ('a');
INSERT INTO events (type, k, n) VALUES ('ok', 'a', 1), ('ok', 'b', 1), ('ok', 'a', 2);
SELECT projections.create_reducer('lists', 'events', 'k', 'add(jsonb, events, text)', initial => '[]');
SELECT projections.catch_up('lists');
DELETE FROM events WHERE position = 1;
DELETE FROM broken;
SELECT later();
SELECT key, state FROM lists ORDER BY key;
SELECT position, resolution, note FROM projections_internal.failure;
SELECT projections.drop('lists');

SELECT projections.unregister_source('events');
\set VERBOSITY terse
DROP SCHEMA failures CASCADE;
