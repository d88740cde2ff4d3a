// Inline handlers and reducers: an event is applied in its writer's transaction, which fails with it. A handler is
// called for the row at once; for reducers and state machines the row is kept until the flush (queued.cpp).
#include "capture/pending.hpp"
#include "capture/trigger.hpp"
#include "catalog/settings.hpp"
#include "events/delivery.hpp"
#include "events/events.hpp"
#include "events/moved.hpp"
#include "maintain/flush.hpp"
#include "maintain/maintaining.hpp"
#include "pg/query.hpp"

namespace events {

using catalog::Projection;

namespace {

// By projection. Their memory is the transaction's; a stale pointer is recognized by `delivered_in`.
constinit pg::flat_map<Oid, Delivery *> *deliveries = nullptr;
constinit LocalTransactionId delivered_in = InvalidLocalTransactionId;

int64 position_of(Delivery &delivery, TupleTableSlot *row) {
    delivery.context->ecxt_scantuple = row;
    bool null;
    Datum position = ExecEvalExpr(delivery.columns[0], delivery.context, &null);
    switch (exprType(reinterpret_cast<Node *>(delivery.columns[0]->expr))) {
    case INT4OID: return DatumGetInt32(position);
    case INT2OID: return DatumGetInt16(position);
    }
    return DatumGetInt64(position);
}

ExprState *prepare(Node *expression) { return ExecInitExpr(expression_planner(pg::copy<Expr>(expression)), nullptr); }

// A rebuild puts its result in place between transactions that apply events, and holds the next one off here.
void pass_gate(Projection &projection) {
    if (projection.kind != catalog::Kind::handler) {
        LockRelationOid(projection.relation, RowExclusiveLock);
        if (IsolationUsesXactSnapshot()) maintain::refuse_swapped(projection.relation);
        return;
    }
    LockRelationOid(projection.definition, RowExclusiveLock);
    if (!IsolationUsesXactSnapshot()) return;
    pg::as_superuser([&] {
        pg::spi_execute(
            psprintf("SELECT t::oid FROM projections_internal.projection AS p, unnest(p.tables) AS t WHERE p.relation "
                     "= %u",
                     projection.relation));
    });
    for (Oid table : pg::oids()) maintain::refuse_swapped(table);
}

Delivery *make_delivery(Projection &projection) {
    pass_gate(projection);
    MemoryContext memory = AllocSetContextCreate(TopTransactionContext, "delivery", ALLOCSET_SMALL_SIZES);
    auto *made = static_cast<Delivery *>(MemoryContextAllocZero(memory, sizeof(Delivery)));
    made->memory = memory;
    made->subtransaction = GetCurrentSubTransactionId();
    made->made_at = catalog::generation();
    pg::within(memory, [&] {
        Relation feed = table_open(projection.definition, AccessShareLock);
        Query *query = get_view_query(feed);
        made->context = CreateStandaloneExprContext();
        if (Node *quals = query->jointree->quals) made->condition = prepare(quals);
        for (int i = 0; i < static_cast<int>(lengthof(made->columns)); i++)
            made->columns[i] =
                prepare(reinterpret_cast<Node *>(static_cast<TargetEntry *>(list_nth(query->targetList, i))->expr));
        table_close(feed, AccessShareLock);
        if (projection.kind != catalog::Kind::state_machine) made->call = call_of(projection, declared(projection));
    });
    return made;
}

} // namespace

Delivery &delivery(Projection &projection) {
    if (deliveries == nullptr) deliveries = pg::make<pg::flat_map<Oid, Delivery *>>(CacheMemoryContext);
    if (delivered_in != pg::local_transaction()) {
        deliveries->clear();
        delivered_in = pg::local_transaction();
    }
    auto found = deliveries->find(projection.relation);
    if (found == deliveries->end())
        return *deliveries->emplace(projection.relation, make_delivery(projection)).first->second;
    Delivery *known = found->second;
    bool same = known->subtransaction == GetCurrentSubTransactionId() && known->made_at == catalog::generation();
    if (same && !known->busy) return *known;
    if (!same && !known->busy) MemoryContextDelete(known->memory);
    return *(found->second = make_delivery(projection));
}

bool deliver(Delivery &delivery, TupleTableSlot *row, Event &event) {
    delivery.context->ecxt_scantuple = row;
    bool null;
    auto column = [&](int i) { return ExecEvalExpr(delivery.columns[i], delivery.context, &null); };
    if (delivery.condition) {
        bool passes = DatumGetBool(ExecEvalExpr(delivery.condition, delivery.context, &null));
        if (null || !passes) return false;
    }
    event.position = position_of(delivery, row);
    event.row = column(1);
    Datum keys = column(2);
    if (!null) event.keys = keys_of(keys);
    Datum value = column(3);
    if (!null) event.type = TextDatumGetCString(value);
    value = column(4);
    event.has_time = !null;
    if (!null) event.time = DatumGetTimestampTz(value);
    return !event.keys.empty();
}

void name_inline(void *argument) {
    errcontext("maintenance of projection %s", static_cast<Projection *>(argument)->name());
}

namespace {

// Runs `body` as the owner, with what the feed makes of events.
template <class Body>
void with_delivery(Projection &projection, Body &&body) {
    named(projection, [&] {
        MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext, "inline event", ALLOCSET_SMALL_SIZES);
        pg::with_spi([&] {
            pg::within(memory, [&] {
                catalog::with_pinned(projection.settings,
                                     [&] { pg::as_owner(projection.owner(), [&] { body(delivery(projection)); }); });
            });
        });
        MemoryContextDelete(memory);
    });
}

bool has_moved(Projection &projection, TupleTableSlot *row) {
    if (!anything_deleted()) return false;
    bool moved = false;
    with_delivery(projection,
                  [&](Delivery &kept) { moved = was_deleted(projection.sources.front(), position_of(kept, row)); });
    return moved;
}

void call_handler(Projection &projection, TupleTableSlot *row) {
    Delivery &kept = delivery(projection);
    kept.busy = true;
    Event event{};
    if (deliver(kept, row, event)) {
        bool null;
        kept.call.parameters->params[0].value = event.row;
        evaluate(kept.call, &null);
        ResetExprContext(kept.call.context);
    }
    kept.busy = false;
}

// Beyond delta_memory events are applied early, in some portions of their own.
void keep_event(Projection &projection, TupleTableSlot *row) {
    capture::Pending &pending = capture::pending(&projection);
    capture::before_more(pending);
    capture::Log &log = pending.logs.front();
    slot_getallattrs(row);
    capture::append(log, row->tts_values, row->tts_isnull);
    bool spilled = (log.end & 1023) == 0 && !tuplestore_in_memory(log.store);
    if (spilled && !pending.flushing && log.end - log.flushed > 10000) capture::flush_early(projection.relation);
}

} // namespace

void apply_inline(Projection &projection, TupleTableSlot *row) {
    if (has_moved(projection, row)) return;
    if (projection.kind != catalog::Kind::handler) return keep_event(projection, row);
    with_delivery(projection, [&](Delivery &) { call_handler(projection, row); });
}

void note_removed(Projection &projection, TupleTableSlot *row) {
    with_delivery(projection,
                  [&](Delivery &kept) { note_deleted(projection.sources.front(), position_of(kept, row)); });
}

int64 apply_history(Projection &projection) {
    int64 events = 0;
    Slot slot{projection, 0, 1, 0};
    named(projection, [&] {
        pg::with_spi([&] {
            catalog::with_pinned(projection.settings, [&] {
                Batch &batch = *pg::make<Batch>(CurrentMemoryContext, slot, false);
                int64 position = PG_INT64_MIN;
                for (bool all = false; !all;) {
                    pg::within(batch.scratch, [&] {
                        batch.chunk.clear();
                        pg::as_owner(projection.owner(), [&] {
                            all = read_events(projection, nullptr, position, PG_INT64_MAX, 5000, batch.chunk);
                        });
                        if (batch.chunk.size()) position = (*batch.chunk.events).back().position;
                        events += static_cast<int64>(batch.chunk.size());
                        apply(batch, 0, batch.chunk.size(), Pace::to_the_end);
                    });
                    MemoryContextReset(batch.scratch);
                }
            });
        });
    });
    return events;
}

} // namespace events
