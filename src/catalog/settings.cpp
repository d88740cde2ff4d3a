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

} // namespace catalog
