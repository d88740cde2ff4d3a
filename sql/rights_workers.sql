-- Rights: what maintenance does over a user's relations, whoever asks for it, is done as their owner and as nobody else. Every
-- object of the owner's that can carry code is a trap that tells who sprung it.
\set VERBOSITY terse
SET client_min_messages = error;
\set ECHO none
\i test/traps.sql
\set ECHO all
CREATE ROLE regress_trapper LOGIN;
SELECT trap.lay('regress_trapper');
SET SESSION AUTHORIZATION regress_trapper;
SET search_path = regress_trapper;
SELECT projections.register_source('event', position_column => 'pos', type_column => 'type', time_column => 'at', id_column => 'id', stream_column => 'item');
INSERT INTO arrived (item, type) VALUES ('a', 'opened');
SELECT projections.register_source('arrived', position_column => 'pos', type_column => 'type', time_column => 'at', id_column => 'id', capture => 'trigger');
SELECT projections.create('totals', 'SELECT item, sum(q + liar(''definition'', 0)) AS q, count(*) AS n FROM event GROUP BY item', 'async', options => '{"slots": 2}');
SELECT projections.create('arrivals', 'SELECT item, sum(q + liar(''definition'', 0)) AS q FROM arrived GROUP BY item', 'async');
SELECT projections.create('rows', 'SELECT id, item, q, liar(''definition'', id) AS l FROM changed', 'async');
SELECT projections.create('now', 'SELECT item, sum(q + liar(''definition'', 0)) AS q, max(q) AS most FROM changed GROUP BY item', 'inline');
SELECT projections.create_reducer('states', 'event', $$item || liar('key', 1)$$, 'reduce(jsonb, event, text)', options => '{"slots": 2}');
SELECT projections.create_reducer('states_now', 'event', 'item', 'reduce(jsonb, event, text)', mode => 'inline');
SELECT projections.create_state_machine('machine', 'event', 'item', '[{"from": null, "event": "opened", "to": "open"}, {"from": "open", "event": "opened", "to": "open"}, {"from": "open", "event": "closed", "to": "done"}]',
                                        options => '{"retention": "1 s", "terminal": ["done"]}');
SELECT projections.create_state_machine('machine_now', 'event', 'item', '[{"from": null, "event": "opened", "to": "open"}, {"from": "open", "event": "opened", "to": "open"}, {"from": "open", "event": "closed", "to": "done"}, {"from": "done", "event": "closed", "to": "done"}]', mode => 'inline');
SELECT projections.create_handler('writes', 'event', 'handle(event)', tables => '{book}', partition_by => 'item');
RESET SESSION AUTHORIZATION;
-- A reducer's extra columns, with a default, are the owner's code too.
SET ROLE regress_trapper;
ALTER TABLE regress_trapper.states ADD mine int DEFAULT regress_trapper.liar('default', 1);
RESET ROLE;
SELECT trap.hide(('regress_trapper.' || t)::regclass) FROM unnest('{totals,arrivals,rows,now,states,states_now,machine,machine_now}'::text[]) t;

-- All that has to be done, by two callers: the owner, and a superuser whose search_path has the owner's operators.
\set events 'INSERT INTO regress_trapper.event (item, q, type, at, id) SELECT i, 1, t::regress_trapper.kind, ROW(now() - interval ''1 day'')::regress_trapper.moment, ROW(i || t)::regress_trapper.label FROM unnest(\'{a,b,c}\'::text[]) i, unnest(\'{opened,opened}\'::text[]) t'
\set arrivals 'INSERT INTO regress_trapper.arrived (item, q, type, at, id) SELECT item, q, type, at, id FROM regress_trapper.event'
\set changes 'INSERT INTO regress_trapper.changed SELECT coalesce((SELECT max(id) FROM regress_trapper.changed), 0) + n, chr(96 + n), n FROM generate_series(1, 3) n'
CREATE TABLE trap.failed (step text, message text);
GRANT INSERT ON trap.failed TO PUBLIC;
CREATE FUNCTION trap.try(command text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE command;
EXCEPTION WHEN OTHERS THEN
    INSERT INTO trap.failed VALUES (command, SQLERRM);
END
$$;

SET search_path = regress_trapper, pg_catalog;
SET SESSION AUTHORIZATION regress_trapper;
:events; :arrivals; :changes;
\c -
SET client_min_messages = error;
SET search_path = regress_trapper, pg_catalog;
SELECT * FROM trap.strangers();
SELECT projections.catch_up() > 0 AS applied;
SELECT * FROM trap.strangers();

-- A failure of each kind, to be recorded, retried and skipped; and keys at their end.
SET SESSION AUTHORIZATION regress_trapper;
ALTER TABLE regress_trapper.totals ADD CONSTRAINT few CHECK (n < 6) NOT VALID;
:events;
INSERT INTO regress_trapper.event (item, q, type, at, id) VALUES ('d', 1, 'opened', ROW(now() - interval '1 day')::regress_trapper.moment, ROW('d')::regress_trapper.label), ('d', 1, 'closed', ROW(now() - interval '1 day')::regress_trapper.moment, ROW('d')::regress_trapper.label);
SELECT projections.drop('states_now');
INSERT INTO regress_trapper.event (item, q, type, at, id) VALUES ('e', 1, 'opened', ROW(now())::regress_trapper.moment, ROW('e')::regress_trapper.label);
INSERT INTO regress_trapper.event (item, q, type, at, id) SELECT 'f', 1, 'opened', ROW(now())::regress_trapper.moment, ROW('f')::regress_trapper.label FROM generate_series(1, 8);
SELECT projections.drop('machine_now');
INSERT INTO regress_trapper.event (item, q, type, at, id) VALUES ('e', 1, 'broken', ROW(now())::regress_trapper.moment, ROW('x')::regress_trapper.label), ('e', 1, 'opened', ROW(now())::regress_trapper.moment, ROW('y')::regress_trapper.label);
\c -
SET client_min_messages = error;
SET search_path = regress_trapper, pg_catalog;
SELECT count(*) AS stale FROM projections.stale_keys('regress_trapper.states');
SELECT count(*) AS stale FROM projections.stale_keys('regress_trapper.totals');
SELECT projections.catch_up() > 0 AS applied;
RESET search_path;
SELECT projection, count(*) AS failures FROM projections.failures GROUP BY 1 ORDER BY 1;
SET search_path = regress_trapper, pg_catalog;
SELECT * FROM trap.strangers();

SET ROLE regress_trapper;
SELECT projections.create_state_machine('machine_now', 'event', 'item', '[{"from": null, "event": "opened", "to": "open"}, {"from": "open", "event": "opened", "to": "open"}, {"from": "open", "event": "closed", "to": "done"}, {"from": "open", "event": "broken", "to": "done"}, {"from": "done", "event": "opened", "to": "done"}]', mode => 'inline');
RESET ROLE;
SELECT trap.hide('regress_trapper.machine_now');
\c -
SET client_min_messages = error;
CREATE TEMP TABLE calls (n int GENERATED ALWAYS AS IDENTITY, call text);
INSERT INTO calls (call) VALUES
    ($$SELECT projections.retry(id) FROM projections.failures WHERE projection OPERATOR(pg_catalog.=) 'regress_trapper.totals' AND resolved_at IS NULL$$),
    ($$SELECT projections.retry_all('regress_trapper.states')$$),
    ($$SELECT projections.retry_all('regress_trapper.writes')$$),
    ($$SELECT projections.skip(id, 'test') FROM projections.failures WHERE resolved_at IS NULL AND projection OPERATOR(pg_catalog.<>) 'regress_trapper.totals'$$),
    ($$SELECT projections.set_state('regress_trapper.machine', 'b', 'done', 'test')$$),
    ($$SELECT projections.set_state('regress_trapper.machine_now', 'b', 'done', 'test')$$),
    ($$SELECT projections.set_state('regress_trapper.machine', 'new', 'open', 'test')$$),
    ($$SELECT count(*) FROM projections.verify('regress_trapper.totals')$$),
    ($$SELECT count(*) FROM projections.verify('regress_trapper.arrivals')$$),
    ($$SELECT count(*) FROM projections.verify('regress_trapper.rows')$$),
    ($$SELECT count(*) FROM projections.verify('regress_trapper.now')$$),
    ($$SELECT count(*) FROM projections.verify('regress_trapper.states')$$),
    ($$SELECT count(*) FROM projections.verify('regress_trapper.machine')$$),
    ($$SELECT count(*) FROM projections.verify('regress_trapper.writes')$$),
    ($$SELECT projections.repair('regress_trapper.totals')$$),
    ($$SELECT projections.repair('regress_trapper.rows')$$),
    ($$SELECT projections.repair('regress_trapper.now')$$),
    ($$SELECT projections.repair('regress_trapper.states')$$),
    ($$SELECT projections.repair('regress_trapper.writes')$$),
    ($$SELECT projections_internal._scrub() FROM generate_series(1, 9) WHERE current_setting('is_superuser')::bool$$),
    ($$SELECT projections.refresh_rows('regress_trapper.totals', '{"item": "a"}')$$),
    ($$SELECT projections.refresh_rows('regress_trapper.rows', '{"id": 1}')$$),
    ($$SELECT projections.refresh_rows('regress_trapper.now', '{"item": "a"}')$$),
    ($$SELECT projections.refresh_rows('regress_trapper.rows', '[{"item": "a"}, {"l": 1, "q": 1}]')$$),
    ($$SELECT projections.read('regress_trapper.rows', '{"l": 1}', '0 s')$$),
    ($$SELECT count(*) FROM projections.history('regress_trapper.rows', '{"l": 1}')$$),
    ($$SELECT projections.refresh_source('regress_trapper.event', '{"item": "a"}')$$),
    ($$SELECT projections.refresh_source('regress_trapper.changed', '{"item": "a"}')$$),
    ($$SELECT count(*) FROM projections.stale_keys('regress_trapper.states')$$),
    ($$SELECT projections.replay('regress_trapper.totals', 1, 5)$$),
    ($$SELECT projections.replay('regress_trapper.states', 1, 5)$$),
    ($$SELECT projections.replay('regress_trapper.writes', 1, 2, true)$$),
    ($$SELECT projections.pause('regress_trapper.now', 'test')$$),
    ($$SELECT count(*) FROM projections.verify('regress_trapper.now')$$),
    ($$SELECT projections.resume('regress_trapper.now')$$),
    ($$SELECT projections.set_checkpoint('regress_trapper.states', 3, true)$$),
    ($$SELECT projections.catch_up('regress_trapper.states')$$),
    ($$SELECT projections.reset('regress_trapper.totals')$$),
    ($$SELECT projections.reset('regress_trapper.rows')$$),
    ($$SELECT projections.reset('regress_trapper.states')$$),
    ($$SELECT projections.reset('regress_trapper.writes')$$),
    ($$SELECT projections.catch_up()$$);
\set QUIET on
\set ECHO none
\o /dev/null
SELECT format('SET SESSION AUTHORIZATION %s; SET search_path = regress_trapper, pg_catalog; SELECT trap.try(%L); RESET SESSION AUTHORIZATION; '
              'INSERT INTO trap.failed SELECT %2$L, format(''%%s sprung by %%s'', s.trap, s.sprung_by) FROM trap.strangers() s', by, call)
FROM calls, (VALUES (1, 'DEFAULT'), (2, 'regress_trapper')) AS b (place, by) ORDER BY place, n
\gexec
\o
\set ECHO all
\set QUIET off
SELECT * FROM trap.failed;

-- Rebuilds and alterations.
\c -
SET client_min_messages = error;
SET search_path = regress_trapper, pg_catalog;
CALL projections.rebuild('regress_trapper.totals');
CALL projections.rebuild('regress_trapper.rows');
CALL projections.rebuild('regress_trapper.now');
CALL projections.rebuild('regress_trapper.states');
CALL projections.rebuild('regress_trapper.machine');
CALL projections.rebuild('regress_trapper.machine_now');
CALL projections.rebuild('regress_trapper.writes');
SELECT * FROM trap.strangers();
CALL projections.alter('regress_trapper.totals', query => 'SELECT item, sum(q + liar(''definition'', 0)) AS q, count(*) AS n, max(q) AS most FROM event GROUP BY item');
CALL projections.alter('regress_trapper.now', mode => 'async');
CALL projections.alter('regress_trapper.states', options => '{"slots": 3}');
SELECT * FROM trap.strangers();
SELECT * FROM trap.untouched;

-- What is broken and missing is restored as the owner, too.
SET session_replication_role = replica;
ALTER TABLE regress_trapper.arrived DISABLE TRIGGER projections_arrival;
SET ROLE regress_trapper;
INSERT INTO regress_trapper.arrived (item, type) VALUES ('z', 'opened');
RESET ROLE;
RESET session_replication_role;
SELECT projections.repair('regress_trapper.arrivals');
SELECT projections.catch_up('regress_trapper.arrivals') > 0 AS applied;
SELECT count(*) FROM projections.verify('regress_trapper.arrivals');
SELECT * FROM trap.strangers();

-- An owner who may not read is refused, and nobody reads in his place.
SET ROLE regress_trapper;
INSERT INTO regress_trapper.event (item, q, type, at, id) VALUES ('a', 1, 'opened', ROW(now())::regress_trapper.moment, ROW('a')::regress_trapper.label);
REVOKE SELECT ON regress_trapper.event FROM regress_trapper;
RESET ROLE;
SELECT projections.catch_up('regress_trapper.totals');
SELECT projections.catch_up('regress_trapper.states');
SELECT projections.set_state('regress_trapper.machine_now', 'b', 'done', 'test');
SELECT count(*) FROM projections.verify('regress_trapper.totals');
CALL projections.rebuild('regress_trapper.states');
SELECT * FROM trap.strangers();

SET client_min_messages = error;
DROP SCHEMA regress_trapper CASCADE;
DROP OWNED BY regress_trapper;
DROP ROLE regress_trapper;
DROP SCHEMA trap CASCADE;
