-- Rows and bytes of the shop's tables and of the projections that read them.

SELECT string_agg(
           format('SELECT %1$L AS kind, %2$L AS name, count(*) AS rows, pg_table_size(%3$s) AS table_bytes, '
                  'pg_indexes_size(%3$s) AS index_bytes, pg_size_pretty(pg_total_relation_size(%3$s)) AS total '
                  'FROM %4$s',
                  CASE WHEN d.relation IS NULL THEN 'table' ELSE 'projection' END, c.relname, c.oid, c.oid::regclass),
           ' UNION ALL ') || ' ORDER BY kind DESC, name'
FROM pg_class AS c LEFT JOIN projections.definitions AS d ON d.relation = c.oid
WHERE c.relnamespace = 'retail'::regnamespace AND c.relkind = 'r' AND c.relpersistence = 'p' \gexec
