// Whom a call is for: projections by name, and who may operate them.
#pragma once
#include "catalog/projection.hpp"

namespace operate {

// The projection that a function's first argument names, whoever owns it. Raises 42P01, 42809.
catalog::Projection &named_projection(FunctionCallInfo fcinfo);

// The same by OID.
catalog::Projection &projection_of(Oid relation);

// Raises 42501 unless the current user owns the projection.
void require_owner(catalog::Projection &projection);

// Raises 55000 for a projection that is filled in the background and is not complete.
void require_filled(catalog::Projection &projection);

// The thresholds of health.
void define_settings();

} // namespace operate
