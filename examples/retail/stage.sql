-- Derives the rows of the shop's tables from the dirty lines. ordinal numbers the invoices as they happened.

SET search_path = retail, public;

-- Some invoices took over a minute to type in: they happened when their first line did.
CREATE UNLOGGED TABLE staged_invoices AS
SELECT row_number() OVER (ORDER BY min(invoiced_at), min(line_id)) AS ordinal,
       invoice_no, min(customer_id) AS customer_id, min(invoiced_at) AS invoiced_at
FROM staged_lines
GROUP BY invoice_no;
ALTER TABLE staged_invoices ADD PRIMARY KEY (ordinal), ADD UNIQUE (invoice_no);

-- A few customers appear with two countries: the last one counts.
CREATE UNLOGGED TABLE staged_customers AS
SELECT DISTINCT ON (customer_id) customer_id, country
FROM staged_lines
WHERE customer_id IS NOT NULL
ORDER BY customer_id, line_id DESC;
ALTER TABLE staged_customers ADD PRIMARY KEY (customer_id);

-- An item's name is the spelling that is used most.
CREATE UNLOGGED TABLE staged_items AS
SELECT stock_code, mode() WITHIN GROUP (ORDER BY description) AS description
FROM staged_lines
GROUP BY stock_code;
ALTER TABLE staged_items ADD PRIMARY KEY (stock_code);

CREATE INDEX ON staged_lines (invoice_no);
ANALYZE staged_invoices, staged_customers, staged_items, staged_lines;
