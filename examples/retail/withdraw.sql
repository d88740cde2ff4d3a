-- Chooses the invoices to delete: the first and the last trading day, whose sales are many items' first and last,
-- and every fiftieth of the others.

SET search_path = retail, public;

CREATE UNLOGGED TABLE withdrawn_invoices AS
SELECT row_number() OVER (ORDER BY ordinal) AS ordinal, invoice_no
FROM (SELECT *, min(invoiced_at::date) OVER () AS first_day, max(invoiced_at::date) OVER () AS last_day
      FROM staged_invoices) AS i
WHERE invoiced_at::date IN (first_day, last_day) OR ordinal % 50 = 0;
ALTER TABLE withdrawn_invoices ADD PRIMARY KEY (ordinal);
ANALYZE withdrawn_invoices;
