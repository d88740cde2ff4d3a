// Settings that can change what an accepted expression gives: those that built-in functions read, also some that are
// called immutable, and those by which the text of a SQL function is parsed. A projection's are pinned at create and
// hold in maintenance and verify. What else is in pg_settings changes plans, limits or messages, never a value.
#pragma once
#include "pg/scope.hpp"

namespace catalog {

inline constexpr const char *pinned_settings[] = {
    "search_path",
    "TimeZone",
    "DateStyle",
    "IntervalStyle",
    "extra_float_digits",
    "bytea_output",
    "lc_monetary",
    "lc_numeric",
    "lc_time",
    "default_text_search_config",
    "xmlbinary",
    "xmloption",
    // since 0.3.0: rows of older versions have no value for them, and take the server's
    "timezone_abbreviations",
    "array_nulls",
    "quote_all_identifiers",
    "standard_conforming_strings",
    "backslash_quote",
    "transform_null_equals",
};
inline constexpr int pinned_setting_count = lengthof(pinned_settings);

// The values in force now, in the order of pinned_settings. search_path is written out as pg_catalog, the existing
// schemas, pg_temp: a schema made later, or a temporary object, must not capture a name.
// Texts of our own are parsed under them, too, so strings are as the standard has them.
const char **current_settings();

// What holds for a setting that a projection's row has no value for.
const char *unpinned_setting(int number);

// Whether setting `number` has that value now.
bool holds(int number, const char *value);

// Runs `body` with the pinned values in force, and nothing that it SETs survives; costs comparisons only where the
// session has them already.
template <class Body>
void with_pinned(const char *const *values, Body &&body) {
    int level = NewGUCNestLevel();
    for (int i = 0; i < pinned_setting_count; i++)
        if (!holds(i, values[i])) pg::set_locally(pinned_settings[i], values[i]);
    body();
    AtEOXact_GUC(false, level);
}

} // namespace catalog
