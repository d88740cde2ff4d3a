// Groups and distinct values below: HAVING, DISTINCT over groups and subqueries beside aggregates read the groups as
// rows; an aggregate with DISTINCT is a plain one over the distinct values.
#include "compile/analysis.hpp"
#include "compile/expressions.hpp"
#include "compile/parts.hpp"
#include "compile/rewrite.hpp"
#include "pg/query.hpp"

namespace compile {
namespace {

bool is_grouped(const Query *query) { return query->groupClause || query->hasAggs || query->havingQual; }

// What the query over the groups reads of them: grouped expressions and aggregates, each once.
struct Pieces {
    const Query *query; // the grouped one, before
    List *expressions = NIL;
    Index level = 0;

    int number_of(Node *piece) {
        int number = 0;
        for (Node *each : pg::each<Node>(expressions)) {
            number++;
            if (equal(each, piece)) return number;
        }
        expressions = lappend(expressions, piece);
        return number + 1;
    }
};

bool is_grouped_expression(const Query *query, Node *node) {
    for (SortGroupClause *clause : pg::each<SortGroupClause>(query->groupClause))
        if (equal(get_sortgroupclause_expr(clause, query->targetList), node)) return true;
    return false;
}

Node *piece(Node *expression, Pieces *pieces) {
    auto *copy = pg::copy(expression);
    if (pieces->level > 0) IncrementVarSublevelsUp(copy, -static_cast<int>(pieces->level), pieces->level);
    Var *var = makeVar(1, static_cast<AttrNumber>(pieces->number_of(copy)), exprType(copy), exprTypmod(copy),
                       exprCollation(copy), pieces->level);
    return reinterpret_cast<Node *>(var);
}

Node *over_groups(Node *node, Pieces *pieces) {
    if (node == nullptr) return nullptr;
    if (IsA(node, Query)) {
        pieces->level++;
        auto *changed = reinterpret_cast<Node *>(pg::mutate_query(castNode(Query, node), over_groups, pieces));
        pieces->level--;
        return changed;
    }
    if (pieces->level == 0 && is_grouped_expression(pieces->query, node)) return piece(node, pieces);
    if (IsA(node, Aggref) && reinterpret_cast<Aggref *>(node)->agglevelsup == pieces->level) return piece(node, pieces);
    if (IsA(node, Var) && reinterpret_cast<Var *>(node)->varlevelsup == pieces->level) return piece(node, pieces);
    return pg::mutate_children(node, over_groups, pieces);
}

// Subqueries beside aggregates; those within their arguments, or in what is grouped by, read the rows.
bool has_sublink(Node *node, Query *query) {
    if (node == nullptr || IsA(node, Aggref) || is_grouped_expression(query, node)) return false;
    if (IsA(node, SubLink)) return true;
    return pg::walk_children(node, has_sublink, query);
}

bool has_sublink(Query *query) {
    return query->hasSubLinks &&
           (has_sublink(reinterpret_cast<Node *>(query->targetList), query) || has_sublink(query->havingQual, query));
}

bool asks_of_groups(Node *node, void *context) {
    if (node == nullptr) return false;
    if (IsA(node, Aggref) || IsA(node, SubLink) || IsA(node, GroupingFunc)) return true;
    return pg::walk_children(node, asks_of_groups, context);
}

// A condition of HAVING that asks nothing of a group but its key holds for each of its rows, or for none.
void having_to_where(Query *query) {
    if (!query->groupClause || query->groupingSets) return;
    List *kept = NIL;
    for (Node *each : pg::each<Node>(make_ands_implicit(reinterpret_cast<Expr *>(query->havingQual))))
        if (asks_of_groups(each, nullptr) || contain_volatile_functions(each))
            kept = lappend(kept, each);
        else
            query->jointree->quals = make_and_qual(query->jointree->quals, each);
    query->havingQual = kept ? reinterpret_cast<Node *>(make_ands_explicit(kept)) : nullptr;
}

const char *name_of(const Query *query, Node *expression) {
    for (TargetEntry *entry : pg::each<TargetEntry>(query->targetList))
        if (equal(entry->expr, expression)) return entry->resname;
    if (IsA(expression, Aggref)) return get_func_name(reinterpret_cast<Aggref *>(expression)->aggfnoid);
    if (IsA(expression, Var)) {
        auto *var = reinterpret_cast<Var *>(expression);
        return get_rte_attribute_name(rt_fetch(var->varno, query->rtable), var->varattno);
    }
    return "key";
}

// Whether what is asked of the groups refers to a column, returned or not.
bool is_kept(const Query *query, const TargetEntry *entry) {
    return is_among(entry, query->distinctClause) || (query->hasDistinctOn && is_among(entry, query->sortClause)) ||
           is_of_window(entry, query);
}

} // namespace

Query *split_groups(const Cutting &cutting, Query *query) {
    if (query->groupingSets || query->hasTargetSRFs) return nullptr;
    if (query->havingQual) having_to_where(query);
    if (!is_grouped(query)) return nullptr;
    if (!query->havingQual && !query->distinctClause && !query->hasWindowFuncs && !has_sublink(query)) return nullptr;
    if (query->limitCount || query->limitOffset || query->rowMarks) return nullptr;

    Pieces pieces{query};
    List *targets = NIL;
    for (TargetEntry *entry : pg::each<TargetEntry>(query->targetList)) {
        bool kept = is_kept(query, entry);
        if (entry->resjunk && !kept) continue;
        auto *copy = static_cast<TargetEntry *>(palloc(sizeof(TargetEntry)));
        *copy = *entry;
        copy->expr = reinterpret_cast<Expr *>(over_groups(reinterpret_cast<Node *>(entry->expr), &pieces));
        if (!kept) copy->ressortgroupref = 0;
        targets = lappend(targets, copy);
    }
    Node *condition = over_groups(query->havingQual, &pieces);
    // A group that is read for no column of it is still a row.
    for (SortGroupClause *clause : pg::each<SortGroupClause>(query->groupClause))
        pieces.number_of(pg::copy(get_sortgroupclause_expr(clause, query->targetList)));

    auto *groups = pg::copy<Query>(query);
    groups->targetList = groups->groupClause = groups->distinctClause = groups->sortClause = groups->windowClause = NIL;
    groups->hasWindowFuncs = groups->hasDistinctOn = false;
    groups->havingQual = nullptr;
    for (Node *each : pg::each<Node>(pieces.expressions)) {
        int column = pg::add_target(groups, each, name_of(query, each));
        if (is_grouped_expression(query, each)) group_by(cutting, groups, column);
    }
    if (groups->targetList == NIL) { // SELECT 1 FROM t HAVING true
        pg::add_target(groups, count_rows(), "count");
        groups->hasAggs = true;
    }
    note_sublinks(groups);

    Query *outer = pg::select_from(pg::subquery_entry(groups, "groups", pg::column_names(groups)));
    outer->targetList = targets;
    outer->distinctClause = query->distinctClause;
    outer->hasDistinctOn = query->hasDistinctOn;
    outer->hasWindowFuncs = query->hasWindowFuncs;
    if (query->hasDistinctOn) outer->sortClause = query->sortClause;
    outer->windowClause = query->windowClause;
    outer->jointree->quals = condition;
    note_sublinks(outer);
    return outer;
}

// --------------------------------------------------------------------------------------------------- DISTINCT within
namespace {

using pg::copy;

// An argument with its FILTER: what does not pass is NULL, which no aggregate with DISTINCT counts.
Node *filtered(const Aggref *aggregate) {
    auto *argument = copy(static_cast<TargetEntry *>(linitial(aggregate->args))->expr);
    if (aggregate->aggfilter == nullptr) return argument;
    return when(copy(aggregate->aggfilter), argument);
}

// What is added up of groups' sums: the aggregate over an aggregate's results, by name and the type of those.
struct Again {
    const char *plain, *over;
};
constexpr Again again[] = {{"count", "sum"},         {"sum", "sum"},         {"min", "min"},       {"max", "max"},
                           {"bool_and", "bool_and"}, {"bool_or", "bool_or"}, {"every", "bool_and"}};

const char *again_of(const Aggref *aggregate) {
    if (get_func_namespace(aggregate->aggfnoid) != PG_CATALOG_NAMESPACE) return nullptr;
    const char *name = get_func_name(aggregate->aggfnoid);
    for (const Again &each : again)
        if (strcmp(each.plain, name) == 0) return each.over;
    return nullptr;
}

// Whether what an aggregate gives for parts of its rows gives what it is for all.
bool is_added_again(const Aggref *aggregate) {
    Oid type = aggregate->aggtype;
    return again_of(aggregate) ||
           (aggregate->aggfnoid < FirstNormalObjectId && strcmp(get_func_name(aggregate->aggfnoid), "avg") == 0 &&
            (type == NUMERICOID || type == FLOAT8OID));
}

struct Column { // of the values' union: in which of its SELECTs, and what
    int arm;
    Node *expression;
};

struct Distinct {
    const Cutting &cutting;
    const Query *query;
    List *keys = NIL;   // grouped expressions
    List *values = NIL; // distinct arguments: one SELECT each
    pg::vector<Column> columns = {};

    int number_of(int arm, Node *expression) {
        for (std::size_t i = 0; i < columns.size(); i++)
            if (columns[i].arm == arm && equal(columns[i].expression, expression)) return static_cast<int>(i) + 1;
        columns.push_back({arm, expression});
        return static_cast<int>(columns.size());
    }
    int value_number(Node *value) {
        int number = 0;
        for (Node *each : pg::each<Node>(values)) {
            if (equal(each, value)) return number;
            number++;
        }
        values = lappend(values, value);
        return number;
    }
    Node *var(int arm, Node *expression) {
        int number = list_length(keys) + number_of(arm, expression);
        return reinterpret_cast<Node *>(makeVar(1, static_cast<AttrNumber>(number), exprType(expression),
                                                exprTypmod(expression), exprCollation(expression), 0));
    }
};

// A plain aggregate over the same values.
Node *like(const Aggref *aggregate, const char *name) {
    Node *made =
        compile::aggregate(name, reinterpret_cast<Node *>(static_cast<TargetEntry *>(linitial(aggregate->args))->expr));
    castNode(Aggref, made)->aggfilter = pg::copy<Expr>(aggregate->aggfilter);
    return made;
}

// avg as all sums over all counts; null for what is divided otherwise.
Node *average(Distinct &of, const Aggref *aggregate) {
    Oid type = aggregate->aggtype;
    if (type != NUMERICOID && type != FLOAT8OID) return nullptr;
    Node *sum = compile::aggregate("sum", of.var(0, like(aggregate, "sum")));
    Node *count = compile::aggregate("sum", of.var(0, like(aggregate, "count")));
    return operation("/", cast_to(sum, type), cast_to(count, type));
}

// An aggregate without DISTINCT, added up once more over the values.
Node *added_up(Distinct &of, const Aggref *aggregate) {
    bool built_in = get_func_namespace(aggregate->aggfnoid) == PG_CATALOG_NAMESPACE;
    if (built_in && strcmp(get_func_name(aggregate->aggfnoid), "avg") == 0)
        if (Node *made = average(of, aggregate)) return made;
    const char *over = again_of(aggregate);
    if (over == nullptr)
        of.cutting.place.refuse(Construct::distinct_aggregate, aggregate->location, get_func_name(aggregate->aggfnoid));
    auto *plain = copy(aggregate);
    Node *sum = compile::aggregate(over, of.var(0, plain));
    if (exprType(sum) != aggregate->aggtype)
        sum = coerce_to_target_type(nullptr, sum, exprType(sum), aggregate->aggtype, -1, COERCION_EXPLICIT,
                                    COERCE_EXPLICIT_CAST, -1);
    if (strcmp(get_func_name(aggregate->aggfnoid), "count") != 0 || of.query->groupClause) return sum;
    // Of no row at all.
    return coalesce(sum, bigint_constant(0));
}

Node *over_values(Node *node, Distinct *of) {
    if (node == nullptr) return nullptr;
    int number = 0;
    for (Node *key : pg::each<Node>(of->keys)) {
        number++;
        if (equal(key, node))
            return reinterpret_cast<Node *>(
                makeVar(1, static_cast<AttrNumber>(number), exprType(key), exprTypmod(key), exprCollation(key), 0));
    }
    if (IsA(node, Aggref)) {
        auto *aggregate = reinterpret_cast<Aggref *>(node);
        if (aggregate->aggdistinct == NIL) return added_up(*of, aggregate);
        Node *value = filtered(aggregate);
        auto *plain = pg::copy<Aggref>(aggregate);
        plain->aggdistinct = plain->aggorder = NIL;
        plain->aggfilter = nullptr;
        auto *argument = static_cast<TargetEntry *>(linitial(plain->args));
        argument->ressortgroupref = 0;
        argument->expr = reinterpret_cast<Expr *>(of->var(of->value_number(value), value));
        return reinterpret_cast<Node *>(plain);
    }
    return pg::mutate_children(node, over_values, of);
}

struct Found {
    bool distinct = false, unusual = false;
    bool anew = false; // some other is neither added up nor taken over distinct values
};

bool find_distinct(Node *node, Found *found) {
    if (node == nullptr) return false;
    if (!IsA(node, Aggref)) return pg::walk_children(node, find_distinct, found);
    auto *aggregate = reinterpret_cast<Aggref *>(node);
    if (aggregate->aggdistinct) {
        found->distinct = true;
        found->unusual |= list_length(aggregate->args) != 1;
    }
    found->anew |= !adds_up(aggregate) || (aggregate->aggdistinct == NIL && !is_added_again(aggregate));
    return false;
}

// What a grouped primary key determines is a key, too.
void collect_determined(Node *node, Distinct *of) {
    struct Walk {
        static bool step(Node *each, Distinct *to) {
            if (each == nullptr || IsA(each, Aggref)) return false;
            for (Node *key : pg::each<Node>(to->keys))
                if (equal(key, each)) return false;
            if (IsA(each, Var)) {
                to->keys = lappend(to->keys, copy(each));
                return false;
            }
            return pg::walk_children(each, step, to);
        }
    };
    Walk::step(node, of);
}

// SELECT keys, one distinct value and, in the first, plain aggregates FROM … GROUP BY keys, value.
Query *arm_of(const Distinct &of, int arm) {
    auto *made = pg::copy<Query>(of.query);
    made->targetList = made->groupClause = NIL;
    made->hasAggs = false;
    for (Node *key : pg::each<Node>(of.keys))
        group_by(of.cutting, made, pg::add_target(made, copy(key), name_of(of.query, key)));
    auto *value = static_cast<Node *>(list_nth(of.values, arm));
    for (const Column &column : of.columns) {
        bool here = column.arm == arm;
        Node *expression = here ? copy(column.expression)
                                : typed_null(exprType(column.expression), exprTypmod(column.expression),
                                             exprCollation(column.expression));
        int number = pg::add_target(
            made, expression, here && equal(column.expression, value) ? "value" : name_of(of.query, column.expression));
        made->hasAggs |= here && IsA(expression, Aggref);
        // A group has a constant once, and its text could mean another column that is the same constant.
        bool once = of.keys && IsA(value, Const);
        if (here && !once && equal(column.expression, value)) group_by(of.cutting, made, number);
    }
    note_sublinks(made);
    return made;
}

Query *values_of(const Distinct &of) {
    if (list_length(of.values) == 1) return arm_of(of, 0);
    Query *united = pg::make_union();
    SetOperationStmt *types = nullptr;
    for (int arm = 0; arm < list_length(of.values); arm++) {
        // Grouped; what it lacks is added over it.
        Query *query = arm_of(of, arm);
        if (types == nullptr) {
            types = pg::column_types(query->targetList);
            united->targetList = pg::copy<List>(query->targetList);
        }
        pg::add_to_union(united, query, "values", pg::column_names(query), types);
    }
    return united;
}

} // namespace

Query *split_distinct(const Cutting &cutting, Query *query) {
    if (!query->hasAggs || query->groupingSets || query->hasWindowFuncs) return nullptr;
    Found found;
    find_distinct(reinterpret_cast<Node *>(query->targetList), &found);
    if (!found.distinct || found.unusual) return nullptr;
    if (query->groupClause && found.anew)
        return nullptr; // a slice, whose other aggregates may as well be computed anew
    Distinct of{cutting, query};
    for (SortGroupClause *clause : pg::each<SortGroupClause>(query->groupClause))
        of.keys = lappend(of.keys, copy(get_sortgroupclause_expr(clause, query->targetList)));
    for (TargetEntry *entry : pg::each<TargetEntry>(query->targetList))
        collect_determined(reinterpret_cast<Node *>(entry->expr), &of);
    List *targets = NIL;
    for (TargetEntry *entry : pg::each<TargetEntry>(query->targetList)) {
        auto *changed = static_cast<TargetEntry *>(palloc(sizeof(TargetEntry)));
        *changed = *entry;
        changed->expr = reinterpret_cast<Expr *>(over_values(reinterpret_cast<Node *>(entry->expr), &of));
        targets = lappend(targets, changed);
    }
    Query *values = values_of(of);
    Query *outer = pg::select_from(pg::subquery_entry(values, "values", pg::column_names(values)));
    outer->targetList = targets;
    outer->groupClause = query->groupClause;
    outer->hasAggs = true;
    for (int number = list_length(query->groupClause); number < list_length(of.keys); number++) {
        Node *key = static_cast<Node *>(list_nth(of.keys, number));
        int column = pg::add_target(outer, over_values(key, &of), nullptr);
        static_cast<TargetEntry *>(llast(outer->targetList))->resjunk = true;
        group_by(cutting, outer, column);
    }
    return outer;
}

} // namespace compile
