// The schemas that the extension's objects are in.
//
// What users type is in one, everything else in the other. Up to version 0.2.0 there was only the first: until ALTER
// EXTENSION … UPDATE has run, the library works with those SQL objects. Its texts name the schemas of its own version.
#pragma once
#include "pg/pg.hpp"

namespace pg {

constexpr const char *public_schema = "projections", *internal_schema = "projections_internal";

// Whether the SQL objects are of a version that has one schema. catalog/ knows, as soon as the library is loaded.
extern bool (*has_one_schema)();

// The schema of what is internal, as it is called in this database.
inline const char *own_schema() { return has_one_schema() ? public_schema : internal_schema; }

// Its OID; an ERROR if there is none, or InvalidOid.
inline Oid own_schema_oid(bool missing_ok = false) { return get_namespace_oid(own_schema(), missing_ok); }
inline Oid public_schema_oid(bool missing_ok = false) { return get_namespace_oid(public_schema, missing_ok); }

inline bool is_own_schema(Oid schema) {
    return OidIsValid(schema) && (schema == public_schema_oid(true) || schema == own_schema_oid(true));
}

// What statements are run for: a comment that their texts begin with, by which pg_stat_statements, auto_explain and the
// server's log tell them from a user's. Null: none. Whoever sets it sets it back, also after an ERROR.
extern const char *purpose;

// A text of ours, as this database has to be told it, with what it is for.
const char *placed(const char *sql);

} // namespace pg
