// The join tree of a query in normal form, found by walking its FROM, and the core: the same as a flat query, which has
// only inner joins to express, so that ON and WHERE mean the same; DISTINCT becomes GROUP BY.
#include "compile/analysis.hpp"
#include "compile/canonical.hpp"
#include "compile/columns.hpp"
#include "compile/rewrite.hpp"
#include "pg/own_schema.hpp"
#include "pg/query.hpp"

namespace compile {

int source_index(const Place &place, Block *block, Oid relation) {
    for (std::size_t i = 0; i < block->sources.size(); i++)
        if (block->sources[i].relation == relation) return static_cast<int>(i);
    if (block->sources.size() == max_tables) place.refuse(Construct::too_many_sources, -1, psprintf("%d", max_tables));
    block->sources.push_back(Source{relation, {}});
    return static_cast<int>(block->sources.size()) - 1;
}

void note_used(Source &source, AttrNumber column) {
    auto at = std::lower_bound(source.used.begin(), source.used.end(), column);
    if (at == source.used.end() || *at != column) source.used.insert(at, column);
}

namespace {

// A table as it is read here; its occurrences are numbered as the walk meets them.
TreeNode *add_leaf(Analysis &a, int index) {
    auto *entry = static_cast<RangeTblEntry *>(list_nth(a.query->rtable, index - 1));
    check_entry(a, entry);
    if (list_length(a.core->rtable) == max_sources)
        a.place.refuse(Construct::too_many_sources, -1, psprintf("%d", max_sources));

    RangeTblEntry *copy = pg::copy<RangeTblEntry>(entry);
    copy->inFromCl = true;
    pg::forget_privileges(copy);
    a.core->rtable = lappend(a.core->rtable, copy);
    TreeNode *leaf = new_node(a, NodeKind::leaf);
    a.renumbered[index] = list_length(a.core->rtable);
    leaf->occurrence = a.before + a.renumbered[index];
    a.block->occurrence_source.push_back(source_index(a.place, a.block, entry->relid));
    return leaf;
}

// Inner joins below one another are one node: in which order they are written means nothing.
void add_inputs(Analysis &a, Node *item, TreeNode *to) {
    if (IsA(item, RangeTblRef)) {
        int index = reinterpret_cast<RangeTblRef *>(item)->rtindex;
        if (is_repeat(a.query, index))
            a.repeats = lappend_int(a.repeats, index);
        else
            to->inputs.push_back(add_leaf(a, index));
    } else if (IsA(item, JoinExpr)) {
        auto *join = castNode(JoinExpr, item);
        if (join->jointype != JOIN_INNER)
            a.place.refuse(Construct::outer_join, -1, "outer joins below a union are not");
        add_inputs(a, join->larg, to);
        add_inputs(a, join->rarg, to);
        if (join->quals) to->conditions = lappend(to->conditions, join->quals);
    } else {
        auto *from = castNode(FromExpr, item);
        for (Node *each : pg::each<Node>(from->fromlist)) add_inputs(a, each, to);
        if (from->quals) to->conditions = lappend(to->conditions, from->quals);
    }
}

// Vars of the server's range table → Vars of core's, which also drops joins' aliases and notes the columns used.
Node *renumber(Node *node, Analysis *a) {
    if (node == nullptr) return nullptr;
    if (IsA(node, SubLink)) a->place.refuse(Construct::sublink, reinterpret_cast<SubLink *>(node)->location);
    if (IsA(node, Var)) {
        Var *var = pg::copy<Var>(node);
        if (var->varattno <= 0)
            a->place.refuse(var->varattno == 0 ? Construct::whole_row : Construct::system_column, var->location);
        var->varno = a->renumbered[var->varno];
        pg::forget_nulling(var);
        var->varnosyn = 0;
        var->varattnosyn = 0;
        if (a->over_union) return reinterpret_cast<Node *>(var);
        note_used(a->block->sources[a->block->occurrence_source[a->before + var->varno - 1]], var->varattno);
        return reinterpret_cast<Node *>(var);
    }
    return pg::mutate_children(node, renumber, a);
}

const char *unique_name(const Query *core, const char *wanted) {
    for (int n = 1;; n++) {
        char suffix[16] = "";
        if (n > 1) snprintf(suffix, sizeof suffix, "_%d", n);
        char *name = pstrdup(wanted);
        name[pg_mbcliplen(name, static_cast<int>(strlen(name)), static_cast<int>(NAMEDATALEN - 1 - strlen(suffix)))] =
            '\0';
        name = psprintf("%s%s", name, suffix);
        bool taken = false;
        for (TargetEntry *entry : pg::each<TargetEntry>(core->targetList))
            taken |= entry->resname && strcmp(entry->resname, name) == 0;
        if (!taken) return name;
    }
}

} // namespace

Node *normalize(Analysis &a, Node *node) {
    node = pg::flatten_groups(a.query, node);
    return renumber(canonical(pg::flatten_joins(a.query, node), a.place), &a);
}

int append_column(Analysis &a, Expr *expression, const char *name) {
    if (!a.extend) // compared at create: see declare/declare.cpp
        ereport(ERROR, (errcode(pg::error::unsupported_query),
                        errmsg("this query cannot be a projection: what is stored of it lacks column \"%s\"", name),
                        errdetail("An expression reads back otherwise than it was written."),
                        errhint("Write the casts and operators of the expression out.")));
    int index = ExecCleanTargetListLength(a.core->targetList);
    TargetEntry *appended = makeTargetEntry(expression, static_cast<AttrNumber>(index + 1),
                                            const_cast<char *>(unique_name(a.core, name)), false);
    a.core->targetList = list_insert_nth(a.core->targetList, index, appended); // before what only orders
    for (int i = index + 1; i < list_length(a.core->targetList); i++)
        static_cast<TargetEntry *>(list_nth(a.core->targetList, i))->resno = static_cast<AttrNumber>(i + 1);
    return index;
}

const char *expression_name(const Analysis &a, Node *expression) {
    if (IsA(expression, Var)) {
        auto *var = reinterpret_cast<Var *>(expression);
        return get_rte_attribute_name(rt_fetch(var->varno, a.core->rtable), var->varattno);
    }
    return "key";
}

namespace {

// Groups by a returned column that equals a GROUP BY expression but was not taken for it (a literal of a type not yet
// known then): read back from its text, the definition would group by that column.
bool group_by_equal_column(Query *core, const TargetEntry *grouped) {
    for (TargetEntry *entry : pg::each<TargetEntry>(core->targetList)) {
        if (!equal(entry->expr, grouped->expr) || entry->ressortgroupref != 0) continue;
        entry->ressortgroupref = grouped->ressortgroupref;
        return true;
    }
    return false;
}

} // namespace

TreeNode *new_node(const Analysis &a, NodeKind kind) {
    TreeNode *node = pg::make<TreeNode>(a.block->memory);
    node->kind = kind;
    return node;
}

TreeNode *build_joins(Analysis &a) {
    Query *core = a.core = makeNode(Query);
    core->commandType = CMD_SELECT;
    core->canSetTag = true;
    core->hasAggs = a.query->hasAggs;
    a.renumbered.resize(list_length(a.query->rtable) + 1, 0);
    TreeNode *tree = new_node(a, NodeKind::inner);
    if (a.query->jointree) add_inputs(a, reinterpret_cast<Node *>(a.query->jointree), tree);

    List *references = NIL;
    for (const TreeNode *leaf : tree->inputs)
        references = lappend(references, pg::reference_to(leaf->occurrence - a.before));
    List *conditions = NIL;
    for (Node *written : pg::each<Node>(tree->conditions))
        for (Node *condition : pg::each<Node>(take_presences(a, written)))
            conditions = list_concat(conditions, conjuncts(normalize(a, condition)));
    tree->conditions = conditions;
    core->jointree = makeFromExpr(references, nullptr);
    add_repeats(a);
    return tree;
}

Arm make_arm(Analysis &a, const TreeNode *tree) {
    Arm arm{a.core, a.before + 1, tree->conditions};
    arm.repeats = repeats_of(a.core);
    add_presences(a, arm);
    set_quals(arm);
    return arm;
}

// The tree, whose conditions are in canonical form, and the query over its leaves.
void build_tree(Analysis &a) {
    if (RangeTblEntry *entry = united(a)) {
        build_union(a, entry);
        return;
    }
    a.block->tree = build_joins(a);
    if (a.block->tree->inputs.empty()) a.place.refuse(Construct::no_table, -1);
    a.block->core = a.core;
    a.block->arms.push_back(make_arm(a, a.block->tree));
}

// The user's columns first, then what is grouped by.
void build_columns(Analysis &a) {
    Query *core = a.core;
    List *junk = NIL;
    for (TargetEntry *entry : pg::each<TargetEntry>(a.query->targetList)) {
        auto *copy = static_cast<TargetEntry *>(palloc(sizeof(TargetEntry)));
        *copy = *entry;
        copy->expr = reinterpret_cast<Expr *>(normalize(a, reinterpret_cast<Node *>(entry->expr)));
        if (entry->resjunk) {
            junk = lappend(junk, copy);
            continue;
        }
        copy->resno = static_cast<AttrNumber>(list_length(core->targetList) + 1);
        core->targetList = lappend(core->targetList, copy);
    }
    if (a.extend) a.block->user_columns = list_length(core->targetList);
    if (a.extend) check_columns(core, a.block->user_columns, a.place);
    // A GROUP BY expression that the SELECT list lacks is still the key.
    for (TargetEntry *entry : pg::each<TargetEntry>(junk)) {
        if (group_by_equal_column(core, entry)) continue;
        const char *name = entry->resname ? entry->resname
                                          : psprintf("_%s", expression_name(a, reinterpret_cast<Node *>(entry->expr)));
        int column = append_column(a, entry->expr, name);
        a.block->column(column)->ressortgroupref = entry->ressortgroupref;
    }
    core->groupClause = pg::copy<List>(a.query->groupClause ? a.query->groupClause : a.query->distinctClause);
}

} // namespace compile
