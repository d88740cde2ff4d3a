-- The projections, before any event. All are asynchronous: who appends an event waits for none of them.

SET search_path = warehouse, public;
-- Whether workers run depends on the server; ./run does their work where there are none.
SET client_min_messages = error;

-- Available stock: a handler, called once per movement, in order per item; two slots share the items. A movement that
-- cannot be applied holds back the later ones of its item only. (No retries, or this example would wait for them.)
CREATE FUNCTION apply_movement(event movements) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF event.to_location IS NOT NULL THEN
        INSERT INTO stock AS s (item, location, lot, quantity)
        VALUES (event.item, event.to_location, event.lot, event.quantity)
        ON CONFLICT (item, location, lot) DO UPDATE SET quantity = s.quantity + excluded.quantity;
    END IF;
    IF event.from_location IS NOT NULL THEN
        UPDATE stock SET quantity = quantity - event.quantity
        WHERE item = event.item AND location = event.from_location AND lot = event.lot;
        IF NOT FOUND THEN
            RAISE check_violation USING MESSAGE = format('there is no %s of lot %s at %s', event.item, event.lot, event.from_location);
        END IF;
    END IF;
END
$$;
SELECT projections.create_handler('stock', 'movements', 'apply_movement(movements)', ARRAY['stock'], partition_by => 'item',
                                  options => '{"slots": 2, "max_retries": 0}') \g /dev/null

-- Units at each location: a reducer whose key is an array, because a move touches two locations. Either both get the
-- event or neither. The CHECK is added like one on any table.
CREATE FUNCTION balance(state jsonb, event movements, key text) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT jsonb_build_object('movements', (state -> 'movements')::int + 1,
                              'units', (state -> 'units')::int + CASE WHEN key = event.to_location THEN event.quantity ELSE 0 END
                                                               - CASE WHEN key = event.from_location THEN event.quantity ELSE 0 END)
$$;
SELECT projections.create_reducer('location_balance', 'movements', 'ARRAY[from_location, to_location]', 'balance(jsonb, movements, text)',
                                  initial => '{"movements": 0, "units": 0}', options => '{"max_retries": 0}') \g /dev/null
ALTER TABLE location_balance ADD CHECK ((state -> 'units')::int >= 0);

-- What is reserved for orders that are not picked yet: NULL ends a row.
CREATE FUNCTION reservation(state jsonb, event projections.events, key text) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE event.type WHEN 'StockReserved' THEN event.data END
$$;
SELECT projections.create_reducer('active_reservations', 'projections.events', 'correlation_id', 'reservation(jsonb, projections.events, text)',
                                  event_types => ARRAY['StockReserved', 'PickCompleted', 'PickCancelled']) \g /dev/null

-- Where each pick task is, and which steps are allowed.
SELECT projections.create_state_machine('pick_tasks', 'projections.events', 'stream', $$[
    {"from": "new",      "event": "PickCreated",   "to": "open"},
    {"from": "open",     "event": "PickAssigned",  "to": "assigned"},
    {"from": "assigned", "event": "PickStarted",   "to": "picking"},
    {"from": "picking",  "event": "PickCompleted", "to": "done"},
    {"from": "open",     "event": "PickCancelled", "to": "cancelled"},
    {"from": "assigned", "event": "PickCancelled", "to": "cancelled"}]$$,
    options => '{"initial": "new", "terminal": ["done", "cancelled"], "max_retries": 0}') \g /dev/null

-- Queries: the same as inline projections are made of, folded from the events by the worker.
SELECT projections.create('inbound_shipments', $$
    SELECT stream AS shipment,
           sum((data -> 'units')::int) FILTER (WHERE type = 'ShipmentAnnounced') AS announced,
           sum((data -> 'units')::int) FILTER (WHERE type = 'ShipmentReceived') AS received
    FROM projections.events
    WHERE type IN ('ShipmentAnnounced', 'ShipmentReceived')
    GROUP BY stream
$$, mode => 'async') \g /dev/null

SELECT projections.create('adjustment_history', $$
    SELECT position, item, lot, from_location, to_location, quantity, reason, at
    FROM movements
    WHERE type = 'StockAdjusted'
$$, mode => 'async') \g /dev/null
