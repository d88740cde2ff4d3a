// Texts for people: keys, columns, strategies, advice on indexes, and the rows of explain.
#include "declare/describe.hpp"

#include "compile/chain.hpp"
#include "compile/deparse.hpp"
#include "compile/lookups.hpp"
#include "compile/refusals.hpp"
#include "compile/rewrite.hpp"
#include "declare/parts.hpp"
#include "pg/list.hpp"
#include "pg/query.hpp"
#include "pg/scope.hpp"
#include "rights/caller.hpp"

namespace declare {

using compile::Block;

namespace {

ArrayType *text_array(List *strings) {
    pg::vector<Datum> values;
    for (char *each : pg::each<char>(strings)) values.push_back(CStringGetTextDatum(each));
    return construct_array(values.data(), static_cast<int>(values.size()), TEXTOID, -1, false, TYPALIGN_INT);
}

// A column's name of today; of a query that is not stored yet, its own.
char *column_name(const Block &block, int column) {
    if (OidIsValid(block.definition)) return get_attname(block.definition, static_cast<AttrNumber>(column + 1), false);
    return block.column(column)->resname;
}

} // namespace

List *key_names(const Block &block) {
    List *names = NIL;
    for (const compile::Key &key : block.row_key) names = lappend(names, column_name(block, key.column));
    return names;
}

namespace {

enum class Which { users, all }; // columns: without those that maintenance appended, or with them

Query *columns_of(const Block &block, Which which);

// Tables of parts become the subqueries that they stand for.
bool put_parts(Node *node, Which *which) {
    if (node == nullptr) return false;
    if (!IsA(node, Query)) return pg::walk_children(node, put_parts, which);
    auto *query = castNode(Query, node);
    for (RangeTblEntry *entry : pg::each<RangeTblEntry>(query->rtable)) {
        if (entry->rtekind != RTE_RELATION) continue;
        catalog::Projection *part = catalog::projection(entry->relid);
        if (part == nullptr || !OidIsValid(part->part_of)) continue;
        const Block &block = part->block();
        int columns = *which == Which::all ? block.columns() : block.user_columns;
        entry->rtekind = RTE_SUBQUERY;
        entry->subquery = columns_of(block, *which);
        entry->eref = makeAlias(entry->eref->aliasname, list_copy_head(entry->eref->colnames, columns));
        pg::forget_privileges(entry);
    }
    return pg::walk_query(query, put_parts, which, 0);
}

Query *columns_of(const Block &block, Which which) {
    Query *query = pg::copy<Query>(block.core);
    List *kept = NIL;
    int i = 0;
    for (TargetEntry *entry : pg::each<TargetEntry>(query->targetList)) {
        if (entry->resjunk) { // it only orders
            entry->resno = static_cast<AttrNumber>(list_length(kept) + 1);
            kept = lappend(kept, entry);
            continue;
        }
        entry->resname = column_name(block, i);
        bool appended = which == Which::users && i >= block.user_columns;
        i++;
        if (appended && entry->ressortgroupref == 0) continue;
        entry->resjunk = appended;
        entry->resno = static_cast<AttrNumber>(list_length(kept) + 1);
        kept = lappend(kept, entry);
    }
    query->targetList = kept;
    put_parts(reinterpret_cast<Node *>(query), &which);
    if (block.is_whole()) compile::renew_entries(query); // joins know the columns of what they join
    return query;
}

} // namespace

const char *whole_definition(const Block &block) { return compile::deparse(columns_of(block, Which::all)); }

Query *users_query(const Block &block) { return columns_of(block, Which::users); }

const char *user_query(const Block &block) { return compile::deparse(users_query(block)); }

const char *key_text(const Block &block) {
    pg::TextList text;
    for (char *name : pg::each<char>(key_names(block))) text.add("%s", quote_identifier(name));
    return !text.empty() ? text.text() : nullptr;
}

ArrayType *key_array(const Block &block) { return text_array(key_names(block)); }

Block *compile_normal(Query *query, const char *text, List *parts, StringInfo stages) {
    Block *block = nullptr;
    // Domains check constants while they are analyzed, with functions of whoever made the domain.
    pg::as_caller_restricted(
        [&] { block = compile::compile_query(query, text, catalog::is_event_source, parts, stages); });
    return block;
}

namespace {

// The text as the parser has it. Raises PJ002 where it is not one SELECT.
RawStmt *only_select(const char *text) {
    List *statements = pg_parse_query(text);
    if (list_length(statements) != 1)
        ereport(ERROR,
                (errcode(pg::error::unsupported_query),
                 errmsg("this query cannot be a projection: it is not one statement"),
                 errdetail("The text holds %d.", list_length(statements)), errhint("A definition is one SELECT.")));
    if (!IsA(static_cast<RawStmt *>(linitial(statements))->stmt, SelectStmt))
        ereport(ERROR,
                (errcode(pg::error::unsupported_query), errmsg("this query cannot be a projection: it is not a SELECT"),
                 errdetail("It is %s.",
                           GetCommandTagName(CreateCommandTag(static_cast<RawStmt *>(linitial(statements))->stmt))),
                 errhint("A definition is one SELECT.")));
    auto *raw = static_cast<RawStmt *>(linitial(statements));
    if (reinterpret_cast<SelectStmt *>(raw->stmt)->intoClause)
        ereport(ERROR, (errcode(pg::error::unsupported_query),
                        errmsg("this query cannot be a projection: SELECT INTO makes a table of its own"),
                        errdetail("projections.create() makes the table."), errhint("Leave out INTO.")));
    return raw;
}

} // namespace

Block *compile_text_refreshed(const char *text) {
    RawStmt *raw = only_select(text);
    Block *block = nullptr;
    pg::as_caller_restricted([&] {
        block = compile::compile_refreshed(parse_analyze_fixedparams(raw, text, nullptr, 0, nullptr), text,
                                           catalog::is_event_source);
    });
    return block;
}

Block *compile_text(const char *text, const compile::PartMaker &maker, StringInfo stages) {
    RawStmt *raw = only_select(text);
    Query *query = nullptr;
    pg::as_caller_restricted(
        [&] { query = compile::normal_form(parse_analyze_fixedparams(raw, text, nullptr, 0, nullptr), text); });
    query = compile::cut_parts(query, compile::Place{text}, maker);
    return compile_normal(query, text, *maker.made, stages);
}

namespace {

const char *capture_name(catalog::Flow flow) {
    switch (flow) {
    case catalog::Flow::inline_: return "trigger";
    case catalog::Flow::log: return "trigger and change log";
    case catalog::Flow::events: return "events by position";
    case catalog::Flow::none: return "none yet: it is being filled";
    }
    pg_unreachable();
}

const char *strategy_name(catalog::Projection &projection) {
    switch (projection.kind) {
    case catalog::Kind::query: return compile::name_of(projection.block().way);
    case catalog::Kind::handler: return "handler";
    case catalog::Kind::reducer: return "reducer";
    case catalog::Kind::state_machine: return "state machine";
    }
    pg_unreachable();
}

// The row that explain gives for a handler, reducer or state machine.
void explain_events(catalog::Projection &projection, ReturnSetInfo *result) {
    bool handler = projection.kind == catalog::Kind::handler;
    const char *kind = strategy_name(projection);
    const char *reason = handler ? "the function is called once for each event, in order"
                                 : "events are folded into the state of their keys, in order";
    Datum values[] = {Int32GetDatum(1),
                      CStringGetTextDatum(kind),
                      CStringGetTextDatum(pg::qualified_name(projection.sources.front())),
                      CStringGetTextDatum(capture_name(projection.flow)),
                      CStringGetTextDatum(kind),
                      handler ? 0 : PointerGetDatum(text_array(list_make1(pstrdup("key")))),
                      0,
                      0,
                      CStringGetTextDatum(reason),
                      0};
    bool nulls[] = {false, false, false, false, false, handler, true, true, false, true};
    tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

List *indexes_of(const compile::Chain &chain) {
    List *names = NIL;
    for (const compile::LookUp &each : chain.look_ups) names = lappend(names, pstrdup(pg::qualified_name(each.index)));
    for (const compile::Asked &each : chain.asked) names = lappend(names, pstrdup(pg::qualified_name(each.rows.index)));
    return names;
}

// `number`: of the block; parts come first.
void explain_query(int number, const Block &block, const char *capture, ReturnSetInfo *result) {
    for (int i = 1; i <= static_cast<int>(block.occurrence_source.size()); i++) {
        const compile::Source &source = block.sources[block.occurrence_source[i - 1]];
        List *used = NIL;
        for (AttrNumber column : source.used) used = lappend(used, get_attname(source.relation, column, false));
        List *missing = index_advice(block, i);
        const compile::Chain *looked_up = compile::chain_of(block, i);
        const char *advice =
            pg::joined(list_length(missing), " ", [&](int n) { return static_cast<char *>(list_nth(missing, n)); });
        Datum values[] = {Int32GetDatum(number),
                          CStringGetTextDatum(compile::name_of(block.identity)),
                          CStringGetTextDatum(pg::qualified_name(source.relation)),
                          CStringGetTextDatum(capture),
                          CStringGetTextDatum(compile::name_of(block.way)),
                          PointerGetDatum(key_array(block)),
                          PointerGetDatum(text_array(used)),
                          CStringGetTextDatum(advice),
                          CStringGetTextDatum(compile::text_of(block.reason)),
                          looked_up ? PointerGetDatum(text_array(indexes_of(*looked_up))) : 0};
        bool nulls[] = {false, false, false, false, false, false, false, missing == NIL, false, looked_up == nullptr};
        tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
    }
}

// Compiles a query's text as create would, and calls `use` with each block and its number. Nothing stays.
template <class Use>
void look_at(const char *query, StringInfo stages, Use &&use) {
    Request request{};
    request.schema = request.relation = "query";
    request.query = query;
    Parts parts{request, Parts::Purpose::look, stages};
    pg::undoing([&] {
        const Block *block = compile_text(query, parts.maker(), stages);
        int number = 0;
        for (const Block *each : parts.blocks()) use(++number, *each);
        use(++number, *block);
    });
}

} // namespace
} // namespace declare

extern "C" {

PG_FUNCTION_INFO_V1(projections_definition_query);
// The user's query of a projection; NULL where the relation is none.
Datum projections_definition_query(PG_FUNCTION_ARGS) {
    text *query = nullptr;
    catalog::look(PG_GETARG_OID(0), [&](catalog::Projection &projection) {
        if (projection.kind == catalog::Kind::query) query = cstring_to_text(declare::user_query(projection.block()));
    });
    if (query == nullptr) PG_RETURN_NULL();
    PG_RETURN_TEXT_P(query);
}

PG_FUNCTION_INFO_V1(projections_plan);
// What each stage of the compiler makes of a query, which is analyzed as the caller's.
Datum projections_plan(PG_FUNCTION_ARGS) {
    StringInfoData stages;
    initStringInfo(&stages);
    declare::look_at(text_to_cstring(PG_GETARG_TEXT_PP(0)), &stages, [](auto &&...) {});
    PG_RETURN_TEXT_P(cstring_to_text_with_len(stages.data, stages.len));
}

PG_FUNCTION_INFO_V1(projections_refusals);
Datum projections_refusals(PG_FUNCTION_ARGS) {
    InitMaterializedSRF(fcinfo, 0);
    auto *result = reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo);
    for (const compile::Refusal &row : compile::refusals()) {
        Datum values[] = {CStringGetTextDatum(row.what), CStringGetTextDatum(row.where),
                          CStringGetTextDatum(row.reason), row.instead ? CStringGetTextDatum(row.instead) : 0};
        bool nulls[] = {false, false, false, row.instead == nullptr};
        tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
    }
    PG_RETURN_NULL();
}

PG_FUNCTION_INFO_V1(projections_strategy);
Datum projections_strategy(PG_FUNCTION_ARGS) {
    text *name = nullptr;
    if (!catalog::look(PG_GETARG_OID(0), [&](catalog::Projection &projection) {
            name = cstring_to_text(declare::strategy_name(projection));
        }))
        PG_RETURN_NULL();
    PG_RETURN_TEXT_P(name);
}

PG_FUNCTION_INFO_V1(projections_key_columns);
Datum projections_key_columns(PG_FUNCTION_ARGS) {
    ArrayType *columns = nullptr;
    catalog::look(PG_GETARG_OID(0), [&](catalog::Projection &projection) {
        if (projection.kind == catalog::Kind::query)
            columns = declare::key_array(projection.block());
        else if (projection.kind != catalog::Kind::handler)
            columns = declare::text_array(list_make1(pstrdup("key")));
    });
    if (columns == nullptr) PG_RETURN_NULL();
    PG_RETURN_ARRAYTYPE_P(columns);
}

PG_FUNCTION_INFO_V1(projections_identifying_sources);
Datum projections_identifying_sources(PG_FUNCTION_ARGS) {
    ArrayType *sources = nullptr;
    catalog::look(PG_GETARG_OID(0), [&](catalog::Projection &projection) {
        if (projection.kind != catalog::Kind::query) return;
        const compile::Block &block = projection.block();
        if (block.counts_equal_rows() && block.reason != compile::Reason::several_rows) return;
        pg::vector<Datum> relations;
        for (const compile::Arm &arm : block.arms)
            for (RangeTblEntry *entry : pg::each<RangeTblEntry>(arm.query->rtable))
                if (entry->rtekind == RTE_RELATION && !compile::is_found_by_key(entry))
                    relations.push_back(ObjectIdGetDatum(entry->relid));
        sources = construct_array(relations.data(), static_cast<int>(relations.size()), OIDOID, sizeof(Oid), true,
                                  TYPALIGN_INT);
    });
    if (sources == nullptr) PG_RETURN_NULL();
    PG_RETURN_ARRAYTYPE_P(sources);
}

PG_FUNCTION_INFO_V1(projections_found_by_key);
Datum projections_found_by_key(PG_FUNCTION_ARGS) {
    InitMaterializedSRF(fcinfo, 0);
    auto *result = reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo);
    auto use = [](const compile::FoundByKey &found, void *context) {
        pg::vector<Datum> columns;
        for (AttrNumber column : found.columns) columns.push_back(Int16GetDatum(column));
        Datum values[] = {ObjectIdGetDatum(found.table), ObjectIdGetDatum(found.index),
                          PointerGetDatum(construct_array(columns.data(), static_cast<int>(columns.size()), INT2OID,
                                                          sizeof(int16), true, TYPALIGN_SHORT))};
        bool nulls[] = {false, false, false};
        auto *to = static_cast<ReturnSetInfo *>(context);
        tuplestore_putvalues(to->setResult, to->setDesc, values, nulls);
    };
    catalog::look(PG_GETARG_OID(0), [&](catalog::Projection &projection) {
        if (projection.kind == catalog::Kind::query) compile::each_lookup(projection.block(), use, result);
    });
    PG_RETURN_NULL();
}

PG_FUNCTION_INFO_V1(projections_explain);
// One row for each table that the definition reads.
Datum projections_explain(PG_FUNCTION_ARGS) {
    const char *argument = text_to_cstring(PG_GETARG_TEXT_PP(0));
    const char *start = argument + strspn(argument, " \t\r\n(");
    InitMaterializedSRF(fcinfo, 0);
    auto *result = reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo);
    if (pg_strncasecmp(start, "select", 6) == 0 || pg_strncasecmp(start, "with", 4) == 0 || start[0] == '-' ||
        start[0] == '/') {
        declare::look_at(argument, nullptr, [&](int number, const compile::Block &block) {
            declare::explain_query(number, block, "trigger", result);
        });
        PG_RETURN_NULL();
    }
    auto explain = [&](catalog::Projection &projection) {
        if (projection.kind != catalog::Kind::query) return declare::explain_events(projection, result);
        int number = 0;
        for (catalog::Projection *part : catalog::parts_of(projection.relation))
            declare::explain_query(++number, part->block(), declare::capture_name(part->flow), result);
        declare::explain_query(++number, projection.block(), declare::capture_name(projection.flow), result);
    };
    // Whoever asks keeps no lock. One that was dropped meanwhile is not found by its name again.
    while (!catalog::look(rights::named_projection(fcinfo, catalog::Hold::nothing).relation, explain)) {
    }
    PG_RETURN_NULL();
}

} // extern "C"
