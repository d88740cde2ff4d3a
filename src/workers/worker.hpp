// What the parts of a worker share.
#pragma once
#include "events/slot.hpp"
#include "shared/memory.hpp"

namespace workers {

using namespace shared;

extern Worker *me;
extern MemoryContext round_memory; // reset before each round
extern int projection_count;       // async ones, as of the last look
extern int owner_count;            // of these
extern TimeoutId yield_timeout, scrub_timeout;

// The batch at hand is to be given up. Set by our own timer, as is `ousted`: the batch went on when it was cancelled.
extern volatile sig_atomic_t yielding, ousted;

inline TimestampTz after(TimestampTz now, int64 milliseconds) { return TimestampTzPlusMilliseconds(now, milliseconds); }

// Shows in pg_stat_activity, and in what is logged, what this worker does; "" when it has done it.
void say(const char *what);
const char *said();

// Runs `body`; what it raises is returned, in round_memory, after the transaction is rolled back. Not in a transaction.
ErrorData *catch_error(void (*body)(void *self), void *self);
template <class Body>
ErrorData *caught(Body &&body) {
    return catch_error([](void *self) { (*static_cast<std::remove_reference_t<Body> *>(self))(); }, &body);
}

// What a round has found.
struct Found {
    std::span<events::Work> work;
    long again = -1;
    bool installed = false;
    bool current = false; // the SQL objects are of the library's version
    bool any = false;     // projections, also inline ones
};

} // namespace workers
