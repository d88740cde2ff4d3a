-- The tables of Markdown that bench/tpch/run prints.
CREATE VIEW medians AS
    SELECT variant, what, query, percentile_cont(0.5) WITHIN GROUP (ORDER BY ms) AS ms FROM measured GROUP BY 1, 2, 3;

CREATE VIEW rounds AS
    SELECT round,
           sum(ms) FILTER (WHERE variant = 'none' AND what IN ('RF1', 'RF2') AND query = '') AS pair_without,
           sum(ms) FILTER (WHERE variant = 'ours' AND what IN ('RF1', 'RF2')) AS pair,
           sum(ms) FILTER (WHERE what = 'recompute') AS recomputed
    FROM measured GROUP BY round HAVING count(*) FILTER (WHERE variant = 'ours') > 0;

CREATE FUNCTION shown(ms float8) RETURNS text LANGUAGE sql AS $$ SELECT to_char(ms, 'FM999,990.00') $$;

SELECT line FROM (
    SELECT 1 AS place, '| all 22 | without | with |' AS line UNION ALL SELECT 2, '| --- | --: | --: |'
    UNION ALL
    SELECT 2 + row_number() OVER (ORDER BY what), format('| %s, ms | %s | %s |',
        CASE what WHEN 'p50' THEN 'one order with its lines, median' WHEN 'p99' THEN 'one order with its lines, p99'
            WHEN 'RF1' THEN 'RF1: 0.1 % of the orders come' ELSE 'RF2: as many go' END,
        shown(max(ms) FILTER (WHERE variant = 'none')), shown(max(ms) FILTER (WHERE variant = 'ours')))
    FROM medians WHERE query = '' GROUP BY what
    UNION ALL
    SELECT 10, format('| a refresh pair, ms | %s | %s |', shown(percentile_cont(0.5) WITHIN GROUP (ORDER BY pair_without)),
                      shown(percentile_cont(0.5) WITHIN GROUP (ORDER BY pair))) FROM rounds
    UNION ALL
    SELECT 11, format('| computing all 22, ms | | %s |', shown(percentile_cont(0.5) WITHIN GROUP (ORDER BY recomputed))) FROM rounds
    UNION ALL
    SELECT 12, format('| pair ÷ computing all 22 | | %s (%s–%s) |',
                      round(percentile_cont(0.5) WITHIN GROUP (ORDER BY pair / recomputed)::numeric, 3),
                      round(min(pair / recomputed)::numeric, 3), round(max(pair / recomputed)::numeric, 3)) FROM rounds
) AS lines WHERE EXISTS (SELECT FROM rounds) ORDER BY place;
SELECT '' WHERE EXISTS (SELECT FROM rounds);

-- What a query costs alone, beyond the same changes without it, taken in turns with them.
SELECT line FROM (
    SELECT 1 AS place, '| query | one order, ms more | RF1, ms more | RF2, ms more | computing it, ms |' AS line, 0::float8 AS cost
    UNION ALL SELECT 2, '| --- | --: | --: | --: | --: |', 0
    UNION ALL
    SELECT 3, format('| %s | %s | %s | %s | %s |', a.query, shown(p50), shown(rf1), shown(rf2), coalesce(shown(r.ms), '–')), rf1 + rf2
    FROM (SELECT a.query, max(a.ms - n.ms) FILTER (WHERE a.what = 'p50') AS p50, max(a.ms - n.ms) FILTER (WHERE a.what = 'RF1') AS rf1,
                 max(a.ms - n.ms) FILTER (WHERE a.what = 'RF2') AS rf2
          FROM medians AS a JOIN medians AS n ON n.query = 'beside ' || a.query AND n.what = a.what
          WHERE a.variant = 'alone' GROUP BY a.query) AS a
    LEFT JOIN medians AS r ON r.what = 'recompute' AND r.query = a.query
) AS lines WHERE EXISTS (SELECT FROM measured WHERE variant = 'alone') ORDER BY place, cost DESC;
