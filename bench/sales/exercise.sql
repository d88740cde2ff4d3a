-- Every kind of change, small: groups that appear, move and vanish.

INSERT INTO sales (item_id, quantity, amount) VALUES (1001, 1, 1.50), (1001, 2, 2.50), (1002, 3, 3.50), (1, 4, 4.50);
UPDATE sales SET quantity = quantity + 1, amount = amount + 0.01 WHERE item_id = 2;
UPDATE sales SET item_id = 1003 WHERE item_id = 1001;
UPDATE sales SET item_id = item_id + 1 WHERE item_id BETWEEN 10 AND 12;
DELETE FROM sales WHERE item_id IN (1002, 20) OR item_id = 30 AND quantity > 10;
