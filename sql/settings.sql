-- Settings that a definition's functions read are those of its creation, whoever writes and however the session is set.
CREATE SCHEMA settings;
CREATE SCHEMA elsewhere;
SET search_path = settings;
SET client_min_messages = warning;
\set SHOW_CONTEXT never
SET TimeZone = 'Europe/Berlin';
SET DateStyle = 'ISO, DMY';
SET IntervalStyle = 'postgres';
SET extra_float_digits = 1;

CREATE TABLE visits (id int PRIMARY KEY, at timestamptz, day date, took interval, ratio float8, code text);
-- the body finds its table of digits by search_path
CREATE FUNCTION base() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 10';
CREATE FUNCTION elsewhere.base() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 20';
CREATE FUNCTION based(value int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN base() + value; END';

SELECT projections.create('by_day', $$SELECT date_trunc('day', at) AS day, count(*) AS visits FROM visits GROUP BY date_trunc('day', at)$$);
SELECT projections.create('by_date', 'SELECT at::date AS day, count(*) AS visits, min(at) AS first FROM visits GROUP BY at::date');
SELECT projections.create('texts', 'SELECT day::text AS day, took::text AS took, at::text AS at, ratio::text AS ratio, count(*) AS n FROM visits GROUP BY 1, 2, 3, 4');
SELECT projections.create('documents', $$SELECT id, jsonb_build_object('day', day, 'at', at, 'took', took) AS doc, to_char(at, 'HH24:MI TZ') AS clock FROM visits$$);
SELECT projections.create('read_dates', 'SELECT code::date AS day, count(*) AS n FROM visits GROUP BY code::date');
SELECT projections.create('based_on', 'SELECT based(id) AS based, count(*) AS n FROM visits GROUP BY based(id)');
SELECT projections.create('words', $$SELECT to_tsvector(code)::text AS words, count(*) AS n FROM visits GROUP BY to_tsvector(code)::text$$);
SELECT projections.create('filtered', $$SELECT count(*) AS n FROM visits WHERE at::date = date '2020-03-05' AND at > '04/03/2020'$$);
INSERT INTO visits VALUES (1, '2020-03-04 23:30+01', '2020-03-04', '1 day 02:03', 0.1, '04/03/2020');
SELECT * FROM test.check_all();

-- Another session's settings.
SET TimeZone = 'America/Los_Angeles';
SET DateStyle = 'Postgres, MDY';
SET IntervalStyle = 'iso_8601';
SET search_path = elsewhere, settings;
SET default_text_search_config = 'german';
SET extra_float_digits = -10;
INSERT INTO visits VALUES (2, '2020-03-04 22:30+00', '2020-03-05', '1 day 02:03', 1.0 / 3, '05/03/2020'), (3, '2020-03-05 07:30+00', '2020-03-05', '-1 month', 0.1, '05/03/2020');
SHOW TimeZone;
BEGIN;
UPDATE visits SET at = at + '45 minutes', day = day + 1 WHERE id = 1;
SELECT count(*) AS days FROM by_day;
SHOW DateStyle;
SET LOCAL TimeZone = 'Asia/Tokyo';
UPDATE visits SET took = took * 2, code = '06/03/2020' WHERE id = 2;
COMMIT;
SHOW search_path;
RESET extra_float_digits;
RESET default_text_search_config;
-- Back in the settings of the creation, for the oracle reads the definition under the session's.
SET TimeZone = 'Europe/Berlin'; SET DateStyle = 'ISO, DMY'; SET IntervalStyle = 'postgres'; SET search_path = settings; SET extra_float_digits = 1;
SELECT * FROM test.check_all();
SELECT day, visits FROM by_day ORDER BY day;
SELECT day, took, at, n FROM texts ORDER BY 1, 2, 3;
SELECT based, n FROM based_on ORDER BY 1;
SELECT day, n FROM read_dates ORDER BY 1;
SELECT id, doc, clock FROM documents ORDER BY id;
SELECT n FROM filtered;
-- A flush that fails leaves the session's settings as they were, within and after the transaction.
ALTER TABLE by_day ADD CHECK (visits < 3);
SET TimeZone = 'Asia/Tokyo';
BEGIN;
SAVEPOINT s;
INSERT INTO visits SELECT 10 + i, '2020-05-05 12:00+00' FROM generate_series(1, 5) AS i;
SELECT count(*) FROM by_day;
SHOW TimeZone;
ROLLBACK TO s;
SHOW TimeZone;
COMMIT;
INSERT INTO visits SELECT 10 + i, '2020-05-05 12:00+00' FROM generate_series(1, 5) AS i;
SHOW TimeZone;
SET TimeZone = 'Europe/Berlin';
SELECT * FROM test.check_all();
-- refresh_rows recomputes under the same settings
SET TimeZone = 'Asia/Tokyo';
SET DateStyle = 'German';
SELECT projections.refresh_rows('documents', '[{"id": 1}, {"id": 2}]');
SELECT projections.refresh_rows('texts', (SELECT jsonb_agg(jsonb_build_object('day', day, 'took', took, 'at', at, 'ratio', ratio)) FROM texts));
SET TimeZone = 'Europe/Berlin'; SET DateStyle = 'ISO, DMY';
SELECT * FROM test.check_all();

DROP SCHEMA settings CASCADE;
DROP SCHEMA elsewhere CASCADE;
SELECT count(*) AS projections FROM projections.definitions;
