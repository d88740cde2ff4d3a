// The SQLSTATEs of class PJ.
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
