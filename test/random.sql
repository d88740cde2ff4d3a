-- What test/random draws from: random definitions, random changes, and the rounds made of them.
CREATE SCHEMA random;

-- An integer from 0 to n - 1.
CREATE FUNCTION random.below(n int) RETURNS int LANGUAGE sql VOLATILE AS $$ SELECT floor(pg_catalog.random() * n)::int $$;
CREATE FUNCTION random.one_of(VARIADIC choices text[]) RETURNS text LANGUAGE sql VOLATILE AS $$ SELECT choices[1 + random.below(cardinality(choices))] $$;

-- Few values, so that keys meet, extrema are shared, and groups empty.
CREATE FUNCTION random.literal(kind text) RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT CASE WHEN random.below(6) = 0 THEN 'NULL' ELSE
        CASE kind
            WHEN 'int' THEN (random.below(6) - 1)::text
            WHEN 'numeric' THEN random.one_of('0', '1.5', '2.250', '-3', '0.00001', '100', '''NaN''::numeric', '7.10')
            WHEN 'float8' THEN random.one_of('0.1', '0.2', '-1.5', '3', '1e10', '''NaN''', '''Infinity''', '1e-10')
            WHEN 'text' THEN random.one_of('''a''', '''b''', '''c''', '''''')
            WHEN 'boolean' THEN random.one_of('true', 'false')
            WHEN 'date' THEN format('date ''2020-01-01'' + %s', random.below(5))
        END
    END
$$;

-- Columns of every random table but its primary key.
CREATE VIEW random.columns(name, kind) AS VALUES ('k', 'int'), ('n', 'int'), ('m', 'numeric'), ('f', 'float8'), ('t', 'text'), ('b', 'boolean'), ('d', 'date');
CREATE FUNCTION random.column_of(VARIADIC kinds text[]) RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT name FROM random.columns WHERE kind = ANY (kinds) ORDER BY pg_catalog.random() LIMIT 1
$$;

CREATE PROCEDURE random.make_tables() LANGUAGE plpgsql AS $$
BEGIN
    DROP SCHEMA IF EXISTS drawn CASCADE;
    CREATE SCHEMA drawn;
    FOR t IN 1..3 LOOP
        -- the third has no primary key
        EXECUTE format('CREATE TABLE drawn.t%s (id int %s, %s)', t, CASE WHEN t < 3 THEN 'PRIMARY KEY' END,
                       (SELECT string_agg(name || ' ' || kind, ', ') FROM random.columns));
    END LOOP;
    FOR t IN 1..3 LOOP
        FOR i IN 1..random.below(15) LOOP
            CALL random.change(t);
        END LOOP;
    END LOOP;
END
$$;

CREATE FUNCTION random.condition(alias text) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN CASE random.below(5)
        WHEN 0 THEN format('%s.n > %s', alias, random.below(4))
        WHEN 1 THEN format('%s.t IS NOT NULL', alias)
        WHEN 2 THEN format('%s.b', alias)
        WHEN 3 THEN format('(%s.k <> %s OR %1$s.t = ''a'')', alias, random.below(4))
        WHEN 4 THEN format('coalesce(%s.k, 0) %% 2 = 0', alias)
    END;
END
$$;

CREATE FUNCTION random.key(alias text) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN CASE random.below(8)
        WHEN 0 THEN alias || '.k % 2'
        WHEN 1 THEN format('upper(%s.t)', alias)
        WHEN 2 THEN format('date_trunc(''week'', %s.d)', alias)
        WHEN 3 THEN format('%s.k = %1$s.n', alias)
        ELSE alias || '.' || random.column_of('int', 'numeric', 'float8', 'text', 'boolean', 'date')
    END;
END
$$;

CREATE FUNCTION random.aggregate(alias text) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    number text := alias || '.' || random.column_of('int', 'numeric');
    float text := alias || '.f';
    filter text := CASE WHEN random.below(4) = 0 THEN format(' FILTER (WHERE %s)', random.condition(alias)) ELSE '' END;
BEGIN
    RETURN CASE random.below(12)
        WHEN 0 THEN 'count(*)' || filter
        WHEN 1 THEN format('count(%s)%s', alias || '.' || random.column_of('int', 'text', 'date'), filter)
        WHEN 2 THEN format('sum(%s)%s', number, filter)
        WHEN 3 THEN format('avg(%s)%s', number, filter)
        WHEN 4 THEN format('%s(%s)%s', random.one_of('sum', 'avg'), float, filter)
        WHEN 5 THEN format('%s(%s.%s)%s', random.one_of('min', 'max'), alias, random.column_of('int', 'numeric', 'float8', 'text', 'date'), filter)
        WHEN 6 THEN format('%s(%s)%s', random.one_of('variance', 'var_pop', 'stddev', 'stddev_pop'), number, filter)
        WHEN 7 THEN format('%s(%s.b)%s', random.one_of('bool_and', 'bool_or', 'every'), alias, filter)
        WHEN 8 THEN format('round(avg(%s), 3)', alias || '.n')
        WHEN 9 THEN format('sum(%s.n) / nullif(count(%1$s.k), 0)', alias)
        WHEN 10 THEN format('coalesce(max(%s.t), ''none'') || count(*)', alias)
        WHEN 11 THEN format('max(%s.n) - min(%1$s.n)', alias)
    END;
END
$$;

-- A query over the tables, or over projections made before.
CREATE FUNCTION random.query() RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    tables int := 1 + random.below(3);
    froms text := format('drawn.t%s AS a1', 1 + random.below(3));
    conditions text := CASE WHEN random.below(2) = 0 THEN ' WHERE ' || random.condition('a1') ELSE '' END;
    keys text[] := '{}';
    outputs text[] := '{}';
    shape int := random.below(10);
    alias text;
BEGIN
    FOR i IN 2..tables LOOP
        froms := format('%s JOIN drawn.t%s AS a%s ON %s', froms, 1 + random.below(3), i,
            CASE random.below(6)
                WHEN 0 THEN format('a%s.t = a%s.t', i, i - 1)
                WHEN 1 THEN format('a%s.k = a%s.n', i, i - 1)
                WHEN 2 THEN format('a%s.id = a%s.k', i, i - 1)
                WHEN 3 THEN format('(a%s.k, a%1$s.b) = (a%2$s.k, a%2$s.b)', i, i - 1)
                WHEN 4 THEN format('a%s.id < a%s.k AND a%1$s.k = 1', i, i - 1)
                ELSE format('a%s.k = a%s.k AND a%1$s.n <> 3', i, i - 1)
            END);
    END LOOP;
    IF shape < 6 THEN -- groups
        FOR i IN 1..1 + random.below(2) LOOP
            keys := keys || random.key('a' || 1 + random.below(tables));
        END LOOP;
    END IF;
    IF shape < 7 THEN -- groups, or one for all
        FOR i IN 1..1 + random.below(4) LOOP
            outputs := outputs || random.aggregate('a' || 1 + random.below(tables));
        END LOOP;
        -- now and then a key that is not returned
        RETURN format('SELECT %s FROM %s%s%s',
            (SELECT string_agg(format('%s AS c%s', o, i), ', ')
             FROM unnest(CASE WHEN random.below(5) > 0 THEN keys ELSE '{}' END || outputs) WITH ORDINALITY AS u (o, i)),
            froms, conditions, CASE WHEN keys <> '{}' THEN ' GROUP BY ' || array_to_string(keys, ', ') ELSE '' END);
    END IF;
    FOR i IN 1..1 + random.below(3) LOOP
        outputs := outputs || random.key('a' || 1 + random.below(tables));
    END LOOP;
    RETURN format('SELECT %s%s FROM %s%s', CASE WHEN shape = 7 THEN 'DISTINCT ' ELSE '' END,
        (SELECT string_agg(format('%s AS c%s', o, i), ', ') FROM unnest(outputs) WITH ORDINALITY AS u (o, i)), froms, conditions);
END
$$;

CREATE FUNCTION random.make_projection(number int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    query text := random.query();
    below text;
BEGIN
    SELECT relation::text INTO below FROM projections.definitions WHERE random.below(3) = 0 ORDER BY projection LIMIT 1;
    IF below IS NOT NULL THEN
        query := format('SELECT p.c1, count(*) AS c2 FROM %s AS p %s GROUP BY p.c1', below,
                        CASE WHEN random.below(2) = 0 THEN 'JOIN drawn.t1 AS a1 ON p.c1::text = a1.k::text' ELSE '' END);
    END IF;
    CALL random.execute(format('SELECT projections.create(%L, %L)', 'drawn.p' || number, query));
END
$$;

-- Says what it does, also what is rolled back later: with the failure, that is what happened.
CREATE PROCEDURE random.execute(statement text) LANGUAGE plpgsql AS $$
BEGIN
    RAISE INFO '%;', statement;
    EXECUTE statement;
END
$$;

-- One change of table t.
CREATE PROCEDURE random.change(t int) LANGUAGE plpgsql AS $$
DECLARE
    name text; kind text; statement text;
    target text := format('drawn.t%s', t);
    chosen text := random.one_of('id = ' || random.below(12), 'k = ' || random.below(4), 'n = 1', 'id % 3 = 0', 'true', 't = ''a''', 'b', 'k IS NULL');
BEGIN
    SELECT c.name, c.kind INTO name, kind FROM random.columns AS c ORDER BY pg_catalog.random() LIMIT 1;
    CASE
        WHEN random.below(100) < 45 THEN
            -- several rows at once; an id that is taken is passed over, or its row changed
            statement := format('INSERT INTO %s (id, %s) VALUES %s%s', target,
                (SELECT string_agg(c.name, ', ') FROM random.columns AS c),
                (SELECT string_agg(format('(%s, %s)', drawn, (SELECT string_agg(random.literal(c.kind), ', ') FROM random.columns AS c WHERE drawn IS NOT NULL)), ', ')
                 FROM (SELECT DISTINCT random.below(12) AS drawn FROM generate_series(1, 1 + random.below(3))) AS rows),
                CASE WHEN t = 3 THEN '' WHEN random.below(2) = 0 THEN ' ON CONFLICT DO NOTHING'
                     ELSE format(' ON CONFLICT (id) DO UPDATE SET %s = excluded.%1$s', name) END);
        WHEN random.below(100) < 55 THEN
            statement := format('UPDATE %s SET %s = %s WHERE %s', target, name, random.literal(kind), chosen);
        WHEN random.below(100) < 30 THEN
            statement := format('UPDATE %s SET k = n, n = k, t = coalesce(t, ''c'') WHERE %s', target, chosen);
        WHEN random.below(100) < 80 THEN
            statement := format('DELETE FROM %s WHERE %s', target, random.one_of(chosen, chosen, 'id = ' || random.below(12)));
        WHEN random.below(100) < 70 THEN
            statement := format('WITH gone AS (DELETE FROM %s WHERE %s RETURNING k) UPDATE drawn.t%s SET k = (SELECT max(k) FROM gone) WHERE n = 2',
                                       target, chosen, 1 + t % 3);
        ELSE
            statement := 'TRUNCATE ' || random.one_of(target, 'drawn.t1, drawn.t2');
    END CASE;
    CALL random.execute(statement);
END
$$;

CREATE PROCEDURE random.read() LANGUAGE plpgsql AS $$
DECLARE
    read text;
BEGIN
    SELECT 'SELECT count(*) FROM ' || relation::text INTO read FROM projections.definitions ORDER BY pg_catalog.random() LIMIT 1;
    CALL random.execute(read);
END
$$;

-- Changes with savepoints among them, some of which roll back.
CREATE PROCEDURE random.changes(depth int) LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1..1 + random.below(5) LOOP
        IF depth < 3 AND random.below(4) = 0 THEN
            DECLARE
                undone boolean := random.below(2) = 0;
            BEGIN
                RAISE INFO 'SAVEPOINT s%;', depth;
                CALL random.changes(depth + 1);
                IF undone THEN RAISE EXCEPTION USING ERRCODE = 'PR001'; END IF;
                RAISE INFO 'RELEASE s%;', depth;
            EXCEPTION WHEN SQLSTATE 'PR001' THEN
                RAISE INFO 'ROLLBACK TO s%; RELEASE s%;', depth, depth;
            END;
        ELSE
            CALL random.change(1 + random.below(3));
            IF random.below(4) = 0 THEN CALL random.read(); END IF;
        END IF;
    END LOOP;
END
$$;

CREATE PROCEDURE random.round(definitions int, transactions int) LANGUAGE plpgsql AS $$
BEGIN
    CALL random.make_tables();
    FOR i IN 1..definitions LOOP
        PERFORM random.make_projection(i);
    END LOOP;
    COMMIT;
    PERFORM test.check_all();
    FOR i IN 1..transactions LOOP
        RAISE INFO 'BEGIN;';
        CALL random.changes(0);
        IF random.below(6) = 0 THEN
            RAISE INFO 'ROLLBACK;';
            ROLLBACK;
        ELSE
            RAISE INFO 'COMMIT;';
            COMMIT;
        END IF;
        PERFORM test.check_all();
    END LOOP;
END
$$;
