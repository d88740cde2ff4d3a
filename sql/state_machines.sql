-- State machines.
SET client_min_messages = error; -- no workers here
CREATE SCHEMA machines;
SET search_path = machines;
CREATE TABLE task_events (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, type text NOT NULL, task text, at timestamptz NOT NULL DEFAULT '2026-01-01');
SELECT projections.register_source('task_events', position_column => 'position', type_column => 'type', time_column => 'at');
CREATE FUNCTION refused(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    detail text;
    hint text;
BEGIN
    EXECUTE statement;
    RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(E'\n', SQLSTATE || ': ' || SQLERRM, nullif(detail, ''), nullif(hint, ''));
END
$$;

SELECT projections.create_state_machine('picks', 'task_events', 'task', '[
    {"from": "open", "event": "started", "to": "picking"}, {"from": "picking", "event": "short", "to": "waiting"},
    {"from": "waiting", "event": "started", "to": "picking"}, {"from": "picking", "event": "finished", "to": "done"},
    {"from": "open", "event": "cancelled", "to": "cancelled"}]', options => '{"initial": "open"}');
SELECT transitions, options, event_types FROM projections_internal.projection WHERE relation = 'picks'::regclass;
INSERT INTO task_events (type, task, at) VALUES ('started', 't1', '2026-01-02'), ('printed', 't1', '2026-01-03'), ('short', 't1', '2026-01-04'), ('cancelled', 't2', '2026-01-05'),
    ('finished', 't3', '2026-01-06'), ('started', 't1', '2026-01-07'), ('started', 't3', '2026-01-08');
SELECT projections.catch_up('picks');
SELECT * FROM picks ORDER BY key;
SELECT projection, key, from_state, event, to_state, position, event_time, set_by FROM projections.transitions ORDER BY id;
\x
SELECT position, event_type, keys, error, sqlstate, category, context, retry_count FROM projections_internal.failure WHERE projection = 'picks'::regclass;
\x
SELECT position, keys FROM projections_internal.parked_event;

-- Set by hand, then the failure is skipped and what was parked behind it applies.
SELECT projections.set_state('picks', 't3', 'picking', 'scanner was offline');
SELECT key, state, version, position FROM picks ORDER BY key;
SELECT projections.set_state('picks', 't3', 'open', 'it had not begun');
SELECT projections.skip(id, 'finished twice') FROM projections_internal.failure WHERE projection = 'picks'::regclass AND resolved_at IS NULL;
SELECT key, state, version, position FROM picks ORDER BY key;
SELECT key, from_state, event, to_state, position, reason, set_by = session_user AS by_me FROM projections.transitions WHERE key = 't3' ORDER BY id;
SELECT key, position, state, reason FROM projections_internal.override;
SELECT refused($$SELECT projections.set_state('picks', 't3', 'lost', 'no such state')$$);
SELECT refused($$SELECT projections.set_state('picks', 't3', NULL, 'no state')$$);
SELECT refused($$SELECT projections.set_state('picks', 't3', 'open', NULL)$$);

-- Who sees and who may set.
CREATE ROLE machines_guest;
CREATE ROLE machines_auditor;
GRANT pg_read_all_data TO machines_auditor;
GRANT USAGE ON SCHEMA machines TO machines_guest;
GRANT SELECT ON picks TO machines_guest;
SET ROLE machines_guest;
SELECT count(*) FROM projections.transitions;
SELECT refused($$SELECT projections.set_state('picks', 't3', 'done', 'mine')$$);
SET ROLE machines_auditor;
SELECT count(*) > 0 AS sees FROM projections.transitions;
RESET ROLE;

-- A trigger on the table runs as the owner, whoever sets a state.
CREATE ROLE machines_owner;
GRANT USAGE, CREATE ON SCHEMA machines TO machines_owner;
GRANT SELECT ON task_events TO machines_owner;
SET ROLE machines_owner;
SELECT projections.create_state_machine('owned', 'task_events', 'task', '[{"from": null, "event": "printed", "to": "printed"}]');
CREATE TABLE who (name text);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO machines.who VALUES (current_user); RETURN NULL; END';
CREATE TRIGGER note AFTER INSERT OR UPDATE ON owned FOR EACH ROW EXECUTE FUNCTION note();
RESET ROLE;
SELECT projections.catch_up('owned');
SELECT projections.set_state('owned', 't9', 'printed', 'by a superuser');
SELECT * FROM who;
SELECT key, state FROM owned ORDER BY key;

-- Names in upper case; a first event; retention of keys that are at their end.
SELECT projections.create_state_machine('shouting', 'task_events', 'task',
    '[{"from": null, "event": "Started", "to": "Busy"}, {"from": "busy", "event": "short", "to": "busy"}, {"from": "BUSY", "event": "finished", "to": "done"}]',
    options => '{"normalize": true, "retention": "30 days"}');
SELECT options, event_types FROM projections_internal.projection WHERE relation = 'shouting'::regclass;
TRUNCATE task_events;
INSERT INTO task_events (type, task, at) VALUES ('STARTED', 'old', now() - interval '90 days'), ('started', 'new', now()), ('Short', 'new', now()),
    ('finished', 'new', now()), ('started', 'busy', now() - interval '90 days'), ('FINISHED', 'old', now() - interval '60 days');
SELECT projections.catch_up('shouting');
SELECT key, state, version FROM shouting ORDER BY key;
SELECT key, to_state FROM projections.transitions WHERE projection = 'machines.shouting' ORDER BY id;

-- Inline: an event that is not allowed fails with its writer.
SELECT projections.create_state_machine('strict', 'task_events', 'task',
    '[{"from": null, "event": "new", "to": "open"}, {"from": "open", "event": "close", "to": "closed"}]', mode => 'inline');
INSERT INTO task_events (type, task) VALUES ('new', 's1'), ('new', 's2'), ('close', 's1');
\set VERBOSITY verbose
\set SHOW_CONTEXT never
DO $$ BEGIN INSERT INTO machines.task_events (type, task) VALUES ('close', 's1'); EXCEPTION WHEN SQLSTATE 'PJ005' THEN RAISE WARNING '%', SQLERRM; END $$;
\set VERBOSITY default
SELECT refused($$INSERT INTO task_events (type, task) VALUES ('new', 's2')$$);
SELECT key, state FROM strict ORDER BY key;
SELECT key, from_state, event, to_state FROM projections.transitions WHERE projection = 'machines.strict' ORDER BY id;
SELECT projections.set_state('strict', 's1', 'open', 'reopened');
INSERT INTO task_events (type, task) VALUES ('close', 's1');
SELECT key, state, version FROM strict ORDER BY key;

-- Refused.
\pset tuples_only
\pset format unaligned
SELECT refused(format($$SELECT projections.create_state_machine('m', 'task_events', 'task', %L, options => %L)$$, transitions, options))
FROM (VALUES
    ('{}', '{}'), ('[]', '{}'), ('[1]', '{}'), ('[{"from": "a", "event": "e"}]', '{"initial": "a"}'), ('[{"from": "a", "event": "e", "to": "b", "if": "x"}]', '{"initial": "a"}'),
    ('[{"from": "a", "event": "e", "to": ""}]', '{"initial": "a"}'),
    ('[{"from": "a", "event": "e", "to": "b"}]', '{}'), ('[{"from": "a", "event": "e", "to": "b"}]', '{"initial": "c"}'),
    ('[{"from": null, "event": "e", "to": "b"}]', '{"initial": "b"}'),
    ('[{"from": "a", "event": "e", "to": "b"}]', '{"initial": "a", "terminal": ["c"]}'), ('[{"from": "a", "event": "e", "to": "b"}]', '{"initial": "a", "terminal": ["a"]}'),
    ('[{"from": "a", "event": "e", "to": "b"}, {"from": "a", "event": "e", "to": "c"}]', '{"initial": "a"}'),
    ('[{"from": "a", "event": "e", "to": "b"}, {"from": "A", "event": "E", "to": "B"}]', '{"initial": "a", "normalize": true}'),
    ('[{"from": "a", "event": "e", "to": "b"}]', '{"initial": "a", "terminal": "b"}'), ('[{"from": "a", "event": "e", "to": "b"}]', '{"initial": 7}')
) AS v(transitions, options);
\pset tuples_only
\pset format aligned

SELECT projections.drop(relation::text) FROM projections_internal.projection ORDER BY relation;
SELECT count(*) FROM projections_internal.transition;
SELECT projections.unregister_source('task_events');
\set VERBOSITY terse
DROP SCHEMA machines CASCADE;
DROP ROLE machines_guest;
DROP ROLE machines_auditor;
DROP ROLE machines_owner;
