-- A key that can never be NULL is a PRIMARY KEY; where NULL is possible it is a unique index, or an error of the writer.
CREATE SCHEMA primary_keys;
SET search_path = primary_keys;
SET client_min_messages = warning;
\set SHOW_CONTEXT never

-- How a table says what its key is.
CREATE FUNCTION key_of(target regclass) RETURNS text LANGUAGE sql AS $$
    SELECT coalesce(string_agg(format('%s (%s)%s', CASE WHEN i.indisprimary THEN 'primary' ELSE 'unique' END,
               (SELECT string_agg(a.attname || CASE WHEN a.attnotnull THEN '' ELSE ' or null' END, ', ' ORDER BY k.place)
                FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, place)
                JOIN pg_attribute AS a ON a.attrelid = target AND a.attnum = k.attnum),
               CASE WHEN NOT i.indnullsnotdistinct AND NOT i.indisprimary THEN ', nulls distinct' ELSE '' END),
           ', ' ORDER BY i.indisprimary DESC, i.indexrelid), 'none')
    FROM pg_index AS i WHERE i.indrelid = target AND i.indisunique
$$;
CREATE VIEW problems AS -- not of the server's settings, which differ
SELECT object, split_part(problem, ' since', 1) AS problem, hint FROM projections.validate()
WHERE severity <> 'INFO' AND object <> 'shared_preload_libraries' ORDER BY 1, 2;
CREATE VIEW keys AS
SELECT d.relation::regclass::text AS projection, key_of(d.relation) AS key FROM projections.definitions AS d ORDER BY d.relation;

CREATE DOMAIN label AS text NOT NULL;
CREATE TABLE shops (id int PRIMARY KEY, code text NOT NULL, country text, tag label, checked int CHECK (checked IS NOT NULL));
CREATE TABLE sales (id int PRIMARY KEY, shop int, amount int NOT NULL, at timestamptz NOT NULL DEFAULT '2026-01-01 10:00+00');
CREATE TABLE returns (id int PRIMARY KEY, shop int NOT NULL);
CREATE TABLE budgets (shop int NOT NULL, amount int);
INSERT INTO shops VALUES (1, 'a', 'AT', 'x', 1), (2, 'b', NULL, 'x', 1), (3, 'b', 'DE', 'y', 1);
INSERT INTO sales VALUES (1, 1, 10), (2, 1, 20), (3, 2, 30), (4, NULL, 40), (5, 9, 50);
INSERT INTO returns VALUES (1, 1), (2, 3);
INSERT INTO budgets VALUES (1, 100), (7, NULL);

-- ------------------------------------------------------------------------------------------------- which keys are never NULL

SELECT count(projections.create(name, query)) FROM (VALUES
    ('codes', 'SELECT code, count(*) AS n FROM shops GROUP BY code'),
    ('countries', 'SELECT country, count(*) AS n FROM shops GROUP BY country'),
    ('both', 'SELECT code, country, count(*) AS n FROM shops GROUP BY code, country'),
    -- a domain's NOT NULL does not hold for a column that is not, and a CHECK is not looked into
    ('tags', 'SELECT tag, count(*) AS n FROM shops GROUP BY tag'),
    ('checked', 'SELECT checked, count(*) AS n FROM shops GROUP BY checked'),
    -- expressions
    ('some_countries', $$SELECT coalesce(country, 'none') AS country, count(*) AS n FROM shops GROUP BY 1$$),
    ('first_of', 'SELECT coalesce(country, tag) AS name, count(*) AS n FROM shops GROUP BY 1'),
    ('kinds', $$SELECT CASE WHEN country IS NULL THEN 'none' ELSE code END AS kind, country IS NULL AS abroad, count(*) AS n FROM shops GROUP BY 1, 2$$),
    ('half_kinds', $$SELECT CASE WHEN country IS NULL THEN 'none' END AS kind, count(*) AS n FROM shops GROUP BY 1$$),
    ('days', $$SELECT date_trunc('day', at, 'UTC') AS day, amount > 15 AS large, lower(amount::text) AS amount, count(*) AS n FROM sales GROUP BY 1, 2, 3$$),
    ('day_numbers', $$SELECT extract(day FROM at AT TIME ZONE 'UTC') AS day, count(*) AS n FROM sales GROUP BY 1$$), -- NULL, of infinity
    ('remainders', 'SELECT amount % 20 AS remainder, nullif(amount, 10) AS other, count(*) AS n FROM sales GROUP BY 1, 2'),
    -- conditions
    ('sold', 'SELECT shop, count(*) AS n FROM sales WHERE shop IS NOT NULL GROUP BY shop'),
    ('sold_less', 'SELECT shop, count(*) AS n FROM sales WHERE shop < 5 GROUP BY shop'),
    ('sold_either', 'SELECT shop, count(*) AS n FROM sales WHERE shop IS NOT NULL OR amount > 0 GROUP BY shop'),
    -- joins
    ('joined', 'SELECT s.id, s.amount, p.country FROM sales s JOIN shops p ON p.id = s.shop'),
    ('joined_shops', 'SELECT s.shop, count(*) AS n FROM sales s JOIN shops p ON p.id = s.shop GROUP BY s.shop'),
    ('optional', 'SELECT s.id, p.code FROM sales s LEFT JOIN shops p ON p.id = s.shop'),
    ('optional_codes', 'SELECT p.code, count(*) AS n FROM sales s LEFT JOIN shops p ON p.id = s.shop GROUP BY p.code'),
    ('other_side', 'SELECT p.code, count(s.id) AS n FROM sales s RIGHT JOIN shops p ON p.id = s.shop GROUP BY p.code'),
    ('both_sides', 'SELECT s.id, r.id AS returned FROM sales s FULL JOIN returns r ON r.id = s.id'),
    ('used', 'SELECT id, count(s.amount) AS sales, count(r.shop) AS returns FROM sales s FULL JOIN returns r USING (id) GROUP BY id'),
    ('used_shops', 'SELECT shop, count(*) AS n FROM sales s FULL JOIN returns r USING (shop) GROUP BY shop'),
    -- unions and sets
    ('movements', $$SELECT 'sale' AS kind, id FROM sales UNION ALL SELECT 'return', id FROM returns$$),
    ('united', 'SELECT shop, count(*) AS n FROM (SELECT shop FROM returns UNION ALL SELECT shop FROM budgets) u GROUP BY shop'),
    ('one_nullable', 'SELECT shop, count(*) AS n FROM (SELECT shop FROM returns UNION ALL SELECT shop FROM sales) u GROUP BY shop'),
    ('rolled_up', 'SELECT code, id, grouping(code, id) AS level, count(*) AS n FROM shops GROUP BY ROLLUP (code, id)'),
    -- over groups: counts, HAVING, DISTINCT
    ('histogram', 'SELECT sales, count(*) AS shops FROM (SELECT shop, count(*) AS sales FROM sales GROUP BY shop) g GROUP BY sales'),
    ('frequent', 'SELECT code, count(*) AS n FROM shops GROUP BY code HAVING count(*) > 1'),
    ('distinct_codes', 'SELECT DISTINCT code FROM shops'),
    -- slices
    ('lists', 'SELECT p.id, p.code, array_agg(s.id ORDER BY s.id) AS sales FROM shops p LEFT JOIN sales s ON s.shop = p.id GROUP BY p.id, p.code'),
    ('optional_lists', 'SELECT p.id, array_agg(s.id ORDER BY s.id) AS sales FROM sales s LEFT JOIN shops p ON s.shop = p.id GROUP BY p.id'),
    ('documents', 'SELECT p.id, p.code, ARRAY(SELECT s.amount FROM sales s WHERE s.shop = p.id ORDER BY s.id) AS amounts FROM shops p'),
    ('sale_documents', 'SELECT s.id, p.code, ARRAY(SELECT r.id FROM returns r WHERE r.shop = s.shop ORDER BY r.id) AS returns
        FROM sales s LEFT JOIN shops p ON s.shop = p.id'),
    ('first_sales', 'SELECT DISTINCT ON (s.shop) s.shop, s.amount, p.code FROM sales s LEFT JOIN shops p ON s.shop = p.id ORDER BY s.shop, s.id'),
    ('numbered', 'SELECT id, shop, row_number() OVER (PARTITION BY shop ORDER BY id) AS place FROM sales'),
    -- neither
    ('totals', 'SELECT count(*) AS n, sum(amount) AS amount FROM sales'),
    ('bag', 'SELECT shop, amount FROM budgets')) AS q(name, query);
SET client_min_messages = error; -- of workers
SELECT count(projections.create(name, query, mode)) FROM (VALUES
    ('above_codes', 'SELECT code, n FROM codes', 'inline'),
    ('above_countries', 'SELECT country, n FROM countries', 'inline'),
    ('above_counts', 'SELECT n, count(*) AS codes FROM codes GROUP BY n', 'inline'),
    ('later', 'SELECT code, count(*) AS n FROM shops GROUP BY code', 'async')) AS q(name, query, mode);
SET client_min_messages = warning;
SELECT * FROM keys;
SELECT * FROM test.check_all();

-- NULLs wherever they may be.
INSERT INTO shops SELECT 4, 'd', NULL, (SELECT tag FROM shops WHERE false), 2;
INSERT INTO sales VALUES (10, NULL, 5, 'infinity'), (11, 4, 10, '2026-01-02');
INSERT INTO returns VALUES (12, 9);
INSERT INTO budgets VALUES (9, 9);
UPDATE shops SET country = NULL WHERE id = 1;
UPDATE sales SET shop = NULL WHERE id = 3;
SELECT projections.catch_up() > 0 AS caught_up;
SELECT * FROM test.check_all();
DELETE FROM sales WHERE id IN (1, 4, 10);
UPDATE shops SET code = 'z', country = 'DE' WHERE id IN (2, 4);
DELETE FROM returns;
SELECT projections.catch_up() > 0 AS caught_up;
SELECT * FROM test.check_all();

-- In partitions.
CREATE TABLE parted (region text NOT NULL, day date, n int) PARTITION BY LIST (region);
CREATE TABLE parted_n PARTITION OF parted FOR VALUES IN ('n');
SELECT projections.create('regions', 'SELECT region, sum(n) AS n FROM parted GROUP BY region');
SELECT key_of('regions');
INSERT INTO parted VALUES ('n', NULL, 1);
CREATE TABLE parted_s (n int, region text NOT NULL, day date);
INSERT INTO parted_s VALUES (7, 's', NULL);
ALTER TABLE parted ATTACH PARTITION parted_s FOR VALUES IN ('s');
ALTER TABLE parted_s ALTER region DROP NOT NULL;
ALTER TABLE parted ALTER region DROP NOT NULL;
SELECT * FROM test.check('regions');
DROP TABLE parted CASCADE;

-- What create() says, but for how long it took.
SET client_min_messages = notice;
BEGIN;
SELECT projections.create('told', 'SELECT country, code, count(*) AS n FROM shops GROUP BY country, code', options => '{"fill": "online"}');
SELECT projections.create('told_more', 'SELECT s.amount, p.code FROM sales s JOIN shops p ON p.id = s.shop', options => '{"fill": "online"}');
ROLLBACK;
SET client_min_messages = warning;

-- ---------------------------------------------------------------------------------------------------------- what holds it

-- The key itself.
ALTER TABLE codes DROP CONSTRAINT codes_pkey;
\echo :LAST_ERROR_SQLSTATE
ALTER TABLE codes ALTER code DROP NOT NULL;
CREATE UNIQUE INDEX spare ON codes (code) NULLS NOT DISTINCT;
ALTER TABLE codes DROP CONSTRAINT codes_pkey;
DROP INDEX spare;
DROP INDEX countries_country_idx;
\echo :LAST_ERROR_SQLSTATE
-- another index in its place, in one command
CREATE UNIQUE INDEX codes_new ON codes (code);
ALTER TABLE codes DROP CONSTRAINT codes_pkey, ADD CONSTRAINT codes_pkey PRIMARY KEY USING INDEX codes_new;
SELECT key_of('codes');
INSERT INTO shops VALUES (5, 'e', 'AT', 'x', 1);
SELECT test.check('codes');
-- What it rests on.
ALTER TABLE shops ALTER code DROP NOT NULL;
\echo :LAST_ERROR_SQLSTATE
ALTER TABLE sales ALTER at DROP NOT NULL;
ALTER TABLE budgets ALTER shop DROP NOT NULL;
-- not where the key may be NULL anyway, nor of columns that are in no key
UPDATE sales SET shop = 1 WHERE shop IS NULL;
ALTER TABLE sales ALTER shop SET NOT NULL;
ALTER TABLE sales ALTER shop DROP NOT NULL;
-- A part's key is nobody's business.
SELECT projections.create('only_part', 'SELECT count(DISTINCT shop) AS shops FROM budgets');
SELECT projections.drop('united');
ALTER TABLE budgets ALTER shop DROP NOT NULL;
INSERT INTO budgets VALUES (NULL, 1);
-- Lost unseen, it harms nobody before there is a NULL, and validate() says so.
SET session_replication_role = replica;
ALTER TABLE returns ALTER shop DROP NOT NULL;
RESET session_replication_role;
SELECT projections.create('returned', 'SELECT shop, count(*) AS n FROM returns GROUP BY shop');
SELECT projections.drop('returned');
ALTER TABLE returns ALTER shop SET NOT NULL;
SELECT projections.create('returned', 'SELECT shop, count(*) AS n FROM returns GROUP BY shop');
SET session_replication_role = replica;
ALTER TABLE returns ALTER shop DROP NOT NULL;
RESET session_replication_role;
SELECT * FROM problems;
INSERT INTO returns VALUES (20, 1);
INSERT INTO returns VALUES (21, NULL);
\echo :LAST_ERROR_SQLSTATE
SELECT status FROM projections.health('returned');
ALTER TABLE returns ALTER shop SET NOT NULL;
SELECT * FROM problems;
SELECT projections.catch_up() > 0 AS caught_up;
SELECT * FROM test.check_all();

CREATE PROCEDURE wait_until(condition text) LANGUAGE plpgsql AS $$
DECLARE
    met boolean;
BEGIN
    FOR i IN 1 .. 3000 LOOP
        EXECUTE 'SELECT ' || condition INTO met;
        EXIT WHEN met;
        COMMIT;
        PERFORM pg_sleep(0.01); -- the limit is 30 seconds
    END LOOP;
END
$$;

-- -------------------------------------------------------------------------------------------------------------- key_not_null

SELECT projections.create('required', 'SELECT country, count(*) AS n FROM shops GROUP BY country', options => '{"key_not_null": true}');
UPDATE shops SET country = 'IT' WHERE country IS NULL;
SELECT projections.create('required', 'SELECT country, count(*) AS n FROM shops GROUP BY country', options => '{"key_not_null": true}');
SELECT key_of('required');
INSERT INTO shops VALUES (30, 'q', NULL, 'x', 1);
\echo :LAST_ERROR_SQLSTATE
UPDATE shops SET country = NULL WHERE id = 1;
BEGIN;
INSERT INTO shops VALUES (30, 'q', NULL, 'x', 1);
UPDATE shops SET country = 'FR' WHERE id = 30;
COMMIT;
SELECT test.check('required');
-- Rows of joins, and slices, too.
SELECT projections.create('required_rows', 'SELECT p.id AS shop, s.id FROM shops p LEFT JOIN sales s ON s.shop = p.id', options => '{"key_not_null": true}');
SELECT projections.create('required_lists', 'SELECT shop, array_agg(id ORDER BY id) AS sales FROM sales GROUP BY shop', options => '{"key_not_null": true}');
SELECT key_of('required_lists');
INSERT INTO sales VALUES (40, NULL, 1);
UPDATE sales SET shop = 2 WHERE id = 5;
SELECT test.check('required_lists');
-- Whoever reads it knows its key.
SELECT projections.create('above_required', 'SELECT country, n FROM required');
SELECT key_of('above_required');
CALL projections.alter('required', options => '{"key_not_null": null}');
ALTER TABLE required DROP CONSTRAINT required_pkey;
SELECT projections.drop('above_required');
-- It is taken back, and set again.
CALL projections.alter('required', options => '{"key_not_null": null}');
SELECT key_of('required');
UPDATE shops SET country = NULL WHERE id = 1;
SELECT test.check('required');
CALL projections.alter('required', options => '{"key_not_null": true}');
SELECT key_of('required'), (SELECT options FROM projections_internal.projection WHERE relation = 'required'::regclass);
UPDATE shops SET country = 'AT' WHERE id = 1;
CALL projections.alter('required', options => '{"key_not_null": true}');
CALL projections.alter('required', options => '{"key_not_null": true}');
SELECT key_of('required');
UPDATE shops SET country = NULL WHERE id = 1;
-- A source's NOT NULL is not needed with it.
CALL projections.alter('returned', options => '{"key_not_null": true}');
ALTER TABLE returns ALTER shop DROP NOT NULL;
INSERT INTO returns VALUES (21, NULL);
SELECT projections.drop('used_shops'), projections.drop('one_nullable');
CALL projections.alter('returned', options => '{"key_not_null": false}');
SELECT key_of('returned');
INSERT INTO returns VALUES (21, NULL);
SELECT test.check('returned');
-- Where there is no key, or nothing that could be refused.
SELECT projections.create('no_key', 'SELECT count(*) AS n FROM sales', options => '{"key_not_null": true}');
SELECT projections.create('no_key', 'SELECT amount FROM budgets', options => '{"key_not_null": true}');
CALL projections.alter('bag', options => '{"key_not_null": true}');
SELECT projections.create('no_key', 'SELECT code FROM shops', options => '{"key_not_null": "yes"}');

-- Paused, it is told when it resumes.
SELECT projections.pause('required', 'test');
UPDATE shops SET country = NULL WHERE id = 1;
SELECT projections.resume('required');
UPDATE shops SET country = 'CH' WHERE id = 1;
SELECT projections.resume('required');
SELECT test.check('required');
-- Applied later, it stands still.
SET client_min_messages = error; -- of workers
SELECT projections.create('required_later', 'SELECT country, count(*) AS n FROM shops GROUP BY country', 'async', options => '{"key_not_null": true}');
SET client_min_messages = warning;
SELECT projections.drop('required');
UPDATE shops SET country = NULL WHERE id = 2;
SELECT projections.catch_up('required_later');
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM required_later ORDER BY 1;
-- Rebuilt or filled, it keeps what it has.
CALL projections.rebuild('required_later');
CALL projections.alter('required_later', options => '{"finish": "swap"}');
CALL projections.rebuild('required_later');
\echo :LAST_ERROR_SQLSTATE
SELECT projections.reset('required_later');
SELECT projections.refresh_rows('required_later', '[{"country": null}]');
SELECT key_of('required_later'), * FROM required_later ORDER BY country;
SELECT projections.create('filled', 'SELECT country, count(*) AS n FROM shops GROUP BY country', options => '{"key_not_null": true, "fill": "online"}');
CALL wait_until($$EXISTS (SELECT FROM projections_internal.rebuild WHERE projection = 'filled'::regclass AND outcome IS NOT NULL)$$);
SELECT r.outcome, r.error, p.building FROM projections_internal.rebuild r JOIN projections_internal.projection p ON p.relation = r.projection
WHERE projection = 'filled'::regclass ORDER BY id LIMIT 1;
UPDATE shops SET country = 'CH' WHERE id = 2;
SELECT projections.catch_up() > 0 AS caught_up;
CALL projections.rebuild('required_later');
SELECT projections.schedule_rebuild('filled');
CALL wait_until($$NOT (SELECT building FROM projections_internal.projection WHERE relation = 'filled'::regclass)$$);
SELECT key_of('required_later'), key_of('filled');
SELECT * FROM test.check_all();
SELECT projections.drop('required_later'), projections.drop('filled');

-- ------------------------------------------------------------------------------------------------- altered, rebuilt, repaired

CALL projections.rebuild('codes');
CALL projections.alter('codes', options => '{"finish": "swap"}');
CALL projections.rebuild('distinct_codes');
CALL projections.alter('distinct_codes', options => '{"finish": "swap"}');
CALL projections.rebuild('distinct_codes');
SELECT projections.create('changing', 'SELECT code AS name, count(*) AS n FROM shops GROUP BY code');
SELECT key_of('changing');
ALTER TABLE changing RENAME CONSTRAINT changing_pkey TO named_by_me;
CALL projections.alter('changing', 'SELECT coalesce(country, code) AS name, count(*) AS n FROM shops GROUP BY 1');
SELECT key_of('changing'), conname FROM pg_constraint WHERE conrelid = 'changing'::regclass AND contype = 'p';
-- to NULL and back
UPDATE shops SET country = NULL WHERE id = 3;
CALL projections.alter('changing', 'SELECT country AS name, count(*) AS n FROM shops GROUP BY 1');
SELECT key_of('changing');
INSERT INTO shops VALUES (50, 'n', NULL, 'x', 1);
SELECT test.check('changing');
CALL projections.alter('changing', 'SELECT code AS name, count(*) AS n FROM shops GROUP BY 1');
SELECT key_of('changing');
ALTER TABLE changing DROP CONSTRAINT changing_pkey;
-- another column, another type, one more
CALL projections.alter('changing', 'SELECT id, code AS name, country FROM shops');
SELECT key_of('changing');
CALL projections.alter('changing', 'SELECT id::bigint AS number, code AS name, count(*) AS n FROM shops GROUP BY 1, 2');
SELECT key_of('changing');
-- what is not ours is not dropped with it
ALTER TABLE changing ADD CONSTRAINT positive CHECK (n > 0);
CALL projections.alter('changing', 'SELECT id::bigint AS number, code AS name, country FROM shops');
ALTER TABLE changing DROP CONSTRAINT positive;
UPDATE shops SET code = code || '2' WHERE id < 4;
CALL projections.alter('changing', mode => 'async');
SELECT key_of('changing');
CALL projections.alter('changing', mode => 'inline');
SELECT test.check('changing'), key_of('changing');
-- An alteration that would leave no key, or NULL where it must not be.
CALL projections.alter('changing', options => '{"key_not_null": true}');
CALL projections.alter('changing', 'SELECT country, count(*) AS n FROM shops GROUP BY country');
CALL projections.alter('changing', 'SELECT count(*) AS n FROM shops');
SELECT test.check('changing'), key_of('changing');
SELECT projections.drop('changing');
-- A user's own primary key: there is one at most, and it is kept.
SELECT projections.create('theirs', 'SELECT country AS name, min(id) AS first, count(*) AS n FROM shops GROUP BY country');
ALTER TABLE theirs ADD PRIMARY KEY (first);
SELECT key_of('theirs');
CALL projections.alter('theirs', 'SELECT code AS name, min(id) AS first, count(*) AS n FROM shops GROUP BY code');
SELECT key_of('theirs');
CALL projections.alter('theirs', options => '{"key_not_null": true}');
SELECT key_of('theirs');
ALTER TABLE theirs ALTER name DROP NOT NULL;
ALTER TABLE theirs DROP CONSTRAINT theirs_pkey;
SELECT key_of('theirs');
SELECT projections.drop('theirs');

-- As version 0.2.0 has made it: it goes on, and becomes a primary key when the option is set, or by the user.
SET session_replication_role = replica;
ALTER TABLE above_codes DROP CONSTRAINT above_codes_pkey, ALTER code DROP NOT NULL;
CREATE UNIQUE INDEX ON above_codes (code) NULLS NOT DISTINCT;
ALTER TABLE distinct_codes DROP CONSTRAINT distinct_codes_pkey, ALTER code DROP NOT NULL;
CREATE UNIQUE INDEX ON distinct_codes (code) NULLS NOT DISTINCT;
RESET session_replication_role;
SELECT projections.repair('above_codes'), projections.repair('distinct_codes');
SELECT * FROM problems;
INSERT INTO shops VALUES (60, 'o', NULL, 'x', 1);
SELECT test.check('above_codes'), test.check('distinct_codes'), key_of('above_codes');
CALL projections.alter('above_codes', options => '{"key_not_null": true}');
ALTER TABLE distinct_codes ADD PRIMARY KEY (code);
ALTER TABLE distinct_codes DROP CONSTRAINT distinct_codes_pkey; -- theirs, as long as the index is there
ALTER TABLE distinct_codes ADD PRIMARY KEY (code);
DROP INDEX distinct_codes_code_idx;
ALTER TABLE distinct_codes DROP CONSTRAINT distinct_codes_pkey;
INSERT INTO shops VALUES (61, 'p', NULL, 'x', 1);
SELECT test.check('above_codes'), test.check('distinct_codes'), key_of('above_codes'), key_of('distinct_codes');
-- Gone, with rows that are not its own, it is made anew by repair().
SET session_replication_role = replica;
ALTER TABLE distinct_codes DROP CONSTRAINT distinct_codes_pkey, ALTER code DROP NOT NULL;
RESET session_replication_role;
SET pg_projections.allow_direct_writes = on;
INSERT INTO distinct_codes (code, _count) VALUES (NULL, 1), ('a2', 7);
RESET pg_projections.allow_direct_writes;
SELECT * FROM problems;
SELECT projections.repair('distinct_codes') > 0 AS repaired;
SELECT test.check('distinct_codes'), key_of('distinct_codes');

-- Replicas and clients find it.
SET client_min_messages = error; -- of wal_level
CREATE PUBLICATION keyed FOR TABLE codes, countries;
SET client_min_messages = warning;
SELECT relname, relreplident FROM pg_class WHERE oid IN ('codes'::regclass, 'countries'::regclass) ORDER BY 1;
DROP PUBLICATION keyed;
CREATE TABLE notes (code text REFERENCES codes, note text);
INSERT INTO notes VALUES ('o', 'refers');
DELETE FROM shops WHERE code = 'o';
SELECT projections.catch_up() > 0 AS caught_up;
SELECT * FROM test.check_all();
SELECT * FROM problems;

-- With alter_source() a NOT NULL may go, and the primary keys that rest on it, of what reads the projection, too; and come back.
CREATE TABLE resting (id int PRIMARY KEY, k int NOT NULL);
SELECT projections.create('rests', 'SELECT k, count(*) AS n FROM resting GROUP BY k');
SELECT projections.create('rests_above', 'SELECT k, n FROM rests WHERE n > 0');
INSERT INTO resting VALUES (1, 1), (2, 2);
SELECT * FROM projections.alter_source('resting', 'ALTER TABLE resting ALTER k DROP NOT NULL');
INSERT INTO resting VALUES (3, NULL), (4, NULL);
SELECT test.check('rests'), test.check('rests_above'), key_of('rests'), key_of('rests_above');
SELECT * FROM projections.alter_source('resting', 'DELETE FROM resting WHERE k IS NULL; ALTER TABLE resting ALTER k TYPE bigint, ALTER k SET NOT NULL');
SELECT test.check('rests'), test.check('rests_above'), key_of('rests'), key_of('rests_above');
-- Up to version 17 a child may drop what its parent's column says.
\set gone t
\set kept t
CREATE TABLE parent (id int, k int NOT NULL);
CREATE TABLE child () INHERITS (parent);
SELECT projections.create('of_children', 'SELECT k, count(*) AS n FROM parent GROUP BY k');
SELECT current_setting('server_version_num')::int < 180000 AS may_drop \gset
CREATE FUNCTION is_refused(command text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE command;
    RETURN false;
EXCEPTION WHEN OTHERS THEN
    RETURN SQLERRM ~ 'must stay NOT NULL because of projection primary_keys.of_children';
END $$;
\if :may_drop
SELECT is_refused('ALTER TABLE child ALTER k DROP NOT NULL') AS kept \gset
SELECT projections.drop('of_children') \gset
ALTER TABLE child ALTER k DROP NOT NULL;
INSERT INTO child VALUES (1, NULL);
SELECT projections.create('of_children', 'SELECT k, count(*) AS n FROM parent GROUP BY k') \gset
INSERT INTO child VALUES (2, NULL);
SELECT key_of('of_children') NOT LIKE '%primary%' AS gone \gset
\endif
\echo :kept :gone
SELECT test.check('of_children');

DROP SCHEMA primary_keys CASCADE;
SELECT count(*) AS projections FROM projections.definitions;
