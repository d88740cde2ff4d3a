// Rows of a query projection as callers name them: by objects of columns and values.
//
// A column may be given where it determines rows: it is a column of the key, or the sources' rows have its value before
// anything is made of several of them, be it a column as it is or computed from some. Aggregates, window functions and
// subqueries do not, nor does what is computed from them, nor a value that cannot be compared. An object means all rows
// that have its values; NULL means NULL.
//
// The key alone is taken as it is: nothing is searched for, whether or not there is such a row.
#pragma once
#include "catalog/projection.hpp"
#include "pg/list.hpp"

namespace operate {

// Objects that name the same columns, with NULL in the same ones.
struct Naming {
    struct Column {
        int number; // from 0
        bool null;
    };
    pg::vector<Column> columns = {}; // ascending
    bool by_key = false;             // they are those of the key, all of them and no others
    pg::vector<int32> objects = {};  // their places in the array
};

struct NamedRows {
    Datum objects; // a jsonb array
    pg::vector<Naming> namings = {};
};

// One object, or an array of them. Raises 22023 where one does not determine rows. In the current memory context.
NamedRows named_rows(catalog::Projection &projection, Datum json);
// The same of one object.
NamedRows named_row(catalog::Projection &projection, Datum json);

// Raises 21000: an object that must name one row names several.
[[noreturn]] void fail_several(catalog::Projection &projection, Datum json);

enum class Among { definition, definition_and_table };
// The keys of the rows, each once and in the order in which writers lock them: those that `definition` yields, the text
// of a query of all columns, and with it those that the projection's table has. What run_keys_query() runs.
const char *keys_query(catalog::Projection &projection, const NamedRows &named, const char *definition, Among among);
// In an SPI connection, as the current user, under a snapshot. At most `limit` rows; 0: all.
void run_keys_query(const NamedRows &named, const char *query, Snapshot snapshot, long limit = 0);

// The whole key of the one row that an object names, as the definition has it now; false where it has none. In the
// current memory context. Raises 22023, 21000.
bool whole_key(catalog::Projection &projection, Datum json, Datum *key);

// A column of the projection's table, from 0, quoted; "OPERATOR(schema.name)" by which its values are compared, or
// null.
const char *column_name(catalog::Projection &projection, int column);
const char *equality_of(catalog::Projection &projection, int column);

// The condition that columns of t have what is given: `value(place)` is the text of a column's.
template <class Value>
const char *condition_of(catalog::Projection &projection, const Naming &naming, Value &&value) {
    pg::TextList condition(" AND ");
    for (std::size_t i = 0; i < naming.columns.size(); i++) {
        int column = naming.columns[i].number;
        const char *name = column_name(projection, column);
        if (naming.columns[i].null)
            condition.add("t.%s IS NULL", name);
        else
            condition.add("t.%s %s %s", name, equality_of(projection, column), value(i));
    }
    return condition.empty() ? "true" : condition.text();
}

} // namespace operate
