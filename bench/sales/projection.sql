-- The table that hand-written triggers maintain. The room on its pages keeps updates HOT.

CREATE TABLE projection (
    item_id  int PRIMARY KEY,
    sales    bigint NOT NULL,
    quantity bigint NOT NULL,
    amount   numeric NOT NULL
) WITH (fillfactor = 50);

INSERT INTO projection :definition;
