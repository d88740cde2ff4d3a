// From the name of a projection, as a user gives it, to the projection.
#pragma once
#include "catalog/projection.hpp"

namespace rights {

// The projection of that name, which the user owns. Raises 42P01, 42809, 42501; null only where `missing_ok` and there
// is no such relation.
catalog::Projection *resolve(text *name, bool missing_ok);

} // namespace rights
