-- plant.sql: fills schema :schema, as the attacker, with operators and functions that fit our statements as well as
-- pg_catalog's, or better, and that say so when they are called.
\set ON_ERROR_STOP on
SET client_min_messages = warning;
SET check_function_bodies = off;
SELECT pg_catalog.set_config('attacker.schema', :'schema', false) \g /dev/null
SET SESSION AUTHORIZATION attacker;
SET search_path = pg_catalog;
DO $$
DECLARE
    types oid[] := ARRAY['regclass', 'oid', 'name', 'text', 'int4', 'int8', 'bool', 'jsonb', 'timestamptz', 'text[]']::regtype[]::oid[];
    target text := current_setting('attacker.schema');
    number int := 0;
    each record;
BEGIN
    FOR each IN -- the catalog's own operators
        SELECT o.oprname, o.oprleft::regtype AS l, o.oprright::regtype AS r, o.oprresult::regtype AS result,
               format('$1 OPERATOR(pg_catalog.%s) $2', o.oprname) AS value
        FROM pg_operator o WHERE o.oprkind = 'b' AND o.oprleft = ANY (types) AND o.oprright = ANY (types) AND o.oprnamespace = 'pg_catalog'::regnamespace
        UNION ALL -- and those between types that it has none for
        SELECT n, l::regtype, r::regtype, 'bool'::regtype, format('$1::text OPERATOR(pg_catalog.%s) $2::text', n)
        FROM unnest(types) l, unnest(types) r, unnest(ARRAY['=', '<>', '<']) n
        WHERE NOT EXISTS (SELECT FROM pg_operator o WHERE o.oprname = n AND o.oprleft = l AND o.oprright = r AND o.oprnamespace = 'pg_catalog'::regnamespace)
        UNION ALL
        SELECT '||', l::regtype, r::regtype, 'text'::regtype, '$1::text OPERATOR(pg_catalog.||) $2::text'
        FROM unnest(types) l, unnest(types) r
        WHERE NOT EXISTS (SELECT FROM pg_operator o WHERE o.oprname = '||' AND o.oprleft = l AND o.oprright = r AND o.oprnamespace = 'pg_catalog'::regnamespace)
    LOOP
        number := number + 1;
        EXECUTE format('CREATE FUNCTION %I.planted_%s(%s, %s) RETURNS %s LANGUAGE plpgsql SET search_path = pg_catalog AS %L', target, number, each.l, each.r,
                       each.result, format('BEGIN PERFORM attacker.trap(%L); RETURN %s; END', format('planted operator %s(%s, %s)', each.oprname, each.l, each.r), each.value));
        EXECUTE format('CREATE OPERATOR %1$I.%2$s (leftarg = %3$s, rightarg = %4$s, function = %1$I.planted_%5$s)', target, each.oprname, each.l, each.r, number);
    END LOOP;
    FOR each IN -- functions of one to three arguments
        SELECT DISTINCT ON (p.proname, p.proargtypes) p.proname, p.prorettype::regtype AS result, oidvectortypes(p.proargtypes) AS arguments, p.pronargs
        FROM pg_proc p
        WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f' AND NOT p.proretset AND p.pronargs BETWEEN 1 AND 3 AND p.provariadic = 0
          AND p.prorettype = ANY (types) AND p.proargtypes::oid[] <@ types AND p.proname !~ '(recv|send|in|out)$'
    LOOP
        number := number + 1;
        EXECUTE format('CREATE FUNCTION %I.%I(%s) RETURNS %s LANGUAGE plpgsql SET search_path = pg_catalog AS %L', target, each.proname, each.arguments, each.result,
                       format('BEGIN PERFORM attacker.trap(%L); RETURN pg_catalog.%I(%s); END', format('planted function %s(%s)', each.proname, each.arguments),
                              each.proname, (SELECT string_agg('$' || i, ', ' ORDER BY i) FROM generate_series(1, each.pronargs) i)));
    END LOOP;
    FOR each IN -- and the same with other arguments, where ours would have to be converted
        SELECT f, r::regtype AS a, f = 'format' AS is_format FROM unnest(ARRAY['format', 'quote_ident', 'quote_literal', 'coalesce_to', 'concat', 'to_jsonb', 'pg_get_userbyid']) f, unnest(types) r
        WHERE to_regprocedure(format('pg_catalog.%s(%s)', f, r::regtype)) IS NULL
    LOOP
        EXECUTE format('CREATE OR REPLACE FUNCTION %I.%I(text, %s) RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog AS %L', target, each.f, each.a,
                       format('BEGIN PERFORM attacker.trap(%L); RETURN pg_catalog.format($1, $2); END', 'planted function ' || each.f));
    END LOOP;
    EXECUTE format('CREATE FUNCTION %I.format(text, regclass, text) RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog AS %L', target,
                   'BEGIN PERFORM attacker.trap(''planted function format''); RETURN pg_catalog.format($1, $2, $3); END');
    PERFORM set_config('attacker.planted', number::text, false);
END $$;
SELECT current_setting('attacker.planted');
RESET search_path;
RESET SESSION AUTHORIZATION;
