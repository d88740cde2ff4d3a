-- One table: milliseconds as p50 / p99, and what the projection's p50 is beside the others'.
\pset footer off

CREATE FUNCTION pg_temp.shown(milliseconds double precision) RETURNS text LANGUAGE sql AS $$
    SELECT round(milliseconds::numeric, CASE WHEN milliseconds < 10 THEN 2 WHEN milliseconds < 100 THEN 1 ELSE 0 END)::text
$$;

WITH measured AS (
    SELECT step, change, lane, count(*) AS times,
           1000 * percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) AS p50,
           1000 * percentile_cont(0.99) WITHIN GROUP (ORDER BY seconds) AS p99,
           percentile_disc(0.5) WITHIN GROUP (ORDER BY blocks) AS blocks
    FROM documents.latencies GROUP BY step, change, lane),
refreshed AS (
    SELECT change AS name, p50 FROM measured WHERE lane = 'refresh'),
steps AS (
    SELECT m.step, m.change, max(m.times) AS times,
           max(p50) FILTER (WHERE lane = 'documents_plain') AS plain,
           max(p50) FILTER (WHERE lane = 'documents_trigger') AS by_trigger,
           max(p50) FILTER (WHERE lane = 'documents_projection') AS projection,
           max(blocks) FILTER (WHERE lane = 'documents_plain') AS plain_blocks,
           max(blocks) FILTER (WHERE lane = 'documents_trigger') AS trigger_blocks,
           max(blocks) FILTER (WHERE lane = 'documents_projection') AS projection_blocks,
           max(blocks) FILTER (WHERE lane = 'unindexed') AS unindexed_blocks,
           jsonb_object_agg(lane, pg_temp.shown(p50) || ' / ' || pg_temp.shown(p99)) AS both
    FROM measured AS m WHERE lane <> 'refresh' GROUP BY m.step, m.change)
SELECT s.change, s.times,
       s.both ->> 'documents_plain' AS "nothing",
       s.both ->> 'documents_trigger' AS "trigger",
       s.both ->> 'documents_projection' AS "projection",
       coalesce(s.both ->> 'unindexed', '') AS "without indexes",
       pg_temp.shown(r.p50) AS "REFRESH",
       round((s.projection / s.plain)::numeric, 1) AS "× nothing",
       round((s.projection / s.by_trigger)::numeric, 2) AS "× trigger",
       concat_ws(' ', s.plain_blocks, s.trigger_blocks, s.projection_blocks, s.unindexed_blocks) AS "blocks"
FROM steps AS s
JOIN refreshed AS r ON r.name = CASE WHEN s.change ~ 'review' THEN 'tv_product' ELSE 'tv_post' END
ORDER BY s.step;

\echo 'nothing: the change alone, and no documents; * with one UPDATE of the document, made by hand. trigger: a careful one of one''s'
\echo 'own (trigger.sql). REFRESH: of the materialized view, all documents. blocks: of 8 kB that a change touches, with nothing,'
\echo 'by the trigger, by the projection, by the projection without indexes.'
