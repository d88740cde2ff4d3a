// The extension belongs to pg_catalog, and core refuses any other schema. Dumps of version 0.2.0 name the one that it
// had: CREATE EXTENSION IF NOT EXISTS … WITH SCHEMA public. What follows in them names that version's objects, too. So
// where the library is loaded before (shared_preload_libraries), they get that version; ALTER EXTENSION … UPDATE
// follows the restore. (Test: test/t/021_update.pl)
#include "declare/install.hpp"

#include "pg/query.hpp"

namespace declare {
namespace {

constexpr const char *one_schema_version = "0.2.0";

bool names_another_schema(const DefElem *option) {
    return strcmp(option->defname, "schema") == 0 &&
           strcmp(defGetString(const_cast<DefElem *>(option)), "pg_catalog") != 0;
}

} // namespace

PlannedStmt *installing_here(PlannedStmt *statement) {
    if (!IsA(statement->utilityStmt, CreateExtensionStmt)) return statement;
    auto *create = reinterpret_cast<CreateExtensionStmt *>(statement->utilityStmt);
    // As pg_dump writes it; who names a schema himself is told that it cannot be.
    if (strcmp(create->extname, "pg_projections") != 0 || !create->if_not_exists) return statement;
    List *kept = NIL;
    const char *named = nullptr;
    for (DefElem *option : pg::each<DefElem>(create->options))
        if (strcmp(option->defname, "new_version") == 0)
            return statement; // he knows what he wants
        else if (names_another_schema(option))
            named = defGetString(option);
        else
            kept = lappend(kept, option);
    if (named == nullptr) return statement;
    ereport(NOTICE, (errmsg("extension \"%s\" belongs to schema pg_catalog, not \"%s\"", create->extname, named),
                     errdetail("It is installed in version %s, whose dump says so.", one_schema_version),
                     errhint("After the restore: ALTER EXTENSION pg_projections UPDATE;")));
    kept = lappend(kept, makeDefElem(pstrdup("new_version"),
                                     reinterpret_cast<Node *>(makeString(pstrdup(one_schema_version))), -1));
    auto *copy = pg::copy<PlannedStmt>(statement); // the tree may be a cached plan's
    reinterpret_cast<CreateExtensionStmt *>(copy->utilityStmt)->options = kept;
    return copy;
}

} // namespace declare
