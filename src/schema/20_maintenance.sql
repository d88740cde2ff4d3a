-- What triggers and maintenance call.

CREATE FUNCTION projections.capture() RETURNS trigger LANGUAGE c AS 'MODULE_PATHNAME', 'projections_capture';
COMMENT ON FUNCTION projections.capture() IS 'Trigger function on sources, put there by projections.create(): notes changed rows for the projections that read the table.';

CREATE FUNCTION projections.guard() RETURNS trigger LANGUAGE c AS 'MODULE_PATHNAME', 'projections_guard';
COMMENT ON FUNCTION projections.guard() IS 'Trigger function on projections, put there by projections.create(): refuses direct writes with SQLSTATE PJ008.';

CREATE FUNCTION projections.exact_numeric(value float8) RETURNS numeric
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'projections_exact_numeric';
COMMENT ON FUNCTION projections.exact_numeric(float8) IS
'The exact decimal value of a float, which the cast to numeric rounds to 15 digits; NULL for NaN and infinities. Definitions
of projections use it to sum floats without error. Raises nothing.
Example: SELECT projections.exact_numeric(0.5);';

CREATE FUNCTION projections.square_root(value numeric) RETURNS numeric
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    -- Twenty digits more, rounded once: as the standard deviation of PostgreSQL, which rounds to the digits of the variance.
    RETURN CASE WHEN value = 'NaN' THEN value ELSE pg_catalog.round(pg_catalog.sqrt(pg_catalog.round(value, pg_catalog.scale(value) + 20)), pg_catalog.scale(value)) END;
COMMENT ON FUNCTION projections.square_root(numeric) IS
'The square root to as many decimal places as the argument has: how stddev() follows from a variance. Raises 2201F for a negative argument.
Example: SELECT projections.square_root(2.0000);';
