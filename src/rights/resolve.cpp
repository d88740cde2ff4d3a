#include "rights/resolve.hpp"

#include "events/slot.hpp"

namespace rights {

catalog::Projection *resolve(text *name, bool missing_ok) {
    events::refuse_while_applying();
    RangeVar *range = makeRangeVarFromNameList(textToQualifiedNameList(name));
    Oid relation = RangeVarGetRelid(range, NoLock, missing_ok);
    if (!OidIsValid(relation)) return nullptr;
    catalog::Projection *projection = catalog::projection(relation);
    if (projection == nullptr)
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("\"%s\" is not a projection", text_to_cstring(name)),
                        errdetail("It is a relation that nothing maintains."),
                        errhint("projections.definitions lists the projections.")));
    if (!pg::owns_relation(relation, GetUserId()))
        aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_TABLE, get_rel_name(relation));
    return projection;
}

} // namespace rights
