// All slots are brought to one position, or the log is consumed, and the rows are recomputed under the same snapshot:
// so they are as of what has been applied.
#include "events/recompute.hpp"

#include "events/feed.hpp"
#include "events/left_out.hpp"
#include "events/query.hpp"
#include "maintain/flush.hpp"
#include "maintain/locks.hpp"
#include "maintain/log.hpp"
#include "maintain/statements.hpp"
#include "pg/list.hpp"
#include "pg/scope.hpp"

namespace events {

using catalog::Flow;
using catalog::Projection;

namespace {

// Brings every slot to one position. Returns it.
int64 align_slots(Projection &projection, int slots, const EventSource &source) {
    Safe safe = safe_position(source);
    int64 reached = safe.position;
    for (int slot = 0; slot < slots; slot++) reached = std::max(reached, locked_slot(projection, slot).position);
    for (int slot = 0; slot < slots; slot++)
        while (advance_to(projection, slot, reached).more) CHECK_FOR_INTERRUPTS();
    CommandCounterIncrement();
    return reached;
}

// The events that count, up to a position.
const char *applied_rows(Projection &projection, const EventSource &source, int64 reached, Snapshot snapshot) {
    projection.block();
    const char *position = position_expression(source);
    pg::vector<int64> out = left_out_positions(projection.relation, snapshot);
    return psprintf("%s WHERE %s <= " INT64_FORMAT " AND %s <> ALL (%s)", rows_select(projection, source), position,
                    reached, position, positions_text({out.data(), out.size()}));
}

// The keys of the rows that events in [from, to] belong to.
Tuplestorestate *keys_of_events(Projection &projection, const EventSource &source, int64 from, int64 to,
                                Snapshot snapshot, TupleDesc *desc) {
    const compile::Block &block = projection.block();
    Tuplestorestate *keys = tuplestore_begin_heap(true, false, work_mem);
    MemoryContext outside = CurrentMemoryContext;
    if (block.row_key.empty()) {
        *desc = CreateTemplateTupleDesc(1);
        TupleDescInitEntry(*desc, 1, "ordinal", INT8OID, -1, 0);
        Datum zero = Int64GetDatum(0);
        bool null = false;
        tuplestore_putvalues(keys, *desc, &zero, &null);
        return keys;
    }
    const char *position = position_expression(source);
    const char *rows = psprintf("%s WHERE %s BETWEEN " INT64_FORMAT " AND " INT64_FORMAT,
                                rows_select(projection, source), position, from, to);
    pg::TextList columns;
    for (const compile::Key &key : block.row_key)
        columns.add("d.%s", quote_identifier(block.column(key.column)->resname));
    const char *text = psprintf("SELECT DISTINCT %s FROM (%s) AS d ORDER BY %s", columns.text(),
                                compile::definition_text(projection.block(), rows), columns.text());
    pg::with_spi([&] {
        pg::spi_execute_under(snapshot, text);
        pg::within(outside, [&] {
            *desc = CreateTupleDescCopy(SPI_tuptable->tupdesc);
            pg::put_rows(keys);
        });
    });
    return keys;
}

void require_history(const Projection &projection, const EventSource &source) {
    int64 kept = kept_history(projection);
    if (kept == 0) return;
    ereport(ERROR, (errcode(pg::error::history_archived),
                    errmsg("rows of projection %s cannot be recomputed", projection.name()),
                    errdetail("Events of %s up to position " INT64_FORMAT " are archived.",
                              pg::qualified_name(source.relation), kept),
                    errhint("Restore the events, and register the source anew; or set option \"detached\" to "
                            "\"remove\", with which what they contributed is taken away.")));
}

// Of a projection whose slots are locked.
const EventSource &whole_source_of(const Projection &projection) {
    const EventSource &source = source_of(projection);
    require_history(projection, source);
    return source;
}

} // namespace

namespace {

// Under the snapshot, and with what this transaction has applied since.
Keys found_keys(Projection &projection, Snapshot snapshot, const char *rows, FindKeys find, void *context) {
    PushCopiedSnapshot(snapshot);
    UpdateActiveSnapshotCommandId();
    Keys keys = find(projection, GetActiveSnapshot(), rows, context);
    PopActiveSnapshot();
    return keys;
}

// Of an inline projection. Whoever changes rows after the snapshot writes them himself, so keys that it does not see
// need not be found.
int64 refresh_inline(Projection &projection, FindKeys find, void *context) {
    maintain::settle(projection, "recompute");
    Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
    Keys keys = found_keys(projection, snapshot, nullptr, find, context);
    UnregisterSnapshot(snapshot);
    return maintain::recompute_keys(projection, keys.rows, keys.desc);
}

Keys given_keys(Projection &, Snapshot, const char *, void *context) { return *static_cast<Keys *>(context); }

} // namespace

int64 refresh_found(Projection &projection, FindKeys find, void *context) {
    if (projection.flow == Flow::inline_) return refresh_inline(projection, find, context);
    maintain::settle(projection, "recompute");
    Projection *root = &projection;
    maintain::lock_relations({&root, 1});
    int slots = lock_slots(projection.relation);
    const char *rows = nullptr;
    Snapshot snapshot;
    if (projection.flow == Flow::log) {
        // The log and the sources as one snapshot sees them: what is recomputed must not be in the log any more.
        snapshot = RegisterSnapshot(GetLatestSnapshot());
        maintain::consume_changes(projection, 0, snapshot);
        CommandCounterIncrement();
    } else {
        const EventSource &source = whole_source_of(projection);
        int64 reached = align_slots(projection, slots, source);
        snapshot = RegisterSnapshot(GetLatestSnapshot());
        rows = applied_rows(projection, source, reached, snapshot);
    }
    Keys keys = found_keys(projection, snapshot, rows, find, context);
    int64 written = maintain::recompute_keys(projection, keys.rows, keys.desc, {snapshot, rows});
    UnregisterSnapshot(snapshot);
    return written;
}

int64 refresh_keys(Projection &projection, Tuplestorestate *keys, TupleDesc desc) {
    Keys given{keys, desc};
    return refresh_found(projection, given_keys, &given);
}

int64 recompute_events(Projection &projection, int64 from, int64 to) {
    Projection *root = &projection;
    maintain::lock_relations({&root, 1});
    lock_slots(projection.relation);
    const EventSource &source = whole_source_of(projection);
    Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
    TupleDesc desc = nullptr;
    Tuplestorestate *keys = nullptr;
    pg::as_owner(projection.owner(), [&] {
        catalog::with_pinned(projection.settings,
                             [&] { keys = keys_of_events(projection, source, from, to, snapshot, &desc); });
    });
    UnregisterSnapshot(snapshot);
    return refresh_keys(projection, keys, desc);
}

} // namespace events

extern "C" {

PG_FUNCTION_INFO_V1(projections_recompute_events);
Datum projections_recompute_events(PG_FUNCTION_ARGS) {
    catalog::Projection *projection = catalog::projection(PG_GETARG_OID(0));
    if (projection == nullptr || projection->kind != catalog::Kind::query || projection->flow != catalog::Flow::events)
        elog(ERROR, "relation %u is no query projection over events", PG_GETARG_OID(0));
    PG_RETURN_INT64(events::recompute_events(*projection, PG_GETARG_INT64(1), PG_GETARG_INT64(2)));
}

} // extern "C"
