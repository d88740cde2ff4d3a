-- Event sources: any append-only table with a position.

-- What the tables of event libraries are called by. A column that a library only has in some versions or settings is
-- optional.
CREATE FUNCTION projections_internal._preset(preset text)
    RETURNS TABLE(position_column name, stream_column name, version_column name, type_column name, time_column name,
                  correlation_column name, id_column name, capture text)
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY SELECT p.position::name, p.stream::name, p.version::name, p.type::name, p.time::name,
        p.correlation::name, p.id::name, p.capture
    FROM (VALUES
        -- Its rich append mode draws the positions in a transaction of their own, before the one that inserts.
        ('marten', 'seq_id', 'stream_id', 'version', 'type', 'timestamp', 'correlation_id', 'id', 'trigger'),
        ('pupsourcing', 'global_position', 'aggregate_id', 'aggregate_version', 'event_type', 'created_at',
            'correlation_id', 'event_id', 'position'),
        ('message_db', 'global_position', 'stream_name', 'position', 'type', 'time', NULL, 'id', 'position'),
        ('emmett', 'global_position', 'stream_id', 'stream_position', 'message_type', 'created', NULL, 'message_id',
            'position')
    ) AS p(preset, position, stream, version, type, time, correlation, id, capture)
    WHERE p.preset = _preset.preset;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('unknown preset "%s"', preset),
            DETAIL = 'Presets are emmett, marten, message_db and pupsourcing.',
            HINT = 'For another table, name its columns: position_column => …, type_column => …';
    END IF;
END
$$;
COMMENT ON FUNCTION projections_internal._preset(text) IS
    'Internal: the columns and the way of capture of an event library''s table.';

CREATE FUNCTION projections_internal._leaves(relation regclass) RETURNS SETOF regclass
    LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
    SELECT c.oid::regclass FROM pg_class c WHERE c.oid = relation AND c.relkind = 'r'
    UNION ALL
    SELECT t.relid FROM pg_class c, LATERAL pg_partition_tree(c.oid) t WHERE c.oid = relation AND c.relkind = 'p'
        AND t.isleaf
$$;
COMMENT ON FUNCTION projections_internal._leaves(regclass) IS
    'Internal: the tables that hold the rows of a table: itself, or its partitions.';

-- An identity, a serial, or a default that calls nextval, whoever owns the sequence.
CREATE FUNCTION projections_internal._sequences_of(relation regclass, column_name name) RETURNS SETOF regclass
    LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
    SELECT s.oid::regclass
    FROM pg_attribute a
    JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    JOIN pg_depend p ON p.classid = 'pg_attrdef'::regclass AND p.objid = d.oid AND p.refclassid = 'pg_class'::regclass
    JOIN pg_class s ON s.oid = p.refobjid AND s.relkind = 'S'
    WHERE a.attrelid = relation AND a.attname = column_name AND NOT a.attisdropped
    UNION
    SELECT s.oid::regclass
    FROM pg_attribute a
    JOIN pg_depend p ON p.refclassid = 'pg_class'::regclass AND p.refobjid = a.attrelid AND p.refobjsubid = a.attnum
                    AND p.classid = 'pg_class'::regclass AND p.deptype = 'i'
    JOIN pg_class s ON s.oid = p.objid AND s.relkind = 'S'
    WHERE a.attrelid = relation AND a.attname = column_name AND NOT a.attisdropped
$$;
COMMENT ON FUNCTION projections_internal._sequences_of(regclass, name) IS
    'Internal: the sequences that a column''s values are drawn from.';

CREATE FUNCTION projections_internal._check_source_table(source regclass) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    problem record;
BEGIN
    SELECT * INTO problem FROM (
        SELECT CASE
            WHEN EXISTS (SELECT FROM projections_internal.projection p WHERE p.relation = source) THEN 'a projection'
            WHEN c.relkind = 'f' THEN 'a foreign table'
            WHEN c.relkind IN ('v', 'm') THEN 'a view'
            WHEN c.relkind NOT IN ('r', 'p') THEN 'not a table'
            WHEN c.relnamespace IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace) THEN 'a system '
                'catalog'
            WHEN c.relnamespace
                IN ('projections'::regnamespace, 'projections_internal'::regnamespace) THEN 'a table of the extension'
            WHEN l.temporary THEN 'temporary'
            WHEN l.unlogged THEN 'unlogged'
            WHEN l.foreign_part THEN 'partitioned with foreign partitions'
            WHEN EXISTS (SELECT FROM pg_inherits i JOIN pg_class k ON k.oid = i.inhrelid
                WHERE source IN (i.inhparent, i.inhrelid) AND NOT k.relispartition)
                THEN 'part of an inheritance tree'
            WHEN c.relispartition THEN 'a partition'
            WHEN EXISTS (SELECT FROM pg_subscription_rel r
                         WHERE r.srrelid = source OR r.srrelid IN (SELECT t
                             FROM projections_internal._leaves(source) AS t)) THEN 'a subscriber''s copy'
        END AS what
        FROM pg_class c,
             LATERAL (SELECT coalesce(bool_or(k.relpersistence = 't'), false) AS temporary,
                 coalesce(bool_or(k.relpersistence = 'u'), false) AS unlogged,
                             coalesce(bool_or(k.relkind = 'f'), false) AS foreign_part
                      FROM pg_class k WHERE k.oid = c.oid
                          OR (c.relkind = 'p' AND k.oid IN (SELECT t.relid FROM pg_partition_tree(c.oid) t))) l
        WHERE c.oid = source) AS found
    JOIN LATERAL (VALUES
        ('a projection', 'The rows of a projection change and go.', 'Create another projection over it with '
            'projections.create().'),
        ('a foreign table', 'What another server commits cannot be ordered here.', 'Copy its rows into a table, and '
            'register that.'),
        ('a view', 'Positions are drawn for the rows of a table.', 'Register the table that the view reads.'),
        ('not a table', 'Events are rows of a table.', 'Register a table.'),
        ('a system catalog', 'It belongs to the server.', 'Register a table of yours.'),
        ('a table of the extension', 'projections.events is registered already; the others hold no events.',
            'Register a table of yours.'),
        ('temporary', 'Other sessions do not see its rows.', 'Make it an ordinary table.'),
        ('unlogged', 'A crash empties it, and what was projected would stay.', 'ALTER TABLE … SET LOGGED.'),
        ('partitioned with foreign partitions', 'What another server commits cannot be ordered here.',
            'Detach the foreign partitions.'),
        ('part of an inheritance tree', 'Rows of a child are drawn and checked on their own.',
            'Use partitions instead of inheritance.'),
        ('a partition', 'Events of the other partitions would be missed.', 'Register the partitioned table.'),
        ('a subscriber''s copy', 'Rows arrive with their positions, so the local sequence stands still and cannot tell '
            'which are still to come.',
         'Register the source on the publisher.')
    ) AS reason(kind, detail, hint) ON reason.kind = found.what;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'wrong_object_type',
            MESSAGE = format('%s cannot be an event source: it is %s', projections_internal._name(source),
                problem.what),
            DETAIL = problem.detail,
            HINT = problem.hint;
    END IF;
END
$$;
COMMENT ON FUNCTION projections_internal._check_source_table(regclass) IS
    'Internal: refuses what cannot be an event source.';

-- Every position must be there, once. Where that is a library's own table, what it leaves out is said and not refused.
CREATE FUNCTION projections_internal._check_position(source regclass, position_column name, lenient boolean)
    RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    position_attribute pg_attribute;
    partitioned boolean := (SELECT c.relkind = 'p' FROM pg_class c WHERE c.oid = source);
    unindexed regclass;
    not_unique regclass;
BEGIN
    SELECT * INTO STRICT position_attribute FROM pg_attribute a WHERE a.attrelid = source
        AND a.attname = position_column AND NOT a.attisdropped;
    IF position_attribute.atttypid NOT IN ('bigint'::regtype, 'integer'::regtype) THEN
        RAISE EXCEPTION USING ERRCODE = 'datatype_mismatch',
            MESSAGE = format('position column "%s" of %s is of type %s', position_column,
                projections_internal._name(source),
                format_type(position_attribute.atttypid, position_attribute.atttypmod)),
            DETAIL = 'A position is a bigint or an integer.',
            HINT = 'Name the column whose values are drawn from a sequence: position_column => …';
    END IF;
    IF NOT position_attribute.attnotnull THEN
        IF NOT lenient THEN
            RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
                MESSAGE = format('position column "%s" of %s may be null', position_column,
                    projections_internal._name(source)),
                DETAIL = 'An event without a position would never be read.',
                HINT = format('ALTER TABLE %s ALTER COLUMN %I SET NOT NULL;', projections_internal._name(source),
                    position_column);
        END IF;
        RAISE WARNING 'position column "%" of % may be null', position_column, projections_internal._name(source)
            USING DETAIL = 'An event without a position would never be read.',
                  HINT = format('ALTER TABLE %s ALTER COLUMN %I SET NOT NULL;', projections_internal._name(source),
                      position_column);
    END IF;

    -- An index that begins with the position serves reading in its order. It proves positions unique if it holds no
    -- other column, or only such as all rows of the partition agree in, which for lists of one value are those that
    -- they are partitioned by.
    SELECT l INTO unindexed FROM projections_internal._leaves(source) AS l
    WHERE NOT EXISTS (SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = l AND a.attname = position_column
                      WHERE i.indrelid = l AND i.indisvalid AND i.indpred IS NULL AND i.indkey[0] = a.attnum) LIMIT 1;
    SELECT l INTO not_unique FROM projections_internal._leaves(source) AS l
    WHERE NOT EXISTS (
        SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = l AND a.attname = position_column
        WHERE i.indrelid = l AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL
          AND (i.indkey::int2[])[0:i.indnkeyatts - 1] @> ARRAY[a.attnum]
          AND (i.indkey::int2[])[0:i.indnkeyatts - 1] <@ (ARRAY[a.attnum] || ARRAY(
              SELECT k.attnum FROM pg_partition_ancestors(l) AS up(relid)
                  JOIN pg_partitioned_table t ON t.partrelid = up.relid
              CROSS JOIN unnest(t.partattrs::int2[]) AS n(attnum) JOIN pg_attribute u ON u.attrelid = t.partrelid
                  AND u.attnum = n.attnum
              JOIN pg_attribute k ON k.attrelid = l AND k.attname = u.attname))) LIMIT 1;
    IF not_unique IS NOT NULL AND NOT partitioned THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('position column "%s" of %s is not unique', position_column,
                projections_internal._name(source)),
            DETAIL = 'Of two events at one position, one could be missed.',
            HINT = format('CREATE UNIQUE INDEX ON %s (%I);', projections_internal._name(source), position_column);
    ELSIF not_unique IS NOT NULL AND unindexed IS NULL THEN
        RAISE WARNING 'no index says that position column "%" of % is unique', position_column,
            projections_internal._name(source)
            USING DETAIL = 'It is trusted that every position is drawn from the sequence. Of two events at one '
                'position, one could be missed.';
    END IF;
    IF unindexed IS NOT NULL THEN
        RAISE WARNING 'no index of % begins with position column "%"', projections_internal._name(unindexed),
            position_column
            USING DETAIL = 'Each look for new events will read the whole table. It is trusted that every position is '
                'drawn from the sequence.',
                  HINT = format('CREATE INDEX ON %s (%I);', projections_internal._name(source), position_column);
    END IF;
END
$$;
COMMENT ON FUNCTION projections_internal._check_position(regclass, name, boolean) IS
    'Internal: refuses a position column that may be null or repeated.';

CREATE FUNCTION projections_internal._sequence_for(source regclass, position_column name) RETURNS regclass
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    sequences regclass[] := ARRAY(SELECT s FROM projections_internal._sequences_of(source, position_column) AS s
                                  UNION SELECT s FROM projections_internal._leaves(source) AS l,
                                      projections_internal._sequences_of(l, position_column) AS s);
    problem record;
BEGIN
    IF cardinality(sequences) <> 1 THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('position column "%s" of %s is not drawn from %s sequence', position_column,
                projections_internal._name(source),
                             CASE cardinality(sequences) WHEN 0 THEN 'a' ELSE 'one' END),
            DETAIL = CASE cardinality(sequences)
                WHEN 0 THEN 'It is no identity column, no serial, and has no default that calls nextval() of a '
                    'sequence.'
                ELSE format('Its table and partitions draw from %s.',
                    array_to_string(ARRAY(SELECT projections_internal._name(s) FROM unnest(sequences) AS s ORDER BY 1),
                    ', ')) END,
            HINT = 'Positions that come from elsewhere are followed by a trigger: capture => ''trigger''.';
    END IF;
    SELECT * INTO problem FROM (
        SELECT CASE WHEN s.seqcache > 1 THEN format('CACHE %s', s.seqcache) WHEN s.seqcycle THEN 'CYCLE'
                    WHEN s.seqincrement < 1 THEN format('INCREMENT %s', s.seqincrement) END AS what,
               CASE WHEN s.seqcache > 1 THEN 'Sessions keep values in store and use them long after higher ones.'
                    WHEN s.seqcycle THEN 'Positions would begin anew.'
                    ELSE 'Positions would fall.' END AS why,
               CASE WHEN s.seqcache > 1 THEN 'CACHE 1' WHEN s.seqcycle THEN 'NO CYCLE' ELSE 'INCREMENT 1' END AS fix
        FROM pg_sequence s WHERE s.seqrelid = sequences[1]) AS found
    WHERE found.what IS NOT NULL;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('sequence %s has %s', projections_internal._name(sequences[1]), problem.what),
            DETAIL = problem.why,
            HINT = format('ALTER SEQUENCE %s %s; or follow the rows by a trigger: capture => ''trigger''.',
                projections_internal._name(sequences[1]), problem.fix);
    END IF;
    RETURN sequences[1];
END
$$;
COMMENT ON FUNCTION projections_internal._sequence_for(regclass, name) IS
    'Internal: the sequence that positions are drawn from; refuses one that cannot tell what is decided.';

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
        SELECT s.relation, s.sequence, (SELECT max(l.position) FROM projections_internal.slot l
            JOIN projections_internal.projection p ON p.relation = l.projection
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

REVOKE EXECUTE ON FUNCTION projections_internal._preset(text), projections_internal._leaves(regclass),
    projections_internal._sequences_of(regclass, name), projections_internal._check_source_table(regclass),
    projections_internal._check_position(regclass, name, boolean), projections_internal._sequence_for(regclass, name),
        projections_internal._source_readers(regclass),
    projections_internal._refuse_while_read(regclass, text), projections_internal._make_arrivals(regclass, name),
        projections_internal._share_arrivals(regclass), projections_internal._drop_arrivals(regclass, regclass),
    projections_internal._register_source(regclass, name, name, name, name, name, name, name, text, text),
        projections_internal._unregister_source(regclass),
    projections_internal._forget_dropped_sources(), projections_internal._check_altered_sources(oid[]) FROM PUBLIC;

CREATE FUNCTION projections.register_source(source text, position_column name DEFAULT NULL,
    stream_column name DEFAULT NULL, version_column name DEFAULT NULL,
                                            type_column name DEFAULT NULL, time_column name DEFAULT NULL,
                                                correlation_column name DEFAULT NULL,
                                            id_column name DEFAULT NULL, preset text DEFAULT NULL,
                                                capture text DEFAULT NULL) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_register_source';
COMMENT ON FUNCTION projections.register_source(text, name, name, name, name, name, name, name, text, text) IS
'Declares an append-only table to be a source of events. source: the table, which may be partitioned. position_column:
bigint or integer, not null, unique, drawn from a sequence; what events are ordered by. The other columns are optional:
stream_column and version_column; type_column, which filters by event types need; time_column (a timestamp without time
zone is taken to be UTC); correlation_column, by which projections.trace() finds events; id_column. preset: fills in
the columns of an event library''s table that are not named: emmett, marten, message_db or pupsourcing. capture:
position, or trigger where positions are drawn in an earlier transaction than the INSERT; then events are ordered by
their arrival, which a trigger on the table notes, and "position" means the arrival''s number everywhere; an event is
known by its position column for good, so one that is deleted and comes again is not applied twice. By default as the
preset says, else position. The same again changes nothing; other columns are refused while projections or
subscriptions read the source. With capture => trigger it waits for writers of the table. Needs to be done by the
table''s owner. Errors: 42P01 no such table; 42501 not the owner; 42703 no such column; 42809 not a table that can be a
source; 42804 and 55000 the position or its sequence cannot serve; 55006 it is being read; 22023 unknown preset or
capture.
Example: SELECT projections.register_source(''orders_events'', position_column => ''seq'', type_column => ''kind'', time_column => ''at'');';

CREATE FUNCTION projections.unregister_source(source text) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_unregister_source';
COMMENT ON FUNCTION projections.unregister_source(text) IS
'Takes back projections.register_source(); the table stays as it is. Needs to be done by the table''s owner.
Errors: 42P01 no such table; 42501 not the owner; 42809 not a source; 55006 projections or subscriptions read it.
Example: SELECT projections.unregister_source(''orders_events'');';
