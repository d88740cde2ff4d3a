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

pg::vector<Oid> tables_below(const Projection &projection) {
    pg::vector<Projection *> parts = parts_of(projection.relation);
    pg::vector<Oid> tables = projection.sources;
    for (const Projection *part : parts) tables.insert(tables.end(), part->sources.begin(), part->sources.end());
    auto is_part = [&](Oid table) {
        return std::any_of(parts.begin(), parts.end(), [&](const auto *part) { return part->relation == table; });
    };
    tables.erase(std::remove_if(tables.begin(), tables.end(), is_part), tables.end());
    std::sort(tables.begin(), tables.end());
    for (const Projection *part : parts) tables.push_back(part->relation);
    return tables;
}

} // namespace catalog
