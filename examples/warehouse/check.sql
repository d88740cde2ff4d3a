-- Compares every projection with what it stands for, computed anew from all the events: rows that are missing, rows too
-- many. Fails on any difference, and unless all six were compared. What an operator had a projection skip is left out.

\set ON_ERROR_STOP on

BEGIN ISOLATION LEVEL REPEATABLE READ;
SET LOCAL search_path = warehouse, public;
CREATE TEMP TABLE verdicts (projection text, rows bigint, missing bigint, extra bigint) ON COMMIT DROP;

CREATE FUNCTION pg_temp.applied(name text) RETURNS SETOF movements LANGUAGE sql AS $$
    SELECT * FROM movements AS m
    WHERE NOT EXISTS (SELECT FROM projections.failures AS f
                      WHERE f.projection = name AND f.position = m.position AND f.resolution = 'skipped')
$$;

CREATE FUNCTION pg_temp.compare(name text, actual text, wanted text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('WITH found AS MATERIALIZED (%s), expected AS MATERIALIZED (%s)
                    INSERT INTO verdicts
                    SELECT %L, (SELECT count(*) FROM found),
                           (SELECT count(*) FROM (TABLE expected EXCEPT ALL TABLE found) AS missing),
                           (SELECT count(*) FROM (TABLE found EXCEPT ALL TABLE expected) AS extra)', actual, wanted, name);
END
$$;

SELECT pg_temp.compare('stock', 'SELECT item, location, lot, quantity FROM stock', $$
    SELECT item, location, lot, sum(quantity)
    FROM (SELECT item, to_location, lot, quantity FROM pg_temp.applied('warehouse.stock') UNION ALL
          SELECT item, from_location, lot, -quantity FROM pg_temp.applied('warehouse.stock')) AS sides (item, location, lot, quantity)
    WHERE location IS NOT NULL GROUP BY item, location, lot $$),
pg_temp.compare('location_balance', 'SELECT key, state FROM location_balance', $$
    SELECT location, jsonb_build_object('movements', count(*), 'units', sum(quantity))
    FROM (SELECT to_location, quantity FROM pg_temp.applied('warehouse.location_balance') UNION ALL
          SELECT from_location, -quantity FROM pg_temp.applied('warehouse.location_balance')) AS sides (location, quantity)
    WHERE location IS NOT NULL GROUP BY location $$),
pg_temp.compare('active_reservations', 'SELECT key, state FROM active_reservations', $$
    SELECT correlation_id, data
    FROM (SELECT DISTINCT ON (correlation_id) correlation_id, type, data FROM projections.events
          WHERE type IN ('StockReserved', 'PickCompleted', 'PickCancelled') ORDER BY correlation_id, position DESC) AS last
    WHERE type = 'StockReserved' $$),
pg_temp.compare('pick_tasks', $$ SELECT key, state #>> '{}' FROM pick_tasks $$, $$
    SELECT DISTINCT ON (stream) stream, CASE type WHEN 'PickCreated' THEN 'open' WHEN 'PickAssigned' THEN 'assigned' WHEN 'PickStarted' THEN 'picking'
                                                  WHEN 'PickCompleted' THEN 'done' WHEN 'PickCancelled' THEN 'cancelled' END
    FROM projections.events WHERE type LIKE 'Pick%' ORDER BY stream, position DESC $$) \g /dev/null

-- Of the queries the definition says it.
SELECT pg_temp.compare(d.relation::text, format('SELECT %s FROM %s', array_to_string(d.columns, ', '), d.relation), rtrim(d.query, E'; \n'))
FROM projections.definitions AS d JOIN pg_class AS c ON c.oid = d.relation
WHERE c.relnamespace = 'warehouse'::regnamespace AND d.query IS NOT NULL \g /dev/null

SELECT projection, rows, missing, extra, CASE WHEN missing + extra = 0 THEN 'equal' ELSE 'DIFFERENT' END AS verdict
FROM verdicts ORDER BY projection;

SELECT count(*) = 6 AND sum(missing + extra) = 0 AND min(rows) > 0 AS good FROM verdicts \gset
ROLLBACK;
\if :good
\else
    DO $$ BEGIN RAISE EXCEPTION 'the projections are not all equal to what they stand for'; END $$;
\endif
