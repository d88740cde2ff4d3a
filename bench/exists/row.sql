-- Hand-written: a trigger per row. Two who remove a customer's last two orders would each see the other's. So who removes an
-- order locks its customer first, and then looks whether another is left, in a statement of its own, which sees what was
-- committed while it waited; who adds one locks him FOR SHARE, as a customer who loses his last order and gets another
-- has to be in. In READ COMMITTED; above, a snapshot is older than the wait.

CREATE FUNCTION order_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM customers WHERE customer_id = NEW.customer_id FOR SHARE;
    INSERT INTO projection SELECT customer_id, name FROM customers WHERE customer_id = NEW.customer_id
    ON CONFLICT (customer_id) DO NOTHING;
    RETURN NULL;
END
$$;

CREATE FUNCTION order_removed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM customers WHERE customer_id = OLD.customer_id FOR NO KEY UPDATE;
    IF NOT EXISTS (SELECT FROM orders WHERE customer_id = OLD.customer_id) THEN
        DELETE FROM projection WHERE customer_id = OLD.customer_id;
    END IF;
    RETURN NULL;
END
$$;

CREATE FUNCTION customer_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE projection SET name = NEW.name WHERE customer_id = NEW.customer_id;
    RETURN NULL;
END
$$;

CREATE TRIGGER added AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION order_added();
CREATE TRIGGER removed AFTER DELETE ON orders FOR EACH ROW EXECUTE FUNCTION order_removed();
CREATE TRIGGER moved_out AFTER UPDATE OF customer_id ON orders FOR EACH ROW
    WHEN (OLD.customer_id <> NEW.customer_id) EXECUTE FUNCTION order_removed();
CREATE TRIGGER moved_in AFTER UPDATE OF customer_id ON orders FOR EACH ROW
    WHEN (OLD.customer_id <> NEW.customer_id) EXECUTE FUNCTION order_added();
-- The foreign key leaves nothing to do where a customer comes, goes or gets another number: he has no orders then.
CREATE TRIGGER changed AFTER UPDATE OF name ON customers FOR EACH ROW
    WHEN (OLD.name <> NEW.name) EXECUTE FUNCTION customer_changed();
