-- Rebuilds that swap files, against transactions with older snapshots. What waits without a lock cannot be seen by the isolation
-- tester, so the sessions are dblink's: one writes or reads, old keeps a snapshot, rebuild rebuilds.
\set VERBOSITY terse
\set SHOW_CONTEXT never
SET client_min_messages = error;
CREATE EXTENSION dblink;
CREATE TABLE rs_customers (id int PRIMARY KEY, country text);
CREATE TABLE rs_orders (id int PRIMARY KEY, customer int, price int);
CREATE TABLE rs_visits (customer int, page text);
CREATE TABLE rs_other (id int PRIMARY KEY, n int);
INSERT INTO rs_other VALUES (1, 0), (2, 0);

DO $$
DECLARE
    session text;
    shape text[];
BEGIN
    FOREACH session IN ARRAY ARRAY['one', 'old', 'rebuild'] LOOP
        PERFORM dblink_connect(session, format('dbname=%s host=%s port=%s', quote_literal(current_database()), split_part(current_setting('unix_socket_directories'), ',', 1), current_setting('port')));
    END LOOP;
    PERFORM dblink_exec('rebuild', 'SET client_min_messages = error'), dblink_exec('rebuild', 'SET pg_projections.swap_lock_timeout = ''1min''');
    FOREACH shape SLICE 1 IN ARRAY ARRAY[
        ['lines', 'SELECT id, customer, price FROM rs_orders', 'inline'],
        ['prices', 'SELECT customer, min(price) AS low, max(price) AS high, count(*) AS n FROM rs_orders GROUP BY customer', 'inline'],
        ['revenue', 'SELECT country, sum(price) AS amount, max(price) AS high FROM rs_customers AS c JOIN rs_orders ON customer = c.id GROUP BY country', 'inline'],
        ['total', 'SELECT sum(price) AS amount, count(*) AS n FROM rs_orders', 'inline'],
        ['seen', 'SELECT customer, page FROM rs_visits', 'inline'],
        ['later', 'SELECT customer, sum(price) AS amount, min(price) AS low FROM rs_orders GROUP BY customer', 'async']]
    LOOP
        PERFORM projections.create('rs_' || shape[1], shape[2], shape[3], options => '{"finish": "swap"}');
    END LOOP;
END $$;

-- What waits has a limit.
CREATE PROCEDURE rs_go_on(began timestamptz) LANGUAGE plpgsql AS $$
BEGIN
    IF clock_timestamp() > began + interval '1 min' THEN RAISE EXCEPTION 'waited in vain'; END IF;
END $$;
-- In what state the rebuild is. None of these may keep a snapshot while it waits: the rebuild would wait for it.
CREATE PROCEDURE rs_until(arrived text) LANGUAGE plpgsql AS $$
DECLARE
    began timestamptz := clock_timestamp();
BEGIN
    WHILE NOT EXISTS (
        SELECT FROM projections_internal.rebuild AS r
        JOIN pg_stat_activity AS a USING (pid)
        JOIN pg_locks AS l ON l.pid = r.pid AND l.relation = r.projection::oid AND l.mode = 'ShareRowExclusiveLock'
        WHERE r.ended_at IS NULL AND r.phase = 'finishing' AND CASE arrived
            WHEN 'locking' THEN NOT l.granted
            WHEN 'snapshots' THEN l.granted AND a.wait_event = 'Extension'
        END)
    LOOP
        CALL rs_go_on(began);
        COMMIT;
        PERFORM pg_sleep(0.002);
        COMMIT;
    END LOOP;
END $$;
-- Until a session waits for a lock or has done what it was sent.
CREATE PROCEDURE rs_until_waits(session text, pid int) LANGUAGE plpgsql AS $$
DECLARE
    began timestamptz := clock_timestamp();
BEGIN
    WHILE dblink_is_busy(session) = 1 AND NOT EXISTS (SELECT FROM pg_locks AS l WHERE l.pid = rs_until_waits.pid AND NOT l.granted) LOOP
        CALL rs_go_on(began);
        COMMIT;
        PERFORM pg_sleep(0.002);
        COMMIT;
    END LOOP;
END $$;
CREATE PROCEDURE rs_result(session text, INOUT result text) LANGUAGE plpgsql AS $$
DECLARE
    began timestamptz := clock_timestamp();
BEGIN
    WHILE dblink_is_busy(session) = 1 LOOP
        CALL rs_go_on(began);
        COMMIT;
        PERFORM pg_sleep(0.002);
        COMMIT;
    END LOOP;
    BEGIN
        SELECT r INTO result FROM dblink_get_result(session) AS t (r text);
    EXCEPTION WHEN OTHERS THEN
        result := SQLSTATE || ' ' || SQLERRM;
    END;
    PERFORM * FROM dblink_get_result(session) AS t (r text);
END $$;

CREATE PROCEDURE rs_scenario(shape text, level text, began text, change text, INOUT written text, INOUT verdict text) LANGUAGE plpgsql AS $$
DECLARE
    pid int := (SELECT p FROM dblink('one', 'SELECT pg_backend_pid()') AS t (p int));
    rebuilt text;
    reading boolean := change LIKE 'SELECT%';
BEGIN
    TRUNCATE rs_customers, rs_orders, rs_visits;
    INSERT INTO rs_customers VALUES (1, 'no'), (2, 'se'), (3, 'no');
    INSERT INTO rs_orders VALUES (1, 1, 3), (2, 1, 5), (3, 1, 10), (4, 2, 1);
    INSERT INTO rs_visits VALUES (1, 'a'), (1, 'a'), (2, 'a'), (2, 'b');
    PERFORM projections.catch_up();
    COMMIT;
    PERFORM projections.catch_up();
    COMMIT;
    PERFORM dblink_exec('old', 'BEGIN ISOLATION LEVEL REPEATABLE READ'), dblink_exec('old', 'DO $d$ BEGIN PERFORM FROM rs_other; END $d$');
    IF began = 'before' THEN
        PERFORM dblink_exec('one', 'BEGIN ISOLATION LEVEL ' || level), dblink_exec('one', 'DO $d$ BEGIN PERFORM FROM rs_other; END $d$');
    END IF;
    PERFORM dblink_send_query('rebuild', format('CALL projections.rebuild(%L)', 'rs_' || shape));
    COMMIT;
    CALL rs_until('snapshots');
    IF began = 'after' THEN
        PERFORM dblink_exec('one', 'BEGIN ISOLATION LEVEL ' || level), dblink_exec('one', 'DO $d$ BEGIN PERFORM FROM rs_other; END $d$');
    END IF;
    IF NOT reading THEN PERFORM dblink_exec('one', change); END IF;
    PERFORM dblink_send_query('one', CASE WHEN reading THEN change ELSE 'COMMIT' END);
    COMMIT;
    CALL rs_until_waits('one', pid);
    PERFORM dblink_exec('old', 'COMMIT');
    COMMIT;
    CALL rs_result('one', written);
    PERFORM dblink_exec('one', 'COMMIT', false);
    COMMIT;
    CALL rs_result('rebuild', rebuilt);
    COMMIT;
    PERFORM projections.catch_up();
    COMMIT;
    BEGIN
        verdict := format('%s, %s equal, %s shadows', rebuilt, (SELECT equal FROM test.check_all('%.rs_%')), (SELECT count(*) FROM projections_internal.projection WHERE shadow_of IS NOT NULL));
    EXCEPTION WHEN OTHERS THEN
        verdict := SQLERRM;
    END;
END $$;

CREATE TABLE rs_outcomes (number int GENERATED ALWAYS AS IDENTITY, began text, level text, change text, shape text, written text, verdict text);
CREATE PROCEDURE rs_scenarios(began text, levels text[], change_name text, change text, shapes text[] DEFAULT '{lines,prices,revenue,total,seen,later}') LANGUAGE plpgsql AS $$
DECLARE
    shape text;
    level text;
    written text;
    verdict text;
BEGIN
    FOREACH level IN ARRAY levels LOOP
        FOREACH shape IN ARRAY shapes LOOP
            written := NULL;
            CALL rs_scenario(shape, level, began, replace(change, '%shape%', shape), written, verdict);
            INSERT INTO rs_outcomes (began, level, change, shape, written, verdict) VALUES (rs_scenarios.began, level, change_name, shape, written, verdict);
            COMMIT;
        END LOOP;
    END LOOP;
END $$;

\set remove 'DELETE FROM rs_orders WHERE id = 3; DELETE FROM rs_visits WHERE customer = 1'
\set change 'UPDATE rs_orders SET price = 4, customer = 2 WHERE id = 2; UPDATE rs_customers SET country = ''fi'' WHERE id = 1; UPDATE rs_visits SET page = ''z'' WHERE page = ''b''; INSERT INTO rs_orders VALUES (11, 3, 20)'
-- READ COMMITTED: waits for the swap, and goes on in the new file.
CALL rs_scenarios('before', '{READ COMMITTED}', 'remove', :'remove');
CALL rs_scenarios('before', '{READ COMMITTED}', 'change', :'change');
-- A snapshot that is newer than the shadow's last change sees its rows.
CALL rs_scenarios('after', '{REPEATABLE READ,SERIALIZABLE}', 'remove', :'remove');
CALL rs_scenarios('after', '{REPEATABLE READ,SERIALIZABLE}', 'change', :'change');
-- An older one would find nothing to remove.
CALL rs_scenarios('before', '{REPEATABLE READ,SERIALIZABLE}', 'remove', :'remove');
CALL rs_scenarios('before', '{REPEATABLE READ}', 'change', :'change');
-- Readers with an older snapshot see what they would have seen.
CALL rs_scenarios('before', '{READ COMMITTED,REPEATABLE READ,SERIALIZABLE}', 'read', 'SELECT count(*) FROM rs_%shape%');
-- … also if they lock the table first: that is no maintenance, whose snapshot may be older. The rebuild has to let them pass.
SELECT dblink_exec('rebuild', 'SET pg_projections.swap_lock_timeout = ''500ms''');
CREATE FUNCTION rs_count_locked() RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    LOCK TABLE rs_lines IN SHARE MODE;
    RETURN (SELECT count(*) FROM rs_lines);
END $$;
CALL rs_scenarios('before', '{REPEATABLE READ}', 'locked', 'SELECT rs_count_locked()', '{lines}');
SELECT began, level, change, string_agg(shape, ' ' ORDER BY number) AS shapes, regexp_replace(written, 'public.\S+', '…') AS written, verdict
FROM rs_outcomes GROUP BY 1, 2, 3, 5, 6 ORDER BY min(number);
SELECT phase, outcome, count(*) FROM projections_internal.rebuild WHERE projection::text LIKE 'rs%' GROUP BY 1, 2;

\c -
SET client_min_messages = error;
DROP TABLE rs_customers, rs_orders, rs_visits, rs_other, rs_outcomes CASCADE;
DROP PROCEDURE rs_go_on, rs_until, rs_until_waits, rs_result, rs_scenario, rs_scenarios;
DROP FUNCTION rs_count_locked;
DROP EXTENSION dblink;
