// Refusals at create: SQLSTATE PJ002 with the reason, the place and what works instead.
#pragma once
#include "compile/refusals.hpp"

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

    // As the table of refusals has it; `said` fills in its reason.
    template <class... Said>
    [[noreturn]] void refuse(Construct construct, int location, Said... said) const {
        const Refusal &row = refusal(construct);
        if (location < 0 && row.words) location = of(row.words);
        if constexpr (sizeof...(said) == 0)
            raise(row.reason, location, row.instead);
        else
            raise(psprintf(row.reason, said...), location, row.instead);
        pg_unreachable();
    }

private:
    [[noreturn]] void raise(const char *reason, int location, const char *hint) const;
};

// What the functions of a definition mean for its maintenance.
struct Functions {
    bool settings_dependent; // some read a setting
    // Stored definitions only: why a function's result no longer depends on nothing but its arguments and pinned
    // settings; null where it does.
    const char *changed;
};

// Refuses functions whose result depends on anything but their arguments and pinned settings. Of a stored definition,
// which was accepted, tells those that have changed since.
Functions check_functions(Node *node, const Place &place);

} // namespace compile
