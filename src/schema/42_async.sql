-- What brings async projections up to date.

CREATE FUNCTION projections.catch_up(name text DEFAULT NULL, max_events bigint DEFAULT NULL) RETURNS bigint
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_catch_up';
COMMENT ON FUNCTION projections.catch_up(text, bigint) IS
'Applies, in this session and transaction, what async projections have not applied yet: of one projection, or of all
that the caller owns, upstream first. max_events: stop after about so many events. Returns how many events (or logged
changes) it applied. Does what a background worker does, and waits for one that is at work. Events of transactions that
have not ended are left for later, after a second''s wait. For a database without workers, call it from pg_cron.
Errors: 0A000 in a transaction above READ COMMITTED; 55000 the projection is paused; 42P01; 42809; 42501 not the owner.
Example: SELECT projections.catch_up(''stock'');';

CREATE FUNCTION projections_internal._safe_position(source regclass) RETURNS bigint LANGUAGE c STRICT
    AS 'MODULE_PATHNAME',
    'projections_safe_position';
COMMENT ON FUNCTION projections_internal._safe_position(regclass) IS
    'Internal: the position of an event source up to which everything is decided.';

CREATE FUNCTION projections_internal._drawing(source regclass) RETURNS TABLE(pid int, transaction xid)
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'projections_drawing';
COMMENT ON FUNCTION projections_internal._drawing(regclass) IS
    'Internal: the transactions that have drawn positions of an event source and not ended.';

CREATE FUNCTION projections_internal._blocker(source regclass, OUT pid int, OUT gid text, OUT since timestamptz,
    OUT query text)
    LANGUAGE sql STABLE STRICT
    RETURN (SELECT ROW(d.pid, p.gid, coalesce(p.prepared, a.xact_start), a.query)
            FROM projections_internal._drawing(source) AS d
            LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = d.pid
            LEFT JOIN pg_catalog.pg_prepared_xacts p ON p.transaction = d.transaction
            ORDER BY coalesce(p.prepared, a.xact_start) LIMIT 1);
COMMENT ON FUNCTION projections_internal._blocker(regclass) IS
    'Internal: the oldest transaction that holds the safe position of an event source back.';

CREATE FUNCTION projections_internal._hold_off_writers(projection oid) RETURNS void LANGUAGE c STRICT
    AS 'MODULE_PATHNAME', 'projections_hold_off_writers';
COMMENT ON FUNCTION projections_internal._hold_off_writers(oid) IS
    'Internal: locks what an inline query projection and its parts read, in the order of writers.';
CREATE FUNCTION projections_internal._pause_inline(projection oid) RETURNS void LANGUAGE c STRICT AS 'MODULE_PATHNAME',
    'projections_pause_inline';
COMMENT ON FUNCTION projections_internal._pause_inline(oid) IS
    'Internal: lets an inline query projection log its changes from now on.';
CREATE FUNCTION projections_internal._resume_inline(projection oid) RETURNS bigint LANGUAGE c STRICT
    AS 'MODULE_PATHNAME',
    'projections_resume_inline';
COMMENT ON FUNCTION projections_internal._resume_inline(oid) IS
    'Internal: applies what an inline query projection logged, and lets it apply at once again.';

CREATE FUNCTION projections_internal._recompute_events(projection oid, from_position bigint, to_position bigint)
    RETURNS bigint
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'projections_recompute_events';
COMMENT ON FUNCTION projections_internal._recompute_events(oid, bigint, bigint) IS
'Internal: recomputes the rows that events of a range belong to, of a query projection over events.';
REVOKE EXECUTE ON FUNCTION projections_internal._safe_position(regclass), projections_internal._drawing(regclass),
    projections_internal._blocker(regclass), projections_internal._pause_inline(oid),
    projections_internal._hold_off_writers(oid),
        projections_internal._resume_inline(oid),
    projections_internal._recompute_events(oid, bigint, bigint) FROM PUBLIC;

CREATE FUNCTION projections_internal._refuse_while_applying() RETURNS void LANGUAGE c AS 'MODULE_PATHNAME',
    'projections_refuse_while_applying';
COMMENT ON FUNCTION projections_internal._refuse_while_applying() IS
    'Internal: raises where a handler or reducer is being called.';
REVOKE EXECUTE ON FUNCTION projections_internal._refuse_while_applying() FROM PUBLIC;
