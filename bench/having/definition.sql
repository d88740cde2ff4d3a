SELECT customer_id, count(*) AS orders, sum(amount) AS amount
FROM orders
GROUP BY customer_id
HAVING sum(amount) > 50000
