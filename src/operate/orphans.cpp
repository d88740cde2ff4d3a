// Orphans: the lock that tells a rebuild's owner from what it left behind.
//
// What is an orphan is decided in SQL (src/schema/64_orphans.sql).
#include "pg/lock.hpp"

extern "C" {

PG_FUNCTION_INFO_V1(projections_hold_off_rebuild);
// Takes, to the end of the transaction, the lock that a rebuild of the projection holds; false if one does. A process
// identifier may be read before its process ends; the lock cannot, so nothing is removed under a live rebuild.
Datum projections_hold_off_rebuild(PG_FUNCTION_ARGS) {
    LOCKTAG tag = pg::advisory_tag(pg::LockClass::rebuild, PG_GETARG_OID(0), 0);
    PG_RETURN_BOOL(LockAcquire(&tag, ExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL);
}

} // extern "C"
