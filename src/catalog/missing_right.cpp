// What a projection's owner must be allowed for its definition to run, as the server checks it in a query of his: to
// use the schemas that it names, to read the sources, and to execute the functions. validate() tells of the same by
// _missing_rights(). (Test: sql/rights_revoke)
#include "catalog/projection.hpp"
#include "pg/scope.hpp"

namespace catalog {
namespace {

struct Search {
    Oid role;
    const char *role_name;
    pg::vector<MissingRight> missing;

    void note(const char *what, const char *grant) {
        auto same = [&](const MissingRight &each) { return strcmp(each.what, what) == 0; };
        if (std::none_of(missing.begin(), missing.end(), same)) missing.push_back({what, grant});
    }
};

bool may_read_columns(Oid source, Oid role, const pg::vector<AttrNumber> *columns) {
    if (pg_class_aclcheck(source, role, ACL_SELECT) == ACLCHECK_OK) return true;
    if (columns == nullptr) return pg_attribute_aclcheck_all(source, role, ACL_SELECT, ACLMASK_ALL) == ACLCHECK_OK;
    if (columns->empty()) return pg_attribute_aclcheck_all(source, role, ACL_SELECT, ACLMASK_ANY) == ACLCHECK_OK;
    return std::all_of(columns->begin(), columns->end(), [&](AttrNumber column) {
        return pg_attribute_aclcheck(source, column, role, ACL_SELECT) == ACLCHECK_OK;
    });
}

// As a query of his would be allowed to: maintenance names the source in such. Null: all columns.
void find_unreadable(Search &search, Oid source, const pg::vector<AttrNumber> *columns) {
    if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(source))) return; // nothing comes from there
    if (!may_read_columns(source, search.role, columns)) {
        const char *name = pg::qualified_name(source);
        search.note(psprintf("may not read %s", name), psprintf("GRANT SELECT ON %s TO %s", name, search.role_name));
    } else if (check_enable_rls(source, search.role, true) == RLS_ENABLED)
        search.note(psprintf("does not see all rows of %s", pg::qualified_name(source)),
                    psprintf("ALTER ROLE %s BYPASSRLS", search.role_name));
}

bool note_forbidden(Oid function, void *context) {
    auto *search = static_cast<Search *>(context);
    if (pg::function_aclcheck(function, search->role, ACL_EXECUTE) == ACLCHECK_OK) return false;
    const char *name = format_procedure_qualified(function);
    search->note(psprintf("may not call %s", name),
                 psprintf("GRANT EXECUTE ON FUNCTION %s TO %s", name, search->role_name));
    return false;
}

bool find_forbidden(Node *node, Search *search) {
    if (node == nullptr) return false;
    return check_functions_in_node(node, note_forbidden, search) || pg::walk_children(node, find_forbidden, search);
}

// The schemas of what an object, a view or its rule, depends on: statements of maintenance name it, too.
void find_closed_schemas(Search &search, Oid depending_class, Oid depending, pg::vector<Oid> &seen) {
    Relation depend = table_open(DependRelationId, AccessShareLock);
    ScanKeyData keys[2];
    ScanKeyInit(&keys[0], Anum_pg_depend_classid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(depending_class));
    ScanKeyInit(&keys[1], Anum_pg_depend_objid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(depending));
    SysScanDesc scan = systable_beginscan(depend, DependDependerIndexId, true, nullptr, 2, keys);
    while (HeapTuple tuple = systable_getnext(scan)) {
        auto &row = *reinterpret_cast<Form_pg_depend>(GETSTRUCT(tuple));
        // What is being dropped may have left its row here for a moment: nothing is locked.
        int cache = get_object_catcache_oid(row.refclassid);
        if (cache >= 0 && !SearchSysCacheExists1(cache, ObjectIdGetDatum(row.refobjid))) continue;
        ObjectAddress object{row.refclassid, row.refobjid, 0};
        Oid schema = get_object_namespace(&object);
        if (!OidIsValid(schema) || std::find(seen.begin(), seen.end(), schema) != seen.end()) continue;
        seen.push_back(schema);
        if (pg::schema_aclcheck(schema, search.role, ACL_USAGE) == ACLCHECK_OK) continue;
        const char *name = quote_identifier(get_namespace_name(schema));
        search.note(psprintf("may not use schema %s", name),
                    psprintf("GRANT USAGE ON SCHEMA %s TO %s", name, search.role_name));
    }
    systable_endscan(scan);
    table_close(depend, AccessShareLock);
}

// Without a lock on the view, which may be about to give way to another.
void find_closed_schemas(Search &search, Oid view) {
    pg::vector<Oid> seen;
    find_closed_schemas(search, RelationRelationId, view, seen);
    Oid rule =
        GetSysCacheOid2(RULERELNAME, Anum_pg_rewrite_oid, ObjectIdGetDatum(view), CStringGetDatum(ViewSelectRuleName));
    if (OidIsValid(rule)) find_closed_schemas(search, RewriteRelationId, rule, seen);
}

} // namespace

pg::vector<MissingRight> Projection::missing_rights() {
    Oid role = pg::owner_of(relation); // owner() may change grants
    Search search{role, quote_identifier(GetUserNameFromId(role, false)), {}};
    const compile::Block *read = kind == Kind::query ? &block() : nullptr;
    pg::as_owner(role, [&] {
        find_closed_schemas(search, definition);
        for (Oid source : sources) {
            const pg::vector<AttrNumber> *columns = nullptr;
            if (read)
                for (const compile::Source &each : read->sources)
                    if (each.relation == source) columns = &each.used;
            find_unreadable(search, source, columns);
        }
        if (read) find_forbidden(reinterpret_cast<Node *>(read->expressions()), &search);
    });
    return search.missing;
}

void Projection::require_rights() {
    if (may_read()) return;
    auto missing = missing_rights();
    if (missing.empty()) return; // given again
    ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                    errmsg("projection %s cannot read its sources: its owner, %s, %s",
                           OidIsValid(shadow_of) ? pg::qualified_name(shadow_of) : known_name(),
                           quote_identifier(GetUserNameFromId(owner(), false)), missing.front().what),
                    errdetail("Its definition gives what its owner may see, and would lack rows."),
                    errhint("%s;", missing.front().grant)));
}

} // namespace catalog

extern "C" {

PG_FUNCTION_INFO_V1(projections_missing_rights);

// _missing_rights(projection) → (what, grant).
Datum projections_missing_rights(PG_FUNCTION_ARGS) {
    InitMaterializedSRF(fcinfo, 0);
    auto *result = reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo);
    catalog::look(PG_GETARG_OID(0), [&](catalog::Projection &projection) {
        for (const catalog::MissingRight &missing : projection.missing_rights()) {
            Datum values[] = {CStringGetTextDatum(missing.what), CStringGetTextDatum(missing.grant)};
            bool nulls[2] = {};
            tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
        }
    });
    return 0;
}

} // extern "C"
