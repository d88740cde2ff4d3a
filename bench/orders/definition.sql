SELECT c.country, count(*) AS lines, sum(l.quantity * l.price) AS revenue
FROM lines AS l
JOIN invoices AS i ON i.invoice_id = l.invoice_id
JOIN customers AS c ON c.customer_id = i.customer_id
GROUP BY c.country
