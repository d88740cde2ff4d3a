// What tells the rows of a union of joins apart, where something does: columns that in each arm are of a key, constant
// or NULL. An outer join has them, as the union that it is: with the keys of what may be missing, which are NULL there,
// or without, where its row follows from the others.
#include "compile/analysis.hpp"
#include "compile/columns.hpp"
#include "compile/expressions.hpp"
#include "pg/query.hpp"

namespace compile {
namespace {

// The columns of a union, numbered from 1, that are looked at.
using Columns = Bitmapset *;

class United {
public:
    explicit United(Analysis &a) : a_(a) {
        for (const Arm &arm : a.block->arms) arms_.push_back(&arm);
    }
    // What the query returns of the union as it is, and is of a key, constant or NULL in each arm.
    Columns candidates() const;
    bool tell_apart(Columns columns) const;

private:
    const Node *value(const Arm &arm, int column) const {
        return reinterpret_cast<Node *>(static_cast<TargetEntry *>(list_nth(arm.query->targetList, column - 1))->expr);
    }
    bool serves(const Arm &arm, int column) const;
    bool rows_follow(const Arm &arm, Columns columns) const;
    bool differ(const Arm &a, const Arm &b, Columns columns) const;
    bool is_never_null(const Arm &arm, int column) const;
    bool excludes(const Arm &having, const Arm &lacking, Columns columns) const;

    Analysis &a_;
    pg::vector<const Arm *> arms_;
};

const Var *as_var(const Node *node) { return IsA(node, Var) ? reinterpret_cast<const Var *>(node) : nullptr; }

// Whether a column is of a key of the entry that tells all its rows apart; `primary`: which is never NULL.
bool is_of_key(const Query *query, const Var *var, bool primary) {
    for (const TableKey &key : keys_of(rt_fetch(var->varno, query->rtable)))
        if ((primary ? key.primary : key.nulls_told) &&
            std::find(key.columns.begin(), key.columns.end(), var->varattno) != key.columns.end())
            return true;
    return false;
}

bool can_be_key(Oid type) {
    TypeCacheEntry *cache = lookup_type_cache(type, TYPECACHE_EQ_OPR | TYPECACHE_CMP_PROC | TYPECACHE_HASH_PROC);
    return OidIsValid(cache->eq_opr) && OidIsValid(cache->cmp_proc) && OidIsValid(cache->hash_proc);
}

bool United::serves(const Arm &arm, int column) const {
    const Node *expression = value(arm, column);
    if (IsA(expression, Const) || is_typed_null(expression)) return true;
    const Var *var = as_var(expression);
    return var && is_of_key(arm.query, var, false);
}

Columns United::candidates() const {
    Columns columns = nullptr;
    for (TargetEntry *entry : pg::each<TargetEntry>(a_.core->targetList)) {
        const Var *var = as_var(reinterpret_cast<Node *>(entry->expr));
        if (entry->resjunk || var == nullptr || !can_be_key(var->vartype)) continue;
        int column = var->varattno;
        bool all = std::all_of(arms_.begin(), arms_.end(), [&](const Arm *arm) { return serves(*arm, column); });
        if (all) columns = bms_add_member(columns, column);
    }
    return columns;
}

// Whether at most one row of the arm has the same values there.
bool United::rows_follow(const Arm &arm, Columns columns) const {
    pg::vector<const Var *> known;
    for (int column = -1; (column = bms_next_member(columns, column)) >= 0;)
        if (const Var *var = as_var(value(arm, column))) known.push_back(var);
    return rows_follow_from(arm.query, known);
}

bool United::is_never_null(const Arm &arm, int column) const {
    const Var *var = as_var(value(arm, column));
    return var && is_of_key(arm.query, var, true);
}

// Whether two constants are values that no key takes for equal.
bool are_unequal(const Node *a, const Node *b) {
    bool known = (IsA(a, Const) || is_typed_null(a)) && (IsA(b, Const) || is_typed_null(b));
    if (!known) return false;
    if (is_typed_null(a) || is_typed_null(b)) return is_typed_null(a) != is_typed_null(b);
    auto *left = reinterpret_cast<const Const *>(a), *right = reinterpret_cast<const Const *>(b);
    TypeCacheEntry *cache = lookup_type_cache(left->consttype, TYPECACHE_EQ_OPR_FINFO);
    return left->consttype == right->consttype && OidIsValid(cache->eq_opr) &&
           !DatumGetBool(
               FunctionCall2Coll(&cache->eq_opr_finfo, left->constcollid, left->constvalue, right->constvalue));
}

// Whether no row of one arm has the values of a row of the other.
bool United::differ(const Arm &a, const Arm &b, Columns columns) const {
    for (int column = -1; (column = bms_next_member(columns, column)) >= 0;) {
        const Node *left = value(a, column), *right = value(b, column);
        if (are_unequal(left, right) || (is_typed_null(left) && is_never_null(b, column)) ||
            (is_typed_null(right) && is_never_null(a, column)))
            return true;
    }
    return excludes(a, b, columns) || excludes(b, a, columns);
}

using Shared = pg::vector<std::pair<const Var *, const Var *>>;

// Entries of one arm, and for each the entry of another that has the same row where the columns have the same values.
class Same {
public:
    Same(const Arm &from, const Arm &to, const Shared &shared) : from_(from), to_(to), shared_(shared) {
        entries_.resize(static_cast<std::size_t>(from.entries()) + 1, 0);
        for (bool more = true; more;) more = find_more();
    }
    // Whether the other arm has a row, of the same table, that meets the conditions of a presence of this one.
    bool has_match(const Presence &presence);

private:
    bool find_more();
    bool is_same(int entry, int other);
    bool is_shared(int entry, int other, AttrNumber column) const;
    bool is_equated(int entry, int other, AttrNumber column);
    bool holds(Node *condition);
    static Node *put(Node *node, Same *same);

    const Arm &from_, &to_;
    const Shared &shared_;
    pg::vector<int> entries_; // of `to`; 0: not known
    int matched_ = 0;         // in a presence: what its table is
    bool unknown_ = false;
};

// An expression over `from` as one over `to`.
Node *Same::put(Node *node, Same *same) {
    if (node == nullptr) return nullptr;
    if (!IsA(node, Var)) return pg::mutate_children(node, put, same);
    auto *var = pg::copy<Var>(node);
    bool inner = same->matched_ && var->varlevelsup == 0;
    int entry = inner ? same->matched_ : same->entries_[var->varno];
    same->unknown_ |= entry == 0;
    var->varno = entry;
    var->varlevelsup = 0;
    return reinterpret_cast<Node *>(var);
}

// Whether the other arm has the condition, too.
bool Same::holds(Node *condition) {
    unknown_ = false;
    Node *there = put(condition, this);
    for (Node *each : pg::each<Node>(to_.conditions))
        if (!unknown_ && equal(each, there)) return true;
    return false;
}

bool Same::is_shared(int entry, int other, AttrNumber column) const {
    return std::any_of(shared_.begin(), shared_.end(), [&](const auto &pair) {
        return static_cast<int>(pair.first->varno) == entry && pair.first->varattno == column &&
               static_cast<int>(pair.second->varno) == other && pair.second->varattno == column;
    });
}

// Whether both arms equate the column to the same, of rows that are the same.
bool Same::is_equated(int entry, int other, AttrNumber column) {
    entries_[entry] = other;
    bool found = false;
    for (Node *each : pg::each<Node>(from_.conditions)) found = found || (equates(each, entry, column) && holds(each));
    entries_[entry] = 0;
    return found;
}

bool Same::is_same(int entry, int other) {
    const RangeTblEntry *read = rt_fetch(entry, from_.query->rtable);
    if (read->relid != rt_fetch(other, to_.query->rtable)->relid) return false;
    for (const TableKey &key : keys_of(read))
        if (std::all_of(key.columns.begin(), key.columns.end(), [&](AttrNumber column) {
                return (key.nulls_told && is_shared(entry, other, column)) || is_equated(entry, other, column);
            }))
            return true;
    return false;
}

bool Same::find_more() {
    for (int entry = 1; entry <= from_.entries(); entry++)
        for (int other = 1; entries_[entry] == 0 && other <= to_.entries(); other++)
            if (is_same(entry, other)) {
                entries_[entry] = other;
                return true;
            }
    return false;
}

bool Same::has_match(const Presence &presence) {
    Oid table = rt_fetch(1, presence.rows->rtable)->relid;
    List *conditions = conjuncts(presence.rows->jointree->quals);
    for (int entry = 1; entry <= to_.entries(); entry++) {
        if (rt_fetch(entry, to_.query->rtable)->relid != table) continue;
        matched_ = entry;
        bool all = true;
        for (Node *each : pg::each<Node>(conditions)) all = all && holds(each);
        matched_ = 0;
        if (all) return true;
    }
    return false;
}

// Whether a row of `lacking` has no match of a kind that the row of `having` with the same values has.
bool United::excludes(const Arm &having, const Arm &lacking, Columns columns) const {
    Shared shared;
    for (int column = -1; (column = bms_next_member(columns, column)) >= 0;) {
        const Var *from = as_var(value(lacking, column)), *to = as_var(value(having, column));
        if (from && to) shared.push_back({from, to});
    }
    Same same(lacking, having, shared);
    return std::any_of(lacking.presences.begin(), lacking.presences.end(),
                       [&](const Presence &presence) { return presence.negated && same.has_match(presence); });
}

bool United::tell_apart(Columns columns) const {
    if (bms_is_empty(columns)) return false;
    for (const Arm *arm : arms_)
        if (!rows_follow(*arm, columns)) return false;
    for (std::size_t i = 0; i < arms_.size(); i++)
        for (std::size_t k = i + 1; k < arms_.size(); k++)
            if (!differ(*arms_[i], *arms_[k], columns)) return false;
    return true;
}

// The first column of the core that returns one of the union.
int returning(const Analysis &a, int column) {
    for (int i = 0; i < a.block->columns(); i++) {
        const Var *var = as_var(reinterpret_cast<Node *>(a.block->column(i)->expr));
        if (var && var->varattno == column) return i;
    }
    pg_unreachable();
}

} // namespace

pg::vector<int> union_key(Analysis &a) {
    for (const Arm &arm : a.block->arms)
        if (arm.repeats != NIL) return {}; // a row may be there several times
    United united(a);
    Columns columns = united.candidates();
    if (!united.tell_apart(columns)) return {};
    pg::vector<int> key;
    for (int column = -1; (column = bms_next_member(columns, column)) >= 0;) key.push_back(returning(a, column));
    std::sort(key.begin(), key.end());
    for (std::size_t i = key.size(); i-- > 0;) { // what was appended goes first
        int column = reinterpret_cast<Var *>(a.block->column(key[i])->expr)->varattno;
        Columns fewer = bms_del_member(bms_copy(columns), column);
        if (!united.tell_apart(fewer)) continue;
        columns = fewer;
        key.erase(key.begin() + static_cast<std::ptrdiff_t>(i));
    }
    return key;
}

} // namespace compile
