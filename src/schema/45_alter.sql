-- Alter: options, slots, query and mode. The procedure runs as its caller: what it calls is in C, which checks, as in
-- 44_run.sql, that the caller owns the projection, and runs the function of that name with one more underscore.

CREATE FUNCTION projections_internal._alter_options(name text, options jsonb) RETURNS integer
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_operate';
COMMENT ON FUNCTION projections_internal._alter_options(text, jsonb) IS
'Internal: changes options, by the projection''s owner; returns the number of slots that it is to have, or NULL where '
    'that stays.';

CREATE FUNCTION projections_internal._follow_key_option(projection oid) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'projections_follow_key_option';
COMMENT ON FUNCTION projections_internal._follow_key_option(oid) IS
    'Internal: makes the table of a projection say of its key what option key_not_null says now.';

-- Options that are NULL are taken away.
CREATE FUNCTION projections_internal.__alter_options(projection oid, caller text, changes jsonb) RETURNS integer
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    p projections_internal.projection;
    slots integer;
    key_not_null boolean;
BEGIN
    SELECT * INTO STRICT p FROM projections_internal.projection x WHERE x.relation = projection::regclass FOR UPDATE;
    key_not_null := p.options @> '{"key_not_null": true}';
    IF changes ? 'fallback' AND changes ->> 'fallback' IS DISTINCT FROM p.options ->> 'fallback' THEN
        RAISE EXCEPTION USING ERRCODE = 'feature_not_supported', MESSAGE = 'option "fallback" cannot be changed',
            DETAIL = 'How a projection is followed is decided when it is created.',
            HINT = 'Drop the projection, and create it anew.';
    END IF;
    p.options := jsonb_strip_nulls(p.options || changes);
    p.options := projections_internal._check_options(p.kind, p.mode, p.changes = '{}', p.one_order,
        projections_internal._name(p.relation), p.options);
    slots := coalesce((p.options ->> 'slots')::integer, 1);
    IF p.mode <> 'async' OR slots = (SELECT r.slots FROM projections_internal._reached r
        WHERE r.projection = p.relation) THEN
        slots := NULL;
    END IF;
    -- The number of slots changes with the slots.
    UPDATE projections_internal.projection x
    SET options = CASE WHEN slots IS NULL THEN p.options
                       WHEN x.options ? 'slots' THEN p.options || jsonb_build_object('slots', x.options -> 'slots')
                       ELSE p.options - 'slots' END
    WHERE x.relation = p.relation;
    IF key_not_null <> p.options @> '{"key_not_null": true}' THEN
        PERFORM projections_internal._follow_key_option(p.relation);
    END IF;
    RETURN slots;
END
$$;
COMMENT ON FUNCTION projections_internal.__alter_options(oid, text, jsonb) IS
    'Internal: projections_internal._alter_options().';

CREATE FUNCTION projections_internal._change_slots(name text, slots integer) RETURNS boolean
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_operate';
COMMENT ON FUNCTION projections_internal._change_slots(text, integer) IS
'Internal: replaces the slots of a projection, by its owner, if all of them can be brought to one position soon; else '
    'brings them nearer and returns false.';

CREATE FUNCTION projections_internal._advance_to(projection oid, slot integer, target bigint, max_events bigint)
    RETURNS bigint
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'projections_advance_to';
COMMENT ON FUNCTION projections_internal._advance_to(oid, integer, bigint, bigint) IS
'Internal: applies the events of one slot up to a position that is decided, about so many at most; returns how far it '
    'came.';

CREATE FUNCTION projections_internal.__change_slots(projection oid, caller text, slots integer) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    p projections_internal.projection;
    barrier bigint;
    locked projections_internal.slot[];
    s projections_internal.slot;
    came bigint;
    reached boolean := true;
    advanced boolean := false;
BEGIN
    FOR s IN SELECT * FROM projections_internal._lock_slots(projection) LOOP
        locked := locked || s;
        barrier := greatest(barrier, s.position);
    END LOOP;
    SELECT * INTO STRICT p FROM projections_internal.projection x WHERE x.relation = projection::regclass FOR UPDATE;
    PERFORM projections_internal._check_options(p.kind, p.mode, p.changes = '{}', p.one_order,
        projections_internal._name(p.relation),
        p.options || jsonb_build_object('slots', slots));
    FOREACH s IN ARRAY locked LOOP
        CONTINUE WHEN s.position = barrier;
        -- about a worker's batch: so long are the slots locked
        came := projections_internal._advance_to(projection, s.slot, barrier, 10000);
        advanced := advanced OR came > s.position;
        reached := reached AND came >= barrier;
    END LOOP;
    IF NOT reached AND NOT advanced THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('the slots of %s cannot be brought to one position',
                projections_internal._name(p.relation)),
            DETAIL = 'One of them stands still before an event that fails.',
            HINT = format('SELECT * FROM projections.failures WHERE projection = %L AND resolved_at IS NULL; then '
                'retry() or skip() it.', projections_internal._name(p.relation));
    ELSIF NOT reached THEN
        RETURN false;
    END IF;
    INSERT INTO projections_internal.checkpoint_change (projection, slot, before, position, changed_by, reason)
    SELECT p.relation, n, o.position, barrier, caller, format('slots: %s to %s', cardinality(locked), slots)
    FROM generate_series(0, slots - 1) n LEFT JOIN projections_internal.slot o ON o.projection = p.relation
        AND o.slot = n;
    WITH gone AS (
        DELETE FROM projections_internal.slot x WHERE x.projection = p.relation RETURNING x.*
    )
    INSERT INTO projections_internal.slot (projection, slot, position, event_time, events_processed)
    SELECT p.relation, n, barrier, (SELECT max(g.event_time) FROM gone g),
           CASE n WHEN 0 THEN (SELECT sum(g.events_processed) FROM gone g) ELSE 0 END
    FROM generate_series(0, slots - 1) n;
    -- What waits, waits where its key will be: the engine deals keys out by this hash, and those it could not read to
    -- the first slot.
    UPDATE projections_internal.failure f SET slot = projections_internal._slot_of(f.keys[1], slots)
    WHERE f.projection = p.relation AND f.resolved_at IS NULL AND p.kind <> 'query';
    UPDATE projections_internal.failure f SET slot = projections_internal._stripe_of(f.position, slots)
    WHERE f.projection = p.relation AND f.resolved_at IS NULL AND p.kind = 'query';
    UPDATE projections_internal.parked_event e SET slot = projections_internal._slot_of(e.keys[1], slots)
    WHERE e.projection = p.relation;
    UPDATE projections_internal.projection x SET options = x.options || jsonb_build_object('slots', slots)
        WHERE x.relation = p.relation;
    RETURN true;
END
$$;
COMMENT ON FUNCTION projections_internal.__change_slots(oid, text, integer) IS
    'Internal: projections_internal._change_slots().';

-- A procedure that commits can have no SET clause: every name in it is qualified, operators too.
CREATE PROCEDURE projections.alter(name text, query text DEFAULT NULL, mode text DEFAULT NULL,
    options jsonb DEFAULT NULL)
    LANGUAGE plpgsql AS $$
DECLARE
    slots integer;
BEGIN
    IF options IS NULL AND query IS NULL AND mode IS NULL
        OR pg_catalog.jsonb_typeof(options) OPERATOR(pg_catalog.<>) 'object' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'options must be a JSON object',
            DETAIL = 'They are what is to be changed.', HINT = 'Pass, for example, options => ''{"slots": 4}''; null '
                'takes an option back to its default.';
    END IF;
    IF options IS NOT NULL THEN
        slots := projections_internal._alter_options(name, options);
        COMMIT;
    END IF;
    IF slots IS NOT NULL THEN
        WHILE NOT projections_internal._change_slots(name, slots) LOOP
            COMMIT;
        END LOOP;
        COMMIT;
    END IF;
    IF query IS NOT NULL OR mode IS NOT NULL THEN
        CALL projections_internal._redefine(name, query, mode);
    END IF;
END
$$;
COMMENT ON PROCEDURE projections.alter(text, text, text, jsonb) IS
'Changes a projection while it is used. options: those to be changed; null takes one back to its default. A change of
slots brings all slots to one position first, in transactions of its own, and then replaces them there; nothing is
applied twice or left out. query: another SELECT, by the names of the caller''s search_path; mode: inline or async. For
these the new table is built beside the old one and put in its place like a rebuild''s (see projections.rebuilds), and
writers of the sources wait for a moment at the end. Columns that the new query has at the same place with the same
type stay; others are dropped or added, where nothing uses them.
Errors: 22023 an option is unknown, or its value not possible; PJ002 the query cannot be a projection; 2BP01 columns
that go are used by what DETAIL lists; 55000 it is published, foreign keys refer to it, or other projections read it;
0A000 query or mode of a handler, reducer or state machine; 25001, 2D000 inside a transaction block; 42P01; 42809 not a
projection; 42501 not the owner; PJ003 it is being rebuilt.
Example: CALL projections.alter(''stock'', options => ''{"slots": 4}'');';

CREATE FUNCTION projections.alter_source(source text, ddl text, definitions jsonb DEFAULT NULL)
    RETURNS TABLE(projection text, action text, rows bigint)
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_alter_source';
COMMENT ON FUNCTION projections.alter_source(text, text, jsonb) IS
'Alters a source that projections read: for migrations. ddl: one or more commands, run as the caller in this
transaction, as if they had been typed. A query projection that is in the way of one, as that drops or retypes a column
that it reads, replaces the primary key or drops the source, is taken off before the command and put back at the end;
its table stays, with indexes, grants, comments and checkpoint. Where none is in the way, the call does the same as ddl
alone. A definition follows renames; where something that it read has gone, it is read again by the names that there
were before the call. definitions: new queries by the projections'' names, as {"sales": "SELECT …"}, with the names of
the caller''s search_path. Returns a row for each projection that was taken off: refilled, where columns of its table
change (older snapshots then find it empty, as a table that ALTER TABLE rewrites), else compared with its definition,
and recomputed where it differs; rows: how many were written. What reads one that is refilled is taken off, too. An
error leaves everything as it was. Until the transaction ends, the source and the projections over it are locked
(ACCESS EXCLUSIVE), and writers of what else these read wait. What a handler, reducer or state machine has made of
events stays: verify() tells whether it would be another now. Needs to own the source, and each projection that is
taken off.
Errors: 42501 not the owner; 22004; 22023 definitions; 55000 a projection is paused, being filled, or cannot be filled
anew, as it is published, foreign keys refer to it, or it has columns of its own; 2BP01 a handler, reducer or state
machine knows events by the column, or a view uses a column of a projection that changes; PJ003 it is being rebuilt;
55006 called by its own text, or a statement is writing the source; what ddl raises; and, with the definition, what
projections.create raises.
Example: SELECT * FROM projections.alter_source(''orders'', ''ALTER TABLE orders ALTER amount TYPE numeric(12,2)'');';

REVOKE EXECUTE ON FUNCTION projections_internal.__alter_options(oid, text, jsonb),
    projections_internal._advance_to(oid, integer, bigint, bigint), projections_internal._follow_key_option(oid),
    projections_internal.__change_slots(oid, text, integer) FROM PUBLIC;
