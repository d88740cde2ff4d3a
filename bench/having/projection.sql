-- The tables that hand-written triggers maintain: all customers' totals, and those above the threshold.

CREATE TABLE totals (
    customer_id int PRIMARY KEY,
    orders      bigint NOT NULL,
    amount      numeric NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE projection (
    customer_id int PRIMARY KEY,
    orders      bigint NOT NULL,
    amount      numeric NOT NULL
) WITH (fillfactor = 50);

INSERT INTO totals SELECT customer_id, count(*), sum(amount) FROM orders GROUP BY customer_id;
INSERT INTO projection :definition;
