-- What goes wrong: a slip of the keyboard, and its correction after it; goods that come before their master data; and a
-- scanner without network, which lost one step of a pick task.

SET search_path = warehouse, public;

INSERT INTO movements (type, item, lot, from_location, quantity, reference) VALUES ('GoodsPicked', 'saw', 'L2', 'A-3', 5000, 'order-61');
INSERT INTO movements (type, item, lot, from_location, quantity, reference) VALUES ('GoodsPicked', 'saw', 'L2', 'A-3', 5, 'order-61');

INSERT INTO movements (type, item, lot, to_location, quantity, reference) VALUES ('GoodsReceived', 'trowel', 'L6', 'DOCK', 40, 'shipment-26');
INSERT INTO movements (type, item, lot, from_location, to_location, quantity) VALUES ('GoodsMoved', 'trowel', 'L6', 'DOCK', 'A-1', 30);

SELECT FROM projections.append('pick-13', 'PickCompleted', '{"by": "picker 2"}', expected_version => 2, correlation_id => 'order-13') \g /dev/null
INSERT INTO movements (type, item, lot, from_location, quantity, reference) VALUES ('GoodsPicked', 'nut', 'L1', 'A-7', 2, 'order-13');
