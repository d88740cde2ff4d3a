-- Look: what is declared, checkpoints, and failures.

CREATE FUNCTION projections_internal._name(relation regclass) RETURNS text
    LANGUAGE sql STABLE STRICT
    RETURN (SELECT pg_catalog.format('%I.%I', n.nspname, c.relname)
            FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = relation);
COMMENT ON FUNCTION projections_internal._name(regclass) IS
    'Internal: a relation''s name, schema-qualified and quoted where needed.';

CREATE FUNCTION projections_internal._key_expression(projection regclass) RETURNS text
    LANGUAGE c STRICT STABLE AS 'MODULE_PATHNAME', 'projections_key_expression';
COMMENT ON FUNCTION projections_internal._key_expression(regclass) IS
'Internal: the expression over an event that gives a reducer''s or state machine''s key or a handler''s partition; '
    'NULL where there is none.';

-- SQL that declares a projection again. Arguments that have their default are left out. Reads no table:
-- projections.definitions calls it as its reader.
CREATE FUNCTION projections_internal._create_sql(p projections_internal.projection) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    arguments text[];
BEGIN
    arguments := ARRAY[quote_literal(projections_internal._name(p.relation))];
    IF p.kind = 'query' THEN
        arguments := arguments || quote_literal(projections_internal._definition_query(p.relation));
    ELSE
        arguments := arguments || quote_literal(projections_internal._name(p.sources[1]));
    END IF;
    IF p.kind = 'handler' THEN
        arguments := arguments || quote_literal(p.function)
            || format('ARRAY[%s]::text[]', (SELECT string_agg(quote_literal(projections_internal._name(t.relation)),
                ', '
                ORDER BY t.place)
                                           FROM unnest(p.tables) WITH ORDINALITY AS t(relation, place)))
            || ('partition_by => ' || quote_literal(projections_internal._key_expression(p.relation)));
    ELSIF p.kind = 'reducer' THEN
        arguments := arguments || quote_literal(projections_internal._key_expression(p.relation)) ||
            quote_literal(p.function)
            || CASE WHEN p.initial <> 'null' THEN 'initial => ' || quote_literal(p.initial) END;
    ELSIF p.kind = 'state_machine' THEN
        arguments := arguments || quote_literal(projections_internal._key_expression(p.relation))
            || quote_literal((SELECT coalesce(jsonb_agg(jsonb_build_object('from', nullif(f.state, ''), 'event',
                e.event, 'to', e.target) ORDER BY f.state, e.event), '[]')
                              FROM jsonb_each(p.transitions) AS f(state, events),
                                  LATERAL jsonb_each_text(f.events) AS e(event, target)));
    END IF;
    IF p.event_types IS NOT NULL AND p.kind <> 'state_machine' THEN
        arguments := arguments || format('event_types => %L', p.event_types);
    END IF;
    arguments := arguments || format('mode => %L', p.mode);
    IF p.options <> '{}' THEN
        arguments := arguments || format('options => %L', p.options);
    END IF;
    RETURN format('SELECT projections.%s(%s);', CASE p.kind WHEN 'query' THEN 'create' ELSE 'create_' || p.kind END,
                  array_to_string(arguments, ', ')); -- which leaves NULLs out
END
$$;
COMMENT ON FUNCTION projections_internal._create_sql(projections_internal.projection) IS
    'Internal: SQL that declares a projection again.';

-- For readers of projections.definitions, who have no right on the table.
CREATE FUNCTION projections_internal._depth(projection regclass) RETURNS integer
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH RECURSIVE reads(relation, depth) AS (
        SELECT projection::oid, 0
        UNION
        SELECT s.relation, r.depth + 1
        FROM reads r JOIN projections_internal.projection p ON p.relation = r.relation,
            LATERAL unnest(p.sources::oid[]) AS s(relation)
    )
    SELECT max(depth) FROM reads
$$;
COMMENT ON FUNCTION projections_internal._depth(regclass) IS
    'Internal: how many projections stand between a projection and tables that are none, and 1.';

CREATE VIEW projections.definitions AS
SELECT projections_internal._name(p.relation) AS projection,
       p.relation,
       p.definition,
       CASE p.kind WHEN 'query' THEN projections_internal._definition_query(p.relation) END AS query,
       p.mode,
       projections_internal._strategy(p.relation) AS strategy,
       CASE p.kind WHEN 'query' THEN projections_internal._key_columns(p.relation) WHEN 'handler' THEN NULL
           ELSE '{key}' END AS key,
       CASE p.kind WHEN 'handler' THEN NULL
                   ELSE ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
                              WHERE a.attrelid = p.relation AND NOT a.attisdropped
                                AND a.attnum BETWEEN 1 AND CASE p.kind WHEN 'query' THEN p.user_columns ELSE 32767 END
                                    ORDER BY a.attnum) END AS columns,
       projections_internal._create_sql(p) AS create_sql
FROM projections_internal.projection p
WHERE p.shadow_of IS NULL AND p.part_of IS NULL
ORDER BY projections_internal._depth(p.relation), p.relation::oid;
COMMENT ON VIEW projections.definitions IS
'Every projection with its query as it reads today, its strategy, key and columns, and the SQL that declares it again.
Those that others read come first, so that all of create_sql can be run from top to bottom.';

CREATE VIEW projections.dependencies AS
SELECT projections_internal._name(r.relation) AS projection,
       r.relation,
       r.source,
       EXISTS (SELECT FROM projections_internal.projection u WHERE u.relation = r.source) AS source_is_projection
FROM (SELECT DISTINCT coalesce(p.part_of, p.relation)::oid::regclass AS relation, s.source::oid::regclass AS source
      FROM projections_internal.projection p, LATERAL pg_catalog.unnest(p.sources) AS s(source)
      WHERE p.shadow_of IS NULL) r
WHERE NOT EXISTS (SELECT FROM projections_internal.projection q WHERE q.relation = r.source AND q.part_of IS NOT NULL)
ORDER BY r.relation::oid, r.source::oid;
COMMENT ON VIEW projections.dependencies IS
    'Which tables each projection reads, and which of them are projections themselves.';

CREATE VIEW projections.sources AS
SELECT projections_internal._name(s.relation) AS source,
       s.relation, s.position_column, s.stream_column, s.version_column, s.type_column, s.time_column,
           s.correlation_column, s.id_column, s.preset, s.capture,
       projections_internal._name(s.sequence) AS sequence, s.archived_to
FROM projections_internal.source s;
COMMENT ON VIEW projections.sources IS
'Event sources as projections.register_source() knows them: their columns, the preset, how events are captured, the
sequence of their positions, and up to which position events may have been deleted (archived_to).';

CREATE VIEW projections.subscriptions AS
SELECT s.name, projections_internal._name(s.source) AS source, s.partition_by, s.event_types, s.position,
    pg_catalog.pg_get_userbyid(s.owner) AS owner, s.acked_at, s.created_at
FROM projections_internal.subscription s;
COMMENT ON VIEW projections.subscriptions IS
'Subscriptions: their source, partition_by and event_types, the last position acknowledged, when that was, and the '
    'owner.';

-- --------------------------------------------------------------------------------------------------------- checkpoints

-- A handler without a table of its name is a view of its slots, which is the user's: he has no right on the table.
CREATE VIEW projections_internal._slots AS
SELECT p.definition, s.slot, s.position, s.event_time, s.events_processed, s.checkpoint_at
FROM projections_internal.slot s JOIN projections_internal.projection p ON p.relation = s.projection;
COMMENT ON VIEW projections_internal._slots IS 'Internal: what the views of handlers show.';


CREATE VIEW projections.checkpoints AS
SELECT projections_internal._name(s.projection) AS projection,
       s.slot, s.position, s.event_time, s.events_processed, s.checkpoint_at
FROM projections_internal.slot s
WHERE NOT EXISTS (SELECT FROM projections_internal.projection p WHERE p.relation = s.projection
    AND (p.shadow_of IS NOT NULL OR p.part_of IS NOT NULL));
COMMENT ON VIEW projections.checkpoints IS
'Where each slot of each async projection stands: the last position it has applied, that event''s time, how many '
    'events it has processed, and when.';

CREATE VIEW projections.checkpoint_history AS
SELECT projections_internal._name(h.projection) AS projection,
       h.slot, h.before, h.position, h.changed_at, h.changed_by, h.reason
FROM projections_internal.checkpoint_change h;
COMMENT ON VIEW projections.checkpoint_history IS
'Checkpoints that were changed by hand (set_checkpoint, reset, alter): from where, to where, when, by whom and why. '
    'Kept for pg_projections.history_retention.';

-- ------------------------------------------------------------------------------------------------------------ failures

-- Who may see the events' data and the errors' texts: the owner's members and pg_read_all_data; of the rest, pg_monitor
-- sees that there are failures.
CREATE VIEW projections.failures WITH (security_barrier) AS
SELECT f.id, projections_internal._name(f.projection) AS projection, f.slot, f.position, f.event_id, f.event_type,
       CASE WHEN r.readable THEN pg_catalog.array_to_string(f.keys, ', ') END AS key,
       CASE WHEN r.readable THEN f.error END AS error,
       f.sqlstate, f.category,
       CASE WHEN r.readable THEN f.context END AS context,
       f.retry_count, f.first_failed_at, f.failed_at, f.next_retry_at, f.resolved_at, f.resolution, f.resolved_by,
       CASE WHEN r.readable THEN f.note END AS note
FROM projections_internal.failure f
JOIN pg_catalog.pg_class c ON c.oid = f.projection,
LATERAL (SELECT pg_catalog.pg_has_role(c.relowner, 'USAGE')
    OR pg_catalog.pg_has_role('pg_read_all_data', 'USAGE') AS readable) r
WHERE r.readable OR pg_catalog.pg_has_role('pg_monitor', 'USAGE');
COMMENT ON VIEW projections.failures IS
'Events that could not be applied. Open while resolved_at is null. Keys, error texts, contexts and notes show to '
    'members of the projection''s owner, pg_read_all_data and superusers; members of pg_monitor see the other columns, '
    'everybody else no row.';

CREATE VIEW projections.dead_letters AS
SELECT * FROM projections.failures WHERE resolved_at IS NULL AND next_retry_at IS NULL;
COMMENT ON VIEW projections.dead_letters IS
    'Open failures that no retry is due for. Who sees what is as in projections.failures.';

CREATE VIEW projections.parked WITH (security_barrier) AS
SELECT projections_internal._name(e.projection) AS projection, e.slot, e.position, e.event_type, e.event_time,
       CASE WHEN r.readable THEN pg_catalog.array_to_string(e.keys, ', ') END AS key,
       e.parked_at
FROM projections_internal.parked_event e
JOIN pg_catalog.pg_class c ON c.oid = e.projection,
LATERAL (SELECT pg_catalog.pg_has_role(c.relowner, 'USAGE')
    OR pg_catalog.pg_has_role('pg_read_all_data', 'USAGE') AS readable) r
WHERE r.readable OR pg_catalog.pg_has_role('pg_monitor', 'USAGE');
COMMENT ON VIEW projections.parked IS
'Events held back behind a failure of one of their keys. Who sees what is as in projections.failures.';

GRANT SELECT ON projections.definitions, projections.dependencies, projections.sources, projections.subscriptions,
    projections_internal._slots, projections.checkpoints, projections.checkpoint_history, projections.failures,
    projections.dead_letters, projections.parked TO PUBLIC;
