// Declare handlers, reducers and state machines.
//
// Each reads its events through a feed, a hidden view over the source: what is delivered, of which types, and to which
// keys. So it follows renames, is dumped with the rest, and keeps the source from being dropped. The user's key
// expression is analyzed as his, with his search_path, before a superuser makes the view of it.
#include "capture/trigger.hpp"
#include "catalog/hidden.hpp"
#include "catalog/lineage.hpp"
#include "catalog/settings.hpp"
#include "compile/deparse.hpp"
#include "compile/refuse.hpp"
#include "declare/declaration.hpp"
#include "declare/hidden_view.hpp"
#include "declare/options.hpp"
#include "declare/own_triggers.hpp"
#include "events/events.hpp"
#include "maintain/reliance.hpp"
#include "maintain/statements.hpp"
#include "pg/scope.hpp"
#include "rights/audit.hpp"

namespace declare {
namespace {

// ---------------------------------------------------------------------------------------------------------- the source

Source read_source(FunctionCallInfo fcinfo, int number) {
    const char *name = rights::text_argument(fcinfo, number, "source");
    RangeVar *range = makeRangeVarFromNameList(textToQualifiedNameList(PG_GETARG_TEXT_PP(number)));
    Source source{};
    source.relation = RangeVarGetRelid(range, AccessShareLock, false);
    MemoryContext outside = CurrentMemoryContext;
    pg::with_spi([&] {
        pg::as_superuser([&] {
            pg::spi_execute(psprintf(
                "SELECT s.capture = 'trigger', s.arrivals::pg_catalog.text, pg_catalog.quote_ident(s.position_column), "
                "pg_catalog.quote_ident(s.type_column), pg_catalog.quote_ident(s.time_column), "
                "pg_catalog.quote_ident(s.id_column), pg_catalog.format_type(t.typarray, NULL), a.atttypid "
                "FROM projections_internal.source s LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = s.relation AND "
                "a.attname = s.type_column LEFT JOIN pg_catalog.pg_type t ON t.oid = a.atttypid WHERE s.relation = "
                "%u::pg_catalog.regclass",
                source.relation));
        });
        if (SPI_processed == 0)
            ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                            errmsg("%s is not an event source", pg::qualified_name(source.relation)),
                            errdetail("Events are delivered one by one, in the order of their positions."),
                            errhint("SELECT projections.register_source(%s);", quote_literal_cstr(name))));
        pg::Row row;
        auto column = [&](int column_number) { return row.text(column_number, outside); };
        source.triggers = *column(1) == 't';
        source.arrivals = column(2);
        source.position = column(3);
        source.type = column(4);
        source.time = column(5);
        source.id = column(6);
        source.type_array = column(7);
        source.type_of_type = row.oid(8);
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
    catalog::lock_tree(relation, ShareRowExclusiveLock);
    if (capture::half_written(relation))
        ereport(ERROR, (errcode(ERRCODE_OBJECT_IN_USE),
                        errmsg("cannot create a projection over \"%s\" while a statement is writing it",
                               get_rel_name(relation)),
                        errdetail("Rows of the unfinished statement would be missed or counted twice."),
                        errhint("Create it in a statement of its own.")));
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

// Domains check constants meanwhile, with functions of whoever made the domain.
Query *analyze(const char *text) {
    Query *query = nullptr;
    auto *raw = static_cast<RawStmt *>(linitial(pg_parse_query(text)));
    pg::as_caller_restricted([&] { query = parse_analyze_fixedparams(raw, text, nullptr, 0, nullptr); });
    return query;
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

// The type's own, not what is found by name: an operator for just these types may have been planted on the search_path.
const char *type_equality(const Source &source) {
    Oid equality = lookup_type_cache(source.type_of_type, TYPECACHE_EQ_OPR)->eq_opr;
    if (!OidIsValid(equality))
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_FUNCTION),
                        errmsg("types of events of %s cannot be compared", pg::qualified_name(source.relation)),
                        errdetail("Type %s of the column has no equality.", format_type_be(source.type_of_type)),
                        errhint("Leave out event_types.")));
    return maintain::operator_text(equality);
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
        condition =
            d.upper_case
                ? psprintf(" WHERE pg_catalog.upper(%s) OPERATOR(pg_catalog.=) ANY (%s::pg_catalog.text[])", type, list)
                : psprintf(" WHERE %s.%s %s ANY (%s::%s)", alias, s.type, type_equality(s), list, s.type_array);
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
            "CREATE VIEW %s AS SELECT s.slot, s.position, s.event_time, s.events_processed, s.checkpoint_at FROM %s",
            name, catalog::checkpoints_of(feed)));
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
        "INSERT INTO projections_internal.projection (relation, definition, kind, mode, sources, options, function, "
        "tables, "
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
        if (pg::spi_execute_with_args(sql, lengthof(types), types, values, nulls, false, 0) != SPI_OK_INSERT)
            elog(ERROR, "recording a projection failed");
        if (d.async) events::make_slots(relation);
        share_arrivals(relation);
    });
    CommandCounterIncrement();
}

// Retention looks for the keys that have not changed for longest.
void index_retention(const Declaration &d, Oid relation) {
    Oid type = JSONBOID;
    Datum options = d.options;
    if (pg::spi_execute_with_args("SELECT FROM (SELECT) AS o WHERE $1 OPERATOR(pg_catalog.?) 'retention'", 1, &type,
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

Oid declare(Declaration &d) {
    check_source(d);
    check_key(d);
    check_slots({d.kind, d.async, true, one_order(d), d.key != nullptr, nullptr}, d.options);
    Oid relation = existing(d);
    const char **settings = catalog::current_settings();
    int64 events = 0;
    pg::with_spi([&] {
        Oid feed = make_feed(d);
        if (!OidIsValid(relation)) relation = make_relation(d, feed);
        if (strcmp(d.kind, "state_machine") == 0) index_retention(d, relation);
        record(d, relation, feed, settings);
        if (d.async) return;
        events = events::apply_history(*catalog::projection(relation));
        make_capture({&d.source.relation, 1}, false);
    });
    maintain::record_reliance(relation);
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
    rights::text_argument(fcinfo, 0, "name");
    d.place = place_of(PG_GETARG_TEXT_PP(0));
    d.async = is_async(rights::text_argument(fcinfo, mode, "mode"));
    d.options = check_options({kind, d.async, true, false, false, nullptr},
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
        if (pg::spi_execute_with_args(
                "SELECT transitions, options, events, upper_case FROM projections_internal._state_machine($1, $2)", 2,
                types, values, nullptr, true, 1) != SPI_OK_SELECT)
            elog(ERROR, "reading transitions failed");
        pg::Row row;
        auto column = [&](int number) {
            return pg::within(outside, [&] { return datumCopy(row.datum(number), false, -1); });
        };
        d.transitions = column(1);
        d.options = column(2);
        d.event_types = DatumGetArrayTypeP(column(3));
        d.upper_case = row.boolean(4);
    });
}

} // namespace
} // namespace declare

extern "C" {

PG_FUNCTION_INFO_V1(projections_create_handler);
AUDITED(projections_create_handler) {
    declare::Declaration d = declare::read_common(fcinfo, "handler", 6, 7);
    d.function = declare::function_argument(fcinfo, 2, "handler");
    declare::check_function(d);
    d.tables = declare::read_tables(fcinfo, 3);
    if (!PG_ARGISNULL(4)) d.key = text_to_cstring(PG_GETARG_TEXT_PP(4));
    declare::read_event_types(fcinfo, 5, d);
    PG_RETURN_OID(declare::declare(d));
}

PG_FUNCTION_INFO_V1(projections_create_reducer);
AUDITED(projections_create_reducer) {
    declare::Declaration d = declare::read_common(fcinfo, "reducer", 6, 7);
    d.key = rights::text_argument(fcinfo, 2, "key");
    d.function = declare::function_argument(fcinfo, 3, "reducer");
    declare::check_function(d);
    d.has_initial = !PG_ARGISNULL(4);
    if (d.has_initial) d.initial = PG_GETARG_DATUM(4);
    declare::read_event_types(fcinfo, 5, d);
    PG_RETURN_OID(declare::declare(d));
}

PG_FUNCTION_INFO_V1(projections_create_state_machine);
AUDITED(projections_create_state_machine) {
    declare::Declaration d = declare::read_common(fcinfo, "state_machine", 4, 5);
    d.key = rights::text_argument(fcinfo, 2, "key");
    if (PG_ARGISNULL(3))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument \"transitions\" must not be null"),
                        errhint("Pass an array of {\"from\", \"event\", \"to\"} objects.")));
    if (d.source.type == nullptr)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("events of %s have no type", pg::qualified_name(d.source.relation)),
                        errdetail("A state machine moves by the types of events."),
                        errhint("Register the source with type_column.")));
    declare::read_machine(PG_GETARG_DATUM(3), d);
    PG_RETURN_OID(declare::declare(d));
}

} // extern "C"
