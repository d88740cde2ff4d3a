-- Hand-written: a trigger per row at each level. What a level's row was and is, its lock says, so each level follows the one
-- below as that changes. Customers keep their region here (a trigger on them would have to lock them against the orders
-- that are added); two transactions that change several customers may deadlock at the levels above.

CREATE FUNCTION order_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        UPDATE spending SET orders = orders - 1, amount = amount - OLD.amount WHERE customer_id = OLD.customer_id;
        DELETE FROM spending WHERE customer_id = OLD.customer_id AND orders = 0;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO spending AS s
        SELECT customer_id, region, 1, NEW.amount FROM customers WHERE customer_id = NEW.customer_id
        ON CONFLICT (customer_id) DO UPDATE SET orders = s.orders + 1, amount = s.amount + excluded.amount;
    END IF;
    RETURN NULL;
END
$$;

CREATE FUNCTION spending_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    was boolean := TG_OP <> 'INSERT' AND OLD.amount > 700;
    is_now boolean := TG_OP <> 'DELETE' AND NEW.amount > 700;
    change numeric := 0;
    customers_change int := is_now::int - was::int;
    place int;
BEGIN
    IF was THEN change := change - OLD.amount; place := OLD.region; END IF;
    IF is_now THEN change := change + NEW.amount; place := NEW.region; END IF;
    IF NOT was AND NOT is_now THEN RETURN NULL; END IF;
    INSERT INTO regional AS r VALUES (place, customers_change, change)
    ON CONFLICT (region) DO UPDATE SET customers = r.customers + excluded.customers, amount = r.amount + excluded.amount;
    DELETE FROM regional WHERE region = place AND customers = 0;
    RETURN NULL;
END
$$;

CREATE FUNCTION regional_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.customers = NEW.customers THEN
        UPDATE projection SET amount = amount + NEW.amount - OLD.amount WHERE customers = NEW.customers;
        RETURN NULL;
    END IF;
    IF TG_OP <> 'INSERT' AND OLD.customers > 0 THEN
        UPDATE projection SET regions = regions - 1, amount = amount - OLD.amount WHERE customers = OLD.customers;
        DELETE FROM projection WHERE customers = OLD.customers AND regions = 0;
    END IF;
    IF TG_OP <> 'DELETE' AND NEW.customers > 0 THEN
        INSERT INTO projection AS p VALUES (NEW.customers, 1, NEW.amount)
        ON CONFLICT (customers) DO UPDATE SET regions = p.regions + 1, amount = p.amount + excluded.amount;
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE ON orders FOR EACH ROW EXECUTE FUNCTION order_changed();
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE ON spending FOR EACH ROW EXECUTE FUNCTION spending_changed();
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE ON regional FOR EACH ROW EXECUTE FUNCTION regional_changed();
