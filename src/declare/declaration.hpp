// A handler, reducer or state machine as it is being declared.
#pragma once
#include "declare/declare.hpp"

namespace declare {

struct Source {
    Oid relation;
    bool triggers;                                      // capture 'trigger'
    const char *arrivals, *position, *type, *time, *id; // quoted; the last three may be null
    const char *type_array;                             // of the type column
    Oid type_of_type;
};

struct Declaration {
    const char *kind;
    bool async;
    Place place;
    Source source;
    Datum options;   // as stored
    const char *key; // an expression; null: one key for all
    Oid function;
    ArrayType *event_types; // null: all
    bool upper_case;        // of the types
    Datum initial, transitions;
    bool has_initial;
    pg::vector<Oid> tables; // of a handler
    bool array_key;
};

// Raises 42P13, 0A000 or 42501 for a function that cannot be called for the source's events.
void check_function(const Declaration &declaration);

// The tables that a handler writes, from an array of names. Raises 22004, 42P01, 42809, 0A000, 42501.
pg::vector<Oid> read_tables(FunctionCallInfo fcinfo, int number);

} // namespace declare
