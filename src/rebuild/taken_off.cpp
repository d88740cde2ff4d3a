// Taken off and put back.
//
// A source's column that a definition reads cannot be dropped or retyped: the hidden view depends on it. So the view
// reads nothing for the time of the command, until there is another, and parts and change logs go, whose columns have
// the source's types. What stays is the table with all that users have made of it, and the catalog's row: options,
// slots, history. Nothing is captured for it meanwhile; whatever the command does to the rows, its table is compared
// with the definition afterwards.
//
// What was read is kept as a query tree, which knows tables and columns by number and so follows renames; where
// something of it has gone, the text by the old names is parsed again, as another table or column may have come in its
// place. (Test: sql/migrations)
#include "rebuild/taken_off.hpp"

#include "catalog/settings.hpp"
#include "compile/deparse.hpp"
#include "declare/declare.hpp"
#include "declare/describe.hpp"
#include "declare/hidden_view.hpp"
#include "declare/own_triggers.hpp"
#include "declare/parts.hpp"
#include "declare/table.hpp"
#include "events/slot.hpp"
#include "maintain/flush.hpp"
#include "maintain/log.hpp"
#include "maintain/reliance.hpp"
#include "pg/list.hpp"
#include "rebuild/copy.hpp"
#include "rebuild/layout.hpp"
#include "rebuild/merge.hpp"
#include "rebuild/session.hpp"
#include "rebuild/shadow.hpp"
#include "rebuild/swap.hpp"
#include "rights/caller.hpp"

namespace rebuild {

using catalog::Flow;
using catalog::Projection;
using compile::Block;

namespace {

// -------------------------------------------------------------------------------------------------------- taking off

void refuse_state(Projection &projection) {
    rights::require_filled(projection);
    if (projection.paused)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("projection %s is paused", projection.name()),
                        errdetail("What waits in its change log has the types that the source had."),
                        errhint("SELECT projections.resume(%s);", quote_literal_cstr(projection.name()))));
}

// Without what goes with it: its view, parts, and their views.
const char *used_by(const Projection &projection) {
    pg::vector<Oid> views{projection.definition}, parts;
    for (const Projection *part : catalog::parts_of(projection.relation)) {
        views.push_back(part->definition);
        parts.push_back(part->relation);
    }
    return ask_text(psprintf("SELECT pg_catalog.string_agg(DISTINCT pg_catalog.format('(%%s::oid,%%s::oid,%%s)', "
                             "d.refclassid::oid, d.refobjid, d.refobjsubid), ',') FROM pg_catalog.pg_rewrite AS w JOIN "
                             "pg_catalog.pg_depend AS d "
                             "ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = w.oid AND d.deptype = 'n' "
                             // A primary key by which GROUP BY is short may be another one afterwards.
                             "AND d.refclassid <> 'pg_catalog.pg_constraint'::regclass AND d.refobjid <> w.ev_class "
                             "WHERE w.ev_class = ANY (%s) AND d.refobjid <> ALL (%s)",
                             pg::oid_array({views.data(), views.size()}), pg::oid_array({parts.data(), parts.size()})));
}

void remember(TakenOff &off, Projection &projection) {
    const Block &block = projection.block();
    off.relation = projection.relation;
    off.owner = projection.owner();
    off.name = pstrdup(projection.name());
    off.depth = projection.depth;
    off.columns = block.columns();
    off.async = projection.async;
    off.refreshed = block.refreshes();
    off.indexes = identity_indexes(projection);
    off.sources = catalog::tables_below(projection);
    off.used = used_by(projection);
    off.own_column = columns_of_its_own(projection.relation);
    off.promised = promised(projection);
    const char *identity = declare::identity_index("", off.name, block, next_promise(projection, block));
    off.identity = identity ? pstrdup(identity) : nullptr;
    off.query = declare::users_query(block);
}

} // namespace

const char *text_of(Projection &projection) {
    const char *text = nullptr;
    // Constants of users' types are printed by functions of theirs.
    pg::as_owner(projection.owner(), [&] { text = declare::user_query(projection.block()); });
    return text;
}

TakenOff *take_off(Projection &projection, const char *text, MemoryContext memory) {
    refuse_state(projection);
    if (projection.async) events::lock_slots(projection.relation);
    maintain::settle(projection, "take off");
    auto *off = pg::make<TakenOff>(memory);
    pg::within(memory, [&] { remember(*off, projection); });
    off->memory = memory;
    off->text = text;
    Oid definition = projection.definition;
    const char *logs = pg::joined(static_cast<int>(projection.changes.size()), ", ",
                                  [&](int i) { return pg::qualified_name(projection.changes[i]); });
    pg::as_superuser([&] { pg::with_spi([&] { drop_shadows(off->relation); }); });
    // Nothing is captured for what is being built.
    execute(psprintf("UPDATE projections_internal.projection SET sources = '{}', changes = '{}', building = true WHERE "
                     "relation = %u",
                     off->relation));
    execute(psprintf("SELECT projections_internal._forget_relied(%u)", off->relation));
    pg::as_superuser([&] { declare::unbind_hidden_view(definition); });
    execute(psprintf("SELECT projections_internal._drop_parts(%u)", off->relation));
    if (*logs) execute(psprintf("DROP TABLE %s CASCADE", logs));
    return off;
}

// ------------------------------------------------------------------------------------------------------ the definition

namespace {

bool all_is_there(const TakenOff &off) {
    if (off.used == nullptr) return true;
    const char *answer = ask_text(psprintf(
        "SELECT pg_catalog.bool_and(pg_catalog.pg_describe_object(u.class, u.object, u.part) IS NOT NULL AND "
        "a.attisdropped IS NOT TRUE) FROM (VALUES %s) AS u(class, object, part) LEFT JOIN pg_catalog.pg_attribute AS a "
        "ON u.class = 'pg_catalog.pg_class'::regclass::oid AND a.attrelid = u.object AND a.attnum = u.part",
        off.used));
    return answer && *answer == 't';
}

// Of the definition, and not of memory or a lock.
bool is_about_text(int sqlstate) {
    int category = ERRCODE_TO_CATEGORY(sqlstate);
    return sqlstate == pg::error::unsupported_query || category == ERRCODE_TO_CATEGORY(ERRCODE_SYNTAX_ERROR) ||
           category == ERRCODE_TO_CATEGORY(ERRCODE_DATA_EXCEPTION) || category == ERRCODE_FEATURE_NOT_SUPPORTED;
}

const char *as_json(const char *text) {
    StringInfoData out;
    initStringInfo(&out);
    escape_json(&out, text);
    return out.data;
}

[[noreturn]] void refuse_text(const TakenOff &off, const char *text, const ErrorData *error) {
    ereport(ERROR,
            (errcode(error->sqlerrcode), errmsg("projection %s cannot be put back: %s", off.name, error->message),
             errdetail("%s%sIts definition: %s", error->detail ? error->detail : "", error->detail ? "\n" : "", text),
             errhint("Give it another one: SELECT projections.alter_source(%s, '…', definitions => '{%s: \"SELECT "
                     "…\"}');",
                     quote_literal_cstr(off.source), as_json(off.name))));
    pg_unreachable();
}

// Calls `body`; what it raises about the definition is told with it.
template <class Body>
void about_text(const TakenOff &off, const char *text, Body &&body) {
    MemoryContext memory = CurrentMemoryContext;
    PG_TRY();
    { body(); }
    PG_CATCH();
    {
        MemoryContextSwitchTo(memory);
        ErrorData *error = CopyErrorData();
        if (!is_about_text(error->sqlerrcode)) PG_RE_THROW();
        FlushErrorState();
        refuse_text(off, text, error);
    }
    PG_END_TRY();
}

Datum options_of(Oid projection) {
    const char *options =
        ask_text(psprintf("SELECT options FROM projections_internal.projection WHERE relation = %u", projection));
    return DirectFunctionCall1(jsonb_in, CStringGetDatum(options));
}

declare::Request request_for(const TakenOff &off, const char *text) {
    declare::Request request{};
    request.name = off.name;
    request.query = text;
    request.namespace_oid = get_rel_namespace(off.relation);
    request.schema = get_namespace_name(request.namespace_oid);
    request.relation = get_rel_name(off.relation);
    request.async = off.async;
    request.options = options_of(off.relation);
    request.key_not_null = off.promised.asked_for;
    return request;
}

void refuse_itself(const TakenOff &off, const declare::Plan &plan) {
    if (std::find(plan.sources.begin(), plan.sources.end(), off.relation) == plan.sources.end()) return;
    ereport(ERROR, (errcode(pg::error::unsupported_query),
                    errmsg("this query cannot be a projection: \"%s\" would read itself", get_rel_name(off.relation)),
                    errdetail("Its rows would follow from themselves."), errhint("Read what it reads.")));
}

const char *list(const pg::vector<Oid> &oids) { return declare::oid_list({oids.data(), oids.size()}); }

// The numbers of the new log go on where the checkpoint stands.
void follow_checkpoint(const TakenOff &off, const declare::Plan &plan) {
    if (plan.changes.empty()) return;
    execute(psprintf("SELECT pg_catalog.setval(pg_catalog.pg_get_serial_sequence(%s, 'change'), s.position) FROM "
                     "projections_internal.slot AS s WHERE s.projection = %u AND s.position > 0",
                     quote_literal_cstr(pg::qualified_name(plan.changes.front())), off.relation));
}

// What it is to be.
struct Definition {
    Oid view;
    const Block *block;
    declare::Plan plan;
    const char **settings;
};

void record(const TakenOff &off, const Definition &made) {
    Oid unbound = catalog::projection(off.relation)->definition;
    execute(psprintf(
        "UPDATE projections_internal.projection SET definition = %u, user_columns = %d, shape = '%s', "
        "sources = %s, changes = %s, settings = ARRAY[%s], building = false, stale_since = NULL, "
        "stale_reason = NULL WHERE relation = %u",
        made.view, made.block->user_columns, compile::name_of(made.block->identity), list(made.plan.sources),
        list(made.plan.changes),
        pg::joined(catalog::pinned_setting_count, ", ", [&](int i) { return quote_literal_cstr(made.settings[i]); }),
        off.relation));
    pg::as_superuser([&] { pg::with_spi([&] { declare::share_arrivals(off.relation); }); });
    const char *name = get_rel_name(unbound);
    execute(psprintf("DROP VIEW %s", pg::qualified_name(unbound)));
    RenameRelationInternal(made.view, name, true, false);
    CommandCounterIncrement();
    follow_checkpoint(off, made.plan);
}

// The view and what hangs on it. As the owner.
void define(const TakenOff &off, const char *text, Definition &made) {
    declare::Request request = request_for(off, text);
    auto *parts = pg::make<declare::Parts>(CurrentMemoryContext, request);
    about_text(off, text, [&] {
        made.block =
            off.refreshed ? declare::compile_text_refreshed(text) : declare::compile_text(text, parts->maker());
        declare::check_bag(*made.block);
        made.plan = declare::plan_flow(request, *made.block);
        refuse_itself(off, made.plan);
    });
    std::span<const Oid> sources{made.plan.sources.data(), made.plan.sources.size()};
    declare::lock_sources(made.plan, false);
    maintain::flush_for_read(sources);
    pg::with_spi([&] {
        about_text(off, text, [&] { made.view = declare::make_definition(request, *made.block); });
        if (made.plan.flow == Flow::log)
            pg::as_superuser(
                [&] { made.plan.changes = maintain::make_change_logs(*made.block, request.relation, off.owner); });
        if (made.plan.flow != Flow::events) declare::make_capture(sources, true);
    });
    parts->belong_to(off.relation);
    pg::with_spi([&] { declare::index_parts(*made.block); });
    CommandCounterIncrement();
}

// The command may have renamed the table's columns.
void follow_names(const TakenOff &off) {
    Relation table = table_open(off.relation, AccessShareLock);
    int number = 0;
    for (TargetEntry *entry : pg::each<TargetEntry>(off.query->targetList)) {
        if (entry->resjunk) continue;
        Form_pg_attribute column = TupleDescAttr(RelationGetDescr(table), number++);
        if (column->attisdropped)
            ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                            errmsg("column \"%s\" of projection %s has been dropped", entry->resname, off.name),
                            errdetail("Its definition fills it."), errhint("Give it another definition.")));
        entry->resname = pstrdup(NameStr(column->attname));
    }
    table_close(table, NoLock);
}

// Under the settings in which its text means what it did; a new one is the caller's.
Definition define(TakenOff &off) {
    Definition made{};
    pg::as_owner(off.owner, [&] {
        if (off.given) {
            made.settings = catalog::current_settings();
            define(off, off.given, made);
            return;
        }
        made.settings = catalog::projection(off.relation)->settings;
        follow_names(off);
        if (all_is_there(off)) off.text = compile::deparse(off.query);
        catalog::with_pinned(made.settings, [&] { define(off, off.text, made); });
    });
    return made;
}

} // namespace

// ----------------------------------------------------------------------------------------------------------- the table

namespace {

// What becomes of the table's columns: the first ones with the names that they have, of other types if need be, and the
// rest anew.
struct Change {
    int kept = 0;           // columns
    bool others = false;    // behind them
    const char *types = ""; // "ALTER c TYPE t USING NULL, …"
};

Change change_of(const TakenOff &off, const Block &block) {
    Change change;
    pg::TextList types;
    Relation table = table_open(off.relation, AccessShareLock);
    for (; change.kept < std::min(off.columns, block.columns()); change.kept++) {
        Form_pg_attribute attribute = TupleDescAttr(RelationGetDescr(table), change.kept);
        const TargetEntry *entry = block.column(change.kept);
        Node *expression = reinterpret_cast<Node *>(entry->expr);
        if (strcmp(NameStr(attribute->attname), entry->resname) != 0) break;
        if (attribute->atttypid != exprType(expression) || attribute->atttypmod != exprTypmod(expression) ||
            attribute->attcollation != exprCollation(expression))
            types.add("ALTER %s TYPE %s USING NULL", quote_identifier(entry->resname),
                      compile::type_and_collation(entry));
    }
    table_close(table, NoLock);
    change.types = types.text();
    change.others = change.kept < off.columns || change.kept < block.columns();
    return change;
}

void refuse_refill(const TakenOff &off) {
    const char *why = off.own_column ? off.own_column : who_follows_rows(off.relation);
    if (why == nullptr) return;
    ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                    errmsg("projection %s cannot be filled anew: %s", off.name, why),
                    errdetail("Columns of its table change with the source, and nobody would be told of it."),
                    errhint("Take that away first; or drop the projection, and create it again afterwards.")));
}

void empty_file(Oid relation) {
    if (!OidIsValid(relation)) return;
    Relation opened = table_open(relation, AccessExclusiveLock);
    Oid toast = opened->rd_rel->reltoastrelid;
    pg::give_new_file(opened);
    table_close(opened, NoLock);
    CommandCounterIncrement();
    empty_file(toast);
}

void execute_as(Oid owner, const char *text) {
    pg::as_owner(owner, [&] {
        pg::with_spi([&] {
            pg::spi_execute(text);
            CommandCounterIncrement();
        });
    });
}

declare::KeyPromise promise_of(const TakenOff &off, const Block &block) {
    return declare::promise_of(block, off.promised.asked_for, off.promised.taken);
}

// As alter() changes them.
void change_others(const TakenOff &off, const Definition &made, int kept) {
    const char *used = nullptr;
    List *details = NIL;
    MemoryContext outside = CurrentMemoryContext;
    pg::as_superuser([&] {
        pg::with_spi([&] {
            used = dependents(off.relation, kept, InvalidOid); // the key is dropped by now
            if (used) used = MemoryContextStrdup(outside, used);
        });
        details = column_details(off.relation, kept, made.view);
    });
    if (used)
        ereport(ERROR,
                (errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
                 errmsg("columns of projection %s that the new query drops, moves or retypes are used", off.name),
                 errdetail("%s", used),
                 errhint("Keep these columns at their places, with new ones after them; or drop what uses them.")));
    pg::as_superuser([&] { change_layout(off.relation, kept, *made.block); });
    for (char *statement : pg::each<char>(details)) execute_as(off.owner, statement);
}

// Core would refuse it, too, but not say what to do.
void refuse_views(const TakenOff &off, Oid definition) {
    const char *views = ask_text(psprintf(
        "SELECT pg_catalog.string_agg(DISTINCT pg_catalog.format('view %%s uses column %%I', r.ev_class::regclass, "
        "a.attname), E'\\n') FROM pg_catalog.pg_depend AS d JOIN pg_catalog.pg_rewrite AS r ON r.oid = d.objid "
        "JOIN pg_catalog.pg_attribute AS a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid "
        "JOIN pg_catalog.pg_attribute AS n ON n.attrelid = %u AND n.attnum = a.attnum WHERE d.classid = "
        "'pg_catalog.pg_rewrite'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = %u "
        "AND (n.atttypid, n.atttypmod, n.attcollation) IS DISTINCT FROM (a.atttypid, a.atttypmod, a.attcollation)",
        definition, off.relation));
    if (views == nullptr) return;
    ereport(ERROR, (errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
                    errmsg("columns of projection %s that get other types are used", off.name), errdetail("%s", views),
                    errhint("Drop the views before the call, and create them again after it, in one transaction.")));
}

// Empties the table and gives it the definition's columns, and the index by which its rows are told apart.
void change_table(const TakenOff &off, const Definition &made, const Change &change, bool same_identity) {
    refuse_refill(off);
    if (*change.types) refuse_views(off, made.view);
    empty_file(off.relation);
    const char *table = pg::qualified_name(off.relation);
    bool renewed = change.others || !same_identity;
    if (renewed) drop_identity({off.indexes.data(), off.indexes.size()});
    if (*change.types) execute_as(off.owner, psprintf("ALTER TABLE %s %s", table, change.types));
    if (change.others) change_others(off, made, change.kept);
    if (!renewed) return;
    change_promise(off.promised, off.relation, change.others ? change.kept : off.columns, *made.block);
    const char *identity = declare::identity_index("", table, *made.block, promise_of(off, *made.block));
    if (identity) execute_as(off.owner, identity);
}

int64 fill_anew(const TakenOff &off, Projection &projection) {
    int64 rows = 0;
    if (projection.flow != Flow::events) {
        Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
        rows = copy_rows(projection, snapshot);
        UnregisterSnapshot(snapshot);
    }
    execute_as(off.owner, psprintf("REINDEX TABLE %s", pg::qualified_name(off.relation)));
    return rows;
}

int64 recompute_differences(Oid relation) {
    return ask(psprintf("SELECT projections_internal._repair_rows(%u)", relation));
}

// Whether the index by which rows are told apart, or that there is none, stays as it is.
bool has_identity(const TakenOff &off, const Block &block) {
    const char *wanted = declare::identity_index("", off.name, block, promise_of(off, block));
    if (wanted == nullptr || off.identity == nullptr) return wanted == off.identity;
    auto is_there = [](Oid index) { return get_rel_name(index) != nullptr; };
    return strcmp(wanted, off.identity) == 0 && std::all_of(off.indexes.begin(), off.indexes.end(), is_there);
}

// What the command may have done to the table while nothing was known of it.
void check_table(const TakenOff &off) {
    execute(psprintf("SELECT projections_internal._restore_triggers(p) FROM projections_internal.projection AS p WHERE "
                     "p.relation = %u",
                     off.relation));
    execute(psprintf("SELECT projections_internal._check_relied(ARRAY[%u]::oid[], true)", off.relation));
    maintain::record_reliance(off.relation);
}

} // namespace

PutBack put_back(TakenOff &off, void (*before_columns)(Oid relation)) {
    off.done = true;
    if (catalog::projection(off.relation) == nullptr) return {false, 0}; // the command has dropped it
    Definition made = define(off);
    bool same_identity = has_identity(off, *made.block);
    Change change = change_of(off, *made.block);
    PutBack result{change.others || *change.types || !same_identity, 0};
    if (result.refilled) {
        before_columns(off.relation);
        change_table(off, made, change, same_identity);
    }
    record(off, made); // not before: columns of the table and of its definition that differ are taken for renamed
    Projection &projection = *catalog::projection(off.relation);
    if (result.refilled) result.rows = fill_anew(off, projection);
    if (!result.refilled || projection.flow == Flow::events) result.rows = recompute_differences(off.relation);
    check_table(off);
    execute(psprintf("SELECT projections_internal._drop_idle_triggers(%s)", list(off.sources)));
    return result;
}

} // namespace rebuild
