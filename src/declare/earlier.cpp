// What earlier versions know of definitions: asked before the SQL objects of one are brought back (src/updates).
#include "catalog/projection.hpp"
#include "pg/index.hpp"

namespace declare {
namespace {

using compile::Block;

bool asks_for_rows(const Block &block) {
    return std::any_of(block.arms.begin(), block.arms.end(),
                       [](const compile::Arm &arm) { return !arm.presences.empty(); });
}

bool repeats_rows(const Block &block) {
    return std::any_of(block.arms.begin(), block.arms.end(),
                       [](const compile::Arm &arm) { return arm.repeats != NIL; });
}

bool reads_projections(const Block &block) {
    return std::any_of(block.sources.begin(), block.sources.end(),
                       [](const compile::Source &source) { return catalog::projection(source.relation) != nullptr; });
}

// Events are read where they are, in either version.
bool follows(const catalog::Projection &projection, bool (*is_of_kind)(Oid)) {
    return projection.flow != catalog::Flow::events &&
           std::any_of(projection.sources.begin(), projection.sources.end(), is_of_kind);
}

bool is_partitioned(Oid source) { return get_rel_relkind(source) == RELKIND_PARTITIONED_TABLE; }
bool is_of_inheritance(Oid source) { return pg::has_children(source) || has_superclass(source); }

// Version 0.2.0 follows inner joins of tables, with or without sums. Null: it follows this.
const char *beyond_0_2(catalog::Projection &projection) {
    const Block &block = projection.block();
    if (block.refreshes()) return "is read again as a whole (options.fallback)";
    if (block.slices()) return "reads again what a change concerns";
    if (block.unites()) return "reads a union";
    if (asks_for_rows(block)) return "asks whether rows are there (EXISTS, IN, outer joins)";
    if (repeats_rows(block)) return "repeats rows";
    if (follows(projection, is_partitioned)) return "follows a partitioned table";
    if (follows(projection, is_of_inheritance)) return "follows a table that others inherit from, or a child";
    if (projection.async && projection.changes.size() > 1) return "joins tables in async mode";
    if (block.identity == compile::Identity::rows && reads_projections(block))
        return "knows its rows by the key of another projection";
    return nullptr;
}

} // namespace
} // namespace declare

extern "C" {

PG_FUNCTION_INFO_V1(projections_beyond_0_2);
Datum projections_beyond_0_2(PG_FUNCTION_ARGS) {
    catalog::Projection *projection = catalog::projection(PG_GETARG_OID(0));
    if (projection == nullptr || projection->kind != catalog::Kind::query) PG_RETURN_NULL();
    const char *reason = declare::beyond_0_2(*projection);
    if (reason == nullptr) PG_RETURN_NULL();
    PG_RETURN_TEXT_P(cstring_to_text(reason));
}

} // extern "C"
