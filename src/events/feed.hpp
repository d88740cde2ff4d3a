// Events as the feed of a projection delivers them.
#pragma once
#include "events/declared.hpp"
#include "events/slot.hpp"
#include "pg/result.hpp"

namespace events {

struct Key {
    std::string_view name;
    Datum text;
};

enum class Outcome { pending, applied, parked, failed };

struct Event {
    int64 position;
    Datum row;                 // of the source
    std::span<const Key> keys; // each once; none is null
    const char *type, *id;     // may be null
    TimestampTz time;
    bool has_time;
    bool override_; // a state set by hand: `row` is the state
    Outcome outcome = Outcome::pending;
};

// A state set by hand, from a row (position, state, keys, set_at), in the current memory context.
Event override_of(const pg::Row &row);

// Orders events by position, and states set by hand after the events of their position and among themselves as they
// are. Nearly all are in place: those few that were appended are moved there. (std::stable_sort allocates.)
void order(pg::vector<Event> &events);

// Some events in order, in memory of their own.
struct Chunk {
    MemoryContext memory;
    pg::vector<Event> *events; // in that memory
    Size bytes;

    explicit Chunk(MemoryContext parent)
        : memory(AllocSetContextCreate(parent, "events", ALLOCSET_DEFAULT_SIZES)), events(nullptr), bytes(0) {
        clear();
    }
    void clear();
    std::size_t size() const { return events->size(); }
    Event &operator[](std::size_t i) { return (*events)[i]; }
    // Copies a row of the feed. Returns whether there is room for more.
    bool add(TupleTableSlot *row);
};

// All within an SPI connection, as the projection's owner, under its pinned settings and a snapshot of their own. The
// slot's keys only, where the projection has several slots.

// Appends the events after `after` and up to `to`, at most `limit`. Returns whether these are all.
bool read_events(catalog::Projection &projection, const Slot *slot, int64 after, int64 to, int64 limit, Chunk &chunk);

// The same for those that have one of the keys (text[]), of all slots.
bool read_events_of(catalog::Projection &projection, Datum keys, int64 after, int64 limit, Chunk &chunk);

// Appends the events at these positions (bigint[]). Returns whether there was room for all.
bool read_events_at(catalog::Projection &projection, Datum positions, Chunk &chunk);

// The same as read_events without evaluating anything of the event but its position.
pg::vector<int64> read_positions(catalog::Projection &projection, int64 after, int64 to, int64 limit);

// The distinct keys of a text[], in the current memory context.
std::span<const Key> keys_of(Datum array);

// bigint[], in the current memory context.
Datum bigint_array(std::span<const int64> values);
// The same, as SQL.
const char *positions_text(std::span<const int64> positions);
Datum key_array(std::span<const Key> keys);

// What events are read under: null for a snapshot taken now.
extern Snapshot events_as_of;

} // namespace events
