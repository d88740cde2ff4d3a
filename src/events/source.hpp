// Event sources: append-only tables, and up to which position all is decided.
#pragma once
#include "pg/pg.hpp"

namespace catalog {
struct Projection;
}

namespace events {

struct EventSource {
    Oid relation;
    Oid sequence;
    Oid arrivals; // capture 'trigger'; else InvalidOid
    int64 archived_to;
    const char *position_column, *type_column, *time_column, *id_column; // quoted; the last three may be null
};

// The registered source, or null. Holds until the end of the transaction.
const EventSource *event_source(Oid relation);
// That of a projection. Raises 55000 where it reads no events, or its source is registered no more.
const EventSource &source_of(const catalog::Projection &projection);

// Up to which position events may be gone that a projection has applied, and is to keep counted: what would need them
// is refused with PJ006. 0: there are none, as our own store's archive is read together with its events, or the
// projection need not keep them (options.detached).
int64 kept_history(const catalog::Projection &projection);

// " FROM … " of all events, the table under the alias e; and an event's position as an SQL expression over that.
const char *events_from(const EventSource &source);
const char *position_expression(const EventSource &source);

struct Safe {
    int64 drawn;                  // the last position drawn
    int64 position;               // every position up to here is decided
    bool undecided;               // higher ones have been drawn
    VirtualTransactionId blocker; // of the lowest of them; invalid where it is this transaction, or none
};

// Why a sequence cannot tell what is decided, or null.
const char *sequence_problem(Oid sequence);

// Never waits. What this transaction itself has drawn is undecided until it ends. Remembers for the session which
// transactions it saw drawing, so asking again gets further. Raises 55000 for a sequence that cannot tell (CACHE,
// CYCLE, INCREMENT).
Safe safe_position(const EventSource &source);

} // namespace events
