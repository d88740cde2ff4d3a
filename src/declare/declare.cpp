// Declare: create.
//
// create makes, in this order and in one transaction: the hidden view, the table, its unique index, the rows, the
// triggers, the catalog row. Writers of the sources are held off from the beginning by SHARE ROW EXCLUSIVE locks (taken
// in OID order, as everywhere), so that no change falls between the rows that the fill reads and those that the
// triggers see.
#include "declare/declare.hpp"

#include "capture/trigger.hpp"
#include "catalog/hidden.hpp"
#include "catalog/lineage.hpp"
#include "catalog/settings.hpp"
#include "catalog/stored.hpp"
#include "compile/canonical.hpp"
#include "compile/deparse.hpp"
#include "declare/describe.hpp"
#include "declare/hidden_view.hpp"
#include "declare/options.hpp"
#include "declare/own_triggers.hpp"
#include "declare/parts.hpp"
#include "declare/table.hpp"
#include "events/slot.hpp"
#include "maintain/flush.hpp"
#include "maintain/log.hpp"
#include "maintain/reliance.hpp"
#include "maintain/statements.hpp"
#include "pg/list.hpp"
#include "pg/scope.hpp"
#include "rights/audit.hpp"
#include "rights/reader.hpp"

namespace declare {

using compile::Block;

bool is_async(const char *mode) {
    if (strcmp(mode, "inline") == 0) return false;
    if (strcmp(mode, "async") == 0) return true;
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown mode \"%s\"", mode),
                    errdetail("A mode is \"inline\" or \"async\"."), errhint("Use mode 'inline'.")));
    pg_unreachable();
}

Place place_of(text *given) {
    RangeVar *name = makeRangeVarFromNameList(textToQualifiedNameList(given));
    Place place{RangeVarGetCreationNamespace(name), nullptr, name->relname};
    place.schema = get_namespace_name(place.namespace_oid);
    if (pg::is_own_schema(place.namespace_oid) || isAnyTempNamespace(place.namespace_oid) ||
        IsCatalogNamespace(place.namespace_oid))
        ereport(ERROR, (errcode(ERRCODE_INVALID_SCHEMA_NAME),
                        errmsg("a projection cannot be made in %s", isAnyTempNamespace(place.namespace_oid)
                                                                        ? "a temporary schema"
                                                                        : psprintf("schema \"%s\"", place.schema)),
                        errdetail("It belongs to the extension, the session or the system."),
                        errhint("Qualify the name with a schema of yours.")));
    return place;
}

const char *hidden_name(const char *relation, const char *suffix) {
    Oid schema = pg::own_schema_oid();
    const char *base = pnstrdup(relation, pg_mbcliplen(relation, static_cast<int>(strlen(relation)), NAMEDATALEN - 20));
    const char *name = psprintf("%s_%s", base, suffix);
    for (int i = 2; OidIsValid(get_relname_relid(name, schema)); i++) name = psprintf("%s_%s_%d", base, suffix, i);
    return name;
}

void refuse_existing(Oid relation, catalog::Projection *projection, bool same) {
    ereport(ERROR,
            (errcode(ERRCODE_DUPLICATE_TABLE), errmsg("relation %s already exists", pg::qualified_name(relation)),
             errdetail("%s", !projection ? "It is not a projection."
                             : same      ? "It is a projection with the same definition."
                                         : "It is a projection with another definition."),
             errhint("%s", !projection ? "Choose another name."
                           : same      ? "Pass if_not_exists => true to accept it."
                                       : "Drop it first with projections.drop().")));
    pg_unreachable();
}

namespace {

bool option_is(Datum options, const char *name, const char *value) {
    JsonbValue found;
    Jsonb *object = DatumGetJsonbP(options);
    return getKeyJsonValueFromContainer(&object->root, name, static_cast<int>(strlen(name)), &found) &&
           found.type == jbvString &&
           std::string_view(found.val.string.val, found.val.string.len) == std::string_view(value);
}

Request read_request(FunctionCallInfo fcinfo) {
    Request request{};
    request.name = rights::text_argument(fcinfo, 0, "name");
    request.query = rights::text_argument(fcinfo, 1, "query");
    const char *mode = rights::text_argument(fcinfo, 2, "mode");
    request.async = is_async(mode);
    request.options = PG_ARGISNULL(4) ? DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")) : PG_GETARG_DATUM(4);
    // What they have an effect on is known better when the query has been compiled.
    request.options = check_options({"query", request.async, true, false, false, nullptr}, request.options);
    request.fallback = option_is(request.options, "fallback", "refresh");
    request.fill_later = option_is(request.options, "fill", "online");
    request.key_not_null = catalog::is_key_not_null(request.options);
    if (request.fill_later || request.key_not_null) catalog::require_current_sql();
    request.if_not_exists = !PG_ARGISNULL(5) && PG_GETARG_BOOL(5);
    Place place = place_of(PG_GETARG_TEXT_PP(0));
    request.namespace_oid = place.namespace_oid;
    request.schema = place.schema;
    request.relation = place.relation;
    return request;
}

// The relation of that name if it is the same projection already; InvalidOid if there is none.
Oid existing(const Request &request) {
    Oid relation = get_relname_relid(request.relation, request.namespace_oid);
    if (!OidIsValid(relation)) return InvalidOid;
    // Another session may drop it at any moment. (Test: test/drop_stress)
    catalog::Projection *projection = catalog::projection(relation);
    if (projection && !catalog::hold(*projection, catalog::Hold::all)) return existing(request);
    bool same = projection && projection->kind == catalog::Kind::query && has_definition(*projection, request.query);
    if (!request.if_not_exists || !same) refuse_existing(relation, projection, same);
    ereport(NOTICE,
            (errcode(ERRCODE_DUPLICATE_TABLE), errmsg("projection %s already exists, skipping", projection->name())));
    return relation;
}

void check_key(Datum key, const Block &block) {
    Datum *elements;
    bool *nulls;
    int count;
    deconstruct_array(DatumGetArrayTypeP(key), TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &count);
    bool same = count == static_cast<int>(block.row_key.size());
    for (int i = 0; same && i < count; i++) {
        bool found = false;
        for (const compile::Key &each : block.row_key)
            found |= !nulls[i] && strcmp(block.column(each.column)->resname, TextDatumGetCString(elements[i])) == 0;
        same = found;
    }
    if (!same)
        ereport(ERROR,
                (errcode(pg::error::unsupported_query), errmsg("these columns are not the key of the query"),
                 errdetail("Its key is (%s).", key_text(block) ? key_text(block) : ""),
                 errhint("Leave out the key: it follows from GROUP BY or from the primary keys of the sources.")));
}

pg::vector<Oid> sorted_sources(const Block &block) {
    pg::vector<Oid> sources;
    for (const compile::Source &source : block.sources) sources.push_back(source.relation);
    std::sort(sources.begin(), sources.end());
    return sources;
}

} // namespace

// How changes will reach the projection. Events that one query folds are read from where they are, by their positions;
// what else changes is logged, events that something else is read with among it.
Plan plan_flow(Request &request, const Block &block) {
    Plan plan{sorted_sources(block), {}, catalog::Flow::inline_};
    bool alone = !block.slices() && !block.joins() && !block.unites() && request.part_of == nullptr;
    if (request.async && alone && catalog::is_event_source(plan.sources.front()))
        plan.flow = catalog::Flow::events;
    else if (request.async)
        plan.flow = catalog::Flow::log;
    bool events = plan.flow == catalog::Flow::events;
    request.options = check_options({"query", request.async, events, false, false, nullptr}, request.options);
    return plan;
}

// `fill_later`: writers may go on, as who fills the projection waits for them.
void lock_sources(const Plan &plan, bool fill_later) {
    if (plan.flow == catalog::Flow::events) { // its events are read later, so nothing else would check the right now
        for (Oid source : plan.sources) {
            if (pg_class_aclcheck(source, GetUserId(), ACL_SELECT) != ACLCHECK_OK)
                ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                                errmsg("permission denied for table %s", get_rel_name(source)),
                                errdetail("A projection reads its source as its owner."),
                                errhint("GRANT SELECT ON %s TO %s;", pg::qualified_name(source),
                                        quote_identifier(GetUserNameFromId(GetUserId(), false)))));
            LockRelationOid(source, AccessShareLock);
        }
        return;
    }
    for (Oid source : plan.sources) {
        if (pg_class_aclcheck(source, GetUserId(), ACL_TRIGGER) != ACLCHECK_OK)
            ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                            errmsg("permission denied for table %s", get_rel_name(source)),
                            errdetail("A projection puts a trigger on each of its sources."),
                            errhint("GRANT SELECT, TRIGGER ON %s TO %s;", pg::qualified_name(source),
                                    quote_identifier(GetUserNameFromId(GetUserId(), false)))));
        if (fill_later) {
            lock_for_capture(source);
            continue;
        }
        catalog::lock_tree(source, ShareRowExclusiveLock);
        if (capture::half_written(source))
            ereport(ERROR, (errcode(ERRCODE_OBJECT_IN_USE),
                            errmsg("cannot create a projection over \"%s\" while a statement is writing it",
                                   get_rel_name(source)),
                            errdetail("Rows of the unfinished statement would be missed or counted twice."),
                            errhint("Create it in a statement of its own.")));
    }
}

namespace {

// The stored view is the only record of the definition: it must give what the user's text gave.
void compare_stored(const Block &declared, Oid definition) {
    Block *stored = nullptr;
    pg::as_caller_restricted([&] {
        stored =
            compile::compile_definition(InvalidOid, definition, declared.user_columns, compile::stored_as(declared));
    });
    MemoryContextSetParent(stored->memory, CurrentMemoryContext);
    compile::Difference found = compile::difference(declared, *stored);
    if (found.declared)
        ereport(ERROR, (errcode(pg::error::unsupported_query),
                        errmsg("this query cannot be a projection: %s reads back as %s", found.declared, found.stored),
                        errdetail("A definition is stored as text, which must keep its meaning."),
                        errhint("Write casts out, and operators as OPERATOR(schema.name).")));
    MemoryContextDelete(stored->memory);
}

} // namespace

Oid make_definition(const Request &request, const Block &block) {
    List *columns = NIL;
    for (int i = 0; i < block.columns(); i++) columns = lappend(columns, makeString(block.column(i)->resname));
    Oid view = make_hidden_view(hidden_name(request.relation, "definition"), columns, compile::deparse(block.core),
                                GetUserId());
    compare_stored(block, view);
    pg::as_superuser([&] {
        catalog::mark_hidden(psprintf("VIEW %s", pg::qualified_name(view)), "definition",
                             quote_qualified_identifier(request.schema, request.relation));
    });
    return view;
}

namespace {

// As all maintenance that follows: the table's owner is who creates it.
template <class Body>
void fill_restricted(const char **settings, Body &&body) {
    pg::as_caller_restricted([&] { catalog::with_pinned(settings, body); });
}

} // namespace

const char *oid_list(std::span<const Oid> oids) { return psprintf("%s::pg_catalog.regclass[]", pg::oid_array(oids)); }

void share_arrivals(Oid projection) {
    if (!catalog::sql_is_current()) return; // an older version grants them to PUBLIC
    pg::spi_execute(
        psprintf("SELECT projections_internal._share_arrivals(s.relation) FROM projections_internal.source AS s JOIN "
                 "projections_internal.projection AS p ON s.relation = ANY (p.sources) WHERE p.relation = %u AND "
                 "s.arrivals IS NOT NULL",
                 projection));
}

void record(const Request &request, Oid table, Oid definition, const Block &block, const Plan &plan,
            const char **settings) {
    const char *text = psprintf(
        "INSERT INTO projections_internal.projection (relation, definition, mode, user_columns, shape, sources, "
        "changes, options, settings) VALUES (%u, %u, '%s', %d, '%s', %s, %s, %s, ARRAY[%s])",
        table, definition, request.async ? "async" : "inline", block.user_columns, compile::name_of(block.identity),
        oid_list({plan.sources.data(), plan.sources.size()}), oid_list({plan.changes.data(), plan.changes.size()}),
        quote_literal_cstr(DatumGetCString(DirectFunctionCall1(jsonb_out, request.options))),
        pg::joined(catalog::pinned_setting_count, ", ", [&](int i) { return quote_literal_cstr(settings[i]); }));
    pg::as_superuser([&] {
        pg::spi_execute(text);
        if (request.async) events::make_slots(table);
        share_arrivals(table);
    });
    CommandCounterIncrement();
}

namespace {

const char *flow_name(catalog::Flow flow) {
    switch (flow) {
    case catalog::Flow::inline_: return "inline";
    case catalog::Flow::log: return "async from a change log";
    case catalog::Flow::events: return "async from events";
    case catalog::Flow::none: return "to be filled";
    }
    pg_unreachable();
}

// Why a key is no primary key; null where it is one, or there is none.
const char *why_not_primary(const Block &block, const Request &request) {
    if (!block.has_key() || promise_of(block, request.key_not_null).primary) return nullptr;
    if (!returns_key(block)) return "It has no primary key, as the query does not return all columns of its key.";
    pg::TextList columns;
    for (int column : compile::key_nulls(block).nullable)
        columns.add("%s", quote_identifier(block.column(column)->resname));
    return psprintf(
        "It has no primary key, as its key may be NULL (%s); option key_not_null makes that an error of the "
        "writer.",
        columns.text());
}

// "primary key (a, b)"
const char *key_phrase(const Block &block, const Request &request) {
    return psprintf("%skey (%s)", promise_of(block, request.key_not_null).primary ? "primary " : "",
                    key_text(block) ? key_text(block) : "");
}

void report(const Request &request, const Block &block, const Made &made, TimestampTz began) {
    const Plan &plan = made.plan;
    pg::vector<const char *> advice; // each statement once
    for (int i = 1; plan.flow != catalog::Flow::events && i <= static_cast<int>(block.occurrence_source.size()); i++) {
        for (char *statement : pg::each<char>(index_advice(block, i))) {
            auto is_same = [&](const char *other) { return strcmp(other, statement) == 0; };
            if (std::none_of(advice.begin(), advice.end(), is_same)) advice.push_back(statement);
        }
    }
    const char *why = why_not_primary(block, request);
    ereport(NOTICE,
            (errmsg("projection %s: %s, %s, %s, " UINT64_FORMAT " rows in %ld ms", pg::qualified_name(made.table),
                    compile::name_of(block.way), flow_name(plan.flow), key_phrase(block, request), made.rows,
                    TimestampDifferenceMilliseconds(began, GetCurrentTimestamp())),
             why ? errdetail("%s", why) : 0,
             !advice.empty()
                 ? errhint("Maintenance would be faster with: %s",
                           pg::joined(static_cast<int>(advice.size()), " ", [&](int i) { return advice[i]; }))
                 : 0));
}

} // namespace

void warn_without_workers(Oid table) {
    pg::with_spi([&] {
        pg::as_superuser([&] { pg::spi_execute("SELECT projections_internal._worker_problem()"); });
        const char *problem = SPI_processed ? pg::Row().text(1) : nullptr;
        if (problem)
            ereport(WARNING,
                    (errmsg("nothing will bring projection %s up to date by itself", pg::qualified_name(table)),
                     errdetail("%s", problem), errhint("Until that is mended, call projections.catch_up().")));
    });
}

void check_bag(const Block &block) {
    if (!block.counts_equal_rows()) return;
    for (TargetEntry *entry : pg::each<TargetEntry>(block.core->targetList)) {
        TypeCacheEntry *type = lookup_type_cache(exprType(reinterpret_cast<Node *>(entry->expr)),
                                                 TYPECACHE_EQ_OPR | TYPECACHE_HASH_EXTENDED_PROC);
        if (OidIsValid(type->eq_opr) && OidIsValid(type->hash_extended_proc)) continue;
        ereport(
            ERROR,
            (errcode(pg::error::unsupported_query),
             errmsg(
                 "this query cannot be a projection: rows without a primary key cannot be told apart by column \"%s\"",
                 entry->resname),
             errdetail("Its type %s has no equality that could be hashed.",
                       format_type_be(exprType(reinterpret_cast<Node *>(entry->expr)))),
             errhint("Give every source a primary key, or cast the column.")));
    }
}

namespace {

// What a rebuild makes is the first that the table holds; a part's is that of what reads it.
void schedule_fill(Oid table, bool part) {
    const char *by = quote_literal_cstr(GetUserNameFromId(GetUserId(), false));
    pg::as_superuser([&] {
        pg::spi_execute(
            psprintf("UPDATE projections_internal.projection SET building = true WHERE relation = %u", table));
        if (part) return;
        pg::spi_execute(psprintf(
            "INSERT INTO projections_internal.rebuild_request (projection, requested_by) VALUES (%u, %s)", table, by));
        pg::spi_execute(psprintf("SELECT projections_internal._launch_rebuild(%u)", table));
    });
    CommandCounterIncrement();
}

void tell(const Request &request, const Block &block, const Made &made, TimestampTz began) {
    if (request.async) warn_without_workers(made.table);
    const char *why = why_not_primary(block, request);
    if (made.fill_later)
        ereport(NOTICE,
                (errmsg("projection %s: %s, %s, %s, is being filled in the background", pg::qualified_name(made.table),
                        compile::name_of(block.way), flow_name(made.plan.flow), key_phrase(block, request)),
                 why ? errdetail("%s", why) : 0, errhint("SELECT * FROM projections.rebuilds; tells how far it is.")));
    else
        report(request, block, made, began);
}

// The query followed step by step or, where that is refused, read again as a whole.
Block *compile_with_fallback(Request &request, Parts &parts, ErrorData **refusal) {
    Block *block = nullptr;
    *refusal = pg::attempt([&] { block = compile_text(request.query, parts.maker()); }, [] {});
    if (*refusal == nullptr) {
        request.options = DirectFunctionCall2(jsonb_delete, request.options, CStringGetTextDatum("fallback"));
        ereport(NOTICE, (errmsg("option \"fallback\" is not needed, and left out"),
                         errdetail("The query is followed without reading all of it again.")));
        return block;
    }
    if ((*refusal)->sqlerrcode != pg::error::unsupported_query) pg::rethrow(*refusal);
    parts.forget();
    return compile_text_refreshed(request.query);
}

// What a change will cost, and why.
void tell_cost(const Made &made, const ErrorData *refusal, TimestampTz began) {
    const char *reason = strstr(refusal->message, ": ");
    ereport(NOTICE, (errmsg("projection %s is read again as a whole for each change: %s",
                            pg::qualified_name(made.table), reason ? reason + 2 : refusal->message),
                     errdetail("Each transaction that changes a source takes about as long for it as filling it did, "
                               "%ld ms for " UINT64_FORMAT " rows, and one goes after the other.",
                               TimestampDifferenceMilliseconds(began, GetCurrentTimestamp()), made.rows)));
}

Oid create(FunctionCallInfo fcinfo) {
    TimestampTz began = GetCurrentTimestamp();
    Request request = read_request(fcinfo);
    Oid found = existing(request);
    if (OidIsValid(found)) return found;
    Parts parts{request};
    ErrorData *refusal = nullptr; // of what is read again as a whole for that
    Block *block =
        request.fallback ? compile_with_fallback(request, parts, &refusal) : compile_text(request.query, parts.maker());
    if (!PG_ARGISNULL(3)) check_key(PG_GETARG_DATUM(3), *block);
    Made made = make_projection(request, *block);
    parts.belong_to(made.table);
    tell(request, *block, made, began);
    if (refusal) tell_cost(made, refusal, began);
    return made.table;
}

} // namespace

Oid make_unfilled(Request &request, const Block &block) {
    check_bag(block);
    Plan plan = plan_flow(request, block);
    Oid table = InvalidOid;
    pg::with_spi([&] {
        Oid definition = make_definition(request, block);
        table = make_table(request, block);
        record(request, table, definition, block, plan, catalog::current_settings());
    });
    return table;
}

Made make_projection(Request &request, const Block &block) {
    check_bag(block);
    check_key_not_null(block, request.key_not_null);
    Plan plan = plan_flow(request, block);
    bool fill_later = request.fill_later && plan.flow != catalog::Flow::events;
    lock_sources(plan, fill_later);
    // A source may be a projection that this transaction has not brought up to date yet.
    maintain::flush_for_read({plan.sources.data(), plan.sources.size()});
    const char **settings = catalog::current_settings();
    Oid table = InvalidOid;
    uint64 rows = 0;
    pg::with_spi([&] {
        Oid definition = make_definition(request, block);
        table = make_table(request, block);
        if (plan.flow == catalog::Flow::log && !fill_later) {
            Oid owner = GetUserId();
            pg::as_superuser([&] { plan.changes = maintain::make_change_logs(block, request.relation, owner); });
        }
        bool events = plan.flow == catalog::Flow::events;
        if (!fill_later) fill_restricted(settings, [&] { rows = fill(table, definition, block, events); });
        if (block.grouped()) forget_spread(table);
        make_guard(table);
        if (!events) make_capture({plan.sources.data(), plan.sources.size()}, true);
        record(request, table, definition, block, plan, settings);
        index_parts(block);
        if (fill_later) schedule_fill(table, request.part_of != nullptr);
    });
    maintain::record_reliance(table);
    return {table, plan, rows, fill_later};
}

} // namespace declare

extern "C" {

PG_FUNCTION_INFO_V1(projections_create);
AUDITED(projections_create) { PG_RETURN_OID(declare::create(fcinfo)); }

PG_FUNCTION_INFO_V1(projections_library_version);
Datum projections_library_version(PG_FUNCTION_ARGS) { PG_RETURN_TEXT_P(cstring_to_text(PROJECTIONS_VERSION)); }

} // extern "C"
