// What the catalog's row of a projection says of its definition.
#pragma once
#include "catalog/projection.hpp"

namespace catalog {

// `shape` as the row has it; `options`, jsonb, say which bags are read again as a whole: create leaves the option out
// where it is not needed.
inline compile::Stored stored_as(const char *shape, Datum options) {
    static constexpr char fallback[] = "fallback";
    JsonbValue found;
    if (strcmp(shape, "bag") != 0) return compile::Stored::by_key;
    bool refreshed =
        getKeyJsonValueFromContainer(&DatumGetJsonbP(options)->root, fallback, sizeof fallback - 1, &found) != nullptr;
    return refreshed ? compile::Stored::refreshed : compile::Stored::as_bag;
}

// options.detached: whether what has gone from its source need not stay counted.
inline bool takes_away_detached(Datum options) {
    static constexpr char name[] = "detached";
    JsonbValue found;
    return getKeyJsonValueFromContainer(&DatumGetJsonbP(options)->root, name, sizeof name - 1, &found) &&
           found.type == jbvString && std::string_view(found.val.string.val, found.val.string.len) == "remove";
}

// Whether a NULL in the key is an error of the writer.
inline bool is_key_not_null(Datum options) {
    static constexpr char name[] = "key_not_null";
    JsonbValue found;
    return getKeyJsonValueFromContainer(&DatumGetJsonbP(options)->root, name, sizeof name - 1, &found) &&
           found.type == jbvBool && found.val.boolean;
}

inline Kind kind_of(const char *name) {
    if (strcmp(name, "handler") == 0) return Kind::handler;
    if (strcmp(name, "reducer") == 0) return Kind::reducer;
    if (strcmp(name, "state_machine") == 0) return Kind::state_machine;
    return Kind::query;
}

} // namespace catalog
