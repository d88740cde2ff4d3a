// Unions: a FROM that is a UNION ALL of plain SELECTs. Each of those is an arm of the block, with occurrences and terms
// of its own: what changes in one arm has nothing to do with the others. A condition over the union is one of each arm.
#include "compile/analysis.hpp"
#include "compile/expressions.hpp"
#include "compile/rewrite.hpp"
#include "pg/query.hpp"

namespace compile {
namespace {

// The SELECTs of a union, in the order of the text. Raises PJ002.
void collect_arms(const Analysis &a, Query *query, Node *item, List **arms) {
    check_stack_depth();
    if (IsA(item, RangeTblRef)) {
        Query *arm = rt_fetch(reinterpret_cast<RangeTblRef *>(item)->rtindex, query->rtable)->subquery;
        if (arm->setOperations) {
            if (const char *found = obstacle_of_union(arm)) a.place.refuse(Construct::derived_table, -1, found);
            collect_arms(a, arm, arm->setOperations, arms);
        } else
            *arms = lappend(*arms, arm);
        return;
    }
    auto *operation = castNode(SetOperationStmt, item);
    Assert(operation->op == SETOP_UNION && operation->all); // others have been rewritten
    collect_arms(a, query, operation->larg, arms);
    collect_arms(a, query, operation->rarg, arms);
}

TreeNode *add_arm(Analysis &a, Query *query, const SetOperationStmt *united, List *names) {
    if (const char *found = obstacle(query)) a.place.refuse(Construct::derived_table, -1, found);
    Analysis arm{query, a.place, a.extend, a.bag, a.is_event_source, a.block, a.parts};
    arm.before = static_cast<int>(a.block->occurrence_source.size());
    TreeNode *tree = build_joins(arm);
    int column = 0;
    for (TargetEntry *entry : pg::each<TargetEntry>(query->targetList)) {
        if (entry->resjunk) continue;
        Node *value = normalize(arm, reinterpret_cast<Node *>(entry->expr));
        value = coerce_to_target_type(nullptr, value, exprType(value), list_nth_oid(united->colTypes, column),
                                      list_nth_int(united->colTypmods, column), COERCION_IMPLICIT, COERCE_IMPLICIT_CAST,
                                      -1);
        assign_expr_collations(nullptr, value);
        arm.core->targetList = lappend(
            arm.core->targetList, makeTargetEntry(reinterpret_cast<Expr *>(value), static_cast<AttrNumber>(column + 1),
                                                  pstrdup(strVal(list_nth(names, column))), false));
        column++;
    }
    a.block->arms.push_back(make_arm(arm, tree));
    return tree;
}

Query *union_of(const Block &block, List *names, const SetOperationStmt *like) {
    Query *query = pg::make_union();
    for (const Arm &arm : block.arms) pg::add_to_union(query, arm.query, "arm", names, like);
    query->targetList = pg::copy<List>(block.arms.front().query->targetList);
    return query;
}

// A condition over the union becomes one of the arm's.
void add_condition(const Block &block, Arm &arm, TreeNode *tree, Node *condition) {
    List *conditions = conjuncts(block.over(arm, condition));
    arm.conditions = tree->conditions = list_concat(tree->conditions, conditions);
    set_quals(arm);
}

} // namespace

RangeTblEntry *united(const Analysis &a) {
    FromExpr *from = a.query->jointree;
    if (from == nullptr || list_length(from->fromlist) != 1) return nullptr;
    auto *item = static_cast<Node *>(linitial(from->fromlist));
    if (!IsA(item, RangeTblRef)) return nullptr;
    RangeTblEntry *entry = rt_fetch(reinterpret_cast<RangeTblRef *>(item)->rtindex, a.query->rtable);
    return entry->rtekind == RTE_SUBQUERY && entry->subquery->setOperations ? entry : nullptr;
}

void build_union(Analysis &a, RangeTblEntry *entry) {
    Query *query = entry->subquery;
    if (const char *found = obstacle_of_union(query)) a.place.refuse(Construct::derived_table, -1, found);
    auto *like = castNode(SetOperationStmt, query->setOperations);
    List *arms = NIL, *names = entry->eref->colnames;
    collect_arms(a, query, query->setOperations, &arms);
    Block *block = a.block;
    TreeNode *tree = block->tree = new_node(a, NodeKind::unite);
    a.over_union = true;
    a.renumbered.resize(list_length(a.query->rtable) + 1, 1);
    List *conditions = a.query->jointree->quals ? take_presences(a, a.query->jointree->quals) : NIL;
    for (Query *each : pg::each<Query>(arms)) {
        tree->inputs.push_back(add_arm(a, each, like, names));
        distribute_presences(a, block->arms.back());
    }
    if (block->occurrence_source.empty()) a.place.refuse(Construct::no_table, -1); // of constants alone

    Query *united = union_of(*block, names, like);
    Query *core = a.core = block->core = pg::select_from(pg::subquery_entry(united, entry->eref->aliasname, names));
    core->hasAggs = a.query->hasAggs;
    for (Node *each : pg::each<Node>(conditions)) {
        Node *condition = normalize(a, each);
        for (std::size_t i = 0; i < block->arms.size(); i++)
            add_condition(*block, block->arms[i], tree->inputs[i], condition);
    }
    for (const Arm &arm : block->arms) set_quals(arm);
}

void compute_constants(const Block &block) {
    for (const Arm &arm : block.arms) {
        for (Node *each : pg::each<Node>(block.feed(arm))) computed(each);
        for (Node *each : pg::each<Node>(arm.conditions)) computed(each);
    }
}

} // namespace compile
