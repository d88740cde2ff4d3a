// Which of a term's tables are found by an index, in which order. Conditions are asked as soon as their columns are
// known, as a plan asks them: one may keep another from raising an error.
#include "compile/chain.hpp"

#include "compile/match.hpp"
#include "pg/index.hpp"
#include "pg/list.hpp"
#include "pg/query.hpp"

namespace compile {
namespace {

constexpr int not_found = -1;

// Where the columns of a FROM's entries are in the chain's row.
struct Places {
    const Block &block;
    const Arm &arm;
    pg::vector<int> first; // of each entry; not_found: its row is not known yet

    const Source &source_of(int entry) const { return block.sources[block.occurrence_source[arm.first + entry - 2]]; }
    // Of an expression one level down, too.
    int place(const Var *var) const {
        int entry = static_cast<int>(var->varno);
        if (entry > static_cast<int>(first.size()) || first[entry - 1] == not_found) return not_found;
        const auto &used = source_of(entry).used;
        auto at = std::find(used.begin(), used.end(), var->varattno);
        return at == used.end() ? not_found : first[entry - 1] + static_cast<int>(at - used.begin());
    }
};

bool has_unknown(Node *node, Places *places) {
    if (node == nullptr) return false;
    if (IsA(node, Var)) return places->place(reinterpret_cast<Var *>(node)) == not_found;
    return pg::walk_children(node, has_unknown, places);
}

// An expression over FROM as one over the chain's row.
Node *over_row(Node *node, Places *places) {
    if (node == nullptr) return nullptr;
    if (!IsA(node, Var)) return pg::mutate_children(node, over_row, places);
    auto *var = pg::copy<Var>(node);
    var->varattno = static_cast<AttrNumber>(places->place(var) + 1);
    var->varno = 1;
    var->varlevelsup = 0;
    pg::forget_nulling(var);
    return reinterpret_cast<Node *>(var);
}

Node *bare(Node *node) {
    while (IsA(node, RelabelType)) node = reinterpret_cast<Node *>(reinterpret_cast<RelabelType *>(node)->arg);
    return node;
}

// It can raise no error.
bool is_plain(Node *node) { return IsA(bare(node), Var) || IsA(bare(node), Const); }

// column = value, in either order.
struct Equality {
    AttrNumber column;
    Oid equality, collation;
    Node *value;
};

// Whether it says so of a column of that entry, where `level` is the entry's.
bool read_equality(Node *condition, int entry, int level, Equality *equality) {
    if (!IsA(condition, OpExpr)) return false;
    auto *comparison = reinterpret_cast<OpExpr *>(condition);
    if (list_length(comparison->args) != 2) return false;
    for (int side = 0; side < 2; side++) {
        auto *var = reinterpret_cast<Var *>(bare(static_cast<Node *>(list_nth(comparison->args, side))));
        if (!IsA(var, Var) || static_cast<int>(var->varno) != entry || static_cast<int>(var->varlevelsup) != level)
            continue;
        Oid with_column_left = side == 0 ? comparison->opno : get_commutator(comparison->opno);
        if (!OidIsValid(with_column_left)) continue;
        *equality = {var->varattno, with_column_left, comparison->inputcollid,
                     static_cast<Node *>(list_nth(comparison->args, 1 - side))};
        return true;
    }
    return false;
}

// A snapshot that is older than the index must not use one whose rows' older versions may not be in it.
bool serves(Relation index) {
    Form_pg_index form = index->rd_index;
    if (index->rd_rel->relam != BTREE_AM_OID || !form->indisvalid || !pg::is_of_columns(index->rd_indextuple))
        return false;
    return !form->indcheckxmin ||
           TransactionIdPrecedes(HeapTupleHeaderGetXmin(index->rd_indextuple->t_data), TransactionXmin);
}

// What column i of the index is sought by.
bool find_sought(Relation index, int i, const pg::vector<Equality> &equalities, LookUp &look_up) {
    Oid family = index->rd_opfamily[i], collation = index->rd_indcollation[i];
    for (const Equality &each : equalities) {
        if (each.column != index->rd_index->indkey.values[i] || (OidIsValid(collation) && each.collation != collation))
            continue;
        if (get_op_opfamily_strategy(each.equality, family) != BTEqualStrategyNumber) continue;
        int strategy;
        Oid left, right;
        get_op_opfamily_properties(each.equality, family, false, &strategy, &left, &right);
        look_up.sought.push_back({each.equality, right, collation, each.value});
        return true;
    }
    return false;
}

// One that has one row at most of what its columns are equal to; or, where `all` is wanted, whose first columns are
// what all equalities are about.
bool is_sought(Relation index, const pg::vector<Equality> &equalities, bool all, LookUp &look_up) {
    int columns = index->rd_index->indnkeyatts;
    int wanted = all ? static_cast<int>(equalities.size()) : columns;
    if ((!all && !index->rd_index->indisunique) || columns < wanted || !serves(index)) return false;
    for (int i = 0; i < wanted; i++)
        if (!find_sought(index, i, equalities, look_up)) return false;
    return true;
}

bool find_index(Oid relation, const pg::vector<Equality> &equalities, bool all, LookUp &look_up) {
    if (equalities.empty()) return false;
    Relation table = relation_open(relation, AccessShareLock);
    bool plain =
        table->rd_rel->relkind == RELKIND_RELATION && !table->rd_rel->relhassubclass && !table->rd_rel->relrowsecurity;
    bool found = false;
    ListCell *cell;
    foreach (cell, plain ? RelationGetIndexList(table) : NIL) {
        Relation index = index_open(lfirst_oid(cell), AccessShareLock);
        look_up = {relation, lfirst_oid(cell)};
        found = is_sought(index, equalities, all, look_up);
        index_close(index, NoLock);
        if (found) break;
    }
    relation_close(table, NoLock);
    return found;
}

class Builder {
public:
    Builder(const Block &block, const Arm &arm, int occurrence) : places_{block, arm, {}} {
        places_.first.assign(arm.entries(), not_found);
        for (Node *each : pg::each<Node>(arm.conditions)) left_ = lappend(left_, each);
        chain_ = static_cast<Chain *>(palloc0(sizeof(Chain)));
        new (chain_) Chain{block.occurrence_source[occurrence - 1], arm.presence(occurrence)};
    }

    const Chain *build(int occurrence) {
        if (!(chain_->presence ? begin_with_keys(*chain_->presence) : begin_with_rows(occurrence))) return nullptr;
        chain_->conditions = take_known();
        while (std::count(places_.first.begin(), places_.first.end(), not_found) > 0)
            if (!add_look_up()) return nullptr;
        if (left_ != NIL) return nullptr; // of no column of FROM's
        for (const Presence &each : places_.arm.presences)
            if (!add_asked(each)) return nullptr;
        return add_targets() ? chain_ : nullptr;
    }

private:
    const Source &source() const { return places_.block.sources[chain_->source]; }

    // The row goes on with columns of a table.
    void add_columns(Oid relation, const pg::vector<AttrNumber> &columns) {
        for (AttrNumber column : columns) {
            Oid type, collation;
            int32 typmod;
            get_atttypetypmodcoll(relation, column, &type, &typmod, &collation);
            chain_->row = lappend(chain_->row, makeVar(1, static_cast<AttrNumber>(list_length(chain_->row) + 1), type,
                                                       typmod, collation, 0));
        }
    }

    bool begin_with_rows(int occurrence) {
        for (std::size_t i = 0; i < source().used.size(); i++) chain_->given.push_back(static_cast<int>(i));
        places_.first[places_.arm.entry(occurrence) - 1] = 0;
        add_columns(source().relation, source().used);
        return true;
    }

    // The keys are in the row, and FROM's columns are equal to them.
    bool begin_with_keys(const Presence &presence) {
        Match match = match_of(presence);
        if (match.inner || match.outer || match.mixed || match.equal.empty()) return false;
        pg::vector<AttrNumber> columns;
        for (const Equal &each : match.equal) {
            if (!IsA(each.inner, Var) || !IsA(each.outer, Var)) return false;
            auto at =
                std::find(source().used.begin(), source().used.end(), reinterpret_cast<Var *>(each.inner)->varattno);
            if (at == source().used.end()) return false;
            chain_->given.push_back(static_cast<int>(at - source().used.begin()));
            columns.push_back(*at);
        }
        add_columns(source().relation, columns);
        int number = 0;
        for (const Equal &each : match.equal) {
            Node *key = static_cast<Node *>(list_nth(chain_->row, number++));
            key_equalities_.push_back({each, key});
        }
        return true;
    }

    List *take_known() {
        List *known = NIL, *unknown = NIL;
        for (Node *each : pg::each<Node>(left_))
            if (has_unknown(each, &places_))
                unknown = lappend(unknown, each);
            else
                known = lappend(known, over_row(each, &places_));
        left_ = unknown;
        for (KeyEquality &each : key_equalities_) {
            if (each.taken || places_.place(reinterpret_cast<Var *>(each.equal.outer)) == not_found) continue;
            each.taken = true;
            auto *comparison = pg::copy<OpExpr>(each.equal.comparison);
            bool inner_first = linitial(each.equal.comparison->args) == each.equal.inner;
            Node *outer = over_row(each.equal.outer, &places_);
            comparison->args = inner_first ? list_make2(each.key, outer) : list_make2(outer, each.key);
            known = lappend(known, comparison);
        }
        return known;
    }

    // What columns of an entry are equal to, of what is known.
    pg::vector<Equality> equalities_of(int entry) {
        pg::vector<Equality> found;
        Equality equality;
        for (Node *each : pg::each<Node>(left_))
            if (read_equality(each, entry, 0, &equality) && is_plain(equality.value) &&
                !has_unknown(equality.value, &places_)) {
                equality.value = over_row(equality.value, &places_);
                found.push_back(equality);
            }
        for (const KeyEquality &each : key_equalities_)
            if (read_equality(reinterpret_cast<Node *>(each.equal.comparison), entry, 1, &equality)) {
                equality.value = each.key;
                found.push_back(equality);
            }
        return found;
    }

    bool add_look_up() {
        for (int entry = 1; entry <= places_.arm.entries(); entry++) {
            if (places_.first[entry - 1] != not_found) continue;
            const Source &found = places_.source_of(entry);
            LookUp look_up;
            if (!find_index(found.relation, equalities_of(entry), false, look_up)) continue;
            look_up.columns = found.used;
            places_.first[entry - 1] = list_length(chain_->row);
            add_columns(found.relation, found.used);
            look_up.conditions = take_known();
            chain_->look_ups.push_back(look_up);
            return true;
        }
        return false;
    }

    bool add_asked(const Presence &presence) {
        Match match = match_of(presence);
        if (match.inner || match.outer || match.mixed) return false;
        pg::vector<Equality> equalities;
        for (const Equal &each : match.equal) {
            Equality equality;
            if (!is_plain(each.outer) || has_unknown(each.outer, &places_) ||
                !read_equality(reinterpret_cast<Node *>(each.comparison), 1, 0, &equality))
                return false;
            equality.value = over_row(each.outer, &places_);
            equalities.push_back(equality);
        }
        Asked asked{{}, presence.negated, &presence == chain_->presence};
        Oid relation = rt_fetch(1, presence.rows->rtable)->relid;
        if (!find_index(relation, equalities, true, asked.rows)) return false;
        chain_->asked.push_back(asked);
        return true;
    }

    bool add_targets() {
        const Block &block = places_.block;
        List *targets = NIL;
        if (block.grouped() || block.unites()) {
            targets = block.feed(places_.arm);
        } else {
            for (TargetEntry *each : pg::each<TargetEntry>(places_.arm.query->targetList))
                targets = lappend(targets, each->expr);
        }
        for (Node *each : pg::each<Node>(targets)) {
            if (has_unknown(each, &places_)) return false; // the row as a whole
            chain_->targets = lappend(chain_->targets, over_row(each, &places_));
        }
        return true;
    }

    struct KeyEquality {
        Equal equal;
        Node *key; // in the row
        bool taken = false;
    };

    Places places_;
    List *left_ = NIL; // conditions that are not asked yet
    pg::vector<KeyEquality> key_equalities_;
    Chain *chain_;
};

} // namespace

const Chain *chain_of(const Block &block, int occurrence) {
    if (block.is_whole() || block.settings_dependent) return nullptr;
    const Arm &arm = block.arm_of(occurrence);
    if (arm.repeats != NIL || arm.query->hasSubLinks != !arm.presences.empty()) return nullptr;
    return Builder(block, arm, occurrence).build(occurrence);
}

} // namespace compile
