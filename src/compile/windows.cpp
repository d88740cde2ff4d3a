// Windows: what they partition by, which are the slices of such a query, and their order.
//
// row_number() over rows that ORDER BY does not tell apart numbers them as they happen to be read. A projection has one
// content: such a function gets a window of its own, which is ordered by what is written, and then by all that its row
// shows. rank() and sums over ranges take such rows for equal, and keep their window.
#include "compile/analysis.hpp"
#include "pg/query.hpp"

namespace compile {
namespace {

using WindowFunctions = pg::vector<WindowFunc *>;

bool collect(Node *node, WindowFunctions *functions) {
    if (node == nullptr) return false;
    if (IsA(node, WindowFunc)) functions->push_back(reinterpret_cast<WindowFunc *>(node));
    return pg::walk_children(node, collect, functions);
}

bool is_used(const WindowClause *window, const WindowFunctions &functions) {
    for (const WindowFunc *each : functions)
        if (each->winref == window->winref) return true;
    return false;
}

void forget_unused(Query *query, const WindowFunctions &functions) {
    List *used = NIL;
    for (WindowClause *each : pg::each<WindowClause>(query->windowClause))
        if (is_used(each, functions)) used = lappend(used, each);
    query->windowClause = used;
}

bool partitions_by(const WindowClause *window, Index column) {
    for (SortGroupClause *each : pg::each<SortGroupClause>(window->partitionClause))
        if (each->tleSortGroupRef == column) return true;
    return false;
}

// A constant parts nothing.
bool is_constant(const Query *query, SortGroupClause *clause) {
    auto *expression = get_sortgroupclause_expr(clause, query->targetList);
    return !contain_var_clause(expression) && !checkExprHasSubLink(expression);
}

// What a function's result depends on, of the order of rows that its window's ORDER BY does not tell apart.
enum class Depends {
    not_at_all,
    on_order, // an order that tells them apart decides it, and changes nothing else
    on_peers  // it would change of which rows it is the result, too
};

Depends depends(const WindowFunc *function, const WindowClause *window) {
    bool built_in = function->winfnoid < FirstNormalObjectId;
    std::string_view name(built_in ? get_func_name(function->winfnoid) : "");
    for (std::string_view each : {"rank", "dense_rank", "percent_rank", "cume_dist"})
        if (name == each) return Depends::not_at_all;
    for (std::string_view each : {"row_number", "ntile", "lag", "lead"})
        if (name == each) return Depends::on_order;
    int frame = window->frameOptions;
    bool by_peers = (frame & (FRAMEOPTION_EXCLUDE_GROUP | FRAMEOPTION_EXCLUDE_TIES)) != 0;
    if (frame & FRAMEOPTION_ROWS) return by_peers ? Depends::on_peers : Depends::on_order;
    Oid type = function->args ? exprType(static_cast<Node *>(linitial(function->args))) : InvalidOid;
    // Of floats it is the last digits that depend on the order, of min and max the look of equal values.
    bool free = function->winagg && (is_free_of_order(function->winfnoid, type, function->inputcollid) ||
                                     type == FLOAT4OID || type == FLOAT8OID || name == "min" || name == "max");
    if (free) return Depends::not_at_all;
    if (window->orderClause == NIL && !by_peers && !(frame & FRAMEOPTION_NONDEFAULT))
        return Depends::on_order; // all rows
    bool from_the_first = frame & FRAMEOPTION_START_UNBOUNDED_PRECEDING;
    bool all = from_the_first && (frame & FRAMEOPTION_END_UNBOUNDED_FOLLOWING);
    return !by_peers && (all || (from_the_first && name == "first_value")) ? Depends::on_order : Depends::on_peers;
}

bool has_window_function(Node *node, void *context) {
    if (node == nullptr) return false;
    return IsA(node, WindowFunc) || pg::walk_children(node, has_window_function, context);
}

// The entry that returns an expression; one that is not returned is added where there is none.
TargetEntry *target_of(Query *query, Node *expression) {
    for (TargetEntry *each : pg::each<TargetEntry>(query->targetList))
        if (equal(each->expr, expression)) return each;
    TargetEntry *added = makeTargetEntry(pg::copy<Expr>(expression),
                                         static_cast<AttrNumber>(list_length(query->targetList) + 1), nullptr, true);
    query->targetList = lappend(query->targetList, added);
    return added;
}

// All that a row shows but what windows give, and what those functions are given.
void order_by_all(Query *query, WindowClause *window, const WindowFunctions &functions) {
    Index last = 0;
    for (TargetEntry *each : pg::each<TargetEntry>(query->targetList)) last = std::max(last, each->ressortgroupref);
    Ordering ordering{&query->targetList, &window->orderClause, last};
    pg::vector<TargetEntry *> shown;
    for (TargetEntry *each : pg::each<TargetEntry>(query->targetList))
        if (!has_window_function(reinterpret_cast<Node *>(each->expr), nullptr)) shown.push_back(each);
    for (WindowFunc *each : functions) {
        for (Node *argument : pg::each<Node>(each->args)) shown.push_back(target_of(query, argument));
        if (each->aggfilter) shown.push_back(target_of(query, reinterpret_cast<Node *>(each->aggfilter)));
    }
    for (TargetEntry *each : shown)
        if (each->ressortgroupref == 0 || !partitions_by(window, each->ressortgroupref)) ordering.add_value(each);
}

// The window's functions that depend on the order get one of their own.
void complete(Query *query, WindowClause *window, const WindowFunctions &functions) {
    auto *own = pg::copy<WindowClause>(window);
    own->name = own->refname = nullptr;
    own->copiedOrder = false;
    own->winref = 0;
    for (WindowClause *each : pg::each<WindowClause>(query->windowClause))
        own->winref = std::max(own->winref, each->winref);
    own->winref++;
    if (own->orderClause == NIL && !(own->frameOptions & FRAMEOPTION_NONDEFAULT)) // still of all rows
        own->frameOptions = FRAMEOPTION_NONDEFAULT | FRAMEOPTION_ROWS | FRAMEOPTION_BETWEEN |
                            FRAMEOPTION_START_UNBOUNDED_PRECEDING | FRAMEOPTION_END_UNBOUNDED_FOLLOWING;
    order_by_all(query, own, functions);
    query->windowClause = lappend(query->windowClause, own);
    for (WindowFunc *each : functions) each->winref = own->winref;
}

} // namespace

pg::vector<WindowFunc *> window_functions(const Query *query) {
    WindowFunctions functions;
    for (TargetEntry *each : pg::each<TargetEntry>(query->targetList))
        collect(reinterpret_cast<Node *>(each->expr), &functions);
    return functions;
}

const WindowClause *window_of(const Query *query, const WindowFunc *function) {
    for (WindowClause *each : pg::each<WindowClause>(query->windowClause))
        if (each->winref == function->winref) return each;
    pg_unreachable();
}

List *common_partition(const Query *query) {
    WindowFunctions functions = window_functions(query);
    List *common = NIL;
    bool first = true;
    for (WindowClause *window : pg::each<WindowClause>(query->windowClause)) {
        if (!is_used(window, functions)) continue;
        List *kept = NIL;
        for (SortGroupClause *each : pg::each<SortGroupClause>(first ? window->partitionClause : common))
            if (partitions_by(window, each->tleSortGroupRef) && !is_constant(query, each)) kept = lappend(kept, each);
        common = kept;
        first = false;
    }
    return common;
}

void determine_windows(Query *query, const Place &place) {
    WindowFunctions functions = window_functions(query);
    List *windows = list_copy(query->windowClause);
    for (WindowClause *window : pg::each<WindowClause>(windows)) {
        if (is_total_order(list_concat_copy(window->partitionClause, window->orderClause), query->targetList, query))
            continue;
        WindowFunctions dependent;
        for (WindowFunc *each : functions) {
            if (each->winref != window->winref) continue;
            Depends how = depends(each, window);
            if (how == Depends::on_peers)
                place.refuse(Construct::undecided_window, each->location, get_func_name(each->winfnoid));
            if (how == Depends::on_order) dependent.push_back(each);
        }
        if (!dependent.empty()) complete(query, window, dependent);
    }
    forget_unused(query, functions);
}

} // namespace compile
