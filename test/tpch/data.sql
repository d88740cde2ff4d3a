-- The eight tables' rows at scale :scale (1 is TPC-H's own: 1,500,000 orders), the same ones each time: every value follows
-- from the row's number by hashing. All 22 queries return rows, also at 0.001, as what they ask for is more frequent here
-- than in TPC-H: their nations, brands, types, containers, colours, and orders of a large volume.
CREATE SCHEMA tpch;

-- How many there are at this scale, and the number of the last order that was made: new ones go on from there.
CREATE TABLE tpch.size AS
SELECT greatest(10, ceil(:scale * 10000)::int) AS suppliers, greatest(200, ceil(:scale * 200000)::int) AS parts,
       greatest(150, ceil(:scale * 150000)::int) AS customers, greatest(100, ceil(:scale * 1500000)::int) AS last_order;

-- An integer from 0 to n - 1, by the row's number and what it is drawn for.
CREATE FUNCTION tpch.draw(number bigint, what int, n int) RETURNS int LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT abs(hashint8extended(number, what) % n)::int
$$;
CREATE FUNCTION tpch.one_of(number bigint, what int, VARIADIC choices text[]) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT choices[1 + tpch.draw(number, what, cardinality(choices))]
$$;

CREATE FUNCTION tpch.remark(number bigint, what int) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT concat_ws(' ', tpch.one_of(number, what, 'early', 'late', 'small', 'third', 'plain', 'heavy', 'open', 'spare'),
                          tpch.one_of(number, what + 1, 'crates', 'letters', 'boats', 'ledgers', 'gears', 'parcels', 'trucks'),
                          tpch.one_of(number, what + 2, 'arrive', 'wait', 'leave', 'are weighed', 'are counted', 'turn back'),
                          tpch.one_of(number, what + 3, 'at noon', 'by rail', 'in spring', 'as agreed', 'behind the mill'))
$$;

-- 25 brands and their makers, 150 types, 40 containers. Half of the parts are of a brand and container that Q17 or Q19 looks
-- for, a third of a type of Q2 or Q8.
CREATE FUNCTION tpch.brand(number bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE number % 8 WHEN 1 THEN 'Brand#23' WHEN 2 THEN 'Brand#12' WHEN 3 THEN 'Brand#34' WHEN 4 THEN 'Brand#23'
        ELSE format('Brand#%s%s', 1 + tpch.draw(number, 10, 5), 1 + tpch.draw(number, 11, 5)) END
$$;
CREATE FUNCTION tpch.container(number bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE number % 8 WHEN 1 THEN 'MED BOX'
        ELSE concat_ws(' ', CASE number % 8 WHEN 2 THEN 'SM' WHEN 3 THEN 'LG' WHEN 4 THEN 'MED'
                                ELSE tpch.one_of(number, 12, 'SM', 'MED', 'LG', 'JUMBO', 'WRAP') END,
                       tpch.one_of(number, 13, 'CASE', 'BOX', 'PACK', 'PKG', 'BAG', 'JAR', 'CAN', 'DRUM')) END
$$;
CREATE FUNCTION tpch.type(number bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE tpch.draw(number, 14, 6) WHEN 0 THEN 'ECONOMY ANODIZED STEEL' WHEN 1 THEN 'STANDARD PLATED BRASS'
        ELSE concat_ws(' ', tpch.one_of(number, 15, 'STANDARD', 'SMALL', 'MEDIUM', 'LARGE', 'ECONOMY', 'PROMO'),
                            tpch.one_of(number, 16, 'ANODIZED', 'BURNISHED', 'PLATED', 'POLISHED', 'BRUSHED'),
                            tpch.one_of(number, 17, 'TIN', 'NICKEL', 'BRASS', 'STEEL', 'COPPER')) END
$$;
CREATE FUNCTION tpch.part_size(number bigint) RETURNS int LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE tpch.draw(number, 18, 4) WHEN 0 THEN 15 WHEN 1 THEN 1 + tpch.draw(number, 19, 10)
        ELSE 1 + tpch.draw(number, 19, 50) END
$$;
CREATE FUNCTION tpch.part_name(number bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT concat_ws(' ', tpch.one_of(number, 20, 'forest', 'sand', 'rust', 'coal', 'cream', 'plum'),
                          tpch.one_of(number, 21, 'green', 'forest', 'stone', 'copper', 'amber', 'slate', 'pearl', 'wheat'),
                          tpch.one_of(number, 22, 'green', 'white', 'black', 'grey', 'blue', 'red', 'brown', 'teal'))
$$;

-- The nations that queries name, and any of the 25 for a tenth.
CREATE FUNCTION tpch.nation_of(number bigint, what int) RETURNS int LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce((ARRAY[7, 6, 3, 20, 2, 8, 18, 20, 3])[number % 10], tpch.draw(number, what, 25))
$$;
CREATE FUNCTION tpch.phone(nation int, number bigint, what int) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT format('%s-%s-%s-%s', 10 + nation, 100 + tpch.draw(number, what, 900), 100 + tpch.draw(number, what + 1, 900),
                  1000 + tpch.draw(number, what + 2, 9000))
$$;
-- From -999.99 to 9999.99.
CREATE FUNCTION tpch.balance(number bigint, what int) RETURNS numeric LANGUAGE sql IMMUTABLE AS $$
    SELECT tpch.draw(number, what, 1099999) / 100.0 - 999.99
$$;

-- A part has four suppliers: the nth of them, 0 to 3.
CREATE FUNCTION tpch.supplier_of(part int, nth int, suppliers int) RETURNS int LANGUAGE sql IMMUTABLE AS $$
    SELECT 1 + (tpch.draw(part, 30, suppliers) + nth * (suppliers / 4)) % suppliers
$$;

-- Eight order keys in use, 24 not, as in TPC-H.
CREATE FUNCTION tpch.order_key(number bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT (number - 1) / 8 * 32 + (number - 1) % 8 + 1
$$;
-- A quarter each before the day of Q3 and in the half year of Q4 and Q10; more than elsewhere in 1994, which most ask for.
CREATE FUNCTION tpch.order_date(number bigint) RETURNS date LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE number % 8 WHEN 1 THEN date '1994-11-15' + tpch.draw(number, 40, 120)
                           WHEN 5 THEN date '1994-11-15' + tpch.draw(number, 40, 120)
                           WHEN 2 THEN date '1993-07-01' + tpch.draw(number, 40, 184)
                           WHEN 6 THEN date '1993-07-01' + tpch.draw(number, 40, 184)
                           WHEN 3 THEN date '1994-01-01' + tpch.draw(number, 40, 300)
                           ELSE date '1992-01-01' + tpch.draw(number, 40, 2406) END
$$;

-- Lines of the orders of these numbers. Half of them are in time, or Q21 would find few orders where one supplier is late.
-- One order in 40 is of a large volume: seven lines of 44 or more.
CREATE FUNCTION tpch.new_lines(first bigint, last bigint) RETURNS SETOF lineitem LANGUAGE sql STABLE AS $$
    SELECT tpch.order_key(o), part, tpch.supplier_of(part, tpch.draw(id, 51, 4), suppliers), line::int, quantity,
           quantity * p_retailprice, tpch.draw(id, 52, 11) / 100.0, tpch.draw(id, 53, 9) / 100.0,
           CASE WHEN received > date '1995-06-17' THEN 'N' ELSE tpch.one_of(id, 54, 'R', 'A') END,
           CASE WHEN shipped > date '1995-06-17' THEN 'O' ELSE 'F' END,
           shipped,
           CASE WHEN tpch.draw(id, 72, 2) = 0 THEN received + tpch.draw(id, 55, 30)
               ELSE tpch.order_date(o) + 30 + tpch.draw(id, 55, 61) END,
           received,
           CASE WHEN in_person THEN 'DELIVER IN PERSON'
               ELSE tpch.one_of(id, 57, 'DELIVER IN PERSON', 'COLLECT COD', 'NONE', 'TAKE BACK RETURN') END,
           CASE WHEN in_person THEN 'AIR'
               ELSE tpch.one_of(id, 58, 'AIR', 'REG AIR', 'MAIL', 'SHIP', 'RAIL', 'TRUCK', 'FOB') END,
           tpch.remark(id, 60)
    FROM tpch.size
    CROSS JOIN generate_series(first, last) AS o
    CROSS JOIN LATERAL generate_series(1, CASE WHEN o % 40 = 7 THEN 7 ELSE 1 + tpch.draw(o, 41, 7) END) AS line
    CROSS JOIN LATERAL (SELECT o * 8 + line AS id) AS numbered
    CROSS JOIN LATERAL (
        SELECT 1 + tpch.draw(id, 50, parts) AS part,
               (CASE WHEN o % 40 = 7 THEN 44 + tpch.draw(id, 59, 7) ELSE 1 + tpch.draw(id, 59, 50) END)::numeric AS quantity,
               tpch.order_date(o) + 1 + tpch.draw(id, 56, 121) AS shipped, tpch.draw(id, 70, 8) = 0 AS in_person) AS drawn
    CROSS JOIN LATERAL (SELECT shipped + 1 + tpch.draw(id, 71, 30) AS received) AS later
    JOIN part ON p_partkey = part
$$;

-- The orders themselves; a third of the customers have none.
CREATE FUNCTION tpch.new_orders(first bigint, last bigint) RETURNS SETOF orders LANGUAGE sql STABLE AS $$
    SELECT tpch.order_key(o), (1 + tpch.draw(o, 42, (customers - 2) / 3 + 1) * 3 + tpch.draw(o, 43, 2))::int,
           status, total, tpch.order_date(o),
           tpch.one_of(o, 44, '1-URGENT', '2-HIGH', '3-MEDIUM', '4-NOT SPECIFIED', '5-LOW'),
           format('Clerk#%s', lpad((1 + tpch.draw(o, 45, 1000))::text, 9, '0')), 0,
           CASE WHEN tpch.draw(o, 46, 16) = 0 THEN 'special ' || tpch.remark(o, 47) || ' on requests'
               ELSE tpch.remark(o, 47) END
    FROM tpch.size
    CROSS JOIN generate_series(first, last) AS o
    JOIN (SELECT l_orderkey, round(sum(l_extendedprice * (1 + l_tax) * (1 - l_discount)), 2) AS total,
                 CASE WHEN bool_and(l_linestatus = 'F') THEN 'F' WHEN bool_and(l_linestatus = 'O') THEN 'O' ELSE 'P' END
                     AS status
          FROM tpch.new_lines(first, last)
          GROUP BY l_orderkey) AS lines ON l_orderkey = tpch.order_key(o)
$$;

INSERT INTO region
SELECT i - 1, name, tpch.remark(i, 80)
FROM unnest(ARRAY['AFRICA', 'AMERICA', 'ASIA', 'EUROPE', 'MIDDLE EAST']) WITH ORDINALITY AS r (name, i);

INSERT INTO nation
SELECT i - 1, split_part(nation, ':', 1), split_part(nation, ':', 2)::int, tpch.remark(i, 81)
FROM unnest(ARRAY['ALGERIA:0', 'ARGENTINA:1', 'BRAZIL:1', 'CANADA:1', 'EGYPT:4', 'ETHIOPIA:0', 'FRANCE:3', 'GERMANY:3',
                  'INDIA:2', 'INDONESIA:2', 'IRAN:4', 'IRAQ:4', 'JAPAN:2', 'JORDAN:4', 'KENYA:0', 'MOROCCO:0',
                  'MOZAMBIQUE:0', 'PERU:1', 'CHINA:2', 'ROMANIA:3', 'SAUDI ARABIA:4', 'VIETNAM:2', 'RUSSIA:3',
                  'UNITED KINGDOM:3', 'UNITED STATES:1']) WITH ORDINALITY AS n (nation, i);

INSERT INTO part
SELECT i, tpch.part_name(i), 'Manufacturer#' || substr(tpch.brand(i), 7, 1), tpch.brand(i), tpch.type(i), tpch.part_size(i),
       tpch.container(i), 900 + tpch.draw(i, 23, 120000) / 100.0, left(tpch.remark(i, 24), 23)
FROM tpch.size CROSS JOIN generate_series(1, parts) AS i;

-- One supplier in ten has been complained about.
INSERT INTO supplier
SELECT i, format('Supplier#%s', lpad(i::text, 9, '0')), 'yard ' || tpch.draw(i, 31, 10000), nation,
       tpch.phone(nation, i, 32), tpch.balance(i, 35),
       CASE WHEN i % 10 = 9 THEN 'Customer has Complaints of ' || tpch.remark(i, 36) ELSE tpch.remark(i, 36) END
FROM tpch.size CROSS JOIN generate_series(1, suppliers) AS i CROSS JOIN LATERAL (SELECT tpch.nation_of(i, 37) AS nation) AS n;

INSERT INTO partsupp
SELECT i, tpch.supplier_of(i, nth, suppliers), 1 + tpch.draw(i * 4 + nth, 38, 9999),
       1 + tpch.draw(i * 4 + nth, 39, 99900) / 100.0, tpch.remark(i * 4 + nth, 82)
FROM tpch.size CROSS JOIN generate_series(1, parts) AS i CROSS JOIN generate_series(0, 3) AS nth;

INSERT INTO customer
SELECT i, format('Customer#%s', lpad(i::text, 9, '0')), 'street ' || tpch.draw(i, 90, 10000), nation,
       tpch.phone(nation, i, 91), tpch.balance(i, 94),
       tpch.one_of(i, 95, 'BUILDING', 'AUTOMOBILE', 'MACHINERY', 'HOUSEHOLD', 'FURNITURE'), tpch.remark(i, 96)
FROM tpch.size CROSS JOIN generate_series(1, customers) AS i CROSS JOIN LATERAL (SELECT tpch.nation_of(i, 100) AS nation) AS n;

INSERT INTO orders SELECT (made).* FROM (SELECT tpch.new_orders(1, last_order) AS made FROM tpch.size OFFSET 0) AS n;
INSERT INTO lineitem SELECT (made).* FROM (SELECT tpch.new_lines(1, last_order) AS made FROM tpch.size OFFSET 0) AS n;

ANALYZE;
