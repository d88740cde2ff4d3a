-- What bench/tpch/run measures: new orders with their lines, as they will come, and how they are written and timed.
CREATE SCHEMA bench;

-- The numbers of orders that come next, and of those that go.
CREATE TABLE bench.next AS SELECT last_order + 1 AS comes, 1 AS goes, last_order AS all_orders FROM tpch.size;

CREATE TABLE bench.orders AS SELECT n.* FROM tpch.size, tpch.new_orders(last_order + 1, last_order + :orders) AS n;
CREATE TABLE bench.lines AS SELECT n.* FROM tpch.size, tpch.new_lines(last_order + 1, last_order + :orders) AS n;
CREATE INDEX ON bench.orders (o_orderkey);
CREATE INDEX ON bench.lines (l_orderkey);

CREATE FUNCTION bench.since(began timestamptz) RETURNS float8 LANGUAGE sql AS $$
    SELECT extract(epoch FROM clock_timestamp() - began)::float8 * 1000
$$;

-- n orders, each with its lines in one statement and a transaction of its own: milliseconds, the commit included.
CREATE PROCEDURE bench.each_order(n int, OUT p50 float8, OUT p99 float8) LANGUAGE plpgsql AS $$
DECLARE
    first int;
    key bigint;
    began timestamptz;
    took float8[] := '{}';
BEGIN
    UPDATE bench.next SET comes = comes + n RETURNING comes - n INTO first;
    COMMIT;
    FOR i IN first..first + n - 1 LOOP
        key := tpch.order_key(i);
        began := clock_timestamp();
        WITH o AS (INSERT INTO orders SELECT * FROM bench.orders WHERE o_orderkey = key)
        INSERT INTO lineitem SELECT * FROM bench.lines WHERE l_orderkey = key;
        COMMIT;
        took := took || bench.since(began);
    END LOOP;
    SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY t), percentile_cont(0.99) WITHIN GROUP (ORDER BY t)
    INTO p50, p99 FROM unnest(took) AS t;
END
$$;

-- A refresh pair of 0.1 %: so many orders come, RF1, and as many go, RF2, each in a statement with their lines.
CREATE PROCEDURE bench.refresh_pair(OUT rf1 float8, OUT rf2 float8) LANGUAGE plpgsql AS $$
DECLARE
    n int;
    first int;
    gone int;
    began timestamptz;
BEGIN
    UPDATE bench.next SET comes = comes + all_orders / 1000, goes = goes + all_orders / 1000
    RETURNING all_orders / 1000, comes - all_orders / 1000, goes - all_orders / 1000 INTO n, first, gone;
    COMMIT;
    began := clock_timestamp();
    WITH o AS (INSERT INTO orders SELECT * FROM bench.orders
                   WHERE o_orderkey BETWEEN tpch.order_key(first) AND tpch.order_key(first + n - 1))
    INSERT INTO lineitem SELECT * FROM bench.lines
        WHERE l_orderkey BETWEEN tpch.order_key(first) AND tpch.order_key(first + n - 1);
    COMMIT;
    rf1 := bench.since(began);
    began := clock_timestamp();
    WITH l AS (DELETE FROM lineitem WHERE l_orderkey BETWEEN tpch.order_key(gone) AND tpch.order_key(gone + n - 1))
    DELETE FROM orders WHERE o_orderkey BETWEEN tpch.order_key(gone) AND tpch.order_key(gone + n - 1);
    COMMIT;
    rf2 := bench.since(began);
END
$$;

-- What it takes to compute a query into a table.
CREATE PROCEDURE bench.recompute(query text, OUT took float8) LANGUAGE plpgsql AS $$
DECLARE
    began timestamptz := clock_timestamp();
BEGIN
    EXECUTE 'CREATE TABLE bench.computed AS ' || query;
    COMMIT;
    took := bench.since(began);
    DROP TABLE bench.computed;
END
$$;

-- Rows that are in a projection and not in its definition, or the other way round.
CREATE FUNCTION bench.differences(projection regclass) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    differ bigint;
BEGIN
    EXECUTE format('SELECT count(*) FROM ((TABLE %1$s EXCEPT ALL TABLE projections_internal.%2$I)
                                          UNION ALL (TABLE projections_internal.%2$I EXCEPT ALL TABLE %1$s)) AS d',
                   projection, projection || '_definition') INTO differ;
    RETURN differ;
END
$$;
