SELECT r.customers, count(*) AS regions, sum(r.amount) AS amount
FROM (SELECT c.region, count(*) AS customers, sum(s.amount) AS amount
      FROM customers AS c
      JOIN (SELECT customer_id, sum(amount) AS amount FROM orders GROUP BY customer_id) AS s ON s.customer_id = c.customer_id
      WHERE s.amount > 700
      GROUP BY c.region) AS r
GROUP BY r.customers
