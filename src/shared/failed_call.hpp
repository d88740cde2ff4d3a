// Calls that failed: told although their transactions abort, through shared memory, by a worker.
#pragma once
#include "pg/pg.hpp"

namespace shared {

// A call by a user of a function that operates projections, as a row of projections_internal.audit has it.
struct Call {
    Oid database; // InvalidOid: unused
    Oid caller;
    TimestampTz started;
    int64 duration; // microseconds
    char operation[NAMEDATALEN], login[NAMEDATALEN], role[NAMEDATALEN], owner[NAMEDATALEN];
    char projection[2 * NAMEDATALEN + 8];
    char arguments[2000]; // a JSON object
    int sqlstate;
    char message[500];
};

// Never raises; does nothing without shared memory. Calls that fail faster than a worker writes are counted only.
void note_failed_call(Call &call);

// Whether there are failed calls of this database to be written.
bool failed_calls_noted();

// Writes them to projections_internal.audit, in a transaction of its own. Not in a transaction.
void write_failed_calls();

// There is no such table.
void forget_failed_calls();

// Inserts a row; arguments may be longer than Call has room for. Under a snapshot, as a superuser.
void insert_call(const Call &call, const char *arguments, bool failed);

} // namespace shared
