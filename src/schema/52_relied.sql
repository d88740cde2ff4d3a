-- What projections rely on.
--
-- Facts about sources, tables, functions and types are recorded when a projection is made, put in place or repaired,
-- and compared after every DDL that touches one of them, by validate(), and by the flush of a session that finds the
-- catalogs other than they were when they were last compared (src/maintain/reliance.cpp), as event triggers may have
-- been off. That is in 53_relied_checks.sql; what follows from a difference stands in one table, _conditions(), of
-- 51_conditions.sql. A fact names objects by OID, so that renames change nothing; so facts are not dumped, and those of
-- another cluster (pg_upgrade) count for nothing: the first of the three above records them anew.

CREATE TABLE projections_internal.reliance (
    projection regclass NOT NULL,
    aspect     text NOT NULL, -- of _conditions()
    object     oid NOT NULL,
    part       text NOT NULL, -- of the object: a column's number, a trigger's name, …
    value      text NOT NULL,
    PRIMARY KEY (projection, aspect, object, part)
);
CREATE INDEX ON projections_internal.reliance (object);
COMMENT ON TABLE projections_internal.reliance IS 'What projections rely on, as of when it was last compared.';

CREATE TABLE projections_internal.reliance_record (
    projection regclass PRIMARY KEY,
    cluster    bigint NOT NULL, -- whose OIDs the facts have
    functions  oid[] NOT NULL,  -- among their objects
    -- of the relations' and functions' catalog entries: while it is the same, nothing needs to be compared
    digest     bigint NOT NULL
);
COMMENT ON TABLE projections_internal.reliance_record IS 'When the facts in projections_internal.reliance hold.';

CREATE FUNCTION projections_internal._reliance_digest(projection oid, functions oid[]) RETURNS bigint
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'projections_reliance_digest';
COMMENT ON FUNCTION projections_internal._reliance_digest(oid, oid[]) IS
    'Internal: a hash of the catalog entries that a projection relies on.';

-- Whether what compiling raised is about the definition, which is then told elsewhere, and not about memory, a lock, or
-- another library.
CREATE FUNCTION projections_internal._does_not_compile(sqlstate text) RETURNS boolean
    LANGUAGE sql IMMUTABLE
    RETURN sqlstate ~ '^(42|0A|22|XX|PJ002)';
COMMENT ON FUNCTION projections_internal._does_not_compile(text) IS
    'Internal: whether an error that compiling a definition raises is about the definition.';

-- The index over a projection's key: the one that was recorded, where it still serves, as finding it compiles the
-- definition.
CREATE FUNCTION projections_internal._relied_index(p projections_internal.projection) RETURNS oid
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found oid;
BEGIN
    SELECT r.object INTO found FROM projections_internal.reliance r JOIN pg_index i ON i.indexrelid = r.object
    WHERE r.projection = p.relation AND r.aspect = 'key index' AND r.part = i.indkey::text AND i.indrelid = p.relation
        AND i.indisunique AND i.indisvalid
      AND i.indisready AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
          AND (i.indnullsnotdistinct OR i.indisprimary OR p.kind <> 'query') LIMIT 1;
    RETURN coalesce(found, projections_internal._key_index(p));
EXCEPTION WHEN OTHERS THEN
    IF NOT projections_internal._does_not_compile(SQLSTATE) THEN
        RAISE;
    END IF;
    RETURN 0;
END
$$;
COMMENT ON FUNCTION projections_internal._relied_index(projections_internal.projection) IS
    'Internal: the index over a projection''s key; NULL: there is none, 0: the definition is broken.';

-- Rows are told apart by the primary keys of what FROM reads, and so are slices of several rows that functions or
-- LATERAL make of a row; of a table whose presence is asked for in a subquery, it does not matter. Which is which only
-- the compiler knows. What was recorded stays: where the key is gone, a session that has not compiled the definition
-- before finds one whose rows it would not tell apart, or none (test: sql/session_memory).
CREATE FUNCTION projections_internal._identifying_sources(projection oid) RETURNS oid[]
    LANGUAGE c STRICT STABLE AS 'MODULE_PATHNAME', 'projections_identifying_sources';
COMMENT ON FUNCTION projections_internal._identifying_sources(oid) IS
    'Internal: the tables by whose primary keys the rows of a query projection are told apart, or slices of several.';
CREATE FUNCTION projections_internal._identifies(source oid, projection oid, definition oid, shape text) RETURNS boolean
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_rewrite w WHERE w.ev_class = definition AND w.ev_action::text LIKE ANY (
        CASE shape WHEN 'rows' THEN '{%\{SUBLINK %,%:lateral true%}'::text[]
                   ELSE '{%:lateral true%,%:rtekind 3 %,%:hasTargetSRFs true%}' END)) THEN
        RETURN shape = 'rows';
    END IF;
    RETURN EXISTS (SELECT FROM projections_internal.reliance r WHERE r.projection = _identifies.projection
            AND r.aspect = 'primary key' AND r.object = source)
        OR source = ANY (projections_internal._identifying_sources(projection));
EXCEPTION WHEN OTHERS THEN
    IF NOT projections_internal._does_not_compile(SQLSTATE) THEN
        RAISE;
    END IF;
    RETURN false;
END
$$;
COMMENT ON FUNCTION projections_internal._identifies(oid, oid, oid, text) IS
    'Internal: whether the rows of a projection are told apart by the primary key of a source, too.';

-- Tables that scalar subqueries read, each with the unique index by which one row is found; 0: there is none any more.
-- The aliases of such tables begin with _one_ (src/compile/lookups.cpp).
CREATE FUNCTION projections_internal._found_by_key(projection oid)
    RETURNS TABLE(source oid, index oid, columns int2[])
    LANGUAGE c STRICT STABLE AS 'MODULE_PATHNAME', 'projections_found_by_key';
COMMENT ON FUNCTION projections_internal._found_by_key(oid) IS
    'Internal: tables of which a projection reads one row by a unique key.';
CREATE FUNCTION projections_internal._unique_keys(projection oid, definition oid)
    RETURNS TABLE(source oid, index oid, columns int2[])
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM pg_rewrite w WHERE w.ev_class = definition AND w.ev_action::text LIKE '%:aliasname \_one\_%')
    THEN
        RETURN QUERY SELECT DISTINCT f.* FROM projections_internal._found_by_key(projection) f;
    END IF;
EXCEPTION WHEN OTHERS THEN
    IF NOT projections_internal._does_not_compile(SQLSTATE) THEN
        RAISE;
    END IF;
END
$$;
COMMENT ON FUNCTION projections_internal._unique_keys(oid, oid) IS
    'Internal: the same, of a definition that may be broken.';

-- Columns of sources because of which the key of a projection can never be NULL: NOT NULL ones. Of a projection without
-- such a column of its own there is nothing to be found out, and what was recorded stays, as finding it compiles the
-- definition.
CREATE FUNCTION projections_internal._not_null_columns(projection oid) RETURNS TABLE(source oid, attnum int2)
    LANGUAGE c STRICT STABLE AS 'MODULE_PATHNAME', 'projections_not_null_columns';
COMMENT ON FUNCTION projections_internal._not_null_columns(oid) IS
    'Internal: NOT NULL columns of sources because of which the key of a query projection is never NULL.';
CREATE FUNCTION projections_internal._relied_not_null(p projections_internal.projection)
    RETURNS TABLE(source oid, attnum int2)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF p.options @> '{"key_not_null": true}'
        OR NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = p.relation AND a.attnum > 0 AND a.attnotnull) THEN
        RETURN;
    END IF;
    RETURN QUERY SELECT r.object, r.part::int2 FROM projections_internal.reliance r
        WHERE r.projection = p.relation AND r.aspect = 'not null';
    IF NOT FOUND THEN
        RETURN QUERY SELECT DISTINCT n.source, n.attnum FROM projections_internal._not_null_columns(p.relation) n;
    END IF;
EXCEPTION WHEN OTHERS THEN
    IF NOT projections_internal._does_not_compile(SQLSTATE) THEN
        RAISE;
    END IF;
END
$$;
COMMENT ON FUNCTION projections_internal._relied_not_null(projections_internal.projection) IS
    'Internal: the same, as recorded, of a definition that may be broken.';

-- In rows that were there before, too: from version 18 on there are constraints that are NOT VALID. And in those of
-- children, which may drop it up to version 17. (The archive of our own store is none of its rows.)
CREATE FUNCTION projections_internal._is_not_null(relation oid, attnum int2) RETURNS boolean
    LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
    WITH RECURSIVE member(oid) AS (
        SELECT relation
        UNION SELECT c.oid FROM member m JOIN pg_inherits i ON i.inhparent = m.oid JOIN pg_class c ON c.oid = i.inhrelid
        WHERE c.relnamespace NOT IN ('projections'::regnamespace, 'projections_internal'::regnamespace))
    SELECT coalesce(bool_and(a.attnotnull AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conrelid = a.attrelid
            AND c.contype = 'n' AND c.conkey = ARRAY[a.attnum] AND NOT c.convalidated)), false)
    FROM member m JOIN pg_attribute p ON p.attrelid = relation AND p.attnum = _is_not_null.attnum
        JOIN pg_attribute a ON a.attrelid = m.oid AND a.attname = p.attname
$$;
COMMENT ON FUNCTION projections_internal._is_not_null(oid, int2) IS
    'Internal: whether a column of a table has no NULL.';

-- What is published without an identity cannot be updated.
CREATE FUNCTION projections_internal._lacks_identity(relation oid) RETURNS boolean
    LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
    SELECT NOT CASE c.relreplident WHEN 'f' THEN true WHEN 'd' THEN EXISTS (SELECT FROM pg_index i
        WHERE i.indrelid = c.oid AND i.indisprimary AND i.indimmediate)
                                   WHEN 'i' THEN EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid
                                       AND i.indisreplident AND i.indisvalid) ELSE false END
       AND EXISTS (SELECT FROM pg_publication p
                   WHERE (p.pubupdate OR p.pubdelete)
                     AND (p.puballtables OR EXISTS (SELECT FROM pg_publication_rel r WHERE r.prpubid = p.oid
                         AND r.prrelid = c.oid)
                          OR EXISTS (SELECT FROM pg_publication_namespace n WHERE n.pnpubid = p.oid
                              AND n.pnnspid = c.relnamespace)))
    FROM pg_class c WHERE c.oid = relation AND c.relkind = 'r'
$$;
COMMENT ON FUNCTION projections_internal._lacks_identity(oid) IS
    'Internal: whether a table is published and has no replica identity.';

-- The facts of projections (NULL: of all). required: the only value that will do; NULL: the one that was recorded.
CREATE FUNCTION projections_internal._relied(wanted oid[])
    RETURNS TABLE(projection oid, aspect text, object oid, part text, value text, required text, name text, place text)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
BEGIN
    RETURN QUERY
    WITH known AS MATERIALIZED (
        SELECT p AS row, p.relation::oid AS relation, p.definition::oid AS definition, p.kind, p.shape,
            p.shadow_of IS NULL AND p.kind <> 'handler' AS is_table, p.building,
               p.sources::oid[] AS sources, c.relowner, c.relpersistence, projections_internal._captures(p)
                   AND NOT p.building AS captures, projections_internal._name(p.relation) AS name
        FROM projections_internal.projection p JOIN pg_class c ON c.oid = p.relation WHERE wanted IS NULL
            OR p.relation = ANY (wanted)
    ), source AS MATERIALIZED (
        SELECT k.relation, k.definition, k.kind, k.shape, k.captures, k.relowner, c.oid AS source, c.relpersistence,
            c.relrowsecurity, c.relforcerowsecurity, c.relowner AS source_owner,
               projections_internal._name(c.oid) AS name
        FROM known k, unnest(k.sources) AS s(oid) JOIN pg_class c ON c.oid = s.oid
    ), used AS MATERIALIZED (
        SELECT DISTINCT k.relation, d.refclassid AS class, d.refobjid AS object, d.refobjsubid AS part
        FROM known k JOIN pg_rewrite w ON w.ev_class = k.definition
        JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid AND d.refobjid <> k.definition
    ), used_column AS MATERIALIZED (
        SELECT u.relation, a.attrelid, a.attnum, a.attname, a.atttypid, a.atttypmod, a.attcollation, a.attgenerated
        FROM used u JOIN pg_attribute a ON a.attrelid = u.object AND a.attnum = u.part
            JOIN source s ON s.relation = u.relation AND s.source = u.object
        WHERE u.class = 'pg_class'::regclass AND u.part > 0
    ), used_type AS (
        SELECT c.relation, c.atttypid AS type FROM used_column c WHERE c.atttypid >= 16384
        UNION SELECT u.relation, u.object FROM used u WHERE u.class = 'pg_type'::regclass
    ), inner_type AS ( -- of domains and arrays
        SELECT u.relation, coalesce(nullif(t.typbasetype, 0), nullif(t.typelem, 0)) AS type FROM used_type u
            JOIN pg_type t ON t.oid = u.type
        UNION SELECT u.relation, u.type FROM used_type u
    ), called AS MATERIALIZED (
        SELECT u.relation, u.object AS function FROM used u WHERE u.class = 'pg_proc'::regclass
        UNION SELECT u.relation, o.oprcode FROM used u JOIN pg_operator o ON o.oid = u.object
            WHERE u.class = 'pg_operator'::regclass AND o.oprcode >= 16384
    ), capture_trigger AS MATERIALIZED ( -- once for all readers of a source
        SELECT d.source, d.whole, t.relation, t.name, projections_internal._name(t.relation) AS table_name
        FROM (SELECT DISTINCT s.source, s.kind = 'query' AS whole FROM source s WHERE s.captures) d,
            LATERAL projections_internal._capture_triggers(d.source, d.whole) t
    ), trigger AS (
        SELECT w.relation, w.owner, w.name AS table_name, w.aspect, w.trigger, t.oid AS found,
            projections_internal._is_own(t) AS is_own, t.tgenabled::text AS tgenabled
        FROM (SELECT n.relation, s.relation AS owner, n.table_name AS name, 'capture' AS aspect, n.name AS trigger
              FROM source s JOIN capture_trigger n ON n.source = s.source AND n.whole = (s.kind = 'query')
              WHERE s.captures
              UNION ALL SELECT k.relation, k.relation, k.name, 'guard', n.name FROM known k
              JOIN projections_internal._own_triggers() n ON n.function = 'guard' WHERE k.is_table) w
        LEFT JOIN pg_trigger t ON t.tgrelid = w.relation AND t.tgname = w.trigger
    ), member AS MATERIALIZED (
        SELECT s.relation, s.source, s.name AS source_name, m.member, m.relkind, m.relispartition, m.relpersistence,
            m.name
        FROM (SELECT d.source, c.oid AS member, c.relkind, c.relispartition, c.relpersistence,
                  CASE c.relpersistence WHEN 't' THEN format('pg_temp.%I', c.relname)
                  ELSE projections_internal._name(c.oid) END AS name
              FROM (SELECT DISTINCT x.source FROM source x WHERE x.kind = 'query' AND x.captures) d,
                  LATERAL projections_internal._members(d.source) m JOIN pg_class c ON c.oid = m) m
        JOIN source s ON s.source = m.source WHERE s.kind = 'query' AND s.captures
    ), keyed AS MATERIALIZED (
        SELECT k.row, k.relation, k.name, x.index, i.indkey, i.indisprimary
        FROM known k CROSS JOIN LATERAL (SELECT projections_internal._relied_index(k.row) AS index) x
            LEFT JOIN pg_index i ON i.indexrelid = x.index
        WHERE k.is_table AND NOT k.building AND coalesce(k.shape, '') NOT IN ('bag', 'total')
    )
    SELECT s.relation, 'primary key', s.source, '', coalesce(i.columns, 'none'),
        CASE WHEN i.columns IS NULL THEN 'some' END, s.name, ''
    FROM source s LEFT JOIN LATERAL (SELECT x.indkey::text AS columns FROM pg_index x WHERE x.indrelid = s.source
        AND x.indisprimary AND x.indimmediate AND x.indisvalid
        -- a projection has a key of its own, which it relies on itself
        UNION ALL SELECT 'projection' FROM projections_internal.projection p WHERE p.relation = s.source
            AND p.kind = 'query' AND p.shape <> 'bag' LIMIT 1) i ON true
    WHERE s.shape IN ('rows', 'bag') AND projections_internal._identifies(s.source, s.relation, s.definition, s.shape)
    UNION ALL
    SELECT k.relation, 'unique key', coalesce(nullif(u.index, 0), u.source), u.columns::text,
        CASE u.index WHEN 0 THEN 'missing' ELSE 'there' END, 'there', projections_internal._name(u.source),
        (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY array_position(u.columns, a.attnum))
         FROM pg_attribute a WHERE a.attrelid = u.source AND a.attnum = ANY (u.columns))
    FROM known k CROSS JOIN LATERAL projections_internal._unique_keys(k.relation, k.definition) u WHERE k.kind = 'query'
    UNION ALL
    SELECT c.relation, 'source column', c.attrelid, c.attnum::text, format('%s %s %s', c.atttypid, c.atttypmod,
        c.attcollation), NULL, projections_internal._name(c.attrelid), quote_ident(c.attname)
    FROM used_column c
    UNION ALL
    SELECT c.relation, 'generated column', c.attrelid, c.attnum::text, md5(d.adbin::text), NULL,
        projections_internal._name(c.attrelid), quote_ident(c.attname)
    FROM used_column c JOIN pg_attrdef d ON d.adrelid = c.attrelid AND d.adnum = c.attnum WHERE c.attgenerated <> ''
    UNION ALL
    SELECT m.relation, 'generated column', m.member, a.attnum::text, md5(d.adbin::text), NULL, m.name,
        quote_ident(a.attname)
    FROM member m JOIN pg_attrdef d ON d.adrelid = m.member
        JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum AND a.attgenerated <> ''
        JOIN used_column c ON c.relation = m.relation AND c.attrelid = m.source AND c.attname = a.attname
    UNION ALL
    SELECT s.relation, 'logged source', s.source, '', s.relpersistence::text, 'p', s.name, '' FROM source s
    UNION ALL
    SELECT m.relation, 'logged source', m.member, '', m.relpersistence::text, 'p', m.name, '' FROM member m
        WHERE m.relpersistence <> 't'
    UNION ALL
    SELECT m.relation, 'temporary member', m.member, m.source::text, 'there', 'not there', m.name, m.source_name
        FROM member m WHERE m.relpersistence = 't'
    UNION ALL
    SELECT m.relation, 'member', m.member, m.source::text, 'there', NULL, m.name, m.source_name FROM member m
        WHERE m.relkind <> 'f'
    UNION ALL
    SELECT m.relation, 'foreign member', m.member, m.source::text,
        format(CASE WHEN m.relispartition THEN 'ALTER TABLE %2$s DETACH PARTITION %1$s;'
            ELSE 'ALTER FOREIGN TABLE %1$s NO INHERIT %2$s;' END, m.name, m.source_name), 'none', m.name, m.source_name
        FROM member m WHERE m.relkind = 'f'
    UNION ALL
    SELECT s.relation, 'partition', s.source, i.inhparent::text, 'tie', CASE WHEN s.kind = 'query'
        AND s.captures THEN 'none' END, s.name, projections_internal._name(i.inhparent)
    FROM source s JOIN pg_class c ON c.oid = s.source AND c.relispartition JOIN pg_inherits i ON i.inhrelid = s.source
    UNION ALL
    -- What does not hold for the rows of children. Of an order it is not known what makes it total.
    SELECT s.relation, 'child of source', s.source, x.part, x.reason, x.required, s.name,
        projections_internal._name(i.child)
    FROM source s JOIN (SELECT h.inhparent, max(h.inhrelid) AS child FROM pg_inherits h GROUP BY 1) i
            ON i.inhparent = s.source AND s.source IN (SELECT m.source FROM member m)
        JOIN pg_class c ON c.oid = s.source AND c.relkind = 'r'
        JOIN pg_rewrite w ON w.ev_class = s.definition
        CROSS JOIN LATERAL (
            SELECT 'key', 'tells its rows apart by the primary key', 'none' WHERE s.shape IN ('rows', 'bag')
                AND projections_internal._identifies(s.source, s.relation, s.definition, s.shape)
            UNION ALL SELECT 'group', 'groups by the primary key', 'none' WHERE EXISTS (SELECT FROM used u
                JOIN pg_constraint k ON k.oid = u.object AND k.conrelid = s.source
                WHERE u.relation = s.relation AND u.class = 'pg_constraint'::regclass)
            UNION ALL SELECT 'unique', 'finds one row by a unique index', 'none' WHERE s.source IN (
                SELECT q.source FROM projections_internal._unique_keys(s.relation, s.definition) q)
            UNION ALL SELECT 'order', 'may order by the primary key', NULL WHERE w.ev_action::text LIKE ANY (
                ARRAY['%:aggorder ({%', '%{WINDOWCLAUSE %', '%:hasDistinctOn true%', '%:limitCount {%'])
            ) AS x(part, reason, required)
    UNION ALL
    SELECT m.relation, 'only source', m.source, '', 'children', 'none', m.source_name, max(m.name)
    FROM member m JOIN source s ON s.relation = m.relation AND s.source = m.source
        JOIN pg_rewrite w ON w.ev_class = s.definition
            AND w.ev_action::text ~ format(':relid %s [^{}]*:inh false', m.source)
    GROUP BY m.relation, m.source, m.source_name
    UNION ALL
    SELECT s.relation, 'row security', s.source, '', quote_ident(r.rolname), '', s.name, ''
    FROM source s JOIN pg_authid r ON r.oid = s.relowner
    WHERE s.relrowsecurity AND NOT r.rolsuper AND NOT r.rolbypassrls
        AND (s.relforcerowsecurity OR NOT pg_has_role(r.oid, s.source_owner, 'USAGE'))
    UNION ALL
    SELECT t.owner, t.aspect || ' trigger', t.relation, t.trigger::text,
        CASE WHEN t.found IS NULL THEN 'missing' WHEN t.is_own THEN 'ours' ELSE 'another' END, 'ours',
           t.table_name, quote_ident(t.trigger)
    FROM trigger t
    UNION ALL
    SELECT t.owner, t.aspect || ' firing', t.relation, t.trigger::text, t.tgenabled, 'A', t.table_name,
        quote_ident(t.trigger) FROM trigger t WHERE t.found IS NOT NULL
    UNION ALL
    SELECT s.relation, 'second capture', s.source, t.tgname::text, 'there', 'not there', s.name, quote_ident(t.tgname)
    FROM source s JOIN pg_trigger t ON t.tgrelid = s.source
        AND t.tgfoid = 'projections_internal.capture()'::regprocedure
    WHERE t.tgname NOT IN (SELECT n.name FROM projections_internal._own_triggers() n)
    UNION ALL
    SELECT k.relation, 'table column', k.relation, v.attnum::text,
           coalesce(format('%s %s %s%s%s', a.atttypid, a.atttypmod, a.attcollation, a.attidentity, a.attgenerated),
               'missing'),
           format('%s %s %s', v.atttypid, v.atttypmod, v.attcollation), k.name, quote_ident(v.attname)
    FROM known k JOIN pg_attribute v ON v.attrelid = k.definition AND v.attnum > 0
    LEFT JOIN pg_attribute a ON a.attrelid = k.relation AND a.attnum = v.attnum AND NOT a.attisdropped
    WHERE k.kind = 'query' AND k.is_table AND NOT k.building
    UNION ALL
    SELECT k.relation, 'folded column', k.relation, c.name,
        coalesce(format('%s%s%s', a.atttypid::regtype, a.attidentity, a.attgenerated), 'missing'),
        c.type::regtype::text,
           k.name, format('%s of type %s', c.name, c.type)
    FROM known k CROSS JOIN (VALUES ('key', 'text'), ('state', 'jsonb'), ('version', 'bigint'), ('position', 'bigint'),
        ('updated_at', 'timestamptz')) AS c(name, type)
    LEFT JOIN pg_attribute a ON a.attrelid = k.relation AND a.attname = c.name AND NOT a.attisdropped
    WHERE k.kind IN ('reducer', 'state_machine') AND k.is_table
    UNION ALL
    SELECT k.relation, 'row trigger', k.relation, t.tgname::text, 'there', 'not there', k.name, quote_ident(t.tgname)
    FROM known k JOIN pg_trigger t ON t.tgrelid = k.relation WHERE k.is_table AND NOT t.tgisinternal
        AND t.tgtype & 3 = 3 AND NOT projections_internal._is_own(t)
    UNION ALL
    SELECT k.relation, CASE c.contype WHEN 't' THEN 'deferred trigger' WHEN 'f' THEN 'deferred key' ELSE 'deferred '
        'constraint' END, k.relation, c.conname::text, 'there', 'not there',
           k.name, quote_ident(c.conname)
    FROM known k JOIN pg_constraint c ON c.conrelid = k.relation WHERE k.is_table AND c.condeferred
    UNION ALL
    SELECT k.relation, 'rule', k.relation, r.rulename::text, 'there', 'not there', k.name, quote_ident(r.rulename)
    FROM known k JOIN pg_rewrite r ON r.ev_class = k.relation WHERE k.is_table
    UNION ALL
    SELECT k.relation, 'logged table', k.relation, '', k.relpersistence::text, 'p', k.name, '' FROM known k
        WHERE k.is_table
    UNION ALL
    SELECT k.relation, 'parent of table', k.relation, i.inhparent::text, 'tie', 'none', k.name,
        projections_internal._name(i.inhparent)
    FROM known k JOIN pg_inherits i ON i.inhrelid = k.relation WHERE k.is_table
    UNION ALL
    SELECT k.relation, 'child of table', k.relation, i.inhrelid::text, 'tie', 'none', k.name,
        projections_internal._name(i.inhrelid)
    FROM known k JOIN pg_inherits i ON i.inhparent = k.relation WHERE k.is_table
    UNION ALL
    SELECT k.relation, 'key index', coalesce(nullif(k.index, 0), k.relation), coalesce(k.indkey::text, ''),
        CASE WHEN k.index IS NULL THEN 'missing' ELSE 'there' END, 'there', k.name, '' FROM keyed k
    UNION ALL
    -- not a user's, beside an index of ours
    SELECT k.relation, 'key constraint', k.relation, '', 'there', NULL, k.name, '' FROM keyed k WHERE k.indisprimary
    UNION ALL
    SELECT k.relation, 'key column', k.relation, a.attnum::text,
        CASE WHEN projections_internal._is_not_null(k.relation, a.attnum) THEN 'not null' ELSE 'null' END, 'not null',
        k.name, quote_ident(a.attname)
    FROM keyed k JOIN pg_attribute a ON a.attrelid = k.relation AND a.attnum = ANY (k.indkey::int2[])
    WHERE (k.row).options @> '{"key_not_null": true}'
    UNION ALL
    SELECT k.relation, 'not null', a.attrelid, a.attnum::text,
        CASE WHEN projections_internal._is_not_null(a.attrelid, a.attnum) THEN 'not null' ELSE 'null' END, 'not null',
        projections_internal._name(a.attrelid), quote_ident(a.attname)
    FROM known k CROSS JOIN LATERAL projections_internal._relied_not_null(k.row) n
        JOIN pg_attribute a ON a.attrelid = n.source AND a.attnum = n.attnum
    WHERE k.kind = 'query' AND coalesce(k.shape, '') NOT IN ('bag', 'total')
    UNION ALL
    SELECT k.relation, 'reference', c.conrelid, c.conname::text, 'there', 'not there',
        projections_internal._name(c.conrelid),
        quote_ident(c.conname)
    FROM known k JOIN pg_constraint c ON c.confrelid = k.relation AND c.contype = 'f'
    WHERE k.is_table AND (c.confdeltype IN ('c', 'n', 'd') OR c.confupdtype IN ('c', 'n', 'd'))
    UNION ALL
    SELECT k.relation, 'replica identity', k.relation, '', 'missing', 'there', k.name, '' FROM known k WHERE k.is_table
        AND projections_internal._lacks_identity(k.relation)
    UNION ALL
    SELECT c.relation, 'volatility', f.oid, '', f.provolatile::text, 'i', f.oid::regprocedure::text, '' FROM called c
        JOIN pg_proc f ON f.oid = c.function
    WHERE EXISTS (SELECT FROM known k WHERE k.relation = c.relation AND k.kind = 'query')
    UNION ALL
    SELECT c.relation, 'function', f.oid, '',
        md5(concat_ws(E'\n', f.prosrc, f.probin, f.prosqlbody, f.proconfig::text, f.proisstrict, f.prolang, f.prosecdef,
                                                            CASE WHEN f.prosecdef THEN f.proowner END)), NULL,
                                                                f.oid::regprocedure::text, ''
    FROM called c JOIN pg_proc f ON f.oid = c.function WHERE f.prokind <> 'a'
    UNION ALL
    SELECT c.relation, 'aggregate', a.aggfnoid::oid, '', md5(a::text), NULL, a.aggfnoid::regprocedure::text, ''
        FROM called c JOIN pg_aggregate a ON a.aggfnoid = c.function
    UNION ALL
    SELECT t.relation, 'label', e.enumtypid, e.oid::text, e.enumlabel::text, NULL, e.enumtypid::regtype::text, ''
        FROM inner_type t JOIN pg_enum e ON e.enumtypid = t.type
    UNION ALL
    SELECT c.relation, 'collation', l.oid, '', coalesce(l.collversion, ''), NULL, l.oid::regcollation::text, ''
    FROM (SELECT u.relation, u.attcollation AS collation FROM used_column u UNION SELECT u.relation, u.object
        FROM used u WHERE u.class = 'pg_collation'::regclass) c
    JOIN pg_collation l ON l.oid = c.collation WHERE l.collversion IS NOT NULL
    UNION ALL
    SELECT u.relation, 'text search', u.object, '', md5(string_agg(format('%s %s %s '
        '%s', m.maptokentype, m.mapseqno, m.mapdict, d.dictinitoption), ','
                                                                   ORDER BY m.maptokentype, m.mapseqno)), NULL,
                                                                       u.object::regconfig::text, ''
    FROM used u JOIN pg_ts_config_map m ON m.mapcfg = u.object JOIN pg_ts_dict d ON d.oid = m.mapdict
        WHERE u.class = 'pg_ts_config'::regclass
    GROUP BY u.relation, u.object
    UNION ALL
    SELECT k.relation, 'definition', k.definition, '', md5(w.ev_action::text), NULL,
        projections_internal._name(k.definition), ''
    FROM known k JOIN pg_rewrite w ON w.ev_class = k.definition;
END
$$;
COMMENT ON FUNCTION projections_internal._relied(oid[]) IS 'Internal: what projections rely on, as it is now.';

-- is_new: it was another, or nothing has been recorded.
CREATE FUNCTION projections_internal._differences(wanted oid[])
    RETURNS TABLE(projection oid, aspect text, object oid, name text, place text, value text, is_recorded boolean,
        is_new boolean)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH recorded AS MATERIALIZED (
        SELECT r.projection::oid AS projection FROM projections_internal.reliance_record r
        WHERE (wanted IS NULL OR r.projection = ANY (wanted)) AND r.cluster = (SELECT system_identifier
            FROM pg_control_system())
    ), was AS (
        SELECT r.projection::oid AS projection, r.aspect, r.object, r.part, r.value
        FROM projections_internal.reliance r WHERE r.projection IN (SELECT d.projection FROM recorded d)
    )
    SELECT d.projection, d.aspect, d.object, d.name, d.place, d.value, d.is_recorded, NOT d.is_recorded
        OR d.value IS DISTINCT FROM d.recorded
    FROM (SELECT projection, aspect, object, n.name, coalesce(n.place, part) AS place, n.value, n.required,
        w.value AS recorded,
                 projection IN (SELECT r.projection FROM recorded r) AS is_recorded
          FROM projections_internal._relied(wanted) n FULL JOIN was w USING (projection, aspect, object, part)) d
    JOIN projections_internal._conditions() c USING (aspect)
    WHERE CASE WHEN d.required IS NOT NULL THEN d.value <> d.required
               WHEN NOT d.is_recorded OR d.value IS NOT DISTINCT FROM d.recorded THEN false
               ELSE strpos(c.changes,
                   CASE WHEN d.value IS NULL THEN 'r' WHEN d.recorded IS NULL THEN 'a' ELSE 'c' END) > 0 END
$$;
COMMENT ON FUNCTION projections_internal._differences(oid[]) IS
    'Internal: what is not as projections (NULL: all) need it.';

REVOKE EXECUTE ON FUNCTION projections_internal._reliance_digest(oid, oid[]),
    projections_internal._does_not_compile(text),
    projections_internal._relied_index(projections_internal.projection), projections_internal._lacks_identity(oid),
    projections_internal._identifying_sources(oid), projections_internal._identifies(oid, oid, oid, text),
    projections_internal._found_by_key(oid), projections_internal._unique_keys(oid, oid),
    projections_internal._not_null_columns(oid),
    projections_internal._relied_not_null(projections_internal.projection),
    projections_internal._is_not_null(oid, int2),
    projections_internal._relied(oid[]), projections_internal._differences(oid[]) FROM PUBLIC;
