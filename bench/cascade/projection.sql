-- The tables that hand-written triggers maintain. The room on their pages keeps updates HOT.

CREATE TABLE by_customer (
    customer_id int,
    country     text,
    orders      bigint NOT NULL,
    amount      numeric NOT NULL,
    PRIMARY KEY (customer_id, country)
) WITH (fillfactor = 50);

CREATE TABLE by_country (
    country   text PRIMARY KEY,
    customers bigint NOT NULL,
    orders    bigint NOT NULL,
    amount    numeric NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE projection (
    countries bigint NOT NULL,
    customers bigint NOT NULL,
    orders    bigint NOT NULL,
    amount    numeric NOT NULL
) WITH (fillfactor = 50);

INSERT INTO by_customer SELECT customer_id, country, count(*), sum(amount) FROM orders GROUP BY customer_id, country;
INSERT INTO by_country SELECT country, count(*), sum(orders), sum(amount) FROM by_customer GROUP BY country;
INSERT INTO projection :definition;
