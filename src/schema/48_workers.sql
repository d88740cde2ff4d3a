-- Background workers.

CREATE FUNCTION projections_internal._workers(OUT pid integer, OUT database oid, OUT state text, OUT projection oid,
    OUT slot integer,
                                     OUT since timestamptz, OUT events bigint, OUT batch_events bigint)
                                         RETURNS SETOF record
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_worker_list';
COMMENT ON FUNCTION projections_internal._workers() IS 'Internal: the workers of all databases.';

CREATE FUNCTION projections_internal._worker_problems(OUT projection regclass, OUT slot integer, OUT since timestamptz,
    OUT failed_at timestamptz,
                                             OUT next_retry_at timestamptz, OUT failures integer, OUT sqlstate text,
                                                 OUT message text)
    RETURNS SETOF record LANGUAGE c AS 'MODULE_PATHNAME', 'projections_worker_problems';
COMMENT ON FUNCTION projections_internal._worker_problems() IS
'Internal: slots of this database whose last batch failed as a whole, until one succeeds; projection is NULL where
looking for work failed. message is NULL for who may not read the projection''s errors.';

CREATE FUNCTION projections_internal._workers_available() RETURNS boolean
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_workers_available';
COMMENT ON FUNCTION projections_internal._workers_available() IS
    'Internal: whether workers serve this database, or would if there were work.';
CREATE FUNCTION projections_internal._worker_problem() RETURNS text
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_worker_problem';
COMMENT ON FUNCTION projections_internal._worker_problem() IS
    'Internal: why no worker serves this database, and what to do; NULL if that is not so.';

CREATE VIEW projections.workers AS
SELECT w.pid,
       d.datname AS database,
       w.state,
       CASE WHEN d.datname = pg_catalog.current_database() THEN projections_internal._name(w.projection::regclass) END
           AS projection,
       w.slot,
       w.since,
       w.events,
       w.batch_events,
       CASE w.state WHEN 'stuck' THEN pg_catalog.format('a batch has been running for %s s',
            pg_catalog.floor(pg_catalog.extract('epoch', pg_catalog.clock_timestamp() - w.since))) END AS message,
       CASE w.state WHEN 'stuck' THEN pg_catalog.format('SELECT projections.restart_worker(%s);', w.pid) END AS hint
FROM projections_internal._workers() AS w LEFT JOIN pg_catalog.pg_database d ON d.oid = w.database
ORDER BY d.datname, w.pid;
COMMENT ON VIEW projections.workers IS
'The background workers of all databases. state: starting, idle, working, or stuck (one batch for more than 60
seconds). projection and slot: what is being worked on (named in its own database only). since: the batch''s begin, or
the last one''s end. events:
applied since the worker started; batch_events: at most in this batch. hint: what to run against a stuck one.';
GRANT SELECT ON projections.workers TO PUBLIC;

CREATE FUNCTION projections.restart_worker(pid integer) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'projections_restart_worker';
COMMENT ON FUNCTION projections.restart_worker(integer) IS
'Ends a background worker; another one is started at once. What it was applying is rolled back and applied again by the
next. pid: as projections.workers shows it. For members of pg_signal_backend and the owner of the projection it works
on.
Errors: 22023 no worker has that pid; 42501.
Example: SELECT projections.restart_worker(pid) FROM projections.workers WHERE state = ''stuck'';';

CREATE FUNCTION projections_internal._count_conflict(stream text) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'projections_count_conflict';
COMMENT ON FUNCTION projections_internal._count_conflict(text) IS
'Internal: counts a conflicting append for projections.conflicts, also if its transaction aborts. Does nothing without '
    'workers.';
REVOKE EXECUTE ON FUNCTION projections_internal._count_conflict(text) FROM PUBLIC;
