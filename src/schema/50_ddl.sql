-- DDL on sources and projections, followed by event triggers: hooks do not exist in a session that has not loaded the
-- library.

CREATE FUNCTION projections_internal._before_ddl() RETURNS event_trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_before_ddl';
COMMENT ON FUNCTION projections_internal._before_ddl() IS
'Internal: takes DROP TABLE''s locks in maintenance''s order, and captures the rows of partitions that go.';

CREATE FUNCTION projections_internal._captures(projection projections_internal.projection) RETURNS boolean
    LANGUAGE sql IMMUTABLE RETURN projection.mode = 'inline' OR projection.changes <> '{}';
COMMENT ON FUNCTION projections_internal._captures(projections_internal.projection) IS
    'Internal: whether a projection has triggers on its sources; others read events.';

-- Removes what is kept about a projection that is going, its change logs included.
CREATE FUNCTION projections_internal._forget(gone projections_internal.projection) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    log oid;
BEGIN
    DELETE FROM projections_internal.slot WHERE projection::oid = gone.relation::oid;
    DELETE FROM projections_internal.checkpoint_change WHERE projection::oid = gone.relation::oid;
    DELETE FROM projections_internal.failure WHERE projection::oid = gone.relation::oid;
    DELETE FROM projections_internal.parked_event WHERE projection::oid = gone.relation::oid;
    DELETE FROM projections_internal.override WHERE projection::oid = gone.relation::oid;
    DELETE FROM projections_internal.transition WHERE projection::oid = gone.relation::oid;
    DELETE FROM projections_internal.rebuild WHERE projection::oid = gone.relation::oid;
    DELETE FROM projections_internal.rebuild_request WHERE projection::oid = gone.relation::oid;
    DELETE FROM projections_internal.throughput_minute WHERE projection::oid = gone.relation::oid;
    DELETE FROM projections_internal.throughput_total WHERE projection::oid = gone.relation::oid;
    PERFORM projections_internal._forget_relied(gone.relation::oid);
    IF gone.shadow_of IS NOT NULL AND gone.tables <> '{}' THEN
        PERFORM projections_internal._drop_shadow_tables(gone.tables);
    END IF;
    FOR log IN SELECT c.oid FROM unnest(gone.changes::oid[]) AS l(oid) JOIN pg_class c ON c.oid = l.oid LOOP
        -- a view of somebody's must not keep it
        EXECUTE format('DROP TABLE %s CASCADE', projections_internal._name(log));
    END LOOP;
    PERFORM projections_internal._share_arrivals(s) FROM unnest(gone.sources) s;
END
$$;
COMMENT ON FUNCTION projections_internal._forget(projections_internal.projection) IS
    'Internal: removes checkpoints, failures, histories and change logs of a dropped projection.';
REVOKE EXECUTE ON FUNCTION projections_internal._forget(projections_internal.projection) FROM PUBLIC;

-- Removes the capture triggers of tables that no projection reads any more.
CREATE FUNCTION projections_internal._drop_idle_triggers(sources regclass[]) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    idle record;
BEGIN
    FOR idle IN
        SELECT t.tgrelid AS source, t.tgname FROM pg_trigger t
        WHERE (t.tgrelid = ANY (sources::oid[])
            OR t.tgrelid IN (SELECT m FROM unnest(sources::oid[]) s, projections_internal._members(s) m))
          AND t.tgfoid = 'projections_internal.capture()'::regprocedure
          AND t.tgparentid = 0 AND projections_internal._is_own(t)
          AND (t.tgrelid, t.tgname) NOT IN (SELECT u.relation, u.name
              FROM projections_internal._used_capture_triggers() u)
        ORDER BY 1, 2
    LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', idle.tgname, projections_internal._name(idle.source));
    END LOOP;
END
$$;
COMMENT ON FUNCTION projections_internal._drop_idle_triggers(regclass[]) IS
    'Internal: removes capture triggers from tables that no projection reads.';

-- The parts of a projection that has gone, which nothing else reads: outer ones first.
CREATE FUNCTION projections_internal._drop_parts(gone oid) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    part oid;
BEGIN
    FOR part IN SELECT q FROM projections_internal._parts(gone, true) q JOIN pg_class c ON c.oid = q LOOP
        EXECUTE format('DROP TABLE %s CASCADE', projections_internal._name(part));
    END LOOP;
END
$$;
COMMENT ON FUNCTION projections_internal._drop_parts(oid) IS 'Internal: drops the parts of a projection.';

-- Turns a projection into an ordinary table.
CREATE FUNCTION projections_internal._release(projection oid) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    released projections_internal.projection;
BEGIN
    DELETE FROM projections_internal.projection p WHERE p.relation = projection::regclass RETURNING *
        INTO STRICT released;
    PERFORM projections_internal._forget(released);
    IF released.kind <> 'handler' THEN
        EXECUTE format('DROP TRIGGER IF EXISTS projections_guard ON %s', projections_internal._name(released.relation));
        EXECUTE format('DROP TRIGGER IF EXISTS projections_guard_truncate ON %s',
            projections_internal._name(released.relation));
    ELSIF (SELECT c.relkind = 'v' FROM pg_class c WHERE c.oid = released.relation) THEN
        EXECUTE format('DROP VIEW %s', projections_internal._name(released.relation));
    END IF;
    EXECUTE format('DROP VIEW %s CASCADE', projections_internal._name(released.definition));
    PERFORM projections_internal._drop_idle_triggers(released.sources);
    PERFORM projections_internal._drop_parts(released.relation);
END
$$;
COMMENT ON FUNCTION projections_internal._release(oid) IS 'Internal: what projections.drop(keep_table => true) does.';
REVOKE EXECUTE ON FUNCTION projections_internal._release(oid), projections_internal._drop_parts(oid),
    projections_internal._drop_idle_triggers(regclass[])
    FROM PUBLIC;

-- A dropped table takes its definition, catalog row and triggers along; a definition that a dropped source took along
-- takes its table.
CREATE FUNCTION projections_internal._after_drop() RETURNS event_trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    gone record;
    idle regclass[] := '{}';
    touched oid[];
BEGIN
    FOR gone IN
        SELECT p AS projection, p.relation, p.definition, p.sources, p.kind, t.object_identity AS name,
            EXISTS (SELECT FROM pg_class c WHERE c.oid = p.relation) AS has_table,
            EXISTS (SELECT FROM pg_class c WHERE c.oid = p.definition) AS has_definition, d.original,
               (SELECT c.relkind FROM pg_class c WHERE c.oid = p.relation) AS relkind
        FROM projections_internal.projection p
        LEFT JOIN pg_event_trigger_dropped_objects() t ON t.classid = 'pg_class'::regclass AND t.objid = p.relation::oid
            AND t.objsubid = 0
        LEFT JOIN pg_event_trigger_dropped_objects() d ON d.classid = 'pg_class'::regclass
            AND d.objid = p.definition::oid AND d.objsubid = 0
        -- A table that has gone by another command is the business of that one.
        WHERE t.objid IS NOT NULL OR d.objid IS NOT NULL AND EXISTS (SELECT FROM pg_class c WHERE c.oid = p.relation)
        ORDER BY p.relation
    LOOP
        -- What is dropped here calls this function again, which may have been there first.
        CONTINUE WHEN NOT EXISTS (SELECT FROM projections_internal.projection p
            WHERE p.relation::oid = gone.relation::oid);
        PERFORM projections_internal._refuse_while_applying();
        IF gone.has_table AND gone.original THEN
            RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist',
                MESSAGE = format('cannot drop the definition of projection %s',
                    projections_internal._name(gone.relation)),
                DETAIL = 'The view says what the projection is kept equal to.',
                HINT = format('Drop the projection: SELECT projections.drop(%L);',
                    projections_internal._name(gone.relation));
        END IF;
        IF (gone.projection).shadow_of IS NULL AND (gone.projection).part_of IS NULL THEN
            PERFORM projections_internal._audit_drop(tg_tag,
                coalesce(gone.name, projections_internal._name(gone.relation)));
        END IF;
        DELETE FROM projections_internal.projection p WHERE p.relation::oid = gone.relation::oid;
        PERFORM projections_internal._forget(gone.projection);
        IF gone.has_definition AND EXISTS (SELECT FROM pg_class c WHERE c.oid = gone.definition) THEN
            EXECUTE format('DROP VIEW %s CASCADE', projections_internal._name(gone.definition));
        END IF;
        IF gone.has_table AND EXISTS (SELECT FROM pg_class c WHERE c.oid = gone.relation) THEN
            IF (gone.projection).part_of IS NULL THEN
                RAISE NOTICE 'drop cascades to projection %', projections_internal._name(gone.relation);
            END IF;
            -- A handler's own tables are the user's.
            IF gone.kind <> 'handler' OR gone.relkind = 'v' THEN
                EXECUTE format('DROP %s %s CASCADE', CASE gone.relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END,
                    projections_internal._name(gone.relation));
            END IF;
        END IF;
        PERFORM projections_internal._drop_parts(gone.relation);
        idle := idle || gone.sources;
    END LOOP;
    PERFORM projections_internal._drop_idle_triggers(idle);
    PERFORM projections_internal._forget_dropped_sources();

    FOR gone IN
        SELECT p.relation FROM projections_internal.projection p
        WHERE EXISTS (SELECT FROM pg_event_trigger_dropped_objects() d WHERE d.classid = 'pg_class'::regclass
            AND d.objid = ANY (p.changes::oid[]))
    LOOP
        RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist',
            MESSAGE = format('cannot drop the change log of projection %s', projections_internal._name(gone.relation)),
            DETAIL = 'It holds what the projection has still to be told.',
            HINT = format('Drop the projection: SELECT projections.drop(%L);',
                projections_internal._name(gone.relation));
    END LOOP;

    -- What went from a table that is still there.
    SELECT array_agg(DISTINCT CASE WHEN d.object_type IN ('trigger', 'rule', 'policy', 'table constraint',
        'default value', 'table column')
                                   THEN to_regclass(format('%I.%I', d.address_names[1],
                                       d.address_names[2]))::oid ELSE d.objid END) INTO touched
    FROM pg_event_trigger_dropped_objects() d WHERE NOT d.is_temporary;
    touched := projections_internal._concerned(touched);
    IF touched IS NOT NULL THEN
        PERFORM projections_internal._follow_members(touched);
        PERFORM projections_internal._check_relied(touched, true);
    END IF;
    PERFORM projections_internal._members_followed();
END
$$;
COMMENT ON FUNCTION projections_internal._after_drop() IS
    'Internal: cleans up after dropped projections, definitions and sources.';

-- Our trigger functions are for triggers that we make.
CREATE FUNCTION projections_internal._refuse_foreign_capture(touched oid[]) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    foreigner record;
BEGIN
    SELECT t.tgname, t.tgrelid, f.proname INTO foreigner
    FROM pg_trigger t JOIN pg_proc f ON f.oid = t.tgfoid
    WHERE t.tgrelid = ANY (touched) AND f.pronamespace = 'projections_internal'::regnamespace
        AND f.proname IN (SELECT n.function FROM projections_internal._own_triggers() n)
        AND t.tgname NOT IN (SELECT n.name FROM projections_internal._own_triggers() n
            WHERE n.function = f.proname) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('trigger %I on %s cannot call projections_internal.%I()', foreigner.tgname,
                projections_internal._name(foreigner.tgrelid), foreigner.proname),
            DETAIL = 'What the extension captures would be captured twice, or not under the name by which it is known.',
            HINT = 'The extension makes, names and removes its triggers itself.';
    END IF;
END
$$;
COMMENT ON FUNCTION projections_internal._refuse_foreign_capture(oid[]) IS
    'Internal: refuses users'' triggers on our trigger functions, and other names for ours.';
REVOKE EXECUTE ON FUNCTION projections_internal._refuse_foreign_capture(oid[]) FROM PUBLIC;

-- What would break maintenance is refused, after the fact: the command is undone with its transaction.
CREATE FUNCTION projections_internal._after_ddl() RETURNS event_trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    touched oid[];
    concerned oid[];
    publishes boolean;
    ours boolean; -- a projection or an event source is among it
    problem record;
BEGIN
    SELECT array_agg(DISTINCT CASE c.classid
               WHEN 'pg_trigger'::regclass THEN (SELECT t.tgrelid FROM pg_trigger t WHERE t.oid = c.objid)
               WHEN 'pg_rewrite'::regclass THEN (SELECT r.ev_class FROM pg_rewrite r WHERE r.oid = c.objid)
               WHEN 'pg_constraint'::regclass THEN (SELECT k.conrelid FROM pg_constraint k WHERE k.oid = c.objid)
               ELSE c.objid
           END), bool_or(c.classid IN ('pg_publication'::regclass, 'pg_publication_rel'::regclass,
               'pg_publication_namespace'::regclass))
    INTO touched, publishes FROM pg_event_trigger_ddl_commands() c
    -- Our own script makes and replaces what this function calls.
    WHERE c.objid IS NOT NULL AND (c.schema_name IS DISTINCT FROM 'pg_temp'
            OR EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.objid)) -- may be below what is not temporary
        AND NOT (c.in_extension
            AND coalesce(c.schema_name, 'projections') IN ('projections', 'projections_internal'));
    IF touched IS NULL THEN
        RETURN;
    END IF;
    IF tg_tag = 'ALTER EXTENSION' THEN -- an older version recorded nothing
        PERFORM projections_internal._record_relied(ARRAY(SELECT u FROM projections_internal._unrecorded() u));
    END IF;
    touched := projections_internal._related(touched);
    ours := EXISTS (SELECT FROM projections_internal.projection p WHERE p.relation = ANY (touched))
            OR EXISTS (SELECT FROM projections_internal.source s WHERE s.relation = ANY (touched)
                OR s.sequence = ANY (touched));
    IF ours THEN
        PERFORM projections_internal._check_altered_sources(touched);
    END IF;
    PERFORM projections_internal._refuse_foreign_capture(touched);
    concerned := projections_internal._concerned(touched);
    IF publishes OR concerned IS NOT NULL THEN
        PERFORM projections_internal._identify_published(CASE WHEN publishes THEN NULL ELSE concerned END);
    END IF;
    -- Who owns a projection, or a source, may use what is hidden of it; and owns its parts.
    IF ours THEN
        FOR problem IN SELECT q.relation, pg_get_userbyid(c.relowner) AS owner
            FROM projections_internal.projection q JOIN pg_class c ON c.oid = q.part_of
            JOIN pg_class d ON d.oid = q.relation
            WHERE q.part_of = ANY (touched) AND d.relowner <> c.relowner ORDER BY q.relation LOOP
            EXECUTE format('ALTER TABLE %s OWNER TO %I', projections_internal._name(problem.relation), problem.owner);
        END LOOP;
        PERFORM projections_internal._secure_hidden(touched);
    END IF;
    IF concerned IS NULL THEN
        RETURN;
    END IF;
    PERFORM projections_internal._restore_firing(touched);

    -- A renamed column is renamed in the definition too, so that queries over the one fit the other.
    FOR problem IN
        SELECT p.definition, v.attname AS old_name, a.attname AS new_name
        FROM projections_internal.projection p
        JOIN pg_attribute v ON v.attrelid = p.definition AND v.attnum > 0
        JOIN pg_attribute a ON a.attrelid = p.relation AND a.attnum = v.attnum AND a.attname <> v.attname
        WHERE p.relation = ANY (concerned) AND p.kind = 'query'
            AND NOT (p.building AND p.sources = '{}') -- taken off: it gets another definition
    LOOP
        EXECUTE format('ALTER VIEW %s RENAME COLUMN %I TO %I', projections_internal._name(problem.definition),
            problem.old_name,
            problem.new_name);
    END LOOP;

    PERFORM projections_internal._follow_members(concerned);
    PERFORM projections_internal._check_relied(concerned, true);
END
$$;
COMMENT ON FUNCTION projections_internal._after_ddl() IS
    'Internal: compares what projections rely on after every DDL, and refuses what would break maintenance.';

REVOKE EXECUTE ON FUNCTION projections_internal._before_ddl(), projections_internal._after_drop(),
    projections_internal._after_ddl(),
    projections_internal._captures(projections_internal.projection) FROM PUBLIC;

CREATE EVENT TRIGGER projections_before_ddl ON ddl_command_start WHEN TAG IN ('DROP TABLE')
    EXECUTE FUNCTION projections_internal._before_ddl();
CREATE EVENT TRIGGER projections_before_alter ON ddl_command_start WHEN TAG IN ('ALTER TABLE')
    EXECUTE FUNCTION projections_internal._before_ddl();
CREATE EVENT TRIGGER projections_after_drop ON sql_drop EXECUTE FUNCTION projections_internal._after_drop();
-- Of whatever command: what matters is what it has led to.
CREATE EVENT TRIGGER projections_after_ddl ON ddl_command_end EXECUTE FUNCTION projections_internal._after_ddl();
