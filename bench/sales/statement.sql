-- Hand-written: a trigger per statement, with transition tables. Within a statement the items are locked in order;
-- transactions of several statements may deadlock as with a trigger per row.

CREATE FUNCTION sales_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO projection AS p
    SELECT item_id, count(*), sum(quantity), sum(amount) FROM added GROUP BY item_id ORDER BY item_id
    ON CONFLICT (item_id) DO UPDATE
    SET sales = p.sales + excluded.sales, quantity = p.quantity + excluded.quantity, amount = p.amount + excluded.amount;
    RETURN NULL;
END
$$;

CREATE FUNCTION sales_removed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO projection AS p
    SELECT item_id, -count(*), -sum(quantity), -sum(amount) FROM removed GROUP BY item_id ORDER BY item_id
    ON CONFLICT (item_id) DO UPDATE
    SET sales = p.sales + excluded.sales, quantity = p.quantity + excluded.quantity, amount = p.amount + excluded.amount;
    DELETE FROM projection WHERE sales = 0 AND item_id IN (SELECT item_id FROM removed);
    RETURN NULL;
END
$$;

CREATE FUNCTION sales_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO projection AS p
    SELECT item_id, sum(sign), sum(sign * quantity), sum(sign * amount)
    FROM (SELECT 1 AS sign, * FROM added UNION ALL SELECT -1, * FROM removed) AS change
    GROUP BY item_id
    HAVING (sum(sign), sum(sign * quantity), sum(sign * amount)) <> (0, 0, 0)
    ORDER BY item_id
    ON CONFLICT (item_id) DO UPDATE
    SET sales = p.sales + excluded.sales, quantity = p.quantity + excluded.quantity, amount = p.amount + excluded.amount;
    DELETE FROM projection WHERE sales = 0 AND item_id IN (SELECT item_id FROM removed);
    RETURN NULL;
END
$$;

CREATE TRIGGER added AFTER INSERT ON sales REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION sales_added();
CREATE TRIGGER removed AFTER DELETE ON sales REFERENCING OLD TABLE AS removed
    FOR EACH STATEMENT EXECUTE FUNCTION sales_removed();
CREATE TRIGGER changed AFTER UPDATE ON sales REFERENCING OLD TABLE AS removed NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION sales_changed();
