-- Health after flushes and batches that failed on the projection's own account: their transactions are rolled back, and it
-- is told all the same. What a writer's data or a constraint refuses is the writer's, and is not told.
\set VERBOSITY terse
SET client_min_messages = error;
CREATE SCHEMA told;
SET search_path = told, public;
CREATE FUNCTION health_of(name text) RETURNS TABLE(status text, message text) LANGUAGE sql
    AS $$SELECT h.status, regexp_replace(split_part(h.message, ';', 1), 'since [0-9: -]+', '…') FROM projections.health(name) h$$;

CREATE TABLE sale (id int PRIMARY KEY, shop int, amount int);
SELECT projections.create('told.takings', 'SELECT shop, sum(amount) AS amount, count(*) AS n FROM told.sale GROUP BY shop');
INSERT INTO sale VALUES (1, 1, 10);
SELECT * FROM health_of('told.takings');
ALTER TABLE takings ADD CHECK (amount < 100);
INSERT INTO sale VALUES (2, 1, 1000);
SELECT * FROM health_of('told.takings');
-- Where no event trigger refuses it, a column of the projection is retyped: the next flush fails, until it is mended.
SET session_replication_role = replica;
ALTER TABLE takings DROP CONSTRAINT takings_amount_check, ALTER n TYPE text;
RESET session_replication_role;
INSERT INTO sale VALUES (2, 1, 20);
SELECT * FROM health_of('told.takings');
SELECT projections.healthy();
SET session_replication_role = replica;
ALTER TABLE takings ALTER n TYPE bigint USING n::bigint;
RESET session_replication_role;
INSERT INTO sale VALUES (2, 1, 20);
SELECT * FROM health_of('told.takings');
SELECT * FROM takings;

-- An inline reducer whose function cannot run; repair is what makes it anew.
CREATE TABLE event (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, k text, n int);
SELECT projections.register_source('told.event', position_column => 'position');
CREATE FUNCTION add(state jsonb, e event, key text) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE
    AS $$BEGIN IF e.n = 7 THEN RETURN to_jsonb(no_such_function(7)); END IF; RETURN to_jsonb((state #>> '{}')::int + e.n); END$$;
SELECT projections.create_reducer('told.added', 'told.event', 'k', 'told.add(jsonb, told.event, text)', initial => '0', mode => 'inline');
INSERT INTO event (k, n) VALUES ('a', 7);
SELECT * FROM health_of('told.added');
INSERT INTO event (k, n) VALUES ('a', 8);
SELECT * FROM health_of('told.added');

-- A batch by hand.
CREATE FUNCTION odd(n int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE
    AS $$BEGIN IF n > 100 THEN PERFORM no_such_function(); END IF; RETURN n % 2 = 1; END$$;
SELECT projections.create('told.parity', 'SELECT told.odd(amount) AS odd, count(*) AS n FROM told.sale GROUP BY 1', mode => 'async');
SELECT * FROM health_of('told.parity');
INSERT INTO sale VALUES (4, 2, 101);
SELECT projections.catch_up('told.parity');
SELECT * FROM health_of('told.parity');
DELETE FROM sale WHERE id = 4;
CREATE OR REPLACE FUNCTION odd(n int) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT n % 2 = 1';
SELECT projections.catch_up('told.parity');
SELECT projections.repair('told.parity');
SELECT * FROM health_of('told.parity');

-- The checkpoint is lost: nothing is applied, and nobody is told that it was.
DELETE FROM projections_internal.slot WHERE projection = 'told.parity'::regclass;
SELECT * FROM health_of('told.parity');
SELECT projections.wait_for('told.parity', timeout => '0 s');
SELECT projections.repair('told.parity') >= 0 AS repaired;
SELECT * FROM health_of('told.parity');
SELECT projections.wait_for('told.parity', timeout => '0 s');

-- A function that was replaced where no event trigger saw it is found by the next batch.
SET session_replication_role = replica;
CREATE OR REPLACE FUNCTION odd(n int) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT n % 2 <> 1';
RESET session_replication_role;
INSERT INTO sale VALUES (5, 2, 3);
SELECT projections.catch_up('told.parity');
SELECT * FROM health_of('told.parity');
SELECT projections.repair('told.parity') >= 0 AS repaired;
SELECT * FROM parity ORDER BY 1;
SELECT * FROM health_of('told.parity');

SELECT projections.drop(name) FROM unnest('{told.takings,told.added,told.parity}'::text[]) AS name;
SELECT projections.unregister_source('told.event');
DROP SCHEMA told CASCADE;
