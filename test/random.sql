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
        EXECUTE format('CREATE INDEX ON drawn.t%s (n, id); CREATE INDEX ON drawn.t%1$s (k, m DESC, id)', t); -- for LIMIT
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

-- A table, or what reads one: as it is, or, of `depth` levels at most, by groups or as slices of rows.
CREATE FUNCTION random.source(depth int DEFAULT 0) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF depth > 0 AND random.below(4) = 0 THEN RETURN random.grouped(depth - 1); END IF;
    IF depth > 0 AND random.below(6) = 0 THEN RETURN '(' || random.rows(depth - 1) || ')'; END IF;
    IF depth > 0 AND random.below(8) = 0 THEN RETURN '(' || random.set_operation(depth - 1) || ')'; END IF;
    RETURN format(CASE random.below(8) WHEN 0 THEN '(SELECT * FROM drawn.t%s)'
                                       WHEN 1 THEN '(SELECT id, k, n, m, f, upper(t) AS t, b, d, c, u FROM drawn.t%s WHERE k <> 3 ORDER BY n)'
                                       WHEN 2 THEN 'drawn.v%s'
                                       ELSE 'drawn.t%s' END, 1 + random.below(3));
END
$$;

-- Rows of two sources or three, of which some are equal, with the columns of a table.
CREATE FUNCTION random.set_operation(depth int) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    side text := 'SELECT 1 AS id, s.k, s.n, s.m, NULL::double precision AS f, s.t, s.b, NULL::date AS d, NULL::public.citext AS c, NULL::text COLLATE random.no_case AS u FROM %s AS s';
    one text := random.one_of(side, replace(side, 's.n, s.m, ', '2 AS n, 1.5 AS m, '), replace(side, 's.t', '''a''::text AS t'));
    operations text[] := ARRAY['INTERSECT ALL', 'EXCEPT ALL', 'EXCEPT ALL', 'INTERSECT', 'EXCEPT', 'UNION ALL', 'UNION'];
    operation text := random.one_of(VARIADIC operations[1:4]);
    second text := format(one, random.source(depth)) || CASE WHEN random.below(2) = 0 THEN ' WHERE ' || random.condition('s') ELSE '' END;
BEGIN
    IF random.below(3) = 0 THEN
        second := format('(%s %s %s)', second, random.one_of(VARIADIC operations), format(one, random.source(depth)));
    END IF;
    RETURN format('%s %s %s', format(one, random.source(depth)), operation, second);
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
    -- one table the other way round: its rows in two halves, which have no key as documents need one
    IF sources[1] ~ '^drawn\.t\d AS a1$' AND tables = 1 AND beside = '' AND selected !~ 'LIMIT|ARRAY|array_agg|jsonb_|coalesce\(max' THEN
        reversed := replace(query, ' FROM ' || sources[1], format(' FROM (SELECT * FROM %1$s WHERE k > 1 UNION ALL SELECT * FROM %1$s WHERE (k > 1) IS NOT TRUE) AS a1', split_part(sources[1], ' ', 1)));
    END IF;
END
$$;

-- An order of rows of `alias` that leaves nothing open.
CREATE FUNCTION random.order_of(alias text, source text) RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT CASE WHEN source ~ '^drawn\.[tv][12]$' THEN alias || '.id'
                ELSE (SELECT string_agg(alias || '.' || name, ', ') FROM unnest('{id,k,n,m,f,t,b,d,c,u}'::text[]) AS name) END
$$;

-- A window function over rows of `alias`, in partitions of `partition` at least; `total` is an order that leaves nothing open. An integer.
CREATE FUNCTION random.window_function(alias text, partition text, total text) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    parted text := 'PARTITION BY ' || CASE random.below(4) WHEN 0 THEN format('%s, %s.%s', partition, alias, random.one_of('b', 't', 'c'))
                                                           WHEN 1 THEN format('%s.%s, %s', alias, random.one_of('k', 'm', 'u'), partition) ELSE partition END;
    direction text := random.one_of('', ' DESC', ' NULLS FIRST', ' DESC NULLS LAST');
    ordered text := format('%s ORDER BY %s.%s%s', parted, alias, random.one_of('n', 'm', 't', 'c', 'k', 'd'), direction);
    frame text := random.one_of('ROWS UNBOUNDED PRECEDING', 'ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING', 'ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING',
                                'ROWS BETWEEN 2 PRECEDING AND 1 PRECEDING', 'ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING EXCLUDE CURRENT ROW');
    filter text := CASE WHEN random.below(4) = 0 THEN format(' FILTER (WHERE %s)', random.condition(alias)) ELSE '' END;
BEGIN
    RETURN CASE random.below(9)
        WHEN 0 THEN format('%s() OVER (%s)::int', random.one_of('rank', 'dense_rank'), ordered)
        WHEN 1 THEN format('row_number() OVER (%s, %s)::int', ordered, total)
        WHEN 2 THEN format('%s OVER (%s, %s)', format(random.one_of('lag(%s.n)', 'lead(%s.n)', 'lag(%s.n, 2, 7)', 'first_value(%s.k)', 'ntile(2)'), alias), ordered, total)
        WHEN 3 THEN format('%s OVER (%s, %s %s)', format(random.one_of('last_value(%s.n)', 'nth_value(%s.k, 2)'), alias), ordered, total, frame)
        WHEN 4 THEN format('%s%s OVER (%s)::int', format(random.one_of('count(*)', 'count(%s.n)', 'sum(%s.n)', 'max(%s.k)', 'min(%s.n)'), alias), filter, parted)
        WHEN 5 THEN format('%s%s OVER (%s)::int', format(random.one_of('count(*)', 'count(%s.n)', 'sum(%s.n)', 'max(%s.k)'), alias), filter, ordered)
        WHEN 6 THEN format('%s%s OVER (%s, %s %s)::int', format(random.one_of('count(*)', 'sum(%s.n)', 'max(%s.k)'), alias), filter, ordered, total, frame)
        WHEN 7 THEN format('%s OVER (%s ORDER BY %s.%s%s %s)::int', format(random.one_of('count(*)', 'sum(%s.k)', 'max(%s.n)'), alias), parted, alias, random.one_of('n', 'k'), direction,
                           random.one_of('RANGE BETWEEN 1 PRECEDING AND 1 FOLLOWING', 'GROUPS BETWEEN 1 PRECEDING AND CURRENT ROW', 'RANGE BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING EXCLUDE GROUP',
                                         'RANGE 2 PRECEDING'))
        ELSE format('round(100 * %s() OVER (%s))::int', random.one_of('percent_rank', 'cume_dist'), ordered) END;
END
$$;

-- A function that makes rows of a row of `alias`, with its columns: one of integers, whose name is x.
CREATE FUNCTION random.set_of(alias text) RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT replace(random.one_of('unnest(ARRAY[a.n, a.k, NULL]) AS s(x)', 'unnest(CASE WHEN a.b THEN ARRAY[a.n, 1] WHEN NOT a.b THEN ''{}''::int[] END) AS s(x)',
                                 'generate_series(1, a.n) AS s(x)', 'generate_series(least(a.n, a.k), greatest(a.n, a.k)) AS s(x)',
                                 'unnest(ARRAY[a.n, a.n], ARRAY[a.t]) AS s(x, y)', 'unnest(string_to_array(a.t || '',b,,a'', '','')) WITH ORDINALITY AS s(y, x)',
                                 'jsonb_to_recordset(jsonb_build_array(jsonb_build_object(''x'', a.n), jsonb_build_object(''x'', a.k, ''y'', a.t))) AS s(x int, y text)',
                                 'jsonb_each_text(jsonb_build_object(''n'', a.n, ''k'', a.k)) AS e(y, v) CROSS JOIN LATERAL (SELECT e.v::int AS x) AS s',
                                 'ROWS FROM (generate_series(1, a.n), unnest(ARRAY[a.t, a.u])) WITH ORDINALITY AS s(x, y, z)',
                                 'string_to_table(repeat(''1,'', a.k), '','', '''') AS l(y) CROSS JOIN LATERAL (VALUES (l.y::int), (a.n)) AS s(x)'), 'a.', alias || '.')
$$;

-- Slices of rows, with the columns of a table; with `extra`, more columns.
CREATE FUNCTION random.rows(depth int, extra boolean DEFAULT false) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    source text := random.source(depth);
    named text := random.source(depth);
    made text := random.set_of('r');
    partition text := random.one_of('r.k', 'r.k', 'r.t', 'r.m', 'r.c', 'r.u', 'r.b', 'r.k % 2', 'upper(r.t)', 'coalesce(r.k, 0)');
    total text := random.order_of('r', source);
    condition text := CASE WHEN random.below(3) = 0 THEN ' WHERE ' || random.condition('r') ELSE '' END;
    columns text := 'r.id, r.k, %s AS n, r.m, r.f, r.t, r.b, r.d, r.c, r.u';
    more text := '';
    table_of text := 'drawn.t' || 1 + random.below(2);
BEGIN
    CASE random.below(10)
        WHEN 0, 1, 2 THEN -- windows
            IF extra THEN
                FOR i IN 1..random.below(3) LOOP
                    more := more || format(', %s AS w%s', random.window_function('r', partition, total), i);
                END LOOP;
            END IF;
            RETURN format('SELECT ' || columns || replace(more, '%', '%%') || ' FROM %s AS r%s', random.window_function('r', partition, total), source, condition);
        WHEN 3 THEN -- windows over joins
            total := total || ', ' || random.order_of('o', named);
            IF extra THEN more := format(', o.n AS on, o.t AS ot, %s AS w', random.window_function(random.one_of('r', 'o'), partition, total)); END IF;
            RETURN format('SELECT ' || columns || replace(more, '%', '%%') || ' FROM %s AS r %s %s AS o ON %s%s', random.window_function(random.one_of('r', 'o'), partition, total), source,
                          random.one_of('JOIN', 'LEFT JOIN', 'LEFT JOIN', 'RIGHT JOIN'), named, random.one_of('o.k = r.n', 'o.id = r.n', 'o.m = r.m', 'o.c = r.c', 'o.k = r.k AND o.b'), condition);
        WHEN 4 THEN -- windows over groups
            partition := random.one_of('k', 'k', 't', 'm', 'c', 'u', 'b');
            RETURN format('SELECT min(r.id) AS id, %s, %s AS n, %s, max(r.f) AS f, %s, %s, r.d, %s, %s FROM %s AS r%s GROUP BY r.%s, r.d%s',
                CASE partition WHEN 'k' THEN 'r.k' ELSE 'count(*)::int AS k' END,
                format(random.one_of('rank() OVER (PARTITION BY %1$s ORDER BY sum(r.n), count(*) DESC)::int', 'row_number() OVER (PARTITION BY %1$s ORDER BY r.d)::int',
                                     'sum(sum(r.n)) OVER (PARTITION BY %1$s)::int', 'lag(count(*)) OVER (PARTITION BY %1$s ORDER BY max(r.n), r.d)::int',
                                     'count(*) OVER (PARTITION BY %1$s ORDER BY r.d ROWS 1 PRECEDING)::int'), 'r.' || partition),
                CASE partition WHEN 'm' THEN 'r.m' ELSE 'sum(r.m) AS m' END, CASE partition WHEN 't' THEN 'r.t' ELSE 'max(r.t) AS t' END,
                CASE partition WHEN 'b' THEN 'r.b' ELSE 'bool_or(r.b) AS b' END, CASE partition WHEN 'c' THEN 'r.c' ELSE 'min(r.c) AS c' END,
                CASE partition WHEN 'u' THEN 'r.u' ELSE 'max(r.u) AS u' END, source, condition, partition,
                CASE WHEN random.below(3) = 0 THEN ' HAVING ' || random.having('r') ELSE '' END);
        WHEN 5, 6 THEN -- functions
            IF extra AND made ~ '\my\M' AND made !~ ' CROSS ' THEN more := ', s.y'; END IF;
            IF random.below(4) = 0 THEN
                RETURN format('SELECT ' || columns || ' FROM %s AS r%s', random.one_of('unnest(ARRAY[r.n, r.k, NULL])', 'generate_series(1, r.n)', 'unnest(string_to_array(r.k || '',3'', '',''))::int'), table_of, condition);
            END IF;
            RETURN format(random.one_of('SELECT ' || columns || more || ' FROM %s AS r CROSS JOIN LATERAL %s%s', 'SELECT ' || columns || more || ' FROM %s AS r LEFT JOIN LATERAL %s ON true%s',
                                        'SELECT ' || columns || more || ' FROM %s AS r LEFT JOIN drawn.t1 AS o ON o.id = r.k CROSS JOIN LATERAL %s%s',
                                        'SELECT ' || columns || more || ' FROM drawn.t2 AS o JOIN %s AS r ON o.id = r.k LEFT JOIN LATERAL %s ON true%s'), 's.x', table_of, made, condition);
        WHEN 7 THEN -- LATERAL of several rows
            RETURN format('SELECT ' || columns || ' FROM %s AS r %s JOIN LATERAL (SELECT l.n, l.t FROM drawn.t%s AS l WHERE %s ORDER BY l.%s, l.n%s%s) AS l ON true%s',
                random.one_of('l.n', 'length(l.t)'), table_of, random.one_of('LEFT', 'INNER'), 1 + random.below(3),
                random.one_of('l.k = r.k', 'l.k = r.n', 'l.m = r.m', 'l.c = r.c AND l.b', 'l.t = r.t AND l.n < r.n'), random.one_of('k', 'm DESC', 'd'),
                ', l.t', random.one_of(' LIMIT 2', ' LIMIT 2', ' OFFSET 1 LIMIT 1', ''), condition);
        WHEN 8 THEN -- the first rows
            RETURN format('SELECT ' || columns || ' FROM %s AS r%s LIMIT %s', 'r.n', table_of,
                random.one_of(' ORDER BY r.n, r.id', ' ORDER BY r.n DESC, r.id DESC', ' ORDER BY r.id', ' WHERE r.k = 1 ORDER BY r.m DESC, r.id', ' WHERE r.n = 2 ORDER BY r.id DESC'),
                random.one_of('1', '3', '3 OFFSET 1'));
        ELSE -- the first of each partition
            RETURN format('SELECT ' || columns || ' FROM (SELECT r.*, %s AS place FROM %s AS r%s) AS r WHERE r.place <= 2', 'r.place',
                format(random.one_of('row_number() OVER (PARTITION BY %1$s ORDER BY r.n, %2$s)::int', 'rank() OVER (PARTITION BY %1$s ORDER BY r.n DESC)::int'), partition, total), source, condition);
    END CASE;
END
$$;

-- A query of slices of rows, as they are or beneath something.
CREATE FUNCTION random.query_of_rows() RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    kind int := random.below(14);
    slices text := random.rows(random.below(3), kind < 5);
BEGIN
    slices := CASE WHEN kind < 5 THEN slices ELSE '(' || slices || ') AS s' END;
    RETURN CASE kind
        WHEN 5 THEN format('SELECT s.k AS c1, count(*) AS c2, sum(s.n) AS c3, max(s.t) AS c4 FROM %s GROUP BY s.k', slices)
        WHEN 6 THEN format('SELECT DISTINCT s.n AS c1, s.%s AS c2 FROM %s', random.one_of('k', 't', 'm', 'c', 'u'), slices)
        WHEN 7 THEN format('SELECT a1.id AS c1, s.n AS c2, s.k AS c3, a1.t AS c4 FROM drawn.t%s AS a1 %s %s ON %s', 1 + random.below(3), random.one_of('JOIN', 'LEFT JOIN', 'RIGHT JOIN'), slices,
                           random.one_of('s.k = a1.k', 's.id = a1.id', 's.n = a1.k', 's.k = a1.n AND s.n = 1', 's.c = a1.c'))
        WHEN 8 THEN format('SELECT a1.k AS c1, a1.n AS c2 FROM drawn.t%s AS a1 WHERE a1.n %sIN (SELECT s.n FROM %s)', 1 + random.below(3), random.one_of('', 'NOT '), slices)
        WHEN 9 THEN format('SELECT a1.k AS c1, a1.n AS c2 FROM drawn.t%s AS a1 WHERE %sEXISTS (SELECT FROM %s WHERE s.k = a1.k AND s.n > 1)', 1 + random.below(3), random.one_of('', 'NOT '), slices)
        WHEN 10 THEN format('SELECT a1.id AS c1, a1.k AS c2, (SELECT jsonb_agg(jsonb_build_array(s.n, s.k) ORDER BY s.n, s.k) FROM %s WHERE s.%s = a1.k) AS c3 FROM drawn.t%s AS a1', slices, random.one_of('k', 'n'), 1 + random.below(2))
        WHEN 11 THEN format('SELECT a1.k AS c1, a1.n AS c2 FROM drawn.t%s AS a1 UNION ALL SELECT s.k, s.n FROM %s', 1 + random.below(3), slices)
        WHEN 12 THEN format('SELECT s.n AS c1, (SELECT count(*) FROM drawn.t1 AS e WHERE e.k = s.k) AS c2, s.t AS c3 FROM %s', slices)
        WHEN 13 THEN format('SELECT a1.id AS c1, ARRAY(SELECT y.x FROM (SELECT s.x FROM %s) AS y ORDER BY y.x) AS c2 FROM drawn.t%s AS a1 WHERE %3$s (SELECT x FROM %1$s)',
                            random.set_of('a1'), 1 + random.below(3), random.one_of('a1.k IN', 'a1.n NOT IN', 'EXISTS'))
        ELSE slices END;
END
$$;

-- What no key can be traced in.
CREATE FUNCTION random.query_read_again() RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    source text := random.source(random.below(3));
    total text := random.order_of('r', source);
BEGIN
    RETURN replace(format(CASE random.below(5)
        WHEN 0 THEN 'WITH RECURSIVE w(id, up, depth) AS (SELECT r.id, r.n, 1 FROM %1$s AS r WHERE r.k = 1 UNION SELECT s.id, s.n, w.depth + 1 FROM drawn.T AS s JOIN w ON s.k = w.up WHERE w.depth < 4) '
                    'SELECT up AS c1, depth AS c2, id AS c3 FROM w'
        WHEN 1 THEN 'SELECT r.k AS c1, r.m AS c2, e.n AS c3 FROM %1$s AS r LEFT JOIN drawn.T AS e ON e.k = r.n ORDER BY r.m, r.k DESC, e.n LIMIT 3'
        WHEN 2 THEN 'SELECT r.k AS c1, rank() OVER (ORDER BY r.m DESC) AS c2, sum(r.n) OVER (PARTITION BY r.t) AS c3, row_number() OVER (ORDER BY %2$s) AS c4 FROM %1$s AS r'
        WHEN 3 THEN 'SELECT array_agg(r.n ORDER BY r.n) AS c1, count(*) AS c2 FROM %1$s AS r JOIN drawn.T AS e ON e.k = r.k'
        ELSE 'SELECT p.c1, count(*) AS c2 FROM (SELECT r.k AS c1, dense_rank() OVER (ORDER BY r.n) AS p FROM %1$s AS r) AS p WHERE p.p < 3 GROUP BY p.c1' END,
        source, total), 'drawn.T', 'drawn.t' || 1 + random.below(3));
END
$$;

-- A definition over the tables, or over projections made before, and the same in another form: with its tables the other
-- way round, over copies of them that are projections themselves (a cascade), async, paused now and then, rebuilt.
CREATE FUNCTION random.make_projection(number int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    parts boolean := random.below(3) > 0;
    drawn record := random.query(parts);
    of_rows int := random.below(5); -- 0, 1: slices of rows; 2: what is read again as a whole
    options text := CASE of_rows WHEN 2 THEN '{"fallback": "refresh"}' ELSE '{}' END;
    other text;
    form text := random.one_of('reversed', 'cascade', 'async', 'paused', 'rebuilt', 'repaired');
    below text;
BEGIN
    SELECT relation::text INTO below FROM projections.definitions
    WHERE relation::text ~ '^drawn\.p' AND columns @> '{c1,c2}' AND random.below(3) = 0 ORDER BY projection LIMIT 1;
    IF of_rows < 3 THEN
        drawn.query := CASE of_rows WHEN 2 THEN random.query_read_again() ELSE random.query_of_rows() END;
        drawn.reversed := drawn.query;
    END IF;
    IF below IS NOT NULL THEN
        drawn.query := format(CASE WHEN parts THEN random.one_of('SELECT p.c1, count(*) AS c2 FROM %s AS p %s GROUP BY p.c1 HAVING count(*) > 1',
                                                                 'SELECT p.c1, rank() OVER (PARTITION BY p.c1 ORDER BY p.c2) AS c2 FROM %s AS p %s',
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
        CALL random.execute(format('SELECT projections.create(%L, %L, options => %L)', 'drawn.p' || number, drawn.query, options));
    EXCEPTION WHEN SQLSTATE 'PJ002' THEN -- of what needs parts, not all is supported
        IF of_rows = 2 OR NOT parts AND of_rows > 1 AND below IS NULL THEN RAISE; END IF;
        RAISE INFO '-- refused: %', SQLERRM;
        PERFORM random.make_projection(number);
        RETURN;
    END;
    CALL random.execute(format('SELECT projections.create(%L, %L, %L, options => %L)', 'drawn.q' || number, other,
                               CASE form WHEN 'async' THEN 'async' ELSE 'inline' END, options));
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
        EXECUTE format('CREATE INDEX ON drawn.copy%s (n, id); CREATE INDEX ON drawn.copy%1$s (k, m DESC, id)', t);
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
