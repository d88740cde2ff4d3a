-- A day's work: 28 shipments announced and 25 received, put away, partly moved to the upper shelves, some pieces found
-- broken, and 60 orders, of which 53 are picked. The same every time.

SET search_path = warehouse, public;

CREATE TEMP TABLE goods AS
SELECT n, item, format('A-%s', 1 + n % 8) AS shelf, format('B-%s', 1 + n % 4) AS upper_shelf
FROM unnest('{anvil,bolt,bucket,chisel,clamp,drill,file,hammer,hinge,ladder,level,mallet,nail,nut,pliers,rasp,ruler,saw,screw,washer}'::text[])
     WITH ORDINALITY AS known (item, n);
INSERT INTO items SELECT item, initcap(item) FROM goods;

-- Several events of one stream in one call; each call is atomic, and returns the stream's version and the positions.
SELECT count(*) FROM generate_series(1, 28) AS n,
    projections.append_many(format('shipment-%s', n), jsonb_build_array(jsonb_build_object('type', 'ShipmentAnnounced', 'data', '{"units": 240}'::jsonb)),
                            expected_version => 0, correlation_id => format('shipment-%s', n)) \g /dev/null

INSERT INTO movements (type, item, lot, from_location, to_location, quantity, reason, reference)
SELECT step.type, item, format('L%s', (shipment + 4) / 5), step.from_location, step.to_location, step.quantity, step.reason,
       CASE step.type WHEN 'GoodsReceived' THEN format('shipment-%s', shipment) END
FROM generate_series(1, 25) AS shipment, goods,
     LATERAL (VALUES (1, 'GoodsReceived', NULL, 'DOCK', 12, NULL),
                     (2, 'GoodsMoved', 'DOCK', shelf, 10, NULL),
                     (3, 'GoodsMoved', shelf, upper_shelf, 3, NULL),
                     (4, 'StockAdjusted', upper_shelf, NULL, 1, 'broken'))
         AS step (place, type, from_location, to_location, quantity, reason)
WHERE step.place < 4 OR (shipment + n) % 7 = 0
ORDER BY shipment, step.place, n;

SELECT count(*) FROM generate_series(1, 25) AS n,
    projections.append(format('shipment-%s', n), 'ShipmentReceived', '{"units": 240}', expected_version => 1,
                       correlation_id => format('shipment-%s', n)) \g /dev/null

-- An order reserves stock and is picked in steps, each by another transaction in real life.
SELECT count(*) FROM generate_series(1, 60) AS o JOIN goods ON n = 1 + o % 20,
    projections.append(format('order-%s', o), 'StockReserved', jsonb_build_object('item', item, 'quantity', 2),
                       correlation_id => format('order-%s', o)) \g /dev/null
SELECT count(*) FROM generate_series(1, 60) AS o,
    projections.append_many(format('pick-%s', o), (
        SELECT jsonb_agg(jsonb_build_object('type', type, 'data', jsonb_build_object('by', format('picker %s', 1 + o % 3))) ORDER BY place)
        FROM unnest(CASE WHEN o > 58 THEN '{PickCreated}' WHEN o > 54 THEN '{PickCreated,PickAssigned,PickCancelled}'
                         WHEN o = 13 THEN '{PickCreated,PickAssigned}'
                         ELSE '{PickCreated,PickAssigned,PickStarted,PickCompleted}' END::text[]) WITH ORDINALITY AS step (type, place)),
        correlation_id => format('order-%s', o)) \g /dev/null
INSERT INTO movements (type, item, lot, from_location, quantity, reference)
SELECT 'GoodsPicked', item, 'L1', shelf, 2, format('order-%s', o)
FROM generate_series(1, 54) AS o JOIN goods ON n = 1 + o % 20
WHERE o <> 13
ORDER BY o;
