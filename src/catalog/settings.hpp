// Settings that stable built-in functions read. A projection's are pinned at create and hold in maintenance and verify.
#pragma once
#include "pg/scope.hpp"

namespace catalog {

inline constexpr const char *pinned_settings[] = {
    "search_path",  "TimeZone",    "DateStyle",  "IntervalStyle", "extra_float_digits",
    "bytea_output", "lc_monetary", "lc_numeric", "lc_time",       "default_text_search_config",
    "xmlbinary",    "xmloption",
};
inline constexpr int pinned_setting_count = lengthof(pinned_settings);

// The values in force now, in the order of pinned_settings. search_path is written out as pg_catalog, the existing
// schemas, pg_temp: a schema made later, or a temporary object, must not capture a name.
const char **current_settings();

// Runs `body` with the pinned values in force; costs comparisons only where the session has them already.
template <class Body>
void with_pinned(const char *const *values, Body &&body) {
    int level = NewGUCNestLevel();
    for (int i = 0; i < pinned_setting_count; i++) {
        const char *now = GetConfigOption(pinned_settings[i], true, false);
        if (now == nullptr || strcmp(now, values[i]) != 0) pg::set_locally(pinned_settings[i], values[i]);
    }
    body();
    AtEOXact_GUC(true, level);
}

} // namespace catalog
