// Joins as parts: where an outer join cannot be taken for the union that it is (outer_joins.cpp) because a side of it
// is a join, or because there are too many, that side is a table of its own.
#include "compile/parts.hpp"
#include "compile/rewrite.hpp"
#include "pg/query.hpp"

namespace compile {
namespace {

bool is_outer(const Node *item) { return IsA(item, JoinExpr) && castNode(JoinExpr, item)->jointype != JOIN_INNER; }

// Columns of some entries, as those of the part that takes their place.
struct Moved {
    Bitmapset *entries;
    const Node *item; // is not looked into: it goes along
    List *vars = NIL;
    int index = 0; // of the part; 0: columns are being collected
    const RangeTblEntry *part = nullptr;
    Index level = 0;
};

Node *move(Node *node, Moved *moved) {
    if (node == nullptr) return nullptr;
    if (node == moved->item) return moved->index ? reinterpret_cast<Node *>(pg::reference_to(moved->index)) : node;
    if (IsA(node, Query)) {
        moved->level++;
        auto *changed = reinterpret_cast<Node *>(pg::mutate_query(castNode(Query, node), move, moved));
        moved->level--;
        return changed;
    }
    if (!IsA(node, Var)) return pg::mutate_children(node, move, moved);
    auto *var = pg::copy<Var>(node);
    if (var->varlevelsup != moved->level || !bms_is_member(static_cast<int>(var->varno), moved->entries))
        return reinterpret_cast<Node *>(var);
    int number = pg::number_of(moved->vars, var);
    if (number == 0) {
        auto *copy = pg::copy<Var>(var);
        copy->varlevelsup = 0;
        moved->vars = lappend(moved->vars, copy);
        number = list_length(moved->vars);
    }
    if (moved->index == 0) return reinterpret_cast<Node *>(var);
    Var *of_part = column_of(moved->part, moved->index, number);
    of_part->varlevelsup = var->varlevelsup;
    return reinterpret_cast<Node *>(of_part);
}

// Of all that the query says but for what is joined in the item.
void move_all(Query *query, Moved *moved) {
    query->targetList = reinterpret_cast<List *>(move(reinterpret_cast<Node *>(query->targetList), moved));
    query->havingQual = move(query->havingQual, moved);
    query->jointree = castNode(FromExpr, move(reinterpret_cast<Node *>(query->jointree), moved));
    for (RangeTblEntry *entry : pg::each<RangeTblEntry>(query->rtable)) {
        if (entry->rtekind != RTE_SUBQUERY) continue;
        moved->level++; // LATERAL
        entry->subquery = pg::mutate_query(entry->subquery, move, moved);
        moved->level--;
    }
}

// Puts a part in the place of the join.
void make_part(const Cutting &cutting, Query *query, Node *item) {
    Moved moved{nullptr, item};
    add_entries(item, &moved.entries);
    move_all(query, &moved);
    for (Var *var : pg::each<Var>(moved.vars))
        if (var->varattno <= 0)
            cutting.place.refuse(var->varattno ? Construct::system_column : Construct::whole_row, var->location);

    Query *part = makeNode(Query);
    part->commandType = CMD_SELECT;
    part->canSetTag = true;
    part->rtable = pg::copy<List>(query->rtable);
    part->jointree = makeFromExpr(list_make1(pg::copy(item)), nullptr);
    if (moved.vars == NIL)
        pg::add_target(part,
                       reinterpret_cast<Node *>(makeConst(INT4OID, -1, InvalidOid, 4, Int32GetDatum(1), false, true)),
                       "one");
    for (Var *var : pg::each<Var>(moved.vars))
        pg::add_target(part, pg::copy(var), get_rte_attribute_name(rt_fetch(var->varno, query->rtable), var->varattno));
    note_sublinks(part);
    moved.part = part_entry(cutting, part, "joined");
    moved.index = add_entry(query, const_cast<RangeTblEntry *>(moved.part));
    move_all(query, &moved);
}

constexpr int most_outer_joins = 3; // each doubles the branches

// The first join that has to be a part, so that what is around it can be split; null where there is none. `top`: the
// item is all of FROM. `count`: of the outer joins of the item.
Node *find_join(Node *item, bool top, int *count) {
    check_stack_depth();
    *count = 0;
    if (IsA(item, RangeTblRef)) return nullptr;
    if (IsA(item, FromExpr)) {
        List *from = castNode(FromExpr, item)->fromlist;
        for (Node *each : pg::each<Node>(from)) {
            int inner;
            if (Node *found = find_join(each, top && list_length(from) == 1 && !IsA(each, FromExpr), &inner))
                return found;
            *count += inner;
            if (*count > most_outer_joins) return each;
        }
        return nullptr;
    }
    auto *join = castNode(JoinExpr, item);
    int left, right;
    if (Node *found = find_join(join->larg, false, &left)) return found;
    if (Node *found = find_join(join->rarg, false, &right)) return found;
    bool optional_left = join->jointype == JOIN_RIGHT || join->jointype == JOIN_FULL;
    bool optional_right = join->jointype == JOIN_LEFT || join->jointype == JOIN_FULL;
    if (optional_left && !IsA(join->larg, RangeTblRef)) return join->larg;
    if (optional_right && !IsA(join->rarg, RangeTblRef)) return join->rarg;
    if (join->jointype == JOIN_FULL && !top) return item;
    *count = left + right + (is_outer(item) ? 1 : 0);
    if (*count > most_outer_joins) return left >= right ? join->larg : join->rarg;
    return nullptr;
}

} // namespace

void cut_joins(const Cutting &cutting, Query *query) {
    int count;
    while (Node *join = find_join(reinterpret_cast<Node *>(query->jointree), true, &count))
        make_part(cutting, query, join);
}
} // namespace compile
