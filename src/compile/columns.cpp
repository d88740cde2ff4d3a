// A query may return what a table cannot hold; the server would say so in words about a table that the user has not
// made, and after half the work.
#include "compile/columns.hpp"

namespace compile {
namespace {

constexpr const char *system_columns[] = {"ctid", "xmin", "cmin", "xmax", "cmax", "tableoid"};

void check_name(const Query *core, int column, const Place &place) {
    auto *entry = static_cast<TargetEntry *>(list_nth(core->targetList, column));
    int location = exprLocation(reinterpret_cast<Node *>(entry->expr));
    for (int i = 0; i < column; i++)
        if (strcmp(static_cast<TargetEntry *>(list_nth(core->targetList, i))->resname, entry->resname) == 0) {
            if (strcmp(entry->resname, "?column?") == 0) place.refuse(Construct::unnamed_columns, location);
            place.refuse(Construct::repeated_column, location, entry->resname);
        }
    if (is_system_column(entry->resname)) place.refuse(Construct::reserved_column, location, entry->resname);
}

void check_type(const TargetEntry *entry, const Place &place) {
    auto *expression = reinterpret_cast<Node *>(entry->expr);
    Oid type = exprType(expression);
    if (get_typtype(type) != TYPTYPE_PSEUDO && !(type == RECORDARRAYOID)) return;
    bool row = type == RECORDOID || type == RECORDARRAYOID;
    place.refuse(row ? Construct::row_column : Construct::untyped_column, exprLocation(expression), entry->resname,
                 format_type_be(type));
}

} // namespace

bool is_system_column(const char *name) {
    return std::any_of(std::begin(system_columns), std::end(system_columns),
                       [&](const char *each) { return strcmp(each, name) == 0; });
}

void check_columns(const Query *core, int count, const Place &place) {
    if (count == 0) place.refuse(Construct::no_column, -1);
    for (int i = 0; i < count; i++) {
        check_name(core, i, place);
        check_type(static_cast<TargetEntry *>(list_nth(core->targetList, i)), place);
    }
}

void check_key_columns(const Block &block, const Place &place) {
    int keys = static_cast<int>(block.row_key.size());
    if (keys <= INDEX_MAX_KEYS) return;
    place.refuse(block.grouped() ? Construct::too_many_group_columns : Construct::too_many_key_columns, -1,
                 psprintf("%d", keys), psprintf("%d", INDEX_MAX_KEYS));
}

} // namespace compile
