// The SQLSTATEs of class PJ, and copies of errors.
#pragma once

namespace pg::error {

inline constexpr int wrong_expected_version = MAKE_SQLSTATE('P', 'J', '0', '0', '1');
inline constexpr int unsupported_query = MAKE_SQLSTATE('P', 'J', '0', '0', '2');
inline constexpr int rebuild_in_progress = MAKE_SQLSTATE('P', 'J', '0', '0', '3');
inline constexpr int projection_stale = MAKE_SQLSTATE('P', 'J', '0', '0', '4');
inline constexpr int invalid_transition = MAKE_SQLSTATE('P', 'J', '0', '0', '5');
inline constexpr int history_archived = MAKE_SQLSTATE('P', 'J', '0', '0', '6');
inline constexpr int key_too_wide = MAKE_SQLSTATE('P', 'J', '0', '0', '7');
inline constexpr int direct_write = MAKE_SQLSTATE('P', 'J', '0', '0', '8');

} // namespace pg::error

namespace pg {

// In a callback of the error context: whether the error that is being reported is about one of these columns (List of
// names) of a table.
bool is_about_column(const char *schema, const char *table, List *columns);

// A copy of an error that lives as long as `memory`. Core's CopyErrorData copies only the error that is being raised.
ErrorData *copy_error(const ErrorData *error, MemoryContext memory);

// Raises a copied error again. ReThrowError alone takes the names of file, function and domain and the message's
// template as they are: those that CopyErrorData has copied (in today's minor releases) go with the copy's memory,
// which may be before anyone reports the error or copies it again. (Test: test/sanitize, every rebuild that fails.)
[[noreturn]] void rethrow(const ErrorData *error);

} // namespace pg
