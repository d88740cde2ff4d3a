-- An operator's questions, while things are wrong.

\set ON_ERROR_STOP on
\pset footer off
SET search_path = warehouse, public;

\echo
\echo '-- Is it healthy? The page to read first, worst first.'
SELECT projections.healthy();
SELECT projection, status, lag, failures, message FROM projections.status WHERE projection LIKE 'warehouse.%';

\echo '-- What is the matter, and what can I do? The hint is SQL to paste.'
\x on
SELECT projection, lag_events AS lag, failures, parked_events AS parked, dead_letters AS dead, message,
       replace(hint, '; ', E';\n') AS hint
FROM projections.health('stock');
\x off

\echo '-- Which events failed, and why?'
SELECT id, projection, position, key, sqlstate, left(error, 45) AS error FROM projections.dead_letters ORDER BY projection, position;

\echo '-- What waits behind them?'
SELECT projection, position, event_type, key FROM projections.parked ORDER BY projection, position;

\echo '-- Did this event reach that projection? Of the pick of 5000 saws:'
SELECT position AS slip FROM movements WHERE quantity = 5000 \gset
SELECT * FROM projections.event_status('movements', :slip);

\echo '-- What happened to order 13, over both sources?'
SELECT source, position, type, projection, status FROM projections.trace('order-13') WHERE status <> 'filtered';

\echo '-- Which picked orders miss a step, or took the steps out of order?'
SELECT correlation_id, problem, missing
FROM projections.find_incomplete('projections.events', ARRAY['StockReserved', 'PickCreated', 'PickAssigned', 'PickStarted', 'PickCompleted'])
WHERE 'PickCompleted' = ANY (found);
