-- Whether projections are right, and making them so.

CREATE FUNCTION projections.verify(name text, sample double precision DEFAULT 1)
    RETURNS TABLE(problem text, key jsonb, expected jsonb, found jsonb)
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_verify';
COMMENT ON FUNCTION projections.verify(text, double precision) IS
'Compares a projection with its definition, as far as it has been brought up to date: one over events up to its checkpoint, without events that failed, are parked or were
skipped; one over a change log without what is still in the log; a reducer or state machine by folding its events again in memory. Returns a row for each difference, none
where there is none. problem: missing, extra, different, or duplicate (several rows of one key). key: the row''s, NULL where rows have none. expected, found: the rows, with the
columns that maintenance appended. Aggregates over floats are equal within 1e-9 of their value (real: 1e-5). Reads everything under one snapshot, the latest one also in
REPEATABLE READ, and holds nobody up. sample: the share of the keys that is compared, chosen anew by each call; above 0 and at most 1.
Needs to own the projection, or pg_read_all_data. Errors: 42P01; 42809 not a projection; 42501; 22023 sample; 0A000 a handler; 55000 it is being filled; 55006 called by a statement
that writes its sources; PJ006 events are archived away.
Example: SELECT * FROM projections.verify(''revenue'', sample => 0.1);';
