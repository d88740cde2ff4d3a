-- Documents and other slices: what does not add up is read again for the keys that changed rows concern.
CREATE SCHEMA documents;
SET search_path = documents;
\set SHOW_CONTEXT never
SET client_min_messages = error;
CREATE TABLE users (id int PRIMARY KEY, name text, boss int);
CREATE TABLE posts (id int PRIMARY KEY, author int, title text, score numeric);
CREATE TABLE comments (id int PRIMARY KEY, post int, who int, body text, at int);
CREATE TABLE tags (post int, tag text, PRIMARY KEY (post, tag));
CREATE INDEX ON posts (author);
CREATE INDEX ON comments (post);
CREATE INDEX ON comments (who);
INSERT INTO users SELECT i, 'u' || i, nullif(i / 2, 0) FROM generate_series(1, 6) i;
INSERT INTO posts SELECT i, nullif(i % 5, 0), 'p' || i, round(i / 3.0, i % 3) FROM generate_series(1, 12) i;
INSERT INTO comments SELECT i, nullif(i * 7 % 14, 0), nullif(i % 6, 0), 'c' || i, i % 4 FROM generate_series(1, 60) i;
INSERT INTO tags SELECT i % 13, 't' || i % 4 FROM generate_series(1, 40) i ON CONFLICT DO NOTHING;

CREATE AGGREGATE product (numeric) (sfunc = numeric_mul, stype = numeric, initcond = '1');

-- Each is compared with what was written after every change.
CREATE TABLE written (name text PRIMARY KEY, query text);
CREATE FUNCTION made(VARIADIC queries text[]) RETURNS TABLE (name text, key text, ways text) LANGUAGE plpgsql AS $$
DECLARE
    each text;
BEGIN
    FOREACH each IN ARRAY queries LOOP
        name := split_part(each, ': ', 1);
        INSERT INTO written VALUES (name, substr(each, strpos(each, ': ') + 2));
        INSERT INTO written SELECT w.name || '_later', w.query FROM written w WHERE w.name = made.name;
        PERFORM projections.create('documents.' || name, (SELECT w.query FROM written w WHERE w.name = made.name));
        PERFORM projections.create('documents.' || name || '_later', (SELECT w.query FROM written w WHERE w.name = made.name), 'async');
        SELECT array_to_string((array_agg(e.key ORDER BY e.block DESC))[1:1], ','), string_agg(DISTINCT format('%s %s', e.block, e.strategy), ', ')
            INTO key, ways FROM projections.explain('documents.' || name) e;
        RETURN NEXT;
    END LOOP;
END $$;
CREATE FUNCTION checked(later boolean DEFAULT true) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    p record;
BEGIN
    IF later THEN
        PERFORM projections.catch_up();
    END IF;
    FOR p IN SELECT * FROM written w WHERE later OR w.name NOT LIKE '%\_later' ORDER BY 1 LOOP
        RETURN QUERY SELECT format('%s: %s %s', p.name, w.problem, w.samples) FROM test.wrong(('documents.' || p.name)::regclass, p.query) w WHERE w.problem IS NOT NULL;
        RETURN QUERY SELECT format('%s: %s', p.name, v) FROM projections.verify('documents.' || p.name) v;
    END LOOP;
END $$;

SELECT * FROM made(
    -- aggregates that do not add up
    'arrays: SELECT post, array_agg(body ORDER BY id) AS bodies, count(*) AS n, sum(at) FROM comments GROUP BY post',
    'joined: SELECT p.author, jsonb_agg(jsonb_build_object(''t'', p.title, ''c'', c.body) ORDER BY p.id, c.id) FILTER (WHERE c.at > 0) AS d FROM posts p LEFT JOIN comments c ON c.post = p.id GROUP BY p.author',
    'many: SELECT who, string_agg(DISTINCT body, '','' ORDER BY body) AS bodies, percentile_cont(0.5) WITHIN GROUP (ORDER BY at) AS median, mode() WITHIN GROUP (ORDER BY at) AS m, bit_or(at) AS bits, count(DISTINCT post) AS posts, variance(at) AS v FROM comments GROUP BY who',
    'objects: SELECT post, jsonb_object_agg(id, body ORDER BY id) AS o, json_agg(body ORDER BY id DESC)::text AS j FROM comments GROUP BY post HAVING count(*) > 2',
    'own: SELECT author, product(score ORDER BY id) AS p, rank(1) WITHIN GROUP (ORDER BY id) AS r FROM posts GROUP BY author',
    -- subqueries that are documents
    'post: SELECT p.id, p.title, jsonb_build_object(''author'', u.name, ''comments'', coalesce((SELECT jsonb_agg(jsonb_build_object(''body'', c.body, ''by'', w.name) ORDER BY c.id) FROM comments c LEFT JOIN users w ON w.id = c.who WHERE c.post = p.id), ''[]''), ''tags'', (SELECT array_agg(t.tag ORDER BY t.tag) FROM tags t WHERE t.post = p.id)) AS data FROM posts p LEFT JOIN users u ON u.id = p.author',
    'nested: SELECT u.id, (SELECT jsonb_agg(jsonb_build_object(''title'', p.title, ''comments'', (SELECT jsonb_agg(jsonb_build_object(''body'', c.body, ''by'', (SELECT w.name FROM users w WHERE w.id = c.who)) ORDER BY c.id) FROM comments c WHERE c.post = p.id)) ORDER BY p.id) FROM posts p WHERE p.author = u.id) AS posts FROM users u',
    'array: SELECT p.id, ARRAY(SELECT c.body FROM comments c WHERE c.post = p.id AND c.at > 0 ORDER BY c.id DESC) AS bodies, (SELECT b.name FROM users u JOIN users b ON b.id = u.boss WHERE u.id = p.author) AS boss FROM posts p WHERE p.score > 1',
    'first: SELECT u.id, (SELECT c.body FROM comments c WHERE c.who = u.id ORDER BY c.at DESC, c.id LIMIT 1) AS first, EXISTS (SELECT FROM posts p WHERE p.author = u.id) AS writes FROM users u WHERE NOT EXISTS (SELECT FROM tags t WHERE t.post = u.id AND t.tag = ''t1'')',
    'missing: SELECT p.id, ARRAY(SELECT c.body FROM comments c WHERE c.post = p.id ORDER BY c.id) AS bodies FROM posts p LEFT JOIN users u ON u.id = p.author WHERE u.id IS NULL OR u.boss > 1',
    'counted: SELECT p.id, g.n, g.v, ARRAY(SELECT c.body FROM comments c WHERE c.post = p.id ORDER BY c.id) AS bodies FROM posts p LEFT JOIN (SELECT post, count(who) AS n, variance(at) AS v FROM comments GROUP BY post) AS g ON g.post = p.id',
    -- LATERAL, DISTINCT ON
    'top: SELECT p.id, l.top, l.n FROM posts p LEFT JOIN LATERAL (SELECT jsonb_agg(x.body ORDER BY x.id) AS top, count(*) AS n FROM (SELECT c.id, c.body FROM comments c WHERE c.post = p.id ORDER BY c.id DESC LIMIT 3) x) l ON true',
    'one: SELECT p.id, l.body FROM posts p, LATERAL (SELECT c.body FROM comments c WHERE c.post = p.id ORDER BY c.at, c.id LIMIT 1) l',
    'latest: SELECT DISTINCT ON (c.post) c.post, c.body, u.name AS name FROM comments c LEFT JOIN users u ON u.id = c.who ORDER BY c.post, c.at DESC, c.id',
    'pairs: SELECT DISTINCT ON (p.author, c.who) p.author, c.who, c.body FROM posts p JOIN comments c ON c.post = p.id ORDER BY p.author, c.who, c.id',
    'chosen: SELECT DISTINCT ON (at % 2, who) body FROM comments WHERE post > 0 ORDER BY at % 2, who, id');
SELECT * FROM checked();
-- over others, which are documents too
SELECT * FROM made(
    'over: SELECT d.id, jsonb_build_object(''d'', d.data, ''top'', t.top) AS data, ARRAY(SELECT b FROM unnest(a.bodies) AS b ORDER BY b DESC) AS bodies FROM post d JOIN top t ON t.id = d.id LEFT JOIN arrays a ON a.post = d.id',
    'above: SELECT u.id, (SELECT jsonb_agg(o.data ORDER BY o.id) FROM over o JOIN posts p ON p.id = o.id WHERE p.author = u.id) AS all FROM users u');
SELECT * FROM checked();
\d post
SELECT i.relname, pg_get_indexdef(i.oid) FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid WHERE x.indrelid IN ('chosen'::regclass, 'latest'::regclass, 'over'::regclass) ORDER BY 1;

INSERT INTO comments VALUES (100, 1, 2, 'new', 1), (101, 77, 1, 'nowhere', 2), (102, NULL, NULL, NULL, NULL);
SELECT * FROM checked();
UPDATE comments SET body = body || '!' WHERE id % 5 = 0;
SELECT * FROM checked();
UPDATE comments SET post = post % 12 + 1, who = 7 - who WHERE id % 3 = 0;
SELECT * FROM checked();
DELETE FROM comments WHERE post IN (3, 4);
SELECT * FROM checked();
UPDATE users SET name = upper(name) WHERE id < 4;
SELECT * FROM checked();
UPDATE users SET boss = 3 WHERE id = 2;
SELECT * FROM checked();
UPDATE posts SET author = 1, title = 'moved' WHERE author = 2;
SELECT * FROM checked();
UPDATE posts SET id = id + 100 WHERE id > 10;
SELECT * FROM checked();
DELETE FROM users WHERE id = 4;
SELECT * FROM checked();
INSERT INTO users VALUES (4, 'again', 1), (9, 'nine', 4);
SELECT * FROM checked();
UPDATE tags SET tag = 't9' WHERE tag = 't2';
SELECT * FROM checked();

-- all of it in one transaction, with reads and savepoints between
BEGIN;
UPDATE posts SET author = 5 WHERE id IN (1, 2);
UPDATE comments SET post = 2 WHERE post = 1;
SELECT * FROM checked(false);
SAVEPOINT one;
DELETE FROM comments WHERE post = 2;
UPDATE users SET name = 'inside' WHERE id = 5;
SELECT * FROM checked(false);
ROLLBACK TO one;
SELECT * FROM checked(false);
SAVEPOINT two;
UPDATE users SET id = 50 WHERE id = 5;
INSERT INTO tags VALUES (2, 'zz');
RELEASE two;
UPDATE posts SET author = 70 WHERE id IN (6, 7);
UPDATE comments SET who = 71 WHERE post IN (6, 7);
DELETE FROM posts WHERE id = 3;
COMMIT;
SELECT * FROM checked();
BEGIN ISOLATION LEVEL REPEATABLE READ;
INSERT INTO comments VALUES (200, 2, 1, 'rr', 9);
SELECT * FROM checked(false);
UPDATE users SET name = 'rr' WHERE id = 1;
COMMIT;
SELECT * FROM checked();
-- what changes nothing that is shown writes nothing
BEGIN;
UPDATE comments SET at = at + 1 WHERE id = 200;
SELECT count(*) AS written FROM post WHERE xmin::text = pg_current_xact_id()::text;
ROLLBACK;
BEGIN;
TRUNCATE comments;
SELECT * FROM checked(false);
ROLLBACK;
SELECT * FROM checked();

-- paused, resumed; rebuilt; put right
SELECT projections.pause('documents.post', 'stock take');
SELECT projections.pause('documents.arrays', 'stock take');
SELECT projections.pause('documents.latest', 'stock take');
UPDATE comments SET post = post + 1 WHERE id % 2 = 0;
UPDATE users SET name = 'paused' WHERE id = 2;
UPDATE posts SET author = 2 WHERE id = 5;
DELETE FROM users WHERE id = 6;
SELECT projections.resume(p) FROM unnest(ARRAY['documents.post', 'documents.arrays', 'documents.latest']) p;
SELECT * FROM checked();
CALL projections.rebuild('documents.post');
CALL projections.rebuild('documents.latest');
CALL projections.rebuild('documents.nested_later');
SELECT replace(query, 'score > 1', 'score > 2') AS altered FROM written WHERE name = 'array' \gset
CALL projections.alter('documents.array', query => :'altered');
UPDATE written SET query = replace(query, 'score > 1', 'score > 2') WHERE name = 'array';
SELECT * FROM checked();
SET session_replication_role = replica;
ALTER TABLE post DISABLE TRIGGER projections_guard;
UPDATE post SET data = '{}' WHERE id IN (1, 2);
DELETE FROM post WHERE id = 5;
ALTER TABLE post ENABLE ALWAYS TRIGGER projections_guard;
RESET session_replication_role;
SELECT problem, key FROM projections.verify('documents.post') ORDER BY 2;
SELECT projections.repair('documents.post');
SELECT * FROM checked();
SELECT projections.refresh_rows('documents.post', '[{"id": 1}, {"id": 1000}]');
SELECT projections.refresh_source('documents.comments', '[{"id": 7}]');
INSERT INTO comments VALUES (300, 1, 1, 'behind', 0);
SELECT key, lag FROM projections.stale_keys('documents.post_later');
SELECT source, event ->> 'id' AS id FROM projections.history('documents.post', '{"id": 1}') ORDER BY source::text, id LIMIT 4;
SELECT * FROM checked();

-- names follow
ALTER TABLE users RENAME name TO called;
ALTER TABLE comments RENAME TO remarks;
UPDATE written SET query = replace(replace(replace(query, 'comments c', 'remarks c'), 'FROM comments', 'FROM remarks'), '.name', '.called');
INSERT INTO remarks VALUES (301, 2, 2, 'renamed', 0);
UPDATE users SET called = 'anna' WHERE id = 2;
SELECT * FROM checked();
\set VERBOSITY terse
ALTER TABLE posts DROP CONSTRAINT posts_pkey;
ALTER TABLE remarks DROP CONSTRAINT comments_pkey;
SELECT * FROM checked();

-- the order that is not written is that of the values
SET client_min_messages = notice;
SELECT key, strategy FROM projections.explain('SELECT post, array_agg(body) AS bodies, sum(at::float8) AS at FROM remarks GROUP BY post');
SET client_min_messages = warning;
SELECT projections.create('documents.unordered', 'SELECT post, array_agg(body) AS bodies, sum(at::float8) AS at FROM remarks GROUP BY post');
SELECT projections.create('documents.tied', 'SELECT u.id, ARRAY(SELECT p.score FROM posts p WHERE p.author = u.id ORDER BY p.title) AS scores FROM users u');
SELECT query FROM projections.definitions WHERE projection = 'documents.unordered';
SELECT substring(query FROM 'LEFT JOIN.*') AS joined FROM projections.definitions WHERE projection = 'documents.counted';
SELECT substring(query FROM 'ORDER BY .*\)') AS ordered FROM projections.definitions WHERE projection = 'documents.tied';
SELECT count(*) FROM projections.verify('documents.unordered');

-- many at once, which are written by a few statements
INSERT INTO posts SELECT i, 1 + i % 3, 'many', round(i / 7.0, i % 3) FROM generate_series(1000, 1400) i;
INSERT INTO remarks SELECT 5000 + i, 1000 + i % 420, i % 6, 'm' || i, i % 4 FROM generate_series(1, 600) i;
SELECT * FROM checked();
UPDATE users SET called = called || '?' WHERE id = 1;
SELECT * FROM checked();
BEGIN;
UPDATE users SET called = 'once more' WHERE id = 2;
DELETE FROM posts WHERE id BETWEEN 1000 AND 1100;
UPDATE posts SET id = id + 5000 WHERE id BETWEEN 1300 AND 1330;
UPDATE remarks SET post = NULL WHERE post > 1350;
COMMIT;
SELECT * FROM checked();
BEGIN ISOLATION LEVEL REPEATABLE READ;
UPDATE users SET called = 'rr' WHERE id IN (1, 3);
COMMIT;
-- what is right is not written
BEGIN;
UPDATE users SET called = 'once' WHERE id = 2;
UPDATE users SET called = 'once more' WHERE id = 2;
SELECT count(*) AS written FROM post WHERE xmin::text = pg_current_xact_id()::text;
UPDATE remarks SET at = at + 1 WHERE post > 1000;
SELECT count(*) AS written FROM post WHERE xmin::text = pg_current_xact_id()::text;
ROLLBACK;
SELECT * FROM checked();

-- what is there already is the same
SELECT projections.create('documents.missing', query, if_not_exists => true) FROM written WHERE name = 'missing';
INSERT INTO tags VALUES (1, 'last');
SELECT * FROM checked();

-- refused
CREATE FUNCTION refused(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    hint text;
BEGIN
    PERFORM projections.create('documents.refused', query);
    RETURN 'not refused';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
    RETURN SQLERRM || E'\n' || hint;
END $$;
SELECT refused('SELECT jsonb_agg(called ORDER BY id) FROM users');
SELECT refused('SELECT p.id, (SELECT jsonb_agg(called ORDER BY id) FROM users) AS u FROM posts p');
SELECT refused('SELECT p.id, ARRAY(SELECT t.tag FROM tags t WHERE t.post = p.id OR t.tag = ''t1'' ORDER BY 1) FROM posts p FULL JOIN users u ON u.id = p.author');
SELECT refused('SELECT p.title, l.body FROM posts p, LATERAL (SELECT c.body FROM remarks c WHERE c.at > 0 LIMIT 2) l WHERE l.body > p.title');
SELECT refused('SELECT u.id, (SELECT p.title FROM posts p WHERE p.author = u.id) AS title FROM users u');
SELECT refused('SELECT p.id, ARRAY(SELECT t.tag FROM tags t WHERE t.post = p.id ORDER BY 1) AS t FROM posts p LEFT JOIN remarks c ON c.post = p.id');
SELECT refused('SELECT DISTINCT ON (u.called) u.called, p.id FROM posts p LEFT JOIN users u ON u.id = p.author ORDER BY u.called, p.id');
CREATE TABLE keyless (id int, v int);
SELECT refused('SELECT k.id, ARRAY(SELECT t.tag FROM tags t WHERE t.post = k.id ORDER BY 1) AS t FROM keyless k');
DROP SCHEMA documents CASCADE;
