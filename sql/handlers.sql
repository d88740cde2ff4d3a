-- Handlers: a function called once per event.
SET client_min_messages = error; -- no workers here
CREATE SCHEMA handlers;
SET search_path = handlers;
CREATE TABLE movements (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, type text NOT NULL, item text, quantity int, at timestamptz NOT NULL DEFAULT '2026-01-01');
SELECT projections.register_source('movements', position_column => 'position', type_column => 'type', time_column => 'at');
CREATE FUNCTION refused(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    detail text;
    hint text;
BEGIN
    EXECUTE statement;
    RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(E'\n', SQLSTATE || ': ' || SQLERRM, nullif(detail, ''), nullif(hint, ''));
END
$$;

CREATE TABLE stock (item text PRIMARY KEY, quantity int NOT NULL CHECK (quantity >= 0));
CREATE TABLE journal (n int GENERATED ALWAYS AS IDENTITY, item text, quantity int, who text);
CREATE FUNCTION apply(e movements) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO stock AS s VALUES (e.item, e.quantity) ON CONFLICT (item) DO UPDATE SET quantity = s.quantity + e.quantity;
    INSERT INTO journal (item, quantity, who) VALUES (e.item, e.quantity, current_user);
END
$$;

-- The projection is one of its tables.
INSERT INTO movements (type, item, quantity) VALUES ('in', 'nut', 5), ('in', 'bolt', 2);
SELECT projections.create_handler('stock', 'movements', 'apply(movements)', '{stock,journal}', partition_by => 'item');
SELECT * FROM stock;
SELECT projections.catch_up('stock');
SELECT * FROM stock ORDER BY item;
INSERT INTO movements (type, item, quantity) VALUES ('out', 'nut', -2), ('in', NULL, 7), ('in', 'nut', 4);
-- An event without a partition is delivered all the same; this function does not want it.
SELECT projections.catch_up('stock');
SELECT * FROM stock ORDER BY item;
SELECT item, quantity, who = current_user AS as_owner FROM journal ORDER BY n;
SELECT position, keys, sqlstate, category FROM projections_internal.failure WHERE projection = 'stock'::regclass;
SELECT position, event_time, events_processed FROM projections_internal.slot WHERE projection = 'stock'::regclass;
-- Nothing is applied twice.
SELECT projections.catch_up('stock');
SELECT * FROM stock ORDER BY item;

-- Another name: a view of its checkpoints. Event types, in a column that is not text.
CREATE TYPE kind AS ENUM ('made', 'gone');
CREATE TABLE things (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, kind kind, payload jsonb);
SELECT projections.register_source('things', position_column => 'id', type_column => 'kind');
CREATE TABLE seen (id int, label text);
CREATE FUNCTION see(e things) RETURNS void LANGUAGE sql AS 'INSERT INTO seen VALUES (e.id, e.payload->>''label'')';
SELECT projections.create_handler('watcher', 'things', 'see(things)', '{seen}', event_types => '{made}', options => '{"batch_size": 2}');
INSERT INTO things (kind, payload) SELECT CASE WHEN n % 3 = 0 THEN 'gone' ELSE 'made' END::kind, jsonb_build_object('label', 'n' || n) FROM generate_series(1, 10) AS n;
SELECT projections.catch_up('watcher');
SELECT * FROM seen ORDER BY id;
SELECT slot, position, events_processed FROM watcher;
-- A source's new column reaches the function, which was not made anew.
ALTER TABLE things ADD COLUMN extra text DEFAULT 'x';
ALTER TABLE things RENAME COLUMN payload TO body;
INSERT INTO things (kind, body) VALUES ('made', '{"label": "late"}');
SELECT projections.catch_up('watcher');
SELECT max(id), (SELECT count(*) FROM projections_internal.failure WHERE projection = 'watcher'::regclass) FROM seen;
CREATE OR REPLACE FUNCTION see(e things) RETURNS void LANGUAGE sql AS 'INSERT INTO seen VALUES (e.id, e.body->>''label'')';
SELECT projections.catch_up('watcher');
SELECT max(id) FROM seen;

-- Several slots: each key in one of them, in order.
CREATE TABLE copies (n int GENERATED ALWAYS AS IDENTITY, item text, position bigint);
CREATE FUNCTION copy(e movements) RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO copies (item, position) VALUES (e.item, e.position); END $$;
SELECT projections.create_handler('copier', 'movements', 'copy(movements)', '{copies}', partition_by => 'item', options => '{"slots": 3}');
INSERT INTO movements (type, item, quantity) SELECT 'in', 'item ' || n % 10, 1 FROM generate_series(1, 100) AS n;
SELECT projections.catch_up('copier');
SELECT count(*), count(DISTINCT position) FROM copies;
SELECT item FROM copies GROUP BY item HAVING array_agg(position ORDER BY n) <> array_agg(position ORDER BY position);
SELECT count(*) AS slots, sum(events_processed) AS events, count(DISTINCT position) AS positions FROM copier;

-- Inline.
CREATE TABLE counts (type text PRIMARY KEY, n int CHECK (n < 3));
CREATE FUNCTION tally(e things) RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO counts AS c VALUES (e.kind, 1) ON CONFLICT (type) DO UPDATE SET n = c.n + 1; END $$;
TRUNCATE things;
INSERT INTO things (kind) VALUES ('made');
SELECT projections.create_handler('counts', 'things', 'tally(things)', '{counts}', mode => 'inline');
SELECT * FROM counts;
INSERT INTO things (kind) VALUES ('made'), ('gone');
SELECT * FROM counts ORDER BY type;
\set VERBOSITY default
INSERT INTO things (kind) VALUES ('made');
SELECT * FROM counts ORDER BY type;

-- Refused.
CREATE FUNCTION wrong(e movements, n int) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION returns(e movements) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION pinned(e movements) RETURNS void LANGUAGE sql SET search_path = public AS '';
CREATE FUNCTION standard(e movements) RETURNS void BEGIN ATOMIC INSERT INTO seen VALUES (1, ''); END;
CREATE TABLE plain (id int);
CREATE TABLE deferred (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED);
\pset tuples_only
\pset format unaligned
SELECT refused(s) FROM unnest(ARRAY[
    $$SELECT projections.create_handler('h', 'plain', 'apply(movements)', '{seen}')$$,
    $$SELECT projections.create_handler('h', 'movements', 'wrong(movements,int)', '{seen}')$$,
    $$SELECT projections.create_handler('h', 'movements', 'returns(movements)', '{seen}')$$,
    $$SELECT projections.create_handler('h', 'movements', 'see(things)', '{seen}')$$,
    $$SELECT projections.create_handler('h', 'movements', 'pinned(movements)', '{seen}')$$,
    $$SELECT projections.create_handler('h', 'movements', 'standard(movements)', '{seen}')$$,
    $$SELECT projections.create_handler('h', 'movements', 'apply(movements)', '{nothing}')$$,
    $$SELECT projections.create_handler('h', 'movements', 'apply(movements)', '{deferred}')$$,
    $$SELECT projections.create_handler('h', 'movements', 'apply(movements)', NULL)$$,
    $$SELECT projections.create_handler('plain', 'movements', 'apply(movements)', '{seen}')$$,
    $$SELECT projections.create_handler('stock', 'movements', 'apply(movements)', '{stock}')$$,
    $$SELECT projections.create_handler('projections.h', 'movements', 'apply(movements)', '{seen}')$$,
    $$SELECT projections.create_handler('h', 'movements', 'apply(movements)', '{seen}', mode => 'sometimes')$$,
    $$SELECT projections.create_handler('h', 'movements', 'apply(movements)', '{seen}', options => '{"slots": 2}')$$,
    $$SELECT projections.create_handler('h', 'movements', 'apply(movements)', '{seen}', partition_by => 'item', options => '{"slots": 0}')$$,
    $$SELECT projections.create_handler('h', 'movements', 'apply(movements)', '{seen}', options => '{"speed": 2}')$$,
    $$SELECT projections.create_handler('h', 'movements', 'apply(movements)', '{seen}', options => '{"on_failure": "hope"}')$$,
    $$SELECT projections.create_handler('h', 'movements', 'apply(movements)', '{seen}', options => '{"event_timeout": "soon"}')$$,
    $$SELECT projections.create_handler('h', 'movements', 'apply(movements)', '{seen}', options => '{"on_dead_letter": "nobody"}')$$,
    $$SELECT projections.create_handler('h', 'movements', 'apply(movements)', '{seen}', options => '{"initial": "open"}')$$,
    $$SELECT projections.create_handler('h', 'movements', 'apply(movements)', '{seen}', options => '{"fill": "online"}')$$,
    $$SELECT projections.create_handler('h', 'movements', 'apply(movements)', '{seen}', mode => 'inline', options => '{"max_retries": 1}')$$,
    $$SELECT projections.create_handler('h', 'movements', 'apply(movements)', '{seen}', partition_by => 'item, quantity')$$,
    $$SELECT projections.create_handler('h', 'movements', 'apply(movements)', '{seen}', partition_by => 'item) FROM movements; DROP TABLE plain; --')$$,
    $$SELECT projections.create_handler('h', 'movements', 'apply(movements)', '{seen}', partition_by => '(SELECT 1)')$$,
    $$SELECT projections.create_handler('h', 'movements', 'apply(movements)', '{seen}', partition_by => 'random()')$$,
    $$SELECT projections.create_handler('h', 'things', 'see(things)', '{seen}', partition_by => 'body')$$
]) AS s;
\pset tuples_only
\pset format aligned

-- The owner's rights, and no more.
CREATE ROLE handlers_clerk;
GRANT USAGE, CREATE ON SCHEMA handlers TO handlers_clerk;
SET ROLE handlers_clerk;
SELECT refused($$SELECT projections.create_handler('h', 'movements', 'apply(movements)', '{seen}')$$);
RESET ROLE;
GRANT SELECT ON movements TO handlers_clerk;
SET ROLE handlers_clerk;
SELECT refused($$SELECT projections.create_handler('h', 'movements', 'apply(movements)', '{seen}')$$);
CREATE TABLE mine (item text, who text);
CREATE FUNCTION to_mine(e movements) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF e.quantity < 0 THEN DELETE FROM seen; END IF;
    INSERT INTO mine VALUES (e.item, current_user);
END
$$;
SELECT projections.create_handler('mine', 'movements', 'to_mine(movements)', '{mine}', partition_by => 'item');
RESET ROLE;
SELECT projections.catch_up('mine');
SELECT who, count(*) FROM mine GROUP BY who;
SELECT position, sqlstate, error FROM projections_internal.failure WHERE projection = 'mine'::regclass;
SELECT projections.drop('mine');
DROP TABLE mine;

-- What a handler calls may not apply events, or change projections.
CREATE TABLE calls (call text PRIMARY KEY);
CREATE FUNCTION call(e movements) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO handlers.calls VALUES (e.item);
    EXECUTE e.item;
END
$$;
INSERT INTO movements (item, quantity, type)
VALUES ('SELECT 1', 1, 'call'), ('SELECT projections.catch_up(''caller'')', 1, 'call'), ('SELECT projections.catch_up()', 1, 'call'),
       ('SELECT projections.drop(''caller'')', 1, 'call'), ('SELECT projections.reset(''caller'')', 1, 'call'), ('SELECT projections.pause(''caller'', ''x'')', 1, 'call'),
       ('SELECT projections.pause_all(''x'')', 1, 'call'), ('DROP VIEW handlers.caller', 1, 'call'), ('SELECT 2', 1, 'call');
SELECT projections.create_handler('caller', 'movements', 'call(movements)', '{calls}', event_types => '{call}', partition_by => 'item');
SELECT projections.catch_up('caller');
SELECT sqlstate, error FROM projections_internal.failure WHERE projection = 'caller'::regclass ORDER BY position;
TABLE calls;
SELECT projections.drop('caller');
DROP TABLE calls;
DROP FUNCTION call(movements);

-- Dropping the view, the projection or the source.
DROP VIEW watcher;
SELECT projections.drop('copier');
DROP TABLE movements;
SELECT projections.drop('stock');
SELECT count(*) FROM stock;
SELECT projections.drop('counts');
SELECT relation FROM projections_internal.projection WHERE kind <> 'query';
SELECT (SELECT count(*) FROM projections_internal.slot) AS slots, (SELECT count(*) FROM projections_internal.failure) AS failures;
SELECT projections.unregister_source('movements'), projections.unregister_source('things');
\set VERBOSITY terse
DROP SCHEMA handlers CASCADE;
DROP ROLE handlers_clerk;
