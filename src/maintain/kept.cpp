// What a session keeps between transactions.
//
// It is given up at the end of a transaction only: then no delta is pending, no statement is open, and no pointer to a
// block or plan is in use, whatever has ended the transaction. So one transaction may take more than the setting. What
// is made again is made as in a new session, from the catalog: it is no older than any invalidation. Projections' rows,
// which tell who reads which table, stay. (Test: sql/session_memory)
#include "maintain/kept.hpp"

#include "capture/trigger.hpp"
#include "maintain/statements.hpp"

namespace maintain {

using catalog::Projection;

constinit int session_memory = 65536;

namespace {

std::size_t bytes_of(const KeptPlan &kept) {
    std::size_t bytes = 0;
    for (CachedPlanSource *source : pg::each<CachedPlanSource>(SPI_plan_get_plan_sources(kept.plan))) {
        bytes += MemoryContextMemAllocated(source->context, true); // the query with it
        if (source->gplan) bytes += MemoryContextMemAllocated(source->gplan->context, true);
    }
    return bytes;
}

// What discard_kept() frees: all that is in the projection's context but its row, and the plans, which SPI keeps.
void measure(Projection &projection) {
    std::size_t bytes =
        MemoryContextMemAllocated(projection.memory, true) - MemoryContextMemAllocated(projection.memory, false);
    if (projection.statements)
        for (const KeptPlan &kept : projection.statements->plans) bytes += bytes_of(kept);
    projection.kept_bytes = bytes;
}

} // namespace

void discard_kept(Projection &projection) {
    capture::discard_evaluator(projection);
    discard_statements(projection);
    if (projection.compiled) MemoryContextDelete(projection.compiled->memory);
    projection.compiled = nullptr;
    projection.kept_bytes = 0;
}

void limit_kept() {
    static constinit uint64 growth_seen = 0;
    static constinit int limit_seen = 0;
    if (growth_seen == catalog::growth() && limit_seen == session_memory) return;
    growth_seen = catalog::growth();
    limit_seen = session_memory;

    std::size_t limit = static_cast<std::size_t>(session_memory) * 1024, total = 0;
    pg::vector<Projection *> kept;
    for (Projection *projection : catalog::known()) {
        if (projection->kept_bytes == 0) measure(*projection);
        if (projection->kept_bytes > 0) kept.push_back(projection);
        total += projection->kept_bytes;
    }
    if (total <= limit) return;
    std::sort(kept.begin(), kept.end(),
              [](const Projection *a, const Projection *b) { return a->used_in < b->used_in; });
    for (Projection *projection : kept) {
        if (total <= limit) break;
        total -= projection->kept_bytes;
        discard_kept(*projection);
    }
}

} // namespace maintain
