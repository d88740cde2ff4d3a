-- One invoice deleted in one transaction.
-- pgbench: each client takes every :clients-th of the withdrawn invoices, from :first to :last.
\set ordinal :first + :turn * :clients + :client_id
\set turn :turn + 1
\if :ordinal <= :last
BEGIN;
DELETE FROM retail.invoice_lines
WHERE invoice_no = (SELECT invoice_no FROM retail.withdrawn_invoices WHERE ordinal = :ordinal);
DELETE FROM retail.invoices
WHERE invoice_no = (SELECT invoice_no FROM retail.withdrawn_invoices WHERE ordinal = :ordinal);
COMMIT;
\endif
