-- Which options, slots and modes go together: one rule, whichever way leads there.
\set VERBOSITY default
\set SHOW_CONTEXT never
SET client_min_messages = error;
CREATE SCHEMA together;
SET search_path = together, public;
CREATE TABLE stock (id int PRIMARY KEY, item text, n int);
CREATE TABLE moves (pos bigserial PRIMARY KEY, item text, n int);
SELECT projections.register_source('moves', position_column => 'pos');
CREATE TABLE noted (pos bigint);
CREATE FUNCTION note(e moves) RETURNS void LANGUAGE sql AS 'INSERT INTO noted VALUES (e.pos)';

-- A table that changes: its changes have one order.
SELECT projections.create('per_item', 'SELECT item, sum(n) AS n FROM stock GROUP BY item', 'async', options => '{"slots": 2}');
SELECT projections.create('per_item', 'SELECT id, n FROM stock', 'async', options => '{"slots": 4}');
SELECT projections.create('per_item', 'SELECT item, sum(n) AS n FROM stock GROUP BY item', 'async', options => '{"slots": 1, "batch_size": 100, "max_rate": 1000000}');
CALL projections.alter('per_item', options => '{"slots": 2}');
SELECT projections_internal._change_slots('per_item', 2);
-- From events to such a table.
SELECT projections.create('of_moves', 'SELECT item, sum(n) AS n FROM moves GROUP BY item', 'async', options => '{"slots": 3}');
CALL projections.alter('of_moves', query => 'SELECT item, sum(n) AS n FROM stock GROUP BY item');
-- And from async to inline, where nothing reads the options of workers.
CALL projections.alter('of_moves', mode => 'inline');
CALL projections.alter('of_moves', options => '{"slots": null}');
CALL projections.alter('of_moves', query => 'SELECT item, sum(n) AS n FROM stock GROUP BY item');
SELECT p.relation::regclass, p.options, (SELECT count(*) FROM projections_internal.slot s WHERE s.projection = p.relation) AS slots FROM projections_internal.projection p ORDER BY 1;
INSERT INTO stock VALUES (1, 'a', 1), (2, 'a', 2), (3, 'b', 3);
SELECT projections.catch_up() > 0 AS applied;
SELECT * FROM test.check_all();

-- Events in one order have one slot.
SELECT projections.create_handler('noted', 'moves', 'note(moves)', '{noted}', options => '{"slots": 2}');
SELECT projections.create_handler('noted', 'moves', 'note(moves)', '{noted}', options => '{"slots": 1}');
CALL projections.alter('noted', options => '{"slots": 2}');
SELECT projections_internal._change_slots('noted', 2);

-- What has no effect is refused, with what has.
\set VERBOSITY terse
CREATE FUNCTION told(name text, query text, mode text, options jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    hint text;
BEGIN
    PERFORM projections.create(name, query, mode, options => told.options);
    RETURN 'made';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
    RETURN format('%s %s. %s', SQLSTATE, SQLERRM, hint);
END
$$;
SELECT mode, source, told('x', format('SELECT item, count(*) AS n FROM %s GROUP BY item', source), mode, jsonb_build_object(option, value)) FROM
    (VALUES ('inline', 'stock', 'slots', '2'::jsonb), ('inline', 'stock', 'max_rate', '5'), ('async', 'stock', 'max_retries', '3'), ('async', 'stock', 'on_failure', '"skip"'),
            ('async', 'moves', 'on_failure', '"skip"'), ('async', 'moves', 'event_timeout', '"1 s"'), ('async', 'moves', 'retention', '"1 s"'), ('inline', 'moves', 'max_retries', '1')) AS o(mode, source, option, value);
CALL projections.alter('per_item', options => '{"max_retries": 1}');
CALL projections.alter('per_item', options => '{"event_timeout": "1 s"}');
SELECT count(*) FROM projections_internal.projection;

-- Numbers have a range, intervals too, and choices are known.
SELECT option, value, told('x', 'SELECT item, sum(n) AS n FROM moves GROUP BY item', 'async', jsonb_build_object(option, value)) FROM
    (VALUES ('slots', '0'::jsonb), ('slots', '65'), ('slots', '1.5'), ('slots', '"2"'), ('batch_size', '0'), ('batch_size', '1000001'), ('batch_size', 'null'),
            ('max_retries', '-1'), ('max_retries', '101'), ('max_rate', '0'), ('max_rate', '1e10'), ('finish', '"never"'), ('finish', '1'), ('fill', '"later"'),
            ('on_dead_letter', '1'), ('on_dead_letter', '"nothing_of_that_name"'), ('nothing', '1')) AS o(option, value);
CALL projections.alter('noted', options => '{"event_timeout": "0 s"}');
CALL projections.alter('noted', options => '{"event_timeout": "2 days"}');
CALL projections.alter('noted', options => '{"event_timeout": 5}');

-- A function for dead letters is one that the owner may call.
CREATE FUNCTION mourn(failure bigint) RETURNS void LANGUAGE sql AS 'SELECT';
REVOKE EXECUTE ON FUNCTION mourn FROM PUBLIC;
CREATE ROLE options_owner;
GRANT USAGE, CREATE ON SCHEMA together TO options_owner;
GRANT SELECT ON moves TO options_owner;
SET ROLE options_owner;
SELECT projections.create('mourned', 'SELECT item, sum(n) AS n FROM moves GROUP BY item', 'async', options => '{"on_dead_letter": "together.mourn"}');
RESET ROLE;
GRANT EXECUTE ON FUNCTION mourn TO options_owner;
SET ROLE options_owner;
SELECT projections.create('mourned', 'SELECT item, sum(n) AS n FROM moves GROUP BY item', 'async', options => '{"on_dead_letter": "together.mourn"}');
RESET ROLE;
SELECT options FROM projections_internal.projection WHERE relation = 'mourned'::regclass;
SELECT projections.drop('mourned');

-- A batch is as large as it may be, and no larger: each moves the checkpoint.
INSERT INTO moves (item, n) SELECT 'i' || i % 3, i FROM generate_series(1, 25) AS i;
BEGIN;
SELECT projections.catch_up('noted') = 25 AS applied;
SELECT n_tup_upd AS at_once FROM pg_stat_xact_all_tables WHERE relid = 'projections_internal.slot'::regclass \gset
COMMIT;
SELECT projections.reset('noted');
CALL projections.alter('noted', options => '{"batch_size": 5}');
BEGIN;
SELECT projections.catch_up('noted') = 25 AS applied;
SELECT n_tup_upd >= :at_once + 4 AS in_parts FROM pg_stat_xact_all_tables WHERE relid = 'projections_internal.slot'::regclass;
COMMIT;
SELECT count(*) FROM noted;

DROP SCHEMA together CASCADE;
DROP ROLE options_owner;
