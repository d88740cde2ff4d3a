// Inline handlers and reducers: an event is applied in its writer's transaction, which fails with it.
//
// Writers of one key meet on the row of the reducer's table, which is locked before it is read; keys of one event in
// sorted order. Their events' positions were drawn before that: whoever comes to the row with the lower position raises
// 40001, for his retry draws a new one.
#include "async/batch.hpp"
#include "async/events.hpp"
#include "catalog/settings.hpp"
#include "maintain/flush.hpp"

namespace async {

using catalog::Projection;

namespace {

// The feed's expressions over a row of the source that is at hand, and the call: kept for the statements of one
// subtransaction.
struct Delivery {
    MemoryContext memory;
    SubTransactionId made_in;
    TimestampTz transaction; // when it began
    uint64 made_at;
    bool busy; // a handler may write the source itself
    ExprContext *context;
    ExprState *condition; // null: none
    ExprState *columns[6];
    Call call;
};

constinit pg::flat_map<Oid, Delivery *> *deliveries = nullptr;

ExprState *prepare(Node *expression) {
    return ExecInitExpr(expression_planner(reinterpret_cast<Expr *>(copyObjectImpl(expression))), nullptr);
}

Delivery *make_delivery(Projection &projection) {
    MemoryContext memory = AllocSetContextCreate(TopTransactionContext, "delivery", ALLOCSET_SMALL_SIZES);
    auto *made = static_cast<Delivery *>(MemoryContextAllocZero(memory, sizeof(Delivery)));
    made->memory = memory;
    made->made_in = GetCurrentSubTransactionId();
    made->transaction = GetCurrentTransactionStartTimestamp();
    made->made_at = catalog::generation();
    pg::within(memory, [&] {
        Relation feed = table_open(projection.definition, AccessShareLock);
        Query *query = get_view_query(feed);
        made->context = CreateStandaloneExprContext();
        if (Node *quals = query->jointree->quals) made->condition = prepare(quals);
        int i = 0;
        for (TargetEntry *entry : pg::each<TargetEntry>(query->targetList)) {
            if (i == lengthof(made->columns)) break;
            made->columns[i++] = prepare(reinterpret_cast<Node *>(entry->expr));
        }
        table_close(feed, AccessShareLock);
        if (projection.kind != catalog::Kind::state_machine) made->call = call_of(projection, declared(projection));
    });
    return made;
}

Delivery &delivery(Projection &projection) {
    if (deliveries == nullptr) deliveries = pg::make<pg::flat_map<Oid, Delivery *>>(CacheMemoryContext);
    auto found = deliveries->find(projection.relation);
    if (found != deliveries->end()) {
        Delivery *known = found->second;
        // The memory of an earlier transaction's is gone: nothing of it is read before the time has told.
        static_cast<void>(known);
    }
    return *make_delivery(projection);
}

} // namespace
} // namespace async
