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
#include "rebuild/copy.hpp"
#include "rebuild/handler.hpp"
#include "rebuild/merge.hpp"
#include "rebuild/replay.hpp"
#include "rebuild/shadow.hpp"
#include "rebuild/swap.hpp"

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

// With the live table locked against its maintenance: what is left. Returns false where that is too much for a lock.
bool last_catch_up(Rebuild &rebuild, TimestampTz deadline) {
    if (!replays(rebuild)) {
        int64 left = 0;
        for (Oid log : shadow(rebuild).changes)
            left += ask(psprintf("SELECT pg_catalog.count(*) FROM (SELECT FROM %s LIMIT " INT64_FORMAT ") AS l",
                                 pg::qualified_name(log), 10 * short_log));
        if (left >= 10 * short_log) return false;
        catch_up_log(rebuild);
        return true;
    }
    return replay_to_live(rebuild, deadline);
}

// The shadow's log holds what its table has still to be told. Its numbers are its own.
void adopt_log(Rebuild &rebuild) {
    const char *log = pg::qualified_name(shadow(rebuild).changes.front());
    execute(psprintf("UPDATE projections_internal.projection AS p SET changes = o.changes FROM "
                     "projections_internal.projection AS o WHERE "
                     "p.relation IN (%u, %u) AND o.relation IN (%u, %u) AND o.relation <> p.relation",
                     rebuild.target, rebuild.shadow, rebuild.target, rebuild.shadow));
    pg::with_setting("pg_projections._allow_regression", "on", [&] {
        execute(
            psprintf("UPDATE projections_internal.slot SET position = coalesce((SELECT min(change) - 1 FROM %s), "
                     "pg_sequence_last_value(pg_get_serial_sequence(%s, 'change')::regclass), 0) WHERE projection = %u",
                     log, quote_literal_cstr(log), rebuild.target));
    });
}

// Whether the live table is fed as its shadow is: not one that is altered, or has never been filled.
bool same_feed(Rebuild &rebuild) { return live(rebuild).flow != Flow::none && rebuild.alteration == nullptr; }

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
            const char *found = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
            reason = MemoryContextStrdup(outside, found ? found : "");
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
    // Somebody may have begun to follow its rows.
    if (rebuild.alteration == nullptr && !rebuild.merges && !replays_as_is(rebuild))
        refuse_swap(rebuild.name, rebuild.target);
    if (rebuild.merges)
        rebuild.rows = merge_tables(rebuild);
    else if (replays_as_is(rebuild))
        swap_tables(rebuild);
    else
        pg::as_superuser([&] {
            pg::with_spi([&] {
                if (rebuild.alteration) fit_live_table(rebuild);
                swap_storage(rebuild.target, rebuild.shadow);
            });
        });
    if (rebuild.alteration) {
        adopt_events(rebuild, rebuild.alteration->async);
        adopt_definition(rebuild);
        restore_details(rebuild);
    } else if (replays(rebuild))
        adopt_events(rebuild, live(rebuild).async);
    else if (live(rebuild).async || live(rebuild).flow == Flow::log) // paused meanwhile
        adopt_log(rebuild);
    execute(psprintf(
        "UPDATE projections_internal.projection SET stale_since = NULL, stale_reason = NULL, building = false WHERE "
        "relation = %u",
        rebuild.target));
    pg::as_superuser([&] { pg::with_spi([&] { drop_shadow(rebuild.shadow); }); });
    name_adopted(rebuild);
    maintain::record_reliance(rebuild.target);
    execute(psprintf("UPDATE projections_internal.rebuild SET shadow = NULL WHERE id = " INT64_FORMAT, rebuild.id));
}

// In the order in which maintenance locks. Where the live table is fed in another way, or not at all, what transactions
// have captured for one generation would be lost to the other: there must be none.
void hold_still(Rebuild &rebuild) {
    if (replays_as_is(rebuild)) {
        hold_events_still(rebuild);
        return;
    }
    bool same = same_feed(rebuild);
    pg::vector<Oid> sources = shadow(rebuild).sources;
    if (!same) sources.insert(sources.end(), live(rebuild).sources.begin(), live(rebuild).sources.end());
    std::sort(sources.begin(), sources.end());
    sources.erase(std::unique(sources.begin(), sources.end()), sources.end());
    for (Oid source : sources) {
        if (same) {
            LockRelationOid(source, AccessShareLock);
            continue;
        }
        List *tables = find_all_inheritors(source, NoLock, nullptr);
        ListCell *cell;
        foreach (cell, tables) lock_for_session(rebuild, lfirst_oid(cell), ShareRowExclusiveLock);
    }
    lock_for_session(rebuild, rebuild.target, ShareRowExclusiveLock);
}

} // namespace

bool try_to_finish(Rebuild &rebuild) {
    TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), swap_lock_timeout);
    TransactionId last = InvalidTransactionId;
    bool ready = false;
    ErrorData *error = attempt(rebuild, true, [&] {
        limit_lock_waits(deadline);
        hold_still(rebuild);
        pg::with_snapshot(GetLatestSnapshot(), [&] { ready = last_catch_up(rebuild, deadline); });
        last = GetTopTransactionId();
        if (ready && rebuild.merges) pg::with_snapshot(GetLatestSnapshot(), [&] { put_in_place(rebuild); });
    });
    if (error == nullptr) {
        SPI_commit();
        note_replayed(rebuild);
        if (ready && rebuild.merges) {
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
            if (replays_as_is(rebuild))
                lock_tables(rebuild);
            else {
                LockRelationOid(rebuild.target, AccessExclusiveLock);
                LockRelationOid(rebuild.shadow, AccessExclusiveLock);
            }
            pg::with_snapshot(GetLatestSnapshot(), [&] { put_in_place(rebuild); });
        });
        if (error == nullptr) SPI_commit();
    }
    release_session_locks(rebuild);
    if (error && !timed_out(error)) give_up(rebuild, error);
    return error == nullptr && ready;
}

} // namespace rebuild
