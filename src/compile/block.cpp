// Identity, way and reason in words.
#include "compile/block.hpp"

namespace compile {

// As the catalog stores them, and explain() shows them.
const char *name_of(Identity identity) {
    switch (identity) {
    case Identity::key: return "groups";
    case Identity::one_row: return "total";
    case Identity::rows: return "rows";
    case Identity::multiset: return "bag";
    }
    pg_unreachable();
}

const char *name_of(Way way) {
    switch (way) {
    case Way::delta: return "algebraic";
    }
    pg_unreachable();
}

const char *text_of(Reason reason) {
    switch (reason) {
    case Reason::sums: return "sums and counts are added";
    case Reason::extrema: return "sums are added; min and max are recomputed for a group whose extremum leaves";
    case Reason::digits:
        return "sums are added; a group is recomputed on removal, as its digits depend on all its values";
    case Reason::primary_keys: return "joined rows are identified by the sources' primary keys";
    case Reason::no_primary_key: return "a source has no primary key: equal rows are counted";
    }
    pg_unreachable();
}

List *Block::feed() const {
    List *expressions = NIL;
    if (grouped()) {
        for (const Key &key : keys) expressions = lappend(expressions, key.expression);
        return list_concat(expressions, arguments);
    }
    for (TargetEntry *entry : pg::each<TargetEntry>(core->targetList)) expressions = lappend(expressions, entry->expr);
    return expressions;
}

} // namespace compile
