-- The tables that hand-written triggers maintain: all totals, and those that are asked for.

CREATE TABLE totals (
    customer_id int PRIMARY KEY,
    orders      bigint NOT NULL,
    amount      numeric NOT NULL
) WITH (fillfactor = 50);
CREATE TABLE projection (LIKE totals, PRIMARY KEY (customer_id)) WITH (fillfactor = 50);

INSERT INTO totals SELECT customer_id, count(*), sum(amount) FROM orders GROUP BY customer_id;
INSERT INTO projection :definition;
