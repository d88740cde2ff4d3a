// Declare handlers, reducers and state machines.
//
// Each reads its events through a feed, a hidden view over the source: what is delivered, of which types, and to which
// keys. So it follows renames, is dumped with the rest, and keeps the source from being dropped. The user's key
// expression is analyzed as his, with his search_path, before a superuser makes the view of it.
#include "async/events.hpp"
#include "capture/trigger.hpp"
#include "catalog/settings.hpp"
#include "compile/deparse.hpp"
#include "compile/refuse.hpp"
#include "operate/audit.hpp"
#include "operate/declare.hpp"
#include "operate/hidden_view.hpp"
#include "operate/options.hpp"
#include "operate/resolve.hpp"
#include "pg/scope.hpp"

namespace operate {
namespace {

struct Source {
    Oid relation;
    bool triggers;                                      // capture 'trigger'
    const char *arrivals, *position, *type, *time, *id; // quoted; the last three may be null
    const char *type_array;                             // of the type column
};

struct Declaration {
    const char *kind;
    bool async;
    Place place;
    Source source;
    Datum options;   // as stored
    const char *key; // an expression; null: one key for all
    Oid function;
    ArrayType *event_types; // null: all
    bool upper_case;        // of the types
    Datum initial, transitions;
    bool has_initial;
    pg::vector<Oid> tables; // of a handler
    bool array_key;
};

// ---------------------------------------------------------------------------------------------------------- the source

Source read_source(FunctionCallInfo fcinfo, int number) {
    const char *name = text_argument(fcinfo, number, "source");
    RangeVar *range = makeRangeVarFromNameList(textToQualifiedNameList(PG_GETARG_TEXT_PP(number)));
    Source source{};
    source.relation = RangeVarGetRelid(range, AccessShareLock, false);
    MemoryContext outside = CurrentMemoryContext;
    pg::with_spi([&] {
        pg::spi_execute(psprintf(
            "SELECT s.capture = 'trigger', s.arrivals::pg_catalog.text, pg_catalog.quote_ident(s.position_column), "
            "pg_catalog.quote_ident(s.type_column), pg_catalog.quote_ident(s.time_column), "
            "pg_catalog.quote_ident(s.id_column), pg_catalog.format_type(t.typarray, NULL) "
            "FROM projections.source s LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = s.relation AND a.attname = "
            "s.type_column LEFT JOIN pg_catalog.pg_type t ON t.oid = a.atttypid WHERE s.relation = "
            "%u::pg_catalog.regclass",
            source.relation));
        if (SPI_processed == 0)
            ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                            errmsg("%s is not an event source", pg::qualified_name(source.relation)),
                            errdetail("Events are delivered one by one, in the order of their positions."),
                            errhint("SELECT projections.register_source(%s);", quote_literal_cstr(name))));
        auto column = [&](int column_number) -> const char * {
            const char *value = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column_number);
            return value ? MemoryContextStrdup(outside, value) : nullptr;
        };
        source.triggers = *column(1) == 't';
        source.arrivals = column(2);
        source.position = column(3);
        source.type = column(4);
        source.time = column(5);
        source.id = column(6);
        source.type_array = column(7);
    });
    return source;
}

void check_source(const Declaration &d) {
    Oid relation = d.source.relation, user = GetUserId();
    const char *name = pg::qualified_name(relation), *role = quote_identifier(GetUserNameFromId(user, false));
    AclMode needed = d.async ? ACL_SELECT : ACL_SELECT | ACL_TRIGGER;
    if (pg_class_aclmask(relation, user, needed, ACLMASK_ALL) != needed)
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                        errmsg("permission denied for table %s", get_rel_name(relation)),
                        errdetail(d.async ? "A projection reads its source as its owner."
                                          : "An inline projection puts a trigger on its source."),
                        errhint("GRANT SELECT%s ON %s TO %s;", d.async ? "" : ", TRIGGER", name, role)));
    if (check_enable_rls(relation, user, true) == RLS_ENABLED)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("row-level security hides rows of \"%s\" from \"%s\"", get_rel_name(relation), role),
                        errdetail("The projection would lack what its owner does not see."),
                        errhint("Let a role that sees every row own the projection.")));
    if (d.async) return;
    if (d.source.triggers)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("an inline projection needs positions that are drawn by the transaction that inserts"),
                        errdetail("Source %s is captured by trigger.", name), errhint("Use mode 'async'.")));
    LockRelationOid(relation, ShareRowExclusiveLock);
    if (capture::half_written(relation))
        ereport(ERROR, (errcode(ERRCODE_OBJECT_IN_USE),
                        errmsg("cannot create a projection over \"%s\" while a statement is writing it",
                               get_rel_name(relation)),
                        errdetail("Rows of the unfinished statement would be missed or counted twice."),
                        errhint("Create it in a statement of its own.")));
}

// -------------------------------------------------------------------------------------------------------- the function

[[noreturn]] void refuse_function(Oid function, int code, const char *problem, const char *detail, const char *hint) {
    ereport(ERROR, (errcode(code), errmsg("function %s %s", format_procedure(function), problem),
                    errdetail("%s", detail), errhint("%s", hint)));
    pg_unreachable();
}

void check_signature(const Declaration &d, Form_pg_proc form) {
    bool handler = strcmp(d.kind, "handler") == 0;
    Oid row = get_rel_type_id(d.source.relation);
    const Oid *given = form->proargtypes.values;
    bool fits = handler ? form->pronargs == 1 && given[0] == row && form->prorettype == VOIDOID
                        : form->pronargs == 3 && given[0] == JSONBOID && given[1] == row && given[2] == TEXTOID &&
                              form->prorettype == JSONBOID;
    if (fits && form->prokind == PROKIND_FUNCTION && !form->proretset) return;
    const char *type = format_type_be_qualified(row);
    refuse_function(form->oid, ERRCODE_INVALID_FUNCTION_DEFINITION,
                    handler ? "is not a handler of this source" : "is not a reducer of this source",
                    handler
                        ? psprintf("A handler is a function (event %s) RETURNS void.", type)
                        : psprintf("A reducer is a function (state jsonb, event %s, key text) RETURNS jsonb.", type),
                    "Declare the function with these arguments, in this order.");
}

bool sets_search_path(HeapTuple tuple) {
    bool null;
    Datum settings = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_proconfig, &null);
    if (null) return false;
    Datum *elements;
    int count;
    deconstruct_array(DatumGetArrayTypeP(settings), TEXTOID, -1, false, TYPALIGN_INT, &elements, nullptr, &count);
    return std::any_of(elements, elements + count, [](Datum each) {
        return pg_strncasecmp(TextDatumGetCString(each), "search_path=", strlen("search_path=")) == 0;
    });
}

} // namespace

void refuse_bound_handler(Oid function) {
    HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
    if (!HeapTupleIsValid(tuple)) elog(ERROR, "cache lookup failed for function %u", function);
    bool null;
    static_cast<void>(SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_prosqlbody, &null));
    if (!null)
        refuse_function(function, ERRCODE_FEATURE_NOT_SUPPORTED, "has a body that is bound to its tables",
                        "A rebuild points the handler at other tables of the same names.",
                        "Write the body as a string: AS $$ … $$.");
    if (sets_search_path(tuple))
        refuse_function(function, ERRCODE_FEATURE_NOT_SUPPORTED, "sets search_path",
                        "A rebuild points the handler at other tables of the same names.",
                        psprintf("ALTER FUNCTION %s RESET search_path; it runs under the search_path of this session.",
                                 format_procedure_extended(function, FORMAT_PROC_FORCE_QUALIFY)));
    ReleaseSysCache(tuple);
}

namespace {

void check_function(const Declaration &d) {
    HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(d.function));
    if (!HeapTupleIsValid(tuple)) elog(ERROR, "cache lookup failed for function %u", d.function);
    check_signature(d, reinterpret_cast<Form_pg_proc>(GETSTRUCT(tuple)));
    if (pg::function_aclcheck(d.function, GetUserId(), ACL_EXECUTE) != ACLCHECK_OK)
        aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FUNCTION, get_func_name(d.function));
    if (strcmp(d.kind, "handler") == 0) refuse_bound_handler(d.function);
    ReleaseSysCache(tuple);
}

// ---------------------------------------------------------------------------------------------------------- the tables

void check_deferred(Oid table) {
    pg::with_spi([&] {
        pg::spi_execute(
            psprintf("SELECT conname FROM pg_catalog.pg_constraint WHERE conrelid = %u AND condeferred", table));
        if (SPI_processed == 0) return;
        const char *constraint = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("table %s has a deferred constraint \"%s\"", pg::qualified_name(table), constraint),
                        errdetail("It would be checked when it can no longer be told which event violates it."),
                        errhint("ALTER TABLE %s ALTER CONSTRAINT %s NOT DEFERRABLE;", pg::qualified_name(table),
                                quote_identifier(constraint))));
    });
}

void check_table(Oid table) {
    char kind = get_rel_relkind(table);
    if (kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE)
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("%s is not a table", pg::qualified_name(table)),
                        errdetail("A handler writes tables."), errhint("List the tables that the function writes.")));
    catalog::Projection *projection = catalog::projection(table);
    if (projection && projection->kind != catalog::Kind::handler)
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("%s is a projection", pg::qualified_name(table)),
                        errdetail("Only its maintenance writes it."), errhint("List an ordinary table.")));
    AclMode writes = ACL_INSERT | ACL_UPDATE | ACL_DELETE;
    if (pg_class_aclmask(table, GetUserId(), writes, ACLMASK_ANY) == 0)
        aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, get_rel_name(table));
    check_deferred(table);
}

pg::vector<Oid> read_tables(FunctionCallInfo fcinfo, int number) {
    if (PG_ARGISNULL(number))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument \"tables\" must not be null"),
                        errhint("List the tables that the function writes; '{}' for none.")));
    Datum *elements;
    int count;
    bool *nulls;
    deconstruct_array(PG_GETARG_ARRAYTYPE_P(number), TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &count);
    pg::vector<Oid> tables;
    for (int i = 0; i < count; i++) {
        if (nulls[i])
            ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("a table's name must not be null")));
        Oid table = RangeVarGetRelid(makeRangeVarFromNameList(textToQualifiedNameList(DatumGetTextPP(elements[i]))),
                                     AccessShareLock, false);
        check_table(table);
        tables.push_back(table);
    }
    return tables;
}

// ------------------------------------------------------------------------------------------------------------ the feed

// Refuses what would not be one expression: it becomes part of a query.
void check_expression(const char *text, const char *argument) {
    List *statements = raw_parser(psprintf("SELECT (\n%s\n)", text), RAW_PARSE_DEFAULT);
    auto *select = list_length(statements) == 1
                       ? reinterpret_cast<SelectStmt *>(static_cast<RawStmt *>(linitial(statements))->stmt)
                       : nullptr;
    bool one = select && IsA(select, SelectStmt) && select->op == SETOP_NONE && list_length(select->targetList) == 1 &&
               !static_cast<ResTarget *>(linitial(select->targetList))->name && !select->fromClause &&
               !select->whereClause && !select->groupClause && !select->havingClause && !select->windowClause &&
               !select->sortClause && !select->limitCount && !select->limitOffset && !select->lockingClause &&
               !select->withClause && !select->distinctClause && !select->intoClause;
    if (!one)
        ereport(ERROR, (errcode(ERRCODE_SYNTAX_ERROR), errmsg("argument \"%s\" is not one expression", argument),
                        errdetail("It is: %s", text), errhint("Write an expression over the columns of the source.")));
}

Query *analyze(const char *text) {
    return parse_analyze_fixedparams(static_cast<RawStmt *>(linitial(pg_parse_query(text))), text, nullptr, 0, nullptr);
}

// A name for the event's row that hides no column.
const char *alias_of(const Source &source) {
    const char *alias = "event";
    while (get_attnum(source.relation, alias) != InvalidAttrNumber) alias = psprintf("%s_", alias);
    return alias;
}

// What kind of expression the key is; refuses those that would not give the same again.
void check_key(Declaration &d) {
    if (d.key == nullptr) return;
    const char *argument = strcmp(d.kind, "handler") == 0 ? "partition_by" : "key";
    check_expression(d.key, argument);
    const char *text =
        psprintf("SELECT (\n%s\n) FROM %s AS %s", d.key, pg::qualified_name(d.source.relation), alias_of(d.source));
    Query *query = analyze(text);
    auto *expression = reinterpret_cast<Node *>(static_cast<TargetEntry *>(linitial(query->targetList))->expr);
    if (query->hasSubLinks || query->hasAggs || query->hasWindowFuncs || query->hasTargetSRFs)
        ereport(ERROR, (errcode(pg::error::unsupported_query),
                        errmsg("argument \"%s\" must depend on nothing but the event", argument),
                        errdetail("It holds a subquery, an aggregate, a window function or a set-returning function."),
                        errhint("Write an expression over the columns of the source; to several keys, an array.")));
    compile::check_functions(expression, compile::Place{text});
    Oid type = exprType(expression);
    d.array_key = OidIsValid(get_element_type(type));
    Oid element = d.array_key ? get_element_type(type) : type;
    if (element == JSONOID || element == JSONBOID || type_is_rowtype(element))
        ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
                        errmsg("argument \"%s\" is of type %s", argument, format_type_be(type)),
                        errdetail("A key is kept as text, which this type has several of for one value."),
                        errhint("Use ->> to take text out of JSON; for several keys, build an array.")));
}

const char *feed_text(const Declaration &d) {
    const Source &s = d.source;
    const char *alias = alias_of(s), *type = s.type ? psprintf("%s.%s::pg_catalog.text", alias, s.type) : "NULL::text";
    auto optional = [&](const char *column, const char *cast) {
        return column ? psprintf("%s.%s::pg_catalog.%s", alias, column, cast) : psprintf("NULL::pg_catalog.%s", cast);
    };
    bool handler = strcmp(d.kind, "handler") == 0;
    const char *keys = !d.key        ? "'{\"\"}'::pg_catalog.text[]"
                       : d.array_key ? psprintf("(\n%s\n)::pg_catalog.text[]", d.key)
                       : handler     ? psprintf("ARRAY[pg_catalog.coalesce((\n%s\n)::pg_catalog.text, '')]", d.key)
                                     : psprintf("ARRAY[(\n%s\n)::pg_catalog.text]", d.key);
    if (handler && d.key && !d.array_key) keys = psprintf("ARRAY[COALESCE((\n%s\n)::pg_catalog.text, '')]", d.key);
    const char *condition = "";
    if (d.event_types) {
        const char *list =
            quote_literal_cstr(DatumGetCString(OidFunctionCall1(F_ARRAY_OUT, PointerGetDatum(d.event_types))));
        condition = d.upper_case ? psprintf(" WHERE pg_catalog.upper(%s) = ANY (%s::pg_catalog.text[])", type, list)
                                 : psprintf(" WHERE %s.%s = ANY (%s::%s)", alias, s.type, list, s.type_array);
    }
    const char *from = s.triggers ? psprintf("%s AS arrival JOIN %s AS %s ON %s.%s = arrival.position", s.arrivals,
                                             pg::qualified_name(s.relation), alias, alias, s.position)
                                  : psprintf("%s AS %s", pg::qualified_name(s.relation), alias);
    return psprintf("SELECT %s AS position, %s AS event, %s AS keys, %s AS type, %s AS event_time, %s AS event_id FROM "
                    "%s%s",
                    s.triggers ? "arrival.arrival" : psprintf("%s.%s", alias, s.position), alias, keys,
                    d.upper_case ? psprintf("pg_catalog.upper(%s)", type) : type, optional(s.time, "timestamptz"),
                    optional(s.id, "text"), from, condition);
}

Oid make_feed(const Declaration &d) {
    List *columns = NIL;
    for (const char *each : {"position", "event", "keys", "type", "event_time", "event_id"})
        columns = lappend(columns, makeString(pstrdup(each)));
    Oid view = make_hidden_view(hidden_name(d.place.relation, "feed"), columns, compile::deparse(analyze(feed_text(d))),
                                GetUserId());
    pg::as_superuser([&] {
        catalog::mark_hidden(psprintf("VIEW %s", pg::qualified_name(view)), "feed",
                             quote_qualified_identifier(d.place.schema, d.place.relation));
    });
    return view;
}

// -------------------------------------------------------------------------------------------------------- the relation

// A name that is free, or for a handler one of its tables.
Oid existing(const Declaration &d) {
    Oid relation = get_relname_relid(d.place.relation, d.place.namespace_oid);
    if (!OidIsValid(relation)) return InvalidOid;
    bool own = std::find(d.tables.begin(), d.tables.end(), relation) != d.tables.end();
    bool declared = catalog::projection(relation) != nullptr;
    if (own && !declared) return relation;
    ereport(ERROR,
            (errcode(ERRCODE_DUPLICATE_TABLE), errmsg("relation %s already exists", pg::qualified_name(relation)),
             errdetail(declared ? "It is a projection." : "It is not among the tables of the handler."),
             errhint(declared ? "Drop it first with projections.drop()." : "Choose another name.")));
    pg_unreachable();
}

Oid make_relation(const Declaration &d, Oid feed) {
    const char *name = quote_qualified_identifier(d.place.schema, d.place.relation);
    if (strcmp(d.kind, "handler") == 0) {
        pg::spi_execute(psprintf(
            "CREATE VIEW %s AS SELECT s.slot, s.position, s.event_time, s.events_processed, s.checkpoint_at FROM "
            "projections.slot AS s JOIN projections.projection AS p ON p.relation = s.projection WHERE p.definition = "
            "%s::pg_catalog.regclass",
            name, quote_literal_cstr(pg::qualified_name(feed))));
        catalog::mark_hidden(psprintf("VIEW %s", name), "view of checkpoints", name);
    } else {
        pg::spi_execute(
            psprintf("CREATE TABLE %s (key text PRIMARY KEY, state jsonb NOT NULL, version bigint NOT NULL, "
                     "position bigint NOT NULL, updated_at timestamptz)",
                     name));
    }
    CommandCounterIncrement();
    Oid relation = get_relname_relid(d.place.relation, d.place.namespace_oid);
    if (strcmp(d.kind, "handler") != 0) make_guard(relation);
    return relation;
}

// As a dump restores it, whatever the search_path.
const char *function_text(Oid function) {
    const char *text = nullptr;
    pg::with_setting("search_path", "", [&] { text = format_procedure(function); });
    return text;
}

// Keys that share an event, or all of them, have to be applied by one.
bool one_order(const Declaration &d) { return !d.key || d.array_key; }

void record(const Declaration &d, Oid relation, Oid feed, const char **settings) {
    static constexpr const char *sql =
        "INSERT INTO projections.projection (relation, definition, kind, mode, sources, options, function, tables, "
        "event_types, initial, transitions, settings, one_order) VALUES ($1, $2, $3, $4, ARRAY[$5], $6, $7, "
        "$8::oid[]::regclass[], "
        "$9, $10, $11, $12, $13)";
    Oid types[] = {REGCLASSOID, REGCLASSOID,  TEXTOID,  TEXTOID,  REGCLASSOID,  JSONBOID, TEXTOID,
                   OIDARRAYOID, TEXTARRAYOID, JSONBOID, JSONBOID, TEXTARRAYOID, BOOLOID};
    auto *pinned = static_cast<Datum *>(palloc(sizeof(Datum) * catalog::pinned_setting_count));
    for (int i = 0; i < catalog::pinned_setting_count; i++) pinned[i] = CStringGetTextDatum(settings[i]);
    auto *tables = static_cast<Datum *>(palloc(sizeof(Datum) * std::max<std::size_t>(d.tables.size(), 1)));
    for (std::size_t i = 0; i < d.tables.size(); i++) tables[i] = ObjectIdGetDatum(d.tables[i]);
    Datum values[] = {
        ObjectIdGetDatum(relation),
        ObjectIdGetDatum(feed),
        CStringGetTextDatum(d.kind),
        CStringGetTextDatum(d.async ? "async" : "inline"),
        ObjectIdGetDatum(d.source.relation),
        d.options,
        OidIsValid(d.function) ? CStringGetTextDatum(function_text(d.function)) : 0,
        PointerGetDatum(
            construct_array(tables, static_cast<int>(d.tables.size()), OIDOID, sizeof(Oid), true, TYPALIGN_INT)),
        PointerGetDatum(d.event_types),
        d.initial,
        d.transitions,
        PointerGetDatum(construct_array(pinned, catalog::pinned_setting_count, TEXTOID, -1, false, TYPALIGN_INT)),
        BoolGetDatum(one_order(d)),
    };
    const char nulls[] = {' ',
                          ' ',
                          ' ',
                          ' ',
                          ' ',
                          ' ',
                          OidIsValid(d.function) ? ' ' : 'n',
                          strcmp(d.kind, "handler") == 0 ? ' ' : 'n',
                          d.event_types ? ' ' : 'n',
                          d.has_initial ? ' ' : 'n',
                          d.transitions ? ' ' : 'n',
                          ' ',
                          ' '};
    pg::as_superuser([&] {
        if (SPI_execute_with_args(sql, lengthof(types), types, values, nulls, false, 0) != SPI_OK_INSERT)
            elog(ERROR, "recording a projection failed");
        if (d.async)
            pg::spi_execute(psprintf(
                "INSERT INTO projections.slot (projection, slot) SELECT p.relation, n FROM projections.projection "
                "p, "
                "generate_series(0, coalesce((p.options->>'slots')::int, 1) - 1) AS n WHERE p.relation = %u",
                relation));
    });
    CommandCounterIncrement();
}

// Retention looks for the keys that have not changed for longest.
void index_retention(const Declaration &d, Oid relation) {
    Oid type = JSONBOID;
    Datum options = d.options;
    if (SPI_execute_with_args("SELECT FROM (SELECT) AS o WHERE $1 OPERATOR(pg_catalog.?) 'retention'", 1, &type,
                              &options, nullptr, true, 1) != SPI_OK_SELECT)
        elog(ERROR, "reading options failed");
    if (SPI_processed == 0) return;
    if (!d.source.time)
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("option \"retention\" needs the time of events"),
                 errdetail("Source %s has no time column.", pg::qualified_name(d.source.relation)),
                 errhint("Register the source with time_column.")));
    pg::spi_execute(psprintf("CREATE INDEX ON %s (updated_at)", pg::qualified_name(relation)));
}

void check_slots(const Declaration &d) {
    Oid type = JSONBOID;
    Datum options = d.options;
    int slots = 1;
    pg::with_spi([&] {
        if (SPI_execute_with_args("SELECT coalesce(($1 OPERATOR(pg_catalog.->>) 'slots')::pg_catalog.int4, 1)", 1,
                                  &type, &options, nullptr, true, 1) != SPI_OK_SELECT)
            elog(ERROR, "reading options failed");
        bool null;
        slots = DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &null));
    });
    if (slots == 1 || !one_order(d)) return;
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("this projection has one slot only"),
                    errdetail(d.key ? "An event that goes to several keys is applied to all of them at once."
                                    : "Without partition_by, all events are in one order."),
                    errhint(d.key ? "Leave out option slots." : "Leave out option slots, or give partition_by.")));
}

Oid declare(Declaration &d) {
    check_source(d);
    check_key(d);
    check_slots(d);
    Oid relation = existing(d);
    const char **settings = catalog::current_settings();
    int64 events = 0;
    pg::with_spi([&] {
        Oid feed = make_feed(d);
        if (!OidIsValid(relation)) relation = make_relation(d, feed);
        if (strcmp(d.kind, "state_machine") == 0) index_retention(d, relation);
        record(d, relation, feed, settings);
        if (d.async) return;
        events = async::apply_history(*catalog::projection(relation));
        make_capture({&d.source.relation, 1});
    });
    if (d.async) warn_without_workers(relation);
    ereport(NOTICE,
            (errmsg("projection %s: %s, %s", pg::qualified_name(relation),
                    strcmp(d.kind, "state_machine") == 0 ? "state machine" : d.kind,
                    d.async ? "async from events" : psprintf("inline, " INT64_FORMAT " events applied", events))));
    return relation;
}

// ------------------------------------------------------------------------------------------------------------
// arguments

Declaration read_common(FunctionCallInfo fcinfo, const char *kind, int mode, int options) {
    Declaration d{};
    d.kind = kind;
    text_argument(fcinfo, 0, "name");
    d.place = place_of(PG_GETARG_TEXT_PP(0));
    const char *mode_name = text_argument(fcinfo, mode, "mode");
    d.async = is_async(mode_name);
    d.options = check_options(kind, mode_name,
                              PG_ARGISNULL(options) ? DirectFunctionCall1(jsonb_in, CStringGetDatum("{}"))
                                                    : PG_GETARG_DATUM(options));
    d.source = read_source(fcinfo, 1);
    return d;
}

void read_event_types(FunctionCallInfo fcinfo, int number, Declaration &d) {
    if (PG_ARGISNULL(number)) return;
    d.event_types = PG_GETARG_ARRAYTYPE_P(number);
    if (d.source.type == nullptr)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("events of %s have no type", pg::qualified_name(d.source.relation)),
                        errdetail("The source was registered without a type column."),
                        errhint("Register the source with type_column.")));
}

Oid function_argument(FunctionCallInfo fcinfo, int number, const char *name) {
    if (PG_ARGISNULL(number))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument \"%s\" must not be null", name),
                        errhint("Name a function with its argument types.")));
    return PG_GETARG_OID(number);
}

// Normalizes transitions and options, in SQL.
void read_machine(Datum transitions, Declaration &d) {
    MemoryContext outside = CurrentMemoryContext;
    pg::with_spi([&] {
        Oid types[] = {JSONBOID, JSONBOID};
        Datum values[] = {transitions, d.options};
        if (SPI_execute_with_args(
                "SELECT transitions, options, events, upper_case FROM projections._state_machine($1, $2)", 2, types,
                values, nullptr, true, 1) != SPI_OK_SELECT)
            elog(ERROR, "reading transitions failed");
        bool null;
        auto column = [&](int number) {
            Datum value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, number, &null);
            return pg::within(outside, [&] { return datumCopy(value, false, -1); });
        };
        d.transitions = column(1);
        d.options = column(2);
        d.event_types = DatumGetArrayTypeP(column(3));
        d.upper_case = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 4, &null));
    });
}

} // namespace
} // namespace operate

extern "C" {

PG_FUNCTION_INFO_V1(projections_create_handler);
AUDITED(projections_create_handler) {
    operate::Declaration d = operate::read_common(fcinfo, "handler", 6, 7);
    d.function = operate::function_argument(fcinfo, 2, "handler");
    operate::check_function(d);
    d.tables = operate::read_tables(fcinfo, 3);
    if (!PG_ARGISNULL(4)) d.key = text_to_cstring(PG_GETARG_TEXT_PP(4));
    operate::read_event_types(fcinfo, 5, d);
    PG_RETURN_OID(operate::declare(d));
}

PG_FUNCTION_INFO_V1(projections_create_reducer);
AUDITED(projections_create_reducer) {
    operate::Declaration d = operate::read_common(fcinfo, "reducer", 6, 7);
    d.key = operate::text_argument(fcinfo, 2, "key");
    d.function = operate::function_argument(fcinfo, 3, "reducer");
    operate::check_function(d);
    d.has_initial = !PG_ARGISNULL(4);
    if (d.has_initial) d.initial = PG_GETARG_DATUM(4);
    operate::read_event_types(fcinfo, 5, d);
    PG_RETURN_OID(operate::declare(d));
}

PG_FUNCTION_INFO_V1(projections_create_state_machine);
AUDITED(projections_create_state_machine) {
    operate::Declaration d = operate::read_common(fcinfo, "state_machine", 4, 5);
    d.key = operate::text_argument(fcinfo, 2, "key");
    if (PG_ARGISNULL(3))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument \"transitions\" must not be null"),
                        errhint("Pass an array of {\"from\", \"event\", \"to\"} objects.")));
    if (d.source.type == nullptr)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("events of %s have no type", pg::qualified_name(d.source.relation)),
                        errdetail("A state machine moves by the types of events."),
                        errhint("Register the source with type_column.")));
    operate::read_machine(PG_GETARG_DATUM(3), d);
    PG_RETURN_OID(operate::declare(d));
}

} // extern "C"
