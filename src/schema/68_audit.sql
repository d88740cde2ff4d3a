-- Who ran which operation. Rows are written by src/rights/audit.cpp.

CREATE TABLE projections_internal.audit (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    started_at timestamptz NOT NULL,
    duration   interval NOT NULL,
    login      text NOT NULL,
    role       text NOT NULL,
    operation  text NOT NULL,
    projection text,
    owner      text, -- of the projection then: names, as what they name may be gone, and because a dump keeps them
    arguments  jsonb NOT NULL,
    sqlstate   text, -- of a call that failed
    error      text
);
CREATE INDEX audit_started_at ON projections_internal.audit (started_at);
COMMENT ON TABLE projections_internal.audit IS
    'Calls of functions that operate projections; read projections.audit_log instead.';
SELECT pg_catalog.pg_extension_config_dump('projections_internal.audit', '');
SELECT pg_catalog.pg_extension_config_dump('projections_internal.audit_id_seq', '');

CREATE VIEW projections.audit_log WITH (security_barrier) AS
SELECT a.id, a.started_at, a.duration, a.login, a.role, a.operation, a.projection,
       CASE WHEN r.readable THEN a.arguments END AS arguments,
       CASE WHEN a.sqlstate IS NULL THEN 'ok' ELSE 'failed' END AS outcome,
       a.sqlstate,
       CASE WHEN r.readable THEN a.error END AS error
FROM projections_internal.audit a
LEFT JOIN pg_catalog.pg_roles o ON o.rolname = a.owner,
LATERAL (SELECT COALESCE(pg_catalog.pg_has_role(o.oid, 'USAGE'), false)
    OR pg_catalog.pg_has_role('pg_read_all_data', 'USAGE') AS readable) r
WHERE r.readable OR pg_catalog.pg_has_role('pg_monitor', 'USAGE');
COMMENT ON VIEW projections.audit_log IS
'Every call of a function that operates projections (create to drop, pause, reset, replay, retry, rebuild, repair,
sources, …), and every projection that a DROP command took along: when it began, how long it took, by whom (login: the
session''s user; role: the one that it acted as), on which projection or source, with which arguments, and how it
ended. A call that succeeded is written in its transaction, so one that was rolled back afterwards is not here. A call
that failed is written by a background worker, shortly afterwards; without pg_projections in shared_preload_libraries
it is not recorded. Of failures that come faster than they are written, and across a crash of the server, some may be
lost; the first one written then says how many. catch_up() is recorded where it applied something. Arguments and error
texts show to members of the role that owned the projection then, pg_read_all_data and superusers; members of
pg_monitor see the other columns, everybody else no row. Kept for pg_projections.history_retention.';
GRANT SELECT ON projections.audit_log TO PUBLIC;

CREATE FUNCTION projections_internal._audit_drop(command text, projection text) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'projections_audit_drop';
COMMENT ON FUNCTION projections_internal._audit_drop(text, text) IS
    'Internal: records that a command dropped a projection, unless that is part of a recorded call.';
REVOKE EXECUTE ON FUNCTION projections_internal._audit_drop(text, text) FROM PUBLIC;
