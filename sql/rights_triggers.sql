-- Our trigger functions serve our triggers only: whoever may make a trigger on a table must not count its changes twice,
-- hide some, or bring the server down.
\set VERBOSITY terse
SET client_min_messages = error;
CREATE ROLE trigger_maker;
CREATE SCHEMA triggering;
-- What refuses them when they are made (sql/ddl_guards) does not fire everywhere.
ALTER EVENT TRIGGER projections_after_ddl DISABLE;
GRANT USAGE, CREATE ON SCHEMA triggering TO trigger_maker;
SET search_path = triggering, public;
CREATE TABLE s (id int PRIMARY KEY, k int, v int);
CREATE TABLE events (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, k int);
SELECT projections.register_source('events', 'position');
SELECT projections.create('per_k', 'SELECT k, count(*) AS n FROM s GROUP BY k');
CREATE FUNCTION fold(state jsonb, e events, key text) RETURNS jsonb IMMUTABLE LANGUAGE sql AS $$ SELECT to_jsonb(coalesce((state #>> '{}')::int, 0) + 1) $$;
SELECT projections.create_reducer('reduced', 'events', 'k::text', 'fold(jsonb, events, text)', mode => 'inline');
GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE, TRIGGER ON s, events TO trigger_maker;
CREATE TABLE other (id int PRIMARY KEY, k int);
CREATE TABLE parts (id int, k int) PARTITION BY LIST (k);
CREATE TABLE part_1 PARTITION OF parts FOR VALUES IN (1);
CREATE VIEW seen AS SELECT id, k FROM other;
ALTER TABLE other OWNER TO trigger_maker;
ALTER TABLE parts OWNER TO trigger_maker;
ALTER TABLE part_1 OWNER TO trigger_maker;
ALTER VIEW seen OWNER TO trigger_maker;

-- Tries a trigger: makes it, runs a statement that fires it, and takes it back.
CREATE FUNCTION try(made text, fired text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    BEGIN
        EXECUTE made;
        EXECUTE fired;
        SET CONSTRAINTS ALL IMMEDIATE;
        RAISE EXCEPTION USING ERRCODE = 'ZZ000', MESSAGE = 'nothing refused it';
    EXCEPTION WHEN OTHERS THEN
        RETURN sqlstate || ' ' || sqlerrm;
    END;
END $$;
GRANT EXECUTE ON FUNCTION try(text, text) TO trigger_maker;
SET ROLE trigger_maker;
SELECT function, made, try(format('CREATE %s EXECUTE FUNCTION projections_internal.%s', made, function), fired)
FROM (VALUES ('TRIGGER again AFTER INSERT ON s FOR EACH ROW', 'INSERT INTO s VALUES (1, 1, 1)'),
             ('TRIGGER again AFTER INSERT OR UPDATE OR DELETE ON s FOR EACH ROW', 'INSERT INTO s VALUES (1, 1, 1)'),
             ('TRIGGER whole AFTER INSERT OR UPDATE OR DELETE ON s FOR EACH STATEMENT', 'INSERT INTO s VALUES (1, 1, 1)'),
             ('TRIGGER whole AFTER INSERT ON events FOR EACH STATEMENT', 'INSERT INTO events (k) VALUES (1)'),
             ('TRIGGER again AFTER INSERT ON events FOR EACH ROW', 'INSERT INTO events (k) VALUES (1)'),
             ('TRIGGER before BEFORE INSERT ON s FOR EACH ROW', 'INSERT INTO s VALUES (1, 1, 1)'),
             ('TRIGGER whole_before BEFORE DELETE ON s FOR EACH STATEMENT', 'DELETE FROM s'),
             ('TRIGGER part AFTER UPDATE OF v ON s FOR EACH ROW WHEN (old.v <> 3)', 'INSERT INTO s VALUES (1, 1, 1); UPDATE s SET v = 2'),
             ('TRIGGER emptied AFTER TRUNCATE ON s FOR EACH STATEMENT', 'TRUNCATE s'),
             ('CONSTRAINT TRIGGER late AFTER INSERT ON s DEFERRABLE INITIALLY DEFERRED FOR EACH ROW', 'INSERT INTO s VALUES (1, 1, 1)'),
             ('TRIGGER tables AFTER INSERT ON s REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT', 'INSERT INTO s VALUES (1, 1, 1)'),
             ('TRIGGER instead INSTEAD OF INSERT ON seen FOR EACH ROW', 'INSERT INTO seen VALUES (1, 1)'),
             ('TRIGGER parted AFTER INSERT ON parts FOR EACH ROW', 'INSERT INTO parts VALUES (1, 1)'),
             ('TRIGGER parted BEFORE INSERT ON part_1 FOR EACH ROW', 'INSERT INTO parts VALUES (1, 1)'),
             -- The names of ours, on a table that is no source, in other forms.
             ('TRIGGER projections_capture AFTER INSERT ON other FOR EACH STATEMENT', 'INSERT INTO other VALUES (1, 1)'),
             ('TRIGGER projections_capture AFTER INSERT OR UPDATE OR DELETE ON other FOR EACH ROW WHEN (true)', 'INSERT INTO other VALUES (1, 1)'),
             ('TRIGGER projections_capture_truncate AFTER INSERT ON other', 'INSERT INTO other VALUES (1, 1)'),
             ('TRIGGER projections_guard BEFORE INSERT ON other FOR EACH STATEMENT', 'INSERT INTO other VALUES (1, 1)'),
             ('TRIGGER projections_guard_truncate AFTER TRUNCATE ON other', 'TRUNCATE other')) AS t (made, fired),
     (VALUES ('capture()'), ('guard()')) AS f (function)
ORDER BY function, made;
-- With arguments; and the internal ones not at all.
SELECT try('CREATE TRIGGER projections_capture AFTER INSERT OR UPDATE OR DELETE ON other FOR EACH ROW EXECUTE FUNCTION projections_internal.capture(1, 2)', 'INSERT INTO other VALUES (1, 1)');
SELECT try($$CREATE TRIGGER projections_arrival AFTER INSERT ON other FOR EACH ROW EXECUTE FUNCTION projections_internal._note_arrival('event', 'id')$$, 'INSERT INTO other VALUES (1, 1)');
RESET ROLE;
SELECT try($$CREATE TRIGGER arrivals AFTER INSERT ON other FOR EACH ROW EXECUTE FUNCTION projections_internal._note_arrival('event', 'id')$$, 'INSERT INTO triggering.other VALUES (1, 1)');
SELECT try($$CREATE TRIGGER projections_arrival AFTER INSERT ON other FOR EACH STATEMENT EXECUTE FUNCTION projections_internal._note_arrival('event', 'id')$$, 'INSERT INTO triggering.other VALUES (1, 1)');
SELECT try($$CREATE TRIGGER projections_arrival AFTER INSERT ON other FOR EACH ROW EXECUTE FUNCTION projections_internal._note_arrival()$$, 'INSERT INTO triggering.other VALUES (1, 1)');
SELECT try($$CREATE TRIGGER announces AFTER INSERT ON other FOR EACH ROW EXECUTE FUNCTION projections_internal._announce_change()$$, 'INSERT INTO triggering.other VALUES (1, 1)');
SELECT projections_internal.capture();
SELECT projections_internal.guard();
-- Nothing of it is left, and ours work.
INSERT INTO s VALUES (1, 1, 1), (2, 1, 1), (3, 2, 2);
UPDATE s SET k = 3 WHERE id = 2;
INSERT INTO events (k) VALUES (1), (1);
SELECT * FROM per_k ORDER BY k;
SELECT test.check('per_k');
SELECT key, state FROM reduced;
TRUNCATE s;
SELECT test.check('per_k');
-- What has a name of ours and calls something else is not ours to remove.
CREATE FUNCTION mine() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TABLE replaced (id int PRIMARY KEY);
SELECT projections.create('counted', 'SELECT count(*) FROM replaced');
CREATE OR REPLACE TRIGGER projections_capture AFTER INSERT ON replaced FOR EACH ROW EXECUTE FUNCTION mine();
SELECT projections.drop('counted');
SELECT tgname, tgfoid::regprocedure FROM pg_trigger WHERE tgrelid = 'replaced'::regclass;
-- One that looks like our guard and calls something else is a trigger like any other: it is called for maintenance's rows.
CREATE FUNCTION called() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'called for %', TG_OP; END $$;
INSERT INTO s VALUES (1, 1, 1);
SELECT test.check('per_k');
SELECT try('CREATE OR REPLACE TRIGGER projections_guard BEFORE INSERT OR UPDATE OR DELETE ON per_k FOR EACH ROW EXECUTE FUNCTION called()', 'INSERT INTO s VALUES (2, 1, 1); SELECT * FROM per_k');

ALTER EVENT TRIGGER projections_after_ddl ENABLE;
DROP SCHEMA triggering CASCADE;
DROP ROLE trigger_maker;
