-- What the victim and the attacker have. The victim's data say SECRET wherever they are nobody else's business.
\set ON_ERROR_STOP on
SET client_min_messages = error;
GRANT EXECUTE ON FUNCTION projections.append(text, text, jsonb, bigint, jsonb, text, text, uuid) TO attacker, victim;
GRANT EXECUTE ON FUNCTION projections.append_many(text, jsonb, bigint, text, text) TO attacker, victim;


-- The victim -------------------------------------------------------------------
SET SESSION AUTHORIZATION victim;
SET search_path = victim;
CREATE TABLE shared (id int PRIMARY KEY, k int, v int);
GRANT SELECT, TRIGGER ON shared TO attacker;
GRANT INSERT, UPDATE, DELETE ON shared TO bystander;
INSERT INTO shared SELECT i, i % 3, i FROM generate_series(1, 10) i;
CREATE TABLE private (id int PRIMARY KEY, name text);
INSERT INTO private SELECT i, 'SECRET name ' || i FROM generate_series(1, 5) i;
CREATE TABLE ev (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, stream text, type text, data text,
                 at timestamptz DEFAULT now(), correlation text);
SELECT projections.register_source('ev', 'position', stream_column => 'stream', type_column => 'type', time_column => 'at',
                                   correlation_column => 'correlation');
INSERT INTO ev (stream, type, data, correlation)
SELECT 'SECRET stream', 'SECRET type', 'SECRET data ' || i, 'correlation' FROM generate_series(1, 5) i;
SELECT projections.create('names', 'SELECT name, count(*) AS n FROM private GROUP BY name');
SELECT projections.create('data', 'SELECT data, count(*) AS n FROM ev GROUP BY data', 'async');
CREATE TABLE seen (data text);
CREATE FUNCTION see(event ev) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF event.position = 3 THEN RAISE EXCEPTION 'SECRET error about %', event.data; END IF;
    INSERT INTO seen VALUES (event.data);
END $$;
SELECT projections.create_handler('seen', 'ev', 'see(ev)', '{seen}', partition_by => 'stream', options => '{"max_retries": 0}');
SELECT projections.create_subscription('victim_reader', 'ev');
SELECT projections.append('known account', 'SECRET opened', '{"a": "SECRET"}', correlation_id => 'correlation');
SELECT projections.pause('names', 'SECRET reason'), projections.resume('names');
-- A rebuild that fails with an error about data.
CREATE FUNCTION picky(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF current_setting('application_name') = 'picky' THEN RAISE EXCEPTION 'SECRET error: %', $1; END IF;
    RETURN $1;
END $$;
SELECT projections.create('picked', 'SELECT victim.picky(name) AS name, count(*) AS n FROM private GROUP BY 1');
RESET search_path;
RESET SESSION AUTHORIZATION;

-- The attacker's traps ---------------------------------------------------------
SET SESSION AUTHORIZATION attacker;
SET search_path = attacker;
CREATE DOMAIN checked AS int CHECK (attacker.trap('domain') IS NOT NULL);
CREATE DOMAIN checked_text AS text CHECK (attacker.trap('text domain') IS NOT NULL);
CREATE TYPE color AS ENUM ('red', 'green');
CREATE FUNCTION cast_color(color) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN PERFORM attacker.trap('cast of an enum'); RETURN CASE $1 WHEN 'red' THEN 'r' ELSE 'g' END; END $$;
CREATE CAST (color AS text) WITH FUNCTION cast_color(color) AS IMPLICIT;
CREATE TYPE pair AS (a int, b int);
CREATE FUNCTION cast_pair(pair) RETURNS timestamptz LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN PERFORM attacker.trap('cast of a composite'); RETURN '2024-01-01'::timestamptz; END $$;
CREATE CAST (pair AS timestamptz) WITH FUNCTION cast_pair(pair) AS IMPLICIT;
CREATE FUNCTION less_color(color, color) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN PERFORM attacker.trap('operator over an enum'); RETURN $1::text < $2::text; END $$;
CREATE OPERATOR < (leftarg = color, rightarg = color, function = less_color);
CREATE FUNCTION note_trigger() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM attacker.trap('trigger'); RETURN NULL; END $$;

CREATE TABLE s (id int PRIMARY KEY, k int, v int DEFAULT attacker.liar('default', 1), d checked, c color DEFAULT 'red',
                g int GENERATED ALWAYS AS (attacker.liar('generated column', id)) STORED,
                CHECK (attacker.trap('check') IS NOT NULL));
CREATE TABLE ev (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, stream text, type text, n int,
                 at timestamptz DEFAULT now(), correlation checked_text, event_id text, d checked, c color DEFAULT 'green',
                 pair pair DEFAULT '(1,2)');
CREATE TABLE arrived (position bigint PRIMARY KEY, n int, note text);
CREATE SEQUENCE arrived_seq OWNED BY arrived.position;
ALTER TABLE arrived ALTER position SET DEFAULT nextval('attacker.arrived_seq');
-- What is evaluated when somebody only plans a query.
CREATE INDEX ON s (v) WHERE attacker.liar('index predicate of s', true);
CREATE INDEX ON ev (position) WHERE attacker.liar('index predicate of ev', true);
CREATE INDEX ON ev ((attacker.liar('index expression of ev', n)));
CREATE INDEX ON arrived (position) WHERE attacker.liar('index predicate of arrived', true);
CREATE STATISTICS s_statistics ON (attacker.liar('statistics of s', k)), v FROM s;
CREATE STATISTICS ev_statistics ON (attacker.liar('statistics of ev', n)), type FROM ev;
INSERT INTO s (id, k, d) SELECT i, i % 3, i FROM generate_series(1, 9) i;
INSERT INTO ev (stream, type, n, correlation, event_id, d)
SELECT 'stream ' || i % 2, CASE i % 2 WHEN 0 THEN 'Opened' ELSE 'Closed' END, i, 'correlation', 'event ' || i, i
FROM generate_series(1, 9) i;
ANALYZE s, ev;
ALTER TABLE s ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON s USING (attacker.liar('policy of s', true));
ALTER TABLE ev ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON ev USING (attacker.liar('policy of ev', true));
GRANT ALL ON s, ev, arrived TO PUBLIC;

SELECT projections.register_source('ev', 'position', stream_column => 'stream', type_column => 'type', time_column => 'at',
                                   correlation_column => 'correlation', id_column => 'event_id');
SELECT projections.register_source('arrived', 'position', capture => 'trigger');
INSERT INTO arrived (n) SELECT i FROM generate_series(1, 5) i;
SELECT projections.create('inline_groups', $$SELECT attacker.liar('key', k) AS k, sum(v) AS v, max(v) AS m, count(*) AS n
    FROM s WHERE attacker.liar('condition', true) GROUP BY 1$$);
SELECT projections.create('inline_rows', $$SELECT s.id, attacker.liar('output', t.v) AS v, s.d, s.c FROM s JOIN victim.shared t ON t.id = s.id$$);
SELECT projections.create('over_shared', $$SELECT attacker.liar('key over shared', k) AS k, sum(attacker.liar('argument over shared', v)) AS v
    FROM victim.shared GROUP BY 1$$);
SELECT projections.create('joined_shared', $$SELECT a.id, attacker.liar('join over shared', b.v) AS v FROM victim.shared a JOIN victim.shared b ON a.id = b.k$$);
SELECT projections.create('async_events', $$SELECT attacker.liar('async key', type) AS type, sum(n) AS n, max(n) AS m FROM ev GROUP BY 1$$, 'async');
SELECT projections.create('async_log', $$SELECT attacker.liar('logged key', k) AS k, max(v) AS v FROM s GROUP BY 1$$, 'async');
SELECT projections.create('async_arrived', $$SELECT attacker.liar('arrived key', n) AS n, count(*) FROM arrived GROUP BY 1$$, 'async');
CREATE FUNCTION fold(state jsonb, event ev, key text) RETURNS jsonb IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN PERFORM attacker.liar('reducer', 1); RETURN to_jsonb(coalesce((state #>> '{}')::int, 0) + 1); END $$;
SELECT projections.create_reducer('reduced', 'ev', $$attacker.liar('reducer key', stream)$$, 'fold(jsonb, ev, text)');
CREATE TABLE handled (n int, note int DEFAULT attacker.liar('default of handled', 1), d checked, CHECK (attacker.trap('check of handled') IS NOT NULL));
CREATE FUNCTION handle(event ev) RETURNS void LANGUAGE plpgsql AS $$
BEGIN PERFORM attacker.liar('handler', 1); INSERT INTO handled (n, d) VALUES (event.n, event.n);
IF event.n = 4 THEN RAISE EXCEPTION 'a poison event'; END IF; END $$;
SELECT projections.create_handler('handled', 'ev', 'handle(ev)', '{handled}', partition_by => $$attacker.liar('partition', stream)$$,
    options => '{"max_retries": 0}');
SELECT projections.create_state_machine('machine', 'ev', $$attacker.liar('machine key', stream)$$,
    '[{"from": "new", "event": "Opened", "to": "open"}, {"from": "open", "event": "Opened", "to": "open"}, {"from": "open", "event": "Closed", "to": "closed"},
      {"from": "new", "event": "Closed", "to": "closed"}, {"from": "closed", "event": "Closed", "to": "closed"}, {"from": "closed", "event": "Opened", "to": "open"}]',
    options => '{"initial": "new", "retention": "1 hour"}');
SELECT projections.create_subscription('attacker_reader', 'ev', partition_by => $$attacker.liar('subscription partition', stream)$$);
-- Projections are tables: their owner may put what he likes on them.
CREATE INDEX ON inline_groups (n) WHERE attacker.liar('index predicate of a projection', true);
CREATE INDEX ON async_events ((attacker.liar('index expression of a projection', n)));
ALTER TABLE inline_groups ADD CHECK (attacker.trap('check of a projection') IS NOT NULL);
ALTER TABLE async_events ADD CHECK (attacker.trap('check of an async projection') IS NOT NULL);
ALTER TABLE reduced ADD CHECK (attacker.trap('check of a reducer') IS NOT NULL);
CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON inline_groups FOR EACH ROW EXECUTE FUNCTION note_trigger();
CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON async_events FOR EACH ROW EXECUTE FUNCTION note_trigger();
CREATE STATISTICS projection_statistics ON (attacker.liar('statistics of a projection', n)), v FROM inline_groups;
ANALYZE inline_groups;
ALTER TABLE inline_groups ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON inline_groups USING (attacker.liar('policy of a projection', true));
ALTER TABLE reduced ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON reduced USING (attacker.liar('policy of a reducer', true));
GRANT SELECT ON ALL TABLES IN SCHEMA attacker TO PUBLIC;
RESET search_path;
RESET SESSION AUTHORIZATION;
