-- VALUES and SELECTs without FROM: rows that never change, as branches of unions, joined, LATERAL, LEFT JOINed.
SET client_min_messages = error;
\set SHOW_CONTEXT never
CREATE TABLE items (id int PRIMARY KEY, kind int, amount int, low int, high int);
CREATE TABLE tags (kind int, name text);
INSERT INTO items SELECT i, nullif(i % 5, 4), i * 7 % 11, i % 3, i % 4 FROM generate_series(1, 15) AS i;
INSERT INTO tags VALUES (1, 'x'), (1, 'y'), (7, 'z'), (NULL, 'n');

CREATE TABLE kinds (number int GENERATED ALWAYS AS IDENTITY, query text);
INSERT INTO kinds (query) VALUES
    ('SELECT kind, name FROM tags UNION ALL SELECT 0, ''none'''),
    ('SELECT 0 AS kind, ''none'' AS name UNION ALL SELECT kind, name FROM tags UNION ALL SELECT NULL, NULL UNION ALL SELECT i.kind, t.name FROM items i JOIN tags t ON t.kind = i.kind'),
    ('SELECT kind, name FROM tags UNION SELECT 1, ''x'' UNION SELECT 2, ''two'''),
    ('SELECT kind, name FROM tags UNION ALL VALUES (1, ''x''), (5, ''five'')'),
    ('SELECT kind, name FROM tags EXCEPT VALUES (1, ''x''), (5, ''five'')'),
    ('VALUES (1, ''x''), (5, ''five'') INTERSECT SELECT kind, name FROM tags'),
    ('VALUES (1, ''x''), (5, ''five'') EXCEPT SELECT kind, name FROM tags'),
    ('SELECT kind, count(*) AS n, sum(amount) AS amount, max(amount) AS highest, avg(amount) AS average FROM (SELECT kind, amount FROM items UNION ALL SELECT 3, 20 UNION ALL SELECT 9, 1) AS u GROUP BY kind'),
    ('SELECT count(*) AS n, min(amount) AS lowest FROM (SELECT amount FROM items UNION ALL SELECT 100) AS u'),
    ('SELECT kind, count(*) AS n FROM (SELECT kind FROM items UNION ALL SELECT v.k + 1 FROM (VALUES (1), (2)) AS v(k) WHERE v.k > 1) AS u GROUP BY kind HAVING count(*) > 1'),
    ('SELECT i.id, v.name FROM items i JOIN (VALUES (1, ''one''), (2, ''two''), (2, ''zwei'')) AS v(kind, name) ON v.kind = i.kind'),
    ('SELECT v.name, count(*) AS n, sum(i.amount) AS amount FROM items i, (VALUES (1, ''one''), (2, ''two''), (2, ''zwei'')) AS v(kind, name) WHERE v.kind >= i.kind GROUP BY v.name'),
    ('SELECT i.id, v.name FROM items i LEFT JOIN (VALUES (1, ''one''), (2, ''two''), (2, ''zwei''), (NULL, ''null'')) AS v(kind, name) ON v.kind = i.kind AND i.amount > 2'),
    ('SELECT v.name, count(i.id) AS n, max(i.amount) AS highest FROM (VALUES (1, ''one''), (2, ''two''), (8, ''eight'')) AS v(kind, name) LEFT JOIN items i ON i.kind = v.kind GROUP BY v.name'),
    ('SELECT v.name, i.id FROM (VALUES (1, ''one''), (8, ''eight'')) AS v(kind, name) RIGHT JOIN items i ON i.kind = v.kind'),
    ('SELECT i.id, v.at, v.value FROM items i, LATERAL (VALUES (''low'', i.low), (''high'', i.high)) AS v(at, value)'),
    ('SELECT v.at, sum(v.value) AS value FROM items i LEFT JOIN tags t ON t.kind = i.kind CROSS JOIN LATERAL (VALUES (''low'', i.low), (''high'', i.high + length(t.name))) AS v(at, value) GROUP BY v.at'),
    ('SELECT a.x, b.y, i.id FROM (VALUES (1), (2)) AS a(x), (VALUES (1), (2)) AS b(y), items i WHERE i.kind = a.x AND i.low = b.y'),
    ('SELECT v.k FROM (VALUES (1), (2), (3)) AS v(k) WHERE EXISTS (SELECT FROM items i WHERE i.kind = v.k AND i.amount > 8)'),
    ('SELECT v.k FROM (VALUES (1), (2), (7)) AS v(k) WHERE NOT EXISTS (SELECT FROM tags t WHERE t.kind = v.k) UNION ALL SELECT id FROM items WHERE amount > 9'),
    ('SELECT v.k, (SELECT count(*) FROM items i WHERE i.kind = v.k) AS n FROM (VALUES (1), (2), (8)) AS v(k)'),
    ('SELECT ''items'' AS name, (SELECT count(*) FROM items) AS n UNION ALL SELECT ''tags'', (SELECT count(*) FROM tags)'),
    ('WITH v(kind, name) AS (VALUES (1, ''one''), (2, ''two'')) SELECT i.id, a.name, b.name AS other FROM items i JOIN v a ON a.kind = i.kind LEFT JOIN v b ON b.kind = i.low'),
    ('SELECT i.id, v.name FROM items i JOIN (VALUES (1, ''one'')) AS v(kind, name) ON v.kind = i.kind'),
    ('SELECT v.at, i.kind, count(*) AS n FROM items i, LATERAL (VALUES (i.low + i.high, 5)) AS v(at, n) WHERE v.n < i.amount GROUP BY v.at, i.kind'),
    ('SELECT id, kind IN (VALUES (1), (2), (NULL)) AS x, (kind, low) NOT IN (VALUES (1, 1), (2, amount)) AS y FROM items WHERE low IN (SELECT v.x FROM (VALUES (0), (2)) AS v(x)) OR amount > ALL (VALUES (3), (high))'),
    ('SELECT DISTINCT v.name, i.kind FROM items i CROSS JOIN (VALUES (''a''), (''b''), (NULL)) AS v(name)');
SELECT count(projections.create('inline_' || number, query)) FROM kinds;
SELECT count(projections.create('async_' || number, query, mode => 'async')) FROM kinds WHERE number % 3 = 1;
SELECT * FROM test.differing();
INSERT INTO items SELECT i, i % 10, i * 7 % 11, i % 3, NULL FROM generate_series(21, 30) AS i;
SELECT * FROM test.differing();
UPDATE items SET kind = kind + 1, amount = 20 - amount WHERE id % 2 = 0;
SELECT * FROM test.differing();
DELETE FROM items WHERE kind IN (1, 3) OR amount > 15;
SELECT * FROM test.differing();
BEGIN;
INSERT INTO tags VALUES (2, 'two'), (5, 'five'), (NULL, NULL);
UPDATE items SET kind = 2 WHERE kind IS NULL;
SELECT * FROM test.differing(later => false);
SAVEPOINT s;
UPDATE tags SET kind = 8 - kind;
SELECT * FROM test.differing(later => false);
ROLLBACK TO s;
COMMIT;
SELECT * FROM test.differing();
SELECT count(projections.pause('inline_' || number, 'test')) FROM kinds;
UPDATE items SET low = high, high = amount, kind = 9;
DELETE FROM tags WHERE name = 'x';
SELECT count(projections.resume('inline_' || number)) FROM kinds;
SELECT * FROM test.differing();
TRUNCATE items;
SELECT * FROM test.differing();
INSERT INTO items SELECT i, i % 4, i * 7 % 11, i % 3, i % 4 FROM generate_series(1, 9) AS i;
TRUNCATE tags;
SELECT * FROM test.differing();
INSERT INTO tags VALUES (1, 'x');
SELECT * FROM test.differing();
SELECT number, v FROM kinds, projections.verify('inline_' || number) AS v;
-- A row that is wrong is put right, also one of a constant.
ALTER TABLE inline_1 DISABLE TRIGGER projections_guard;
DELETE FROM inline_1 WHERE name = 'none';
ALTER TABLE inline_8 DISABLE TRIGGER projections_guard;
UPDATE inline_8 SET n = 7 WHERE kind = 9;
SELECT projections.repair('inline_1'), projections.repair('inline_8');
CALL projections.rebuild('inline_14');
SELECT * FROM test.differing();
SELECT count(projections.drop('inline_' || number)), count(CASE WHEN number % 3 = 1 THEN projections.drop('async_' || number) END) FROM kinds;

SET client_min_messages = warning;
SELECT projections.create('refused', 'VALUES (1, 2)');
SELECT projections.create('refused', 'SELECT 1 AS a UNION ALL SELECT 2');
SELECT projections.create('refused', 'SELECT max(v.a) AS a FROM (VALUES (1), (2)) AS v(a)');
SELECT projections.create('refused', 'SELECT id FROM items i WHERE EXISTS (SELECT FROM (VALUES (1), (2)) AS v(k) WHERE v.k = i.kind)');
SELECT projections.create('refused', 'SELECT i.id, v.a FROM items i FULL JOIN (VALUES (1), (2)) AS v(a) ON v.a = i.id');
SELECT projections.create('refused', format('SELECT i.id, v.a FROM items i JOIN (VALUES %s) AS v(a) ON v.a = i.kind', (SELECT string_agg(format('(%s)', n), ', ') FROM generate_series(1, 65) n)));
DROP TABLE kinds CASCADE;
DROP TABLE items, tags CASCADE;
