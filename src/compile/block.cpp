// Identity, way and reason in words.
#include "compile/block.hpp"

#include "compile/rewrite.hpp"
#include "pg/query.hpp"

namespace compile {

// As the catalog stores them, and explain() shows them.
const char *name_of(Identity identity) {
    switch (identity) {
    case Identity::key: return "groups";
    case Identity::one_row: return "total";
    case Identity::rows: return "rows";
    case Identity::multiset: return "bag";
    }
    pg_unreachable();
}

const char *name_of(Way way) {
    switch (way) {
    case Way::delta: return "algebraic";
    case Way::slice: return "slice";
    case Way::refresh: return "refresh";
    }
    pg_unreachable();
}

const char *text_of(Reason reason) {
    switch (reason) {
    case Reason::sums: return "sums and counts are added";
    case Reason::extrema: return "sums are added; min and max are recomputed for a group whose extremum leaves";
    case Reason::digits:
        return "sums are added; a group is recomputed on removal, as its digits depend on all its values";
    case Reason::slices: return "an aggregate does not add up: the rows of a changed key are read again";
    case Reason::chosen: return "which row of a key is chosen is decided anew when one of them changes";
    case Reason::read_again: return "a document's row is read again when a row that it is made of changes";
    case Reason::partitions: return "the rows of a window's partition are read again when one of them changes";
    case Reason::several_rows: return "what several rows are made of a row is read again when the row changes";
    case Reason::first_rows: return "the first rows are read again, which an index has in their order";
    case Reason::asked_for: return "all rows are read again when a source changes, as options.fallback says";
    case Reason::primary_keys: return "joined rows are identified by the sources' primary keys";
    case Reason::no_primary_key: return "a source has no primary key: equal rows are counted";
    case Reason::united_rows: return "rows of a union have no key: equal rows are counted";
    case Reason::repeated_rows: return "a row is there as often as a number says: equal rows are counted";
    }
    pg_unreachable();
}

Stored stored_as(const Block &block) {
    if (block.refreshes()) return Stored::refreshed;
    return block.counts_equal_rows() ? Stored::as_bag : Stored::by_key;
}

List *Block::feed() const {
    List *expressions = NIL;
    if (grouped()) {
        for (const Key &key : keys) expressions = lappend(expressions, key.expression);
        return list_concat(expressions, arguments);
    }
    for (TargetEntry *entry : pg::each<TargetEntry>(core->targetList)) expressions = lappend(expressions, entry->expr);
    return expressions;
}

namespace {

Node *put_columns(Node *node, List *columns) {
    if (node == nullptr) return nullptr;
    if (!IsA(node, Var)) return pg::mutate_children(node, put_columns, columns);
    auto *column = static_cast<TargetEntry *>(list_nth(columns, reinterpret_cast<Var *>(node)->varattno - 1));
    return pg::copy(column->expr);
}

} // namespace

Node *Block::over(const Arm &arm, Node *expression) const {
    return unites() ? put_columns(expression, arm.query->targetList) : expression;
}

List *Block::feed(const Arm &arm) const {
    List *expressions = NIL;
    for (Node *each : pg::each<Node>(feed())) expressions = lappend(expressions, over(arm, each));
    return expressions;
}

const Arm &Block::arm_of(int occurrence) const {
    const Arm *found = &arms.front();
    for (const Arm &each : arms)
        if (each.first <= occurrence) found = &each;
    return *found;
}

const Presence *Arm::presence(int occurrence) const {
    for (const Presence &each : presences)
        if (each.occurrence == occurrence) return &each;
    return nullptr;
}

bool Block::meets_itself(int source) const {
    if (is_whole()) return std::count(occurrence_source.begin(), occurrence_source.end(), source) > 1;
    for (const Arm &arm : arms) {
        int last = arm.first + arm.entries() + static_cast<int>(arm.presences.size()), times = 0;
        for (int occurrence = arm.first; occurrence < last; occurrence++)
            times += occurrence_source[occurrence - 1] == source;
        if (times > 1) return true;
    }
    return false;
}

const RangeTblEntry *Block::entry(int occurrence) const {
    if (is_whole()) return rt_fetch(traces[occurrence - 1].entry, traces[occurrence - 1].query->rtable);
    const Arm &arm = arm_of(occurrence);
    if (const Presence *presence = arm.presence(occurrence)) return rt_fetch(1, presence->rows->rtable);
    return rt_fetch(arm.entry(occurrence), arm.query->rtable);
}

namespace {

// Those of a query and of all below it.
void add_expressions(Query *query, List **all) {
    for (TargetEntry *entry : pg::each<TargetEntry>(query->targetList)) *all = lappend(*all, entry->expr);
    for (Node *each :
         {reinterpret_cast<Node *>(query->jointree), query->havingQual, query->limitCount, query->limitOffset})
        if (each) *all = lappend(*all, each);
    for (WindowClause *window : pg::each<WindowClause>(query->windowClause))
        for (Node *each : {window->startOffset, window->endOffset})
            if (each) *all = lappend(*all, each);
    for (RangeTblEntry *entry : pg::each<RangeTblEntry>(query->rtable)) {
        if (entry->rtekind == RTE_FUNCTION) *all = lappend(*all, entry->functions);
        if (entry->rtekind == RTE_TABLEFUNC) *all = lappend(*all, entry->tablefunc);
        if (entry->rtekind == RTE_VALUES) *all = lappend(*all, entry->values_lists);
        if (entry->rtekind == RTE_SUBQUERY) add_expressions(entry->subquery, all);
    }
    for (CommonTableExpr *each : pg::each<CommonTableExpr>(query->cteList))
        add_expressions(castNode(Query, each->ctequery), all);
    each_sublink(query, [&](SubLink *link) { add_expressions(castNode(Query, link->subselect), all); });
}

} // namespace

List *Block::expressions() const {
    List *all = NIL;
    if (is_whole()) {
        add_expressions(core, &all);
        return all;
    }
    auto add = [&](const Query *query) {
        for (TargetEntry *entry : pg::each<TargetEntry>(query->targetList)) all = lappend(all, entry->expr);
        if (query->jointree->quals) all = lappend(all, query->jointree->quals);
    };
    add(core);
    for (const Arm &arm : arms) {
        if (arm.query != core) add(arm.query);
        for (const Presence &presence : arm.presences) add(presence.rows);
        all = list_concat(all, arm.repeats);
    }
    return all;
}

} // namespace compile
