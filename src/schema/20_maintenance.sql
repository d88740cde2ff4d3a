-- What triggers and maintenance call.

CREATE FUNCTION projections_internal.capture() RETURNS trigger LANGUAGE c AS 'MODULE_PATHNAME', 'projections_capture';
COMMENT ON FUNCTION projections_internal.capture() IS
    'Internal: trigger function on sources, put there by projections.create(): notes changed rows for the projections '
    'that read the table.';

CREATE FUNCTION projections_internal.guard() RETURNS trigger LANGUAGE c AS 'MODULE_PATHNAME', 'projections_guard';
COMMENT ON FUNCTION projections_internal.guard() IS
    'Internal: trigger function on projections, put there by projections.create(): refuses direct writes with SQLSTATE '
    'PJ008.';

CREATE FUNCTION projections_internal._own_triggers() RETURNS TABLE(name name, function text, made text)
    LANGUAGE c STABLE ROWS 5 AS 'MODULE_PATHNAME', 'projections_own_triggers';
COMMENT ON FUNCTION projections_internal._own_triggers() IS
    'Internal: the triggers that the extension makes on users'' tables. '
    'made: what follows the name in CREATE TRIGGER, for format() with the table and the arguments.';
CREATE FUNCTION projections_internal._is_own(pg_catalog.pg_trigger) RETURNS boolean
    LANGUAGE c STRICT STABLE AS 'MODULE_PATHNAME', 'projections_is_own';
COMMENT ON FUNCTION projections_internal._is_own(pg_catalog.pg_trigger) IS
    'Internal: whether a trigger is one of ours, as we make it, enabled or not.';
REVOKE EXECUTE ON FUNCTION projections_internal._own_triggers(), projections_internal._is_own(pg_catalog.pg_trigger)
    FROM PUBLIC;

CREATE FUNCTION projections_internal.exact_numeric(value float8) RETURNS numeric
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'projections_exact_numeric';
COMMENT ON FUNCTION projections_internal.exact_numeric(float8) IS
'Internal: the exact decimal value of a float, which the cast to numeric rounds to 15 digits; NULL for NaN and
infinities. Definitions of projections use it to sum floats without error. Raises nothing.
Example: SELECT projections_internal.exact_numeric(0.5);';

CREATE FUNCTION projections_internal.square_root(value numeric) RETURNS numeric
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    -- Twenty digits more, rounded once: as the standard deviation of PostgreSQL, which rounds to the digits of the
    -- variance.
    RETURN CASE WHEN value = 'NaN' THEN value ELSE pg_catalog.round(pg_catalog.sqrt(pg_catalog.round(value,
        pg_catalog.scale(value) + 20)), pg_catalog.scale(value)) END;
COMMENT ON FUNCTION projections_internal.square_root(numeric) IS
'Internal: the square root to as many decimal places as the argument has: how stddev() follows from a variance. Raises
2201F for a negative argument.
Example: SELECT projections_internal.square_root(2.0000);';
