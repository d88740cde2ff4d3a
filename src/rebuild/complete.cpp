// Complete.
//
// In a replay an event may fail that was applied the first time: the disk is full, a table or the function is another
// one. If the shadow took the live table's place all the same, rows that were right would be gone, and all that is left
// of them would be a failed event. So the rebuild fails instead, and the live table stays. What had failed in the live
// projection, or had been skipped or parked there, may fail again.
// (sql/rebuild_complete, test/t/028_environment.pl)
#include "rebuild/complete.hpp"

#include "events/events.hpp"
#include "events/left_out.hpp"
#include "rebuild/handler.hpp"
#include "rebuild/replay.hpp"

namespace rebuild {

using catalog::Flow;
using catalog::Kind;
using catalog::Projection;

namespace {

// Whether the live projection tells by checkpoints what it has applied. Else it follows its source in the transactions
// that change it, or is filled from the table as it is: all events are in it.
bool has_checkpoints(Rebuild &rebuild) {
    const Projection &projection = live(rebuild);
    return projection.async && projection.changes.empty();
}

// Failed and parked events f of the shadow, in order, that the live projection has applied. An event whose keys could
// not be read is in no slot.
const char *lacking(Rebuild &rebuild, const char *columns) {
    const char *reached =
        has_checkpoints(rebuild)
            ? psprintf("f.position <= (SELECT max(s.position) FROM projections_internal.slot AS s WHERE s.projection = "
                       "%u AND (s.slot = f.slot OR f.keys = '{}' OR %s <> %s))",
                       rebuild.target, events::slot_count_text(psprintf("%u", rebuild.target)),
                       events::slot_count_text(psprintf("%u", rebuild.shadow)))
            : "true";
    return psprintf("SELECT %s FROM %s AS f WHERE %s AND f.position NOT IN (SELECT l.position FROM %s AS l) ORDER BY "
                    "f.position",
                    columns, events::still_to_come(psprintf("%u", rebuild.shadow)), reached,
                    events::left_out(psprintf("%u", rebuild.target)));
}

// A first fill has nothing to lose, and what is copied from tables leaves nothing out.
bool may_lack(Rebuild &rebuild) { return replays(rebuild) && live(rebuild).flow != Flow::none; }

struct Failed {
    int slot;
    int64 position;
};

pg::vector<Failed> failed_only_here(Rebuild &rebuild) {
    pg::vector<Failed> found;
    pg::as_superuser([&] {
        pg::with_spi([&] {
            pg::spi_execute(psprintf("SELECT g.slot, g.position FROM (%s) AS g WHERE g.sqlstate IS NOT NULL LIMIT 1000",
                                     lacking(rebuild, "f.slot, f.position, f.sqlstate")));
            for (uint64 i = 0; i < SPI_processed; i++) {
                pg::Row row(i);
                found.push_back({row.integer(1), row.bigint(2)});
            }
        });
    });
    return found;
}

bool retry(Rebuild &rebuild, const Failed &failed) {
    bool resolved = false;
    confined(rebuild, [&] {
        pg::as_superuser(
            [&] { resolved = events::retry_now(events::locked_slot(shadow(rebuild), failed.slot), failed.position); });
    });
    CommandCounterIncrement();
    return resolved;
}

} // namespace

void retry_lacking(Rebuild &rebuild) {
    bool progress = may_lack(rebuild) && shadow(rebuild).kind != Kind::query;
    while (progress) {
        pg::vector<Failed> failed;
        step(rebuild, [&] { pg::within(rebuild.memory, [&] { failed = failed_only_here(rebuild); }); });
        progress = false;
        for (const Failed &each : failed) step(rebuild, [&] { progress |= retry(rebuild, each); });
    }
}

void refuse_lacking(Rebuild &rebuild) {
    if (!may_lack(rebuild)) return;
    const char *event = ask_text(psprintf(
        "%s LIMIT 1", lacking(rebuild, "CASE WHEN f.sqlstate IS NULL THEN format('Event %s waits behind a failed one "
                                       "in the replay.', f.position) ELSE format('Event %s fails in the replay (%s): "
                                       "%s.', f.position, f.sqlstate, f.error) END")));
    if (event == nullptr) return;
    rebuild.lacking = MemoryContextStrdup(rebuild.memory, event);
    ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                    errmsg("projection %s cannot be replayed", rebuild.name),
                    errdetail("%s It has been applied before, and the projection stays as it is.", event),
                    errhint("It was applied when the function, or what it reads and writes, was another. Correct that, "
                            "and try again.")));
}

} // namespace rebuild
