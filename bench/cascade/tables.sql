-- 100,000 orders of 1,000 customers in 40 countries.

CREATE TABLE orders (
    order_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id int NOT NULL,
    country     text NOT NULL,
    amount      numeric(12,2) NOT NULL
);

INSERT INTO orders (customer_id, country, amount)
SELECT item_id, 'country ' || item_id % 40, amount FROM staged.sales LIMIT 100000;
