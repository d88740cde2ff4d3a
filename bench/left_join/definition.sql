SELECT c.customer_id, c.name, count(o.order_id) AS orders, sum(o.amount) AS amount
FROM customers AS c
LEFT JOIN orders AS o ON o.customer_id = c.customer_id
GROUP BY c.customer_id, c.name
