-- Who plays: the attacker, who has a login, a schema, and later SELECT and TRIGGER on one table of the victim's; the victim;
-- and a bystander with nothing. The traps write down as whom they run.
\set ON_ERROR_STOP on
SET client_min_messages = error;
CREATE ROLE attacker LOGIN;
CREATE ROLE victim LOGIN;
CREATE ROLE bystander LOGIN;
CREATE SCHEMA attacker AUTHORIZATION attacker;
CREATE SCHEMA victim AUTHORIZATION victim;
GRANT USAGE ON SCHEMA attacker TO PUBLIC;
GRANT USAGE ON SCHEMA victim TO attacker, bystander;
GRANT CREATE ON SCHEMA public TO PUBLIC;
SET SESSION AUTHORIZATION attacker;
SET search_path = attacker;
-- Writes down as whom it runs, where no rollback takes it back, and whether in a security-restricted operation.
CREATE FUNCTION trap(what text) RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    restricted boolean := true;
BEGIN
    BEGIN
        EXECUTE 'DISCARD PLANS';
        restricted := false;
    EXCEPTION WHEN insufficient_privilege THEN NULL;
    END;
    RAISE LOG 'MARK user=% session=% restricted=% what=%', current_user, session_user, restricted, what;
    RETURN true;
END $$;
-- Says that it is immutable, and leaves settings behind where it can.
CREATE FUNCTION liar(what text, value anyelement) RETURNS anyelement LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    PERFORM attacker.trap(what);
    PERFORM pg_catalog.set_config('search_path', 'attacker, pg_catalog', false),
            pg_catalog.set_config('work_mem', '77MB', false);
    RETURN value;
END $$;
RESET search_path;
RESET SESSION AUTHORIZATION;
