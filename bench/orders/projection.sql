-- The table that hand-written triggers maintain. The room on its pages keeps updates HOT.

CREATE TABLE projection (
    country text PRIMARY KEY,
    lines   bigint NOT NULL,
    revenue numeric NOT NULL
) WITH (fillfactor = 50);

INSERT INTO projection :definition;
