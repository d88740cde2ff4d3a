SELECT item_id, count(*) AS sales, sum(quantity) AS quantity, sum(amount) AS amount
FROM sales
GROUP BY item_id
