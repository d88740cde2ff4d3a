// Repair: the rows. Triggers, indexes and hidden objects come before them, in schema/60_verify.sql.
//
// What differs is found under one snapshot and recomputed under a newer one, with the rows locked, as refresh_rows()
// does: what writers change in between is seen by the recomputation, or added to what it wrote. A difference of counted
// rows, and the states of reducers, whose slots are locked before they are compared, do not change in between.
// (test/isolation/specs/repair.spec)
#include "catalog/lineage.hpp"
#include "catalog/settings.hpp"
#include "declare/declare.hpp"
#include "events/recompute.hpp"
#include "maintain/flush.hpp"
#include "maintain/locks.hpp"
#include "maintain/log.hpp"
#include "maintain/maintaining.hpp"
#include "pg/list.hpp"
#include "rebuild/verify_handler.hpp"
#include "rights/caller.hpp"
#include "verify/drift.hpp"
#include "verify/refold.hpp"

namespace operate {
namespace {

using catalog::Kind;
using catalog::Projection;

bool is_never_null(Projection &projection) {
    if (projection.kind != Kind::query) return false;
    declare::KeyPromise promise = declare::promise_of(projection);
    return promise.primary || promise.not_null;
}

// Leaves one row of each key, whichever: it is recomputed where it is not right.
int64 remove_duplicates(Projection &projection) {
    verify::Layout layout = verify::layout_of(projection);
    pg::TextList keys, nulls{" OR "};
    for (int column : layout.keys) keys.add("%s", maintain::column_name(projection, column));
    // With NULL in it they are none of its rows where a key is never NULL, and would keep it from being one again.
    if (is_never_null(projection))
        for (int column : layout.keys) nulls.add("%s IS NULL", maintain::column_name(projection, column));
    const char *table = projection.name();
    const char *text = psprintf("DELETE FROM ONLY %s WHERE %s%sctid IN (SELECT d.place FROM (SELECT ctid AS place, "
                                "pg_catalog.row_number() OVER (%s%s) AS number FROM ONLY %s) AS d WHERE d.number > 1)",
                                table, nulls.text(), nulls.empty() ? "" : " OR ", keys.empty() ? "" : "PARTITION BY ",
                                keys.text(), table);
    int64 removed = 0;
    maintain::writing_as(projection.relation, [&] {
        pg::as_owner(projection.owner(), [&] {
            catalog::with_pinned(projection.settings, [&] {
                pg::with_spi([&] {
                    pg::spi_execute(text);
                    removed = static_cast<int64>(SPI_processed);
                });
            });
        });
    });
    CommandCounterIncrement();
    return removed;
}

template <class Body>
void as_maintainer(Projection &projection, Body &&body) {
    pg::as_owner(projection.owner(), [&] { catalog::with_pinned(projection.settings, [&] { pg::with_spi(body); }); });
}

int64 apply_drift(Projection &projection, const verify::Drift &drift, maintain::Recompute how) {
    if (drift.compared.differences == 0) return 0;
    if (drift.keys == nullptr) return verify::apply_row_drift(projection, drift);
    int64 removed = 0;
    if (drift.duplicates) {
        // Rows that are locked one by one would be those too many.
        LockRelationOid(projection.relation, ShareRowExclusiveLock);
        removed = remove_duplicates(projection);
    }
    return removed + maintain::recompute_keys(projection, drift.keys, drift.key_desc, how);
}

// Nothing is applied before: on rows that are not right, that may not be possible. The slots are locked, so nothing
// else is applied meanwhile.
int64 repair_query(Projection &projection) {
    Projection *root = &projection;
    maintain::lock_relations({&root, 1});
    if (projection.flow == catalog::Flow::inline_)
        return apply_drift(projection, verify::find_drift(projection, {}), {});
    events::lock_slots(projection.relation);
    maintain::settle(projection, "repair");
    std::span<const Oid> sources{projection.sources.data(), projection.sources.size()};
    uint64 partitions = catalog::partitions_of(sources);
    maintain::Recompute how{RegisterSnapshot(GetLatestSnapshot())};
    MemoryContext outside = CurrentMemoryContext;
    as_maintainer(projection, [&] {
        if (projection.flow == catalog::Flow::log)
            maintain::discard_changes(projection, how.snapshot);
        else
            how.rows = pg::within(outside, [&] { return verify::applied_events(projection, how.snapshot); });
    });
    int64 written = apply_drift(projection, verify::find_drift(projection, {}, {how.snapshot, true}), how);
    if (projection.flow == catalog::Flow::log) catalog::refuse_other_partitions(sources, partitions);
    UnregisterSnapshot(how.snapshot);
    return written;
}

void collect_key(const verify::Difference &difference, void *context) {
    auto &keys = *static_cast<pg::vector<Datum> *>(context);
    TupleTableSlot *row = difference.expected ? difference.expected : difference.found;
    pg::within(GetMemoryChunkContext(context),
               [&] { keys.push_back(PointerGetDatum(PG_DETOAST_DATUM_COPY(row->tts_values[0]))); });
}

int64 repair_states(Projection &projection) {
    Projection *root = &projection;
    maintain::lock_relations({&root, 1});
    events::lock_slots(projection.relation);
    auto &keys = *pg::make<pg::vector<Datum>>(CurrentMemoryContext);
    verify::compare_projection(projection, {}, collect_key, &keys);
    return keys.empty() ? 0 : verify::refold_keys(projection, {keys.data(), keys.size()});
}

// Of a projection whose writers are held off.
void make_logs(Projection &projection) {
    pg::vector<Oid> left;
    for (Oid log : projection.changes)
        if (get_rel_name(log)) left.push_back(log);
    Oid relation = projection.relation;
    pg::with_spi([&] {
        auto logs = maintain::make_change_logs(projection.block(), get_rel_name(relation), projection.owner());
        pg::spi_execute(
            psprintf("UPDATE projections_internal.projection SET changes = %s::pg_catalog.regclass[] WHERE relation = "
                     "%u::pg_catalog.regclass",
                     pg::oid_array({logs.data(), logs.size()}), relation));
        for (Oid log : left) pg::spi_execute(psprintf("DROP TABLE %s CASCADE", pg::qualified_name(log)));
    });
    CommandCounterIncrement();
}

} // namespace
} // namespace operate

extern "C" {

PG_FUNCTION_INFO_V1(projections_make_logs);
Datum projections_make_logs(PG_FUNCTION_ARGS) {
    operate::make_logs(rights::projection_of(PG_GETARG_OID(0)));
    PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(projections_remove_duplicates);
Datum projections_remove_duplicates(PG_FUNCTION_ARGS) {
    PG_RETURN_INT64(operate::remove_duplicates(rights::projection_of(PG_GETARG_OID(0))));
}

PG_FUNCTION_INFO_V1(projections_repair_rows);
Datum projections_repair_rows(PG_FUNCTION_ARGS) {
    catalog::Projection &projection = rights::projection_of(PG_GETARG_OID(0));
    switch (projection.kind) {
    case catalog::Kind::query: PG_RETURN_INT64(operate::repair_query(projection));
    case catalog::Kind::handler: PG_RETURN_INT64(rebuild::repair_handler(projection));
    case catalog::Kind::reducer:
    case catalog::Kind::state_machine: PG_RETURN_INT64(operate::repair_states(projection));
    }
    pg_unreachable();
}

} // extern "C"
