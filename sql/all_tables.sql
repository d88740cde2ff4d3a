-- A publication of all tables has the extension's own, too, and refuses to delete from a table without an identity.
\set VERBOSITY terse
SET client_min_messages = error;
CREATE SCHEMA published;
SET search_path = published, public;
CREATE PUBLICATION everything FOR ALL TABLES;
CREATE TABLE event (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, k int, v int);
SELECT projections.register_source('published.event', position_column => 'position');
CREATE TABLE item (id int PRIMARY KEY, k int, v int);
SELECT projections.create('published.totals', 'SELECT k, sum(v) AS v FROM published.item GROUP BY k');
SELECT projections.create('published.extremes', 'SELECT k, max(v) AS v FROM published.item GROUP BY k', mode => 'async');
SELECT projections.create('published.counts', 'SELECT k, count(*) AS n FROM published.event GROUP BY k', mode => 'async');
CREATE FUNCTION last(state jsonb, e event, key text) RETURNS jsonb LANGUAGE sql IMMUTABLE AS 'SELECT to_jsonb(e.v)';
SELECT projections.create_reducer('published.latest', 'published.event', 'k::text', 'published.last(jsonb, published.event, text)', mode => 'inline');
INSERT INTO item SELECT i, i % 3, i FROM generate_series(1, 9) AS i;
INSERT INTO event (k, v) SELECT i % 3, i FROM generate_series(1, 9) AS i;
SELECT projections.pause('published.totals', 'published');
UPDATE item SET v = v + 1;

-- Ours, hidden ones included, and the projections: all can be deleted from.
SELECT c.oid::regclass AS without_identity FROM pg_class c
WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND c.relnamespace IN ('projections'::regnamespace, 'projections_internal'::regnamespace, 'published'::regnamespace)
  AND NOT (c.relreplident = 'f' OR EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND (i.indisprimary OR i.indisreplident)))
ORDER BY 1;

SELECT projections.resume('published.totals');
DELETE FROM item WHERE id > 5;
SELECT projections.catch_up('published.extremes') > 0 AS applied;
SELECT projections.catch_up('published.counts') > 0 AS applied;
SELECT projections.create_subscription('reader', 'published.event');
SELECT count(*) FROM projections.poll('reader', 5);
SELECT projections.ack('reader', 5);
SELECT projections.reset('published.counts') IS NOT NULL AS reset;
SELECT projections.catch_up('published.counts') > 0 AS applied;
SELECT projections.drop_subscription('reader');
SELECT projections.drop(name) FROM unnest('{published.totals,published.extremes,published.counts,published.latest}'::text[]) AS name;
SELECT projections.unregister_source('published.event');
DROP SCHEMA published CASCADE;
DROP PUBLICATION everything;
