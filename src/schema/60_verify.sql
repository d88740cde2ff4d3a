-- Whether projections are right, and making them so.

CREATE FUNCTION projections.verify(name text, sample double precision DEFAULT 1)
    RETURNS TABLE(problem text, key jsonb, expected jsonb, found jsonb)
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_verify';
COMMENT ON FUNCTION projections.verify(text, double precision) IS
'Compares a projection with its definition, as far as it has been brought up to date: one over events up to its
checkpoint, without events that failed, are parked or were skipped; one over a change log without what is still in the
log; a reducer or state machine by folding its events again in memory; a handler by calling it again for its events,
with tables like its own that nobody else sees and that are gone in the end. Returns a row for each difference, none
where there is none. problem: missing, extra, different, or duplicate (several rows of one key). key: the row''s, NULL
where rows have none. expected, found: the rows, with the columns that maintenance appended. Aggregates over floats are
equal within 1e-9 of their value (real: 1e-5). A handler with several tables has the table''s name in key ("table").
Columns that it leaves to a default like nextval() or now() are not compared, and a NOTICE names them; if the primary
key is among them, rows have no key. What the handler does beyond its tables is refused where it writes, and done again
where it does not; verifying a handler takes about as long as rebuilding it, and is no part of what idle workers do
(scrub_rate). Reads everything under one snapshot, the latest one also in REPEATABLE READ, and holds nobody up. sample:
the share of the keys that is compared, chosen anew by each call; above 0 and at most 1. Needs to own the projection,
or pg_read_all_data. Errors: 42P01; 42809 not a projection; 42501; 22023 sample; 0A000 a handler that reaches past its
tables, or tables of which no twin can be made; 25006 a handler in a read-only transaction; 55000 it is being filled,
it has lost a checkpoint, or an event fails that a handler had applied; 55006 called by a statement that writes its
sources; PJ006 events are archived away.
Example: SELECT * FROM projections.verify(''revenue'', sample => 0.1);';

-- ---------------------------------------------------------------------------------------------------------------
-- repair

CREATE FUNCTION projections.repair(name text) RETURNS bigint
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_operate';
COMMENT ON FUNCTION projections.repair(text) IS
'Makes a projection right and able to stay so: restores triggers that are missing, disabled or replica-only, on its
sources and on itself, its key''s index, and change logs and checkpoints that are gone; then recomputes exactly the
keys that verify() reports, and ends status stale. Returns how many rows it wrote. What was changed while a trigger was
missing is found too: while one is restored, writers of the source wait until this transaction ends; else they go on.
Changes that wait in a change log are applied on the way. A projection that has lost a checkpoint starts again from the
first event. A handler is called again for its events, as verify() does it, and its tables are made equal to the
result; other writers of these tables wait meanwhile. Where that is not possible, triggers are restored all the same,
with a WARNING. Projections that read this one follow its changes. A source that is a stale projection itself is not
repaired, and a NOTICE says so: begin with it.
Errors: 42P01; 42809 not a projection; 42501 not the owner; 40001 above READ COMMITTED, where another transaction
changes the same rows; PJ006 events are archived away; 0A000 and 55000 as verify() of a handler; 55000 a handler
without its checkpoint.
Example: SELECT projections.repair(''revenue'');';

CREATE FUNCTION projections_internal._make_logs(projection oid) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'projections_make_logs';
COMMENT ON FUNCTION projections_internal._make_logs(oid) IS
    'Internal: makes empty change logs for a query projection whose '
    'writers are held off, and drops those that are left.';
CREATE FUNCTION projections_internal._remove_duplicates(projection oid) RETURNS bigint
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'projections_remove_duplicates';
COMMENT ON FUNCTION projections_internal._remove_duplicates(oid) IS 'Internal: leaves one row of each key, whichever.';
CREATE FUNCTION projections_internal._repair_rows(projection oid) RETURNS bigint
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'projections_repair_rows';
COMMENT ON FUNCTION projections_internal._repair_rows(oid) IS
    'Internal: recomputes the keys that differ from the definition; returns the rows written.';

-- Triggers that a projection needs, on itself and its sources, partitions included, and does not have as it needs them.
CREATE FUNCTION projections_internal._broken_triggers(p projections_internal.projection)
    RETURNS TABLE(relation oid, source boolean, trigger name, state text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH needed AS (
        SELECT t.relation, true AS source, t.name AS trigger
        FROM unnest(p.sources::oid[]) s, LATERAL projections_internal._capture_triggers(s, p.kind = 'query') t
        WHERE projections_internal._captures(p)
        UNION ALL
        SELECT w.relation, w.source, n.name
        FROM (SELECT p.relation::oid AS relation, false AS source, 'guard' AS function WHERE p.kind <> 'handler'
              UNION ALL
              SELECT s.relation, true, '_note_arrival' FROM projections_internal.source s
              WHERE s.relation = ANY (p.sources) AND s.capture = 'trigger') w
        JOIN projections_internal._own_triggers() n ON n.function = w.function
    )
    SELECT n.relation, n.source, n.trigger,
           CASE WHEN t.oid IS NULL THEN 'missing' WHEN other.it THEN 'another of that name'
                WHEN t.tgenabled = 'D' THEN 'disabled' ELSE 'not ALWAYS' END
    FROM needed n JOIN pg_class c ON c.oid = n.relation
    LEFT JOIN pg_trigger t ON t.tgrelid = n.relation AND t.tgname = n.trigger
    CROSS JOIN LATERAL (SELECT t.oid IS NOT NULL AND NOT projections_internal._is_own(t) AS it) other
    WHERE t.oid IS NULL OR t.tgenabled <> 'A' OR other.it
       OR EXISTS (SELECT FROM pg_partition_tree(n.relation) l JOIN pg_trigger k ON k.tgrelid = l.relid
           AND k.tgname = n.trigger WHERE k.tgenabled <> 'A')
    ORDER BY n.source DESC, n.relation, n.trigger
$$;
COMMENT ON FUNCTION projections_internal._broken_triggers(projections_internal.projection) IS
'Internal: the triggers of a projection that are missing, disabled, or not ENABLE ALWAYS. state says which.';

-- Under another name than ours it captures beside the one that is.
CREATE FUNCTION projections_internal._second_captures(p projections_internal.projection)
    RETURNS TABLE(relation oid, trigger name)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT t.tgrelid, t.tgname FROM pg_trigger t
    WHERE t.tgrelid = ANY (p.sources::oid[]) AND t.tgfoid = 'projections_internal.capture()'::regprocedure
        AND t.tgparentid = 0 AND t.tgname NOT IN (SELECT n.name FROM projections_internal._own_triggers() n)
    ORDER BY 1, 2
$$;
COMMENT ON FUNCTION projections_internal._second_captures(projections_internal.projection) IS
'Internal: triggers that capture a projection''s sources under another name than ours.';

CREATE FUNCTION projections_internal._restore_triggers(p projections_internal.projection) RETURNS integer
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    broken record;
    arrivals projections_internal.source;
    restored integer := 0;
    repaired oid[];
BEGIN
    -- Who drops the projection locks its sources first, so from here on it stays; or it is gone, and nobody would
    -- remove what is made now. (Test: sql/rights_declare)
    PERFORM projections_internal._refuse_detaching(p.sources::oid[]);
    FOR broken IN SELECT c.oid AS relation FROM pg_class c WHERE c.oid = ANY (p.sources::oid[]) ORDER BY 1 LOOP
        EXECUTE format('LOCK TABLE ONLY %s IN ACCESS SHARE MODE', projections_internal._name(broken.relation));
    END LOOP;
    IF NOT EXISTS (SELECT FROM projections_internal.projection x WHERE x.relation::oid = p.relation::oid)
        OR pg_table_is_visible(p.relation) IS NULL THEN
        RETURN 0;
    END IF;
    -- What is changed before the trigger is back must be seen by who compares: writers wait until that is done. In the
    -- order of all writers.
    FOR broken IN SELECT DISTINCT b.relation FROM projections_internal._broken_triggers(p) b WHERE b.source ORDER BY 1
        LOOP
        EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', projections_internal._name(broken.relation));
    END LOOP;
    -- What follows is about all that reads the same tables: once for each of them, that would be quadratic.
    IF NOT EXISTS (SELECT FROM projections_internal._broken_triggers(p))
        AND NOT EXISTS (SELECT FROM projections_internal._second_captures(p)) THEN
        RETURN 0;
    END IF;
    -- What is missing for the moment is not to be refused.
    repaired := ARRAY(SELECT r.projection FROM projections_internal.reliance_record r
                      WHERE r.projection = ANY (projections_internal._concerned(p.sources::oid[] || p.relation::oid))
                          AND r.cluster > 0);
    UPDATE projections_internal.reliance_record r SET cluster = - r.cluster WHERE r.projection = ANY (repaired);
    FOR broken IN SELECT * FROM projections_internal._second_captures(p) LOOP
        EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', projections_internal._name(broken.relation));
        EXECUTE format('DROP TRIGGER %I ON %s', broken.trigger, projections_internal._name(broken.relation));
        restored := restored + 1;
        RAISE NOTICE 'trigger % on % captured a second time', broken.trigger,
            projections_internal._name(broken.relation);
    END LOOP;
    FOR broken IN SELECT * FROM projections_internal._broken_triggers(p) LOOP
        IF broken.state = 'another of that name' THEN
            EXECUTE format('DROP TRIGGER %I ON %s', broken.trigger, projections_internal._name(broken.relation));
            broken.state := 'missing';
        END IF;
        IF broken.state = 'missing' THEN
            EXECUTE (SELECT format('CREATE TRIGGER %I ', n.name)
                         || format(n.made, projections_internal._name(broken.relation), a.relname, s.position_column)
                     FROM projections_internal._own_triggers() n
                     LEFT JOIN projections_internal.source s ON s.relation = broken.relation
                     LEFT JOIN pg_class a ON a.oid = s.arrivals WHERE n.name = broken.trigger);
        END IF;
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', projections_internal._name(broken.relation),
            broken.trigger);
        IF broken.trigger = 'projections_arrival' THEN
            SELECT * INTO arrivals FROM projections_internal.source s WHERE s.relation = broken.relation;
            -- The table's indexes may call its owner's functions when it is read.
            EXECUTE format('INSERT INTO %1$s (position) SELECT r.position FROM projections_internal._rows_as_owner($1, '
                '$2) AS '
                'r("position" bigint) '
                           'WHERE NOT EXISTS (SELECT FROM %1$s a WHERE a.position = r.position) ORDER BY 1',
                               projections_internal._name(arrivals.arrivals))
                USING broken.relation::regclass, format('SELECT %1$I::bigint FROM %2$s WHERE %1$I IS NOT NULL ORDER BY '
                    '1', arrivals.position_column, projections_internal._name(broken.relation));
        ELSIF broken.source THEN
            UPDATE projections_internal.projection o SET stale_since = now(),
                stale_reason = format('capture was lost on %s',
                broken.relation::regclass)
            WHERE o.sources::oid[] && projections_internal._tables_above(broken.relation)
                AND projections_internal._captures(o)
                AND o.relation <> p.relation
                AND o.stale_since IS NULL;
        END IF;
        restored := restored + 1;
        RAISE NOTICE 'trigger % on % was %', broken.trigger, projections_internal._name(broken.relation), broken.state;
    END LOOP;
    UPDATE projections_internal.reliance_record r SET cluster = - r.cluster WHERE r.projection = ANY (repaired);
    RETURN restored;
END
$$;
COMMENT ON FUNCTION projections_internal._restore_triggers(projections_internal.projection) IS
'Internal: makes triggers ENABLE ALWAYS again; holds writers of those sources off to the end of the transaction, and '
    'marks other projections over them stale.';

CREATE FUNCTION projections_internal._key_index(p projections_internal.projection) RETURNS oid
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT i.indexrelid FROM pg_index i
    WHERE i.indrelid = p.relation AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL
        AND i.indexprs IS NULL
      AND (i.indnullsnotdistinct OR i.indisprimary OR p.kind <> 'query')
      AND (SELECT array_agg(a.attname::text ORDER BY a.attname) FROM pg_attribute a WHERE a.attrelid = p.relation
          AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]))
        = (SELECT array_agg(k ORDER BY k COLLATE "C")
            FROM unnest(CASE p.kind WHEN 'query' THEN projections_internal._key_columns(p.relation) ELSE '{key}' END) k)
    -- a primary key beside an index of ours is a user's
    ORDER BY i.indisprimary AND p.kind = 'query', i.indexrelid LIMIT 1
$$;
COMMENT ON FUNCTION projections_internal._key_index(projections_internal.projection) IS
    'Internal: the unique index over a projection''s key, by which maintenance finds rows; NULL: there is none.';

-- How many logs and slots are gone.
CREATE FUNCTION projections_internal._restore_hidden(p projections_internal.projection) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    source oid;
    slots integer := coalesce((p.options ->> 'slots')::integer, 1);
BEGIN
    IF EXISTS (SELECT FROM unnest(p.changes::oid[]) l WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = l)) THEN
        FOR source IN SELECT s FROM unnest(p.sources::oid[]) s ORDER BY 1 LOOP
            EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', projections_internal._name(source));
        END LOOP;
        PERFORM projections_internal._make_logs(p.relation);
        RAISE NOTICE 'a change log of % was missing', projections_internal._name(p.relation);
    END IF;
    IF p.mode <> 'async' OR (SELECT r.slots = r.declared FROM projections_internal._reached r
        WHERE r.projection = p.relation) THEN
        RETURN false;
    ELSIF p.kind = 'handler' THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('handler %s has lost a '
            'checkpoint', projections_internal._name(p.relation)),
            DETAIL = 'Nothing says which events it has applied.',
            HINT = format('INSERT INTO projections_internal.slot (projection, slot, position) VALUES (%L, …) with what '
                'you know '
                'of it; or add them at 0 and call projections.reset(%L).',
                          projections_internal._name(p.relation), projections_internal._name(p.relation));
    END IF;
    RAISE NOTICE 'a checkpoint of % was missing', projections_internal._name(p.relation);
    IF p.changes = '{}' THEN
        PERFORM projections_internal._refuse_archived(p.relation, 0);
    END IF;
    PERFORM projections_internal._lock_slots(p.relation);
    DELETE FROM projections_internal.slot s WHERE s.projection = p.relation;
    INSERT INTO projections_internal.slot (projection, slot) SELECT p.relation, n FROM generate_series(0, slots - 1) n;
    RETURN p.changes = '{}';
END
$$;
COMMENT ON FUNCTION projections_internal._restore_hidden(projections_internal.projection) IS
'Internal: makes change logs and slots that are gone; true where the projection has to start from its first event.';

CREATE FUNCTION projections_internal._repair(projection oid, caller text) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    p projections_internal.projection;
    stale regclass;
    restored integer;
    written bigint := 0;
    key_index oid;
    detail text;
    hint text;
BEGIN
    SELECT * INTO STRICT p FROM projections_internal.projection x WHERE x.relation = projection::regclass;
    FOR stale IN SELECT q FROM projections_internal._parts(projection, false) q LOOP
        written := written + projections_internal._repair(stale, caller);
    END LOOP;
    FOR stale IN SELECT x.relation FROM projections_internal.projection x WHERE x.relation = ANY (p.sources)
        AND x.stale_since IS NOT NULL ORDER BY 1 LOOP
        RAISE NOTICE 'projection %, which % reads, is stale itself', projections_internal._name(stale),
            projections_internal._name(p.relation)
            USING HINT = format('SELECT projections.repair(%L);', projections_internal._name(stale));
    END LOOP;
    -- An inline reducer's events are folded by their writers.
    IF p.mode = 'inline' AND p.kind <> 'query' THEN
        EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', projections_internal._name(p.sources[1]));
    END IF;
    restored := projections_internal._restore_triggers(p);
    key_index := CASE WHEN p.shape IN ('bag', 'total') OR p.kind = 'handler' THEN 0
        ELSE projections_internal._key_index(p) END;
    IF key_index IS NULL THEN
        EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', projections_internal._name(p.relation));
    END IF;
    -- One at a time, and not while somebody pauses or resumes it.
    PERFORM projections_internal._lock_slots(projection);
    SELECT * INTO STRICT p FROM projections_internal.projection x WHERE x.relation = projection::regclass FOR UPDATE;
    IF projections_internal._restore_hidden(p) THEN
        PERFORM projections_internal._reset(projection, caller);
    END IF;
    IF key_index IS NULL THEN
        RAISE NOTICE 'the index over the key of % was missing', projections_internal._name(p.relation);
        written := written + projections_internal._remove_duplicates(projection);
        EXECUTE CASE p.kind WHEN 'query' THEN projections_internal._identity_index(p.relation)
            ELSE format('CREATE UNIQUE INDEX ON %s (key)', projections_internal._name(p.relation)) END;
    END IF;
    IF p.kind = 'handler' AND restored > 0 THEN
        BEGIN
            written := projections_internal._repair_rows(projection);
        EXCEPTION
            -- Better triggers without the rows than neither.
            WHEN feature_not_supported OR object_not_in_prerequisite_state OR SQLSTATE 'PJ006' THEN
                GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
                RAISE WARNING 'the rows of handler % are not repaired: %', projections_internal._name(p.relation),
                    SQLERRM
                    USING DETAIL = detail, HINT = hint;
                RETURN 0;
        END;
    ELSE
        written := written + projections_internal._repair_rows(projection);
    END IF;
    PERFORM projections_internal._record_relied(ARRAY[projection]);
    SELECT string_agg(format(c.problem, projections_internal._name(p.relation), d.name, d.place, d.value), '; ')
        INTO detail
    FROM projections_internal._differences(ARRAY[projection]) d JOIN projections_internal._conditions() c USING (aspect)
        WHERE NOT c.repairable;
    IF detail IS NOT NULL THEN
        RAISE WARNING 'projection % cannot be repaired as it is', projections_internal._name(p.relation)
            USING DETAIL = detail, HINT = 'SELECT * FROM projections.validate(); says what mends it.';
        RETURN written;
    END IF;
    UPDATE projections_internal.projection x SET stale_since = NULL, stale_reason = NULL WHERE x.relation = p.relation
        AND x.stale_since IS NOT NULL;
    RETURN written;
END
$$;
COMMENT ON FUNCTION projections_internal._repair(oid, text) IS 'Internal: projections.repair().';

REVOKE EXECUTE ON FUNCTION projections_internal._make_logs(oid), projections_internal._remove_duplicates(oid),
    projections_internal._repair_rows(oid), projections_internal._broken_triggers(projections_internal.projection),
    projections_internal._second_captures(projections_internal.projection),
    projections_internal._restore_triggers(projections_internal.projection),
        projections_internal._key_index(projections_internal.projection),
        projections_internal._restore_hidden(projections_internal.projection),
    projections_internal._repair(oid, text) FROM PUBLIC;

-- -----------------------------------------------------------------------------------------------------------------
-- keys

CREATE FUNCTION projections.stale_keys(name text, min_lag bigint DEFAULT 1)
    RETURNS TABLE(key jsonb, lag bigint, oldest_position bigint, oldest_at timestamptz)
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_stale_keys';
COMMENT ON FUNCTION projections.stale_keys(text, bigint) IS
'The keys of an async (or paused) projection that wait for something, the oldest first. key: as refresh_rows() and
read() take it; of a handler its partition, as {"key": …}. lag: how many events are not applied yet, those that failed
or are parked included where events are applied one by one; over a change log, how many row images (an UPDATE has two).
oldest_position: of the first of them: event or number in the log. oldest_at: its time, NULL where the source has none.
min_lag: leave out keys with less. Nothing waits for an inline projection. Reads all that is not applied: with a large
backlog, rather ask health(). Needs to own the projection, or pg_read_all_data. Errors: 42P01; 42809 not a projection;
42501; 0A000 it has no key; 55000 it has lost a checkpoint.
Example: SELECT * FROM projections.stale_keys(''stock'', 10);';

CREATE FUNCTION projections.refresh_source(source text, keys jsonb) RETURNS bigint
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_refresh_source';
COMMENT ON FUNCTION projections.refresh_source(text, jsonb) IS
'Computes again, in every projection over a table, what some of its rows touch. keys: one object {column: value}, or an
array of them, all with the same columns of the source (its primary key, or any others); the rows that have these
values now count. What deleted rows have left is found by repair(), or by refresh_rows() with the projection''s key. A
projection whose rows have no key is compared as a whole; handlers are left out, with a NOTICE. Returns the number of
rows written, and of reducers'' keys. Locks as refresh_rows() and replay() do. Errors: 42P01; 42501 not the owner of
all projections over it; 42809 no projection reads it; 22023 keys; PJ006 events are archived away.
Example: SELECT projections.refresh_source(''orders'', ''[{"id": 4711}, {"id": 4712}]'');';

-- ----------------------------------------------------------------------------------------------------------------
-- scrub

CREATE FUNCTION projections_internal._scrub() RETURNS bigint
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_scrub';
COMMENT ON FUNCTION projections_internal._scrub() IS
'Internal: verifies the next projection and marks it stale where it differs; returns the rows read, below 0 where '
    'there is nothing to verify, or another worker does it.';
REVOKE EXECUTE ON FUNCTION projections_internal._scrub() FROM PUBLIC;
