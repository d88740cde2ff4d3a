-- INTERSECT ALL and EXCEPT ALL, and what repeats rows: generate_series(1, n) whose values nobody reads.
SET client_min_messages = warning;
CREATE SCHEMA copies;
SET search_path = copies, public;

CREATE TABLE ordered (id int PRIMARY KEY, customer int, item text);
CREATE TABLE delivered (id int PRIMARY KEY, customer bigint, item varchar(20));
CREATE TABLE returned (customer int, item text, pieces int); -- no key
CREATE TABLE customers (id int PRIMARY KEY, name text);
INSERT INTO customers SELECT i, 'customer ' || i FROM generate_series(1, 6) i;
INSERT INTO ordered SELECT i, i % 5, 'item ' || nullif(i % 3, 0) FROM generate_series(1, 60) i;
INSERT INTO delivered SELECT i, i % 4, 'item ' || nullif(i % 3, 0) FROM generate_series(1, 40) i;
INSERT INTO returned SELECT i % 6, 'item ' || nullif(i % 3, 0), i % 4 - 1 FROM generate_series(1, 30) i;

-- What is asked, as views: the oracle compares with what is stored, and `checked` with what was written.
CREATE TABLE asked (name text PRIMARY KEY, query text, mode text);
INSERT INTO asked VALUES
    ('common', 'SELECT customer, item FROM ordered INTERSECT ALL SELECT customer, item FROM delivered', 'inline'),
    ('owed', 'SELECT customer, item FROM ordered EXCEPT ALL SELECT customer, item FROM delivered', 'inline'),
    ('later', 'SELECT customer, item FROM ordered EXCEPT ALL SELECT customer, item FROM delivered', 'async'),
    ('chain', 'SELECT customer FROM ordered EXCEPT ALL SELECT customer FROM delivered EXCEPT ALL SELECT customer FROM returned', 'inline'),
    ('nested', '(SELECT item FROM ordered EXCEPT ALL SELECT item FROM delivered) INTERSECT ALL (SELECT item FROM returned UNION ALL SELECT item FROM returned WHERE pieces > 1)', 'inline'),
    ('below_except', '(SELECT customer, item FROM ordered INTERSECT ALL SELECT customer, item FROM returned) EXCEPT SELECT customer, item FROM delivered WHERE id > 30', 'inline'),
    ('above_union', 'SELECT item FROM ordered UNION ALL (SELECT item FROM ordered INTERSECT ALL SELECT item FROM returned)', 'inline'),
    ('grouped', 'SELECT customer, count(*) AS n, max(item) AS last, sum(customer) AS total FROM (SELECT customer, item FROM ordered EXCEPT ALL SELECT customer, item FROM delivered) AS o GROUP BY customer', 'inline'),
    ('single', 'SELECT DISTINCT item FROM (SELECT customer, item FROM ordered EXCEPT ALL SELECT customer, item FROM delivered) AS o', 'inline'),
    ('joined', 'SELECT c.name, o.item FROM customers c JOIN (SELECT customer, item FROM ordered EXCEPT ALL SELECT customer, item FROM delivered) AS o ON o.customer = c.id', 'inline'),
    ('outer_joined', 'SELECT c.name, o.item FROM (SELECT customer, item FROM ordered EXCEPT ALL SELECT customer, item FROM delivered) AS o LEFT JOIN customers c ON o.customer = c.id', 'inline'),
    ('optional', 'SELECT c.name, o.item FROM customers c LEFT JOIN (SELECT customer, item FROM ordered EXCEPT ALL SELECT customer, item FROM delivered) AS o ON o.customer = c.id', 'inline'),
    ('present', 'SELECT c.id FROM customers c WHERE c.id IN (SELECT customer FROM ordered EXCEPT ALL SELECT customer FROM delivered) AND NOT EXISTS (SELECT FROM (SELECT customer FROM delivered INTERSECT ALL SELECT customer FROM returned) AS r WHERE r.customer = c.id)', 'inline'),
    ('numbered', 'SELECT o.customer, o.item, row_number() OVER (PARTITION BY o.customer ORDER BY o.item) AS n FROM (SELECT customer, item FROM ordered EXCEPT ALL SELECT customer, item FROM delivered) AS o', 'inline'),
    ('pieces', 'SELECT r.customer, r.item, 12 / r.pieces AS share FROM returned r, generate_series(1, r.pieces)', 'inline'),
    ('piece_counts', 'SELECT r.item, count(*) AS n, avg(r.customer) AS average FROM returned r CROSS JOIN LATERAL generate_series(1, r.pieces) GROUP BY r.item', 'inline'),
    ('piece_counts_later', 'SELECT r.item, count(*) AS n FROM returned r, generate_series(1, r.pieces) GROUP BY r.item', 'async'),
    ('pieces_joined', 'SELECT c.name, r.item FROM returned r JOIN customers c ON c.id = r.customer, generate_series(1, r.pieces) AS a, generate_series(1, c.id - 2) AS b WHERE EXISTS (SELECT FROM ordered o WHERE o.item = r.item)', 'inline'),
    ('read', 'SELECT c.name, p FROM customers c, generate_series(1, c.id) AS p', 'inline'); -- its values are read: slices
SET client_min_messages = error; -- no workers: this test catches up
SELECT count(projections.create(name, query, mode)) AS made FROM asked;
SET client_min_messages = warning;
SELECT name, d.strategy FROM asked JOIN projections.definitions d ON d.projection = 'copies.' || name ORDER BY name COLLATE "C";
SELECT p, e.block, e.kind, e.source, e.strategy, e.reason FROM unnest('{common,grouped,pieces}'::text[]) p, projections.explain(p) e;

CREATE FUNCTION checked() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    each record;
    columns text;
    wrong bigint;
BEGIN
    FOR each IN SELECT * FROM asked LOOP
        IF each.mode = 'async' THEN
            PERFORM projections.catch_up(each.name);
        END IF;
        IF test.check('copies.' || each.name) !~ '^equal, (algebraic|slice)$' THEN
            RETURN NEXT each.name || ': ' || test.check('copies.' || each.name);
        END IF;
        SELECT string_agg(quote_ident(c), ', ') INTO columns
        FROM projections.definitions d, unnest(d.columns) c WHERE d.projection = 'copies.' || each.name;
        EXECUTE format('SELECT count(*) FROM ((SELECT %1$s FROM %2$I EXCEPT ALL (%3$s)) UNION ALL ((%3$s) EXCEPT ALL SELECT %1$s FROM %2$I)) AS d', columns, each.name, each.query) INTO wrong;
        IF wrong > 0 THEN
            RETURN NEXT format('%s: %s rows are not what was asked for', each.name, wrong);
        END IF;
    END LOOP;
END
$$;
SELECT checked();
INSERT INTO ordered SELECT i, i % 7, 'item ' || nullif(i % 4, 0) FROM generate_series(100, 130) i;
SELECT checked();
UPDATE delivered SET customer = customer + 1, item = NULL WHERE id % 3 = 0;
UPDATE returned SET pieces = pieces + 1 WHERE customer % 2 = 0;
UPDATE returned SET pieces = NULL WHERE customer = 3;
SELECT checked();
DELETE FROM ordered WHERE id % 4 = 0;
DELETE FROM customers WHERE id = 3;
SELECT checked();
INSERT INTO ordered VALUES (200, NULL, NULL), (201, NULL, NULL), (202, NULL, 'item 1');
INSERT INTO delivered VALUES (200, NULL, NULL);
INSERT INTO returned VALUES (NULL, NULL, 5), (NULL, NULL, 0), (1, 'item 1', -4);
SELECT checked();

-- In one transaction: of several tables, read in between, with savepoints.
BEGIN;
INSERT INTO delivered SELECT id + 1000, customer, item FROM ordered WHERE id < 30;
SELECT count(*) FROM owed;
UPDATE ordered SET customer = 1 WHERE customer = 2;
SAVEPOINT one;
DELETE FROM returned;
TRUNCATE delivered;
SELECT count(*) FROM common;
ROLLBACK TO one;
UPDATE customers SET id = id + 10 WHERE id < 3;
COMMIT;
SELECT checked();
TRUNCATE returned;
SELECT checked();
INSERT INTO returned SELECT i % 6, 'item ' || i % 3, i % 5 FROM generate_series(1, 40) i;

-- Paused, and what was missed; rebuilt; what is wrong is found and put right.
SELECT projections.pause('owed', 'a test');
DELETE FROM ordered WHERE id % 5 = 1;
SELECT projections.resume('owed');
CALL projections.rebuild('nested');
CALL projections.rebuild('pieces');
SELECT checked();
SET pg_projections.allow_direct_writes = on;
SET session_replication_role = replica;
DELETE FROM owed WHERE ctid = (SELECT min(ctid) FROM owed);
INSERT INTO owed VALUES (77, 'nobody has');
INSERT INTO ordered VALUES (300, 5, 'missed');
RESET session_replication_role;
RESET pg_projections.allow_direct_writes;
SELECT count(*) FROM projections.verify('owed');
SELECT projections.repair('owed') > 0 AS repaired;
SELECT count(*) FROM projections.verify('owed');
SET client_min_messages = error;
DO $$ DECLARE each record; BEGIN FOR each IN SELECT * FROM asked WHERE name <> 'owed' LOOP PERFORM projections.repair(each.name); END LOOP; END $$;
SET client_min_messages = warning;
SELECT checked();

-- What is behind a group: rows that are there at all.
SELECT DISTINCT h.source, h.event ->> 'pieces' AS pieces FROM projections.history('piece_counts', '{"item": "item 1"}') h ORDER BY 2;

-- Equal values that can be told apart: which of them is copied is open, and what is there is one of them.
CREATE TABLE amounts (id int PRIMARY KEY, side int, amount numeric, ratio double precision);
SELECT projections.create('kept', 'SELECT amount, ratio FROM amounts WHERE side = 1 EXCEPT ALL SELECT amount, ratio FROM amounts WHERE side = 2');
INSERT INTO amounts VALUES (1, 1, 1.0, 0), (2, 1, 1.00, '-0'), (3, 1, 1.000, 0), (4, 2, 1, '-0');
SELECT count(*), bool_and(amount = 1 AND ratio = 0) FROM kept;
DELETE FROM amounts WHERE id = 3;
UPDATE amounts SET amount = 1.0000 WHERE id = 1;
SELECT k.amount::text IN (SELECT amount::text FROM amounts) AS one_of_them FROM kept k;
DELETE FROM amounts WHERE id IN (1, 4);
SELECT amount, ratio FROM kept;
SELECT count(*) FROM projections.verify('kept');

-- The numbers decide how often a row is there: beyond what rows were made of, and of no others is anything computed.
CREATE TABLE stock (id int PRIMARY KEY, n bigint);
SELECT projections.create('stocked', 'SELECT count(*) AS pieces, sum(s.id) AS ids, min(10 / s.n) AS least FROM stock s, generate_series(1, s.n)');
INSERT INTO stock VALUES (1, 4000000000), (2, 0), (3, 2);
SELECT * FROM stocked;
UPDATE stock SET n = n - 3999999999 WHERE id = 1;
SELECT * FROM stocked;
SELECT test.check('stocked');

SELECT projections_internal._plan('SELECT id FROM ordered EXCEPT ALL SELECT id FROM customers');
SET client_min_messages = error;
DROP SCHEMA copies CASCADE;
