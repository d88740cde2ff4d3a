-- Traps: code of a user's that tells who runs it.
--
-- A trap is sprung by counting in a sequence that is named after the trap and the current user, which also outlives a
-- rollback. trap.strangers lists the traps that anybody but their owner has sprung since it was last asked: it must be
-- empty, whatever was done. trap.untouched lists those that no owner sprung: a trap that is out of the way proves nothing.
--
--     SELECT trap.lay('alice');                   -- everything below, in a schema of that name, owned by that role
--     SELECT trap.hide('alice.some_projection');  -- on a relation that came later

CREATE SCHEMA trap;
GRANT USAGE ON SCHEMA trap TO PUBLIC;
CREATE TABLE trap.owner (role name PRIMARY KEY);
CREATE TABLE trap.trap (name text PRIMARY KEY);
INSERT INTO trap.trap VALUES ('time cast'), ('type cast'), ('id cast'), ('domain'), ('default'), ('generated'), ('index predicate'),
    ('index expression'), ('statistics'), ('policy'), ('check'), ('trigger'), ('operator'), ('definition'), ('key'), ('reducer'), ('handler');

CREATE FUNCTION trap.spring(what text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_catalog.nextval(pg_catalog.format('trap.%I', what OPERATOR(pg_catalog.||) ' by ' OPERATOR(pg_catalog.||) current_user)::pg_catalog.regclass);
END
$$;

CREATE FUNCTION trap.watch(role name) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    name text;
BEGIN
    FOR name IN SELECT t.name || ' by ' || role FROM trap.trap t LOOP
        EXECUTE format('CREATE SEQUENCE trap.%I', name);
        EXECUTE format('GRANT ALL ON SEQUENCE trap.%I TO PUBLIC', name);
    END LOOP;
END
$$;
SELECT trap.watch(rolname) FROM pg_roles WHERE oid = 10;

CREATE VIEW trap.sprung AS
SELECT t.name AS trap, substr(s.sequencename, length(t.name) + 5) AS by
FROM trap.trap t JOIN pg_sequences s ON s.schemaname = 'trap' AND s.sequencename LIKE t.name || ' by %' WHERE s.last_value IS NOT NULL;
CREATE FUNCTION trap.strangers() RETURNS TABLE(trap text, sprung_by text) LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    FOR trap, sprung_by IN SELECT s.trap, s.by FROM trap.sprung s WHERE s.by NOT IN (SELECT role FROM trap.owner) ORDER BY 1, 2 LOOP
        EXECUTE format('ALTER SEQUENCE trap.%I RESTART', trap || ' by ' || sprung_by);
        sprung_by := CASE WHEN (SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = sprung_by) THEN 'a superuser' ELSE sprung_by END;
        RETURN NEXT;
    END LOOP;
END
$$;
-- A policy is never in the way of a table's owner, and no operator of a search_path in that of what is qualified.
CREATE VIEW trap.untouched AS
SELECT t.name AS trap FROM trap.trap t WHERE t.name NOT IN ('policy', 'operator') AND NOT EXISTS (SELECT FROM trap.sprung s JOIN trap.owner o ON o.role = s.by WHERE s.trap = t.name) ORDER BY 1;

-- A statistics object's expressions are planned whenever a query over the table is; an index's predicate when the table is first looked at.
CREATE FUNCTION trap.hide(relation regclass) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    owner name := (SELECT pg_get_userbyid(c.relowner) FROM pg_class c WHERE c.oid = relation);
    columns text[] := ARRAY(SELECT quote_ident(a.attname) FROM pg_attribute a WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped AND a.atttypid IN ('text'::regtype, 'bigint'::regtype) ORDER BY a.attnum);
    before text := current_setting('role');
BEGIN
    EXECUTE format('SET ROLE %I', owner);
    EXECUTE format('CREATE STATISTICS %I.%I ON %s, (length(%s::text) + %I.liar(''statistics'', 0)) FROM %s', owner, 'trap_' || relation::oid, columns[1], columns[1], owner, relation);
    EXECUTE format('CREATE INDEX %I ON %s (%s) WHERE %I.liar(''index predicate'', 1) > 0', 'trap_predicate_' || relation::oid, relation, columns[1], owner);
    EXECUTE format('CREATE INDEX %I ON %s (%I.liar(''index expression'', length(%s::text)))', 'trap_expression_' || relation::oid, relation, owner, columns[1]);
    EXECUTE format('ALTER TABLE %s ADD CONSTRAINT trap CHECK (%I.liar(''check'', length(%s::text)) >= 0)', relation, owner, columns[1]);
    EXECUTE format('CREATE TRIGGER trap AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION %I.trapped()', relation, owner);
    EXECUTE format('SET ROLE %s', before);
END
$$;

CREATE FUNCTION trap.lay(role name) RETURNS void LANGUAGE plpgsql AS $lay$
DECLARE
    before text := current_setting('role');
    path text := current_setting('search_path');
BEGIN
    PERFORM trap.watch(role);
    INSERT INTO trap.owner VALUES (role);
    EXECUTE format('CREATE SCHEMA AUTHORIZATION %I', role);
    EXECUTE format('SET ROLE %I; SET search_path = %I', role, role);
    EXECUTE replace($make$
        -- IMMUTABLE lets the planner call it, where its arguments are known.
        CREATE FUNCTION liar(what text, value int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$BEGIN PERFORM trap.spring(what); RETURN value; END$$;
        CREATE FUNCTION trapped() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM trap.spring('trigger'); RETURN NULL; END$$;
        CREATE TYPE moment AS (at timestamptz);
        CREATE FUNCTION to_time(moment) RETURNS timestamptz IMMUTABLE LANGUAGE plpgsql AS $$BEGIN PERFORM trap.spring('time cast'); RETURN $1.at; END$$;
        CREATE CAST (moment AS timestamptz) WITH FUNCTION to_time(moment);
        CREATE TYPE label AS (id text);
        CREATE FUNCTION to_id(label) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$BEGIN PERFORM trap.spring('id cast'); RETURN $1.id; END$$;
        CREATE CAST (label AS text) WITH FUNCTION to_id(label);
        CREATE TYPE kind AS ENUM ('opened', 'closed', 'broken');
        CREATE FUNCTION to_type(kind) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$BEGIN PERFORM trap.spring('type cast'); RETURN enum_out($1); END$$;
        CREATE CAST (kind AS text) WITH FUNCTION to_type(kind);
        CREATE DOMAIN quantity AS int CHECK (ROLE.liar('domain', coalesce(VALUE, 0)) >= 0);

        -- What a caller's search_path would find before ours.
        CREATE FUNCTION same(regclass, regclass) RETURNS bool LANGUAGE plpgsql AS $$BEGIN PERFORM trap.spring('operator'); RETURN $1::pg_catalog.oid OPERATOR(pg_catalog.=) $2::pg_catalog.oid; END$$;
        CREATE FUNCTION same(oid, oid) RETURNS bool LANGUAGE plpgsql AS $$BEGIN PERFORM trap.spring('operator'); RETURN $1 OPERATOR(pg_catalog.=) $2; END$$;
        CREATE FUNCTION same(text, text) RETURNS bool LANGUAGE plpgsql AS $$BEGIN PERFORM trap.spring('operator'); RETURN $1 OPERATOR(pg_catalog.=) $2; END$$;
        CREATE FUNCTION same(bigint, bigint) RETURNS bool LANGUAGE plpgsql AS $$BEGIN PERFORM trap.spring('operator'); RETURN $1 OPERATOR(pg_catalog.=) $2; END$$;
        CREATE FUNCTION more(bigint, bigint) RETURNS bool LANGUAGE plpgsql AS $$BEGIN PERFORM trap.spring('operator'); RETURN $1 OPERATOR(pg_catalog.>) $2; END$$;
        CREATE OPERATOR = (leftarg = regclass, rightarg = regclass, function = same);
        CREATE OPERATOR = (leftarg = oid, rightarg = oid, function = same);
        CREATE OPERATOR = (leftarg = text, rightarg = text, function = same);
        CREATE OPERATOR = (leftarg = bigint, rightarg = bigint, function = same);
        CREATE OPERATOR > (leftarg = bigint, rightarg = bigint, function = more);

        CREATE TABLE event (pos bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, item text NOT NULL, q quantity DEFAULT liar('default', 1), type kind, at moment, id label,
                            g int GENERATED ALWAYS AS (liar('generated', 1)) STORED);
        CREATE TABLE arrived (LIKE event INCLUDING ALL);
        CREATE TABLE changed (id int PRIMARY KEY, item text NOT NULL, q quantity DEFAULT liar('default', 1));
        CREATE TABLE book (item text PRIMARY KEY, n bigint NOT NULL DEFAULT liar('default', 1));
        ALTER TABLE event ENABLE ROW LEVEL SECURITY;
        ALTER TABLE arrived ENABLE ROW LEVEL SECURITY;
        CREATE POLICY trap ON event USING (ROLE.liar('policy', 1) > 0);
        CREATE POLICY trap ON arrived USING (ROLE.liar('policy', 1) > 0);
        CREATE FUNCTION reduce(state jsonb, event event, key text) RETURNS jsonb LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM trap.spring('reducer');
            IF event.type = 'broken' THEN RAISE EXCEPTION 'broken'; END IF;
            RETURN jsonb_build_object('n', coalesce((state ->> 'n')::int, 0) + event.q);
        END$$;
        CREATE FUNCTION handle(event event) RETURNS void LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM trap.spring('handler');
            IF event.type = 'broken' THEN RAISE EXCEPTION 'broken'; END IF;
            INSERT INTO book AS b (item, n) VALUES (event.item, event.q) ON CONFLICT (item) DO UPDATE SET n = b.n + excluded.n;
        END$$;
    $make$, 'ROLE', quote_ident(role));
    EXECUTE format('SET ROLE %s', before);
    PERFORM set_config('search_path', path, false);
    PERFORM trap.hide(format('%I.%s', role, t)::regclass) FROM unnest('{event,arrived,changed,book}'::text[]) t;
END
$lay$;
