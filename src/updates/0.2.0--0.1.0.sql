-- Version 0.1.0 knows nothing of rebuilds: it would take a shadow for a projection, and what is being built for one that is right.

LOCK TABLE projections.projection, projections.rebuild, projections.rebuild_request IN ACCESS EXCLUSIVE MODE;

DO $$
DECLARE
    needed text;
BEGIN
    SELECT pg_catalog.string_agg(x.what, ', ' ORDER BY x.what) INTO needed FROM (
        SELECT pg_catalog.format('%s is being built', p.relation) FROM projections.projection p WHERE p.building
        UNION ALL
        SELECT pg_catalog.format('%s is the shadow of %s', p.relation, p.shadow_of) FROM projections.projection p WHERE p.shadow_of IS NOT NULL
        UNION ALL
        SELECT pg_catalog.format('%s of %s has not ended', r.action, r.projection) FROM projections.rebuild r WHERE r.ended_at IS NULL
        UNION ALL
        SELECT pg_catalog.format('a rebuild of %s is scheduled', q.projection) FROM projections.rebuild_request q) AS x(what);
    IF needed IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = 'extension pg_projections cannot go back to version 0.1.0 now',
            DETAIL = pg_catalog.format('It has no rebuilds: %s.', needed),
            HINT = 'Wait for the rebuilds, or end them with projections.cancel_rebuild(); projections.cleanup_orphans() removes what dead ones have left.';
    END IF;
END
$$;
