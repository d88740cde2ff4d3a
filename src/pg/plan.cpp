// Settings of the planner hold while the plan is made, and only then.
#include "pg/plan.hpp"

namespace pg {

SPIPlanPtr planned_by_index(SPIPlanPtr plan, bool fresh, Reads reads) {
    if (!fresh && SPI_plan_is_valid(plan)) return plan;
    int level = NewGUCNestLevel();
    for (const char *way : {"enable_seqscan", "enable_hashjoin", "enable_mergejoin"}) set_locally(way, "off");
    if (reads == Reads::first) set_locally("enable_bitmapscan", "off");
    if (CachedPlan *cached = SPI_plan_get_cached_plan(plan)) ReleaseCachedPlan(cached, CurrentResourceOwner);
    AtEOXact_GUC(false, level);
    return plan;
}

} // namespace pg
