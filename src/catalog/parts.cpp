// Which projections are hidden below another, as parts of what its definition says.
#include "catalog/projection.hpp"
#include "pg/scope.hpp"

namespace catalog {

const char *Projection::known_name() const { return pg::qualified_name(OidIsValid(part_of) ? part_of : relation); }

pg::vector<Projection *> parts_of(Oid projection) {
    pg::vector<Projection *> parts;
    for (Projection *each : all())
        if (each->part_of == projection) parts.push_back(each);
    return parts;
}

} // namespace catalog
