-- A join of three: 100,000 lines on 20,000 invoices of 5,000 customers (20 lines each) in 40 countries.

CREATE TABLE customers (
    customer_id int PRIMARY KEY,
    country     text NOT NULL
);

CREATE TABLE invoices (
    invoice_id  int PRIMARY KEY,
    customer_id int NOT NULL REFERENCES customers
);
CREATE INDEX ON invoices (customer_id);

CREATE TABLE lines (
    line_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    invoice_id int NOT NULL REFERENCES invoices,
    quantity   int NOT NULL,
    price      numeric(12,2) NOT NULL
);
CREATE INDEX ON lines (invoice_id);

INSERT INTO customers SELECT n, 'country ' || 1 + n % 40 FROM generate_series(1, 5000) AS n;
INSERT INTO invoices SELECT n, 1 + n % 5000 FROM generate_series(1, 20000) AS n;
INSERT INTO lines (invoice_id, quantity, price)
SELECT 1 + n % 20000, 1 + n % 20, (100 + n % 100000) * 0.01 FROM generate_series(1, 100000) AS n;
