-- Validate projections: what of them is broken or missing, with SQL that mends it. The rest is in 62_validate.sql.
--
-- Each function below knows one kind of thing and looks at all of it in one query: a thousand projections are one look.
-- owner: who else than pg_monitor is told; 0 for nobody, NULL for everybody. A hint mends its problem when it is
-- followed literally; one that has to be completed, or says what else to do, says so in a comment.

-- What repairs the contents of all projections that read a table.
CREATE FUNCTION projections_internal._repair_readers(source oid) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE count(*) WHEN 0 THEN '' WHEN 1 THEN format('SELECT projections.repair(%L);',
        min(projections_internal._name(p.relation)))
        ELSE format('SELECT projections.repair(projection) FROM projections.dependencies WHERE source = %L::regclass;',
            projections_internal._name(source)) END
    FROM projections_internal.projection p WHERE source = ANY (p.sources::oid[]) AND p.shadow_of IS NULL
$$;
COMMENT ON FUNCTION projections_internal._repair_readers(oid) IS
    'Internal: SQL that repairs the projections over a table.';

-- made: what follows the name in CREATE TRIGGER. lost: SQL that brings back what went by unseen.
CREATE FUNCTION projections_internal._wanted_triggers()
    RETURNS TABLE(relation oid, name name, made text, lost text, source oid)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    -- what is being built has a shadow that captures
    SELECT u.relation, u.name, format(n.made, projections_internal._name(u.relation)), 'readers', u.source
    FROM projections_internal._used_capture_triggers() u JOIN projections_internal._own_triggers() n USING (name)
    WHERE u.filled
    UNION ALL
    SELECT w.relation, n.name, format(n.made, projections_internal._name(w.relation), w.arrivals, w.position_column),
        w.lost, w.relation
    FROM (SELECT p.relation::oid AS relation, 'guard' AS function, 'itself' AS lost, NULL::name AS arrivals,
              NULL::name AS position_column FROM projections_internal.projection p
          WHERE p.kind <> 'handler' AND p.shadow_of IS NULL
          UNION ALL
          SELECT s.relation, '_note_arrival',
              format(' INSERT INTO %s (position) SELECT e.%I FROM %s AS e '
                     'WHERE NOT EXISTS (SELECT FROM %1$s AS a WHERE a.position = e.%2$I) ORDER BY 1;',
                     projections_internal._name(s.arrivals), s.position_column, projections_internal._name(s.relation)),
              a.relname, s.position_column
          FROM projections_internal.source s JOIN pg_class a ON a.oid = s.arrivals) w
    JOIN projections_internal._own_triggers() n ON n.function = w.function
$$;
COMMENT ON FUNCTION projections_internal._wanted_triggers() IS 'Internal: the triggers that there must be, ALWAYS.';

CREATE FUNCTION projections_internal._validate_triggers()
    RETURNS TABLE(severity text, object text, problem text, hint text,
    owner oid)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH wanted AS (
        SELECT w.*, c.relowner FROM projections_internal._wanted_triggers() w JOIN pg_class c ON c.oid = w.relation
    ), found AS (
        SELECT w.relation, w.source, w.name, w.relowner, w.lost,
            CASE WHEN t.oid IS NULL THEN format('CREATE TRIGGER %I %s; ', w.name, w.made) ELSE '' END AS made,
               CASE WHEN t.oid IS NULL THEN 'is missing'
                    WHEN other.it THEN 'is another trigger of that name'
                    WHEN t.tgenabled = 'D' THEN 'is disabled'
                    WHEN t.tgenabled = 'R' THEN 'fires for replication only'
                    WHEN t.tgenabled = 'O' THEN 'does not fire for replication; a restore without triggers leaves it '
                        'so' END AS problem,
               -- projections.repair() knows our triggers by their names.
               CASE WHEN other.it
                    THEN format('CREATE OR REPLACE TRIGGER %I %s; ALTER TABLE %s ENABLE ALWAYS TRIGGER %1$I; ', w.name,
                        w.made, projections_internal._name(w.relation)) ELSE '' END AS remake
        FROM wanted w
        LEFT JOIN pg_trigger t ON t.tgrelid = w.relation AND t.tgname = w.name
        CROSS JOIN LATERAL (SELECT t.oid IS NOT NULL AND NOT projections_internal._is_own(t) AS it) other
        UNION ALL
        -- The copies on partitions have states of their own.
        SELECT p.relid, w.relation, w.name, w.relowner, w.lost, '', 'does not fire always on this partition', ''
        FROM wanted w JOIN pg_class c ON c.oid = w.relation AND c.relkind = 'p' CROSS JOIN
            LATERAL pg_partition_tree(w.relation) p
        JOIN pg_trigger t ON t.tgrelid = p.relid AND t.tgname = w.name
        WHERE p.level > 0 AND t.tgenabled <> 'A'
            AND (p.relid, w.name) NOT IN (SELECT x.relation, x.name FROM wanted x)
    )
    SELECT 'ERROR', projections_internal._name(f.relation), format('trigger %I %s', f.name, f.problem),
           f.remake || CASE f.lost WHEN 'readers' THEN projections_internal._repair_readers(f.source)
                                   WHEN 'itself' THEN format('SELECT projections.repair(%L);',
                                       projections_internal._name(f.source))
                                   ELSE f.made || format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I;',
                                       projections_internal._name(f.source), f.name) || f.lost END,
           f.relowner
    FROM found f WHERE f.problem IS NOT NULL
$$;
COMMENT ON FUNCTION projections_internal._validate_triggers() IS
    'Internal: triggers of ours that are missing or do not always fire.';

-- Compiling raises what is wrong with a definition, and no other projection is to be hidden by that.
CREATE FUNCTION projections_internal._compiled(projection regclass, kind text, OUT keys text[], OUT problem text)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF kind = 'query' THEN
        keys := projections_internal._key_columns(projection);
    ELSE
        PERFORM projections_internal._key_expression(projection);
        keys := CASE kind WHEN 'handler' THEN NULL ELSE '{key}' END;
    END IF;
EXCEPTION WHEN OTHERS THEN
    -- What has nothing to do with the definition must not make anybody drop it.
    IF NOT projections_internal._does_not_compile(SQLSTATE) THEN
        RAISE;
    END IF;
    problem := SQLERRM;
END
$$;
COMMENT ON FUNCTION projections_internal._compiled(regclass, text) IS
    'Internal: the key columns of a projection, or what keeps it from being compiled.';

CREATE FUNCTION projections_internal._function_oid(signature text) RETURNS oid
    LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN signature::regprocedure::oid;
EXCEPTION WHEN OTHERS THEN -- the function, its schema, or a type of its arguments
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION projections_internal._function_oid(text) IS
    'Internal: the function of that signature; NULL where there is none.';

-- SQL that takes a projection down and makes it anew.
CREATE FUNCTION projections_internal._recreate_sql(projection regclass) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN format('SELECT projections.drop(%L); %s', projections_internal._name(projection),
        (SELECT projections_internal._create_sql(p)
        FROM projections_internal.projection p WHERE p.relation = projection));
EXCEPTION WHEN OTHERS THEN -- where the definition cannot be read, nobody can say how to make it anew
    RETURN format('SELECT projections.drop(%L, keep_table => true); -- then drop the table, and create the projection '
        'again', projections_internal._name(projection));
END
$$;
COMMENT ON FUNCTION projections_internal._recreate_sql(regclass) IS
    'Internal: SQL that drops a projection and creates it again.';

CREATE FUNCTION projections_internal._missing_rights(projection regclass, OUT what text, OUT command text)
    RETURNS SETOF record LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'projections_missing_rights';
COMMENT ON FUNCTION projections_internal._missing_rights(regclass) IS
    'Internal: what the owner of a projection may not do that its definition needs, and the command that lets him.';

-- Definitions: what they read and call must be there, and the owner may read and call it.
CREATE FUNCTION projections_internal._validate_definitions()
    RETURNS TABLE(severity text, object text, problem text, hint text,
    owner oid)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH known AS MATERIALIZED (
        SELECT p.relation, p.definition::oid, p.kind, c.relowner, pg_get_userbyid(c.relowner) AS role
        FROM projections_internal.projection p JOIN pg_class c ON c.oid = p.relation JOIN pg_class d
            ON d.oid = p.definition
            WHERE p.shadow_of IS NULL
    ), used AS MATERIALIZED (
        SELECT DISTINCT k.relation, d.refclassid, d.refobjid
        FROM known k JOIN pg_rewrite w ON w.ev_class = k.definition
        JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid AND d.refobjid <> k.definition
    ), lost AS MATERIALIZED (
        SELECT u.relation, min(CASE u.refclassid WHEN 'pg_proc'::regclass THEN 'function'
                                                 WHEN 'pg_operator'::regclass THEN 'operator'
                                                 WHEN 'pg_type'::regclass THEN 'type' ELSE 'relation' END) AS what
        FROM used u
        WHERE CASE u.refclassid WHEN 'pg_proc'::regclass THEN NOT EXISTS (SELECT FROM pg_proc x
            WHERE x.oid = u.refobjid)
                                WHEN 'pg_operator'::regclass THEN NOT EXISTS (SELECT FROM pg_operator x
                                    WHERE x.oid = u.refobjid)
                                WHEN 'pg_type'::regclass THEN NOT EXISTS (SELECT FROM pg_type x
                                    WHERE x.oid = u.refobjid)
                                WHEN 'pg_class'::regclass THEN NOT EXISTS (SELECT FROM pg_class x
                                    WHERE x.oid = u.refobjid) ELSE false END
        GROUP BY u.relation
    ), judged AS MATERIALIZED (
        SELECT k.relation, k.relowner, k.role,
            CASE WHEN l.what IS NULL THEN c.problem ELSE format('a %s that it uses is gone', l.what) END AS problem
        FROM known k
        LEFT JOIN lost l ON l.relation = k.relation
        LEFT JOIN LATERAL projections_internal._compiled(k.relation, k.kind) c ON l.what IS NULL
    )
    SELECT 'ERROR', projections_internal._name(j.relation), 'its definition is broken: ' || j.problem,
           projections_internal._recreate_sql(j.relation), j.relowner
    FROM judged j WHERE j.problem IS NOT NULL
    UNION ALL
    SELECT 'ERROR', projections_internal._name(j.relation), format('its owner, %I, %s', j.role, m.what),
           m.command || ';', j.relowner
    FROM judged j,
    LATERAL projections_internal._missing_rights(CASE WHEN j.problem IS NULL THEN j.relation END) m
$$;
COMMENT ON FUNCTION projections_internal._validate_definitions() IS
    'Internal: definitions that are broken, or that the owner may not read.';

-- What handlers and reducers call and write, and what is called for dead letters.
CREATE FUNCTION projections_internal._validate_functions()
    RETURNS TABLE(severity text, object text, problem text, hint text,
    owner oid)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH called AS (
        SELECT p.relation, c.relowner, pg_get_userbyid(c.relowner) AS role, w.signature, w.is_option,
            projections_internal._function_oid(w.signature) AS function
        FROM projections_internal.projection p JOIN pg_class c ON c.oid = p.relation,
        LATERAL (VALUES (p.function, false), (p.options ->> 'on_dead_letter', true)) AS w(signature, is_option)
        WHERE w.signature IS NOT NULL AND p.shadow_of IS NULL
    )
    SELECT CASE WHEN f.is_option THEN 'WARNING' ELSE 'ERROR' END, projections_internal._name(f.relation),
        format('function %s, which it calls%s, is gone', f.signature,
        CASE WHEN f.is_option THEN ' for dead letters' END),
           CASE WHEN f.is_option THEN format('UPDATE projections_internal.projection SET options = options '
               '- ''on_dead_letter'' WHERE relation = %L::regclass;', projections_internal._name(f.relation))
                ELSE format('SELECT projections.drop(%L); -- or create the function again: %s',
                    projections_internal._name(f.relation), f.signature) END,
           f.relowner
    FROM called f WHERE f.function IS NULL
    UNION ALL
    SELECT 'ERROR', projections_internal._name(f.relation), format('its owner, %I, may not call %s', f.role,
        f.signature),
           format('GRANT USAGE ON SCHEMA %s TO %I; GRANT EXECUTE ON FUNCTION %s TO %2$I;', o.pronamespace::regnamespace,
               f.role, f.signature), f.relowner
    FROM called f JOIN pg_proc o ON o.oid = f.function
    WHERE NOT has_function_privilege(f.relowner, o.oid, 'EXECUTE')
        OR NOT has_schema_privilege(f.relowner, o.pronamespace, 'USAGE')
    UNION ALL
    SELECT 'ERROR', projections_internal._name(p.relation), format('its handler''s table %s is gone', t.relation),
        projections_internal._recreate_sql(p.relation), c.relowner
    FROM projections_internal.projection p JOIN pg_class c ON c.oid = p.relation, LATERAL unnest(p.tables::oid[])
        AS t(relation)
    WHERE NOT EXISTS (SELECT FROM pg_class x WHERE x.oid = t.relation) AND p.shadow_of IS NULL
    UNION ALL
    SELECT 'ERROR', projections_internal._name(p.relation), format('its owner, %I, may not write %s',
        pg_get_userbyid(c.relowner), projections_internal._name(t.relation)),
           format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO %I;', projections_internal._name(t.relation),
               pg_get_userbyid(c.relowner)), c.relowner
    FROM projections_internal.projection p JOIN pg_class c ON c.oid = p.relation, LATERAL unnest(p.tables::oid[])
        AS t(relation)
        JOIN pg_class x ON x.oid = t.relation
    WHERE p.shadow_of IS NULL AND NOT has_table_privilege(c.relowner, t.relation, 'INSERT')
        AND NOT has_table_privilege(c.relowner, t.relation, 'UPDATE')
      AND NOT has_table_privilege(c.relowner, t.relation, 'DELETE')
$$;
COMMENT ON FUNCTION projections_internal._validate_functions() IS
    'Internal: functions and tables of handlers and reducers that are gone or out of reach.';

-- Key indexes, and the columns.
CREATE FUNCTION projections_internal._validate_keys() RETURNS TABLE(severity text, object text, problem text, hint text,
    owner oid)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH keyed AS (
        SELECT p.relation, p.shape, c.relowner, k.keys
        FROM projections_internal.projection p JOIN pg_class c ON c.oid = p.relation AND c.relkind = 'r'
            JOIN pg_class d ON d.oid = p.definition,
        LATERAL projections_internal._compiled(p.relation, p.kind) k
        WHERE p.kind <> 'handler' AND p.shadow_of IS NULL AND NOT p.building AND k.problem IS NULL
    ), indexes AS (
        SELECT i.indrelid, i.indexrelid, i.indisvalid AND i.indisready AS usable, i.indisunique AND i.indimmediate
            AND i.indpred IS NULL AND i.indexprs IS NULL AS is_unique,
               i.indexprs IS NOT NULL AND i.indpred IS NULL AS has_expression,
               ARRAY(SELECT a.attname::text COLLATE "C"
                   FROM unnest((i.indkey::int2[])[0:i.indnkeyatts - 1]) AS n(attnum)
                     JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = n.attnum ORDER BY 1) AS columns,
               i.indnullsnotdistinct OR i.indisprimary OR i.indrelid IN (SELECT keyed.relation FROM keyed
                   WHERE keyed.shape IS NULL) AS nulls_equal
        FROM pg_index i WHERE i.indrelid IN (SELECT keyed.relation FROM keyed)
    )
    SELECT 'ERROR', projections_internal._name(k.relation),
           CASE WHEN broken.indexrelid IS NULL THEN format('no unique index has its key (%s)',
               array_to_string(k.keys, ', '))
                ELSE format('index %s of its key is not valid', projections_internal._name(broken.indexrelid)) END,
           CASE WHEN broken.indexrelid IS NULL THEN ''
                WHEN broken.constraint_name IS NULL
                    THEN format('DROP INDEX %s; ', projections_internal._name(broken.indexrelid))
                ELSE format('ALTER TABLE %s DROP CONSTRAINT %I; ', projections_internal._name(k.relation),
                    broken.constraint_name) END
               || format('SELECT projections.repair(%L);', projections_internal._name(k.relation)),
           k.relowner
    FROM keyed k
    LEFT JOIN LATERAL (SELECT i.indexrelid, (SELECT x.conname FROM pg_constraint x WHERE x.conindid = i.indexrelid
        AND x.contype IN ('p', 'u')) AS constraint_name FROM indexes i WHERE i.indrelid = k.relation AND i.is_unique
        AND i.nulls_equal AND NOT i.usable
                         AND i.columns = ARRAY(SELECT n COLLATE "C" FROM unnest(k.keys) AS n ORDER BY 1)
                             LIMIT 1) broken ON true
    WHERE k.keys <> '{}' AND coalesce(k.shape, '') <> 'bag'
      AND NOT EXISTS (SELECT FROM indexes i WHERE i.indrelid = k.relation AND i.is_unique AND i.nulls_equal AND i.usable
                        AND i.columns = ARRAY(SELECT n COLLATE "C" FROM unnest(k.keys) AS n ORDER BY 1))
    UNION ALL
    SELECT 'WARNING', projections_internal._name(k.relation),
        'the index by which rows are found to be removed is missing or '
        'not valid',
           projections_internal._identity_index(k.relation) || ';', k.relowner
    FROM keyed k
    WHERE k.shape = 'bag' AND NOT EXISTS (SELECT FROM indexes i WHERE i.indrelid = k.relation AND i.usable
        AND i.has_expression)
$$;
COMMENT ON FUNCTION projections_internal._validate_keys() IS
    'Internal: projections without the index that maintenance needs.';

-- What maintenance keeps beside a projection, and what it says of itself.
CREATE FUNCTION projections_internal._validate_state()
    RETURNS TABLE(severity text, object text, problem text, hint text,
    owner oid)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH known AS (
        SELECT p.*, c.relowner, projections_internal._name(p.relation) AS name
        FROM projections_internal.projection p JOIN pg_class c ON c.oid = p.relation WHERE p.shadow_of IS NULL
    )
    SELECT 'ERROR', k.name, format('it is stale since %s: %s', to_char(k.stale_since, 'YYYY-MM-DD HH24:MI:SS'),
        k.stale_reason),
           format('SELECT projections.repair(%L);', k.name), k.relowner
    FROM known k WHERE k.stale_since IS NOT NULL
    UNION ALL
    SELECT 'ERROR', k.name, 'its ' || x.what || ' is gone', 'SELECT * FROM projections.cleanup_orphans(); -- leaves '
        'its table as an ordinary one', k.relowner
    FROM known k, LATERAL (
        SELECT 'definition' WHERE NOT EXISTS (SELECT FROM pg_class d WHERE d.oid = k.definition)
        UNION ALL SELECT format('source %s', s.oid) FROM unnest(k.sources::oid[]) AS s(oid)
            WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = s.oid)) AS x(what)
    UNION ALL
    SELECT 'ERROR', projections_internal._name_or_oid(p.relation), 'its table is gone', 'SELECT * FROM '
        'projections.cleanup_orphans();', coalesce(d.relowner, 0)
    FROM projections_internal.projection p LEFT JOIN pg_class d ON d.oid = p.definition
    WHERE p.shadow_of IS NULL AND NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = p.relation)
    UNION ALL
    SELECT 'ERROR', k.name, 'it is not filled, and nobody fills it', format('CALL projections.rebuild(%L);', k.name),
        k.relowner
    FROM known k WHERE k.building AND NOT EXISTS (SELECT FROM projections_internal._live_rebuilds() l
        WHERE l.projection = k.relation)
      AND NOT EXISTS (SELECT FROM projections_internal.rebuild_request q WHERE q.projection = k.relation)
    UNION ALL
    SELECT 'ERROR', k.name, format('%s of its %s checkpoints are missing', r.declared - r.slots, r.declared),
           CASE k.kind WHEN 'handler' THEN format('INSERT INTO projections_internal.slot (projection, slot) SELECT %L, '
               'generate_series(0, %s) ON CONFLICT DO NOTHING; SELECT projections.reset(%1$L);',
                                                  k.name, r.declared - 1)
                       ELSE format('SELECT projections.repair(%L);', k.name) END, k.relowner
    FROM known k JOIN projections_internal._reached r ON r.projection = k.relation WHERE r.slots < r.declared
    UNION ALL
    SELECT 'ERROR', k.name, 'its change log is gone, with what it has still to be told',
        format('SELECT projections.repair(%L);', k.name), k.relowner
    FROM known k WHERE EXISTS (SELECT FROM unnest(k.changes::oid[]) AS l(oid) WHERE NOT EXISTS (SELECT FROM pg_class c
        WHERE c.oid = l.oid))
    UNION ALL
    SELECT 'ERROR', k.name, format('%s belongs to %s, who is no superuser', projections_internal._name(h.oid),
        coalesce(r.rolname, h.relowner::text)),
           format('SELECT projections_internal._secure_projection(%L::regclass);', k.name), k.relowner
    FROM known k JOIN pg_class h ON h.oid = k.definition OR h.oid = ANY (k.changes::oid[])
    LEFT JOIN pg_authid r ON r.oid = h.relowner WHERE r.rolsuper IS NOT TRUE
    UNION ALL
    SELECT 'ERROR', k.name, format('its owner, %I, may not SELECT %s', pg_get_userbyid(k.relowner),
        projections_internal._name(h.oid)),
           format('SELECT projections_internal._secure_projection(%L::regclass);', k.name), k.relowner
    FROM known k JOIN pg_class h ON h.oid = k.definition OR h.oid = ANY (k.changes::oid[])
    WHERE NOT has_table_privilege(k.relowner, h.oid, 'SELECT')
    UNION ALL
    SELECT 'INFO', k.name, format('it is paused since %s by %s: %s', to_char(k.paused_at, 'YYYY-MM-DD HH24:MI:SS'),
        k.paused_by, k.pause_reason),
           format('SELECT projections.resume(%L);', k.name), k.relowner
    FROM known k WHERE k.paused_at < clock_timestamp() - interval '1 day'
$$;
COMMENT ON FUNCTION projections_internal._validate_state() IS
    'Internal: projections that are stale, unfilled, long paused, or lack what maintenance keeps for them.';

REVOKE EXECUTE ON FUNCTION projections_internal._repair_readers(oid), projections_internal._wanted_triggers(),
    projections_internal._validate_triggers(), projections_internal._compiled(regclass, text),
    projections_internal._function_oid(text), projections_internal._recreate_sql(regclass),
    projections_internal._missing_rights(regclass), projections_internal._validate_definitions(),
    projections_internal._validate_functions(), projections_internal._validate_keys(),
    projections_internal._validate_state() FROM PUBLIC;
