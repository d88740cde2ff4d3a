-- What can be an event source: any append-only table with a position that tells which events are complete.

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

REVOKE EXECUTE ON FUNCTION projections_internal._preset(text), projections_internal._leaves(regclass),
    projections_internal._sequences_of(regclass, name), projections_internal._check_source_table(regclass),
    projections_internal._check_position(regclass, name, boolean), projections_internal._sequence_for(regclass, name)
    FROM PUBLIC;
