-- What test/random draws from: random definitions, random changes, and the rounds made of them.
CREATE SCHEMA random;

-- Keys that are equal but look different: c by its type, u by its collation. Without the module, both by the latter.
CREATE COLLATION random.no_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_available_extensions WHERE name = 'citext') THEN
        CREATE EXTENSION citext SCHEMA public;
    ELSE
        CREATE DOMAIN public.citext AS text COLLATE random.no_case;
    END IF;
END
$$;

-- Each definition and the same in another form, which must hold the same rows.
CREATE TABLE random.twins (one text, other text, form text, query text);

-- An integer from 0 to n - 1.
CREATE FUNCTION random.below(n int) RETURNS int LANGUAGE sql VOLATILE AS $$ SELECT floor(pg_catalog.random() * n)::int $$;
CREATE FUNCTION random.one_of(VARIADIC choices text[]) RETURNS text LANGUAGE sql VOLATILE AS $$ SELECT choices[1 + random.below(cardinality(choices))] $$;

-- Few values, so that keys meet, extrema are shared, and groups empty.
CREATE FUNCTION random.literal(kind text) RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT CASE WHEN random.below(6) = 0 THEN 'NULL' ELSE
        CASE kind
            WHEN 'int' THEN (random.below(6) - 1)::text
            WHEN 'numeric' THEN random.one_of('0', '1.5', '1.50', '2.250', '-3', '0.00001', '100', '''NaN''::numeric', '7.10')
            WHEN 'float8' THEN random.one_of('0.1', '0.2', '-1.5', '3', '1e10', '''NaN''', '''Infinity''', '0.001')
            WHEN 'text' THEN random.one_of('''a''', '''b''', '''c''', '''''')
            WHEN 'citext' THEN random.one_of('''a''', '''A''', '''b''', '''B''')
            WHEN 'text COLLATE random.no_case' THEN random.one_of('''a''', '''A''', '''b''', '''B''')
            WHEN 'boolean' THEN random.one_of('true', 'false')
            WHEN 'date' THEN format('date ''2020-01-01'' + %s', random.below(5))
        END
    END
$$;

-- Columns of every random table but its primary key.
CREATE VIEW random.columns(name, kind) AS VALUES ('k', 'int'), ('n', 'int'), ('m', 'numeric'), ('f', 'float8'), ('t', 'text'), ('b', 'boolean'), ('d', 'date'), ('c', 'citext'), ('u', 'text COLLATE random.no_case');
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
        EXECUTE format('CREATE VIEW drawn.v%s AS SELECT id, k, n, m, f, t, b, d, c, u FROM drawn.t%1$s WHERE n IS NULL OR n < 4', t);
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
    RETURN CASE random.below(9)
        WHEN 0 THEN alias || '.k % 2'
        WHEN 1 THEN format('upper(%s.t)', alias)
        WHEN 2 THEN format('date_trunc(''week'', %s.d)', alias)
        WHEN 3 THEN format('%s.k = %1$s.n', alias)
        WHEN 4 THEN alias || '.' || random.one_of('c', 'u')
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

-- An aggregate that does not add up, in an order that leaves nothing open.
CREATE FUNCTION random.anew(alias text) RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT replace(random.one_of('array_agg(a.n ORDER BY a.n)', 'array_agg(a.m ORDER BY a.m DESC, a.m::text)', 'jsonb_agg(a.k ORDER BY a.k) FILTER (WHERE a.b)',
                                 'string_agg(a.t, '','' ORDER BY a.t COLLATE "C")', 'bit_or(a.n)', 'percentile_disc(0.5) WITHIN GROUP (ORDER BY a.k)',
                                 'mode() WITHIN GROUP (ORDER BY a.n)', 'array_agg(DISTINCT a.k)', 'string_agg(DISTINCT a.t COLLATE "C", ''-'')',
                                 'jsonb_build_object(''n'', count(*), ''all'', array_agg(a.d ORDER BY a.d))', 'variance(DISTINCT a.n)'), 'a.', alias || '.')
$$;

-- A subquery of the SELECT list that is a document, or chooses a row.
CREATE FUNCTION random.document(name text, other text, depth int DEFAULT 1) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    match text := format(random.one_of('%1$s.k = %2$s.k', '%1$s.k = %2$s.id', '%1$s.t = %2$s.t', '%1$s.id = %2$s.n', '%1$s.m = %2$s.m AND %1$s.b = %2$s.b',
                                       '%1$s.k = %2$s.k AND %1$s.n < %2$s.n', '%1$s.k > %2$s.k'), other, name);
    inner_one text := CASE WHEN depth > 0 AND random.below(3) = 0 THEN random.document(other, other || 'i', depth - 1) END;
    source text := format(random.one_of('drawn.t%1$s AS %2$s', 'drawn.t%1$s AS %2$s', 'drawn.v%1$s AS %2$s',
                                        'drawn.t%1$s AS %2$s LEFT JOIN drawn.t1 AS %2$s_j ON %2$s_j.id = %2$s.n',
                                        'drawn.t%1$s AS %2$s JOIN drawn.t2 AS %2$s_j ON %2$s_j.k = %2$s.n AND %2$s_j.b'), 1 + random.below(3), other);
    beside text := CASE WHEN source ~ '_j' THEN format(', %s_j.n', other) ELSE '' END;
BEGIN
    match := match || CASE WHEN random.below(3) = 0 THEN ' AND ' || random.condition(other) ELSE '' END;
    RETURN CASE random.below(5)
        WHEN 0 THEN format('ARRAY(SELECT %1$s.n FROM %2$s WHERE %3$s ORDER BY %1$s.n)', other, source, match)
        WHEN 1 THEN format('(SELECT %1$s.n FROM %2$s WHERE %3$s ORDER BY %1$s.k DESC, %1$s.n LIMIT 1)', other, source, match)
        WHEN 2 THEN format('(SELECT array_agg(x.n ORDER BY x.n) FROM (SELECT %1$s.n FROM %2$s WHERE %3$s ORDER BY %1$s.n, %1$s.k LIMIT 2) AS x)', other, source, match)
        WHEN 3 THEN format('(SELECT count(*) || '' '' || coalesce(max(%1$s.n), 0) FROM %2$s WHERE %3$s)', other, source, match)
        ELSE format('(SELECT jsonb_agg(jsonb_build_array(%1$s.n, %1$s.k%4$s%5$s) ORDER BY %1$s.id, %1$s.n, %1$s.k, to_jsonb(jsonb_build_array(%1$s.t, %1$s.m, %1$s.d%4$s))) FROM %2$s WHERE %3$s)',
                    other, source, match, beside, coalesce(', ' || inner_one, '')) END;
END
$$;

-- A table, or what reads one: as it is, or, of `depth` levels at most, by groups.
CREATE FUNCTION random.source(depth int DEFAULT 0) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF depth > 0 AND random.below(4) = 0 THEN RETURN random.grouped(depth - 1); END IF;
    RETURN format(CASE random.below(8) WHEN 0 THEN '(SELECT * FROM drawn.t%s)'
                                       WHEN 1 THEN '(SELECT id, k, n, m, f, upper(t) AS t, b, d, c, u FROM drawn.t%s WHERE k <> 3 ORDER BY n)'
                                       WHEN 2 THEN 'drawn.v%s'
                                       ELSE 'drawn.t%s' END, 1 + random.below(3));
END
$$;

-- What a group must have. Nothing that is inexact.
CREATE FUNCTION random.having(alias text) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN CASE random.below(9)
        WHEN 0 THEN format('count(*) > %s', 1 + random.below(2))
        WHEN 1 THEN format('sum(%s.n) >= %s', alias, random.below(5))
        WHEN 2 THEN format('min(%s.n) < max(%1$s.n)', alias)
        WHEN 3 THEN format('avg(%s.m) > 1', alias)
        WHEN 4 THEN format('count(DISTINCT %s.n) > 1', alias)
        WHEN 5 THEN format('(bool_or(%s.b) OR max(%1$s.k) = 2)', alias)
        WHEN 6 THEN format('sum(%s.n) > (SELECT avg(h.n) FROM %s AS h)', alias, random.source())
        WHEN 7 THEN format('NOT count(%s.t) = 0 AND sum(%1$s.m) IS NOT NULL', alias)
        ELSE format('count(*) FILTER (WHERE %s) > 0', random.condition(alias))
    END;
END
$$;

-- Groups, with the columns of a table.
CREATE FUNCTION random.grouped(depth int) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    key text := random.one_of('k', 'k', 't', 'm', 'c', 'u', 'b');
    source text := random.source(depth) || ' AS g';
    alias text := 'g';
    condition text := CASE WHEN random.below(3) = 0 THEN ' WHERE ' || random.condition('g') ELSE '' END;
    kept text := '';
    n text := random.one_of('count(*)', 'max(g.n)', 'sum(g.n)', 'count(g.k)', 'min(g.k)', 'count(DISTINCT g.n)',
                            'count(DISTINCT g.m) FILTER (WHERE g.n > 0)', 'count(DISTINCT g.c)', 'sum(DISTINCT g.n)');
    m text := random.one_of('sum(g.m)', 'max(g.m)', 'sum(DISTINCT g.m)', CASE WHEN n ~ 'DISTINCT' THEN 'min(g.m)' ELSE 'avg(g.m)' END);
BEGIN
    CASE random.below(8)
        WHEN 0 THEN -- distinct rows
            RETURN format('(SELECT DISTINCT g.id, g.k, g.n, g.m, g.f, g.t, g.b, g.d, g.c, g.u FROM %s%s)', source, condition);
        WHEN 1 THEN -- distinct groups
            RETURN format('(SELECT DISTINCT NULL::int AS id, count(*)::int AS k, max(g.n) AS n, min(g.m) AS m, NULL::float8 AS f, g.t, bool_and(g.b) AS b, '
                          'NULL::date AS d, max(g.c) AS c, min(g.u) AS u FROM %s%s GROUP BY g.t, g.%s)', source, condition, key);
        WHEN 2 THEN
            source := format('%s %s %s AS h ON h.k = g.n', source, random.one_of('JOIN', 'JOIN', 'LEFT JOIN'), random.source(depth));
        WHEN 3 THEN
            source := format('(SELECT * FROM drawn.t%s UNION ALL SELECT * FROM %s AS h) AS g', 1 + random.below(3), random.source());
        ELSE NULL;
    END CASE;
    IF random.below(2) = 0 THEN kept := ' HAVING ' || random.having('g'); END IF;
    RETURN '(SELECT ' || (
        SELECT string_agg(CASE c.name WHEN key THEN 'g.' || c.name
                                      WHEN 'n' THEN n || '::int AS n'
                                      WHEN 'm' THEN m || ' AS m'
                                      WHEN 'b' THEN 'bool_or(g.b) AS b'
                                      ELSE format('%s(g.%s) AS %2$s', CASE WHEN c.name IN ('id', 'd') THEN 'min' ELSE 'max' END, c.name) END, ', ' ORDER BY c.place)
        FROM unnest('{id,k,n,m,f,t,b,d,c,u}'::text[]) WITH ORDINALITY AS c (name, place))
        || format(' FROM %s%s GROUP BY g.%s%s)', source, condition, key, kept);
END
$$;

-- A number of other rows, of those that match `name` or of all.
CREATE FUNCTION random.scalar(name text, other text, depth int, correlated text DEFAULT NULL) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    match text := CASE WHEN correlated IS NOT NULL THEN format('%s.%s = %s.%2$s', other, correlated, name)
        ELSE CASE random.below(11)
            WHEN 0 THEN format('%s.k = %s.k', other, name)
            WHEN 1 THEN format('%s.t = %s.t', name, other)
            WHEN 2 THEN format('%s.m = %s.m', other, name)
            WHEN 3 THEN format('%s.c = %s.c', other, name)
            WHEN 4 THEN format('%s.u = %s.u', other, name)
            WHEN 5 THEN format('%s.k = %s.n + 1', other, name)
            WHEN 6 THEN format('%s.id = %s.k AND %1$s.b = %2$s.b', other, name)
            WHEN 7 THEN format('%s.n = %s.m', other, name)
            WHEN 8 THEN format('%s.c = %s.t', other, name)
            WHEN 9 THEN format('%s.u = %s.t COLLATE "C"', other, name)
            ELSE 'true' END END;
BEGIN
    IF correlated IS NULL AND random.below(3) = 0 THEN -- of one row, by its key
        RETURN format(CASE random.below(3)
            WHEN 0 THEN '(SELECT coalesce(%1$s.n, 5) FROM drawn.t%3$s AS %1$s WHERE %1$s.id = %2$s.k)'
            WHEN 1 THEN '(SELECT %1$s.n FROM drawn.t%3$s AS %1$s JOIN drawn.t1 AS %1$s_j ON %1$s_j.id = %1$s.k AND %1$s_j.b WHERE %1$s.id = %2$s.n)'
            ELSE '(SELECT %1$s.n FROM drawn.t%3$s AS %1$s WHERE %1$s.id = %2$s.k AND ' || replace(random.condition(other), '%', '%%') || ')' END,
            other, name, 1 + random.below(2));
    END IF;
    RETURN format('(SELECT %s FROM %s AS %s%s WHERE %s%s)',
        replace(random.one_of('avg(e.n)', 'max(e.m)', 'count(*)', 'count(e.k)', 'sum(e.n)', 'min(e.n)', 'count(DISTINCT e.n)', 'max(e.n) - min(e.n)',
                              'coalesce(sum(e.n), -1)', 'count(*) FILTER (WHERE e.b) + 1', 'CASE WHEN count(*) = 0 THEN 7 ELSE max(e.n) END',
                              CASE WHEN correlated IS NULL THEN format('max(e.n) + %s.n', name) ELSE 'max(e.k)' END), 'e.', other || '.'),
        random.source(depth), other,
        CASE WHEN random.below(5) = 0 THEN format(' JOIN %s AS %s_j ON %2$s_j.k = %2$s.n', random.source(depth - 1), other) ELSE '' END,
        match, CASE WHEN random.below(3) = 0 THEN ' AND ' || random.condition(other) ELSE '' END);
END
$$;

-- A condition on `name` that asks whether some row of another table matches; with `depth`, of what is more than a table.
CREATE FUNCTION random.presence(name text, other text, depth int DEFAULT 0) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    source text := random.source(depth);
    filter text := CASE WHEN random.below(2) = 0 THEN ' AND ' || random.condition(other) ELSE '' END;
    match text := CASE random.below(7)
        WHEN 0 THEN format('%s.k = %s.n', other, name)
        WHEN 1 THEN format('%s.t = %s.t', other, name)
        WHEN 2 THEN format('%s.m = %s.m AND %1$s.n < %2$s.n', other, name)
        WHEN 3 THEN format('%s.k < %s.k', other, name)
        WHEN 4 THEN format('%2$s.id = %1$s.k AND %2$s.n <> 2', other, name)
        WHEN 5 THEN format('%s.%s = %s.%2$s', other, random.one_of('c', 'u'), name)
        ELSE format('%s.id = %s.k', other, name) END;
BEGIN
    IF depth > 0 THEN
        CASE random.below(10)
            WHEN 8 THEN
                RETURN format('(%1$s.%5$s %6$sIN (SELECT %2$s.%7$s FROM %3$s AS %2$s WHERE true%4$s) OR %8$s)', name, other, source, filter,
                              random.one_of('k', 'n', 'm'), random.one_of('', 'NOT '), random.one_of('k', 'n', 'm'), random.condition(name));
            WHEN 9 THEN
                RETURN format('%1$sEXISTS (SELECT %3$s.t FROM %2$s AS %3$s WHERE %3$s.%4$s = %5$s.%4$s%6$s GROUP BY %3$s.t HAVING %7$s)', random.one_of('', 'NOT '), source, other,
                              random.one_of('k', 't', 'm', 'c', 'u'), name, filter, random.having(other));
            WHEN 0 THEN
                source := format('%1$s AS %2$s JOIN %3$s AS %2$s_j ON %2$s_j.k = %2$s.n', source, other, random.source(depth - 1));
                RETURN format('%sEXISTS (SELECT 1 FROM %s WHERE %s%s)', random.one_of('', 'NOT '), source, match, filter);
            WHEN 1 THEN
                RETURN format('%1$s.k %2$sIN (SELECT %3$s.k FROM %4$s AS %3$s GROUP BY %3$s.k HAVING %5$s)', name, random.one_of('', '', 'NOT '), other, source, random.having(other));
            WHEN 2 THEN
                RETURN format('%1$s.%5$s NOT IN (SELECT %2$s.%6$s FROM %3$s AS %2$s WHERE true%4$s)', name, other, source, filter,
                              random.one_of('k', 'n', 'm'), random.one_of('k', 'n', 'm'));
            WHEN 3 THEN
                RETURN format('(%1$s.k, %1$s.t) NOT IN (SELECT %2$s.n, %2$s.t FROM %3$s AS %2$s WHERE true%4$s)', name, other, source, filter);
            WHEN 4 THEN
                RETURN format('%1$s%2$s.n %3$s (SELECT %4$s.n FROM %5$s AS %4$s WHERE %6$s%7$s)', random.one_of('', '', 'NOT '), name,
                              random.one_of('> ALL', '>= ALL', '< ALL', '<> ALL', '= ALL', '> ANY', '= ANY'), other, source, random.one_of(match, 'true'), filter);
            WHEN 5, 6 THEN
                RETURN format('(%1$sEXISTS (SELECT FROM %2$s AS %3$s WHERE %3$s.%4$s = %5$s.%4$s%6$s) OR %7$s)', random.one_of('', 'NOT '), source, other,
                              random.one_of('k', 't', 'm', 'c', 'u'), name, filter, random.condition(name));
            ELSE
                RETURN format('EXISTS (SELECT 1 FROM %s AS %s WHERE %s AND %s)', source, other, match, random.presence(other, other || 'x', depth - 1));
        END CASE;
    END IF;
    RETURN CASE random.below(4)
        WHEN 0 THEN format('NOT EXISTS (SELECT FROM %s AS %s WHERE %s%s)', source, other, match, filter)
        WHEN 1 THEN format('%1$s.k IN (SELECT %2$s.n FROM %3$s AS %2$s WHERE true%4$s)', name, other, source, filter)
        ELSE format('EXISTS (SELECT 1 FROM %s AS %s WHERE %s%s)', source, other, match, filter) END;
END
$$;

-- A query over the tables, and the same with its tables the other way round; `parts`, one that needs parts.
CREATE FUNCTION random.query(parts boolean, OUT query text, OUT reversed text) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    tables int := 1 + random.below(3);
    depth int := CASE WHEN parts THEN 1 + random.below(3) ELSE 0 END;
    sources text[] := ARRAY[random.source(depth) || ' AS a1'];
    joins text[] := '{}';
    joined text := ' JOIN ';
    outer_join boolean := false;
    condition text := CASE WHEN random.below(2) = 0 THEN random.condition('a1') END;
    keys text[] := '{}';
    outputs text[] := '{}';
    shape int := random.below(10);
    selected text;
    beside text := '';
    grouped text := '';
    shared text := '';
    correlated text;
BEGIN
    IF tables = 1 AND random.below(3) = 0 THEN
        sources[1] := format('(SELECT id, k, n, m, f, t, b, d, c, u FROM drawn.t%s UNION ALL SELECT a0.id, k, n + 1, m, f, upper(t), b, d, c, u FROM %s AS a0) AS a1', 1 + random.below(3), random.source());
    END IF;
    FOR i IN 2..tables LOOP
        sources := sources || format('%s AS a%s', random.source(depth), i);
        joins := joins || CASE random.below(7)
                WHEN 0 THEN format('a%s.t = a%s.t', i, i - 1)
                WHEN 1 THEN format('a%s.k = a%s.n', i, i - 1)
                WHEN 2 THEN format('a%s.id = a%s.k', i, i - 1)
                WHEN 3 THEN format('(a%s.k, a%1$s.b) = (a%2$s.k, a%2$s.b)', i, i - 1)
                WHEN 4 THEN format('a%s.id < a%s.k AND a%1$s.k = 1', i, i - 1)
                WHEN 5 THEN format('a%s.%s = a%s.%2$s', i, random.one_of('c', 'u', 'm'), i - 1)
                ELSE format('a%s.k = a%s.k AND a%1$s.n <> 3', i, i - 1)
            END;
    END LOOP;
    -- now and then outer joins; of some a condition rejects the NULLs
    IF tables > 1 AND random.below(3) = 0 THEN
        joined := CASE WHEN tables = 2 THEN random.one_of(' LEFT JOIN ', ' RIGHT JOIN ', ' FULL JOIN ') ELSE ' LEFT JOIN ' END;
        outer_join := true;
    ELSIF tables > 1 AND random.below(4) = 0 THEN
        joined := ' LEFT JOIN ';
        SELECT concat_ws(' AND ', condition, string_agg(format('a%s.id IS NOT NULL', i), ' AND ')) INTO condition FROM generate_series(2, tables) i;
    END IF;
    -- now and then it asks whether there are rows of another table
    FOR i IN 1..CASE random.below(3) WHEN 0 THEN 1 + random.below(2) ELSE 0 END LOOP
        condition := concat_ws(' AND ', condition, random.presence('a' || 1 + random.below(tables), 'e' || i, depth));
    END LOOP;
    IF parts AND random.below(2) = 0 THEN
        condition := concat_ws(' AND ', condition, format(random.one_of('a1.n > %s', 'a1.n <= %s', 'a1.m >= 0.5 * %s', '(%s) IS NULL', '%s <> 2'), random.scalar('a1', 's', depth - 1)));
    END IF;
    IF shape < 6 THEN -- groups
        FOR i IN 1..1 + random.below(2) LOOP
            keys := keys || random.key('a' || 1 + random.below(tables));
        END LOOP;
        grouped := ' GROUP BY ' || array_to_string(keys, ', ');
    END IF;
    IF shape < 7 THEN -- groups, or one for all
        FOR i IN 1..1 + random.below(4) LOOP
            outputs := outputs || random.aggregate('a' || 1 + random.below(tables));
        END LOOP;
        IF parts AND shape < 6 AND random.below(4) = 0 THEN outputs := outputs || random.anew('a' || 1 + random.below(tables)); END IF;
        -- now and then a key that is not returned
        outputs := CASE WHEN random.below(5) > 0 THEN keys ELSE '{}' END || outputs;
        IF parts THEN
            IF random.below(4) = 0 THEN -- of which not every aggregate can be
                outputs := keys;
                FOR i IN 1..1 + random.below(3) LOOP
                    outputs := outputs || format(random.one_of('count(DISTINCT a1.%s)', 'count(DISTINCT a1.%s)', 'count(DISTINCT a1.%s) FILTER (WHERE a1.n > 0)'), random.one_of('k', 'n', 'm', 't', 'c', 'u'));
                    outputs := outputs || random.one_of('sum(DISTINCT a1.n)', 'avg(DISTINCT a1.m)', 'count(*)', 'sum(a1.m)', 'max(a1.d)', 'bool_and(a1.b)', 'count(a1.n) FILTER (WHERE a1.b)', 'min(a1.t)', 'every(a1.b)');
                END LOOP;
            END IF;
            correlated := substring(keys[1] FROM '^a1\.([kmtcu])$');
            IF correlated IS NOT NULL AND random.below(3) = 0 THEN outputs := outputs || random.scalar('a1', 'o', depth - 1, correlated); END IF;
            IF random.below(8) = 0 THEN outputs := outputs || format('sum(%s)', random.scalar('a1', 'i', depth - 1)); END IF;
            IF random.below(2) = 0 THEN grouped := grouped || ' HAVING ' || random.having('a1'); END IF;
        END IF;
    ELSE
        FOR i IN 1..1 + random.below(3) LOOP
            outputs := outputs || random.key('a' || 1 + random.below(tables));
        END LOOP;
        IF parts AND random.below(2) = 0 THEN outputs := outputs || random.scalar('a' || 1 + random.below(tables), 'o', depth - 1); END IF;
        FOR i IN 1..CASE WHEN parts AND random.below(2) = 0 THEN 1 + random.below(2) ELSE 0 END LOOP
            outputs := outputs || random.document('a' || 1 + random.below(tables), 'd' || i);
        END LOOP;
    END IF;
    -- LATERAL aggregates and groups, and VALUES
    IF parts AND shape >= 6 AND random.below(4) = 0 THEN
        beside := format(random.one_of(' LEFT JOIN LATERAL (SELECT count(*) AS n, max(l.m) AS m FROM drawn.t%2$s AS l WHERE l.%1$s = a1.%1$s) AS l ON true',
                                       ' CROSS JOIN LATERAL (SELECT count(l.n) + 1 AS n, min(l.m) AS m FROM drawn.t%2$s AS l WHERE l.%1$s = a1.%1$s) AS l',
                                       ' LEFT JOIN LATERAL (SELECT l.b, count(*) AS n, max(l.m) AS m FROM drawn.t%2$s AS l WHERE l.%1$s = a1.%1$s GROUP BY l.b) AS l ON l.n > 1',
                                       ' LEFT JOIN LATERAL (VALUES (a1.n, 1.5), (7, a1.m)) AS l(n, m) ON l.n > 1',
                                       ' JOIN (VALUES (1, 1.5), (2, 2.5), (2, NULL)) AS l(n, m) ON l.n = a1.k',
                                       ' LEFT JOIN (VALUES (1, 1.5), (2, 2.5), (2, NULL)) AS l(n, m) ON l.n = a1.k'),
                         random.one_of('k', 't', 'm', 'c', 'u'), 1 + random.below(3));
        outputs := outputs || CASE WHEN shape = 6 THEN '{sum(l.n),max(l.m)}' ELSE '{l.n,l.m}' END::text[];
        outer_join := true;
    END IF;
    -- one subquery by a name, perhaps twice
    IF parts AND sources[1] ~ '^\(' AND random.below(3) = 0 THEN
        shared := format('WITH w AS %s ', regexp_replace(sources[1], ' AS a1$', ''));
        sources[1] := 'w AS a1';
        IF tables > 1 AND random.below(2) = 0 THEN sources[2] := 'w AS a2'; END IF;
    END IF;
    selected := shared || format('SELECT %s%s FROM ', CASE WHEN shape = 7 OR parts AND random.below(6) = 0 THEN 'DISTINCT ' ELSE '' END,
        (SELECT string_agg(format('%s AS c%s', o, i), ', ') FROM unnest(outputs) WITH ORDINALITY AS u (o, i)));
    query := selected || (SELECT string_agg(CASE WHEN i > 1 THEN format('%s%s ON %s', joined, source, joins[i - 1]) ELSE source END, '' ORDER BY i)
                          FROM unnest(sources) WITH ORDINALITY AS u (source, i))
        || beside || coalesce(' WHERE ' || condition, '') || grouped;
    reversed := selected || (SELECT string_agg(source, ', ' ORDER BY i DESC) FROM unnest(sources) WITH ORDINALITY AS u (source, i))
        || coalesce(' WHERE ' || (SELECT string_agg(c, ' AND ' ORDER BY i DESC) FROM unnest(joins || condition) WITH ORDINALITY AS u (c, i)), '')
        || grouped;
    IF outer_join THEN reversed := query; END IF;
    -- one table the other way round: its rows in two halves
    IF sources[1] ~ '^drawn\.t\d AS a1$' AND tables = 1 AND beside = '' THEN
        reversed := replace(query, ' FROM ' || sources[1], format(' FROM (SELECT * FROM %1$s WHERE k > 1 UNION ALL SELECT * FROM %1$s WHERE (k > 1) IS NOT TRUE) AS a1', split_part(sources[1], ' ', 1)));
    END IF;
END
$$;

-- A definition over the tables, or over projections made before, and the same in another form: with its tables the other
-- way round, over copies of them that are projections themselves (a cascade), async, paused now and then, rebuilt.
CREATE FUNCTION random.make_projection(number int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    parts boolean := random.below(3) > 0;
    drawn record := random.query(parts);
    other text;
    form text := random.one_of('reversed', 'cascade', 'async', 'paused', 'rebuilt', 'repaired');
    below text;
BEGIN
    SELECT relation::text INTO below FROM projections.definitions
    WHERE relation::text ~ '^drawn\.p' AND random.below(3) = 0 ORDER BY projection LIMIT 1;
    IF below IS NOT NULL THEN
        drawn.query := format(CASE WHEN parts THEN random.one_of('SELECT p.c1, count(*) AS c2 FROM %s AS p %s GROUP BY p.c1 HAVING count(*) > 1',
                                                                 'SELECT count(DISTINCT p.c1::text) AS c1, count(*) AS c2 FROM %s AS p %s',
                                                                 'SELECT p.c2, count(*) AS c1 FROM (SELECT p.c1, count(*) AS c2 FROM %s AS p %s GROUP BY p.c1) AS p GROUP BY p.c2')
                                   ELSE 'SELECT p.c1, count(*) AS c2 FROM %s AS p %s GROUP BY p.c1' END, below,
                        CASE WHEN random.below(2) = 0 THEN 'JOIN drawn.t1 AS a1 ON p.c1::text = a1.k::text' ELSE '' END);
        drawn.reversed := drawn.query;
    END IF;
    other := CASE form WHEN 'reversed' THEN drawn.reversed
                       WHEN 'cascade' THEN regexp_replace(drawn.query, 'drawn\.t(\d)', 'drawn.copy\1', 'g')
                       ELSE drawn.query END;
    BEGIN
        CALL random.execute(format('SELECT projections.create(%L, %L)', 'drawn.p' || number, drawn.query));
    EXCEPTION WHEN SQLSTATE 'PJ002' THEN -- of what needs parts, not all is supported
        IF NOT parts THEN RAISE; END IF;
        RAISE INFO '-- refused: %', SQLERRM;
        PERFORM random.make_projection(number);
        RETURN;
    END;
    CALL random.execute(format('SELECT projections.create(%L, %L, %L)', 'drawn.q' || number, other,
                               CASE form WHEN 'async' THEN 'async' ELSE 'inline' END));
    INSERT INTO random.twins VALUES ('drawn.p' || number, 'drawn.q' || number, form, drawn.query);
END
$$;

-- Brings up to date what is not kept so.
CREATE PROCEDURE random.settle() LANGUAGE plpgsql AS $$
DECLARE
    other text;
BEGIN
    FOR other IN SELECT t.other FROM random.twins AS t JOIN projections_internal.projection AS p ON p.relation = t.other::regclass
                 WHERE p.paused_at IS NOT NULL ORDER BY 1 LOOP
        CALL random.execute(format('SELECT projections.resume(%L)', other));
    END LOOP;
    IF EXISTS (SELECT FROM random.twins AS t WHERE t.form = 'async') THEN
        CALL random.execute('SELECT projections.catch_up()');
    END IF;
    COMMIT;
END
$$;

-- Two forms of one definition hold the same rows, which are those of the query as it was written. Where a group was computed anew by its query, floats are added up by
-- PostgreSQL, and may differ in the last digits.
CREATE PROCEDURE random.compare() LANGUAGE plpgsql AS $$
DECLARE
    twin record;
    columns text;
    different int;
    rows text;
BEGIN
    FOR twin IN SELECT * FROM random.twins LOOP
        SELECT count(*), string_agg(d.problem || ' ' || d.contents, E'\n') INTO different, rows FROM test.differences(twin.one::regclass,
            CASE WHEN twin.query !~ ' FULL JOIN ' THEN twin.query END) AS d; -- PostgreSQL does not run each FULL JOIN that a projection can be
        IF different > 0 THEN
            RAISE EXCEPTION USING MESSAGE = format('%s differs from its query in %s rows', twin.one, different), DETAIL = rows;
        END IF;
        SELECT string_agg(quote_ident(c) || CASE a.atttypid WHEN 'float8'::regtype THEN '::float4' ELSE '' END, ', ') INTO columns
        FROM projections.definitions AS d, unnest(d.columns) AS c JOIN pg_attribute AS a ON a.attname = c
        WHERE d.relation = twin.one::regclass AND a.attrelid = d.relation;
        EXECUTE format('SELECT count(*), string_agg(d::text, '' '') FROM ((SELECT %1$s FROM %2$s EXCEPT ALL SELECT %1$s FROM %3$s) UNION ALL '
                       '(SELECT %1$s FROM %3$s EXCEPT ALL SELECT %1$s FROM %2$s)) AS d', columns, twin.one, twin.other) INTO different, rows;
        IF different > 0 THEN
            RAISE EXCEPTION USING MESSAGE = format('%s and its other form %s (%s) differ in %s rows', twin.one, twin.other, twin.form, different),
                DETAIL = rows;
        END IF;
    END LOOP;
END
$$;

-- What is done to some of the other forms between transactions.
CREATE PROCEDURE random.disturb() LANGUAGE plpgsql AS $$
DECLARE
    twin record;
BEGIN
    FOR twin IN SELECT * FROM random.twins WHERE form = 'paused' AND random.below(2) = 0 LOOP
        CALL random.execute(format('SELECT projections.pause(%L, ''random'')', twin.other));
    END LOOP;
    COMMIT;
    FOR twin IN SELECT * FROM random.twins WHERE form = 'rebuilt' AND random.below(5) = 0 LOOP
        RAISE INFO 'CALL projections.rebuild(%);', quote_literal(twin.other);
        CALL projections.rebuild(twin.other);
    END LOOP;
    FOR twin IN SELECT * FROM random.twins WHERE form = 'repaired' AND random.below(3) = 0 LOOP
        CALL random.execute(format('SELECT projections.repair(%L)', twin.other));
    END LOOP;
    COMMIT;
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
            -- what the transaction reads of its own changes is right, too
            IF random.below(8) = 0 THEN CALL random.execute('SELECT test.check_all(''drawn.p%'')'); END IF;
        END IF;
    END LOOP;
END
$$;

CREATE PROCEDURE random.round(definitions int, transactions int) LANGUAGE plpgsql AS $$
BEGIN
    CALL random.make_tables();
    TRUNCATE random.twins;
    FOR t IN 1..3 LOOP
        CALL random.execute(format('SELECT projections.create(''drawn.copy%s'', ''SELECT * FROM drawn.t%1$s'')', t));
    END LOOP;
    FOR i IN 1..definitions LOOP
        PERFORM random.make_projection(i);
    END LOOP;
    COMMIT;
    CALL random.settle();
    PERFORM test.check_all();
    CALL random.compare();
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
        CALL random.settle();
        PERFORM test.check_all();
        CALL random.compare();
        COMMIT;
        CALL random.disturb();
    END LOOP;
END
$$;
