// Readers: who may look at a table's rows, and reading them so that nobody's code runs with another's rights.
//
// What is looked up in a source is read as the source's owner, in a security-restricted operation: its indexes'
// predicates, policies, casts and domains are his. So the caller's right to the rows is checked first, as the table
// itself would check it; where row-level security would hide rows from him there is no telling which, and he is
// refused.
#pragma once
#include "pg/scope.hpp"

namespace rights {

// Whether a role may read all rows of a table, in all columns.
bool may_read(Oid relation, Oid role);

// Raises 42501 unless the current user may.
void require_readable(Oid relation);

// Runs `body` as the owner of a relation, restricted, where names mean what pg_catalog has.
template <class Body>
void reading_as_owner(Oid relation, Body &&body) {
    pg::as_owner(pg::owner_of(relation), [&] { pg::with_setting("search_path", "pg_catalog, pg_temp", body); });
}

// The table that an argument names, as the caller's search_path finds it. Raises 22004, 42P01.
Oid named_relation(FunctionCallInfo fcinfo, int argument);

// The position of the last event of a source that a snapshot taken now sees; false where there is none. In an SPI
// connection. Raises 42501 where the source's owner may not read it.
bool last_position(Oid source, int64 *position);

} // namespace rights
