-- Changes rows that many lines join to: customers move, an item is renamed.

SET search_path = retail, public;

-- The customer with the most lines moves to a country in which there was none: a new group.
SELECT i.customer_id, count(*) AS lines
FROM invoices AS i JOIN invoice_lines AS l ON l.invoice_no = i.invoice_no
WHERE i.customer_id IS NOT NULL
GROUP BY i.customer_id
ORDER BY count(*) DESC, i.customer_id
LIMIT 1 \gset
UPDATE customers SET country = 'New Zealand' WHERE customer_id = :customer_id;
\echo '   ' :lines lines of customer :customer_id moved to New Zealand

-- The last customers of a country leave it: a group that ends.
SELECT c.country, count(*) AS lines
FROM customers AS c JOIN invoices AS i ON i.customer_id = c.customer_id
                    JOIN invoice_lines AS l ON l.invoice_no = i.invoice_no
WHERE c.country <> 'New Zealand'
GROUP BY c.country
ORDER BY count(DISTINCT c.customer_id), c.country
LIMIT 1 \gset
UPDATE customers SET country = 'United Kingdom' WHERE country = :'country';
\echo '   ' :lines lines of all customers in :country moved to United Kingdom

SELECT stock_code, count(*) AS lines
FROM invoice_lines
GROUP BY stock_code
ORDER BY count(*) DESC, stock_code
LIMIT 1 \gset
UPDATE items SET description = 'BEST SELLER: ' || coalesce(description, stock_code) WHERE stock_code = :'stock_code';
\echo '   ' :lines lines of item :stock_code renamed
