// One place for where an older version's objects are, as texts are made in many. (Test: test/t/021_update.pl)
#include "pg/own_schema.hpp"

namespace pg {

bool (*has_one_schema)() = nullptr;

constinit const char *purpose = nullptr;

static const char *renamed(const char *sql) {
    const std::size_t length = strlen(internal_schema);
    const char *found = strstr(sql, internal_schema);
    if (found == nullptr || !has_one_schema()) return sql;
    StringInfoData text;
    initStringInfo(&text);
    for (; found; found = strstr(sql, internal_schema)) {
        appendBinaryStringInfo(&text, sql, static_cast<int>(found - sql));
        appendStringInfoString(&text, public_schema);
        sql = found + length;
    }
    appendStringInfoString(&text, sql);
    return text.data;
}

const char *placed(const char *sql) {
    sql = renamed(sql);
    return purpose ? psprintf("%s %s", purpose, sql) : sql;
}

} // namespace pg
