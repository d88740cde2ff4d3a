// Merge.
//
// Where a projection is nearly right, putting right what is wrong is less than making all of it again, and holds up
// nobody. The comparison (verify/compare.cpp) costs two scans; what it finds under one snapshot is drift and not
// somebody's change on its way, and the keys are then recomputed as refresh_rows does it, under row locks. So this
// takes no shadow, no log, and no lock on the table; statements that change rows tell publications and other
// projections.
#include "rebuild/merge.hpp"
#include "events/recompute.hpp"
#include "maintain/flush.hpp"
#include "rebuild/handler.hpp"
#include "verify/drift.hpp"

namespace rebuild {
namespace {

// Row locks are held to a transaction's end.
constexpr std::size_t keys_at_a_time = 500;

struct Keys {
    pg::vector<MinimalTuple> list;
    TupleDesc desc;
};

// To outlive the transaction that found them.
Keys keep_keys(Rebuild &rebuild, const verify::Drift &drift) {
    return pg::within(rebuild.memory, [&] {
        Keys keys{{}, CreateTupleDescCopy(drift.key_desc)};
        TupleTableSlot *slot = MakeSingleTupleTableSlot(drift.key_desc, &TTSOpsMinimalTuple);
        tuplestore_rescan(drift.keys);
        while (tuplestore_gettupleslot(drift.keys, true, false, slot))
            keys.list.push_back(ExecCopySlotMinimalTuple(slot));
        ExecDropSingleTupleTableSlot(slot);
        return keys;
    });
}

void recompute(Rebuild &rebuild, const Keys &keys, std::size_t from, std::size_t to) {
    Tuplestorestate *some = tuplestore_begin_heap(true, false, work_mem);
    TupleTableSlot *slot = MakeSingleTupleTableSlot(keys.desc, &TTSOpsMinimalTuple);
    for (std::size_t i = from; i < to; i++) {
        ExecStoreMinimalTuple(keys.list[i], slot, false);
        tuplestore_puttupleslot(some, slot);
    }
    ExecDropSingleTupleTableSlot(slot);
    rebuild.rows += events::refresh_keys(live(rebuild), some, keys.desc);
    tuplestore_end(some);
    maintain::flush_logs(); // for projections over this one
}

} // namespace

const char *who_decodes() {
    return ask_text("SELECT pg_catalog.format('logical slot %s may follow its rows', slot_name) FROM "
                    "pg_catalog.pg_replication_slots WHERE slot_type = 'logical' AND database = "
                    "pg_catalog.current_database() AND plugin <> 'pgoutput' ORDER BY slot_name LIMIT 1");
}

const char *who_follows_rows(Oid table) {
    const char *follower = ask_text(psprintf(
        "SELECT CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_publication WHERE puballtables) "
        " OR EXISTS (SELECT FROM pg_catalog.pg_publication_rel WHERE prrelid = c.oid) "
        " OR EXISTS (SELECT FROM pg_catalog.pg_publication_namespace WHERE pnnspid = c.relnamespace) "
        "THEN 'it is published' "
        "WHEN EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE contype = 'f' AND confrelid = c.oid) "
        "THEN 'foreign keys refer to it' "
        // Of parts that are filled first, what reads them is filled after them.
        "WHEN EXISTS (SELECT FROM projections_internal.projection AS r WHERE c.oid = ANY (r.sources::pg_catalog.oid[]) "
        "AND r.shadow_of IS NULL AND (p.building AND r.building AND p.part_of = coalesce(r.part_of, r.relation)) IS "
        "NOT TRUE) THEN 'other projections read it' END "
        "FROM pg_catalog.pg_class AS c LEFT JOIN projections_internal.projection AS p ON p.relation = c.oid WHERE "
        "c.oid = %u",
        table));
    return follower ? follower : who_decodes();
}

const char *columns_of_its_own(Oid table) {
    return ask_text(
        psprintf("SELECT 'it has columns that its definition does not fill' FROM projections_internal.projection AS p "
                 "JOIN pg_catalog.pg_class AS d ON d.oid = p.definition JOIN pg_catalog.pg_attribute AS a ON "
                 "a.attrelid = p.relation "
                 "WHERE p.relation = %u AND p.kind = 'query' AND a.attnum > d.relnatts "
                 "AND NOT a.attisdropped LIMIT 1",
                 table));
}

const char *what_forbids_swap(Oid table) {
    if (const char *followed = who_follows_rows(table)) return followed;
    // They are of the table's row type, which a shadow has not.
    if (const char *whole = ask_text(psprintf("SELECT 'an index is over its whole rows' FROM pg_catalog.pg_index WHERE "
                                              "indrelid = %u AND concat(indexprs, indpred) ~ ':varattno 0 ' LIMIT 1",
                                              table)))
        return whole;
    return columns_of_its_own(table);
}

void refuse_swap(const char *name, Oid table) {
    const char *why = what_forbids_swap(table);
    if (why == nullptr) return;
    ereport(ERROR, (errcode(ERRCODE_OBJECT_IN_USE), errmsg("projection %s can no longer be swapped: %s", name, why),
                    errdetail("That has changed while it was being rebuilt."), errhint("Rebuild it again.")));
}

Choice choice_for(catalog::Projection &projection) {
    if (projection.kind != catalog::Kind::query) return choice_for_events(projection);
    Oid table = projection.relation;
    const char *wanted = ask_text(
        psprintf("SELECT options ->> 'finish' FROM projections_internal.projection WHERE relation = %u", table));
    const char *followed = what_forbids_swap(table);
    if (followed && projection.flow == catalog::Flow::none)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("projection %s cannot be filled online: %s", projection.name(), followed),
                        errdetail("They would not be told what has changed."),
                        errhint("Drop it, and create it without option fill.")));
    if (wanted && strcmp(wanted, "swap") == 0) {
        if (followed)
            ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                            errmsg("projection %s cannot be swapped: %s", projection.name(), followed),
                            errdetail("They would not be told what has changed."),
                            errhint("CALL projections.alter(%s, options => '{\"finish\": \"merge\"}');",
                                    quote_literal_cstr(projection.name()))));
        return {Finish::swap, "options.finish says so"};
    }
    if (wanted && strcmp(wanted, "merge") == 0) return {Finish::merge, "options.finish says so"};
    if (followed) return {Finish::merge, followed};
    if (projection.flow == catalog::Flow::none || ask(psprintf("SELECT pg_catalog.pg_relation_size(%u)", table)) == 0)
        return {Finish::swap, "its table is empty"};
    return {Finish::automatic, "it depends on how much differs"};
}

Choice choose(Rebuild &rebuild) {
    Choice choice{};
    step(rebuild, [&] {
        choice = choice_for(live(rebuild));
        choice.because = MemoryContextStrdup(rebuild.memory, choice.because);
    });
    return choice;
}

int64 merge_limit(Rebuild &rebuild) {
    int64 rows = 0;
    step(rebuild, [&] { rows = expected_rows(rebuild.target); });
    return 100 + rows / 20;
}

bool merge(Rebuild &rebuild, int64 limit) {
    enter(rebuild, "comparing");
    bool few = true;
    Keys keys{{}, nullptr};
    step(rebuild, [&] {
        verify::Drift drift = verify::find_drift(live(rebuild), {.sample = 1, .limit = limit});
        few = !drift.compared.more;
        if (!few) return;
        if (drift.keys == nullptr) // of a bag: a difference of counts, which goes on being true
            rebuild.rows += verify::apply_row_drift(live(rebuild), drift);
        else
            keys = keep_keys(rebuild, drift);
    });
    if (!few) return false;
    auto count = static_cast<int64>(keys.list.size());
    enter(rebuild, "merging", count);
    TimestampTz told = GetCurrentTimestamp();
    for (std::size_t from = 0; from < keys.list.size(); from += keys_at_a_time) {
        std::size_t to = std::min(keys.list.size(), from + keys_at_a_time);
        step(rebuild, [&] {
            recompute(rebuild, keys, from, to);
            note_progress(rebuild, static_cast<int64>(to), count);
        });
        notice_progress(rebuild, told, static_cast<int64>(to), count);
    }
    step(rebuild, [&] {
        execute(psprintf(
            "UPDATE projections_internal.projection SET stale_since = NULL, stale_reason = NULL WHERE relation = %u "
            "AND stale_since IS NOT NULL",
            rebuild.target));
    });
    return true;
}

} // namespace rebuild
