// A definition that no key can be traced in, and that its user wants read again as a whole: it keeps its form, WITH
// RECURSIVE and all, but for views, which are read as they are now. Each of its tables tells that something has
// changed.
#include "compile/analysis.hpp"
#include "compile/canonical.hpp"
#include "compile/columns.hpp"
#include "compile/rewrite.hpp"
#include "pg/query.hpp"

namespace compile {
namespace {

bool find_tables(Node *node, Analysis *a) {
    if (node == nullptr) return false;
    if (!IsA(node, Query)) return pg::walk_children(node, find_tables, a);
    auto *query = castNode(Query, node);
    if (query->rowMarks) a->place.refuse(Construct::row_locks, -1);
    Block *block = a->block;
    for (RangeTblEntry *entry : pg::each<RangeTblEntry>(query->rtable)) {
        if (entry->rtekind != RTE_RELATION || query->setOperations) continue; // of a view: itself
        check_entry(*a, entry);
        std::size_t known = block->sources.size();
        int source = source_index(a->place, block, entry->relid);
        if (block->sources.size() == known) continue;
        block->occurrence_source.push_back(source);
        auto *changed = pg::copy<RangeTblEntry>(entry);
        changed->inFromCl = true;
        pg::forget_privileges(changed);
        block->traces.push_back({pg::select_from(changed), 1, NIL});
    }
    return pg::walk_query(query, find_tables, a, QTW_IGNORE_JOINALIASES);
}

} // namespace

void compile_refreshed(Analysis &a) {
    Block *block = a.block;
    if (a.query->commandType != CMD_SELECT || a.query->utilityStmt) a.place.refuse(Construct::not_select, -1);
    if (a.query->hasModifyingCTE) a.place.refuse(Construct::writes, -1);
    auto *copied = pg::copy<Query>(a.query);
    renew_entries(copied);
    a.core = block->core = canonical_query(copied, a.place);
    if (a.extend) determine_order(a.core, a.place);
    find_tables(reinterpret_cast<Node *>(a.core), &a);
    if (block->sources.empty()) a.place.refuse(Construct::no_table, -1);
    if (a.extend) {
        block->user_columns = ExecCleanTargetListLength(a.core->targetList);
        check_columns(a.core, block->user_columns, a.place);
    }
    block->arms.push_back(Arm{a.core, 1});
    block->way = Way::refresh;
    block->identity = Identity::multiset;
    block->reason = Reason::asked_for;
    note_used_columns(a);
}

} // namespace compile
