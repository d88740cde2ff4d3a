-- Users' constraints and triggers on a projection: to them, what a flush writes is one statement.
CREATE SCHEMA constraints;
SET search_path = constraints;
SET client_min_messages = warning;
\set SHOW_CONTEXT never
\set VERBOSITY terse

CREATE TABLE a (id int PRIMARY KEY, g int, v int);
CREATE TABLE b (id int PRIMARY KEY, v int);
SELECT projections.create('sums', 'SELECT g, sum(v) AS v FROM a GROUP BY g');
SELECT projections.create('highest', 'SELECT g, max(v) AS v FROM a GROUP BY g');
SELECT projections.create('rows', 'SELECT a.id, b.v FROM a JOIN b ON b.id = a.g');
SELECT projections.create('above', 'SELECT count(*) AS groups, sum(v) AS v FROM sums');
INSERT INTO a VALUES (1, 1, 10), (2, 2, 20), (3, 3, 30);
INSERT INTO b VALUES (1, 1), (2, 2);

-- Values that are exchanged: a deferrable constraint is checked when all of them are written.
ALTER TABLE sums ADD CONSTRAINT sums_v UNIQUE (v) DEFERRABLE INITIALLY IMMEDIATE;
ALTER TABLE highest ADD CONSTRAINT highest_v EXCLUDE USING btree (v WITH =) DEFERRABLE INITIALLY IMMEDIATE;
ALTER TABLE rows ADD CONSTRAINT rows_v UNIQUE (v) DEFERRABLE INITIALLY IMMEDIATE;
UPDATE a SET v = 30 - v WHERE id IN (1, 2);
UPDATE b SET v = 3 - v;
UPDATE a SET v = v % 30 + 10;
-- one group goes, one comes with its value, one takes that of the new one's
BEGIN;
DELETE FROM a WHERE id = 1;
INSERT INTO a VALUES (4, 4, 30);
UPDATE a SET v = 20 WHERE id = 3;
UPDATE a SET v = 10 WHERE id = 2;
COMMIT;
SELECT g, v FROM sums ORDER BY g;
SELECT * FROM test.check_all();
-- and what is violated then is an error
UPDATE a SET v = 7;
UPDATE b SET v = 7;
SELECT * FROM test.check_all();
-- Another one is checked row by row, as by any UPDATE.
ALTER TABLE rows DROP CONSTRAINT rows_v;
ALTER TABLE sums DROP CONSTRAINT sums_v;
ALTER TABLE highest DROP CONSTRAINT highest_v;
CREATE UNIQUE INDEX sums_v ON sums (v);
CREATE UNIQUE INDEX highest_v ON highest (v);
DELETE FROM a;
INSERT INTO a VALUES (1, 1, 10), (2, 2, 20), (3, 3, 30);
UPDATE a SET v = 30 - v WHERE id IN (1, 2);
UPDATE a SET v = v + 1;
-- a group that is made to be recomputed
SET statement_timeout = '60s';
BEGIN;
INSERT INTO a VALUES (10, 10, 11), (11, 10, 5);
DELETE FROM a WHERE id = 11;
COMMIT;
BEGIN;
INSERT INTO a VALUES (10, 10, 12), (11, 10, 5);
DELETE FROM a WHERE id = 11;
COMMIT;
RESET statement_timeout;
SELECT * FROM test.check_all();
DROP INDEX sums_v, highest_v;

-- A foreign key to a projection sees the row of a group that a TRUNCATE takes and an INSERT brings back.
CREATE TABLE child (g int REFERENCES sums (g));
INSERT INTO child VALUES (1);
BEGIN;
TRUNCATE a;
INSERT INTO a VALUES (1, 1, 5), (2, 2, 6);
COMMIT;
SELECT * FROM test.check_all();
DELETE FROM a WHERE g = 1;
TRUNCATE a;
SELECT * FROM test.check_all();
DROP TABLE child;

-- Triggers: rows and statements, once for what a flush writes.
CREATE TABLE fired (what text, rows bigint, v bigint);
CREATE FUNCTION note_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- all of the flush is there when the first of them fires
    INSERT INTO constraints.fired SELECT 'row ' || TG_OP, count(*), sum(v) FROM constraints.sums;
    RETURN NULL;
END
$$;
CREATE FUNCTION note_statement() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO constraints.fired SELECT 'statement ' || TG_OP, count(*), sum(v) FROM new_rows;
    RETURN NULL;
END
$$;
CREATE TRIGGER a_row AFTER INSERT OR UPDATE ON sums FOR EACH ROW EXECUTE FUNCTION note_row();
CREATE TRIGGER b_statement AFTER UPDATE ON sums REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION note_statement();
UPDATE a SET v = v + 1;
SELECT * FROM fired ORDER BY what, rows, v;
DELETE FROM fired;
INSERT INTO a VALUES (20, 20, 1), (21, 21, 2), (22, 2, 3);
SELECT * FROM fired ORDER BY what, rows, v;
SELECT * FROM test.check_all();
DROP TRIGGER a_row ON sums;
DROP TRIGGER b_statement ON sums;

-- A transaction that becomes read-only has written what it changed before.
BEGIN;
INSERT INTO a VALUES (30, 30, 1);
UPDATE a SET v = v + 1;
SET TRANSACTION READ ONLY;
SELECT count(*) FROM sums;
COMMIT;
SELECT * FROM test.check_all();
BEGIN;
UPDATE a SET v = v + 1;
SELECT set_config('transaction_read_only', 'on', true);
COMMIT;
SELECT * FROM test.check_all();

-- Published without an identity: what would change a row is refused, as for any table.
SET client_min_messages = error;
-- its key is its identity now, unless somebody takes that away
CREATE PUBLICATION constraints_sums FOR TABLE sums;
ALTER EVENT TRIGGER projections_after_ddl DISABLE;
ALTER TABLE sums REPLICA IDENTITY NOTHING;
INSERT INTO a VALUES (40, 1, 1);
UPDATE a SET v = v + 1 WHERE g = 1;
DELETE FROM a WHERE g = 2;
CREATE UNIQUE INDEX sums_identity ON sums (g);
ALTER TABLE sums ALTER COLUMN g SET NOT NULL;
ALTER TABLE sums REPLICA IDENTITY USING INDEX sums_identity;
ALTER EVENT TRIGGER projections_after_ddl ENABLE;
INSERT INTO a VALUES (40, 2, 1);
-- a filter on a column that is no part of the identity
ALTER PUBLICATION constraints_sums SET TABLE sums WHERE (v > 0);
INSERT INTO a VALUES (41, 1, 1);
ALTER TABLE sums REPLICA IDENTITY FULL;
INSERT INTO a VALUES (41, 1, 1);
DROP PUBLICATION constraints_sums;
SELECT * FROM test.check_all();

-- A CHECK is of the row that is written, also of a group's first.
ALTER TABLE sums ADD CONSTRAINT not_below CHECK (v >= 0);
INSERT INTO a VALUES (50, 50, -1);
INSERT INTO a VALUES (50, 50, -1), (51, 50, 1);
DELETE FROM a WHERE id = 51;
SELECT * FROM test.check_all();

DROP SCHEMA constraints CASCADE;
SELECT count(*) AS projections FROM projections.definitions;
