// What is declared of a handler, reducer or state machine, and the plans that serve it: made once for a session, and
// anew after any DDL or change of the catalog.
#pragma once
#include "catalog/projection.hpp"
#include "events/key_table.hpp"

namespace events {

enum class OnFailure { park_key, skip, stop };

struct StateMachine {
    const char *initial; // null: a key's first event must be one that starts from nothing
    KeyTable<const char *> next;
    pg::vector<const char *> terminal;
    Datum retention; // interval; 0: kept for ever

    explicit StateMachine(MemoryContext memory) : initial(nullptr), next(memory), retention(0) {}
    // The next state; null where the event is not allowed. `from` may be null.
    const char *after(const char *from, const char *event) const;
};

// Columns of a reducer's table, in their order.
enum class ReducerColumn { key = 1, state, version, position, updated_at };
inline constexpr int reducer_columns = 5;

struct Declared {
    MemoryContext memory;
    uint64 made_at;
    Oid row_type; // of the source
    const char *function;
    bool initial_is_null;
    Datum initial;
    OnFailure on_failure;
    int event_timeout; // ms
    StateMachine *machine;

    // Prepared when first needed.
    SPIPlanPtr read, read_slot, read_at, read_of, read_positions;
    SPIPlanPtr states, upsert, remove, lock, newer, removed, expire;
};

// Holds until the end of the transaction. Needs no SPI connection.
Declared &declared(catalog::Projection &projection);

// The plan kept at `place`, prepared at the first call. Within an SPI connection.
SPIPlanPtr prepared(SPIPlanPtr &place, const char *sql, std::span<const Oid> types, int cursor_options = 0);

// The same for one that finds rows by key: pg::planned_by_index.
SPIPlanPtr prepared_by_key(SPIPlanPtr &place, const char *sql, std::span<const Oid> types);

enum class Effect { read, write };
// Runs a kept plan; raises unless SPI reports success. Reads are under the active snapshot. Null datums by `nulls`, as
// in SPI. Returns the number of rows; they are in SPI_tuptable.
uint64 run(SPIPlanPtr plan, const Datum *values, const char *nulls, Effect effect);

} // namespace events
