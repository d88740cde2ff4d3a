// One table of forms; everything else compares triggers, as the server keeps them or as pg_trigger has them, with it.
#include "catalog/own_trigger.hpp"

#include "pg/own_schema.hpp"

namespace catalog {
namespace {

// On users' tables.
constexpr OwnTrigger all[] = {capture_rows, capture_truncate, capture_truncating, guard_rows, guard_truncate, arrival};

Oid function_of(const OwnTrigger &form) {
    List *name = list_make2(makeString(pstrdup(pg::own_schema())), makeString(pstrdup(form.function)));
    return LookupFuncName(name, 0, nullptr, false);
}

// The tuple of pg_trigger that the server keeps as a Trigger.
bool row_is_as_made(HeapTuple tuple, TupleDesc desc, const OwnTrigger &form) {
    auto &trigger = *reinterpret_cast<Form_pg_trigger>(GETSTRUCT(tuple));
    auto absent = [&](int attribute) { return heap_attisnull(tuple, attribute, desc); };
    return strcmp(NameStr(trigger.tgname), form.name) == 0 && trigger.tgtype == form.type &&
           trigger.tgnargs == form.arguments && trigger.tgattr.dim1 == 0 && !trigger.tgdeferrable &&
           !OidIsValid(trigger.tgconstraint) && absent(Anum_pg_trigger_tgqual) && absent(Anum_pg_trigger_tgoldtable) &&
           absent(Anum_pg_trigger_tgnewtable) && trigger.tgfoid == function_of(form);
}

bool has_form(const Trigger &trigger, const OwnTrigger &form) {
    return strcmp(trigger.tgname, form.name) == 0 && trigger.tgtype == form.type && trigger.tgnargs == form.arguments &&
           trigger.tgnattr == 0 && trigger.tgqual == nullptr && !trigger.tgdeferrable &&
           !OidIsValid(trigger.tgconstraint) && trigger.tgoldtable == nullptr && trigger.tgnewtable == nullptr;
}

} // namespace

bool is_as_made(const Trigger &trigger, const OwnTrigger &form) {
    return has_form(trigger, form) && trigger.tgfoid == function_of(form);
}

TriggerData &called_by(FunctionCallInfo fcinfo, const char *function, std::span<const OwnTrigger> forms) {
    if (!CALLED_AS_TRIGGER(fcinfo))
        ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
                        errmsg("%s.%s() is a trigger function", pg::own_schema(), function),
                        errhint("The extension makes the triggers that call it.")));
    auto &event = *reinterpret_cast<TriggerData *>(fcinfo->context);
    if (std::any_of(forms.begin(), forms.end(),
                    [&](const OwnTrigger &form) { return has_form(*event.tg_trigger, form); }))
        return event;
    const char *trigger = event.tg_trigger->tgname, *table = RelationGetRelationName(event.tg_relation);
    ereport(ERROR,
            (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
             errmsg("trigger \"%s\" on \"%s\" must not call %s.%s()", trigger, table, pg::own_schema(), function),
             errdetail("Only the triggers that the extension makes may, as it makes them."),
             errhint("DROP TRIGGER %s ON %s;", quote_identifier(trigger), quote_identifier(table)),
             errtable(event.tg_relation)));
    pg_unreachable();
}

Found find_trigger(Oid table, const OwnTrigger &form) {
    Relation triggers = table_open(TriggerRelationId, AccessShareLock);
    ScanKeyData keys[2];
    ScanKeyInit(&keys[0], Anum_pg_trigger_tgrelid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(table));
    ScanKeyInit(&keys[1], Anum_pg_trigger_tgname, BTEqualStrategyNumber, F_NAMEEQ, CStringGetDatum(form.name));
    SysScanDesc scan = systable_beginscan(triggers, TriggerRelidNameIndexId, true, nullptr, 2, keys);
    HeapTuple tuple = systable_getnext(scan);
    Found found = Found::nothing;
    if (HeapTupleIsValid(tuple)) {
        auto enabled = reinterpret_cast<Form_pg_trigger>(GETSTRUCT(tuple))->tgenabled;
        bool ours = row_is_as_made(tuple, RelationGetDescr(triggers), form) && enabled == TRIGGER_FIRES_ALWAYS;
        found = ours ? Found::as_made : Found::other;
    }
    systable_endscan(scan);
    table_close(triggers, AccessShareLock);
    return found;
}

} // namespace catalog

extern "C" {

PG_FUNCTION_INFO_V1(projections_is_own);

// _is_own(pg_trigger) → boolean: whether the trigger is one of ours as we make it, enabled or not.
Datum projections_is_own(PG_FUNCTION_ARGS) {
    HeapTupleHeader row = PG_GETARG_HEAPTUPLEHEADER(0);
    HeapTupleData tuple{};
    tuple.t_len = HeapTupleHeaderGetDatumLength(row);
    tuple.t_data = row;
    Relation triggers = table_open(TriggerRelationId, AccessShareLock);
    bool own = std::any_of(std::begin(catalog::all), std::end(catalog::all), [&](const catalog::OwnTrigger &form) {
        return catalog::row_is_as_made(&tuple, RelationGetDescr(triggers), form);
    });
    table_close(triggers, AccessShareLock);
    PG_RETURN_BOOL(own);
}

PG_FUNCTION_INFO_V1(projections_own_triggers);

// _own_triggers() → (name, function, made).
Datum projections_own_triggers(PG_FUNCTION_ARGS) {
    InitMaterializedSRF(fcinfo, 0);
    auto *result = reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo);
    for (const catalog::OwnTrigger &form : catalog::all) {
        NameData name;
        namestrcpy(&name, form.name);
        Datum values[] = {NameGetDatum(&name), CStringGetTextDatum(form.function), CStringGetTextDatum(form.made)};
        bool nulls[3] = {};
        tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
    }
    return 0;
}

} // extern "C"
