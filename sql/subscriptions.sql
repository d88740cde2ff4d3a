-- Subscriptions: a reader outside the database polls and acknowledges.
CREATE SCHEMA subscriptions;
SET search_path = subscriptions;
\set SHOW_CONTEXT never

CREATE ROLE subscriptions_reader;
CREATE ROLE subscriptions_other;
GRANT USAGE ON SCHEMA subscriptions TO subscriptions_reader, subscriptions_other;
CREATE TABLE moves (n int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, kind varchar(20) NOT NULL, item text, at timestamptz DEFAULT '2026-01-01 UTC');
SELECT projections.register_source('moves', 'n', type_column => 'kind', time_column => 'at');
INSERT INTO moves (kind, item) SELECT CASE n % 3 WHEN 0 THEN 'picked' ELSE 'received' END, 'item ' || n % 2 FROM generate_series(1, 9) AS n;
GRANT SELECT ON moves TO subscriptions_reader;
SET TimeZone = 'UTC';

SELECT projections.create_subscription('all moves', 'moves');
SELECT projections.create_subscription('picked', 'subscriptions.moves', partition_by => 'upper(item)', event_types => ARRAY['picked', 'none such']);
SELECT name, source, partition_by, event_types, position, owner = current_user::regrole AS mine, acked_at FROM projections_internal.subscription ORDER BY name;
-- what is refused
SELECT projections.create_subscription('picked', 'moves');
SELECT projections.create_subscription('', 'moves');
SELECT projections.create_subscription('x', 'none_such');
SELECT projections.create_subscription('x', 'projections.streams');
SELECT projections.create_subscription('x', 'moves', partition_by => 'none_such');
SELECT projections.create_subscription('x', 'moves', partition_by => 'item) FROM subscriptions.moves; --');
SELECT projections.create_subscription('x', 'moves', partition_by => 'item)::text FROM subscriptions.moves; SELECT (1');
CREATE TABLE untyped (n bigserial PRIMARY KEY);
SELECT projections.register_source('untyped', 'n');
SELECT projections.create_subscription('x', 'untyped', event_types => '{a}');
SELECT projections.create_subscription('untyped', 'untyped');
SELECT * FROM projections.poll('untyped');
INSERT INTO untyped VALUES (DEFAULT);
SELECT * FROM projections.poll('untyped');

SELECT * FROM projections.poll('all moves', 4);
-- again until they are acknowledged
SELECT position FROM projections.poll('all moves', 2);
SELECT projections.ack('all moves', 2);
SELECT position FROM projections.poll('all moves', 2);
BEGIN;
SELECT projections.ack('all moves', 4);
SELECT position FROM projections.poll('all moves', 2);
ROLLBACK;
SELECT position FROM projections.poll('all moves', 2);
SELECT * FROM projections.poll('picked');
SELECT projections.ack('picked', 9);
SELECT count(*) FROM projections.poll('picked');
SELECT position, acked_at IS NOT NULL AS acked FROM projections_internal.subscription WHERE name = 'picked';

-- never back, never beyond
SELECT projections.ack('all moves', 2);
SELECT projections.ack('all moves', 1);
SELECT projections.ack('all moves', NULL);
SELECT projections.ack('all moves', 10);
SELECT projections.ack('none such', 1);
SELECT projections.poll('none such');
SELECT projections.poll('all moves', 0);
SELECT projections.poll('all moves', NULL);

-- a snapshot that stands still is refused
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT projections.poll('all moves');
ROLLBACK;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT projections.poll('all moves');
ROLLBACK;

-- roles
SET ROLE subscriptions_reader;
SELECT projections.create_subscription('mine', 'moves');
SELECT position FROM projections.poll('mine', 1);
SELECT projections.ack('mine', 1);
SELECT projections.poll('all moves');
SELECT projections.ack('all moves', 9);
SELECT projections.drop_subscription('all moves');
UPDATE projections_internal.subscription SET position = 0;
DELETE FROM projections_internal.subscription WHERE name = 'all moves';
INSERT INTO projections_internal.subscription (name, source, owner) VALUES ('foisted', 'moves', 'subscriptions_other');
INSERT INTO projections_internal.subscription (name, source, owner) VALUES ('unreadable', 'untyped', 'subscriptions_reader');
SET ROLE subscriptions_other;
SELECT projections.create_subscription('theirs', 'moves');
SELECT projections.poll('mine');
RESET ROLE;
GRANT subscriptions_reader TO subscriptions_other;
SET ROLE subscriptions_other;
SELECT position FROM projections.poll('mine', 1);
RESET ROLE;
SELECT name, position FROM projections_internal.subscription ORDER BY name;
REVOKE SELECT ON moves FROM subscriptions_reader;
SET ROLE subscriptions_reader;
SELECT projections.poll('mine');
SELECT projections.drop_subscription('mine');
RESET ROLE;

-- the source's owner may end what holds its events back
ALTER TABLE moves OWNER TO subscriptions_reader;
SET ROLE subscriptions_reader;
SELECT projections.drop_subscription('picked');
SELECT projections.drop_subscription('untyped');
RESET ROLE;

-- where positions are arrivals, the order is that of arrival
CREATE TABLE reserved (n bigint PRIMARY KEY, kind text);
INSERT INTO reserved VALUES (20, 'a'), (10, 'b');
SELECT projections.register_source('reserved', 'n', type_column => 'kind', capture => 'trigger');
SELECT projections.create_subscription('arrived', 'reserved');
SELECT position, type, event -> 'n' AS n FROM projections.poll('arrived');
SELECT projections.ack('arrived', 2);
INSERT INTO reserved VALUES (15, 'c');
INSERT INTO reserved VALUES (5, 'd');
SELECT position, type, event -> 'n' AS n FROM projections.poll('arrived');
SELECT * FROM projections.event_status('reserved', 3);

-- what was deleted does not come
SELECT * FROM projections.archive_events('moves', '2026-01-02 UTC');
SELECT projections.ack('all moves', 9); -- not polled yet
SELECT max(position) FROM projections.poll('all moves');
SELECT projections.ack('all moves', 9);
SELECT * FROM projections.archive_events('moves', '2026-01-02 UTC');
INSERT INTO moves (kind, item) VALUES ('picked', 'last');
SELECT projections.create_subscription('late', 'moves');
SELECT position, type FROM projections.poll('late');

SET client_min_messages = warning;
DROP SCHEMA subscriptions CASCADE;
DROP ROLE subscriptions_reader, subscriptions_other;
SELECT count(*) AS subscriptions FROM projections_internal.subscription;
