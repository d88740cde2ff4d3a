-- An event of several keys waits behind each of them, and holds back each of them, also while others are set free.
\set VERBOSITY terse
SET client_min_messages = error;
CREATE SCHEMA parked;
SET search_path = parked, public;
CREATE TABLE steps (pos bigserial PRIMARY KEY, name text, keys text[]);
SELECT projections.register_source('steps', position_column => 'pos');
CREATE TABLE broken (name text);
CREATE FUNCTION fold(state jsonb, e steps, key text) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM parked.broken b WHERE b.name = e.name) THEN RAISE EXCEPTION '% is broken', e.name; END IF;
    RETURN state || to_jsonb(e.name);
END
$$;
SELECT projections.create_reducer('walks', 'steps', 'keys', 'fold(jsonb, steps, text)', '[]', options => '{"max_retries": 0}');
INSERT INTO broken VALUES ('first'), ('second');
INSERT INTO steps (name, keys) VALUES ('first', '{a}'), ('second', '{c}'), ('third', '{a,b}'), ('fourth', '{b}'), ('fifth', '{c}');
SELECT projections.catch_up('walks');
SELECT position, keys FROM projections_internal.parked_event ORDER BY 1;
-- Only what waits for c is free: the fourth waits for the third.
DELETE FROM broken WHERE name = 'second';
SELECT projections.retry(id) FROM projections_internal.failure WHERE keys = '{c}' AND resolved_at IS NULL;
SELECT position, keys FROM projections_internal.parked_event ORDER BY 1;
SELECT key, state FROM walks ORDER BY key;
TRUNCATE broken;
SELECT projections.retry_all('walks');
SELECT key, state FROM walks ORDER BY key;
SELECT count(*) FROM projections.verify('walks');

-- What is set free may fail in its turn: what comes behind that goes on waiting, and is not lost.
INSERT INTO broken VALUES ('sixth'), ('seventh');
INSERT INTO steps (name, keys) VALUES ('sixth', '{d}'), ('seventh', '{d}'), ('eighth', '{d}'), ('ninth', '{d,e}'), ('tenth', '{e}');
SELECT projections.catch_up('walks') > 0 AS applied;
SELECT position, keys FROM projections_internal.parked_event ORDER BY 1;
DELETE FROM broken WHERE name = 'sixth';
SELECT projections.retry(id) FROM projections_internal.failure WHERE keys = '{d}' AND resolved_at IS NULL;
SELECT position, keys FROM projections_internal.parked_event ORDER BY 1;
SELECT key, state FROM walks WHERE key IN ('d', 'e') ORDER BY key;
DELETE FROM broken WHERE name = 'seventh';
SELECT projections.retry_all('walks');
SELECT key, state FROM walks WHERE key IN ('d', 'e') ORDER BY key;
SELECT count(*) FROM projections_internal.parked_event;
SELECT count(*) FROM projections.verify('walks');
DROP SCHEMA parked CASCADE;
