// Filling the shadow: what a rebuild does between its first commit and the attempts to put the shadow in place.
#include "rebuild/fill.hpp"

#include "catalog/lineage.hpp"
#include "maintain/log.hpp"
#include "maintain/reliance.hpp"
#include "rebuild/alter.hpp"
#include "rebuild/copy.hpp"
#include "rebuild/shadow.hpp"
#include "rebuild/swap.hpp"

namespace rebuild {

using catalog::Projection;

namespace {

constexpr int most_rounds = 100;

void note_shadow(Rebuild &rebuild) {
    execute(psprintf("UPDATE projections_internal.rebuild SET shadow = %u WHERE id = " INT64_FORMAT, rebuild.shadow,
                     rebuild.id));
    maintain::record_reliance(rebuild.shadow); // what it is made of may be replaced while it is filled
}

// An altered projection's rows are told apart by other indexes than before.
pg::vector<Oid> not_paired(Rebuild &rebuild) {
    return rebuild.alteration ? identity_indexes(live(rebuild)) : pg::vector<Oid>{};
}

} // namespace

void make(Rebuild &rebuild) {
    step(rebuild, [&] {
        drop_shadows(rebuild.target);
        Projection &projection = live(rebuild);
        pg::as_superuser([&] { pg::with_spi([&] { rebuild.shadow = make_shadow(projection); }); });
        note_shadow(rebuild);
    });
}

// New sources get triggers, under locks that are not waited for long.
void make_altered(Rebuild &rebuild) {
    step(rebuild, [&] { drop_shadows(rebuild.target); });
    for (long pause = least_pause;; pause = std::min(pause * 2, longest_pause)) {
        ErrorData *error = attempt(rebuild, true, [&] {
            make_altered_shadow(rebuild);
            note_shadow(rebuild);
        });
        if (error == nullptr) break;
        rebuild.shadow = InvalidOid;
        if (!timed_out(error)) give_up(rebuild, error);
        wait_a_moment(rebuild, pause);
    }
    SPI_commit();
}

// Transactions that write what the shadow reads and may have begun before it was there.
void wait_for_writers(Rebuild &rebuild) {
    ErrorData *error = attempt(rebuild, false, [&] {
        List *tags = NIL; // looked at together: who begins to write the second while the first is waited for is new
        for (Oid source : shadow(rebuild).sources) {
            ListCell *cell;
            foreach (cell, find_all_inheritors(source, NoLock, nullptr)) {
                auto *tag = static_cast<LOCKTAG *>(palloc(sizeof(LOCKTAG)));
                SET_LOCKTAG_RELATION(*tag, MyDatabaseId, lfirst_oid(cell));
                tags = lappend(tags, tag);
            }
        }
        WaitForLockersMultiple(tags, ShareLock, true);
    });
    if (error) give_up(rebuild, error);
    SPI_commit();
}

void copy(Rebuild &rebuild) {
    int64 expected = 0;
    step(rebuild, [&] { expected = expected_rows(rebuild.target); });
    enter(rebuild, "copying", expected);
    step(rebuild, [&] {
        Projection &next = shadow(rebuild);
        // First: a table that is rewritten by ALTER TABLE looks empty to an older snapshot.
        for (Oid source : next.sources) {
            LockRelationOid(source, AccessShareLock);
            find_all_inheritors(source, AccessShareLock, nullptr); // locks those below
        }
        std::span<const Oid> sources{next.sources.data(), next.sources.size()};
        uint64 partitions = catalog::partitions_of(sources);
        Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
        pg::as_owner(next.owner(), [&] { pg::with_spi([&] { maintain::discard_changes(next, snapshot); }); });
        rebuild.rows = copy_rows(next, snapshot);
        catalog::refuse_other_partitions(sources, partitions);
        UnregisterSnapshot(snapshot);
        note_progress(rebuild, rebuild.rows, rebuild.rows);
    });
}

void build_indexes(Rebuild &rebuild) {
    enter(rebuild, "indexing");
    step(rebuild, [&] {
        LockRelationOid(rebuild.target, AccessShareLock);
        int level = NewGUCNestLevel();
        pg::set_locally("max_parallel_maintenance_workers", psprintf("%d", rebuild_workers));
        pg::as_superuser([&] {
            pg::with_spi([&] {
                copy_indexes(rebuild.target, rebuild.shadow, not_paired(rebuild));
                if (rebuild.alteration) index_altered_shadow(rebuild);
                pg::spi_execute(psprintf("ANALYZE %s", pg::qualified_name(rebuild.shadow)));
            });
        });
        AtEOXact_GUC(false, level);
    });
}

bool has_all_indexes(Rebuild &rebuild) {
    pg::vector<IndexPair> pairs = index_pairs(rebuild.target, rebuild.shadow, not_paired(rebuild));
    return std::all_of(pairs.begin(), pairs.end(), [](const IndexPair &pair) { return OidIsValid(pair.shadow); });
}

void catch_up(Rebuild &rebuild) {
    enter(rebuild, "catching up");
    TimestampTz told = GetCurrentTimestamp();
    int64 rows = 0, done = 0;
    for (int round = 0; round < most_rounds; round++) {
        step(rebuild, [&] {
            rows = catch_up_log(rebuild);
            done += rows;
            note_progress(rebuild, done, done + rows);
        });
        notice_progress(rebuild, told, done, done + rows);
        if (rows <= short_log) return;
    }
}

void follow_log(Rebuild &rebuild) {
    step(rebuild, [&] { catch_up_log(rebuild); });
}

bool apply_rest_of_log(Rebuild &rebuild, TimestampTz) {
    int64 left = 0;
    for (Oid log : shadow(rebuild).changes)
        left += ask(psprintf("SELECT pg_catalog.count(*) FROM (SELECT FROM %s LIMIT " INT64_FORMAT ") AS l",
                             pg::qualified_name(log), 10 * short_log));
    if (left >= 10 * short_log) return false;
    catch_up_log(rebuild);
    return true;
}

} // namespace rebuild
