-- The measurements as one Markdown table. Shown are medians, and in brackets the least and the greatest. A ratio is taken
-- within each round.

\pset format unaligned
\pset fieldsep ' | '
\pset tuples_only on

CREATE FUNCTION pg_temp.amount(value float8) RETURNS text LANGUAGE sql AS $$
    SELECT to_char(value, CASE WHEN value >= 100 THEN 'FM999,999,999' ELSE 'FM990.0' END)
$$;
CREATE FUNCTION pg_temp.range(rounds float8[], pattern text) RETURNS text LANGUAGE sql AS $$
    SELECT coalesce((SELECT format('%s (%s–%s)', to_char(percentile_cont(0.5) WITHIN GROUP (ORDER BY r), pattern), to_char(min(r), pattern), to_char(max(r), pattern))
                     FROM unnest(rounds) AS r HAVING count(r) > 0), '–')
$$;

SELECT '| what', 'unit', 'median', 'least', 'greatest', 'compared with', 'ratio |'
UNION ALL
SELECT '| ---', '---', '--:', '--:', '--:', '--:', '--: |';
SELECT '| ' || o.scenario, o.unit,
       pg_temp.amount(percentile_cont(0.5) WITHIN GROUP (ORDER BY o.value)), pg_temp.amount(min(o.value)), pg_temp.amount(max(o.value)),
       coalesce(pg_temp.amount(percentile_cont(0.5) WITHIN GROUP (ORDER BY b.value)), '–'),
       pg_temp.range(array_agg(o.value / b.value), 'FM990.00') || ' |'
FROM measured AS o LEFT JOIN measured AS b ON b.place = o.place AND b.round = o.round AND b.variant = 'base'
WHERE o.variant = 'ours'
GROUP BY o.place, o.scenario, o.unit
ORDER BY o.place;
