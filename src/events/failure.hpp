// Failures: events that could not be applied, their retries, and the events parked behind them.
#pragma once
#include "events/blame.hpp"
#include "events/slot.hpp"
#include "pg/scope.hpp"

namespace events {

// pg_projections.max_retries and pg_projections.event_timeout (ms), where a projection has no option of its own.
extern int max_retries, event_timeout;

struct FailedEvent {
    int64 position;
    const char *id, *type; // may be null
    TimestampTz time;      // 0: none
    pg::vector<const char *> keys;
};

// Runs `body` in a subtransaction. Returns null, or the error, after the subtransaction is rolled back. What the
// environment is to blame for (blame.hpp) is raised again. The error is allocated in the memory context that is current
// at the call.
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

// Between these two, the session is cancelled after `milliseconds`, and must_rethrow knows that it was not a user. Code
// that goes on all the same ends with the process; whether it has is what the process's end asks.
void begin_event_timeout(const Slot &slot, int64 position, int milliseconds);
void end_event_timeout();
void stop_event_timer(); // an error was raised: it is not the time for more
bool ended_by_event();

// As much of an error's text as is stored. The code that raised it chooses its length, and health and backups carry it.
const char *bounded(const char *text);

template <class Body>
ErrorData *attempt(Body &&body) {
    ErrorData *error = pg::attempt(body, stop_event_timer);
    if (error && must_rethrow(error)) pg::rethrow(error);
    return error;
}

} // namespace events
