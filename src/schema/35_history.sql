-- history(): what made one row of a projection.

CREATE FUNCTION projections_internal._rows_query(projection regclass, OUT query text, OUT tables regclass[])
    LANGUAGE c STRICT STABLE AS 'MODULE_PATHNAME', 'projections_rows_query';
COMMENT ON FUNCTION projections_internal._rows_query(regclass) IS
'Internal: the query of a projection before it is grouped, with its keys as k1, k2 … and the rows of its tables as r1, '
    'r2 …';

-- The text of a query over $1, a whole key; with the key at hand its NULLs are known, so that equality can use an index
-- for the others.
CREATE FUNCTION projections_internal._rows_behind(projection regclass, key jsonb) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    names text[] := projections_internal._key_columns(projection);
    behind record;
    condition text;
BEGIN
    SELECT * INTO behind FROM projections_internal._rows_query(projection);
    SELECT string_agg(CASE WHEN jsonb_typeof(key -> n.name) = 'null' THEN format('q.k%s IS NULL', n.place)
                           ELSE format('q.k%s = (jsonb_populate_record(NULL::%s, $1)).%I', n.place,
                               projections_internal._name(projection), n.name) END, ' AND ')
    INTO condition FROM unnest(names) WITH ORDINALITY AS n(name, place);
    RETURN (SELECT string_agg(format(
            'SELECT %L::text AS source, %s AS "position", %s AS type, %s AS event_time, x.row AS event FROM (SELECT %s '
                'to_jsonb(q.r%s) AS row FROM (%s) q WHERE %s) x WHERE x.row IS NOT NULL',
            projections_internal._name(t.source),
            CASE WHEN s.arrivals IS NOT NULL THEN format('(SELECT a.arrival FROM %s a WHERE a.position = (x.row ->> '
                '%L)::bigint)', projections_internal._name(s.arrivals), s.position_column)
                 ELSE coalesce('(x.row ->> ' || quote_literal(s.position_column) || ')::bigint', 'NULL::bigint') END,
            coalesce('x.row ->> ' || quote_literal(s.type_column), 'NULL::text'),
            CASE WHEN s.time_column IS NULL THEN 'NULL::timestamptz'
                 WHEN (SELECT a.atttypid FROM pg_attribute a WHERE a.attrelid = s.relation
                     AND a.attname = s.time_column) = 'timestamp'::regtype
                 THEN format('((x.row ->> %L)::timestamp AT TIME ZONE ''UTC'')', s.time_column)
                 ELSE format('(x.row ->> %L)::timestamptz', s.time_column) END,
            -- A row of one table that joins several of another is one row, and so is one that stands in several places.
            CASE WHEN cardinality(behind.tables) > 1 THEN 'DISTINCT' ELSE '' END, t.place, behind.query,
                coalesce(condition, 'true')), ' UNION ' ORDER BY t.place)
            || ' ORDER BY 1, 2, 5'
        FROM unnest(behind.tables) WITH ORDINALITY AS t(source, place) LEFT
            JOIN projections_internal.source s ON s.relation = t.source);
END
$$;
COMMENT ON FUNCTION projections_internal._rows_behind(regclass, jsonb) IS
    'Internal: SQL text of the source rows that made one row of a query projection.';

CREATE FUNCTION projections_internal._history(projection oid, caller text, key jsonb)
    RETURNS TABLE(source text, "position" bigint, type text, event_time timestamptz, event jsonb)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    p projections_internal.projection;
    wanted text := key #>> '{}';
BEGIN
    SELECT * INTO STRICT p FROM projections_internal.projection c WHERE c.relation::oid = _history.projection;
    IF p.kind = 'query' THEN
        RETURN QUERY SELECT * FROM projections_internal._rows_as_owner(projection,
            projections_internal._rows_behind(projection, key),
            key)
            AS r(source text, "position" bigint, type text, event_time timestamptz, event jsonb);
        RETURN;
    END IF;
    IF jsonb_typeof(key) = 'object' THEN
        IF (SELECT array_agg(k) FROM jsonb_object_keys(key) AS k) IS DISTINCT FROM ARRAY['key'] THEN
            RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'this is not a key of the projection',
                DETAIL = format('The key of %s is (key).', projections_internal._name(projection)),
                    HINT = 'Pass {"key": "…"}, or the key alone.';
        END IF;
        wanted := key ->> 'key';
    END IF;
    RETURN QUERY SELECT * FROM projections_internal._rows_as_owner(projection, format(
        'SELECT %L::text, f.position::bigint, f.type::text, f.event_time::timestamptz, to_jsonb(f.event) FROM %s f '
            'WHERE $1 = ANY (f.keys) ORDER BY f.position',
        projections_internal._name(p.sources[1]), projections_internal._name(p.definition)), wanted)
        AS r(source text, "position" bigint, type text, event_time timestamptz, event jsonb);
END
$$;
COMMENT ON FUNCTION projections_internal._history(oid, text, jsonb) IS 'Internal: projections.history().';

CREATE FUNCTION projections.history(name text, key jsonb)
    RETURNS TABLE(source text, "position" bigint, type text, event_time timestamptz, event jsonb)
    LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'projections_history';
COMMENT ON FUNCTION projections.history(text, jsonb) IS
'What made one row of a projection. key: one JSON object of columns that determine the row, as {"item": "A1"}: see
refresh_rows(); for a reducer, state machine or handler {"key": "A1"}, or the key alone, as "A1". Of a reducer or state
machine: the events delivered to that key, by position. Of a query projection: the source rows that its row stands for,
as they are now; position, type and event_time are NULL where the table is no event source. Of a handler: the events of
a partition. Runs as the projection''s owner, who the caller must be, or a member of it.
Errors: 42P01 no such relation; 42809 not a projection; 22023 not a key of it, or columns that determine no rows; 21000
they determine several; 22004 no key; 42501 not the owner.
Example: SELECT position, type, event FROM projections.history(''stock'', ''{"item": "A1"}'');';
