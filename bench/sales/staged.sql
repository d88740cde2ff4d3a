-- A million sales with random items, made once: what one run inserts in bulk, and in part what each starts with.

CREATE SCHEMA staged;

SELECT setseed(0.5);
CREATE TABLE staged.sales AS
SELECT 1 + floor(1000 * random())::int AS item_id,
       1 + floor(20 * random())::int AS quantity,
       round((1 + 999 * random())::numeric, 2)::numeric(12,2) AS amount
FROM generate_series(1, 1000000);
VACUUM ANALYZE staged.sales;
