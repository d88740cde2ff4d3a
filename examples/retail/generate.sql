-- Fills staged_lines with about :lines lines of the shape of the real file, and dirty in the same ways: exact
-- duplicates, missing customers, customers with two countries, names that vary, cancellations, write-offs, bad debts.
-- The same seed gives the same lines.

SET search_path = retail, public;
SELECT setseed(0.2011) \g /dev/null

CREATE TEMP TABLE generated_invoices AS
SELECT n,
       CASE WHEN n % 1000 = 500 THEN 'A' WHEN random() < 0.15 THEN 'C' ELSE '' END AS prefix,
       date_trunc('minute', timestamp '2010-12-01 08:00' + (n * 374 / (:lines / 20)) * interval '1 day'
                                                         + random() * interval '10 hours') AS invoiced_at,
       CASE WHEN random() < 0.86 THEN 12346 + floor(800 * random() ^ 2)::int END AS customer_id,
       random() < 0.003 AS shipped_abroad,
       1 + floor(-19 * ln(1 - random()))::int AS line_count
FROM generate_series(1, :lines / 20) AS n;

CREATE TEMP TABLE generated_lines AS
SELECT i.*,
       floor(3000 * random() ^ 2)::int AS item,
       1 + floor(24 * random() ^ 3)::int * CASE WHEN random() < 0.01 THEN 100 ELSE 1 END AS quantity,
       random() AS dirt,
       random() AS name_dirt
FROM generated_invoices AS i, generate_series(1, CASE i.prefix WHEN 'A' THEN 1 ELSE i.line_count END);

-- A cancellation returns what was sold: negative quantities. A write-off is negative, too, and has no price.
INSERT INTO staged_lines (invoice_no, stock_code, description, quantity, invoiced_at, unit_price, customer_id, country)
SELECT prefix || 536364 + n,
       CASE prefix WHEN 'A' THEN 'B' ELSE 10000 + 7 * item || CASE item % 5 WHEN 0 THEN 'A' WHEN 1 THEN 'b' ELSE '' END END,
       CASE WHEN prefix = 'A' THEN 'Adjust bad debt'
            WHEN name_dirt < 0.003 THEN NULL
            WHEN name_dirt < 0.006 THEN '?'
            WHEN name_dirt < 0.030 THEN lower(name)
            WHEN name_dirt < 0.060 THEN name || ' '
            ELSE name END,
       CASE WHEN prefix = 'A' THEN 1 WHEN prefix = 'C' OR dirt < 0.003 THEN -quantity ELSE quantity END,
       invoiced_at,
       CASE WHEN prefix = 'A' THEN -11062.06
            WHEN dirt < 0.005 THEN 0
            WHEN dirt < 0.008 THEN price * 10
            WHEN dirt < 0.009 THEN price + 0.001
            WHEN dirt < 0.200 THEN round(price * 1.9, 2)
            ELSE price END,
       CASE WHEN prefix <> 'A' AND dirt >= 0.005 OR line_count > 1 THEN customer_id END,
       CASE WHEN customer_id = 12350 THEN 'RSA'
            WHEN shipped_abroad THEN 'Hong Kong'
            WHEN customer_id % 11 <> 0 OR customer_id IS NULL THEN 'United Kingdom'
            ELSE (ARRAY['Germany', 'France', 'EIRE', 'Spain', 'Netherlands', 'Belgium', 'Switzerland', 'Portugal'])
                 [1 + customer_id / 11 % 8] END
FROM generated_lines,
     LATERAL (SELECT (ARRAY['RED', 'CREAM', 'PINK', 'VINTAGE', 'RETRO', 'WHITE', 'SET OF 6'])[1 + item % 7] || ' '
                  || (ARRAY['HANGING', 'METAL', 'GLASS', 'WOODEN', 'PAPER'])[1 + item / 7 % 5] || ' '
                  || (ARRAY['HEART', 'LANTERN', 'T-LIGHT HOLDER', 'CAKE CASES', 'BUNTING', 'LUNCH BAG'])[1 + item / 35 % 6]
                     AS name,
                     round(0.39 + item * 37 % 900 / 100.0, 2) AS price) AS catalogue;

INSERT INTO staged_lines (invoice_no, stock_code, description, quantity, invoiced_at, unit_price, customer_id, country)
SELECT invoice_no, stock_code, description, quantity, invoiced_at, unit_price, customer_id, country
FROM staged_lines
WHERE random() < 0.01
ORDER BY line_id;
