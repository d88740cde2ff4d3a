-- Children and what projections rely on: no key of a table holds for its children's rows.
\set VERBOSITY default
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA inherited_ddl;
SET search_path = inherited_ddl, public;
CREATE TABLE items (id int PRIMARY KEY, code text UNIQUE, name text, amount int);
INSERT INTO items VALUES (1, 'a', 'one', 10), (2, 'b', 'two', 20);
CREATE TABLE uses (id int PRIMARY KEY, code text, item int);
INSERT INTO uses VALUES (1, 'a', 1), (2, 'c', 2);
CREATE TABLE twin (LIKE items INCLUDING ALL);
INSERT INTO twin VALUES (1, 'a', 'again', 30);

-- a table that projections read by a key gets no child
SELECT projections.create('by_key', 'SELECT id, name FROM items');
CREATE TABLE more () INHERITS (items);
ALTER TABLE twin INHERIT items;
SELECT projections.drop('by_key');
SELECT projections.create('by_group', 'SELECT id, name, count(*) AS n FROM items GROUP BY id');
CREATE TABLE more () INHERITS (items);
SELECT projections.drop('by_group');
SELECT projections.create('looked_up', 'SELECT u.id, (SELECT i.name FROM items i WHERE i.code = u.code) AS name FROM uses u');
ALTER TABLE twin INHERIT items;
SELECT projections.drop('looked_up');
SELECT projections.create('ordered', 'SELECT array_agg(name ORDER BY id) AS names, amount FROM items GROUP BY amount');
ALTER TABLE twin INHERIT items;
SELECT projections.drop('ordered');
SELECT projections.create('alone', 'SELECT count(*) AS n, sum(amount) AS amount FROM ONLY items');
ALTER TABLE twin INHERIT items;
SELECT projections.drop('alone');
SELECT projections.create('numbered', 'SELECT id, row_number() OVER (PARTITION BY amount ORDER BY id) AS r FROM items');
ALTER TABLE twin INHERIT items;
SELECT projections.drop('numbered');
SELECT projections.create('numbered', 'SELECT id, name, row_number() OVER (PARTITION BY amount ORDER BY id) AS r FROM items');
ALTER TABLE twin INHERIT items;
SELECT projections.drop('numbered');
-- but where none is needed
SELECT projections.create('sums', 'SELECT name, count(*) AS n, sum(amount) AS amount FROM items GROUP BY name');
SELECT projections.create('present', 'SELECT id, code FROM uses u WHERE EXISTS (SELECT FROM items i WHERE i.code = u.code)');
ALTER TABLE twin INHERIT items;
SELECT test.check('sums'), test.check('present');
DELETE FROM items WHERE name = 'one';
SELECT test.check('sums'), test.check('present');

-- what a table with children is read by
SELECT projections.create('by_key', 'SELECT id, name FROM items');
SELECT projections.create('by_group', 'SELECT id, name, count(*) AS n FROM items GROUP BY id');
SELECT projections.create('by_group', 'SELECT * FROM (SELECT id, name, count(*) AS n FROM items GROUP BY id) g');
CREATE VIEW grouped AS SELECT id, name, count(*) AS n FROM items GROUP BY id;
SELECT projections.create('by_group', 'SELECT * FROM grouped');
SELECT projections.create('by_group', 'SELECT id, name, count(*) AS n FROM items GROUP BY id, name');
SELECT projections.create('looked_up', 'SELECT u.id, (SELECT i.name FROM items i WHERE i.code = u.code) AS name FROM uses u');
SELECT projections.create('ordered', 'SELECT array_agg(name ORDER BY id) AS names, amount FROM items GROUP BY amount');
SELECT projections.create('alone', 'SELECT count(*) AS n, sum(amount) AS amount FROM ONLY items');
SELECT projections.create('numbered', 'SELECT id, name, row_number() OVER (PARTITION BY amount ORDER BY id) AS r FROM items');
SELECT projections.create('child', 'SELECT id, name FROM twin');
SELECT projections.create('first', 'SELECT id, f.name FROM uses u, LATERAL (SELECT i.name FROM items i WHERE i.code = u.code ORDER BY i.id LIMIT 1) f');
SELECT name, strategy, key FROM projections.definitions, regexp_replace(relation::text, '.*\.', '') AS name ORDER BY 1;
INSERT INTO items VALUES (1, 'c', 'third', 40);
INSERT INTO twin VALUES (2, 'd', 'two', 20), (3, 'e', 'two', 20);
UPDATE items SET amount = 20 WHERE id = 1;
SELECT * FROM test.check_all();
SELECT id, name FROM by_key ORDER BY 1, 2;
-- a second child, and none: what was made for them stays
CREATE TABLE other (LIKE twin INCLUDING ALL) INHERITS (items);
INSERT INTO other VALUES (1, 'c', 'third', 40);
SELECT * FROM test.check_all();
ALTER TABLE twin NO INHERIT items;
DROP TABLE other;
SELECT * FROM test.check_all();
INSERT INTO items VALUES (5, 'x', 'x', 1);
SELECT * FROM test.check_all();
-- which have an order of all values, but that is not known
ALTER TABLE twin INHERIT items;
SELECT projections.drop(p) FROM unnest('{ordered,numbered,first}'::text[]) p;
ALTER TABLE twin INHERIT items;
SELECT * FROM test.check_all();

-- children that are not followed
CREATE TEMP TABLE passing () INHERITS (items);
CREATE UNLOGGED TABLE unsafe () INHERITS (items);
CREATE TABLE unsafe (LIKE items);
ALTER TABLE unsafe SET UNLOGGED;
ALTER TABLE unsafe INHERIT items;
ALTER TABLE twin SET UNLOGGED;
CREATE FOREIGN DATA WRAPPER nothing;
CREATE SERVER elsewhere FOREIGN DATA WRAPPER nothing;
CREATE FOREIGN TABLE distant () INHERITS (items) SERVER elsewhere;
CREATE FOREIGN TABLE distant (id int NOT NULL, code text, name text, amount int) SERVER elsewhere;
ALTER FOREIGN TABLE distant INHERIT items;
CREATE TABLE above (id int, name text);
ALTER FOREIGN TABLE distant INHERIT above;
SELECT projections.create('far', 'SELECT name, count(*) AS n FROM above GROUP BY name');
ALTER FOREIGN TABLE distant NO INHERIT above;
ALTER TABLE unsafe INHERIT above;
DROP TABLE unsafe CASCADE;
CREATE TEMP TABLE passing () INHERITS (above);
SELECT projections.create('far', 'SELECT name, count(*) AS n FROM above GROUP BY name');
DROP TABLE passing;

-- our triggers on children
DROP TRIGGER projections_capture ON twin;
ALTER TABLE twin DISABLE TRIGGER projections_capture;
SELECT count(*) FROM projections_internal.projection WHERE stale_since IS NOT NULL;
INSERT INTO twin VALUES (9, 'z', 'unseen', 1);
SELECT projections.repair(relation::text) FROM projections.definitions WHERE relation::text LIKE '%sums';
SELECT test.check('sums');
SELECT projections.repair(relation::text) FROM projections.definitions ORDER BY relation::text;
SELECT * FROM test.check_all();
SELECT tgenabled FROM pg_trigger WHERE tgrelid = 'twin'::regclass ORDER BY tgname;

-- what event triggers do not see
CREATE SCHEMA gone;
CREATE TABLE gone.part () INHERITS (items);
INSERT INTO gone.part VALUES (20, 'g', 'gone', 1);
\set VERBOSITY terse
DROP SCHEMA gone CASCADE;
SELECT count(*) FROM projections_internal.projection WHERE stale_since IS NOT NULL;
SELECT object, regexp_replace(problem, 'since [-0-9: ]+', 'since … '), hint FROM projections.validate() WHERE severity = 'ERROR' ORDER BY 1, 2, 3;
SELECT projections.repair(relation::text) FROM projections.definitions ORDER BY relation::text;
SELECT * FROM test.check_all();
SELECT projections.drop(relation::text) FROM projections.definitions WHERE relation::text NOT LIKE '%sums' ORDER BY relation::text;
ALTER TABLE twin NO INHERIT items;
SELECT projections.create('keyed', 'SELECT id, name FROM items');
SET session_replication_role = replica;
ALTER TABLE twin INHERIT items;
ALTER FOREIGN TABLE distant INHERIT items;
RESET session_replication_role;
SELECT object, regexp_replace(problem, 'since [-0-9: ]+', 'since … '), hint FROM projections.validate() WHERE severity = 'ERROR' ORDER BY 1, 2, 3;
INSERT INTO items VALUES (30, 'h', 'h', 1);
SELECT count(*) FROM projections_internal.projection WHERE stale_since IS NOT NULL;
SELECT projections.drop('keyed');
ALTER FOREIGN TABLE distant NO INHERIT items;
SELECT projections.repair('sums');
SELECT test.check('sums');
SELECT object, regexp_replace(problem, 'since [-0-9: ]+', 'since … '), hint FROM projections.validate() WHERE severity = 'ERROR' ORDER BY 1, 2, 3;

-- events are not inherited
CREATE TABLE log (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, type text, data jsonb);
SELECT projections.register_source('log', position_column => 'position', type_column => 'type');
CREATE TABLE log_more () INHERITS (log);
DROP TABLE twin, items CASCADE;
DROP SCHEMA inherited_ddl CASCADE;
DROP FOREIGN DATA WRAPPER nothing CASCADE;
