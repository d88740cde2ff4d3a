// Steps and commits, locks that outlive them, progress in the row of projections_internal.rebuild, and giving up.
#include "rebuild/session.hpp"
#include "events/failure.hpp"
#include "rebuild/parts.hpp"
#include "rebuild/shadow.hpp"
#include "rights/caller.hpp"

namespace rebuild {

using catalog::Projection;

static void fail_dropped(const Rebuild &rebuild) {
    ereport(ERROR,
            (errcode(ERRCODE_UNDEFINED_TABLE),
             errmsg("projection %s was dropped while it was being rebuilt", rebuild.name),
             errdetail("What the rebuild has made goes with it."), errhint("projections.audit_log tells who did it.")));
}

Projection &live(Rebuild &rebuild) {
    while (Projection *projection = catalog::projection(rebuild.target))
        if (catalog::hold(*projection, catalog::Hold::all)) return *projection;
    fail_dropped(rebuild);
    pg_unreachable();
}

Projection &shadow(Rebuild &rebuild) { return rights::projection_of(rebuild.shadow); }

bool timed_out(const ErrorData *error) {
    return error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE || error->sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED;
}

void execute(const char *text) {
    pg::as_superuser([&] { pg::with_spi([&] { pg::spi_execute(text); }); });
    CommandCounterIncrement();
}

static int64 first_value(const char *text) {
    int64 value = 0;
    pg::with_spi([&] {
        pg::spi_execute(text);
        if (SPI_processed > 0) value = pg::Row().bigint(1);
    });
    return value;
}

int64 ask(const char *text) {
    int64 value = 0;
    pg::as_superuser([&] { value = first_value(text); });
    return value;
}

int64 ask_owner(const Rebuild &rebuild, const char *text) {
    int64 value = 0;
    as_projection_owner(rebuild, [&] { value = first_value(text); });
    return value;
}

const char *ask_text(const char *text) {
    const char *value = nullptr;
    MemoryContext outside = CurrentMemoryContext;
    pg::as_superuser([&] {
        pg::with_spi([&] {
            pg::spi_execute(text);
            if (SPI_processed > 0) value = pg::Row().text(1, outside);
        });
    });
    return value;
}

int64 expected_rows(Oid table) {
    return ask(psprintf("SELECT greatest(reltuples, 0)::bigint FROM pg_catalog.pg_class WHERE oid = %u", table));
}

void forget_request(Oid projection) {
    execute(psprintf("DELETE FROM projections_internal.rebuild_request WHERE projection = %u", projection));
}

void lock_for_session(Rebuild &rebuild, Oid relation, LOCKMODE mode) {
    LockRelId id{relation, MyDatabaseId};
    // A session's lock that is granted in the moment in which the wait for it times out stays, and nobody knows of it
    // (test: test/rebuild_stress). So it is waited for as the transaction's, which ends with it.
    LockRelationOid(relation, mode);
    LockRelationIdForSession(&id, mode);
    pg::within(rebuild.memory, [&] { rebuild.locked.push_back({relation, mode}); });
}

void release_session_locks(Rebuild &rebuild) {
    for (auto [relation, mode] : rebuild.locked) {
        LockRelId id{relation, MyDatabaseId};
        UnlockRelationIdForSession(&id, mode);
    }
    rebuild.locked.clear();
}

namespace {

// Dropping takes its locks in another order than the writers who feed the shadow, and of two who wait for each other it
// must not be a writer who fails: whoever looks for a deadlock first is the victim, and is this session, which tries
// again. A lock_timeout would be held off, as any cancellation is. (Test: isolation/revoke_rebuild)
template <class Body>
ErrorData *attempt_dropping(Rebuild &rebuild, Body &&body) {
    for (;;) {
        ErrorData *error = attempt(rebuild, true, [&] { pg::with_setting("deadlock_timeout", "10ms", body); });
        if (error == nullptr || !timed_out(error)) return error;
        CHECK_FOR_INTERRUPTS();
    }
}

} // namespace

void give_up(Rebuild &rebuild, ErrorData *error) {
    release_session_locks(rebuild);
    bool cancelled = error->sqlerrcode == ERRCODE_QUERY_CANCELED;
    const char *told = rebuild.lacking ? psprintf("%s: %s", error->message, rebuild.lacking) : error->message;
    // Who cancels twice must not leave a shadow behind, which all writers would go on feeding. An ERROR takes it back.
    uint32 held_off = QueryCancelHoldoffCount;
    QueryCancelHoldoffCount = held_off + 1;
    ErrorData *another = attempt_dropping(rebuild, [&] {
        drop_shadows(rebuild.target);
        forget_request(rebuild.target);
        execute(
            psprintf("UPDATE projections_internal.rebuild SET ended_at = pg_catalog.clock_timestamp(), outcome = '%s', "
                     "shadow = NULL, error = %s WHERE id = " INT64_FORMAT,
                     cancelled ? "cancelled" : "failed", quote_literal_cstr(events::bounded(told)), rebuild.id));
    });
    if (another)
        ereport(WARNING,
                (errmsg("what the rebuild of %s had made could not be removed: %s", rebuild.name, another->message),
                 errhint("SELECT * FROM projections.cleanup_orphans();")));
    else
        SPI_commit();
    if (!another && rebuild.alteration) try_to_drop_idle_parts(rebuild);
    QueryCancelHoldoffCount = held_off;
    // Whatever was missed first when it was dropped. An error waits for no lock.
    if (!cancelled && catalog::projection(rebuild.target) == nullptr) fail_dropped(rebuild);
    pg::rethrow(error);
}

void enter(Rebuild &rebuild, const char *phase, int64 total) {
    rebuild.phase = phase;
    step(rebuild, [&] {
        execute(psprintf(
            "UPDATE projections_internal.rebuild SET phase = '%s', phase_at = pg_catalog.clock_timestamp(), done = "
            "%s, total = %s WHERE id = " INT64_FORMAT,
            phase, total < 0 ? "NULL" : "0", total < 0 ? "NULL" : psprintf(INT64_FORMAT, total), rebuild.id));
    });
}

void note_progress(Rebuild &rebuild, int64 done, int64 total) {
    execute(psprintf("UPDATE projections_internal.rebuild SET done = " INT64_FORMAT ", total = " INT64_FORMAT
                     " WHERE id = " INT64_FORMAT,
                     done, total, rebuild.id));
}

void notice_progress(Rebuild &rebuild, TimestampTz &told, int64 done, int64 total) {
    TimestampTz now = GetCurrentTimestamp();
    if (!TimestampDifferenceExceeds(told, now, 10000)) return;
    told = now;
    ereport(NOTICE, (errmsg("rebuild of %s: %s, " INT64_FORMAT " of " INT64_FORMAT " (%d %%)", rebuild.name,
                            rebuild.phase, done, total, total > 0 ? static_cast<int>(100 * done / total) : 100)));
}

void wait_a_moment(Rebuild &rebuild, long milliseconds) {
    ErrorData *error = attempt(rebuild, false, [&] {
        static_cast<void>(
            WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, milliseconds, PG_WAIT_EXTENSION));
        ResetLatch(MyLatch);
        CHECK_FOR_INTERRUPTS();
    });
    if (error) give_up(rebuild, error);
}

} // namespace rebuild
