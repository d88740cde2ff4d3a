-- Hand-written: a trigger per row. The lock on a customer's totals keeps apart who shows them.

CREATE FUNCTION add_up(customer int, added int, change numeric) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    total totals;
BEGIN
    INSERT INTO totals AS t VALUES (customer, added, change)
    ON CONFLICT (customer_id) DO UPDATE SET orders = t.orders + excluded.orders, amount = t.amount + excluded.amount
    RETURNING * INTO total;
    IF total.amount > 700 AND total.orders > 0 THEN
        INSERT INTO projection VALUES (total.customer_id, total.orders, total.amount)
        ON CONFLICT (customer_id) DO UPDATE SET orders = excluded.orders, amount = excluded.amount;
    ELSE
        DELETE FROM projection WHERE customer_id = customer;
    END IF;
    IF total.orders = 0 THEN
        DELETE FROM totals WHERE customer_id = customer;
    END IF;
END
$$;

CREATE FUNCTION order_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM add_up(NEW.customer_id, 1, NEW.amount);
    ELSIF TG_OP = 'DELETE' THEN
        PERFORM add_up(OLD.customer_id, -1, -OLD.amount);
    ELSIF OLD.customer_id = NEW.customer_id THEN
        PERFORM add_up(NEW.customer_id, 0, NEW.amount - OLD.amount);
    ELSE
        PERFORM add_up(OLD.customer_id, -1, -OLD.amount);
        PERFORM add_up(NEW.customer_id, 1, NEW.amount);
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER changed AFTER INSERT OR DELETE OR UPDATE OF customer_id, amount ON orders FOR EACH ROW
    EXECUTE FUNCTION order_changed();
