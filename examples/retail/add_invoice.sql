-- One invoice in one transaction, with the customer and the items that it is the first to name.
-- pgbench: each client takes every :clients-th invoice, from :first to :last.
\set ordinal :first + :turn * :clients + :client_id
\set turn :turn + 1
\if :ordinal <= :last
BEGIN;
INSERT INTO retail.customers
SELECT c.customer_id, c.country
FROM retail.staged_invoices AS i JOIN retail.staged_customers AS c ON c.customer_id = i.customer_id
WHERE i.ordinal = :ordinal
ON CONFLICT DO NOTHING;
-- In order, so that two invoices with the same new items cannot wait for each other.
INSERT INTO retail.items
SELECT DISTINCT t.stock_code, t.description
FROM retail.staged_invoices AS i JOIN retail.staged_lines AS l ON l.invoice_no = i.invoice_no
                                 JOIN retail.staged_items AS t ON t.stock_code = l.stock_code
WHERE i.ordinal = :ordinal
ORDER BY t.stock_code
ON CONFLICT DO NOTHING;
INSERT INTO retail.invoices
SELECT invoice_no, customer_id, invoiced_at
FROM retail.staged_invoices
WHERE ordinal = :ordinal;
INSERT INTO retail.invoice_lines
SELECT l.line_id, l.invoice_no, l.stock_code, l.quantity, l.unit_price
FROM retail.staged_invoices AS i JOIN retail.staged_lines AS l ON l.invoice_no = i.invoice_no
WHERE i.ordinal = :ordinal;
COMMIT;
\endif
