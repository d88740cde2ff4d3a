// Replay.
//
// A shadow has slots of its own, which start before the first event and are advanced here as workers advance those of
// others, by the same code: what fails in a replay fails for the same reason, and is recorded and parked likewise; what
// fails in it alone, fails the rebuild (complete.cpp). What
// somebody has decided about events holds: skipped and resolved ones are left out, states set by hand come at their
// positions.
//
// In the end nothing is applied to the live projection while the shadow is brought as far as that is. An inline one is
// as far as the last event that is visible: who inserts one waits, before it is applied, for what is then in place.
#include "rebuild/replay.hpp"

#include "events/events.hpp"
#include "events/left_out.hpp"
#include "events/slot.hpp"
#include "events/source.hpp"
#include "maintain/flush.hpp"
#include "rebuild/complete.hpp"
#include "rebuild/handler.hpp"

namespace rebuild {

using catalog::Flow;
using catalog::Kind;
using catalog::Projection;

const events::EventSource &source_of(Rebuild &rebuild) {
    return events::source_of(OidIsValid(rebuild.shadow) ? shadow(rebuild) : live(rebuild));
}

void refuse_archived(Rebuild &rebuild) {
    int64 kept = events::kept_history(live(rebuild));
    if (kept == 0) return;
    ereport(ERROR,
            (errcode(pg::error::history_archived),
             errmsg("history of %s that projection %s would need is archived",
                    pg::qualified_name(source_of(rebuild).relation), rebuild.name),
             errdetail("Events up to position " INT64_FORMAT " may have been deleted; a replay needs all.", kept),
             errhint("Restore the events first; or keep the totals that the projection has; or set option "
                     "\"detached\" to \"remove\", with which they are taken away.")));
}

void refuse_failed(Rebuild &rebuild, const char *condition, const char *hint) {
    const char *failed = ask_text(psprintf("SELECT format('Event %%s failed (%%s): %%s', position, sqlstate, error) "
                                           "FROM projections_internal.failure WHERE "
                                           "projection = %u AND %s AND %s ORDER BY position LIMIT 1",
                                           rebuild.shadow, events::open_failure, condition));
    if (failed == nullptr) return;
    ereport(ERROR,
            (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
             errmsg("projection %s cannot be replayed", rebuild.name), errdetail("%s", failed), errhint("%s", hint)));
}

// Statistics for the plans of what is called, as autovacuum would gather them for a table that grows.
void analyze(Rebuild &rebuild) {
    for (const TablePair &each : table_pairs(rebuild)) execute(psprintf("ANALYZE %s", pg::qualified_name(each.shadow)));
}

namespace {

constexpr events::Limits batch{100000, 1000}, short_batch{100000, 100};
// Events that are applied, or known by position, in one attempt to finish.
constexpr int64 most_ahead = 10000;

events::Progress advance(Rebuild &rebuild, int slot, events::Limits limits) {
    events::Progress progress;
    confined(rebuild, [&] { progress = events::advance(shadow(rebuild), slot, limits, true); });
    CommandCounterIncrement();
    return progress;
}

// What the live projection has applied is decided, though this session may not know: it has not seen who drew positions
// before it began. Applies what the slot lacks of it.
events::Progress advance_to_known(Rebuild &rebuild, int number, int64 to, events::Limits limits) {
    events::Progress progress;
    confined(rebuild, [&] {
        pg::as_superuser([&] {
            Projection &next = shadow(rebuild);
            if (next.kind == Kind::query) {
                progress = events::advance_to(next, number, to);
                return;
            }
            events::Slot slot = events::locked_slot(next, number);
            progress = events::apply_events(slot, to, limits);
            events::move_checkpoint(slot, progress);
        });
    });
    CommandCounterIncrement();
    return progress;
}

// The lowest of the live checkpoints; 0 where there are none.
int64 known_position(Rebuild &rebuild) {
    if (rebuild.alteration) return 0;
    int64 lowest = PG_INT64_MAX;
    for (const events::Slot &each : events::slots_of(live(rebuild))) lowest = std::min(lowest, each.position);
    return lowest == PG_INT64_MAX ? 0 : lowest;
}

// One pass over the slots. Returns whether there is more.
bool replay_batch(Rebuild &rebuild, int64 head, int64 &lowest) {
    bool more = false;
    lowest = PG_INT64_MAX;
    int slots = 0; // a shadow's are numbered without a gap
    step(rebuild, [&] { slots = static_cast<int>(events::slots_of(shadow(rebuild)).size()); });
    for (int slot = 0; slot < slots; slot++)
        step(rebuild, [&] {
            events::Progress progress = advance(rebuild, slot, batch);
            int64 known = known_position(rebuild);
            if (!progress.more && progress.position < known) {
                int64 before = progress.position;
                progress = advance_to_known(rebuild, slot, known, batch);
                progress.more = progress.position > before && progress.position < known;
            }
            more |= progress.more;
            lowest = std::min(lowest, progress.position);
            note_progress(rebuild, std::min(lowest, head), head);
            maintain::flush_logs();
        });
    return more;
}

// What a batch removes of a state machine's keys at their end is limited.
void expire_rest(Rebuild &rebuild) {
    int64 batches = 0;
    step(rebuild, [&] {
        if (shadow(rebuild).kind != Kind::state_machine) return;
        const char *terminal = ask_text(psprintf(
            "SELECT options -> 'terminal' FROM projections_internal.projection WHERE relation = %u", rebuild.shadow));
        const char *retention = ask_text(psprintf(
            "SELECT options ->> 'retention' FROM projections_internal.projection WHERE relation = %u", rebuild.shadow));
        if (retention == nullptr || terminal == nullptr) return;
        batches = ask_owner(rebuild, psprintf("SELECT 1 + count(*) / 1000 FROM %s AS t WHERE %s::jsonb @> t.state AND "
                                              "t.updated_at < clock_timestamp() - %s::interval",
                                              pg::qualified_name(rebuild.shadow), quote_literal_cstr(terminal),
                                              quote_literal_cstr(retention)));
    });
    int64 lowest;
    for (int64 i = 1; i < batches; i++) replay_batch(rebuild, 0, lowest);
}

// The events in (from, to], decided or not, without the slot's position being moved.
events::Progress apply_between(Rebuild &rebuild, int64 from, int64 to) {
    events::Progress progress;
    confined(rebuild, [&] {
        pg::as_superuser([&] {
            events::Slot slot{shadow(rebuild), 0, 1, from};
            progress = events::apply_events(slot, to, {PG_INT64_MAX, 0});
        });
    });
    CommandCounterIncrement();
    return progress;
}

pg::vector<int64> visible_positions(Rebuild &rebuild, int64 from, int64 to) {
    const events::EventSource &source = source_of(rebuild);
    const char *position = events::position_expression(source);
    pg::vector<int64> positions;
    as_projection_owner(rebuild, [&] { // the table is a user's
        pg::with_spi([&] {
            pg::spi_execute(psprintf("SELECT %s::bigint %s WHERE %s > " INT64_FORMAT " AND %s <= " INT64_FORMAT
                                     " ORDER BY 1 LIMIT " INT64_FORMAT,
                                     position, events::events_from(source), position, from, position, to, most_ahead));
            positions = pg::bigints();
        });
    });
    return positions;
}

// Those that were undecided when an earlier attempt went past them. Their transactions applied them to the live tables
// behind the others, too.
void apply_late(Rebuild &rebuild, int64 reached) {
    const Ahead &ahead = rebuild.ahead;
    if (ahead.to == 0) return;
    for (int64 position : visible_positions(rebuild, ahead.from, std::min(ahead.to, reached)))
        if (!std::binary_search(ahead.applied.begin(), ahead.applied.end(), position))
            apply_between(rebuild, position - 1, position);
}

// Who applies events inline waits for us, so what is visible is what the live tables hold: positions before the last of
// them may be undecided.
bool replay_visible(Rebuild &rebuild) {
    int64 position = events::locked_slot(shadow(rebuild), 0).position;
    apply_late(rebuild, position);
    int64 decided = events::safe_position(source_of(rebuild)).position;
    pg::vector<int64> next = visible_positions(rebuild, position, PG_INT64_MAX);
    bool all = static_cast<int64>(next.size()) < most_ahead;
    if (!next.empty()) {
        Projection &made = shadow(rebuild);
        events::Progress progress = apply_between(rebuild, position, next.back());
        pg::as_superuser([&] { events::move_checkpoint(events::Slot{made, 0, 1, position}, progress); });
        CommandCounterIncrement();
        position = next.back();
    }
    rebuild.ahead_now.from = std::min(decided, position);
    rebuild.ahead_now.to = position;
    pg::within(rebuild.memory,
               [&] { rebuild.ahead_now.applied = visible_positions(rebuild, rebuild.ahead_now.from, position); });
    if (static_cast<int64>(rebuild.ahead_now.applied.size()) >= most_ahead)
        ereport(ERROR, (errcode(ERRCODE_LOCK_NOT_AVAILABLE),
                        errmsg("too many events come after one whose transaction has not ended")));
    return all;
}

} // namespace

bool replays(Rebuild &rebuild) {
    // An altered projection's shadow is not as it was.
    const catalog::Projection &made = OidIsValid(rebuild.shadow) ? shadow(rebuild) : live(rebuild);
    return made.kind != Kind::query || made.flow == Flow::events;
}

void replay(Rebuild &rebuild) {
    int64 head = 0, lowest;
    step(rebuild, [&] {
        refuse_archived(rebuild);
        head = events::safe_position(source_of(rebuild)).position;
    });
    enter(rebuild, "replaying", head);
    TimestampTz told = GetCurrentTimestamp();
    int64 next_analyze = 1, batches = 0;
    while (replay_batch(rebuild, head, lowest)) {
        notice_progress(rebuild, told, std::min(lowest, head), head);
        if (++batches == next_analyze) {
            step(rebuild, [&] { analyze(rebuild); });
            next_analyze *= 2;
        }
    }
    expire_rest(rebuild);
    retry_lacking(rebuild);
    step(rebuild, [&] {
        refuse_lacking(rebuild);
        analyze(rebuild);
    });
}

void replay_more(Rebuild &rebuild) {
    int64 lowest;
    while (replay_batch(rebuild, 0, lowest)) continue;
}

void hold_events_still(Rebuild &rebuild) {
    Projection &projection = live(rebuild);
    // As maintain::lock_relations.
    if (projection.kind == Kind::handler) lock_for_session(rebuild, projection.definition, ShareRowExclusiveLock);
    for (Oid source : projection.sources) LockRelationOid(source, AccessShareLock);
    pg::vector<Oid> tables = tables_of(rebuild.target);
    std::sort(tables.begin(), tables.end());
    for (Oid table : tables) lock_for_session(rebuild, table, ShareRowExclusiveLock);
}

bool replay_to_live(Rebuild &rebuild, TimestampTz deadline) {
    if (!live(rebuild).async && live(rebuild).kind != Kind::query) return replay_visible(rebuild);
    for (const events::Slot &each : events::slots_of(live(rebuild))) {
        events::Progress progress;
        do {
            progress = advance(rebuild, each.number, short_batch);
            if (!progress.more && progress.position < each.position && rebuild.alteration == nullptr) {
                int64 before = progress.position;
                progress = advance_to_known(rebuild, each.number, each.position, short_batch);
                progress.more = progress.position > before;
            }
            if (progress.position >= each.position) break;
            if (!progress.more)
                refuse_failed(
                    rebuild, psprintf("slot = %d", each.number),
                    "The live projection has passed it, and with on_failure = stop the shadow cannot. Correct "
                    "the function, or skip the event, and rebuild again.");
            if (GetCurrentTimestamp() >= deadline) return false;
        } while (progress.more || progress.position < each.position);
    }
    return true;
}

void note_replayed(Rebuild &rebuild) {
    rebuild.ahead.from = rebuild.ahead_now.from;
    rebuild.ahead.to = rebuild.ahead_now.to;
    rebuild.ahead.applied.swap(rebuild.ahead_now.applied);
}

void lock_tables(Rebuild &rebuild) {
    pg::vector<TablePair> tables;
    // A background process has no portal whose snapshot would do. (Test: test/t/029_rights_worker.pl)
    pg::with_snapshot(GetLatestSnapshot(), [&] { tables = table_pairs(rebuild); });
    std::sort(tables.begin(), tables.end(), [](const TablePair &a, const TablePair &b) { return a.table < b.table; });
    for (const TablePair &each : tables) LockRelationOid(each.table, AccessExclusiveLock);
    for (const TablePair &each : tables) LockRelationOid(each.shadow, AccessExclusiveLock);
}

void adopt_events(Rebuild &rebuild, bool async) {
    auto run = [&](const char *format) { execute(psprintf(format, rebuild.target, rebuild.shadow)); };
    run("DELETE FROM projections_internal.slot WHERE projection = %1$u");
    if (async) run("UPDATE projections_internal.slot SET projection = %1$u WHERE projection = %2$u");
    run("UPDATE projections_internal.failure SET resolved_at = pg_catalog.clock_timestamp(), resolution = 'rebuilt', "
        "resolved_by "
        "= session_user, next_retry_at = NULL WHERE projection = %1$u AND resolved_at IS NULL");
    run("UPDATE projections_internal.failure SET projection = %1$u WHERE projection = %2$u AND resolved_at IS NULL");
    run("DELETE FROM projections_internal.parked_event WHERE projection = %1$u");
    run("UPDATE projections_internal.parked_event SET projection = %1$u WHERE projection = %2$u");
    run("DELETE FROM projections_internal.transition WHERE projection = %1$u AND set_by IS NULL");
    run("UPDATE projections_internal.transition SET projection = %1$u WHERE projection = %2$u AND set_by IS NULL");
}

} // namespace rebuild
