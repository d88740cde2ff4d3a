-- Sources of several tables: a table's rows are, too, those of its members: the leaves below a partitioned one, the
-- children of any depth of an ordinary one. (src/README.md)

CREATE FUNCTION projections_internal._members(source oid) RETURNS SETOF oid
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH RECURSIVE below AS (
        SELECT i.inhrelid AS oid FROM pg_inherits i WHERE i.inhparent = source AND NOT i.inhdetachpending
        UNION
        SELECT i.inhrelid FROM below b JOIN pg_inherits i ON i.inhparent = b.oid AND NOT i.inhdetachpending
    )
    SELECT c.oid FROM below b JOIN pg_class c ON c.oid = b.oid WHERE c.relkind <> 'p'
        -- the archive of our own store is a child of it, and is read by position
        AND source <> coalesce(to_regclass('projections.events')::oid, 0)
$$;
COMMENT ON FUNCTION projections_internal._members(oid) IS
    'Internal: the tables below another that hold rows of it.';

CREATE FUNCTION projections_internal._tables_above(relation oid) RETURNS oid[]
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH RECURSIVE above AS (
        SELECT relation AS oid UNION
        SELECT i.inhparent FROM above a JOIN pg_inherits i ON i.inhrelid = a.oid AND NOT i.inhdetachpending
    )
    SELECT array_agg(a.oid) FROM above a
$$;
COMMENT ON FUNCTION projections_internal._tables_above(oid) IS
    'Internal: a table, and those whose rows its rows are, too.';

-- As declare/own_triggers.cpp makes them. whole: for query projections, which follow TRUNCATE of a member, too. The
-- server copies row triggers to partitions, not to children.
CREATE FUNCTION projections_internal._capture_triggers(source oid, whole boolean)
    RETURNS TABLE(relation oid, name name)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT source, n.name FROM projections_internal._own_triggers() n
    WHERE n.function = 'capture' AND (n.name <> 'projections_capture_truncating'
        OR whole AND (EXISTS (SELECT FROM pg_class c WHERE c.oid = source AND c.relkind = 'p')
            OR EXISTS (SELECT FROM projections_internal._members(source))))
    UNION ALL
    SELECT c.oid, n.name FROM projections_internal._members(source) m JOIN pg_class c ON c.oid = m,
        projections_internal._own_triggers() n
    WHERE whole AND n.function = 'capture' AND c.relkind = 'r'
$$;
COMMENT ON FUNCTION projections_internal._capture_triggers(oid, boolean) IS
    'Internal: the triggers that capture the changes of a source, on itself and on its members.';

-- Of all projections.
CREATE FUNCTION projections_internal._used_capture_triggers()
    RETURNS TABLE(source oid, relation oid, name name, filled boolean)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT s.source, t.relation, t.name, s.filled
    FROM (SELECT x.source, bool_or(p.kind = 'query') AS whole, bool_or(NOT p.building) AS filled
          FROM projections_internal.projection p, unnest(p.sources::oid[]) AS x(source)
          WHERE projections_internal._captures(p) GROUP BY x.source) s,
        LATERAL projections_internal._capture_triggers(s.source, s.whole) t
$$;
COMMENT ON FUNCTION projections_internal._used_capture_triggers() IS
    'Internal: the capture triggers that projections need.';

CREATE FUNCTION projections_internal._capture_members(readers oid[], source oid, member oid, weight integer)
    RETURNS void LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'projections_capture_members';
COMMENT ON FUNCTION projections_internal._capture_members(oid[], oid, oid, integer) IS
    'Internal: captures all rows of a table as such that came to a source (1) or went from it (-1).';

CREATE FUNCTION projections_internal._members_followed() RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_members_followed';
COMMENT ON FUNCTION projections_internal._members_followed() IS
    'Internal: what a DDL made of sources has been captured.';

CREATE FUNCTION projections_internal._make_member_triggers(member oid) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    wanted record;
BEGIN
    FOR wanted IN
        SELECT n.name, n.made FROM projections_internal._own_triggers() n
        WHERE n.function = 'capture' AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = member
            AND t.tgname = n.name) ORDER BY 1
    LOOP
        EXECUTE format('CREATE TRIGGER %I ', wanted.name) || format(wanted.made, projections_internal._name(member));
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', projections_internal._name(member), wanted.name);
    END LOOP;
END
$$;
COMMENT ON FUNCTION projections_internal._make_member_triggers(oid) IS
    'Internal: makes the triggers that a member of a source lacks.';

-- What DDL has made of the members: rows of a table that came are added, and those of one that is still there, but not
-- a member any more, are taken away. What is gone stays recorded, and so is a difference that makes projections stale.
-- Recorded first: making triggers is DDL, too, and comes here again.
CREATE FUNCTION projections_internal._follow_members(wanted oid[]) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    changed record;
    known oid[];
BEGIN
    SELECT array_agg(p.relation) INTO known
    FROM projections_internal.projection p JOIN projections_internal.reliance_record r ON r.projection = p.relation
    WHERE p.relation = ANY (wanted) AND p.kind = 'query' AND projections_internal._captures(p) AND NOT p.building
        AND r.cluster = (SELECT s.system_identifier FROM pg_control_system() s);
    IF known IS NULL THEN
        RETURN;
    END IF;
    FOR changed IN
        WITH now AS (
            SELECT p.relation::oid AS projection, m.source, m.member
            FROM (SELECT d.source, x AS member
                  FROM (SELECT DISTINCT s AS source FROM projections_internal.projection q, unnest(q.sources::oid[]) s
                        WHERE q.relation = ANY (known)) d, LATERAL projections_internal._members(d.source) x) m
            JOIN projections_internal.projection p ON m.source = ANY (p.sources::oid[]) AND p.relation = ANY (known)
        ), was AS (
            SELECT r.projection::oid AS projection, r.part::oid AS source, r.object AS member
            FROM projections_internal.reliance r WHERE r.projection = ANY (known) AND r.aspect = 'member'
        ), came AS (
            INSERT INTO projections_internal.reliance (projection, aspect, object, part, value)
            SELECT n.projection, 'member', n.member, n.source::text, 'there' FROM now n
            WHERE NOT EXISTS (SELECT FROM was w WHERE (w.projection, w.source, w.member) =
                (n.projection, n.source, n.member))
            RETURNING reliance.projection::oid AS projection, part::oid AS source, object AS member
        ), went AS (
            DELETE FROM projections_internal.reliance r
            WHERE r.projection = ANY (known) AND r.aspect = 'member'
                AND EXISTS (SELECT FROM pg_class c WHERE c.oid = r.object)
                AND NOT EXISTS (SELECT FROM now n WHERE (n.projection, n.source::text, n.member) =
                    (r.projection, r.part, r.object))
            RETURNING r.projection::oid AS projection, r.part::oid AS source, r.object AS member
        )
        SELECT c.source, c.member, c.weight,
            array_agg(c.projection ORDER BY c.projection) FILTER (WHERE p.stale_since IS NULL) AS readers
        FROM (SELECT *, 1 AS weight FROM came UNION ALL SELECT *, -1 FROM went) c
        JOIN projections_internal.projection p ON p.relation = c.projection
        GROUP BY 1, 2, 3 ORDER BY 1, 2
    LOOP
        -- What is missing between the first trigger and the last is not to be refused.
        UPDATE projections_internal.reliance_record r SET cluster = - r.cluster WHERE r.projection = ANY (known);
        IF changed.weight > 0 THEN
            PERFORM projections_internal._make_member_triggers(t.oid) FROM pg_class t
            WHERE t.oid IN (changed.source, changed.member) AND t.relkind = 'r';
        ELSE
            -- That of the source may stay: its writers wait for the member now. (Test: isolation/inherited)
            PERFORM projections_internal._drop_idle_triggers(ARRAY[changed.member::regclass]);
        END IF;
        UPDATE projections_internal.reliance_record r SET cluster = - r.cluster WHERE r.projection = ANY (known);
        -- A projection that is stale is repaired from what there is.
        CONTINUE WHEN changed.readers IS NULL
            OR (SELECT c.relkind FROM pg_class c WHERE c.oid = changed.member) <> 'r';
        PERFORM projections_internal._capture_members(changed.readers, changed.source, changed.member,
            changed.weight);
    END LOOP;
END
$$;
COMMENT ON FUNCTION projections_internal._follow_members(oid[]) IS
    'Internal: follows partitions and children that came and went.';

-- Before partitions and children are dropped: their rows have been captured.
CREATE FUNCTION projections_internal._forget_members(members oid[]) RETURNS void
    LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    DELETE FROM projections_internal.reliance r WHERE r.aspect IN ('member', 'capture trigger', 'capture firing',
        'logged source') AND r.object = ANY (members);
END;
COMMENT ON FUNCTION projections_internal._forget_members(oid[]) IS
    'Internal: what is recorded about partitions and children that are about to be dropped.';

-- Events that go with their partition are history, as those that archive_events() deletes: what would need them is
-- refused, and takes no totals away.
CREATE FUNCTION projections_internal._note_archived(partition oid) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s projections_internal.source;
    gone bigint;
BEGIN
    FOR s IN SELECT x.* FROM projections_internal.source x
        WHERE x.relation = ANY (projections_internal._tables_above(partition)) AND x.relation::oid <> partition LOOP
        SELECT r.gone INTO gone FROM projections_internal._rows_as_owner(partition::regclass,
            CASE WHEN s.arrivals IS NULL THEN format('SELECT max(e.%I)::bigint FROM %s AS e', s.position_column,
                projections_internal._name(partition))
            ELSE format('SELECT max(a.arrival)::bigint FROM %s AS e JOIN %s AS a ON a.position = e.%I',
                projections_internal._name(partition), projections_internal._name(s.arrivals),
                s.position_column) END) AS r(gone bigint);
        UPDATE projections_internal.source x SET archived_to = gone WHERE x.relation = s.relation
            AND x.archived_to < gone;
    END LOOP;
END
$$;
COMMENT ON FUNCTION projections_internal._note_archived(oid) IS
    'Internal: notes that the events of a partition are about to go.';

-- While it is detached concurrently, a partition is seen by some and not by others, who both write.
CREATE FUNCTION projections_internal._note_detaching(parent oid, partition oid) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    stale record;
BEGIN
    FOR stale IN
        WITH marked AS (
            UPDATE projections_internal.projection p SET stale_since = now(),
                stale_reason = format('%s was detached concurrently', projections_internal._name(partition))
            WHERE p.kind = 'query' AND projections_internal._captures(p) AND p.stale_since IS NULL
                AND p.sources::oid[] && projections_internal._tables_above(parent)
            RETURNING projections_internal._name(coalesce(p.part_of, p.shadow_of, p.relation)) AS name
        )
        SELECT m.name FROM marked m ORDER BY 1
    LOOP
        RAISE WARNING USING
            MESSAGE = format('projection %s does not follow a partition that is detached concurrently', stale.name),
            DETAIL = format('Transactions that see %s in the table, and such as do not, go on side by side.',
                projections_internal._name(partition)),
            HINT = format('SELECT projections.repair(%L); when it is detached. DETACH PARTITION without CONCURRENTLY '
                'is followed.', stale.name);
    END LOOP;
END
$$;
COMMENT ON FUNCTION projections_internal._note_detaching(oid, oid) IS
    'Internal: marks the projections stale over a table whose partition is detached concurrently.';

CREATE FUNCTION projections_internal._refuse_detaching(sources oid[]) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    pending record;
BEGIN
    WITH RECURSIVE below AS (
        SELECT s AS oid, NULL::oid AS parent, false AS pending FROM unnest(sources) s
        UNION
        SELECT i.inhrelid, i.inhparent, i.inhdetachpending FROM below b JOIN pg_inherits i ON i.inhparent = b.oid
    )
    SELECT b.oid, b.parent INTO pending FROM below b WHERE b.pending LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'object_in_use',
            MESSAGE = format('partition %s is being detached from %s', projections_internal._name(pending.oid),
                projections_internal._name(pending.parent)),
            DETAIL = 'Transactions that still see it may write it.',
            HINT = format('Wait for it or, where it was given up: ALTER TABLE %s DETACH PARTITION %s FINALIZE;',
                projections_internal._name(pending.parent), projections_internal._name(pending.oid));
    END IF;
END
$$;
COMMENT ON FUNCTION projections_internal._refuse_detaching(oid[]) IS
    'Internal: refuses to read sources of which a partition is being detached concurrently.';

REVOKE EXECUTE ON FUNCTION projections_internal._members(oid), projections_internal._tables_above(oid),
    projections_internal._capture_triggers(oid, boolean), projections_internal._used_capture_triggers(),
    projections_internal._capture_members(oid[], oid, oid, integer), projections_internal._members_followed(),
    projections_internal._make_member_triggers(oid), projections_internal._follow_members(oid[]),
    projections_internal._forget_members(oid[]), projections_internal._note_detaching(oid, oid),
    projections_internal._note_archived(oid), projections_internal._refuse_detaching(oid[]) FROM PUBLIC;
