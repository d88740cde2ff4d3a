// What operators do to single keys and events of handlers, reducers and state machines.
#include "catalog/settings.hpp"
#include "declare/declare.hpp"
#include "events/batch.hpp"
#include "events/events.hpp"
#include "events/left_out.hpp"
#include "maintain/locks.hpp"
#include "maintain/maintaining.hpp"
#include "rebuild/rebuild.hpp"
#include "rights/audit.hpp"
#include "rights/caller.hpp"

namespace operate {
namespace {

using catalog::Projection;

Projection &known(Oid relation) {
    Projection *projection = catalog::projection(relation);
    if (projection == nullptr)
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("relation %u is not a projection", relation)));
    maintain::lock_relations({&projection, 1});
    projection = catalog::projection(relation);
    if (projection == nullptr)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("the projection was dropped meanwhile")));
    return *projection;
}

// The slot of what failed or is parked, locked. What is left of slots that there are no more is the first slot's.
events::Slot lock_slot(Projection &projection, int number) {
    auto slots = static_cast<int>(events::slots_of(projection).size());
    return events::locked_slot(projection, number < slots ? number : 0);
}

int64 apply_unblocked(Oid relation, int number) {
    Projection &projection = known(relation);
    int64 applied = 0;
    pg::as_superuser([&] { applied = events::apply_unblocked(lock_slot(projection, number)); });
    return applied;
}

struct OpenFailure {
    Oid projection = InvalidOid;
    int slot = 0;
    int64 position = 0;
};

OpenFailure open_failure(int64 id) {
    OpenFailure found;
    pg::with_spi([&] {
        pg::spi_execute(psprintf("SELECT projection::pg_catalog.oid, slot, position FROM projections_internal.failure "
                                 "WHERE id = " INT64_FORMAT " AND %s",
                                 id, events::open_failure));
        if (SPI_processed == 0) return;
        pg::Row row;
        found = {row.oid(1), row.integer(2), row.bigint(3)};
    });
    return found;
}

// Whether the slot stands before the failed event, as on_failure = stop has it.
bool stops_before(const events::Slot &slot, int64 position) {
    return events::declared(slot.projection).on_failure == events::OnFailure::stop && position > slot.position;
}

// There the event is applied in its place, with what comes before it: it is only made due.
bool retry_in_place(const events::Slot &slot, int64 id, int64 position) {
    pg::with_spi([&] {
        pg::spi_execute(psprintf("UPDATE projections_internal.failure SET next_retry_at = pg_catalog.clock_timestamp() "
                                 "WHERE id = " INT64_FORMAT,
                                 id));
    });
    CommandCounterIncrement();
    events::Progress progress = events::apply_events(slot, position, {PG_INT64_MAX, 0});
    events::move_checkpoint(slot, progress);
    return progress.position >= position;
}

bool retry_now(int64 id) {
    bool resolved = false;
    pg::as_superuser([&] {
        OpenFailure failure = open_failure(id);
        if (!OidIsValid(failure.projection))
            ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("there is no open failure " INT64_FORMAT, id),
                            errdetail("It does not exist, or is resolved already."),
                            errhint("SELECT * FROM projections.failures WHERE resolved_at IS NULL;")));
        Projection &projection = known(failure.projection);
        events::Slot slot = lock_slot(projection, failure.slot);
        if (!OidIsValid(open_failure(id).projection)) { // resolved while we waited for the slot
            resolved = true;
            return;
        }
        resolved = stops_before(slot, failure.position) ? retry_in_place(slot, id, failure.position)
                                                        : events::retry_now(slot, failure.position);
    });
    return resolved;
}

// ---------------------------------------------------------------------------------------------------------- set_state

struct NewState {
    const char *key, *state, *reason;
};

void check_state(Projection &projection, NewState &given) {
    if (projection.kind != catalog::Kind::state_machine)
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("%s is not a state machine", projection.name()),
                        errdetail("Only a state machine has states that can be named."),
                        errhint("Append an event that corrects the state.")));
    pg::with_spi([&] {
        Oid types[] = {REGCLASSOID, TEXTOID};
        Datum values[] = {ObjectIdGetDatum(projection.relation), CStringGetTextDatum(given.state)};
        pg::as_superuser([&] {
            if (pg::spi_execute_with_args(
                    "SELECT w.state, w.state IN (SELECT nullif(s.key, '') FROM jsonb_each(p.transitions) s UNION ALL "
                    "SELECT "
                    "e.value FROM jsonb_each(p.transitions) s, jsonb_each_text(s.value) e UNION ALL SELECT "
                    "p.options->>'initial') FROM projections_internal.projection p, LATERAL (SELECT CASE WHEN "
                    "(p.options->>'normalize')::boolean THEN upper($2) ELSE $2 END AS state) w WHERE p.relation = $1",
                    2, types, values, nullptr, true, 1) != SPI_OK_SELECT ||
                SPI_processed != 1)
                elog(ERROR, "reading transitions failed");
        });
        if (!pg::Row().boolean(2)) // NULL, too
            ereport(ERROR,
                    (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                     errmsg("\"%s\" is not a state of %s", given.state, projection.name()),
                     errdetail("States are those that its transitions name."),
                     errhint("SELECT transitions FROM projections_internal.projection WHERE relation = %s::regclass;",
                             quote_literal_cstr(projection.name()))));
        given.state = pg::Row().text(1, TopTransactionContext);
    });
}

// Locks the key's slot, or for an inline machine the key's row, as its owner. The position at which the state is set:
// behind it are the events that it comes before, which are those that still wait.
int64 lock_key(Projection &projection, const char *key) {
    int64 position = 0;
    const char *sql =
        projection.async
            ? psprintf(
                  "SELECT least(s.position, (SELECT min(w.position) - 1 FROM %s AS w WHERE $2 = ANY (w.keys) AND "
                  "(w.parked OR (SELECT coalesce(p.options->>'on_failure', 'park_key') <> 'skip' FROM "
                  "projections_internal.projection AS p WHERE p.relation = $1)))) FROM projections_internal.slot s "
                  "WHERE s.projection = $1 AND s.slot = %s FOR UPDATE OF s",
                  events::still_to_come("$1"), events::slot_text("$2", events::slot_count_text("$1")))
            : psprintf("SELECT t.position FROM %s t WHERE t.key = $2 AND $1 IS NOT NULL FOR UPDATE", projection.name());
    Oid types[] = {REGCLASSOID, TEXTOID};
    Datum values[] = {ObjectIdGetDatum(projection.relation), CStringGetTextDatum(key)};
    auto lock = [&] {
        if (pg::spi_execute_with_args(sql, 2, types, values, nullptr, false, 1) != SPI_OK_SELECT)
            elog(ERROR, "locking a key failed");
    };
    if (projection.async)
        pg::as_superuser(lock);
    else
        pg::as_owner(projection.owner(), lock);
    if (SPI_processed) position = pg::Row().bigint(1);
    return position;
}

// What the state says that the key is in; null where it is in none. As the owner.
const char *state_of(Projection &projection, const char *key) {
    Oid type = TEXTOID;
    Datum value = CStringGetTextDatum(key);
    const char *state = nullptr;
    pg::as_owner(projection.owner(), [&] {
        const char *sql = psprintf("SELECT t.state #>> '{}' FROM %s t WHERE t.key = $1", projection.name());
        if (pg::spi_execute_with_args(sql, 1, &type, &value, nullptr, false, 1) != SPI_OK_SELECT)
            elog(ERROR, "reading a state failed");
        if (SPI_processed > 0) state = pg::Row().text(1);
    });
    return state;
}

void set_state(Projection &projection, const NewState &given) {
    Oid types[] = {REGCLASSOID, TEXTOID, TEXTOID, TEXTOID, INT8OID, TEXTOID};
    Datum values[] = {ObjectIdGetDatum(projection.relation),
                      CStringGetTextDatum(given.key),
                      CStringGetTextDatum(given.state),
                      CStringGetTextDatum(given.reason),
                      0,
                      0};
    char nulls[] = {' ', ' ', ' ', ' ', ' ', 'n'};
    auto execute = [&](const char *sql) {
        if (pg::spi_execute_with_args(sql, lengthof(types), types, values, nulls, false, 0) < 0)
            elog(ERROR, "setting a state failed");
    };
    // The table is looked at as its owner and not as who writes our history: what is planned with it is his code.
    auto look = [&] {
        values[4] = Int64GetDatum(lock_key(projection, given.key));
        const char *from = state_of(projection, given.key);
        if (from) values[5] = CStringGetTextDatum(from), nulls[5] = ' ';
    };
    auto note = [&] {
        execute(
            "INSERT INTO projections_internal.transition (projection, key, from_state, to_state, position, event_time, "
            "reason, set_by) VALUES ($1, $2, coalesce($6, (SELECT p.options->>'initial' FROM "
            "projections_internal.projection p WHERE p.relation = $1)), $3, $5, now(), $4, session_user)");
        execute("INSERT INTO projections_internal.override (projection, key, position, state, reason, set_at) SELECT "
                "$1, $2, $5, "
                "to_jsonb($3), $4, now() WHERE coalesce($6, '') IS NOT NULL");
    };
    // Triggers of the owner's on the table run as the owner.
    auto write = [&] {
        maintain::writing_as(projection.relation, [&] {
            execute(psprintf(
                "INSERT INTO %s AS t (key, state, version, position, updated_at) SELECT $2, pg_catalog.to_jsonb($3), "
                "1, $5, "
                "now() WHERE $1 IS NOT NULL AND $4 IS NOT NULL AND coalesce($6, '') IS NOT NULL ON CONFLICT (key) DO "
                "UPDATE SET state = "
                "excluded.state, version = t.version + (t.state IS DISTINCT FROM excluded.state)::integer, position = "
                "greatest(t.position, "
                "excluded.position), updated_at = excluded.updated_at",
                projection.name()));
        });
    };
    pg::with_spi([&] {
        pg::with_setting("search_path", "pg_catalog, pg_temp", look);
        pg::as_superuser(note);
        catalog::with_pinned(projection.settings, [&] { pg::as_owner(projection.owner(), write); });
    });
}

} // namespace
} // namespace operate

extern "C" {

PG_FUNCTION_INFO_V1(projections_apply_unblocked);
Datum projections_apply_unblocked(PG_FUNCTION_ARGS) {
    PG_RETURN_INT64(operate::apply_unblocked(PG_GETARG_OID(0), PG_GETARG_INT32(1)));
}

PG_FUNCTION_INFO_V1(projections_retry_now);
Datum projections_retry_now(PG_FUNCTION_ARGS) { PG_RETURN_BOOL(operate::retry_now(PG_GETARG_INT64(0))); }

PG_FUNCTION_INFO_V1(projections_set_state);
AUDITED(projections_set_state) {
    events::refuse_while_applying();
    rights::text_argument(fcinfo, 0, "name");
    operate::NewState given{rights::text_argument(fcinfo, 1, "key"), rights::text_argument(fcinfo, 2, "state"),
                            rights::text_argument(fcinfo, 3, "reason")};
    catalog::Projection &projection = operate::known(rights::own_projection(fcinfo, catalog::Hold::all).relation);
    rebuild::hold_off_rebuild(projection);
    operate::check_state(projection, given);
    operate::set_state(projection, given);
    PG_RETURN_VOID();
}

} // extern "C"
