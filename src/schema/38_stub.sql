CREATE FUNCTION projections._check_options(kind text, mode text, options jsonb) RETURNS void LANGUAGE sql AS '';
COMMENT ON FUNCTION projections._check_options(text, text, jsonb) IS 'Internal: to be replaced.';
CREATE FUNCTION projections._worker_problem() RETURNS text LANGUAGE sql AS 'SELECT NULL::text';
COMMENT ON FUNCTION projections._worker_problem() IS 'Internal: to be replaced.';

CREATE FUNCTION projections._forget_dropped_sources() RETURNS void LANGUAGE sql AS '';
COMMENT ON FUNCTION projections._forget_dropped_sources() IS 'Internal: to be replaced.';
