-- Compares every projection in schema retail with its query, computed anew: rows that are missing, rows too many.
-- Fails on any difference, and unless :projections projections are maintained by algebra, as all of these queries can
-- be. With :summary only counts are printed.

\set ON_ERROR_STOP on

-- One snapshot for both sides: a commit between them would look like a difference.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SET LOCAL search_path = retail, public;
SET LOCAL work_mem = '128MB';

CREATE TEMP TABLE verdicts (projection text, strategy text, rows bigint, missing bigint, extra bigint) ON COMMIT DROP;

DO $$
DECLARE
    declared record;
    columns text;
BEGIN
    FOR declared IN
        SELECT d.*
        FROM projections.definitions AS d JOIN pg_class AS c ON c.oid = d.relation
        WHERE c.relnamespace = 'retail'::regnamespace
        ORDER BY d.projection
    LOOP
        SELECT string_agg(quote_ident(name), ', ' ORDER BY ordinality) INTO columns
        FROM unnest(declared.columns) WITH ORDINALITY AS output (name, ordinality);

        EXECUTE format($query$
            WITH expected AS MATERIALIZED (SELECT * FROM (%2$s) AS definition (%1$s)),
                 found AS MATERIALIZED (SELECT %1$s FROM %3$s)
            INSERT INTO verdicts
            SELECT %4$L, %5$L,
                   (SELECT count(*) FROM found),
                   (SELECT count(*) FROM (TABLE expected EXCEPT ALL TABLE found) AS missing),
                   (SELECT count(*) FROM (TABLE found EXCEPT ALL TABLE expected) AS extra)
            $query$, columns, rtrim(declared.query, E'; \n'), declared.relation, declared.projection, declared.strategy);
    END LOOP;
END $$;

-- The cascade and the join of three tables are two ways to one figure.
INSERT INTO verdicts
SELECT 'both revenues per country', '', count(*),
       count(*) FILTER (WHERE c.revenue IS NULL),
       count(*) FILTER (WHERE c.revenue IS NOT NULL AND c.revenue IS DISTINCT FROM r.revenue)
FROM country_revenue AS r FULL JOIN country_revenue_by_customer AS c USING (country);

SELECT count(*) FILTER (WHERE strategy = 'algebraic') AS compared,
       count(*) FILTER (WHERE missing + extra > 0) AS differing,
       count(*) FILTER (WHERE missing + extra > 0) > 0 OR :{?summary} IS NOT TRUE AS in_full
FROM verdicts \gset
\if :in_full
    SELECT projection, strategy, rows, missing, extra, CASE WHEN missing + extra = 0 THEN 'equal' ELSE 'DIFFERENT' END AS verdict
    FROM verdicts
    ORDER BY strategy = '', projection;
\else
    \echo '   ' oracle: :compared of :projections projections equal their queries
\endif

SELECT :compared = :projections AND :differing = 0 AS good \gset
\if :good
    COMMIT;
\else
    \warn oracle: :compared of :projections algebraic projections compared, :differing comparisons different
    ROLLBACK;
    DO $$ BEGIN RAISE EXCEPTION 'the projections are not all equal to their queries'; END $$;
\endif
