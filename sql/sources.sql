-- Which tables can be event sources, and what registering does.
CREATE SCHEMA sources;
SET search_path = sources;
\set SHOW_CONTEXT never

CREATE VIEW registered AS
SELECT relation, position_column AS position, stream_column AS stream, version_column AS version, type_column AS type, time_column AS "time",
       correlation_column AS correlation, id_column AS id, preset, capture, sequence, arrivals, archived_to
FROM projections_internal.source WHERE relation <> 'projections.events'::regclass;

-- our own store is one from the beginning
SELECT position_column, type_column, capture, sequence FROM projections_internal.source;

--
-- Tables shaped like those of event libraries
--
-- Marten
CREATE TABLE mt_streams (id uuid PRIMARY KEY, type varchar, version bigint, timestamp timestamptz NOT NULL DEFAULT now());
CREATE TABLE mt_events (
    seq_id bigint NOT NULL CONSTRAINT pkey_mt_events_seq_id PRIMARY KEY, id uuid NOT NULL, stream_id uuid REFERENCES mt_streams ON DELETE CASCADE,
    version bigint NOT NULL, data jsonb NOT NULL, type varchar(500) NOT NULL, timestamp timestamptz NOT NULL DEFAULT now(),
    tenant_id varchar DEFAULT '*DEFAULT*', mt_dotnet_type varchar, is_archived boolean DEFAULT false);
CREATE SEQUENCE mt_events_sequence OWNED BY mt_events.seq_id;
INSERT INTO mt_streams SELECT '00000000-0000-0000-0000-000000000001';
INSERT INTO mt_events SELECT n, gen_random_uuid(), '00000000-0000-0000-0000-000000000001', n, '{}', 'order_placed' FROM (VALUES (3), (1), (2)) AS v(n);
SELECT projections.register_source('mt_events', preset => 'marten');
-- with the metadata columns switched on, and conjoined archiving by partitions
CREATE SCHEMA second;
CREATE TABLE second.mt_events (
    seq_id bigint NOT NULL, id uuid NOT NULL, stream_id varchar, version bigint NOT NULL, data jsonb NOT NULL, type varchar(500) NOT NULL,
    timestamp timestamptz NOT NULL DEFAULT now(), correlation_id varchar, causation_id varchar, headers jsonb, is_archived boolean DEFAULT false,
    PRIMARY KEY (seq_id, is_archived)) PARTITION BY LIST (is_archived);
CREATE TABLE second.mt_events_default PARTITION OF second.mt_events DEFAULT;
CREATE TABLE second.mt_events_archived PARTITION OF second.mt_events FOR VALUES IN (true);
SELECT projections.register_source('second.mt_events', preset => 'marten');

-- pupsourcing
CREATE TABLE events (
    global_position bigserial PRIMARY KEY, bounded_context text NOT NULL, aggregate_type text NOT NULL, aggregate_id text NOT NULL, aggregate_version bigint NOT NULL,
    event_id uuid NOT NULL UNIQUE, event_type text NOT NULL, event_version int NOT NULL DEFAULT 1, payload bytea NOT NULL, trace_id text, correlation_id text,
    causation_id text, metadata jsonb, created_at timestamptz NOT NULL DEFAULT now(), UNIQUE (bounded_context, aggregate_type, aggregate_id, aggregate_version));
SELECT projections.register_source('events', preset => 'pupsourcing');

-- message-db
CREATE TABLE messages (
    global_position bigserial NOT NULL, position bigint NOT NULL, time timestamp DEFAULT (now() AT TIME ZONE 'utc') NOT NULL, stream_name text NOT NULL,
    type text NOT NULL, data jsonb, metadata jsonb, id uuid NOT NULL DEFAULT gen_random_uuid());
ALTER TABLE messages ADD PRIMARY KEY (global_position) NOT DEFERRABLE INITIALLY IMMEDIATE;
SELECT projections.register_source('messages', preset => 'message_db');

-- Emmett: its position has a default and no index, and may be null
CREATE SEQUENCE emt_global_message_position;
CREATE TABLE emt_messages (
    stream_position bigint NOT NULL, global_position bigint DEFAULT nextval('emt_global_message_position'), transaction_id xid8 NOT NULL,
    created timestamptz NOT NULL DEFAULT now(), is_archived boolean NOT NULL DEFAULT false, message_kind varchar(1) NOT NULL DEFAULT 'E', stream_id text NOT NULL,
    partition text NOT NULL DEFAULT 'emt:default', message_schema_version text NOT NULL, message_id text NOT NULL, message_type text NOT NULL,
    message_data jsonb NOT NULL, message_metadata jsonb NOT NULL, PRIMARY KEY (stream_id, stream_position, partition, is_archived)) PARTITION BY LIST (partition);
CREATE TABLE emt_messages_default PARTITION OF emt_messages FOR VALUES IN ('emt:default') PARTITION BY LIST (is_archived);
CREATE TABLE emt_messages_default_active PARTITION OF emt_messages_default FOR VALUES IN (false);
CREATE TABLE emt_messages_default_archived PARTITION OF emt_messages_default FOR VALUES IN (true);
SELECT projections.register_source('emt_messages', preset => 'emmett');
SELECT projections.unregister_source('emt_messages');
-- as the hints say
ALTER TABLE emt_messages ALTER global_position SET NOT NULL;
CREATE INDEX ON emt_messages (global_position);
SELECT projections.register_source('emt_messages', preset => 'emmett');

SELECT relation, position, stream, version, type, "time", correlation, id FROM registered ORDER BY relation::text;
SELECT relation, preset, capture, sequence, arrivals FROM registered ORDER BY relation::text;

-- What is given goes before the preset; a column that is not there is an error unless the library can do without.
SELECT projections.unregister_source('events');
SELECT projections.register_source('events', preset => 'pupsourcing', stream_column => 'trace_id', capture => 'trigger');
SELECT position, stream, type, capture, arrivals FROM registered WHERE relation = 'events'::regclass;
SELECT projections.register_source('messages', preset => 'marten');
SELECT projections.register_source('messages', preset => 'eventstore');

--
-- capture => 'trigger': events that are there count as arrived in their order, later ones as they come
--
SELECT arrival, position FROM projections_internal.mt_events_arrivals ORDER BY 1;
INSERT INTO mt_events SELECT n, gen_random_uuid(), '00000000-0000-0000-0000-000000000001', n, '{}', 'order_paid' FROM (VALUES (9), (7)) AS v(n);
BEGIN;
INSERT INTO mt_events SELECT 8, gen_random_uuid(), '00000000-0000-0000-0000-000000000001', 8, '{}', 'order_paid';
ROLLBACK;
SET session_replication_role = replica;
INSERT INTO mt_events SELECT 5, gen_random_uuid(), '00000000-0000-0000-0000-000000000001', 5, '{}', 'order_paid';
RESET session_replication_role;
SELECT position FROM projections_internal.mt_events_arrivals ORDER BY arrival;
SELECT count(DISTINCT arrival) = count(*) AS unique FROM projections_internal.mt_events_arrivals;
-- into partitions, present and new ones; a row that moves between them has arrived already
INSERT INTO second.mt_events (seq_id, id, version, data, type, is_archived) VALUES (2, gen_random_uuid(), 1, '{}', 'a', false);
INSERT INTO second.mt_events_default (seq_id, id, version, data, type, is_archived) VALUES (1, gen_random_uuid(), 1, '{}', 'a', false);
UPDATE second.mt_events SET is_archived = true WHERE seq_id = 2;
DROP TABLE second.mt_events_archived;
CREATE TABLE second.mt_events_archived PARTITION OF second.mt_events FOR VALUES IN (true);
INSERT INTO second.mt_events_archived (seq_id, id, version, data, type, is_archived) VALUES (4, gen_random_uuid(), 1, '{}', 'a', true);
SELECT arrivals, capture FROM registered WHERE relation = 'second.mt_events'::regclass;
SELECT position FROM projections_internal.mt_events_arrivals_2 ORDER BY arrival;
SELECT tgrelid::regclass AS trigger_on, tgenabled FROM pg_trigger WHERE tgname = 'projections_arrival' ORDER BY tgrelid::regclass::text;

--
-- A user's table, and roles
--
CREATE ROLE sources_owner;
CREATE ROLE sources_other;
GRANT USAGE, CREATE ON SCHEMA sources TO sources_owner, sources_other;
GRANT SELECT ON registered TO sources_owner;
SET ROLE sources_owner;
CREATE TABLE "Order Events" ("No" int GENERATED ALWAYS AS IDENTITY UNIQUE, kind text, "at" timestamptz DEFAULT now(), "Case" text, body jsonb);
SELECT projections.register_source('"Order Events"', 'No', type_column => 'kind', time_column => 'at', correlation_column => 'Case');
SET ROLE sources_other;
SELECT projections.unregister_source('"Order Events"');
SELECT projections.register_source('"Order Events"', 'No');
INSERT INTO projections_internal.source SELECT * FROM projections_internal.source LIMIT 1;
UPDATE projections_internal.source SET archived_to = 5 WHERE position_column = 'No';
DELETE FROM projections_internal.source;
SELECT projections_internal._register_source('"Order Events"', 'No', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
RESET ROLE;
-- the same again changes nothing, other columns do
SET ROLE sources_owner;
SELECT projections.register_source('"Order Events"', 'No', type_column => 'kind', time_column => 'at', correlation_column => 'Case');
SELECT projections.register_source('"Order Events"', 'No', type_column => 'kind', time_column => 'at', capture => 'trigger');
SELECT position, type, "time", correlation, capture, arrivals FROM registered WHERE relation = '"Order Events"'::regclass;
SELECT projections.register_source('"Order Events"', 'No', type_column => 'kind', time_column => 'at');
SELECT position, capture, arrivals FROM registered WHERE relation = '"Order Events"'::regclass;
SELECT to_regclass('projections_internal."Order Events_arrivals"') AS gone;
-- not while somebody reads it
SELECT projections.create_subscription('sources reader', '"Order Events"');
SELECT projections.register_source('"Order Events"', 'No', type_column => 'kind', time_column => 'at');
SELECT projections.register_source('"Order Events"', 'No', type_column => 'kind');
SELECT projections.unregister_source('"Order Events"');
SELECT projections.drop_subscription('sources reader');
SELECT projections.unregister_source('"Order Events"');
SELECT projections.unregister_source('"Order Events"');
RESET ROLE;

--
-- Columns and sequences that cannot serve
--
CREATE TABLE bad (a bigint, b bigint NOT NULL, c text NOT NULL, d bigint NOT NULL UNIQUE, e bigint GENERATED ALWAYS AS IDENTITY UNIQUE, f numeric GENERATED ALWAYS AS (1) STORED,
                  g serial UNIQUE DEFERRABLE);
SELECT projections.register_source('bad');
SELECT projections.register_source('bad', 'none such');
SELECT projections.register_source('bad', 'e', type_column => 'none such');
SELECT projections.register_source('bad', 'a');
SELECT projections.register_source('bad', 'b');
SELECT projections.register_source('bad', 'c');
SELECT projections.register_source('bad', 'd');
SELECT projections.register_source('bad', 'f');
SELECT projections.register_source('bad', 'g');
SELECT projections.register_source('bad', 'e', capture => 'guess');
SELECT projections.register_source(NULL, 'e');
ALTER TABLE bad ALTER e SET CACHE 10;
SELECT projections.register_source('bad', 'e');
ALTER TABLE bad ALTER e SET CACHE 1 SET CYCLE;
SELECT projections.register_source('bad', 'e');
ALTER TABLE bad ALTER e SET NO CYCLE SET INCREMENT -1;
SELECT projections.register_source('bad', 'e');
-- a trigger does not care, nor does it need a sequence
SELECT projections.register_source('bad', 'e', capture => 'trigger');
SELECT projections.unregister_source('bad');
SELECT projections.register_source('bad', 'd', capture => 'trigger');
SELECT projections.unregister_source('bad');
SELECT count(*) AS triggers FROM pg_trigger WHERE tgrelid = 'bad'::regclass AND tgname = 'projections_arrival';

-- partitions that draw from sequences of their own
CREATE SEQUENCE one;
CREATE SEQUENCE two;
CREATE TABLE parts (n bigint NOT NULL DEFAULT nextval('one'), k int NOT NULL, PRIMARY KEY (n, k)) PARTITION BY RANGE (k);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (10) TO (20);
ALTER TABLE parts_2 ALTER n SET DEFAULT nextval('two');
SELECT projections.register_source('parts', 'n');
ALTER TABLE parts_2 ALTER n SET DEFAULT nextval('one');
SELECT projections.register_source('parts', 'n');
SELECT sequence FROM registered WHERE relation = 'parts'::regclass;

--
-- Relations that cannot
--
CREATE TEMP TABLE temporary (n serial PRIMARY KEY);
CREATE UNLOGGED TABLE unlogged (n serial PRIMARY KEY);
CREATE VIEW a_view AS SELECT * FROM bad;
CREATE MATERIALIZED VIEW materialized AS SELECT * FROM bad;
CREATE FOREIGN DATA WRAPPER sources_nothing;
CREATE SERVER sources_nowhere FOREIGN DATA WRAPPER sources_nothing;
CREATE FOREIGN TABLE foreign_table (n int) SERVER sources_nowhere;
CREATE TABLE parent (n serial PRIMARY KEY);
CREATE TABLE child () INHERITS (parent);
SET client_min_messages = warning;
SELECT projections.create('counts', 'SELECT d, count(*) AS n FROM bad GROUP BY d');
RESET client_min_messages;
\set VERBOSITY sqlstate
SELECT projections.register_source('temporary', 'n');
\set VERBOSITY default
SELECT projections.register_source('unlogged', 'n');
SELECT projections.register_source('a_view', 'e');
SELECT projections.register_source('materialized', 'e');
SELECT projections.register_source('foreign_table', 'n');
SELECT projections.register_source('parent', 'n');
SELECT projections.register_source('child', 'n');
SELECT projections.register_source('parts_1', 'n');
SELECT projections.register_source('counts', 'n');
SELECT projections.register_source('one', 'n');
SELECT projections.register_source('projections.streams', 'version');
SELECT projections.register_source('pg_class', 'oid');
SELECT projections.register_source('none_such', 'n');
SELECT projections.unregister_source('bad');
SELECT projections.unregister_source('projections.events');
SELECT projections.drop('counts');

--
-- What has arrived is known by its position for good: a subscriber that is copied anew is not applied twice
--
SET client_min_messages = error;
CREATE TABLE copied (n bigint PRIMARY KEY, k int);
SELECT projections.register_source('copied', 'n', capture => 'trigger');
SELECT projections.create('copied_counts', 'SELECT k, count(*) AS n FROM copied GROUP BY k', mode => 'async');
CREATE FUNCTION counted(state jsonb, event copied, key text) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$SELECT to_jsonb((state #>> '{}')::int + 1)$$;
SELECT projections.create_reducer('copied_states', 'copied', 'k::text', 'counted(jsonb, copied, text)', initial => '0');
INSERT INTO copied SELECT i, i % 2 FROM generate_series(1, 10) AS i;
SELECT projections.catch_up('copied_counts'), projections.catch_up('copied_states');
CREATE TEMPORARY TABLE kept AS TABLE copied;
TRUNCATE copied;
INSERT INTO copied SELECT * FROM kept WHERE n < 4;
INSERT INTO copied VALUES (11, 0);
INSERT INTO copied SELECT * FROM kept WHERE n > 3;
SELECT projections.catch_up('copied_counts'), projections.catch_up('copied_states');
DELETE FROM copied WHERE n = 5;
INSERT INTO copied VALUES (5, 1);
SELECT projections.catch_up('copied_counts'), projections.catch_up('copied_states');
TABLE copied_counts ORDER BY k;
SELECT key, state FROM copied_states ORDER BY key;
SELECT (SELECT count(*) FROM projections.verify('copied_counts')) AS counts, (SELECT count(*) FROM projections.verify('copied_states')) AS states;
SELECT projections.drop('copied_counts'), projections.drop('copied_states');
DROP TABLE copied CASCADE;
RESET client_min_messages;

--
-- Drops and renames
--
CREATE TABLE doomed (n bigserial PRIMARY KEY);
SELECT projections.register_source('doomed', 'n', capture => 'trigger');
SELECT projections.create_subscription('doomed reader', 'doomed');
ALTER TABLE doomed RENAME n TO m;
DROP TABLE projections_internal.doomed_arrivals;
DROP TRIGGER projections_arrival ON doomed;
ALTER TABLE doomed RENAME TO "Doomed";
INSERT INTO "Doomed" DEFAULT VALUES;
SELECT arrival, position FROM projections_internal.doomed_arrivals;
DROP TABLE "Doomed";
SELECT to_regclass('projections_internal.doomed_arrivals') AS arrivals, (SELECT count(*) FROM projections_internal.subscription) AS subscriptions;
SELECT relation FROM registered ORDER BY relation::text;

SET client_min_messages = warning;
DROP SCHEMA sources, second CASCADE;
DROP FOREIGN DATA WRAPPER sources_nothing CASCADE;
DROP ROLE sources_owner, sources_other;
SELECT count(*) AS sources FROM projections_internal.source;
SELECT relname FROM pg_class WHERE relnamespace = 'projections_internal'::regnamespace AND relname LIKE '%arrivals%';
