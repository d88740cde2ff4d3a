-- The measurements as one Markdown table. A ratio is taken within each round, so that what slows the machine for a while
-- slows both of its sides; shown are the median of the rounds' ratios and, in brackets, the least and the greatest.

\pset format unaligned
\pset fieldsep ' | '
\pset tuples_only on

CREATE TEMP VIEW medians AS
SELECT place, scenario, unit, variant,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY value) AS median,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY retries) AS retries
FROM measured
GROUP BY place, scenario, unit, variant;

-- The better of the hand-written triggers: the higher rate, the shorter time.
CREATE TEMP VIEW best_triggers AS
SELECT DISTINCT ON (scenario) *
FROM medians
WHERE variant IN ('row', 'statement')
ORDER BY scenario, CASE unit WHEN 's' THEN median ELSE -median END;

CREATE TEMP VIEW shown AS
SELECT s.place, s.scenario, s.unit,
       base.median AS base, triggers.median AS triggers, triggers.variant, triggers.retries,
       ours.median AS ours, ours.retries AS our_retries,
       ratios.triggers_to_none, ratios.ours_to_none, ratios.ours_to_triggers, ratios.ours_to_refresh
FROM (SELECT DISTINCT place, scenario, unit FROM measured) AS s
LEFT JOIN medians AS base ON base.scenario = s.scenario AND base.variant = 'none'
LEFT JOIN best_triggers AS triggers ON triggers.scenario = s.scenario
LEFT JOIN medians AS ours ON ours.scenario = s.scenario AND ours.variant = 'ours'
CROSS JOIN LATERAL (
    SELECT array_agg(t.value / n.value) AS triggers_to_none,
           array_agg(o.value / n.value) AS ours_to_none,
           array_agg(o.value / t.value) AS ours_to_triggers,
           array_agg(o.value / v.value) AS ours_to_refresh
    FROM (SELECT DISTINCT round FROM measured) AS r
    LEFT JOIN measured AS n ON (n.scenario, n.variant, n.round) = (s.scenario, 'none', r.round)
    LEFT JOIN measured AS t ON (t.scenario, t.variant, t.round) = (s.scenario, triggers.variant, r.round)
    LEFT JOIN measured AS v ON (v.scenario, v.variant, v.round) = (s.scenario, 'refresh', r.round)
    LEFT JOIN measured AS o ON (o.scenario, o.variant, o.round) = (s.scenario, 'ours', r.round)
) AS ratios;

CREATE FUNCTION pg_temp.amount(value float8, unit text) RETURNS text LANGUAGE sql AS $$
    SELECT coalesce(CASE unit WHEN 's' THEN to_char(value, 'FM990.00') ELSE to_char(value, 'FM999,990') END, '–')
$$;
CREATE FUNCTION pg_temp.ratio(rounds float8[]) RETURNS text LANGUAGE sql AS $$
    SELECT format('%s (%s–%s)', to_char(percentile_cont(0.5) WITHIN GROUP (ORDER BY ratio), 'FM990.00'),
                           to_char(min(ratio), 'FM990.00'), to_char(max(ratio), 'FM990.00'))
    FROM unnest(rounds) AS ratio
    HAVING count(ratio) > 0
    UNION ALL
    SELECT '–' WHERE array_remove(rounds, NULL) = '{}'
$$;
CREATE FUNCTION pg_temp.deadlocks(retries float8) RETURNS text LANGUAGE sql AS $$
    SELECT CASE WHEN retries > 0 THEN format(', %s deadlocks', ceil(retries)) ELSE '' END
$$;

SELECT '| scenario', 'unit', 'none', 'triggers', 'ours', 'triggers ÷ none', 'ours ÷ none', 'ours ÷ triggers', 'ours ÷ refresh |'
UNION ALL
SELECT '| ---', '---', '--:', '--:', '--:', '--:', '--:', '--:', '--: |';
SELECT '| ' || scenario, CASE unit WHEN 's' THEN 's, less is better' ELSE unit END, pg_temp.amount(base, unit),
       pg_temp.amount(triggers, unit) || coalesce(' (' || variant || ')', '')
           || pg_temp.deadlocks(retries),
       pg_temp.amount(ours, unit) || pg_temp.deadlocks(our_retries), pg_temp.ratio(triggers_to_none), pg_temp.ratio(ours_to_none),
       pg_temp.ratio(ours_to_triggers), pg_temp.ratio(ours_to_refresh) || ' |'
FROM shown
ORDER BY place;
