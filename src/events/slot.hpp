// Slots: the checkpoints of async projections, and what moves them.
#pragma once
#include "catalog/projection.hpp"

namespace events {

// A slot: its row is locked by this transaction, but for what slots_of() tells.
struct Slot {
    catalog::Projection &projection;
    int number;
    int count;      // of the projection's slots
    int64 position; // of the last event applied
};

// Makes the slots of a projection that has none, as many as are declared, in the current SPI connection and as a
// superuser.
void make_slots(Oid projection);

// Locks a slot's row, as a superuser: nothing is applied meanwhile. Raises where there is no such slot.
Slot locked_slot(catalog::Projection &projection, int number);

// The slots that there are, in order, as a snapshot has them or, without one, as they are now.
pg::vector<Slot> slots_of(catalog::Projection &projection, Snapshot snapshot = InvalidSnapshot);

// Where each slot stands, by its number; as a snapshot has it or, without one, now. Empty where one is lost, or the
// projection is gone: then nothing says what has been applied.
pg::vector<int64> checkpoints_of(Oid projection, Snapshot snapshot);
// The same; raises 55000 where one is lost.
pg::vector<int64> known_checkpoints(const catalog::Projection &projection, Snapshot snapshot);

// How many slots there are, as SQL, in parentheses. `projection`: an OID or a parameter.
const char *slot_count_text(const char *projection);

// The slot that a key is dealt out to: of a value, and as SQL, whatever the search_path, over an expression of type
// text and one for the number of slots (NULL for a NULL key, which is the first slot's). SQL says the same in
// _slot_of().
int slot_of(text *key, int slots);
const char *slot_text(const char *key, const char *slots);

struct Limits {
    int64 events;     // at most so many, and of a large backlog about so many
    int milliseconds; // stop soon after
};

// What one batch did.
struct Progress {
    bool busy = false; // another process holds the slot, the projection is paused, or there is no such slot
    bool more = false; // there is more to do at once
    int64 events = 0;  // applied, parked or failed
    int64 position = 0;
    TimestampTz event_time = 0; // of the last event; 0 where the source has no time
};

// Applies the next batch of a slot in the current transaction, under the slot's row lock: retries that are due, then
// events that are decided, then the checkpoint. `wait`: for the lock, and briefly for undecided events. Errors of
// single events are recorded; what is raised (serialization failures, deadlocks, lock timeouts, cancellation, a broken
// definition) is to be tried again, and leaves nothing behind.
Progress advance(catalog::Projection &projection, int slot, Limits limits, bool wait);

// Writes what a batch did into the slot's row, as a superuser. max_rate: the slot's, in events per second; 0: none.
void move_checkpoint(const Slot &slot, const Progress &progress, double max_rate = 0);

// Raises 55006 where a handler or reducer is being called: what it calls must not move the ground under it.
void refuse_while_applying();

// Runs `body`, which calls handlers or reducers.
extern bool calling_users;
template <class Body>
void while_calling_users(Body &&body) {
    bool before = calling_users;
    calling_users = true;
    PG_TRY();
    { body(); }
    PG_FINALLY();
    { calling_users = before; }
    PG_END_TRY();
}

// The same for a query projection over events whose slots the transaction has locked: up to `to`, undecided or not.
Progress advance_to(catalog::Projection &projection, int slot, int64 to);

// Locks every slot of a projection, in order, and says to others that this session applies. Returns how many there are.
int lock_slots(Oid projection);

struct Work {
    Oid projection;
    int slot;
    Oid owner = InvalidOid; // of the projection
};

// The slots with something to do, the longest unserved first. *again: milliseconds after which undecided events, or a
// retry, should be looked at; -1 for none. In a transaction, which it leaves without a snapshot.
pg::vector<Work> find_work(long *again);

} // namespace events
