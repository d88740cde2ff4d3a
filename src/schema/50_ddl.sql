-- DDL on sources and projections, followed by event triggers: hooks do not exist in a session that has not loaded the library.

CREATE FUNCTION projections._before_ddl() RETURNS event_trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_before_ddl';
COMMENT ON FUNCTION projections._before_ddl() IS
'Internal: refuses DROP EXTENSION while projections exist, and takes DROP TABLE''s locks in maintenance''s order.';

CREATE FUNCTION projections._captures(projection projections.projection) RETURNS boolean
    LANGUAGE sql IMMUTABLE RETURN projection.mode = 'inline' OR projection.changes <> '{}';
COMMENT ON FUNCTION projections._captures(projections.projection) IS 'Internal: whether a projection has triggers on its sources; others read events.';

-- Removes what is kept about a projection that is going, its change logs included.
CREATE FUNCTION projections._forget(gone projections.projection) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    log oid;
BEGIN
    DELETE FROM projections.slot WHERE projection::oid = gone.relation::oid;
    DELETE FROM projections.checkpoint_change WHERE projection::oid = gone.relation::oid;
    DELETE FROM projections.failure WHERE projection::oid = gone.relation::oid;
    DELETE FROM projections.parked_event WHERE projection::oid = gone.relation::oid;
    DELETE FROM projections.override WHERE projection::oid = gone.relation::oid;
    DELETE FROM projections.transition WHERE projection::oid = gone.relation::oid;
    DELETE FROM projections.rebuild WHERE projection::oid = gone.relation::oid;
    DELETE FROM projections.rebuild_request WHERE projection::oid = gone.relation::oid;
    DELETE FROM projections.throughput_minute WHERE projection::oid = gone.relation::oid;
    DELETE FROM projections.throughput_total WHERE projection::oid = gone.relation::oid;
    IF gone.shadow_of IS NOT NULL AND gone.tables <> '{}' THEN
        PERFORM projections._drop_shadow_tables(gone.tables);
    END IF;
    FOR log IN SELECT c.oid FROM unnest(gone.changes::oid[]) AS l(oid) JOIN pg_class c ON c.oid = l.oid LOOP
        EXECUTE format('DROP TABLE %s', projections._name(log));
    END LOOP;
END
$$;
COMMENT ON FUNCTION projections._forget(projections.projection) IS 'Internal: removes checkpoints, failures, histories and change logs of a dropped projection.';
REVOKE EXECUTE ON FUNCTION projections._forget(projections.projection) FROM PUBLIC;

-- Removes the capture triggers of tables that no projection reads any more.
CREATE FUNCTION projections._drop_idle_triggers(sources regclass[]) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    idle record;
BEGIN
    FOR idle IN
        SELECT t.tgrelid AS source, t.tgname FROM pg_trigger t
        WHERE t.tgrelid = ANY (sources::oid[]) AND t.tgname IN ('projections_capture', 'projections_capture_truncate') AND t.tgparentid = 0
          AND NOT EXISTS (SELECT FROM projections.projection p WHERE t.tgrelid = ANY (p.sources::oid[]) AND projections._captures(p))
        ORDER BY 1, 2
    LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', idle.tgname, projections._name(idle.source));
    END LOOP;
END
$$;
COMMENT ON FUNCTION projections._drop_idle_triggers(regclass[]) IS 'Internal: removes capture triggers from tables that no projection reads.';

-- Turns a projection into an ordinary table.
CREATE FUNCTION projections._release(projection oid) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    released projections.projection;
BEGIN
    DELETE FROM projections.projection p WHERE p.relation = projection::regclass RETURNING * INTO STRICT released;
    PERFORM projections._forget(released);
    IF released.kind <> 'handler' THEN
        EXECUTE format('DROP TRIGGER IF EXISTS projections_guard ON %s', projections._name(released.relation));
        EXECUTE format('DROP TRIGGER IF EXISTS projections_guard_truncate ON %s', projections._name(released.relation));
    ELSIF (SELECT c.relkind = 'v' FROM pg_class c WHERE c.oid = released.relation) THEN
        EXECUTE format('DROP VIEW %s', projections._name(released.relation));
    END IF;
    EXECUTE format('DROP VIEW %s', projections._name(released.definition));
    PERFORM projections._drop_idle_triggers(released.sources);
END
$$;
COMMENT ON FUNCTION projections._release(oid) IS 'Internal: what projections.drop(keep_table => true) does.';
REVOKE EXECUTE ON FUNCTION projections._release(oid), projections._drop_idle_triggers(regclass[]) FROM PUBLIC;

-- A dropped table takes its definition, catalog row and triggers along; a definition that a dropped source took along takes its table.
CREATE FUNCTION projections._after_drop() RETURNS event_trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    gone record;
    idle regclass[] := '{}';
BEGIN
    FOR gone IN
        SELECT p AS projection, p.relation, p.definition, p.sources, p.kind, t.object_identity AS name, t.objid IS NULL AS has_table, d.objid IS NULL AS has_definition, d.original,
               (SELECT c.relkind FROM pg_class c WHERE c.oid = p.relation) AS relkind
        FROM projections.projection p
        LEFT JOIN pg_event_trigger_dropped_objects() t ON t.classid = 'pg_class'::regclass AND t.objid = p.relation::oid AND t.objsubid = 0
        LEFT JOIN pg_event_trigger_dropped_objects() d ON d.classid = 'pg_class'::regclass AND d.objid = p.definition::oid AND d.objsubid = 0
        WHERE t.objid IS NOT NULL OR d.objid IS NOT NULL
        ORDER BY p.relation
    LOOP
        PERFORM projections._refuse_while_applying();
        IF gone.has_table AND gone.original THEN
            RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist',
                MESSAGE = format('cannot drop the definition of projection %s', projections._name(gone.relation)),
                DETAIL = 'The view says what the projection is kept equal to.',
                HINT = format('Drop the projection: SELECT projections.drop(%L);', projections._name(gone.relation));
        END IF;
        IF (gone.projection).shadow_of IS NULL THEN
            PERFORM projections._audit_drop(tg_tag, coalesce(gone.name, projections._name(gone.relation)));
        END IF;
        DELETE FROM projections.projection p WHERE p.relation::oid = gone.relation::oid;
        PERFORM projections._forget(gone.projection);
        IF gone.has_definition THEN
            EXECUTE format('DROP VIEW %s', projections._name(gone.definition));
        END IF;
        IF gone.has_table THEN
            RAISE NOTICE 'drop cascades to projection %', projections._name(gone.relation);
            -- A handler's own tables are the user's.
            IF gone.kind <> 'handler' OR gone.relkind = 'v' THEN
                EXECUTE format('DROP %s %s CASCADE', CASE gone.relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, projections._name(gone.relation));
            END IF;
        END IF;
        idle := idle || gone.sources;
    END LOOP;
    PERFORM projections._drop_idle_triggers(idle);
    PERFORM projections._forget_dropped_sources();

    FOR gone IN
        SELECT p.relation FROM projections.projection p
        WHERE EXISTS (SELECT FROM pg_event_trigger_dropped_objects() d WHERE d.classid = 'pg_class'::regclass AND d.objid = ANY (p.changes::oid[]))
    LOOP
        RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist',
            MESSAGE = format('cannot drop the change log of projection %s', projections._name(gone.relation)),
            DETAIL = 'It holds what the projection has still to be told.',
            HINT = format('Drop the projection: SELECT projections.drop(%L);', projections._name(gone.relation));
    END LOOP;

    -- The rows of a join are told apart by their sources' primary keys.
    FOR gone IN
        SELECT p.relation, s.source
        FROM projections.projection p, LATERAL unnest(p.sources) AS s(source)
        WHERE p.shape = 'rows' AND EXISTS (SELECT FROM pg_class c WHERE c.oid = s.source)
          AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = s.source AND i.indisprimary)
          AND EXISTS (SELECT FROM pg_event_trigger_dropped_objects() d
                      WHERE d.object_type = 'table constraint' AND format('%I.%I', d.address_names[1], d.address_names[2]) = projections._name(s.source))
    LOOP
        RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist',
            MESSAGE = format('cannot drop the primary key of %s because projection %s needs it', gone.source, projections._name(gone.relation)),
            DETAIL = 'The projection tells its rows apart by it.',
            HINT = 'Drop the projection first, and create it again afterwards.';
    END LOOP;

    -- Without its triggers a projection would go wrong in silence.
    IF EXISTS (SELECT FROM pg_event_trigger_dropped_objects() d WHERE d.object_type = 'trigger' AND d.original) THEN
        FOR gone IN
            SELECT p.relation, t.name, t.tgrelid
            FROM projections.projection p, LATERAL (
                SELECT p.relation::oid, n FROM unnest(ARRAY['projections_guard', 'projections_guard_truncate']) AS n WHERE p.kind <> 'handler'
                UNION ALL
                SELECT s, n FROM unnest(p.sources::oid[]) AS s, unnest(ARRAY['projections_capture', 'projections_capture_truncate']) AS n
                WHERE projections._captures(p)
            ) AS t(tgrelid, name)
            WHERE EXISTS (SELECT FROM pg_class c WHERE c.oid = t.tgrelid)
              AND NOT EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = t.tgrelid AND g.tgname = t.name)
              -- What was missing before must not keep anybody from dropping other triggers; validate() tells of it.
              AND EXISTS (SELECT FROM pg_event_trigger_dropped_objects() d
                          WHERE d.object_type = 'trigger' AND d.original AND format('%I.%I', d.address_names[1], d.address_names[2]) = projections._name(t.tgrelid)
                            AND d.address_names[3] = t.name)
        LOOP
            RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist',
                MESSAGE = format('cannot drop trigger %I on %s because projection %s needs it', gone.name, gone.tgrelid::regclass, projections._name(gone.relation)),
                DETAIL = 'Without it the projection would go wrong in silence.',
                HINT = format('Drop the projection: SELECT projections.drop(%L);', projections._name(gone.relation));
        END LOOP;
    END IF;
END
$$;
COMMENT ON FUNCTION projections._after_drop() IS 'Internal: cleans up after dropped projections, definitions and sources.';

-- What would break maintenance is refused, after the fact: the command is undone with its transaction.
CREATE FUNCTION projections._after_ddl() RETURNS event_trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    touched oid[];
    problem record;
BEGIN
    SELECT array_agg(DISTINCT CASE c.classid
               WHEN 'pg_class'::regclass THEN c.objid
               WHEN 'pg_trigger'::regclass THEN (SELECT t.tgrelid FROM pg_trigger t WHERE t.oid = c.objid)
               WHEN 'pg_rewrite'::regclass THEN (SELECT r.ev_class FROM pg_rewrite r WHERE r.oid = c.objid)
           END)
    INTO touched FROM pg_event_trigger_ddl_commands() c;
    touched := touched || ARRAY(SELECT i.inhparent FROM pg_inherits i WHERE i.inhrelid = ANY (touched));

    PERFORM projections._check_altered_sources(touched);

    SELECT p.relation, x.what, x.why INTO problem
    FROM projections.projection p, LATERAL (
        SELECT format('trigger %I', t.tgname), 'It would change or drop rows on their way in.' FROM pg_trigger t
        WHERE t.tgrelid = p.relation AND NOT t.tgisinternal AND t.tgtype & 3 = 3 AND t.tgname <> 'projections_guard'
        UNION ALL
        SELECT format('deferred constraint %I', k.conname), 'It would have to be checked after the commit has begun, when nothing checks it any more.'
        FROM pg_constraint k WHERE k.conrelid = p.relation AND k.condeferred
        UNION ALL
        SELECT format('rule %I', r.rulename), 'It would divert the rows.' FROM pg_rewrite r WHERE r.ev_class = p.relation
        UNION ALL
        SELECT 'a change of the columns that maintenance writes', 'They are those of its definition.'
        WHERE EXISTS (SELECT FROM pg_attribute v LEFT JOIN pg_attribute a ON a.attrelid = p.relation AND a.attnum = v.attnum AND NOT a.attisdropped
                      WHERE p.kind = 'query' AND v.attrelid = p.definition AND v.attnum > 0 AND a.atttypid IS DISTINCT FROM v.atttypid)
        UNION ALL
        SELECT 'other columns than a reducer''s', 'Events are folded into them.'
        WHERE p.kind IN ('reducer', 'state_machine')
          AND EXISTS (SELECT FROM (VALUES ('key', 'text'::regtype), ('state', 'jsonb'), ('version', 'bigint'), ('position', 'bigint'), ('updated_at', 'timestamptz')) AS c(name, type)
                      WHERE NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = p.relation AND a.attname = c.name AND a.atttypid = c.type))
        UNION ALL
        SELECT 'no write-ahead log', 'A crash would empty it.' FROM pg_class c WHERE c.oid = p.relation AND c.relpersistence <> 'p'
        UNION ALL
        SELECT 'inheritance', 'Its rows would be spread over several tables.' FROM pg_inherits i WHERE p.relation IN (i.inhrelid, i.inhparent)
    ) AS x(what, why)
    WHERE p.relation = ANY (touched) AND p.kind <> 'handler' LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('projection %s cannot have %s', projections._name(problem.relation), problem.what),
            DETAIL = problem.why,
            HINT = 'AFTER triggers, indexes, constraints that are checked at once, added columns, grants and policies are all fine.';
    END IF;

    -- A renamed column is renamed in the definition too, so that queries over the one fit the other.
    FOR problem IN
        SELECT p.definition, v.attname AS old_name, a.attname AS new_name
        FROM projections.projection p
        JOIN pg_attribute v ON v.attrelid = p.definition AND v.attnum > 0
        JOIN pg_attribute a ON a.attrelid = p.relation AND a.attnum = v.attnum AND a.attname <> v.attname
        WHERE p.relation = ANY (touched) AND p.kind = 'query'
    LOOP
        EXECUTE format('ALTER VIEW %s RENAME COLUMN %I TO %I', projections._name(problem.definition), problem.old_name, problem.new_name);
    END LOOP;

    -- Who owns a projection owns what belongs to it.
    FOR problem IN
        SELECT h.oid, h.relkind, pg_get_userbyid(c.relowner) AS owner
        FROM projections.projection p JOIN pg_class c ON c.oid = p.relation
        JOIN pg_class h ON (h.oid = p.definition OR h.oid = ANY (p.changes::oid[])) AND h.relowner <> c.relowner
        WHERE p.relation = ANY (touched)
    LOOP
        EXECUTE format('ALTER %s %s OWNER TO %I', CASE problem.relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, projections._name(problem.oid), problem.owner);
    END LOOP;

    SELECT p.relation, s.source, c.relpersistence INTO problem
    FROM projections.projection p, LATERAL unnest(p.sources) AS s(source) JOIN pg_class c ON c.oid = s.source
    WHERE s.source = ANY (touched)
      AND (c.relpersistence <> 'p' OR p.kind = 'query' AND projections._captures(p)
                                      AND EXISTS (SELECT FROM pg_inherits i WHERE s.source IN (i.inhrelid, i.inhparent)))
    ORDER BY projections._name(p.relation) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('cannot make %s %s because projection %s reads it', problem.source,
                             CASE problem.relpersistence WHEN 'p' THEN 'part of an inheritance tree' ELSE 'unlogged' END, projections._name(problem.relation)),
            DETAIL = 'A source is an ordinary table or another projection.',
            HINT = 'Drop the projection first.';
    END IF;

    SELECT p.relation, s.source, r.rolname INTO problem
    FROM projections.projection p, LATERAL unnest(p.sources) AS s(source) JOIN pg_class c ON c.oid = s.source, pg_class t JOIN pg_roles r ON r.oid = t.relowner
    WHERE s.source = ANY (touched) AND t.oid = p.relation AND c.relrowsecurity AND NOT r.rolsuper AND NOT r.rolbypassrls
      AND (c.relforcerowsecurity OR NOT pg_has_role(r.oid, c.relowner, 'USAGE')) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('cannot enable row-level security on %s because projection %s reads it', problem.source, projections._name(problem.relation)),
            DETAIL = format('It would hide rows from %I, who owns the projection.', problem.rolname),
            HINT = 'Let a role that sees every row own the projection, and put policies on the projection itself.';
    END IF;

    FOR problem IN
        UPDATE projections.projection p SET stale_since = now(), stale_reason = format('capture disabled on %s', t.tgrelid::regclass)
        FROM pg_trigger t
        WHERE t.tgrelid = ANY (touched) AND t.tgrelid = ANY (p.sources::oid[]) AND projections._captures(p) AND t.tgname IN ('projections_capture', 'projections_capture_truncate')
          AND t.tgenabled IN ('D', 'R') AND p.stale_since IS NULL
        RETURNING p.relation, t.tgrelid::regclass AS source
    LOOP
        RAISE WARNING 'projection % no longer follows %', projections._name(problem.relation), problem.source
            USING HINT = format('SELECT projections.repair(%L); restores the trigger and what was missed.', projections._name(problem.relation));
    END LOOP;
END
$$;
COMMENT ON FUNCTION projections._after_ddl() IS 'Internal: refuses DDL that would break maintenance, and notices disabled capture.';

CREATE EVENT TRIGGER projections_before_ddl ON ddl_command_start WHEN TAG IN ('DROP EXTENSION', 'DROP TABLE')
    EXECUTE FUNCTION projections._before_ddl();
CREATE EVENT TRIGGER projections_after_drop ON sql_drop EXECUTE FUNCTION projections._after_drop();
CREATE EVENT TRIGGER projections_after_ddl ON ddl_command_end WHEN TAG IN ('ALTER TABLE', 'ALTER VIEW', 'ALTER SEQUENCE', 'CREATE TRIGGER', 'ALTER TRIGGER', 'CREATE RULE', 'CREATE TABLE')
    EXECUTE FUNCTION projections._after_ddl();
