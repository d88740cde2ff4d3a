// Shadows belong to users, as core runs the expressions of a table's indexes, defaults and CHECKs as its owner; what
// they may do with a table of theirs they must not do with these, whose columns the library reads by number. A C
// function sees who runs the command, which a SECURITY DEFINER function does not.
#include "declare/hidden_ddl.hpp"

#include "catalog/projection.hpp"

namespace declare {

constinit int utility_depth = 0;
constinit int own_depth = 0;

namespace {

bool ask_hidden(const char *text) {
    bool hidden = false;
    pg::as_superuser([&] {
        pg::with_spi([&] {
            pg::spi_execute(text);
            hidden = pg::Row().boolean(1);
        });
    });
    return hidden;
}

bool is_hidden(Oid relation) {
    return OidIsValid(relation) && ask_hidden(psprintf("SELECT projections_internal._is_hidden(%u)", relation));
}

// pg_event_trigger_ddl_commands() does not say on what a right was granted.
void refuse_grants(const GrantStmt *grant) {
    bool ours = false;
    if (grant->targtype == ACL_TARGET_ALL_IN_SCHEMA)
        for (Node *schema : pg::each<Node>(grant->objects))
            ours |= ask_hidden(psprintf("SELECT EXISTS (SELECT FROM pg_class AS c WHERE c.relnamespace = "
                                        "pg_catalog.to_regnamespace(pg_catalog.quote_ident(%s)) AND c.relkind = 'r' "
                                        "AND projections_internal._is_hidden(c.oid))",
                                        quote_literal_cstr(strVal(schema))));
    else if (grant->targtype == ACL_TARGET_OBJECT &&
             (grant->objtype == OBJECT_TABLE || grant->objtype == OBJECT_SEQUENCE))
        for (RangeVar *name : pg::each<RangeVar>(grant->objects))
            ours |= is_hidden(RangeVarGetRelid(name, NoLock, true));
    if (!ours) return;
    ereport(ERROR,
            (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("permission denied for tables of pg_projections"),
             errdetail("The extension alone says who may use them."), errhint("Grant rights on the projection.")));
}

} // namespace

void secure_all() {
    if (!OidIsValid(catalog::catalog_relation()) || !catalog::is_readable() || !catalog::sql_is_current()) return;
    CommandCounterIncrement();
    pg::as_superuser([&] {
        pg::with_spi([&] {
            pg::spi_execute("SELECT projections_internal._secure_hidden(ARRAY(SELECT relation::oid FROM "
                            "projections_internal.projection "
                            "UNION SELECT relation::oid FROM projections_internal.source))");
        });
    });
}

} // namespace declare

extern "C" {

PG_FUNCTION_INFO_V1(projections_guard_hidden);
// Event trigger, ddl_command_end.
Datum projections_guard_hidden(PG_FUNCTION_ARGS) {
    using namespace declare;
    if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
        ereport(ERROR, (errcode(ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED),
                        errmsg("projections_internal._guard_hidden() is an event trigger function")));
    if (superuser() || (own_depth > 0 && utility_depth == own_depth)) PG_RETURN_NULL();
    Node *command = reinterpret_cast<EventTriggerData *>(fcinfo->context)->parsetree;
    if (IsA(command, GrantStmt)) {
        refuse_grants(castNode(GrantStmt, command));
        PG_RETURN_NULL();
    }
    pg::as_superuser([&] { pg::with_spi([&] { pg::spi_execute("SELECT projections_internal._refuse_hidden()"); }); });
    PG_RETURN_NULL();
}

} // extern "C"
