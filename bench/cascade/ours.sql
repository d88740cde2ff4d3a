-- Three levels, of which the last is compared with the definition over the orders.

SELECT projections.create('by_customer', 'SELECT customer_id, country, count(*) AS orders, sum(amount) AS amount FROM orders GROUP BY customer_id, country');
SELECT projections.create('by_country', 'SELECT country, count(*) AS customers, sum(orders) AS orders, sum(amount) AS amount FROM by_customer GROUP BY country');
SELECT projections.create('projection', 'SELECT count(*) AS countries, sum(customers) AS customers, sum(orders) AS orders, sum(amount) AS amount FROM by_country');
