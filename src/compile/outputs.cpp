// A grouped query's columns: keys, states, and outputs computed from keys and finals.
#include "compile/analysis.hpp"
#include "compile/columns.hpp"

namespace compile {

namespace {

struct Known { // what a column is computed from: keys, and finals of aggregates
    Analysis *analysis;
    const char *name;
    bool unresolved = false;
    List *unfixed = NIL; // sums of numerics whose scales may differ
};

// The expression over the sources as one over the table's row.
Node *over_row(Node *node, Known *known) {
    if (node == nullptr) return nullptr;
    Analysis &a = *known->analysis;
    for (const Key &key : a.block->keys)
        if (equal(key.expression, node)) return row_column(a.block, key.column);
    if (IsA(node, Aggref)) {
        auto *aggregate = reinterpret_cast<Aggref *>(node);
        if (is_unfixed_sum(aggregate)) known->unfixed = lappend(known->unfixed, folded_argument(aggregate));
        return final_of(a, aggregate, known->name);
    }
    if (IsA(node, Var)) {
        known->unresolved = true;
        return node;
    }
    return pg::mutate_children(node, over_row, known);
}

bool is_state_column(const Block *block, int column) {
    for (const State &state : block->states)
        if (state.column == column) return true;
    return false;
}

bool add_ungrouped(Node *node, Analysis *a) {
    if (node == nullptr || IsA(node, Aggref)) return false;
    for (const Key &key : a->block->keys)
        if (equal(key.expression, node)) return false;
    if (IsA(node, Var)) {
        int column = -1;
        for (int i = 0; column < 0 && i < list_length(a->core->targetList); i++)
            if (equal(a->block->column(i)->expr, node)) column = i;
        if (column < 0)
            column = append_column(*a, reinterpret_cast<Expr *>(node), psprintf("_%s", expression_name(*a, node)));
        add_group_key(*a, column);
        return false;
    }
    return pg::walk_children(node, add_ungrouped, a);
}

} // namespace

void compile_groups(Analysis &a) {
    Block *block = a.block;
    bool slices = a.core->groupClause && needs_slices(a.core);
    block->identity = a.core->groupClause ? Identity::key : Identity::one_row;
    collect_group_keys(a);
    // A column that the grouped primary key determines is a key as well: the groups are the same.
    for (int i = 0; i < block->user_columns; i++)
        if (block->identity == Identity::key) add_ungrouped(reinterpret_cast<Node *>(block->column(i)->expr), &a);

    a.core->hasAggs = true;
    if (slices) {
        if (a.extend) determine_order(a.core, a.place);
        block->way = Way::slice;
        block->reason = Reason::slices;
        return;
    }
    int before = list_length(a.core->targetList);
    for (int i = 0; i < before; i++) {
        if (is_key_column(block, i)) continue;
        TargetEntry *entry = block->column(i);
        if (i >= block->user_columns && !a.extend) { // an appended state: its owner asks for it
            continue;
        }
        Known known{&a, entry->resname};
        Node *expression = over_row(reinterpret_cast<Node *>(entry->expr), &known);
        if (known.unresolved) elog(ERROR, "column \"%s\" is neither grouped nor aggregated", entry->resname);
        if (is_state_column(block, i)) continue;
        if (!IsA(entry->expr, Aggref))
            for (Node *value : pg::each<Node>(known.unfixed)) note_digits(block, value);
        block->outputs.push_back(Output{i, expression});
    }
    block->row_count = need_count(a, nullptr, "_count");
    block->reason = block->has_extremum ? Reason::extrema : block->recompute_on_removal ? Reason::digits : Reason::sums;
    // A state found late may be a column that was first taken for an output.
    auto late = std::remove_if(block->outputs.begin(), block->outputs.end(),
                               [&](const Output &o) { return is_state_column(block, o.column); });
    block->outputs.erase(late, block->outputs.end());
}

} // namespace compile
