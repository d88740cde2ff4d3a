-- The oracle of every test: a projection is right when its table holds exactly the rows that its definition returns now.
--
--     SELECT * FROM test.oracle('sales');     -- rows missing, rows too many, the strategy in use
--     SELECT test.check('sales');             -- 'equal, algebraic', or an error that shows rows
--     SELECT * FROM test.check_all();         -- how many are equal, or an error that tells of each that is not
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
-- functions below: a projection is read as a query of the session would read it, after its pending changes. With `written`,
-- from that query: what the compiler has made of a query that has parts is what definitions shows.
CREATE FUNCTION test.differences(target regclass, written text DEFAULT NULL)
RETURNS TABLE (problem text, contents jsonb)
LANGUAGE plpgsql AS $$
DECLARE
    -- What has parts has a definition that reads them: their query, too, is what the user wrote.
    definition text := (
        SELECT CASE WHEN EXISTS (SELECT FROM pg_rewrite AS r
                                 JOIN pg_depend AS x ON x.classid = 'pg_rewrite'::regclass AND x.objid = r.oid
                                 JOIN pg_class AS c ON x.refclassid = 'pg_class'::regclass AND c.oid = x.refobjid
                                 WHERE r.ev_class = d.definition AND c.relkind = 'r'
                                   AND c.relnamespace = to_regnamespace('projections_internal'))
                    THEN format('(%s) AS definition', d.query) ELSE d.definition::text END
        FROM projections.definitions AS d WHERE d.relation = target);
    columns text;
    exact text;
    floats text;
    close text;
BEGIN
    IF definition IS NULL THEN
        RAISE EXCEPTION '% is not a projection', target;
    END IF;
    definition := CASE WHEN written IS NULL THEN definition ELSE format(E'(%s\n) AS definition', written) END;
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

-- What is wrong with a projection, with five of the rows that differ; NULL where nothing is.
CREATE FUNCTION test.wrong(target regclass, written text DEFAULT NULL, OUT problem text, OUT samples text)
LANGUAGE plpgsql AS $$
DECLARE
    missing bigint;
    extra bigint;
BEGIN
    SELECT count(*) FILTER (WHERE d.problem = 'missing'), count(*) FILTER (WHERE d.problem = 'extra'),
           string_agg(d.problem || ' ' || d.contents, E'\n' ORDER BY d.contents, d.problem) FILTER (WHERE d.number <= 5)
    INTO missing, extra, samples
    FROM (SELECT *, row_number() OVER (PARTITION BY e.problem ORDER BY e.contents) AS number
          FROM test.differences(target, written) AS e) AS d;
    IF missing + extra > 0 THEN
        problem := format('projection %s differs from its definition: %s missing, %s extra', target, missing, extra);
    END IF;
END
$$;

-- Of the queries in a test's table kinds (number, query), each of which is the projection inline_<number>, and every third
-- async_<number> too, which is brought up to date first: what differs. Without `later`, of the inline ones.
CREATE FUNCTION test.differing(later boolean DEFAULT true) RETURNS TABLE (number int, mode text, problem text, contents jsonb) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM projections.catch_up('async_' || k.number) FROM kinds AS k WHERE later AND k.number % 3 = 1;
    RETURN QUERY SELECT k.number, m.mode, d.* FROM kinds AS k, (VALUES ('inline'), ('async')) AS m(mode),
        test.differences(to_regclass(m.mode || '_' || k.number), k.query) AS d
    WHERE m.mode = 'inline' OR (later AND k.number % 3 = 1) ORDER BY 1, 2, 3;
END
$$;

CREATE FUNCTION test.check(target regclass) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    wrong record := test.wrong(target);
BEGIN
    IF wrong.problem IS NOT NULL THEN
        RAISE EXCEPTION '%', wrong.problem USING DETAIL = wrong.samples;
    END IF;
    RETURN 'equal, ' || (SELECT d.strategy FROM projections.definitions AS d WHERE d.relation = target);
END
$$;

-- Every query projection whose name is like that: how many there are, and in which strategies. An error that tells of
-- each that is wrong.
CREATE FUNCTION test.check_all(named text DEFAULT '%', OUT equal bigint, OUT strategies text)
LANGUAGE plpgsql AS $$
DECLARE
    target regclass;
    wrong record;
    problems text[];
    samples text[];
BEGIN
    SELECT count(*), string_agg(DISTINCT d.strategy, ', ' ORDER BY d.strategy) INTO equal, strategies
    FROM projections.definitions AS d WHERE d.query IS NOT NULL AND d.projection LIKE named;
    FOR target IN
        SELECT d.relation FROM projections.definitions AS d
        WHERE d.query IS NOT NULL AND d.projection LIKE named ORDER BY d.projection
    LOOP
        wrong := test.wrong(target);
        CONTINUE WHEN wrong.problem IS NULL;
        problems := problems || wrong.problem;
        samples := samples || wrong.samples;
    END LOOP;
    IF problems IS NOT NULL THEN
        RAISE EXCEPTION '%', array_to_string(problems, '; ') USING DETAIL = array_to_string(samples, E'\n');
    END IF;
END
$$;
