// One table of options: of whom each is, and which values it has. Checks go through what was given, in order of names.
#include "declare/options.hpp"

#include "pg/list.hpp"
#include "pg/scope.hpp"

namespace declare {
namespace {

enum class Value { integer, number, boolean, interval, choice, function, text, names };

// Whose options: a query over tables that change, a query over events, and what applies events one by one.
constexpr unsigned tables = 1, query_events = 2, single = 4, machine = 8;
constexpr unsigned queries = tables | query_events, events = query_events | single | machine, all = tables | events;

struct Option {
    const char *name;
    Value value;
    unsigned whom;
    bool async_only;
    double least, most;
    const char *choices[4];
};

constexpr Option options[] = {
    {"fallback", Value::choice, queries, false, 0, 0, {"refresh"}},
    {"key_not_null", Value::boolean, queries, false, 0, 0, {}},
    {"fill", Value::choice, queries, false, 0, 0, {"create", "online"}},
    {"finish", Value::choice, all, false, 0, 0, {"auto", "merge", "swap"}},
    {"detached", Value::choice, all, false, 0, 0, {"keep", "remove"}},
    {"slots", Value::integer, all, true, 1, 64, {}},
    {"batch_size", Value::integer, all, true, 1, 1000000, {}},
    {"on_failure", Value::choice, single | machine, true, 0, 0, {"park_key", "skip", "stop"}},
    {"max_retries", Value::integer, events, true, 0, 100, {}},
    {"event_timeout", Value::interval, single | machine, true, 0.001, 86400, {}},
    {"on_dead_letter", Value::function, events, true, 0, 0, {}},
    {"max_rate", Value::number, all, true, 0.001, 1e9, {}},
    {"initial", Value::text, machine, false, 0, 0, {}},
    {"terminal", Value::names, machine, false, 0, 0, {}},
    {"normalize", Value::boolean, machine, false, 0, 0, {}},
    {"retention", Value::interval, machine, true, 0, 1e12, {}},
};

// One option as the user gave it.
struct Given {
    const char *name, *type, *text; // of the JSON value; text is null for JSON's null
};

[[noreturn]] void refuse_value(const Given &given, const char *detail, const char *hint) {
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                    errmsg("option \"%s\" cannot be %s", given.name, given.text ? given.text : "null"),
                    errdetail("%s", detail), errhint("%s", hint)));
    pg_unreachable();
}

const Option &find(const Given &given) {
    for (const Option &each : options)
        if (strcmp(each.name, given.name) == 0) return each;
    pg::TextList names;
    for (const Option &each : options) names.add("%s", each.name);
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown option \"%s\"", given.name),
                    errdetail("Options are the keys of a JSON object."), errhint("Options are %s.", names.text())));
    pg_unreachable();
}

unsigned group_of(const Use &use) {
    if (strcmp(use.kind, "query") != 0) return strcmp(use.kind, "state_machine") == 0 ? machine : single;
    return use.async && use.events ? query_events : tables;
}

bool has_effect(const Option &option, const Use &use) {
    return (option.whom & group_of(use)) && (use.async || !option.async_only);
}

// Where an option of that name belongs, which has no effect here.
const char *whose(const Option &option) {
    return option.whom == queries              ? "It belongs to query projections."
           : option.whom == machine            ? "It belongs to state machines."
           : option.whom == (single | machine) ? "It belongs to handlers, reducers and state machines."
           : (option.whom & ~events) == 0      ? "It belongs to what reads events."
                                               : "It says how a worker applies events.";
}

void check_use(const Given &given, const Option &option, const Use &use) {
    if (has_effect(option, use)) return;
    pg::TextList names;
    for (const Option &each : options)
        if (has_effect(each, use)) names.add("%s", each.name);
    bool by_mode = option.async_only && !use.async;
    const char *what = by_mode                                            ? "an inline projection"
                       : group_of(use) == tables && option.whom == events ? "a projection over tables that change"
                                                                          : "this kind of projection";
    ereport(ERROR,
            (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("option \"%s\" has no effect on %s", given.name, what),
             errdetail("%s", by_mode ? "It says how a worker applies events." : whose(option)),
             errhint("Leave it out (null takes it back). Here these have an effect: %s.", names.text())));
}

// What tables that change have lost is nowhere any more: sums would have to be stored beside the rows that they are of.
void refuse_keeping(const Given &given, const Use &use) {
    if (group_of(use) != tables || strcmp(given.name, "detached") != 0 || strcmp(given.text, "keep") != 0) return;
    ereport(
        ERROR,
        (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
         errmsg("a projection over tables that change does not keep what is detached from them"),
         errdetail("It equals its query over the rows that its tables have now."),
         errhint("Copy the totals into a table before the partition goes, and let the query add that with UNION ALL; "
                 "or register the table as an event source and create the projection with mode async.")));
}

// The value as a number, if that is what it is.
double number_of(const Given &given, const Option &option) {
    bool whole = option.value == Value::integer;
    const char *hint =
        psprintf("Give %s between %.10g and %.10g.", whole ? "a whole number" : "a number", option.least, option.most);
    if (strcmp(given.type, "number") != 0) refuse_value(given, "It is not a number.", hint);
    double value = strtod(given.text, nullptr);
    if (value < option.least || value > option.most || (whole && value != std::floor(value)))
        refuse_value(given, "It is outside the range.", hint);
    return value;
}

void check_interval(const Given &given, const Option &option) {
    const char *hint = "Give an interval as text, such as \"30 seconds\".";
    if (strcmp(given.type, "string") != 0) refuse_value(given, "It is not an interval.", hint);
    Interval *interval = DatumGetIntervalP(
        DirectFunctionCall3(interval_in, CStringGetDatum(given.text), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
    double seconds = static_cast<double>(interval->time) / 1e6 + (interval->day + interval->month * 30.0) * 86400;
    if (seconds < option.least || seconds > option.most)
        refuse_value(given, psprintf("It is not between %g and %g seconds.", option.least, option.most), hint);
}

void check_choice(const Given &given, const Option &option) {
    StringInfoData known;
    initStringInfo(&known);
    for (const char *const *each = option.choices; *each; each++) {
        if (given.text && strcmp(*each, given.text) == 0) return;
        appendStringInfo(&known, "%s\"%s\"", each == option.choices ? "" : each[1] ? ", " : " or ", *each);
    }
    refuse_value(given, "No such behaviour is known.", psprintf("Give %s.", known.data));
}

// The function of that name with one argument, a bigint, as regprocedure prints it with an empty search_path.
const char *dead_letter_function(const Given &given) {
    if (strcmp(given.type, "string") != 0)
        refuse_value(given, "It is not the name of a function.", "Name a function (failure_id bigint).");
    Oid type = INT8OID;
    const char *name = pnstrdup(given.text, static_cast<int>(strcspn(given.text, "(")));
    Oid function = LookupFuncName(pg::qualified_names(name), 1, &type, false);
    if (pg::function_aclcheck(function, GetUserId(), ACL_EXECUTE) != ACLCHECK_OK)
        aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FUNCTION, get_func_name(function));
    return format_procedure_extended(function, FORMAT_PROC_FORCE_QUALIFY);
}

// The option's value as stored, where that is not what was given; else null.
const char *check_value(const Given &given, const Option &option) {
    switch (option.value) {
    case Value::integer:
    case Value::number: number_of(given, option); break;
    case Value::boolean:
        if (strcmp(given.type, "boolean") != 0) refuse_value(given, "It is not a boolean.", "Give true or false.");
        break;
    case Value::interval: check_interval(given, option); break;
    case Value::choice: check_choice(given, option); break;
    case Value::function: return dead_letter_function(given);
    case Value::text:
        if (strcmp(given.type, "string") != 0) refuse_value(given, "It is not a name.", "Give a JSON string.");
        break;
    case Value::names:
        if (strcmp(given.type, "array") != 0)
            refuse_value(given, "It is not a list of names.", "Give an array of strings.");
        break;
    }
    return nullptr;
}

Datum with_text(Datum object, const char *name, const char *value) {
    Oid types[] = {JSONBOID, TEXTOID, TEXTOID};
    Datum values[] = {object, CStringGetTextDatum(name), CStringGetTextDatum(value)};
    if (pg::spi_execute_with_args("SELECT $1 OPERATOR(pg_catalog.||) pg_catalog.jsonb_build_object($2, $3)", 3, types,
                                  values, nullptr, true, 1) != SPI_OK_SELECT)
        elog(ERROR, "storing an option failed");
    return pg::Row().datum(1);
}

} // namespace

void check_slots(const Use &use, Datum object) {
    JsonbValue found;
    if (!getKeyJsonValueFromContainer(&DatumGetJsonbP(object)->root, "slots", 5, &found) || found.type != jbvNumeric ||
        DatumGetInt32(DirectFunctionCall1(numeric_int4, NumericGetDatum(found.val.numeric))) <= 1)
        return;
    const char *name = use.name ? psprintf("projection %s", use.name) : "this projection";
    if (!use.events)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("%s cannot have several slots", name),
                        errdetail("Its source changes: old and new images of a row have to be applied together."),
                        errhint("Leave out slots.")));
    if (use.one_order)
        ereport(
            ERROR,
            (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s has one slot only", name),
             errdetail("%s", use.keyed ? "An event that goes to several keys is applied to all of them at once."
                                       : "Without partition_by, all events are in one order."),
             errhint("%s", use.keyed ? "Leave out option slots." : "Leave out option slots, or give partition_by.")));
}

Datum check_options(const Use &use, Datum object) {
    if (!JB_ROOT_IS_OBJECT(DatumGetJsonbP(object)))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("options must be a JSON object"),
                        errdetail("Options are the keys of a JSON object."), errhint("Pass '{}' for none.")));
    MemoryContext outside = CurrentMemoryContext;
    pg::with_spi([&] {
        Oid type = JSONBOID;
        if (pg::spi_execute_with_args(
                "SELECT o.key, pg_catalog.jsonb_typeof(o.value), o.value OPERATOR(pg_catalog.#>>) "
                "'{}'::pg_catalog.text[] FROM pg_catalog.jsonb_each($1) AS o ORDER BY 1",
                1, &type, &object, nullptr, true, 0) != SPI_OK_SELECT)
            elog(ERROR, "reading options failed");
        uint64 count = SPI_processed;
        SPITupleTable *rows = SPI_tuptable;
        Datum stored = object;
        for (uint64 i = 0; i < count; i++) {
            auto column = [&](int number) { return pg::Row(rows, i).text(number); };
            Given given{column(1), column(2), column(3)};
            const Option &option = find(given);
            check_use(given, option, use);
            if (option.value == Value::choice && given.text) refuse_keeping(given, use);
            if (const char *value = check_value(given, option)) stored = with_text(stored, given.name, value);
        }
        object = pg::within(outside, [&] { return datumCopy(stored, false, -1); });
    });
    check_slots(use, object);
    return object;
}

} // namespace declare

extern "C" {

PG_FUNCTION_INFO_V1(projections_check_use);
// Of a projection that exists: kind, mode, whether it reads events, whether they have one order, name, options.
Datum projections_check_use(PG_FUNCTION_ARGS) {
    const char *kind = text_to_cstring(PG_GETARG_TEXT_PP(0));
    bool async = strcmp(text_to_cstring(PG_GETARG_TEXT_PP(1)), "async") == 0;
    declare::Use use{kind,
                     async,
                     PG_GETARG_BOOL(2),
                     PG_GETARG_BOOL(3),
                     strcmp(kind, "handler") != 0,
                     text_to_cstring(PG_GETARG_TEXT_PP(4))};
    PG_RETURN_DATUM(declare::check_options(use, PG_GETARG_DATUM(5)));
}

PG_FUNCTION_INFO_V1(projections_check_options);
// The same for SQL objects of version 0.2.0: kind, mode, options.
Datum projections_check_options(PG_FUNCTION_ARGS) {
    const char *kind = text_to_cstring(PG_GETARG_TEXT_PP(0));
    bool async = strcmp(text_to_cstring(PG_GETARG_TEXT_PP(1)), "async") == 0;
    PG_RETURN_DATUM(declare::check_options({kind, async, true, false, true, nullptr}, PG_GETARG_DATUM(2)));
}

} // extern "C"
