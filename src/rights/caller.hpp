// What a call is about, and whether its caller may: arguments, projections by name, their owners.
#pragma once
#include "catalog/projection.hpp"

namespace rights {

// An argument that must not be null. Raises 22004.
const char *text_argument(FunctionCallInfo fcinfo, int number, const char *name);

// The projection of that name, held, which the caller must own: that is asked before anything is locked. Raises 42P01,
// or, where `missing_ok`, is null where there is no relation of that name; 42809, 42501.
catalog::Projection *find_own_projection(text *name, catalog::Hold hold, bool missing_ok);

// The projection that a function's first argument names, whoever owns it. Raises 22004, 42P01, 42809.
catalog::Projection &named_projection(FunctionCallInfo fcinfo, catalog::Hold hold);

// The same, which the caller must own. Raises 42501, too.
catalog::Projection &own_projection(FunctionCallInfo fcinfo, catalog::Hold hold);

// The relation of that name; InvalidOid for none. Members of pg_monitor need no USAGE on a schema that they name, as
// they are shown all projections there are. Raises 42501 for others.
Oid relation_by_name(text *name);

// The same projection for who looks at its health: members of pg_monitor need not own it.
catalog::Projection &monitored_projection(FunctionCallInfo fcinfo);

// The same by OID.
catalog::Projection &projection_of(Oid relation);

// Raises 42501 unless the current user owns the projection.
void require_owner(catalog::Projection &projection);

// Raises 55000 for a projection that is filled in the background and is not complete.
void require_filled(catalog::Projection &projection);

// Calls, as a superuser, the internal function whose name is that of the function that was called with a leading
// underscore: with `checked` (an OID of the type that is given), the caller's name, and the call's arguments from
// `first` on. Returns what it returns, also a set. The caller's right is to be checked before.
Datum call_internal(FunctionCallInfo fcinfo, Oid type, Oid checked, int first);

} // namespace rights
