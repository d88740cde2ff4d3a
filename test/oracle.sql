-- The oracle of every test: a projection is right when its table holds exactly the rows that its definition returns now.
--
--     SELECT * FROM test.oracle('sales');     -- rows missing, rows too many, the strategy in use
--     SELECT test.check('sales');             -- 'equal, algebraic', or an error that shows rows
--     SELECT * FROM test.check_all();
--
-- The definition is read under the session's settings: reset a TimeZone or DateStyle that a test has changed first.

CREATE SCHEMA test;

-- Sums of floats depend on the order of addition; a real adds up in 24 bits only. NaN and the infinities are exact, and
-- numeric because a difference of floats can overflow.
CREATE FUNCTION test.close(a double precision, b double precision, tolerance numeric) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN a IS NOT DISTINCT FROM b THEN true
        WHEN a IS NULL OR b IS NULL THEN false
        WHEN abs(a) < 'Infinity' AND abs(b) < 'Infinity' THEN
            abs(a::numeric - b::numeric) <= tolerance * greatest(abs(a::numeric), abs(b::numeric))
        ELSE false
    END
$$;

-- The columns a user's query returns: how two values are compared, and for floats within which tolerance.
CREATE FUNCTION test.compared_columns(target regclass)
RETURNS TABLE (name text, expression text, tolerance numeric)
LANGUAGE sql STABLE AS $$
    SELECT quote_ident(a.attname),
           -- json, xml and point have no equality
           quote_ident(a.attname) || CASE WHEN comparable.it THEN '' ELSE '::text' END,
           CASE coalesce(nullif(t.typbasetype, 0), t.oid)
               WHEN 'double precision'::regtype THEN 1e-9
               WHEN 'real'::regtype THEN 1e-5
           END
    FROM projections.definitions AS d
    CROSS JOIN unnest(d.columns) WITH ORDINALITY AS c (name, place)
    JOIN pg_attribute AS a ON a.attrelid = d.relation AND a.attname = c.name
    JOIN pg_type AS t ON t.oid = a.atttypid
    CROSS JOIN LATERAL (
        SELECT t.typtype IN ('e', 'r', 'm', 'c') OR t.typcategory = 'A' OR EXISTS (
            SELECT FROM pg_opclass AS o JOIN pg_am AS m ON m.oid = o.opcmethod
            WHERE m.amname = 'btree' AND o.opcdefault
              AND o.opcintype = coalesce(nullif(t.typbasetype, 0), t.oid)
        ) OR t.oid = 'varchar'::regtype AS it
    ) AS comparable
    WHERE d.relation = target
    ORDER BY c.place
$$;

-- Every row that differs, one per copy. Equal rows are taken out first, exactly. Of the rest, a missing and an extra row
-- are a pair when they agree in everything but floats; a pair is no difference if its floats are close. Volatile, like the
-- functions below: a projection is read as a query of the session would read it, after its pending changes.
CREATE FUNCTION test.differences(target regclass)
RETURNS TABLE (problem text, contents jsonb)
LANGUAGE plpgsql AS $$
DECLARE
    definition regclass := (SELECT d.definition FROM projections.definitions AS d WHERE d.relation = target);
    columns text;
    exact text;
    floats text;
    close text;
BEGIN
    IF definition IS NULL THEN
        RAISE EXCEPTION '% is not a projection', target;
    END IF;
    SELECT string_agg(expression || ' AS ' || name, ', '),
           coalesce(string_agg(name || ', ', '') FILTER (WHERE tolerance IS NULL), ''),
           coalesce(string_agg(name, ', ') FILTER (WHERE tolerance IS NOT NULL), 'true'),
           coalesce(string_agg(format('count(%1$s) OVER pair IN (0, 2) AND test.close(min(%1$s) OVER pair, max(%1$s) OVER pair, %2$s)',
                                      name, tolerance), ' AND ')
                    FILTER (WHERE tolerance IS NOT NULL), 'true')
    INTO STRICT columns, exact, floats, close
    FROM test.compared_columns(target);

    RETURN QUERY EXECUTE format($query$
        WITH expected AS MATERIALIZED (SELECT %1$s FROM %5$s),
             found AS MATERIALIZED (SELECT %1$s FROM %6$s),
             different AS (
                 SELECT 'missing' AS "side#", * FROM (SELECT * FROM expected EXCEPT ALL SELECT * FROM found) AS missing
                 UNION ALL
                 SELECT 'extra', * FROM (SELECT * FROM found EXCEPT ALL SELECT * FROM expected) AS extra),
             numbered AS (
                 SELECT *, row_number() OVER (PARTITION BY %2$s "side#" ORDER BY %3$s) AS "pair#" FROM different),
             paired AS (
                 SELECT *, count(*) OVER pair = 2 AND %4$s AS "close#" FROM numbered
                 WINDOW pair AS (PARTITION BY %2$s "pair#"))
        SELECT "side#", to_jsonb(paired) - '{side#,pair#,close#}'::text[] FROM paired WHERE NOT "close#"
    $query$, columns, exact, floats, close, definition, target);
END
$$;

CREATE FUNCTION test.oracle(target regclass)
RETURNS TABLE (projection text, missing bigint, extra bigint, strategy text)
LANGUAGE sql AS $$
    SELECT d.projection,
           count(*) FILTER (WHERE difference.problem = 'missing'),
           count(*) FILTER (WHERE difference.problem = 'extra'),
           d.strategy
    FROM (SELECT) AS one
    LEFT JOIN test.differences(target) AS difference ON true
    LEFT JOIN projections.definitions AS d ON d.relation = target
    GROUP BY d.projection, d.strategy
$$;

CREATE FUNCTION test.check(target regclass) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    missing bigint;
    extra bigint;
    samples text;
BEGIN
    SELECT count(*) FILTER (WHERE problem = 'missing'), count(*) FILTER (WHERE problem = 'extra'),
           string_agg(problem || ' ' || contents, E'\n' ORDER BY contents, problem) FILTER (WHERE number <= 5)
    INTO missing, extra, samples
    FROM (SELECT *, row_number() OVER (PARTITION BY problem ORDER BY contents) AS number
          FROM test.differences(target)) AS numbered;
    IF missing + extra > 0 THEN
        RAISE EXCEPTION 'projection % differs from its definition: % missing, % extra', target, missing, extra
            USING DETAIL = samples;
    END IF;
    RETURN 'equal, ' || (SELECT d.strategy FROM projections.definitions AS d WHERE d.relation = target);
END
$$;

CREATE FUNCTION test.check_all() RETURNS TABLE (projection text, verdict text)
LANGUAGE sql AS $$
    SELECT d.projection, test.check(d.relation) FROM projections.definitions AS d WHERE d.query IS NOT NULL ORDER BY d.projection
$$;
