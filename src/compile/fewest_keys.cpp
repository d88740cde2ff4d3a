// The key of a document: a row of a whole query is told apart by the primary keys of those tables of FROM that the
// others follow from. posts JOIN users ON users.id = posts.author has a row for each post.
#include "compile/analysis.hpp"
#include "compile/columns.hpp"
#include "compile/expressions.hpp"
#include "compile/parts.hpp"
#include "compile/rewrite.hpp"

namespace compile {
namespace {

struct Equality { // a column of an entry, and what it equals
    int entry;
    AttrNumber column;
    Oid operation, collation;
    Node *other;
    Bitmapset *side; // where it is a condition of an outer join: the entries that it decides about
};

class Rows {
public:
    // Of a's core.
    explicit Rows(const Analysis &a) : a_(a) {
        missing_ = collect(reinterpret_cast<Node *>(a.core->jointree), nullptr);
        add_entries(reinterpret_cast<Node *>(a.core->jointree), &all_);
    }
    // Leaves out what is no table: how many rows it gives for theirs does not matter.
    void only_tables() {
        for (int entry = -1; (entry = bms_next_member(all_, entry)) >= 0;)
            if (rt_fetch(entry, a_.core->rtable)->rtekind != RTE_RELATION) all_ = bms_del_member(all_, entry);
    }
    // Takes columns for known.
    void know(const pg::vector<const Var *> &columns) { known_columns_ = &columns; }
    Bitmapset *fewest();
    const char *undetermined(Bitmapset *from) const;
    Bitmapset *closure(Bitmapset *from) const;
    bool all_follow_from(Bitmapset *entries) const { return bms_is_subset(all_, closure(entries)); }
    // Whether a column of the entry equals something of the known ones.
    bool is_equated(int entry, AttrNumber column, Bitmapset *known) const;
    Bitmapset *all() const { return all_; }

private:
    Bitmapset *collect(Node *item, Bitmapset *side);
    void add_equalities(Node *condition, Bitmapset *side);
    void add_equality(Node *left, Node *right, const OpExpr *of, Bitmapset *side);
    bool is_equated(int entry, AttrNumber column, Oid type, Oid collation, Bitmapset *known) const;
    bool is_known(int entry, AttrNumber column) const;
    bool group_follows(int entry, const Query *groups, Bitmapset *known) const;
    bool follows(int entry, Bitmapset *known) const;

    const Analysis &a_;
    Bitmapset *all_ = nullptr, *missing_ = nullptr;
    pg::vector<Equality> equalities_;
    const pg::vector<const Var *> *known_columns_ = nullptr;
};

// Collects what FROM, or an item of it, equates; returns the entries whose rows may be missing.
Bitmapset *Rows::collect(Node *item, Bitmapset *side) {
    if (IsA(item, RangeTblRef)) return nullptr;
    if (IsA(item, FromExpr)) {
        Bitmapset *missing = nullptr;
        for (Node *each : pg::each<Node>(castNode(FromExpr, item)->fromlist))
            missing = bms_union(missing, collect(each, side));
        add_equalities(castNode(FromExpr, item)->quals, side);
        return missing;
    }
    auto *join = castNode(JoinExpr, item);
    Bitmapset *optional = nullptr;
    if (join->jointype == JOIN_LEFT) add_entries(join->rarg, &optional);
    if (join->jointype == JOIN_RIGHT) add_entries(join->larg, &optional);
    if (join->jointype == JOIN_FULL) { // of neither side are there all rows
        add_entries(join->larg, &optional);
        add_entries(join->rarg, &optional);
        return optional;
    }
    Bitmapset *within = bms_is_empty(optional) ? side : optional;
    Bitmapset *missing = bms_union(collect(join->larg, join->jointype == JOIN_RIGHT ? within : side),
                                   collect(join->rarg, join->jointype == JOIN_LEFT ? within : side));
    add_equalities(join->quals, within);
    return bms_union(missing, optional);
}

void Rows::add_equality(Node *left, Node *right, const OpExpr *of, Bitmapset *side) {
    auto *var = reinterpret_cast<Var *>(left);
    if (!IsA(left, Var) || var->varlevelsup) return;
    equalities_.push_back({static_cast<int>(var->varno), var->varattno, of->opno, of->inputcollid, right, side});
}

void Rows::add_equalities(Node *condition, Bitmapset *side) {
    for (Node *each : pg::each<Node>(conjuncts(condition))) {
        if (!IsA(each, OpExpr)) continue;
        auto *operation = reinterpret_cast<OpExpr *>(each);
        if (list_length(operation->args) != 2) continue;
        auto *left = static_cast<Node *>(linitial(operation->args)),
             *right = static_cast<Node *>(lsecond(operation->args));
        add_equality(left, right, operation, side);
        add_equality(right, left, operation, side);
    }
}

// A subquery of one row at most.
bool is_one_row(const Query *query) {
    if (query->hasAggs && !query->groupClause && !query->groupingSets) return true;
    if (query->limitCount == nullptr) return false;
    auto *limit = reinterpret_cast<Const *>(computed(query->limitCount));
    return IsA(limit, Const) && !limit->constisnull && DatumGetInt64(limit->constvalue) <= 1;
}

bool reads_only(Node *node, Bitmapset *entries) {
    if (contain_subplans(node)) return false;
    return bms_is_subset(pull_varnos(nullptr, node), entries);
}

bool Rows::is_known(int entry, AttrNumber column) const {
    return known_columns_ && std::any_of(known_columns_->begin(), known_columns_->end(), [&](const Var *var) {
               return static_cast<int>(var->varno) == entry && var->varattno == column;
           });
}

bool Rows::is_equated(int entry, AttrNumber column, Bitmapset *known) const {
    const Var *var = column_of(rt_fetch(entry, a_.core->rtable), entry, column);
    return is_equated(entry, column, var->vartype, var->varcollid, known);
}

// Whether an operator takes for equal what a key of the type does.
bool is_equality_of(Oid operation, Oid by, Oid type, Oid collation) {
    TypeCacheEntry *cache = lookup_type_cache(type, TYPECACHE_BTREE_OPFAMILY);
    return by == collation && get_op_opfamily_strategy(operation, cache->btree_opf) == BTEqualStrategyNumber;
}

bool Rows::is_equated(int entry, AttrNumber column, Oid type, Oid collation, Bitmapset *known) const {
    for (const Equality &each : equalities_)
        if (each.entry == entry && each.column == column &&
            (bms_is_empty(each.side) || bms_is_member(entry, each.side)) &&
            is_equality_of(each.operation, each.collation, type, collation) && reads_only(each.other, known))
            return true;
    return false;
}

// Whether the groups of a subquery are told apart by what equals something of the known ones.
bool Rows::group_follows(int entry, const Query *groups, Bitmapset *known) const {
    if (!groups->groupClause || groups->groupingSets || groups->setOperations || groups->hasTargetSRFs) return false;
    for (SortGroupClause *clause : pg::each<SortGroupClause>(groups->groupClause)) {
        const TargetEntry *column = get_sortgroupclause_tle(clause, groups->targetList);
        auto *expression = reinterpret_cast<Node *>(column->expr);
        if (column->resjunk ||
            !is_equated(entry, column->resno, exprType(expression), exprCollation(expression), known))
            return false;
    }
    return true;
}

// Whether there is one row of the entry at most for a row of the known ones.
bool Rows::follows(int entry, Bitmapset *known) const {
    const RangeTblEntry *of = rt_fetch(entry, a_.core->rtable);
    if (of->rtekind == RTE_SUBQUERY) return is_one_row(of->subquery) || group_follows(entry, of->subquery, known);
    for (const TableKey &key : keys_of(of))
        if (std::all_of(key.columns.begin(), key.columns.end(), [&](AttrNumber column) {
                return (key.nulls_told && is_known(entry, column)) || is_equated(entry, column, known);
            }))
            return true;
    return false;
}

Bitmapset *Rows::closure(Bitmapset *from) const {
    Bitmapset *known = bms_copy(from);
    for (bool grown = true; grown;) {
        grown = false;
        for (int entry = -1; (entry = bms_next_member(all_, entry)) >= 0;) {
            if (bms_is_member(entry, known) || !follows(entry, known)) continue;
            known = bms_add_member(known, entry);
            grown = true;
        }
    }
    return known;
}

const char *Rows::undetermined(Bitmapset *from) const {
    int entry = bms_next_member(bms_difference(all_, closure(from)), -1);
    return entry < 0 ? nullptr : rt_fetch(entry, a_.core->rtable)->eref->aliasname;
}

Bitmapset *Rows::fewest() {
    Bitmapset *rows = nullptr;
    pg::vector<AttrNumber> key;
    for (int entry = -1; (entry = bms_next_member(all_, entry)) >= 0;) {
        const RangeTblEntry *of = rt_fetch(entry, a_.core->rtable);
        if (!bms_is_member(entry, missing_) && of->rtekind == RTE_RELATION && find_key(a_, entry, key))
            rows = bms_add_member(rows, entry);
    }
    for (int entry = list_length(a_.core->rtable); entry > 0; entry--) {
        if (!bms_is_member(entry, rows)) continue;
        Bitmapset *fewer = bms_del_member(bms_copy(rows), entry);
        if (bms_is_subset(all_, closure(fewer))) rows = fewer;
    }
    return rows;
}

} // namespace

bool equates(Node *condition, int entry, AttrNumber column) {
    if (!IsA(condition, OpExpr)) return false;
    auto *operation = reinterpret_cast<OpExpr *>(condition);
    for (Node *side : pg::each<Node>(operation->args)) {
        auto *var = reinterpret_cast<Var *>(side);
        if (!IsA(side, Var) || var->varlevelsup || static_cast<int>(var->varno) != entry || var->varattno != column)
            continue;
        return is_equality_of(operation->opno, operation->inputcollid, var->vartype, var->varcollid);
    }
    return false;
}

bool has_fewest_keys(Query *query) {
    Analysis a{query, Place{nullptr}, true, false, nullptr, nullptr};
    a.core = query;
    Rows rows(a);
    Bitmapset *fewest = rows.fewest();
    return !bms_is_empty(fewest) && rows.undetermined(fewest) == nullptr;
}

bool rows_follow_from(Query *query, const pg::vector<const Var *> &columns) {
    Analysis a{query, Place{nullptr}, true, false, nullptr, nullptr};
    a.core = query;
    Rows rows(a);
    rows.know(columns);
    return rows.all_follow_from(nullptr);
}

namespace {

// Columns of an entry's key, the primary one where there is one, that are not known yet; false where it has none.
bool need_key(const Rows &rows, const Query *query, int entry, Bitmapset *known, pg::vector<Var *> &needed) {
    const RangeTblEntry *of = rt_fetch(entry, query->rtable);
    pg::vector<TableKey> keys = keys_of(of);
    if (keys.empty()) return false;
    auto primary = std::find_if(keys.begin(), keys.end(), [](const TableKey &key) { return key.primary; });
    const TableKey &key = primary == keys.end() ? keys.front() : *primary;
    for (AttrNumber column : key.columns)
        if (!rows.is_equated(entry, column, known)) needed.push_back(column_of(of, entry, column));
    return true;
}

} // namespace

void return_fewest_keys(Query *query) {
    Analysis a{query, Place{nullptr}, true, false, nullptr, nullptr};
    a.core = query;
    Rows rows(a);
    pg::vector<Var *> needed;
    Bitmapset *known = rows.fewest();
    for (int entry = -1; (entry = bms_next_member(known, entry)) >= 0;)
        if (!need_key(rows, query, entry, nullptr, needed)) return;
    for (int entry = -1; (entry = bms_next_member(rows.all(), entry)) >= 0;) {
        if (bms_is_member(entry, rows.closure(known))) continue;
        if (!need_key(rows, query, entry, known, needed)) return;
        known = bms_add_member(known, entry);
    }
    for (Var *var : needed) {
        if (tlist_member(reinterpret_cast<Expr *>(var), query->targetList)) continue;
        const char *name = psprintf("_%s_%s", rt_fetch(var->varno, query->rtable)->eref->aliasname,
                                    get_rte_attribute_name(rt_fetch(var->varno, query->rtable), var->varattno));
        query->targetList =
            lappend(query->targetList, makeTargetEntry(reinterpret_cast<Expr *>(var),
                                                       static_cast<AttrNumber>(list_length(query->targetList) + 1),
                                                       const_cast<char *>(name), true));
    }
}

namespace {

void add_keys(Analysis &a, Rows &rows, void (*add)(Analysis &, int)) {
    Bitmapset *fewest = rows.fewest();
    if (const char *name = rows.undetermined(fewest)) a.place.refuse(Construct::undetermined_rows, -1, name);
    if (bms_is_empty(fewest)) a.place.refuse(Construct::one_document, -1);
    for (int entry = -1; (entry = bms_next_member(fewest, entry)) >= 0;) add_entry_key(a, entry, add);
}

} // namespace

void add_fewest_keys(Analysis &a) {
    Rows rows(a);
    add_keys(a, rows, add_group_key);
}

void add_tables_keys(Analysis &a) {
    Rows rows(a);
    rows.only_tables();
    add_keys(a, rows, add_slice_key);
}

} // namespace compile
