-- Failures of async projections: retry, skip, resolve. As in 44_run.sql, users call C functions, which check that they
-- own the projection of the failure and then run the internal functions here.

-- The slot's lock comes before the failure's, as in a worker.
CREATE FUNCTION projections_internal._open_failure(failure_id bigint) RETURNS projections_internal.failure
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    f projections_internal.failure;
BEGIN
    SELECT * INTO STRICT f FROM projections_internal.failure x WHERE x.id = failure_id;
    LOOP
        PERFORM FROM projections_internal.slot s WHERE s.projection = f.projection AND s.slot = f.slot FOR UPDATE;
        -- A change of the number of slots may have moved it meanwhile.
        EXIT WHEN f.slot = (SELECT x.slot FROM projections_internal.failure x WHERE x.id = failure_id);
        SELECT * INTO STRICT f FROM projections_internal.failure x WHERE x.id = failure_id;
    END LOOP;
    SELECT * INTO STRICT f FROM projections_internal.failure x WHERE x.id = failure_id FOR UPDATE;
    IF f.resolved_at IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('failure %s is resolved already', failure_id),
            DETAIL = format('It was %s by %s at %s.', f.resolution, f.resolved_by, f.resolved_at),
            HINT = 'projections.failures WHERE resolved_at IS NULL lists those that are open.';
    END IF;
    RETURN f;
END
$$;
COMMENT ON FUNCTION projections_internal._open_failure(bigint) IS
    'Internal: locks an open failure and its slot; raises 55000 for a resolved one.';

CREATE FUNCTION projections.retry(failure_id bigint) RETURNS boolean
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_operate_failure';
COMMENT ON FUNCTION projections.retry(bigint) IS
'Applies a failed event again, now, and what is parked behind it if that succeeds. failure_id: of projections.failures.
Returns whether it succeeded; if not, the failure is as before, with the new error. Waits for the batch that runs.
Errors: P0002 no such failure; 42501 not the projection''s owner; 55000 it is resolved already.
Example: SELECT projections.retry(id) FROM projections.dead_letters WHERE projection = ''public.stock'' '
    'ORDER BY position;';

CREATE FUNCTION projections_internal._retry_query(projection oid, slot integer) RETURNS bigint
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'projections_retry_query';
COMMENT ON FUNCTION projections_internal._retry_query(oid, integer) IS
    'Internal: retries the failed events that are due, of a query projection''s slot; returns how many there were.';

CREATE FUNCTION projections_internal._retry(projection oid, caller text, failure_id bigint) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    f projections_internal.failure := projections_internal._open_failure(failure_id);
BEGIN
    IF (SELECT p.kind FROM projections_internal.projection p WHERE p.relation = f.projection) = 'query' THEN
        UPDATE projections_internal.failure x SET next_retry_at = clock_timestamp() WHERE x.id = failure_id;
        PERFORM projections_internal._retry_query(projection, f.slot);
    ELSE
        PERFORM projections_internal._retry_now(failure_id); -- and what is parked behind it
    END IF;
    UPDATE projections_internal.failure x SET resolved_by = caller WHERE x.id = failure_id
        AND x.resolved_at IS NOT NULL;
    RETURN FOUND;
END
$$;
COMMENT ON FUNCTION projections_internal._retry(oid, text, bigint) IS 'Internal: projections.retry().';

CREATE FUNCTION projections.retry_all(name text) RETURNS bigint
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_operate';
COMMENT ON FUNCTION projections.retry_all(text) IS
'Applies all failed events of a projection again, in order of position, and what is parked behind those that succeed.
Returns how many succeeded.
Errors: 42P01; 42809 not a projection; 42501 not the owner.
Example: SELECT projections.retry_all(''stock'');';

CREATE FUNCTION projections_internal._retry_all(projection oid, caller text) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    each bigint;
    succeeded bigint := 0;
BEGIN
    PERFORM projections_internal._lock_slots(projection);
    -- What a success sets free may fail in its turn: such failures are left for their own retry.
    FOR each IN SELECT f.id FROM projections_internal._open_failures f WHERE f.projection = $1::regclass
        ORDER BY f.position LOOP
        IF projections_internal._retry(projection, caller, each) THEN
            succeeded := succeeded + 1;
        END IF;
    END LOOP;
    RETURN succeeded;
END
$$;
COMMENT ON FUNCTION projections_internal._retry_all(oid, text) IS 'Internal: projections.retry_all().';

CREATE FUNCTION projections.skip(failure_id bigint, reason text) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_operate_failure';
COMMENT ON FUNCTION projections.skip(bigint, text) IS
'Leaves a failed event out for good, and applies what is parked behind it. Replays and resets leave it out too. reason:
is kept with the failure.
Errors: P0002 no such failure; 42501 not the projection''s owner; 55000 it is resolved already; 22004 no reason.
Example: SELECT projections.skip(17, ''test event of the vendor'');';

CREATE FUNCTION projections_internal._close_failure(projection oid, caller text, failure_id bigint, how text, why text)
    RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    f projections_internal.failure := projections_internal._open_failure(failure_id);
BEGIN
    UPDATE projections_internal.failure x
    SET resolved_at = clock_timestamp(), resolution = how, resolved_by = caller, note = why, next_retry_at = NULL
    WHERE x.id = failure_id;
    IF (SELECT p.kind FROM projections_internal.projection p WHERE p.relation = f.projection) <> 'query' THEN
        PERFORM projections_internal._apply_unblocked(projection, f.slot);
    END IF;
END
$$;
COMMENT ON FUNCTION projections_internal._close_failure(oid, text, bigint, text, text) IS
    'Internal: resolves a failure without applying its event.';

CREATE FUNCTION projections_internal._skip(projection oid, caller text, failure_id bigint, reason text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF reason IS NULL OR reason !~ '\S' THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'skipping an event needs a reason',
            DETAIL = 'The projection will lack the event for good.', HINT = 'Say in a few words why that is right.';
    END IF;
    PERFORM projections_internal._close_failure(projection, caller, failure_id, 'skipped', reason);
END
$$;
COMMENT ON FUNCTION projections_internal._skip(oid, text, bigint, text) IS 'Internal: projections.skip().';

CREATE FUNCTION projections.resolve(failure_id bigint, strategy text, note text DEFAULT NULL) RETURNS boolean
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_operate_failure';
COMMENT ON FUNCTION projections.resolve(bigint, text, text) IS
'Resolves a failure. strategy: retry, as projections.retry(); skip, as projections.skip(); resolved, which says that
somebody has put right by hand what the event should have done: like skip, but told apart in projections.failures.
note: is kept with the failure; skip needs one. Returns whether it is resolved now.
Errors: P0002 no such failure; 42501 not the projection''s owner; 55000 it is resolved already; 22023 another strategy;
22004 skip without a note.
Example: SELECT projections.resolve(17, ''resolved'', ''quantity corrected in the warehouse'');';

CREATE FUNCTION projections_internal._resolve(projection oid, caller text, failure_id bigint, strategy text, note text)
    RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    CASE strategy
        WHEN 'retry' THEN
            IF NOT projections_internal._retry(projection, caller, failure_id) THEN
                RETURN false;
            END IF;
            UPDATE projections_internal.failure f SET note = _resolve.note WHERE f.id = failure_id;
        WHEN 'skip' THEN
            PERFORM projections_internal._skip(projection, caller, failure_id, note);
        WHEN 'resolved' THEN
            PERFORM projections_internal._close_failure(projection, caller, failure_id, 'resolved', note);
        ELSE
            RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('unknown strategy %s',
                coalesce(quote_ident(strategy), 'NULL')),
                DETAIL = 'A failure is resolved by retry, skip or resolved.', HINT = 'Use ''resolved'' for what was '
                    'put right by hand.';
    END CASE;
    RETURN true;
END
$$;
COMMENT ON FUNCTION projections_internal._resolve(oid, text, bigint, text, text) IS 'Internal: projections.resolve().';

-- Skipped events, and those put right by hand, are history that replays need: they are left out there too.
CREATE FUNCTION projections_internal._expire_history() RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    retention interval := current_setting('pg_projections.history_retention');
    oldest timestamptz := CASE WHEN retention > interval '0' THEN clock_timestamp() - retention ELSE '-infinity' END;
    failures bigint;
    changes bigint;
    calls bigint;
BEGIN
    DELETE FROM projections_internal.failure f WHERE f.resolved_at < oldest AND f.resolution IN ('retried', 'reset');
    GET DIAGNOSTICS failures = ROW_COUNT;
    DELETE FROM projections_internal.checkpoint_change c WHERE c.changed_at < oldest;
    GET DIAGNOSTICS changes = ROW_COUNT;
    DELETE FROM projections_internal.audit a WHERE a.started_at < oldest;
    GET DIAGNOSTICS calls = ROW_COUNT;
    RETURN failures + changes + calls;
END
$$;
COMMENT ON FUNCTION projections_internal._expire_history() IS
'Internal: deletes what is older than pg_projections.history_retention from the histories of failures, checkpoints and '
    'calls; returns the number of rows. A worker calls it every hour.';

REVOKE EXECUTE ON FUNCTION projections_internal._open_failure(bigint), projections_internal._retry_query(oid, integer),
    projections_internal._retry(oid, text, bigint), projections_internal._retry_all(oid, text),
    projections_internal._close_failure(oid, text, bigint, text, text), projections_internal._skip(oid, text, bigint,
        text),
        projections_internal._resolve(oid, text, bigint, text, text),
    projections_internal._expire_history() FROM PUBLIC;
