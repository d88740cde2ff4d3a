CREATE FUNCTION projections._check_options(kind text, mode text, options jsonb) RETURNS void LANGUAGE sql AS '';
COMMENT ON FUNCTION projections._check_options(text, text, jsonb) IS 'Internal: to be replaced.';

