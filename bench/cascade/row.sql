-- Hand-written: a trigger per row, which changes the three levels in turn. Transactions of several orders may deadlock.

CREATE FUNCTION count_order(customer int, land text, more int, paid numeric) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    left_over bigint;
    came int;
BEGIN
    INSERT INTO by_customer AS t VALUES (customer, land, more, paid)
    ON CONFLICT (customer_id, country) DO UPDATE SET orders = t.orders + excluded.orders, amount = t.amount + excluded.amount
    RETURNING orders INTO left_over;
    came := CASE WHEN left_over = 0 THEN -1 WHEN left_over = more THEN 1 ELSE 0 END;
    IF came < 0 THEN
        DELETE FROM by_customer WHERE customer_id = customer AND country = land;
    END IF;
    INSERT INTO by_country AS t VALUES (land, came, more, paid)
    ON CONFLICT (country) DO UPDATE
    SET customers = t.customers + excluded.customers, orders = t.orders + excluded.orders, amount = t.amount + excluded.amount
    RETURNING customers INTO left_over;
    IF left_over = 0 THEN
        DELETE FROM by_country WHERE country = land;
    END IF;
    UPDATE projection
    SET countries = countries + CASE WHEN left_over = 0 THEN -1 WHEN came = 1 AND left_over = 1 THEN 1 ELSE 0 END,
        customers = customers + came, orders = orders + more, amount = amount + paid;
END
$$;

CREATE FUNCTION order_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM count_order(NEW.customer_id, NEW.country, 1, NEW.amount);
    ELSIF TG_OP = 'DELETE' THEN
        PERFORM count_order(OLD.customer_id, OLD.country, -1, -OLD.amount);
    ELSIF (OLD.customer_id, OLD.country) = (NEW.customer_id, NEW.country) THEN
        PERFORM count_order(NEW.customer_id, NEW.country, 0, NEW.amount - OLD.amount);
    ELSE
        PERFORM count_order(OLD.customer_id, OLD.country, -1, -OLD.amount);
        PERFORM count_order(NEW.customer_id, NEW.country, 1, NEW.amount);
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE ON orders FOR EACH ROW EXECUTE FUNCTION order_changed();
