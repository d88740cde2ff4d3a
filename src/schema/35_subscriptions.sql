-- Subscriptions: readers outside the database.

CREATE FUNCTION projections_internal._poll_rows(source regclass, reader oid, partition_by text, query text,
    VARIADIC arguments "any")
    RETURNS TABLE("position" bigint, type text, key text, event jsonb, event_time timestamptz)
    LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'projections_poll_rows';
COMMENT ON FUNCTION projections_internal._poll_rows(regclass, oid, text, text, "any") IS
'Internal: the rows of _poll_query(), read as the source''s owner, each with its key, computed as the reader.';

CREATE FUNCTION projections_internal._poll_query(source regclass, event_types text[]) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('SELECT e.position::bigint, e.type, to_jsonb(e.event), e.event_time, e.event
                   FROM (%s) e WHERE e.position > $1 AND e.position <= $2 %s ORDER BY e.position LIMIT $4',
                  projections_internal._events_query(source), CASE WHEN event_types IS NOT NULL THEN 'AND e.type = ANY '
                      '($3)' ELSE '' END)
$$;
COMMENT ON FUNCTION projections_internal._poll_query(regclass, text[]) IS
    'Internal: the query of projections.poll(), over its limits, the types and the number of events.';

CREATE FUNCTION projections_internal._create_subscription(source regclass, caller text, name text, partition_by text,
    event_types text[]) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    s projections_internal.source := projections_internal._source(source);
BEGIN
    IF coalesce(name, '') = '' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'name must not be empty',
            DETAIL = 'A subscription is known by its name.', HINT = 'Name it after its reader.';
    END IF;
    IF event_types IS NOT NULL THEN
        PERFORM projections_internal._refuse_without(source, 'type');
    END IF;
    -- A bad expression shows now, and not at the first poll.
    PERFORM FROM projections_internal._poll_rows(source, quote_ident(caller)::regrole, partition_by,
        projections_internal._poll_query(source, event_types), 0, 0, event_types, 0);
    INSERT INTO projections_internal.subscription (name, source, partition_by, event_types, position, owner)
    VALUES (name, source, partition_by, event_types, s.archived_to, quote_ident(caller)::regrole)
        ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'duplicate_object', MESSAGE = format('subscription "%s" already exists', name),
            DETAIL = 'Names of subscriptions are unique in the database.', HINT = 'Choose another name, or drop it: '
                'SELECT projections.drop_subscription(…);';
    END IF;
    IF s.archived_to > 0 THEN
        RAISE WARNING 'subscription "%" begins after position %', name, s.archived_to
            USING DETAIL = 'Events before may have been deleted by projections.archive_events().';
    END IF;
END
$$;
COMMENT ON FUNCTION projections_internal._create_subscription(regclass, text, text, text, text[]) IS
    'Internal: projections.create_subscription().';

CREATE FUNCTION projections.create_subscription(name text, source text, partition_by text DEFAULT NULL,
    event_types text[] DEFAULT NULL) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_create_subscription';
COMMENT ON FUNCTION projections.create_subscription(text, text, text, text[]) IS
'Makes a place in a source''s events for a reader outside the database, who moves it with projections.poll() and ack().
It begins at the first event. name: unique in the database. partition_by: an expression over the event''s columns,
which poll returns as key, for readers that share the work; functions that are not built in are to be schema-qualified.
event_types: only these. The role that makes it owns it, and partition_by runs as that role. Needs SELECT on the
source, whose row-level security must not apply to the role.
Errors: 42P01 no such table; 42809 not an event source; 42710 the name is taken; 55000 event_types and no type column;
42703 and others where the expression does not fit; 42501 no right to read the source.
Example: SELECT projections.create_subscription(''shipping'', ''projections.events'', '
    'event_types => ARRAY[''OrderShipped'']);';

CREATE FUNCTION projections_internal._subscription(caller oid, name text) RETURNS projections_internal.subscription
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found_subscription projections_internal.subscription;
BEGIN
    SELECT * INTO found_subscription FROM projections_internal.subscription s WHERE s.name = _subscription.name;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('subscription "%s" does not exist', name),
            DETAIL = 'It was never made, or it is dropped.', HINT = 'SELECT name FROM projections.subscriptions;';
    END IF;
    IF NOT pg_has_role(caller, found_subscription.owner, 'USAGE') THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = format('must be owner of subscription "%s"',
            name),
            DETAIL = format('It belongs to %s.', found_subscription.owner), HINT = 'Have its owner, or a member of its '
                'role, do it.';
    END IF;
    RETURN found_subscription;
END
$$;
COMMENT ON FUNCTION projections_internal._subscription(oid, text) IS 'Internal: a subscription of the caller''s.';

CREATE FUNCTION projections_internal._drop_subscription(caller_role oid, caller text, name text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- A subscription holds archiving back, so the source's owner may end it.
    DELETE FROM projections_internal.subscription s
    WHERE s.name = _drop_subscription.name
      AND (pg_has_role(caller_role, s.owner, 'USAGE')
           OR pg_has_role(caller_role, (SELECT c.relowner FROM pg_class c WHERE c.oid = s.source), 'USAGE'));
    IF NOT FOUND THEN
        PERFORM projections_internal._subscription(caller_role, name);
    END IF;
END
$$;
COMMENT ON FUNCTION projections_internal._drop_subscription(oid, text, text) IS
    'Internal: projections.drop_subscription().';

-- partition_by shows the events to the subscription's owner, whoever polls.
CREATE FUNCTION projections_internal._require_reader(s projections_internal.subscription, caller oid) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    denied oid;
BEGIN
    SELECT r.role INTO denied FROM (VALUES (caller), (s.owner::oid)) AS r(role)
        WHERE NOT projections_internal._may_read(s.source, r.role) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = format('permission denied for table %s',
            projections_internal._name(s.source)),
            DETAIL = format('%I may not select from it, or its row-level security applies to that role.',
                pg_get_userbyid(denied)),
            HINT = format('GRANT SELECT ON %s TO %I;', projections_internal._name(s.source), pg_get_userbyid(denied));
    END IF;
END
$$;
COMMENT ON FUNCTION projections_internal._require_reader(projections_internal.subscription, oid) IS
    'Internal: refuses a subscription whose reader may not read the source any more.';

CREATE FUNCTION projections.drop_subscription(name text) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_look_as';
COMMENT ON FUNCTION projections.drop_subscription(text) IS
'Drops a subscription. Its owner may, and the owner of the source, whose events it holds back from being archived.
Errors: 42704 no such subscription; 42501 not the owner of one of them.
Example: SELECT projections.drop_subscription(''shipping'');';

-- Up to where poll() has handed out events of a subscription that are not acknowledged: rows are only added, so that
-- readers who share a subscription do not wait for each other, and go with the acknowledgement. Not dumped: what was
-- polled before is polled again.
CREATE TABLE projections_internal.polled (
    subscription text NOT NULL,
    position     bigint NOT NULL
);
CREATE INDEX ON projections_internal.polled (subscription, position);
ALTER TABLE projections_internal.polled REPLICA IDENTITY FULL; -- for publications of all tables
COMMENT ON TABLE projections_internal.polled IS 'Positions up to which events of a subscription have been handed out.';

CREATE FUNCTION projections_internal._note_polled(name text, last bigint) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO projections_internal.polled (subscription, position)
    SELECT name, last WHERE last IS NOT NULL AND NOT EXISTS (SELECT FROM projections_internal.polled p
        WHERE p.subscription = name AND p.position >= last);
END
$$;
COMMENT ON FUNCTION projections_internal._note_polled(text, bigint) IS 'Internal: remembers what poll() hands out.';

CREATE FUNCTION projections_internal._poll(caller_role oid, caller text, name text, max int)
    RETURNS TABLE("position" bigint, type text, key text, event jsonb, event_time timestamptz)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    s projections_internal.subscription;
    safe bigint;
    last bigint;
BEGIN
    -- A transaction's snapshot can be older than the safe position, and would pass by events that it does not see.
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        RAISE EXCEPTION USING ERRCODE = 'active_sql_transaction',
            MESSAGE = format('poll cannot run in a %s transaction', upper(current_setting('transaction_isolation'))),
            DETAIL = 'Its snapshot may be older than the position up to which all events are decided, so that events '
                'would be missed.',
            HINT = 'Poll in a READ COMMITTED transaction.';
    END IF;
    IF max IS NULL OR max < 1 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('max is '
            '%s', coalesce(max::text, 'null')),
            DETAIL = 'It is how many events are wanted at most.', HINT = 'Pass 1 or more.';
    END IF;
    s := projections_internal._subscription(caller_role, name);
    PERFORM projections_internal._require_reader(s, caller_role);
    -- First what is decided, then, in a statement of its own, a new snapshot.
    safe := projections_internal._decided(s.source, s.position + 1);
    FOR position, type, key, event, event_time IN
        SELECT * FROM projections_internal._poll_rows(s.source, s.owner, s.partition_by,
            projections_internal._poll_query(s.source, s.event_types),
                                             s.position, safe, s.event_types, max)
    LOOP
        last := position;
        RETURN NEXT;
    END LOOP;
    -- A read-only reader cannot acknowledge, either.
    IF current_setting('transaction_read_only') = 'off' THEN
        PERFORM projections_internal._note_polled(name, last);
    END IF;
END
$$;
COMMENT ON FUNCTION projections_internal._poll(oid, text, text, int) IS 'Internal: projections.poll().';

CREATE FUNCTION projections.poll(name text, max int DEFAULT 100)
    RETURNS TABLE("position" bigint, type text, key text, event jsonb, event_time timestamptz)
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'projections_look_as';
COMMENT ON FUNCTION projections.poll(text, int) IS
'The next events of a subscription, by position, up to where every event is decided: none can appear later among those
returned. max: at most so many. Where there is none while others are still writing, it waits up to a second for them.
key: partition_by of the event. The same events are returned again until projections.ack() says that they are done,
also to another session: a reader that must not do one twice notes the position along with what it writes.
Errors: 42704 no such subscription; 42501 not its owner, or no right to read the source; 25001 in REPEATABLE READ or
SERIALIZABLE; 22023 max.
Example: SELECT position, type, event FROM projections.poll(''shipping'', 500);';

CREATE FUNCTION projections_internal._ack(caller_role oid, caller text, name text, "position" bigint) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    s projections_internal.subscription := projections_internal._subscription(caller_role, name);
BEGIN
    -- The row as it is after those who acknowledge side by side.
    SELECT r.* INTO s FROM projections_internal.subscription r WHERE r.name = _ack.name FOR UPDATE;
    IF _ack.position IS NULL OR _ack.position < s.position THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('subscription "%s" cannot go back to %s', name, coalesce(_ack.position::text, 'null')),
            DETAIL = format('It has acknowledged events up to %s.', s.position),
            HINT = 'To read events again, drop the subscription and create it anew.';
    END IF;
    IF _ack.position > s.position AND NOT EXISTS (SELECT FROM projections_internal.polled p
        WHERE p.subscription = _ack.name
        AND p.position >= _ack.position) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('position %s is after the last event that poll has returned', _ack.position),
            DETAIL = 'Events that come before it would be missed. What is polled in a transaction that is rolled back '
                'does not count.',
            HINT = 'Acknowledge the position of the last event that was read.';
    END IF;
    DELETE FROM projections_internal.polled p WHERE p.subscription = _ack.name AND p.position <= _ack.position;
    UPDATE projections_internal.subscription r SET position = _ack.position, acked_at = clock_timestamp()
        WHERE r.name = _ack.name;
END
$$;
COMMENT ON FUNCTION projections_internal._ack(oid, text, text, bigint) IS 'Internal: projections.ack().';

CREATE FUNCTION projections.ack(name text, "position" bigint) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_look_as';
COMMENT ON FUNCTION projections.ack(text, bigint) IS
'Says that a subscription''s events up to a position are done: poll goes on after it. Commits with the transaction it
is called in. The same position again changes nothing. Errors: 22023 a position before the one acknowledged last, or
after the last that poll has returned; 42704 no such subscription; 42501 not its owner.
Example: SELECT projections.ack(''shipping'', 42);';

REVOKE EXECUTE ON FUNCTION projections_internal._check_append(text, bigint), projections_internal._refuse_events(jsonb),
    projections_internal._source(regclass),
    projections_internal._events_query(regclass, boolean), projections_internal._may_read(regclass, oid),
        projections_internal._rows_as_owner(regclass, text),
    projections_internal._rows_as_owner(regclass, text, "any"), projections_internal._execute_as_owner(regclass, oid,
        text, "any"),
        projections_internal._passed(regclass, text, bigint),
    projections_internal._recorded_outcomes(regclass, bigint, text, timestamptz),
        projections_internal._outcomes(regclass, text, bigint,
        text, timestamptz),
    projections_internal._event_status(regclass, text, bigint), projections_internal._correlated(regclass, text),
        projections_internal._readable_sources(oid),
    projections_internal._trace(oid, text, text), projections_internal._position_at(regclass, text, timestamptz),
        projections_internal._refuse_without(regclass, text),
    projections_internal._find_incomplete(regclass, text, text[], timestamptz),
        projections_internal._rows_query(regclass),
        projections_internal._rows_behind(regclass, jsonb),
    projections_internal._history(oid, text, jsonb), projections_internal._decided(regclass, bigint),
        projections_internal._archive_blockers(regclass, bigint),
    projections_internal._refuse_archiving(regclass, text, text), projections_internal._archive_events(regclass, text,
        timestamptz,
        boolean),
    projections_internal._poll_query(regclass, text[]), projections_internal._poll_rows(regclass, oid, text, text,
        "any"),
    projections_internal._create_subscription(regclass, text, text, text, text[]),
        projections_internal._subscription(oid, text),
    projections_internal._require_reader(projections_internal.subscription, oid),
        projections_internal._drop_subscription(oid, text, text),
    projections_internal._poll(oid, text, text, int), projections_internal._note_polled(text, bigint),
        projections_internal._flush_wal(),
        projections_internal._ack(oid, text, text, bigint) FROM PUBLIC;
