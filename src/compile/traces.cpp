// Traces: from a changed row to the keys of the slices that it is in.
//
// A table may stand anywhere in such a query: in FROM, below a subquery in an expression, in LATERAL. A changed row of
// it concerns the rows of the query that fulfil the conditions on the way: WHERE and ON of inner joins at each level,
// and ON of an outer join whose side it is on. A condition that asks something else is left out, and so is each table
// that is not on the shortest way to the key: a trace may tell too many keys, as these are read again and compared, but
// none too few. Conditions with a side that may be missing count where NULL fulfils them never.
//
// Where a column of the changed row equals the key, it is the key, and nothing is joined.
#include "compile/analysis.hpp"
#include "compile/expressions.hpp"
#include "compile/rewrite.hpp"
#include "pg/query.hpp"

namespace compile {
namespace {

constexpr int far_away = 1 << 20;

struct Item { // a table on the way: which entry of which level
    int level, entry;
    bool operator==(const Item &other) const = default;
};

struct Condition {
    Node *expression; // as it stands at its level
    int level;
    pg::vector<int> items; // whose columns it reads
};

// An expression of a level.
struct Value {
    Node *expression;
    int level;
};

struct References {
    int level;
    pg::vector<Item> items = {};
    bool other = false; // reads more than columns of tables on the way
};

bool find_references(Node *node, References *found) {
    if (node == nullptr) return false;
    if (IsA(node, SubLink) || IsA(node, Aggref) || IsA(node, WindowFunc)) {
        found->other = true;
        return false;
    }
    if (!IsA(node, Var)) return pg::walk_children(node, find_references, found);
    auto *var = reinterpret_cast<Var *>(node);
    Item item{found->level - static_cast<int>(var->varlevelsup), static_cast<int>(var->varno)};
    if (std::find(found->items.begin(), found->items.end(), item) == found->items.end()) found->items.push_back(item);
    return false;
}

class Tracer {
public:
    Tracer(Analysis &analysis, std::span<const Level> path) : a_(analysis), path_(path) {
        for (int level = 0; level < static_cast<int>(path.size()); level++) {
            nullable_.push_back(nullptr);
            if (path[level].query->jointree)
                nullable_[level] = collect(level, reinterpret_cast<Node *>(path[level].query->jointree));
        }
        changed_ = number({static_cast<int>(path.size()) - 1, path.back().via});
        measure();
    }

    Trace trace();

private:
    int number(Item item) const {
        for (std::size_t i = 0; i < items_.size(); i++)
            if (items_[i] == item) return static_cast<int>(i);
        return -1;
    }
    const RangeTblEntry *entry_of(int item) const {
        return rt_fetch(items_[item].entry, path_[items_[item].level].query->rtable);
    }

    Bitmapset *collect(int level, Node *item);
    Bitmapset *collect_join(int level, JoinExpr *join);
    bool resolve(const References &found, pg::vector<int> &items) const;
    bool reads(const References &found, int level, Bitmapset *entries) const;
    void add_conditions(int level, Node *written, Bitmapset *nullable, Bitmapset *side);
    void measure();
    int distance(const Value &value) const;
    bool column_of(const Value &value, int *item, AttrNumber *column) const;
    bool equal_to(const Condition &condition, const Value &value, Oid type, Value *other) const;
    Value nearest(const Key &key) const;
    void include(int item);
    void reach(const Value &value);
    Node *flat(const Value &value);
    List *matched_columns() const;

    Analysis &a_;
    std::span<const Level> path_;
    pg::vector<Item> items_;
    pg::vector<Bitmapset *> nullable_; // per level: entries that may be missing
    pg::vector<Condition> conditions_;
    int changed_ = -1;
    pg::vector<int> distance_, towards_; // from the changed rows; the neighbour on the way back
    pg::vector<int> number_;             // in the trace's FROM, from 1; 0: not in it
    int numbers_ = 0;
};

// Collects tables and conditions of FROM or an item of it; returns the entries that may be missing.
Bitmapset *Tracer::collect(int level, Node *item) {
    if (IsA(item, RangeTblRef)) {
        int entry = reinterpret_cast<RangeTblRef *>(item)->rtindex;
        if (rt_fetch(entry, path_[level].query->rtable)->rtekind == RTE_RELATION) items_.push_back({level, entry});
        return nullptr;
    }
    if (IsA(item, JoinExpr)) return collect_join(level, castNode(JoinExpr, item));
    auto *from = castNode(FromExpr, item);
    Bitmapset *nullable = nullptr;
    for (Node *each : pg::each<Node>(from->fromlist)) nullable = bms_union(nullable, collect(level, each));
    add_conditions(level, from->quals, nullable, nullptr);
    return nullable;
}

Bitmapset *Tracer::collect_join(int level, JoinExpr *join) {
    Bitmapset *nullable = bms_union(collect(level, join->larg), collect(level, join->rarg));
    if (join->jointype == JOIN_INNER) {
        add_conditions(level, join->quals, nullable, nullptr);
        return nullable;
    }
    if (join->jointype == JOIN_FULL) a_.place.refuse(Construct::full_join_of_slices, -1);
    Bitmapset *side = nullptr;
    add_entries(join->jointype == JOIN_LEFT ? join->rarg : join->larg, &side);
    add_conditions(level, join->quals, nullable, side);
    return bms_union(nullable, side);
}

bool Tracer::resolve(const References &found, pg::vector<int> &items) const {
    if (found.other) return false;
    for (const Item &each : found.items) {
        int item = number(each);
        if (item < 0) return false;
        items.push_back(item);
    }
    return true;
}

bool Tracer::reads(const References &found, int level, Bitmapset *entries) const {
    for (const Item &each : found.items)
        if (each.level == level && bms_is_member(each.entry, entries)) return true;
    return false;
}

// `side`: of an outer join, the entries that its condition decides about.
void Tracer::add_conditions(int level, Node *written, Bitmapset *nullable, Bitmapset *side) {
    for (Node *each : pg::each<Node>(conjuncts(written))) {
        References found{level};
        find_references(each, &found);
        bool missing = reads(found, level, nullable);
        for (int above = 0; above < level; above++) missing |= reads(found, above, nullable_[above]);
        if (side && !reads(found, level, side)) continue;
        if (!side && reads(found, level, nullable)) continue; // it may hold of a row that is not there
        if ((side || missing) && contain_nonstrict_functions(each)) continue;
        Condition condition{each, level, {}};
        if (!resolve(found, condition.items)) continue;
        conditions_.push_back(condition);
    }
}

// How far each table is from the changed rows, by conditions over two.
void Tracer::measure() {
    distance_.assign(items_.size(), far_away);
    towards_.assign(items_.size(), -1);
    number_.assign(items_.size(), 0);
    distance_[changed_] = 0;
    for (bool moved = true; moved;) {
        moved = false;
        for (const Condition &each : conditions_) {
            if (each.items.size() != 2) continue;
            for (int i = 0; i < 2; i++) {
                int near = each.items[i], next = each.items[1 - i];
                if (distance_[near] + 1 >= distance_[next]) continue;
                distance_[next] = distance_[near] + 1;
                towards_[next] = near;
                moved = true;
            }
        }
    }
}

int Tracer::distance(const Value &value) const {
    References found{value.level};
    find_references(value.expression, &found);
    pg::vector<int> items;
    if (!resolve(found, items) || items.empty()) return far_away + 1;
    int most = 0;
    for (int item : items) most = std::max(most, distance_[item]);
    return most;
}

bool Tracer::column_of(const Value &value, int *item, AttrNumber *column) const {
    if (!IsA(value.expression, Var)) return false;
    auto *var = reinterpret_cast<Var *>(value.expression);
    *item = number({value.level - static_cast<int>(var->varlevelsup), static_cast<int>(var->varno)});
    *column = var->varattno;
    return *item >= 0;
}

// Whether every value of `from` is one of `to`.
bool widens(Oid from, Oid to) {
    if (from == to) return true;
    return (from == INT2OID && (to == INT4OID || to == INT8OID)) || (from == INT4OID && to == INT8OID);
}

// Whether the condition is an equality with the value; gives the other side.
bool Tracer::equal_to(const Condition &condition, const Value &value, Oid type, Value *other) const {
    if (!IsA(condition.expression, OpExpr)) return false;
    auto *comparison = reinterpret_cast<OpExpr *>(condition.expression);
    TypeCacheEntry *cache = lookup_type_cache(type, TYPECACHE_EQ_OPR | TYPECACHE_BTREE_OPFAMILY);
    if (list_length(comparison->args) != 2 || !OidIsValid(cache->btree_opf) ||
        get_op_opfamily_strategy(comparison->opno, cache->btree_opf) != BTEqualStrategyNumber ||
        comparison->inputcollid != exprCollation(value.expression))
        return false;
    int item, found_item;
    AttrNumber column, found_column;
    if (!column_of(value, &item, &column)) return false;
    for (int i = 0; i < 2; i++) {
        Value side{static_cast<Node *>(list_nth(comparison->args, i)), condition.level};
        Value opposite{static_cast<Node *>(list_nth(comparison->args, 1 - i)), condition.level};
        if (!column_of(side, &found_item, &found_column) || found_item != item || found_column != column) continue;
        if (!widens(exprType(opposite.expression), type)) return false;
        *other = opposite;
        return true;
    }
    return false;
}

// Of all that equals the key, what is nearest to the changed rows.
Value Tracer::nearest(const Key &key) const {
    pg::vector<Value> equals{Value{key.expression, 0}};
    for (std::size_t i = 0; i < equals.size(); i++) {
        for (const Condition &condition : conditions_) {
            Value other;
            if (!equal_to(condition, equals[i], key.type, &other)) continue;
            bool known = false;
            for (const Value &each : equals)
                known |= each.level == other.level && equal(each.expression, other.expression);
            if (!known) equals.push_back(other);
        }
    }
    return *std::min_element(equals.begin(), equals.end(),
                             [&](const Value &a, const Value &b) { return distance(a) < distance(b); });
}

void Tracer::include(int item) {
    if (number_[item] == 0) number_[item] = ++numbers_;
}

// Takes the tables between the changed rows and the value into the trace.
void Tracer::reach(const Value &value) {
    References found{value.level};
    find_references(value.expression, &found);
    pg::vector<int> items;
    if (!resolve(found, items)) a_.place.refuse(Construct::untraced_key, exprLocation(value.expression));
    for (int item : items) {
        // Tables that FROM does not join make all rows with all others; a subquery that reads nothing of the rows
        // around it concerns them all.
        bool crossed = path_.size() == 1;
        for (std::size_t i = 0; i < items_.size(); i++) crossed |= items_[i].level == 0 && distance_[i] < far_away;
        if (distance_[item] >= far_away && !crossed)
            a_.place.refuse(Construct::unlinked_subquery, -1, get_rel_name(entry_of(changed_)->relid));
        for (int each = item; each >= 0; each = towards_[each]) include(each);
    }
}

struct Flattening {
    int level;
    const pg::vector<Item> *items;
    const pg::vector<int> *numbers;
};

Node *flatten(Node *node, Flattening *to) {
    if (node == nullptr) return nullptr;
    if (!IsA(node, Var)) return pg::mutate_children(node, flatten, to);
    auto *var = pg::copy<Var>(node);
    Item item{to->level - static_cast<int>(var->varlevelsup), static_cast<int>(var->varno)};
    auto found = std::find(to->items->begin(), to->items->end(), item);
    var->varno = (*to->numbers)[found - to->items->begin()];
    var->varlevelsup = 0;
    var->varnosyn = 0;
    var->varattnosyn = 0;
    pg::forget_nulling(var);
    return reinterpret_cast<Node *>(var);
}

Node *Tracer::flat(const Value &value) {
    Flattening to{value.level, &items_, &number_};
    return flatten(value.expression, &to);
}

// The columns by which rows of the table are found from each other table: what an index on them serves.
List *Tracer::matched_columns() const {
    pg::vector<List *> columns(items_.size(), NIL);
    for (const Condition &condition : conditions_) {
        if (!IsA(condition.expression, OpExpr) || condition.items.size() != 2) continue;
        for (Node *side : pg::each<Node>(reinterpret_cast<OpExpr *>(condition.expression)->args)) {
            int item;
            AttrNumber column;
            if (!column_of({side, condition.level}, &item, &column) || item != changed_) continue;
            List *&of = columns[condition.items[condition.items[0] == changed_ ? 1 : 0]];
            of = list_append_unique_int(of, column);
        }
    }
    List *matched = NIL;
    for (List *each : columns)
        if (each) matched = lappend(matched, each);
    return matched;
}

Trace Tracer::trace() {
    pg::vector<Value> keys;
    include(changed_);
    for (const Key &key : a_.block->keys) {
        References found{0};
        find_references(key.expression, &found);
        if (found.other || reads(found, 0, nullable_[0]))
            a_.place.refuse(Construct::untraced_key, exprLocation(key.expression));
        keys.push_back(nearest(key));
        reach(keys.back());
    }
    Query *query = makeNode(Query);
    query->commandType = CMD_SELECT;
    query->canSetTag = true;
    pg::vector<int> ordered(numbers_ + 1, 0);
    for (std::size_t i = 0; i < items_.size(); i++) ordered[number_[i]] = static_cast<int>(i);
    List *from = NIL;
    for (int i = 1; i <= numbers_; i++) {
        auto *entry = pg::copy<RangeTblEntry>(entry_of(ordered[i]));
        entry->inFromCl = true;
        pg::forget_privileges(entry);
        query->rtable = lappend(query->rtable, entry);
        from = lappend(from, pg::reference_to(i));
    }
    List *conditions = NIL;
    for (const Condition &each : conditions_) {
        bool inside = true;
        for (int item : each.items) inside &= number_[item] > 0;
        if (inside) conditions = lappend(conditions, flat({each.expression, each.level}));
    }
    query->jointree =
        makeFromExpr(from, conditions ? reinterpret_cast<Node *>(make_ands_explicit(conditions)) : nullptr);
    for (std::size_t i = 0; i < keys.size(); i++) {
        Node *expression = flat(keys[i]);
        Oid type = a_.block->keys[i].type;
        if (exprType(expression) != type) expression = cast_to(expression, type);
        pg::add_target(query, expression, psprintf("k%zu", i));
    }
    return {query, number_[changed_], matched_columns()};
}

} // namespace

void build_traces(Analysis &a, const pg::vector<pg::vector<Level>> &paths) {
    for (const pg::vector<Level> &path : paths) {
        Tracer tracer(a, {path.data(), path.size()});
        a.block->traces.push_back(tracer.trace());
    }
}

} // namespace compile
