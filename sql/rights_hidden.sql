-- Rights: what the extension keeps in its schema is nobody's own, and what users do to it, or over it, is refused or harms nobody.
\set VERBOSITY terse
SET client_min_messages = error;
\set ECHO none
\i test/traps.sql
\set ECHO all
CREATE ROLE regress_hider LOGIN;
CREATE ROLE regress_heir LOGIN;
CREATE ROLE regress_neighbour LOGIN;
SELECT trap.lay('regress_hider'), trap.watch('regress_heir');
INSERT INTO trap.owner VALUES ('regress_heir');
CREATE SCHEMA AUTHORIZATION regress_neighbour;
SET SESSION AUTHORIZATION regress_hider;
SET search_path = regress_hider;
SELECT projections.register_source('event', position_column => 'pos', type_column => 'type', time_column => 'at', id_column => 'id');
SELECT projections.register_source('arrived', position_column => 'pos', type_column => 'type', time_column => 'at', id_column => 'id', capture => 'trigger');
SELECT projections.create('logged', 'SELECT item, sum(q) AS q FROM changed GROUP BY item', 'async');
SELECT projections.create('now', 'SELECT item, max(q) AS q FROM changed GROUP BY item');
SELECT projections.create('arrivals', 'SELECT item, sum(q) AS q FROM arrived GROUP BY item', 'async');
SELECT projections.create_reducer('states', 'event', 'item', 'reduce(jsonb, event, text)');
INSERT INTO changed VALUES (1, 'a', 1);
INSERT INTO arrived (item, q, type) VALUES ('a', 1, 'opened');
INSERT INTO event (item, q, type) VALUES ('a', 1, 'opened');
RESET SESSION AUTHORIZATION; RESET search_path;

-- Who owns what, and who may do what with it.
CREATE VIEW public.hidden AS
SELECT c.relname, c.relkind, (SELECT r.rolsuper FROM pg_roles r WHERE r.oid = c.relowner) AS of_a_superuser, c.reloptions AS options,
       ARRAY(SELECT DISTINCT pg_get_userbyid(a.grantee) || ': ' || string_agg(a.privilege_type, ' ' ORDER BY a.privilege_type) FROM aclexplode(c.relacl) a WHERE a.grantee <> c.relowner GROUP BY a.grantee ORDER BY 1) AS grants
FROM pg_class c JOIN pg_description d ON d.objoid = c.oid AND d.classoid = 'pg_class'::regclass AND d.objsubid = 0
WHERE c.relnamespace = 'projections_internal'::regnamespace AND d.description LIKE 'pg\_projections: %' ORDER BY 1;
SELECT * FROM public.hidden;

-- Nobody but the extension changes it, its owner included.
SET SESSION AUTHORIZATION regress_hider;
ALTER TABLE projections_internal.logged_changes ALTER COLUMN c1 TYPE bigint USING 1;
ALTER TABLE projections_internal.logged_changes ADD CHECK (false);
ALTER VIEW projections_internal.logged_definition ALTER q SET DEFAULT 1;
CREATE INDEX ON projections_internal.logged_changes (liar('index expression', 1));
CREATE TRIGGER t BEFORE INSERT ON projections_internal.logged_changes FOR EACH ROW EXECUTE FUNCTION trapped();
CREATE RULE r AS ON INSERT TO projections_internal.logged_changes DO INSTEAD NOTHING;
CREATE POLICY p ON projections_internal.logged_changes;
CREATE STATISTICS s ON c1, c2 FROM projections_internal.logged_changes;
DROP TABLE projections_internal.logged_changes;
DROP VIEW projections_internal.logged_definition;
GRANT SELECT ON projections_internal.logged_changes TO regress_neighbour;
COMMENT ON TABLE projections_internal.logged_changes IS 'mine';
TRUNCATE projections_internal.logged_changes;
UPDATE projections_internal.logged_changes SET weight = 2;
INSERT INTO projections_internal.logged_changes (weight) VALUES (NULL);
DELETE FROM projections_internal.logged_changes;
SELECT change FROM projections_internal.logged_changes FOR UPDATE;
BEGIN;
LOCK TABLE projections_internal.slot;
ROLLBACK;
-- Or writers of the source would wait for him.
BEGIN;
LOCK TABLE projections_internal.logged_changes IN ROW EXCLUSIVE MODE;
ROLLBACK;
BEGIN;
LOCK TABLE projections_internal.logged_changes;
ROLLBACK;
-- What is made over it would keep others from dropping it.
CREATE VIEW over_log AS SELECT change FROM projections_internal.logged_changes;
CREATE VIEW over_view AS SELECT item FROM projections_internal.logged_definition;
CREATE TABLE refers (change bigint REFERENCES projections_internal.logged_changes);
RESET SESSION AUTHORIZATION; RESET search_path;
SET SESSION AUTHORIZATION regress_neighbour;
CREATE VIEW regress_neighbour.over_log AS SELECT change FROM projections_internal.logged_changes;
CREATE VIEW regress_neighbour.over_arrivals AS SELECT position FROM projections_internal.arrived_arrivals;
CREATE FUNCTION regress_neighbour.of_log(projections_internal.logged_changes) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE TABLE regress_neighbour.of_definition (row projections_internal.logged_definition);
CREATE FUNCTION regress_neighbour.over_log() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT max(change) FROM projections_internal.logged_changes; END;
SELECT * FROM projections_internal.logged_changes;
SELECT * FROM projections_internal.logged_definition;
SELECT * FROM projections_internal.arrived_arrivals;
SELECT * FROM projections_internal.states_feed;
RESET SESSION AUTHORIZATION; RESET search_path;

-- The owner reads the definition with rights of his own, not with those of whoever owns the view.
SET SESSION AUTHORIZATION regress_hider;
SELECT * FROM projections_internal.logged_definition;
REVOKE SELECT ON regress_hider.changed FROM regress_hider;
SELECT * FROM projections_internal.logged_definition;
GRANT SELECT ON regress_hider.changed TO regress_hider;
RESET SESSION AUTHORIZATION; RESET search_path;

-- ANALYZE of a superuser's table runs nothing of the types in it.
SET SESSION AUTHORIZATION regress_hider;
SET search_path = regress_hider;
CREATE FUNCTION far(float8, float8) RETURNS float8 IMMUTABLE LANGUAGE plpgsql AS $$BEGIN PERFORM trap.spring('type cast'); RETURN $1 - $2; END$$;
CREATE TYPE span AS RANGE (subtype = float8, subtype_diff = far);
CREATE TABLE spans (id int PRIMARY KEY, s span);
SELECT projections.create('by_span', 'SELECT s, count(*) AS n FROM spans GROUP BY s', 'async');
INSERT INTO spans SELECT n, span(n, n + 1) FROM generate_series(1, 100) n;
RESET SESSION AUTHORIZATION; RESET search_path;
ANALYZE projections_internal.by_span_changes;
SELECT * FROM trap.strangers();

-- A shadow is its owner's while the rebuild runs, and not to be touched either. Here it is made by hand, as a rebuild does it.
CREATE TABLE projections_internal.now_shadow (item text, q int);
ALTER TABLE projections_internal.now_shadow OWNER TO regress_hider;
INSERT INTO projections_internal.projection (relation, definition, mode, user_columns, shape, sources, settings, shadow_of)
SELECT 'projections_internal.now_shadow', 0::oid::regclass, mode, user_columns, shape, sources, settings, relation FROM projections_internal.projection WHERE relation = 'regress_hider.now'::regclass;
SET SESSION AUTHORIZATION regress_hider;
SET search_path = regress_hider;
ALTER TABLE projections_internal.now_shadow ALTER q TYPE text;
CREATE INDEX ON projections_internal.now_shadow (liar('index expression', q));
CREATE TRIGGER t BEFORE INSERT ON projections_internal.now_shadow FOR EACH ROW EXECUTE FUNCTION trapped();
CREATE VIEW over_shadow AS SELECT * FROM projections_internal.now_shadow;
CREATE STATISTICS s ON item, q FROM projections_internal.now_shadow;
GRANT ALL ON projections_internal.now_shadow TO regress_neighbour;
-- which of them comes first is nobody's promise
\set VERBOSITY sqlstate
GRANT SELECT ON ALL TABLES IN SCHEMA projections TO regress_neighbour;
\set VERBOSITY terse
COMMENT ON TABLE projections_internal.now_shadow IS 'mine';
ALTER TABLE projections_internal.now_shadow SET SCHEMA regress_hider;
RESET SESSION AUTHORIZATION; RESET search_path;
DELETE FROM projections_internal.projection WHERE relation = 'projections_internal.now_shadow'::regclass;
DROP TABLE projections_internal.now_shadow;
CALL projections.rebuild('regress_hider.now');
CALL projections.rebuild('regress_hider.logged');
SELECT * FROM trap.strangers();

-- Another owner.
GRANT ALL ON SCHEMA regress_hider TO regress_heir;
ALTER TABLE regress_hider.logged OWNER TO regress_heir;
SELECT relname, grants FROM public.hidden WHERE relname IN ('logged_changes', 'logged_definition');
SET SESSION AUTHORIZATION regress_hider;
SELECT * FROM projections_internal.logged_changes;
RESET SESSION AUTHORIZATION; RESET search_path;
REASSIGN OWNED BY regress_hider TO regress_heir;
SELECT relname, grants FROM public.hidden;
INSERT INTO regress_hider.changed VALUES (2, 'b', 1);
SELECT projections.catch_up() > 0 AS applied;
SELECT * FROM test.check_all();
-- Where nobody was told, whoever runs as the owner notices: here the grants are lost, as in a restore that leaves them out.
REVOKE ALL ON projections_internal.logged_changes, projections_internal.logged_definition FROM regress_heir;
\c -
SET client_min_messages = error;
SET SESSION AUTHORIZATION regress_heir;
INSERT INTO regress_hider.changed VALUES (3, 'b', 1);
SELECT projections.catch_up() > 0 AS applied;
SELECT count(*) FROM projections.verify('regress_hider.logged');
RESET SESSION AUTHORIZATION; RESET search_path;
SELECT relname, grants FROM public.hidden WHERE relname IN ('logged_changes', 'logged_definition');

-- What others have made over it goes with it, and keeps nobody.
SET SESSION AUTHORIZATION regress_heir;
SELECT projections.drop('regress_hider.logged');
DROP TABLE regress_hider.arrivals;
SELECT projections.unregister_source('regress_hider.arrived');
RESET SESSION AUTHORIZATION; RESET search_path;
SELECT proname FROM pg_proc WHERE pronamespace = 'regress_neighbour'::regnamespace;
SELECT relname, grants FROM public.hidden;
DROP OWNED BY regress_heir, regress_hider, regress_neighbour CASCADE;
SELECT relname, grants FROM public.hidden;
DROP ROLE regress_heir, regress_hider, regress_neighbour;
DROP VIEW public.hidden;
SET client_min_messages = error;
DROP SCHEMA trap CASCADE;
