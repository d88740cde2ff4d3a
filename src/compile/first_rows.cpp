// The first rows: ORDER BY … LIMIT over one table. An index that has the rows in that order gives the first n again for
// the work of reading n, however large the table is. Which rows an index has for constants that the query equates its
// leading columns with counts as such an order, too.
#include "compile/analysis.hpp"
#include "compile/parts.hpp"
#include "compile/rewrite.hpp"
#include "pg/index.hpp"
#include "pg/list.hpp"
#include "pg/scope.hpp"

namespace compile {
namespace {

// A column of the only table; 0 where it is none.
AttrNumber column_of(Node *expression) {
    auto *var = reinterpret_cast<Var *>(expression);
    return expression && IsA(expression, Var) && var->varlevelsup == 0 ? var->varattno : 0;
}

struct Wanted {
    const Query *query;
    List *equated = NIL; // columns
    bool by_index = true;
};

void take_condition(Wanted &wanted, Node *condition) {
    auto *comparison = reinterpret_cast<OpExpr *>(condition);
    if (!IsA(condition, OpExpr) || list_length(comparison->args) != 2) {
        wanted.by_index = false;
        return;
    }
    for (int i = 0; i < 2; i++) {
        auto *side = static_cast<Node *>(list_nth(comparison->args, i)),
             *other = static_cast<Node *>(list_nth(comparison->args, 1 - i));
        TypeCacheEntry *type = lookup_type_cache(exprType(side), TYPECACHE_BTREE_OPFAMILY);
        if (column_of(side) == 0 || contain_var_clause(other) ||
            get_op_opfamily_strategy(comparison->opno, type->btree_opf) != BTEqualStrategyNumber)
            continue;
        wanted.equated = list_append_unique_int(wanted.equated, column_of(side));
        return;
    }
    wanted.by_index = false;
}

// Whether column `key` of the index, from 0, has the order of a clause, forwards or backwards.
bool has_order(const Wanted &wanted, Relation index, int key, const SortGroupClause *clause, bool backwards) {
    Node *expression = get_sortgroupclause_expr(const_cast<SortGroupClause *>(clause), wanted.query->targetList);
    if (column_of(expression) == 0 || column_of(expression) != index->rd_index->indkey.values[key]) return false;
    if (index->rd_indcollation[key] != exprCollation(expression)) return false;
    int strategy = get_op_opfamily_strategy(clause->sortop, index->rd_opfamily[key]);
    bool descending = index->rd_indoption[key] & INDOPTION_DESC,
         nulls_first = index->rd_indoption[key] & INDOPTION_NULLS_FIRST;
    if (strategy != (descending != backwards ? BTGreaterStrategyNumber : BTLessStrategyNumber)) return false;
    return clause->nulls_first == (nulls_first != backwards);
}

bool serves(const Wanted &wanted, Relation index, bool backwards) {
    const Form_pg_index form = index->rd_index;
    if (index->rd_rel->relam != BTREE_AM_OID || !form->indisvalid || !pg::is_of_columns(index->rd_indextuple))
        return false;
    int key = 0;
    while (key < form->indnkeyatts && list_member_int(wanted.equated, form->indkey.values[key])) key++;
    if (key < list_length(wanted.equated)) return false;
    for (SortGroupClause *clause : pg::each<SortGroupClause>(wanted.query->sortClause)) {
        if (key == form->indnkeyatts) return form->indisunique; // nothing is left to be ordered
        if (!has_order(wanted, index, key++, clause, backwards)) return false;
    }
    return true;
}

bool some_index_serves(const Wanted &wanted, Oid table) {
    if (pg::has_children(table)) return false; // whose rows it does not have
    Relation relation = table_open(table, AccessShareLock);
    bool found = false;
    for (int i = 0; i < list_length(RelationGetIndexList(relation)) && !found; i++) {
        Relation index = index_open(list_nth_oid(RelationGetIndexList(relation), i), AccessShareLock);
        found = serves(wanted, index, false) || serves(wanted, index, true);
        index_close(index, AccessShareLock);
    }
    table_close(relation, AccessShareLock);
    return found;
}

// The index that would serve; null where none would.
const char *advice(const Wanted &wanted, Oid table) {
    if (!wanted.by_index) return nullptr;
    pg::TextList columns;
    ListCell *cell;
    foreach (cell, wanted.equated)
        columns.add("%s", quote_identifier(get_attname(table, static_cast<AttrNumber>(lfirst_int(cell)), false)));
    for (SortGroupClause *clause : pg::each<SortGroupClause>(wanted.query->sortClause)) {
        Node *expression = get_sortgroupclause_expr(clause, wanted.query->targetList);
        if (column_of(expression) == 0) return nullptr;
        bool greater =
            get_op_opfamily_strategy(clause->sortop,
                                     lookup_type_cache(exprType(expression), TYPECACHE_BTREE_OPFAMILY)->btree_opf) ==
            BTGreaterStrategyNumber;
        const char *nulls = clause->nulls_first == greater ? "" : clause->nulls_first ? " NULLS FIRST" : " NULLS LAST";
        columns.add("%s%s%s", quote_identifier(get_attname(table, column_of(expression), false)),
                    greater ? " DESC" : "", nulls);
    }
    return psprintf("CREATE INDEX ON %s (%s);", pg::qualified_name(table), columns.text());
}

} // namespace

bool is_first_rows(const Query *query) {
    if (query->commandType != CMD_SELECT || !query->limitCount || !query->sortClause ||
        query->limitOption == LIMIT_OPTION_WITH_TIES)
        return false;
    Query plain = *query;
    plain.limitCount = plain.limitOffset = nullptr;
    plain.sortClause = NIL;
    if (IsA(query->limitCount, Const) && reinterpret_cast<Const *>(query->limitCount)->constisnull) return false; // ALL
    return returns_rows(&plain) && !plain.distinctClause && reads_one_table(&plain) && !plain.hasSubLinks &&
           !plain.cteList;
}

void check_first_rows(const Analysis &a) {
    Wanted wanted{a.core};
    for (Node *each : pg::each<Node>(conjuncts(a.core->jointree->quals))) take_condition(wanted, each);
    Bitmapset *read = nullptr;
    add_entries(reinterpret_cast<Node *>(a.core->jointree), &read);
    Oid table = rt_fetch(bms_singleton_member(read), a.core->rtable)->relid;
    if (wanted.by_index && some_index_serves(wanted, table)) return;
    const char *index = advice(wanted, table);
    a.place.refuse(Construct::unordered_first_rows, -1, index ? psprintf(" (%s would make one)", index) : "");
}

} // namespace compile
