// Scrub: one projection after the other is verified in the background, by a worker that has nothing else to do.
//
// The worker calls this in a transaction of its own, interrupts it where events wait, and waits between two of them so
// that on average no more rows a second are read than pg_projections.scrub_rate says. A projection that differs is
// marked stale, which health() and the log tell; nothing is repaired.
#include "events/declared.hpp"
#include "pg/lock.hpp"
#include "pg/scope.hpp"
#include "rights/caller.hpp"
#include "verify/drift.hpp"

namespace verify {
namespace {

using catalog::Flow;
using catalog::Kind;
using catalog::Projection;

constexpr int64 most_told = 1000;

constinit Oid last = InvalidOid; // of this session

// The projection with the next higher OID, or the lowest. What is being filled is not right yet; of a handler
// all events would be applied again, whose price nobody has asked for.
Projection *next_projection() {
    Projection *next = nullptr, *first = nullptr;
    for (Projection *each : catalog::all()) {
        if (each->kind == Kind::handler || each->flow == Flow::none || OidIsValid(each->shadow_of)) continue;
        if (first == nullptr || each->relation < first->relation) first = each;
        if (each->relation > last && (next == nullptr || each->relation < next->relation)) next = each;
    }
    return next ? next : first;
}

// Workers are several: whoever begins goes on, to its end.
bool is_ours() {
    LOCKTAG tag = pg::advisory_tag(pg::LockClass::scrub, 0, 1);
    static constinit bool held = false;
    return held || (held = LockAcquire(&tag, ExclusiveLock, true, true) != LOCKACQUIRE_NOT_AVAIL);
}

struct Found {
    const Layout &layout;
    int64 differences;
};

// Sums of floats that cancel out may differ from their definition's by more than a share of themselves: that alone is
// no reason to call a projection wrong.
bool only_floats_differ(const Layout &layout, const Difference &difference) {
    if (!layout.close_floats || difference.problem != Problem::different) return false;
    for (int i = 0; i < layout.desc->natts; i++) {
        Form_pg_attribute column = TupleDescAttr(layout.desc, i);
        Oid type = getBaseType(column->atttypid);
        if (type == FLOAT4OID || type == FLOAT8OID) continue;
        bool null = difference.expected->tts_isnull[i];
        if (null != difference.found->tts_isnull[i]) return false;
        if (!null && !datum_image_eq(difference.expected->tts_values[i], difference.found->tts_values[i],
                                     column->attbyval, column->attlen))
            return false;
    }
    return true;
}

void count_difference(const Difference &difference, void *context) {
    auto &found = *static_cast<Found *>(context);
    found.differences += !only_floats_differ(found.layout, difference);
}

// Not where somebody has the catalog row: nobody waits for a scrub, nor does it for anybody.
void mark_stale(Projection &projection, int64 differences, bool more) {
    const char *number = psprintf(INT64_FORMAT "%s", differences, more ? " or more" : "");
    const char *name = projection.name();
    uint64 marked = 0;
    pg::with_spi([&] {
        pg::as_superuser([&] {
            pg::spi_execute(psprintf("UPDATE projections_internal.projection SET stale_since = now(), stale_reason = "
                                     "%s WHERE relation = (SELECT "
                                     "p.relation FROM projections_internal.projection p WHERE p.relation = "
                                     "%u::regclass AND p.stale_since IS NULL "
                                     "FOR "
                                     "UPDATE SKIP LOCKED)",
                                     quote_literal_cstr(psprintf("%s differences from its definition", number)),
                                     projection.relation));
            marked = SPI_processed;
        });
    });
    if (marked == 0) return;
    ereport(LOG,
            (errcode(pg::error::projection_stale),
             errmsg("pg_projections: projection %s differs from its definition", name),
             errdetail("The scrub found %s differences.", number),
             errhint("SELECT * FROM projections.verify(%s); shows them, SELECT projections.repair(%s); corrects them.",
                     quote_literal_cstr(name), quote_literal_cstr(name)),
             errhidestmt(true)));
}

// Returns how many rows it has read; below 0 where there was nothing to do.
int64 scrub() {
    if (!is_ours()) return -1;
    Projection *projection = next_projection();
    if (projection == nullptr) return -1;
    last = projection->relation; // also if it fails: the others have their turn
    Layout layout = layout_of(*projection);
    Found found{layout, 0};
    Compared compared = compare_projection(*projection, {1, most_told}, count_difference, &found);
    int64 differences = compared.more ? compared.differences : found.differences;
    if (differences > 0) mark_stale(*projection, differences, compared.more);
    return compared.expected + compared.found;
}

} // namespace
} // namespace verify

extern "C" {

PG_FUNCTION_INFO_V1(projections_scrub);
Datum projections_scrub(PG_FUNCTION_ARGS) {
    static_cast<void>(fcinfo);
    PG_RETURN_INT64(verify::scrub());
}

} // extern "C"
