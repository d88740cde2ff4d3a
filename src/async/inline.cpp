// Inline handlers and reducers: an event is applied in its writer's transaction, which fails with it.
//
// Writers of one key meet on the row of the reducer's table, which is locked before it is read; the keys of one event
// in sorted order. The events' positions were drawn before that: who comes to the row with the lower position raises
// 40001, for another try draws a new one. (test/isolation/specs/inline_reducer.spec)
#include "async/batch.hpp"
#include "async/events.hpp"
#include "catalog/settings.hpp"
#include "maintain/flush.hpp"
#include "maintain/maintaining.hpp"

namespace async {

using catalog::Projection;

namespace {

// The feed's expressions over a row of the source that is at hand, and the call.
struct Delivery {
    MemoryContext memory;
    ExprContext *context;
    ExprState *condition; // null: none
    ExprState *columns[6];
    TupleTableSlot *converted; // a partition's row as one of the table's
    TupleConversionMap *map;
    Oid mapped_from;
    Call call;
    bool busy; // a handler may write the source itself
    // Expressions must not outlive what they were made in and of.
    TimestampTz transaction;
    SubTransactionId subtransaction;
    uint64 made_at;
};

// By projection. Their memory is the transaction's; a stale pointer is recognized by `delivered_in`.
constinit pg::flat_map<Oid, Delivery *> *deliveries = nullptr;
constinit LocalTransactionId delivered_in = InvalidLocalTransactionId;

ExprState *prepare(Node *expression) {
    return ExecInitExpr(expression_planner(static_cast<Expr *>(copyObjectImpl(expression))), nullptr);
}

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
            psprintf("SELECT t::oid FROM projections.projection AS p, unnest(p.tables) AS t WHERE p.relation "
                     "= %u",
                     projection.relation));
    });
    bool null;
    for (uint64 i = 0; i < SPI_processed; i++)
        maintain::refuse_swapped(
            DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &null)));
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

// The row in the layout of the source, whose partition may have fired the trigger.
TupleTableSlot *row_of_source(Delivery &delivery, Oid source, TupleTableSlot *row) {
    if (row->tts_tableOid == source || !OidIsValid(row->tts_tableOid)) return row;
    if (delivery.mapped_from != row->tts_tableOid) {
        pg::within(delivery.memory, [&] {
            Relation table = table_open(source, AccessShareLock);
            TupleDesc desc = CreateTupleDescCopy(RelationGetDescr(table));
            table_close(table, AccessShareLock);
            delivery.map = convert_tuples_by_name(row->tts_tupleDescriptor, desc);
            delivery.converted = MakeSingleTupleTableSlot(desc, &TTSOpsVirtual);
            delivery.mapped_from = row->tts_tableOid;
        });
    }
    if (delivery.map) return execute_attr_map_slot(delivery.map->attrMap, row, delivery.converted);
    ExecClearTuple(delivery.converted);
    slot_getallattrs(row);
    int columns = delivery.converted->tts_tupleDescriptor->natts;
    memcpy(delivery.converted->tts_values, row->tts_values, sizeof(Datum) * static_cast<std::size_t>(columns));
    memcpy(delivery.converted->tts_isnull, row->tts_isnull, sizeof(bool) * static_cast<std::size_t>(columns));
    return ExecStoreVirtualTuple(delivery.converted);
}

// False: the feed leaves the row out. In the current memory context.
bool deliver(Delivery &delivery, TupleTableSlot *row, Event &event) {
    delivery.context->ecxt_scantuple = row;
    bool null;
    auto column = [&](int i) { return ExecEvalExpr(delivery.columns[i], delivery.context, &null); };
    if (delivery.condition) {
        bool passes = DatumGetBool(ExecEvalExpr(delivery.condition, delivery.context, &null));
        if (null || !passes) return false;
    }
    Datum position = column(0);
    Oid type = exprType(reinterpret_cast<Node *>(delivery.columns[0]->expr));
    event.position = type == INT4OID   ? DatumGetInt32(position)
                     : type == INT2OID ? DatumGetInt16(position)
                                       : DatumGetInt64(position);
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

// ------------------------------------------------------------------------------------------------------------- states

void take_row(State &state) {
    bool null;
    auto value = [&](ReducerColumn which) {
        return SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, static_cast<int>(which), &null);
    };
    state.value = PointerGetDatum(PG_DETOAST_DATUM_COPY(value(ReducerColumn::state)));
    state.version = DatumGetInt64(value(ReducerColumn::version));
    state.position = DatumGetInt64(value(ReducerColumn::position));
    state.present = state.exists = true;
}

[[noreturn]] void come_late(Projection &projection, const State &state, const Event &event) {
    ereport(ERROR,
            (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
             errmsg("could not apply event " INT64_FORMAT " to projection %s", event.position, projection.name()),
             errdetail("A transaction with event " INT64_FORMAT " of key \"%s\" was faster.", state.position,
                       TextDatumGetCString(state.key)),
             errhint("Try the transaction again.")));
    pg_unreachable();
}

State lock_state(Projection &projection, Declared &declared, const Key &key, const Event &event) {
    static constexpr Oid types[] = {TEXTOID};
    State state{key.text, 0, false, false, false, 0, 0, 0, false};
    SPIPlanPtr plan =
        prepared(declared.lock,
                 psprintf("SELECT key, state, version, position, updated_at FROM %s WHERE key = $1 FOR UPDATE",
                          pg::qualified_name(projection.relation)),
                 types);
    if (run(plan, &key.text, nullptr, Effect::write) == 0) return state;
    take_row(state);
    if (state.position > event.position) come_late(projection, state, event);
    return state;
}

// Returns whether it is written: a new key's row may have been made by another transaction since.
bool write_state(Projection &projection, Declared &declared, const State &state) {
    static constexpr Oid types[] = {TEXTOID, JSONBOID, INT8OID, INT8OID, TIMESTAMPTZOID};
    const char *table = pg::qualified_name(projection.relation);
    Datum values[] = {state.key, state.value, Int64GetDatum(state.version), Int64GetDatum(state.position),
                      TimestampTzGetDatum(state.time)};
    const char nulls[] = {' ', ' ', ' ', ' ', state.has_time ? ' ' : 'n'};
    if (!state.present) {
        if (!state.exists) return true;
        static constexpr Oid key[] = {TEXTARRAYOID};
        Datum keys = PointerGetDatum(construct_array(values, 1, TEXTOID, -1, false, TYPALIGN_INT));
        run(prepared(declared.remove, psprintf("DELETE FROM %s WHERE key = ANY ($1)", table), key), &keys, nullptr,
            Effect::write);
        return true;
    }
    if (state.exists) {
        run(prepared(declared.update,
                     psprintf("UPDATE %s SET state = $2, version = $3, position = $4, updated_at = $5 WHERE key = $1",
                              table),
                     types),
            values, nulls, Effect::write);
        return true;
    }
    return run(prepared(
                   declared.insert,
                   psprintf("INSERT INTO %s (key, state, version, position, updated_at) VALUES ($1, $2, $3, $4, $5) "
                            "ON CONFLICT (key) DO NOTHING",
                            table),
                   types),
               values, nulls, Effect::write) > 0;
}

void apply_to_key(Projection &projection, Declared &declared, Call *call, const Event &event, const Key &key) {
    for (;;) {
        CHECK_FOR_INTERRUPTS();
        State state = lock_state(projection, declared, key, event);
        Folded folded = fold(projection, declared, call, event, key, state);
        state.value = folded.value;
        state.present = !folded.null;
        state.version = state.version + 1;
        state.position = event.position;
        state.time = event.time;
        state.has_time = event.has_time;
        bool written = false;
        maintain::writing_as(projection.relation, [&] { written = write_state(projection, declared, state); });
        if (!written) continue;
        if (folded.to) {
            pg::vector<Transition> made;
            made.push_back(
                Transition{key.text, folded.from, event.type, folded.to, event.position, event.time, event.has_time});
            write_transitions(projection, made);
        }
        return;
    }
}

void apply_one(Projection &projection, Delivery &delivery, TupleTableSlot *row) {
    Event event{};
    if (!deliver(delivery, row_of_source(delivery, projection.sources.front(), row), event)) return;
    if (projection.kind == catalog::Kind::handler) {
        bool null;
        delivery.call.parameters->params[0].value = event.row;
        evaluate(delivery.call, &null);
        ResetExprContext(delivery.call.context);
        return;
    }
    pg::vector<Key> keys(event.keys.begin(), event.keys.end());
    std::sort(keys.begin(), keys.end(), [](const Key &a, const Key &b) { return a.name < b.name; });
    for (const Key &key : keys)
        apply_to_key(projection, declared(projection), delivery.call.state ? &delivery.call : nullptr, event, key);
    if (delivery.call.context) ResetExprContext(delivery.call.context);
}

void name_projection(void *argument) {
    errcontext("maintenance of projection %s", static_cast<Projection *>(argument)->name());
}

template <class Body>
void named(Projection &projection, Body &&body) {
    ErrorContextCallback context{error_context_stack, name_projection, &projection};
    error_context_stack = &context;
    body();
    error_context_stack = context.previous;
}

} // namespace

void apply_inline(Projection &projection, TupleTableSlot *row) {
    named(projection, [&] {
        MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext, "inline event", ALLOCSET_SMALL_SIZES);
        pg::with_spi([&] {
            pg::within(memory, [&] {
                catalog::with_pinned(projection.settings, [&] {
                    pg::as_owner(projection.owner(), [&] {
                        Delivery &kept = delivery(projection);
                        kept.busy = true;
                        apply_one(projection, kept, row);
                        kept.busy = false;
                    });
                });
            });
        });
        MemoryContextDelete(memory);
    });
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

} // namespace async
