-- Installs the extension, removes it without a trace, and installs it again, with the oracle, for the tests that follow.
CREATE EXTENSION pg_projections;

-- Everything of ours lives in one schema.
SELECT pg_describe_object(classid, objid, 0) AS outside
FROM pg_depend
CROSS JOIN LATERAL pg_identify_object(classid, objid, 0) AS object
WHERE refclassid = 'pg_extension'::regclass
  AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pg_projections')
  AND deptype = 'e'
  AND object.schema IS DISTINCT FROM 'projections'
  AND object.type NOT IN ('schema', 'event trigger')
ORDER BY 1;

-- What users call says what it does.
SELECT p.oid::regprocedure AS undocumented
FROM pg_proc AS p
WHERE p.pronamespace = 'projections'::regnamespace
  AND has_function_privilege('public', p.oid, 'EXECUTE')
  AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
  AND obj_description(p.oid, 'pg_proc') IS NULL
ORDER BY 1;

SELECT count(*) AS projections FROM projections.definitions;

DROP EXTENSION pg_projections;
SELECT nspname FROM pg_namespace WHERE nspname = 'projections';
SELECT evtname FROM pg_event_trigger;

-- A schema that is not ours is not taken over.
\set VERBOSITY terse
CREATE SCHEMA projections;
CREATE EXTENSION pg_projections;
\set VERBOSITY default
DROP SCHEMA projections;

CREATE EXTENSION pg_projections;
\set ECHO none
\i test/oracle.sql
SELECT * FROM test.check_all();
