-- Installs the extension, removes it without a trace, and installs it again, with the oracle, for the tests that follow.
CREATE EXTENSION pg_projections;

-- Everything of ours lives in two schemas.
SELECT pg_describe_object(classid, objid, 0) AS outside
FROM pg_depend
CROSS JOIN LATERAL pg_identify_object(classid, objid, 0) AS object
WHERE refclassid = 'pg_extension'::regclass
  AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pg_projections')
  AND deptype = 'e'
  AND object.schema IS DISTINCT FROM 'projections' AND object.schema IS DISTINCT FROM 'projections_internal'
  AND object.type NOT IN ('schema', 'event trigger')
ORDER BY 1;

-- What users call says what it does.
SELECT p.oid::regprocedure AS undocumented
FROM pg_proc AS p
WHERE p.pronamespace IN ('projections'::regnamespace, 'projections_internal'::regnamespace)
  AND has_function_privilege('public', p.oid, 'EXECUTE')
  AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
  AND obj_description(p.oid, 'pg_proc') IS NULL
ORDER BY 1;

-- Texts that are parsed at each call resolve the same under every search_path. A procedure that commits cannot set it: the
-- operators of alter() are qualified.
SELECT p.oid::regprocedure AS follows_the_path
FROM pg_proc AS p JOIN pg_language AS l ON l.oid = p.prolang
WHERE p.pronamespace IN ('projections'::regnamespace, 'projections_internal'::regnamespace) AND l.lanname IN ('sql', 'plpgsql') AND p.prosqlbody IS NULL
  AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (p.proconfig), false)
ORDER BY 1;

SELECT count(*) AS projections FROM projections.definitions;

DROP EXTENSION pg_projections;
SELECT nspname FROM pg_namespace WHERE nspname LIKE 'projections%';
SELECT evtname FROM pg_event_trigger;

-- A schema that is not ours is not taken over.
\set VERBOSITY terse
CREATE SCHEMA projections;
CREATE EXTENSION pg_projections;
DROP SCHEMA projections;
CREATE SCHEMA projections_internal;
CREATE EXTENSION pg_projections;
\set VERBOSITY default
DROP SCHEMA projections_internal;

CREATE EXTENSION pg_projections;
\set ECHO none
\i test/oracle.sql
SELECT * FROM test.check_all();
