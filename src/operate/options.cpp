#include "operate/options.hpp"

#include "pg/scope.hpp"

namespace operate {
namespace {

enum class Value { integer, number, boolean, interval, choice, function, text, names, unsupported };
enum class For { events, machines, queries, all };

struct Option {
    const char *name;
    Value value;
    For whom;
    bool async_only;
    double least, most;
    const char *choices[4];
};

constexpr Option options[] = {
    {"fallback", Value::unsupported, For::queries, false, 0, 0, {}},
    {"fill", Value::choice, For::queries, false, 0, 0, {"create", "online"}},
    {"finish", Value::choice, For::all, false, 0, 0, {"auto", "merge", "swap"}},
    {"slots", Value::integer, For::events, true, 1, 64, {}},
    {"batch_size", Value::integer, For::events, true, 1, 1000000, {}},
    {"on_failure", Value::choice, For::events, true, 0, 0, {"park_key", "skip", "stop"}},
    {"max_retries", Value::integer, For::events, true, 0, 100, {}},
    {"event_timeout", Value::interval, For::events, true, 0.001, 86400, {}},
    {"on_dead_letter", Value::function, For::events, true, 0, 0, {}},
    {"max_rate", Value::number, For::events, true, 0.001, 1e9, {}},
    {"initial", Value::text, For::machines, false, 0, 0, {}},
    {"terminal", Value::names, For::machines, false, 0, 0, {}},
    {"normalize", Value::boolean, For::machines, false, 0, 0, {}},
    {"retention", Value::interval, For::machines, true, 0, 1e12, {}},
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
    StringInfoData names;
    initStringInfo(&names);
    for (const Option &each : options)
        if (each.value != Value::unsupported) appendStringInfo(&names, "%s%s", names.len ? ", " : "", each.name);
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown option \"%s\"", given.name),
                    errdetail("Options are the keys of a JSON object."), errhint("Options are %s.", names.data)));
    pg_unreachable();
}

void check_use(const Given &given, const Option &option, const char *kind, const char *mode) {
    if (option.value == Value::unsupported)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("option \"%s\" is not supported by this version", given.name),
                        errdetail("It is reserved for a later one."), errhint("Leave it out.")));
    if (option.whom == For::queries && strcmp(kind, "query") != 0)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("option \"%s\" has no effect on this kind of projection", given.name),
                        errdetail("It belongs to query projections."), errhint("Leave it out.")));
    if (option.whom == For::machines && strcmp(kind, "state_machine") != 0)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("option \"%s\" has no effect on this kind of projection", given.name),
                        errdetail("It belongs to state machines."), errhint("Leave it out.")));
    if (option.async_only && strcmp(mode, "async") != 0)
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                 errmsg("option \"%s\" has no effect on an inline projection", given.name),
                 errdetail("It says how a worker applies events."), errhint("Leave it out, or use mode 'async'.")));
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
    case Value::unsupported: break;
    }
    return nullptr;
}

Datum with_text(Datum object, const char *name, const char *value) {
    Oid types[] = {JSONBOID, TEXTOID, TEXTOID};
    Datum values[] = {object, CStringGetTextDatum(name), CStringGetTextDatum(value)};
    if (SPI_execute_with_args("SELECT $1 OPERATOR(pg_catalog.||) pg_catalog.jsonb_build_object($2, $3)", 3, types,
                              values, nullptr, true, 1) != SPI_OK_SELECT)
        elog(ERROR, "storing an option failed");
    bool null;
    return SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &null);
}

} // namespace

Datum check_options(const char *kind, const char *mode, Datum object) {
    if (!JB_ROOT_IS_OBJECT(DatumGetJsonbP(object)))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("options must be a JSON object"),
                        errdetail("Options are the keys of a JSON object."), errhint("Pass '{}' for none.")));
    MemoryContext outside = CurrentMemoryContext;
    pg::with_spi([&] {
        Oid type = JSONBOID;
        if (SPI_execute_with_args("SELECT o.key, pg_catalog.jsonb_typeof(o.value), o.value OPERATOR(pg_catalog.#>>) "
                                  "'{}'::pg_catalog.text[] FROM pg_catalog.jsonb_each($1) AS o ORDER BY 1",
                                  1, &type, &object, nullptr, true, 0) != SPI_OK_SELECT)
            elog(ERROR, "reading options failed");
        uint64 count = SPI_processed;
        SPITupleTable *rows = SPI_tuptable;
        Datum stored = object;
        for (uint64 i = 0; i < count; i++) {
            auto column = [&](int number) { return SPI_getvalue(rows->vals[i], rows->tupdesc, number); };
            Given given{column(1), column(2), column(3)};
            const Option &option = find(given);
            check_use(given, option, kind, mode);
            if (const char *value = check_value(given, option)) stored = with_text(stored, given.name, value);
        }
        object = pg::within(outside, [&] { return datumCopy(stored, false, -1); });
    });
    return object;
}

} // namespace operate

extern "C" {

PG_FUNCTION_INFO_V1(projections_check_options);
Datum projections_check_options(PG_FUNCTION_ARGS) {
    PG_RETURN_DATUM(operate::check_options(text_to_cstring(PG_GETARG_TEXT_PP(0)), text_to_cstring(PG_GETARG_TEXT_PP(1)),
                                           PG_GETARG_DATUM(2)));
}

} // extern "C"
