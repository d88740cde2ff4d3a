-- What projections rely on (52_relied.sql), recorded, and compared with the record.

-- What cannot be repaired stays recorded as it was, and so remains a difference.
CREATE FUNCTION projections_internal._record_relied(wanted oid[]) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- Its row's lock keeps sessions apart that find the same.
    INSERT INTO projections_internal.reliance_record AS r (projection, cluster, functions, digest)
    SELECT p.relation, s.system_identifier, '{}', 0
    FROM projections_internal.projection p JOIN pg_class c ON c.oid = p.relation, pg_control_system() s
        WHERE p.relation = ANY (wanted) ORDER BY 1
    ON CONFLICT (projection) DO UPDATE SET cluster = excluded.cluster WHERE r.cluster = excluded.cluster;
    -- OIDs of another cluster say nothing.
    DELETE FROM projections_internal.reliance x USING projections_internal.reliance_record r
    WHERE x.projection = r.projection AND r.projection = ANY (wanted) AND r.cluster <> (SELECT s.system_identifier
        FROM pg_control_system() s);

    WITH now AS MATERIALIZED (SELECT * FROM projections_internal._relied(wanted)), gone AS (
        DELETE FROM projections_internal.reliance r
        WHERE r.projection = ANY (wanted)
          AND NOT EXISTS (SELECT FROM now n WHERE n.projection = r.projection AND n.aspect = r.aspect
              AND n.object = r.object AND n.part = r.part)
          AND r.aspect <> 'told'
    )
    INSERT INTO projections_internal.reliance AS r (projection, aspect, object, part, value)
    SELECT n.projection, n.aspect, n.object, n.part, n.value FROM now n
    ON CONFLICT (projection, aspect, object, part) DO UPDATE SET value = excluded.value
    WHERE r.value <> excluded.value AND NOT EXISTS (SELECT FROM projections_internal._conditions() c
        WHERE c.aspect = r.aspect
        AND NOT c.repairable AND c.changes <> '');

    IF EXISTS (SELECT FROM projections_internal.reliance r WHERE r.projection = ANY (wanted) AND r.aspect = 'told') THEN
        DELETE FROM projections_internal.reliance r
        WHERE r.projection = ANY (wanted) AND r.aspect = 'told'
          AND NOT EXISTS (SELECT FROM projections_internal._differences(wanted) d WHERE d.projection = r.projection
              AND d.object = r.object AND concat_ws(' ', d.aspect, d.place) = r.part);
    END IF;
    UPDATE projections_internal.reliance_record r
    SET cluster = s.system_identifier, functions = f.functions,
        digest = projections_internal._reliance_digest(r.projection,
        f.functions)
    FROM pg_control_system() s, LATERAL (
        SELECT w.oid, ARRAY(SELECT x.object FROM projections_internal.reliance x WHERE x.projection = w.oid
            AND x.aspect IN ('function', 'aggregate') ORDER BY 1) AS functions
        FROM unnest(wanted) AS w(oid)) f
    WHERE r.projection = f.oid;
END
$$;
COMMENT ON FUNCTION projections_internal._record_relied(oid[]) IS 'Internal: records what projections rely on.';

-- What validate() has told of is not refused to those who mend it, one DDL after the other.
CREATE FUNCTION projections_internal._note_told() RETURNS void
    LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO projections_internal.reliance AS r (projection, aspect, object, part, value)
    SELECT d.projection, 'told', d.object, concat_ws(' ', d.aspect, d.place), coalesce(d.value, '')
    FROM projections_internal._differences(NULL) d JOIN projections_internal._conditions() c USING (aspect)
        WHERE d.is_recorded
        AND c.action = 'refuse'
    ON CONFLICT (projection, aspect, object, part) DO UPDATE SET value = excluded.value WHERE r.value <> excluded.value
$$;
COMMENT ON FUNCTION projections_internal._note_told() IS 'Internal: records which differences validate() has found.';

CREATE FUNCTION projections_internal._forget_relied(gone oid) RETURNS void
    LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    DELETE FROM projections_internal.reliance r WHERE r.projection::pg_catalog.oid = gone;
    DELETE FROM projections_internal.reliance_record r WHERE r.projection::pg_catalog.oid = gone;
END;
COMMENT ON FUNCTION projections_internal._forget_relied(oid) IS
    'Internal: removes what is recorded about a projection, whose parts then may change.';

-- refuses: within a DDL, which can still be undone; otherwise what has happened is told, by marking projections stale.
CREATE FUNCTION projections_internal._check_relied(wanted oid[], refuses boolean) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    d record;
    title text;
BEGIN
    -- In the midst of a restore, what is missing is still to come: a worker that looks neither tells nor records it.
    IF NOT refuses THEN
        wanted := ARRAY(
            SELECT u FROM unnest(wanted) u
            WHERE u NOT IN (SELECT r FROM projections_internal._unrecorded() r)
               OR NOT EXISTS (SELECT FROM projections_internal._differences(ARRAY[u]) x
                              WHERE x.aspect IN ('capture trigger', 'guard trigger', 'primary key', 'unique key',
                                               'key index')));
    END IF;
    FOR d IN
        SELECT x.projection, x.name, x.place, x.value, c.*, p.shadow_of,
            projections_internal._name(coalesce(p.part_of, p.shadow_of, p.relation)) AS owner
        FROM projections_internal._differences(wanted) x JOIN projections_internal._conditions() c
            ON c.aspect = x.aspect
            JOIN projections_internal.projection p ON p.relation = x.projection
        WHERE CASE WHEN refuses THEN x.is_new AND (x.is_recorded OR c.at_once)
                                     AND NOT EXISTS (SELECT FROM projections_internal.reliance t
                                         WHERE t.projection = x.projection AND t.aspect = 'told' AND t.object = x.object
                                                     AND t.part = concat_ws(' ', x.aspect, x.place)
                                                         AND t.value = coalesce(x.value, ''))
                   ELSE x.aspect NOT IN ('reference', 'replica identity', 'key constraint', 'key column', 'not null')
                   END -- which harm others
          -- It has been told, and nothing but another projection mends it: other DDL goes on.
          AND (p.stale_since IS NULL OR c.changes = '' OR c.action <> 'refuse')
        ORDER BY c.action, p.shadow_of IS NOT NULL, projections_internal._name(p.relation), x.aspect, x.object, x.place
    LOOP
        IF refuses AND d.action = 'refuse' THEN
            RAISE EXCEPTION USING
                ERRCODE = CASE WHEN d.aspect IN ('primary key', 'unique key', 'capture trigger', 'guard trigger',
                    'key index', 'key constraint', 'key column', 'not null')
                                    THEN 'dependent_objects_still_exist'
                               ELSE 'object_not_in_prerequisite_state' END,
                MESSAGE = format(d.message, d.owner, d.name, d.place, d.value),
                DETAIL = format(d.detail, d.owner, d.name, d.place, d.value),
                HINT = format(d.hint, d.owner, d.name, d.place, d.value);
        END IF;
        title := format(CASE d.action WHEN 'stale' THEN d.detail ELSE d.problem END, d.owner, d.name, d.place, d.value);
        UPDATE projections_internal.projection p SET stale_since = now(), stale_reason = title
            WHERE p.relation = d.projection
            AND p.stale_since IS NULL;
        IF FOUND AND d.shadow_of IS NULL THEN
            RAISE WARNING USING
                MESSAGE = CASE d.action WHEN 'stale' THEN format(d.message, d.owner, d.name, d.place,
                    d.value) ELSE format('projection %s is stale: %s', d.owner, title) END,
                HINT = CASE WHEN d.action = 'stale' THEN format(d.hint, d.owner, d.name, d.place, d.value)
                            ELSE 'SELECT * FROM projections.validate(); says what mends it.' END;
        END IF;
    END LOOP;
    -- In the midst of a restore, what is missing is still to come.
    PERFORM projections_internal._record_relied(CASE WHEN refuses THEN ARRAY(SELECT unnest(wanted) EXCEPT SELECT u
        FROM projections_internal._unrecorded() u) ELSE wanted END);
END
$$;
COMMENT ON FUNCTION projections_internal._check_relied(oid[], boolean) IS
'Internal: compares what projections rely on with what was recorded; refuses the difference, or marks them stale. '
    'Records it anew.';

-- Projections of which nothing is recorded: restored, or kept by an older version.
CREATE FUNCTION projections_internal._unrecorded() RETURNS SETOF oid
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT p.relation::oid FROM projections_internal.projection p JOIN pg_class c ON c.oid = p.relation
    WHERE NOT EXISTS (SELECT FROM projections_internal.reliance_record r
                      WHERE r.projection = p.relation AND r.cluster = (SELECT s.system_identifier
                          FROM pg_control_system() s))
$$;
COMMENT ON FUNCTION projections_internal._unrecorded() IS 'Internal: projections of which nothing is recorded.';

-- Which projections a DDL may concern that touched these objects, and all relations that may have changed with them.
CREATE FUNCTION projections_internal._concerned(touched oid[]) RETURNS oid[]
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT array_agg(DISTINCT f.projection) FROM (
        SELECT p.relation::oid AS projection FROM projections_internal.projection p WHERE p.relation = ANY (touched)
        UNION ALL SELECT r.projection FROM projections_internal.reliance r WHERE r.object = ANY (touched)
        UNION ALL SELECT p.relation FROM projections_internal.projection p
                  WHERE p.sources::oid[] && touched
                      AND p.relation IN (SELECT u FROM projections_internal._unrecorded() u)) f
    WHERE EXISTS (SELECT FROM projections_internal.projection p JOIN pg_class c ON c.oid = p.relation
        WHERE p.relation = f.projection
            -- a DROP below another finds what that one has not come to yet
            AND (p.definition IS NULL OR EXISTS (SELECT FROM pg_class v WHERE v.oid = p.definition)))
$$;
COMMENT ON FUNCTION projections_internal._concerned(oid[]) IS
    'Internal: the projections that rely on one of these objects.';

-- Parents and children, indexes, and what foreign keys refer to.
CREATE FUNCTION projections_internal._related(touched oid[]) RETURNS oid[]
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH RECURSIVE up AS (
        SELECT t.oid FROM unnest(touched) AS t(oid) UNION SELECT i.inhparent FROM up
            JOIN pg_inherits i ON i.inhrelid = up.oid
    ), down AS (
        SELECT t.oid FROM unnest(touched) AS t(oid) UNION SELECT i.inhrelid FROM down
            JOIN pg_inherits i ON i.inhparent = down.oid
    )
    SELECT array_agg(DISTINCT r.oid) FROM (
        SELECT up.oid FROM up UNION ALL SELECT down.oid FROM down
        UNION ALL SELECT i.indrelid FROM pg_index i WHERE i.indexrelid = ANY (touched)
        UNION ALL SELECT c.confrelid FROM pg_constraint c WHERE c.conrelid = ANY (touched) AND c.contype = 'f') r
$$;
COMMENT ON FUNCTION projections_internal._related(oid[]) IS
    'Internal: objects, and the relations that their DDL may have changed with them.';

-- A restore of the data without triggers ends with ENABLE TRIGGER ALL, after which ours would not fire for replicated
-- rows.
CREATE FUNCTION projections_internal._restore_firing(touched oid[]) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    weak record;
BEGIN
    FOR weak IN
        SELECT t.tgrelid, t.tgname FROM pg_trigger t
        WHERE t.tgrelid = ANY (touched) AND t.tgenabled = 'O' AND t.tgparentid = 0 AND projections_internal._is_own(t)
        ORDER BY 1, 2
    LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', projections_internal._name(weak.tgrelid),
            weak.tgname);
    END LOOP;
END
$$;
COMMENT ON FUNCTION projections_internal._restore_firing(oid[]) IS
    'Internal: makes our triggers that are enabled fire always.';

-- Maintenance updates and deletes; a publisher refuses that for a table without an identity.
CREATE FUNCTION projections_internal._identify_published(wanted oid[]) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    p projections_internal.projection;
    found name;
BEGIN
    FOR p IN SELECT x.* FROM projections_internal.projection x
             WHERE (wanted IS NULL OR x.relation = ANY (wanted)) AND x.kind <> 'handler' AND x.shadow_of IS NULL
                 AND projections_internal._lacks_identity(x.relation) ORDER BY x.relation LOOP
        CONTINUE WHEN NOT projections_internal._lacks_identity(p.relation); -- the ALTER TABLE below has come here, too
        SELECT c.relname INTO found FROM projections_internal.reliance r JOIN pg_index i ON i.indexrelid = r.object
            JOIN pg_class c ON c.oid = i.indexrelid
        WHERE r.projection = p.relation AND r.aspect = 'key index' AND i.indrelid = p.relation
          AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = p.relation AND a.attnum = ANY (i.indkey::int2[])
              AND NOT a.attnotnull);
        EXECUTE format('ALTER TABLE %s REPLICA IDENTITY %s', projections_internal._name(p.relation),
            CASE WHEN found IS NULL THEN 'FULL' ELSE format('USING INDEX %I', found) END);
        RAISE NOTICE 'projection % has replica identity % now', projections_internal._name(p.relation),
            coalesce('index ' || quote_ident(found), 'FULL')
            USING DETAIL = 'It is published, and its maintenance updates and deletes rows.';
    END LOOP;
END
$$;
COMMENT ON FUNCTION projections_internal._identify_published(oid[]) IS
    'Internal: gives a replica identity to published '
    'projections (NULL: to all): the index over the key, or FULL where the key may be null.';

-- What validate() tells of differences: of one table together, as the event triggers look at the whole of it after each
-- ALTER TABLE.
CREATE FUNCTION projections_internal._validate_relied()
    RETURNS TABLE(severity text, object text, problem text, hint text,
    owner oid)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH found AS MATERIALIZED (
        SELECT x.projection, p.definition, x.name AS object, c.relowner, k.aspect,
               format(k.problem, projections_internal._name(x.projection), x.name, x.place, x.value) AS problem,
                   format(k.before, NULL, x.name, x.place) AS before,
               format(k.change, NULL, x.name, x.place)
                   AS change, format(k.mend, projections_internal._name(x.projection),
                   x.name, x.place, x.value) AS mend,
               k.aspect IN ('logged source', 'partition') AS of_source, x.object AS source
        FROM projections_internal._differences(NULL) x JOIN projections_internal._conditions() k USING (aspect)
        JOIN projections_internal.projection p ON p.relation = x.projection JOIN pg_class c ON c.oid = x.projection
        WHERE p.shadow_of IS NULL AND k.problem IS NOT NULL
          -- _validate_triggers() and _validate_keys() know more of these
          AND x.aspect NOT IN ('capture trigger', 'guard trigger', 'key index', 'key constraint')
    )
    SELECT 'ERROR', f.object, string_agg(f.problem, '; ' ORDER BY f.problem),
           concat_ws(' ', string_agg(f.before, ' ' ORDER BY f.problem), format('ALTER TABLE %s ', f.object)
               || string_agg(f.change, ', ' ORDER BY f.problem) || ';',
                     projections_internal._repair_readers(f.source)), (SELECT c.relowner FROM pg_class c
                         WHERE c.oid = f.source)
    FROM (SELECT DISTINCT f.source, f.object, f.problem, f.before, f.change FROM found f WHERE f.of_source) f
        GROUP BY f.source, f.object
    UNION ALL
    SELECT 'ERROR', projections_internal._name(f.projection), string_agg(f.problem, '; ' ORDER BY f.problem),
           CASE WHEN bool_or(f.before IS NULL AND f.change IS NULL)
               THEN projections_internal._recreate_sql(f.projection)
                ELSE concat_ws(' ', string_agg(f.before, ' ' ORDER BY f.problem),
                               format('ALTER TABLE %s ', projections_internal._name(f.projection))
                                   || string_agg(f.change, ', ' ORDER BY f.problem) || ';') END,
           f.relowner
    FROM found f WHERE NOT f.of_source AND f.mend IS NULL GROUP BY f.projection, f.relowner
    UNION ALL
    SELECT DISTINCT 'ERROR', projections_internal._name(f.projection), f.problem, f.mend, f.relowner
        FROM found f WHERE f.mend IS NOT NULL
$$;
COMMENT ON FUNCTION projections_internal._validate_relied() IS 'Internal: what is not as projections need it.';

REVOKE EXECUTE ON FUNCTION projections_internal._record_relied(oid[]), projections_internal._note_told(),
    projections_internal._forget_relied(oid), projections_internal._check_relied(oid[], boolean),
    projections_internal._unrecorded(), projections_internal._concerned(oid[]), projections_internal._related(oid[]),
    projections_internal._restore_firing(oid[]), projections_internal._identify_published(oid[]),
    projections_internal._validate_relied() FROM PUBLIC;
