-- Corrects lines: keying mistakes, which are often the item's highest price, and a discount that was forgotten.

SET search_path = retail, public;

UPDATE invoice_lines AS l
SET unit_price = usual.price
FROM (SELECT stock_code, percentile_disc(0.5) WITHIN GROUP (ORDER BY unit_price) AS price
      FROM invoice_lines
      GROUP BY stock_code) AS usual
WHERE usual.stock_code = l.stock_code AND usual.price > 0 AND l.unit_price > 3 * usual.price;
\echo '   ' :ROW_COUNT lines priced over three times what the item usually costs: usual price

UPDATE invoice_lines AS l
SET unit_price = round(l.unit_price * 0.95, 2)
FROM invoices AS i
WHERE i.invoice_no = l.invoice_no AND i.invoiced_at > (SELECT max(invoiced_at) FROM invoices) - interval '7 days';
\echo '   ' :ROW_COUNT lines of the last seven days: 5 % cheaper
