-- Sources of :events events each, of 1,000 items. In "poisoned" one of 100,000 cannot be applied.

CREATE FUNCTION pg_temp.make_source(source text, poisoned boolean, events bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TABLE %s (
        position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        item     int NOT NULL,
        quantity int NOT NULL,
        amount   numeric(12,2) NOT NULL,
        at       timestamptz NOT NULL DEFAULT clock_timestamp())', source);
    PERFORM projections.register_source(source, position_column => 'position', time_column => 'at');
    PERFORM setseed(0.5);
    EXECUTE format('INSERT INTO %s (item, quantity, amount)
        SELECT 1 + floor(1000 * random())::int, CASE WHEN $1 AND n %% 100000 = 50000 THEN 0 ELSE 1 + n %% 20 END, round((1 + 999 * random())::numeric, 2)
        FROM generate_series(1, $2) AS n', source) USING poisoned, events;
END
$$;
SELECT pg_temp.make_source('event', false, :events);
SELECT pg_temp.make_source('poisoned', true, :events);

-- The event itself counts, so that one of quantity 0 is poison for a query, too: division by zero.
CREATE TABLE by_handler (item int PRIMARY KEY, events bigint NOT NULL, quantity bigint NOT NULL, amount numeric NOT NULL, inverse bigint NOT NULL)
    WITH (fillfactor = 50);
CREATE FUNCTION handle(event event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO by_handler AS t VALUES (event.item, 1, event.quantity, event.amount, 1000 / event.quantity)
    ON CONFLICT (item) DO UPDATE SET events = t.events + 1, quantity = t.quantity + excluded.quantity, amount = t.amount + excluded.amount,
                                     inverse = t.inverse + excluded.inverse;
END
$$;
CREATE FUNCTION handle(event poisoned) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO by_handler AS t VALUES (event.item, 1, event.quantity, event.amount, 1000 / event.quantity)
    ON CONFLICT (item) DO UPDATE SET events = t.events + 1, quantity = t.quantity + excluded.quantity, amount = t.amount + excluded.amount,
                                     inverse = t.inverse + excluded.inverse;
END
$$;
CREATE FUNCTION fold(state jsonb, event event, key text) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT jsonb_build_object('events', (state -> 'events')::bigint + 1, 'quantity', (state -> 'quantity')::bigint + event.quantity,
                              'amount', (state -> 'amount')::numeric + event.amount)
$$;

-- The extension's event store without what makes it one: the same columns and indexes, no streams and no versions that are checked.
CREATE TABLE plain_events (LIKE projections.events INCLUDING ALL);

-- Each event becomes a row. When both commits were tells how long it took.
CREATE TABLE ticket (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at       timestamptz NOT NULL DEFAULT clock_timestamp()
);
SELECT projections.register_source('ticket', position_column => 'position', time_column => 'at');
CREATE TABLE seen_by_handler (position bigint PRIMARY KEY);
CREATE FUNCTION see(event ticket) RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO seen_by_handler VALUES (event.position); END $$;

-- One long wait_for would hold a snapshot, and with it every dead row version that the projection leaves behind.
CREATE PROCEDURE await(name text) LANGUAGE plpgsql AS $$
BEGIN
    WHILE NOT projections.wait_for(name, timeout => '20 ms') LOOP
        COMMIT;
    END LOOP;
END
$$;

CREATE TABLE measured (place int, scenario text, unit text, variant text, round int, value float8);
CREATE SEQUENCE versions;
CREATE TABLE batch AS
SELECT jsonb_agg(jsonb_build_object('type', 'ItemPicked', 'data', jsonb_build_object('item', 'A' || n, 'quantity', n, 'location', 'shelf 17'))) AS events
FROM generate_series(1, 50) AS n;
