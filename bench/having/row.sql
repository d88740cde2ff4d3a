-- Hand-written: a trigger per row. A customer's totals are locked from his first order to the end of the transaction, and
-- with them his row in the projection. Transactions of several orders may deadlock.

CREATE FUNCTION count_order(customer int, more int, paid numeric) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    now totals;
BEGIN
    INSERT INTO totals AS t VALUES (customer, more, paid)
    ON CONFLICT (customer_id) DO UPDATE SET orders = t.orders + excluded.orders, amount = t.amount + excluded.amount
    RETURNING * INTO now;
    IF now.orders = 0 THEN
        DELETE FROM totals WHERE customer_id = customer;
    END IF;
    IF now.orders > 0 AND now.amount > 50000 THEN
        INSERT INTO projection VALUES (now.*)
        ON CONFLICT (customer_id) DO UPDATE SET orders = excluded.orders, amount = excluded.amount;
    ELSE
        DELETE FROM projection WHERE customer_id = customer;
    END IF;
END
$$;

CREATE FUNCTION order_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM count_order(NEW.customer_id, 1, NEW.amount);
    ELSIF TG_OP = 'DELETE' THEN
        PERFORM count_order(OLD.customer_id, -1, -OLD.amount);
    ELSIF OLD.customer_id = NEW.customer_id THEN
        PERFORM count_order(NEW.customer_id, 0, NEW.amount - OLD.amount);
    ELSE
        PERFORM count_order(OLD.customer_id, -1, -OLD.amount);
        PERFORM count_order(NEW.customer_id, 1, NEW.amount);
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE ON orders FOR EACH ROW EXECUTE FUNCTION order_changed();
