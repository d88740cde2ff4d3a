-- The projections: declared once, before any data, and from then on equal to their queries at every commit.

SET search_path = retail, public;

-- One table, sums.
SELECT projections.create('item_stock', $$
    SELECT stock_code, sum(quantity) AS sold, count(*) AS lines
    FROM invoice_lines
    GROUP BY stock_code
$$) AS item_stock \g /dev/null

-- Two tables. Invoices without a customer are the group in which customer_id is NULL.
SELECT projections.create('customer_month_revenue', $$
    SELECT i.customer_id, date_trunc('month', i.invoiced_at) AS month, sum(l.quantity * l.unit_price) AS revenue
    FROM invoice_lines AS l
    JOIN invoices AS i ON i.invoice_no = l.invoice_no
    GROUP BY i.customer_id, date_trunc('month', i.invoiced_at)
$$) AS customer_month_revenue \g /dev/null

-- Three tables. Invoices without a customer have no country: the inner join leaves them out.
SELECT projections.create('country_revenue', $$
    SELECT c.country, sum(l.quantity * l.unit_price) AS revenue, count(*) AS lines
    FROM invoice_lines AS l
    JOIN invoices AS i ON i.invoice_no = l.invoice_no
    JOIN customers AS c ON c.customer_id = i.customer_id
    GROUP BY c.country
$$) AS country_revenue \g /dev/null

-- Minima and maxima, which a deleted or corrected line may take away.
SELECT projections.create('item_sales', $$
    SELECT l.stock_code, min(i.invoiced_at) AS first_sale, max(i.invoiced_at) AS last_sale,
           max(l.unit_price) AS highest_price
    FROM invoice_lines AS l
    JOIN invoices AS i ON i.invoice_no = l.invoice_no
    GROUP BY l.stock_code
$$) AS item_sales \g /dev/null

-- No aggregate: a row per line, ready to read.
SELECT projections.create('line_details', $$
    SELECT l.line_id, l.invoice_no, i.invoiced_at, i.customer_id, l.stock_code, t.description,
           l.quantity, l.unit_price, l.quantity * l.unit_price AS amount
    FROM invoice_lines AS l
    JOIN invoices AS i ON i.invoice_no = l.invoice_no
    JOIN items AS t ON t.stock_code = l.stock_code
$$) AS line_details \g /dev/null

-- A cascade: the source is another projection. It must agree with country_revenue.
SELECT projections.create('country_revenue_by_customer', $$
    SELECT c.country, sum(r.revenue) AS revenue
    FROM customer_month_revenue AS r
    JOIN customers AS c ON c.customer_id = r.customer_id
    GROUP BY c.country
$$) AS country_revenue_by_customer \g /dev/null
