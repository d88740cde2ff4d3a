-- The table that hand-written triggers maintain. The room on its pages keeps updates HOT.

CREATE TABLE projection (
    customer_id int PRIMARY KEY,
    name        text NOT NULL,
    orders      bigint NOT NULL,
    amount      numeric
) WITH (fillfactor = 50);

INSERT INTO projection :definition;
