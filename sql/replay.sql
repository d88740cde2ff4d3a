-- Replay and reset of each kind: contents follow from the events again.
CREATE SCHEMA replay;
SET search_path = replay;
\set SHOW_CONTEXT never
SET client_min_messages = error;
CREATE TABLE moves (seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, kind text, item text, into_item text, quantity int, at timestamptz DEFAULT clock_timestamp());
SELECT projections.register_source('moves', 'seq', type_column => 'kind', time_column => 'at');
CREATE FUNCTION add(state jsonb, event moves, key text) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF event.quantity < 0 THEN
        RAISE 'negative quantity %', event.quantity;
    END IF;
    RETURN to_jsonb(state::int + CASE WHEN key = event.into_item THEN event.quantity ELSE -event.quantity END);
END $$;
CREATE TABLE counted (item text PRIMARY KEY, moves int);
CREATE TABLE seen (seq bigint REFERENCES moves, item text REFERENCES counted);
CREATE FUNCTION count_move(event moves) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO counted AS c VALUES (event.item, 1) ON CONFLICT (item) DO UPDATE SET moves = c.moves + 1;
    INSERT INTO seen VALUES (event.seq, event.item);
END $$;
CREATE TABLE goods (id int PRIMARY KEY, item text, quantity int);
SELECT projections.create('moved', 'SELECT item, sum(quantity) AS quantity, max(quantity) AS most FROM moves GROUP BY item', mode => 'async');
SELECT projections.create('total', 'SELECT sum(quantity) AS quantity, count(*) AS moves FROM moves', mode => 'async');
SELECT projections.create('above', 'SELECT quantity > 100 AS many, count(*) AS items FROM moved GROUP BY quantity > 100', mode => 'async');
SELECT projections.create('logged', 'SELECT item, sum(quantity) AS quantity FROM goods GROUP BY item', mode => 'async');
SELECT projections.create('now', 'SELECT item, sum(quantity) AS quantity FROM goods GROUP BY item');
-- a move goes to both of its items
SELECT projections.create_reducer('balance', 'moves', 'ARRAY[item, into_item]', 'add(jsonb, moves, text)', initial => '0', options => '{"max_retries": 0}');
SELECT projections.create_reducer('slotted', 'moves', 'item', 'add(jsonb, moves, text)', initial => '0', options => '{"slots": 3, "max_retries": 0, "on_failure": "skip"}');
SELECT projections.create_handler('counting', 'moves', 'count_move(moves)', '{counted, seen}', partition_by => 'item');
SELECT projections.create_state_machine('task', 'moves', 'item', '[{"from": "idle", "event": "start", "to": "busy"}, {"from": "busy", "event": "stop", "to": "idle"}]', options => '{"initial": "idle", "max_retries": 0}');
INSERT INTO moves (kind, item, into_item, quantity)
SELECT CASE WHEN i % 8 < 4 THEN 'start' ELSE 'stop' END, 'item ' || i % 4, 'item ' || (i + 1) % 4, i FROM generate_series(0, 39) AS i;
INSERT INTO goods SELECT i, 'item ' || i % 2, i FROM generate_series(1, 4) AS i;
SELECT projections.catch_up() > 0 AS applied;
CREATE VIEW right_balance AS
SELECT key, sum(q)::text::jsonb AS state FROM (SELECT item AS key, -quantity AS q FROM moves UNION ALL SELECT into_item, quantity FROM moves) AS m GROUP BY key;
SELECT key, state FROM balance EXCEPT SELECT * FROM right_balance;

--
-- what was changed behind our backs comes right again, for the keys of the replayed events only
--
CREATE TABLE before_balance AS TABLE balance;
CREATE TABLE before_task AS TABLE task;
CREATE TABLE before_slotted AS TABLE slotted;
CREATE TABLE before_history AS SELECT key, from_state, event, to_state, position FROM projections.transitions WHERE projection = 'replay.task';
SET pg_projections.allow_direct_writes = on;
UPDATE balance SET state = '0', version = 0;
UPDATE slotted SET state = '0';
DELETE FROM task WHERE key = 'item 1';
UPDATE moved SET quantity = 0, most = 0;
UPDATE total SET quantity = 0;
RESET pg_projections.allow_direct_writes;
SELECT projections.replay('balance', 1, 1) AS two_keys;
SELECT count(*) AS still_wrong FROM (TABLE balance EXCEPT TABLE before_balance) AS d;
SELECT projections.replay('balance', 1, 40) AS all_keys, projections.replay('slotted', 1, 4) AS all_of_them, projections.replay('task', 2, 2) AS one;
SELECT projections.replay('moved', 1, 1) AS one, projections.replay('total', 40, 40) AS one;
SELECT item, quantity > 0 AS recomputed FROM moved ORDER BY item;
SELECT projections.replay('moved', 1, 1000) AS the_rest;
TABLE balance EXCEPT TABLE before_balance;
TABLE slotted EXCEPT TABLE before_slotted;
TABLE task EXCEPT TABLE before_task;
SELECT count(*) FROM task;
SELECT key, from_state, event, to_state, position FROM projections.transitions WHERE projection = 'replay.task' EXCEPT ALL TABLE before_history;
SELECT test.check('moved'), test.check('total'), test.check('above');
SELECT DISTINCT projection, before = position AS stays, reason FROM projections.checkpoint_history ORDER BY 1, 3;

--
-- failed, parked and skipped events are left out; states set by hand stay
--
INSERT INTO moves (kind, item, into_item, quantity) VALUES ('start', 'item 0', 'item 1', -1), ('stop', 'item 0', 'item 2', 5), ('stop', 'item 3', 'item 2', 1), ('start', 'item 3', 'item 3', 2);
SELECT projections.catch_up() > 0 AS applied;
SELECT projection, position, key, error FROM projections.failures ORDER BY 1, 2;
SELECT projection, position, key FROM projections.parked ORDER BY 1, 2;
SELECT projections.set_state('task', 'item 3', 'busy', 'seen at work');
SELECT projections.set_state('task', 'item 9', 'busy', 'new here');
INSERT INTO moves (kind, item, into_item, quantity) VALUES ('stop', 'item 3', 'item 3', 3);
SELECT projections.catch_up() > 0 AS applied;
DROP TABLE before_balance, before_task, before_slotted, before_history;
CREATE TABLE before_balance AS TABLE balance;
CREATE TABLE before_slotted AS TABLE slotted;
CREATE TABLE before_task AS TABLE task;
CREATE TABLE before_history AS SELECT key, from_state, event, to_state, position, reason FROM projections.transitions WHERE projection = 'replay.task';
SELECT projections.replay('balance', 0, 1000), projections.replay('slotted', 0, 1000), projections.replay('task', 0, 1000);
TABLE balance EXCEPT TABLE before_balance;
TABLE slotted EXCEPT TABLE before_slotted;
TABLE task EXCEPT TABLE before_task;
SELECT count(*) FROM task;
SELECT key, from_state, event, to_state, position, reason FROM projections.transitions WHERE projection = 'replay.task' EXCEPT ALL TABLE before_history;
SELECT projection, position, resolved_at IS NULL AS open FROM projections.failures ORDER BY 1, 2;
-- a reducer that raises undoes the replay
CREATE OR REPLACE FUNCTION add(state jsonb, event moves, key text) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RAISE 'broken'; END $$;
SELECT projections.replay('balance', 1, 1);
TABLE balance EXCEPT TABLE before_balance;
CREATE OR REPLACE FUNCTION add(state jsonb, event moves, key text) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF event.quantity < 0 THEN
        RAISE 'negative quantity %', event.quantity;
    END IF;
    RETURN to_jsonb(state::int + CASE WHEN key = event.into_item THEN event.quantity ELSE -event.quantity END);
END $$;

--
-- handlers: only with force
--
SELECT projections.replay('counting', 1, 1);
SELECT moves FROM counted WHERE item = 'item 1';
SELECT projections.replay('counting', 2, 2, force => true);
SELECT moves FROM counted WHERE item = 'item 1';
-- not what the projection has not come to yet
INSERT INTO moves (kind, item, into_item, quantity) VALUES ('x', 'item 1', 'item 1', 1);
SELECT projections.replay('counting', 46, 1000, force => true);

--
-- no range, nothing to replay
--
SELECT projections.replay('moved', 2, 1);
SELECT projections.replay('moved', NULL, 1);
SELECT projections.replay('logged', 1, 1);
SELECT projections.replay('now', 1, 1);
SELECT projections.replay('moved', 1000, 2000);

--
-- reset: from the first event, skips and states set by hand included
--
SELECT projections.skip(id, 'a slip') FROM projections.failures WHERE resolved_at IS NULL AND projection = 'replay.balance';
SELECT projections.catch_up() > 0 AS applied;
-- what waited behind the state set by hand follows from it now, as it will after the reset
SELECT projections.retry_all('task');
DROP TABLE before_balance, before_task, before_slotted, before_history;
CREATE TABLE before_balance AS TABLE balance;
CREATE TABLE before_task AS TABLE task;
CREATE TABLE before_slotted AS TABLE slotted;
SELECT projections.reset(relation::text) FROM projections_internal.projection WHERE mode = 'async' ORDER BY relation;
SELECT count(*), (SELECT count(*) FROM counted) + (SELECT count(*) FROM seen) + (SELECT count(*) FROM task) AS others FROM balance;
SELECT * FROM moved;
SELECT quantity, moves FROM total;
SELECT test.check('logged');
SELECT count(*), max(position) AS position FROM projections.checkpoints WHERE projection NOT IN ('replay.logged', 'replay.above');
SELECT projection, position, resolution FROM projections.failures ORDER BY 1, 2;
SELECT count(*) FROM projections.parked;
SELECT projections.catch_up() > 0 AS applied;
TABLE balance EXCEPT TABLE before_balance;
TABLE before_balance EXCEPT TABLE balance;
TABLE slotted EXCEPT TABLE before_slotted;
TABLE task EXCEPT TABLE before_task;
TABLE before_task EXCEPT TABLE task;
SELECT test.check('moved'), test.check('total'), test.check('above'), test.check('logged');
SELECT c.item, c.moves = count(*) AS each_once FROM counted c JOIN moves USING (item) GROUP BY c.item, c.moves ORDER BY 1;
SELECT projections.reset('now');
-- what a reset is to put right, direct writes among it
SET pg_projections.allow_direct_writes = on;
UPDATE moved SET quantity = 0;
RESET pg_projections.allow_direct_writes;
SELECT status, hint FROM projections.health('moved');
SELECT projections.reset('moved'), projections.catch_up('moved') > 0 AS applied;
SELECT status FROM projections.health('moved');
SELECT test.check('moved'), test.check('above');

--
-- history that is gone is not made up
--
UPDATE projections_internal.source SET archived_to = 10 WHERE relation = 'moves'::regclass;
\set VERBOSITY sqlstate
SELECT projections.reset('moved');
\set VERBOSITY default
SELECT projections.reset('balance');
SELECT projections.replay('moved', 20, 20);
SELECT projections.replay('balance', 20, 20);
SELECT projections.replay('counting', 10, 20, force => true);
SELECT projections.replay('counting', 11, 12, force => true);
SELECT projections.set_checkpoint('counting', 9, true);

-- Internal functions, which only superusers may call, of what reads no events or has no such slot: they crashed.
SELECT projections_internal._advance_to('now'::regclass, 0, 10, 1);
SELECT projections_internal._advance_to('moved'::regclass, 7, 10, 1);
SELECT projections_internal._advance_to('logged'::regclass, 0, 10, 1);
SELECT projections_internal._retry_query('now'::regclass, 0);
SELECT projections_internal._retry_query('logged'::regclass, 0);

DROP SCHEMA replay CASCADE;
SELECT count(*) FROM projections_internal.projection;
