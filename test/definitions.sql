-- What test/definitions draws from: definitions made of every aggregate, argument, filter and key, over every common type.
CREATE SCHEMA definitions;
CREATE SCHEMA drawn;
CREATE SCHEMA "off path"; -- of types whose operators no search_path finds

CREATE FUNCTION definitions.below(n int) RETURNS int LANGUAGE sql VOLATILE AS $$ SELECT floor(pg_catalog.random() * n)::int $$;
CREATE FUNCTION definitions.one_of(VARIADIC choices text[]) RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT choices[1 + definitions.below(cardinality(choices))]
$$;

CREATE TYPE drawn.mood AS ENUM ('sad', 'ok', 'happy');
CREATE TYPE drawn.pair AS (a int, b text);
CREATE DOMAIN drawn.small AS int CHECK (VALUE < 1000);
CREATE DOMAIN drawn.price AS numeric(10, 2) CHECK (VALUE > -1000);
CREATE DOMAIN drawn.word AS varchar(20) COLLATE "C";
CREATE COLLATION drawn.no_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);

-- Each kind of column, with literals that meet each other, and some that are equal but look different.
CREATE TABLE definitions.kind (name text PRIMARY KEY, type text NOT NULL, literals text[] NOT NULL);
INSERT INTO definitions.kind VALUES
    ('i2', 'smallint', '{1,2,-3}'), ('i4', 'int', '{1,2,-3,0}'), ('i8', 'bigint', '{1,2,10000000000}'),
    ('num', 'numeric', '{1.0,1.00,2.5,-3,0.001}'), ('num2', 'numeric(10,2)', '{1.0,2.25,-3}'),
    ('f4', 'real', '{0.5,-1.25,2}'), ('f8', 'float8', '{0.1,-0.0,0.0,2.5}'), ('cash', 'money', '{1.50,2,-3}'),
    ('b', 'boolean', '{true,false}'), ('t', 'text', '{a,b,A,"it''s \\b"}'), ('c3', 'char(3)', '{a,b,ab}'),
    ('v', 'varchar(5)', '{a,b,A}'), ('v0', 'varchar', '{a,b}'), ('n', 'name', '{a,b}'), ('q', '"char"', '{x,y}'),
    ('tc', 'text COLLATE "C"', '{a,B}'), ('ti', 'text COLLATE drawn.no_case', '{a,A,b}'),
    ('d', 'date', '{2020-01-01,2020-01-02}'), ('ts', 'timestamp', '{2020-01-01 10:00,2020-01-02}'),
    ('ts0', 'timestamp(0)', '{2020-01-01 10:00:00.6,2020-01-02}'), ('tz', 'timestamptz', '{2020-01-01 10:00+00,2020-07-01 10:00+00}'),
    ('tm', 'time', '{10:00,11:30}'), ('tmz', 'timetz', '{10:00+00,11:00+01}'),
    ('iv', 'interval', '{1 day,24:00,1 mon,-1 day}'), ('ivh', 'interval hour to minute', '{1:30,2:00}'),
    ('u', 'uuid', '{00000000-0000-0000-0000-000000000001,00000000-0000-0000-0000-000000000002}'),
    ('by', 'bytea', '{"\\x01","\\x02ff"}'), ('bt', 'bit(3)', '{101,110}'), ('bv', 'varbit', '{1,101}'),
    ('ip', 'inet', '{10.0.0.1,10.0.0.0/8}'), ('cd', 'cidr', '{10.0.0.0/8,10.1.0.0/16}'),
    ('j', 'json', '{"{\"a\":1}","{\"a\": 1}"}'), ('jb', 'jsonb', '{"{\"a\":1}","{\"a\":1.0}"}'),
    ('ai', 'int[]', '{"{1,2}","{NULL}"}'), ('an', 'numeric[]', '{"{1.0}","{1.00}"}'), ('at', 'text[]', '{"{a,NULL}","{b}"}'),
    ('r', 'int4range', '{"[1,3)","[2,5)",empty}'), ('nr', 'numrange', '{"[1.0,2)","[1.00,2)"}'),
    ('mood', 'drawn.mood', '{sad,happy}'), ('pr', 'drawn.pair', '{"(1,a)","(1,b)"}'),
    ('ds', 'drawn.small', '{1,2}'), ('dp', 'drawn.price', '{1.5,2}'), ('dw', 'drawn.word', '{a,b}'),
    ('o', 'oid', '{1,2}'), ('ln', 'pg_lsn', '{0/1,0/2}'), ('p', 'point', '{"(1,2)","(2,1)"}'), ('x', 'xml', '{<a/>,<b/>}'),
    ('tv', 'tsvector', '{"''a'':1","''b'':2"}'), ('tq', 'tsquery', '{a,b}');

-- Extensions that the server has not are left out.
DO $$
DECLARE
    wanted text[];
BEGIN
    FOREACH wanted SLICE 1 IN ARRAY '{{citext,ci,citext},{hstore,hs,hstore},{ltree,lt,ltree},{isn,isbn,isbn},{cube,cu,cube},{seg,sg,seg}}'::text[][] LOOP
        CONTINUE WHEN NOT EXISTS (SELECT FROM pg_available_extensions WHERE name = wanted[1]);
        EXECUTE format('CREATE EXTENSION %I SCHEMA "off path"', wanted[1]);
        INSERT INTO definitions.kind VALUES (wanted[2], format('"off path".%I', wanted[3]),
            CASE wanted[1] WHEN 'hstore' THEN '{a=>1,b=>2}' WHEN 'isn' THEN '{0-393-04002-X,0-201-52758-8}' WHEN 'cube' THEN '{"(1,2)","(2,1)"}'
                           WHEN 'seg' THEN '{1 .. 2,1.0 .. 2}' ELSE '{Ann,ANN,bob}' END::text[]);
    END LOOP;
END
$$;

CREATE FUNCTION definitions.literal(kind text, nulls boolean DEFAULT true) RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT CASE WHEN nulls AND definitions.below(6) = 0 THEN 'NULL'
                ELSE format('%L', literals[1 + definitions.below(cardinality(literals))]) END || '::' || regexp_replace(type, ' COLLATE .*', '')
    FROM definitions.kind AS k WHERE k.name = $1
$$;

CREATE FUNCTION definitions.kind_of(pattern text DEFAULT '.*') RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT name FROM definitions.kind WHERE name ~ ('^(' || pattern || ')$') ORDER BY pg_catalog.random() LIMIT 1
$$;

-- A value made from a column of a kind.
CREATE FUNCTION definitions.value(kind text) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    type text := (SELECT regexp_replace(k.type, ' COLLATE .*', '') FROM definitions.kind AS k WHERE k.name = kind);
    literal text := definitions.literal(kind, false);
BEGIN
    RETURN CASE definitions.below(16)
        WHEN 0 THEN format('CASE WHEN s.b THEN s.%I END', kind)
        WHEN 1 THEN format('NULLIF(s.%I, %s)', kind, literal)
        WHEN 2 THEN format('greatest(s.%I, %s)', kind, literal)
        WHEN 3 THEN format('coalesce(s.%I, %s)', kind, definitions.literal(kind))
        WHEN 4 THEN format('CASE s.%I WHEN %s THEN %s ELSE s.%1$I END', kind, literal, definitions.literal(kind))
        WHEN 5 THEN definitions.literal(kind)
        WHEN 6 THEN format('s.%I::%s', kind, type)
        WHEN 7 THEN format('s.%I::text', kind)
        WHEN 8 THEN format('CASE s.i4 WHEN 1 THEN s.%I ELSE NULL::%s END', kind, type)
        ELSE format('s.%I', kind)
    END;
END
$$;

CREATE FUNCTION definitions.condition() RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    kind text := definitions.kind_of();
    a text := format('s.%I', kind);
    x text := definitions.literal(kind, false);
    y text := definitions.literal(kind, false);
BEGIN
    RETURN CASE definitions.below(14)
        WHEN 0 THEN 'true'
        WHEN 1 THEN 's.b'
        WHEN 2 THEN format('%s IS DISTINCT FROM %s', a, x)
        WHEN 3 THEN format('%s IN (%s, %s)', a, x, y)
        WHEN 4 THEN format('%s = ANY (ARRAY[%s, %s])', a, x, y)
        WHEN 5 THEN format('(%s, s.id) < (%s, 3)', a, x)
        WHEN 6 THEN format('%s BETWEEN %s AND %s', a, x, y)
        WHEN 7 THEN format('NULLIF(%s, %s) IS NULL', a, x)
        WHEN 8 THEN format('(s.i4, %s) IS DISTINCT FROM (1, %s)', a, x)
        WHEN 9 THEN format('CASE %s WHEN %s THEN true ELSE s.b END', a, x)
        WHEN 10 THEN format('s.t IN (''a'', ''b'') AND %s IS NOT NULL', a)
        WHEN 11 THEN 's.v IN (''a'', ''b'')'
        WHEN 12 THEN format('(%s = %s) IS NOT FALSE', a, x)
        ELSE format('%s NOT IN (%s, %s)', a, x, y)
    END;
END
$$;

CREATE FUNCTION definitions.aggregate() RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    name text := definitions.one_of('count', 'sum', 'avg', 'min', 'max', 'variance', 'var_pop', 'stddev', 'stddev_pop', 'bool_and', 'bool_or', 'every');
    kind text := CASE WHEN name IN ('sum', 'avg') THEN definitions.kind_of('i2|i4|i8|num|num2|f4|f8|cash|ds|dp')
                      WHEN name ~ '^(var|std)' THEN definitions.kind_of('i2|i4|num|num2|f4|f8|ds|dp')
                      WHEN name ~ '^(bool|every)' THEN 'b' ELSE definitions.kind_of() END;
    argument text := CASE WHEN name = 'count' AND definitions.below(3) = 0 THEN definitions.one_of('*', '1', 'NULL')
                          WHEN name IN ('sum', 'avg', 'max') AND definitions.below(8) = 0 THEN definitions.one_of('1', '1.5', '-2')
                          ELSE definitions.value(kind) END;
BEGIN
    IF name NOT IN ('count', 'min', 'max') AND argument ~ '::text$' THEN argument := format('s.%I', kind); END IF;
    name := format('%s(%s%s)%s', name, CASE WHEN argument <> '*' AND definitions.below(12) = 0 THEN 'DISTINCT ' ELSE '' END, argument,
                   CASE WHEN definitions.below(3) = 0 THEN format(' FILTER (WHERE %s)', definitions.condition()) ELSE '' END);
    -- Which of values that are equal and look different is the least, or the one that DISTINCT keeps, PostgreSQL's own answer
    -- takes from where the rows lie, and text shows it.
    IF definitions.below(8) = 0 AND NOT (kind ~ '^(num|an|ti|ci|iv|f8)$' AND (name ~ '^(min|max)' OR name ~ '\(DISTINCT ')) THEN
        -- What floats add up to may differ from PostgreSQL's own in the last digit and in the sign of zero, which text shows.
        RETURN format(CASE WHEN name ~ '^(sum|avg|var|std)' AND kind IN ('f4', 'f8')
                           THEN 'round((%s)::numeric, 6)::text' ELSE '(%s)::text' END, name);
    END IF;
    RETURN CASE definitions.below(7) WHEN 0 THEN format('coalesce(%s, NULL)', name) ELSE name END;
END
$$;

-- A value of another row: found by its key, or an aggregate of those that are equal in something.
CREATE FUNCTION definitions.scalar() RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    kind text := definitions.kind_of();
    correlation text := definitions.one_of('t', 'ti', 'num', 'c3', 'v', 'tz', 'an', 'ci');
    value text := regexp_replace(definitions.value(kind), '\ms\.', 'x.', 'g');
    condition text := CASE definitions.below(3) WHEN 0 THEN ' AND ' || regexp_replace(definitions.condition(), '\ms\.', 'x.', 'g') ELSE '' END;
BEGIN
    RETURN CASE definitions.below(4)
        WHEN 0 THEN format('(SELECT count(%s) FROM drawn.bare x WHERE x.%I = s.%2$I%s)', value, correlation, condition)
        WHEN 1 THEN format('EXISTS (SELECT FROM drawn.bare x WHERE x.%I = s.%1$I%s)', correlation, condition)
        ELSE format('(SELECT %s FROM drawn.source x WHERE x.id = s.i4%s)', value, condition)
    END;
END
$$;

CREATE FUNCTION definitions.query() RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    keys text[] := '{}';
    outputs text[] := '{}';
    froms text := definitions.one_of('drawn.source s', 'drawn.source s', 'drawn.source s JOIN drawn.other o ON o.id = s.i4', 'drawn.bare s');
    conditions text := CASE WHEN definitions.below(3) = 0 THEN ' WHERE ' || definitions.condition() ELSE '' END;
    shape int := definitions.below(10);
    kind text := definitions.kind_of();
    drawn text;
BEGIN
    IF definitions.below(8) = 0 THEN
        froms := froms || format(' %s JOIN (VALUES (1, %s), (2, %s), (2, %s)) AS v(i, w) ON v.i = s.i2', definitions.one_of('', 'LEFT'),
            definitions.literal(kind), definitions.literal(kind), definitions.literal(kind));
        keys := keys || definitions.one_of('v.w', 'coalesce(v.i, 0)');
    END IF;
    FOR i IN 1..CASE WHEN shape < 7 THEN 1 + definitions.below(2) WHEN shape < 8 THEN 0 ELSE 1 + definitions.below(4) END LOOP
        keys := keys || CASE WHEN definitions.below(12) = 0 THEN '1 + s.i4' WHEN definitions.below(8) = 0 THEN definitions.scalar() ELSE definitions.value(definitions.kind_of()) END;
    END LOOP;
    IF shape < 8 THEN
        FOR i IN 1..1 + definitions.below(3) LOOP outputs := outputs || definitions.aggregate(); END LOOP;
        IF shape = 0 THEN outputs := outputs || format('grouping(%s)', keys[1]); END IF;
    END IF;
    drawn := format('SELECT %s%s FROM %s%s%s', CASE WHEN shape = 8 THEN 'DISTINCT ' ELSE '' END,
        (SELECT string_agg(format('%s AS c%s', o, i), ', ') FROM unnest(keys || outputs) WITH ORDINALITY AS u (o, i)),
        froms, conditions, CASE WHEN shape < 7 THEN ' GROUP BY ' || array_to_string(keys, ', ') ELSE '' END);
    IF definitions.below(12) = 0 THEN
        drawn := drawn || ' UNION ALL SELECT ' || array_to_string(array_fill('NULL'::text, ARRAY[cardinality(keys || outputs)]), ', ');
    END IF;
    RETURN drawn;
END
$$;

CREATE PROCEDURE definitions.execute(statement text) LANGUAGE plpgsql AS $$
BEGIN
    RAISE INFO '%;', statement;
    EXECUTE statement;
END
$$;

-- As they were drawn: what is stored of them is what the compiler has made of them.
CREATE TABLE definitions.written (name text PRIMARY KEY, query text NOT NULL);

-- A definition that the server can run either becomes a projection or is refused as what it is.
CREATE FUNCTION definitions.make(number int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    query text := definitions.query();
    hint text;
    state text;
    message text;
BEGIN
    BEGIN
        EXECUTE format('CREATE TEMPORARY TABLE tried AS %s', query);
        DROP TABLE tried;
    EXCEPTION WHEN OTHERS THEN
        RETURN 'no query';
    END;
    BEGIN
        CALL definitions.execute(format('SELECT projections.create(%L, %L)', 'drawn.p' || number, query));
        INSERT INTO definitions.written VALUES ('drawn.p' || number, query);
        RETURN 'accepted';
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT, state = RETURNED_SQLSTATE, message = MESSAGE_TEXT;
        IF state <> 'PJ002' OR message ~ 'reads back' THEN RAISE; END IF;
        RETURN 'refused';
    END;
END
$$;

CREATE PROCEDURE definitions.make_tables() LANGUAGE plpgsql AS $$
DECLARE
    name text;
BEGIN
    FOR name IN SELECT d.projection FROM projections.definitions AS d LOOP PERFORM projections.drop(name); END LOOP;
    TRUNCATE definitions.written;
    DROP TABLE IF EXISTS drawn.source, drawn.bare, drawn.other;
    EXECUTE format('CREATE TABLE drawn.source (id int PRIMARY KEY, %s)', (SELECT string_agg(format('%I %s', k.name, type), ', ') FROM definitions.kind AS k));
    EXECUTE format('CREATE TABLE drawn.bare (id int, %s)', (SELECT string_agg(format('%I %s', k.name, type), ', ') FROM definitions.kind AS k));
    CREATE TABLE drawn.other (id int PRIMARY KEY, z int);
    INSERT INTO drawn.other VALUES (1, 1), (2, 2);
    FOR i IN 1..6 LOOP CALL definitions.change(); END LOOP;
END
$$;

CREATE PROCEDURE definitions.change() LANGUAGE plpgsql AS $$
DECLARE
    target text := definitions.one_of('drawn.source', 'drawn.bare');
    row text := definitions.one_of('id = ' || definitions.below(8), 'i4 = 1', 'b', 'id % 2 = 0');
    kind text := definitions.kind_of();
    statement text;
BEGIN
    CASE definitions.below(5)
        WHEN 0, 1 THEN
            statement := format('INSERT INTO %s (id, %s) VALUES (%s, %s)%s', target,
                (SELECT string_agg(quote_ident(name), ', ' ORDER BY name) FROM definitions.kind), definitions.below(8),
                (SELECT string_agg(definitions.literal(name), ', ' ORDER BY name) FROM definitions.kind),
                CASE WHEN target = 'drawn.source' THEN ' ON CONFLICT DO NOTHING' ELSE '' END);
        WHEN 2, 3 THEN statement := format('UPDATE %s SET %I = %s WHERE %s', target, kind, definitions.literal(kind), row);
        ELSE statement := format('DELETE FROM %s WHERE %s', target, row);
    END CASE;
    CALL definitions.execute(statement);
END
$$;

-- Every projection equals its definition, and verify says so, too.
CREATE FUNCTION definitions.check_all() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    projection text;
    found text;
BEGIN
    FOR projection IN SELECT d.projection FROM projections.definitions AS d LOOP
        PERFORM test.check(projection::regclass);
        SELECT string_agg(d::text, '; ') INTO found
        FROM definitions.written AS w, test.differences(projection::regclass, w.query) AS d WHERE w.name = projection;
        IF found IS NOT NULL THEN RAISE EXCEPTION '%, of what was written: %', projection, found; END IF;
        SELECT string_agg(v::text, '; ') INTO found FROM projections.verify(projection) AS v;
        IF found IS NOT NULL THEN RAISE EXCEPTION 'verify(%): %', projection, found; END IF;
    END LOOP;
END
$$;

CREATE TABLE definitions.outcome (what text PRIMARY KEY, number bigint NOT NULL);
CREATE PROCEDURE definitions.round(count int, transactions int) LANGUAGE plpgsql AS $$
BEGIN
    CALL definitions.make_tables();
    FOR i IN 1..count LOOP
        INSERT INTO definitions.outcome VALUES (definitions.make(i), 1) ON CONFLICT (what) DO UPDATE SET number = outcome.number + 1;
    END LOOP;
    COMMIT;
    PERFORM definitions.check_all();
    FOR i IN 1..transactions LOOP
        RAISE INFO 'BEGIN;';
        FOR j IN 1..1 + definitions.below(3) LOOP CALL definitions.change(); END LOOP;
        RAISE INFO 'COMMIT;';
        COMMIT;
        PERFORM definitions.check_all();
    END LOOP;
END
$$;
