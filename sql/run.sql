-- Running async projections: pause, wait, read, checkpoints, options; and who may.
CREATE SCHEMA run;
SET search_path = run;
\set SHOW_CONTEXT never
SET client_min_messages = error;
CREATE ROLE regress_run_owner;
CREATE ROLE regress_run_other;
GRANT ALL ON SCHEMA run TO regress_run_owner;
GRANT USAGE ON SCHEMA run TO regress_run_other;
GRANT USAGE ON SCHEMA test TO regress_run_owner;
SET ROLE regress_run_owner;
CREATE TABLE moves (seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, kind text, item text, quantity int, at timestamptz DEFAULT clock_timestamp());
CREATE TABLE goods (id int PRIMARY KEY, item text, quantity int);
SELECT projections.register_source('moves', 'seq', type_column => 'kind', time_column => 'at');
CREATE FUNCTION add(state jsonb, event moves, key text) RETURNS jsonb LANGUAGE sql IMMUTABLE AS 'SELECT to_jsonb(state::int + event.quantity)';
CREATE TABLE counted (item text PRIMARY KEY, moves int);
CREATE FUNCTION count_move(event moves) RETURNS void LANGUAGE sql AS
'INSERT INTO counted AS c VALUES (event.item, 1) ON CONFLICT (item) DO UPDATE SET moves = c.moves + 1';
SELECT projections.create('stock', 'SELECT item, sum(quantity) AS quantity FROM moves GROUP BY item', mode => 'async');
SELECT projections.create('total', 'SELECT sum(quantity) AS quantity FROM moves', mode => 'async');
SELECT projections.create('logged', 'SELECT item, sum(quantity) AS quantity FROM goods GROUP BY item', mode => 'async');
SELECT projections.create('now', 'SELECT item, sum(quantity) AS quantity FROM goods GROUP BY item');
SELECT projections.create_reducer('balance', 'moves', 'item', 'add(jsonb, moves, text)', initial => '0');
SELECT projections.create_handler('counting', 'moves', 'count_move(moves)', '{counted}', partition_by => 'item');
INSERT INTO moves (kind, item, quantity) SELECT 'in', 'item ' || i % 3, i FROM generate_series(1, 9) AS i;
INSERT INTO goods SELECT i, 'item ' || i % 2, i FROM generate_series(1, 4) AS i;

--
-- wait_for: false while it is behind, true when it is there; an inline one is there at once
--
SELECT projections.wait_for('stock', timeout => '1 ms') AS stock, projections.wait_for('logged', timeout => '1 ms') AS logged, projections.wait_for('now', timeout => '1 ms') AS now;
SELECT projections.wait_for('stock', 0, '1 ms') AS nothing;
-- read() does not depend on it
SELECT projections.read('stock', '{"item": "item 1"}', '1 ms'), projections.read('total', '{}', '1 ms');
SELECT projections.read('logged', '{"item": "item 1"}', '1 ms'), projections.read('now', '{"item": "item 1"}', '1 ms');
SELECT projections.read('balance', '{"key": "item 1"}', '1 ms') - 'updated_at' AS read, projections.read('balance', '{"key": "none"}', '1 ms');
SELECT projections.read('stock', '{"item": null}', '1 ms');
SELECT count(*) FROM stock;
SELECT projections.catch_up() > 0 AS applied;
SELECT projections.wait_for('stock', timeout => '0') AS stock, projections.wait_for('stock', 9, '0') AS nine, projections.wait_for('stock', 10, '0') AS ten,
       projections.wait_for('logged', timeout => '0') AS logged, projections.wait_for('balance', timeout => '0') AS balance, projections.wait_for('counting', timeout => '0') AS counting;
SELECT projections.read('stock', '{"item": "item 1"}', '0'), projections.read('balance', '{"key": "item 1"}', '0') - 'updated_at' AS balance;
-- keys that are none
SELECT projections.read('stock', '{"thing": 1}', '0');
SELECT projections.read('stock', '[]', '0');
SELECT projections.read('stock', NULL, '0');
SELECT projections.read('counting', '{"item": "item 1"}', '0');
-- what is not committed cannot be waited for
BEGIN;
INSERT INTO moves (kind, item, quantity) VALUES ('in', 'item 1', 1);
SELECT projections.wait_for('stock', timeout => '1 min');
ROLLBACK;
BEGIN;
INSERT INTO goods VALUES (5, 'item 1', 1);
SELECT projections.catch_up('now');
ROLLBACK;
-- what a REPEATABLE READ transaction does not see counts all the same
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM stock;
SELECT projections.wait_for('stock', timeout => '0');
COMMIT;
-- a gap of positions is no reason to wait
BEGIN;
INSERT INTO moves (kind, item, quantity) VALUES ('in', 'item 1', 1);
ROLLBACK;
SELECT projections.wait_for('stock', timeout => '0');

--
-- pause and resume
--
SELECT projections.pause('stock', 'stock take'), projections.pause('now', 'stock take'), projections.pause('balance', 'stock take');
SELECT projections.pause('stock', '  ');
SELECT projections.pause('stock', NULL);
INSERT INTO moves (kind, item, quantity) VALUES ('in', 'item 1', 1000);
INSERT INTO goods VALUES (6, 'item 1', 1000);
SELECT projections.catch_up('stock');
SELECT projections.catch_up() > 0 AS others_go_on;
SELECT quantity FROM stock WHERE item = 'item 1' UNION ALL SELECT quantity FROM now WHERE item = 'item 1' UNION ALL SELECT state::int FROM balance WHERE key = 'item 1';
SELECT projections.read('now', '{"item": "item 1"}', '1 ms'), projections.read('balance', '{"key": "item 1"}', '1 ms') - 'updated_at' AS balance;
SELECT projection, status, lag_events, message ~ '^paused by regress_run_owner at .*: stock take$' AS told, hint FROM projections.health() WHERE status = 'paused' ORDER BY 1;
SELECT projections.pause_all('storm');
SELECT count(*), bool_and(status = 'paused') AS paused FROM projections.health();
SELECT message ~ 'stock take' AS first_reason FROM projections.health('stock');
SELECT projections.resume('now');
SELECT quantity FROM now WHERE item = 'item 1';
SELECT projections.resume('now');
SELECT projections.resume_all();
SELECT projections.resume_all();
SELECT projections.catch_up() > 0 AS applied;
SELECT test.check('stock'), test.check('now'), test.check('total'), test.check('logged');
SELECT item, sum(quantity), (SELECT state::int FROM balance WHERE key = item) AS balance, (SELECT moves FROM counted c WHERE c.item = m.item) AS counted, count(*) FROM moves m GROUP BY item ORDER BY item;
-- inline handlers and reducers keep no events for later
SELECT projections.create_reducer('at_once', 'moves', 'item', 'add(jsonb, moves, text)', initial => '0', mode => 'inline');
SELECT projections.pause('at_once', 'why not');
SELECT projections.pause_all('storm'), projections.resume_all();
SELECT projections.drop('at_once');

--
-- checkpoints
--
SELECT projection, slot, position, events_processed, event_time IS NOT NULL AS timed FROM projections.checkpoints ORDER BY 1, 2;
SELECT projections.set_checkpoint('stock', 3);
SELECT projections.set_checkpoint('stock', 1000);
SELECT projections.set_checkpoint('stock', -1, true);
SELECT projections.set_checkpoint('stock', NULL, true);
SELECT projections.set_checkpoint('now', 3);
SELECT projections.set_checkpoint('logged', 3);
-- events are applied again
SELECT projections.set_checkpoint('counting', 0, true);
SELECT projections.catch_up('counting');
SELECT sum(moves) FROM counted;
SELECT projection, slot, before, position, changed_by, reason FROM projections.checkpoint_history;
-- a checkpoint goes back only so
RESET ROLE;
UPDATE projections_internal.slot SET position = 0 WHERE projection = 'run.stock'::regclass;
SHOW pg_projections._allow_regression;
SET ROLE regress_run_owner;
SET pg_projections._allow_regression = on;

--
-- options
--
CALL projections.alter('balance', options => '{"slots": 3}');
INSERT INTO moves (kind, item, quantity) SELECT 'in', 'item ' || i % 10, i FROM generate_series(1, 20) AS i;
SELECT projections.catch_up() > 0 AS applied;
SELECT slot, position = (SELECT max(seq) FROM moves) AS at_head FROM projections.checkpoints WHERE projection = 'run.balance' ORDER BY slot;
CALL projections.alter('balance', options => '{"slots": 2, "max_retries": 1}');
CALL projections.alter('stock', options => '{"slots": 2}');
INSERT INTO moves (kind, item, quantity) SELECT 'in', 'item ' || i % 10, i FROM generate_series(1, 20) AS i;
SELECT projections.catch_up('balance') > 0 AS applied, projections.catch_up('stock') > 0 AS too;
SELECT slot, position = (SELECT max(seq) FROM moves) AS at_head FROM projections.checkpoints WHERE projection = 'run.balance' ORDER BY slot;
SELECT test.check('stock');
SELECT count(*) AS wrong FROM (SELECT item, sum(quantity) FROM moves GROUP BY item EXCEPT SELECT key, state::int FROM balance) AS d;
-- slots at different positions are brought to one
INSERT INTO moves (kind, item, quantity) SELECT 'in', 'item ' || i % 10, i FROM generate_series(1, 20000) AS i;
SELECT projections.catch_up('stock', 1) AS first_slot_only;
SELECT count(DISTINCT position) AS positions FROM projections.checkpoints WHERE projection = 'run.stock';
CALL projections.alter('stock', options => '{"slots": 3}');
SELECT slot, position > 0 AS moved, count(*) OVER (PARTITION BY position) AS together FROM projections.checkpoints WHERE projection = 'run.stock' ORDER BY slot;
SELECT projections.catch_up('stock') > 0 AS applied;
SELECT test.check('stock');
CALL projections.alter('balance', options => '{"max_retries": null}');
SELECT create_sql FROM projections.definitions WHERE projection IN ('run.balance', 'run.counting') ORDER BY 1;
CALL projections.alter('balance', options => '{"slots": 0}');
CALL projections.alter('balance', options => '{"colour": "red"}');
CALL projections.alter('logged', options => '{"slots": 2}');
CALL projections.alter('balance');
CALL projections.alter('balance', query => 'SELECT 1');
CALL projections.alter('balance', mode => 'inline');
BEGIN;
CALL projections.alter('balance', options => '{"slots": 4}');
ROLLBACK;

--
-- who may
--
RESET ROLE;
SET ROLE regress_run_other;
SELECT projections.pause('stock', 'mine');
SELECT projections.resume('stock');
SELECT projections.reset('stock');
SELECT projections.set_checkpoint('stock', 0, true);
SELECT projections.replay('stock', 1, 1);
CALL projections.alter('stock', options => '{"slots": 1}');
SELECT projections.pause_all('mine'), projections.resume_all();
SELECT projections_internal._reset('run.stock'::regclass, 'me');
SELECT projections_internal._empty('run.stock'::regclass);
SELECT * FROM projections_internal._rows_as_owner('run.moves'::regclass, 'SELECT 1') AS r(one int);
SELECT projections_internal._expire_history();
-- waiting tells nothing; a row takes SELECT
SELECT projections.wait_for('stock', timeout => '0');
SELECT projections.read('stock', '{"item": "item 1"}', '0');
RESET ROLE;
GRANT SELECT ON stock TO regress_run_other;
ALTER TABLE stock ENABLE ROW LEVEL SECURITY;
CREATE POLICY visible ON stock USING (item = 'item 1');
INSERT INTO moves (kind, item, quantity) VALUES ('in', 'item 1', 1);
SET ROLE regress_run_other;
-- the definition would show what the policy hides
SELECT projections.read('stock', '{"item": "item 2"}', '1 ms');
RESET ROLE;
SELECT projections.catch_up('stock') > 0 AS applied;
SET ROLE regress_run_other;
SELECT projections.read('stock', '{"item": "item 1"}', '1 ms') IS NOT NULL AS seen, projections.read('stock', '{"item": "item 2"}', '1 ms') IS NOT NULL AS hidden;
RESET ROLE;
-- a function of somebody else's does not lend its caller's rights
GRANT CREATE ON SCHEMA run TO regress_run_other;
SET ROLE regress_run_other;
CREATE FUNCTION trap() RETURNS void LANGUAGE sql SECURITY DEFINER AS $$ SELECT projections.pause('run.stock', 'trapped') $$;
RESET ROLE;
SELECT trap();

--
-- names
--
SELECT projections.pause('goods', 'no projection');
SELECT projections.pause('none', 'no table');
SELECT projections.wait_for(NULL);

DROP OWNED BY regress_run_other;
DROP SCHEMA run CASCADE;
REVOKE USAGE ON SCHEMA test FROM regress_run_owner;
DROP OWNED BY regress_run_owner;
DROP ROLE regress_run_owner, regress_run_other;
SELECT count(*) FROM projections_internal.projection;
