-- Hand-written: a trigger per row. An item's totals are locked from the first sale of it to the end of the transaction,
-- in the order in which the transaction comes to its items: two transactions may deadlock.

CREATE FUNCTION sale_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO projection AS p VALUES (NEW.item_id, 1, NEW.quantity, NEW.amount)
    ON CONFLICT (item_id) DO UPDATE
    SET sales = p.sales + 1, quantity = p.quantity + excluded.quantity, amount = p.amount + excluded.amount;
    RETURN NULL;
END
$$;

CREATE FUNCTION sale_removed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE projection
    SET sales = sales - 1, quantity = quantity - OLD.quantity, amount = amount - OLD.amount
    WHERE item_id = OLD.item_id;
    DELETE FROM projection WHERE item_id = OLD.item_id AND sales = 0;
    RETURN NULL;
END
$$;

CREATE FUNCTION sale_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE projection
    SET quantity = quantity + NEW.quantity - OLD.quantity, amount = amount + NEW.amount - OLD.amount
    WHERE item_id = NEW.item_id;
    RETURN NULL;
END
$$;

CREATE TRIGGER added AFTER INSERT ON sales FOR EACH ROW EXECUTE FUNCTION sale_added();
CREATE TRIGGER removed AFTER DELETE ON sales FOR EACH ROW EXECUTE FUNCTION sale_removed();
CREATE TRIGGER changed AFTER UPDATE OF quantity, amount ON sales FOR EACH ROW
    WHEN (OLD.item_id = NEW.item_id AND (OLD.quantity, OLD.amount) IS DISTINCT FROM (NEW.quantity, NEW.amount))
    EXECUTE FUNCTION sale_changed();
CREATE TRIGGER moved_out AFTER UPDATE OF item_id ON sales FOR EACH ROW
    WHEN (OLD.item_id <> NEW.item_id) EXECUTE FUNCTION sale_removed();
CREATE TRIGGER moved_in AFTER UPDATE OF item_id ON sales FOR EACH ROW
    WHEN (OLD.item_id <> NEW.item_id) EXECUTE FUNCTION sale_added();
