-- What somebody with CREATE on a schema can plant in it: operators and functions that fit better than PostgreSQL's own
-- wherever these take an argument by a cast. Each writes a mark when it runs: who it ran as.

-- The planting itself takes nothing of it.
SET search_path = pg_catalog;
CREATE TABLE public.mark (ran_as name, planted text);
GRANT ALL ON public.mark TO PUBLIC;
CREATE FUNCTION public.leave_mark(planted text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS
$$ BEGIN INSERT INTO public.mark VALUES (current_user, planted); EXCEPTION WHEN read_only_sql_transaction THEN NULL; END $$;

DO $$
DECLARE
    each record;
BEGIN
    FOR each IN
        SELECT o.name, o.result, a.type AS a, b.type AS b
        FROM (VALUES ('=', 'boolean'), ('<>', 'boolean'), ('<', 'boolean'), ('>', 'boolean'), ('<=', 'boolean'), ('>=', 'boolean'),
                     ('||', 'text'), ('+', 'bigint'), ('-', 'bigint'), ('*', 'bigint'), ('&', 'bigint'), ('~', 'boolean'), ('@>', 'boolean')) AS o(name, result),
             unnest('{oid,regclass,regproc,regprocedure,regtype,regrole,regnamespace,name,text,varchar,bigint,integer,smallint,"\"char\"",double precision,numeric,jsonb,name[],text[],oid[],regclass[],interval,timestamptz}'::text[]) AS a(type),
             unnest('{oid,regclass,regproc,regprocedure,regtype,regrole,regnamespace,name,text,varchar,bigint,integer,smallint,"\"char\"",double precision,numeric,jsonb,name[],text[],oid[],regclass[],interval,timestamptz}'::text[]) AS b(type)
        WHERE NOT EXISTS (SELECT FROM pg_operator p WHERE p.oprname = o.name AND p.oprleft = a.type::regtype AND p.oprright = b.type::regtype)
    LOOP
        EXECUTE format('CREATE OR REPLACE FUNCTION public.planted_%1$s(a %2$s, b %3$s) RETURNS %1$s LANGUAGE plpgsql AS $f$ BEGIN PERFORM public.leave_mark(%4$L); RETURN NULL; END $f$',
                       each.result, each.a, each.b, format('%s %s %s', each.a, each.name, each.b));
        EXECUTE format('CREATE OPERATOR public.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = public.planted_%s)', each.name, each.a, each.b, each.result);
    END LOOP;
    FOR each IN
        SELECT DISTINCT p.proname AS name, a.type AS a FROM pg_proc p, unnest('{oid,regclass,regtype,regrole,name,varchar,integer,"\"char\"",regclass[],name[]}'::text[]) AS a(type)
        WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.pronargs = 1 AND p.prokind = 'f' AND p.proretset = false
          AND p.proname IN ('quote_ident', 'quote_literal', 'lower', 'upper', 'length', 'left', 'to_jsonb', 'abs', 'hashtext', 'hashtextextended', 'pg_get_userbyid', 'pg_get_viewdef',
                            'pg_get_triggerdef', 'pg_get_indexdef', 'pg_get_expr', 'format_type', 'obj_description', 'to_regclass', 'col_description', 'pg_size_pretty', 'trim', 'btrim', 'concat')
          AND NOT EXISTS (SELECT FROM pg_proc q WHERE q.pronamespace = p.pronamespace AND q.proname = p.proname AND q.proargtypes::oid[] = ARRAY[a.type::regtype::oid])
    LOOP
        EXECUTE format('CREATE FUNCTION public.%I(a %s) RETURNS text LANGUAGE plpgsql AS $f$ BEGIN PERFORM public.leave_mark(%L); RETURN NULL; END $f$', each.name, each.a, each.name);
    END LOOP;
END
$$;

-- What of the extension is bound to something that is neither PostgreSQL's nor its own.
CREATE VIEW public.bound_to_planted AS
WITH RECURSIVE member AS (
    SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
    WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'pg_projections'
    UNION
    SELECT d.classid, d.objid FROM pg_depend d JOIN member m ON d.refclassid = m.classid AND d.refobjid = m.objid WHERE d.deptype IN ('i', 'a')
)
SELECT DISTINCT pg_describe_object(d.classid, d.objid, 0) AS object, pg_describe_object(d.refclassid, d.refobjid, 0) AS planted
FROM member m JOIN pg_depend d ON d.classid = m.classid AND d.objid = m.objid
LEFT JOIN pg_operator o ON d.refclassid = 'pg_operator'::regclass AND o.oid = d.refobjid
LEFT JOIN pg_proc p ON d.refclassid = 'pg_proc'::regclass AND p.oid = d.refobjid
WHERE 'public'::regnamespace IN (o.oprnamespace, p.pronamespace);
RESET search_path;
