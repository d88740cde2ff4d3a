// Refusals at create: SQLSTATE PJ002 with the reason, the place and what works instead.
#pragma once
#include "pg/pg.hpp"

namespace compile {

// The user's query text, for places; null when a stored definition is compiled.
struct Place {
    const char *text;

    // A piece of the query from `location` on, or null where the location is unknown.
    const char *at(int location) const {
        if (text == nullptr || location < 0 || location >= static_cast<int>(strlen(text))) return nullptr;
        const char *begin = text + location;
        int length = pg_mbcliplen(begin, static_cast<int>(strlen(begin)), 40);
        const char *line_end = static_cast<const char *>(memchr(begin, '\n', length));
        if (line_end != nullptr) length = static_cast<int>(line_end - begin);
        return psprintf("%s%s", pnstrdup(begin, length), begin[length] ? "…" : "");
    }

    // Where one of `words` (lower case, separated by spaces) first stands in the query outside quotes and comments; -1
    // if nowhere.
    int of(const char *words) const;

    [[noreturn]] void refuse(const char *reason, int location, const char *hint) const {
        const char *piece = at(location);
        ereport(ERROR, (errcode(pg::error::unsupported_query), errmsg("this query cannot be a projection: %s", reason),
                        piece ? errdetail("At character %d: %s", pg_mbstrlen_with_len(text, location) + 1, piece) : 0,
                        hint ? errhint("%s", hint) : 0));
        pg_unreachable();
    }
};

// Refuses functions whose result depends on anything but their arguments and pinned settings. Returns whether any
// depends on a setting.
bool check_functions(Node *node, const Place &place);

} // namespace compile
