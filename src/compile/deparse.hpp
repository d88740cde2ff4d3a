// Query trees to SQL text, fully qualified.
#pragma once
#include "compile/block.hpp"

namespace compile {

// The text of a query, with every name outside pg_catalog qualified.
char *deparse(Query *query);

// The text of `expression`, whose Vars all belong to the pseudo relation that `columns` names.
char *deparse_over(Node *expression, List *columns);

// Fills in a template's places with fill(kind, index).
template <class Fill>
void expand(StringInfo out, Template text, Fill &&fill) {
    for (const char *at = text; *at; ++at) {
        if (*at != '\1') {
            appendStringInfoChar(out, *at);
            continue;
        }
        char kind = *++at;
        int index = 0;
        while (*++at != '\2') index = index * 10 + (*at - '0');
        fill(kind, index);
    }
}

} // namespace compile
