// catch_up: what a worker would do, in the caller's session and transaction.
#include "events/problem.hpp"
#include "events/slot.hpp"
#include "maintain/flush.hpp"
#include "maintain/locks.hpp"
#include "pg/scope.hpp"
#include "rights/audit.hpp"
#include "rights/caller.hpp"
#include "shared/throughput.hpp"

namespace operate {
namespace {

constexpr events::Limits batch{100000, 1000};

// An error is told by health(), too.
events::Progress advance(catalog::Projection &projection, int slot, int64 events) {
    events::Progress progress;
    Oid relation = projection.relation;
    MemoryContext memory = CurrentMemoryContext;
    PG_TRY();
    { progress = events::advance(projection, slot, {events, batch.milliseconds}, true); }
    PG_CATCH();
    {
        MemoryContextSwitchTo(memory);
        events::batch_ended(relation, slot, CopyErrorData());
        PG_RE_THROW();
    }
    PG_END_TRY();
    if (!progress.busy) events::batch_ended(relation, slot, nullptr);
    return progress;
}

// Of all projections, one that cannot be read for keeps no other from being caught up. With its relations locked.
bool is_left_out(catalog::Projection &projection) {
    if (projection.may_read()) return false;
    pg::vector<catalog::MissingRight> missing = projection.missing_rights();
    if (missing.empty()) return false; // given again
    ereport(WARNING, (errmsg("projection %s was left out: its owner %s", projection.known_name(), missing.front().what),
                      errhint("%s;", missing.front().grant)));
    return true;
}

// All slots of one projection, until nothing decided is left or `most` events are applied. `all`: it is one of all.
int64 catch_up(Oid relation, int64 most, bool all) {
    int64 applied = 0;
    // All slots at once: with groups of one slot locked, waiting for another's worker, which may want them, would
    // deadlock.
    catalog::Projection *declared = catalog::projection(relation);
    if (declared == nullptr) return 0;
    maintain::lock_relations({&declared, 1});
    int slots = events::lock_slots(relation);
    declared = catalog::projection(relation);
    if (declared == nullptr || (all && is_left_out(*declared))) return 0;
    for (int slot = 0; slot < slots && applied < most; slot++) {
        events::Progress progress;
        do {
            CHECK_FOR_INTERRUPTS();
            catalog::Projection *projection = catalog::projection(relation);
            if (projection == nullptr) return applied;
            progress = advance(*projection, slot, std::min(most - applied, batch.events));
            applied += progress.events;
            CommandCounterIncrement();
        } while (progress.more && applied < most);
    }
    maintain::flush_logs(); // for projections over this one
    return applied;
}

} // namespace
} // namespace operate

extern "C" {

PG_FUNCTION_INFO_V1(projections_refuse_while_applying);
Datum projections_refuse_while_applying(PG_FUNCTION_ARGS) {
    static_cast<void>(fcinfo);
    events::refuse_while_applying();
    PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(projections_catch_up);
// Applies what one projection, or every one that the caller owns, has not applied yet. Returns how many events.
AUDITED(projections_catch_up) {
    events::refuse_while_applying();
    if (IsolationUsesXactSnapshot())
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("projections cannot be caught up in a transaction above READ COMMITTED"),
                        errdetail("Its snapshot does not see what was committed since it began."),
                        errhint("Use a transaction of its own in READ COMMITTED.")));
    int64 most = PG_ARGISNULL(1) ? PG_INT64_MAX : PG_GETARG_INT64(1), applied = 0;
    pg::vector<Oid> relations;
    bool all = PG_ARGISNULL(0);
    if (!all) {
        catalog::Projection *projection = &rights::own_projection(fcinfo, catalog::Hold::all);
        if (projection->paused)
            ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                            errmsg("projection %s is paused", projection->name()),
                            errdetail("Nothing is applied to a paused projection."),
                            errhint("SELECT projections.resume(%s);", quote_literal_cstr(projection->name()))));
        for (const catalog::Projection *part : catalog::parts_of(projection->relation))
            relations.push_back(part->relation);
        relations.push_back(projection->relation);
    } else {
        for (catalog::Projection *each : catalog::all())
            if (each->async && !OidIsValid(each->shadow_of) && pg::owns_relation(each->relation, GetUserId()))
                relations.push_back(each->relation);
    }
    maintain::flush_logs();
    for (Oid relation : relations)
        if (applied < most) applied += operate::catch_up(relation, most - applied, all);
    if (applied == 0) rights::audit_nothing();
    shared::write_noted();
    PG_RETURN_INT64(applied);
}

} // extern "C"
