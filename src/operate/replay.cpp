// Replay: putting a projection's contents and checkpoint back to where its events say they should be.
//
// All of this runs as a superuser, called by internal SQL functions that have locked the projection's slots, so that no
// worker applies anything meanwhile.
#include "compile/deparse.hpp"
#include "events/events.hpp"
#include "events/query.hpp"
#include "maintain/flush.hpp"
#include "maintain/locks.hpp"
#include "maintain/log.hpp"
#include "maintain/maintaining.hpp"
#include "pg/list.hpp"
#include "pg/query.hpp"
#include "rights/caller.hpp"
#include "verify/refold.hpp"

namespace operate {
namespace {

using catalog::Flow;
using catalog::Kind;
using catalog::Projection;

void lock_projection(Projection &projection) {
    Projection *root = &projection;
    maintain::lock_relations({&root, 1});
}

pg::vector<Oid> written_tables(const Projection &projection) {
    pg::vector<Oid> tables;
    if (projection.kind != Kind::handler) {
        tables.push_back(projection.relation);
        return tables;
    }
    pg::with_spi([&] {
        pg::as_superuser([&] {
            pg::spi_execute(psprintf(
                "SELECT t.table::oid FROM projections_internal.projection AS p, pg_catalog.unnest(p.tables) AS "
                "t(\"table\") WHERE p.relation = %u::pg_catalog.regclass ORDER BY 1",
                projection.relation));
        });
        tables = pg::oids();
    });
    return tables;
}

// One statement, at whose end foreign keys between the tables are checked.
const char *delete_all(const pg::vector<Oid> &tables) {
    pg::TextList others;
    for (std::size_t i = 0; i + 1 < tables.size(); i++)
        others.add("t%zu AS (DELETE FROM %s)", i, pg::qualified_name(tables[i]));
    return psprintf("%s%s DELETE FROM %s", others.empty() ? "" : "WITH ", others.text(),
                    pg::qualified_name(tables.back()));
}

// What an aggregate without GROUP BY says of no rows: its definition over none.
const char *insert_total(Projection &projection) {
    Query *query = pg::copy<Query>(projection.block().core);
    query->jointree->quals = make_and_qual(query->jointree->quals, makeBoolConst(false, false));
    return psprintf("INSERT INTO %s %s", projection.name(), compile::deparse(query));
}

// Past the guards of all of `tables`.
template <class Body>
void writing_all(const pg::vector<Oid> &tables, std::size_t from, Body &&body) {
    if (from == tables.size()) {
        body();
        return;
    }
    maintain::writing_as(tables[from], [&] { writing_all(tables, from + 1, body); });
}

void empty(Projection &projection) {
    lock_projection(projection);
    pg::vector<Oid> tables = written_tables(projection);
    bool total = projection.kind == Kind::query && projection.block().always_has_row();
    pg::as_owner(projection.owner(), [&] {
        catalog::with_pinned(projection.settings, [&] {
            pg::with_snapshot(GetLatestSnapshot(), [&] {
                pg::with_spi([&] {
                    writing_all(tables, 0, [&] {
                        pg::spi_execute(delete_all(tables));
                        if (total) pg::spi_execute(insert_total(projection));
                    });
                });
            });
        });
    });
    maintain::flush_logs(); // for projections over this one
}

// As after a TRUNCATE of a source, which fills the projection again.
void refill_from_tables(Projection &projection) {
    lock_projection(projection);
    maintain::settle(projection, "reset");
    maintain::mark_truncated(projection);
    CommandCounterIncrement();
    maintain::consume_changes(projection, 0);
    maintain::flush_logs();
}

int64 advance_events(Projection &projection, int number, int64 target, int64 events) {
    events::Slot slot = events::locked_slot(projection, number);
    events::Progress progress = events::apply_events(slot, target, {events, 1000});
    events::move_checkpoint(slot, progress);
    return progress.position;
}

} // namespace
} // namespace operate

extern "C" {

PG_FUNCTION_INFO_V1(projections_empty);
Datum projections_empty(PG_FUNCTION_ARGS) {
    catalog::Projection &projection = rights::projection_of(PG_GETARG_OID(0));
    if (projection.flow == catalog::Flow::log)
        operate::refill_from_tables(projection);
    else
        operate::empty(projection);
    PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(projections_advance_to);
// Another slot is at `target` already: up to there everything is decided.
Datum projections_advance_to(PG_FUNCTION_ARGS) {
    catalog::Projection &projection = rights::projection_of(PG_GETARG_OID(0));
    operate::lock_projection(projection);
    int number = PG_GETARG_INT32(1);
    int64 target = PG_GETARG_INT64(2);
    if (projection.kind == catalog::Kind::query)
        PG_RETURN_INT64(events::advance_to(projection, number, target).position);
    PG_RETURN_INT64(operate::advance_events(projection, number, target, PG_GETARG_INT64(3)));
}

PG_FUNCTION_INFO_V1(projections_refold_events);
Datum projections_refold_events(PG_FUNCTION_ARGS) {
    catalog::Projection &projection = rights::projection_of(PG_GETARG_OID(0));
    PG_RETURN_INT64(verify::refold(projection, PG_GETARG_INT64(1), PG_GETARG_INT64(2)));
}

PG_FUNCTION_INFO_V1(projections_repeat_events);
Datum projections_repeat_events(PG_FUNCTION_ARGS) {
    catalog::Projection &projection = rights::projection_of(PG_GETARG_OID(0));
    PG_RETURN_INT64(verify::repeat(projection, PG_GETARG_INT64(1), PG_GETARG_INT64(2)));
}

PG_FUNCTION_INFO_V1(projections_retry_query);
// What is due of a slot that is locked.
Datum projections_retry_query(PG_FUNCTION_ARGS) {
    catalog::Projection &projection = rights::projection_of(PG_GETARG_OID(0));
    operate::lock_projection(projection);
    events::Slot slot = events::locked_slot(projection, PG_GETARG_INT32(1));
    PG_RETURN_INT64(events::retry_query(slot, events::source_of(projection)));
}

} // extern "C"
