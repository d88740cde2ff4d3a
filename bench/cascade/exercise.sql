-- Every kind of change, small: customers and countries that appear, move and vanish.

INSERT INTO orders (customer_id, country, amount) VALUES (2001, 'country 40', 1.50), (2001, 'country 40', 2.50), (2002, 'country 1', 3.50), (1, 'country 1', 4.50);
UPDATE orders SET amount = amount + 0.01 WHERE customer_id IN (1, 2, 41);
UPDATE orders SET customer_id = 2003, country = 'country 41' WHERE customer_id = 2001;
DELETE FROM orders WHERE customer_id IN (2002, 20) OR customer_id = 30 AND amount > 500;
DELETE FROM orders WHERE customer_id = 2003;
