-- What each stage of the compiler makes of a query: a change of the compiler is reviewed as a change of this output.
CREATE SCHEMA plan;
SET search_path = plan;
CREATE TABLE customer (id int PRIMARY KEY, country text NOT NULL, name text);
CREATE TABLE sale (id int PRIMARY KEY, customer int, day date, amount numeric, weight float8, good boolean);
CREATE TABLE loose (sale int, note text);
INSERT INTO customer VALUES (1, 'de', 'a'), (2, 'fr', 'b'), (3, 'fr', NULL);
INSERT INTO sale VALUES (1, 1, '2024-01-01', 10, 1.5, true), (2, 2, '2024-01-02', 7.5, NULL, false), (3, NULL, '2024-01-02', 3, 2, NULL),
    (4, 2, NULL, NULL, 4, true), (5, 9, '2024-01-01', 10, 'NaN', true);
INSERT INTO loose VALUES (1, 'x'), (1, 'x'), (2, NULL), (NULL, 'y');
CREATE VIEW dear AS SELECT s.id, s.customer AS buyer, s.amount * 2 AS twice FROM sale s WHERE s.amount > 5;
CREATE VIEW dear_abroad AS SELECT d.id, c.country, d.twice FROM dear d JOIN customer c ON c.id = d.buyer WHERE c.country <> 'de' ORDER BY d.id;
CREATE TYPE pair AS (a int, b int);

\pset format unaligned
\pset tuples_only on
-- Every normal form returns what its query does: raises where one does not.
CREATE FUNCTION plan(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    plan text := projections_internal._plan(query);
    normal text := split_part(split_part(plan, 'tree:', 1), 'normal form:', 2);
    differences bigint;
BEGIN
    EXECUTE format('WITH a AS (%s), b AS (%s) SELECT count(*) FROM ((TABLE a EXCEPT ALL TABLE b) UNION ALL (TABLE b EXCEPT ALL TABLE a)) d', query, normal)
        INTO differences;
    IF differences > 0 THEN RAISE EXCEPTION 'not the same: % and %', query, normal; END IF;
    RETURN plan;
END
$$;

--
-- Blocks of each identity
--
SELECT plan('SELECT customer, count(*) AS n, sum(amount) AS amount FROM sale GROUP BY customer');
SELECT plan('SELECT count(*) FILTER (WHERE good) AS good, max(day) AS latest, avg(id) AS average FROM sale');
SELECT plan('SELECT id, amount * 2 AS twice FROM sale WHERE good');
SELECT plan('SELECT note FROM loose');
SELECT plan('SELECT DISTINCT amount FROM sale');
SELECT plan('SELECT lower(country) AS country, sum(weight) AS weight, bool_and(good) AS good FROM sale s, customer c WHERE c.id = s.customer GROUP BY lower(country)');
SELECT plan('SELECT a.id, b.name FROM customer a JOIN customer b ON b.country = a.country AND b.id <> a.id');

--
-- Rewriting
--
SELECT plan('SELECT c.name, s.amount FROM sale s JOIN customer c ON c.id = s.customer JOIN loose l ON l.sale = s.id');
SELECT plan('SELECT s.id, name FROM sale s JOIN (SELECT id AS customer, name FROM customer) c USING (customer)');
SELECT plan('SELECT buyer, sum(twice) AS twice FROM dear GROUP BY buyer');
SELECT plan('SELECT country, count(*) AS n FROM dear_abroad WHERE twice > 10 GROUP BY country ORDER BY n DESC');
SELECT plan('SELECT d.twice FROM dear d JOIN dear e ON e.id = d.id');
SELECT plan('WITH a AS (SELECT id, customer FROM sale WHERE good), b AS MATERIALIZED (SELECT a.id, c.name FROM a JOIN customer c ON c.id = a.customer) SELECT name, id FROM b');
SELECT plan('WITH a AS (SELECT id, country FROM customer) SELECT x.id FROM a x JOIN a y USING (country)');
SELECT plan('SELECT c.country, big.amount FROM customer c CROSS JOIN LATERAL (SELECT s.amount FROM sale s WHERE s.customer = c.id AND s.amount > c.id) big');
SELECT plan('SELECT x + 1 AS y FROM (SELECT x * 2 AS x FROM (SELECT id AS x FROM sale) a ORDER BY x) b WHERE x > 2');
SELECT plan('SELECT id FROM sale WHERE customer IN (1, 2) AND amount NOT IN (3, 4)');
SELECT plan('SELECT s.id, c.name FROM sale s LEFT JOIN customer c ON c.id = s.customer WHERE c.country = ''fr''');
SELECT plan('SELECT c.name FROM sale s RIGHT JOIN customer c ON c.id = s.customer WHERE s.amount > 1 OR s.good');
SELECT plan('SELECT s.id FROM sale s FULL JOIN customer c ON c.id = s.customer WHERE s.good AND c.name <> ''''');
SELECT plan('SELECT s.id FROM sale s LEFT JOIN (SELECT id + 0 AS i FROM customer) c ON c.i = s.customer JOIN loose l ON l.sale = c.i');
SELECT plan('SELECT t.one, s.id FROM (SELECT 1 AS one) t, sale s');

-- unions
SELECT plan('SELECT id, amount FROM sale UNION ALL SELECT sale, 1 FROM loose');
SELECT plan('SELECT customer FROM sale UNION SELECT id FROM customer ORDER BY 1');
SELECT plan('SELECT c, sum(a), max(a) FROM (SELECT s.customer AS c, s.amount AS a FROM sale s JOIN loose l ON l.sale = s.id UNION ALL (SELECT id, 0 FROM customer UNION ALL SELECT customer, -amount FROM sale)) u WHERE c > 1 GROUP BY c');

--
-- What is refused, and where it stands
--
--
SELECT projections_internal._plan('SELECT s.id FROM sale s LEFT JOIN customer c ON c.id = s.customer WHERE c.name IS NULL');
SELECT projections_internal._plan('SELECT s.id FROM sale s LEFT JOIN (SELECT id FROM customer) c ON c.id = s.customer');
SELECT projections_internal._plan('SELECT s.id FROM sale s LEFT JOIN customer c ON c.id = s.customer AND c.name = ''a''');
SELECT projections_internal._plan('SELECT coalesce(c.name, ''none'') FROM sale s LEFT JOIN customer c ON c.id = s.customer WHERE coalesce(c.name, ''none'') <> ''x''');
SELECT projections_internal._plan('SELECT n FROM (SELECT count(*) AS n FROM sale) x');
SELECT projections_internal._plan('SELECT id FROM (SELECT id FROM sale ORDER BY id LIMIT 1) x');
SELECT projections_internal._plan('SELECT id FROM (SELECT DISTINCT id FROM sale) x');
SELECT projections_internal._plan('SELECT id FROM (SELECT id FROM sale WHERE EXISTS (SELECT FROM loose)) x');
SELECT projections_internal._plan('SELECT id FROM (SELECT id, row_number() OVER () FROM sale) x');
SELECT projections_internal._plan('SELECT id FROM (SELECT id FROM sale UNION SELECT sale FROM loose) x');
SELECT projections_internal._plan('SELECT x FROM (SELECT id FROM sale) x');
SELECT projections_internal._plan('WITH RECURSIVE r AS (SELECT id FROM sale UNION ALL SELECT id + 1 FROM r WHERE id < 9) SELECT id FROM r');
SELECT projections_internal._plan('WITH a AS (SELECT id FROM sale) SELECT id FROM customer WHERE id IN (SELECT id FROM a)');
SELECT projections_internal._plan('SELECT id FROM sale ORDER BY id LIMIT 3');
SELECT * FROM projections_internal._refusals();

SET client_min_messages = warning;
DROP SCHEMA plan CASCADE;
