// The triggers that this extension makes: what they look like, which is told here and nowhere else. Whoever has TRIGGER
// on a table may make any, under any name; its owner may switch ours off. So what has a name of ours is looked at
// before it is taken for ours, and a trigger function asks which trigger called it. (Test: sql/rights_triggers,
// sql/rights_declare)
#pragma once
#include "pg/pg.hpp"

namespace catalog {

struct OwnTrigger {
    const char *name, *function;
    int16 type;       // as pg_trigger.tgtype has it
    int16 arguments;  // their number
    const char *made; // what follows the name in CREATE TRIGGER, as for format(): the table, then the arguments
};

// On sources.
inline constexpr OwnTrigger capture_rows{
    "projections_capture", "capture",
    TRIGGER_TYPE_ROW | TRIGGER_TYPE_INSERT | TRIGGER_TYPE_DELETE | TRIGGER_TYPE_UPDATE, 0,
    "AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION projections_internal.capture()"};
inline constexpr OwnTrigger capture_truncate{"projections_capture_truncate", "capture", TRIGGER_TYPE_TRUNCATE, 0,
                                             "AFTER TRUNCATE ON %s EXECUTE FUNCTION projections_internal.capture()"};
// On sources with tables below, and on those: before the rows are gone.
inline constexpr OwnTrigger capture_truncating{"projections_capture_truncating", "capture",
                                               TRIGGER_TYPE_BEFORE | TRIGGER_TYPE_TRUNCATE, 0,
                                               "BEFORE TRUNCATE ON %s EXECUTE FUNCTION projections_internal.capture()"};
// On projections.
inline constexpr OwnTrigger guard_rows{
    "projections_guard", "guard",
    TRIGGER_TYPE_ROW | TRIGGER_TYPE_BEFORE | TRIGGER_TYPE_INSERT | TRIGGER_TYPE_DELETE | TRIGGER_TYPE_UPDATE, 0,
    "BEFORE INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION projections_internal.guard()"};
inline constexpr OwnTrigger guard_truncate{"projections_guard_truncate", "guard",
                                           TRIGGER_TYPE_BEFORE | TRIGGER_TYPE_TRUNCATE, 0,
                                           "BEFORE TRUNCATE ON %s EXECUTE FUNCTION projections_internal.guard()"};
// On event sources without a sequence of their own; SQL makes it.
inline constexpr OwnTrigger arrival{
    "projections_arrival", "_note_arrival", TRIGGER_TYPE_ROW | TRIGGER_TYPE_INSERT, 2,
    "AFTER INSERT ON %s FOR EACH ROW EXECUTE FUNCTION projections_internal._note_arrival(%L, %L)"};

// The call's event. Raises 39P01 unless a trigger of one of these forms made the call: a second trigger would count
// changes twice, and one for statements, or with WHEN or a list of columns, has no rows for us or hides some.
TriggerData &called_by(FunctionCallInfo fcinfo, const char *function, std::span<const OwnTrigger> forms);

// Whether it has the form, and calls our function.
bool is_as_made(const Trigger &trigger, const OwnTrigger &form);

enum class Found { nothing, as_made, other };

// What has the form's name on a table. Ours fire ALWAYS.
Found find_trigger(Oid table, const OwnTrigger &form);

} // namespace catalog
