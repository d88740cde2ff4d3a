-- Hand-written: triggers per statement, with transition tables. The foreign keys leave nothing to do where an invoice or
-- a customer is added or removed: it has no lines then.
--
-- A line must be added to the country that its customer has when both transactions have ended. So who changes a line
-- locks its invoice and its customer FOR SHARE, and who moves an invoice locks the two customers: the one who changes
-- those rows then waits, and reads the lines in a statement that begins after the wait. Invoices are locked in a statement
-- of their own: had an invoice just moved, the same statement would not look up its new customer. And what is joined to a
-- row FOR SHARE is one row per invoice: a UNION ALL of old and new rows in its place came out wrong after a wait.
-- README.md says what this does not protect.

CREATE FUNCTION lines_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM invoices WHERE invoice_id IN (SELECT invoice_id FROM added) ORDER BY invoice_id FOR SHARE;
    WITH located AS MATERIALIZED (
        SELECT c.country, a.quantity * a.price AS revenue
        FROM added AS a
        JOIN invoices AS i ON i.invoice_id = a.invoice_id
        JOIN customers AS c ON c.customer_id = i.customer_id
        ORDER BY c.customer_id FOR SHARE OF c)
    INSERT INTO projection AS p
    SELECT country, count(*), sum(revenue) FROM located GROUP BY country ORDER BY country
    ON CONFLICT (country) DO UPDATE SET lines = p.lines + excluded.lines, revenue = p.revenue + excluded.revenue;
    RETURN NULL;
END
$$;

CREATE FUNCTION lines_removed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM invoices WHERE invoice_id IN (SELECT invoice_id FROM removed) ORDER BY invoice_id FOR SHARE;
    WITH located AS MATERIALIZED (
        SELECT c.country, r.quantity * r.price AS revenue
        FROM removed AS r
        JOIN invoices AS i ON i.invoice_id = r.invoice_id
        JOIN customers AS c ON c.customer_id = i.customer_id
        ORDER BY c.customer_id FOR SHARE OF c)
    INSERT INTO projection AS p
    SELECT country, -count(*), -sum(revenue) FROM located GROUP BY country ORDER BY country
    ON CONFLICT (country) DO UPDATE SET lines = p.lines + excluded.lines, revenue = p.revenue + excluded.revenue;
    DELETE FROM projection WHERE lines = 0;
    RETURN NULL;
END
$$;

CREATE FUNCTION lines_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM invoices
    WHERE invoice_id IN (SELECT invoice_id FROM added UNION ALL SELECT invoice_id FROM removed)
    ORDER BY invoice_id FOR SHARE;
    WITH changed AS MATERIALIZED (
        SELECT invoice_id, sum(sign) AS lines, sum(sign * quantity * price) AS revenue
        FROM (SELECT 1 AS sign, * FROM added UNION ALL SELECT -1, * FROM removed) AS change
        GROUP BY invoice_id
        HAVING (sum(sign), sum(sign * quantity * price)) <> (0, 0)),
    located AS MATERIALIZED (
        SELECT c.country, changed.lines, changed.revenue
        FROM changed
        JOIN invoices AS i ON i.invoice_id = changed.invoice_id
        JOIN customers AS c ON c.customer_id = i.customer_id
        ORDER BY c.customer_id FOR SHARE OF c)
    INSERT INTO projection AS p
    SELECT country, sum(lines), sum(revenue) FROM located GROUP BY country ORDER BY country
    ON CONFLICT (country) DO UPDATE SET lines = p.lines + excluded.lines, revenue = p.revenue + excluded.revenue;
    -- A line that stays on its invoice empties no country.
    IF EXISTS (SELECT FROM removed AS r JOIN added AS a ON a.line_id = r.line_id WHERE a.invoice_id <> r.invoice_id) THEN
        DELETE FROM projection WHERE lines = 0;
    END IF;
    RETURN NULL;
END
$$;

CREATE FUNCTION invoices_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM removed AS r JOIN added AS a ON a.invoice_id = r.invoice_id
                   WHERE a.customer_id <> r.customer_id) THEN
        RETURN NULL;
    END IF;
    PERFORM FROM customers
    WHERE customer_id IN (SELECT customer_id FROM added UNION ALL SELECT customer_id FROM removed)
    ORDER BY customer_id FOR SHARE;
    INSERT INTO projection AS p
    SELECT c.country, sum(sign), sum(sign * l.quantity * l.price)
    FROM (SELECT 1 AS sign, * FROM added UNION ALL SELECT -1, * FROM removed) AS change
    JOIN customers AS c ON c.customer_id = change.customer_id
    JOIN lines AS l ON l.invoice_id = change.invoice_id
    GROUP BY c.country ORDER BY c.country
    ON CONFLICT (country) DO UPDATE SET lines = p.lines + excluded.lines, revenue = p.revenue + excluded.revenue;
    DELETE FROM projection WHERE lines = 0;
    RETURN NULL;
END
$$;

CREATE FUNCTION customers_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    WITH moved AS MATERIALIZED (
        SELECT r.country AS left_country, a.country AS joined_country, count(*) AS lines, sum(l.quantity * l.price) AS revenue
        FROM removed AS r
        JOIN added AS a ON a.customer_id = r.customer_id AND a.country <> r.country
        JOIN invoices AS i ON i.customer_id = r.customer_id
        JOIN lines AS l ON l.invoice_id = i.invoice_id
        GROUP BY r.country, a.country)
    INSERT INTO projection AS p
    SELECT country, sum(lines), sum(revenue)
    FROM (SELECT joined_country AS country, lines, revenue FROM moved
          UNION ALL SELECT left_country, -lines, -revenue FROM moved) AS change
    GROUP BY country ORDER BY country
    ON CONFLICT (country) DO UPDATE SET lines = p.lines + excluded.lines, revenue = p.revenue + excluded.revenue;
    DELETE FROM projection WHERE lines = 0;
    RETURN NULL;
END
$$;

CREATE TRIGGER added AFTER INSERT ON lines REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION lines_added();
CREATE TRIGGER removed AFTER DELETE ON lines REFERENCING OLD TABLE AS removed
    FOR EACH STATEMENT EXECUTE FUNCTION lines_removed();
CREATE TRIGGER changed AFTER UPDATE ON lines REFERENCING OLD TABLE AS removed NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION lines_changed();
CREATE TRIGGER changed AFTER UPDATE ON invoices REFERENCING OLD TABLE AS removed NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION invoices_changed();
CREATE TRIGGER changed AFTER UPDATE ON customers REFERENCING OLD TABLE AS removed NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION customers_changed();
