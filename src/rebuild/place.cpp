// Putting in place.
//
// The two ends of a rebuild by shadow: the live table is locked against its maintenance and the shadow brought up to it
// (step 6 in rebuild.cpp), then older snapshots are waited for and the two change places (step 7). All of it has
// pg_projections.swap_lock_timeout.
#include "rebuild/place.hpp"

#include "maintain/flush.hpp"
#include "maintain/reliance.hpp"
#include "rebuild/alter.hpp"
#include "rebuild/complete.hpp"
#include "rebuild/course.hpp"
#include "rebuild/replay.hpp"
#include "rebuild/shadow.hpp"

namespace rebuild {

using catalog::Flow;
using catalog::Kind;
using catalog::Projection;

constinit int swap_lock_timeout = 150; // ms

namespace {

// Whether the process of a transaction waits for a table that this session has locked. Maintenance takes its snapshots
// after its locks, and where it keeps the transaction's it refuses a table that has changed places since.
bool waits_for(VirtualTransactionId transaction, Oid table) {
    LOCKTAG tag;
    SET_LOCKTAG_RELATION(tag, MyDatabaseId, table);
    // A lock with this tag comes and goes under this partition's lock only, and so does who waits for it.
    LWLock *partition = LockHashPartitionLock(LockTagHashCode(&tag));
    LWLockAcquire(partition, LW_SHARED);
    PGPROC *process = pg::process_entry(transaction);
    LOCK *wanted = process ? process->waitLock : nullptr;
    // In any other mode it is a user's LOCK TABLE, who will read under that snapshot.
    bool waits = wanted && process->waitLockMode == RowExclusiveLock && memcmp(&wanted->tag, &tag, sizeof tag) == 0;
    LWLockRelease(partition);
    return waits;
}

bool waits_for_us(Rebuild &rebuild, VirtualTransactionId transaction) {
    // A handler's tables are locked by users' own statements, too.
    if (live(rebuild).kind == Kind::handler) return waits_for(transaction, live(rebuild).definition);
    for (auto [relation, mode] : rebuild.locked)
        if (waits_for(transaction, relation)) return true;
    return false;
}

// Waits for the transactions whose snapshots do not see what `last` committed. Returns whether they ended in time.
bool wait_for_snapshots(Rebuild &rebuild, TransactionId last, TimestampTz deadline) {
    int count;
    VirtualTransactionId *old =
        GetCurrentVirtualXIDs(last, true, false, PROC_IS_AUTOVACUUM | PROC_IN_VACUUM | PROC_IN_SAFE_IC, &count);
    for (int i = 0; i < count; i++) {
        while (!VirtualXactLock(old[i], false)) {
            if (waits_for_us(rebuild, old[i])) break;
            int still;
            VirtualTransactionId *now =
                GetCurrentVirtualXIDs(last, true, false, PROC_IS_AUTOVACUUM | PROC_IN_VACUUM | PROC_IN_SAFE_IC, &still);
            bool holds = false;
            for (int j = 0; j < still; j++) holds |= VirtualTransactionIdEquals(old[i], now[j]);
            if (!holds) break; // the transaction goes on, with another snapshot
            if (GetCurrentTimestamp() >= deadline) return false;
            CHECK_FOR_INTERRUPTS();
            static_cast<void>(
                WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 1, PG_WAIT_EXTENSION));
            ResetLatch(MyLatch);
        }
    }
    return true;
}

long left_until(TimestampTz deadline) {
    return std::max(1L, TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline));
}

void limit_lock_waits(TimestampTz deadline) { pg::set_locally("lock_timeout", psprintf("%ld", left_until(deadline))); }

// The shadow may hold what a function returned before it was replaced.
void refuse_stale_shadow(Rebuild &rebuild) {
    const char *reason = nullptr;
    MemoryContext outside = CurrentMemoryContext;
    pg::as_superuser([&] {
        pg::with_spi([&] {
            pg::spi_execute(psprintf("SELECT stale_reason FROM projections_internal.projection WHERE relation = %u AND "
                                     "stale_since IS NOT NULL",
                                     rebuild.shadow));
            if (SPI_processed == 0) return;
            reason = pg::Row().text(1, outside);
            if (reason == nullptr) reason = "";
        });
    });
    if (reason == nullptr) return;
    ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                    errmsg("what projection %s relies on changed during its rebuild", rebuild.name),
                    errdetail("Its next generation is stale: %s.", reason), errhint("Start the rebuild again.")));
}

void put_in_place(Rebuild &rebuild) {
    refuse_lacking(rebuild);
    if (OidIsValid(rebuild.shadow)) refuse_stale_shadow(rebuild);
    // What follows changes what is recorded.
    if (catalog::sql_is_current()) execute(psprintf("SELECT projections_internal._forget_relied(%u)", rebuild.target));
    rebuild.course->exchange(rebuild);
    execute(psprintf(
        "UPDATE projections_internal.projection SET stale_since = NULL, stale_reason = NULL, building = false WHERE "
        "relation = %u",
        rebuild.target));
    pg::as_superuser([&] { pg::with_spi([&] { drop_shadow(rebuild.shadow); }); });
    name_adopted(rebuild);
    maintain::record_reliance(rebuild.target);
    execute(psprintf("UPDATE projections_internal.rebuild SET shadow = NULL WHERE id = " INT64_FORMAT, rebuild.id));
}

} // namespace

bool try_to_finish(Rebuild &rebuild) {
    TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), swap_lock_timeout);
    TransactionId last = InvalidTransactionId;
    bool ready = false, at_once = rebuild.course->lock == nullptr;
    ErrorData *error = attempt(rebuild, true, [&] {
        limit_lock_waits(deadline);
        rebuild.course->hold_still(rebuild);
        pg::with_snapshot(GetLatestSnapshot(), [&] {
            // An index that was being made while the locks were waited for is made for the shadow before the next try.
            ready = rebuild.course->is_complete(rebuild) && rebuild.course->apply_rest(rebuild, deadline);
        });
        last = GetTopTransactionId();
        if (ready && at_once) pg::with_snapshot(GetLatestSnapshot(), [&] { put_in_place(rebuild); });
    });
    if (error == nullptr) {
        SPI_commit();
        note_replayed(rebuild);
        if (ready && at_once) {
            release_session_locks(rebuild);
            return true;
        }
        // Who has seen a table that was not filled yet may go on seeing that.
        if (ready && live(rebuild).flow != Flow::none)
            error = attempt(rebuild, false, [&] { ready = wait_for_snapshots(rebuild, last, deadline); });
    }
    if (error == nullptr && ready) {
        error = attempt(rebuild, false, [&] {
            limit_lock_waits(deadline);
            rebuild.course->lock(rebuild);
            pg::with_snapshot(GetLatestSnapshot(), [&] { put_in_place(rebuild); });
        });
        if (error == nullptr) SPI_commit();
    }
    release_session_locks(rebuild);
    if (error && !timed_out(error)) give_up(rebuild, error);
    return error == nullptr && ready;
}

} // namespace rebuild
