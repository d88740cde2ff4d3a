// Slices: what does not add up is computed anew, key by key, from the rows that the sources have.
//
// There are two kinds. A grouped query over plain joins differs from one of sums in nothing but its aggregates: its
// core is flat, and its terms tell the groups. Any other is *whole*: it keeps its form, with subqueries, outer joins,
// LATERAL and DISTINCT ON in it, and is read again for the keys that traces tell (compile/traces.cpp).
#include "compile/analysis.hpp"
#include "compile/canonical.hpp"
#include "compile/columns.hpp"
#include "compile/parts.hpp"
#include "compile/rewrite.hpp"
#include "pg/query.hpp"

namespace compile {
namespace {

bool find_anew(Node *node, bool *found) {
    if (node == nullptr || *found) return false;
    if (IsA(node, Aggref)) {
        auto *aggregate = reinterpret_cast<Aggref *>(node);
        *found |= aggregate->aggdistinct != NIL || !adds_up(aggregate);
        return false;
    }
    return pg::walk_children(node, find_anew, found);
}

} // namespace

bool needs_slices(const Query *query) {
    bool found = false;
    if (query->hasAggs) find_anew(reinterpret_cast<Node *>(query->targetList), &found);
    return found;
}

namespace {

// Whether FROM has a subquery that reads columns of what stands beside it, and is more than a join.
bool reads_beside(const Query *query) {
    Bitmapset *read = nullptr;
    add_entries(reinterpret_cast<Node *>(query->jointree), &read);
    for (int index = -1; (index = bms_next_member(read, index)) >= 0;) {
        const RangeTblEntry *entry = rt_fetch(index, query->rtable);
        if (entry->rtekind == RTE_SUBQUERY && (obstacle(entry->subquery) || entry->subquery->hasSubLinks) &&
            reads_outside(entry->subquery))
            return true;
    }
    return false;
}

bool is_anew(SubLink *link);

// Whether a subquery is more than sums over rows that match: those are parts, however many rows there are.
bool is_anew(Query *subquery) {
    check_stack_depth();
    if (subquery->limitCount || subquery->limitOffset || subquery->setOperations || subquery->hasDistinctOn)
        return true;
    if (needs_slices(subquery)) return true;
    bool found = false;
    each_sublink(subquery, [&](SubLink *inner) { found |= is_anew(inner); });
    for (RangeTblEntry *entry : pg::each<RangeTblEntry>(subquery->rtable))
        if (entry->rtekind == RTE_SUBQUERY && reads_outside(entry->subquery)) found |= is_anew(entry->subquery);
    return found;
}

// Whether a subquery of the SELECT list is. (One that finds a row by its key is a look-up.)
bool is_anew(SubLink *link) {
    auto *subquery = castNode(Query, link->subselect);
    if (!reads_outside(subquery)) return false;
    if (link->subLinkType == ARRAY_SUBLINK) return true;
    return link->subLinkType == EXPR_SUBLINK && is_anew(subquery);
}

// Whether FROM has a LATERAL subquery that is.
bool has_anew_beside(const Query *query) {
    Bitmapset *read = nullptr;
    add_entries(reinterpret_cast<Node *>(query->jointree), &read);
    for (int index = -1; (index = bms_next_member(read, index)) >= 0;) {
        const RangeTblEntry *entry = rt_fetch(index, query->rtable);
        if (entry->rtekind == RTE_SUBQUERY && reads_outside(entry->subquery) && is_anew(entry->subquery)) return true;
    }
    return false;
}

} // namespace

namespace {

bool only_selects(const Query *query) {
    return query->commandType == CMD_SELECT && !query->setOperations && query->jointree && !query->hasAggs &&
           !query->groupClause && !query->groupingSets && !query->havingQual && !query->limitCount &&
           !query->limitOffset && !query->rowMarks;
}

// Whether functions give rows that `reader`, over the same FROM, reads.
bool has_functions_beside(const Query *query, const Query *reader) {
    Bitmapset *read = nullptr;
    add_entries(reinterpret_cast<Node *>(query->jointree), &read);
    for (int index = -1; (index = bms_next_member(read, index)) >= 0;)
        if (gives_rows(rt_fetch(index, query->rtable)) && !is_repeat(reader, index)) return true;
    return false;
}

} // namespace

bool returns_rows(const Query *query) {
    return only_selects(query) && !(query->distinctClause && !query->hasDistinctOn) && !query->hasWindowFuncs &&
           !query->hasTargetSRFs;
}

bool gives_rows(const RangeTblEntry *entry) {
    return entry->rtekind == RTE_FUNCTION || entry->rtekind == RTE_TABLEFUNC;
}

bool reads_slices(const Query *query, const Query *reader) {
    if (!only_selects(query) || query->distinctClause) return false;
    return query->hasWindowFuncs || query->hasTargetSRFs || has_functions_beside(query, reader ? reader : query) ||
           (reads_beside(query) && !has_fewest_keys(const_cast<Query *>(query)));
}

static bool find_table(Node *node, bool *found) {
    if (node == nullptr || *found) return false;
    if (!IsA(node, Query)) return pg::walk_children(node, find_table, found);
    for (RangeTblEntry *entry : pg::each<RangeTblEntry>(castNode(Query, node)->rtable))
        *found |= entry->rtekind == RTE_RELATION;
    return pg::walk_query(castNode(Query, node), find_table, found, QTW_IGNORE_JOINALIASES);
}

// Whether a subquery of it is about a row's own values: over what functions make of them.
static bool asks_functions(const Query *query) {
    bool asks = false;
    each_sublink(const_cast<Query *>(query), [&](SubLink *link) {
        bool table = false, values = is_values(castNode(Query, link->subselect));
        find_table(link->subselect, &table);
        asks |= !table && !values;
    });
    return asks;
}

bool stays_whole(Query *query) {
    if (!returns_rows(query)) return false;
    if (query->hasDistinctOn) return true;
    if (asks_functions(query)) return has_fewest_keys(query);
    Query targets = *query;
    targets.jointree = makeFromExpr(NIL, nullptr);
    bool found = has_anew_beside(query), concerns_all = false;
    each_sublink(&targets, [&](SubLink *link) { found |= is_anew(link); });
    each_sublink(query, [&](SubLink *link) { concerns_all |= !reads_outside(castNode(Query, link->subselect)); });
    return found && !concerns_all && (has_fewest_keys(query) || reads_slices(query));
}

bool is_whole(const Query *query) {
    if (reads_slices(query) || is_first_rows(query)) return true;
    return returns_rows(query) &&
           (query->hasDistinctOn || has_other_sublinks(query) || reads_beside(query) || asks_functions(query));
}

namespace {

struct Levels {
    Analysis &a;
    pg::vector<Query *> queries = {};
};

bool visit(Node *node, Levels *levels);

bool visit_level(Query *query, Levels *levels) {
    levels->queries.push_back(query);
    pg::walk_query(query, visit, levels, QTW_IGNORE_JOINALIASES);
    levels->queries.pop_back();
    return false;
}

// Notes the columns that are used.
bool visit(Node *node, Levels *levels) {
    if (node == nullptr) return false;
    if (IsA(node, Query)) return visit_level(castNode(Query, node), levels);
    if (!IsA(node, Var)) return pg::walk_children(node, visit, levels);
    auto *var = reinterpret_cast<Var *>(node);
    const Query *query = levels->queries[levels->queries.size() - 1 - var->varlevelsup];
    const RangeTblEntry *entry = rt_fetch(static_cast<int>(var->varno), query->rtable);
    if (entry->rtekind != RTE_RELATION) return false;
    if (var->varattno <= 0)
        levels->a.place.refuse(var->varattno == 0 ? Construct::whole_row : Construct::system_column, var->location);
    Block *block = levels->a.block;
    note_used(block->sources[source_index(levels->a.place, block, entry->relid)], var->varattno);
    return false;
}

} // namespace

void note_used_columns(Analysis &a) {
    Levels levels{a};
    visit_level(a.core, &levels);
}

namespace {

using Paths = pg::vector<pg::vector<Level>>;

void find_tables(Analysis &a, Query *query, pg::vector<Level> path, Paths &paths);

void find_table(Analysis &a, RangeTblEntry *entry, pg::vector<Level> path, Paths &paths) {
    switch (entry->rtekind) {
    case RTE_SUBQUERY: find_tables(a, entry->subquery, path, paths); return;
    case RTE_FUNCTION: // its rows follow from those beside it
    case RTE_TABLEFUNC:
    case RTE_VALUES:
    case RTE_RESULT: return;
    default: break;
    }
    check_entry(a, entry);
    if (paths.size() == max_tables) a.place.refuse(Construct::too_many_sources, -1, psprintf("%d", max_tables));
    a.block->occurrence_source.push_back(source_index(a.place, a.block, entry->relid));
    paths.push_back(path);
}

// All tables, wherever they stand, in the order of the text.
void find_tables(Analysis &a, Query *query, pg::vector<Level> path, Paths &paths) {
    check_stack_depth();
    if (query->cteList) a.place.refuse(Construct::with, -1);
    if (query->rowMarks) a.place.refuse(Construct::row_locks, -1);
    Bitmapset *read = nullptr;
    if (query->setOperations)
        for (int i = 1; i <= list_length(query->rtable); i++) read = bms_add_member(read, i);
    else
        add_entries(reinterpret_cast<Node *>(query->jointree), &read);
    path.push_back({query, 0});
    for (int index = -1; (index = bms_next_member(read, index)) >= 0;) {
        path.back().via = index;
        find_table(a, rt_fetch(index, query->rtable), path, paths);
    }
    path.back().via = 0;
    each_sublink(query, [&](SubLink *link) { find_tables(a, castNode(Query, link->subselect), path, paths); });
}

// What tells slices apart by a clause: DISTINCT ON, or what windows partition by.
List *key_clauses(const Query *core) { return core->hasDistinctOn ? core->distinctClause : common_partition(core); }

// The user's columns, what is needed as a key, and then what only orders.
void order_columns(Analysis &a, List *keys) {
    Query *core = a.core;
    List *all = core->targetList, *ordering = NIL;
    core->targetList = NIL;
    for (TargetEntry *entry : pg::each<TargetEntry>(all)) {
        if (entry->resjunk) continue;
        entry->resno = static_cast<AttrNumber>(list_length(core->targetList) + 1);
        core->targetList = lappend(core->targetList, entry);
    }
    if (a.extend) {
        a.block->user_columns = list_length(core->targetList);
        check_columns(core, a.block->user_columns, a.place);
    }
    for (TargetEntry *entry : pg::each<TargetEntry>(all)) {
        if (!entry->resjunk) continue;
        if (!is_among(entry, keys)) {
            ordering = lappend(ordering, entry);
            continue;
        }
        int column =
            append_column(a, entry->expr, psprintf("_%s", expression_name(a, reinterpret_cast<Node *>(entry->expr))));
        a.block->column(column)->ressortgroupref = entry->ressortgroupref;
    }
    for (TargetEntry *entry : pg::each<TargetEntry>(ordering)) {
        entry->resno = static_cast<AttrNumber>(list_length(core->targetList) + 1);
        core->targetList = lappend(core->targetList, entry);
    }
}

// The columns that clauses are about.
template <class Add>
void add_keys(Analysis &a, List *clauses, Add &&add) {
    for (SortGroupClause *clause : pg::each<SortGroupClause>(clauses))
        for (int i = 0; i < a.block->columns(); i++)
            if (a.block->column(i)->ressortgroupref == clause->tleSortGroupRef) add(a, i);
}

// Rows in slices: identity and keys.
void compile_slices_of_rows(Analysis &a, List *clauses) {
    Block *block = a.block;
    block->identity = Identity::multiset;
    if (is_first_rows(a.core)) {
        block->reason = Reason::first_rows;
    } else if (a.core->hasWindowFuncs) {
        block->reason = Reason::partitions;
        if (clauses == NIL) a.place.refuse(Construct::window, -1);
        add_keys(a, clauses, add_slice_key);
    } else {
        block->reason = Reason::several_rows;
        add_tables_keys(a);
    }
}

} // namespace

void compile_whole(Analysis &a) {
    Block *block = a.block;
    auto *copied = pg::copy<Query>(a.query);
    renew_entries(copied);
    a.core = block->core = canonical_query(copied, a.place);
    if (a.extend && is_first_rows(a.core)) check_first_rows(a);
    if (a.extend) determine_order(a.core, a.place);
    Paths paths;
    find_tables(a, a.core, {}, paths);
    if (paths.empty()) a.place.refuse(Construct::no_table, -1);
    List *clauses = key_clauses(a.core);
    order_columns(a, clauses);
    block->arms.push_back(Arm{a.core, 1});
    block->way = Way::slice;
    if (a.core->hasDistinctOn) {
        block->identity = Identity::key;
        block->reason = Reason::chosen;
        add_keys(a, clauses, [](Analysis &analysis, int column) {
            if (!is_key_column(analysis.block, column)) add_group_key(analysis, column);
        });
    } else if (reads_slices(a.core) || is_first_rows(a.core)) {
        compile_slices_of_rows(a, clauses);
    } else {
        block->identity = Identity::rows;
        block->reason = Reason::read_again;
        add_fewest_keys(a);
    }
    note_used_columns(a);
    build_traces(a, paths);
}

} // namespace compile
