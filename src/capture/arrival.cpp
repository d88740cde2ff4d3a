// Notes in which order events arrive whose positions were drawn in an earlier transaction: AFTER ROW on event sources
// with capture => 'trigger'. The trigger's arguments are the table of arrivals, in our schema, and the position's
// column. A row that moves to another partition is inserted there, and has arrived already.
#include "catalog/own_trigger.hpp"
#include "pg/scope.hpp"

namespace capture {
namespace {

struct Plan {
    Oid trigger;
    SPIPlanPtr insert;
};

constinit List *plans = NIL; // of Plan, in TopMemoryContext

// In the current SPI connection.
SPIPlanPtr plan_of(const Trigger *trigger) {
    for (Plan *plan : pg::each<Plan>(plans))
        if (plan->trigger == trigger->tgoid) return plan->insert;
    Oid type = INT8OID;
    const char *table = quote_qualified_identifier(pg::own_schema(), trigger->tgargs[0]);
    SPIPlanPtr insert = pg::spi_prepare(
        psprintf("INSERT INTO %s (position) VALUES ($1) ON CONFLICT (position) DO NOTHING", table), 1, &type);
    if (insert == nullptr) elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
    SPI_keepplan(insert);
    pg::within(TopMemoryContext, [&] {
        auto *plan = static_cast<Plan *>(palloc(sizeof(Plan)));
        *plan = Plan{trigger->tgoid, insert};
        plans = lappend(plans, plan);
    });
    return insert;
}

Datum position_of(const TriggerData *event) {
    const char *column = event->tg_trigger->tgargs[1];
    TupleDesc descriptor = RelationGetDescr(event->tg_relation);
    int number = SPI_fnumber(descriptor, column);
    if (number <= 0)
        elog(ERROR, "event source \"%s\" has lost its column \"%s\"", RelationGetRelationName(event->tg_relation),
             column);
    bool null;
    Datum position = pg::Row(event->tg_trigtuple, descriptor).datum(number, &null);
    if (null)
        ereport(ERROR, (errcode(ERRCODE_NOT_NULL_VIOLATION),
                        errmsg("null value in position column \"%s\" of event source \"%s\"", column,
                               RelationGetRelationName(event->tg_relation)),
                        errdetail("An event without a position would never be read."), errhint("Give it a position.")));
    switch (SPI_gettypeid(descriptor, number)) {
    case INT2OID: return Int64GetDatum(DatumGetInt16(position));
    case INT4OID: return Int64GetDatum(DatumGetInt32(position));
    case INT8OID: return position;
    }
    ereport(ERROR,
            (errcode(ERRCODE_DATATYPE_MISMATCH),
             errmsg("position column \"%s\" of event source \"%s\" is of type %s", column,
                    RelationGetRelationName(event->tg_relation), format_type_be(SPI_gettypeid(descriptor, number))),
             errdetail("A position is a bigint, an integer or a smallint."),
             errhint("Give the column its type back.")));
    pg_unreachable();
}

} // namespace
} // namespace capture

extern "C" {

PG_FUNCTION_INFO_V1(projections_note_arrival);

Datum projections_note_arrival(PG_FUNCTION_ARGS) {
    static constexpr catalog::OwnTrigger forms[] = {catalog::arrival};
    TriggerData *event = &catalog::called_by(fcinfo, "_note_arrival", forms);
    // Who writes events needs no right on the table of arrivals.
    pg::as_superuser([&] {
        pg::with_spi([&] {
            Datum position = capture::position_of(event);
            int code = SPI_execute_plan(capture::plan_of(event->tg_trigger), &position, nullptr, false, 0);
            if (code < 0) elog(ERROR, "SPI_execute_plan failed: %s", SPI_result_code_string(code));
        });
    });
    return PointerGetDatum(nullptr);
}

} // extern "C"
