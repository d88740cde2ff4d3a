-- The interface: what is in schema projections is what users type, and nothing else. A name that comes to these lists is a
-- promise: it stands in docs, and is kept. What is not meant to be typed belongs in
-- projections_internal.
SELECT p.oid::regprocedure AS function FROM pg_proc p WHERE p.pronamespace = 'projections'::regnamespace
ORDER BY p.oid::regprocedure::text COLLATE "C";
SELECT c.relname, c.relkind FROM pg_class c WHERE c.relnamespace = 'projections'::regnamespace AND c.relkind <> 'i'
ORDER BY c.relkind, c.relname COLLATE "C";
-- Types of their own, as each relation brings one and its array; operators and the like.
SELECT t.typname FROM pg_type t LEFT JOIN pg_type e ON e.typarray = t.oid
WHERE t.typnamespace = 'projections'::regnamespace AND t.typrelid = 0 AND coalesce(e.typrelid, 0) = 0;
SELECT object.type, object.identity
FROM pg_depend d CROSS JOIN LATERAL pg_identify_object(d.classid, d.objid, 0) AS object
WHERE d.refclassid = 'pg_namespace'::regclass AND d.refobjid IN ('projections'::regnamespace, 'projections_internal'::regnamespace)
  AND d.classid NOT IN ('pg_class'::regclass, 'pg_proc'::regclass, 'pg_type'::regclass);
-- Every name has a text that says what it does.
SELECT p.oid::regprocedure AS undocumented FROM pg_proc p
WHERE p.pronamespace = 'projections'::regnamespace AND obj_description(p.oid, 'pg_proc') IS NULL
UNION ALL SELECT p.oid::regprocedure FROM pg_proc p
WHERE p.pronamespace = 'projections'::regnamespace AND obj_description(p.oid, 'pg_proc') LIKE 'Internal: %';

--
-- what PUBLIC may do with what is internal
--
-- Find what it names, as each projection is maintained as its owner: no more.
SELECT n.nspname, a.grantee::regrole, a.privilege_type FROM pg_namespace n, aclexplode(n.nspacl) a
WHERE n.nspname IN ('projections', 'projections_internal') AND a.grantee <> n.nspowner ORDER BY 1, 2, 3;
-- What public functions and views, and the definitions of projections, call as whoever calls them.
SELECT p.oid::regprocedure AS callable FROM pg_proc p
WHERE p.pronamespace = 'projections_internal'::regnamespace AND has_function_privilege('public', p.oid, 'EXECUTE')
ORDER BY p.oid::regprocedure::text COLLATE "C";
SELECT c.relname AS readable, a.privilege_type FROM pg_class c, aclexplode(c.relacl) a
WHERE c.relnamespace = 'projections_internal'::regnamespace AND a.grantee = 0 ORDER BY c.relname COLLATE "C", 2;
SELECT a.attrelid::regclass, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE c.relnamespace = 'projections_internal'::regnamespace AND a.attacl IS NOT NULL;
CREATE ROLE regress_interface;
SET ROLE regress_interface;
\set VERBOSITY terse
CREATE TABLE projections_internal.mine (i int);
CREATE VIEW projections_internal.mine AS SELECT 1;
CREATE FUNCTION projections_internal.mine() RETURNS int LANGUAGE sql RETURN 1;
CREATE TYPE projections_internal.mine AS ENUM ('mine');
CREATE TABLE projections.mine (i int);
SELECT count(*) FROM projections_internal.projection;
DELETE FROM projections_internal.slot;
ALTER FUNCTION projections_internal._name(regclass) RENAME TO mine;
DROP VIEW projections_internal._slots;
RESET ROLE;
DROP ROLE regress_interface;
