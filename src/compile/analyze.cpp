// SELECT → block.
//
// The query is first normalized: its FROM becomes a flat list of plain tables, its ON, USING and WHERE one list of
// conditions (inner joins only, so they mean the same). DISTINCT becomes GROUP BY. Then each aggregate is taken apart
// into *states*, plain aggregates that move by addition (count, sum) or by comparison (min, max), and a *final* text
// that computes the aggregate from them: avg is sum over count, bool_and compares two counts. A state or key that the
// query does not return is appended to the target list, so that the hidden view made of it yields every column of the
// table. Compiling that view again finds every state in place: the view is all that needs to be stored, and pg_depend,
// renames and dumps follow it.
#include "compile/analysis.hpp"
#include "compile/canonical.hpp"
#include "compile/columns.hpp"
#include "compile/lookups.hpp"
#include "compile/print.hpp"
#include "compile/rewrite.hpp"
#include "pg/query.hpp"
#include "pg/scope.hpp"

namespace compile {

namespace {

// Of every block.
void check_block(Analysis &a) {
    Functions functions = check_functions(reinterpret_cast<Node *>(a.block->expressions()), a.place);
    a.block->settings_dependent = functions.settings_dependent;
    a.block->changed = functions.changed;
}

// PostgreSQL 18 computes such a column when a query reads it: in what triggers are given it is NULL.
void refuse_virtual_columns(const Block &block) {
    for (const Source &source : block.sources)
        for (AttrNumber column : source.used)
            if (get_attgenerated(source.relation, column) == 'v')
                ereport(ERROR,
                        (errcode(pg::error::unsupported_query),
                         errmsg("this query cannot be a projection: column \"%s\" of %s is virtual",
                                get_attname(source.relation, column, false), pg::qualified_name(source.relation)),
                         errdetail("Its values are not in the rows that change."),
                         errhint("Write its expression in the query, or declare the column STORED.")));
}

Block *finish(Analysis &a) {
    if (a.extend) refuse_virtual_columns(*a.block);
    if (a.extend) check_key_columns(*a.block, a.place);
    if (a.extend && a.block->unites()) compute_constants(*a.block);
    if (list_length(a.core->targetList) > MaxHeapAttributeNumber / 2) a.place.refuse(Construct::too_many_columns, -1);
    if (a.stages) print_block(a.stages, *a.block);
    return a.block;
}

Block *compile(Analysis &a) {
    if (a.refresh) {
        compile_refreshed(a);
        if (a.stages) print_normal_form(a.stages, a.core);
        check_block(a);
        return finish(a);
    }
    a.query = rewrite(a.query, a.place, a.extend);
    bool whole = is_whole(a.query);
    if (!whole) {
        if (a.extend && returns_rows(a.query) && !a.query->distinctClause && has_outer_join(a.query))
            return_fewest_keys(a.query);
        a.query = split_outer_joins(a.query, a.place);
    }
    check_clauses(a);
    if (whole) {
        compile_whole(a);
    } else {
        build_tree(a);
        find_presence_keys(*a.block);
        build_columns(a);
    }
    if (a.stages) print_normal_form(a.stages, a.core);
    check_block(a);
    if (!whole && (a.core->hasAggs || a.core->groupClause != NIL))
        compile_groups(a);
    else if (!whole)
        compile_rows(a);
    return finish(a);
}

Block *new_block(MemoryContext memory) {
    Block *block = pg::make<Block>(memory);
    block->memory = memory;
    return block;
}

} // namespace

Query *normal_form(const Query *query, const char *text) {
    Query *normal = rewrite(query, Place{text}, true);
    free_aliases(normal);
    return normal;
}

Block *compile_query(Query *query, const char *text, bool (*is_event_source)(Oid), List *parts, StringInfo stages) {
    Block *block = new_block(CurrentMemoryContext);
    Analysis a{query, Place{text}, true, false, is_event_source, block, parts, stages};
    check_grouped_keys(query, a.place);
    return compile(a);
}

Block *compile_refreshed(const Query *query, const char *text, bool (*is_event_source)(Oid)) {
    Block *block = new_block(CurrentMemoryContext);
    Place place{text};
    check_grouped_keys(query, place);
    Analysis a{with_views_open(query, place), place, true, true, is_event_source, block};
    a.refresh = true;
    return compile(a);
}

Block *compile_definition(Oid projection, Oid definition, int user_columns, Stored stored) {
    MemoryContext memory = AllocSetContextCreate(CacheMemoryContext, "projection block", ALLOCSET_SMALL_SIZES);
    MemoryContext before = MemoryContextSwitchTo(memory);
    Relation view = relation_open(definition, AccessShareLock);
    Query *query = pg::copy<Query>(get_view_query(view));
    for (TargetEntry *entry :
         pg::each<TargetEntry>(query->targetList)) // a renamed column of a view is renamed there only
        if (!entry->resjunk)
            entry->resname = pstrdup(NameStr(TupleDescAttr(RelationGetDescr(view), entry->resno - 1)->attname));
    relation_close(view, AccessShareLock);

    Block *block = new_block(memory);
    block->projection = projection;
    block->definition = definition;
    block->user_columns = user_columns;
    Analysis a{query, Place{nullptr}, false, stored != Stored::by_key, nullptr, block};
    a.refresh = stored == Stored::refreshed;
    compile(a);
    MemoryContextSwitchTo(before);
    return block;
}

} // namespace compile
