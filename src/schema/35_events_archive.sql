-- archive_events(): old events of our own store are moved, those of others deleted.

-- Who has not applied all events up to a position.
CREATE FUNCTION projections_internal._archive_blockers(source regclass, up_to bigint) RETURNS SETOF text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT b.blocker FROM projections_internal.projection p, LATERAL (
        SELECT format('Inline projection %s would lose them, as it follows deleted rows.',
            projections_internal._name(p.relation))
        WHERE p.mode = 'inline' AND p.kind = 'query'
        UNION ALL
        SELECT format('Projection %s is behind the change log.', projections_internal._name(p.relation))
            WHERE p.changes <> '{}'
        UNION ALL
        SELECT format('Projection %s, slot %s, has applied events up to %s.', projections_internal._name(p.relation),
            s.slot,
            s.position)
        FROM projections_internal.slot s WHERE s.projection = p.relation AND p.mode = 'async' AND p.changes = '{}'
            AND s.position < up_to
        UNION ALL
        SELECT format('Projection %s has an open failure (%s) at position %s.', projections_internal._name(p.relation),
            f.id,
            f.position)
        FROM projections_internal._open_failures f WHERE f.projection = p.relation AND f.position <= up_to
        UNION ALL
        SELECT format('Projection %s has parked an event at position %s.', projections_internal._name(p.relation),
            k.position)
        FROM projections_internal.parked_event k WHERE k.projection = p.relation AND k.position <= up_to
    ) AS b(blocker)
    WHERE source = ANY (p.sources)
    ORDER BY 1
$$;
COMMENT ON FUNCTION projections_internal._archive_blockers(regclass, bigint) IS
    'Internal: what still needs the events of a source up to a position.';

CREATE FUNCTION projections_internal._refuse_archiving(relation regclass, caller text, needed text) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT has_table_privilege(caller::name, relation, needed) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = format('permission denied for table %s',
            projections_internal._name(relation)),
            DETAIL = 'Archiving deletes events.', HINT = format('GRANT %s ON %s TO %I;', needed,
                projections_internal._name(relation), caller);
    END IF;
END
$$;
COMMENT ON FUNCTION projections_internal._refuse_archiving(regclass, text, text) IS
    'Internal: refuses a caller without a right that archiving needs.';

CREATE FUNCTION projections_internal._archive_events(source regclass, caller text, before timestamptz, dry_run boolean)
    RETURNS TABLE(events bigint, first_position bigint, last_position bigint)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    s projections_internal.source := projections_internal._source(source);
    own boolean := source = 'projections.events'::regclass;
    caller_role oid := (SELECT r.oid FROM pg_roles r WHERE r.rolname = caller);
    up_to bigint;
    blockers text[];
    reader projections_internal.subscription;
    unread boolean;
    deleted bigint;
BEGIN
    PERFORM projections_internal._refuse_without(source, 'time');
    -- Only whole beginnings go: up to the first event that is to stay, and up to where no position can still be filled.
    SELECT r.up_to INTO up_to FROM projections_internal._rows_as_owner(source, format(
        'SELECT coalesce((SELECT e.position - 1 FROM (%1$s) e WHERE e.event_time >= $1 OR e.event_time IS NULL ORDER '
            'BY e.position LIMIT 1),
                         (SELECT max(e.position) FROM (%1$s) e), 0)::bigint', projections_internal._events_query(source,
                             false)),
                             before) AS r(up_to bigint);
    up_to := least(up_to, projections_internal._decided(source, up_to));
    SELECT r.* INTO events, first_position, last_position FROM projections_internal._rows_as_owner(source, format(
        'SELECT count(*), min(e.position)::bigint, max(e.position)::bigint FROM (%s) e WHERE e.position <= $1',
            projections_internal._events_query(source, false)), up_to)
        AS r(events bigint, first_position bigint, last_position bigint);
    IF events = 0 THEN
        RETURN NEXT;
        RETURN;
    END IF;
    up_to := last_position;

    blockers := ARRAY(SELECT projections_internal._archive_blockers(source, up_to));
    FOR reader IN SELECT * FROM projections_internal.subscription r WHERE r.source = _archive_events.source
        AND r.position < up_to LOOP
        SELECT r.unread INTO unread FROM projections_internal._rows_as_owner(source, format(
            'SELECT EXISTS (SELECT FROM (%s) e WHERE e.position > $1 AND e.position <= $2 AND ($3 IS NULL OR e.type = '
                'ANY ($3)))',
            projections_internal._events_query(source, false)), reader.position, up_to, reader.event_types)
                AS r(unread boolean);
        IF unread THEN
            blockers := blockers || format('Subscription "%s" has acknowledged events up to %s.', reader.name,
                reader.position);
        END IF;
    END LOOP;
    IF cardinality(blockers) > 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'object_in_use',
            MESSAGE = format('cannot archive the events of %s up to position %s', projections_internal._name(source),
                up_to),
            DETAIL = array_to_string(blockers[1:10], E'\n')
                || CASE WHEN cardinality(blockers) > 10 THEN format(E'\nAnd %s more.',
                cardinality(blockers) - 10) ELSE '' END,
            HINT = 'Let them catch up, resolve the failures, or archive up to an earlier time.';
    END IF;
    IF dry_run THEN
        RETURN NEXT;
        RETURN;
    END IF;

    PERFORM projections_internal._refuse_archiving(t, caller, p)
    FROM (VALUES (source, 'DELETE'), ('projections.events_archive', 'INSERT'),
        ('projections.streams', 'UPDATE')) AS needed(t, p)
    WHERE own OR t = source;
    IF own THEN
        WITH moved AS (DELETE FROM ONLY projections.events e WHERE e.position <= up_to RETURNING e.*)
        INSERT INTO projections.events_archive SELECT * FROM moved;
        GET DIAGNOSTICS deleted = ROW_COUNT;
        UPDATE projections.streams t SET archived_at = clock_timestamp()
        WHERE t.archived_at IS NULL AND t.stream IN (SELECT a.stream FROM projections.events_archive a
            WHERE a.position BETWEEN first_position AND up_to)
          AND NOT EXISTS (SELECT FROM ONLY projections.events e WHERE e.stream = t.stream);
    ELSE
        -- The mark goes with the rows, so that nobody replays what is not there.
        UPDATE projections_internal.source t SET archived_to = up_to WHERE t.relation = source;
        deleted := projections_internal._execute_as_owner(source, caller_role, format(CASE WHEN s.arrivals IS NULL
            THEN 'DELETE '
            'FROM %1$s e WHERE e.%2$I <= $1'
            ELSE 'DELETE FROM %1$s e USING %3$s a WHERE a.position = e.%2$I AND a.arrival <= $1' END,
            projections_internal._name(source), s.position_column, projections_internal._name(s.arrivals)), up_to);
    END IF;
    IF deleted <> events THEN
        RAISE EXCEPTION USING ERRCODE = 'serialization_failure', MESSAGE = format('%s events were to be archived, and '
            '%s were', events, deleted),
            DETAIL = 'Another session, a trigger or a row-level policy had a hand in it.', HINT = 'Try again.';
    END IF;
    RETURN NEXT;
END
$$;
COMMENT ON FUNCTION projections_internal._archive_events(regclass, text, timestamptz, boolean) IS
    'Internal: projections.archive_events().';

CREATE FUNCTION projections.archive_events(source text, before timestamptz, dry_run boolean DEFAULT false)
    RETURNS TABLE(events bigint, first_position bigint, last_position bigint)
    LANGUAGE c ROWS 1 AS 'MODULE_PATHNAME', 'projections_archive_events';
COMMENT ON FUNCTION projections.archive_events(text, timestamptz, boolean) IS
'Archives the events of a source from its beginning up to the first one that is not before the given time. Of our own
store they move to projections.events_archive, where rebuilds, read_stream and trace still find them, and a stream of
which no event is left is marked with archived_at. Of another source they are deleted, and the position is remembered:
what would need them is refused with PJ006 from then on, but for projections with options.detached = remove. Projections
keep their totals. dry_run: only says what would go. Returns how many events, and the positions of the first and the
last one. Needs SELECT and DELETE on the source, whose row-level security must not apply to the caller, for our own
store also INSERT on projections.events_archive and UPDATE on projections.streams. The source''s owner''s code
(triggers, policies) runs as its owner.
Errors: 55006 an async projection, an open failure, a parked event or a subscription still needs one of them, or an
inline projection would lose them (DETAIL names it); 42P01 no such table; 42809 not an event source; 55000 it has no
time column; 42501 a right is missing.
Example: SELECT * FROM projections.archive_events(''projections.events'', now() - interval ''2 years'', '
    'dry_run => true);';
