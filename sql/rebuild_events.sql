-- Rebuild of what reads events: replay into a shadow, and everything that somebody decided about events still holds.
\set VERBOSITY terse
\set SHOW_CONTEXT never
SET timezone = 'UTC';
SET client_min_messages = error; -- no workers here, and times differ
CREATE SCHEMA rebuild_events;
SET search_path = rebuild_events, public;

CREATE TABLE moves (
    pos bigserial PRIMARY KEY, item text NOT NULL, kind text NOT NULL DEFAULT 'in', qty int NOT NULL, at timestamptz NOT NULL DEFAULT '2026-01-01'
);
SELECT projections.register_source('moves', position_column => 'pos', type_column => 'kind', time_column => 'at');
CREATE FUNCTION fold(state jsonb, e moves, key text) RETURNS jsonb LANGUAGE sql AS $$ SELECT to_jsonb(coalesce((state #>> '{}')::bigint, 0) + 100 / e.qty) $$;
SELECT projections.create('totals', 'SELECT item, count(*) AS n, sum(100 / qty) AS part FROM moves GROUP BY item', mode => 'async', options => '{"slots": 3, "finish": "swap"}');
SELECT projections.create_reducer('folded', 'moves', 'item', 'fold(jsonb,moves,text)', options => '{"slots": 2, "max_rate": 1000000}');
SELECT projections.create_reducer('folded_inline', 'moves', 'item', 'fold(jsonb,moves,text)', event_types => '{in}', mode => 'inline');
SELECT projections.create_state_machine('machine', 'moves', 'item', '[{"from": null, "event": "in", "to": "here"}, {"from": "here", "event": "in", "to": "here"}, {"from": "here", "event": "out", "to": "gone"}]',
                                        options => '{"slots": 2}');

-- A fresh environment: nothing has ever run, and nothing is there to be applied.
CALL projections.rebuild('folded');
CALL projections.rebuild('totals');

INSERT INTO moves (item, qty) SELECT 'i' || n % 7, n % 5 + 1 FROM generate_series(1, 2000) n;
SELECT projections.catch_up() > 0 AS applied;
-- Poison for all that divide; the inline one would refuse it.
INSERT INTO moves (item, kind, qty) VALUES ('i1', 'bad', 0), ('i1', 'out', 5), ('i2', 'bad', 0), ('i3', 'bad', 0), ('i3', 'in', 1);
SELECT projections.catch_up() > 0 AS applied;
SELECT projection, position, event_type, key, resolution FROM projections.failures ORDER BY 1, 2;

-- Decided: one is skipped, one resolved, one stays open; the machine refuses 'bad', too, and one of its states is set by hand.
SELECT projections.skip(id, 'known') FROM projections_internal.failure WHERE position = 2001 ORDER BY id;
SELECT projections.resolve(id, 'resolved', 'counted elsewhere') FROM projections_internal.failure WHERE position = 2003 ORDER BY id;
SELECT projections.set_state('machine', 'i2', 'gone', 'seen by hand');
SELECT projections.catch_up() >= 0 AS applied;
SELECT projection, position, resolution FROM projections_internal.failure ORDER BY projection::text, position;
SELECT projection, position, key FROM projections.parked ORDER BY 1, 2;
CREATE TABLE before AS
    SELECT 'totals' AS name, item AS key, jsonb_build_array(n, part) AS row FROM totals
    UNION ALL SELECT 'folded', key, jsonb_build_array(state, version, position) FROM folded
    UNION ALL SELECT 'folded_inline', key, jsonb_build_array(state, version, position) FROM folded_inline
    UNION ALL SELECT 'machine', key, jsonb_build_array(state, version, position) FROM machine;
CREATE VIEW after AS
    SELECT 'totals' AS name, item AS key, jsonb_build_array(n, part) AS row FROM totals
    UNION ALL SELECT 'folded', key, jsonb_build_array(state, version, position) FROM folded
    UNION ALL SELECT 'folded_inline', key, jsonb_build_array(state, version, position) FROM folded_inline
    UNION ALL SELECT 'machine', key, jsonb_build_array(state, version, position) FROM machine;
CREATE VIEW difference AS
    (SELECT 'before' AS side, * FROM (TABLE before EXCEPT ALL TABLE after) d UNION ALL SELECT 'after', * FROM (TABLE after EXCEPT ALL TABLE before) d);
CREATE TABLE transitions_before AS SELECT key, from_state, event, to_state, position, reason, set_by FROM projections_internal.transition WHERE projection = 'machine'::regclass;
CREATE TABLE nodes AS SELECT relname, relfilenode FROM pg_class WHERE relname IN ('totals', 'folded', 'folded_inline', 'machine', 'folded_pkey') AND relnamespace = 'rebuild_events'::regnamespace;

-- Users' additions stay: columns, checks, indexes, grants, views.
ALTER TABLE folded ADD CONSTRAINT not_too_much CHECK ((state #>> '{}')::bigint < 1000000);
ALTER TABLE folded ADD COLUMN seen int NOT NULL DEFAULT 7;
CREATE INDEX folded_version ON folded (version);
CREATE VIEW over_folded AS SELECT count(*) AS rows, sum(version) AS events FROM folded;
GRANT SELECT ON folded TO PUBLIC;
TABLE over_folded;

CALL projections.rebuild('totals');
CALL projections.rebuild('folded');
CALL projections.rebuild('folded_inline');
CALL projections.rebuild('machine');
TABLE difference;
TABLE over_folded;
SELECT count(*) FILTER (WHERE seen = 7) AS with_default, count(*) FROM folded;
SELECT n.relname, c.relfilenode <> n.relfilenode AS swapped FROM nodes n JOIN pg_class c ON c.relname = n.relname AND c.relnamespace = 'rebuild_events'::regnamespace ORDER BY 1;
SELECT projection, position, event_type, key, resolution FROM projections.failures WHERE resolution IS DISTINCT FROM 'rebuilt' ORDER BY 1, 2;
SELECT projection, position, key FROM projections.parked ORDER BY 1, 2;
SELECT projection, slot, position FROM projections.checkpoints WHERE projection LIKE 'rebuild_events.%' ORDER BY 1, 2;
(TABLE transitions_before EXCEPT ALL SELECT key, from_state, event, to_state, position, reason, set_by FROM projections_internal.transition WHERE projection = 'machine'::regclass)
UNION ALL (SELECT key, from_state, event, to_state, position, reason, set_by FROM projections_internal.transition WHERE projection = 'machine'::regclass EXCEPT ALL TABLE transitions_before);
SELECT * FROM projections.verify('folded') UNION ALL SELECT * FROM projections.verify('machine') UNION ALL SELECT * FROM projections.verify('totals') UNION ALL SELECT * FROM projections.verify('folded_inline');

-- Everything goes on, and what was open can be retried.
INSERT INTO moves (item, qty) VALUES ('i4', 1), ('i5', 2), ('new', 4);
SELECT projections.catch_up() > 0 AS applied;
SELECT key, state, version FROM folded WHERE key IN ('i4', 'new') ORDER BY 1;
SELECT key, state, version FROM folded_inline WHERE key = 'new';
SELECT n FROM totals WHERE item = 'new';
SELECT projections.skip(id, 'now') FROM projections_internal.failure WHERE resolved_at IS NULL ORDER BY id;
SELECT count(*) AS parked FROM projections.parked;
SELECT state FROM folded WHERE key = 'i3';
SELECT sum(100 / qty) FROM moves WHERE item = 'i3' AND kind <> 'bad';

-- Contents that somebody has ruined come right again, whatever slots there are.
SET pg_projections.allow_direct_writes = on;
UPDATE folded SET state = '0' WHERE key = 'i1';
DELETE FROM totals WHERE item = 'i2';
UPDATE folded_inline SET state = '-1';
DELETE FROM machine;
RESET pg_projections.allow_direct_writes;
DROP TABLE before CASCADE;
CALL projections.alter('folded', options => '{"slots": 5}');
CALL projections.rebuild('folded');
CALL projections.rebuild('totals');
CALL projections.rebuild('folded_inline');
CALL projections.rebuild('machine');
SELECT f.key FROM folded f JOIN (SELECT item, sum(100 / qty) AS total FROM moves WHERE kind <> 'bad' GROUP BY item) m ON m.item = f.key WHERE f.state <> to_jsonb(m.total);
SELECT item FROM totals t JOIN (SELECT item, count(*) AS n, sum(100 / qty) AS part FROM moves WHERE kind <> 'bad' GROUP BY item) m USING (item) WHERE (t.n, t.part) <> (m.n, m.part);
SELECT f.key FROM folded_inline f JOIN (SELECT item, sum(100 / qty) AS total FROM moves WHERE kind = 'in' GROUP BY item) m ON m.item = f.key WHERE f.state <> to_jsonb(m.total);
SELECT (SELECT count(*) FROM folded), (SELECT count(*) FROM totals), (SELECT count(*) FROM folded_inline), (SELECT count(*) FROM machine);
SELECT key, state FROM machine WHERE state <> '"here"' ORDER BY 1;

-- A reset, too, leaves out what was skipped.
SELECT projections.reset('totals');
SELECT projections.catch_up('totals') > 0 AS applied;
SELECT item FROM totals t JOIN (SELECT item, count(*) AS n FROM moves WHERE kind <> 'bad' GROUP BY item) m USING (item) WHERE t.n <> m.n;

-- on_failure = stop: as far as the live one has come, and not further; an event that it has passed must pass.
CREATE TABLE switch (broken boolean);
INSERT INTO switch VALUES (false);
CREATE FUNCTION strict_fold(state jsonb, e moves, key text) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF e.qty = 3 AND (SELECT broken FROM switch) THEN
        RAISE EXCEPTION 'no threes';
    END IF;
    RETURN to_jsonb(coalesce((state #>> '{}')::bigint, 0) + e.qty);
END
$$;
SELECT projections.create_reducer('stopping', 'moves', 'item', 'strict_fold(jsonb,moves,text)', options => '{"on_failure": "stop"}');
SELECT projections.create_reducer('strict_inline', 'moves', 'item', 'strict_fold(jsonb,moves,text)', mode => 'inline');
SELECT projections.catch_up('stopping');
UPDATE switch SET broken = true;
CALL projections.rebuild('stopping');
CALL projections.rebuild('strict_inline');
SELECT count(*) AS rows, sum(state::bigint) = (SELECT sum(qty) FROM moves) AS right FROM stopping;
SELECT count(*) AS shadows FROM projections_internal.projection WHERE shadow_of IS NOT NULL;
UPDATE switch SET broken = false;
CALL projections.rebuild('stopping');
CALL projections.rebuild('strict_inline');
SELECT (SELECT sum(state::bigint) FROM stopping) = sum(qty) AND (SELECT sum(state::bigint) FROM strict_inline) = sum(qty) AS right FROM moves;

-- Retention of a state machine: a key that was at its end for so long when the next event happened starts anew, in a replay as it did.
SELECT projections.create_state_machine('short', 'moves', 'item', '[{"from": null, "event": "open", "to": "OPEN"}, {"from": "OPEN", "event": "close", "to": "DONE"}]',
                                        options => '{"terminal": ["DONE"], "retention": "1 day"}');
INSERT INTO moves (item, kind, qty, at) VALUES ('r1', 'open', 1, '2026-01-01'), ('r1', 'close', 1, '2026-01-02'), ('r2', 'open', 1, '2026-01-02');
SELECT projections.catch_up('short') > 0 AS applied;
INSERT INTO moves (item, kind, qty, at) VALUES ('r1', 'open', 1, '2026-02-01'), ('r3', 'open', 1, now()), ('r3', 'close', 1, now());
SELECT projections.catch_up('short') > 0 AS applied;
SELECT key, state, version FROM short ORDER BY 1;
CALL projections.rebuild('short');
SELECT key, state, version FROM short ORDER BY 1;
SELECT count(*) AS failures FROM projections.failures WHERE projection = 'rebuild_events.short';

-- Other projections and publications read the rows: a merge, which tells them.
SELECT projections.create('versions', 'SELECT version, count(*) AS keys FROM stopping GROUP BY version');
SET pg_projections.allow_direct_writes = on;
UPDATE stopping SET state = '0', version = version + 1 WHERE key = 'i1';
INSERT INTO stopping VALUES ('nobody', '1', 1, 1, now());
RESET pg_projections.allow_direct_writes;
CALL projections.rebuild('stopping', dry_run => true);
CALL projections.rebuild('stopping');
(SELECT key, state, version FROM stopping EXCEPT ALL SELECT item, to_jsonb(sum(qty)), count(*) FROM moves GROUP BY item)
UNION ALL (SELECT item, to_jsonb(sum(qty)), count(*) FROM moves GROUP BY item EXCEPT ALL SELECT key, state, version FROM stopping);
(TABLE versions EXCEPT ALL SELECT version, count(*) FROM stopping GROUP BY version) UNION ALL (SELECT version, count(*) FROM stopping GROUP BY version EXCEPT ALL TABLE versions);
SELECT finish, outcome FROM projections_internal.rebuild WHERE projection = 'stopping'::regclass ORDER BY id DESC LIMIT 1;

-- Positions reserved in an earlier transaction, and a partitioned source.
CREATE TABLE reserved (pos bigint PRIMARY KEY, item text NOT NULL);
SELECT projections.register_source('reserved', position_column => 'pos', capture => 'trigger');
CREATE TABLE parted (pos bigserial, item text NOT NULL, day date NOT NULL) PARTITION BY RANGE (day);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
SELECT projections.register_source('parted', position_column => 'pos');
CREATE FUNCTION count_reserved(state jsonb, e reserved, key text) RETURNS jsonb LANGUAGE sql AS $$ SELECT to_jsonb(coalesce((state #>> '{}')::bigint, 0) + e.pos) $$;
CREATE FUNCTION count_parted(state jsonb, e parted, key text) RETURNS jsonb LANGUAGE sql AS $$ SELECT to_jsonb(coalesce((state #>> '{}')::bigint, 0) + 1) $$;
SELECT projections.create_reducer('by_arrival', 'reserved', 'item', 'count_reserved(jsonb,reserved,text)');
SELECT projections.create('arrived', 'SELECT item, sum(pos) AS total FROM reserved GROUP BY item', mode => 'async', options => '{"finish": "swap"}');
SELECT projections.create_reducer('of_parts', 'parted', 'item', 'count_parted(jsonb,parted,text)');
SELECT projections.create_reducer('of_parts_inline', 'parted', 'item', 'count_parted(jsonb,parted,text)', mode => 'inline');
INSERT INTO reserved SELECT 1000 - n, 'k' || n % 3 FROM generate_series(1, 100) n;
INSERT INTO parted (item, day) SELECT 'k' || n % 3, date '2026-01-01' + n % 50 FROM generate_series(1, 300) n;
INSERT INTO parted_2 (item, day) VALUES ('k9', '2026-02-02');
CALL projections.rebuild('by_arrival');
CALL projections.rebuild('arrived');
CALL projections.rebuild('of_parts');
CALL projections.rebuild('of_parts_inline');
SELECT key, state = to_jsonb((SELECT sum(pos) FROM reserved WHERE item = key)) AS right FROM by_arrival ORDER BY 1;
SELECT a.item, a.total = (SELECT sum(pos) FROM reserved r WHERE r.item = a.item) AS right FROM arrived a ORDER BY 1;
SELECT key, p.state = to_jsonb((SELECT count(*) FROM parted WHERE item = key)) AS async, i.state = to_jsonb((SELECT count(*) FROM parted WHERE item = key)) AS inline
FROM of_parts p FULL JOIN of_parts_inline i USING (key) ORDER BY 1;
INSERT INTO parted (item, day) VALUES ('k9', '2026-01-02');
SELECT state FROM of_parts_inline WHERE key = 'k9';

-- Archived history is gone, except of our own store, whose archive is read.
SELECT count(*) FROM projections.append_many('s1', '[{"type": "a", "data": {}}, {"type": "b", "data": {}}]');
CREATE FUNCTION count_events(state jsonb, e projections.events, key text) RETURNS jsonb LANGUAGE sql AS $$ SELECT to_jsonb(coalesce((state #>> '{}')::bigint, 0) + 1) $$;
SELECT projections.create_reducer('of_store', 'projections.events', 'stream', 'count_events(jsonb,projections.events,text)');
SELECT projections.catch_up('of_store');
SELECT events FROM projections.archive_events('projections.events', now() + interval '1 hour');
SELECT count(*) FROM projections.append('s1', 'c', '{}');
CALL projections.rebuild('of_store');
SELECT key, state FROM of_store;
UPDATE projections_internal.source SET archived_to = 50 WHERE relation = 'reserved'::regclass;
CALL projections.rebuild('by_arrival');
SELECT phase, outcome, error FROM projections_internal.rebuild WHERE projection = 'by_arrival'::regclass ORDER BY id DESC LIMIT 1;
SELECT key, state = to_jsonb((SELECT sum(pos) FROM reserved WHERE item = key)) AS right FROM by_arrival ORDER BY 1;
UPDATE projections_internal.source SET archived_to = 0 WHERE relation = 'reserved'::regclass;

SELECT kind, object, reason FROM projections.orphans();
SET client_min_messages = error;
DROP SCHEMA rebuild_events CASCADE;
TRUNCATE projections.events, projections.events_archive, projections.streams;
