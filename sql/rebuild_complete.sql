-- A rebuild, or an alter, puts nothing in place that lacks an event which the live projection has applied.
\set VERBOSITY default
\set SHOW_CONTEXT never
SET client_min_messages = error; -- no workers here, and times differ
CREATE SCHEMA complete;
SET search_path = complete, public;

CREATE TABLE moves (pos bigserial PRIMARY KEY, item text NOT NULL, qty int NOT NULL);
SELECT projections.register_source('moves', position_column => 'pos');
CREATE TABLE broken (item text);
CREATE FUNCTION part(item text, qty int) RETURNS numeric LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF EXISTS (SELECT FROM complete.broken b WHERE b.item = part.item) THEN RAISE EXCEPTION '% is broken', item; END IF;
    RETURN 60 / qty;
END
$$;
CREATE TABLE kept (pos bigint PRIMARY KEY, item text, part numeric);
CREATE FUNCTION keep(e moves) RETURNS void LANGUAGE sql AS $$ INSERT INTO kept VALUES (e.pos, e.item, complete.part(e.item, e.qty)) $$;
CREATE FUNCTION fold(state jsonb, e moves, key text) RETURNS jsonb LANGUAGE sql AS $$ SELECT to_jsonb((state #>> '{}')::numeric + complete.part(e.item, e.qty)) $$;
SELECT projections.create_handler('kept', 'moves', 'keep(moves)', '{kept}', partition_by => 'item', options => '{"slots": 2, "max_retries": 0}');
SELECT projections.create_reducer('folded', 'moves', 'item', 'fold(jsonb, moves, text)', '0', options => '{"finish": "merge"}');
SELECT projections.create('summed', 'SELECT item, sum(complete.part(item, qty)) AS part, count(*) AS n FROM complete.moves GROUP BY item', 'async');

-- One event fails, wherever it is divided by.
INSERT INTO moves (item, qty) SELECT 'i' || n % 5, n FROM generate_series(1, 60) AS n;
INSERT INTO moves (item, qty) VALUES ('i3', 0), ('i3', 6);
SELECT projections.catch_up() > 0 AS applied;
CREATE FUNCTION contents() RETURNS TABLE (projection text, rows bigint, part numeric, failed text, parked bigint) LANGUAGE sql AS $$
    SELECT c.*, (SELECT string_agg(f.position || ' ' || f.sqlstate, ', ' ORDER BY f.position) FROM projections_internal.failure f WHERE f.projection = c.name::regclass AND f.resolved_at IS NULL),
           (SELECT count(*) FROM projections_internal.parked_event e WHERE e.projection = c.name::regclass)
    FROM (SELECT 'kept', count(*), sum(part) FROM kept UNION ALL SELECT 'folded', count(*), sum((state #>> '{}')::numeric) FROM folded
          UNION ALL SELECT 'summed', count(*), sum(part) FROM summed) AS c(name, rows, part) ORDER BY 1
$$;
CREATE TABLE before AS SELECT * FROM contents();
TABLE before;

-- What failed may fail again, and what waits behind it may wait.
CALL projections.rebuild('kept');
CALL projections.rebuild('folded');
CALL projections.rebuild('summed');
SELECT count(*) AS changed FROM (SELECT * FROM contents() EXCEPT ALL TABLE before) AS c;

-- What was applied may not: the projection stays as it is, and says which event.
INSERT INTO broken VALUES ('i4');
CALL projections.rebuild('kept');
CALL projections.rebuild('folded');
CALL projections.rebuild('summed');
CALL projections.alter('kept', options => '{"finish": "merge"}');
CALL projections.rebuild('kept');
CALL projections.alter('summed', query => 'SELECT item, max(complete.part(item, qty)) AS part FROM complete.moves GROUP BY item');
SELECT count(*) AS changed FROM (SELECT * FROM contents() EXCEPT ALL TABLE before) AS c;
SELECT count(*) AS shadows FROM projections_internal.projection WHERE shadow_of IS NOT NULL;
SELECT DISTINCT outcome, phase, error FROM projections_internal.rebuild WHERE outcome <> 'done' ORDER BY error;
-- A skipped one is left out of the replay, too, and nothing waits behind it.
TRUNCATE broken;
SELECT projections.skip(id, 'known') FROM projections_internal.failure WHERE projection = 'kept'::regclass AND resolved_at IS NULL;
CALL projections.rebuild('kept');
SELECT count(*), (SELECT count(*) FROM projections.failures WHERE projection = 'complete.kept' AND resolved_at IS NULL) AS failed FROM kept;

-- An event that needs a later one fails at first in each replay, and is tried again.
CREATE TABLE children (pos bigint PRIMARY KEY, item text);
CREATE FUNCTION raise_child(e moves) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF e.qty = 1000 AND NOT EXISTS (SELECT FROM children WHERE item = 'parent') THEN RAISE EXCEPTION 'no parent'; END IF;
    INSERT INTO children VALUES (e.pos, e.item);
END
$$;
SELECT projections.create_handler('children', 'moves', 'raise_child(moves)', '{children}', partition_by => 'item');
INSERT INTO moves (item, qty) VALUES ('child', 1000), ('child', 7), ('parent', 7);
SELECT projections.catch_up('children') > 0 AS applied;
SELECT projections.retry_all('children');
CALL projections.rebuild('children');
SELECT count(*) = (SELECT count(*) FROM moves) AS complete, (SELECT count(*) FROM projections.failures WHERE projection = 'complete.children' AND resolved_at IS NULL) AS failed FROM children;

-- From inline to async: all that is there has been applied.
CREATE TABLE inserted (pos bigserial PRIMARY KEY, item text NOT NULL, qty int NOT NULL);
SELECT projections.register_source('inserted', position_column => 'pos');
SELECT projections.create('at_once', 'SELECT item, sum(complete.part(item, qty)) AS part FROM complete.inserted GROUP BY item');
INSERT INTO inserted (item, qty) VALUES ('a', 1), ('b', 2);
INSERT INTO broken VALUES ('b');
CALL projections.alter('at_once', mode => 'async');
SELECT mode FROM projections.definitions WHERE relation = 'at_once'::regclass;
TABLE at_once ORDER BY 1;
TRUNCATE broken;
CALL projections.alter('at_once', mode => 'async');
SELECT mode, test.check('at_once') FROM projections.definitions WHERE relation = 'at_once'::regclass;
DROP SCHEMA complete CASCADE;
