// Failures: events that could not be applied, their retries, and the events parked behind them.
#pragma once
#include "async/slot.hpp"
#include "pg/scope.hpp"

namespace async {

// pg_projections.max_retries and pg_projections.event_timeout (ms), where a projection has no option of its own.
extern int max_retries, event_timeout;

struct FailedEvent {
    int64 position;
    const char *id, *type; // may be null
    TimestampTz time;      // 0: none
    pg::vector<const char *> keys;
};

// Runs `body` in a subtransaction. Returns null, or the error, after the subtransaction is rolled back. What says
// nothing about the event is raised again: serialization failures, deadlocks, lock timeouts (40001, 40P01, 55P03),
// cancellation by a user, shutdown. The error is allocated in the memory context that is current at the call.
template <class Body>
ErrorData *attempt(Body &&body);

// Records the failure or, where it is open already, the repeated one: counts it, and says when the next retry is due.
// Out of retries it is a dead letter, and options.on_dead_letter is called, as the owner.
void record_failure(const Slot &slot, const FailedEvent &event, const ErrorData *error);

// Closes the open failure of a position. resolution: retried, skipped, resolved, reset.
void resolve_failure(const Slot &slot, int64 position, const char *resolution, const char *note = nullptr);

// Ends the running event's time. True if the error says nothing about the event. An event's timeout does, and is put
// into words.
bool must_rethrow(ErrorData *error);

// Between these two, the session is cancelled after `milliseconds`, and must_rethrow knows that it was not a user.
void begin_event_timeout(int milliseconds);
void end_event_timeout();

template <class Body>
ErrorData *attempt(Body &&body) {
    MemoryContext memory = CurrentMemoryContext;
    ResourceOwner owner = CurrentResourceOwner;
    ErrorData *volatile error = nullptr;
    BeginInternalSubTransaction(nullptr);
    MemoryContextSwitchTo(memory);
    PG_TRY();
    {
        body();
        ReleaseCurrentSubTransaction();
    }
    PG_CATCH();
    {
        MemoryContextSwitchTo(memory);
        error = CopyErrorData();
        FlushErrorState();
        RollbackAndReleaseCurrentSubTransaction();
    }
    PG_END_TRY();
    MemoryContextSwitchTo(memory);
    CurrentResourceOwner = owner;
    if (error && must_rethrow(error)) ReThrowError(error);
    return error;
}

} // namespace async
