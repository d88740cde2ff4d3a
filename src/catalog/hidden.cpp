// Owner, grants and comment of what is hidden, looked at and put right.
#include "catalog/hidden.hpp"

#include "catalog/projection.hpp"
#include "pg/lock.hpp"
#include "pg/scope.hpp"

namespace catalog {

bool is_secured(Oid hidden, Oid owner, AclMode needed) {
    HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(hidden));
    if (!HeapTupleIsValid(tuple)) return true; // gone: validate() tells
    bool plain;
    static_cast<void>(SysCacheGetAttr(RELOID, tuple, Anum_pg_class_reloptions, &plain));
    auto *form = reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple));
    bool kept = superuser_arg(form->relowner) && !(plain && form->relkind == RELKIND_VIEW);
    ReleaseSysCache(tuple);
    return kept && pg_class_aclmask(hidden, owner, needed, ACLMASK_ALL) == needed;
}

// REASSIGN OWNED fires no event trigger, and a restore may leave out grants, or bring what an older version made. One
// session at a time: others would fail on the catalog row. (Test: sql/rights_hidden.)
void secure_hidden(const Projection &projection) {
    if (XactReadOnly || RecoveryInProgress() || IsInParallelMode() || !sql_is_current()) return;
    LOCKTAG tag = pg::advisory_tag(pg::LockClass::hidden_grants, projection.relation, 0);
    LockAcquire(&tag, ExclusiveLock, false, false);
    const char *text = psprintf("SELECT projections_internal._secure_projection(%u)", projection.relation);
    pg::as_superuser([&] { pg::with_spi([&] { pg::spi_execute(text); }); });
    CommandCounterIncrement();
}

void mark_hidden(const char *object, const char *kind, const char *of) {
    pg::spi_execute(
        psprintf("COMMENT ON %s IS %s", object, quote_literal_cstr(psprintf("pg_projections: %s of %s", kind, of))));
}

} // namespace catalog
