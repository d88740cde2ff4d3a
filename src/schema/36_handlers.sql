-- Handlers, reducers and state machines: events one by one.

CREATE FUNCTION projections_internal._check_options(kind text, mode text, reads_events boolean, one_order boolean,
    name text,
    options jsonb) RETURNS jsonb
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'projections_check_use';
COMMENT ON FUNCTION projections_internal._check_options(text, text, boolean, boolean, text, jsonb) IS
'Internal: refuses unknown options, those without an effect on such a projection, and values they cannot have; returns '
    'the options as they are stored.';

CREATE FUNCTION projections.create_handler(name text, source text, handler regprocedure, tables text[],
    partition_by text DEFAULT NULL,
                                           event_types text[] DEFAULT NULL, mode text DEFAULT 'async',
                                               options jsonb DEFAULT '{}') RETURNS regclass
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_create_handler';
COMMENT ON FUNCTION projections.create_handler(text, text, regprocedure, text[], text, text[], text, jsonb) IS
'Calls a function once for each event of a source, in the order of positions; what it writes and the checkpoint are
committed together. name: of the projection: one of the tables, or a new name, which becomes a view of its checkpoints.
source: a registered event source. handler: fn(event <row type of the source>) RETURNS void, which writes tables by
unqualified name; neither SET search_path nor a body in SQL-standard form. tables: all tables it writes. partition_by:
an expression over the event; events with equal values stay in order, and a failed one holds back those; NULL: all
events are in one order. event_types: only these; NULL: all. mode: async, or inline (in the writer''s transaction).
options: slots, batch_size, on_failure, max_retries, event_timeout, on_dead_letter, max_rate. Existing events are
applied too, by the worker or catch_up(); inline, at once, while writers of the source are held off. Runs as the
caller, who becomes the owner: EXECUTE on the function, SELECT on the source (inline: TRIGGER too), a right to write
each table.
Errors: 55000 the source is not registered; 42P13 the function has other arguments; 0A000 the function sets search_path
or is bound to its tables, or a table has a deferred constraint; 22023 an option; 42P07 the name is taken; 42501 a
right is missing.
Example: SELECT projections.create_handler(''stock'', ''movements'', ''apply_movement(movements)'', ''{stock}'', '
    'partition_by => ''item'');';

CREATE FUNCTION projections.create_reducer(name text, source text, key text, reducer regprocedure,
    initial jsonb DEFAULT 'null',
                                           event_types text[] DEFAULT NULL, mode text DEFAULT 'async',
                                               options jsonb DEFAULT '{}') RETURNS regclass
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_create_reducer';
COMMENT ON FUNCTION projections.create_reducer(text, text, text, regprocedure, jsonb, text[], text, jsonb) IS
'Makes a table (key text, state jsonb, version bigint, position bigint, updated_at timestamptz) and folds the events of
a source into it. name: of the new table. source: a registered event source. key: an expression over the event; of an
array, the event goes to each element, to all or to none; NULL: to nobody. reducer: fn(state jsonb, event <row type of
the source>, key text) RETURNS jsonb, a pure function; NULL deletes the row. initial: the state before a key''s first
event. event_types: only these; NULL: all. mode: async or inline. options: slots (one only for an array), batch_size,
on_failure, max_retries, event_timeout, on_dead_letter, max_rate. version counts the events of the key; position is
that of the last one, updated_at its time. A CHECK on the table fails the event after which it does not hold. Inline,
events are folded at the commit, and before a read of the table; their keys are locked in one order, and where an
earlier position comes late, its key is folded anew from all its events. Returns the table. Rights and errors: as
projections.create_handler.
Example: SELECT projections.create_reducer(''balance'', ''movements'', ''item'', '
    '''add_movement(jsonb, movements, text)'', initial => ''0'');';

-- [{"from", "event", "to"}, …] as {"from": {"event": "to"}}; "" stands for the state before the first event.
CREATE FUNCTION projections_internal._state_machine(given jsonb, given_options jsonb)
    RETURNS TABLE(transitions jsonb, options jsonb, events text[], upper_case boolean)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    step jsonb;
    from_state text;
    event text;
    to_state text;
    problem text;
    states text[] := '{}';
BEGIN
    transitions := '{}';
    options := given_options;
    events := '{}';
    upper_case := coalesce((given_options->>'normalize')::boolean, false);
    IF jsonb_typeof(given) <> 'array' OR given = '[]' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'transitions must be a JSON array with at '
            'least one element',
            DETAIL = format('They are %s.', left(given::text, 100)),
            HINT = 'For example: [{"from": "open", "event": "close", "to": "closed"}]';
    END IF;
    IF upper_case THEN
        IF options ? 'initial' THEN options := jsonb_set(options, '{initial}',
            to_jsonb(upper(options->>'initial'))); END IF;
        IF options ? 'terminal' THEN
            options := jsonb_set(options, '{terminal}', (SELECT coalesce(jsonb_agg(upper(t)), '[]')
                FROM jsonb_array_elements_text(options->'terminal') AS t));
        END IF;
    END IF;
    FOR step IN SELECT * FROM jsonb_array_elements(given) LOOP
        SELECT string_agg(format('"%s"', k), ', ') INTO problem
        FROM jsonb_object_keys(CASE jsonb_typeof(step) WHEN 'object' THEN step ELSE '{"?": 0}' END) AS k
        WHERE k NOT IN ('from', 'event', 'to')
            OR jsonb_typeof(step->k) NOT IN ('string', CASE k WHEN 'from' THEN 'null' ELSE 'string' END);
        from_state := CASE WHEN upper_case THEN upper(step->>'from') ELSE step->>'from' END;
        event := CASE WHEN upper_case THEN upper(step->>'event') ELSE step->>'event' END;
        to_state := CASE WHEN upper_case THEN upper(step->>'to') ELSE step->>'to' END;
        IF problem IS NOT NULL OR event IS NULL OR to_state IS NULL OR from_state = '' OR to_state = ''
            OR event = '' THEN
            RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'a transition must be {"from": state, '
                '"event": name, "to": state}',
                DETAIL = format('This is %s.', left(step::text, 200)),
                HINT = '"from" may be null: a key''s first event. Names are strings, and not empty.';
        END IF;
        IF transitions->coalesce(from_state, '') ? event THEN
            RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
                MESSAGE = format('event "%s" has two transitions from %s', event,
                    coalesce(format('state "%s"', from_state), 'nothing')),
                DETAIL = format('They lead to "%s" and "%s".', transitions->coalesce(from_state, '')->>event, to_state),
                HINT = 'Give one transition for each pair of state and event.';
        END IF;
        transitions := transitions || jsonb_build_object(coalesce(from_state, ''),
            coalesce(transitions->coalesce(from_state, ''), '{}') || jsonb_build_object(event, to_state));
        states := states || from_state || to_state;
        events := events || event;
    END LOOP;
    events := ARRAY(SELECT DISTINCT e FROM unnest(events) AS e ORDER BY e);
    IF options->>'initial' IS NULL AND NOT transitions ? '' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'no transition can be a key''s first',
            DETAIL = 'Neither option "initial" is given, nor a transition from null.',
            HINT = 'Give the state in which keys begin: options => ''{"initial": …}''';
    END IF;
    IF options->>'initial' IS NOT NULL AND transitions ? '' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'there are two ways to begin',
            DETAIL = 'Option "initial" is given, and a transition from null, which would never be taken.',
            HINT = 'Leave one of them out.';
    END IF;
    SELECT format('state "%s" of option "%s" is not declared', s.name, s.option) INTO problem
    FROM (SELECT options->>'initial', 'initial' UNION ALL
          SELECT t, 'terminal' FROM jsonb_array_elements_text(CASE jsonb_typeof(options->'terminal')
              WHEN 'array' THEN options->'terminal' ELSE '[]' END) AS t) AS s(name, option)
    WHERE s.name IS NOT NULL AND s.name <> ALL (array_remove(states, NULL)) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = problem,
            DETAIL = format('States are those of the transitions: %s.', (SELECT string_agg(DISTINCT s, ', ')
                FROM unnest(states) AS s)),
            HINT = 'Correct the name, or add its transitions.';
    END IF;
    SELECT t INTO problem FROM jsonb_array_elements_text(coalesce(options->'terminal', '[]')) AS t WHERE transitions ? t
        LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('terminal state "%s" has a '
            'transition', problem),
            DETAIL = 'Nothing follows a terminal state.',
            HINT = 'Remove the transition, or take the state out of option "terminal".';
    END IF;
    IF NOT options ? 'terminal' THEN
        options := options || jsonb_build_object('terminal', ARRAY(
            SELECT DISTINCT s FROM unnest(states) AS s WHERE s IS NOT NULL AND NOT transitions ? s ORDER BY s));
    END IF;
    RETURN NEXT;
END
$$;
COMMENT ON FUNCTION projections_internal._state_machine(jsonb, jsonb) IS
'Internal: checks transitions and their options, and returns them as they are stored, with the types of events they '
    'wait for.';

CREATE FUNCTION projections.create_state_machine(name text, source text, key text, transitions jsonb,
    mode text DEFAULT 'async', options jsonb DEFAULT '{}') RETURNS regclass
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_create_state_machine';
COMMENT ON FUNCTION projections.create_state_machine(text, text, text, jsonb, text, jsonb) IS
'Makes a table (key, state, version, position, updated_at) with the state of each key, a JSON string, moved by the
types of its events. name, source, key, mode: as projections.create_reducer. transitions: an array of {"from": state,
"event": type, "to": state}; "from" may be null for a key''s first event. Events of other types are ignored. options:
initial (the state in which keys begin; needed unless a transition starts from null), terminal (states that nothing
follows; by default those without a transition), normalize (names of states and events in upper case), retention
(interval; async: a key that is in a terminal state for longer is deleted), and those of reducers. An event without a
transition from the key''s state is an error, PJ005, inline, and a failure in async mode. projections.transitions keeps
the history. Errors: 22023 transitions or options contradict themselves; others as projections.create_reducer.
Example: SELECT projections.create_state_machine(''tasks'', ''task_events'', ''task'',
 ''[{"from": "open", "event": "started", "to": "running"}, {"from": "running", "event": "finished", "to": "done"}]'',
options => ''{"initial": "open"}'');';

CREATE FUNCTION projections_internal._apply_unblocked(projection oid, slot int) RETURNS bigint
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'projections_apply_unblocked';
COMMENT ON FUNCTION projections_internal._apply_unblocked(oid, int) IS
    'Internal: applies the parked events of a slot that nothing holds back; returns how many.';
CREATE FUNCTION projections_internal._retry_now(failure_id bigint) RETURNS boolean
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'projections_retry_now';
COMMENT ON FUNCTION projections_internal._retry_now(bigint) IS
    'Internal: applies a failed event again, at once; returns whether it succeeded.';
REVOKE EXECUTE ON FUNCTION projections_internal._check_options(text, text, boolean, boolean, text, jsonb),
    projections_internal._apply_unblocked(oid, int), projections_internal._retry_now(bigint) FROM PUBLIC;

CREATE FUNCTION projections.set_state(name text, key text, state text, reason text) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_set_state';
COMMENT ON FUNCTION projections.set_state(text, text, text, text) IS
'Puts a key of a state machine into a state by hand, as when an event was lost. name: of the state machine. key: made
if it is new. state: one of its states. reason: kept, with the user and the time, in projections.transitions, and
repeated at this position when events are replayed. For the owner. Errors: 42809 not a state machine; 22023 not one of
its states; 22004 an argument is null; 42501 not the owner.
Example: SELECT projections.set_state(''tasks'', ''task-17'', ''done'', ''scanner was offline'');';

CREATE VIEW projections.transitions WITH (security_barrier) AS
SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) AS projection,
       t.key, t.from_state, t.event, t.to_state, t.position, t.event_time, t.reason, t.set_by, t.id
FROM projections_internal.transition t
JOIN pg_catalog.pg_class c ON c.oid = t.projection
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE pg_catalog.pg_has_role(c.relowner, 'USAGE') OR pg_catalog.pg_has_role('pg_read_all_data', 'USAGE');
COMMENT ON VIEW projections.transitions IS
'The history of state machines: each transition with the event that made it, or the reason and the user where it was
set by hand. Shown to the projection''s owner and to pg_read_all_data.';
GRANT SELECT ON projections.transitions TO PUBLIC;
