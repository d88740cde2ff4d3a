// What of a query in normal form belongs to the block, and what is refused: the rules that go with the table of
// refusals.
#include "compile/analysis.hpp"
#include "compile/rewrite.hpp"
#include "pg/own_schema.hpp"

namespace compile {
namespace {

bool has_sets(const Query *query) { return query->hasTargetSRFs; }

// In the order in which a query that has several is told of them.
constexpr struct {
    Construct construct;
    bool (*is_in)(const Query *);
} clauses[] = {
    {Construct::not_select, [](const Query *q) { return q->commandType != CMD_SELECT || q->utilityStmt != nullptr; }},
    {Construct::writes, [](const Query *q) { return q->hasModifyingCTE; }},
    {Construct::row_locks, [](const Query *q) { return q->rowMarks != NIL; }},
    {Construct::with, [](const Query *q) { return q->cteList != NIL; }},
    {Construct::window, [](const Query *q) { return q->hasWindowFuncs; }},
    {Construct::set_returning, has_sets},
    {Construct::grouping_sets, [](const Query *q) { return q->groupingSets != NIL; }},
    {Construct::distinct_on, [](const Query *q) { return q->hasDistinctOn; }},
    {Construct::limit, [](const Query *q) { return q->limitCount != nullptr || q->limitOffset != nullptr; }},
};

} // namespace

static bool is_of_whole(Construct construct) {
    return construct == Construct::distinct_on || construct == Construct::window ||
           construct == Construct::set_returning || construct == Construct::limit;
}

void check_clauses(const Analysis &a) {
    for (const auto &clause : clauses) {
        if (!clause.is_in(a.query)) continue;
        if (is_of_whole(clause.construct) && is_whole(a.query)) continue;
        a.place.refuse(clause.construct, -1);
    }
}

namespace {

// Of tables that other servers write, or a crash empties, no change is seen.
const char *unfit_partitioned(const RangeTblEntry *entry) {
    if (!entry->inh) return "read without its partitions";
    ListCell *cell;
    foreach (cell, find_all_inheritors(entry->relid, AccessShareLock, nullptr)) {
        if (get_rel_relkind(lfirst_oid(cell)) == RELKIND_FOREIGN_TABLE) return "partitioned with foreign partitions";
        if (get_rel_persistence(lfirst_oid(cell)) == RELPERSISTENCE_UNLOGGED)
            return "partitioned with unlogged partitions, which a crash empties without a trace";
    }
    return nullptr;
}

// Rows of a temporary child are there for one session only.
const char *unfit_inherited(const RangeTblEntry *entry) {
    if (find_inheritance_children(entry->relid, AccessShareLock) == NIL) return nullptr;
    if (!entry->inh) return "read without its children";
    ListCell *cell;
    foreach (cell, find_all_inheritors(entry->relid, AccessShareLock, nullptr)) {
        if (get_rel_relkind(lfirst_oid(cell)) == RELKIND_FOREIGN_TABLE) return "inherited by a foreign table";
        if (get_rel_persistence(lfirst_oid(cell)) == RELPERSISTENCE_TEMP) return "inherited by a temporary table";
        if (get_rel_persistence(lfirst_oid(cell)) == RELPERSISTENCE_UNLOGGED)
            return "inherited by an unlogged table, which a crash empties without a trace";
    }
    return nullptr;
}

void check_source(const Analysis &a, const RangeTblEntry *entry, int location) {
    if (entry->tablesample != nullptr) a.place.refuse(Construct::sample, -1);
    Relation relation = table_open(entry->relid, AccessShareLock);
    const char *name = RelationGetRelationName(relation);
    const char *kind = nullptr;
    bool events = a.is_event_source(entry->relid);
    switch (relation->rd_rel->relkind) {
    case RELKIND_RELATION: break;
    case RELKIND_VIEW: kind = "a view"; break;
    case RELKIND_MATVIEW: kind = "a materialized view"; break;
    case RELKIND_FOREIGN_TABLE: kind = "a foreign table"; break;
    case RELKIND_PARTITIONED_TABLE: kind = events ? nullptr : unfit_partitioned(entry); break;
    default: kind = "not a table"; break;
    }
    if (kind == nullptr && relation->rd_rel->relpersistence == RELPERSISTENCE_TEMP) kind = "a temporary table";
    if (kind == nullptr && relation->rd_rel->relpersistence == RELPERSISTENCE_UNLOGGED)
        kind = "an unlogged table, which a crash empties without a trace";
    if (kind == nullptr && relation->rd_rel->relispartition) kind = "a partition";
    if (kind == nullptr && relation->rd_rel->relkind == RELKIND_RELATION) kind = unfit_inherited(entry);
    if (kind == nullptr && IsCatalogRelationOid(entry->relid)) kind = "a system catalog";
    bool part = list_member_oid(a.parts, entry->relid);
    if (kind == nullptr && !events && !part && pg::is_own_schema(RelationGetNamespace(relation)))
        kind = "a table of the extension";
    if (kind != nullptr) a.place.refuse(Construct::source_kind, location, name, kind);
    if (check_enable_rls(entry->relid, GetUserId(), true) == RLS_ENABLED)
        a.place.refuse(Construct::source_hidden_rows, location, name, GetUserNameFromId(GetUserId(), false));
    table_close(relation, AccessShareLock);
}

} // namespace

void check_entry(const Analysis &a, const RangeTblEntry *entry) {
    switch (entry->rtekind) {
    case RTE_RELATION: break;
    case RTE_SUBQUERY: {
        const char *found = obstacle(entry->subquery);
        a.place.refuse(Construct::derived_table, -1, found ? found : "are below an outer join");
    }
    case RTE_FUNCTION: a.place.refuse(Construct::function, -1);
    case RTE_VALUES: a.place.refuse(Construct::values, -1);
    case RTE_CTE: a.place.refuse(Construct::with, -1);
    default: a.place.refuse(Construct::other_from, -1);
    }
    if (a.extend) check_source(a, entry, a.place.of(psprintf("%s", get_rel_name(entry->relid))));
}

} // namespace compile
