-- UNION ALL and UNION: at the top, in FROM, of views, of joins, of a table with itself, by every way in which changes come.
SET client_min_messages = warning;
CREATE SCHEMA unions;
SET search_path = unions, public;

CREATE TABLE shops (id int PRIMARY KEY, region int, amount numeric(10, 2), note text);
CREATE TABLE online (id int PRIMARY KEY, region int, amount int, note varchar(10));
CREATE TABLE regions (region int PRIMARY KEY, name text);
CREATE TABLE transfers (id int PRIMARY KEY, source int, target int, amount numeric);
CREATE VIEW sales AS SELECT region, amount FROM shops UNION ALL SELECT region, amount FROM online ORDER BY 1;

INSERT INTO regions VALUES (1, 'north'), (2, 'south');
INSERT INTO shops SELECT i, i % 4, i, 'note ' || i % 3 FROM generate_series(1, 20) i;

-- What is asked, as views: the oracle compares with what is stored, and this with what was written.
CREATE VIEW asked_rows AS SELECT region, amount FROM shops UNION ALL SELECT region, amount FROM online WHERE region > 1;
SELECT projections.create('rows', 'SELECT region, amount FROM shops UNION ALL SELECT region, amount FROM online WHERE region > 1');
CREATE VIEW asked_sums AS SELECT region, sum(amount), avg(amount), max(amount), count(*) FROM (SELECT region, amount FROM shops UNION ALL SELECT region, amount FROM online) AS u WHERE region <> 3 GROUP BY region;
SELECT projections.create('sums', 'SELECT region, sum(amount), avg(amount), max(amount), count(*) FROM (SELECT region, amount FROM shops UNION ALL SELECT region, amount FROM online) AS u WHERE region <> 3 GROUP BY region');
CREATE VIEW asked_total AS SELECT sum(amount), count(*) FROM sales;
SELECT projections.create('total', 'SELECT sum(amount), count(*) FROM sales');
CREATE VIEW asked_notes AS SELECT region, note FROM shops UNION SELECT region, note FROM online ORDER BY 1;
SELECT projections.create('notes', 'SELECT region, note FROM shops UNION SELECT region, note FROM online ORDER BY 1');
CREATE VIEW asked_three AS (SELECT region FROM shops UNION ALL SELECT region FROM online) UNION SELECT region FROM regions;
SELECT projections.create('three', '(SELECT region FROM shops UNION ALL SELECT region FROM online) UNION SELECT region FROM regions');
CREATE VIEW asked_balance AS SELECT account, sum(amount) AS balance FROM (SELECT source AS account, -amount AS amount FROM transfers UNION ALL SELECT target, amount FROM transfers) AS t GROUP BY account;
SELECT projections.create('balance', 'SELECT account, sum(amount) AS balance FROM (SELECT source AS account, -amount AS amount FROM transfers UNION ALL SELECT target, amount FROM transfers) AS t GROUP BY account');
CREATE VIEW asked_named AS SELECT name, count(*), min(amount) FROM (SELECT r.name, s.amount FROM shops s JOIN regions r USING (region) UNION ALL SELECT 'online', o.amount FROM online o JOIN regions r ON r.region = o.region) AS u GROUP BY name;
SELECT projections.create('named', 'SELECT name, count(*), min(amount) FROM (SELECT r.name, s.amount FROM shops s JOIN regions r USING (region) UNION ALL SELECT ''online'', o.amount FROM online o JOIN regions r ON r.region = o.region) AS u GROUP BY name');
CREATE VIEW asked_above AS SELECT n.name, count(*) FROM (SELECT name FROM named UNION ALL SELECT name FROM regions) AS n GROUP BY n.name;
SELECT projections.create('above', 'SELECT n.name, count(*) FROM (SELECT name FROM named UNION ALL SELECT name FROM regions) AS n GROUP BY n.name');
SELECT p, e.* FROM unnest('{rows,sums,balance,named}'::text[]) AS p, projections.explain(p) AS e;

CREATE FUNCTION checked() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    p text;
    columns text;
    wrong bigint;
BEGIN
    FOREACH p IN ARRAY '{rows,sums,total,notes,three,balance,named,above}'::text[] LOOP
        IF test.check('unions.' || p) <> 'equal, algebraic' THEN
            RETURN NEXT p || ': ' || test.check('unions.' || p);
        END IF;
        SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) INTO columns FROM pg_attribute
        WHERE attrelid = ('asked_' || p)::regclass AND attnum > 0;
        EXECUTE format('SELECT count(*) FROM ((SELECT %1$s FROM %2$I EXCEPT ALL TABLE asked_%2$s) UNION ALL (TABLE asked_%2$s EXCEPT ALL SELECT %1$s FROM %2$I)) AS d', columns, p) INTO wrong;
        IF wrong > 0 THEN
            RETURN NEXT format('%s: %s rows are not what was asked for', p, wrong);
        END IF;
    END LOOP;
END
$$;
SELECT checked();
INSERT INTO online SELECT i, i % 5, i, 'note ' || i % 4 FROM generate_series(1, 20) i;
INSERT INTO transfers SELECT i, i % 3, i % 4, i / 4.0 FROM generate_series(1, 20) i;
SELECT checked();
UPDATE shops SET region = region + 1, amount = amount * 2 WHERE id % 3 = 0;
UPDATE transfers SET source = target, target = source WHERE id % 2 = 0;
DELETE FROM online WHERE id % 4 = 0;
UPDATE regions SET name = 'centre' WHERE region = 2;
DELETE FROM shops WHERE amount = (SELECT max(amount) FROM shops);
SELECT checked();

-- several sources in one transaction, read in its midst, savepoints, TRUNCATE of one arm
BEGIN;
INSERT INTO shops VALUES (100, 1, 5, 'x');
INSERT INTO online VALUES (100, 1, 5, 'x');
SELECT checked();
SAVEPOINT s;
TRUNCATE shops;
SELECT checked();
ROLLBACK TO s;
DELETE FROM shops WHERE region = 1;
INSERT INTO regions VALUES (5, 'west');
SELECT checked();
COMMIT;
SELECT checked();
TRUNCATE online;
SELECT checked();
INSERT INTO online SELECT i, i % 5, i, NULL FROM generate_series(1, 20) i;
SELECT checked();

-- pause, repair, rebuild, history, verify
SELECT projections.pause('sums', 'test'), projections.pause('rows', 'test');
DELETE FROM shops WHERE id < 8;
INSERT INTO online VALUES (200, 2, 2, 'y');
SELECT projections.resume('sums'), projections.resume('rows');
SELECT checked();
SET pg_projections.allow_direct_writes = on;
UPDATE sums SET sum = 0 WHERE region = 2;
DELETE FROM rows WHERE region = 2;
RESET pg_projections.allow_direct_writes;
SELECT projections.verify('sums') IS NOT NULL;
SELECT projections.refresh_rows('sums', '{"region": 2}');
SELECT test.check('unions.sums');
CALL projections.rebuild('rows');
CALL projections.rebuild('sums');
SELECT checked();
SELECT * FROM projections.history('named', '{"name": "online"}') ORDER BY 1, event::text LIMIT 2;
CALL projections.alter('sums', 'SELECT region, sum(amount), avg(amount), max(amount), count(*), min(amount) FROM (SELECT region, amount FROM online UNION ALL SELECT region, amount FROM shops) AS u GROUP BY region');
CREATE OR REPLACE VIEW asked_sums AS SELECT region, sum(amount), avg(amount), max(amount), count(*), min(amount) FROM (SELECT region, amount FROM online UNION ALL SELECT region, amount FROM shops) AS u GROUP BY region;
INSERT INTO shops VALUES (300, 9, 1, 'z');
SELECT checked();

-- the view as it read at create
CREATE OR REPLACE VIEW asked_total AS SELECT sum(amount), count(*) FROM (SELECT region, amount FROM shops UNION ALL SELECT region, amount FROM online) AS u;
CREATE OR REPLACE VIEW sales AS SELECT region, amount::numeric FROM shops;
INSERT INTO online VALUES (201, 2, 2, 'y');
SELECT checked();
-- refused
\set VERBOSITY default
SELECT projections.create('no', 'SELECT region FROM shops UNION ALL SELECT region FROM regions LIMIT 3');
SELECT projections.create('no', 'SELECT region FROM shops UNION ALL SELECT generate_series(1, 2)');

SET client_min_messages = error;
DROP SCHEMA unions CASCADE;
