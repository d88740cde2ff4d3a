-- Hidden objects: definitions, feeds, change logs, arrivals, and the shadows of rebuilds.
--
-- What is in the extension's schemas belongs to a superuser: an owner could give a column of his log another type,
-- whose values the library would read as addresses; put triggers, rules and policies on it; or keep others from
-- dropping it. The projection's owner is granted what its maintenance does as him: to read. Logs are written by a
-- superuser, as who may write a table may lock it, too. Only shadows are the owner's own, for as long as a rebuild
-- runs: their indexes, defaults and CHECKs are his code, which core runs as the table's owner. DDL on them is refused
-- (_refuse_hidden).

CREATE FUNCTION projections_internal._hidden_relations() RETURNS TABLE(relation oid, projection oid, source oid)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT p.definition::oid, p.relation::oid, NULL::oid FROM projections_internal.projection p
    UNION ALL SELECT unnest(p.changes)::oid, p.relation::oid, NULL FROM projections_internal.projection p
    UNION ALL SELECT s.arrivals::oid, p.relation::oid, s.relation::oid FROM projections_internal.source s LEFT
        JOIN projections_internal.projection p ON s.relation = ANY (p.sources) WHERE s.arrivals IS NOT NULL
$$;
COMMENT ON FUNCTION projections_internal._hidden_relations() IS
    'Internal: what is hidden, and of which projection; of arrivals also the source.';

CREATE FUNCTION projections_internal._hidden_grants(relations oid[])
    RETURNS TABLE(relation oid, grantee oid, privileges text[])
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT h.relation, c.relowner, '{SELECT}'::text[]
    FROM projections_internal._hidden_relations() h JOIN pg_class c ON c.oid = h.projection WHERE h.source IS NULL
        AND h.relation = ANY (relations)
$$;
COMMENT ON FUNCTION projections_internal._hidden_grants(oid[]) IS
    'Internal: who may do what with definitions and logs; of arrivals _share_arrivals() knows.';

-- Users owned these up to version 0.2.0, and a dump of that time brings them so.
CREATE FUNCTION projections_internal._own_hidden(hidden oid) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    is_view boolean := (SELECT c.relkind = 'v' FROM pg_class c WHERE c.oid = hidden);
    logged name;
BEGIN
    EXECUTE format('ALTER %s %s OWNER TO %I', CASE WHEN is_view THEN 'VIEW'
        ELSE 'TABLE' END, projections_internal._name(hidden),
        pg_get_userbyid(10));
    IF is_view THEN
        EXECUTE format('ALTER VIEW %s SET (security_invoker = true)', projections_internal._name(hidden));
        RETURN;
    END IF;
    -- ANALYZE would call the functions of users' types as the owner.
    FOR logged IN SELECT a.attname FROM pg_attribute a WHERE a.attrelid = hidden AND a.attnum > 0 AND NOT a.attisdropped
        AND a.attname ~ '^c[0-9]+$' LOOP
        EXECUTE format('ALTER TABLE %s ALTER %I SET STATISTICS 0', projections_internal._name(hidden), logged);
    END LOOP;
END
$$;
COMMENT ON FUNCTION projections_internal._own_hidden(oid) IS 'Internal: makes a hidden relation a superuser''s.';

-- touched: projections and sources. Not what is hidden: its own commands would call it again.
CREATE FUNCTION projections_internal._secure_hidden(touched oid[]) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    relations oid[] := ARRAY(SELECT DISTINCT h.relation FROM projections_internal._hidden_relations() h
        JOIN pg_class c ON c.oid = h.relation
                             WHERE h.source IS NULL AND h.projection = ANY (touched));
    wrong record;
BEGIN
    PERFORM projections_internal._share_arrivals(s.relation) FROM projections_internal.source s
    WHERE s.arrivals IS NOT NULL AND (s.relation = ANY (touched)
        OR EXISTS (SELECT FROM projections_internal.projection p
        WHERE p.relation = ANY (touched) AND s.relation = ANY (p.sources)));
    IF relations = '{}' THEN
        RETURN;
    END IF;
    PERFORM projections_internal._own_hidden(c.oid) FROM pg_class c JOIN pg_authid r ON r.oid = c.relowner
    WHERE c.oid = ANY (relations) AND (NOT r.rolsuper OR c.relkind = 'v'
        AND 'security_invoker=true' <> ALL (coalesce(c.reloptions, '{}')));
    FOR wrong IN
        SELECT c.oid, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END AS role,
            string_agg(DISTINCT a.privilege_type, ', ') AS privileges
        FROM pg_class c, aclexplode(c.relacl) a
        WHERE c.oid = ANY (relations) AND a.grantee <> c.relowner
          AND NOT EXISTS (SELECT FROM projections_internal._hidden_grants(relations) g WHERE g.relation = c.oid
              AND g.grantee = a.grantee AND a.privilege_type = ANY (g.privileges))
        GROUP BY c.oid, a.grantee
    LOOP
        EXECUTE format('REVOKE %s ON %s FROM %s', wrong.privileges, projections_internal._name(wrong.oid), wrong.role);
    END LOOP;
    FOR wrong IN
        SELECT g.relation, array_to_string(g.privileges, ', ') AS privileges, pg_get_userbyid(g.grantee) AS role
        FROM projections_internal._hidden_grants(relations) g JOIN pg_class c ON c.oid = g.relation
        WHERE g.grantee <> c.relowner AND EXISTS (SELECT FROM pg_roles r WHERE r.oid = g.grantee)
          AND NOT g.privileges <@ ARRAY(SELECT a.privilege_type FROM aclexplode(c.relacl) a WHERE a.grantee = g.grantee)
    LOOP
        EXECUTE format('GRANT %s ON %s TO %I', wrong.privileges, projections_internal._name(wrong.relation),
            wrong.role);
    END LOOP;
END
$$;
COMMENT ON FUNCTION projections_internal._secure_hidden(oid[]) IS
    'Internal: gives what is hidden of projections and sources its owner and its grants.';

CREATE FUNCTION projections_internal._secure_projection(projection oid) RETURNS void
    LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
        SELECT projections_internal._secure_hidden(ARRAY[projection]) $$;
COMMENT ON FUNCTION projections_internal._secure_projection(oid) IS
    'Internal: projections_internal._secure_hidden() of one projection.';

CREATE FUNCTION projections_internal._is_hidden(relation oid) RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM projections_internal._hidden_relations() h WHERE h.relation = $1)
        OR EXISTS (SELECT FROM projections_internal.projection p
            WHERE (p.shadow_of IS NOT NULL OR p.part_of IS NOT NULL)
                AND $1 = ANY (p.relation::oid || coalesce(p.tables, '{}')::oid[]))
$$;
COMMENT ON FUNCTION projections_internal._is_hidden(oid) IS
    'Internal: whether the extension keeps a relation from users.';

-- Runs at the end of a command of somebody who is no superuser.
CREATE FUNCTION projections_internal._refuse_hidden() RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    problem record;
BEGIN
    WITH made AS (
        SELECT c.classid, c.objid FROM pg_event_trigger_ddl_commands() c
    ), touched AS (
        SELECT m.objid AS relation, false AS uses FROM made m WHERE m.classid = 'pg_class'::regclass
        UNION ALL SELECT i.indrelid, false FROM made m JOIN pg_index i ON m.classid = 'pg_class'::regclass
            AND i.indexrelid = m.objid
        UNION ALL SELECT t.tgrelid, false FROM made m JOIN pg_trigger t ON m.classid = 'pg_trigger'::regclass
            AND t.oid = m.objid
        UNION ALL SELECT r.ev_class, false FROM made m JOIN pg_rewrite r ON m.classid = 'pg_rewrite'::regclass
            AND r.oid = m.objid
        UNION ALL SELECT y.polrelid, false FROM made m JOIN pg_policy y ON m.classid = 'pg_policy'::regclass
            AND y.oid = m.objid
        UNION ALL SELECT s.stxrelid, false FROM made m
            JOIN pg_statistic_ext s ON m.classid = 'pg_statistic_ext'::regclass AND s.oid = m.objid
        UNION ALL SELECT d.refobjid, false FROM made m JOIN pg_class q ON m.classid = 'pg_class'::regclass
            AND q.oid = m.objid AND q.relkind = 'S'
                  JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = q.oid
                      AND d.refclassid = 'pg_class'::regclass
        UNION ALL SELECT d.refobjid, true FROM made m JOIN pg_rewrite r ON m.classid = 'pg_class'::regclass
            AND r.ev_class = m.objid
                  JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
                      AND d.refclassid = 'pg_class'::regclass
        UNION ALL SELECT k.confrelid, true FROM made m JOIN pg_constraint k ON m.classid = 'pg_class'::regclass
            AND k.conrelid = m.objid
        UNION ALL SELECT i.inhparent, true FROM made m JOIN pg_inherits i ON m.classid = 'pg_class'::regclass
            AND i.inhrelid = m.objid
    )
    SELECT t.relation, t.uses INTO problem FROM touched t
    WHERE projections_internal._is_hidden(t.relation)
       -- Our event store: append() writes it as a superuser, so who has been granted TRIGGER there may have
       -- projections, and no trigger of his own.
       OR NOT t.uses AND EXISTS (SELECT FROM pg_class c WHERE c.oid = t.relation
           AND c.relnamespace IN ('projections'::regnamespace, 'projections_internal'::regnamespace))
    ORDER BY t.uses LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = format(CASE WHEN problem.uses THEN 'cannot make an object over %s' ELSE 'permission denied for '
                '%s' END, projections_internal._name(problem.relation)),
            DETAIL = 'It belongs to pg_projections, which alone makes, changes and drops it.',
            HINT = 'Read the projection; projections.definitions shows what it is kept equal to.';
    END IF;
END
$$;
COMMENT ON FUNCTION projections_internal._refuse_hidden() IS
    'Internal: refuses DDL on what the extension keeps hidden.';
REVOKE EXECUTE ON FUNCTION projections_internal._hidden_relations(), projections_internal._hidden_grants(oid[]),
    projections_internal._own_hidden(oid), projections_internal._secure_hidden(oid[]),
    projections_internal._secure_projection(oid), projections_internal._is_hidden(oid),
        projections_internal._refuse_hidden() FROM PUBLIC;

CREATE FUNCTION projections_internal._guard_hidden() RETURNS event_trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_guard_hidden';
COMMENT ON FUNCTION projections_internal._guard_hidden() IS
    'Internal: calls projections_internal._refuse_hidden() for commands of users.';
REVOKE EXECUTE ON FUNCTION projections_internal._guard_hidden() FROM PUBLIC;
CREATE EVENT TRIGGER projections_guard_hidden ON ddl_command_end EXECUTE FUNCTION projections_internal._guard_hidden();
