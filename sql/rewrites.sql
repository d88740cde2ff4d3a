-- Views, subqueries, WITH and the like are put into the query where they are plain: maintained as the tables behind them are.
CREATE SCHEMA rewrites;
SET search_path = rewrites;
CREATE TABLE customer (id int PRIMARY KEY, country text, name text);
CREATE TABLE sale (id int PRIMARY KEY, customer int, amount numeric(8, 2));
INSERT INTO customer VALUES (1, 'de', 'a'), (2, 'fr', 'b'), (3, NULL, 'c');
INSERT INTO sale SELECT g, g % 5, g * 1.5 FROM generate_series(1, 20) g;
CREATE VIEW dear AS SELECT s.id, s.customer AS buyer, s.amount * 2 AS twice FROM sale s WHERE s.amount > 5;
CREATE VIEW dear_known AS SELECT d.id, c.country, d.twice FROM dear d JOIN customer c ON c.id = d.buyer ORDER BY d.id;

SET client_min_messages = warning;
SELECT projections.create('by_view', 'SELECT country, sum(twice) AS twice, count(*) AS n FROM dear_known GROUP BY country');
SELECT projections.create('by_views', 'SELECT a.id, b.twice FROM dear a JOIN dear_known b ON b.id = a.id');
SELECT projections.create('by_with', 'WITH x AS (SELECT id AS customer, name FROM customer WHERE id < 3) SELECT s.id, name FROM sale s JOIN x USING (customer)');
SELECT projections.create('with_twice', 'WITH x AS (SELECT id, country FROM customer) SELECT p.id, q.id AS other FROM x p JOIN x q USING (country)');
SELECT projections.create('by_subquery', 'SELECT k, max(v) AS v FROM (SELECT customer % 2 AS k, amount + 1 AS v FROM sale) s WHERE v > 3 GROUP BY k');
SELECT projections.create('by_lateral', 'SELECT c.name, l.amount FROM customer c, LATERAL (SELECT s.amount FROM sale s WHERE s.customer = c.id) l');
SELECT projections.create('by_list', 'SELECT id, amount FROM sale WHERE customer IN (1, 3)');
SELECT projections.create('by_left', 'SELECT s.id, c.name FROM sale s LEFT JOIN customer c ON c.id = s.customer WHERE c.country > ''a''');
SELECT projections.create('by_right', 'SELECT c.name, sum(s.amount) AS amount FROM sale s RIGHT JOIN customer c ON c.id = s.customer WHERE s.amount > 0 GROUP BY c.name');
SELECT projections.create('ordered', 'SELECT id, amount FROM sale ORDER BY amount DESC, id');
SELECT query FROM projections.definitions WHERE projection = 'rewrites.by_view';
CREATE VIEW first_only AS SELECT id FROM sale LIMIT 1;

-- each kind of change, on each side
SELECT * FROM test.check_all();
INSERT INTO sale VALUES (30, 1, 100), (31, 2, 1), (32, NULL, 50);
SELECT * FROM test.check_all();
UPDATE sale SET customer = 3, amount = amount / 2 WHERE id IN (6, 7, 30);
SELECT * FROM test.check_all();
UPDATE customer SET country = 'de', name = name || '!' WHERE id >= 2;
SELECT * FROM test.check_all();
BEGIN;
INSERT INTO customer VALUES (4, 'it', 'd');
SAVEPOINT s;
UPDATE sale SET customer = 4 WHERE id < 10;
SELECT count(*) FROM by_views;
ROLLBACK TO s;
DELETE FROM sale WHERE customer = 2;
COMMIT;
SELECT * FROM test.check_all();
DELETE FROM customer WHERE id = 1;
SELECT * FROM test.check_all();
SELECT projections.pause('by_view', 'a while');
INSERT INTO sale VALUES (40, 3, 70);
SELECT projections.resume('by_view');
TRUNCATE sale;
SELECT * FROM test.check_all();
INSERT INTO sale SELECT g, g % 5, g * 1.5 FROM generate_series(1, 20) g;
SELECT * FROM test.check_all();
CALL projections.rebuild('by_views');
SELECT * FROM test.check_all();
SELECT projections.verify('by_with');

-- A projection follows what a view was when it was created: its tables, not its text.
CREATE OR REPLACE VIEW dear AS SELECT s.id, s.customer AS buyer, s.amount * 3 AS twice FROM sale s;
INSERT INTO sale VALUES (50, 4, 9);
SELECT * FROM test.check_all();

-- Rights: on the view as the server asks them, and on its tables as the projection's owner, who maintains it.
CREATE ROLE rewrites_user;
CREATE ROLE rewrites_other;
GRANT USAGE, CREATE ON SCHEMA rewrites TO rewrites_user, rewrites_other;
CREATE FUNCTION attempt(query text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM projections.create('rewrites.attempted', query);
    DROP TABLE rewrites.attempted;
    RETURN 'created';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE || ': ' || SQLERRM;
END
$$;
CREATE FUNCTION attempt_as(role name, query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE result text;
BEGIN
    EXECUTE format('SET LOCAL ROLE %I', role);
    result := rewrites.attempt(query);
    RESET ROLE;
    RETURN result;
END
$$;
\set query '''SELECT country, count(*) AS n FROM rewrites.dear_known GROUP BY country'''
SELECT attempt_as('rewrites_user', :query);
GRANT SELECT ON sale, customer TO rewrites_user;
GRANT TRIGGER ON sale, customer TO rewrites_user;
SELECT attempt_as('rewrites_user', :query);
GRANT SELECT (country) ON dear_known TO rewrites_user;
SELECT attempt_as('rewrites_user', :query);
SELECT attempt_as('rewrites_user', 'SELECT id FROM rewrites.dear_known');
REVOKE SELECT ON sale FROM rewrites_user;
SELECT attempt_as('rewrites_user', :query);
GRANT SELECT ON sale TO rewrites_user;
-- a view behind a view is its owner's to read; security_invoker: the reader's
ALTER VIEW dear_known OWNER TO rewrites_other;
GRANT SELECT (country) ON dear_known TO rewrites_user;
SELECT attempt_as('rewrites_user', :query);
GRANT SELECT ON dear TO rewrites_other;
SELECT attempt_as('rewrites_user', :query);
ALTER VIEW dear_known SET (security_invoker = true, security_barrier = true);
SELECT attempt_as('rewrites_user', :query);
GRANT SELECT ON dear TO rewrites_user;
SELECT attempt_as('rewrites_user', :query);
ALTER TABLE sale ENABLE ROW LEVEL SECURITY;
SELECT attempt_as('rewrites_user', :query);
ALTER TABLE sale DISABLE ROW LEVEL SECURITY;
-- what is not plain is refused for what it is, and so are views of the extension and of the system
SELECT attempt('SELECT id FROM rewrites.first_only');
SELECT attempt('SELECT projection FROM projections.definitions');
SELECT attempt('SELECT tablename FROM pg_tables');
SELECT attempt('SELECT d.id, d FROM rewrites.dear d');

DROP SCHEMA rewrites CASCADE;
DROP ROLE rewrites_user, rewrites_other;
