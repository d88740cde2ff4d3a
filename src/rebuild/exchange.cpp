// The live table and its shadow: held still, locked, exchanged, and what belongs to a generation handed on.
#include "rebuild/exchange.hpp"

#include "pg/list.hpp"
#include "rebuild/alter.hpp"
#include "rebuild/handler.hpp"
#include "rebuild/merge.hpp"
#include "rebuild/replay.hpp"
#include "rebuild/swap.hpp"

namespace rebuild {

using catalog::Flow;

namespace {

// The shadow's log holds what its table has still to be told. Its numbers are its own.
void adopt_log(Rebuild &rebuild) {
    const pg::vector<Oid> &logs = shadow(rebuild).changes;
    const char *first = quote_literal_cstr(pg::qualified_name(logs.front()));
    const char *waiting = pg::joined(static_cast<int>(logs.size()), " UNION ALL ", [&](int i) {
        return psprintf("SELECT change FROM %s", pg::qualified_name(logs[static_cast<std::size_t>(i)]));
    });
    execute(psprintf("UPDATE projections_internal.projection AS p SET changes = o.changes FROM "
                     "projections_internal.projection AS o WHERE "
                     "p.relation IN (%u, %u) AND o.relation IN (%u, %u) AND o.relation <> p.relation",
                     rebuild.target, rebuild.shadow, rebuild.target, rebuild.shadow));
    pg::with_setting("pg_projections._allow_regression", "on", [&] {
        execute(psprintf(
            "UPDATE projections_internal.slot SET position = coalesce((SELECT min(change) - 1 FROM (%s) AS w), "
            "pg_sequence_last_value(pg_get_serial_sequence(%s, 'change')::regclass), 0) WHERE projection = %u",
            waiting, first, rebuild.target));
    });
}

void hold_target(Rebuild &rebuild) { lock_for_session(rebuild, rebuild.target, ShareRowExclusiveLock); }

} // namespace

void hold_fed_alike(Rebuild &rebuild) {
    if (live(rebuild).flow == Flow::none) { // never filled: it is not fed at all
        hold_fed_otherwise(rebuild);
        return;
    }
    for (Oid source : shadow(rebuild).sources) LockRelationOid(source, AccessShareLock);
    hold_target(rebuild);
}

void hold_fed_otherwise(Rebuild &rebuild) {
    pg::vector<Oid> sources = shadow(rebuild).sources;
    sources.insert(sources.end(), live(rebuild).sources.begin(), live(rebuild).sources.end());
    std::sort(sources.begin(), sources.end());
    sources.erase(std::unique(sources.begin(), sources.end()), sources.end());
    for (Oid source : sources) {
        List *tables = find_all_inheritors(source, NoLock, nullptr);
        ListCell *cell;
        foreach (cell, tables) lock_for_session(rebuild, lfirst_oid(cell), ShareRowExclusiveLock);
    }
    hold_target(rebuild);
}

void lock_pair(Rebuild &rebuild) {
    LockRelationOid(rebuild.target, AccessExclusiveLock);
    LockRelationOid(rebuild.shadow, AccessExclusiveLock);
}

void exchange(Rebuild &rebuild) {
    refuse_swap(rebuild.name, rebuild.target); // somebody may have begun to follow its rows
    pg::as_superuser([&] { pg::with_spi([&] { swap_storage(rebuild.target, rebuild.shadow); }); });
    if (live(rebuild).async || live(rebuild).flow == Flow::log) adopt_log(rebuild); // paused meanwhile
}

void exchange_altered(Rebuild &rebuild) {
    pg::as_superuser([&] {
        pg::with_spi([&] {
            fit_live_table(rebuild);
            swap_storage(rebuild.target, rebuild.shadow);
        });
    });
    adopt_events(rebuild, rebuild.alteration->async);
    adopt_definition(rebuild);
    restore_details(rebuild);
}

void exchange_replayed(Rebuild &rebuild) {
    swap_tables(rebuild);
    adopt_events(rebuild, live(rebuild).async);
}

void merge_replayed(Rebuild &rebuild) {
    rebuild.rows = merge_tables(rebuild);
    adopt_events(rebuild, live(rebuild).async);
}

} // namespace rebuild
