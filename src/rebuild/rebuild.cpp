// Rebuild.
//
// A rebuild makes a shadow (shadow.cpp), fills it, brings it up to date, and lets it change places with the live table
// (swap.cpp). It is a procedure that commits after each of these steps, so that readers and writers go on: the live
// projection is maintained as always until the end. The order is what makes it right:
//
//  1. The shadow's catalog row is committed: writers that begin from here on feed it.
//  2. Writers that began before are waited for.
//  3. One snapshot: what it sees of the shadow's change log is thrown away, and the definition under it is copied. What
//     it does not see is in the log.
//  4. Indexes and statistics. 5. The log is applied, until little is left of it.
//  6. The live table is locked against its maintenance, for the session, and what is left of the log applied: from this
//     commit on the shadow is what the live table is, for every newer snapshot.
//  7. Snapshots that are older are waited for, as they would see an empty table; then ACCESS EXCLUSIVE, and the files
//     change places.
//
// 6 and 7 together are bounded by pg_projections.swap_lock_timeout; when they take longer, all locks are given back and
// tried again later. What reads events has a replay in the place of 2, 3 and 5.
//
// A session lock says that the rebuild lives. It goes with its process, so a row in projections_internal.rebuild
// without one is that of a rebuild which died, and what it left is removed by the next one, or by cleanup_orphans().
#include "rebuild/rebuild.hpp"

#include "declare/declare.hpp"
#include "declare/describe.hpp"
#include "events/slot.hpp"
#include "pg/lock.hpp"
#include "pg/scope.hpp"
#include "rebuild/alter.hpp"
#include "rebuild/copy.hpp"
#include "rebuild/course.hpp"
#include "rebuild/fill.hpp"
#include "rebuild/merge.hpp"
#include "rebuild/parts.hpp"
#include "rebuild/place.hpp"
#include "rebuild/session.hpp"
#include "rights/audit.hpp"
#include "rights/caller.hpp"

namespace rebuild {

using catalog::Flow;
using catalog::Kind;
using catalog::Projection;

namespace {

LOCKTAG rebuild_tag(Oid projection) { return pg::advisory_tag(pg::LockClass::rebuild, projection, 0); }

bool held_by_another(const LOCKTAG &tag) {
    if (LockAcquire(&tag, ShareLock, false, true) == LOCKACQUIRE_NOT_AVAIL) return true;
    LockRelease(&tag, ShareLock, false);
    return false;
}

[[noreturn]] void refuse_second(Projection &projection) {
    const char *holder = "It has just begun.";
    MemoryContext outside = CurrentMemoryContext;
    pg::as_superuser([&] {
        pg::with_spi([&] {
            pg::spi_execute(psprintf(
                "SELECT pg_catalog.format('Process %%s of %%s began it at %%s; it is %%s%%s.', pid, started_by, "
                "pg_catalog.to_char(started_at, 'YYYY-MM-DD HH24:MI:SS'), phase, "
                "' (' || done || coalesce(' of ' || total, '') || ')') "
                "FROM projections_internal.rebuild WHERE projection = %u AND ended_at IS NULL ORDER BY id DESC LIMIT 1",
                projection.relation));
            if (SPI_processed > 0) holder = pg::Row().text(1, outside);
        });
    });
    ereport(ERROR, (errcode(pg::error::rebuild_in_progress),
                    errmsg("projection %s is being rebuilt", projection.name()), errdetail("%s", holder),
                    errhint("Wait for it, see projections.rebuilds, or stop it: SELECT projections.cancel_rebuild(%s);",
                            quote_literal_cstr(projection.name()))));
    pg_unreachable();
}

void fill(Rebuild &rebuild) {
    for (auto each : rebuild.course->fill)
        if (each) each(rebuild);
}

void finish(Rebuild &rebuild) {
    const Course &course = *rebuild.course;
    enter(rebuild, "finishing");
    for (long pause = least_pause;; pause = std::min(pause * 2, longest_pause)) {
        bool complete = true;
        step(rebuild, [&] { complete = course.is_complete(rebuild); }); // an index may have come meanwhile
        if (!complete) {
            course.complete(rebuild);
            enter(rebuild, "finishing");
        }
        if (try_to_finish(rebuild)) return;
        wait_a_moment(rebuild, pause);
        course.follow(rebuild);
    }
}

// ----------------------------------------------------------------------------------------------------------- the whole

void begin(Rebuild &rebuild) {
    // Or what is right in the end would not stay so.
    step(rebuild, [&] {
        execute(psprintf("SELECT projections_internal._restore_triggers(p) FROM projections_internal.projection AS p "
                         "WHERE p.relation = %u",
                         rebuild.target));
    });
    step(rebuild, [&] {
        execute(psprintf(
            "UPDATE projections_internal.rebuild SET ended_at = pg_catalog.clock_timestamp(), outcome = 'died', "
            "shadow = NULL WHERE projection = %u AND ended_at IS NULL",
            rebuild.target));
        rebuild.id = ask(
            psprintf("INSERT INTO projections_internal.rebuild (projection, action, phase, pid, backend_start, "
                     "started_by) SELECT %u, "
                     "'%s', 'waiting', pid, backend_start, %s FROM pg_catalog.pg_stat_get_activity(%d) RETURNING id",
                     rebuild.target, rebuild.action, quote_literal_cstr(rebuild.by), MyProcPid));
    });
}

void end(Rebuild &rebuild, Finish finish) {
    step(rebuild, [&] {
        forget_request(rebuild.target);
        execute(psprintf(
            "UPDATE projections_internal.rebuild SET ended_at = pg_catalog.clock_timestamp(), phase = 'done', outcome "
            "= 'done', rows = " INT64_FORMAT " WHERE id = " INT64_FORMAT,
            rebuild.rows, rebuild.id));
    });
    ereport(NOTICE, (errmsg("projection %s %s by %s: " INT64_FORMAT " %s written in %ld ms", rebuild.name,
                            rebuild.alteration ? "altered" : "rebuilt", finish == Finish::merge ? "merge" : "swap",
                            rebuild.rows, rebuild.rows == 1 ? "row" : "rows",
                            TimestampDifferenceMilliseconds(rebuild.began, GetCurrentTimestamp()))));
}

void swap(Rebuild &rebuild) {
    if (rebuild.alteration) {
        make_altered(rebuild);
        fill_parts(rebuild);
    } else {
        make(rebuild);
    }
    step(rebuild, [&] { rebuild.course = &course_of(rebuild); });
    fill(rebuild);
    finish(rebuild);
    if (rebuild.alteration) drop_idle_parts(rebuild);
}

void note_finish(Rebuild &rebuild, Finish finish) {
    step(rebuild, [&] {
        execute(psprintf("UPDATE projections_internal.rebuild SET finish = '%s' WHERE id = " INT64_FORMAT,
                         finish == Finish::merge ? "merge" : "swap", rebuild.id));
    });
}

// Inner ones first: those above are told what changes.
void rebuild_parts(Rebuild &rebuild) {
    List *parts = NIL;
    pg::within(rebuild.memory, [&] {
        for (Projection *part : catalog::parts_of(rebuild.target)) parts = lappend_oid(parts, part->relation);
    });
    ListCell *cell;
    foreach (cell, parts)
        if (catalog::projection(lfirst_oid(cell))) run_rebuild(lfirst_oid(cell), rebuild.by);
}

void run(Rebuild &rebuild) {
    drop_idle_parts(rebuild); // of an alteration that died
    if (!rebuild.alteration) rebuild_parts(rebuild);
    if (live(rebuild).flow == Flow::none) rebuild.action = "fill";
    begin(rebuild);
    Choice choice = rebuild.alteration ? Choice{Finish::swap, ""} : choose(rebuild);
    Finish taken = choice.finish;
    rebuild.merges = choice.finish == Finish::merge && live(rebuild).kind != Kind::query;
    if (choice.finish != Finish::swap && !rebuild.merges) {
        bool merged = merge(rebuild, choice.finish == Finish::merge ? PG_INT64_MAX : merge_limit(rebuild));
        taken = merged ? Finish::merge : Finish::swap;
    }
    note_finish(rebuild, taken);
    if (taken == Finish::swap || rebuild.merges) swap(rebuild);
    end(rebuild, taken);
}

constexpr const char *no_rebuild = "a rebuild cannot run";

void refuse_block(FunctionCallInfo fcinfo, const char *what, const char *instead) {
    auto *call = reinterpret_cast<CallContext *>(fcinfo->context);
    if (call && IsA(call, CallContext) && !call->atomic) return;
    ereport(ERROR,
            (errcode(ERRCODE_ACTIVE_SQL_TRANSACTION), errmsg("%s inside a transaction block or a function", what),
             errdetail("It commits between its phases, so that nobody waits for it."),
             errhint("CALL it by itself%s%s", instead ? "; or: " : ".", instead ? instead : "")));
}

void refuse_paused(Projection &projection) {
    if (!projection.paused) return;
    ereport(ERROR,
            (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("projection %s is paused", projection.name()),
             errdetail("A rebuild would bring it up to date."),
             errhint("SELECT projections.resume(%s);", quote_literal_cstr(projection.name()))));
}

} // namespace

// With the rebuild's lock, which goes with the session or here, whatever happens.
void run_rebuild(Oid relation, const char *by, Alteration *alteration) {
    Projection &projection = rights::projection_of(relation);
    refuse_paused(projection);
    LOCKTAG tag = rebuild_tag(relation);
    if (LockAcquire(&tag, ExclusiveLock, true, true) == LOCKACQUIRE_NOT_AVAIL) refuse_second(projection);
    MemoryContext memory = AllocSetContextCreate(TopMemoryContext, "rebuild", ALLOCSET_SMALL_SIZES);
    Rebuild &rebuild = *pg::within(memory, [&] {
        return new (palloc(sizeof(Rebuild))) Rebuild{.memory = memory,
                                                     .target = relation,
                                                     .name = pstrdup(projection.name()),
                                                     .by = pstrdup(by),
                                                     .action = alteration ? "alter" : "rebuild",
                                                     .alteration = alteration,
                                                     .began = GetCurrentTimestamp()};
    });
    PG_TRY();
    { run(rebuild); }
    PG_FINALLY();
    {
        release_session_locks(rebuild);
        LockRelease(&tag, ExclusiveLock, true);
        MemoryContextDelete(memory);
    }
    PG_END_TRY();
}

namespace {

// What a rebuild would do, in a NOTICE.
void tell_plan(Projection &projection) {
    refuse_paused(projection);
    hold_off_rebuild(projection);
    Choice choice = choice_for(projection);
    bool events = projection.kind != Kind::query || projection.flow == Flow::events;
    const char *way =
        choice.finish == Finish::merge
            ? (projection.kind == Kind::query ? "comparing table and definition, and recomputing what differs"
                                              : "replaying its events into a shadow, and writing what differs")
        : choice.finish == Finish::swap ? (events ? "replaying its events into a shadow, and swapping that in"
                                                  : "filling a shadow, and swapping that in")
                                        : "recomputing what differs, or, where that is much, swapping in a shadow";
    ereport(NOTICE, (errmsg("projection %s would be rebuilt by %s", projection.name(), way),
                     errdetail("The reason: %s. It has about " INT64_FORMAT " rows and takes %s.", choice.because,
                               expected_rows(projection.relation),
                               TextDatumGetCString(DirectFunctionCall1(
                                   pg_size_pretty, DirectFunctionCall1(pg_total_relation_size,
                                                                       ObjectIdGetDatum(projection.relation)))))));
}

// Those that others read come first.
void rebuild_owned() {
    MemoryContext memory = AllocSetContextCreate(TopMemoryContext, "rebuilds", ALLOCSET_SMALL_SIZES);
    const char *by = MemoryContextStrdup(memory, GetUserNameFromId(GetUserId(), false));
    List *owned = NIL;
    pg::within(memory, [&] {
        for (Projection *each : catalog::all())
            if (!OidIsValid(each->shadow_of) && !OidIsValid(each->part_of) &&
                pg::owns_relation(each->relation, GetUserId()))
                owned = lappend_oid(owned, each->relation);
    });
    PG_TRY();
    {
        ListCell *cell;
        foreach (cell, owned) {
            Projection *projection = catalog::projection(lfirst_oid(cell));
            if (projection == nullptr) continue;
            LOCKTAG tag = rebuild_tag(projection->relation);
            const char *why = projection->paused ? "is paused" : held_by_another(tag) ? "is being rebuilt" : nullptr;
            if (why)
                ereport(NOTICE, (errmsg("projection %s %s, skipping", projection->name(), why)));
            else
                run_rebuild(projection->relation, by);
        }
    }
    PG_FINALLY();
    { MemoryContextDelete(memory); }
    PG_END_TRY();
}

} // namespace

void hold_off_rebuild(Projection &projection) {
    LOCKTAG tag = rebuild_tag(projection.relation);
    if (LockAcquire(&tag, ShareLock, false, true) == LOCKACQUIRE_NOT_AVAIL) refuse_second(projection);
}

void define_settings() {
    DefineCustomIntVariable("pg_projections.swap_lock_timeout",
                            "How long a rebuild may hold up writers and readers when it puts its result in place.",
                            "An attempt that takes longer gives its locks back and is repeated later.",
                            &swap_lock_timeout, 150, 1, 60000, PGC_USERSET, GUC_UNIT_MS, nullptr, nullptr, nullptr);
    DefineCustomIntVariable("pg_projections.rebuild_workers",
                            "Parallel workers that help to copy and to build indexes in a rebuild.", nullptr,
                            &rebuild_workers, 2, 0, 64, PGC_USERSET, 0, nullptr, nullptr, nullptr);
}

} // namespace rebuild

extern "C" {

PG_FUNCTION_INFO_V1(projections_rebuild);
// The procedure.
AUDITED(projections_rebuild) {
    events::refuse_while_applying();
    catalog::require_current_sql();
    catalog::Projection &projection = rights::own_projection(fcinfo, catalog::Hold::nothing);
    if (!PG_ARGISNULL(1) && PG_GETARG_BOOL(1)) {
        rebuild::tell_plan(projection);
        PG_RETURN_VOID();
    }
    PreventCommandIfReadOnly("projections.rebuild()");
    rebuild::refuse_block(fcinfo, rebuild::no_rebuild,
                          psprintf("SELECT projections.schedule_rebuild(%s);", quote_literal_cstr(projection.name())));
    Oid relation = projection.relation;
    const char *by = GetUserNameFromId(GetUserId(), false);
    SPI_connect_ext(SPI_OPT_NONATOMIC);
    rebuild::run_rebuild(relation, by);
    SPI_finish();
    PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(projections_redefine);
// The procedure _redefine(name, query, mode).
AUDITED(projections_redefine) {
    events::refuse_while_applying();
    catalog::require_current_sql();
    catalog::Projection &projection = rights::own_projection(fcinfo, catalog::Hold::nothing);
    if (projection.kind != catalog::Kind::query)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("query and mode of projection %s cannot be altered", projection.name()),
                        errdetail("It is a handler, reducer or state machine."),
                        errhint("Create one with the new function or mode under another name.")));
    PreventCommandIfReadOnly("projections.alter()");
    rebuild::refuse_block(fcinfo, "a projection cannot be altered", nullptr);
    Oid relation = projection.relation;
    const char *by = GetUserNameFromId(GetUserId(), false);
    MemoryContext memory = AllocSetContextCreate(TopMemoryContext, "alteration", ALLOCSET_SMALL_SIZES);
    rebuild::Alteration alteration{};
    pg::within(memory, [&] {
        alteration.query = PG_ARGISNULL(1) ? nullptr : text_to_cstring(PG_GETARG_TEXT_PP(1));
        alteration.async =
            PG_ARGISNULL(2) ? projection.async : declare::is_async(text_to_cstring(PG_GETARG_TEXT_PP(2)));
        alteration.search_path = pstrdup(GetConfigOption("search_path", false, false));
    });
    bool same = alteration.query == nullptr && alteration.async == projection.async;
    alteration.another = alteration.query != nullptr;
    if (!same && !alteration.another && !catalog::parts_of(relation).empty())
        pg::within(memory, [&] { alteration.query = declare::user_query(projection.block()); });
    SPI_connect_ext(SPI_OPT_NONATOMIC);
    PG_TRY();
    {
        if (!same) rebuild::run_rebuild(relation, by, &alteration);
    }
    PG_FINALLY();
    { MemoryContextDelete(memory); }
    PG_END_TRY();
    SPI_finish();
    PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(projections_rebuild_all);
// The procedure.
AUDITED(projections_rebuild_all) {
    events::refuse_while_applying();
    catalog::require_current_sql();
    PreventCommandIfReadOnly("projections.rebuild_all()");
    rebuild::refuse_block(fcinfo, rebuild::no_rebuild,
                          "SELECT projections.schedule_rebuild(projection) FROM projections.definitions;");
    SPI_connect_ext(SPI_OPT_NONATOMIC);
    rebuild::rebuild_owned();
    SPI_finish();
    PG_RETURN_VOID();
}

} // extern "C"
