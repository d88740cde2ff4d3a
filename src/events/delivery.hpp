// An event as its feed delivers it, from a row that is at hand.
#pragma once
#include "events/batch.hpp"

namespace events {

// The feed's expressions over a row of the source that is at hand, and the call.
struct Delivery {
    MemoryContext memory;
    ExprContext *context;
    ExprState *condition; // null: none
    ExprState *columns[6];
    Call call;
    bool busy; // a handler may write the source itself
    // Expressions must not outlive what they were made in and of.
    TimestampTz transaction;
    SubTransactionId subtransaction;
    uint64 made_at;
};

// Within an SPI connection, as the owner.
Delivery &delivery(catalog::Projection &projection);

// False: the feed leaves the row out. In the current memory context.
bool deliver(Delivery &delivery, TupleTableSlot *row, Event &event);

// Runs `body` with errors that name the projection.
void name_inline(void *projection);
template <class Body>
void named(catalog::Projection &projection, Body &&body) {
    ErrorContextCallback context{error_context_stack, name_inline, &projection};
    error_context_stack = &context;
    body();
    error_context_stack = context.previous;
}

} // namespace events
