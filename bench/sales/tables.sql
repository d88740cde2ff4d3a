-- One source: 100,000 sales of 1,000 items.

CREATE TABLE sales (
    sale_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    item_id  int NOT NULL,
    quantity int NOT NULL,
    amount   numeric(12,2) NOT NULL
);

INSERT INTO sales (item_id, quantity, amount)
SELECT item_id, quantity, amount FROM staged.sales LIMIT 100000;
