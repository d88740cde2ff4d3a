-- Compares the projections with the file itself, before any correction: no table of the shop and no definition is
-- read here, so a line that was lost on the way in shows. Invoices without a customer are left out of the revenue.

SET search_path = retail, public;

SELECT (SELECT count(*) FROM staged_lines) = (SELECT count(*) FROM line_details)
       AND (SELECT sum(quantity) FROM staged_lines) = (SELECT sum(sold) FROM item_stock)
       AND (SELECT sum(quantity * unit_price) FROM staged_lines WHERE customer_id IS NOT NULL)
           = (SELECT sum(revenue) FROM country_revenue_by_customer) AS good,
       (SELECT count(*) FROM line_details) AS lines,
       (SELECT sum(sold) FROM item_stock) AS sold,
       (SELECT sum(revenue) FROM country_revenue_by_customer) AS revenue \gset
\echo '   ' projections: :lines lines, :sold units sold, revenue :revenue GBP
SELECT format('    file:        %s lines, %s units sold, revenue %s GBP', count(*), sum(quantity),
              sum(quantity * unit_price) FILTER (WHERE customer_id IS NOT NULL)) AS file
FROM staged_lines \gset
\echo :file
\set ON_ERROR_STOP on
\if :good
\else
    DO $$ BEGIN RAISE EXCEPTION 'the projections do not add up to the file'; END $$;
\endif
