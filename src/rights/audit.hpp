// Who ran which operation, when, on what, and how it ended: a row of projections.audit_log for each call of a function
// that operates projections.
//
// A call that succeeds is written in its own transaction, so that it is told if and only if it has happened. One that
// fails leaves nothing behind in its transaction: it is put into shared memory, and a worker writes it. Where the
// library is not in shared_preload_libraries there is neither, and failed calls are not recorded. A call within another
// one (what a function of ours calls) is part of that one.
#pragma once
#include "pg/pg.hpp"

namespace rights {

// Runs `body` for a function that SQL calls. What it is about is the relation that the argument `name` or `source`
// names, or the one that it returns; else what it says by audit_about().
Datum audited(FunctionCallInfo fcinfo, PGFunction body);

// In an audited call: what it is about.
void audit_about(Oid relation);

// In an audited call: it has changed nothing, and is not to be told if it succeeds.
void audit_nothing();

// Records the drop of a projection by a command, unless it is part of a call.
void audit_drop(const char *command, const char *projection);

} // namespace rights

// The head of the C function of an operation: AUDITED(projections_drop) { … }, in place of Datum projections_drop(…).
#define AUDITED(function)                                                                                              \
    static Datum function##_unaudited(PG_FUNCTION_ARGS);                                                               \
    Datum function(PG_FUNCTION_ARGS) { return rights::audited(fcinfo, function##_unaudited); }                         \
    static Datum function##_unaudited([[maybe_unused]] PG_FUNCTION_ARGS)
