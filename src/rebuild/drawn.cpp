// A default that is watched draws from a sequence of its own on the way, which then tells that it was asked.
#include "rebuild/drawn.hpp"

#include "declare/hidden_ddl.hpp"
#include "pg/scope.hpp"
#include "rebuild/session.hpp"

namespace rebuild {
namespace {

const char *identity_sequence(const char *table, const char *column) {
    return ask_text(
        psprintf("SELECT pg_get_serial_sequence(%s, %s)", quote_literal_cstr(table), quote_literal_cstr(column)));
}

bool draws_number(Node *node, void *context) {
    if (node == nullptr) return false;
    if (IsA(node, FuncExpr) && reinterpret_cast<FuncExpr *>(node)->funcid == F_NEXTVAL) return true;
    return pg::walk_children(node, draws_number, context);
}

// A sequence that belongs to the column, and goes with it.
void make_probe(const Drawn &drawn, Oid owner) {
    const char *column = quote_identifier(get_attname(drawn.twin, drawn.column, false));
    execute(psprintf("CREATE SEQUENCE %s", drawn.probe));
    execute(psprintf("GRANT USAGE ON SEQUENCE %s TO PUBLIC", drawn.probe));
    execute(psprintf("ALTER SEQUENCE %s OWNER TO %s", drawn.probe, quote_identifier(GetUserNameFromId(owner, false))));
    execute(psprintf("ALTER SEQUENCE %s OWNED BY %s.%s", drawn.probe, pg::qualified_name(drawn.twin), column));
}

// Lets the default tell.
const char *watched_default(const Drawn &drawn, const char *value) {
    return psprintf("ALTER TABLE %s ALTER %s SET DEFAULT CASE WHEN pg_catalog.nextval(%s::pg_catalog.regclass) > 0 "
                    "THEN (%s) END",
                    pg::qualified_name(drawn.twin), quote_identifier(get_attname(drawn.twin, drawn.column, false)),
                    quote_literal_cstr(drawn.probe), value);
}

} // namespace

pg::vector<Drawn> watch_defaults(Oid twin) {
    pg::vector<Drawn> drawn, probed;
    pg::vector<const char *> defaults;
    const char *schema = get_namespace_name(get_rel_namespace(twin));
    Relation table = table_open(twin, NoLock);
    for (int i = 0; i < RelationGetDescr(table)->natts; i++) {
        Form_pg_attribute column = TupleDescAttr(RelationGetDescr(table), i);
        if (column->attisdropped || column->attgenerated) continue;
        Node *value = build_column_default(table, column->attnum);
        if (value == nullptr || !contain_mutable_functions(value)) continue;
        Drawn found{twin, column->attnum, nullptr, true};
        if (column->attidentity) {
            found.probe = identity_sequence(pg::qualified_name(twin), NameStr(column->attname));
        } else {
            const char *text = deparse_expression(value, NIL, false, false);
            found.numbers = draws_number(value, nullptr);
            found.probe = quote_qualified_identifier(schema, psprintf("projections_default_%u_%d", twin, i + 1));
            defaults.push_back(watched_default(found, text));
            probed.push_back(found);
        }
        drawn.push_back(found);
    }
    table_close(table, NoLock);
    Oid owner = pg::owner_of(twin);
    for (const Drawn &each : probed) make_probe(each, owner);
    pg::as_owner(owner, [&] {
        pg::with_spi([&] {
            declare::own_ddl([&] {
                for (const char *each : defaults) pg::spi_execute(each);
            });
        });
    });
    CommandCounterIncrement();
    return drawn;
}

bool was_used(const Drawn &drawn) { return ask(psprintf("SELECT is_called::int::bigint FROM %s", drawn.probe)) != 0; }

} // namespace rebuild
