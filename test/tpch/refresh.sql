-- What test/tpch/run does to the tables of data.sql, and what it keeps of how it went.

-- Each query: its way, if it was accepted; else why not.
CREATE TABLE tpch.query (name text PRIMARY KEY, definition text, relation regclass, way text, code text, reason text,
                         comparisons int NOT NULL DEFAULT 0, wrong int NOT NULL DEFAULT 0, changed int NOT NULL DEFAULT 0,
                         contents text);

CREATE PROCEDURE tpch.declare(name text, definition text, mode text) LANGUAGE plpgsql AS $$
DECLARE
    rows_returned bigint;
    made regclass;
    code text;
    message text;
    detail text;
BEGIN
    EXECUTE format('SELECT count(*) FROM (%s) AS q WHERE NOT q IS NULL', definition) INTO rows_returned;
    IF rows_returned = 0 THEN
        RAISE EXCEPTION '% returns no rows', name;
    END IF;
    BEGIN
        made := projections.create(name, definition, mode);
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
    END;
    INSERT INTO tpch.query (name, definition, relation, way, code, reason)
    SELECT declare.name, declare.definition, made,
           (SELECT d.strategy FROM projections.definitions AS d WHERE d.relation = made), code,
           concat_ws('. ', message, nullif(detail, ''));
END
$$;

-- Statements -----------------------------------------------------------------------------------------------------------

-- Some rows' keys, others for each salt.
CREATE FUNCTION tpch.some(relation regclass, key name, salt int, n int) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    keys text;
BEGIN
    EXECUTE format('SELECT string_agg(key::text, '', '') FROM (SELECT %1$I AS key FROM %3$s
                                                               ORDER BY hashint8extended(%1$I, %2$s) LIMIT %4$s) AS k',
                   key, salt, relation, n) INTO keys;
    RETURN keys;
END
$$;

-- RF1, new orders: with their lines in one statement, or the lines in a second one.
CREATE FUNCTION tpch.new_sales(salt int) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    n int := 1 + tpch.draw(1, salt, 6);
    first int;
    last int;
BEGIN
    UPDATE tpch.size SET last_order = last_order + n RETURNING last_order - n + 1, last_order INTO first, last;
    IF tpch.draw(2, salt, 3) = 0 THEN
        RETURN NEXT format('INSERT INTO orders SELECT * FROM tpch.new_orders(%s, %s)', first, last);
        RETURN NEXT format('INSERT INTO lineitem SELECT * FROM tpch.new_lines(%s, %s)', first, last);
    ELSE
        RETURN NEXT format('WITH o AS (INSERT INTO orders SELECT * FROM tpch.new_orders(%s, %s))
            INSERT INTO lineitem SELECT * FROM tpch.new_lines(%1$s, %2$s)', first, last);
    END IF;
END
$$;

-- RF2, orders deleted: with their lines in one statement, or after them.
CREATE FUNCTION tpch.old_sales(salt int) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    keys text := tpch.some('orders', 'o_orderkey', salt, 1 + tpch.draw(1, salt, 6));
BEGIN
    IF tpch.draw(2, salt, 3) = 0 THEN
        RETURN NEXT format('DELETE FROM lineitem WHERE l_orderkey IN (%s)', keys);
        RETURN NEXT format('DELETE FROM orders WHERE o_orderkey IN (%s)', keys);
    ELSE
        RETURN NEXT format('WITH l AS (DELETE FROM lineitem WHERE l_orderkey IN (%s))
            DELETE FROM orders WHERE o_orderkey IN (%1$s)', keys);
    END IF;
END
$$;

-- RF3, updates: one of each kind. %ORDERS, %PARTS, … are some rows' keys, %1 to %3 numbers.
CREATE TABLE tpch.change (id serial PRIMARY KEY, statement text);
INSERT INTO tpch.change (statement) VALUES
    -- quantities
    ('UPDATE lineitem SET l_quantity = 1 + %1 % 50, l_extendedprice = round(l_extendedprice / l_quantity * (1 + %1 % 50), 2)
        WHERE l_orderkey IN (%ORDERS) AND (l_linenumber + %2) % 2 = 0'),
    ('UPDATE lineitem SET l_quantity = greatest(1, least(50, l_quantity + %1 % 21 - 10)) WHERE l_orderkey IN (%ORDERS)'),
    ('UPDATE lineitem SET l_quantity = 38 + %1 % 13 WHERE l_orderkey = (SELECT l_orderkey FROM lineitem
        WHERE l_linenumber = 7 ORDER BY hashint8extended(l_orderkey, %2) LIMIT 1)'),
    ('UPDATE lineitem SET l_quantity = 1 + %1 % 20 WHERE l_partkey IN (%PARTS) AND l_quantity > 40'),
    ('UPDATE partsupp SET ps_availqty = 1 + %1 % 9999 WHERE ps_partkey IN (%PARTS)'),
    ('UPDATE partsupp SET ps_availqty = CASE WHEN ps_partkey % 40 = %1 % 40 THEN 20 ELSE 0 END
        WHERE ps_suppkey IN (%SUPPLIERS)'),
    -- prices
    ('UPDATE part SET p_retailprice = p_retailprice + %1 % 200 - 100 WHERE p_partkey IN (%PARTS)'),
    ('UPDATE partsupp SET ps_supplycost = 1 + (%1 % 99900) / 100.0 WHERE ps_partkey IN (%PARTS)'),
    ('UPDATE partsupp SET ps_supplycost = 500 WHERE ps_partkey IN (%PARTS)'),
    ('UPDATE lineitem SET l_discount = (%1 % 11) / 100.0, l_extendedprice = l_extendedprice + %2 % 100 - 50
        WHERE l_orderkey IN (%ORDERS)'),
    ('UPDATE lineitem SET l_extendedprice = l_extendedprice * 2 WHERE l_suppkey IN (%SUPPLIERS) AND l_orderkey % 32 = %1 % 32'),
    ('UPDATE orders SET o_totalprice = o_totalprice + %1 % 1000 - 500 WHERE o_orderkey IN (%ORDERS)'),
    ('UPDATE customer SET c_acctbal = tpch.balance(c_custkey + %1, 1) WHERE c_custkey IN (%CUSTOMERS)'),
    ('UPDATE supplier SET s_acctbal = tpch.balance(%1, 1) WHERE s_suppkey IN (%SUPPLIERS)'),
    -- segments
    ('UPDATE customer SET c_mktsegment = tpch.one_of(c_custkey, %1, ''BUILDING'', ''AUTOMOBILE'')
        WHERE c_custkey IN (%CUSTOMERS)'),
    -- nations
    ('UPDATE nation SET n_name = (SELECT o.n_name FROM nation AS o WHERE o.n_nationkey IN (%NATIONS)
        AND o.n_nationkey <> nation.n_nationkey) WHERE n_nationkey IN (%NATIONS)'),
    ('UPDATE nation SET n_regionkey = (n_regionkey + %1) % 5 WHERE n_nationkey IN (%NATIONS)'),
    ('UPDATE supplier SET s_nationkey = tpch.nation_of(%1, %2) WHERE s_suppkey IN (%SUPPLIERS)'),
    ('UPDATE customer SET c_nationkey = tpch.nation_of(%1, %2), c_phone = tpch.phone(tpch.nation_of(%1, %2), %3, 1)
        WHERE c_custkey IN (%CUSTOMERS)'),
    -- part types
    ('UPDATE part SET p_type = tpch.type(p_partkey + %1) WHERE p_partkey IN (%PARTS)'),
    ('UPDATE part SET p_brand = tpch.brand(p_partkey + %1), p_container = tpch.container(p_partkey + %1)
        WHERE p_partkey IN (%PARTS)'),
    ('UPDATE part SET p_size = tpch.part_size(p_partkey + %1) WHERE p_partkey IN (%PARTS)'),
    ('UPDATE part SET p_name = tpch.part_name(p_partkey + %1) WHERE p_partkey IN (%PARTS)'),
    -- what else a query asks for: dates, states, remarks, whose an order is, and who supplies what
    ('UPDATE lineitem SET l_suppkey = tpch.supplier_of(l_partkey, (l_linenumber + %1) % 4, (SELECT suppliers FROM tpch.size))
        WHERE l_orderkey IN (%ORDERS)'),
    ('UPDATE lineitem SET l_partkey = ps_partkey, l_suppkey = ps_suppkey FROM partsupp
        WHERE l_orderkey IN (%ORDERS) AND ps_partkey = (l_partkey + %1) % (SELECT parts FROM tpch.size) + 1
        AND ps_suppkey = tpch.supplier_of(ps_partkey, %2 % 4, (SELECT suppliers FROM tpch.size))'),
    ('UPDATE lineitem SET l_receiptdate = l_commitdate + CASE WHEN l_linenumber = 1 + %1 % 4 THEN 1 ELSE -1 END
        WHERE l_orderkey IN (%ORDERS)'),
    ('UPDATE lineitem SET l_receiptdate = l_receiptdate + %1 % 61 - 30 WHERE l_orderkey IN (%ORDERS)'),
    ('UPDATE lineitem SET l_shipdate = l_shipdate + %1 % 401 - 200, l_shipmode = tpch.one_of(%2, 1, ''AIR'', ''MAIL'', ''SHIP'')
        WHERE l_orderkey IN (%ORDERS)'),
    ('UPDATE lineitem SET l_returnflag = tpch.one_of(%1, 1, ''R'', ''A'', ''N'') WHERE l_orderkey IN (%ORDERS)'),
    ('UPDATE orders SET o_orderdate = o_orderdate + %1 % 401 - 200 WHERE o_orderkey IN (%ORDERS)'),
    ('UPDATE orders SET o_orderstatus = tpch.one_of(%1, 1, ''F'', ''O''),
        o_orderpriority = tpch.one_of(%1, 2, ''1-URGENT'', ''2-HIGH'', ''3-MEDIUM'', ''5-LOW'') WHERE o_orderkey IN (%ORDERS)'),
    ('UPDATE orders SET o_custkey = 1 + (o_custkey + %1) % (SELECT customers FROM tpch.size) WHERE o_orderkey IN (%ORDERS)'),
    ('UPDATE orders SET o_comment = CASE WHEN o_comment LIKE ''special%'' THEN ''plain'' ELSE ''special requests'' END
        WHERE o_orderkey IN (%ORDERS)'),
    ('UPDATE supplier SET s_comment = CASE WHEN s_comment LIKE ''Customer%'' THEN ''plain'' ELSE ''Customer Complaints'' END
        WHERE s_suppkey IN (%SUPPLIERS)');

CREATE FUNCTION tpch.statement(change tpch.change, salt int) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    statement text := change.statement;
    n int := 1 + tpch.draw(3, salt, CASE tpch.draw(8, salt, 3) WHEN 0 THEN 40 ELSE 5 END);
BEGIN
    statement := replace(statement, '%ORDERS', tpch.some('orders', 'o_orderkey', salt, n));
    statement := replace(statement, '%PARTS', tpch.some('part', 'p_partkey', salt, n));
    statement := replace(statement, '%SUPPLIERS', tpch.some('supplier', 's_suppkey', salt, least(n, 3)));
    statement := replace(statement, '%CUSTOMERS', tpch.some('customer', 'c_custkey', salt, n));
    -- two: one that queries name, and another
    statement := replace(statement, '%NATIONS',
                         tpch.one_of(4, salt, '7, 0', '6, 23', '3, 1', '20, 7', '2, 24', '8, 4', '18, 12'));
    FOR i IN 1..3 LOOP
        statement := replace(statement, '%' || i, tpch.draw(4 + i, salt, 100000)::text);
    END LOOP;
    RETURN statement;
END
$$;

CREATE FUNCTION tpch.stream(name text, salt int) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    CASE name
        WHEN 'RF1' THEN RETURN QUERY SELECT tpch.new_sales(salt + i) FROM generate_series(1, 4) AS i;
        WHEN 'RF2' THEN RETURN QUERY SELECT tpch.old_sales(salt + i) FROM generate_series(1, 4) AS i;
        WHEN 'RF3' THEN RETURN QUERY SELECT tpch.statement(c, salt + c.id) FROM tpch.change AS c
                                     ORDER BY tpch.draw(c.id, salt, 1000), c.id;
    END CASE;
END
$$;

-- The oracle ----------------------------------------------------------------------------------------------------------

-- All columns here are exact (numeric, integers, dates and texts; no float): rows are equal or they are not.
CREATE PROCEDURE tpch.compare(statement text) LANGUAGE plpgsql AS $$
DECLARE
    query tpch.query;
    verdict record;
    found text;
BEGIN
    FOR query IN SELECT * FROM tpch.query WHERE relation IS NOT NULL ORDER BY name LOOP
        verdict := test.wrong(query.relation, query.definition);
        IF verdict.problem IS NOT NULL AND query.wrong < 3 THEN
            RAISE INFO E'%: WRONG\n%\nafter: %', verdict.problem, verdict.samples,
                regexp_replace(statement, '\s+', ' ', 'g');
        END IF;
        EXECUTE format('SELECT md5(string_agg(q::text, chr(10) ORDER BY q::text)) FROM %s AS q', query.relation)
        INTO found;
        UPDATE tpch.query AS q
        SET comparisons = q.comparisons + 1, wrong = q.wrong + (verdict.problem IS NOT NULL)::int, contents = found,
            changed = q.changed + (q.contents IS DISTINCT FROM found AND q.comparisons > 0)::int
        WHERE q.name = query.name;
    END LOOP;
END
$$;

CREATE TABLE tpch.done (statements int NOT NULL);
INSERT INTO tpch.done VALUES (0);

-- One statement a transaction, and after each every query compared.
CREATE PROCEDURE tpch.refresh(rounds int, seed int, mode text) LANGUAGE plpgsql AS $$
DECLARE
    stream text;
    statements text[];
    statement text;
BEGIN
    CALL tpch.compare('(filled)');
    COMMIT;
    FOR round IN 1..rounds LOOP
        FOREACH stream IN ARRAY ARRAY['RF1', 'RF2', 'RF3'] LOOP
            statements := ARRAY(SELECT tpch.stream(stream, tpch.draw(round * 10 + right(stream, 1)::int, seed, 2000000000)));
            COMMIT;
            FOREACH statement IN ARRAY statements LOOP
                RAISE INFO '%;', statement;
                EXECUTE statement;
                UPDATE tpch.done SET statements = done.statements + 1;
                COMMIT;
                IF mode = 'async' THEN
                    PERFORM projections.catch_up();
                    COMMIT;
                END IF;
                CALL tpch.compare(statement);
                COMMIT;
            END LOOP;
        END LOOP;
    END LOOP;
END
$$;
