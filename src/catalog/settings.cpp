// Values are kept by the settings' numbers: what is new comes at the list's end.
#include "catalog/settings.hpp"

namespace catalog {

static const char *current_search_path() {
    StringInfoData path;
    initStringInfo(&path);
    appendStringInfoString(&path, "pg_catalog");
    List *schemas = fetch_search_path(false);
    ListCell *cell;
    foreach (cell, schemas) {
        if (isTempNamespace(lfirst_oid(cell))) continue;
        const char *schema = get_namespace_name(lfirst_oid(cell));
        if (schema != nullptr && strcmp(schema, "pg_catalog") != 0)
            appendStringInfo(&path, ", %s", quote_identifier(schema));
    }
    appendStringInfoString(&path, ", pg_temp");
    return path.data;
}

static bool is_fixed(const char *name) { return strcmp(name, "standard_conforming_strings") == 0; }

const char *unpinned_setting(int number) {
    if (is_fixed(pinned_settings[number])) return "on";
    return pstrdup(GetConfigOptionResetString(pinned_settings[number]));
}

const char **current_settings() {
    const char **values = static_cast<const char **>(palloc(sizeof(char *) * pinned_setting_count));
    values[0] = current_search_path();
    for (int i = 1; i < pinned_setting_count; i++)
        values[i] = is_fixed(pinned_settings[i]) ? "on" : pstrdup(GetConfigOption(pinned_settings[i], false, false));
    return values;
}

// Read where it is kept: at each flush, a search by name for all of them takes longer than the rest of it.
bool holds(int number, const char *value) {
    static config_generic *known[pinned_setting_count];
    if (known[number] == nullptr) known[number] = pg::find_setting(pinned_settings[number]);
    config_generic *setting = known[number];
    if (setting == nullptr) return false;
    const char *now;
    switch (setting->vartype) {
    case PGC_STRING: now = *reinterpret_cast<config_string *>(setting)->variable; break;
    case PGC_BOOL: now = *reinterpret_cast<config_bool *>(setting)->variable ? "on" : "off"; break;
    case PGC_ENUM: {
        auto *of = reinterpret_cast<config_enum *>(setting);
        now = config_enum_lookup_by_value(of, *of->variable);
        break;
    }
    default: now = GetConfigOption(pinned_settings[number], true, false); break;
    }
    return now != nullptr && strcmp(now, value) == 0;
}

} // namespace catalog
