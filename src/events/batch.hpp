// A batch: events of one slot, applied in order in the current transaction.
//
// Events are applied by the chunk, one subtransaction each. Where an event fails, the subtransaction is rolled back,
// the chunk is applied again up to that event, and the event is recorded. So a poison event costs half a chunk, and no
// event pays for a subtransaction of its own.
#pragma once
#include "events/failure.hpp"
#include "events/feed.hpp"
#include "shared/overrun.hpp"

namespace events {

struct Batch {
    const Slot &slot;
    catalog::Projection &projection;
    Declared &declared;
    MemoryContext memory, scratch; // until its end; until the end of a chunk
    Chunk chunk;
    // Keys that are held back, and the position from which on they are: behind it stands a failed or a parked event. A
    // chunk that is applied again must not hold back what comes before it.
    KeyTable<int64> blocked;
    bool recording;           // failures are recorded; else raised
    TimestampTz deadline = 0; // 0: none
    bool stopped = false;     // on_failure = stop: at a failed event
    // An event has got through, so that the others' errors are their own. Until then: one that may be everybody's, and
    // how many events have failed.
    bool any_applied = false;
    ErrorData *doubtful = nullptr;
    int64 failures = 0;

    Batch(const Slot &of, bool record);
    // Whether it is still to be seen if what failed is to blame.
    bool in_doubt() const { return doubtful && !any_applied; }
    bool late() const { return shared::settled_overrun() || (deadline && GetCurrentTimestamp() >= deadline); }
};

// Whether the event has to wait behind another; if so its keys hold back later ones.
bool parks(Batch &batch, Event &event);

// Records (or raises) the event's error, and holds back its keys.
void fail(Batch &batch, Event &event, ErrorData *error);

enum class Pace { until_deadline, to_the_end };
// Applies the chunk's events [from, to) as far as the deadline allows; at least one. Sets their outcomes, and returns
// the first event that has none.
std::size_t apply(Batch &batch, std::size_t from, std::size_t to, Pace pace);
std::size_t apply_to_handler(Batch &batch, std::size_t from, std::size_t to, Pace pace);
std::size_t apply_to_reducer(Batch &batch, std::size_t from, std::size_t to, Pace pace);

// A handler or reducer, ready to be called: an expression, so that a function in SQL is inlined where core would inline
// it. Belongs to the current memory context, and must not outlive the (sub)transaction.
struct Call {
    ExprState *state;
    ExprContext *context;
    ParamListInfo parameters;
};
// As the owner; raises where the function is gone or may not be called.
Call call_of(catalog::Projection &projection, Declared &declared);
// Valid until ResetExprContext.
Datum evaluate(Call &call, bool *null);

// What the functions wrote is applied to the projections that read it, while it can still be told whose events it was.
void flush_written();

// In memory between reading the states of some keys and writing them back.
struct State {
    Datum key;
    Datum value;
    bool present; // a row, or one to be
    bool exists;  // a row as the table is now
    bool changed;
    int64 version, position;
    TimestampTz time;
    bool has_time;
};

struct Transition {
    Datum key;
    const char *from, *event, *to;
    int64 position;
    TimestampTz time;
    bool has_time;
};

// The state after the event, in the current memory context; null: no state any more. For a state machine raises PJ005.
struct Folded {
    Datum value;
    bool null;
    const char *from, *to; // of a state machine
};
Folded fold(catalog::Projection &projection, Declared &declared, Call *call, const Event &event, const Key &key,
            const State &state);

// A state machine's key that was at its end for longer than options.retention when the event happened starts anew,
// whether its row has been deleted by then or not: a replay comes to the same.
void forget_expired(const Declared &declared, const Event &event, State &state);

// Into the history of a state machine's keys, as a superuser.
void write_transitions(catalog::Projection &projection, const pg::vector<Transition> &transitions);

} // namespace events
