// Whoever took a right away must not be stopped from writing by it, nor wait for others who write: a row that somebody
// else is marking is left to him, and the row is read and locked past the transaction's snapshot, so that neither
// REPEATABLE READ nor SERIALIZABLE fails for it. (Tests: sql/rights_revoke, isolation/revoke)
#include "maintain/missed.hpp"

#include "capture/missed.hpp"
#include "pg/scope.hpp"

namespace maintain {
namespace {

struct Mark {
    Relation table;
    AttrNumber relation, since, reason;
};

HeapTuple find_row(const Mark &mark, Oid projection) {
    ScanKeyData key;
    ScanKeyInit(&key, mark.relation, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(projection));
    SysScanDesc scan = systable_beginscan(mark.table, InvalidOid, false, SnapshotSelf, 1, &key);
    HeapTuple row = systable_getnext(scan);
    if (HeapTupleIsValid(row)) row = heap_copytuple(row);
    systable_endscan(scan);
    return row;
}

void update_row(const Mark &mark, HeapTuple row, const char *reason) {
    TupleDesc desc = RelationGetDescr(mark.table);
    Datum values[MaxHeapAttributeNumber];
    bool nulls[MaxHeapAttributeNumber]{}, replaced[MaxHeapAttributeNumber]{};
    values[mark.since - 1] = TimestampTzGetDatum(GetCurrentTransactionStartTimestamp());
    values[mark.reason - 1] = CStringGetTextDatum(reason);
    replaced[mark.since - 1] = replaced[mark.reason - 1] = true;
    HeapTuple changed = heap_modify_tuple(row, desc, values, nulls, replaced);
    CatalogTupleUpdate(mark.table, &row->t_self, changed);
    CommandCounterIncrement();
}

// Whether it was not marked before.
bool mark_row(const Mark &mark, Oid projection, const char *reason) {
    for (;;) {
        CHECK_FOR_INTERRUPTS();
        HeapTuple row = find_row(mark, projection);
        if (row == nullptr || !heap_attisnull(row, mark.since, RelationGetDescr(mark.table))) return false;
        HeapTuple locked = heap_copytuple(row);
        Buffer buffer;
        TM_FailureData failure;
        TM_Result result = heap_lock_tuple(mark.table, locked, GetCurrentCommandId(true), LockTupleNoKeyExclusive,
                                           LockWaitSkip, false, &buffer, &failure);
        ReleaseBuffer(buffer);
        if (result == TM_Updated) continue; // meanwhile
        if (result != TM_Ok) return false;
        update_row(mark, row, reason);
        return true;
    }
}

// What is told where the right is back when it is looked for.
constexpr catalog::MissingRight given_again{"could not read its sources", ""};

void warn(catalog::Projection &projection, const char *role, const catalog::MissingRight &missing) {
    ereport(WARNING, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                      errmsg("projection %s takes in no more changes and is stale", projection.known_name()),
                      errdetail("Its owner, %s, %s.", role, missing.what),
                      errhint("%s%sSELECT projections.repair(%s);", missing.grant, *missing.grant ? "; " : "",
                              quote_literal_cstr(projection.known_name()))));
}

} // namespace

void mark_missed() {
    List *missed = capture::missed();
    if (missed == NIL) return;
    Oid table = catalog::catalog_relation();
    CommandCounterIncrement();
    Mark mark{table_open(table, RowExclusiveLock), get_attnum(table, "relation"), get_attnum(table, "stale_since"),
              get_attnum(table, "stale_reason")};
    if (mark.since == InvalidAttrNumber || mark.reason == InvalidAttrNumber)
        missed = NIL; // SQL objects of an old version
    ListCell *cell;
    foreach (cell, missed) {
        catalog::Projection *projection = catalog::projection(lfirst_oid(cell));
        if (projection == nullptr) continue; // dropped
        const char *role = quote_identifier(GetUserNameFromId(projection->owner(), false));
        auto rights = projection->missing_rights();
        auto missing = rights.empty() ? given_again : rights.front();
        if (mark_row(mark, projection->relation, psprintf("%s %s", role, missing.what)) &&
            !OidIsValid(projection->shadow_of))
            warn(*projection, role, missing);
    }
    table_close(mark.table, NoLock);
}

} // namespace maintain
