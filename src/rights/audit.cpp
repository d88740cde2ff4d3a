// The outermost call is recorded: its arguments before it runs, its outcome after it; a failed one through shared
// memory, as its transaction is rolled back.
#include "rights/audit.hpp"

#include "catalog/projection.hpp"
#include "pg/scope.hpp"
#include "shared/failed_call.hpp"

namespace rights {
namespace {

using shared::Call;

// What only looks goes through the same gate.
constexpr const char *looks[] = {"health", "metrics", "orphans", "stale_keys", "verify"};

struct Running {
    Call call;
    const char *arguments;
    bool known;   // what it is about
    bool nothing; // to be told
};

// The outermost one.
constinit Running *running = nullptr;

const char *operation_of(Oid function) {
    const char *name = get_func_name(function);
    // The parts that a procedure calls one after the other: the first stands for all.
    if (name != nullptr && (strcmp(name, "_alter_options") == 0 || strcmp(name, "_redefine") == 0)) return "alter";
    return name;
}

bool is_told(const char *operation) {
    return operation != nullptr && operation[0] != '_' &&
           std::none_of(std::begin(looks), std::end(looks),
                        [&](const char *look) { return strcmp(operation, look) == 0; }) &&
           catalog::is_readable() && catalog::sql_is_current();
}

struct Arguments {
    Oid *types;
    char **names;
};

Arguments declared_arguments(Oid function) {
    HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
    if (!HeapTupleIsValid(tuple)) elog(ERROR, "cache lookup failed for function %u", function);
    Arguments declared;
    char *modes;
    get_func_arg_info(tuple, &declared.types, &declared.names, &modes);
    ReleaseSysCache(tuple);
    return declared;
}

// A JSON object of the arguments by name.
const char *as_json(FunctionCallInfo fcinfo, const Arguments &declared) {
    TupleDesc desc = CreateTemplateTupleDesc(fcinfo->nargs);
    auto *values = static_cast<Datum *>(palloc(sizeof(Datum) * fcinfo->nargs));
    auto *nulls = static_cast<bool *>(palloc(sizeof(bool) * fcinfo->nargs));
    for (int i = 0; i < fcinfo->nargs; i++) {
        TupleDescInitEntry(desc, static_cast<AttrNumber>(i + 1), declared.names[i], declared.types[i], -1, 0);
        values[i] = fcinfo->args[i].value;
        nulls[i] = fcinfo->args[i].isnull;
    }
    desc = BlessTupleDesc(desc);
    Datum row = HeapTupleGetDatum(heap_form_tuple(desc, values, nulls));
    return TextDatumGetCString(DirectFunctionCall1(row_to_json, row));
}

// Fits the arguments into a record of shared memory; what is cut is a string, as half an object is none.
void shorten_arguments(Running &r) {
    if (strlen(r.arguments) < sizeof r.call.arguments) {
        strlcpy(r.call.arguments, r.arguments, sizeof r.call.arguments);
        return;
    }
    StringInfoData cut;
    int length = static_cast<int>(sizeof r.call.arguments);
    do {
        length /= 2;
        initStringInfo(&cut);
        appendStringInfoString(&cut, "{\"shortened\": ");
        escape_json(&cut,
                    pnstrdup(r.arguments, pg_mbcliplen(r.arguments, static_cast<int>(strlen(r.arguments)), length)));
        appendStringInfoChar(&cut, '}');
    } while (cut.len >= static_cast<int>(sizeof r.call.arguments));
    strlcpy(r.call.arguments, cut.data, sizeof r.call.arguments);
}

template <size_t size>
void keep(char (&place)[size], const char *text) {
    int kept = pg_mbcliplen(text, static_cast<int>(strlen(text)), size - 1);
    memcpy(place, text, kept);
    place[kept] = '\0';
}

void about(Running &r, Oid relation) {
    HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation));
    if (!HeapTupleIsValid(tuple)) return;
    Oid owner = reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple))->relowner;
    ReleaseSysCache(tuple);
    keep(r.call.owner, GetUserNameFromId(owner, false));
    keep(r.call.projection, pg::qualified_name(relation));
    r.known = true;
}

bool returns_relation(FunctionCallInfo fcinfo) { return get_func_rettype(fcinfo->flinfo->fn_oid) == REGCLASSOID; }

void read_arguments(Running &r, FunctionCallInfo fcinfo) {
    if (fcinfo->nargs == 0) return;
    Arguments declared = declared_arguments(fcinfo->flinfo->fn_oid);
    r.arguments = as_json(fcinfo, declared);
    bool named = declared.types[0] == TEXTOID &&
                 (strcmp(declared.names[0], "name") == 0 || strcmp(declared.names[0], "source") == 0);
    if (!named || PG_ARGISNULL(0)) return;
    text *name = PG_GETARG_TEXT_PP(0);
    keep(r.call.projection, text_to_cstring(name));
    // What has the name that a new projection is to get is something else.
    if (returns_relation(fcinfo)) return;
    Oid relation = RangeVarGetRelid(makeRangeVarFromNameList(textToQualifiedNameList(name)), NoLock, true);
    if (OidIsValid(relation)) about(r, relation);
}

void begin(Running &r, const char *operation, Oid role) {
    memset(&r.call, 0, sizeof r.call);
    r.call.started = GetCurrentTimestamp();
    keep(r.call.operation, operation);
    keep(r.call.login, GetUserNameFromId(GetSessionUserId(), false));
    keep(r.call.role, GetUserNameFromId(role, false));
    // Who asks for what is nobody's may see what he asked for.
    keep(r.call.owner, r.call.role);
    r.arguments = "{}";
    r.known = r.nothing = false;
}

void write(Running &r) {
    // An operation that a read-only transaction lets through has changed nothing.
    if (r.nothing || XactReadOnly) return;
    r.call.duration = GetCurrentTimestamp() - r.call.started;
    // A state or a query may be of any length; as much as tells what was done is kept.
    constexpr std::size_t most = 100000;
    if (strlen(r.arguments) > most) shorten_arguments(r);
    const char *arguments = strlen(r.arguments) > most ? r.call.arguments : r.arguments;
    pg::as_superuser(
        [&] { pg::with_snapshot(GetTransactionSnapshot(), [&] { shared::insert_call(r.call, arguments, false); }); });
}

void note_failure(Running &r, MemoryContext context) {
    MemoryContext before = MemoryContextSwitchTo(context);
    ErrorData *error = CopyErrorData();
    r.call.duration = GetCurrentTimestamp() - r.call.started;
    r.call.sqlstate = error->sqlerrcode;
    keep(r.call.message, error->message ? error->message : "");
    shorten_arguments(r);
    shared::note_failed_call(r.call);
    FreeErrorData(error);
    MemoryContextSwitchTo(before);
}

} // namespace

Datum audited(FunctionCallInfo fcinfo, PGFunction body) {
    if (running != nullptr) return body(fcinfo);
    const char *operation = operation_of(fcinfo->flinfo->fn_oid);
    if (!is_told(operation)) return body(fcinfo);
    // A procedure may commit: this must outlive its transactions.
    MemoryContext context = CurrentMemoryContext;
    auto *r = static_cast<Running *>(palloc(sizeof(Running)));
    begin(*r, operation, GetUserId());
    Datum result = 0;
    running = r;
    PG_TRY();
    {
        read_arguments(*r, fcinfo);
        result = body(fcinfo);
        if (!r->known && returns_relation(fcinfo) && !fcinfo->isnull) about(*r, DatumGetObjectId(result));
        write(*r);
    }
    PG_CATCH();
    {
        running = nullptr;
        note_failure(*r, context);
        PG_RE_THROW();
    }
    PG_END_TRY();
    running = nullptr;
    return result;
}

void audit_about(Oid relation) {
    if (running) about(*running, relation);
}

void audit_nothing() {
    if (running) running->nothing = true;
}

void audit_drop(const char *command, const char *projection) {
    if (running != nullptr || !catalog::sql_is_current()) return;
    Running r;
    // The event trigger's function runs as its owner.
    begin(r, command, GetOuterUserId());
    keep(r.call.projection, projection);
    write(r);
}

} // namespace rights

extern "C" {

PG_FUNCTION_INFO_V1(projections_audit_drop);
Datum projections_audit_drop(PG_FUNCTION_ARGS) {
    rights::audit_drop(text_to_cstring(PG_GETARG_TEXT_PP(0)), text_to_cstring(PG_GETARG_TEXT_PP(1)));
    PG_RETURN_VOID();
}

} // extern "C"
