// Which projections are hidden below another, as parts of what its definition says.
#include "catalog/projection.hpp"

namespace catalog {

pg::vector<Projection *> parts_of(Oid projection) {
    pg::vector<Projection *> parts;
    for (Projection *each : all())
        if (each->part_of == projection) parts.push_back(each);
    return parts;
}

} // namespace catalog
