// What the declarations of all kinds of projections have in common.
#pragma once
#include "pg/pg.hpp"

namespace operate {

// An argument that must not be null.
const char *text_argument(FunctionCallInfo fcinfo, int number, const char *name);

bool is_async(const char *mode);

// Where CREATE TABLE would put a relation of that name. Raises 3F000 for schemas that projections are not made in.
struct Place {
    Oid namespace_oid;
    const char *schema, *relation;
};
Place place_of(text *name);

// Within an SPI connection: the triggers that guard a projection's table, and those that capture changes of sources.
void make_guard(Oid table);
void make_capture(std::span<const Oid> sources);

// "ARRAY[…]" of regclass.
const char *oid_list(std::span<const Oid> oids);

// A name in the extension's schema, not in use: the relation's, cut to fit, and `suffix`.
const char *hidden_name(const char *relation, const char *suffix);

// Raises 0A000 for a function whose tables a rebuild could not exchange for others: one that sets search_path, or whose
// body is bound to them.
void refuse_bound_handler(Oid function);

void warn_without_workers(Oid table);

} // namespace operate
