-- Hand-written: a trigger per row. The foreign key keeps a customer there while he has orders, and an order away from one
-- that has not been committed; so a customer's row of the projection is there whenever an order's trigger looks for it, and
-- its lock keeps apart who counts for the same customer. Two transactions that change several customers' orders in different
-- orders may deadlock.

CREATE FUNCTION order_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE projection SET orders = orders + 1, amount = coalesce(amount + NEW.amount, NEW.amount)
    WHERE customer_id = NEW.customer_id;
    RETURN NULL;
END
$$;

CREATE FUNCTION order_removed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE projection SET orders = orders - 1, amount = CASE WHEN orders > 1 THEN amount - OLD.amount END
    WHERE customer_id = OLD.customer_id;
    RETURN NULL;
END
$$;

CREATE FUNCTION order_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE projection SET amount = amount + NEW.amount - OLD.amount WHERE customer_id = NEW.customer_id;
    RETURN NULL;
END
$$;

CREATE FUNCTION customer_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO projection VALUES (NEW.customer_id, NEW.name, 0, NULL);
    ELSIF TG_OP = 'DELETE' THEN
        DELETE FROM projection WHERE customer_id = OLD.customer_id;
    ELSE
        UPDATE projection SET customer_id = NEW.customer_id, name = NEW.name WHERE customer_id = OLD.customer_id;
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER added AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION order_added();
CREATE TRIGGER removed AFTER DELETE ON orders FOR EACH ROW EXECUTE FUNCTION order_removed();
CREATE TRIGGER changed AFTER UPDATE OF amount ON orders FOR EACH ROW
    WHEN (OLD.customer_id = NEW.customer_id AND OLD.amount <> NEW.amount) EXECUTE FUNCTION order_changed();
CREATE TRIGGER moved_out AFTER UPDATE OF customer_id ON orders FOR EACH ROW
    WHEN (OLD.customer_id <> NEW.customer_id) EXECUTE FUNCTION order_removed();
CREATE TRIGGER moved_in AFTER UPDATE OF customer_id ON orders FOR EACH ROW
    WHEN (OLD.customer_id <> NEW.customer_id) EXECUTE FUNCTION order_added();
CREATE TRIGGER came_or_went AFTER INSERT OR DELETE ON customers FOR EACH ROW EXECUTE FUNCTION customer_changed();
CREATE TRIGGER changed AFTER UPDATE OF customer_id, name ON customers FOR EACH ROW
    WHEN ((OLD.customer_id, OLD.name) <> (NEW.customer_id, NEW.name)) EXECUTE FUNCTION customer_changed();
