-- What docs/sql-support runs its rows over, and what it keeps of how they went.

-- The tables -----------------------------------------------------------------------------------------------------------

CREATE TABLE regions (id int PRIMARY KEY, name text);
CREATE TABLE customers (id int PRIMARY KEY, name text, region int);
CREATE TABLE orders (id int PRIMARY KEY, customer int, amount numeric(8, 2), quantity int, placed date, paid boolean);
-- Without primary keys: equal rows are there.
CREATE TABLE lines (order_id int, item text, price numeric(8, 2), quantity int);
CREATE TABLE returns (order_id int, item text);

INSERT INTO regions VALUES (1, 'north'), (2, 'south'), (3, 'south'), (4, NULL);
INSERT INTO customers VALUES (1, 'Ann', 1), (2, 'Bob', 2), (3, 'Bob', 2), (4, 'Cem', NULL), (5, NULL, 7);
INSERT INTO orders VALUES
    (1, 1, 10, 1, '2026-01-05', true), (2, 1, 25.5, 2, '2026-01-07', false), (3, 2, 10, 3, '2026-01-07', NULL),
    (4, 2, NULL, 2, '2026-02-01', true), (5, 3, 42, 4, NULL, true), (6, NULL, 7, NULL, '2026-02-03', false),
    (7, 9, 12, 1, '2026-02-03', true);
INSERT INTO lines VALUES
    (1, 'cup', 5, 2), (1, 'cup', 5, 2), (2, 'jug', 12.75, 2), (3, 'cup', NULL, 1), (4, NULL, 3, 3), (5, 'pan', 21, 2),
    (NULL, 'cup', 5, 1), (12, 'jug', 11, 4);
INSERT INTO returns VALUES (1, 'cup'), (1, 'cup'), (2, 'pan'), (4, NULL), (NULL, 'jug'), (7, 'cup');
-- A row moves when its customer changes; one partition has another order of columns, and one has partitions.
CREATE TABLE parted (id int, customer int, amount int) PARTITION BY LIST (customer);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1);
CREATE TABLE parted_2 (gone text, amount int, customer int, id int);
ALTER TABLE parted_2 DROP COLUMN gone;
ALTER TABLE parted ATTACH PARTITION parted_2 FOR VALUES IN (2);
CREATE TABLE parted_rest PARTITION OF parted DEFAULT PARTITION BY RANGE (id);
CREATE TABLE parted_rest_1 PARTITION OF parted_rest FOR VALUES FROM (MINVALUE) TO (MAXVALUE);
INSERT INTO parted SELECT n, n % 4, n FROM generate_series(1, 12) AS n;
CREATE TABLE branched (id int PRIMARY KEY, customer int, amount int);
CREATE TABLE branched_1 (gone text, own text, amount int, customer int, id int NOT NULL);
ALTER TABLE branched_1 DROP COLUMN gone;
ALTER TABLE branched_1 INHERIT branched;
CREATE TABLE branched_2 () INHERITS (branched_1);
INSERT INTO branched SELECT n, n % 4, n FROM generate_series(1, 12) AS n;
INSERT INTO branched_2 (id, customer, amount) SELECT n, n % 4, n FROM generate_series(7, 18) AS n;

CREATE VIEW paid_orders AS SELECT id, customer, amount FROM orders WHERE paid;
CREATE VIEW spending AS SELECT customer, sum(amount) AS amount, count(*) AS orders FROM orders GROUP BY customer;
CREATE VIEW regional_spending AS
    SELECT c.region, sum(s.amount) AS amount FROM customers c JOIN spending s ON s.customer = c.id GROUP BY c.region;
CREATE VIEW customer_orders AS
    SELECT c.region, o.id AS order_id FROM customers c LEFT JOIN orders o ON o.customer = c.id;

-- For what is refused.
CREATE FUNCTION steady(int) RETURNS int LANGUAGE sql STABLE AS 'SELECT $1';
CREATE FUNCTION wild(int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN $1; END';
CREATE AGGREGATE product (int) (sfunc = int4mul, stype = int, initcond = '1');
CREATE SEQUENCE numbers;
CREATE UNLOGGED TABLE unlogged (id int);
CREATE MATERIALIZED VIEW stored AS SELECT id FROM orders;
CREATE TABLE documents (doc json, xid xid);

SELECT projections.create('spending_projection',
                          'SELECT customer, sum(amount) AS amount, count(*) AS orders FROM orders GROUP BY customer');

-- The rows -------------------------------------------------------------------------------------------------------------

CREATE SCHEMA support;
CREATE SCHEMA inline;
CREATE SCHEMA async;
CREATE SCHEMA asked; -- each accepted query as a view: what was written, whatever the compiler makes of it

CREATE TABLE support.row (number int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, section text, construct text, place text,
                          query text);

-- What became of a row in a mode: of an accepted one its table's name and how often it was compared in each state; else
-- why not.
CREATE TABLE support.result (
    number int REFERENCES support.row, mode text, relation text, way text, code text, reason text, hint text,
    followed int NOT NULL DEFAULT 0, rebuilt int NOT NULL DEFAULT 0, restored int NOT NULL DEFAULT 0,
    contents text, changed int NOT NULL DEFAULT 0, PRIMARY KEY (number, mode));
CREATE TABLE support.problem (number int, mode text, step text, problem text, samples text);

-- As projections.explain has it: the strategies of its blocks, what its rows are, and how many parts it has.
CREATE FUNCTION support.way(relation text) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(DISTINCT e.strategy, ', ')
           || (SELECT ', ' || l.kind FROM projections.explain(relation) AS l ORDER BY l.block DESC LIMIT 1)
           || CASE max(e.block) WHEN 1 THEN '' WHEN 2 THEN ', 1 part' ELSE format(', %s parts', max(e.block) - 1) END
    FROM projections.explain(relation) AS e
$$;

CREATE PROCEDURE support.declare(number int, query text, mode text) LANGUAGE plpgsql AS $$
DECLARE
    relation text := format('%s.row_%s', mode, number);
    code text;
    message text;
    instead text;
    way text;
BEGIN
    BEGIN
        PERFORM projections.create(relation, query, mode);
        way := support.way(relation);
        IF to_regclass(format('asked.row_%s', number)) IS NULL THEN
            EXECUTE format('CREATE VIEW asked.row_%s AS %s', number, query);
        END IF;
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT, instead = PG_EXCEPTION_HINT;
    END;
    IF code <> 'PJ002' THEN
        INSERT INTO support.problem VALUES (number, mode, 'create', format('refused by an error: %s %s', code, message));
    END IF;
    INSERT INTO support.result (number, mode, relation, way, code, reason, hint)
    VALUES (number, mode, CASE WHEN code IS NULL THEN relation END, way, code,
            regexp_replace(message, '^this query cannot be a projection: ', ''), nullif(instead, ''));
END
$$;

CREATE PROCEDURE support.declare_all(batch int, batches int) LANGUAGE plpgsql AS $$
DECLARE
    r record;
BEGIN
    FOR r IN SELECT * FROM support.row, unnest('{inline,async}'::text[]) AS mode
             WHERE number % batches = batch ORDER BY number, mode DESC LOOP
        CALL support.declare(r.number, r.query, r.mode);
        COMMIT;
    END LOOP;
END
$$;

-- The comparisons ------------------------------------------------------------------------------------------------------

-- With what the definition returns (test/oracle.sql), and with what the query returns as it was written.
CREATE FUNCTION support.compare(relation text, number int, OUT problem text, OUT samples text, OUT contents text)
LANGUAGE plpgsql AS $$
DECLARE
    columns text;
    missing bigint;
    extra bigint;
BEGIN
    SELECT w.problem, w.samples INTO problem, samples FROM test.wrong(relation::regclass) AS w;
    SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) INTO columns
    FROM pg_attribute WHERE attrelid = format('asked.row_%s', number)::regclass AND attnum > 0;
    EXECUTE format($query$
        WITH asked AS MATERIALIZED (SELECT %1$s FROM asked.row_%2$s),
             found AS MATERIALIZED (SELECT %1$s FROM %3$s)
        SELECT (SELECT count(*) FROM (SELECT * FROM asked EXCEPT ALL SELECT * FROM found) AS d),
               (SELECT count(*) FROM (SELECT * FROM found EXCEPT ALL SELECT * FROM asked) AS d),
               (SELECT md5(string_agg(a::text, ' ' ORDER BY a::text)) FROM asked AS a)
    $query$, columns, number, relation) INTO missing, extra, contents;
    IF problem IS NULL AND missing + extra > 0 THEN
        problem := format('not what was asked for: %s rows missing, %s extra', missing, extra);
    END IF;
END
$$;

-- All accepted rows; `state` is the column of support.result that counts the comparison.
CREATE PROCEDURE support.check_all(state text, step text) LANGUAGE plpgsql AS $$
DECLARE
    r support.result;
    found record;
BEGIN
    PERFORM projections.catch_up();
    FOR r IN SELECT * FROM support.result AS a WHERE a.relation IS NOT NULL LOOP
        found := support.compare(r.relation, r.number);
        IF found.problem IS NOT NULL THEN
            INSERT INTO support.problem VALUES (r.number, r.mode, step, found.problem, found.samples);
        END IF;
        UPDATE support.result AS a
        SET followed = followed + (state = 'followed')::int,
            rebuilt = rebuilt + (state = 'rebuilt' AND rebuilt > 0)::int,
            restored = restored + (state = 'restored')::int,
            contents = found.contents,
            changed = changed + (a.contents IS DISTINCT FROM found.contents)::int
        WHERE a.number = r.number AND a.mode = r.mode;
    END LOOP;
END
$$;

-- After CALL projections.rebuild, which commits and so cannot be called from here.
CREATE PROCEDURE support.note_rebuilt(which int, how text, code text, message text) LANGUAGE plpgsql AS $$
BEGIN
    IF code = '00000' THEN
        UPDATE support.result SET rebuilt = 1 WHERE number = which AND mode = how;
    ELSE
        INSERT INTO support.problem VALUES (which, how, 'rebuild', code || ' ' || message);
    END IF;
END
$$;

-- What is not as it should be: a wrong result, an error, and what no change has changed, of which the comparisons say little.
CREATE VIEW support.wrong AS
    SELECT number, mode, step, problem, samples FROM support.problem
    UNION ALL
    SELECT number, mode, 'at the end', 'no two contents', NULL FROM support.result WHERE relation IS NOT NULL AND changed < 2
    UNION ALL
    SELECT number, mode, 'at the end', 'not compared in every state', NULL FROM support.result
    WHERE relation IS NOT NULL AND least(followed, rebuilt, restored) = 0;

-- The document ---------------------------------------------------------------------------------------------------------

CREATE FUNCTION support.cell(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT replace($1, '|', '\|') $$;
CREATE FUNCTION support.mark(boolean) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT CASE WHEN $1 THEN '✓' ELSE '—' END $$;

-- Why async mode refuses what is followed inline, with a number.
CREATE VIEW support.note AS
    SELECT row_number() OVER (ORDER BY min(a.number)) AS note, a.reason
    FROM support.result AS a JOIN support.result AS i USING (number)
    WHERE a.mode = 'async' AND a.relation IS NULL AND i.mode = 'inline' AND i.relation IS NOT NULL
    GROUP BY a.reason;

CREATE VIEW support.line AS
    SELECT r.number, r.section,
           format('| %s | %s | `%s` | %s | %s | %s | %s | %s |', support.cell(r.construct), support.cell(r.place),
                  support.cell(r.query), coalesce(i.way, 'refused: ' || support.cell(i.reason)),
                  support.mark(i.followed > 0),
                  CASE WHEN a.followed > 0 THEN support.mark(true)
                       ELSE support.mark(false) || coalesce(' (' || n.note || ')', '') END,
                  support.mark(i.rebuilt > 0 AND (a.relation IS NULL OR a.rebuilt > 0)),
                  support.mark(i.restored > 0 AND (a.relation IS NULL OR a.restored > 0))) AS line
    FROM support.row AS r
    JOIN support.result AS i ON i.number = r.number AND i.mode = 'inline'
    JOIN support.result AS a ON a.number = r.number AND a.mode = 'async'
    LEFT JOIN support.note AS n ON n.reason = a.reason AND i.relation IS NOT NULL
    WHERE r.section <> 'Refused';

-- Rows of the compiler's table with the examples that it refuses so; of several that fit, the one that says most.
CREATE VIEW support.refusal AS
    WITH refusal AS (
        SELECT *, replace(regexp_replace(reason, '([\\_])', '\\\1', 'g'), '%s', '%') AS pattern
        FROM projections_internal._refusals() WITH ORDINALITY)
    SELECT f.ordinality, f.construct, f.place, f.instead, replace(f.reason, '%s', '…') AS reason,
           string_agg(e.query, '<br>' ORDER BY e.number) AS examples
    FROM refusal AS f
    LEFT JOIN (SELECT r.number, '`' || support.cell(r.query) || '`' AS query,
                      (SELECT g.ordinality FROM refusal AS g
                       WHERE i.reason LIKE g.pattern AND i.hint IS NOT DISTINCT FROM g.instead
                       ORDER BY length(g.pattern) DESC, g.ordinality LIMIT 1)
               FROM support.row AS r JOIN support.result AS i USING (number)
               WHERE i.mode = 'inline' AND i.code = 'PJ002') AS e USING (ordinality)
    GROUP BY f.ordinality, f.construct, f.place, f.instead, f.reason;

CREATE FUNCTION support.document() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    head text := E'| construct | place | example | way | inline | async | rebuilt | restored |\n'
                 '| --- | --- | --- | --- | --- | --- | --- | --- |';
    part text;
BEGIN
    RETURN QUERY SELECT format('%s. %s.', note, reason) FROM support.note ORDER BY note;
    FOR part IN SELECT section FROM support.line GROUP BY section ORDER BY min(number) LOOP
        RETURN NEXT format(E'\n## %s\n', part);
        RETURN NEXT head;
        RETURN QUERY SELECT line FROM support.line WHERE section = part ORDER BY number;
    END LOOP;
    RETURN NEXT E'\n## What is refused\n';
    RETURN NEXT E'The compiler''s own table. The examples were refused with SQLSTATE `PJ002`, for that reason, and with that\n'
                'hint; where there is none, no row of this document comes to it.';
    RETURN NEXT E'\n| construct | place | reason | instead | examples |\n| --- | --- | --- | --- | --- |';
    RETURN QUERY SELECT format('| %s | %s | %s | %s | %s |', support.cell(construct), support.cell(place),
                               support.cell(reason), coalesce(support.cell(instead), '—'), coalesce(examples, '—'))
                 FROM support.refusal ORDER BY ordinality;
END
$$;
