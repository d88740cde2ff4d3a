// Alter.
//
// The shadow is made for the new definition, and fed and filled as in a rebuild. Before it changes places, the live
// table gets the same columns; afterwards the catalog rows of the two are exchanged, so that dropping the shadow
// removes the old definition with its logs and idle triggers. Transactions that wrote for the old definition and not
// for the new one must have ended by then: the sources are locked, too.
#include "rebuild/alter.hpp"
#include "catalog/hidden.hpp"
#include "catalog/settings.hpp"
#include "declare/declare.hpp"
#include "declare/describe.hpp"
#include "declare/own_triggers.hpp"
#include "declare/parts.hpp"
#include "maintain/log.hpp"
#include "rebuild/layout.hpp"
#include "rebuild/merge.hpp"
#include "rebuild/promise.hpp"
#include "rebuild/swap.hpp"

namespace rebuild {

using catalog::Flow;
using catalog::Projection;
using compile::Block;

namespace {

// For the next definition.
Datum options_of(Oid projection) {
    Datum options = 0;
    MemoryContext outside = CurrentMemoryContext;
    pg::with_spi([&] {
        pg::as_superuser([&] {
            // How it was filled first has no effect any more.
            pg::spi_execute(psprintf("SELECT options - 'fill' FROM projections_internal.projection WHERE relation = %u",
                                     projection));
        });
        options = pg::within(outside, [&] { return datumCopy(pg::Row().datum(1), false, -1); });
    });
    return options;
}

// What its parts are made for: they are filled before it is, each by itself.
declare::Request request_for_parts(Rebuild &rebuild) {
    declare::Request request{};
    request.schema = get_namespace_name(get_rel_namespace(rebuild.target));
    request.relation = get_rel_name(rebuild.target);
    request.query = rebuild.alteration->query;
    request.async = rebuild.alteration->async;
    request.fill_later = true;
    return request;
}

// By way of others than its parts it cannot: those would read it already.
void refuse_itself(Rebuild &rebuild, const declare::Plan &plan, const declare::Parts &parts) {
    bool found = std::find(plan.sources.begin(), plan.sources.end(), rebuild.target) != plan.sources.end();
    for (const Block *part : parts.blocks())
        for (const compile::Source &source : part->sources) found |= source.relation == rebuild.target;
    if (!found) return;
    ereport(ERROR, (errcode(pg::error::unsupported_query),
                    errmsg("this query cannot be a projection: \"%s\" would read itself", get_rel_name(rebuild.target)),
                    errdetail("Its rows would follow from themselves."),
                    errhint("Read what it reads; or make another projection over it.")));
}

void refuse_followed(Rebuild &rebuild, const Alteration &alteration, Flow flow) {
    // From inline to a change log nothing in the rows changes.
    bool same_rows = alteration.query == nullptr && live(rebuild).flow == Flow::inline_ && flow == Flow::log;
    const char *why = same_rows ? columns_of_its_own(rebuild.target) : what_forbids_swap(rebuild.target);
    if (why == nullptr) return;
    ereport(ERROR,
            (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
             errmsg("projection %s cannot be altered: %s", rebuild.name, why),
             errdetail("The table that is put in its place has only what the new query fills, and nobody is told "
                       "which rows differ."),
             errhint("Create a projection with the new definition under another name.")));
}

// Values of the row type, where they are stored, are read by the columns' numbers.
void refuse_stored_rows(Rebuild &rebuild, const Alteration &alteration) {
    Relation table = table_open(rebuild.target, AccessShareLock);
    if (alteration.kept < RelationGetDescr(table)->natts)
        find_composite_type_dependencies(table->rd_rel->reltype, table, nullptr);
    table_close(table, NoLock);
}

void refuse_dependents(Rebuild &rebuild, const Alteration &alteration) {
    refuse_stored_rows(rebuild, alteration);
    const char *found = nullptr;
    MemoryContext outside = CurrentMemoryContext;
    pg::as_superuser([&] {
        pg::with_spi([&] {
            found = dependents(rebuild.target, alteration.kept, own_primary_key(live(rebuild)));
            if (found) found = MemoryContextStrdup(outside, found);
        });
    });
    if (found)
        ereport(ERROR,
                (errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
                 errmsg("columns of projection %s that the new query drops, moves or retypes are used", rebuild.name),
                 errdetail("%s", found),
                 errhint("Keep these columns at their places, with new ones after them; or drop what uses them.")));
}

// As the owner, who must be able to declare it anew.
void make_generation(Rebuild &rebuild, declare::Request &request, const Block &block, declare::Plan &plan,
                     const char **settings) {
    Oid owner = live(rebuild).owner();
    Oid definition = declare::make_definition(request, block);
    pg::as_superuser([&] {
        rebuild.shadow = make_twin(rebuild.target, request.relation);
        change_layout(rebuild.shadow, rebuild.alteration->kept, block);
        change_promise(promised(live(rebuild)), rebuild.shadow, rebuild.alteration->kept, block);
        if (plan.flow != Flow::events) plan.changes = maintain::make_change_logs(block, request.relation, owner);
    });
    if (plan.flow != Flow::events) declare::make_capture({plan.sources.data(), plan.sources.size()}, true);
    declare::record(request, rebuild.shadow, definition, block, plan, settings);
    execute(psprintf("UPDATE projections_internal.projection SET shadow_of = %u WHERE relation = %u", rebuild.target,
                     rebuild.shadow));
}

void rename_relation(Oid relation, const char *name, bool index) {
    RenameRelationInternal(relation, name, true, index);
    CommandCounterIncrement();
}

const char *identity_name(Oid shadow) { return psprintf("rebuild_%u_identity", shadow); }

Oid identity_of_shadow(Rebuild &rebuild) {
    return get_relname_relid(identity_name(rebuild.shadow), get_rel_namespace(rebuild.shadow));
}

} // namespace

Oid make_altered_shadow(Rebuild &rebuild) {
    Alteration &alteration = *rebuild.alteration;
    Projection &projection = live(rebuild);
    const char **settings = projection.settings;
    const Block *block = nullptr;
    declare::Request whole = request_for_parts(rebuild);
    declare::Parts parts{whole};
    if (alteration.query && alteration.another)
        pg::with_setting("search_path", alteration.search_path, [&] {
            block = projection.block().refreshes() ? declare::compile_text_refreshed(alteration.query)
                                                   : declare::compile_text(alteration.query, parts.maker());
            settings = catalog::current_settings();
        });
    else if (alteration.query)
        catalog::with_pinned(settings, [&] { block = declare::compile_text(alteration.query, parts.maker()); });
    else
        block = &projection.block();
    declare::check_bag(*block);
    declare::check_key_not_null(*block, projection.key_not_null);
    declare::Request request{};
    request.schema = pg::own_schema();
    request.relation = declare::hidden_name(get_rel_name(rebuild.target), "shadow");
    request.namespace_oid = pg::own_schema_oid();
    request.async = alteration.async;
    request.options = options_of(rebuild.target);
    declare::Plan plan = declare::plan_flow(request, *block);
    refuse_itself(rebuild, plan, parts);
    alteration.kept = kept_columns(rebuild.target, *block);
    refuse_followed(rebuild, alteration, plan.flow);
    refuse_dependents(rebuild, alteration);
    declare::lock_sources(plan, true);
    pg::with_spi([&] { make_generation(rebuild, request, *block, plan, settings); });
    parts.belong_to(rebuild.target);
    return rebuild.shadow;
}

void index_altered_shadow(Rebuild &rebuild) {
    // One that the live table has already, on columns that stay, comes with the others.
    const Block &block = shadow(rebuild).block();
    const char *wanted = declare::identity_index(identity_name(rebuild.shadow), pg::qualified_name(rebuild.shadow),
                                                 block, next_promise(live(rebuild), block));
    if (wanted == nullptr || OidIsValid(identity_of_shadow(rebuild))) return;
    pg::spi_execute(wanted);
    CommandCounterIncrement();
}

void fit_live_table(Rebuild &rebuild) {
    // Others may have begun to use it meanwhile.
    bool by_log = rebuild.alteration->async && !shadow(rebuild).changes.empty();
    refuse_followed(rebuild, *rebuild.alteration, by_log ? Flow::log : Flow::none);
    refuse_dependents(rebuild, *rebuild.alteration);
    Oid model = identity_of_shadow(rebuild);
    int kept = rebuild.alteration->kept;
    const Block &next = shadow(rebuild).block();
    Oid primary = own_primary_key(live(rebuild));
    const char *name = OidIsValid(primary) ? get_rel_name(primary) : nullptr;
    Promised before = promised(live(rebuild));
    drop_identity(live(rebuild)); // which would refuse the new rows
    rebuild.alteration->details =
        pg::within(rebuild.memory, [&] { return column_details(rebuild.target, kept, rebuild.shadow); });
    // Its rows go anyway. A column of a domain with a constraint would be checked in each of them.
    Relation table = table_open(rebuild.target, AccessExclusiveLock);
    pg::give_new_file(table);
    table_close(table, NoLock);
    CommandCounterIncrement();
    change_layout(rebuild.target, kept, next);
    change_promise(before, rebuild.target, kept, next);
    if (!OidIsValid(model)) return;
    Oid index = make_unbuilt_index(rebuild.target, model, name);
    rename_relation(model, counterpart_name(index, rebuild.shadow), true);
}

void adopt_definition(Rebuild &rebuild) {
    const Projection &old = live(rebuild), &next = shadow(rebuild);
    auto list = [](const pg::vector<Oid> &oids) { return declare::oid_list({oids.data(), oids.size()}); };
    bool async = rebuild.alteration->async;
    // The new log holds what an async projection's table has still to be told; an inline one has none.
    pg::vector<Oid> used, unused = old.changes;
    (async ? used : unused).insert((async ? used : unused).end(), next.changes.begin(), next.changes.end());
    const char *kept = list(used), *dropped = list(unused), *sources = list(old.sources);
    const char *mode = old.async ? "async" : "inline";
    Oid old_definition = old.definition, new_definition = next.definition;
    // Definitions are unique.
    execute(
        psprintf("UPDATE projections_internal.projection SET definition = 0::pg_catalog.oid::pg_catalog.regclass WHERE "
                 "relation = %u",
                 rebuild.shadow));
    execute(psprintf(
        "UPDATE projections_internal.projection AS p SET definition = %u, changes = %s, mode = s.mode, user_columns = "
        "s.user_columns, shape = s.shape, sources = s.sources, settings = s.settings FROM "
        "projections_internal.projection AS s WHERE p.relation = %u AND s.relation = %u",
        new_definition, kept, rebuild.target, rebuild.shadow));
    execute(psprintf(
        "UPDATE projections_internal.projection SET definition = %u, changes = %s, mode = '%s', sources = %s WHERE "
        "relation = %u",
        old_definition, dropped, mode, sources, rebuild.shadow));
}

// As create() would have named it.
static void name_hidden(Rebuild &rebuild, Oid relation, const char *suffix, const char *kind, const char *mark) {
    rename_relation(relation, declare::hidden_name(get_rel_name(rebuild.target), suffix), false);
    pg::as_superuser([&] {
        pg::with_spi(
            [&] { catalog::mark_hidden(psprintf("%s %s", kind, pg::qualified_name(relation)), mark, rebuild.name); });
    });
}

void restore_details(Rebuild &rebuild) {
    pg::as_owner(pg::owner_of(rebuild.target), [&] {
        pg::with_spi([&] {
            ListCell *statement;
            foreach (statement, rebuild.alteration->details) {
                pg::spi_execute(static_cast<const char *>(lfirst(statement)));
                CommandCounterIncrement();
            }
        });
    });
}

void name_adopted(Rebuild &rebuild) {
    const Projection &adopted = live(rebuild);
    pg::vector<Oid> changes = adopted.changes;
    if (rebuild.alteration) name_hidden(rebuild, adopted.definition, "definition", "VIEW", "definition");
    for (Oid log : changes) name_hidden(rebuild, log, "changes", "TABLE", "change log");
}

} // namespace rebuild
