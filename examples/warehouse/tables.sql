-- What the warehouse writes: stock movements, in a table of its own, and orders, pick tasks and shipments, in the
-- extension's event store. Both are only ever appended to.

CREATE SCHEMA warehouse;
SET search_path = warehouse, public;

CREATE TABLE items (
    item text PRIMARY KEY,
    name text NOT NULL
);

CREATE TABLE movements (
    position      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    type          text NOT NULL CHECK (type IN ('GoodsReceived', 'GoodsMoved', 'GoodsPicked', 'StockAdjusted')),
    item          text NOT NULL,
    lot           text NOT NULL,
    from_location text,
    to_location   text,
    quantity      int NOT NULL CHECK (quantity > 0),
    reason        text,
    reference     text,             -- of a shipment or an order, which its events have as their correlation_id
    at            timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK (from_location IS NOT NULL OR to_location IS NOT NULL)
);
CREATE INDEX ON movements (reference);

SELECT projections.register_source('movements', position_column => 'position', type_column => 'type', time_column => 'at',
                                   correlation_column => 'reference') \g /dev/null

-- A handler's tables are ordinary ones. The CHECK is what refuses to pick what is not there.
CREATE TABLE stock (
    item     text NOT NULL REFERENCES items,
    location text NOT NULL,
    lot      text NOT NULL,
    quantity int NOT NULL CHECK (quantity >= 0),
    PRIMARY KEY (item, location, lot)
);
