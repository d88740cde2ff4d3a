-- Event sources: registered and unregistered, with the arrivals of those that need them, and kept what they were
-- registered as.

CREATE FUNCTION projections_internal._note_arrival() RETURNS trigger LANGUAGE c
    AS 'MODULE_PATHNAME', 'projections_note_arrival';
COMMENT ON FUNCTION projections_internal._note_arrival() IS
    'Internal: trigger function on event sources with capture => ''trigger''.';
REVOKE EXECUTE ON FUNCTION projections_internal._note_arrival() FROM PUBLIC;

CREATE FUNCTION projections_internal._make_arrivals(source regclass, position_column name) RETURNS regclass
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    base text := (SELECT c.relname FROM pg_class c WHERE c.oid = source);
    arrivals text;
    number integer := 1;
BEGIN
    WHILE octet_length(base) > 45 LOOP
        base := left(base, -1);
    END LOOP;
    arrivals := base || '_arrivals';
    WHILE to_regclass(format('projections_internal.%I', arrivals)) IS NOT NULL LOOP
        number := number + 1;
        arrivals := format('%s_arrivals_%s', base, number);
    END LOOP;
    -- Who inserts from now on waits until the trigger is there: no event falls between those that are copied and those
    -- that it notes.
    EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', projections_internal._name(source));
    EXECUTE format('CREATE TABLE projections_internal.%I (arrival bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, '
        'position bigint NOT NULL UNIQUE)', arrivals);
    EXECUTE format('COMMENT ON TABLE projections_internal.%I IS %L', arrivals,
        'pg_projections: arrivals of ' || projections_internal._name(source));
    EXECUTE (SELECT format('CREATE TRIGGER %I ', n.name)
                 || format(n.made, projections_internal._name(source), arrivals, position_column)
             FROM projections_internal._own_triggers() n WHERE n.function = '_note_arrival');
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER projections_arrival', projections_internal._name(source));
    RETURN format('projections_internal.%I', arrivals)::regclass;
END
$$;
COMMENT ON FUNCTION projections_internal._make_arrivals(regclass, name) IS
    'Internal: the hidden table of arrivals and the trigger that fills it.';

-- Who reads a source's events joins its arrivals: the owners of the table and of the projections over it, and nobody
-- else.
CREATE FUNCTION projections_internal._share_arrivals(source regclass) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    arrivals regclass := (SELECT s.arrivals FROM projections_internal.source s JOIN pg_class c ON c.oid = s.arrivals
        WHERE s.relation = source);
    readers oid[] := ARRAY(SELECT c.relowner FROM pg_class c
                           WHERE c.oid = source OR c.oid IN (SELECT p.relation FROM projections_internal.projection p
                               WHERE source = ANY (p.sources)));
    each record;
BEGIN
    IF arrivals IS NULL THEN
        RETURN;
    END IF;
    FOR each IN
        SELECT coalesce(r.role, g.grantee) AS role, r.role IS NOT NULL AS reads
        FROM (SELECT DISTINCT unnest(readers) AS role) r
        FULL JOIN (SELECT a.grantee FROM pg_class c, aclexplode(c.relacl) a WHERE c.oid = arrivals
            AND a.grantee <> c.relowner) g ON g.grantee = r.role
        WHERE (r.role IS NULL OR g.grantee IS NULL) AND coalesce(r.role, g.grantee) <> (SELECT c.relowner
            FROM pg_class c WHERE c.oid = arrivals)
    LOOP
        EXECUTE format(CASE WHEN each.reads THEN 'GRANT SELECT ON %s TO %s' ELSE 'REVOKE ALL ON %s FROM %s CASCADE' END,
            projections_internal._name(arrivals),
                       CASE each.role WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(each.role)) END);
    END LOOP;
END
$$;
COMMENT ON FUNCTION projections_internal._share_arrivals(regclass) IS
    'Internal: who needs to read the arrivals of a source may, and others may not.';

CREATE FUNCTION projections_internal._drop_arrivals(source regclass, arrivals regclass) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM pg_class c WHERE c.oid = source) THEN
        EXECUTE format('DROP TRIGGER IF EXISTS projections_arrival ON %s', projections_internal._name(source));
    END IF;
    IF EXISTS (SELECT FROM pg_class c WHERE c.oid = arrivals) THEN
        -- CASCADE: a view that somebody has made on it must not keep the source's owner from his table.
        EXECUTE format('DROP TABLE %s CASCADE', projections_internal._name(arrivals));
    END IF;
END
$$;
COMMENT ON FUNCTION projections_internal._drop_arrivals(regclass, regclass) IS
    'Internal: removes what _make_arrivals made.';

-- Who reads a source's events by position.
CREATE FUNCTION projections_internal._source_readers(source regclass) RETURNS SETOF text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT 'projection ' || projections_internal._name(p.relation) FROM projections_internal.projection p
    WHERE source = ANY (p.sources) AND (p.kind <> 'query' OR (p.mode = 'async' AND p.changes = '{}'))
    UNION ALL
    SELECT format('subscription "%s"', s.name) FROM projections_internal.subscription s
        WHERE s.source = _source_readers.source
    ORDER BY 1
$$;
COMMENT ON FUNCTION projections_internal._source_readers(regclass) IS
    'Internal: projections and subscriptions that need the registration of a source.';

CREATE FUNCTION projections_internal._refuse_while_read(source regclass, action text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    readers text[] := ARRAY(SELECT projections_internal._source_readers(source));
BEGIN
    IF cardinality(readers) > 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'object_in_use',
            MESSAGE = format('cannot %s source %s because it is being read', action,
                projections_internal._name(source)),
            DETAIL = format('Read by %s.', array_to_string(readers, ', ')),
            HINT = 'Drop them first, with projections.drop() or projections.drop_subscription().';
    END IF;
END
$$;
COMMENT ON FUNCTION projections_internal._refuse_while_read(regclass, text) IS
    'Internal: refuses what would pull a source from under its readers.';

-- What reads the events by a feed that was made without some of the columns.
CREATE FUNCTION projections_internal._show_columns(projection oid, type_column name, time_column name, id_column name)
    RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_show_columns';
COMMENT ON FUNCTION projections_internal._show_columns(oid, name, name, name) IS
    'Internal: lets the feed of what is no query projection show columns of its source that had no name before.';

-- Whether a source is to have what it has, and columns besides.
CREATE FUNCTION projections_internal._only_adds(known projections_internal.source, wanted projections_internal.source)
    RETURNS boolean
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT (known.position_column, known.capture) = (wanted.position_column, wanted.capture)
        AND known.preset IS NOT DISTINCT FROM wanted.preset
        AND (SELECT bool_and(c.known IS NULL OR c.known IS NOT DISTINCT FROM c.wanted) FROM (VALUES
            (known.stream_column, wanted.stream_column), (known.version_column, wanted.version_column),
            (known.type_column, wanted.type_column), (known.time_column, wanted.time_column),
            (known.correlation_column, wanted.correlation_column), (known.id_column, wanted.id_column))
            AS c(known, wanted))
$$;
COMMENT ON FUNCTION projections_internal._only_adds(projections_internal.source, projections_internal.source) IS
    'Internal: whether columns of an event source are named that had none, and nothing else changes.';

CREATE FUNCTION projections_internal._add_columns(wanted projections_internal.source) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    reader oid;
BEGIN
    UPDATE projections_internal.source s SET stream_column = wanted.stream_column,
        version_column = wanted.version_column, type_column = wanted.type_column, time_column = wanted.time_column,
        correlation_column = wanted.correlation_column, id_column = wanted.id_column
    WHERE s.relation = wanted.relation;
    FOR reader IN SELECT p.relation FROM projections_internal.projection p
        WHERE p.kind <> 'query' AND wanted.relation = ANY (p.sources) ORDER BY 1
    LOOP
        PERFORM projections_internal._show_columns(reader, wanted.type_column, wanted.time_column, wanted.id_column);
        PERFORM projections_internal._forget_relied(reader);
        PERFORM projections_internal._record_relied(ARRAY[reader]);
    END LOOP;
END
$$;
COMMENT ON FUNCTION projections_internal._add_columns(projections_internal.source) IS
    'Internal: names columns of an event source that had none, also for what reads it.';

CREATE FUNCTION projections_internal._register_source(source regclass, position_column name, stream_column name,
    version_column name, type_column name,
                                             time_column name, correlation_column name, id_column name, preset text,
                                                 capture text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    defaults record;
    preset_capture text;
    given name[] := ARRAY[position_column, stream_column, version_column, type_column, time_column, correlation_column,
        id_column];
    missing name;
    wanted projections_internal.source;
    known projections_internal.source;
BEGIN
    PERFORM projections_internal._check_source_table(source);
    IF preset IS NOT NULL THEN
        SELECT * INTO STRICT defaults FROM projections_internal._preset(preset);
        preset_capture := defaults.capture;
        given := ARRAY(SELECT coalesce(g.given, CASE WHEN g.needed OR a.attnum IS NOT NULL THEN g.preset END)
            FROM unnest(given, ARRAY[defaults.position_column, defaults.stream_column, defaults.version_column,
                defaults.type_column,
                                     defaults.time_column, defaults.correlation_column, defaults.id_column],
                        ARRAY[true, true, true, true, true, false, true]) WITH ORDINALITY AS g(given, preset, needed,
                            place)
            LEFT JOIN pg_attribute a ON a.attrelid = source AND a.attname = g.preset AND a.attnum > 0
                AND NOT a.attisdropped
            ORDER BY g.place);
    END IF;
    wanted := ROW(source, given[1], given[2], given[3], given[4], given[5], given[6], given[7], preset,
                  coalesce(capture, preset_capture, 'position'), NULL, NULL, 0);
    IF wanted.position_column IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed',
            MESSAGE = 'argument "position_column" must not be null',
            DETAIL = 'The position is what events are ordered by.',
            HINT = 'Name the column, or a preset for the table of an event library.';
    END IF;
    IF wanted.capture NOT IN ('position', 'trigger') THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('unknown capture "%s"', capture),
            DETAIL = 'Capture is "position" or "trigger".',
            HINT = 'Use "trigger" where positions are drawn in an earlier transaction than the INSERT; else '
                '"position".';
    END IF;
    SELECT g INTO missing FROM unnest(given) AS g
    WHERE g IS NOT NULL AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = source AND a.attname = g
        AND a.attnum > 0 AND NOT a.attisdropped) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_column',
            MESSAGE = format('column "%s" of %s does not exist', missing, projections_internal._name(source)),
            DETAIL = CASE WHEN preset IS NULL THEN 'It was named as a column of the source.' ELSE format('Preset "%s" '
                'expects it unless another is named.', preset) END,
            HINT = format('Its columns are %s.', (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum)
                FROM pg_attribute a
                                                  WHERE a.attrelid = source AND a.attnum > 0 AND NOT a.attisdropped));
    END IF;

    -- Two sessions that register the same table: the second one sees what the first did.
    LOCK TABLE projections_internal.source IN SHARE ROW EXCLUSIVE MODE;
    SELECT * INTO known FROM projections_internal.source s WHERE s.relation = source;
    IF known.relation IS NOT NULL THEN
        wanted.sequence := known.sequence;
        wanted.arrivals := known.arrivals;
        wanted.archived_to := known.archived_to;
        IF wanted = known THEN
            RETURN;
        ELSIF projections_internal._only_adds(known, wanted) THEN
            PERFORM projections_internal._add_columns(wanted);
            RETURN;
        END IF;
        PERFORM projections_internal._refuse_while_read(source, 'change');
        -- First the row: what an event source needs is not to be dropped.
        DELETE FROM projections_internal.source s WHERE s.relation = source;
        IF known.arrivals IS NOT NULL THEN
            PERFORM projections_internal._drop_arrivals(source, known.arrivals);
        END IF;
        wanted.arrivals := NULL;
    END IF;

    PERFORM projections_internal._check_position(source, wanted.position_column, preset IS NOT NULL);
    IF wanted.capture = 'trigger' THEN
        wanted.arrivals := projections_internal._make_arrivals(source, wanted.position_column);
        wanted.sequence := pg_get_serial_sequence(projections_internal._name(wanted.arrivals), 'arrival')::regclass;
    ELSE
        wanted.sequence := projections_internal._sequence_for(source, wanted.position_column);
    END IF;
    INSERT INTO projections_internal.source SELECT wanted.*;
    IF wanted.capture = 'trigger' THEN
        PERFORM projections_internal._share_arrivals(source);
        -- The table's indexes may call its owner's functions when it is read.
        EXECUTE format('INSERT INTO %s (position) SELECT r.position FROM projections_internal._rows_as_owner($1, $2) '
            'AS '
            'r("position" bigint) ORDER BY 1', projections_internal._name(wanted.arrivals))
            USING source, format('SELECT %1$I::bigint FROM %2$s WHERE %1$I IS NOT NULL ORDER BY 1',
                wanted.position_column, projections_internal._name(source));
    END IF;
END
$$;
COMMENT ON FUNCTION projections_internal._register_source(regclass, name, name, name, name, name, name, name, text,
    text) IS
'Internal: what projections.register_source() does after it has checked the caller''s rights.';

CREATE FUNCTION projections_internal._unregister_source(source regclass) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known projections_internal.source;
BEGIN
    IF source = 'projections.events'::regclass THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = 'cannot unregister projections.events',
            DETAIL = 'It is the extension''s own store.',
            HINT = 'Leave it: a source that nothing reads costs nothing.';
    END IF;
    LOCK TABLE projections_internal.source IN SHARE ROW EXCLUSIVE MODE;
    SELECT * INTO known FROM projections_internal.source s WHERE s.relation = source;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'wrong_object_type',
            MESSAGE = format('%s is not an event source', projections_internal._name(source)),
            DETAIL = 'It was never registered, or is unregistered already.',
            HINT = 'Look it up: SELECT source FROM projections.sources;';
    END IF;
    PERFORM projections_internal._refuse_while_read(source, 'unregister');
    DELETE FROM projections_internal.source s WHERE s.relation = source;
    IF known.arrivals IS NOT NULL THEN
        PERFORM projections_internal._drop_arrivals(source, known.arrivals);
    END IF;
END
$$;
COMMENT ON FUNCTION projections_internal._unregister_source(regclass) IS
    'Internal: what projections.unregister_source() does after it has checked the caller''s rights.';

-- To be called after a DROP.
CREATE FUNCTION projections_internal._forget_dropped_sources() RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    gone record;
BEGIN
    FOR gone IN SELECT s.relation, s.arrivals, s.sequence FROM projections_internal.source s
        WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = s.relation) LOOP
        DELETE FROM projections_internal.source s WHERE s.relation = gone.relation;
        PERFORM projections_internal._drop_arrivals(gone.relation, gone.arrivals);
    END LOOP;
    FOR gone IN DELETE FROM projections_internal.subscription s WHERE NOT EXISTS (SELECT FROM pg_class c
        WHERE c.oid = s.source)
        RETURNING s.name LOOP
        RAISE NOTICE 'drop cascades to subscription "%"', gone.name;
    END LOOP;
    SELECT s.relation, CASE WHEN a.oid IS NULL AND s.arrivals IS NOT NULL THEN 'table of '
        'arrivals' WHEN q.oid IS NULL THEN 'sequence'
                            WHEN s.arrivals IS NOT NULL AND t.oid IS NULL THEN 'trigger projections_arrival' END AS what
                                INTO gone
    FROM projections_internal.source s
    LEFT JOIN pg_class q ON q.oid = s.sequence LEFT JOIN pg_class a ON a.oid = s.arrivals
    LEFT JOIN pg_trigger t ON t.tgrelid = s.relation AND t.tgname = 'projections_arrival'
    WHERE (q.oid IS NULL OR (s.arrivals IS NOT NULL AND (a.oid IS NULL OR t.oid IS NULL)))
      -- What was missing before must not keep anybody from dropping other things; validate() tells of it.
      AND EXISTS (SELECT FROM pg_event_trigger_dropped_objects() d
                  WHERE d.objid IN (s.sequence, s.arrivals)
                     OR d.object_type = 'trigger' AND format('%I.%I', d.address_names[1],
                         d.address_names[2]) = projections_internal._name(s.relation)
                        AND d.address_names[3] = 'projections_arrival') LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist',
            MESSAGE = format('cannot drop the %s of event source %s', gone.what,
                projections_internal._name(gone.relation)),
            DETAIL = 'It tells which events are complete up to where.',
            HINT = format('First SELECT projections.unregister_source(%L);', projections_internal._name(gone.relation));
    END IF;
END
$$;
COMMENT ON FUNCTION projections_internal._forget_dropped_sources() IS
    'Internal: cleans up after dropped event sources, and refuses to drop what they need.';

-- To be called after an ALTER.
CREATE FUNCTION projections_internal._check_altered_sources(touched oid[]) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    lost record;
    next bigint;
BEGIN
    SELECT s.relation, c.name INTO lost
    FROM projections_internal.source s, LATERAL unnest(ARRAY[s.position_column, s.stream_column, s.version_column,
        s.type_column,
        s.time_column,
                                                    s.correlation_column, s.id_column]) AS c(name)
    WHERE s.relation = ANY (touched) AND c.name IS NOT NULL
      AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = s.relation AND a.attname = c.name AND a.attnum > 0
          AND NOT a.attisdropped) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist',
            MESSAGE = format('cannot rename or drop column "%s" because %s is an event source', lost.name,
                projections_internal._name(lost.relation)),
            DETAIL = 'The source was registered with that column.',
            HINT = format('First SELECT projections.unregister_source(%L); and register it again afterwards.',
                projections_internal._name(lost.relation));
    END IF;

    SELECT s.relation, c.oid::regclass AS child INTO lost
    FROM projections_internal.source s JOIN pg_inherits i ON i.inhparent = s.relation
    JOIN pg_class c ON c.oid = i.inhrelid AND NOT c.relispartition
    WHERE s.relation = ANY (touched) AND s.relation <> 'projections.events'::regclass LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('cannot make %s a child of %s because that is an event source',
                projections_internal._name(lost.child), projections_internal._name(lost.relation)),
            DETAIL = 'Rows of a child are drawn and checked on their own.',
            HINT = 'Use partitions instead of inheritance.';
    END IF;

    -- DROP IDENTITY removes its sequence without telling event triggers of it.
    SELECT s.relation, s.position_column, s.sequence,
        a.atttypid IN ('bigint'::regtype, 'integer'::regtype) AS is_number, q.oid IS NOT NULL AS has_sequence INTO lost
    FROM projections_internal.source s LEFT JOIN pg_class q ON q.oid = s.sequence AND q.relpersistence = 'p'
    LEFT JOIN pg_attribute a ON a.attrelid = s.relation AND a.attname = s.position_column
    WHERE (s.relation = ANY (touched) OR s.sequence = ANY (touched))
      AND (q.oid IS NULL AND s.arrivals IS NULL
          AND NOT EXISTS (SELECT FROM projections_internal._sequences_of(s.relation, s.position_column))
          OR a.atttypid NOT IN ('bigint'::regtype, 'integer'::regtype)
           OR q.oid IS NOT NULL AND s.arrivals IS NULL
               AND s.sequence NOT IN (SELECT n FROM projections_internal._sequences_of(s.relation, s.position_column) n
                                                        UNION SELECT n FROM projections_internal._leaves(s.relation) l,
                                                            projections_internal._sequences_of(l,
                                                                s.position_column) n)) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist',
            MESSAGE = CASE WHEN NOT lost.has_sequence THEN format('cannot drop or unlog the sequence of event source '
                '%s', projections_internal._name(lost.relation))
                           WHEN lost.is_number THEN format('column "%s" of event source %s must be drawn from sequence '
                               '%s', lost.position_column,
                                                            projections_internal._name(lost.relation),
                                                                projections_internal._name(lost.sequence))
                           ELSE format('cannot retype column "%s" because %s is an event source', lost.position_column,
                               projections_internal._name(lost.relation)) END,
            DETAIL = 'It tells which events are complete up to where.',
            HINT = format('First SELECT projections.unregister_source(%L);', projections_internal._name(lost.relation));
    END IF;

    -- Positions that were drawn before would come again, behind those who read events in their order. Other DDL on the
    -- table does not move the sequence, and may find it still at its start: a restore sets it last.
    FOR lost IN
        SELECT s.relation, s.sequence, (SELECT max(r.highest) FROM projections_internal._reached r
            JOIN projections_internal.projection p ON p.relation = r.projection
                                        WHERE s.relation = ANY (p.sources) AND p.changes = '{}') AS applied
        FROM projections_internal.source s JOIN pg_class q ON q.oid = s.sequence
        WHERE s.sequence = ANY (touched)
    LOOP
        EXECUTE format('SELECT last_value + is_called::integer FROM %s', projections_internal._name(lost.sequence))
            INTO next;
        IF next <= lost.applied THEN
            RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
                MESSAGE = format('sequence %s cannot go back to %s because %s is an event source',
                    projections_internal._name(lost.sequence), next, projections_internal._name(lost.relation)),
                DETAIL = format('Events up to position %s have been applied: who reads them would miss new ones below.',
                    lost.applied),
                HINT = format('Restart it above %s.', lost.applied);
        END IF;
    END LOOP;

    SELECT s.relation, s.sequence INTO lost
    FROM projections_internal.source s JOIN pg_sequence q ON q.seqrelid = s.sequence
    WHERE s.sequence = ANY (touched) AND (q.seqcache > 1 OR q.seqcycle OR q.seqincrement < 1) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('sequence %s cannot have CACHE, CYCLE or a descending INCREMENT because %s is an event '
                'source', projections_internal._name(lost.sequence), projections_internal._name(lost.relation)),
            DETAIL = 'Positions would be drawn long before their events, or again.',
            HINT = format('First SELECT projections.unregister_source(%L);', projections_internal._name(lost.relation));
    END IF;
END
$$;
COMMENT ON FUNCTION projections_internal._check_altered_sources(oid[]) IS
'Internal: refuses to rename, retype or drop a column that an event source is registered with, and what would make its '
    'sequence lose events.';

REVOKE EXECUTE ON FUNCTION projections_internal._make_arrivals(regclass, name),
    projections_internal._share_arrivals(regclass), projections_internal._drop_arrivals(regclass, regclass),
    projections_internal._source_readers(regclass), projections_internal._refuse_while_read(regclass, text),
    projections_internal._register_source(regclass, name, name, name, name, name, name, name, text, text),
    projections_internal._show_columns(oid, name, name, name),
    projections_internal._only_adds(projections_internal.source, projections_internal.source),
    projections_internal._add_columns(projections_internal.source),
    projections_internal._unregister_source(regclass), projections_internal._forget_dropped_sources(),
    projections_internal._check_altered_sources(oid[]) FROM PUBLIC;

CREATE FUNCTION projections.register_source(source text, position_column name DEFAULT NULL,
    stream_column name DEFAULT NULL, version_column name DEFAULT NULL,
                                            type_column name DEFAULT NULL, time_column name DEFAULT NULL,
                                                correlation_column name DEFAULT NULL,
                                            id_column name DEFAULT NULL, preset text DEFAULT NULL,
                                                capture text DEFAULT NULL) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_register_source';
COMMENT ON FUNCTION projections.register_source(text, name, name, name, name, name, name, name, text, text) IS
'Declares an append-only table to be a source of events. source: the table, which may be partitioned. position_column:
bigint or integer, not null, unique, drawn from a sequence; what events are ordered by. The other columns are
optional: stream_column and version_column; type_column, which filters by event types need; time_column (a timestamp
without time zone is taken to be UTC); correlation_column, by which projections.trace() finds events; id_column.
preset: fills in the columns of an event library''s table that are not named: emmett, marten, message_db or
pupsourcing. capture: position, or trigger where positions are drawn in an earlier transaction than the INSERT; then
events are ordered by their arrival, which a trigger on the table notes, and "position" means the arrival''s number
everywhere; an event is known by its position column for good, so one that is deleted and comes again is not applied
twice. By default as the preset says, else position. The same again changes nothing; columns may be named that had no
name before, which what reads the source shows from then on; other changes are refused while projections or
subscriptions read it. With capture => trigger it waits for writers of the table. Needs to be done by the table''s
owner. Errors: 42P01 no such table; 42501 not the owner; 42703 no such column; 42809 not a table that can be a source;
42804 and 55000 the position or its sequence cannot serve; 55006 it is being read; 22023 unknown preset or capture.
Example: SELECT projections.register_source(''orders_events'', position_column => ''seq'', '
    'type_column => ''kind'', time_column => ''at'');';

CREATE FUNCTION projections.unregister_source(source text) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_unregister_source';
COMMENT ON FUNCTION projections.unregister_source(text) IS
'Takes back projections.register_source(); the table stays as it is. Needs to be done by the table''s owner.
Errors: 42P01 no such table; 42501 not the owner; 42809 not a source; 55006 projections or subscriptions read it.
Example: SELECT projections.unregister_source(''orders_events'');';
