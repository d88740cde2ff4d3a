-- Nobody drops the extension in passing.

CREATE FUNCTION projections_internal._before_removal() RETURNS event_trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'projections_before_removal';
COMMENT ON FUNCTION projections_internal._before_removal() IS
'Internal: refuses DROP EXTENSION while there are projections, events, streams, subscriptions or event sources, and '
    'loads the library, which refuses whatever else would drop the extension.';
REVOKE EXECUTE ON FUNCTION projections_internal._before_removal() FROM PUBLIC;

CREATE EVENT TRIGGER projections_before_removal ON ddl_command_start
    WHEN TAG IN ('DROP EXTENSION', 'DROP SCHEMA', 'DROP OWNED', 'DROP LANGUAGE')
    EXECUTE FUNCTION projections_internal._before_removal();
