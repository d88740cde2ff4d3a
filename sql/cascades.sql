-- Projections over projections: two and three levels, diamonds, joined with tables; and the order in which they may go.
CREATE SCHEMA cascades;
SET search_path = cascades;
\set SHOW_CONTEXT never
SET client_min_messages = warning;

CREATE TABLE sales (id int PRIMARY KEY, customer int, country text, amount int);
CREATE TABLE regions (country text PRIMARY KEY, region text);
SELECT projections.create('by_customer', 'SELECT customer, country, sum(amount) AS amount, count(*) AS sales FROM sales GROUP BY customer, country');
SELECT projections.create('by_country', 'SELECT country, sum(amount) AS amount, count(*) AS customers, max(amount) AS best FROM by_customer GROUP BY country');
SELECT projections.create('by_region', 'SELECT r.region, sum(c.amount) AS amount, sum(c.customers) AS customers FROM by_country c JOIN regions r USING (country) GROUP BY r.region');
-- the third level, with a table's rows and a projection's, and the diamond: both paths lead from sales
SELECT projections.create('shares', 'SELECT a.customer, a.country, a.amount, b.amount AS of FROM by_customer a JOIN by_country b USING (country)');
SELECT projections.create('own', 'SELECT s.id, s.amount, c.amount AS of FROM sales s JOIN by_customer c ON c.customer = s.customer AND c.country = s.country');
SELECT projections.create('counts', 'SELECT sales, count(*) AS customers FROM by_customer GROUP BY sales');
SELECT projections.create('grand', 'SELECT sum(amount) AS amount, max(best) AS best FROM by_country');
SELECT projections.create('distinct_amounts', 'SELECT DISTINCT amount FROM shares');
SELECT projection, array_agg(source::text ORDER BY source::text) AS sources, array_agg(source_is_projection ORDER BY source::text) AS projections
FROM projections.dependencies GROUP BY projection ORDER BY projection;
SELECT * FROM test.check_all();

INSERT INTO regions VALUES ('CH', 'alps'), ('DE', 'north'), ('AT', 'alps');
INSERT INTO sales SELECT i, i % 7, (ARRAY['CH', 'DE', 'AT', 'FR'])[1 + i % 4], i * 3 FROM generate_series(1, 40) AS i;
SELECT * FROM test.check_all();
SELECT * FROM by_country ORDER BY country;
SELECT region, amount, customers FROM by_region ORDER BY region;
SELECT amount, best FROM grand;
UPDATE sales SET amount = amount + 1 WHERE id = 5;
SELECT * FROM test.check_all();
UPDATE sales SET customer = 1, country = 'CH' WHERE id % 3 = 0;
SELECT * FROM test.check_all();
UPDATE regions SET region = 'alps';
SELECT * FROM test.check_all();
DELETE FROM sales WHERE country = 'DE';
SELECT * FROM test.check_all();
-- a table and, through projections, its own projection change in one statement
WITH r AS (DELETE FROM regions WHERE country = 'AT' RETURNING country), n AS (INSERT INTO regions VALUES ('FR', 'west'))
UPDATE sales SET country = 'CH', amount = amount * 2 WHERE country IN (SELECT country FROM r);
SELECT * FROM test.check_all();
-- every level is read while the transaction goes on
BEGIN;
INSERT INTO sales VALUES (100, 50, 'FR', 1000);
SELECT amount, best FROM grand;
SAVEPOINT s;
DELETE FROM sales WHERE id <> 100;
SELECT amount, best FROM grand;
SELECT * FROM test.check_all();
ROLLBACK TO s;
SELECT * FROM test.check_all();
UPDATE sales SET customer = 51 WHERE id = 100;
SELECT customer, country, amount FROM shares WHERE customer >= 50;
UPDATE regions SET region = 'east' WHERE country = 'FR';
COMMIT;
SELECT * FROM test.check_all();
SELECT region, amount, customers FROM by_region ORDER BY region;
-- nothing moves where the upstream row does not change
CREATE TABLE written (projection text);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO cascades.written VALUES (TG_TABLE_NAME); RETURN NULL; END $$;
CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON by_country FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON by_region FOR EACH ROW EXECUTE FUNCTION note();
GRANT USAGE ON SCHEMA cascades TO PUBLIC;
BEGIN;
UPDATE sales SET amount = amount + 5 WHERE id = 100;
UPDATE sales SET amount = amount - 5 WHERE id = 100;
COMMIT;
SELECT * FROM written;
UPDATE sales SET amount = amount + 5 WHERE id = 100;
SELECT * FROM written ORDER BY 1;
SELECT * FROM test.check_all();
TRUNCATE sales;
SELECT * FROM test.check_all();
INSERT INTO sales VALUES (1, 1, 'CH', 1);
SELECT * FROM test.check_all();
BEGIN;
TRUNCATE sales;
INSERT INTO sales VALUES (2, 2, 'FR', 22), (3, 2, 'FR', 23), (4, 3, 'CH', 5);
COMMIT;
SELECT * FROM test.check_all();

-- A projection of a projection's appended columns is no secret, but not needed: renames follow through every level.
ALTER TABLE by_customer RENAME COLUMN amount TO revenue;
ALTER TABLE by_country RENAME TO per_country;
INSERT INTO sales VALUES (5, 5, 'CH', 5);
SELECT * FROM test.check_all();
SELECT query FROM projections.definitions WHERE projection = 'cascades.per_country';

-- What is read cannot go.
DROP TABLE by_customer;
SELECT projections.drop('by_customer');
SELECT projections.drop('by_customer', keep_table => true);
ALTER TABLE by_customer DROP COLUMN revenue;
SELECT count(*) FROM projections.definitions;
-- A projection cannot read itself, over any number of levels: a definition is made before what reads it.
SELECT projections.drop('shares');
SELECT projections.drop('distinct_amounts');
SELECT projections.drop('shares');
SELECT projections.drop('grand');
SELECT * FROM test.check_all();
SELECT projections.drop('by_region', keep_table => true);
SELECT count(*) FROM by_region;
INSERT INTO sales VALUES (6, 5, 'FR', 6);
SELECT * FROM test.check_all();
-- CASCADE takes the levels below along, as it takes views.
SET client_min_messages = notice;
\set VERBOSITY terse
DROP TABLE by_customer CASCADE;
\set VERBOSITY default
SET client_min_messages = warning;
SELECT projection FROM projections.definitions;
SELECT tgrelid::regclass, tgname FROM pg_trigger WHERE tgname LIKE 'projections%' ORDER BY 1::text, 2;
SELECT relname FROM pg_class WHERE relnamespace = 'projections_internal'::regnamespace AND relkind = 'v' AND relname LIKE '%definition' ORDER BY 1;

DROP SCHEMA cascades CASCADE;
SELECT count(*) AS projections FROM projections.definitions;
