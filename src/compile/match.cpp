// Which rows of a presence's table match a row of the arm's FROM: where something of either is equal, the values of the
// table are keys. Rows of one row's matches have equal keys, and so has whoever changes them: that is what maintenance
// locks (maintain/presence_keys.cpp).
#include "compile/match.hpp"

#include "compile/analysis.hpp"
#include "compile/deparse.hpp"
#include "compile/term_parts.hpp"
#include "compile/terms.hpp"
#include "pg/query.hpp"

namespace compile {
namespace {

struct Levels {
    bool inner = false, outer = false;
};

bool find_levels(Node *node, Levels *found) {
    if (node == nullptr) return false;
    if (IsA(node, Var)) (reinterpret_cast<Var *>(node)->varlevelsup ? found->outer : found->inner) = true;
    return pg::walk_children(node, find_levels, found);
}

Levels levels_of(Node *node) {
    Levels found;
    find_levels(node, &found);
    return found;
}

// Whether equal values of the inner side, as GROUP BY has it, are equal to the same values of the other side.
bool is_grouping_equality(const OpExpr *comparison, Node *inner) {
    if (list_length(comparison->args) != 2) return false;
    Oid type = exprType(inner);
    TypeCacheEntry *cache = lookup_type_cache(type, TYPECACHE_EQ_OPR | TYPECACHE_BTREE_OPFAMILY | TYPECACHE_HASH_PROC);
    if (!op_strict(comparison->opno)) return false; // a NULL matches nothing
    if (!OidIsValid(cache->eq_opr) || !OidIsValid(cache->btree_opf) || !OidIsValid(cache->hash_proc)) return false;
    if (get_op_opfamily_strategy(comparison->opno, cache->btree_opf) != BTEqualStrategyNumber) return false;
    return comparison->inputcollid == exprCollation(inner);
}

bool add_equality(Match &match, Node *condition) {
    if (!IsA(condition, OpExpr)) return false;
    auto *comparison = reinterpret_cast<OpExpr *>(condition);
    if (list_length(comparison->args) != 2) return false;
    Node *sides[] = {static_cast<Node *>(linitial(comparison->args)), static_cast<Node *>(lsecond(comparison->args))};
    for (int i = 0; i < 2; i++) {
        Levels here = levels_of(sides[i]), there = levels_of(sides[1 - i]);
        if (here.outer || there.inner || !here.inner || !there.outer) continue;
        if (!is_grouping_equality(comparison, sides[i])) return false;
        match.equal.push_back({comparison, sides[1 - i], sides[i]});
        return true;
    }
    return false;
}

} // namespace

Match match_of(const Presence &presence) {
    Match match;
    for (Node *each : pg::each<Node>(make_ands_implicit(reinterpret_cast<Expr *>(presence.rows->jointree->quals)))) {
        Levels levels = levels_of(each);
        if (!levels.outer)
            match.inner = lappend(match.inner, each);
        else if (!levels.inner)
            match.outer = lappend(match.outer, each);
        else if (!add_equality(match, each))
            match.mixed = lappend(match.mixed, each);
    }
    return match;
}

namespace {

// A presence's table with what it is asked by: its keys, and then the columns that other conditions read.
Query *asked_rows(const Presence &presence, const Match &match) {
    auto *query = static_cast<Query *>(copyObjectImpl(presence.rows));
    query->jointree->quals = match.inner ? reinterpret_cast<Node *>(make_ands_explicit(match.inner)) : nullptr;
    for (const Equal &each : match.equal) pg::add_target(query, each.inner, "key");
    for (Var *var : pg::each<Var>(pull_vars_of_level(reinterpret_cast<Node *>(match.mixed), 0)))
        pg::add_target(query, reinterpret_cast<Node *>(var), "other");
    return static_cast<Query *>(copyObjectImpl(query));
}

MatchKey key_of(const Block &block, const Equal &equal) {
    MatchKey key{equal.inner, 0, equal.comparison->opno, equal.comparison->inputcollid, {}};
    if (IsA(equal.inner, Var)) key.column = reinterpret_cast<Var *>(equal.inner)->varattno;
    TypeCacheEntry *cache = lookup_type_cache(exprType(equal.inner), TYPECACHE_HASH_PROC);
    fmgr_info_cxt(cache->hash_proc, &key.hash, block.memory);
    return key;
}

bool same_keys(const Presence &a, const Presence &b) {
    if (a.keys.size() != b.keys.size()) return false;
    for (std::size_t i = 0; i < a.keys.size(); i++)
        if (!::equal(a.keys[i].value, b.keys[i].value)) return false;
    return true;
}

// The occurrence of the first presence of that table with the same keys.
void find_class(const Block &block, Presence &presence) {
    int source = block.occurrence_source[presence.occurrence - 1];
    presence.lock_class = presence.occurrence;
    for (const Arm &arm : block.arms)
        for (const Presence &other : arm.presences) {
            if (other.occurrence >= presence.occurrence) return;
            if (block.occurrence_source[other.occurrence - 1] != source || !same_keys(other, presence)) continue;
            presence.lock_class = std::min(presence.lock_class, other.lock_class);
            presence.asked_before |= ::equal(other.asked, presence.asked);
        }
}

} // namespace

void find_presence_keys(Block &block) {
    for (Arm &arm : block.arms)
        for (Presence &presence : arm.presences) {
            Match match = match_of(presence);
            for (const Equal &each : match.equal) presence.keys.push_back(key_of(block, each));
            presence.asked = asked_rows(presence, match);
            find_class(block, presence);
        }
}

const char *presence_keys_text(const Block &block, const Presence &presence) {
    auto *query = static_cast<Query *>(copyObjectImpl(presence.asked));
    replace_entry(query, 1, psprintf("delta_%d", block.occurrence_source[presence.occurrence - 1]));
    add_weight(query, 1, rt_fetch(1, presence.rows->rtable)->relid);
    return deparse(query);
}

} // namespace compile
