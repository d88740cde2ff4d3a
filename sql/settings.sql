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
SELECT projections.create('read_dates', $$SELECT to_date(code, 'DD/MM/YYYY') AS day, count(*) AS n FROM visits GROUP BY 1$$);
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

--
-- Settings that functions called immutable read, and those by which text is parsed
--
CREATE TABLE texts_of (id int PRIMARY KEY, f float8, took interval, bytes bytea, t text, at timestamptz);
CREATE FUNCTION with_backslash(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT $1 || 'a\b' $$;
SELECT projections.create('immutable_texts', $$SELECT id, f::text AS f, took::text AS took, bytes::text AS bytes, quote_ident('x' || id) AS quoted, ('{NULL,' || id || '}')::text[] AS nulls, at AT TIME ZONE 'IST' AS india,
    t || 'a\b' AS slash, with_backslash(t) AS inlined, t::interval AS read_interval FROM texts_of$$);
SELECT projections.create('grouped_texts', $$SELECT t || 'a\b' AS o, array_to_string(ARRAY[max(t), NULL], ',') || ('{NULL}'::text[])[1] AS a, count(*) AS n, sum(f + 0.30000000000000004::float8) AS f,
    count(*) FILTER (WHERE took > '-1 day +2:00') AS longer FROM texts_of GROUP BY t$$);
-- What is constant is computed when the definition is planned.
SELECT projections.create('constants', $$SELECT t || (0.1::float8 + 0.2::float8)::text || ' ' || interval '-1 day +2:00'::text AS o, count(*) AS n FROM texts_of GROUP BY 1$$);
INSERT INTO texts_of VALUES (1, 0.1 + 0.2::float8, '-1 day +02:00', '\x01ff', '1 day', '2024-01-01 00:00+00');
\c
SET search_path = settings;
SET client_min_messages = error;
SET timezone_abbreviations = 'India'; SET array_nulls = off; SET quote_all_identifiers = on; SET standard_conforming_strings = off; SET backslash_quote = off;
SET extra_float_digits = -5; SET IntervalStyle = 'sql_standard'; SET bytea_output = 'escape'; SET transform_null_equals = on;
INSERT INTO texts_of SELECT id + 1, f, took, bytes, t, at FROM texts_of;
UPDATE texts_of SET f = f WHERE id = 1;
INSERT INTO texts_of VALUES (3, 1, '1 day', NULL, NULL, NULL), (4, 1, NULL, NULL, '2 days', NULL);
DELETE FROM texts_of WHERE id = 3;
RESET ALL;
SET search_path = settings; SET TimeZone = 'Europe/Berlin'; SET DateStyle = 'ISO, DMY'; SET IntervalStyle = 'postgres'; SET extra_float_digits = 1; SET client_min_messages = warning;
\set SHOW_CONTEXT never
SELECT * FROM immutable_texts ORDER BY id;
SELECT o, a, n, longer FROM grouped_texts ORDER BY o;
SELECT * FROM test.check_all();
SELECT p, v.* FROM unnest(ARRAY['immutable_texts', 'grouped_texts']) AS p, projections.verify(p) AS v;
-- Created where strings have escapes: they are the user's in his query, and nobody's afterwards.
SET standard_conforming_strings = off; SET escape_string_warning = off;
SELECT projections.create('with_escapes', 'SELECT t || ''a\\b'' AS o, count(*) AS n FROM texts_of GROUP BY t');
RESET standard_conforming_strings; RESET escape_string_warning;
INSERT INTO texts_of VALUES (5, 1, NULL, NULL, '3 days', NULL);
SELECT o, length(o) AS length, n FROM with_escapes ORDER BY o;
SELECT * FROM test.check_all();
-- The row of an older version has no value for the newer settings.
UPDATE projections_internal.projection SET settings = settings[1:12] WHERE relation = 'immutable_texts'::regclass;
\c
SET search_path = settings;
\set SHOW_CONTEXT never
INSERT INTO texts_of VALUES (6, 1, NULL, NULL, NULL, NULL);
SELECT count(*) AS texts FROM immutable_texts;

--
-- The clock
--
SET client_min_messages = warning;
CREATE TYPE day_of AS (n int, day date);
CREATE DOMAIN workday AS date;
CREATE TABLE spoken (id int PRIMARY KEY, t text, ts text[], tm time, tmz timetz, doc jsonb, v varchar);
SELECT projections.create('p', $$SELECT id, ('now')::text::timestamp AS x FROM spoken$$);
SELECT projections.create('p', 'SELECT id, t::date AS d FROM spoken');
SELECT projections.create('p', 'SELECT id, v::timestamptz AS d FROM spoken');
SELECT projections.create('p', 'SELECT id FROM spoken WHERE t::time > tm');
SELECT projections.create('p', 'SELECT id, CAST(t AS timetz) AS d FROM spoken');
SELECT projections.create('p', 'SELECT id, ts::date[] AS d FROM spoken');
SELECT projections.create('p', 'SELECT id, t::daterange AS d FROM spoken');
SELECT projections.create('p', 'SELECT id, t::datemultirange AS d FROM spoken');
SELECT projections.create('p', 'SELECT id, t::workday AS d FROM spoken');
SELECT projections.create('p', 'SELECT id, t::day_of AS d FROM spoken');
SELECT projections.create('p', 'SELECT id, date_in(textout(t)) AS d FROM spoken');
SELECT projections.create('p', 'SELECT id, jsonb_populate_record(NULL::day_of, doc) AS d FROM spoken');
SELECT projections.create('p', 'SELECT id, (doc ->> ''at'')::timestamptz AS d FROM spoken');
SELECT projections.create('p', 'SELECT id, tm::timetz AS d FROM spoken');
SELECT projections.create('p', 'SELECT id, tmz AT TIME ZONE ''Europe/Berlin'' AS d FROM spoken');
SELECT projections.create('p', $$SELECT id, '[today,infinity)'::daterange AS d FROM spoken$$);
-- what takes no such words
SELECT projections.create('clockless', $$SELECT id, to_date(t, 'YYYYMMDD') AS d, to_timestamp(doc ->> 'at', 'YYYY-MM-DD"T"HH24:MI:SS') AS at, make_date(id, 1, 1) AS first, tm::interval AS i, tmz::time AS c,
    tm::text AS span, jsonb_path_query_first_tz(doc, '$.at.datetime()') AS from_path FROM spoken$$);
INSERT INTO spoken VALUES (1, '20200102', '{}', '10:00', '10:00+02', '{"at": "2020-01-02T03:04:05"}', 'x');

DROP SCHEMA settings CASCADE;
DROP SCHEMA elsewhere CASCADE;
SELECT count(*) AS projections FROM projections.definitions;
