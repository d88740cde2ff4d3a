-- A log whose projection reads the source is consumed as a whole, however small a batch is to be: the source is read as it is after all of it.
\set VERBOSITY terse
SET client_min_messages = error;
CREATE SCHEMA log_parts;
SET search_path = log_parts, public;
CREATE TABLE bids (id int PRIMARY KEY, item text, price int);
INSERT INTO bids SELECT n, 'i' || n % 2, n FROM generate_series(1, 20) AS n;
SELECT projections.create('best', 'SELECT item, max(price) AS price, count(*) AS n FROM bids GROUP BY item', 'async', options => '{"batch_size": 1}');
DELETE FROM bids WHERE id IN (19, 20);
INSERT INTO bids VALUES (21, 'i0', 5), (22, 'i1', 40);
SELECT projections.catch_up('best', 1) > 0 AS applied;
SELECT test.check('best');
DELETE FROM bids WHERE price >= 17;
UPDATE bids SET item = 'i0' WHERE id = 1;
SELECT projections.catch_up('best') >= 0 AS applied;
SELECT test.check('best');
-- Sums can be brought up to date in parts: the oldest changes first, and nothing else leaves the log.
SELECT projections.create('sums', 'SELECT item, sum(price) AS price, count(*) AS n FROM bids GROUP BY item', 'async', options => '{"batch_size": 2}');
INSERT INTO bids VALUES (30, 'i0', 1), (31, 'i1', 2), (32, 'i0', 4), (33, 'i2', 8), (34, 'i1', 16);
UPDATE bids SET price = price + 1 WHERE id = 30;
SELECT projections.catch_up('sums', 2) AS applied;
SELECT count(*) AS wrong FROM projections.verify('sums');
SELECT item, n FROM sums WHERE item = 'i2';
SELECT projections.catch_up('sums') > 0 AS applied;
SELECT test.check('sums');
DROP SCHEMA log_parts CASCADE;
