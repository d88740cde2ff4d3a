-- Every kind of change to each of the three tables, small: groups that appear, move and vanish.

INSERT INTO customers VALUES (5001, 'country 41'), (5002, 'country 42');
INSERT INTO invoices VALUES (20001, 5001), (20002, 5002);
INSERT INTO lines (invoice_id, quantity, price) VALUES (20001, 1, 1.50), (20001, 2, 2.50), (20002, 3, 3.50), (1, 4, 4.50);
UPDATE lines SET price = price + 0.01, quantity = quantity + 1 WHERE invoice_id IN (3, 20001);
UPDATE lines SET invoice_id = 5 WHERE invoice_id IN (4, 20002);
UPDATE invoices SET customer_id = customer_id + 1 WHERE invoice_id BETWEEN 100 AND 110;
UPDATE customers SET country = 'country 43' WHERE customer_id IN (1, 2, 5001);
UPDATE customers SET country = 'country 2' WHERE country = 'country 7';
DELETE FROM lines WHERE invoice_id IN (20001, 50, 51);
DELETE FROM invoices WHERE invoice_id IN (20001, 20002);
DELETE FROM customers WHERE customer_id IN (5001, 5002);
