// The range table of a query that keeps its form, made as the parser would make it: who prints a query looks into all
// entries, and into the columns of joins, which rewriting has changed below them.
#include "compile/rewrite.hpp"
#include "pg/query.hpp"

namespace compile {
namespace {

// The columns of an item of FROM, in order.
struct Columns {
    List *names = NIL;   // strings
    List *vars = NIL;    // of tables
    List *numbers = NIL; // within the item's own entry
};

Columns columns_of_entry(Query *query, int index) {
    Columns columns;
    RangeTblEntry *entry = rt_fetch(index, query->rtable);
    pg::expand_entry(entry, index, &columns.names, &columns.vars);
    for (Var *var : pg::each<Var>(columns.vars)) columns.numbers = lappend_int(columns.numbers, var->varattno);
    return columns;
}

// Makes the entry of each join anew; USING has become a condition.
Columns renew(Query *query, Node *item, Bitmapset **read) {
    check_stack_depth();
    if (IsA(item, RangeTblRef)) {
        int index = reinterpret_cast<RangeTblRef *>(item)->rtindex;
        *read = bms_add_member(*read, index);
        return columns_of_entry(query, index);
    }
    if (IsA(item, FromExpr)) {
        for (Node *each : pg::each<Node>(castNode(FromExpr, item)->fromlist)) renew(query, each, read);
        return {};
    }
    auto *join = castNode(JoinExpr, item);
    Columns left = renew(query, join->larg, read), right = renew(query, join->rarg, read);
    join->usingClause = NIL;
    join->isNatural = false;
    join->alias = nullptr;
    RangeTblEntry *made = makeNode(RangeTblEntry);
    made->rtekind = RTE_JOIN;
    made->jointype = join->jointype;
    made->joinaliasvars = list_concat_copy(left.vars, right.vars);
    made->joinleftcols = left.numbers;
    made->joinrightcols = right.numbers;
    made->eref = makeAlias("unnamed_join", list_concat_copy(left.names, right.names));
    made->inFromCl = true;
    query->rtable = lappend(query->rtable, made); // after what it joins, which may have been inlined since
    join->rtindex = list_length(query->rtable);
    *read = bms_add_member(*read, join->rtindex);
    Columns columns{made->eref->colnames, made->joinaliasvars, NIL};
    for (int i = 1; i <= list_length(columns.names); i++) columns.numbers = lappend_int(columns.numbers, i);
    return columns;
}

// (SELECT): what stands for a FROM without items.
Node *no_columns(Query *query) {
    RangeTblEntry *entry = makeNode(RangeTblEntry);
    entry->rtekind = RTE_SUBQUERY;
    entry->subquery = makeNode(Query);
    entry->subquery->commandType = CMD_SELECT;
    entry->subquery->canSetTag = true;
    entry->subquery->jointree = makeFromExpr(NIL, nullptr);
    entry->eref = makeAlias("one_row", NIL);
    entry->inFromCl = true;
    query->rtable = lappend(query->rtable, entry);
    return reinterpret_cast<Node *>(pg::reference_to(list_length(query->rtable)));
}

// Within joins there are joins only: what was inlined there is a FROM of its own, of a side whose rows are all kept, so
// that its condition is one of WHERE. NULL where it has no items: one row, which a join with any row is that row.
Node *as_joins(Query *query, Node *item, List **conditions) {
    check_stack_depth();
    if (IsA(item, RangeTblRef)) return item;
    if (IsA(item, JoinExpr)) {
        auto *join = castNode(JoinExpr, item);
        join->larg = as_joins(query, join->larg, conditions);
        join->rarg = as_joins(query, join->rarg, conditions);
        if (join->jointype == JOIN_INNER && join->quals == nullptr && !(join->larg && join->rarg))
            return join->larg ? join->larg : join->rarg;
        if (!join->larg) join->larg = no_columns(query);
        if (!join->rarg) join->rarg = no_columns(query);
        return item;
    }
    auto *from = castNode(FromExpr, item);
    if (from->quals) *conditions = lappend(*conditions, from->quals);
    Node *joined = nullptr;
    for (Node *each : pg::each<Node>(from->fromlist)) {
        Node *next = as_joins(query, each, conditions);
        if (joined && next) {
            JoinExpr *both = makeNode(JoinExpr);
            both->jointype = JOIN_INNER;
            both->larg = joined;
            both->rarg = next;
            next = reinterpret_cast<Node *>(both);
        }
        if (next) joined = next;
    }
    return joined;
}

// The items of FROM side by side, with one condition.
void flatten_from(Query *query, FromExpr *from, List **items, List **conditions) {
    if (from->quals) *conditions = lappend(*conditions, from->quals);
    for (Node *each : pg::each<Node>(from->fromlist))
        if (IsA(each, FromExpr))
            flatten_from(query, castNode(FromExpr, each), items, conditions);
        else if (Node *joined = as_joins(query, each, conditions))
            *items = lappend(*items, joined);
}

// What an item of FROM reads, in the order of the text.
void list_entries(Node *item, pg::vector<int> &entries) {
    if (IsA(item, RangeTblRef)) {
        entries.push_back(reinterpret_cast<RangeTblRef *>(item)->rtindex);
    } else if (IsA(item, JoinExpr)) {
        list_entries(castNode(JoinExpr, item)->larg, entries);
        list_entries(castNode(JoinExpr, item)->rarg, entries);
    } else {
        for (Node *each : pg::each<Node>(castNode(FromExpr, item)->fromlist)) list_entries(each, entries);
    }
}

// The entries in the order of the text, as they are when it is read back: what was inlined has been put last, and keys
// and traces are chosen in their order. The others follow.
void put_in_order(Query *query) {
    pg::vector<int> order;
    list_entries(reinterpret_cast<Node *>(query->jointree), order);
    int count = list_length(query->rtable);
    for (int i = 1; i <= count; i++)
        if (std::find(order.begin(), order.end(), i) == order.end()) order.push_back(i);
    OffsetVarNodes(reinterpret_cast<Node *>(query), count, 0);
    List *entries = NIL;
    for (int index : order) {
        entries = lappend(entries, rt_fetch(index, query->rtable));
        ChangeVarNodes(reinterpret_cast<Node *>(query), index + count, list_length(entries), 0);
    }
    query->rtable = entries;
}

void renew_range_table(Query *query) {
    Bitmapset *read = nullptr;
    List *items = NIL, *conditions = NIL;
    flatten_from(query, query->jointree, &items, &conditions);
    query->jointree =
        makeFromExpr(items, conditions ? reinterpret_cast<Node *>(make_ands_explicit(conditions)) : nullptr);
    put_in_order(query);
    renew(query, reinterpret_cast<Node *>(query->jointree), &read);
    for (int i = 1; i <= list_length(query->rtable); i++) {
        if (bms_is_member(i, read)) continue;
        RangeTblEntry *unread = makeNode(RangeTblEntry);
        unread->rtekind = RTE_RESULT;
        unread->eref = makeAlias("unread", NIL);
        lfirst(list_nth_cell(query->rtable, i - 1)) = unread;
    }
}

// At each level: an outer one first, as inner ones may read its columns.
bool renew_levels(Node *node, void *) {
    if (node == nullptr) return false;
    if (!IsA(node, Query)) return pg::walk_children(node, renew_levels, static_cast<void *>(nullptr));
    auto *query = castNode(Query, node);
    if (query->jointree && !query->setOperations) {
        pg::forget_groups(query);
        auto flat = [&](Node *each) { return each ? pg::flatten_joins(query, each) : nullptr; };
        query->targetList = reinterpret_cast<List *>(flat(reinterpret_cast<Node *>(query->targetList)));
        query->havingQual = flat(query->havingQual);
        query->jointree = reinterpret_cast<FromExpr *>(flat(reinterpret_cast<Node *>(query->jointree)));
        renew_range_table(query);
    }
    for (RangeTblEntry *entry : pg::each<RangeTblEntry>(query->rtable)) pg::forget_privileges(entry);
    return pg::walk_query(query, renew_levels, static_cast<void *>(nullptr), QTW_IGNORE_JOINALIASES);
}

} // namespace

void renew_entries(Query *query) { renew_levels(reinterpret_cast<Node *>(query), nullptr); }

} // namespace compile
