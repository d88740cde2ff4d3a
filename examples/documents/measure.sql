-- Times changes and counts what they read; compares the documents with their queries.

CREATE TABLE documents.latencies (
    step int, change text, documents int, lane text,
    seconds double precision,   -- of the change and its commit
    blocks bigint               -- 8 kB of tables and indexes that it touched, cached or not
);

-- The relations whose blocks count for a lane: its own, and what the extension keeps. With their TOAST tables and indexes.
CREATE FUNCTION documents.relations(lane text) RETURNS oid[] LANGUAGE sql AS $$
    WITH tables AS (
        SELECT c.oid, c.reltoastrelid FROM pg_class AS c
        WHERE c.relkind IN ('r', 'm') AND c.relnamespace IN (lane::regnamespace, to_regnamespace('projections_internal'))),
    heaps AS (
        SELECT oid FROM tables UNION SELECT reltoastrelid FROM tables WHERE reltoastrelid <> 0)
    SELECT array_agg(oid) FROM (SELECT oid FROM heaps UNION SELECT indexrelid FROM pg_index JOIN heaps ON oid = indrelid) AS all_of_them
$$;

-- What this session has touched of them since it last told the statistics, which is never within one CALL.
CREATE FUNCTION documents.touched(relations oid[]) RETURNS bigint LANGUAGE sql AS $$
    SELECT sum(pg_stat_get_xact_blocks_fetched(r)) FROM unnest(relations) AS r
$$;

-- Runs the change, a function call with the turn as $1, `times` times in each lane, each in a transaction of its own: one
-- lane after the other in every turn, and beginning with another one each time, so that what else the machine does hits
-- all alike. A few turns before the first are not counted; they prepare plans.
CREATE PROCEDURE documents.measure(step int, change text, documents int, times int, call text, lanes text[], as_lane text DEFAULT NULL)
LANGUAGE plpgsql AS $$
DECLARE
    lane text;
    relations jsonb;
    before bigint;
    began timestamptz;
    took double precision;
    ahead int := least(times, 6) * (documents < 1000)::int;
    first int := ahead + 1000 * (SELECT count(DISTINCT (l.step, l.lane)) FROM documents.latencies AS l);  -- no turn twice
BEGIN
    SELECT jsonb_object_agg(l, documents.relations(l)) INTO relations FROM unnest(lanes) AS l;
    FOR turn IN 1 - ahead .. times LOOP
        FOR place IN 1 .. cardinality(lanes) LOOP
            lane := lanes[1 + (turn + ahead + place) % cardinality(lanes)];
            PERFORM set_config('search_path', lane, false);
            before := documents.touched(ARRAY(SELECT jsonb_array_elements_text(relations -> lane)::oid));
            COMMIT;
            began := clock_timestamp();
            EXECUTE 'SELECT ' || call USING turn + first;
            COMMIT;
            took := extract(epoch FROM clock_timestamp() - began);
            IF turn > 0 THEN
                INSERT INTO documents.latencies VALUES (step, change, documents, coalesce(as_lane, lane), took,
                    documents.touched(ARRAY(SELECT jsonb_array_elements_text(relations -> lane)::oid)) - before);
            END IF;
            COMMIT;
        END LOOP;
    END LOOP;
END $$;

-- Both tables of both lanes against their queries: an error that says which differs. Returns how many documents there are.
CREATE FUNCTION documents.check() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    each record;
    rows bigint;
    missing bigint;
    extra bigint;
    compared bigint := 0;
BEGIN
    FOR each IN SELECT * FROM unnest(ARRAY['documents_trigger', 'documents_projection']) AS lane, documents.queries ORDER BY 1, 2 LOOP
        PERFORM set_config('search_path', each.lane, true);
        EXECUTE format('WITH expected AS MATERIALIZED (%s), found AS MATERIALIZED (SELECT id, data FROM %I)
                        SELECT (SELECT count(*) FROM found),
                               (SELECT count(*) FROM (TABLE expected EXCEPT ALL TABLE found) AS m),
                               (SELECT count(*) FROM (TABLE found EXCEPT ALL TABLE expected) AS e)', each.query, each.name)
            INTO rows, missing, extra;
        IF rows = 0 OR missing + extra > 0 THEN
            RAISE EXCEPTION '%.% differs from its query: % rows, % missing, % extra', each.lane, each.name, rows, missing, extra;
        END IF;
        compared := compared + rows;
    END LOOP;
    PERFORM FROM projections.definitions AS d WHERE d.projection IN ('documents_projection.tv_post', 'documents_projection.tv_product')
        AND d.strategy = 'slice' HAVING count(*) = 2;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the documents are not kept by slices: %',
            (SELECT string_agg(projection || ' ' || strategy, ', ') FROM projections.definitions);
    END IF;
    RETURN compared;
END $$;
