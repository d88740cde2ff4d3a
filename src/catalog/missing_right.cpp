// What a projection's owner must be allowed for its definition to run, as the server checks it in a query of his: to read
// the sources, and to execute the functions. (Test: sql/rights_revoke)
#include "catalog/projection.hpp"
#include "pg/scope.hpp"

namespace catalog {
namespace {

bool may_read_columns(Oid source, Oid role, const pg::vector<AttrNumber> *columns) {
    if (pg_class_aclcheck(source, role, ACL_SELECT) == ACLCHECK_OK) return true;
    if (columns == nullptr) return pg_attribute_aclcheck_all(source, role, ACL_SELECT, ACLMASK_ALL) == ACLCHECK_OK;
    if (columns->empty()) return pg_attribute_aclcheck_all(source, role, ACL_SELECT, ACLMASK_ANY) == ACLCHECK_OK;
    return std::all_of(columns->begin(), columns->end(), [&](AttrNumber column) {
        return pg_attribute_aclcheck(source, column, role, ACL_SELECT) == ACLCHECK_OK;
    });
}

// As a query of his would be allowed to: maintenance names the source in such. Null: all columns. As `role`.
bool may_read_source(Oid source, Oid role, const pg::vector<AttrNumber> *columns) {
    if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(source))) return true; // nothing comes from there
    return pg::schema_aclcheck(get_rel_namespace(source), role, ACL_USAGE) == ACLCHECK_OK &&
           may_read_columns(source, role, columns) && check_enable_rls(source, role, true) != RLS_ENABLED;
}

} // namespace

namespace {

struct Search {
    Oid role, found;
};

bool note_forbidden(Oid function, void *context) {
    auto *search = static_cast<Search *>(context);
    if (pg::function_aclcheck(function, search->role, ACL_EXECUTE) == ACLCHECK_OK) return false;
    search->found = function;
    return true;
}

bool find_forbidden(Node *node, Search *search) {
    if (node == nullptr) return false;
    return check_functions_in_node(node, note_forbidden, search) || pg::walk_children(node, find_forbidden, search);
}

Oid forbidden_function(const Query &definition, Oid role) {
    Search search{role, InvalidOid};
    find_forbidden(reinterpret_cast<Node *>(definition.targetList), &search);
    find_forbidden(definition.jointree->quals, &search);
    return search.found;
}

} // namespace

MissingRight Projection::missing_right() {
    MissingRight missing;
    Oid role = owner();
    const compile::Block *read = kind == Kind::query ? &block() : nullptr;
    pg::as_owner(role, [&] {
        for (Oid source : sources) {
            const pg::vector<AttrNumber> *columns = nullptr;
            if (read)
                for (const compile::Source &each : read->sources)
                    if (each.relation == source) columns = &each.used;
            if (!may_read_source(source, role, columns)) missing.source = source;
        }
        if (read) missing.function = forbidden_function(*read->core, role);
    });
    return missing;
}

} // namespace catalog
