// The stages of a compilation as text, so that a change of the compiler is seen as a change of what it makes
// (sql/plan).
#include "compile/print.hpp"

#include "compile/analysis.hpp"
#include "compile/deparse.hpp"
#include "compile/terms.hpp"
#include "pg/list.hpp"
#include "pg/query.hpp"
#include "pg/scope.hpp"

namespace compile {
namespace {

void print_leaf(StringInfo out, const Block &block, int occurrence, const char *kind, int depth) {
    const RangeTblEntry *entry = block.entry(occurrence);
    const Source &source = block.sources[block.occurrence_source[occurrence - 1]];
    appendStringInfo(out, "%*s%s%d %s AS %s (%s)\n", 2 * depth, "", kind, occurrence, pg::qualified_name(entry->relid),
                     quote_identifier(entry->eref->aliasname), used_columns(source));
}

void print_node(StringInfo out, const Block &block, const TreeNode &node, int depth) {
    if (node.kind == NodeKind::leaf) {
        print_leaf(out, block, node.occurrence, "", depth);
        return;
    }
    appendStringInfo(out, "%*s%s\n", 2 * depth, "", node.kind == NodeKind::unite ? "union" : "inner");
    for (const TreeNode *input : node.inputs) print_node(out, block, *input, depth + 1);
    if (node.kind == NodeKind::unite) return;
    const Arm &arm = block.arm_of(node.inputs.front()->occurrence);
    auto print_condition = [&](Node *condition) {
        appendStringInfo(out, "%*sif %s\n", 2 * depth + 2, "", deparse_among(condition, arm.query));
    };
    for (const Presence &presence : arm.presences)
        print_leaf(out, block, presence.occurrence, presence.negated ? "without " : "with ", depth + 1);
    for (Node *condition : pg::each<Node>(node.conditions)) print_condition(condition);
    for (const Presence &presence : arm.presences) print_condition(presence_test(presence));
}

// Columns by the numbers of those that hold them.
void print_columns(StringInfo out, const Block &block) {
    auto print = [&](const char *what, int column) {
        auto *expression = reinterpret_cast<Node *>(block.column(column)->expr);
        pg::TextList arms;
        for (const Arm &arm : block.arms)
            if (!block.is_whole()) arms.add("%s", deparse_among(block.over(arm, expression), arm.query));
        appendStringInfo(out, "  %s %s%s%s\n", what, quote_identifier(block.column(column)->resname),
                         arms.empty() ? "" : " = ", arms.text());
    };
    for (const Key &key : block.row_key) print(key.told_apart ? "key, as it looks," : "key", key.column);
    for (const State &state : block.states)
        print(state.kind == StateKind::count   ? "count"
              : state.kind == StateKind::total ? "total"
                                               : "extremum",
              state.column);
}

// "SELECT expression AS column FROM row": the expression over the row as it will be.
const char *output_text(const Block &block, const Output &output) {
    List *names = NIL;
    for (int i = 0; i < block.columns(); i++) names = lappend(names, makeString(block.column(i)->resname));
    RangeTblEntry *row = makeNode(RangeTblEntry);
    row->rtekind = RTE_CTE;
    row->ctename = pstrdup("new_row");
    row->eref = makeAlias("new_row", names);
    row->inFromCl = true;
    Query *query = pg::select_from(row);
    query->targetList = list_make1(
        makeTargetEntry(reinterpret_cast<Expr *>(output.expression), 1, block.column(output.column)->resname, false));
    return deparse(query);
}

void print_deltas(StringInfo out, const Block &block) {
    uint32 all = (UINT32_C(1) << block.sources.size()) - 1;
    for (int i = 1; i <= static_cast<int>(block.occurrence_source.size()); i++)
        appendStringInfo(out, "delta of %d: %s\n", i, term_text(block, i, all));
}

} // namespace

void print_normal_form(StringInfo out, Query *core) { appendStringInfo(out, "normal form:%s\n", deparse(core)); }

void print_block(StringInfo out, const Block &block) {
    if (!block.is_whole()) {
        appendStringInfoString(out, "tree:\n");
        print_node(out, block, *block.tree, 1);
    }
    appendStringInfo(out, "block 1: %s, %s: %s\n", name_of(block.identity), name_of(block.way), text_of(block.reason));
    print_columns(out, block);
    for (const Output &output : block.outputs) appendStringInfo(out, "  output%s\n", output_text(block, output));
    print_deltas(out, block);
}

} // namespace compile
