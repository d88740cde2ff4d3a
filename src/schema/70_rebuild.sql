-- Rebuild.

CREATE PROCEDURE projections.rebuild(name text, dry_run boolean DEFAULT false)
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_rebuild';
COMMENT ON PROCEDURE projections.rebuild(text, boolean) IS
'Computes a projection anew, beside it, and puts the result in its place, while readers and writers go on. name: the projection. dry_run: says what would be done, and does nothing.
Errors: 42P01; 42809 not a projection; 42501 not the owner; 25001 inside a transaction block; 55000 paused; PJ003 it is being rebuilt already.
Example: CALL projections.rebuild(''stock'');';
