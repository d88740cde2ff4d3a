-- Whether projections are right, and making them so.

CREATE FUNCTION projections.verify(name text, sample double precision DEFAULT 1)
    RETURNS TABLE(problem text, key jsonb, expected jsonb, found jsonb)
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_verify';
COMMENT ON FUNCTION projections.verify(text, double precision) IS
'Compares a projection with its definition, as far as it has been brought up to date: one over events up to its checkpoint, without events that failed, are parked or were
skipped; one over a change log without what is still in the log; a reducer or state machine by folding its events again in memory; a handler by calling it again for its events, with
tables like its own that nobody else sees and that are gone in the end. Returns a row for each difference, none
where there is none. problem: missing, extra, different, or duplicate (several rows of one key). key: the row''s, NULL where rows have none. expected, found: the rows, with the
columns that maintenance appended. Aggregates over floats are equal within 1e-9 of their value (real: 1e-5). A handler with several tables has the table''s name in key ("table"). Columns that it leaves to a
default like nextval() or now() are not compared, and a NOTICE names them; if the primary key is among them, rows have no key. What the handler does beyond its tables is refused
where it writes, and done again where it does not; verifying a handler takes about as long as rebuilding it, and is no part of what idle workers do (scrub_rate). Reads everything under one snapshot, the latest one also in
REPEATABLE READ, and holds nobody up. sample: the share of the keys that is compared, chosen anew by each call; above 0 and at most 1.
Needs to own the projection, or pg_read_all_data. Errors: 42P01; 42809 not a projection; 42501; 22023 sample; 0A000 a handler that reaches past its tables, or tables of which no twin can be made; 25006 a handler in a read-only transaction; 55000 it is being filled, or an event fails that a handler had applied; 55006 called by a statement
that writes its sources; PJ006 events are archived away.
Example: SELECT * FROM projections.verify(''revenue'', sample => 0.1);';

-- --------------------------------------------------------------------------------------------------------------- repair

CREATE FUNCTION projections.repair(name text) RETURNS bigint
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_operate';
COMMENT ON FUNCTION projections.repair(text) IS
'Makes a projection right and able to stay so: restores triggers that are missing, disabled or replica-only, on its sources and on itself, its key''s index, and change logs and
checkpoints that are gone; then recomputes exactly the keys that verify() reports, and ends status stale. Returns how many rows it wrote. What was changed while a trigger was missing
is found too: while one is restored, writers of the source wait until this transaction ends; else they go on. Changes that wait in a change log
are applied on the way. A projection that has lost a checkpoint starts again from the first event. A handler is called again for its events, as verify() does it, and its tables are made equal to the result; other writers of these tables wait meanwhile. Where
that is not possible, triggers are restored all the same, with a WARNING. Projections that read this
one follow its changes. A source that is a stale projection itself is not repaired, and a NOTICE says so: begin with it.
Errors: 42P01; 42809 not a projection; 42501 not the owner; 40001 above READ COMMITTED, where another transaction changes the same rows; PJ006 events are archived away; 0A000 and 55000 as verify() of a
handler; 55000 a handler without its checkpoint.
Example: SELECT projections.repair(''revenue'');';

CREATE FUNCTION projections._make_logs(projection oid) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'projections_make_logs';
COMMENT ON FUNCTION projections._make_logs(oid) IS 'Internal: makes empty change logs for a query projection whose writers are held off, and drops those that are left.';
CREATE FUNCTION projections._remove_duplicates(projection oid) RETURNS bigint
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'projections_remove_duplicates';
COMMENT ON FUNCTION projections._remove_duplicates(oid) IS 'Internal: leaves one row of each key, whichever.';
CREATE FUNCTION projections._repair_rows(projection oid) RETURNS bigint
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'projections_repair_rows';
COMMENT ON FUNCTION projections._repair_rows(oid) IS 'Internal: recomputes the keys that differ from the definition; returns the rows written.';

-- Triggers that a projection needs, on itself and its sources, partitions included, and does not have as it needs them.
CREATE FUNCTION projections._broken_triggers(p projections.projection) RETURNS TABLE(relation oid, source boolean, trigger name, state text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH needed AS (
        SELECT p.relation::oid AS relation, false AS source, n AS trigger FROM unnest(ARRAY['projections_guard', 'projections_guard_truncate']::name[]) n WHERE p.kind <> 'handler'
        UNION ALL
        SELECT s, true, n FROM unnest(p.sources::oid[]) s, unnest(ARRAY['projections_capture', 'projections_capture_truncate']::name[]) n WHERE projections._captures(p)
        UNION ALL
        SELECT s.relation, true, 'projections_arrival' FROM projections.source s WHERE s.relation = ANY (p.sources) AND s.capture = 'trigger'
    )
    SELECT n.relation, n.source, n.trigger, CASE WHEN t.oid IS NULL THEN 'missing' WHEN t.tgenabled = 'D' THEN 'disabled' ELSE 'not ALWAYS' END
    FROM needed n JOIN pg_class c ON c.oid = n.relation LEFT JOIN pg_trigger t ON t.tgrelid = n.relation AND t.tgname = n.trigger
    WHERE t.oid IS NULL OR t.tgenabled <> 'A'
       OR EXISTS (SELECT FROM pg_partition_tree(n.relation) l JOIN pg_trigger k ON k.tgrelid = l.relid AND k.tgname = n.trigger WHERE k.tgenabled <> 'A')
    ORDER BY n.source DESC, n.relation, n.trigger
$$;
COMMENT ON FUNCTION projections._broken_triggers(projections.projection) IS
'Internal: the triggers of a projection that are missing, disabled, or not ENABLE ALWAYS. state says which.';

CREATE FUNCTION projections._restore_triggers(p projections.projection) RETURNS integer
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    broken record;
    arrivals projections.source;
    restored integer := 0;
BEGIN
    -- What is changed before the trigger is back must be seen by who compares: writers wait until that is done. In the order of all writers.
    FOR broken IN SELECT DISTINCT b.relation FROM projections._broken_triggers(p) b WHERE b.source ORDER BY 1 LOOP
        EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', projections._name(broken.relation));
    END LOOP;
    FOR broken IN SELECT * FROM projections._broken_triggers(p) LOOP
        IF broken.state = 'missing' AND broken.trigger = 'projections_arrival' THEN
            SELECT * INTO arrivals FROM projections.source s WHERE s.relation = broken.relation;
            EXECUTE format('CREATE TRIGGER projections_arrival AFTER INSERT ON %s FOR EACH ROW EXECUTE FUNCTION projections._note_arrival(%L, %L)',
                           projections._name(broken.relation), (SELECT c.relname FROM pg_class c WHERE c.oid = arrivals.arrivals), arrivals.position_column);
        ELSIF broken.state = 'missing' THEN
            EXECUTE format('CREATE TRIGGER %I %s ON %s %s EXECUTE FUNCTION projections.%s()', broken.trigger,
                           CASE broken.trigger WHEN 'projections_guard' THEN 'BEFORE INSERT OR UPDATE OR DELETE' WHEN 'projections_guard_truncate' THEN 'BEFORE TRUNCATE'
                                               WHEN 'projections_capture' THEN 'AFTER INSERT OR UPDATE OR DELETE' ELSE 'AFTER TRUNCATE' END,
                           projections._name(broken.relation),
                           CASE WHEN broken.trigger IN ('projections_guard', 'projections_capture') THEN 'FOR EACH ROW' ELSE '' END,
                           CASE WHEN broken.source THEN 'capture' ELSE 'guard' END);
        END IF;
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', projections._name(broken.relation), broken.trigger);
        IF broken.trigger = 'projections_arrival' THEN
            SELECT * INTO arrivals FROM projections.source s WHERE s.relation = broken.relation;
            EXECUTE format('INSERT INTO %1$s (position) SELECT e.%2$I FROM %3$s e WHERE NOT EXISTS (SELECT FROM %1$s a WHERE a.position = e.%2$I) ORDER BY e.%2$I',
                           projections._name(arrivals.arrivals), arrivals.position_column, projections._name(broken.relation));
        ELSIF broken.source THEN
            UPDATE projections.projection o SET stale_since = now(), stale_reason = format('capture was lost on %s', broken.relation::regclass)
            WHERE broken.relation = ANY (o.sources::oid[]) AND projections._captures(o) AND o.relation <> p.relation AND o.stale_since IS NULL;
        END IF;
        restored := restored + 1;
        RAISE NOTICE 'trigger % on % was %', broken.trigger, projections._name(broken.relation), broken.state;
    END LOOP;
    RETURN restored;
END
$$;
COMMENT ON FUNCTION projections._restore_triggers(projections.projection) IS
'Internal: makes triggers ENABLE ALWAYS again; holds writers of those sources off to the end of the transaction, and marks other projections over them stale.';

CREATE FUNCTION projections._key_index(p projections.projection) RETURNS oid
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT i.indexrelid FROM pg_index i
    WHERE i.indrelid = p.relation AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
      AND (i.indnullsnotdistinct OR p.kind <> 'query')
      AND (SELECT array_agg(a.attname::text ORDER BY a.attname) FROM pg_attribute a WHERE a.attrelid = p.relation AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]))
        = (SELECT array_agg(k ORDER BY k COLLATE "C") FROM unnest(CASE p.kind WHEN 'query' THEN projections._key_columns(p.relation) ELSE '{key}' END) k)
    LIMIT 1
$$;
COMMENT ON FUNCTION projections._key_index(projections.projection) IS 'Internal: the unique index over a projection''s key, by which maintenance finds rows; NULL: there is none.';

-- How many logs and slots are gone.
CREATE FUNCTION projections._restore_hidden(p projections.projection) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    source oid;
    slots integer := coalesce((p.options ->> 'slots')::integer, 1);
BEGIN
    IF EXISTS (SELECT FROM unnest(p.changes::oid[]) l WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = l)) THEN
        FOR source IN SELECT s FROM unnest(p.sources::oid[]) s ORDER BY 1 LOOP
            EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', projections._name(source));
        END LOOP;
        PERFORM projections._make_logs(p.relation);
        RAISE NOTICE 'a change log of % was missing', projections._name(p.relation);
    END IF;
    IF p.mode <> 'async' OR (SELECT count(*) FROM projections.slot s WHERE s.projection = p.relation) = slots THEN
        RETURN false;
    ELSIF p.kind = 'handler' THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('handler %s has lost a checkpoint', projections._name(p.relation)),
            DETAIL = 'Nothing says which events it has applied.',
            HINT = format('INSERT INTO projections.slot (projection, slot, position) VALUES (%L, …) with what you know of it; or add them at 0 and call projections.reset(%L).',
                          projections._name(p.relation), projections._name(p.relation));
    END IF;
    RAISE NOTICE 'a checkpoint of % was missing', projections._name(p.relation);
    IF p.changes = '{}' THEN
        PERFORM projections._refuse_archived(p.relation, 0);
    END IF;
    PERFORM projections._lock_slots(p.relation);
    DELETE FROM projections.slot s WHERE s.projection = p.relation;
    INSERT INTO projections.slot (projection, slot) SELECT p.relation, n FROM generate_series(0, slots - 1) n;
    RETURN p.changes = '{}';
END
$$;
COMMENT ON FUNCTION projections._restore_hidden(projections.projection) IS
'Internal: makes change logs and slots that are gone; true where the projection has to start from its first event.';

CREATE FUNCTION projections._repair(projection oid, caller text) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    p projections.projection;
    stale regclass;
    restored integer;
    written bigint := 0;
    key_index oid;
    detail text;
    hint text;
BEGIN
    SELECT * INTO STRICT p FROM projections.projection x WHERE x.relation = projection::regclass;
    FOR stale IN SELECT x.relation FROM projections.projection x WHERE x.relation = ANY (p.sources) AND x.stale_since IS NOT NULL ORDER BY 1 LOOP
        RAISE NOTICE 'projection %, which % reads, is stale itself', projections._name(stale), projections._name(p.relation)
            USING HINT = format('SELECT projections.repair(%L);', projections._name(stale));
    END LOOP;
    -- An inline reducer's events are folded by their writers.
    IF p.mode = 'inline' AND p.kind <> 'query' THEN
        EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', projections._name(p.sources[1]));
    END IF;
    restored := projections._restore_triggers(p);
    key_index := CASE WHEN p.shape IN ('bag', 'total') OR p.kind = 'handler' THEN 0 ELSE projections._key_index(p) END;
    IF key_index IS NULL THEN
        EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', projections._name(p.relation));
    END IF;
    -- One at a time, and not while somebody pauses or resumes it.
    PERFORM projections._lock_slots(projection);
    SELECT * INTO STRICT p FROM projections.projection x WHERE x.relation = projection::regclass FOR UPDATE;
    IF projections._restore_hidden(p) THEN
        PERFORM projections._reset(projection, caller);
    END IF;
    IF key_index IS NULL THEN
        RAISE NOTICE 'the index over the key of % was missing', projections._name(p.relation);
        written := projections._remove_duplicates(projection);
        EXECUTE format('CREATE UNIQUE INDEX ON %s (%s)%s', projections._name(p.relation),
                       (SELECT string_agg(quote_ident(k), ', ' ORDER BY n)
                        FROM unnest(CASE p.kind WHEN 'query' THEN projections._key_columns(p.relation) ELSE '{key}' END) WITH ORDINALITY u(k, n)),
                       CASE p.kind WHEN 'query' THEN ' NULLS NOT DISTINCT' ELSE '' END);
    END IF;
    IF p.kind = 'handler' AND restored > 0 THEN
        BEGIN
            written := projections._repair_rows(projection);
        EXCEPTION
            -- Better triggers without the rows than neither.
            WHEN feature_not_supported OR object_not_in_prerequisite_state OR SQLSTATE 'PJ006' THEN
                GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
                RAISE WARNING 'the rows of handler % are not repaired: %', projections._name(p.relation), SQLERRM USING DETAIL = detail, HINT = hint;
                RETURN 0;
        END;
    ELSE
        written := written + projections._repair_rows(projection);
    END IF;
    UPDATE projections.projection x SET stale_since = NULL, stale_reason = NULL WHERE x.relation = p.relation AND x.stale_since IS NOT NULL;
    RETURN written;
END
$$;
COMMENT ON FUNCTION projections._repair(oid, text) IS 'Internal: projections.repair().';

REVOKE EXECUTE ON FUNCTION projections._make_logs(oid), projections._remove_duplicates(oid), projections._repair_rows(oid), projections._broken_triggers(projections.projection),
    projections._restore_triggers(projections.projection), projections._key_index(projections.projection), projections._restore_hidden(projections.projection),
    projections._repair(oid, text) FROM PUBLIC;

-- ----------------------------------------------------------------------------------------------------------------- keys

CREATE FUNCTION projections.stale_keys(name text, min_lag bigint DEFAULT 1)
    RETURNS TABLE(key jsonb, lag bigint, oldest_position bigint, oldest_at timestamptz)
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_stale_keys';
COMMENT ON FUNCTION projections.stale_keys(text, bigint) IS
'The keys of an async (or paused) projection that wait for something, the oldest first. key: as refresh_rows() and read() take it; of a handler its partition, as {"key": …}. lag: how many events are not applied
yet, those that failed or are parked included where events are applied one by one; over a change log, how many row images (an UPDATE has two). oldest_position: of the first of
them: event or number in the log. oldest_at: its time, NULL where the source has none. min_lag: leave out keys with less. Nothing waits for an inline projection. Reads all that is not applied: with a large
backlog, rather ask health(). Needs to own the projection, or pg_read_all_data. Errors: 42P01; 42809 not a projection; 42501; 0A000 it has no key.
Example: SELECT * FROM projections.stale_keys(''stock'', 10);';

CREATE FUNCTION projections.refresh_source(source text, keys jsonb) RETURNS bigint
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_refresh_source';
COMMENT ON FUNCTION projections.refresh_source(text, jsonb) IS
'Computes again, in every projection over a table, what some of its rows touch. keys: one object {column: value}, or an array of them, all with the same columns of the source (its primary
key, or any others); the rows that have these values now count. What deleted rows have left is found by repair(), or by refresh_rows() with the projection''s key. A projection whose rows have no key is compared as a whole; handlers are left out, with a NOTICE. Returns the number of rows written,
and of reducers'' keys. Locks as refresh_rows() and replay() do. Errors: 42P01; 42501 not the owner of all projections over it; 42809 no projection reads it; 22023 keys; PJ006 events are archived away.
Example: SELECT projections.refresh_source(''orders'', ''[{"id": 4711}, {"id": 4712}]'');';

-- ---------------------------------------------------------------------------------------------------------------- scrub

CREATE FUNCTION projections._scrub() RETURNS bigint
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_scrub';
COMMENT ON FUNCTION projections._scrub() IS
'Internal: verifies the next projection and marks it stale where it differs; returns the rows read, below 0 where there is nothing to verify, or another worker does it.';
REVOKE EXECUTE ON FUNCTION projections._scrub() FROM PUBLIC;
