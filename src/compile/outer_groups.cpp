// Groups over an outer join whose missing rows add nothing. count and sum over columns of R, grouped by columns of L,
// are the same over L JOIN R and all of L beside it, with NULLs for R: those add nothing to any aggregate, and say only
// that the group is there. So nobody has to ask whether a row of L has a match.
#include "compile/analysis.hpp"
#include "compile/expressions.hpp"
#include "compile/rewrite.hpp"

namespace compile {
namespace {

struct Without {
    Bitmapset *optional; // entries that may be missing
    Bitmapset *missing;  // the one that is asked about
};

// The expression where the entry is missing, if that is a constant; else null.
const Const *value_without(Node *expression, Bitmapset *missing) {
    if (expression == nullptr || checkExprHasSubLink(expression)) return nullptr;
    Node *value = computed(with_nulls(expression, missing));
    return IsA(value, Const) ? reinterpret_cast<Const *>(value) : nullptr;
}

bool is_not_true(const Const *value) { return value && (value->constisnull || !DatumGetBool(value->constvalue)); }

bool adds_nothing(const Aggref *aggregate, Bitmapset *missing) {
    if (is_not_true(value_without(reinterpret_cast<Node *>(aggregate->aggfilter), missing))) return true;
    if (!adds_up(aggregate) || list_length(aggregate->args) != 1) return false;
    const Const *value = value_without(folded_argument(aggregate), missing);
    return value && value->constisnull;
}

// Whether an expression reads what may be missing otherwise than in an aggregate to which that adds nothing.
bool needs_match(Node *node, Without *without) {
    if (node == nullptr) return false;
    if (IsA(node, Aggref)) return !adds_nothing(reinterpret_cast<Aggref *>(node), without->missing);
    if (IsA(node, Var))
        return reinterpret_cast<Var *>(node)->varlevelsup > 0 ||
               bms_is_member(static_cast<int>(reinterpret_cast<Var *>(node)->varno), without->optional);
    if (IsA(node, SubLink)) return true;
    return pg::walk_children(node, needs_match, without);
}

} // namespace

bool is_never_true_without(Node *condition, Bitmapset *missing) {
    for (Node *each : pg::each<Node>(conjuncts(condition)))
        if (is_not_true(value_without(each, missing))) return true;
    return false;
}

bool adds_nothing_without(const Query *query, Node *conditions, Bitmapset *optional, int entry) {
    if (!query->hasAggs || query->groupingSets) return false;
    Without without{optional, bms_make_singleton(entry)};
    return !needs_match(reinterpret_cast<Node *>(query->targetList), &without) &&
           !needs_match(query->havingQual, &without) && !needs_match(conditions, &without);
}

} // namespace compile
