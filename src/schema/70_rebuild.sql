-- Rebuild: src/rebuild.

-- Rebuilds that are to begin, or that a crash has interrupted.
CREATE TABLE projections_internal.rebuild_request (
    projection   regclass PRIMARY KEY,
    requested_by text NOT NULL,
    requested_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    launched_at  timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
COMMENT ON TABLE projections_internal.rebuild_request IS 'Scheduled rebuilds.';
SELECT pg_catalog.pg_extension_config_dump('projections_internal.rebuild_request', '');

CREATE PROCEDURE projections.rebuild(name text, dry_run boolean DEFAULT false)
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_rebuild';
COMMENT ON PROCEDURE projections.rebuild(text, boolean) IS
'Computes a projection anew and puts the result in its place, while readers and writers go on. What differs is found by
comparing table and definition, and recomputed row by row (merge); where that would be most of it, all is computed into
a shadow, which then changes places with the table (swap) under an exclusive lock of at most
pg_projections.swap_lock_timeout, tried again until it succeeds. options.finish (auto, merge, swap) chooses; a table
that is published, that foreign keys refer to, or that other projections read, is always merged. Handlers, reducers and
state machines replay their events, in which users'' triggers do not fire, and rows that others wrote into a handler''s
tables are lost. The table keeps its OID and all that belongs to it. Progress is in projections.rebuilds. It commits
between its phases. name: the projection. dry_run: tell in a NOTICE what would be done, and do nothing.
Errors: 42P01; 42809 not a projection; 42501 not the owner; 25001 inside a transaction block or function; 55000 paused,
or finish => swap is not possible; PJ003 it is being rebuilt; PJ006 events are archived.
Example: CALL projections.rebuild(''stock'');';

CREATE PROCEDURE projections_internal._redefine(name text, query text, mode text)
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_redefine';
COMMENT ON PROCEDURE projections_internal._redefine(text, text, text) IS
    'Internal: projections.alter() for query and mode; checks the caller''s rights.';

CREATE PROCEDURE projections.rebuild_all()
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_rebuild_all';
COMMENT ON PROCEDURE projections.rebuild_all() IS
'Rebuilds every projection that the caller owns, those that others read first. Paused ones, and ones that are being
rebuilt, are left out with a NOTICE. The first that fails ends it.
Errors: 25001 inside a transaction block or function; as projections.rebuild().
Example: CALL projections.rebuild_all();';

CREATE FUNCTION projections.schedule_rebuild(name text) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_operate';
COMMENT ON FUNCTION projections.schedule_rebuild(text) IS
'Has a projection rebuilt by a background process, which begins when this transaction commits; needs a free place among
max_worker_processes. After a crash, workers begin it again (with shared_preload_libraries). How it goes is in
projections.rebuilds. Scheduled already: nothing to do.
Errors: 42P01; 42809 not a projection; 42501 not the owner; 55000 paused.
Example: SELECT projections.schedule_rebuild(''stock'');';

CREATE FUNCTION projections_internal._launch_rebuild(projection oid) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'projections_launch_rebuild';
COMMENT ON FUNCTION projections_internal._launch_rebuild(oid) IS
    'Internal: starts a process for a request when this transaction commits.';

CREATE FUNCTION projections_internal._schedule_rebuild(projection oid, caller text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM projections_internal.projection p WHERE p.relation = projection::regclass
        AND p.paused_at IS NOT NULL) THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('projection %s is paused',
            projections_internal._name(projection)),
            DETAIL = 'A rebuild would bring it up to date.', HINT = format('SELECT projections.resume(%L);',
                projections_internal._name(projection));
    END IF;
    INSERT INTO projections_internal.rebuild_request (projection, requested_by) VALUES (projection, caller)
        ON CONFLICT DO NOTHING;
    IF FOUND THEN
        PERFORM projections_internal._launch_rebuild(projection);
    END IF;
END
$$;
COMMENT ON FUNCTION projections_internal._schedule_rebuild(oid, text) IS 'Internal: projections.schedule_rebuild().';

-- The session lock of a rebuild; src/rebuild/rebuild.cpp.
CREATE FUNCTION projections_internal._rebuild_holder(projection oid) RETURNS integer
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT l.pid FROM pg_locks l
    WHERE l.locktype = 'advisory' AND l.database = (SELECT d.oid FROM pg_database d
        WHERE d.datname = current_database())
      AND l.classid = projection AND l.objid = 0 AND l.objsubid = 20555 AND l.mode = 'ExclusiveLock' AND l.granted
$$;
COMMENT ON FUNCTION projections_internal._rebuild_holder(oid) IS
    'Internal: the process that rebuilds a projection; NULL for none.';

CREATE FUNCTION projections_internal._launch_waiting_rebuilds() RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    waiting oid;
    launched bigint := 0;
BEGIN
    DELETE FROM projections_internal.rebuild_request r WHERE NOT EXISTS (SELECT FROM projections_internal.projection p
        WHERE p.relation = r.projection);
    FOR waiting IN
        UPDATE projections_internal.rebuild_request r SET launched_at = clock_timestamp()
        WHERE r.launched_at < clock_timestamp() - interval '10 s'
            AND projections_internal._rebuild_holder(r.projection) IS NULL
        RETURNING r.projection
    LOOP
        PERFORM projections_internal._launch_rebuild(waiting);
        launched := launched + 1;
    END LOOP;
    RETURN launched;
END
$$;
COMMENT ON FUNCTION projections_internal._launch_waiting_rebuilds() IS
    'Internal: starts a process for each request that nobody carries out. Returns how many.';

CREATE FUNCTION projections.cancel_rebuild(name text) RETURNS boolean
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_operate';
COMMENT ON FUNCTION projections.cancel_rebuild(text) IS
'Stops the rebuild of a projection, and forgets a scheduled one. The projection stays as it was; what the rebuild has
made is removed by whoever ran it. Returns whether there was one.
Errors: 42P01; 42809 not a projection; 42501 not the owner.
Example: SELECT projections.cancel_rebuild(''stock'');';

CREATE FUNCTION projections_internal._cancel_rebuild(projection oid, caller text) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    holder integer := projections_internal._rebuild_holder(projection);
    scheduled boolean;
BEGIN
    DELETE FROM projections_internal.rebuild_request r WHERE r.projection = $1::regclass;
    scheduled := FOUND;
    RETURN coalesce(pg_cancel_backend(holder), false) OR scheduled;
END
$$;
COMMENT ON FUNCTION projections_internal._cancel_rebuild(oid, text) IS 'Internal: projections.cancel_rebuild().';

REVOKE EXECUTE ON FUNCTION projections_internal._rebuild_holder(oid), projections_internal._launch_rebuild(oid),
    projections_internal._schedule_rebuild(oid, text), projections_internal._launch_waiting_rebuilds(),
                           projections_internal._cancel_rebuild(oid, text) FROM PUBLIC;
