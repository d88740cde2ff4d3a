// Blame.
//
// An event that fails is set aside, retried and in the end a dead letter, which somebody has to look at. So what says
// nothing about the event must not end there: a tablespace that was full for a minute would leave thousands of them.
// (test/t/028_environment.pl)
//
// Some errors are one event's as often as everybody's. A handler's branch for one type of event may call a function
// that does not exist; or the handler's own function has been dropped. An event may ask for all memory; or another
// process has it. These are told apart by trying: where another event gets through in the same batch, it is the
// event's; where none does, the batch is put off (apply_batch in events.cpp, apply_query in query.cpp). While nothing
// gets through, nothing waits for the event but the event itself.
#include "events/blame.hpp"

namespace events {
namespace {

constexpr int snapshot_too_old = MAKE_SQLSTATE('7', '2', '0', '0', '0'); // up to version 16

bool is_in_class(int code, int other) { return ERRCODE_TO_CATEGORY(code) == ERRCODE_TO_CATEGORY(other); }

// Process memory, which the event may have asked for; and not room in the tables that all processes share, whose
// message is another one.
bool is_own_memory(const ErrorData *error) {
    return error->sqlerrcode == ERRCODE_OUT_OF_MEMORY &&
           (error->message_id == nullptr || strcmp(error->message_id, "out of shared memory") != 0);
}

// The server has no SQLSTATE for some errors of the file system, as for a quota that is used up.
bool is_of_files(const ErrorData *error) {
    return error->sqlerrcode == ERRCODE_INTERNAL_ERROR &&
           (error->saved_errno == ENOSPC || error->saved_errno == EDQUOT || error->saved_errno == EFBIG ||
            error->saved_errno == EIO);
}

bool is_environment(const ErrorData *error) {
    int code = error->sqlerrcode;
    switch (code) {
    case ERRCODE_LOCK_NOT_AVAILABLE:
    case ERRCODE_CANT_CHANGE_RUNTIME_PARAM:
    case ERRCODE_READ_ONLY_SQL_TRANSACTION:
    case ERRCODE_DATA_CORRUPTED:
    case ERRCODE_INDEX_CORRUPTED:
    case ERRCODE_FDW_UNABLE_TO_ESTABLISH_CONNECTION:
    case pg::error::rebuild_in_progress:
    case pg::error::projection_stale: return true;
    }
    for (int each : {ERRCODE_CONNECTION_EXCEPTION, ERRCODE_TRANSACTION_ROLLBACK, ERRCODE_INSUFFICIENT_RESOURCES,
                     ERRCODE_OPERATOR_INTERVENTION, ERRCODE_SYSTEM_ERROR, snapshot_too_old, ERRCODE_CONFIG_FILE_ERROR,
                     ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION})
        if (is_in_class(code, each)) return true;
    return is_of_files(error);
}

} // namespace

Blame blame(const ErrorData *error) {
    int code = error->sqlerrcode;
    if (is_own_memory(error)) return Blame::either;
    if (is_environment(error)) return Blame::environment;
    switch (code) {
    case ERRCODE_INTERNAL_ERROR:
    case ERRCODE_OBJECT_IN_USE:
    case ERRCODE_INVALID_SCHEMA_NAME:
    case ERRCODE_FEATURE_NOT_SUPPORTED: return Blame::either;
    }
    bool definition = is_in_class(code, ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION);
    return definition ? Blame::either : Blame::event;
}

bool blames_definition(const ErrorData *error) {
    return is_in_class(error->sqlerrcode, ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION) ||
           error->sqlerrcode == ERRCODE_INTERNAL_ERROR;
}

} // namespace events
