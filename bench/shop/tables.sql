-- 100,000 orders of 10,000 customers in 100 regions; every fourth customer has none.

CREATE TABLE customers (
    customer_id int PRIMARY KEY,
    region      int NOT NULL,
    name        text NOT NULL
);
INSERT INTO customers SELECT n, n % 100, 'customer ' || n FROM generate_series(1, 10000) AS n;

CREATE TABLE orders (
    order_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id int NOT NULL REFERENCES customers,
    amount      numeric(12,2) NOT NULL
);
CREATE INDEX ON orders (customer_id);
INSERT INTO orders (customer_id, amount)
SELECT 1 + n % 7500, (100 + n % 10000) * 0.01 FROM generate_series(1, 100000) AS n;
