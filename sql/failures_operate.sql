-- Operating on failures: retry, retry_all, skip, resolve; what becomes of what is parked behind; who may.
CREATE SCHEMA failing;
SET search_path = failing;
\set SHOW_CONTEXT never
SET client_min_messages = error;
CREATE ROLE regress_failing_owner;
CREATE ROLE regress_failing_other;
GRANT ALL ON SCHEMA failing TO regress_failing_owner;
GRANT USAGE ON SCHEMA failing TO regress_failing_other;
SET ROLE regress_failing_owner;
CREATE TABLE moves (seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, kind text, item text, quantity int);
SELECT projections.register_source('moves', 'seq', type_column => 'kind');
CREATE TABLE stock (item text PRIMARY KEY, quantity int CHECK (quantity >= 0), last bigint);
CREATE FUNCTION move(event moves) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE stock SET quantity = quantity + event.quantity, last = event.seq WHERE item = event.item;
    IF NOT FOUND THEN
        INSERT INTO stock VALUES (event.item, event.quantity, event.seq);
    END IF;
END $$;
SELECT projections.create_handler('moving', 'moves', 'move(moves)', '{stock}', partition_by => 'item', options => '{"max_retries": 0}');
SELECT projections.create('shares', 'SELECT kind, sum(100 / quantity) AS share, count(*) AS moves FROM moves GROUP BY kind', mode => 'async', options => '{"max_retries": 0}');
CREATE VIEW open AS SELECT id, projection, position, key, error, sqlstate, retry_count FROM projections.failures WHERE resolved_at IS NULL;
CREATE VIEW parked AS SELECT projection, position, key FROM projections.parked;
CREATE VIEW resolved AS SELECT projection, position, resolution, resolved_by, note, retry_count FROM projections.failures WHERE resolved_at IS NOT NULL;

INSERT INTO moves (kind, item, quantity) VALUES ('in', 'a', 5), ('out', 'a', -7), ('in', 'a', 3), ('in', 'b', 1), ('out', 'b', -2), ('in', 'b', 1), ('in', 'c', 0), ('in', 'c', 4);
SELECT projections.catch_up() > 0 AS applied;
SELECT projection, position, key, error, sqlstate, retry_count FROM open ORDER BY 1, 2;
SELECT * FROM parked ORDER BY 1, 2;
TABLE stock ORDER BY item;

--
-- retry: in vain, and then not
--
SELECT projections.retry(id) FROM open WHERE position = 2;
SELECT position, retry_count, error FROM open WHERE position = 2;
SELECT * FROM parked ORDER BY 1, 2;
UPDATE stock SET quantity = 10 WHERE item = 'a';
SELECT projections.retry(id) FROM open WHERE position = 2;
-- what was parked behind it has been applied, in order
TABLE stock ORDER BY item;
SELECT * FROM parked ORDER BY 1, 2;
SELECT * FROM resolved ORDER BY 1, 2;
\set VERBOSITY sqlstate
SELECT projections.retry(id) FROM projections.failures WHERE projection = 'failing.moving' AND position = 2;
\set VERBOSITY default
-- a query's events wait for nothing but themselves
SELECT projections.retry(id) FROM open WHERE projection = 'failing.shares';
UPDATE moves SET quantity = 1 WHERE quantity = 0;
SELECT projections.retry(id) FROM open WHERE projection = 'failing.shares';
SELECT projections.retry_all('shares');

--
-- skip and resolve
--
SELECT projections.skip(id, NULL) FROM open WHERE position = 5;
SELECT projections.skip(id, ' ') FROM open WHERE position = 5;
SELECT projections.skip(id, 'counted twice') FROM open WHERE position = 5;
TABLE stock ORDER BY item;
SELECT * FROM parked ORDER BY 1, 2;
INSERT INTO moves (kind, item, quantity) VALUES ('out', 'a', -100), ('in', 'a', 2), ('out', 'b', -100), ('in', 'b', 2), ('out', 'c', -100), ('in', 'c', 2);
SELECT projections.catch_up() > 0 AS applied;
SELECT projections.resolve(id, 'retry', 'once more') FROM open WHERE position = 9;
SELECT projections.resolve(id, 'resolved', 'put right by hand') FROM open WHERE position = 9;
SELECT projections.resolve(id, 'skip') FROM open WHERE position = 11;
SELECT projections.resolve(id, 'skip', 'not ours') FROM open WHERE position = 11;
SELECT projections.resolve(id, 'ignore') FROM open WHERE position = 13;
SELECT projections.resolve(id, NULL) FROM open WHERE position = 13;
UPDATE stock SET quantity = 1000 WHERE item = 'c';
SELECT projections.resolve(id, 'retry', 'delivery was late') FROM open WHERE position = 13;
TABLE stock ORDER BY item;
SELECT count(*) FROM open;
SELECT count(*) FROM parked;
SELECT * FROM resolved ORDER BY 1, 2;
SELECT status FROM projections.health('moving');
SELECT projections.skip(-1, 'none such');
SELECT projections.retry(NULL);

--
-- retry_all: what a success sets free may fail in its turn
--
INSERT INTO moves (kind, item, quantity) VALUES ('out', 'd', -1), ('out', 'd', -5000), ('in', 'd', 1), ('out', 'e', -1);
SELECT projections.catch_up('moving') > 0 AS applied;
ALTER TABLE stock DROP CONSTRAINT stock_quantity_check, ADD CHECK (quantity > -1000);
SELECT projections.retry_all('moving');
SELECT position, key, error FROM open ORDER BY 1;
SELECT * FROM parked ORDER BY 1, 2;
ALTER TABLE stock DROP CONSTRAINT stock_quantity_check;
SELECT projections.retry_all('moving'), projections.retry_all('moving') AS no_more;
TABLE stock ORDER BY item;

--
-- history is kept, and what replays need longer than the rest
--
RESET ROLE;
UPDATE projections_internal.failure SET resolved_at = resolved_at - interval '100 years';
SELECT projections_internal._expire_history() > 0 AS expired;
SELECT position, resolution FROM resolved ORDER BY 1;

--
-- who may
--
INSERT INTO moves (kind, item, quantity) VALUES ('out', NULL, 1);
SELECT projections.catch_up('moving') > 0 AS applied;
SELECT position, key, sqlstate FROM open;
SELECT id FROM open \gset
SET ROLE regress_failing_other;
SELECT projections.retry(:id);
SELECT projections.skip(:id, 'mine');
SELECT projections.resolve(:id, 'resolved');
SELECT projections.retry_all('moving');
SELECT projections_internal._close_failure('failing.moving'::regclass, 'me', :id, 'skipped', 'mine');
SELECT projections_internal._retry(1::oid, 'me', :id);
RESET ROLE;
SET ROLE regress_failing_owner;
SELECT projections.skip(:id, 'no item');
RESET ROLE;

DROP SCHEMA failing CASCADE;
DROP OWNED BY regress_failing_owner, regress_failing_other;
DROP ROLE regress_failing_owner, regress_failing_other;
SELECT count(*) FROM projections_internal.failure;
