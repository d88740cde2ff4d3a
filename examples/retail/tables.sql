-- The shop's tables, and the staging tables that the replay reads from.

CREATE SCHEMA retail;
SET search_path = retail, public;

CREATE TABLE customers (
    customer_id int PRIMARY KEY,
    country     text NOT NULL
);

CREATE TABLE items (
    stock_code  text PRIMARY KEY,
    description text
);

-- customer_id is NULL where the till took no customer: a seventh of the real invoices.
CREATE TABLE invoices (
    invoice_no  text PRIMARY KEY,
    customer_id int REFERENCES customers,
    invoiced_at timestamp NOT NULL
);
CREATE INDEX ON invoices (customer_id);

-- An item may stand on an invoice twice with the same quantity and price, so a line needs a number of its own.
CREATE TABLE invoice_lines (
    line_id    bigint PRIMARY KEY,
    invoice_no text NOT NULL REFERENCES invoices,
    stock_code text NOT NULL REFERENCES items,
    quantity   int NOT NULL,
    unit_price numeric(12,3) NOT NULL
);
CREATE INDEX ON invoice_lines (invoice_no);
CREATE INDEX ON invoice_lines (stock_code);

-- The file as it comes, one row per line; line_id keeps its order.
CREATE UNLOGGED TABLE staged_lines (
    line_id     bigint GENERATED ALWAYS AS IDENTITY,
    invoice_no  text NOT NULL,
    stock_code  text NOT NULL,
    description text,
    quantity    int NOT NULL,
    invoiced_at timestamp NOT NULL,
    unit_price  numeric(12,3) NOT NULL,
    customer_id int,
    country     text NOT NULL
);
