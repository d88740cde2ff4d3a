-- Run.
--
-- A function that users call is in C (src/operate/run.cpp): it checks there that the caller owns the projection, as a
-- SECURITY DEFINER function could not tell who called it, and then runs the internal function of the same name with a
-- leading underscore, as a superuser. That gets the projection's OID, the caller's name, and the arguments. What has to
-- run a user's code goes back to the owner.

-- The slots' row locks keep workers away until the end of the transaction.
CREATE FUNCTION projections_internal._lock_slots(projection oid) RETURNS SETOF projections_internal.slot
    LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    SELECT * FROM projections_internal.slot s WHERE s.projection = $1::regclass ORDER BY s.slot FOR UPDATE
$$;
COMMENT ON FUNCTION projections_internal._lock_slots(oid) IS 'Internal: locks the slots of a projection, in order.';

CREATE FUNCTION projections_internal._parts(projection oid, outer_first boolean) RETURNS SETOF oid
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT p.relation::oid FROM projections_internal.projection p
    WHERE p.part_of = $1 ORDER BY projections_internal._depth(p.relation) * CASE WHEN outer_first THEN -1 ELSE 1 END,
        p.relation::oid
$$;
COMMENT ON FUNCTION projections_internal._parts(oid, boolean) IS
    'Internal: the parts of a projection, those first that others read, or that read others.';
REVOKE EXECUTE ON FUNCTION projections_internal._parts(oid, boolean) FROM PUBLIC;

-- ----------------------------------------------------------------------------------------------------------------
-- pause

CREATE FUNCTION projections.pause(name text, reason text) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_operate';
COMMENT ON FUNCTION projections.pause(text, text) IS
'Stops the maintenance of a projection until resume(). An async one keeps its checkpoint; an inline one logs its
changes from now on, and its table stays as it is (an inline handler or reducer cannot be paused). reason: is shown in
health(). Returns when the batch that runs now has ended; paused again, it changes the reason.
Errors: 42P01; 42809 not a projection; 42501 not the owner; 22004 no reason; 0A000 an inline handler or reducer.
Example: SELECT projections.pause(''stock'', ''stock take in hall 3'');';

CREATE FUNCTION projections_internal._pause(projection oid, caller text, reason text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    was projections_internal.projection;
BEGIN
    IF reason IS NULL OR reason !~ '\S' THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'a pause needs a reason',
            DETAIL = 'It is what others see in projections.health() until somebody resumes.',
                HINT = 'Say in a few words why.';
    END IF;
    PERFORM projections_internal._lock_slots(projection);
    SELECT * INTO STRICT was FROM projections_internal.projection p WHERE p.relation = projection::regclass FOR UPDATE;
    IF was.mode = 'inline' AND was.kind <> 'query' THEN
        RAISE EXCEPTION USING ERRCODE = 'feature_not_supported',
            MESSAGE = format('inline projection %s cannot be paused', projections_internal._name(was.relation)),
            DETAIL = 'Its function is called for each event in the transaction that appends it; nothing keeps the '
                'events for later.',
            HINT = 'Create it with mode => ''async'' to be able to pause it.';
    ELSIF was.paused_at IS NULL AND was.mode = 'inline' THEN
        PERFORM projections_internal._pause_inline(projection);
    END IF;
    UPDATE projections_internal.projection p SET paused_at = coalesce(p.paused_at, clock_timestamp()),
        paused_by = caller,
        pause_reason = reason
    WHERE p.relation = projection::regclass;
    PERFORM projections_internal._pause(q, caller, reason) FROM projections_internal._parts(projection, true) q;
END
$$;
COMMENT ON FUNCTION projections_internal._pause(oid, text, text) IS 'Internal: projections.pause().';

CREATE FUNCTION projections.resume(name text) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_operate';
COMMENT ON FUNCTION projections.resume(text) IS
'Ends a pause. An async projection goes on from its checkpoint; an inline one first applies what it has logged. Not
paused: nothing to do.
Errors: 42P01; 42809 not a projection; 42501 not the owner.
Example: SELECT projections.resume(''stock'');';

CREATE FUNCTION projections_internal._resume(projection oid, caller text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    was projections_internal.projection;
BEGIN
    SELECT * INTO STRICT was FROM projections_internal.projection p WHERE p.relation = projection::regclass FOR UPDATE;
    IF was.paused_at IS NULL THEN
        RETURN;
    END IF;
    IF was.mode = 'inline' THEN
        PERFORM projections_internal._hold_off_writers(projection);
    END IF;
    -- What they apply is logged here, and applied next.
    PERFORM projections_internal._resume(q, caller) FROM projections_internal._parts(projection, false) q;
    UPDATE projections_internal.projection p SET paused_at = NULL, paused_by = NULL, pause_reason = NULL
        WHERE p.relation = projection::regclass;
    IF was.mode = 'inline' THEN
        PERFORM projections_internal._resume_inline(projection);
    END IF;
END
$$;
COMMENT ON FUNCTION projections_internal._resume(oid, text) IS 'Internal: projections.resume().';

-- What is done to many finds each as it is then.
CREATE FUNCTION projections_internal._hold(projection oid) RETURNS boolean
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'projections_hold';
COMMENT ON FUNCTION projections_internal._hold(oid) IS
    'Internal: holds off, to the end of the transaction, who would drop the projection; false where it is gone.';
CREATE FUNCTION projections_internal._let_go(projection oid) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'projections_let_go';
COMMENT ON FUNCTION projections_internal._let_go(oid) IS
    'Internal: gives back the locks of _hold(), once what was done to the projection holds off who would drop it.';
REVOKE EXECUTE ON FUNCTION projections_internal._hold(oid), projections_internal._let_go(oid) FROM PUBLIC;

CREATE FUNCTION projections.pause_all(reason text) RETURNS bigint
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_operate_all';
COMMENT ON FUNCTION projections.pause_all(text) IS
'Pauses every projection that the caller owns and that is not paused; inline handlers and reducers go on. Returns how
many. Errors: as projections.pause().
Example: SELECT projections.pause_all(''the disk is nearly full'');';

CREATE FUNCTION projections_internal._pause_all(caller_role oid, caller text, reason text) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    each oid;
    paused bigint := 0;
BEGIN
    FOR each IN SELECT p.relation FROM projections_internal.projection p JOIN pg_class c ON c.oid = p.relation
                WHERE p.paused_at IS NULL AND p.shadow_of IS NULL AND p.part_of IS NULL AND NOT p.building
                    AND (p.mode = 'async' OR p.kind = 'query') AND pg_has_role(caller_role, c.relowner, 'USAGE')
                    ORDER BY p.relation LOOP
        IF NOT projections_internal._hold_off_rebuild(each) THEN
            RAISE WARNING 'projection % is being rebuilt and goes on', projections_internal._name(each::regclass)
                USING HINT = format('SELECT projections.cancel_rebuild(%L); then pause it.',
                    projections_internal._name(each::regclass));
        ELSIF projections_internal._hold(each) THEN
            PERFORM projections_internal._pause(each, caller, reason);
            PERFORM projections_internal._let_go(each);
            paused := paused + 1;
        END IF;
    END LOOP;
    RETURN paused;
END
$$;
COMMENT ON FUNCTION projections_internal._pause_all(oid, text, text) IS 'Internal: projections.pause_all().';

CREATE FUNCTION projections.resume_all() RETURNS bigint
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_operate_all';
COMMENT ON FUNCTION projections.resume_all() IS
'Ends the pause of every projection that the caller owns. Returns how many were paused. Errors: as projections.resume().
Example: SELECT projections.resume_all();';

CREATE FUNCTION projections_internal._resume_all(caller_role oid, caller text) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    each oid;
    resumed bigint := 0;
BEGIN
    FOR each IN SELECT p.relation FROM projections_internal.projection p JOIN pg_class c ON c.oid = p.relation
                WHERE p.paused_at IS NOT NULL AND pg_has_role(caller_role, c.relowner, 'USAGE') ORDER BY p.relation LOOP
        IF projections_internal._hold(each) THEN
            PERFORM projections_internal._resume(each, caller);
            PERFORM projections_internal._let_go(each);
            resumed := resumed + 1;
        END IF;
    END LOOP;
    RETURN resumed;
END
$$;
COMMENT ON FUNCTION projections_internal._resume_all(oid, text) IS 'Internal: projections.resume_all().';

-- -----------------------------------------------------------------------------------------------------------------
-- wait

CREATE FUNCTION projections.wait_for(name text, "position" bigint DEFAULT NULL, timeout interval DEFAULT '5 s')
    RETURNS boolean
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_wait_for';
COMMENT ON FUNCTION projections.wait_for(text, bigint, interval) IS
'Waits until a projection has applied its source up to a position. position: of an event; NULL: everything that was
committed before the call. timeout: how long at most; NULL: until statement_timeout. Returns whether it got there.
Events that failed or are parked behind a failure count as done:
projections.failures tells of them. An inline projection is there at once. Also waits in REPEATABLE READ, though the
transaction''s own queries do not see what came after its snapshot. While it waits, its own snapshot keeps dead rows
from being removed: rather than minutes, wait seconds, and again in a new transaction. Any role may call it.
Errors: 42P01; 42809 not a projection; 55000 the transaction itself has appended events, which nobody can apply before
it commits.
Example: SELECT projections.wait_for(''stock'', timeout => ''1 s'');';

CREATE FUNCTION projections.read(name text, key jsonb, max_wait interval) RETURNS jsonb
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_read';
COMMENT ON FUNCTION projections.read(text, jsonb, interval) IS
'A row as of now: waits until the projection has applied what was committed before the call, and reads it; where that
takes longer than max_wait, works the row out from the definition: a query for this key, or the events that a reducer
has not folded yet. key: one object {column: value} of columns that determine the row, as refresh_rows() takes them; of
a reducer or state machine {"key": value}. Returns the row, or NULL where there is none. A key whose events are parked
behind a failure gives the row as it is. Needs SELECT on all of the projection, whose row-level security must not apply
to the caller: it is read as its owner.
Errors: 22023 the object determines no rows; 21000 it determines several; 0A000 a handler, or a projection without a
key; 42501; 55000 as projections.wait_for().
Example: SELECT projections.read(''stock'', ''{"item": "A1"}'', ''200 ms'');';

CREATE FUNCTION projections_internal._kept_history(projection oid) RETURNS bigint
    LANGUAGE c STRICT STABLE AS 'MODULE_PATHNAME', 'projections_kept_history';
COMMENT ON FUNCTION projections_internal._kept_history(oid) IS
    'Internal: up to which position events may be gone that a projection is to keep counted; 0: there are none.';

CREATE FUNCTION projections_internal._refuse_archived(projection oid, after bigint) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s projections_internal.source;
BEGIN
    SELECT x.* INTO s FROM projections_internal.projection p JOIN projections_internal.source x
        ON x.relation = p.sources[1]
    WHERE p.relation = projection::regclass AND p.mode = 'async'
        AND projections_internal._kept_history(projection) > after;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    RAISE EXCEPTION USING ERRCODE = 'PJ006',
        MESSAGE = format('history of %s that projection %s would need is archived',
            projections_internal._name(s.relation),
            projections_internal._name(projection)),
        DETAIL = format('Events up to position %s may have been deleted; those after %s are needed.', s.archived_to,
            after),
        HINT = 'Restore the events first; or keep the totals that the projection has; or set option "detached" to '
            '"remove", with which they are taken away.';
END
$$;
COMMENT ON FUNCTION projections_internal._refuse_archived(oid, bigint) IS
    'Internal: raises PJ006 where events after a position are gone.';

-- ----------------------------------------------------------------------------------------------------------
-- checkpoints

CREATE FUNCTION projections_internal._move_slots(projection oid, target bigint, caller text, reason text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    allowed text := coalesce(current_setting('pg_projections._allow_regression', true), 'off');
BEGIN
    INSERT INTO projections_internal.checkpoint_change (projection, slot, before, position, changed_by, reason)
    SELECT s.projection, s.slot, s.position, target, caller, _move_slots.reason FROM projections_internal.slot s
        WHERE s.projection = $1::regclass ORDER BY s.slot;
    PERFORM set_config('pg_projections._allow_regression', 'on', true);
    UPDATE projections_internal.slot s SET position = target, event_time = NULL, checkpoint_at = clock_timestamp(),
        not_before = NULL
    WHERE s.projection = $1::regclass;
    PERFORM set_config('pg_projections._allow_regression', allowed, true);
END
$$;
COMMENT ON FUNCTION projections_internal._move_slots(oid, bigint, text, text) IS
    'Internal: sets the position of all slots of a projection, which are locked, and notes it.';

CREATE FUNCTION projections_internal._require_async(projection oid, action text) RETURNS projections_internal.projection
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    p projections_internal.projection;
BEGIN
    SELECT * INTO STRICT p FROM projections_internal.projection x WHERE x.relation = projection::regclass;
    IF p.mode <> 'async' THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('cannot %s %s: it is an inline projection', action,
                projections_internal._name(p.relation)),
            DETAIL = 'It is kept up to date in the transactions that change its sources, and has no checkpoint.',
            HINT = format('CALL projections.rebuild(%L); computes all of it anew.',
                projections_internal._name(p.relation));
    END IF;
    RETURN p;
END
$$;
COMMENT ON FUNCTION projections_internal._require_async(oid, text) IS
    'Internal: the catalog row of an async projection; raises 55000 for an inline one.';

CREATE FUNCTION projections.reset(name text) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_operate';
COMMENT ON FUNCTION projections.reset(text) IS
'Starts an async projection anew: empties its table (of a handler: all the tables that it lists), forgets checkpoint,
failures and parked events, and applies all events again, from the first one. A query over tables that change is filled
again at once. States set by hand and skipped events are repeated at their positions. Readers see the empty table once
this commits. Noted in projections.checkpoint_history.
Errors: 42P01; 42809 not a projection; 42501 not the owner; 55000 an inline projection; PJ006 first events are archived
away.
Example: SELECT projections.reset(''stock'');';

CREATE FUNCTION projections_internal._empty(projection oid) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'projections_empty';
COMMENT ON FUNCTION projections_internal._empty(oid) IS
'Internal: leaves in a projection, whose slots are locked, what its definition gives before the first event; a query '
    'over tables that change is filled anew.';

CREATE FUNCTION projections_internal._reset(projection oid, caller text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    p projections_internal.projection := projections_internal._require_async(projection, 'reset');
BEGIN
    PERFORM projections_internal._refuse_archived(projection, 0);
    PERFORM projections_internal._reset(q, caller) FROM projections_internal._parts(projection, false) q;
    PERFORM projections_internal._lock_slots(projection);
    -- Rows that somebody has deleted: without them nothing would be applied any more.
    INSERT INTO projections_internal.slot (projection, slot)
    SELECT p.relation, n FROM generate_series(0, coalesce((p.options ->> 'slots')::integer, 1) - 1) n
    ON CONFLICT DO NOTHING;
    PERFORM projections_internal._empty(projection);
    DELETE FROM projections_internal.parked_event e WHERE e.projection = p.relation;
    DELETE FROM projections_internal.transition t WHERE t.projection = p.relation AND t.set_by IS NULL;
    UPDATE projections_internal.failure f SET resolved_at = clock_timestamp(), resolution = 'reset',
        resolved_by = caller,
        next_retry_at = NULL
    WHERE f.projection = p.relation AND f.resolved_at IS NULL;
    -- A change log is empty now, whatever number its last change had.
    PERFORM projections_internal._move_slots(projection, CASE WHEN p.changes = '{}' THEN 0 ELSE (SELECT r.highest
        FROM projections_internal._reached r WHERE r.projection = p.relation) END,
                                    caller, 'reset');
    UPDATE projections_internal.slot s SET events_processed = 0 WHERE s.projection = p.relation;
    UPDATE projections_internal.projection x SET stale_since = NULL, stale_reason = NULL WHERE x.relation = p.relation
        AND x.stale_since IS NOT NULL;
END
$$;
COMMENT ON FUNCTION projections_internal._reset(oid, text) IS 'Internal: projections.reset().';

CREATE FUNCTION projections.set_checkpoint(name text, "position" bigint, allow_regression boolean DEFAULT false)
    RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_operate';
COMMENT ON FUNCTION projections.set_checkpoint(text, bigint, boolean) IS
'Tells an async projection, in all its slots, that it has applied its source up to a position. Its contents stay as
they are: going forward skips events, going back applies them again. position: 0 for none; at most the head.
allow_regression: whether it may go back. Noted in projections.checkpoint_history.
Errors: 42P01; 42809 not a projection; 42501 not the owner; 22023 beyond the head, or below 0; 55000 back without
leave, or not over events; PJ006 it would need archived events.
Example: SELECT projections.set_checkpoint(''stock'', 41000);';

CREATE FUNCTION projections_internal._set_checkpoint(projection oid, caller text, target bigint,
    allow_regression boolean)
    RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    p projections_internal.projection := projections_internal._require_async(projection, 'set a checkpoint of');
    reached bigint;
    head bigint;
BEGIN
    IF p.changes <> '{}' THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('projection %s has no checkpoint that could be set',
                projections_internal._name(p.relation)),
            DETAIL = 'It reads tables that change: what it has applied of their changes is gone from its log.',
            HINT = format('SELECT projections.reset(%L); fills it again.', projections_internal._name(p.relation));
    END IF;
    SELECT max(s.position) INTO reached FROM projections_internal._lock_slots(projection) s;
    head := greatest((SELECT h.head FROM projections_internal._head(p.sources[1]) h),
        (SELECT x.archived_to FROM projections_internal.source x WHERE x.relation = p.sources[1]));
    IF target IS NULL OR target < 0 OR target > greatest(head, reached) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('cannot set the checkpoint of %s to %s', projections_internal._name(p.relation),
                coalesce(target::text, 'NULL')),
            DETAIL = format('A checkpoint is between 0 and the position of the last event, which is %s.', head),
            HINT = 'Events beyond it would be missed when they come.';
    END IF;
    IF target < reached AND allow_regression IS NOT TRUE THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('checkpoint of %s would go back from %s to %s', projections_internal._name(p.relation),
                reached,
                target),
            DETAIL = 'Events would be applied again to contents that have them already.',
            HINT = 'Pass allow_regression => true if the contents were put back too; or use projections.reset().';
    END IF;
    PERFORM projections_internal._refuse_archived(projection, target);
    PERFORM projections_internal._move_slots(projection, target, caller, 'set_checkpoint');
END
$$;
COMMENT ON FUNCTION projections_internal._set_checkpoint(oid, text, bigint, boolean) IS
    'Internal: projections.set_checkpoint().';

-- ---------------------------------------------------------------------------------------------------------------
-- replay

CREATE FUNCTION projections.replay(name text, from_position bigint, to_position bigint, force boolean DEFAULT false)
    RETURNS bigint
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_operate';
COMMENT ON FUNCTION projections.replay(text, bigint, bigint, boolean) IS
'Repairs what events from one position to another, both included, have done. A query, a reducer or a state machine:
recomputes the keys that those events touch from the beginning of history to the checkpoint, without events that
failed, are parked or were skipped, and with the states that were set by hand. A handler: calls it again for each of
the events up to the checkpoint, only with force, as nothing undoes what it did the first time. Returns the number of
keys, or of a handler''s events. Workers wait meanwhile. Errors: 42P01; 42809 not a projection; 42501 not the owner;
55000 an inline projection, or a handler without force; 22023 no such range; PJ006 history is archived away; of a
handler or reducer, what it raises.
Example: SELECT projections.replay(''stock'', 4711, 4711);';

CREATE FUNCTION projections_internal._refold_events(projection oid, from_position bigint, to_position bigint)
    RETURNS bigint
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'projections_refold_events';
COMMENT ON FUNCTION projections_internal._refold_events(oid, bigint, bigint) IS
'Internal: folds the keys that events of a range touch from the beginning, of a reducer or state machine whose slots '
    'are locked.';
CREATE FUNCTION projections_internal._repeat_events(projection oid, from_position bigint, to_position bigint)
    RETURNS bigint
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'projections_repeat_events';
COMMENT ON FUNCTION projections_internal._repeat_events(oid, bigint, bigint) IS
    'Internal: calls a handler, whose slots are locked, again for events of a range.';

CREATE FUNCTION projections_internal._replay(projection oid, caller text, from_position bigint, to_position bigint,
    force boolean) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    p projections_internal.projection := projections_internal._require_async(projection, 'replay events of');
    done bigint;
BEGIN
    IF p.changes <> '{}' THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('projection %s has no events to replay', projections_internal._name(p.relation)),
            DETAIL = 'It reads tables that change.', HINT = 'projections.refresh_rows() recomputes rows by key.';
    ELSIF from_position IS NULL OR to_position IS NULL OR from_position > to_position OR from_position < 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('%s to %s is no range of positions', coalesce(from_position::text, 'NULL'),
                coalesce(to_position::text, 'NULL')),
            DETAIL = 'Both ends are positions of events, and included.', HINT = 'Give the same position twice for one '
                'event.';
    ELSIF p.kind = 'handler' AND force IS NOT TRUE THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('replaying events of handler %s would apply them twice',
                projections_internal._name(p.relation)),
            DETAIL = 'Nothing undoes what the handler did the first time.',
            HINT = 'Pass force => true if the handler may see an event again; or use projections.reset().';
    END IF;
    PERFORM projections_internal._refuse_archived(projection, CASE p.kind WHEN 'handler' THEN from_position - 1
        ELSE 0 END);
    PERFORM projections_internal._lock_slots(projection);
    done := CASE p.kind WHEN 'query' THEN projections_internal._recompute_events(projection, from_position, to_position)
                        WHEN 'handler' THEN projections_internal._repeat_events(projection, from_position, to_position)
                        ELSE projections_internal._refold_events(projection, from_position, to_position) END;
    INSERT INTO projections_internal.checkpoint_change (projection, slot, before, position, changed_by, reason)
    SELECT s.projection, s.slot, s.position, s.position, caller, format('replay of %s to %s', from_position,
        to_position)
    FROM projections_internal.slot s WHERE s.projection = p.relation ORDER BY s.slot;
    RETURN done;
END
$$;
COMMENT ON FUNCTION projections_internal._replay(oid, text, bigint, bigint, boolean) IS
    'Internal: projections.replay().';

REVOKE EXECUTE ON FUNCTION projections_internal._lock_slots(oid), projections_internal._pause(oid, text, text),
    projections_internal._resume(oid, text), projections_internal._pause_all(oid, text, text),
    projections_internal._resume_all(oid, text), projections_internal._refuse_archived(oid, bigint),
    projections_internal._kept_history(oid),
    projections_internal._move_slots(oid, bigint, text, text), projections_internal._require_async(oid, text),
    projections_internal._empty(oid), projections_internal._reset(oid, text),
    projections_internal._set_checkpoint(oid, text, bigint, boolean),
    projections_internal._replay(oid, text, bigint, bigint, boolean),
    projections_internal._refold_events(oid, bigint, bigint), projections_internal._repeat_events(oid, bigint, bigint)
    FROM PUBLIC;
