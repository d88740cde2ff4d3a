SELECT c.customer_id, c.name
FROM customers AS c
WHERE EXISTS (SELECT FROM orders AS o WHERE o.customer_id = c.customer_id)
