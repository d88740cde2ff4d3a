-- What maintenance writes into a projection that others read: groups' rows changed without a statement are handed on row
-- by row, and the trigger tells what statements write. told() says how many rows our trigger was told of since the last
-- call.
CREATE SCHEMA edges;
SET search_path = edges;
\set SHOW_CONTEXT never
SET client_min_messages = warning;
SET track_functions = 'all';
CREATE FUNCTION told() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    now bigint := coalesce(pg_stat_get_xact_function_calls('projections_internal.capture'::regproc), 0);
    before text := nullif(current_setting('edges.told', true), '');
BEGIN
    PERFORM set_config('edges.told', now::text, true);
    RETURN now - before::bigint;
END $$;

CREATE TABLE sales (id int PRIMARY KEY, customer int, country text, amount int, day int);
CREATE TABLE limits (country text PRIMARY KEY, least int);
INSERT INTO limits VALUES ('AT', 0), ('CH', 50), ('DE', 100);
INSERT INTO sales SELECT i, i % 6, (ARRAY['AT', 'CH', 'DE'])[1 + i % 3], i, i FROM generate_series(1, 30) AS i;
SELECT projections.create('by_customer', 'SELECT customer, country, sum(amount) AS amount, count(*) AS sales, sum(day) AS days FROM sales GROUP BY customer, country');
SELECT projections.create('by_country', 'SELECT country, sum(amount) AS amount, count(*) AS customers FROM by_customer GROUP BY country');
SELECT projections.create('total', 'SELECT count(amount) AS countries, sum(amount) AS amount FROM by_country');
-- reads its source again; joins; compares rows of one source; has parts
SELECT projections.create('best', 'SELECT country, min(amount) AS least, max(amount) AS most FROM by_customer GROUP BY country');
SELECT projections.create('above', 'SELECT c.customer, c.amount, l.least FROM by_customer c JOIN limits l ON l.country = c.country AND c.amount > l.least');
SELECT projections.create('pairs', 'SELECT a.country, count(*) AS pairs FROM by_customer a JOIN by_customer b ON b.country = a.country AND b.amount > a.amount GROUP BY a.country');
SELECT projections.create('busy', 'SELECT country, sum(amount) AS amount FROM sales GROUP BY country HAVING sum(amount) > 100');
SELECT * FROM test.check_all();

--
-- A changed row of a group tells the trigger on its table nothing
--
BEGIN;
SELECT told();
UPDATE sales SET amount = amount + 1 WHERE id = 1;
SELECT told() AS rows_of_sales;
SELECT amount FROM total;
SELECT told() AS rows_of_projections;
SELECT * FROM test.check_all();
COMMIT;
-- several rows, some of them twice
BEGIN;
SELECT told();
UPDATE sales SET amount = amount + day WHERE id < 4;
UPDATE sales SET amount = amount + 2, day = day + 100 WHERE id IN (3, 4);
SELECT told() AS rows_of_sales;
SELECT amount FROM total;
SELECT told() AS rows_of_projections;
SELECT customer, amount, least FROM above WHERE customer = 2;
COMMIT;
SELECT * FROM test.check_all();
-- groups that come and go, and others beside them: each row once, by the one way or the other
BEGIN;
SELECT told();
UPDATE sales SET customer = 7 WHERE customer = 1 AND id > 3;
DELETE FROM sales WHERE customer = 1;
INSERT INTO sales VALUES (100, 2, 'DE', 5, 100), (101, 8, 'FR', 5, 100);
SELECT told() AS rows_of_sales;
SELECT amount FROM total;
SELECT told() > 0 AS some;
SELECT * FROM test.check_all();
COMMIT;
SELECT * FROM test.check_all();
SELECT country, amount, customers FROM by_country ORDER BY country;
-- an extremum of what was handed on leaves: by_customer has what best reads
UPDATE sales SET amount = amount - 200 WHERE id = (SELECT max(id) FROM sales WHERE country = 'DE');
SELECT * FROM test.check_all();
UPDATE sales SET amount = 1 WHERE country = 'CH';
SELECT * FROM test.check_all();
SELECT country, least, most FROM best ORDER BY country;
-- what changes no column that is read reaches nobody
SELECT ctid AS at FROM by_country WHERE country = 'AT' \gset
UPDATE sales SET day = 500 WHERE id = 3;
SELECT ctid = :'at' AS same FROM by_country WHERE country = 'AT';
SELECT days FROM by_customer WHERE customer = 3 AND country = 'AT';
SELECT * FROM test.check_all();

--
-- Savepoints
--
BEGIN;
UPDATE sales SET amount = amount + 1000 WHERE id = 2;
SAVEPOINT one;
-- applied to the first level within the savepoint only, and handed on from there
SELECT amount FROM by_customer WHERE customer = 2 AND country = 'DE';
ROLLBACK TO one;
SELECT amount FROM by_customer WHERE customer = 2 AND country = 'DE';
SAVEPOINT two;
UPDATE sales SET amount = amount + 5 WHERE id IN (2, 3);
SELECT amount FROM total;
ROLLBACK TO two;
SELECT amount FROM total;
SELECT * FROM test.check_all();
SAVEPOINT three;
UPDATE sales SET amount = amount + 7 WHERE id = 3;
SELECT customer, amount FROM by_customer WHERE customer = 3 AND country = 'AT';
RELEASE three;
COMMIT;
SELECT * FROM test.check_all();

--
-- Readers that are applied later, or not at present
--
SELECT projections.create('later', 'SELECT country, sum(amount) AS amount, max(amount) AS most FROM by_customer GROUP BY country', 'async');
SELECT projections.catch_up('later') >= 0 AS caught_up;
SELECT projections.pause('by_country', 'a look');
BEGIN;
SELECT told();
UPDATE sales SET amount = amount + 3 WHERE id IN (5, 6);
SELECT told() AS rows_of_sales;
SELECT count(*) FROM by_customer;
SELECT told() AS rows_of_projections;
SAVEPOINT s;
UPDATE sales SET amount = amount + 4 WHERE id = 6;
SELECT count(*) FROM by_customer;
ROLLBACK TO s;
COMMIT;
SELECT projections.catch_up('later') > 0 AS caught_up;
SELECT projections.resume('by_country');
SELECT * FROM test.check_all();
SELECT projections.drop('later');

--
-- A user's trigger takes statements, and so does ours as long as that is there
--
CREATE TABLE seen (customer int, before bigint, after bigint);
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO edges.seen VALUES (NEW.customer, OLD.amount, NEW.amount); RETURN NULL; END $$;
CREATE TRIGGER see AFTER UPDATE ON by_customer FOR EACH ROW EXECUTE FUNCTION see();
BEGIN;
SELECT told();
UPDATE sales SET amount = amount + 9 WHERE id = 3;
SELECT told() AS rows_of_sales;
SELECT amount FROM total;
SELECT told() AS rows_of_projections;
COMMIT;
SELECT count(*), sum(after - before) AS more FROM seen;
DROP TRIGGER see ON by_customer;
BEGIN;
SELECT told();
UPDATE sales SET amount = amount + 9 WHERE id = 3;
SELECT told() AS rows_of_sales;
SELECT amount FROM total;
SELECT told() AS rows_of_projections;
COMMIT;
SELECT * FROM test.check_all();
-- sessions in which only such triggers fire as ours
SET session_replication_role = replica;
UPDATE sales SET amount = amount + 9 WHERE id = 3;
RESET session_replication_role;
SELECT * FROM test.check_all();

--
-- A definition whose function reads what is being told: not before all of it is
--
-- (It says IMMUTABLE and is not.)
CREATE FUNCTION peek(customer int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN IF to_regclass('edges.products') IS NOT NULL THEN PERFORM count(*) FROM edges.products; END IF; RETURN customer % 2; END $$;
SELECT projections.create('peeking', 'SELECT peek(customer) AS odd, sum(amount) AS amount FROM by_customer GROUP BY peek(customer)');
SELECT projections.create('products', 'SELECT a.country, sum(a.amount * b.amount) AS product FROM by_customer a JOIN by_customer b ON b.customer = a.customer + 1 GROUP BY a.country');
UPDATE sales SET amount = 100;
SELECT * FROM test.check_all();
UPDATE sales SET amount = 100 + id % 2 + day % 3;
SELECT * FROM test.check_all();
SELECT projections.drop('peeking');
SELECT projections.drop('products');

--
-- An owner who may not read any more misses it, the others do not
--
CREATE ROLE edges_reader;
GRANT USAGE, CREATE ON SCHEMA edges TO edges_reader;
GRANT SELECT, TRIGGER ON by_customer TO edges_reader;
SET ROLE edges_reader;
SELECT projections.create('theirs', 'SELECT country, sum(amount) AS amount FROM by_customer GROUP BY country');
RESET ROLE;
REVOKE SELECT ON by_customer FROM edges_reader;
UPDATE sales SET amount = amount + 1 WHERE id = 2;
SELECT relation, stale_reason FROM projections_internal.projection WHERE stale_since IS NOT NULL;
SELECT t.amount < c.amount AS missed FROM theirs t JOIN by_country c USING (country) WHERE country = (SELECT country FROM sales WHERE id = 2);
GRANT SELECT ON by_customer TO edges_reader;
SELECT projections.repair('theirs');
SELECT * FROM test.check_all();
SELECT projections.drop('theirs');
DROP OWNED BY edges_reader;
DROP ROLE edges_reader;

--
-- What is handed on grows over its memory: it is applied early, as the trigger would have it
--
CREATE TABLE many (id int PRIMARY KEY, k int, v int);
INSERT INTO many SELECT i, i % 1500, i FROM generate_series(1, 3000) AS i;
SELECT projections.create('per_k', 'SELECT k, sum(v) AS v, count(*) AS n FROM many GROUP BY k');
SELECT projections.create('above_k', 'SELECT k AS over, sum(v) AS v, count(*) AS n FROM per_k GROUP BY k');
-- (A query that names the table would have it applied.)
CREATE FUNCTION updated(name text) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN RETURN pg_stat_get_xact_tuples_updated(to_regclass(name)); END $$;
SET pg_projections.delta_memory = 64;
BEGIN;
SELECT updated('above_k') AS before, told() \gset
UPDATE many SET v = v + 1;
SELECT updated('above_k') > :before AS applied_early, told() AS rows_of_many;
COMMIT;
RESET pg_projections.delta_memory;
SELECT * FROM test.check_all();

DROP SCHEMA edges CASCADE;
SELECT count(*) AS projections FROM projections.definitions;
