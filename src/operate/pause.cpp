// Pausing an inline projection: from triggers that apply to triggers that log, and back.
//
// Writers of the sources are held off for the moment of the change, so each transaction does the one or the other.
#include "capture/trigger.hpp"
#include "catalog/lineage.hpp"
#include "maintain/flush.hpp"
#include "maintain/log.hpp"
#include "pg/list.hpp"
#include "pg/scope.hpp"

namespace operate {
namespace {

catalog::Projection &inline_query(Oid relation) {
    catalog::Projection *projection = catalog::projection(relation);
    if (projection == nullptr || projection->async || projection->kind != catalog::Kind::query)
        elog(ERROR, "relation %u is no inline query projection", relation);
    return *projection;
}

// Of its parts, too, before any of them is locked by itself: a writer who waits for a part at his commit holds what the
// part reads. (Test: isolation/parts_pause)
void hold_off_writers(const catalog::Projection &projection) {
    for (Oid table : catalog::tables_below(projection)) catalog::lock_tree(table, ShareRowExclusiveLock);
}

void record_logs(Oid relation, std::span<const Oid> logs) {
    pg::spi_execute(
        psprintf("UPDATE projections_internal.projection SET changes = %s::pg_catalog.regclass[] WHERE relation = %u",
                 pg::oid_array(logs), relation));
    CommandCounterIncrement();
}

} // namespace

void pause(Oid relation) {
    hold_off_writers(inline_query(relation));
    maintain::settle(inline_query(relation), "pause"); // what this transaction changed before goes the old way
    catalog::Projection &projection = inline_query(relation);
    Oid owner = projection.owner();
    pg::with_spi([&] {
        pg::as_superuser([&] {
            auto logs = maintain::make_change_logs(projection.block(), get_rel_name(relation), owner);
            record_logs(relation, {logs.data(), logs.size()});
        });
    });
}

int64 resume(Oid relation) {
    hold_off_writers(inline_query(relation));
    maintain::settle(inline_query(relation), "resume");
    catalog::Projection &projection = inline_query(relation);
    // Nobody writes the sources: what is visible now is all.
    maintain::Consumed consumed = maintain::consume_changes(projection, 0);
    CommandCounterIncrement();
    pg::vector<Oid> logs = projection.changes;
    pg::with_spi([&] {
        pg::as_superuser([&] {
            record_logs(relation, {});
            for (Oid log : logs) pg::spi_execute(psprintf("DROP TABLE %s CASCADE", pg::qualified_name(log)));
        });
    });
    return consumed.rows;
}

} // namespace operate

extern "C" {

PG_FUNCTION_INFO_V1(projections_pause_inline);
Datum projections_pause_inline(PG_FUNCTION_ARGS) {
    operate::pause(PG_GETARG_OID(0));
    PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(projections_hold_off_writers);
Datum projections_hold_off_writers(PG_FUNCTION_ARGS) {
    operate::hold_off_writers(operate::inline_query(PG_GETARG_OID(0)));
    PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(projections_resume_inline);
// Returns how many logged changes were applied.
Datum projections_resume_inline(PG_FUNCTION_ARGS) { PG_RETURN_INT64(operate::resume(PG_GETARG_OID(0))); }

} // extern "C"
