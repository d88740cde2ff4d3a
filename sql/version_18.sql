-- What PostgreSQL 18 has and older versions have not. It says the same everywhere: where something is missing, nothing is done.
SET client_min_messages = error;
\set SHOW_CONTEXT never
SELECT current_setting('server_version_num')::int >= 180000 AS is_18 \gset
\if :is_18
CREATE EXTENSION btree_gist;
CREATE TABLE prices (item int, valid daterange, price int, twice int GENERATED ALWAYS AS (price * 2) VIRTUAL,
    stored int GENERATED ALWAYS AS (price * 3) STORED, PRIMARY KEY (item, valid WITHOUT OVERLAPS));
INSERT INTO prices (item, valid, price) VALUES (1, '[2025-01-01,2025-06-01)', 5), (1, '[2025-06-01,2026-01-01)', 6), (2, '[2025-01-01,)', 7);
-- A key without overlaps tells rows apart.
SELECT projections.create('p', 'SELECT item, valid, price, stored FROM prices WHERE price > 4') \gset
SELECT projections.create('g', 'SELECT item, count(*) AS n, max(stored) AS most FROM prices GROUP BY item') \gset
\endif
-- A virtual column is computed by queries, and not in the rows that triggers are given.
CREATE FUNCTION refused(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    hint text;
BEGIN
    IF current_setting('server_version_num')::int >= 180000 THEN PERFORM projections.create('v', query); END IF;
    RETURN 'PJ002: Write its expression in the query, or declare the column STORED.';
EXCEPTION WHEN SQLSTATE 'PJ002' THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
    RETURN 'PJ002: ' || hint;
END $$;
SELECT query, refused(query) FROM unnest(ARRAY['SELECT item, twice FROM prices', 'SELECT item, sum(price) AS n FROM prices WHERE twice > 3 GROUP BY item',
    'SELECT item, array_agg(twice) AS a FROM prices GROUP BY item']) AS query;
SELECT to_regclass('v') IS NULL AS none;
\if :is_18
INSERT INTO prices (item, valid, price) VALUES (3, '[2025-01-01,2025-02-01)', 9) RETURNING old.price IS NULL AS nothing, new.price AS price \gset
UPDATE prices SET valid = '[2025-01-01,2025-03-01)', price = price + 1 WHERE item = 3 RETURNING old.price AS price \gset
DELETE FROM prices WHERE item = 1 AND valid @> '2025-01-05'::date;
ALTER TABLE prices ADD CONSTRAINT price_known NOT NULL price;
UPDATE prices SET price = price + 1;
\endif
SELECT coalesce((SELECT bool_and(o.problem IS NULL) FROM projections.definitions d, test.wrong(d.relation) o WHERE d.projection IN ('public.p', 'public.g')), true) AS right;
\if :is_18
SELECT array_agg(d.key ORDER BY 1) = '{{item,valid}}' AS keyed FROM projections.definitions d WHERE d.projection = 'public.p' \gset
\else
\set keyed t
\endif
\echo :keyed
DROP FUNCTION refused;
\if :is_18
SELECT projections.drop('p'), projections.drop('g') \gset
DROP TABLE prices;
DROP EXTENSION btree_gist;
\endif
