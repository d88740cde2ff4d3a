-- Every kind of change, small: first orders and last ones, customers that come, change and go.

INSERT INTO customers VALUES (20001, 1, 'new'), (20002, 200, 'newer');
INSERT INTO orders (customer_id, amount) VALUES (20001, 1.50), (20001, 900), (20002, 5000), (8001, 2.50), (1, 900);
UPDATE orders SET amount = amount + 100 WHERE customer_id IN (2, 3, 20001);
UPDATE orders SET customer_id = 9000 WHERE customer_id IN (4, 20002);
UPDATE customers SET name = 'renamed' WHERE customer_id IN (5, 20001, 9500);
DELETE FROM orders WHERE customer_id IN (6, 7, 20001);
DELETE FROM orders WHERE order_id IN (SELECT min(order_id) FROM orders WHERE customer_id IN (8, 9) GROUP BY customer_id);
DELETE FROM customers WHERE customer_id IN (20001, 20002, 9999);
