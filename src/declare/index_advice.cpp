// Indexes that maintenance lacks: by the columns that link a table to each other one, as changed rows of that look for
// theirs, and by the key of what is read again.
#include "declare/describe.hpp"

#include "pg/list.hpp"
#include "pg/query.hpp"
#include "pg/scope.hpp"

namespace declare {

using compile::Block;

namespace {

// The two columns that a condition equates; false where it does something else.
bool equates(Node *condition, Var *sides[2]) {
    if (!IsA(condition, OpExpr)) return false;
    auto *operation = reinterpret_cast<OpExpr *>(condition);
    if (list_length(operation->args) != 2 || strcmp(get_opname(operation->opno), "=") != 0) return false;
    for (int i = 0; i < 2; i++) {
        sides[i] = static_cast<Var *>(list_nth(operation->args, i));
        if (!IsA(sides[i], Var)) return false;
    }
    return true;
}

// Columns of one occurrence that the conditions equate with each other one: lists, as rows are found from either.
pg::flat_map<int, List *> linked_columns(const Block &block, int occurrence) {
    pg::flat_map<int, List *> columns; // by the other occurrence
    const compile::Arm &arm = block.arm_of(occurrence);
    int entry = arm.entry(occurrence);
    auto add = [&](int other, const Var *var) {
        columns[other] = list_append_unique_int(columns[other], var->varattno);
    };
    Var *sides[2];
    for (Node *condition : pg::each<Node>(arm.conditions)) {
        if (!equates(condition, sides)) continue;
        for (int i = 0; i < 2; i++)
            if (static_cast<int>(sides[i]->varno) == entry && static_cast<int>(sides[1 - i]->varno) != entry)
                add(arm.first + static_cast<int>(sides[1 - i]->varno) - 1, sides[i]);
    }
    for (const compile::Presence &presence : arm.presences) {
        auto *match = reinterpret_cast<Expr *>(presence.rows->jointree->quals);
        for (Node *condition : pg::each<Node>(make_ands_implicit(match))) {
            if (!equates(condition, sides) || sides[0]->varlevelsup == sides[1]->varlevelsup) continue;
            const Var *outer = sides[sides[0]->varlevelsup ? 0 : 1], *inner = sides[sides[0]->varlevelsup ? 1 : 0];
            int of_outer = arm.first + static_cast<int>(outer->varno) - 1;
            if (presence.occurrence == occurrence)
                add(of_outer, inner);
            else if (of_outer == occurrence)
                add(presence.occurrence, outer);
        }
    }
    return columns;
}

bool leads_an_index(Oid table, List *columns) {
    Relation relation = table_open(table, AccessShareLock);
    bool found = false;
    ListCell *cell;
    foreach (cell, RelationGetIndexList(relation)) {
        Relation index = index_open(lfirst_oid(cell), AccessShareLock);
        bool leads = list_member_int(columns, index->rd_index->indkey.values[0]);
        // RelationGetIndexPredicate would fold it, which calls its functions.
        found |= leads && index->rd_index->indisvalid &&
                 heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, nullptr);
        index_close(index, AccessShareLock);
    }
    table_close(relation, AccessShareLock);
    return found;
}

const char *create_index(Oid table, List *columns) {
    pg::TextList text;
    ListCell *cell;
    foreach (cell, columns)
        text.add("%s", quote_identifier(get_attname(table, static_cast<AttrNumber>(lfirst_int(cell)), false)));
    return psprintf("CREATE INDEX ON %s (%s);", pg::qualified_name(table), text.text());
}

// The indexes of a table that are missing: none that another of them would make needless.
struct Missing {
    Oid table;
    List *statements = NIL;
    List *leading = NIL; // columns of those

    void add(List *columns) {
        if (columns == NIL || leads_an_index(table, columns)) return;
        if (list_intersection_int(leading, columns) != NIL) return;
        leading = lappend_int(leading, linitial_int(columns));
        statements = lappend(statements, const_cast<char *>(create_index(table, columns)));
    }
};

// Of what is read again: by the columns that link it to each other table, or that are the key.
void add_of_trace(Missing &missing, const compile::Trace &trace) {
    for (List *columns : pg::each<List>(trace.matched)) missing.add(columns);
    if (trace.matched) return;
    List *keys = NIL;
    for (TargetEntry *key : pg::each<TargetEntry>(trace.query->targetList)) {
        auto *var = reinterpret_cast<Var *>(key->expr);
        if (IsA(var, Var) && static_cast<int>(var->varno) == trace.entry)
            keys = list_append_unique_int(keys, var->varattno);
    }
    missing.add(keys);
}

} // namespace

List *index_advice(const Block &block, int occurrence) {
    const RangeTblEntry *entry = block.entry(occurrence);
    Missing missing{entry->relid};
    if (block.is_whole()) {
        add_of_trace(missing, block.traces[occurrence - 1]);
        return missing.statements;
    }
    for (auto [other, columns] : linked_columns(block, occurrence)) missing.add(columns);
    if (!block.reads_keys_again()) return missing.statements;
    const compile::Arm &arm = block.arm_of(occurrence);
    List *keys = NIL;
    for (const compile::Key &key : block.row_key) {
        Node *expression = block.over(arm, key.expression);
        auto *var = reinterpret_cast<Var *>(expression);
        if (IsA(expression, Var) && static_cast<int>(var->varno) == arm.entry(occurrence))
            keys = list_append_unique_int(keys, var->varattno);
    }
    missing.add(keys);
    return missing.statements;
}

} // namespace declare
