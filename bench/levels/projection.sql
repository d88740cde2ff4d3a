-- The tables that hand-written triggers maintain, one for each level.

CREATE TABLE spending (
    customer_id int PRIMARY KEY,
    region      int NOT NULL,
    orders      bigint NOT NULL,
    amount      numeric NOT NULL
) WITH (fillfactor = 50);
CREATE TABLE regional (
    region    int PRIMARY KEY,
    customers bigint NOT NULL,
    amount    numeric NOT NULL
) WITH (fillfactor = 50);
CREATE TABLE projection (
    customers bigint PRIMARY KEY,
    regions   bigint NOT NULL,
    amount    numeric NOT NULL
) WITH (fillfactor = 50);

INSERT INTO spending
SELECT customer_id, region, count(*), sum(amount) FROM orders JOIN customers USING (customer_id) GROUP BY customer_id, region;
INSERT INTO regional SELECT region, count(*), sum(amount) FROM spending WHERE amount > 700 GROUP BY region;
INSERT INTO projection :definition;
