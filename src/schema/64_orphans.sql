-- Orphans: what is left of projections that are gone.
--
-- Ours is sure to be ours: a row of the catalog; a trigger by its name and its function; and in the extension's schema,
-- which only a superuser may create in, what carries the comment that the extension gives to what it makes there
-- (catalog::mark_hidden). A table without that comment is somebody's own, whatever its name.

CREATE FUNCTION projections_internal._hold_off_rebuild(projection oid) RETURNS boolean
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'projections_hold_off_rebuild';
COMMENT ON FUNCTION projections_internal._hold_off_rebuild(oid) IS
'Internal: takes, to the end of the transaction, the lock that a rebuild of the projection holds; false where one '
    'runs.';
REVOKE EXECUTE ON FUNCTION projections_internal._hold_off_rebuild(oid) FROM PUBLIC;

-- A number that names no relation any more is all that is left of its name.
CREATE FUNCTION projections_internal._name_or_oid(relation oid) RETURNS text
    LANGUAGE sql STABLE
    RETURN COALESCE(projections_internal._name(relation::pg_catalog.regclass), 'relation ' || relation);
COMMENT ON FUNCTION projections_internal._name_or_oid(oid) IS
    'Internal: a relation''s name, or what it is known by where it is gone.';

-- By the lock that it holds, which goes with its process, and is of this database: a copy of the database, made and
-- restored while a rebuild ran, has its row too. A standby does not see its primary's locks, and may not remove
-- anything.
CREATE FUNCTION projections_internal._live_rebuilds() RETURNS SETOF projections_internal.rebuild
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT r.* FROM projections_internal.rebuild r
    WHERE r.ended_at IS NULL AND (pg_is_in_recovery() OR r.pid = projections_internal._rebuild_holder(r.projection))
$$;
COMMENT ON FUNCTION projections_internal._live_rebuilds() IS 'Internal: rebuilds that somebody runs.';

-- Removes what is kept about a projection, with its shadow's table, and leaves a user's table as an ordinary one.
-- Nothing of it need be there.
CREATE FUNCTION projections_internal._discard(projection oid) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    gone projections_internal.projection;
    guard name;
    kind "char" := (SELECT c.relkind FROM pg_class c WHERE c.oid = projection);
BEGIN
    DELETE FROM projections_internal.projection p WHERE p.relation::oid = projection RETURNING * INTO gone;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    PERFORM projections_internal._forget(gone);
    IF gone.shadow_of IS NOT NULL AND kind = 'r' THEN
        EXECUTE format('DROP TABLE %s', projections_internal._name(projection));
    ELSIF kind = 'v' THEN
        EXECUTE format('DROP VIEW %s', projections_internal._name(projection));
    ELSIF kind = 'r' AND gone.kind <> 'handler' THEN
        FOR guard IN SELECT n.name FROM projections_internal._own_triggers() n WHERE n.function = 'guard' LOOP
            EXECUTE format('DROP TRIGGER IF EXISTS %I ON %s', guard, projections_internal._name(projection));
        END LOOP;
    END IF;
    IF EXISTS (SELECT FROM pg_class c WHERE c.oid = gone.definition) THEN
        EXECUTE format('DROP VIEW %s', projections_internal._name(gone.definition));
    END IF;
    PERFORM projections_internal._drop_idle_triggers(gone.sources);
END
$$;
COMMENT ON FUNCTION projections_internal._discard(oid) IS
    'Internal: removes what is kept about a projection of which something is gone.';

CREATE FUNCTION projections_internal._discard_shadow(shadow oid) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    original oid := (SELECT p.shadow_of FROM projections_internal.projection p WHERE p.relation::oid = shadow);
BEGIN
    IF NOT projections_internal._hold_off_rebuild(original) THEN
        RAISE EXCEPTION USING ERRCODE = 'PJ003', MESSAGE = format('a rebuild of %s runs',
            projections_internal._name_or_oid(original)),
            DETAIL = 'It uses the shadow.', HINT = 'SELECT * FROM projections.rebuilds;';
    END IF;
    UPDATE projections_internal.rebuild r SET ended_at = clock_timestamp(), outcome = 'died', shadow = NULL
        WHERE r.shadow::oid = _discard_shadow.shadow AND r.ended_at IS NULL;
    PERFORM projections_internal._discard(shadow);
END
$$;
COMMENT ON FUNCTION projections_internal._discard_shadow(oid) IS 'Internal: removes the shadow of a rebuild that died.';

-- Catalog rows and triggers.

CREATE FUNCTION projections_internal._orphaned_projections() RETURNS TABLE(kind text, object text, since timestamptz,
    reason text, owner oid, removal text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT 'shadow', projections_internal._name_or_oid(p.relation), coalesce(r.started_at, p.created_at),
           CASE WHEN o.oid IS NULL THEN 'the projection that it was to replace is gone'
                WHEN r.id IS NULL THEN format('nobody rebuilds %s', projections_internal._name(o.oid))
                ELSE format('pid %s of %s, which rebuilt %s, is gone; it was %s', r.pid, r.started_by,
                    projections_internal._name(o.oid), r.phase) END,
           coalesce(c.relowner, o.relowner, 0), format('SELECT projections_internal._discard_shadow(%s)',
               p.relation::oid)
    FROM projections_internal.projection p
    LEFT JOIN pg_class c ON c.oid = p.relation
    LEFT JOIN pg_class o ON o.oid = p.shadow_of
    LEFT JOIN LATERAL (SELECT * FROM projections_internal.rebuild r WHERE r.projection::oid = p.shadow_of::oid
        AND r.shadow::oid = p.relation::oid ORDER BY r.id DESC LIMIT 1) r ON true
    WHERE p.shadow_of IS NOT NULL AND NOT EXISTS (SELECT FROM projections_internal._live_rebuilds() l
        WHERE l.projection::oid = p.shadow_of::oid)
    UNION ALL
    SELECT 'rebuild', format('%s of %s', r.action, projections_internal._name_or_oid(r.projection)), r.started_at,
           format('pid %s of %s is gone; it was %s', r.pid, r.started_by, r.phase), coalesce(c.relowner, 0),
           format('UPDATE projections_internal.rebuild SET ended_at = pg_catalog.clock_timestamp(), outcome = ''died'' '
               'WHERE id '
               '= %s AND ended_at IS NULL', r.id)
    FROM projections_internal.rebuild r
    LEFT JOIN pg_class c ON c.oid = r.projection
    WHERE r.ended_at IS NULL AND NOT EXISTS (SELECT FROM projections_internal._live_rebuilds() l WHERE l.id = r.id)
      AND NOT EXISTS (SELECT FROM projections_internal.projection p WHERE p.relation::oid = r.shadow::oid)
    UNION ALL
    SELECT 'projection', projections_internal._name_or_oid(p.relation), p.created_at,
           CASE WHEN c.oid IS NULL THEN 'its table is gone' WHEN d.oid IS NULL THEN 'its definition is gone'
                ELSE 'a source is gone' END || CASE WHEN c.relkind = 'r' THEN '; cleanup leaves its table as an '
                    'ordinary one' ELSE '' END,
           coalesce(c.relowner, d.relowner, 0), format('SELECT projections_internal._discard(%s)', p.relation::oid)
    FROM projections_internal.projection p
    LEFT JOIN pg_class c ON c.oid = p.relation
    LEFT JOIN pg_class d ON d.oid = p.definition
    WHERE p.shadow_of IS NULL
      AND (c.oid IS NULL OR d.oid IS NULL OR EXISTS (SELECT FROM unnest(p.sources::oid[]) AS s(oid)
          WHERE NOT EXISTS (SELECT FROM pg_class x WHERE x.oid = s.oid)))
    UNION ALL
    SELECT 'event source', projections_internal._name_or_oid(s.relation), NULL, 'its table is gone', 0,
           format('DELETE FROM projections_internal.source WHERE relation::pg_catalog.oid = %s; SELECT '
               'projections_internal._drop_arrivals(%1$s, %s)', s.relation::oid, coalesce(s.arrivals::oid, 0))
    FROM projections_internal.source s WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = s.relation)
    UNION ALL
    SELECT 'subscription', quote_ident(s.name), coalesce(s.acked_at, s.created_at), CASE WHEN r.oid IS NULL THEN 'its '
        'owner is gone' ELSE 'its source is gone' END,
           coalesce(r.oid, 0), format('DELETE FROM projections_internal.subscription WHERE name = %L', s.name)
    FROM projections_internal.subscription s
    LEFT JOIN pg_authid r ON r.oid = s.owner
    LEFT JOIN pg_class c ON c.oid = s.source
    WHERE r.oid IS NULL OR c.oid IS NULL
$$;
COMMENT ON FUNCTION projections_internal._orphaned_projections() IS
    'Internal: rows of the catalog that lack what they are about.';

CREATE FUNCTION projections_internal._orphaned_triggers()
    RETURNS TABLE(kind text, object text, since timestamptz, reason text,
    owner oid, removal text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH used AS (
        SELECT u.relation, 'capture'::name AS function FROM projections_internal._used_capture_triggers() u
        UNION
        SELECT p.relation::oid, 'guard' FROM projections_internal.projection p
        UNION
        SELECT s.relation::oid, '_note_arrival' FROM projections_internal.source s WHERE s.arrivals IS NOT NULL
    )
    SELECT 'trigger', format('%I on %s', t.tgname, projections_internal._name(t.tgrelid)), NULL::timestamptz,
           CASE f.proname WHEN 'capture' THEN 'no projection reads the table' WHEN 'guard' THEN 'the table is no '
               'projection'
                          ELSE 'the table is no event source that is followed by a trigger' END,
           c.relowner, format('DROP TRIGGER IF EXISTS %I ON %s', t.tgname, projections_internal._name(t.tgrelid))
    FROM pg_trigger t
    JOIN pg_proc f ON f.oid = t.tgfoid AND f.pronamespace = 'projections_internal'::regnamespace
    JOIN pg_class c ON c.oid = t.tgrelid
    WHERE t.tgparentid = 0 AND projections_internal._is_own(t)
      -- hashed, as NOT EXISTS would not be
      AND (t.tgrelid, f.proname) NOT IN (SELECT u.relation, u.function FROM used u)
$$;
COMMENT ON FUNCTION projections_internal._orphaned_triggers() IS 'Internal: our triggers on tables that need none.';

-- What the extension made in its schema, or as a handler's view of its checkpoints, and no row names.
CREATE FUNCTION projections_internal._orphaned_relations()
    RETURNS TABLE(kind text, object text, since timestamptz, reason text,
    owner oid, removal text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH used AS (
        SELECT p.relation::oid FROM projections_internal.projection p
        UNION SELECT p.definition::oid FROM projections_internal.projection p
        UNION SELECT unnest(p.changes)::oid FROM projections_internal.projection p
        UNION SELECT s.arrivals::oid FROM projections_internal.source s WHERE s.arrivals IS NOT NULL
    )
    SELECT m.kind, projections_internal._name(c.oid), NULL::timestamptz,
        format('it was made as the %s, and nothing uses it',
        substr(d.description, 17)),
           -- Superusers' themselves; whose projection it was, the grants tell.
           coalesce((SELECT min(a.grantee) FROM aclexplode(c.relacl) a WHERE a.grantee NOT IN (0, c.relowner)),
               c.relowner),
           format('DROP %s IF EXISTS %s', CASE c.relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END,
               projections_internal._name(c.oid))
    FROM pg_description d
    JOIN pg_class c ON c.oid = d.objoid AND c.relkind IN ('r', 'v'),
    LATERAL (SELECT substring(d.description FROM '^pg_projections: (.+?) of [^ ]') AS kind) m
    WHERE d.classoid = 'pg_class'::regclass AND d.objsubid = 0 AND m.kind IS NOT NULL
      AND (c.relnamespace = 'projections_internal'::regnamespace
           OR m.kind = 'view' AND c.relkind = 'v' AND EXISTS (
               SELECT FROM pg_rewrite w JOIN pg_depend n ON n.classid = 'pg_rewrite'::regclass AND n.objid = w.oid
               WHERE w.ev_class = c.oid AND n.refclassid = 'pg_class'::regclass
                   AND n.refobjid = 'projections_internal._slots'::regclass))
      AND NOT EXISTS (SELECT FROM pg_depend n WHERE n.classid = 'pg_class'::regclass AND n.objid = c.oid
          AND n.deptype = 'e')
      AND c.oid NOT IN (SELECT u.relation FROM used u) -- hashed, as NOT EXISTS would not be
    UNION ALL
    -- What a handler's rebuild writes has the names of its tables, in a schema of their own.
    SELECT 'shadow', format('schema %I', n.nspname), NULL, format('it was made as the %s, and nothing uses it',
        substr(d.description, 17)), n.nspowner,
           format('SELECT projections_internal._drop_shadow_tables(ARRAY(SELECT c.oid::pg_catalog.regclass FROM '
               'pg_catalog.pg_class c WHERE c.relnamespace = %s AND c.relkind = ''r'')); '
                  'DROP SCHEMA IF EXISTS %I', n.oid, n.nspname)
    FROM pg_description d JOIN pg_namespace n ON n.oid = d.objoid
    WHERE d.classoid = 'pg_namespace'::regclass AND projections_internal._is_shadow_schema(n.oid)
      AND NOT EXISTS (SELECT FROM projections_internal.projection p, unnest(p.tables::oid[]) AS t(oid)
          JOIN pg_class c ON c.oid = t.oid WHERE p.shadow_of IS NOT NULL AND c.relnamespace = n.oid)
$$;
COMMENT ON FUNCTION projections_internal._orphaned_relations() IS
    'Internal: hidden tables and views that nothing uses.';

CREATE FUNCTION projections_internal._orphaned_rows()
    RETURNS TABLE(kind text, object text, since timestamptz, reason text,
    owner oid, removal text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT r.kind, format('%s of %s', r.count, projections_internal._name_or_oid(r.projection)), r.since,
        'there is no such projection', coalesce(c.relowner, 0),
           format('DELETE FROM projections_internal.%I WHERE projection::pg_catalog.oid = %s', r.relation, r.projection)
    FROM (SELECT 'checkpoint' AS kind, 'slot' AS relation, s.projection::oid, count(*), min(s.checkpoint_at) AS since
        FROM projections_internal.slot s GROUP BY 3
          UNION ALL SELECT 'checkpoint history', 'checkpoint_change', h.projection::oid, count(*), min(h.changed_at)
              FROM projections_internal.checkpoint_change h GROUP BY 3
          UNION ALL SELECT 'failure', 'failure', f.projection::oid, count(*), min(f.first_failed_at)
              FROM projections_internal.failure f GROUP BY 3
          UNION ALL SELECT 'parked event', 'parked_event', e.projection::oid, count(*), min(e.parked_at)
              FROM projections_internal.parked_event e GROUP BY 3
          UNION ALL SELECT 'override', 'override', o.projection::oid, count(*), min(o.set_at)
              FROM projections_internal.override o GROUP BY 3
          UNION ALL SELECT 'transition', 'transition', t.projection::oid, count(*), min(t.event_time)
              FROM projections_internal.transition t GROUP BY 3
          UNION ALL SELECT 'rebuild request', 'rebuild_request', q.projection::oid, count(*), min(q.requested_at)
              FROM projections_internal.rebuild_request q GROUP BY 3) r
    LEFT JOIN pg_class c ON c.oid = r.projection
    WHERE NOT EXISTS (SELECT FROM projections_internal.projection p WHERE p.relation::oid = r.projection)
$$;
COMMENT ON FUNCTION projections_internal._orphaned_rows() IS
    'Internal: what is recorded about projections that are gone.';

-- In the order in which they can go: a view before what it reads. Compiling to machine code would take longer than the
-- queries.
CREATE FUNCTION projections_internal._orphan_list(viewer oid) RETURNS TABLE(kind text, object text, since timestamptz,
    reason text, owner oid, removal text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
    SELECT o.kind, o.object, o.since, o.reason, o.owner, o.removal
    FROM (SELECT * FROM projections_internal._orphaned_projections()
          UNION ALL SELECT * FROM projections_internal._orphaned_triggers()
          UNION ALL SELECT * FROM projections_internal._orphaned_relations()
          UNION ALL SELECT * FROM projections_internal._orphaned_rows()) o
    WHERE pg_has_role(viewer, 'pg_monitor', 'USAGE') OR pg_has_role(viewer, o.owner, 'USAGE')
    ORDER BY array_position('{shadow,rebuild,projection,event source,subscription,trigger,view,feed,definition,change '
        'log,arrivals}', o.kind) NULLS LAST, o.kind, o.object
$$;
COMMENT ON FUNCTION projections_internal._orphan_list(oid) IS
    'Internal: what projections.orphans() shows to a role, with the SQL that removes it.';

CREATE FUNCTION projections_internal._orphans(viewer oid)
    RETURNS TABLE(kind text, object text, since timestamptz, reason text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT o.kind, o.object, o.since, o.reason FROM projections_internal._orphan_list(viewer) o
$$;
COMMENT ON FUNCTION projections_internal._orphans(oid) IS 'Internal: projections.orphans() for a role.';

CREATE FUNCTION projections.orphans() RETURNS TABLE(kind text, object text, since timestamptz, reason text)
    LANGUAGE c ROWS 10 AS 'MODULE_PATHNAME', 'projections_look';
COMMENT ON FUNCTION projections.orphans() IS
'What is left of projections, rebuilds and event sources that are gone; empty is good. kind: shadow, rebuild (its
process is gone); projection (its table, definition or a source is gone), event source, subscription (its source or its
owner is gone); trigger (ours, on a table that needs none); change log, definition, feed, arrivals, view (hidden, and
used by nothing); checkpoint, checkpoint history, failure, parked event, override, transition, rebuild request (of a
projection that is gone). since: the oldest time known, or NULL. What a rebuild that runs uses is no orphan. Members of
pg_monitor see all, others what they own. Changes nothing and raises nothing.
Example: SELECT * FROM projections.orphans();';

CREATE FUNCTION projections_internal._cleanup_orphans(caller oid)
    RETURNS TABLE(kind text, object text, action text, holder_pid int, holder_user text, holder_since timestamptz,
        holder_phase text)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
    orphan record;
BEGIN
    PERFORM projections_internal._refuse_while_applying();
    FOR orphan IN SELECT * FROM projections_internal._orphan_list(caller) LOOP
        kind := orphan.kind;
        object := orphan.object;
        IF NOT pg_has_role(caller, orphan.owner, 'USAGE') THEN
            action := 'kept: ' || CASE orphan.owner WHEN 0 THEN 'only a superuser may remove it' ELSE format('%I owns '
                'it', pg_get_userbyid(orphan.owner)) END;
        ELSE
            -- What cannot go, as somebody reads it or has locked it, does not keep the rest.
            BEGIN
                EXECUTE orphan.removal;
                action := 'removed';
            EXCEPTION WHEN OTHERS THEN
                action := 'kept: ' || SQLERRM;
            END;
        END IF;
        RETURN NEXT;
    END LOOP;
    kind := 'shadow';
    action := 'kept';
    FOR object, holder_pid, holder_user, holder_since, holder_phase IN
        SELECT projections_internal._name_or_oid(l.shadow), l.pid, l.started_by, l.started_at, l.phase
            FROM projections_internal._live_rebuilds() l
        LEFT JOIN pg_class c ON c.oid = l.projection
        WHERE l.shadow IS NOT NULL AND (pg_has_role(caller, 'pg_monitor', 'USAGE')
            OR pg_has_role(caller, coalesce(c.relowner, 0), 'USAGE')) ORDER BY 1
    LOOP
        RETURN NEXT;
    END LOOP;
END
$$;
COMMENT ON FUNCTION projections_internal._cleanup_orphans(oid) IS 'Internal: projections.cleanup_orphans() for a role.';

CREATE FUNCTION projections.cleanup_orphans()
    RETURNS TABLE(kind text, object text, action text, holder_pid int, holder_user text, holder_since timestamptz,
        holder_phase text)
    LANGUAGE c ROWS 10 AS 'MODULE_PATHNAME', 'projections_look';
COMMENT ON FUNCTION projections.cleanup_orphans() IS
'Removes what projections.orphans() shows, as far as the caller, or a role that he is a member of, owns it; what nobody
owns any more is removed by superusers. A table whose definition or source is gone is left with its rows, as an
ordinary one. action: removed; "kept: " and why; or kept, for the shadow of a rebuild that runs, with the process, the
user, the time and the phase of the rebuild that holds it. Waits 2 s for a lock. A table that the extension did not
make is never touched, whatever its name.
Errors: 55000 called by a handler or reducer.
Example: SELECT * FROM projections.cleanup_orphans();';

REVOKE EXECUTE ON FUNCTION projections_internal._name_or_oid(oid), projections_internal._live_rebuilds(),
    projections_internal._discard(oid),
    projections_internal._discard_shadow(oid),
    projections_internal._orphaned_projections(), projections_internal._orphaned_triggers(),
        projections_internal._orphaned_relations(),
        projections_internal._orphaned_rows(),
    projections_internal._orphan_list(oid), projections_internal._orphans(oid),
        projections_internal._cleanup_orphans(oid) FROM PUBLIC;
