-- Nobody keeps the documents of these tables: writes cost what they cost without. REFRESH makes all of them anew, and a
-- table of copies shows the least that a document kept at hand can cost: the write, and one UPDATE of the document.

SELECT format('CREATE MATERIALIZED VIEW %I AS %s', name, query) FROM documents.queries \gexec
CREATE TABLE copied (id int PRIMARY KEY, data jsonb NOT NULL);
INSERT INTO copied SELECT id, data FROM tv_post;
ANALYZE copied;

CREATE OR REPLACE FUNCTION add_comment_and_show(turn int, others int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM add_comment(turn, others);
    UPDATE copied SET data = jsonb_insert(data, '{comments,-1}',
        jsonb_build_object('by', 'user ' || 4 + turn % others, 'body', 'comment of turn ' || turn), true)
    WHERE id = some_post(turn, others);
END $$;

CREATE PROCEDURE documents.measure_refresh(times int) LANGUAGE plpgsql AS $$
DECLARE
    name text;
    began timestamptz;
BEGIN
    FOR turn IN 1 .. times LOOP
        FOR name IN SELECT q.name FROM documents.queries AS q LOOP
            began := clock_timestamp();
            EXECUTE format('REFRESH MATERIALIZED VIEW documents_plain.%I', name);
            COMMIT;
            INSERT INTO documents.latencies VALUES (0, name, 0, 'refresh', extract(epoch FROM clock_timestamp() - began));
            COMMIT;
        END LOOP;
    END LOOP;
END $$;
