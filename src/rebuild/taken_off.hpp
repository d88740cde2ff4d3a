// Projections that are taken off their sources while these are altered, and put back.
#pragma once
#include "rebuild/promise.hpp"

namespace rebuild {

// A projection without a definition: its table, and what is to become of it.
struct TakenOff {
    MemoryContext memory;
    Oid relation, owner;
    const char *name;
    int depth;
    Query *query;           // what it was, which follows renames
    const char *text;       // the same by the names that there were at first
    const char *used;       // what the query reads, as rows (class, object, part)
    const char *given;      // a new definition, or null
    const char *source;     // whom the caller altered, for messages
    const char *identity;   // the index of its rows' identity, as a statement; null: there is none
    const char *own_column; // why its table cannot be filled anew, or null
    int columns;
    bool async, refreshed, done;
    pg::vector<Oid> indexes; // those of the identity
    Promised promised;       // what the table says of its key
    pg::vector<Oid> sources; // of it and its parts
};

// The definition's text by the names of today, in the current memory context.
const char *text_of(catalog::Projection &projection);

// Takes away the definition, its parts and change logs, when what this transaction has changed has been applied. Its
// sources' writers are held off, and its table is locked. Raises 55000 where it is paused or not filled yet.
TakenOff *take_off(catalog::Projection &projection, const char *text, MemoryContext memory);

struct PutBack {
    bool refilled; // else compared, and recomputed where it differs
    int64 rows;    // written
};

// Gives it a definition again: the one that was given, or what the old one is now. Its table keeps all that it has;
// where its columns change, it is filled anew, else what differs from the definition is recomputed. `before_columns` is
// called before they change. Raises what create() raises, with the definition, and 55000 where the table cannot be
// filled anew.
PutBack put_back(TakenOff &off, void (*before_columns)(Oid relation));

} // namespace rebuild
