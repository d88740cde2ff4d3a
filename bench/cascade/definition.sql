SELECT count(DISTINCT country) AS countries, count(DISTINCT customer_id) AS customers, count(*) AS orders, sum(amount) AS amount
FROM orders
