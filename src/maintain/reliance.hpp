// What a projection relies on besides its definition: recorded, compared, and told (src/schema/53_relied_checks.sql).
#pragma once
#include "catalog/projection.hpp"

namespace maintain {

// Before a flush: DDL that no event trigger has seen (event_triggers = off, session_replication_role = replica) marks
// the projection stale, with a WARNING. Costs a hash of cached catalog entries where the catalogs have moved.
void check_reliance(catalog::Projection &projection);

// Finds at once what check_reliance() will ask of each: of many projections, their records are read by one query. What
// is not as recorded is left to it.
void check_reliance_of_many(std::span<catalog::Projection *const> projections);

// As a superuser: what the projection relies on now is right.
void record_reliance(Oid projection);

} // namespace maintain
