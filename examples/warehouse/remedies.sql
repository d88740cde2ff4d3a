-- What an operator does about it.

\set ON_ERROR_STOP on
\pset footer off
SET search_path = warehouse, public;

\echo '-- 5000 saws were a slip: leave the event out, in each projection that it failed in. What was parked behind it is applied.'
SELECT f.projection, position, projections.skip(f.id, 'slip of the keyboard, see the next event')
FROM projections.dead_letters AS f JOIN movements AS m USING (position)
WHERE f.projection IN ('warehouse.stock', 'warehouse.location_balance') AND m.quantity = 5000;

\echo '-- The master data of the trowel has come: try its events again.'
INSERT INTO items VALUES ('trowel', 'Trowel');
SELECT projections.retry_all('stock') AS succeeded;

\echo '-- Task 13 was done, the scanner had no network: set its state, and say so.'
SELECT projections.set_state('pick_tasks', 'pick-13', 'done', 'scanner without network, asked the picker') \g /dev/null
SELECT projection, position, projections.resolve(id, 'resolved', 'state set by hand') AS resolved
FROM projections.dead_letters WHERE projection = 'warehouse.pick_tasks';
SELECT from_state, event, to_state, reason FROM projections.transitions WHERE projection = 'warehouse.pick_tasks' AND key = 'pick-13';

\echo '-- Which events made this row?'
SELECT position, type, event -> 'item' AS item, event -> 'quantity' AS quantity
FROM projections.history('location_balance', '{"key": "A-3"}') ORDER BY position DESC LIMIT 5;

\echo '-- To be sure, work the keys that one event touches out from all their events again.'
SELECT position AS move FROM movements WHERE item = 'trowel' AND type = 'GoodsMoved' \gset
SELECT projections.replay('location_balance', :move, :move) AS keys;

\echo '-- All failures of the day, and what became of them:'
SELECT projection, position, sqlstate, resolution, resolved_by FROM projections.failures ORDER BY projection, position;
